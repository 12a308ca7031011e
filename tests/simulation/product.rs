//! What the product has to be for the simulation: tasks, one per role and partition, that are
//! given a log, platforms and a clock. Nothing is assumed of their inside.

use super::executor::Task;
use super::workload::Policy;
use driftless::connectors::contract::{Exclusive, LogPlatform, Store};
use driftless::event::{ActorId, PlatformNo, Record};
use driftless::runtime::clock::Clock;
use driftless::topic::lineages::Lineages;
use driftless::topic::memory::MemoryLog;
use driftless::topic::name::Topics;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A role of a deployment. Platforms are indexes into `Env::platforms`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum RoleId {
    /// Reads a LOG platform, all partitions (claim-9).
    Reader(usize),
    /// Writes one partition to a LOG platform.
    Sink(usize, u32),
    /// Writes one partition to a destination nobody else writes (who-3).
    Exclusive(usize, u32),
    /// Owns one partition of a HINT platform.
    Agent(usize, u32),
    /// Resolves one partition.
    Resolver(u32),
}

/// Where a role begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Start {
    /// Where its predecessor left off.
    Resume,
    /// At offset 0 of D, whatever was committed: a replay must change nothing (I8). Only asked of
    /// sinks and agents.
    Replay,
}

/// A platform as one instance of a role sees it.
#[derive(Clone)]
pub(crate) enum Access {
    Log(Arc<dyn LogPlatform>),
    Hint(Arc<dyn Store>),
    Exclusive(Arc<dyn Exclusive>),
}

#[derive(Clone)]
pub(crate) struct Platform {
    pub no: PlatformNo,
    pub name: Arc<str>,
    pub actor: ActorId,
    pub access: Access,
}

/// Everything an instance of a role is given. Each instance gets its own.
#[derive(Clone)]
pub(crate) struct Env {
    pub log: MemoryLog<Arc<Record>>,
    pub clock: Arc<dyn Clock>,
    pub platforms: Vec<Platform>,
    pub topics: Topics,
    /// The first platform alone writes, and its reader settles (resolve-9).
    pub fused: bool,
    /// The versions of the rows' schema; durable beside the log.
    pub lineages: Arc<dyn Lineages>,
    /// How conflicts are settled.
    pub policy: Policy,
    /// Whether the group still assigns this role to this instance (claim-8). Turns false, but not
    /// always, when a second instance is started; an instance that is fenced and sees false ends.
    pub assigned: Arc<AtomicBool>,
    /// Tells instances apart, in traces.
    pub instance: u32,
}

/// The code under test.
pub(crate) trait Product: Sync {
    /// The roles of this deployment; by default one of each kind per platform and partition.
    fn roles(&self, env: &Env) -> Vec<RoleId> {
        let partitions = 0..env.topics.partitions;
        let resolved = partitions.clone().filter(|_| !env.fused);
        let mut roles: Vec<RoleId> = resolved.map(RoleId::Resolver).collect();
        for (index, platform) in env.platforms.iter().enumerate() {
            match platform.access {
                Access::Log(_) => {
                    roles.extend((!env.fused || index == 0).then_some(RoleId::Reader(index)));
                    let applied = partitions.clone().filter(|_| !env.fused || index > 0);
                    roles.extend(applied.map(|p| RoleId::Sink(index, p)));
                }
                Access::Exclusive(_) => roles.extend(partitions.clone().map(|p| RoleId::Exclusive(index, p))),
                Access::Hint(_) => roles.extend(partitions.clone().map(|p| RoleId::Agent(index, p))),
            }
        }
        roles
    }

    /// Whether plain upsert consumers are looked after (claim-7).
    fn reasserts(&self) -> bool {
        true
    }

    /// An instance of a role. It may end when it is fenced or halts; it is then started again if it
    /// is the role's current instance.
    fn spawn(&self, env: Env, role: RoleId, start: Start) -> Task;
}
