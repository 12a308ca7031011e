//! A state is a map, whatever fits into memory.

use super::plain::Bare;
use super::*;
use crate::event::avro::arbitrary::Gen;
use crate::event::{Known, LedgerEntry, Record};
use proptest::prelude::*;
use std::fs;

fn key(number: u16) -> Key {
    Key(Bytes::copy_from_slice(&number.to_be_bytes()))
}

/// Puts and looks up as the owners do, batch by batch, and compares with a map.
fn behaves_as_a_map(memory: &Memory, batches: &[Vec<(u16, Option<u64>)>]) {
    let (mut view, mut cold) = (View::default(), memory.cold::<u64>(Arc::new(Plain)));
    let mut model: BTreeMap<Key, u64> = BTreeMap::new();
    for batch in batches {
        let keys: Vec<Key> = batch.iter().map(|(number, _)| key(*number)).collect();
        cold.fetch(&mut view, &keys).unwrap();
        for (key, (_, value)) in keys.iter().zip(batch) {
            assert_eq!(view.get(key), model.get(key), "{key:?}");
            if let Some(value) = value {
                view.put(key.clone(), *value);
                model.insert(key.clone(), *value);
            }
        }
    }
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = cold.page(&view, after.as_ref(), 7).unwrap();
        after = page.last().map(|(key, _)| key.clone());
        all.extend(page);
        if after.is_none() {
            break;
        }
    }
    assert_eq!(all, model.into_iter().collect::<Vec<_>>());
}

fn batches() -> impl Strategy<Value = Vec<Vec<(u16, Option<u64>)>>> {
    let operation = (0u16..60, prop::option::of(any::<u64>()));
    prop::collection::vec(prop::collection::vec(operation, 0..20), 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_state_is_a_map_at_any_budget(batches in batches(), bytes in 0usize..20_000) {
        behaves_as_a_map(&Memory::without_disk(bytes), &batches);
    }

    #[test]
    fn what_is_stored_is_what_is_read(seed: u64) {
        fn same<V: Bare + PartialEq + std::fmt::Debug>(value: V) {
            let mut bytes = Vec::new();
            Plain.encode(&value, &mut bytes).unwrap();
            let read: V = Plain.decode(Bytes::from(bytes)).unwrap();
            assert_eq!(read, value);
        }
        let mut random = Gen::new(seed);
        let Record::Known(known) = random.record(6, &[]) else { panic!("a known row") };
        let Record::Ledger(ledger) = random.record(8, &[]) else { panic!("a ledger entry") };
        same::<Known>(known.known);
        same::<LedgerEntry>(ledger.entry);
        same(Some(Noted::new(ledger.rev, known.stamp)));
        same(None::<Noted>);
    }

    #[test]
    fn bytes_that_are_something_else_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = Codec::<Known>::decode(&Plain, Bytes::from(bytes.clone()));
        let _ = Codec::<Option<Noted>>::decode(&Plain, Bytes::from(bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_state_on_the_disk_is_a_map(batches in batches(), bytes in 0usize..10_000) {
        let dir = tempfile::tempdir().unwrap();
        behaves_as_a_map(&Memory::open(bytes, dir.path()).unwrap(), &batches);
    }
}

/// Half a million bytes of values through a budget of a tenth.
#[test]
fn what_memory_has_no_room_for_goes_to_the_disk_and_memory_stays_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let memory = Memory::open(200_000, dir.path()).unwrap();
    let (mut view, mut cold) = (View::default(), memory.cold::<u64>(Arc::new(Plain)));
    for number in 0..20_000u16 {
        cold.fetch(&mut view, [&key(number)]).unwrap();
        view.put(key(number), u64::from(number));
        assert!(view.bytes() + cold.bytes_len < 100_000, "{} {}", view.bytes(), cold.bytes_len);
    }
    assert!(cold.table.is_some());
    for number in (0..20_000).rev() {
        cold.fetch(&mut view, [&key(number)]).unwrap();
        assert_eq!(view.get(&key(number)), Some(&u64::from(number)));
    }
    drop(cold);
    assert_eq!(memory.0.used.load(Relaxed), 0, "a state that is gone gives its memory back");
}

#[test]
fn small_states_never_touch_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let memory = Memory::open(1 << 20, dir.path()).unwrap();
    let (mut view, mut cold) = (View::default(), memory.cold::<u64>(Arc::new(Plain)));
    // Many changes of a few keys use up the budget again and again.
    for number in 0..50_000 {
        cold.fetch(&mut view, [&key(number % 100)]).unwrap();
        view.put(key(number % 100), u64::from(number));
    }
    assert!(cold.table.is_none() && cold.bytes_len > 0);
    assert_eq!(cold.page(&view, None, 1_000).unwrap().len(), 100);
}

#[test]
fn an_idle_state_does_not_starve_the_others() {
    let memory = Memory::without_disk(100_000);
    // The most it held at a time.
    let fill = |cold: &mut Cold<u64>, view: &mut View<u64>| {
        let mut most = 0;
        for number in 0..900 {
            cold.fetch(view, [&key(number)]).unwrap();
            view.put(key(number), 1);
            most = view.bytes().max(most);
        }
        most
    };
    let (mut idle, mut cold) = (View::default(), memory.cold::<u64>(Arc::new(Plain)));
    fill(&mut cold, &mut idle);
    let (mut busy, mut other) = (View::default(), memory.cold::<u64>(Arc::new(Plain)));
    let most = fill(&mut other, &mut busy);
    assert!(most > 10_000, "{most}");
}

#[test]
fn who_works_has_what_the_others_leave_and_who_waits_gives_it_back() {
    let memory = Memory::without_disk(100_000);
    let empty: Vec<_> = (0..10).map(|_| memory.cold::<u64>(Arc::new(Plain))).collect();
    let put = |(view, cold): &mut (View<u64>, Cold<u64>), numbers: std::ops::Range<u16>| {
        for number in numbers {
            cold.fetch(view, [&key(number)]).unwrap();
            view.put(key(number), 1);
        }
    };
    let mut waits = (View::default(), memory.cold::<u64>(Arc::new(Plain)));
    put(&mut waits, 0..600);
    let held = waits.0.bytes();
    assert!(held > 5 * memory.fair(), "nothing had to leave yet");
    let (view, cold) = &mut waits;
    cold.give_back(view).unwrap();
    cold.give_back(view).unwrap();
    assert_eq!(view.bytes(), held, "nobody was short");
    let mut works = (View::default(), memory.cold::<u64>(Arc::new(Plain)));
    put(&mut works, 0..500);
    assert!(works.0.bytes() < held / 2, "it had to hold less");
    cold.give_back(view).unwrap();
    assert!(view.bytes() == 0 && !cold.is_over_share(view));
    drop(works);
    let mut works = (View::default(), memory.cold::<u64>(Arc::new(Plain)));
    put(&mut works, 0..500);
    assert!(works.0.bytes() > 5 * memory.fair(), "what was given back is there");
    assert_eq!(cold.page(view, None, 1_000).unwrap().len(), 600);
    drop(empty);
}

/// Puts more into a state than fits into `memory`.
fn overfill(memory: &Memory) -> Result<()> {
    let (mut view, mut cold) = (View::default(), memory.cold::<u64>(Arc::new(Plain)));
    for number in 0..2_000 {
        cold.fetch(&mut view, [&key(number)])?;
        view.put(key(number), 1);
    }
    Ok(())
}

/// What a crashed process left is removed; what a living one has is not.
#[test]
fn leftovers_are_removed_and_neighbours_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let abandoned = dir.path().join("1-0");
    fs::create_dir_all(abandoned.join("store-0")).unwrap();
    fs::write(abandoned.join("lock"), "").unwrap();
    let first = Memory::open(1_000, dir.path()).unwrap();
    assert!(!abandoned.exists());
    overfill(&first).unwrap();
    let second = Memory::open(1_000, dir.path()).unwrap();
    overfill(&second).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "two folders and the lock");
    drop((first, second));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a process that ends leaves nothing behind");
}

/// A disk that does not serve is an error that passes, and a new state begins anew.
#[test]
fn a_disk_that_fails_is_told_and_tried_again() {
    use crate::runtime::error::Remedy;
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("state");
    let memory = Memory::open(10_000, &place).unwrap();
    fs::write(&place, "no folder").unwrap();
    let error = overfill(&memory).unwrap_err();
    assert_eq!(error.code, Code::StateFailed);
    assert!(matches!(error.remedy(), Remedy::Retry { .. }));
    fs::remove_file(&place).unwrap();
    overfill(&memory).unwrap();
}
