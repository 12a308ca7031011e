//! driftless keeps datasets the same on every platform that holds them.
//!
//! A **change** on a platform is captured and proposed as an **event** on the changes **topic**; one
//! **resolver** per partition settles proposals into the dataset's canonical versions; each version
//! is **applied** to every platform under its **ledger**. The path itself is `flow`.

pub mod flow;

pub mod event;

pub mod topic;

pub mod state;

pub mod capture;

pub mod resolve;
pub mod settle;

pub mod fused;

pub mod ledger;

pub mod apply;

pub mod agent;

pub mod connectors;

pub mod wrap;

pub mod govern;

pub mod config;

pub mod node;

pub mod cli;

pub mod runtime;
