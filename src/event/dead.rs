//! Dead letters: what could not be captured or applied, whole, with the reason (`<c>.dead`, P4). A
//! letter is named by what it is about, so that a repeated one is the same letter; a later record of
//! the same name says what became of it. Anybody writes them, under no claim: they decide nothing.

use super::Offset;
use super::key::Key;
use super::position::Position;
use super::record::Canonical;
use super::version::ActorId;
use std::sync::Arc;

/// Where an event ended as a dead letter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stage {
    /// A change of the platform that cannot be told exactly.
    Capture,
    /// A version the platform refused for too long.
    Apply,
}

/// What became of a dead letter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fate {
    /// It waits for a person.
    Open,
    /// It was tried again; it opens again if that was in vain.
    Retried,
    /// A person gave it up. It never opens again.
    Discarded,
}

/// A record of `<c>.dead`.
#[derive(Clone, PartialEq, Debug)]
pub struct DeadLetter {
    /// Its name.
    pub id: u128,
    /// What became of it.
    pub fate: Fate,
    /// Where it ended.
    pub stage: Stage,
    /// The platform it could not be read from or written to.
    pub by: ActorId,
    /// The record; empty if its key itself could not be told.
    pub key: Key,
    /// The error's code.
    pub code: Arc<str>,
    /// The reason, for people.
    pub why: Arc<str>,
    /// Its place at the source, of a captured one.
    pub pos: Position,
    /// Its place in D, of one to be applied.
    pub offset: Option<Offset>,
    /// The version that could not be applied.
    pub version: Option<Arc<Canonical>>,
    /// What could not be captured, as the platform holds it.
    pub native: Option<Arc<str>>,
}

impl DeadLetter {
    /// A change that cannot be told exactly.
    #[must_use]
    pub fn captured(by: ActorId, key: Option<Key>, pos: Position, code: &str, why: &str, native: &str) -> Self {
        let key = key.unwrap_or_default();
        let id = name(&[b"c", &by.0.to_be_bytes(), &key.0, &pos.commit.to_be_bytes(), &pos.ordinal.to_be_bytes()]);
        let (fate, stage, native) = (Fate::Open, Stage::Capture, Some(native.into()));
        DeadLetter {
            id,
            fate,
            stage,
            by,
            key,
            code: code.into(),
            why: why.into(),
            pos,
            offset: None,
            version: None,
            native,
        }
    }

    /// A version the platform refused for too long.
    #[must_use]
    pub fn applied(by: ActorId, version: &Arc<Canonical>, offset: Offset, code: &str, why: &str) -> Self {
        let key = version.key.clone();
        let id = name(&[b"a", &by.0.to_be_bytes(), &key.0, &version.seq.to_be_bytes()]);
        let (fate, stage, pos, offset) = (Fate::Open, Stage::Apply, Position::START, Some(offset));
        let version = Some(version.clone());
        DeadLetter { id, fate, stage, by, key, code: code.into(), why: why.into(), pos, offset, version, native: None }
    }

    /// The record that says what became of it.
    #[must_use]
    pub fn ended(&self, fate: Fate) -> Self {
        DeadLetter { fate, version: None, native: None, ..self.clone() }
    }
}

fn name(parts: &[&[u8]]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
    }
    hasher.finalize().as_bytes().first_chunk().map_or(0, |half| u128::from_be_bytes(*half))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::PlatformNo;

    #[test]
    fn a_letter_is_named_by_what_it_is_about() {
        let by = ActorId::new(PlatformNo(1), 1);
        let letter = |ordinal, why| {
            DeadLetter::captured(by, Some("k".into()), Position::new(7, ordinal), "value_refused", why, "{}")
        };
        assert_eq!(letter(0, "one reason").id, letter(0, "another").id);
        assert_ne!(letter(0, "x").id, letter(1, "x").id);
        let ended = letter(0, "x").ended(Fate::Discarded);
        assert_eq!((ended.id, ended.fate, ended.native), (letter(0, "x").id, Fate::Discarded, None));
    }
}
