//! How things look inside the file: tables and their types, the tables driftless keeps there, and
//! the encodings of vectors and times. Nothing here decides anything.

pub(super) mod changes;
pub(super) mod install;
pub(super) mod ledger;
pub(super) mod table;
pub(super) mod time;
pub(super) mod views;
pub(super) mod write;
