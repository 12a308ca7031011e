//! A dataset made ready: its platforms have numbers, its collections schemas and topics, and C says
//! under which rules and schemas its proposals are settled. Nothing on a platform is touched here.

use super::lineages::Kept;
use super::log::Opened;
use super::mode::{Mode, mode};
use super::project;
use super::roster::{Roster, Ruling};
use crate::config::dataset::Unfit;
use crate::config::{self, Bootstrap, Collection, SchemaChanges};
use crate::connectors::contract::{BatchLimit, Capture, Connector, Place, Scope};
use crate::event::lineage::{self, Step, Taken};
use crate::event::{self, ActorId, PlatformNo, Position, Resolution, Schema, SchemaId};
use crate::runtime::error::{Code, Error, Result};
use crate::settle;
use crate::topic::lineages::Lineages;
use crate::topic::name::Topics;
use crate::topic::registry;
use crate::topic::{Cleanup, Compression, Log, Partition, TopicSpec};
use crate::wrap::projection::Projection;
use futures_util::future::try_join_all;
use indexmap::IndexMap;
use std::sync::Arc;
use tokio::sync::Mutex;

/// A platform of a dataset.
#[derive(Clone)]
pub struct Member {
    /// Its name.
    pub name: Arc<str>,
    /// Its connector.
    pub connector: Arc<dyn Connector>,
    /// What it does in the dataset (who-2).
    pub part: config::Part,
    /// Whether it tells of its changes by a log.
    pub is_log: bool,
}

/// A collection that is ready.
#[derive(Clone)]
pub struct Ready {
    /// Its topics.
    pub topics: Topics,
    /// Its schema, with its id.
    pub schema: Arc<Schema>,
}

/// A dataset that is ready.
pub struct Dataset {
    /// As it is configured.
    pub config: config::Dataset,
    /// Its platforms, the source first.
    pub members: Vec<Member>,
    /// The actor of each member.
    pub actors: Vec<ActorId>,
    /// Its collections in order.
    pub collections: Vec<Ready>,
    /// Who settles its changes.
    pub mode: Mode,
    /// The versions of their schemas.
    pub lineages: Arc<Kept>,
}

/// Bytes of a batch at most.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// What its loops read at a time.
#[must_use]
pub(super) fn limit(dataset: &Dataset) -> BatchLimit {
    let rows_max = usize::try_from(dataset.config.batch_size).unwrap_or(usize::MAX);
    BatchLimit { rows_max, bytes_max: BATCH_BYTES_MAX }
}

/// The platforms of a dataset with their connectors; no I/O.
///
/// # Errors
/// If a platform is not defined, or its settings are refused.
pub fn members(config: &config::Config, dataset: &config::Dataset) -> Result<Vec<Member>> {
    let member = |name: &str| {
        let platform = config.platforms.get(name).ok_or_else(|| {
            Error::new(Code::ConfigMissing, "the platform is not defined under `platforms`").at("platform", name)
        })?;
        let (connector, part) = (Arc::from(platform.connector()?), dataset.part(platform));
        let is_log = platform.abilities().capture == Some(Capture::Log);
        Ok(Member { name: name.into(), connector, part, is_log })
    };
    dataset.platforms().map(member).collect()
}

/// The topics of the collections of a dataset (topic-1), in order.
#[must_use]
pub fn topics(prefix: &str, dataset: &config::Dataset) -> Vec<Topics> {
    let only = dataset.collections.len() == 1;
    let of = |c: &Collection| Topics::new(prefix, &dataset.name, (!only).then_some(&*c.name), dataset.partitions);
    dataset.collections.iter().map(of).collect()
}

/// Where a collection lies on a platform.
#[must_use]
pub fn place(dataset: &config::Dataset, collection: &Collection, platform: &str, schema: Option<Arc<Schema>>) -> Place {
    let partitions = dataset.partitions;
    Place { name: collection.name.clone(), on: collection.place(platform), schema, partitions }
}

/// Where a dataset lies on a platform, with the schemas the configuration gives.
#[must_use]
pub fn scope(dataset: &config::Dataset, platform: &str) -> Scope {
    let place = |c: &Collection| place(dataset, c, platform, c.schema().map(|all| seen(dataset, c, platform, all)));
    Scope { dataset: dataset.name.clone(), collections: dataset.collections.iter().map(place).collect() }
}

/// What a platform sees of a collection. What is wrong with a view is told when the dataset is made ready.
fn seen(dataset: &config::Dataset, collection: &Collection, platform: &str, whole: Schema) -> Arc<Schema> {
    let whole = Arc::new(whole);
    let projection = Projection::of(&collection.excerpt(platform, platform == dataset.source), &whole);
    projection.ok().flatten().map_or(whole, |projection| projection.schema().clone())
}

/// Where a dataset lies on a platform, with the schemas `run` would take: as configured, else as
/// another platform has them, if it can be asked.
pub async fn known_scope(dataset: &config::Dataset, platform: &str, members: &[Member]) -> Scope {
    let mut known = scope(dataset, platform);
    for (place, collection) in known.collections.iter_mut().zip(&dataset.collections) {
        if place.schema.is_none() {
            let found = schema(dataset, collection, members).await.ok();
            let whole = found.and_then(|(found, _)| project::travelling(found, dataset, collection, members).ok());
            place.schema = whole.map(|whole| seen(dataset, collection, platform, whole));
        }
    }
    known
}

/// Makes a dataset ready. Idempotent; a new node finds what an earlier one made.
///
/// # Errors
/// As the log and the platforms have them.
pub async fn prepare(
    log: &Opened,
    roster: &Arc<Mutex<Roster>>,
    config: &config::Dataset,
    members: Vec<Member>,
    compression: Compression,
) -> Result<Dataset> {
    let mode = mode(log, &*roster.lock().await, config, &members).await?;
    let (actors, rules) = seats(&mut *roster.lock().await, config, &members).await?;
    let mut collections = Vec::with_capacity(config.collections.len());
    let all = topics(&log.prefix, config);
    let named = config.collections.iter().zip(&all).map(|(c, topics)| (c.clone(), topics.dataset(0).topic));
    let lineages = Kept {
        log: log.clone(),
        roster: roster.clone(),
        dataset: config.name.clone(),
        collections: named.collect(),
        may_change: config.schema_changes == SchemaChanges::Evolve,
    };
    for (number, (collection, topics)) in (0..).zip(config.collections.iter().zip(all)) {
        create(log, &topics, &members, compression).await?;
        let versions = versions(&lineages, number, config, collection, &members, &actors).await?;
        fitting(config, collection, &versions)?;
        let told = (0..topics.partitions).map(|index| topics.changes(index)).map(async |changes| {
            settle::announce(&log.coded, &changes, &versions).await?;
            settle::rule(&log.coded, &changes, &rules.of(&collection.name)).await
        });
        try_join_all(told).await?;
        let Some(schema) = versions.last().cloned() else {
            return Err(Error::new(Code::Unexpected, "a collection has no schema").at("collection", &collection.name));
        };
        collections.push(Ready { topics, schema });
    }
    Ok(Dataset { config: config.clone(), members, actors, collections, mode, lineages: Arc::new(lineages) })
}

/// Whether each rule can hold: for one version of the schema at least, because a field that was dropped since is no
/// reason to stop.
fn fitting(config: &config::Dataset, collection: &config::Collection, versions: &[Arc<Schema>]) -> Result<()> {
    let of = |schema: &Arc<Schema>| config.unfit(collection, schema);
    let Some(newest) = versions.last().map(of) else { return Ok(()) };
    let never = |unfit: &&Unfit| versions.iter().all(|schema| of(schema).iter().any(|u| u.path == unfit.path));
    let Some(Unfit { key, path, why }) = newest.iter().find(never) else { return Ok(()) };
    let path = if *key == "merge" { format!("merge.fields.{path}") } else { format!("{key}.{path}") };
    let at = format!("{} {path}", config.lines.of(key));
    Err(Error::new(Code::ConfigInvalid, format!("a rule of `{}` cannot hold: {why}", collection.name)).at("rule", at))
}

/// The versions of a collection's schema, the newest last and ready to be written under: what the
/// configuration says, else what the platforms have made of it since it was first taken (read-10).
async fn versions(
    lineages: &Kept,
    number: u16,
    config: &config::Dataset,
    collection: &Collection,
    members: &[Member],
    actors: &[ActorId],
) -> Result<Vec<Arc<Schema>>> {
    let steps = match collection.schema() {
        Some(schema) => {
            let schema = project::travelling(schema, config, collection, members)?;
            lineages.set(number, &schema, ActorId::RESOLVER).await?
        }
        None => {
            let steps = lineages.steps(number).await?;
            match steps.last().filter(|newest| newest.by != ActorId::RESOLVER) {
                Some(_) => at_start(lineages, number, config, collection, members, actors, steps).await?,
                None => {
                    let (schema, of) = schema(config, collection, members).await?;
                    let schema = project::travelling(schema, config, collection, members)?;
                    lineages.set(number, &schema, actors.get(of).copied().unwrap_or_default()).await?
                }
            }
        }
    };
    Ok(steps.into_iter().map(|step| step.schema).collect())
}

/// who-7: the actors of the members, and the rules in their numbers.
async fn seats(roster: &mut Roster, config: &config::Dataset, members: &[Member]) -> Result<(Vec<ActorId>, Ruling)> {
    let mut numbers: IndexMap<&str, PlatformNo> = IndexMap::new();
    let mut actors = Vec::with_capacity(members.len());
    for member in members {
        let actor = roster.seat(&config.name, &member.name).await?;
        numbers.insert(&member.name, actor.platform());
        actors.push(actor);
    }
    let priority: Vec<PlatformNo> =
        config.priority.iter().filter_map(|name| numbers.get(name.as_str()).copied()).collect();
    let bootstrap = match config.bootstrap {
        // Who asks is asked about the writes, not about what wins.
        Bootstrap::SourceWins | Bootstrap::Ask => {
            event::Bootstrap::Source(numbers.get(config.source.as_str()).copied().unwrap_or_default())
        }
        Bootstrap::LatestWins => event::Bootstrap::Latest,
    };
    let named = |mut resolution: Resolution| {
        if let Resolution::Custom(custom) = &mut resolution {
            custom.names = numbers.iter().map(|(name, number)| (*number, (*name).into())).collect();
        }
        resolution
    };
    let resolutions = config.collections.iter().map(|c| (c.name.clone(), named(config.resolution(c)))).collect();
    let rules = roster.rules(&config.name, &Ruling { version: 0, priority, bootstrap, resolutions }).await?;
    Ok((actors, rules))
}

/// A source that does not tell of its table's changes while it runs is looked at when it starts.
async fn at_start(
    lineages: &Kept,
    number: u16,
    config: &config::Dataset,
    collection: &Collection,
    members: &[Member],
    actors: &[ActorId],
    steps: Vec<Step>,
) -> Result<Vec<Step>> {
    let (Some(source), Some(&me), Some(first)) = (members.first(), actors.first(), steps.first()) else {
        return Ok(steps);
    };
    if source.connector.tells_forms() || first.by != me {
        return Ok(steps);
    }
    let place = place(config, collection, &source.name, None);
    let Some(form) = source.connector.schema(&place).await? else { return Ok(steps) };
    let form = lineages.listed(number, &keyed(form, collection)?)?;
    match lineage::take(&steps, me, Position::end_of(u64::MAX), None, &form)? {
        Taken::As(_) => Ok(steps),
        Taken::New(schema) => {
            let newest = steps.last().map_or(SchemaId(0), |step| step.schema.id);
            lineages.add(number, newest, &schema, me, Position::START).await
        }
    }
}

/// The schema of a collection as the source has it, else as another platform has it, and whose it is.
async fn schema(config: &config::Dataset, collection: &Collection, members: &[Member]) -> Result<(Schema, usize)> {
    for (of, member) in members.iter().enumerate() {
        let place = place(config, collection, &member.name, None);
        if let Some(found) = member.connector.schema(&place).await? {
            return Ok((keyed(found, collection)?, of));
        }
    }
    let text = "no platform has this collection, so its fields are not known; create it on the source, or give \
                `fields` and `key`";
    Err(Error::new(Code::TableMissing, text).at("dataset", &config.name).at("collection", &collection.name))
}

/// With the key the configuration names, if it names one.
fn keyed(mut schema: Schema, collection: &Collection) -> Result<Schema> {
    let Some(key) = &collection.key else { return Ok(schema) };
    let index = |name: &String| {
        schema.index_of(name).ok_or_else(|| {
            let text = format!("the configured key names the field `{name}`, which the platform does not have");
            Error::new(Code::ConfigInvalid, text).at("collection", &collection.name)
        })
    };
    schema.key = key.iter().map(index).collect::<Result<_>>()?;
    Ok(schema)
}

async fn create(log: &Opened, topics: &Topics, members: &[Member], compression: Compression) -> Result<()> {
    let specs = specs(topics, members.iter().map(|member| &*member.name), compression);
    try_join_all(specs.iter().map(|spec| log.coded.create(spec))).await.map(|_| ())
}

/// topic-6: the topics of a collection that lies on `platforms`.
fn specs<'a>(topics: &Topics, platforms: impl Iterator<Item = &'a str>, compression: Compression) -> Vec<TopicSpec> {
    let compacted = [topics.state(0), topics.conflicts(0), topics.blobs(0)].into_iter();
    let compacted = compacted.chain(platforms.map(|platform| topics.ledger(platform, 0)));
    let kept = [topics.dataset(0), topics.changes(0), topics.dead(0)];
    let all = kept.map(|at| (at, Cleanup::Keep)).into_iter().chain(compacted.map(|at| (at, Cleanup::Compact)));
    let partitions = topics.partitions;
    all.map(|(Partition { topic, .. }, cleanup)| TopicSpec { topic, partitions, cleanup, compression }).collect()
}

/// All topics of a configuration, as `run` would make them.
#[must_use]
pub fn all_specs(config: &config::Config) -> Vec<TopicSpec> {
    let config::Log { prefix, compression, place } = &config.log;
    let schemas = place.registry().is_none().then(|| registry::topic(prefix));
    let of = |dataset: &config::Dataset| -> Vec<TopicSpec> {
        let all = topics(prefix, dataset);
        all.iter().flat_map(|topics| specs(topics, dataset.platforms(), *compression)).collect()
    };
    let own = schemas.into_iter().chain([super::roster::topic(prefix)]);
    own.chain(config.datasets.iter().flat_map(of)).collect()
}
