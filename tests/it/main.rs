//! The whole program on real platforms: SQLite files, a directory, the embedded log.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and tells figures"
)]

mod held;
mod journal;
mod killed;
mod letters;
mod node;
mod process;
mod projection;
mod verbs;
mod world;
