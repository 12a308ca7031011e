//! The replication protocol: an own client, because the general one cannot speak it. Bytes become
//! messages here; what a message means for a dataset is decided in `reader`.

pub(crate) mod binding;
pub(crate) mod connection;
pub(crate) mod cursor;
pub(crate) mod json;
pub(crate) mod numeric;
pub(crate) mod pgoutput;
pub(crate) mod pump;
pub(crate) mod spool;
pub(crate) mod text;
pub(crate) mod tls;
