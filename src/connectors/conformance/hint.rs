//! What every HINT connector must do: conditional writes with a witness, listings, hints, fences.

use super::{Bench, Item, Subject, items, samples};
use crate::connectors::contract::{Content, Guarantee, Observed, Opened, Outcome, Owned, Store};
use crate::event::{Fp, Hlc, Intent, Key, Landed, Row, Token, Vv};
use crate::runtime::error::Code;
use std::collections::HashSet;
use std::sync::Arc;

const AT: Owned = Owned { collection: 0, partition: 0, epoch: 1 };

/// An opened store, owned at epoch 1.
async fn owned<S: Subject>(subject: S) -> (Bench<S>, Arc<dyn Store>) {
    let bench = Bench::new(subject).await;
    let store = another(&bench).await;
    store.fence(0, 0, AT.epoch).await.expect("the first owner fences");
    (bench, store)
}

async fn another<S: Subject>(bench: &Bench<S>) -> Arc<dyn Store> {
    match bench.open().await {
        Opened::Hint(store) => store,
        Opened::Log(_) => panic!("a HINT store was promised"),
    }
}

/// Uses everything that may leave something behind, and writes the item with the id 7.
pub(super) async fn leave_traces<S: Subject>(bench: &Bench<S>, store: &dyn Store) {
    store.fence(0, 0, AT.epoch).await.expect("the first owner fences");
    let row = items(7..8)[0].row();
    let (created, _) = write(bench, store, 1, Some(&row), 7, None).await;
    assert!(matches!(created, Outcome::Done(Some(_))), "{created:?}");
    let (refused, _) = write(bench, store, 2, None, 7, None).await;
    assert_eq!(refused, Outcome::Mismatch);
}

fn intent(iid: u64, key_fp: Fp, expect: Option<Token>) -> Intent {
    let tomb = key_fp == Fp::ABSENT;
    let (ts, schema) = (Hlc::from_ms(1_700_000_000_000), crate::event::SchemaId(0));
    Intent { iid, seq: iid, vv: Vv::new(), fp: key_fp, ts, tomb, schema, expect, exp_ms: u64::MAX }
}

/// One conditional write of `id`, and its intent.
async fn write<S: Subject>(
    bench: &Bench<S>,
    store: &dyn Store,
    iid: u64,
    row: Option<&Row>,
    id: i64,
    expect: Option<Token>,
) -> (Outcome, Intent) {
    let intent = intent(iid, row.map_or(Fp::ABSENT, |r| bench.fp(r)), expect);
    let outcome = store.cas(AT, &bench.key_of(id), row, &intent).await.expect("a write is answered");
    (outcome, intent)
}

async fn read(store: &dyn Store, key: &Key, intent: Option<&Intent>) -> Observed {
    store.read(AT, key, intent).await.expect("a key is read")
}

fn item(name: &str) -> Row {
    Item::new(1, name, Some("1.25"), 1).row()
}

/// What stands at 1 is this, for the application and for the store; the witness says `landed`.
async fn stands<S: Subject>(bench: &Bench<S>, store: &dyn Store, row: Option<&Row>, asked: (&Intent, Landed)) {
    let found = bench.subject.find(1).await.map(|i| i.row());
    assert_eq!(found.as_ref(), row, "what the application finds");
    let seen = read(store, &bench.key_of(1), Some(asked.0)).await;
    let wanted = row.map_or(Content::Absent, |r| Content::Row(Arc::new(r.clone())));
    assert_eq!((seen.content, seen.fp), (wanted, row.map_or(Fp::ABSENT, |r| bench.fp(r))));
    assert_eq!(seen.token.is_some(), row.is_some(), "only what is there has a token");
    if S::DESCRIPTOR.abilities.guarantee == Guarantee::Exact {
        assert_eq!(seen.landed, asked.1, "the witness of {:?}", asked.0);
    } else {
        assert!(seen.landed == asked.1 || seen.landed == Landed::Unknown, "{:?}", seen.landed);
    }
}

/// agent-3
pub(super) async fn a_row_is_created_only_where_nothing_stands<S: Subject>(subject: S) {
    let (bench, store) = owned(subject).await;
    let (created, first) = write(&bench, &*store, 1, Some(&item("a")), 1, None).await;
    let Outcome::Done(Some(token)) = created else { panic!("it was not created: {created:?}") };
    assert_eq!(read(&*store, &bench.key_of(1), None).await.token, Some(token));
    stands(&bench, &*store, Some(&item("a")), (&first, Landed::Yes)).await;
    let (refused, second) = write(&bench, &*store, 2, Some(&item("b")), 1, None).await;
    assert_eq!(refused, Outcome::Mismatch);
    stands(&bench, &*store, Some(&item("a")), (&second, Landed::No)).await;
    stands(&bench, &*store, Some(&item("a")), (&first, Landed::Yes)).await;
    // Nor over what an application wrote.
    let theirs = Item::new(1, "theirs", None, 4);
    bench.subject.put(&theirs).await;
    let (refused, third) = write(&bench, &*store, 3, Some(&item("c")), 1, None).await;
    assert_eq!(refused, Outcome::Mismatch);
    stands(&bench, &*store, Some(&theirs.row()), (&third, Landed::No)).await;
    // What was never sent did not land.
    stands(&bench, &*store, Some(&theirs.row()), (&intent(99, Fp::ABSENT, None), Landed::No)).await;
}

/// agent-3
pub(super) async fn a_row_is_replaced_only_if_its_token_holds<S: Subject>(subject: S) {
    let (bench, store) = owned(subject).await;
    bench.subject.put(&Item::new(1, "theirs", None, 1)).await;
    let old = read(&*store, &bench.key_of(1), None).await.token;
    assert!(old.is_some());
    let (replaced, first) = write(&bench, &*store, 1, Some(&item("a")), 1, old.clone()).await;
    let Outcome::Done(Some(new)) = replaced else { panic!("it was not replaced: {replaced:?}") };
    assert_ne!(Some(&new), old.as_ref());
    stands(&bench, &*store, Some(&item("a")), (&first, Landed::Yes)).await;
    let (stale, second) = write(&bench, &*store, 2, Some(&item("b")), 1, old).await;
    assert_eq!(stale, Outcome::Mismatch);
    stands(&bench, &*store, Some(&item("a")), (&second, Landed::No)).await;
    let edit = Item::new(1, "edited unseen", Some("7"), 1);
    bench.subject.put(&edit).await;
    let (unseen, third) = write(&bench, &*store, 3, Some(&item("c")), 1, Some(new)).await;
    assert_eq!(unseen, Outcome::Mismatch);
    stands(&bench, &*store, Some(&edit.row()), (&third, Landed::No)).await;
    let seen = read(&*store, &bench.key_of(1), None).await.token;
    bench.subject.delete(1).await;
    let (gone, fourth) = write(&bench, &*store, 4, Some(&item("d")), 1, seen).await;
    assert_eq!(gone, Outcome::Mismatch);
    stands(&bench, &*store, None, (&fourth, Landed::No)).await;
    let aside = store.displaced(AT).await.expect("what lies aside is told");
    assert_eq!(aside, [], "every edit is in its place");
}

/// agent-3
pub(super) async fn a_row_is_deleted_only_if_its_token_holds<S: Subject>(subject: S) {
    let (bench, store) = owned(subject).await;
    bench.subject.put(&Item::new(1, "theirs", None, 1)).await;
    let old = read(&*store, &bench.key_of(1), None).await.token;
    let edit = Item::new(1, "edited unseen", Some("7"), 1);
    bench.subject.put(&edit).await;
    let (stale, first) = write(&bench, &*store, 1, None, 1, old).await;
    assert_eq!(stale, Outcome::Mismatch);
    stands(&bench, &*store, Some(&edit.row()), (&first, Landed::No)).await;
    let token = read(&*store, &bench.key_of(1), None).await.token;
    let (deleted, second) = write(&bench, &*store, 2, None, 1, token.clone()).await;
    assert_eq!(deleted, Outcome::Done(None));
    stands(&bench, &*store, None, (&second, Landed::Yes)).await;
    let (again, third) = write(&bench, &*store, 3, None, 1, token).await;
    assert_eq!(again, Outcome::Mismatch);
    stands(&bench, &*store, None, (&third, Landed::No)).await;
    let (created, fourth) = write(&bench, &*store, 4, Some(&item("a")), 1, None).await;
    assert!(matches!(created, Outcome::Done(Some(_))), "{created:?}");
    stands(&bench, &*store, Some(&item("a")), (&fourth, Landed::Yes)).await;
}

/// P8
pub(super) async fn what_is_written_is_read_back_with_its_norm<S: Subject>(subject: S) {
    let (bench, store) = owned(subject).await;
    for (iid, item) in (1..).zip(samples()) {
        let (row, key) = (item.row(), bench.key_of(item.id));
        let norm = store.norm(0, &bench.version(iid, &row)).expect("the store can hold it");
        let (outcome, _) = write(&bench, &*store, iid, Some(&row), item.id, None).await;
        assert!(matches!(outcome, Outcome::Done(Some(_))), "{item:?}: {outcome:?}");
        let seen = read(&*store, &key, None).await;
        assert_eq!((seen.fp, seen.content), (norm, Content::Row(Arc::new(row))));
        assert!(seen.time_ms.abs_diff(store.now_ms()) < 3_600_000, "{} is no time of now", seen.time_ms);
        assert_eq!(bench.subject.find(item.id).await, Some(item));
    }
    let gone = store.norm(0, &bench.tombstone(99, 1)).expect("nothing can always be held");
    assert_eq!(gone, Fp::ABSENT);
}

pub(super) async fn a_refused_row_leaves_nothing<S: Subject>(subject: S) {
    let (bench, store) = owned(subject).await;
    let row = bench.subject.refused(1);
    let (refused, first) = write(&bench, &*store, 1, Some(&row), 1, None).await;
    assert!(matches!(&refused, Outcome::Refused(why) if !why.is_empty()), "{refused:?}");
    stands(&bench, &*store, None, (&first, Landed::No)).await;
    let there = Item::new(1, "theirs", None, 1);
    bench.subject.put(&there).await;
    let token = read(&*store, &bench.key_of(1), None).await.token;
    let (refused, second) = write(&bench, &*store, 2, Some(&row), 1, token).await;
    assert!(matches!(refused, Outcome::Refused(_)), "{refused:?}");
    stands(&bench, &*store, Some(&there.row()), (&second, Landed::No)).await;
}

async fn list(store: &dyn Store, after: Option<&Key>, limit: usize) -> Vec<Key> {
    let (mut keys, mut after) = (Vec::new(), after.cloned());
    loop {
        let page = store.list(0, after.as_ref(), limit).await.expect("the store lists its keys");
        assert!(page.keys.len() <= limit && page.odd.is_empty(), "{page:?}");
        assert!(page.last || !page.keys.is_empty(), "a page that is not the last has keys");
        after = page.keys.last().cloned().or(after);
        keys.extend(page.keys);
        if page.last {
            return keys;
        }
    }
}

pub(super) async fn a_listing_shows_all_keys_and_can_be_resumed<S: Subject>(subject: S) {
    let (bench, store) = owned(subject).await;
    assert_eq!(list(&*store, None, 10).await, []);
    let there: Vec<Item> =
        items(-3..24).into_iter().chain(samples().into_iter().filter(|i| i.id.unsigned_abs() > 99)).collect();
    bench.put_all(&there).await;
    write(&bench, &*store, 1, Some(&Item::new(77, "ours", None, 1).row()), 77, None).await;
    let keys = list(&*store, None, 7).await;
    let wanted: HashSet<Key> = there.iter().map(|i| bench.key_of(i.id)).chain([bench.key_of(77)]).collect();
    assert_eq!(keys.len(), wanted.len(), "each key once");
    assert_eq!(keys.iter().cloned().collect::<HashSet<_>>(), wanted);
    for (limit, cut) in [(1, 0), (5, 11), (100, 20), (3, keys.len() - 1)] {
        let rest = list(&*another(&bench).await, Some(&keys[cut]), limit).await;
        assert_eq!(rest, keys[cut + 1..], "behind number {cut}");
    }
    bench.subject.delete(5).await;
    let left = list(&*store, None, 100).await;
    assert!(left.len() == keys.len() - 1 && !left.contains(&bench.key_of(5)));
}

/// Waits for a hint of the key, or for the word that hints were lost.
async fn heard(store: &dyn Store, key: &Key) {
    loop {
        let hints = store.hints(0).await.expect("hints are waited for");
        if hints.rescan || hints.keys.contains(key) {
            return;
        }
    }
}

pub(super) async fn an_edit_is_followed_by_a_hint<S: Subject>(subject: S) {
    let (bench, store) = owned(subject).await;
    for round in 0..4 {
        for id in 1..4 {
            bench.subject.put(&Item::new(id, "edited", None, round)).await;
            heard(&*store, &bench.key_of(id)).await;
        }
    }
    bench.subject.delete(2).await;
    heard(&*store, &bench.key_of(2)).await;
}

/// agent-1
pub(super) async fn a_fence_stops_an_older_owner<S: Subject>(subject: S) {
    let (bench, old) = owned(subject).await;
    bench.subject.put(&Item::new(1, "theirs", None, 1)).await;
    let there = Item::new(1, "theirs", None, 1).row();
    let token = read(&*old, &bench.key_of(1), None).await.token;
    let heir = another(&bench).await;
    let from_ms = heir.fence(0, 0, 2).await.expect("the new owner fences");
    if from_ms == u64::MAX {
        return; // The expiry of each intent is all that stops writes here.
    }
    let late = intent(1, bench.fp(&item("late")), token.clone());
    let written = old.cas(AT, &bench.key_of(1), Some(&item("late")), &late).await;
    assert_eq!(written.map_err(|e| e.code), Err(Code::ClaimLost));
    let gone = intent(2, Fp::ABSENT, token.clone());
    let deleted = old.cas(AT, &bench.key_of(1), None, &gone).await;
    assert_eq!(deleted.map_err(|e| e.code), Err(Code::ClaimLost));
    assert_eq!(bench.subject.find(1).await.map(|i| i.row()), Some(there));
    let at = Owned { epoch: 2, ..AT };
    let seen = heir.read(at, &bench.key_of(1), Some(&late)).await.expect("a key is read");
    assert_eq!((seen.landed, &seen.token), (Landed::No, &token));
    let next = intent(3, bench.fp(&item("next")), token);
    let written = heir.cas(at, &bench.key_of(1), Some(&item("next")), &next).await.expect("a write is answered");
    assert!(matches!(written, Outcome::Done(Some(_))), "{written:?}");
    assert_eq!(old.fence(0, 0, 1).await.map_err(|e| e.code), Err(Code::ClaimLost));
}
