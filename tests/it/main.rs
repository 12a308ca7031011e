//! The whole program on real platforms: SQLite files, a directory, the embedded log.

mod killed;
mod node;
mod verbs;
mod world;
