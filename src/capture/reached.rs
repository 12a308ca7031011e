//! How far a reader is, and what its checkpoints say of that. Pure. Whether everything before a checkpoint is
//! durable is not known here: who owns the platform asks its writers.

use crate::connectors::contract::CollectionNo;
use crate::event::{Copying, Ctr, Position, ReaderMark, Stamp};

/// How far a reader is.
pub struct Reached {
    /// Everything up to here is passed on.
    pub through: Position,
    /// How far the first copy of each collection is.
    pub copied: Vec<Copying>,
    /// Where this life began to read.
    began: Position,
    /// Checkpoints, those of earlier lives included.
    number: u64,
    /// How far it was when the newest checkpoint was begun.
    cut_at: Position,
    /// The same of the newest one that is durable.
    marked: Position,
    /// When the newest one was begun.
    begun_ms: u64,
    /// A first copy went on since then.
    noted: bool,
}

impl Reached {
    /// Goes on behind the newest checkpoint of an earlier life, if there was one.
    #[must_use]
    pub fn behind(mark: Option<&ReaderMark>, collections: usize, now_ms: u64) -> Self {
        let through = mark.map_or(Position::START, |mark| mark.pos);
        let copied = mark.map_or_else(|| vec![Copying::Todo; collections], |mark| mark.copied.clone());
        let number = mark.map_or(0, |mark| mark.number);
        Reached {
            through,
            copied,
            began: through,
            number,
            cut_at: through,
            marked: through,
            begun_ms: now_ms,
            noted: false,
        }
    }

    /// There is nothing to go on behind: it begins here.
    pub fn begin_at(&mut self, position: Position) {
        (self.through, self.began) = (position, position);
    }

    /// Where this life began to read.
    #[must_use]
    pub fn began(&self) -> Position {
        self.began
    }

    /// Whether there was never a checkpoint.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.number == 0
    }

    /// Whether a first copy is under way.
    #[must_use]
    pub fn is_copying(&self) -> bool {
        self.copied.iter().any(|copying| *copying != Copying::Done)
    }

    /// Whether there is nothing a checkpoint would say that the newest one does not.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.through == self.marked && !self.noted
    }

    /// When the next checkpoint is due, in milliseconds since 1970, if there is something to say.
    #[must_use]
    pub fn due_ms(&self, every_ms: u64) -> u64 {
        self.begun_ms.saturating_add(every_ms)
    }

    /// The first copy of a collection is so far: a checkpoint falls due although no position moved, and at once
    /// behind the last row.
    pub fn note(&mut self, collection: CollectionNo, copying: Copying) {
        self.noted = true;
        if copying == Copying::Done {
            self.begun_ms = 0;
        }
        if let Some(state) = self.copied.get_mut(usize::from(collection)) {
            *state = copying;
        }
    }

    /// Takes down what a checkpoint says; where the partitions stand is known once what was sent has settled.
    pub fn mark(&mut self, stamp: Stamp, ctr: Vec<Ctr>, lastpos: Vec<Position>, now_ms: u64) -> Box<ReaderMark> {
        (self.number, self.begun_ms, self.noted, self.cut_at) = (self.number + 1, now_ms, false, self.through);
        let (number, pos, copied) = (self.number, self.through, self.copied.clone());
        Box::new(ReaderMark { stamp, number, pos, ctr, cpos: Vec::new(), lastpos, copied })
    }

    /// The newest checkpoint is durable, and counts.
    pub fn confirm(&mut self) {
        self.marked = self.cut_at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P3: what goes on while a checkpoint is under way is said by the next one.
    #[test]
    fn a_copy_that_goes_on_while_a_checkpoint_is_under_way_makes_the_next_one_due() {
        let mut reached = Reached::behind(None, 2, 1000);
        assert!(reached.is_new() && reached.is_marked() && reached.is_copying());
        reached.note(0, Copying::Through("k".into()));
        let mark = reached.mark(Stamp::default(), vec![1], vec![Position::START], 2000);
        assert_eq!((mark.number, reached.due_ms(100)), (1, 2100));
        reached.note(0, Copying::Done);
        assert_eq!(reached.due_ms(100), 100, "at once behind the last row");
        reached.confirm();
        assert!(!reached.is_marked(), "the copy went on since");
        assert_eq!(mark.copied[0], Copying::Through("k".into()));
        let next = reached.mark(Stamp::default(), vec![1], vec![Position::START], 3000);
        reached.confirm();
        assert!(reached.is_marked() && next.copied[0] == Copying::Done && next.number == 2);
        let again = Reached::behind(Some(&*next), 2, 4000);
        assert!(!again.is_new() && again.is_marked() && again.copied == next.copied);
    }

    #[test]
    fn a_position_that_moved_since_the_checkpoint_was_begun_is_not_marked_by_it() {
        let mut reached = Reached::behind(None, 1, 0);
        reached.through = Position::end_of(3);
        let mark = reached.mark(Stamp::default(), Vec::new(), Vec::new(), 10);
        reached.through = Position::end_of(4);
        reached.confirm();
        assert!(mark.pos == Position::end_of(3) && !reached.is_marked());
    }
}
