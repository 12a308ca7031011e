//! One process at work: from a checked configuration to running loops, and what it tells of itself.
//! All state is in the log and on the platforms, so a node may die at any point (P10): the next one
//! takes over from there. It decides nothing about data; it opens, wires and watches.

pub mod asks;
pub mod board;
pub mod control;
pub mod copies;
pub mod dataset;
pub mod decide;
pub mod desk;
pub mod http;
pub mod identity;
pub mod inspect;
pub mod leftovers;
pub mod letters;
pub mod log;
pub mod mode;
pub mod roster;
pub mod rules;

mod agents;
mod exclusive;
mod gate;
mod hints;
mod leased;
mod lineages;
mod loops;
mod partition;
mod project;
mod readers;
mod reporter;
mod show;
mod tasks;
mod tend;
mod verify;

use crate::config::dataset::guarantee_name;
use crate::config::{self, Config};
use crate::govern::{self, Party, Policy};
use crate::runtime::clock::Clock;
use crate::runtime::error::{Error, Result};
use crate::runtime::stop::Stop;
use crate::state::Memory;
use crate::topic::{Raw, Session};
use board::{Board, Post, Report, Work};
use control::Control;
use loops::Loops;
use roster::Roster;
use std::convert::Infallible;
use std::sync::Arc;

/// A running node.
pub struct Node {
    config: Arc<Config>,
    loops: Loops,
    begun_ms: u64,
    /// What datasets are made ready with comes in many small appends, and a producer takes up to a second to begin.
    _session: Arc<dyn Session<Raw>>,
}

/// What may be asked of a running node, from any task.
#[derive(Clone)]
pub struct View {
    /// What it runs.
    pub config: Arc<Config>,
    /// Its log.
    pub log: log::Opened,
    /// Its loops.
    pub board: Arc<Board>,
    clock: Arc<dyn Clock>,
    control: Control,
}

impl Node {
    /// Opens the log and starts every dataset. What cannot start stays on the board with its reason,
    /// and the rest runs.
    ///
    /// # Errors
    /// If the log cannot be opened. A dataset whose flow the policy forbids does not start.
    pub async fn start(config: Arc<Config>, policy: &'static dyn Policy, clock: Arc<dyn Clock>) -> Result<Node> {
        let identity = identity::Identity::of(&config.data_dir, &*clock);
        let log = log::Opened::open_as(&config.log, clock.clone(), identity).await?;
        let session = log.raw.session().await?;
        let roster = Roster::open(log.raw.clone(), clock.clone(), &config.log.prefix).await?;
        let memory = Memory::open((config.memory_mb as usize) << 20, &config.data_dir.join("state"))?;
        let control = Control::new(roster);
        let loops = Loops {
            log,
            clock,
            board: Arc::default(),
            memory,
            tasks: tasks::Tasks::new(),
            control: control.clone(),
            config: config.clone(),
            policy,
            stop: Stop::default(),
            shares: Arc::default(),
        };
        loops.follow_control();
        let (board, time, begun_ms) = (loops.board.clone(), loops.clock.clone(), loops.clock.now_ms());
        loops.tasks.spawn(async move { reporter::report(&board, &*time).await });
        for dataset in &config.datasets {
            let post = loops.board.post(Post::new(&dataset.name.as_str().into(), &"".into(), Work::Prepare));
            let members = dataset::members(&config, dataset)?;
            let (name, config, roster, inner) =
                (dataset.name.clone(), config.clone(), control.roster.clone(), loops.clone());
            loops.tasks.spawn(async move {
                let attempt = || async {
                    let Some(dataset) = config.dataset(&name) else { return std::future::pending().await };
                    // Before a job begins.
                    allowed(&config, dataset, policy, None)?;
                    let compression = config.log.compression;
                    let ready = dataset::prepare(&inner.log, &roster, dataset, members.clone(), compression).await?;
                    post.done();
                    inner.start(&Arc::new(ready));
                    std::future::pending::<Result<Infallible>>().await
                };
                inner.tend(&post, &inner.stop, attempt).await;
            });
        }
        Ok(Node { config, loops, begun_ms, _session: session })
    }

    /// For those who ask.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            config: self.config.clone(),
            log: self.loops.log.clone(),
            board: self.loops.board.clone(),
            clock: self.loops.clock.clone(),
            control: self.loops.control.clone(),
        }
    }

    /// Hands over what this node holds, ends all loops and closes the log. What does not hand over in
    /// time is ended where it stands; the next owner finds in the log how far it was.
    pub async fn stop(self) {
        self.loops.stop.ask();
        self.loops.shares.gone().await;
        self.loops.tasks.end().await;
        let span_ms = self.loops.clock.now_ms().saturating_sub(self.begun_ms);
        reporter::tell_all(&self.loops.board, span_ms);
    }
}

impl View {
    /// The status now.
    ///
    /// # Errors
    /// If the log cannot be asked.
    pub async fn report(&self) -> Result<Report> {
        let mut report = self.board.report(&self.log.coded, &*self.clock).await?;
        self.add_findings(&mut report);
        self.add_guarantees(&mut report);
        self.add_copies(&mut report);
        for (name, meetings) in self.asks().await? {
            let dataset = report.datasets.entry(name.clone()).or_default();
            let text =
                format!("nothing is written before you have looked at the counts; `driftless resume {name}` begins");
            dataset.findings.push(text);
            dataset.asks = Some(meetings);
        }
        Ok(report)
    }

    /// who-3
    fn add_guarantees(&self, report: &mut Report) {
        for (name, dataset) in &mut report.datasets {
            let Some(config) = self.config.dataset(name) else { continue };
            for (name, platform) in &mut dataset.platforms {
                let part = self.config.platforms.get(name).map(|platform| config.part(platform));
                platform.guarantee = part.filter(|p| p.receives).map_or("", |p| guarantee_name(p.guarantee));
            }
        }
    }

    /// The conflicts of all datasets, or of one, oldest first.
    ///
    /// # Errors
    /// As the log has them.
    pub async fn conflicts(&self, dataset: Option<&str>) -> Result<Vec<inspect::ConflictInfo>> {
        inspect::list_conflicts(&self.log, self.clock.clone(), &self.config, dataset).await
    }

    /// What a rule would have made of the recorded conflicts.
    ///
    /// # Errors
    /// As `rules::try_rule`.
    pub async fn try_rule(&self, trial: &rules::Trial) -> Result<rules::TrialInfo> {
        rules::try_rule(&self.log, self.clock.clone(), &self.config, trial).await
    }
}

/// The policy is asked again when a dataset begins, about all platforms that are written, and before each
/// write, about that one.
fn allowed(config: &Config, dataset: &config::Dataset, policy: &dyn Policy, only: Option<&str>) -> Result<()> {
    let from = Party { name: &dataset.name, labels: &dataset.labels };
    let receivers = dataset.platforms().filter(|name| only.is_none_or(|only| only == *name));
    let receivers = receivers.filter_map(|name| config.platforms.get(name));
    for platform in receivers.filter(|platform| dataset.part(platform).receives) {
        govern::may_flow(policy, from, platform.party()).map_err(Error::from)?;
    }
    Ok(())
}
