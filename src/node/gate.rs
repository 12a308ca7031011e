//! When a loop may work. People pause datasets and collections and resume them; a dataset that asks
//! before its first write (`bootstrap: ask`, who-4) settles copies and writes to no store until it is
//! resumed. What was said stands in `__control`, so it survives a restart and reaches every node.
//!
//! A reader that settles itself reads one log for all collections: it goes on without those that are
//! paused, and reads them again once they are resumed.
//!
//! A loop that must stop is dropped where it waits: that is the end any process may meet at any time
//! (P10), and it takes over again from the log when it may go on.

use super::board::{Post, State};
use super::loops::Loops;
use super::partition::Lease;
use crate::connectors::contract::CollectionNo;
use crate::runtime::error::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use tokio::sync::watch;

/// What people have said.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Switches {
    /// Paused datasets, or single collections of them.
    pub(super) paused: BTreeSet<(String, Option<String>)>,
    /// Datasets whose first write was agreed to.
    pub(super) agreed: BTreeSet<String>,
    /// How many deletes are meant, by dataset and platform, and until when in milliseconds since 1970 (agent-7).
    pub(super) believed: BTreeMap<(String, String), (usize, u64)>,
}

/// What a loop may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Gate {
    /// Everything.
    Open,
    /// Everything but writing to a store (who-4).
    Unwritten,
    /// Everything but what is of these collections.
    Without(Vec<CollectionNo>),
    /// Nothing.
    Closed,
}

/// The gate of one loop.
#[derive(Clone)]
pub(super) struct Valve {
    pub(super) dataset: Arc<str>,
    /// The collections the loop works for, numbered as connectors count.
    pub(super) collections: Vec<String>,
    /// The dataset asks before its first write.
    pub(super) asks: bool,
    /// The loop does nothing but write to a store.
    pub(super) only_writes: bool,
    pub(super) said: watch::Receiver<Switches>,
}

impl Valve {
    fn of(&self, said: &Switches) -> Gate {
        let paused = |collection: Option<String>| said.paused.contains(&(self.dataset.to_string(), collection));
        let numbered = (0..).zip(&self.collections);
        let held = numbered.filter(|(_, name)| paused(Some((*name).clone()))).map(|(number, _)| number);
        let held: Vec<CollectionNo> = held.collect();
        if paused(None) || !held.is_empty() && held.len() == self.collections.len() {
            return Gate::Closed;
        }
        if !held.is_empty() {
            return Gate::Without(held);
        }
        match self.asks && !said.agreed.contains(&*self.dataset) {
            true if self.only_writes => Gate::Closed,
            true => Gate::Unwritten,
            false => Gate::Open,
        }
    }

    /// Waits until the gate is another one than `gate`.
    async fn leaves(&mut self, gate: &Gate) {
        let valve = self.clone();
        if self.said.wait_for(|said| valve.of(said) != *gate).await.is_err() {
            // The node ends.
            std::future::pending::<()>().await;
        }
    }
}

impl Loops {
    /// Keeps a loop running while its gate lets it, and begins it anew when the gate changes. A loop
    /// that stopped for good begins anew when it is asked to. Returns when it has handed over.
    pub(super) async fn tend_gated<F>(
        &self,
        mut valve: Valve,
        post: &Post,
        lease: &Lease,
        mut attempt: impl FnMut(Gate) -> F,
    ) where
        F: Future<Output = Result<()>>,
    {
        loop {
            let gate = valve.of(&valve.said.borrow());
            if gate == Gate::Closed {
                post.set(State::Paused);
                tokio::select! {
                    () = lease.stop.asked() => return,
                    () = valve.leaves(&gate) => continue,
                }
            }
            tokio::select! {
                () = valve.leaves(&gate) => {}
                handed_over = async {
                    if self.tend_leased(post, lease, || attempt(gate.clone())).await {
                        return true;
                    }
                    tokio::select! {
                        () = lease.stop.asked() => true,
                        () = post.woken() => false,
                    }
                } => if handed_over {
                    return;
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// who-4
    #[test]
    fn a_gate_is_closed_by_a_pause_and_half_closed_until_the_first_write_is_agreed_to() {
        let (say, said) = watch::channel(Switches::default());
        let valve = |asks, only_writes| Valve {
            dataset: "d".into(),
            collections: vec!["c".into()],
            asks,
            only_writes,
            said: said.clone(),
        };
        let gates =
            |said: &Switches| [valve(false, true).of(said), valve(true, true).of(said), valve(true, false).of(said)];
        assert_eq!(gates(&said.borrow()), [Gate::Open, Gate::Closed, Gate::Unwritten]);
        say.send_modify(|said| _ = said.agreed.insert("d".into()));
        assert_eq!(gates(&said.borrow()), [const { Gate::Open }; 3]);
        say.send_modify(|said| _ = said.paused.insert(("d".into(), Some("other".into()))));
        assert_eq!(gates(&said.borrow()), [const { Gate::Open }; 3]);
        say.send_modify(|said| _ = said.paused.insert(("d".into(), Some("c".into()))));
        assert_eq!(gates(&said.borrow()), [const { Gate::Closed }; 3]);
        say.send_replace(Switches { paused: [("d".to_owned(), None)].into(), ..Switches::default() });
        assert_eq!(gates(&said.borrow()), [const { Gate::Closed }; 3]);
    }

    #[test]
    fn a_loop_of_several_collections_goes_on_without_those_that_are_paused() {
        let (say, said) = watch::channel(Switches::default());
        let collections = vec!["c".into(), "d".into()];
        let valve = Valve { dataset: "d".into(), collections, asks: false, only_writes: false, said };
        let of = || valve.of(&valve.said.borrow());
        say.send_modify(|said| _ = said.paused.insert(("d".into(), Some("d".into()))));
        assert_eq!(of(), Gate::Without(vec![1]));
        say.send_modify(|said| _ = said.paused.insert(("d".into(), Some("c".into()))));
        assert_eq!(of(), Gate::Closed, "nothing is left");
    }
}
