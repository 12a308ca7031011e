//! claim-9: what happens to the loop of a partition when the group speaks. The group is scripted here;
//! real ones are in `tests/kafka` and `tests/real`.

use super::*;
use crate::config::{self, At, Config};
use crate::govern::AllowAll;
use crate::node::board::{Board, State, Work};
use crate::node::control::Control;
use crate::node::log::Opened;
use crate::node::roster::Roster;
use crate::node::tasks::Tasks;
use crate::runtime::clock::SystemClock;
use crate::state::Memory;
use crate::topic::codec::Coded;
use crate::topic::memory::MemoryLog;
use crate::topic::registry::LogSchemas;
use crate::topic::{Committed, Compression, Raw};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What happened, in order.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<String>>>, Arc<Notify>);

impl Events {
    fn note(&self, text: impl Into<String>) {
        self.0.lock().push(text.into());
        self.1.notify_one();
    }

    /// Waits until so much has happened, and returns it.
    async fn at_least(&self, count: usize) -> Vec<String> {
        loop {
            if self.0.lock().len() >= count {
                return self.0.lock().clone();
            }
            let patience = Duration::from_secs(30);
            assert!(tokio::time::timeout(patience, self.1.notified()).await.is_ok(), "only {:?}", self.0.lock());
        }
    }
}

/// A group that says what the test wants.
struct Scripted {
    script: tokio::sync::Mutex<UnboundedReceiver<Assignment>>,
    events: Events,
}

#[async_trait]
impl Membership for Scripted {
    async fn next(&self) -> Result<Assignment> {
        match self.script.lock().await.recv().await {
            Some(told) => Ok(told),
            None => std::future::pending().await,
        }
    }

    async fn released(&self, partitions: &[Partition]) -> Result<()> {
        partitions.iter().for_each(|at| self.events.note(format!("released {at}")));
        Ok(())
    }

    fn holds(&self, _: &Partition) -> bool {
        true
    }

    async fn committed(&self, _: &Partition) -> Result<Option<Committed>> {
        Ok(None)
    }

    async fn commit(&self, _: &Partition, _: Committed) -> Result<()> {
        Ok(())
    }
}

/// A share of two partitions whose loops start, and drain when `drained` lets them.
struct Stage {
    share: Share,
    events: Events,
    drained: Arc<Notify>,
    group: UnboundedSender<Assignment>,
    member: Arc<dyn Membership>,
}

fn at(index: u32) -> Partition {
    Partition::new("d", index)
}

/// Says in the end how a loop came to it.
struct Ending(Events, Partition, bool);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.note(format!("{} {}", if self.2 { "drained" } else { "dropped" }, self.1));
    }
}

async fn stage(halts: bool) -> Stage {
    let clock = Arc::new(SystemClock);
    let raw: Arc<dyn Log<Raw>> = Arc::new(MemoryLog::new(clock.clone()));
    let schemas = LogSchemas::open(raw.clone(), clock.clone(), "p").await.unwrap();
    let log = Opened::of(raw.clone(), Coded::new(raw, Arc::new(schemas)), "p");
    let board: Arc<Board> = Arc::default();
    let config = Config {
        enabled: true,
        enabled_at: At::file("c.yaml"),
        data_dir: "d".into(),
        memory_mb: 1,
        log: config::Log {
            prefix: "p".into(),
            compression: Compression::None,
            place: config::LogPlace::Embedded { path: "d".into() },
        },
        http: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        platforms: Default::default(),
        datasets: Default::default(),
        files: Vec::new(),
    };
    let roster = Roster::open(log.raw.clone(), clock.clone(), "p").await.unwrap();
    let loops = Loops {
        log,
        clock,
        board: board.clone(),
        memory: Memory::unbounded(),
        tasks: Tasks::new(),
        control: Control::new(roster),
        config: Arc::new(config),
        policy: &AllowAll,
        stop: Stop::default(),
        shares: Arc::default(),
    };
    let (events, drained) = (Events::default(), Arc::new(Notify::new()));
    let post = |work| board.post(Post::new(&"d".into(), &"".into(), work));
    let unit = |index: u32| {
        let (events, drained) = (events.clone(), drained.clone());
        let run = move |lease: Lease| -> BoxFuture<'static, ()> {
            let (events, drained) = (events.clone(), drained.clone());
            Box::pin(async move {
                events.note(format!("started {}", at(index)));
                let mut ending = Ending(events, at(index), false);
                if !halts {
                    lease.stop.asked().await;
                    drained.notified().await;
                }
                ending.2 = true;
            })
        };
        (at(index), Unit { post: post(Work::Resolve), run: Box::new(run) })
    };
    let units = [unit(0), unit(1)].into();
    let share = Share { loops, post: post(Work::Join), group: "g".into(), units };
    let (group, script) = unbounded_channel();
    let script = tokio::sync::Mutex::new(script);
    let member = Arc::new(Scripted { script, events: events.clone() });
    Stage { share, events, drained, group, member }
}

impl Stage {
    fn working(&self) -> Working<'_> {
        Working { share: &self.share, member: self.member.clone(), tasks: JoinSet::new(), held: BTreeMap::new() }
    }

    fn tell(&self, told: Assignment) {
        self.group.send(told).unwrap();
    }

    fn state(&self, index: u32) -> State {
        self.share.units[&at(index)].post.state()
    }
}

/// Runs a share beside what a test does with it.
async fn beside(stage: &Stage, test: impl Future<Output = ()>) {
    let mut working = stage.working();
    tokio::select! {
        ended = working.until_stopped() => panic!("it ended: {ended:?}"),
        () = test => {}
    }
    working.drop_all().await;
}

#[tokio::test]
async fn a_partition_asked_back_is_given_away_only_when_its_loop_has_handed_over() {
    let stage = stage(false).await;
    beside(&stage, async {
        stage.tell(Assignment::Assigned(vec![at(0)]));
        assert_eq!(stage.events.at_least(1).await, ["started d[0]"]);
        assert_eq!((stage.state(0), stage.state(1)), (State::Running, State::Elsewhere));
        stage.tell(Assignment::Revoked(vec![at(0), at(1)]));
        assert_eq!(stage.events.at_least(2).await[1], "released d[1]", "what does nothing is given at once");
        stage.drained.notify_one();
        assert_eq!(stage.events.at_least(4).await[2..], ["drained d[0]", "released d[0]"]);
        assert_eq!(stage.state(0), State::Elsewhere);
        stage.tell(Assignment::Assigned(vec![at(0)]));
        assert_eq!(stage.events.at_least(5).await[4], "started d[0]");
    })
    .await;
}

#[tokio::test]
async fn a_lost_partition_is_dropped_where_it_stands_and_may_come_back() {
    let stage = stage(false).await;
    beside(&stage, async {
        stage.tell(Assignment::Assigned(vec![at(0), at(1)]));
        stage.events.at_least(2).await;
        stage.tell(Assignment::Lost(vec![at(0)]));
        stage.tell(Assignment::Assigned(vec![at(0)]));
        let events = stage.events.at_least(4).await;
        assert_eq!(events[2..], ["dropped d[0]", "started d[0]"], "not drained, nobody is told, and begun anew");
    })
    .await;
}

#[tokio::test]
async fn what_halted_stays_shown_until_the_group_wants_it() {
    let stage = stage(true).await;
    beside(&stage, async {
        stage.tell(Assignment::Assigned(vec![at(0)]));
        assert_eq!(stage.events.at_least(2).await, ["started d[0]", "drained d[0]"]);
        stage.tell(Assignment::Revoked(vec![at(0)]));
        assert_eq!(stage.events.at_least(3).await[2], "released d[0]");
    })
    .await;
}

#[tokio::test]
async fn a_node_that_stops_hands_everything_over_and_then_leaves() {
    let stage = stage(false).await;
    let mut working = stage.working();
    stage.tell(Assignment::Assigned(vec![at(0), at(1)]));
    let stopping = async {
        stage.events.at_least(2).await;
        stage.share.loops.stop.ask();
        stage.drained.notify_one();
        stage.events.at_least(3).await;
        stage.drained.notify_one();
    };
    let (ended, ()) = tokio::join!(working.until_stopped(), stopping);
    ended.unwrap();
    let events = stage.events.at_least(4).await;
    assert!(events[2..].iter().all(|event| event.starts_with("drained")), "{events:?}");
}
