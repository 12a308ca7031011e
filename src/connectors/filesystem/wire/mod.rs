//! The forms on disk: paths, documents, the text of dates and times (all pure and exact both ways),
//! files reached safely, and the stage folder of the conditional write.

pub(super) mod files;
pub(super) mod folders;
pub(super) mod json;
pub(super) mod path;
pub(super) mod stage;
mod time;
