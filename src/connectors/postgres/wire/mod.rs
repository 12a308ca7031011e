//! The replication protocol: an own client, because the general one cannot speak it. Bytes become
//! messages here; what a message means for a dataset is decided in `reader`.

pub(super) mod binding;
pub(super) mod connection;
pub(super) mod cursor;
pub(super) mod json;
pub(super) mod pgoutput;
pub(super) mod pump;
pub(super) mod spool;
pub(super) mod text;
pub(super) mod tls;
