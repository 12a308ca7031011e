//! How heads become bytes: as the records of the log, by its codec.

use super::{Codec, damaged};
use crate::event::{Canonical, Record};
use crate::runtime::error::Result;
use crate::topic::codec::Coded;
use bytes::Bytes;
use std::sync::Arc;

/// The codec of the heads of one collection.
pub struct Heads {
    /// The log's codec.
    pub coded: Coded,
    /// The collection's topic `<c>`.
    pub topic: Arc<str>,
}

impl Codec<Arc<Canonical>> for Heads {
    fn encode(&self, head: &Arc<Canonical>, out: &mut Vec<u8>) -> Result<()> {
        self.coded.encode(&self.topic, &Record::Canonical(head.clone()), out)
    }

    fn decode(&self, bytes: Bytes) -> Result<Arc<Canonical>> {
        match self.coded.decode(&bytes)? {
            Record::Canonical(head) => Ok(head),
            _ => Err(damaged("it is no head")),
        }
    }
}
