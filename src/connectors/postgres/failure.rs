//! The server's errors in the words of this program: SQLSTATE to code, in one match.

use crate::runtime::error::{Code, Error};
use postgres_protocol::message::backend::ErrorResponseBody;
use std::error::Error as _;
use tokio_postgres::fallible_iterator::FallibleIterator as _;

/// What an SQLSTATE means, and what to do about it.
#[must_use]
pub(crate) fn code(state: &str) -> (Code, &'static str) {
    match state {
        "57P01" | "57P02" | "57P03" | "53300" => {
            (Code::SourceUnreachable, "the server takes no connections now; it is tried again")
        }
        "42501" => {
            (Code::SourceDenied, "the user lacks a right; `doctor` lists the statements that grant what is needed")
        }
        "3D000" => (Code::ConfigInvalid, "the database does not exist; check `database`"),
        "3F000" | "42P01" => {
            (Code::TableMissing, "a table or schema is not there; create it, or name the right one with `on`")
        }
        "42704" => (
            Code::SourceIdentity,
            "the slot or publication is gone: what was committed since cannot be read; stop the node, `driftless remove --dataset D --platform P`, start it again: the platform is compared anew",
        ),
        "58P01" => (
            Code::SourceIdentity,
            "the server has removed log that was still needed; stop the node, `driftless remove --dataset D --platform P`, start it again: the platform is compared anew",
        ),
        "55006" => (
            Code::StoreBusy,
            "the slot is in use by another connection: an old one ends by wal_sender_timeout; is a second process running?",
        ),
        "40001" | "40P01" | "55P03" => (Code::StoreBusy, "rows are locked by others"),
        "55000" => {
            (Code::SourceSettings, "the server is not set up for this: wal_level must be logical, and the slot usable")
        }
        "53400" => (
            Code::SourceSettings,
            "all replication slots or senders are in use: raise max_replication_slots and max_wal_senders",
        ),
        "53100" => (Code::DiskFull, "the server's disk is full: make room there"),
        "42703" => (Code::StoreBusy, "the table lost a column meanwhile: its new form is taken"),
        "42804" | "42846" | "428C9" => {
            (Code::SchemaUnsupported, "the table is not as it was when the work began; restart to take its new form")
        }
        _ => match state.get(..2) {
            Some("08" | "53") => (Code::SourceUnreachable, "the connection to the server is broken"),
            Some("28") => (Code::SourceDenied, "the server refuses the login: check user, password and pg_hba.conf"),
            Some("22") => (Code::ValueRefused, "the server refuses a value"),
            Some("23") => (Code::ConstraintViolated, "a constraint of the table is violated"),
            _ => (Code::Unexpected, "the server answered with an error nobody foresaw"),
        },
    }
}

/// The general client's error.
#[must_use]
pub(crate) fn of(error: tokio_postgres::Error) -> Error {
    if let Some(db) = error.as_db_error() {
        return described(db.code().code(), db.message(), db.detail());
    }
    let text = error.to_string();
    let refused = text.contains("authentication") || text.contains("password");
    let certificate = |s: &std::io::Error| s.kind() == std::io::ErrorKind::InvalidData;
    if error.source().and_then(|s| s.downcast_ref()).is_some_and(certificate) {
        let text = "no encrypted connection: the server's certificate is not trusted; check sslrootcert, the host name and sslmode";
        return Error::new(Code::SourceDenied, text).caused_by(error);
    }
    let io = error.source().is_some_and(|s| s.is::<std::io::Error>()) || error.is_closed();
    let (code, doing) = match (refused, io) {
        (true, _) => (Code::SourceDenied, "the login failed: check user and password"),
        (_, true) => (
            Code::SourceUnreachable,
            "the server does not answer, or the connection broke: is it running, and may this machine reach it?",
        ),
        _ if text.contains("TLS") => (Code::SourceDenied, "no encrypted connection: check sslmode and sslrootcert"),
        _ if text.contains("connecting") => {
            (Code::SourceUnreachable, "the server does not answer: is it running, and may this machine reach it?")
        }
        _ => (Code::Unexpected, "the client failed"),
    };
    Error::new(code, doing).caused_by(error)
}

/// An error of the replication connection.
#[must_use]
pub(crate) fn response(body: &ErrorResponseBody) -> Error {
    let (mut state, mut message, mut detail) = (String::new(), String::new(), None);
    let mut fields = body.fields();
    while let Ok(Some(field)) = fields.next() {
        let text = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => state = text,
            b'M' => message = text,
            b'D' => detail = Some(text),
            _ => {}
        }
    }
    described(&state, &message, detail.as_deref())
}

fn described(state: &str, message: &str, detail: Option<&str>) -> Error {
    let (code, doing) = code(state);
    let told = detail.map_or_else(|| message.to_owned(), |d| format!("{message}: {d}"));
    Error::new(code, doing).at("sqlstate", state).caused_by(told)
}

/// The reason of a refused row, for people.
#[must_use]
pub(crate) fn reason(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |db| format!("{} ({})", db.message(), db.code().code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_the_code_that_decides_its_remedy() {
        for (state, expected) in [
            ("57P01", Code::SourceUnreachable),
            ("08006", Code::SourceUnreachable),
            ("28P01", Code::SourceDenied),
            ("42501", Code::SourceDenied),
            ("55006", Code::StoreBusy),
            ("53100", Code::DiskFull),
            ("23505", Code::ConstraintViolated),
            ("22P02", Code::ValueRefused),
            ("XX000", Code::Unexpected),
            ("", Code::Unexpected),
        ] {
            assert_eq!(code(state).0, expected, "{state}");
        }
    }
}
