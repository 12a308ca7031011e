//! SQLite's errors as ours, in one match. What nobody foresaw stays `unexpected`.

use crate::runtime::error::{Code, Error};
use rusqlite::{Error as Sqlite, ErrorCode};

/// Our error for SQLite's, while `doing`.
pub(super) fn failed(doing: &str, cause: Sqlite) -> Error {
    let (code, remedy) = judge(&cause);
    let text = if remedy.is_empty() { doing.to_string() } else { format!("{doing}: {remedy}") };
    Error::new(code, text).caused_by(cause)
}

/// Shorthand for `map_err`.
pub(super) fn failing(doing: &str) -> impl FnOnce(Sqlite) -> Error + '_ {
    move |cause| failed(doing, cause)
}

/// The code, and what a person can do.
fn judge(cause: &Sqlite) -> (Code, &'static str) {
    match cause.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (Code::StoreBusy, "another connection holds the file's lock; it is tried again")
        }
        Some(ErrorCode::DiskFull) => (Code::DiskFull, "the disk is full; free some space"),
        Some(ErrorCode::CannotOpen) => {
            (Code::SourceUnreachable, "the file cannot be opened; check the path, and that it was not moved")
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied) => (
            Code::SourceDenied,
            "the file, or the directory it lies in, may not be written by this user; grant write access to both",
        ),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (
            Code::StoreCorrupt,
            "the file is damaged or no SQLite database; check it with PRAGMA integrity_check, restore it from a backup if need be",
        ),
        Some(ErrorCode::SystemIoFailure) => {
            (Code::SourceUnreachable, "the file cannot be read or written; check the disk")
        }
        Some(ErrorCode::TooBig) => (Code::ValueTooLarge, "a value is larger than SQLite allows"),
        Some(ErrorCode::ConstraintViolation) => (Code::ConstraintViolated, "a constraint of the table refuses it"),
        Some(ErrorCode::SchemaChanged) => (Code::StoreBusy, "the schema changed meanwhile; it is tried again"),
        _ => (Code::Unexpected, ""),
    }
}

/// Whether the store refuses this one row, whatever is done about the others.
pub(super) fn refuses_row(cause: &Sqlite) -> bool {
    matches!(
        cause.sqlite_error_code(),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch)
    )
}
