//! The whole program on real platforms: SQLite files, a directory, the embedded log.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and tells figures"
)]

mod decided;
mod fused;
mod governed;
mod held;
mod journal;
mod killed;
mod letters;
mod lost;
mod memory;
mod merged;
mod node;
mod process;
mod projection;
mod reference;
mod refused;
mod ruled;
mod second;
mod verbs;
mod world;
