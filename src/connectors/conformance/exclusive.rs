//! What every connector must do that can be a destination nobody else writes (who-3): rows and mark are one.

use super::{Bench, Item, Subject, items};
use crate::connectors::contract::{Exclusive, ExclusiveWriter};
use crate::event::{Canonical, Link};
use crate::runtime::error::{Code, Remedy};
use std::sync::Arc;

async fn opened<S: Subject>(bench: &Bench<S>) -> Arc<dyn Exclusive> {
    bench.connector.exclusive(&bench.scope).await.expect("an empty destination opens")
}

async fn writer(destination: &dyn Exclusive) -> Box<dyn ExclusiveWriter> {
    destination.writer(0, 0).await.expect("a writer opens")
}

async fn mark(writer: &mut dyn ExclusiveWriter) -> Link {
    writer.mark().await.expect("there is a mark")
}

/// The place behind a version of this number.
fn behind(seq: u64) -> Link {
    Link { offset: seq, seq, id: seq }
}

fn all(versions: Vec<Canonical>) -> Vec<Arc<Canonical>> {
    versions.into_iter().map(Arc::new).collect()
}

pub(super) async fn rows_and_mark_move_together<S: Subject>(subject: S) {
    let bench = Bench::new(subject).await;
    let mut writer = writer(&*opened(&bench).await).await;
    assert_eq!(mark(&mut *writer).await, Link::default());
    let first = items(1..4);
    let versions = all((1..).zip(&first).map(|(seq, item)| bench.version(seq, &item.row())).collect());
    assert!(writer.write(&versions, Link::default(), behind(3)).await.expect("the rows can be written"));
    for item in &first {
        assert_eq!(bench.subject.find(item.id).await.as_ref(), Some(item));
    }
    assert_eq!(mark(&mut *writer).await, behind(3));
    // An update, a row that is new, a deletion, and one of a row that never was.
    let (edited, fresh) = (Item::new(1, "edited", None, 5), Item::new(9, "new", Some("0.5"), 1));
    let versions =
        [bench.version(4, &edited.row()), bench.version(5, &fresh.row()), bench.tombstone(6, 2), bench.tombstone(7, 8)];
    assert!(writer.write(&all(versions.to_vec()), behind(3), behind(7)).await.expect("the rows can be written"));
    for (id, wanted) in [(1, Some(edited)), (2, None), (3, first.get(2).cloned()), (8, None), (9, Some(fresh))] {
        assert_eq!(bench.subject.find(id).await, wanted, "{id}");
    }
    assert_eq!(mark(&mut *writer).await, behind(7));
}

/// read-11: a version without content that is no deletion is outside the platform's filter.
pub(super) async fn a_row_that_is_not_seen_goes<S: Subject>(subject: S) {
    let bench = Bench::new(subject).await;
    let mut writer = writer(&*opened(&bench).await).await;
    let version = bench.version(1, &Item::new(1, "here", None, 1).row());
    assert!(writer.write(&all(vec![version.clone()]), Link::default(), behind(1)).await.expect("it is written"));
    let hidden = Canonical { seq: 2, after: None, ..version };
    assert!(writer.write(&all(vec![hidden]), behind(1), behind(2)).await.expect("it is written"));
    assert_eq!(bench.subject.find(1).await, None);
}

pub(super) async fn a_mark_moves_only_from_where_it_was<S: Subject>(subject: S) {
    let bench = Bench::new(subject).await;
    let destination = opened(&bench).await;
    let (mut one, mut two) = (writer(&*destination).await, writer(&*destination).await);
    let (new, old) = (Item::new(1, "of one", None, 1), Item::new(1, "of two", None, 2));
    let write = all(vec![bench.version(2, &new.row())]);
    assert!(one.write(&write, Link::default(), behind(2)).await.expect("it is written"));
    let late = all(vec![bench.version(1, &old.row()), bench.version(1, &Item::new(2, "too", None, 2).row())]);
    assert!(!two.write(&late, Link::default(), behind(1)).await.expect("the answer is no error"));
    assert_eq!((mark(&mut *two).await, bench.subject.find(1).await), (behind(2), Some(new)));
    assert_eq!(bench.subject.find(2).await, None);
    // At the same place, but of another log.
    let elsewhere = Link { id: 77, ..behind(2) };
    assert!(!two.write(&late, elsewhere, behind(3)).await.expect("the answer is no error"));
    assert_eq!(mark(&mut *one).await, behind(2));
}

/// P8
pub(super) async fn a_row_that_cannot_be_held_changes_nothing<S: Subject>(subject: S) {
    let bench = Bench::new(subject).await;
    let mut writer = writer(&*opened(&bench).await).await;
    let good = Item::new(1, "good", None, 1);
    let versions = [bench.version(1, &good.row()), bench.version(2, &bench.subject.refused(2))];
    let error = writer.write(&all(versions.to_vec()), Link::default(), behind(2)).await.expect_err("it is refused");
    assert_eq!(error.remedy(), Remedy::Park, "{error:?}");
    assert_eq!((bench.subject.find(1).await, mark(&mut *writer).await), (None, Link::default()));
    assert!(writer.write(&all(versions[..1].to_vec()), Link::default(), behind(1)).await.expect("the writer goes on"));
    assert_eq!(bench.subject.find(1).await, Some(good));
}

pub(super) async fn rows_of_others_are_not_overwritten<S: Subject>(subject: S) {
    let bench = Bench::new(subject).await;
    bench.put_all(&items(1..2)).await;
    let refused = bench.connector.exclusive(&bench.scope).await.err().expect("the table holds rows of others");
    assert_eq!(refused.code, Code::SourceSettings);
}

pub(super) async fn another_life_goes_on_at_the_mark<S: Subject>(subject: S) {
    let bench = Bench::new(subject).await;
    let item = Item::new(1, "written once", None, 1);
    let versions = all(vec![bench.version(1, &item.row())]);
    let written = writer(&*opened(&bench).await).await.write(&versions, Link::default(), behind(1)).await;
    assert!(written.expect("it is written"));
    let mut again = writer(&*opened(&bench).await).await;
    assert_eq!(mark(&mut *again).await, behind(1));
    drop(again);
    assert_eq!(bench.connector.remove(&bench.scope).await.expect("what was made is removed"), []);
    assert_eq!(bench.subject.traces().await, Vec::<String>::new());
    assert_eq!(bench.subject.find(1).await, Some(item));
}
