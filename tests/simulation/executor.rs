//! A deterministic executor: one thread, tasks polled one at a time in an order drawn from a seed.
//! A task can be dropped (a crash at an await point) or paused and resumed (a zombie). Time is
//! virtual. The same seed gives the same run; nothing here knows what the tasks do.

use async_trait::async_trait;
use driftless::runtime::clock::Clock;
use parking_lot::Mutex;
use std::collections::BinaryHeap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

/// A small random generator (splitmix64); not for secrets.
#[derive(Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which must not be 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// True in `permille` of 1000 cases.
    pub(crate) fn chance(&mut self, permille: u32) -> bool {
        permille > 0 && self.below(1000) < permille as usize
    }

    /// An independent generator.
    pub(crate) fn fork(&mut self) -> Rng {
        Rng::new(self.next())
    }
}

pub(crate) type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Names a task; ids of tasks that are gone name nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TaskId {
    slot: u8,
    generation: u32,
}

struct ReadyBit {
    ready: Arc<AtomicU64>,
    bit: u64,
}

impl Wake for ReadyBit {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.fetch_or(self.bit, Relaxed);
    }
}

struct Slot {
    task: Option<Task>,
    generation: u32,
    waker: Waker,
}

/// What a step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stepped {
    /// No task was ready.
    Idle,
    /// The task was polled and waits again.
    Ran(TaskId),
    /// The task was polled and has returned.
    Ended(TaskId),
}

/// Up to 64 tasks. Who is ready is one word of bits, so that a choice costs a few instructions.
#[derive(Default)]
pub(crate) struct World {
    slots: Vec<Slot>,
    ready: Arc<AtomicU64>,
    live: u64,
    paused: u64,
}

impl World {
    /// Adds a task; it is ready at once.
    pub(crate) fn spawn(&mut self, task: Task) -> TaskId {
        let slot = (!self.live).trailing_zeros() as usize;
        assert!(slot < 64, "more than 64 tasks at a time");
        if slot == self.slots.len() {
            let waker = Waker::from(Arc::new(ReadyBit { ready: self.ready.clone(), bit: 1 << slot }));
            self.slots.push(Slot { task: None, generation: 0, waker });
        }
        let entry = &mut self.slots[slot];
        entry.generation += 1;
        entry.task = Some(task);
        self.live |= 1 << slot;
        self.paused &= !(1 << slot);
        self.ready.fetch_or(1 << slot, Relaxed);
        TaskId { slot: slot as u8, generation: entry.generation }
    }

    /// Whether any task could be polled now.
    pub(crate) fn has_ready(&self) -> bool {
        self.runnable() != 0
    }

    fn runnable(&self) -> u64 {
        self.ready.load(Relaxed) & self.live & !self.paused
    }

    /// Polls one ready task once, drawn at random.
    pub(crate) fn step(&mut self, rng: &mut Rng) -> Stepped {
        let mut bits = self.runnable();
        if bits == 0 {
            return Stepped::Idle;
        }
        for _ in 0..rng.below(bits.count_ones() as usize) {
            bits &= bits - 1;
        }
        let slot = bits.trailing_zeros() as usize;
        self.ready.fetch_and(!(1 << slot), Relaxed);
        let entry = &mut self.slots[slot];
        let id = TaskId { slot: slot as u8, generation: entry.generation };
        let Some(task) = entry.task.as_mut() else { return Stepped::Idle };
        match task.as_mut().poll(&mut Context::from_waker(&entry.waker)) {
            Poll::Pending => Stepped::Ran(id),
            Poll::Ready(()) => {
                self.kill(id);
                Stepped::Ended(id)
            }
        }
    }

    pub(crate) fn is_live(&self, id: TaskId) -> bool {
        self.live >> id.slot & 1 == 1 && self.slots[usize::from(id.slot)].generation == id.generation
    }

    /// Drops a task where it stands: a crash.
    pub(crate) fn kill(&mut self, id: TaskId) {
        if self.is_live(id) {
            self.live &= !(1 << id.slot);
            self.slots[usize::from(id.slot)].task = None;
        }
    }

    /// Stops polling a task without its knowledge.
    pub(crate) fn pause(&mut self, id: TaskId) {
        if self.is_live(id) {
            self.paused |= 1 << id.slot;
        }
    }

    /// Lets a paused task go on.
    pub(crate) fn resume(&mut self, id: TaskId) {
        if self.is_live(id) {
            self.paused &= !(1 << id.slot);
        }
    }
}

/// Gives every other task a chance to run, or a crash to happen, here.
pub(crate) async fn yield_once() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The result of a future that needs no waiting.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("this future was expected to be ready at once"),
    }
}

/// Virtual time, shared by all clocks of a simulation.
pub(crate) struct Time {
    now_ms: AtomicU64,
    handed: AtomicU64,
    seed: u64,
    timers: Mutex<BinaryHeap<Timer>>,
}

struct Timer {
    at_ms: u64,
    order: u64,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Ord for Timer {
    /// The earliest is the greatest, as the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at_ms, other.order).cmp(&(self.at_ms, self.order))
    }
}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Timer {}

impl Time {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let start = AtomicU64::new(1_700_000_000_000);
        Arc::new(Time { now_ms: start, handed: AtomicU64::new(0), seed, timers: Mutex::default() })
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms.load(Relaxed)
    }

    /// Moves time on and wakes whose time has come.
    pub(crate) fn jump(&self, ms: u64) {
        let now = self.now_ms.fetch_add(ms, Relaxed) + ms;
        let mut timers = self.timers.lock();
        while timers.peek().is_some_and(|t| t.at_ms <= now) {
            if let Some(waker) = timers.pop().and_then(|t| t.waker.lock().take()) {
                waker.wake();
            }
        }
    }

    /// Moves time to the next timer anybody waits for; false if there is none.
    pub(crate) fn advance(&self) -> bool {
        let next = {
            let mut timers = self.timers.lock();
            while timers.peek().is_some_and(|t| t.waker.lock().is_none()) {
                timers.pop();
            }
            timers.peek().map(|t| t.at_ms)
        };
        let Some(at) = next else { return false };
        self.jump(at.saturating_sub(self.now_ms()));
        true
    }

    fn register(&self, at_ms: u64, waker: Arc<Mutex<Option<Waker>>>) {
        let order = self.handed.fetch_add(1, Relaxed);
        self.timers.lock().push(Timer { at_ms, order, waker });
    }
}

/// One machine's view of the time: off by its skew.
pub(crate) struct SimClock {
    time: Arc<Time>,
    skew_ms: AtomicI64,
}

impl SimClock {
    pub(crate) fn new(time: Arc<Time>, skew_ms: i64) -> Arc<Self> {
        Arc::new(SimClock { time, skew_ms: AtomicI64::new(skew_ms) })
    }

    pub(crate) fn set_skew(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Relaxed);
    }
}

/// Forgets its timer when it is dropped, so that abandoned waits do not move time.
struct Waiting(Arc<Mutex<Option<Waker>>>);

impl Drop for Waiting {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

#[async_trait]
impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        self.time.now_ms().saturating_add_signed(self.skew_ms.load(Relaxed))
    }

    async fn sleep_until(&self, at_ms: u64) {
        if at_ms == u64::MAX {
            return std::future::pending().await;
        }
        let waiting = Waiting(Arc::new(Mutex::new(None)));
        let mut registered = None;
        poll_fn(|context| {
            if self.now_ms() >= at_ms {
                return Poll::Ready(());
            }
            *waiting.0.lock() = Some(context.waker().clone());
            let at = at_ms.saturating_add_signed(-self.skew_ms.load(Relaxed));
            if registered != Some(at) {
                registered = Some(at);
                self.time.register(at, waiting.0.clone());
            }
            Poll::Pending
        })
        .await;
    }

    fn fresh_id(&self) -> u128 {
        let count = self.time.handed.fetch_add(1, Relaxed) + 1;
        u128::from(self.time.seed) << 64 | u128::from(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(count: &Arc<AtomicU64>, times: u64) -> Task {
        let count = count.clone();
        Box::pin(async move {
            for _ in 0..times {
                count.fetch_add(1, Relaxed);
                yield_once().await;
            }
        })
    }

    #[test]
    fn a_task_runs_to_its_end_unless_it_is_killed_or_paused() {
        let (mut world, mut rng) = (World::default(), Rng::new(1));
        let [runs, killed, paused] = [(); 3].map(|()| Arc::new(AtomicU64::new(0)));
        world.spawn(counter(&runs, 5));
        let victim = world.spawn(counter(&killed, 5));
        let zombie = world.spawn(counter(&paused, 5));
        world.kill(victim);
        world.pause(zombie);
        while world.step(&mut rng) != Stepped::Idle {}
        assert_eq!([&runs, &killed, &paused].map(|c| c.load(Relaxed)), [5, 0, 0]);
        world.resume(zombie);
        while world.step(&mut rng) != Stepped::Idle {}
        assert_eq!(paused.load(Relaxed), 5);
        assert!(!world.is_live(zombie));
    }

    #[test]
    fn time_moves_only_to_timers_somebody_waits_for() {
        let time = Time::new(7);
        let (mut world, mut rng) = (World::default(), Rng::new(1));
        let start = time.now_ms();
        for (skew, wait) in [(0, 100), (-50, 20), (30, 500)] {
            let clock = SimClock::new(time.clone(), skew);
            world.spawn(Box::pin(async move { clock.sleep_until(clock.now_ms() + wait).await }));
        }
        while world.step(&mut rng) != Stepped::Idle {}
        let abandoned = world.spawn({
            let clock = SimClock::new(time.clone(), 0);
            Box::pin(async move { clock.sleep_until(u64::MAX - 1).await })
        });
        while world.step(&mut rng) != Stepped::Idle {}
        world.kill(abandoned);
        let mut woken = Vec::new();
        while time.advance() {
            woken.push(time.now_ms() - start);
            while world.step(&mut rng) != Stepped::Idle {}
        }
        assert_eq!(woken, [20, 100, 500]);
    }

    #[test]
    fn the_same_seed_gives_the_same_run() {
        let run = |seed| {
            let (mut world, mut rng) = (World::default(), Rng::new(seed));
            (0..5).for_each(|_| _ = world.spawn(counter(&Arc::default(), 10)));
            std::iter::from_fn(|| Some(world.step(&mut rng)).filter(|s| *s != Stepped::Idle))
                .map(|s| format!("{s:?}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }
}
