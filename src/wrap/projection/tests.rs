//! What is projected and lifted, without any platform.

use super::*;
use crate::event::{Field, SchemaId, Type};
use proptest::prelude::*;

fn whole() -> Arc<Schema> {
    let field = |name: &str, ty, nullable| Field { name: name.into(), ty, nullable };
    let fields = vec![
        field("mail", Type::Text, true),
        field("id", Type::Int(64), false),
        field("region", Type::Text, true),
        field("note", Type::Text, true),
        field("level", Type::Int(32), false),
    ];
    Arc::new(Schema { id: SchemaId(7), name: "people".into(), fields, key: vec![1] })
}

fn row(mail: &str, id: i64, region: &str, note: &str, level: i64) -> Row {
    Row(vec![Value::text(mail), Value::Int(id), Value::text(region), Value::text(note), Value::Int(level)])
}

fn excerpt() -> Excerpt {
    let masks = [("mail".to_owned(), Mask::Hash), ("level".to_owned(), Mask::Fixed(9.into()))];
    Excerpt {
        columns: Some(["id", "region", "mail", "level"].map(String::from).to_vec()),
        masks: Some(masks.into_iter().collect()),
        row_filter: Some("region = 'EU'".into()),
    }
}

fn projection() -> Projection {
    Projection::of(&excerpt(), &whole()).unwrap().unwrap()
}

/// read-11
#[test]
fn a_platform_gets_its_columns_masked_and_only_the_rows_of_its_filter() {
    let projection = projection();
    let names: Vec<&str> = projection.schema().fields.iter().map(|f| &*f.name).collect();
    assert_eq!((names, &projection.schema().key), (vec!["mail", "id", "region", "level"], &vec![1]));
    let seen = projection.row(&row("ann@example.org", 1, "EU", "secret", 3)).unwrap();
    assert_eq!(seen.0[1..], [Value::Int(1), Value::text("EU"), Value::Int(9)]);
    assert_ne!(seen.0[0], Value::text("ann@example.org"));
    assert_eq!(projection.row(&row("bob@example.org", 2, "US", "secret", 3)), None);
}

/// read-11, value-2: what is not seen comes back as it was, never as null.
#[test]
fn what_is_hidden_or_masked_comes_back_unchanged() {
    let projection = projection();
    let original = row("ann@example.org", 1, "EU", "secret", 3);
    let mut seen = projection.row(&original).unwrap();
    assert_eq!(projection.lift(&seen).unwrap().filled_from(&original), Some(original.clone()));
    seen.0[1] = Value::Int(1);
    let lifted = projection.lift(&seen).unwrap();
    assert_eq!(lifted.0[0], Value::Unchanged);
    assert_eq!(lifted.0[3..], [Value::Unchanged, Value::Unchanged]);
}

/// read-11: who-2, what may not be said there is not carried.
#[test]
fn an_edited_mask_and_a_row_outside_the_filter_are_not_carried() {
    let projection = projection();
    let seen = projection.row(&row("ann@example.org", 1, "EU", "secret", 3)).unwrap();
    let edited = |at: usize, value: Value| {
        let mut row = seen.clone();
        row.0[at] = value;
        projection.lift(&row).map_err(|why| why.split_once(' ').map_or(why.clone(), |(first, _)| first.to_owned()))
    };
    assert_eq!(edited(0, Value::text("new@example.org")), Err("`mail`".into()));
    assert_eq!(edited(3, Value::Int(4)), Err("`level`".into()));
    assert_eq!(edited(2, Value::text("US")), Err("the".into()));
    assert_eq!(edited(2, Value::Null), Err("the".into()));
    assert!(edited(2, Value::Unchanged).is_ok(), "a value its log left out may be anything");
}

#[test]
fn a_projection_that_cannot_be_is_refused() {
    let of = |excerpt: Excerpt| Projection::of(&excerpt, &whole()).map(|_| ()).unwrap_err().doing;
    let columns = |names: &[&str]| Excerpt {
        columns: Some(names.iter().map(|n| (*n).to_owned()).collect()),
        ..Excerpt::default()
    };
    let masks = |name: &str, mask| Excerpt {
        masks: Some([(name.to_owned(), mask)].into_iter().collect()),
        ..Excerpt::default()
    };
    assert!(of(columns(&["mail"])).contains("key is hidden or masked"));
    assert!(of(columns(&["id", "male"])).contains("no field `male`"));
    assert!(of(masks("id", Mask::Null)).contains("key is hidden or masked"));
    assert!(of(masks("level", Mask::Hash)).contains("type text or bytes"));
    assert!(of(masks("level", Mask::Fixed("x".into()))).contains("expected a number"));
    assert!(Projection::of(&Excerpt::default(), &whole()).unwrap().is_none());
}

proptest! {
    /// read-11: what a platform is given comes back as the very record, whatever it holds.
    #[test]
    fn lifting_what_was_projected_changes_nothing(mail in ".*", id in any::<i64>(), note in ".*", level in any::<i32>()) {
        let projection = projection();
        let original = row(&mail, id, "EU", &note, level.into());
        let lifted = projection.lift(&projection.row(&original).unwrap()).unwrap();
        prop_assert_eq!(lifted.filled_from(&original), Some(original));
    }
}
