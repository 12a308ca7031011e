//! Consumer groups whose members all live in one process: of each topic, everything is assigned to
//! the group's first member; the next one takes over when that one leaves. Nothing is ever revoked.

use super::{Assignment, Partition};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// The groups of a log.
#[derive(Clone, Default)]
pub(super) struct Groups(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    joined: u64,
    /// The members that want a topic, by group and topic, in the order in which they joined.
    queues: BTreeMap<(String, Arc<str>), Vec<u64>>,
    waiting: Vec<Waker>,
}

impl State {
    fn is_first(&self, member: u64, group: &str, topic: &Arc<str>) -> bool {
        self.queues.get(&(group.to_string(), topic.clone())).and_then(|q| q.first()) == Some(&member)
    }
}

/// One member; it leaves when dropped.
pub(super) struct Member {
    groups: Groups,
    number: u64,
    group: String,
    topics: Vec<(Arc<str>, Vec<Partition>)>,
    told: Mutex<Vec<Arc<str>>>,
}

impl Groups {
    /// Joins `group` for topics with their partitions.
    pub(super) fn join(&self, group: &str, topics: Vec<(Arc<str>, Vec<Partition>)>) -> Member {
        let mut state = self.0.lock();
        state.joined += 1;
        let number = state.joined;
        for (topic, _) in &topics {
            state.queues.entry((group.to_string(), topic.clone())).or_default().push(number);
        }
        Member { groups: self.clone(), number, group: group.to_string(), topics, told: Mutex::default() }
    }
}

impl Member {
    /// Waits until there is more for this member.
    pub(super) async fn next(&self) -> Assignment {
        poll_fn(|context| {
            let mut state = self.groups.0.lock();
            let mut told = self.told.lock();
            let mut new = Vec::new();
            for (topic, partitions) in &self.topics {
                if !told.contains(topic) && state.is_first(self.number, &self.group, topic) {
                    told.push(topic.clone());
                    new.extend(partitions.iter().cloned());
                }
            }
            if !new.is_empty() {
                return Poll::Ready(Assignment::Assigned(new));
            }
            state.waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Whether a partition was assigned to this member.
    pub(super) fn holds(&self, at: &Partition) -> bool {
        let told = self.told.lock();
        self.topics.iter().any(|(topic, partitions)| told.contains(topic) && partitions.contains(at))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.groups.0.lock();
        for queue in state.queues.values_mut() {
            queue.retain(|member| *member != self.number);
        }
        state.queues.retain(|_, queue| !queue.is_empty());
        state.waiting.drain(..).for_each(Waker::wake);
    }
}
