//! Conditional writes, under crashes at every step, and fences.

use super::*;

#[tokio::test]
async fn a_row_is_created_changed_and_deleted_under_its_token() {
    let p = Prepared::new().await;
    let Outcome::Done(Some(first)) = p.store.cas(AT, &key("a"), Some(&row("a", 1)), &intent(1, None)).await.unwrap()
    else {
        panic!()
    };
    assert_eq!(p.content("a.json"), Some(document("a", 1)));
    let seen = p.store.read(AT, &key("a"), Some(&intent(1, None))).await.unwrap();
    assert_eq!(
        (seen.content, seen.token, seen.landed),
        (Content::Row(row("a", 1).into()), Some(first.clone()), Landed::Yes)
    );
    let Outcome::Done(Some(second)) =
        p.store.cas(AT, &key("a"), Some(&row("a", 2)), &intent(2, Some(first.clone()))).await.unwrap()
    else {
        panic!()
    };
    let stale = p.store.cas(AT, &key("a"), Some(&row("a", 3)), &intent(3, Some(first))).await.unwrap();
    assert_eq!((stale, p.content("a.json")), (Outcome::Mismatch, Some(document("a", 2))));
    let gone = p.store.cas(AT, &key("a"), None, &intent(4, Some(second.clone()))).await.unwrap();
    assert_eq!((gone, p.content("a.json")), (Outcome::Done(None), None));
    let again = p.store.cas(AT, &key("a"), None, &intent(5, Some(second))).await.unwrap();
    assert_eq!(again, Outcome::Mismatch);
    assert_eq!(p.store.cas(AT, &key("a"), None, &intent(6, None)).await.unwrap(), Outcome::Done(None));
    assert_eq!(p.store.displaced(AT).await.unwrap(), vec![]);
}

#[tokio::test]
async fn an_unseen_edit_is_never_overwritten() {
    let p = Prepared::new().await;
    p.replace("a.json", &document("a", 1));
    let token = p.token("a").await;
    p.replace("a.json", &document("a", 7));
    let write = p.store.cas(AT, &key("a"), Some(&row("a", 2)), &intent(1, token.clone())).await.unwrap();
    assert_eq!((write, p.content("a.json")), (Outcome::Mismatch, Some(document("a", 7))));
    let delete = p.store.cas(AT, &key("a"), None, &intent(2, token)).await.unwrap();
    assert_eq!((delete, p.content("a.json")), (Outcome::Mismatch, Some(document("a", 7))));
    let create = p.store.cas(AT, &key("a"), Some(&row("a", 2)), &intent(3, None)).await.unwrap();
    assert_eq!((create, p.content("a.json")), (Outcome::Mismatch, Some(document("a", 7))));
    for iid in 1..=3 {
        let seen = p.store.read(AT, &key("a"), Some(&intent(iid, None))).await.unwrap();
        assert_eq!(seen.landed, Landed::No, "{iid}");
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Replace,
    Create,
    Delete,
}

/// correctness.md §3.5, crash table of the README: the process ends after any step, with or without
/// an edit that nobody saw; a new owner fences, and the witness agrees with what is in place.
#[tokio::test]
async fn a_crash_after_any_step_is_recovered_and_the_witness_tells_the_truth() {
    let steps = [Step::Staged, Step::Noted, Step::Renamed, Step::Unexpected, Step::Restored, Step::Marked];
    let (mut landed, mut not) = (0, 0);
    for kind in [Kind::Replace, Kind::Create, Kind::Delete] {
        for step in steps {
            for unseen in [false, true] {
                let p = Prepared::new().await;
                if kind != Kind::Create {
                    p.replace("a.json", &document("a", 1));
                }
                let token = p.token("a").await;
                if unseen {
                    p.replace("a.json", &document("a", 7));
                }
                p.store.at_each_step(stop(step));
                let new = (kind != Kind::Delete).then(|| row("a", 2));
                let sent = intent(9, token);
                let ended = p.store.cas(AT, &key("a"), new.as_ref(), &sent).await.is_err();
                let heir = another(p.dir.path());
                heir.fence(0, 0, 2).await.unwrap();
                let seen = heir.read(after(2), &key("a"), Some(&sent)).await.unwrap();
                let what = format!("{kind:?} {step:?} unseen: {unseen} ended: {ended} {seen:?}");
                let written = if kind == Kind::Delete { Content::Absent } else { Content::Row(row("a", 2).into()) };
                let before = if kind == Kind::Create { Content::Absent } else { Content::Row(row("a", 1).into()) };
                if unseen {
                    assert_eq!(seen.content, Content::Row(row("a", 7).into()), "{what}");
                    assert_eq!(seen.landed, Landed::No, "{what}");
                } else {
                    assert_eq!(seen.content, if seen.landed == Landed::Yes { written } else { before }, "{what}");
                    let renamed = !matches!(step, Step::Staged | Step::Noted) || !ended;
                    assert_eq!(seen.landed == Landed::Yes, renamed, "{what}");
                }
                assert_eq!(heir.displaced(after(2)).await.unwrap(), vec![], "{what}");
                if seen.landed == Landed::Yes { landed += 1 } else { not += 1 }
            }
        }
    }
    assert!(landed >= 10 && not >= 10, "{landed} {not}");
}

/// An edit that displaced what was about to be taken back stays, and the older one is reported.
#[tokio::test]
async fn an_edit_that_cannot_go_back_is_reported_until_it_is_settled() {
    for crash in [false, true] {
        let p = Prepared::new().await;
        p.replace("a.json", &document("a", 1));
        let token = p.token("a").await;
        p.replace("a.json", &document("a", 7));
        let root = p.dir.path().to_owned();
        p.store.at_each_step(move |step| {
            if step == Step::Unexpected {
                replace(&root, "a.json", &document("a", 8));
                return if crash { stop(step)(step) } else { Ok(()) };
            }
            Ok(())
        });
        let answer = p.store.cas(AT, &key("a"), Some(&row("a", 2)), &intent(1, token.clone())).await;
        assert_eq!(answer.ok(), (!crash).then_some(Outcome::Mismatch));
        let (heir, at) = (another(p.dir.path()), after(2));
        heir.fence(0, 0, 2).await.unwrap();
        let seen = heir.read(at, &key("a"), Some(&intent(1, token))).await.unwrap();
        assert_eq!((seen.content, seen.landed), (Content::Row(row("a", 8).into()), Landed::No));
        let aside = heir.displaced(at).await.unwrap();
        assert_eq!(aside.len(), 1);
        assert_eq!((&aside[0].key, &aside[0].content), (&key("a"), &Content::Row(row("a", 7).into())));
        heir.fence(0, 0, 3).await.unwrap();
        assert_eq!(heir.displaced(after(3)).await.unwrap(), aside);
        heir.settle(after(3), &aside[0]).await.unwrap();
        assert_eq!(heir.displaced(after(3)).await.unwrap(), vec![]);
        assert_eq!(p.content("a.json"), Some(document("a", 8)));
    }
}

/// A newer edit that came between the look and the exchange back is put into its place again.
#[tokio::test]
async fn the_newest_edit_ends_in_its_place() {
    let p = Prepared::new().await;
    p.replace("a.json", &document("a", 1));
    let token = p.token("a").await;
    p.replace("a.json", &document("a", 7));
    let (root, count) = (p.dir.path().to_owned(), AtomicU64::new(0));
    p.store.at_each_step(move |step| {
        if step == Step::Restored && count.fetch_add(1, Ordering::Relaxed) == 0 {
            // As if it had come before the exchange: what was put aside is the application's.
            let stage = root.join(".driftless/stage/d.notes.0.1/0000000000000001");
            std::fs::rename(root.join("a.json"), root.join(".driftless/x")).unwrap();
            std::fs::rename(stage, root.join("a.json")).unwrap();
            std::fs::write(root.join(".driftless/stage/d.notes.0.1/0000000000000001"), document("a", 8)).unwrap();
            std::fs::rename(root.join(".driftless/x"), root.join("a.json")).unwrap();
        }
        Ok(())
    });
    let answer = p.store.cas(AT, &key("a"), Some(&row("a", 2)), &intent(1, token)).await.unwrap();
    assert_eq!((answer, p.content("a.json")), (Outcome::Mismatch, Some(document("a", 8))));
    pass_ms(250).await;
    assert_eq!(p.store.displaced(AT).await.unwrap()[0].content, Content::Row(row("a", 7).into()));
}

/// agent-1
#[tokio::test]
async fn an_older_owner_writes_nothing_after_the_fence() {
    let p = Prepared::new().await;
    p.replace("a.json", &document("a", 1));
    let token = p.token("a").await;
    let heir = Arc::new(another(p.dir.path()));
    // The old owner is paused after its intent; the new one takes over; then it goes on.
    let fencing = heir.clone();
    let runtime = tokio::runtime::Handle::current();
    p.store.at_each_step(move |step| {
        if step == Step::Noted {
            runtime.block_on(fencing.fence(0, 0, 2)).unwrap();
        }
        Ok(())
    });
    let sent = intent(1, token.clone());
    let late = p.store.cas(AT, &key("a"), Some(&row("a", 2)), &sent).await.unwrap_err();
    assert_eq!(late.code, Code::ClaimLost);
    assert_eq!(p.content("a.json"), Some(document("a", 1)));
    let seen = heir.read(after(2), &key("a"), Some(&sent)).await.unwrap();
    assert_eq!(seen.landed, Landed::No);
    let next = p.store.cas(AT, &key("a"), Some(&row("a", 2)), &intent(2, token)).await.unwrap_err();
    assert_eq!(next.code, Code::ClaimLost);
    assert_eq!(p.store.fence(0, 0, 1).await.unwrap_err().code, Code::ClaimLost);
}

#[tokio::test]
async fn an_expired_intent_is_not_sent() {
    let p = Prepared::new().await;
    let expired = Intent { exp_ms: 1, ..intent(1, None) };
    assert_eq!(p.store.cas(AT, &key("a"), Some(&row("a", 1)), &expired).await.unwrap(), Outcome::Mismatch);
    assert_eq!(p.content("a.json"), None);
}
