//! What every layer stands on: errors with one remedy each, and time as a parameter.

pub mod clock;
pub mod error;
pub mod guard;
