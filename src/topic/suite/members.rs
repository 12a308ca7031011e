//! Groups: who has which partitions.

use super::*;

/// A group assigns each partition to one member, and keeps what it committed.
pub async fn groups(log: &Subject) {
    let name = topic(log, "group", 2, Cleanup::Keep).await;
    let all = [Partition::new(name.clone(), 0), Partition::new(name.clone(), 1)];
    let group = fresh("members");
    let first = ok("join", log.join(&group, std::slice::from_ref(&name)).await);
    assert_eq!(assigned(&*first, 2).await, all);
    assert!(all.iter().all(|at| first.holds(at)));
    assert_eq!(ok("committed", first.committed(&all[0]).await), None);
    let done = Committed { offset: 7, metadata: Bytes::from_static(b"\x00link\xff") };
    ok("commit", soon("commit", first.commit(&all[0], done.clone())).await);
    let later = Committed { offset: 9, ..done };
    ok("commit", soon("commit", first.commit(&all[0], later.clone())).await);
    assert_eq!(ok("committed", first.committed(&all[0]).await), Some(later.clone()));
    assert_eq!(ok("committed", first.committed(&all[1]).await), None);
    let stranger = ok("join", log.join(&fresh("strangers"), std::slice::from_ref(&name)).await);
    assert_eq!(assigned(&*stranger, 2).await, all, "groups do not know each other");
    assert_eq!(ok("committed", stranger.committed(&all[0]).await), None);
    drop(first);
    let second = ok("join", log.join(&group, std::slice::from_ref(&name)).await);
    assert_eq!(assigned(&*second, 2).await, all, "who comes after takes everything over");
    assert_eq!(ok("committed", second.committed(&all[0]).await), Some(later));
}

/// Waits until a member has `count` partitions.
async fn assigned(member: &dyn Membership, count: usize) -> Vec<Partition> {
    let mut mine = Vec::new();
    while mine.len() < count {
        match ok("next", soon("an assignment", member.next()).await) {
            Assignment::Assigned(more) => mine.extend(more),
            Assignment::Revoked(gone) => {
                mine.retain(|at| !gone.contains(at));
                ok("released", member.released(&gone).await);
            }
            Assignment::Lost(gone) => mine.retain(|at| !gone.contains(at)),
        }
    }
    mine.sort();
    mine
}

/// For logs whose groups live in one process: the first member has everything until it leaves.
pub async fn single_member(log: &Subject) {
    let name = topic(log, "single", 2, Cleanup::Keep).await;
    let group = fresh("single");
    let first = ok("join", log.join(&group, std::slice::from_ref(&name)).await);
    let second = ok("join", log.join(&group, std::slice::from_ref(&name)).await);
    let all = assigned(&*first, 2).await;
    let mut next = second.next();
    assert!(futures_util::poll!(&mut next).is_pending(), "the second member gets nothing");
    assert!(!all.iter().any(|at| second.holds(at)));
    assert!(futures_util::poll!(first.next()).is_pending(), "the first is told once");
    drop(first);
    assert_eq!(ok("next", soon("the hand-over", next).await), Assignment::Assigned(all.clone()));
    assert!(all.iter().all(|at| second.holds(at)));
}
