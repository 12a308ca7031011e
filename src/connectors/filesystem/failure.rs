//! What an error of the operating system means. The only place that decides it for this connector.

use crate::runtime::error::{Code, Error};
use rustix::io::Errno;

/// The error of a call that failed on `path`; `doing` says what was attempted.
pub(super) fn failed(errno: Errno, doing: &str, path: &str) -> Error {
    let (code, advice) = match errno {
        Errno::ACCESS | Errno::PERM => {
            (Code::SourceDenied, "give the user that runs driftless the right to read and write there")
        }
        Errno::ROFS => (Code::SourceDenied, "the file system is mounted read-only"),
        Errno::NOSPC | Errno::DQUOT => (Code::DiskFull, "make room there"),
        Errno::LOOP | Errno::XDEV => {
            (Code::PathEscapes, "a link or a mount point stands in the path; driftless follows neither")
        }
        Errno::NAMETOOLONG => (Code::KeyTooLong, "the file system does not allow so long a name"),
        Errno::AGAIN | Errno::INTR | Errno::BUSY | Errno::TXTBSY | Errno::MFILE | Errno::NFILE | Errno::NOMEM => {
            (Code::StoreBusy, "it is tried again")
        }
        Errno::NOENT | Errno::NOTDIR | Errno::IO | Errno::STALE | Errno::NODEV | Errno::NXIO | Errno::TIMEDOUT => {
            (Code::SourceUnreachable, "is the directory there, and mounted?")
        }
        Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL => {
            (Code::ConfigUnsupported, "the file system cannot do this: see the connector's README")
        }
        _ => (Code::Unexpected, "the operating system gave an answer nobody foresaw"),
    };
    Error::new(code, format!("cannot {doing}: {advice}")).at("path", path).caused_by(std::io::Error::from(errno))
}

/// Why a file is too large, with the code and the setting.
pub(super) fn too_large(bytes_max: u64) -> String {
    let code = Code::ValueTooLarge.as_str();
    format!("{code}: it has more than {bytes_max} bytes; raise `file-bytes-max`, or make the record smaller")
}

/// The same for a call of the standard library.
pub(super) fn failed_io(error: &std::io::Error, doing: &str, path: &str) -> Error {
    failed(error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error), doing, path)
}
