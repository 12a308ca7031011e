//! The log as the owner of a partition writes it: before each append it is asked whether the group
//! still assigns the partition to this node and was heard within the last second (claim-8). The claims
//! in the log fence whoever writes all the same; this only makes void records rare.

use crate::event::Offset;
use crate::runtime::error::{Code, Error, Result};
use crate::topic::{Appending, Bounds, Log, Membership, Message, Partition, Reading, Session, TopicSpec, Typed};
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A log whose sessions write only while `at` is assigned.
pub(super) struct Leased {
    pub(super) log: Arc<dyn Log<Typed>>,
    pub(super) member: Arc<dyn Membership>,
    pub(super) at: Partition,
}

struct LeasedSession {
    session: Arc<dyn Session<Typed>>,
    member: Arc<dyn Membership>,
    at: Partition,
    /// An append was held back: later ones must not land without it (claim-2).
    dead: AtomicBool,
}

impl Session<Typed> for LeasedSession {
    fn append(&self, at: &Partition, messages: Vec<Message<Typed>>) -> Appending {
        if self.dead.load(Ordering::Acquire) || !self.member.holds(&self.at) {
            self.dead.store(true, Ordering::Release);
            let text = "the group does not assign the partition to this node any more, so nothing is written";
            let error = Error::new(Code::ClaimLost, text).at("partition", &self.at);
            return Box::pin(async move { Err(error) });
        }
        self.session.append(at, messages)
    }
}

#[async_trait]
impl Log<Typed> for Leased {
    async fn create(&self, spec: &TopicSpec) -> Result<()> {
        self.log.create(spec).await
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>> {
        self.log.topics().await
    }

    async fn remove(&self, topic: &str) -> Result<()> {
        self.log.remove(topic).await
    }

    async fn session(&self) -> Result<Arc<dyn Session<Typed>>> {
        let (session, member, at) = (self.log.session().await?, self.member.clone(), self.at.clone());
        Ok(Arc::new(LeasedSession { session, member, at, dead: AtomicBool::new(false) }))
    }

    async fn read(&self, at: &Partition, from: Offset) -> Result<Box<dyn Reading<Typed>>> {
        self.log.read(at, from).await
    }

    async fn bounds(&self, at: &Partition) -> Result<Bounds> {
        self.log.bounds(at).await
    }

    async fn offset_at(&self, at: &Partition, time_ms: u64) -> Result<Option<Offset>> {
        self.log.offset_at(at, time_ms).await
    }

    async fn delete_below(&self, at: &Partition, offset: Offset) -> Result<()> {
        self.log.delete_below(at, offset).await
    }

    async fn join(&self, group: &str, topics: &[Arc<str>]) -> Result<Box<dyn Membership>> {
        self.log.join(group, topics).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Claim, PlatformNo, Record, Role, Stamp};
    use crate::runtime::clock::SystemClock;
    use crate::topic::memory::MemoryLog;
    use crate::topic::message::message;
    use crate::topic::{Assignment, Cleanup, Committed, Compression};

    struct Group(AtomicBool);

    #[async_trait]
    impl Membership for Group {
        async fn next(&self) -> Result<Assignment> {
            std::future::pending().await
        }
        async fn released(&self, _: &[Partition]) -> Result<()> {
            Ok(())
        }
        fn holds(&self, _: &Partition) -> bool {
            self.0.load(Ordering::Acquire)
        }
        async fn committed(&self, _: &Partition) -> Result<Option<Committed>> {
            Ok(None)
        }
        async fn commit(&self, _: &Partition, _: Committed) -> Result<()> {
            Ok(())
        }
    }

    fn claim(epoch: u64) -> Vec<Message<Typed>> {
        let stamp = Stamp { epoch, owner: 7 };
        vec![message(Arc::new(Record::Claim(Claim { role: Role::Writer(PlatformNo(1)), stamp })))]
    }

    /// claim-8
    #[tokio::test]
    async fn nothing_is_written_once_the_partition_is_not_held_and_the_session_stays_dead() {
        let log: MemoryLog<Typed> = MemoryLog::new(Arc::new(SystemClock));
        let (at, cleanup) = (Partition::new("t", 0), Cleanup::Keep);
        let spec = TopicSpec { topic: at.topic.clone(), partitions: 1, cleanup, compression: Compression::None };
        log.create(&spec).await.unwrap();
        let member = Arc::new(Group(AtomicBool::new(true)));
        let leased = Leased { log: Arc::new(log.clone()), member: member.clone(), at: at.clone() };
        let session = leased.session().await.unwrap();
        session.append(&at, claim(1)).await.unwrap();
        member.0.store(false, Ordering::Release);
        assert_eq!(session.append(&at, claim(2)).await.unwrap_err().code, Code::ClaimLost);
        member.0.store(true, Ordering::Release);
        assert_eq!(session.append(&at, claim(3)).await.unwrap_err().code, Code::ClaimLost, "not without the second");
        leased.session().await.unwrap().append(&at, claim(4)).await.unwrap();
        assert_eq!(log.bounds(&at).await.unwrap().high, 2);
    }
}
