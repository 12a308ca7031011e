//! What every LOG connector must do: snapshots, the reader, locked writes with their ledger rows.

use super::{ALL, Bench, Item, Subject, items};
use crate::connectors::contract::{Act, BatchLimit, Change, LogPlatform, Planned, Reader, Rows, Seen, Written};
use crate::event::{Canonical, Fp, Key, LedgerEntry, Position, Row};
use std::sync::Arc;

/// A change with its place.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Logged {
    at: Position,
    time_ms: u64,
    change: Change,
}

/// Reads until everything up to `goal` was returned; positions only ever rise (read-2).
async fn read_to(reader: &mut dyn Reader, goal: Position, limit: BatchLimit) -> (Vec<Logged>, Position) {
    let (mut all, mut through): (Vec<Logged>, _) = (Vec::new(), Position::START);
    while through < goal {
        let batch = reader.next(limit).await.expect("the log is read");
        for transaction in batch.transactions {
            for (ordinal, change) in (transaction.first..).zip(transaction.changes) {
                let at = Position::new(transaction.commit, ordinal);
                assert!(all.last().is_none_or(|last| last.at < at), "{at:?} comes behind {:?}", all.last());
                assert!(at > through, "{at:?} was said to be returned already: {through:?}");
                all.push(Logged { at, time_ms: transaction.time_ms, change });
            }
        }
        assert!(batch.through >= through, "{:?} is before {through:?}", batch.through);
        assert!(all.last().is_none_or(|last| last.at <= batch.through), "more was returned than is said");
        through = batch.through;
    }
    (all, through)
}

/// All changes from `from` to now.
pub(super) async fn read_on(platform: &dyn LogPlatform, from: Position) -> Vec<Logged> {
    let goal = platform.position().await.expect("the log has a position");
    let mut reader = platform.reader(from).await.expect("a reader opens");
    read_to(&mut *reader, goal, ALL).await.0
}

/// Uses everything that may leave something behind.
pub(super) async fn leave_traces<S: Subject>(bench: &Bench<S>, platform: &dyn LogPlatform) {
    let from = now(platform).await;
    let new = items(7..8)[0].row();
    let mut rows = writer(platform).await;
    let planned =
        [plan(&*rows, bench.version(1, &new), Act::Write), plan(&*rows, bench.version(2, &item(1)), Act::Dirty)];
    assert_eq!(apply(&mut *rows, &planned).await, vec![Written::Done; 2]);
    assert!(!read_on(platform, from).await.is_empty());
}

async fn now(platform: &dyn LogPlatform) -> Position {
    platform.position().await.expect("the log has a position")
}

async fn writer(platform: &dyn LogPlatform) -> Box<dyn Rows> {
    platform.rows().await.expect("a writer opens")
}

fn item(id: i64) -> Row {
    Item::new(id, "canonical", Some("2.25"), 9).row()
}

fn plan(rows: &dyn Rows, version: Canonical, act: Act) -> Planned {
    let fp = rows.norm(0, &version).unwrap_or(version.fp);
    Planned { version: Arc::new(version), fp, act }
}

/// Locks and writes at once.
async fn apply(rows: &mut dyn Rows, plan: &[Planned]) -> Vec<Written> {
    let keys: Vec<Key> = plan.iter().map(|p| p.version.key.clone()).collect();
    let locked = rows.lock(0, &keys).await.expect("nobody else holds a lock");
    locked.write(plan).await.expect("the plan is carried out")
}

async fn ledger(rows: &mut dyn Rows, keys: &[Key]) -> Vec<Option<LedgerEntry>> {
    rows.ledger(0, keys).await.expect("the ledger is read")
}

fn keys(plan: &[Planned]) -> Vec<Key> {
    plan.iter().map(|p| p.version.key.clone()).collect()
}

/// A data row of the log: its key, image and fingerprint.
fn row(logged: &Logged) -> Option<(Key, Option<Row>, Fp)> {
    match &logged.change {
        Change::Row { key, after, fp, .. } => Some((key.clone(), after.as_deref().cloned(), *fp)),
        _ => None,
    }
}

/// A ledger row of the log: its key, number and fingerprint.
fn entry(logged: &Logged) -> Option<(Key, u64, Fp)> {
    match &logged.change {
        Change::Ledger { key, entry: Some(entry), .. } => Some((key.clone(), entry.seq, entry.fp)),
        _ => None,
    }
}

/// who-5
pub(super) async fn a_snapshot_shows_what_is_there_and_can_be_resumed<S: Subject>(subject: S) {
    let bench = Bench::new(subject).await;
    let wanted = items(1..26);
    bench.put_all(&wanted).await;
    let platform = bench.log().await;
    let mut snapshot = platform.snapshot(0, None).await.expect("a snapshot begins");
    let late = Item::new(13, "changed meanwhile", None, 1);
    bench.subject.put(&late).await;
    let mut found = Vec::new();
    while let Some(rows) = snapshot.next(BatchLimit { rows_max: 7, ..ALL }).await.expect("the snapshot goes on") {
        assert!(!rows.is_empty());
        found.extend(rows);
    }
    let facts: Vec<(Key, Row, Fp)> = found.iter().map(|c| (c.key.clone(), (*c.row).clone(), c.fp)).collect();
    let fact = |i: &Item| (bench.key_of(i.id), i.row(), bench.fp(&i.row()));
    assert_eq!(facts, wanted.iter().map(fact).collect::<Vec<_>>());
    let from = snapshot.position();
    drop(snapshot);
    // The reader goes on exactly where the snapshot stands.
    let behind: Vec<_> = read_on(&*platform, from).await.iter().filter_map(row).collect();
    assert_eq!(behind, [(bench.key_of(13), Some(late.row()), bench.fp(&late.row()))]);
    for resumed in [1, 12, 25] {
        let mut rest = platform.snapshot(0, Some(&facts[resumed - 1].0)).await.expect("a snapshot resumes");
        let mut keys = Vec::new();
        while let Some(rows) = rest.next(ALL).await.expect("the snapshot goes on") {
            keys.extend(rows.into_iter().map(|r| r.key));
        }
        assert_eq!(keys, facts[resumed..].iter().map(|f| f.0.clone()).collect::<Vec<_>>());
    }
}

/// Makes changes of every kind; answers what a log must show of them.
async fn history<S: Subject>(bench: &Bench<S>) -> Vec<(Key, Option<Row>, Fp)> {
    let subject = &bench.subject;
    let mut wanted = Vec::new();
    for (id, name) in [(1, "a"), (2, "b"), (1, "c"), (1, "d"), (2, ""), (3, "e"), (2, "f")] {
        if name.is_empty() {
            subject.delete(id).await;
            wanted.push((bench.key_of(id), None, Fp::ABSENT));
        } else {
            let item = Item::new(id, name, Some("0.5"), id);
            subject.put(&item).await;
            wanted.push((bench.key_of(id), Some(item.row()), bench.fp(&item.row())));
        }
        subject.abandon(&Item::new(9, "never", None, 0)).await;
        subject.abandon(&Item::new(1, "never", None, 0)).await;
    }
    wanted
}

/// read-3
pub(super) async fn each_committed_change_is_seen_once_in_order<S: Subject>(subject: S) {
    let bench = Bench::new(subject).await;
    bench.put_all(&items(7..8)).await;
    let platform = bench.log().await;
    let mut reader = platform.reader(now(&*platform).await).await.expect("a reader opens");
    let wanted = history(&bench).await;
    let (seen, _) = read_to(&mut *reader, now(&*platform).await, ALL).await;
    assert_eq!(seen.iter().map(|l| row(l).expect("only rows were written")).collect::<Vec<_>>(), wanted);
    assert!(seen.is_sorted_by_key(|l| l.at.commit));
    assert!(seen.iter().all(|l| l.time_ms > 1_600_000_000_000), "the time of a commit is that of the source");
}

/// read-2
pub(super) async fn reading_from_an_old_position_repeats_exactly<S: Subject>(subject: S) {
    let bench = Bench::new(subject).await;
    let platform = bench.log().await;
    let from = now(&*platform).await;
    history(&bench).await;
    let mut rows = writer(&*platform).await;
    let planned: Vec<Planned> =
        (1..4_i64).map(|id| plan(&*rows, bench.version(id.cast_unsigned(), &item(id)), Act::Write)).collect();
    assert_eq!(apply(&mut *rows, &planned).await, vec![Written::Done; 3]);
    let all = read_on(&*platform, from).await;
    assert_eq!(all.len(), 7 + 6, "seven changes of the application, three rows and their ledger rows");
    let goal = now(&*platform).await;
    let mut small = platform.reader(from).await.expect("a reader opens again");
    assert_eq!(read_to(&mut *small, goal, BatchLimit { rows_max: 1, bytes_max: 1 }).await.0, all);
    drop(small);
    // A position inside a transaction too: the last one has several changes.
    for cut in [0, 6, 7, 9, 11] {
        assert_eq!(read_on(&*platform, all[cut].at).await, all[cut + 1..], "behind {:?}", all[cut].at);
    }
}

/// sink-4: what waits for a position is told rightly that it was passed.
pub(super) async fn a_reader_that_passed_a_position_has_seen_everything<S: Subject>(subject: S) {
    let bench = Bench::new(subject).await;
    let platform = bench.log().await;
    let mut reader = platform.reader(now(&*platform).await).await.expect("a reader opens");
    let mut rows = writer(&*platform).await;
    for round in 0..10 {
        let item = Item::new(1, &format!("round {round}"), None, round);
        bench.subject.put(&item).await;
        let wanted = bench.fp(&item.row());
        let goal = if round % 2 == 0 {
            now(&*platform).await
        } else {
            let locked = rows.lock(0, &[bench.key_of(1)]).await.expect("nobody else holds a lock");
            assert_eq!(locked.seen(0), Seen::Row { fp: wanted, ledger: None });
            locked.position()
        };
        let (seen, through) = read_to(&mut *reader, goal, ALL).await;
        assert!(through >= goal);
        assert_eq!(seen.iter().filter_map(row).map(|r| r.2).collect::<Vec<_>>(), [wanted], "round {round}");
    }
}

/// read-5
pub(super) async fn reading_goes_on_behind_a_released_position<S: Subject>(subject: S) {
    let bench = Bench::new(subject).await;
    let platform = bench.log().await;
    let from = now(&*platform).await;
    history(&bench).await;
    let mut reader = platform.reader(from).await.expect("a reader opens");
    let (seen, through) = read_to(&mut *reader, now(&*platform).await, ALL).await;
    assert_eq!(seen.len(), 7);
    reader.release(through).await.expect("what was read is released");
    let later = Item::new(5, "later", None, 5);
    bench.subject.put(&later).await;
    let goal = now(&*platform).await;
    let (rest, end) = read_to(&mut *reader, goal, ALL).await;
    drop(reader);
    assert_eq!(read_on(&*platform, through).await, rest);
    assert_eq!(rest.iter().filter_map(row).map(|r| r.1).collect::<Vec<_>>(), [Some(later.row())]);
    assert!(end >= goal);
}

/// read-1
pub(super) async fn a_write_shows_up_as_a_ledger_row_in_its_transaction<S: Subject>(subject: S) {
    let bench = Bench::new(subject).await;
    bench.put_all(&items(2..4)).await;
    let platform = bench.log().await;
    let from = now(&*platform).await;
    let mut rows = writer(&*platform).await;
    let versions = [bench.version(1, &item(1)), bench.version(2, &item(2)), bench.tombstone(3, 3)];
    let planned: Vec<Planned> = versions.into_iter().map(|v| plan(&*rows, v, Act::Write)).collect();
    assert_eq!(planned[2].fp, Fp::ABSENT);
    assert_eq!(apply(&mut *rows, &planned).await, vec![Written::Done; 3]);
    for (id, planned) in (1..).zip(&planned) {
        let found = bench.subject.find(id).await.map(|i| i.row());
        assert_eq!(found, planned.version.after.as_deref().cloned());
    }
    for (entry, p) in ledger(&mut *rows, &keys(&planned)).await.into_iter().zip(&planned) {
        let entry = entry.expect("what was written has a ledger row");
        assert_eq!((entry.seq, &entry.vv, entry.fp, entry.tomb), (p.version.seq, &p.version.vv, p.fp, p.version.tomb));
        assert_eq!(entry.ts, p.version.ts);
    }
    let seen = read_on(&*platform, from).await;
    assert_eq!(seen.len(), 6, "{seen:?}");
    for planned in &planned {
        let key = &planned.version.key;
        let of_ledger = seen.iter().find(|l| entry(l).is_some_and(|e| e.0 == *key)).expect("a ledger row");
        let of_data = seen.iter().find(|l| row(l).is_some_and(|r| r.0 == *key)).expect("a data row");
        assert_eq!(of_ledger.at.commit, of_data.at.commit, "row and ledger are one transaction");
        assert_eq!(entry(of_ledger), Some((key.clone(), planned.version.seq, planned.fp)));
        assert_eq!(row(of_data), Some((key.clone(), planned.version.after.as_deref().cloned(), planned.fp)));
    }
}

/// sink-1: whatever the answer says, nothing is changed.
pub(super) async fn a_replay_writes_nothing<S: Subject>(subject: S) {
    let bench = Bench::new(subject).await;
    let platform = bench.log().await;
    let mut rows = writer(&*platform).await;
    let planned =
        [plan(&*rows, bench.version(5, &item(1)), Act::Write), plan(&*rows, bench.version(6, &item(2)), Act::Write)];
    assert_eq!(apply(&mut *rows, &planned).await, vec![Written::Done; 2]);
    let edit = Item::new(1, "edited since", None, 1);
    bench.subject.put(&edit).await;
    bench.subject.delete(2).await;
    let known = ledger(&mut *rows, &keys(&planned)).await;
    let from = now(&*platform).await;
    let older = [
        plan(&*rows, bench.version(3, &item(1)), Act::Write),
        plan(&*rows, bench.tombstone(4, 1), Act::Write),
        plan(&*rows, bench.version(4, &item(2)), Act::Adopt),
    ];
    for stale in planned.iter().chain(&older) {
        apply(&mut *rows, std::slice::from_ref(stale)).await;
    }
    assert_eq!(read_on(&*platform, from).await, []);
    assert_eq!(ledger(&mut *rows, &keys(&planned)).await, known);
    assert_eq!((bench.subject.find(1).await, bench.subject.find(2).await), (Some(edit), None));
}

/// sink-3, sink-4
pub(super) async fn acts_that_do_not_write_leave_the_data_alone<S: Subject>(subject: S) {
    let bench = Bench::new(subject).await;
    let there = items(1..5);
    bench.put_all(&there).await;
    let platform = bench.log().await;
    let from = now(&*platform).await;
    let mut rows = writer(&*platform).await;
    let planned = [
        plan(&*rows, bench.version(1, &item(1)), Act::Dirty),
        plan(&*rows, bench.version(2, &item(2)), Act::Skip),
        plan(&*rows, bench.version(3, &there[2].row()), Act::Adopt),
        plan(&*rows, bench.version(4, &item(4)), Act::Defer),
        plan(&*rows, bench.version(5, &item(5)), Act::Dirty),
    ];
    assert_eq!(apply(&mut *rows, &planned).await, vec![Written::Done; 5]);
    for (id, wanted) in (1..).zip(there.iter().cloned().map(Some).chain([None])) {
        assert_eq!(bench.subject.find(id).await, wanted);
    }
    let seen = read_on(&*platform, from).await;
    let adopted = (bench.key_of(3), 3, bench.fp(&there[2].row()));
    assert_eq!(seen.iter().map(entry).collect::<Vec<_>>(), [Some(adopted)], "{seen:?}");
    let seqs: Vec<Option<u64>> =
        ledger(&mut *rows, &keys(&planned)).await.into_iter().map(|e| e.map(|e| e.seq)).collect();
    assert_eq!(seqs, [None, None, Some(3), None, None]);
    // What was parked is written once it is planned so.
    let again: Vec<Planned> = planned.iter().cloned().map(|p| Planned { act: Act::Write, ..p }).collect();
    assert_eq!(apply(&mut *rows, &again[..1]).await, [Written::Done]);
    assert_eq!(bench.subject.find(1).await.map(|i| i.row()), Some(item(1)));
}

/// sink-8
pub(super) async fn an_observed_row_shows_up_as_it_stands<S: Subject>(subject: S) {
    let bench = Bench::new(subject).await;
    let there = items(1..2);
    bench.put_all(&there).await;
    let platform = bench.log().await;
    let from = now(&*platform).await;
    let mut rows = writer(&*platform).await;
    let planned = [
        plan(&*rows, bench.version(1, &item(1)), Act::Observe),
        plan(&*rows, bench.version(2, &item(2)), Act::Observe),
    ];
    assert_eq!(apply(&mut *rows, &planned).await, vec![Written::Done; 2]);
    let observed = |l: &Logged| match &l.change {
        Change::Observed { key, image, fp, .. } => (key.clone(), image.as_deref().cloned(), *fp),
        other => panic!("only observations were written: {other:?}"),
    };
    let mut seen: Vec<_> = read_on(&*platform, from).await.iter().map(observed).collect();
    seen.sort_by_key(|s| s.1.is_none());
    let row = there[0].row();
    assert_eq!(seen, [(bench.key_of(1), Some(row.clone()), bench.fp(&row)), (bench.key_of(2), None, Fp::ABSENT)]);
    assert_eq!((bench.subject.find(1).await, bench.subject.find(2).await), (Some(there[0].clone()), None));
    assert_eq!(ledger(&mut *rows, &keys(&planned)).await, [None, None]);
}

/// sink-5
pub(super) async fn a_refused_row_costs_only_itself<S: Subject>(subject: S) {
    let bench = Bench::new(subject).await;
    let platform = bench.log().await;
    let from = now(&*platform).await;
    let mut rows = writer(&*platform).await;
    let planned = [
        plan(&*rows, bench.version(1, &item(1)), Act::Write),
        plan(&*rows, bench.version(2, &bench.subject.refused(2)), Act::Write),
        plan(&*rows, bench.version(3, &item(3)), Act::Write),
    ];
    let fates = apply(&mut *rows, &planned).await;
    assert!(
        matches!(&fates[..], [Written::Done, Written::Refused(why), Written::Done] if !why.is_empty()),
        "{fates:?}"
    );
    assert_eq!(bench.subject.find(1).await.map(|i| i.row()), Some(item(1)));
    assert_eq!(bench.subject.find(2).await, None);
    assert_eq!(bench.subject.find(3).await.map(|i| i.row()), Some(item(3)));
    let known = ledger(&mut *rows, &keys(&planned)).await;
    assert_eq!(known.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
    let seen = read_on(&*platform, from).await;
    assert!(seen.len() == 4 && !seen.iter().any(|l| row(l).is_some_and(|r| r.0 == bench.key_of(2))), "{seen:?}");
}

/// sink-2
pub(super) async fn a_dropped_lock_changes_nothing<S: Subject>(subject: S) {
    let bench = Bench::new(subject).await;
    let there = items(1..2);
    bench.put_all(&there).await;
    let platform = bench.log().await;
    let from = now(&*platform).await;
    let mut rows = writer(&*platform).await;
    let locked = rows.lock(0, &[bench.key_of(1), bench.key_of(2)]).await.expect("nobody else holds a lock");
    assert_eq!(locked.seen(0), Seen::Row { fp: bench.fp(&there[0].row()), ledger: None });
    assert_eq!(locked.seen(1), Seen::Row { fp: Fp::ABSENT, ledger: None });
    drop(locked);
    let edit = Item::new(1, "written at once", None, 1);
    bench.subject.put(&edit).await;
    let seen: Vec<_> = read_on(&*platform, from).await.iter().map(|l| row(l).map(|r| r.1)).collect();
    assert_eq!(seen, [Some(Some(edit.row()))]);
}

/// read-11: a version without content that is no deletion is outside the platform's filter.
pub(super) async fn a_row_that_is_not_seen_goes_and_its_ledger_row_says_so<S: Subject>(subject: S) {
    let bench = Bench::new(subject).await;
    let mut rows = writer(&*bench.log().await).await;
    let shown = plan(&*rows, bench.version(1, &item(1)), Act::Write);
    assert_eq!(apply(&mut *rows, &[shown]).await, [Written::Done]);
    let hidden = |seq, id| Canonical { after: None, ..bench.version(seq, &item(id)) };
    let planned = [plan(&*rows, hidden(2, 1), Act::Write), plan(&*rows, hidden(3, 2), Act::Adopt)];
    assert_eq!(apply(&mut *rows, &planned).await, vec![Written::Done; 2]);
    assert_eq!((bench.subject.find(1).await, bench.subject.find(2).await), (None, None));
    let known = ledger(&mut *rows, &keys(&planned)).await;
    assert!(known.iter().flatten().filter(|entry| entry.is_hidden() && !entry.tomb).count() == 2, "{known:?}");
}
