//! What every layer stands on: errors with one remedy each, time as a parameter, and what is told
//! of the work: logs and metrics.

pub mod clock;
pub mod error;
pub mod guard;
pub mod orders;
pub mod progress;
pub mod telemetry;
