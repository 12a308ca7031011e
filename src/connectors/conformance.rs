//! One behaviour suite for all connectors. It asks the descriptor what a connector can do, and runs the
//! checks of that against the real thing, each on a fresh platform; a connector is done when it passes.
//! What only one connector can know stands in that connector's own tests. A check fails by panicking.

mod exclusive;
mod hint;
mod item;
mod log;

pub use item::{Item, item_schema};

use super::contract::{BatchLimit, Capture, Connector, Content, Descriptor, LogPlatform, Opened, Owned};
use super::contract::{Place, Scope};
use crate::event::{Ack, ActorId, Canonical, Cause, Dot, Fp, Hlc, Key, Origin, Row, Schema, Type, Value, Vv};
use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use item::{items, samples};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

/// A check that takes longer has failed.
const CHECK_MAX: Duration = Duration::from_secs(120);
/// More than any check needs.
const ALL: BatchLimit = BatchLimit { rows_max: 10_000, bytes_max: 64 << 20 };

/// A real platform with an application beside it. What it keeps ends with it.
#[async_trait]
pub trait Subject: Send + Sync + Sized + 'static {
    /// The connector under test.
    const DESCRIPTOR: &'static Descriptor;

    /// A platform of its own with an empty collection `items(id, name, price, stock)`.
    async fn fresh() -> Self;

    /// The connector's settings for it.
    fn settings(&self) -> serde_json::Value;

    /// Where the collection lies; with a schema if and only if the platform has none.
    fn place(&self) -> Place;

    /// A name for the dataset that no other test uses at the same server.
    fn dataset(&self) -> String {
        "shop".into()
    }

    /// The application writes a row, new or not, in a transaction of its own.
    async fn put(&self, item: &Item);

    /// The application deletes a row.
    async fn delete(&self, id: i64);

    /// The application reads a row.
    async fn find(&self, id: i64) -> Option<Item>;

    /// The application writes a row and takes it back before it is committed. LOG platforms only.
    async fn abandon(&self, _item: &Item) {}

    /// A row with this key that the store refuses when it is written.
    fn refused(&self, id: i64) -> Row;

    /// Everything of driftless' that a look from outside finds.
    async fn traces(&self) -> Vec<String>;
}

/// Runs all checks that fit the connector, each on a fresh platform.
///
/// # Panics
/// If one fails; all are tried before, and named.
pub async fn run<S: Subject>() {
    let mut failed = Vec::new();
    for (name, check) in checks::<S>() {
        let one = async { check(S::fresh().await).await };
        match AssertUnwindSafe(tokio::time::timeout(CHECK_MAX, one)).catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => failed.push(format!("{name} (not done after {CHECK_MAX:?})")),
            Err(_) => failed.push(name.to_owned()),
        }
    }
    assert!(failed.is_empty(), "{} does not conform:\n  {}", S::DESCRIPTOR.name, failed.join("\n  "));
}

type Check<S> = (&'static str, fn(S) -> BoxFuture<'static, ()>);

/// A check under its own name.
macro_rules! check {
    ($($name:ident)::+) => {
        (stringify!($($name)::+), |subject| Box::pin($($name)::+(subject)))
    };
}

fn checks<S: Subject>() -> Vec<Check<S>> {
    let mut list: Vec<Check<S>> = vec![
        check!(the_schema_is_the_platforms_or_the_datasets),
        check!(a_good_setup_has_no_fatal_finding),
        check!(opening_again_changes_nothing),
        check!(removing_leaves_the_data_and_nothing_else),
        check!(keys_and_fingerprints_are_the_canonical_ones),
    ];
    let of_capture: Vec<Check<S>> = match S::DESCRIPTOR.abilities.capture {
        Some(Capture::Log) => vec![
            check!(log::a_snapshot_shows_what_is_there_and_can_be_resumed),
            check!(log::each_committed_change_is_seen_once_in_order),
            check!(log::reading_from_an_old_position_repeats_exactly),
            check!(log::a_reader_that_passed_a_position_has_seen_everything),
            check!(log::reading_goes_on_behind_a_released_position),
            check!(log::a_write_shows_up_as_a_ledger_row_in_its_transaction),
            check!(log::a_replay_writes_nothing),
            check!(log::acts_that_do_not_write_leave_the_data_alone),
            check!(log::an_observed_row_shows_up_as_it_stands),
            check!(log::a_refused_row_costs_only_itself),
            check!(log::a_dropped_lock_changes_nothing),
            check!(log::a_row_that_is_not_seen_goes_and_its_ledger_row_says_so),
        ],
        Some(Capture::Hint) => vec![
            check!(hint::a_row_is_created_only_where_nothing_stands),
            check!(hint::a_row_is_replaced_only_if_its_token_holds),
            check!(hint::a_row_is_deleted_only_if_its_token_holds),
            check!(hint::what_is_written_is_read_back_with_its_norm),
            check!(hint::a_refused_row_leaves_nothing),
            check!(hint::a_listing_shows_all_keys_and_can_be_resumed),
            check!(hint::an_edit_is_followed_by_a_hint),
            check!(hint::a_fence_stops_an_older_owner),
        ],
        None => Vec::new(),
    };
    list.extend(of_capture);
    if S::DESCRIPTOR.abilities.exclusive {
        let of_exclusive: Vec<Check<S>> = vec![
            check!(exclusive::rows_and_mark_move_together),
            check!(exclusive::a_row_that_is_not_seen_goes),
            check!(exclusive::a_mark_moves_only_from_where_it_was),
            check!(exclusive::a_row_that_cannot_be_held_changes_nothing),
            check!(exclusive::rows_of_others_are_not_overwritten),
            check!(exclusive::another_life_goes_on_at_the_mark),
        ];
        list.extend(of_exclusive);
    }
    list
}

/// A subject with its connector.
struct Bench<S> {
    subject: S,
    connector: Box<dyn Connector>,
    scope: Scope,
    schema: Arc<Schema>,
}

impl<S: Subject> Bench<S> {
    async fn new(subject: S) -> Self {
        let connector = (S::DESCRIPTOR.open)(subject.settings(), "here").expect("the settings are good");
        let place = subject.place();
        let found = connector.schema(&place).await.expect("the schema can be asked for");
        let schema = found.map(Arc::new).or_else(|| place.schema.clone());
        let schema = schema.expect("a platform without a schema gets one with its place");
        let scope = Scope { dataset: subject.dataset(), collections: vec![place] };
        Bench { subject, connector, scope, schema }
    }

    async fn open(&self) -> Opened {
        let opened = self.connector.open(&self.scope).await.expect("the platform opens");
        self.as_promised(&opened);
        opened
    }

    fn as_promised(&self, opened: &Opened) {
        let found = match opened {
            Opened::Log(_) => Capture::Log,
            Opened::Hint(_) => Capture::Hint,
        };
        assert_eq!(S::DESCRIPTOR.abilities.capture, Some(found), "what is opened is what the descriptor promises");
    }

    fn key(&self, row: &Row) -> Key {
        Key::of_row(row, &self.schema).expect("the row has a key")
    }

    fn key_of(&self, id: i64) -> Key {
        self.key(&Item::new(id, "", None, 0).row())
    }

    fn fp(&self, row: &Row) -> Fp {
        Fp::of_row(&self.schema, row)
    }

    fn version(&self, seq: u64, row: &Row) -> Canonical {
        let dot = Dot { actor: ActorId(9), ctr: seq };
        Canonical {
            key: self.key(row),
            seq,
            id: seq,
            prev: seq - 1,
            origin: Origin::Input(seq),
            idx: 0,
            last: true,
            dot,
            vv: Vv::new().with(dot),
            ts: Hlc::from_ms(1_700_000_000_000 + seq),
            fp: self.fp(row),
            tomb: false,
            schema: self.schema.id,
            after: Some(Arc::new(row.clone())),
            by: dot.actor,
            cause: Cause::FastForward,
            ack: Ack::new(),
            rctr: 0,
            conflicted: 0,
            conflict: None,
            asked: None,
            copy: false,
        }
    }

    fn tombstone(&self, seq: u64, id: i64) -> Canonical {
        let version = self.version(seq, &Item::new(id, "", None, 0).row());
        Canonical { fp: Fp::ABSENT, tomb: true, after: None, ..version }
    }

    async fn log(&self) -> Box<dyn LogPlatform> {
        match self.open().await {
            Opened::Log(platform) => platform,
            Opened::Hint(_) => panic!("a LOG platform was promised"),
        }
    }

    /// All rows the platform shows, in the order of their ids.
    async fn facts(&self, opened: &Opened) -> Vec<(Key, Row, Fp)> {
        let mut facts = Vec::new();
        match opened {
            Opened::Log(platform) => {
                let mut snapshot = platform.snapshot(0, None).await.expect("a snapshot begins");
                while let Some(rows) = snapshot.next(ALL).await.expect("the snapshot goes on") {
                    facts.extend(rows.into_iter().map(|r| (r.key, (*r.row).clone(), r.fp)));
                }
            }
            Opened::Hint(store) => {
                let at = Owned { collection: 0, partition: 0, epoch: 1 };
                for key in store.list(0, None, 10_000).await.expect("the store lists its keys").keys {
                    let seen = store.read(at, &key, None).await.expect("a key is read");
                    let Content::Row(row) = seen.content else { panic!("a row was expected: {seen:?}") };
                    facts.push((key, (*row).clone(), seen.fp));
                }
            }
        }
        facts.sort_by_key(|(_, row, _)| id_of(row));
        facts
    }

    async fn put_all(&self, items: &[Item]) {
        for item in items {
            self.subject.put(item).await;
        }
    }
}

fn id_of(row: &Row) -> i64 {
    match row.get(0) {
        Some(Value::Int(id)) => *id,
        other => panic!("an id was expected: {other:?}"),
    }
}

/// The key and fingerprint each sample has once a connector reads what an application wrote, and the
/// fingerprint the connector foretells for it. Equal for all connectors (topic-4, value-1).
///
/// # Panics
/// If the platform does not work at all.
pub async fn facts<S: Subject>() -> Vec<(Key, Fp, Fp)> {
    let bench = Bench::new(S::fresh().await).await;
    bench.put_all(&samples()).await;
    let opened = bench.open().await;
    let mut known = Vec::new();
    for (key, row, fp) in bench.facts(&opened).await {
        let version = bench.version(1, &row);
        let norm = match &opened {
            Opened::Log(platform) => platform.rows().await.expect("a writer opens").norm(0, &version),
            Opened::Hint(store) => store.norm(0, &version),
        };
        known.push((key, fp, norm.expect("the row can be held")));
    }
    known
}

async fn keys_and_fingerprints_are_the_canonical_ones<S: Subject>(subject: S) {
    drop(subject);
    let wanted: Vec<(Key, Fp, Fp)> = samples().iter().map(Item::row).map(|row| canonical(&row)).collect();
    assert_eq!(facts::<S>().await, wanted);
}

/// By the schema all connectors are measured with.
fn canonical(row: &Row) -> (Key, Fp, Fp) {
    let schema = item_schema();
    let fp = Fp::of_row(&schema, row);
    (Key::of_row(row, &schema).expect("the row has a key"), fp, fp)
}

async fn the_schema_is_the_platforms_or_the_datasets<S: Subject>(subject: S) {
    let bench = Bench::new(subject).await;
    let place = &bench.scope.collections[0];
    let own = bench.connector.schema(place).await.expect("the schema can be asked for");
    assert_ne!(own.is_some(), place.schema.is_some(), "a schema comes from the platform or with the place");
    let (found, wanted) = (&bench.schema, item_schema());
    let shape = |s: &Schema| -> Vec<(String, bool, Type)> {
        let width = |ty: &Type| if matches!(ty, Type::Int(_)) { Type::Int(64) } else { ty.clone() };
        s.fields.iter().map(|f| (f.name.to_string(), f.nullable, width(&f.ty))).collect()
    };
    assert_eq!((shape(found), &found.key), (shape(&wanted), &wanted.key));
}

async fn a_good_setup_has_no_fatal_finding<S: Subject>(subject: S) {
    let bench = Bench::new(subject).await;
    let fatal = async |scope| {
        let findings = bench.connector.check(scope).await.expect("a check always answers");
        findings.into_iter().filter(|f| f.fatal).collect::<Vec<_>>()
    };
    assert_eq!(fatal(None).await, []);
    assert_eq!(fatal(Some(&bench.scope)).await, []);
    bench.put_all(&samples()).await;
    let _open = bench.open().await;
    assert_eq!(fatal(Some(&bench.scope)).await, []);
}

async fn opening_again_changes_nothing<S: Subject>(subject: S) {
    let bench = Bench::new(subject).await;
    let (before, after) = (items(1..4), items(4..6));
    bench.put_all(&before).await;
    let first = bench.open().await;
    let position = match &first {
        Opened::Log(platform) => Some(platform.position().await.expect("the log has a position")),
        Opened::Hint(_) => None,
    };
    let traces = bench.subject.traces().await;
    assert!(!traces.is_empty(), "an opened platform can be told from one that is not");
    let second = bench.open().await;
    let third = bench.connector.reopen(&bench.scope).await.expect("what was opened is opened again");
    bench.as_promised(&third);
    assert_eq!(bench.subject.traces().await, traces);
    bench.put_all(&after).await;
    let rows: Vec<Row> = before.iter().chain(&after).map(Item::row).collect();
    for opened in [&first, &second, &third] {
        let found: Vec<Row> = bench.facts(opened).await.into_iter().map(|f| f.1).collect();
        assert_eq!(found, rows);
    }
    if let (Some(from), Opened::Log(platform)) = (position, &third) {
        let seen = log::read_on(&**platform, from).await;
        assert_eq!(seen.len(), after.len(), "what was captured before is not lost: {seen:?}");
    }
}

async fn removing_leaves_the_data_and_nothing_else<S: Subject>(subject: S) {
    let bench = Bench::new(subject).await;
    assert_eq!(bench.subject.traces().await, Vec::<String>::new());
    bench.put_all(&samples()).await;
    match bench.open().await {
        Opened::Log(platform) => log::leave_traces(&bench, &*platform).await,
        Opened::Hint(store) => hint::leave_traces(&bench, &*store).await,
    }
    assert_eq!(bench.connector.remove(&bench.scope).await.expect("what was made is removed"), []);
    assert_eq!(bench.subject.traces().await, Vec::<String>::new());
    for item in samples().into_iter().chain(items(7..8)) {
        assert_eq!(bench.subject.find(item.id).await.as_ref(), Some(&item));
    }
    // The application does not notice, and the platform can be added again.
    bench.put_all(&items(8..9)).await;
    let again = bench.open().await;
    assert_eq!(bench.facts(&again).await.len(), samples().len() + 2);
}
