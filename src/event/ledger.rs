//! What was last given to a platform, per key: the data. The functions over it are in `ledger`.

use super::fingerprint::Fp;
use super::schema::SchemaId;
use super::version::{Hlc, Seq, Vv};
use bytes::Bytes;
use std::fmt;

/// What a store answers for "this content of this key": an ETag, a generation, a file's state.
/// Opaque; only its store compares it.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Token(pub Bytes);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// The version a platform holds of a key, and how its content looked when read back.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LedgerEntry {
    /// The canonical version last given to the platform; 0 if none.
    pub seq: Seq,
    /// What the content contains, the platform's own published changes included.
    pub vv: Vv,
    /// Fingerprint of the content as the store gives it back; `Fp::ABSENT` for a tombstone.
    pub fp: Fp,
    /// Time of the version.
    pub ts: Hlc,
    /// Whether it is a deletion.
    pub tomb: bool,
    /// The schema the fingerprint was made under (read-10).
    pub schema: SchemaId,
    /// The store's token of the content, where the store has tokens; `None` also for absent.
    pub token: Option<Token>,
    /// A conditional write whose outcome is not recorded yet (agents only).
    pub pend: Option<Box<Intent>>,
}

/// A conditional write that is about to be sent, or was sent, and what it would leave behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Intent {
    /// Tells this attempt from every other (agent-5).
    pub iid: u64,
    /// The canonical version being written.
    pub seq: Seq,
    /// Its vector.
    pub vv: Vv,
    /// The fingerprint its content will have when read back.
    pub fp: Fp,
    /// Its time.
    pub ts: Hlc,
    /// Whether it deletes.
    pub tomb: bool,
    /// The schema of the content.
    pub schema: SchemaId,
    /// The token the write is conditional on; `None` for "absent".
    pub expect: Option<Token>,
    /// Milliseconds since 1970 after which the store refuses the write (agent-1).
    pub exp_ms: u64,
}

/// Whether a conditional write of ours took effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Landed {
    /// It did.
    Yes,
    /// It did not, and never will.
    No,
    /// The store cannot tell (agent-9).
    Unknown,
}
