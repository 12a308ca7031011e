//! What driftless tells of itself: logs (`logging`) and metrics (`names`, `meter`, `exporter`).
//! Everything else emits through the typed meters, so a name, unit or label cannot differ from its
//! description. Nothing here decides anything.

pub mod exporter;
pub mod logging;
pub mod meter;
pub mod names;

pub use exporter::Exporter;
pub use logging::{CONFLICT, ERROR, Format, PERFORMANCE, SYNC};
pub use meter::{DatasetMeter, PlatformMeter, count_error};
