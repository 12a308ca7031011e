//! The connector against real servers: what the shared suite cannot know. One private server per test
//! process, one database per test.

mod capture;
mod refusals;
mod server;
mod sink;
mod types;
