//! The replication protocol: an own client, because the general one cannot speak it. Bytes become
//! messages here; what a message means for a dataset is decided in `reader`.

pub mod binding;
pub mod connection;
pub mod cursor;
pub mod json;
pub mod pgoutput;
pub mod pump;
pub mod spool;
pub mod text;
pub mod tls;
