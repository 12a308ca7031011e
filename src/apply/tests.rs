//! Which ledger is of which log.

use super::same_log;
use crate::event::{Ack, ActorId, Canonical, Cause, Dot, Fp, Hlc, Key, LedgerEntry, Origin, PlatformNo, SchemaId, Vv};

fn version(seq: u64, vv: Vv) -> Canonical {
    Canonical {
        key: Key::default(),
        seq,
        id: seq,
        prev: seq - 1,
        origin: Origin::Input(0),
        idx: 0,
        last: true,
        dot: Dot { actor: ActorId::new(PlatformNo(1), 1), ctr: 1 },
        vv,
        ts: Hlc::default(),
        fp: Fp::ABSENT,
        tomb: true,
        schema: SchemaId(1),
        after: None,
        by: ActorId::new(PlatformNo(1), 1),
        cause: Cause::FastForward,
        ack: Ack::new(),
        rctr: 0,
        conflict: None,
        copy: false,
    }
}

fn vv(ctr: u64) -> Vv {
    Vv::new().with(Dot { actor: ActorId::new(PlatformNo(1), 1), ctr })
}

/// sink-1, I7: what a ledger is beyond, it contains; else it is of another log.
#[test]
fn a_ledger_of_another_log_stops_the_sink_instead_of_skipping_versions() {
    let entry = |seq, ctr| LedgerEntry { seq, vv: vv(ctr), ..LedgerEntry::default() };
    let version = version(7, vv(3));
    assert!(same_log(&version, &entry(7, 3)).is_ok(), "a redelivery");
    assert!(same_log(&version, &entry(9, 4)).is_ok(), "a replay onto a newer platform");
    assert!(same_log(&version, &entry(50, 2)).is_err(), "ahead by number, behind by content");
    assert!(same_log(&version, &entry(7, 4)).is_err(), "the same number for other content");
}
