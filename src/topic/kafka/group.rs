//! What a member hears of its group: which partitions are its own, which are asked back, which are lost.
//! The calls come from librdkafka, inside of a turn of the member; what they mean is kept for `next`.

use super::{Error, Heard, failed};
use crate::topic::{Assignment, Partition};
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeSet, VecDeque};

/// What the member knows.
#[derive(Default)]
pub(super) struct State {
    pub(super) held: BTreeSet<Partition>,
    /// Asked back: answered in one, when none of them is kept any more.
    pub(super) asked: Vec<Partition>,
    /// Those of `asked` that are not released yet.
    pub(super) leaving: BTreeSet<Partition>,
    /// What `next` has to tell.
    pub(super) told: VecDeque<Assignment>,
    pub(super) failed: Option<Error>,
    pub(super) joined: bool,
    /// How often the group has told what is ours.
    pub(super) assignments: u64,
    pub(super) closing: bool,
    pub(super) turned_ms: u64,
}

/// Hears the group.
pub(super) struct Group {
    pub(super) heard: Heard,
    pub(super) state: Mutex<State>,
}

impl ClientContext for Group {
    fn error(&self, error: KafkaError, reason: &str) {
        self.heard.error(error, reason);
    }

    fn log(&self, level: RDKafkaLogLevel, fac: &str, text: &str) {
        self.heard.log(level, fac, text);
    }
}

impl ConsumerContext for Group {
    /// Runs inside of `turn`, or while the consumer closes.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let all = partitions(list);
        let done = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assigned(consumer, &all, list),
            _ => self.revoked(consumer, all, list),
        };
        if let Err(error) = done {
            self.state.lock().failed = Some(failed("an assignment of the group could not be taken", error));
        }
    }
}

impl Group {
    fn assigned(
        &self,
        consumer: &BaseConsumer<Self>,
        all: &[Partition],
        list: &mut TopicPartitionList,
    ) -> KafkaResult<()> {
        // Any offset will do, as nothing is fetched; without one librdkafka would ask the cluster.
        list.set_all_offsets(Offset::Offset(0))?;
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(list)?,
            _ => consumer.assign(list)?,
        }
        if !all.is_empty() {
            consumer.pause(list)?;
        }
        let mut state = self.state.lock();
        let first = !std::mem::replace(&mut state.joined, true);
        state.assignments += 1;
        if state.closing {
            return Ok(());
        }
        state.held.extend(all.iter().cloned());
        if first || !all.is_empty() {
            state.told.push_back(Assignment::Assigned(all.to_vec()));
        }
        Ok(())
    }

    fn revoked(
        &self,
        consumer: &BaseConsumer<Self>,
        all: Vec<Partition>,
        list: &TopicPartitionList,
    ) -> KafkaResult<()> {
        let lost = consumer.assignment_lost();
        let mut state = self.state.lock();
        if !lost && !state.closing && !all.is_empty() {
            // Given back by `released`: until then the owner may finish (claim-9).
            state.leaving.extend(all.iter().cloned());
            state.asked.extend(all.iter().cloned());
            state.told.push_back(Assignment::Revoked(all));
            return Ok(());
        }
        state.held.retain(|at| !all.contains(at));
        if lost && !all.is_empty() {
            state.told.push_back(Assignment::Lost(all));
        }
        drop(state);
        unassign(consumer, list)
    }
}

/// Takes partitions away from the consumer, which answers the group.
pub(super) fn unassign(consumer: &BaseConsumer<Group>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        _ => consumer.unassign(),
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    let all = list.elements();
    all.iter().map(|e| Partition::new(e.topic(), u32::try_from(e.partition()).unwrap_or(u32::MAX))).collect()
}
