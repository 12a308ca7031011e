//! The connector against real servers: what the shared suite cannot know. One private server per test
//! process, one database per test.

mod capture;
pub(in crate::connectors) mod conformance;
mod forms;
mod refusals;
mod server;
mod sink;
mod types;
mod untold;
