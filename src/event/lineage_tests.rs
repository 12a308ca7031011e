use super::*;
use crate::event::PlatformNo;
use proptest::prelude::*;

fn actor(platform: u16) -> ActorId {
    ActorId::new(PlatformNo(platform), 1)
}

fn field(name: &str, ty: Type) -> Field {
    Field { name: name.into(), ty, nullable: name != "id" }
}

/// A schema with the key `id` and these fields.
fn schema(id: u32, fields: &[(&str, Type)]) -> Schema {
    let all = std::iter::once(("id", Type::Int(64))).chain(fields.iter().cloned());
    let fields = all.map(|(name, ty)| field(name, ty)).collect();
    Schema { id: SchemaId(id), name: "t".into(), fields, key: vec![0] }
}

fn step(id: u32, fields: &[(&str, Type)], by: u16, commit: u64) -> Step {
    let at = if commit == 0 { Position::START } else { Position::new(commit, 0) };
    let by = if by == 0 { ActorId::RESOLVER } else { actor(by) };
    Step { schema: Arc::new(schema(id, fields)), by, at }
}

fn at(commit: u64) -> Position {
    Position::new(commit, 0)
}

/// What is taken of a form, as the names of the fields; `=` if it is no new version.
fn taken(steps: &[Step], me: u16, commit: u64, before: Option<&Schema>, form: &Schema) -> String {
    let names = |s: &Schema| s.fields.iter().map(|f| &*f.name).collect::<Vec<_>>().join(" ");
    match take(steps, actor(me), at(commit), before, form) {
        Ok(Taken::As(schema)) => format!("= {}", names(&schema)),
        Ok(Taken::New(schema)) => {
            assert!(schema.fields.iter().skip(steps[0].schema.fields.len()).all(|f| f.nullable), "{schema:?}");
            names(&schema)
        }
        Err(error) => {
            assert_eq!(error.code, Code::SchemaUnsupported);
            error.doing
        }
    }
}

const T: Type = Type::Text;

/// read-10
#[test]
fn a_new_column_is_a_new_field_and_a_dropped_one_goes() {
    let steps = [step(1, &[("v", T)], 1, 0)];
    assert_eq!(taken(&steps, 1, 9, None, &schema(0, &[("v", T), ("n", Type::Int(32))])), "id v n");
    assert_eq!(taken(&steps, 2, 9, None, &schema(0, &[("v", T), ("n", Type::Int(32))])), "id v n");
    assert_eq!(taken(&steps, 1, 9, None, &schema(0, &[])), "id");
    assert_eq!(taken(&steps, 1, 9, None, &schema(0, &[("v", T)])), "= id v");
    // The order of columns is the table's own affair.
    assert_eq!(taken(&steps, 1, 9, None, &schema(0, &[("n", T), ("v", T)])), "id v n");
}

/// read-10: one platform's change reaches the others; they are not asked to take it back.
#[test]
fn what_another_platform_has_added_or_dropped_is_no_change_here() {
    let added = [step(1, &[("v", T)], 1, 0), step(2, &[("v", T), ("n", T)], 1, 5)];
    assert_eq!(taken(&added, 2, 9, None, &schema(0, &[("v", T)])), "= id v n", "it has not come here yet");
    assert_eq!(taken(&added, 2, 9, None, &schema(0, &[("v", T), ("n", T)])), "= id v n");
    let dropped = [step(1, &[("v", T)], 1, 0), step(2, &[], 1, 5)];
    assert_eq!(taken(&dropped, 2, 9, None, &schema(0, &[("v", T)])), "= id", "it stays here, outside the dataset");
    assert_eq!(taken(&dropped, 2, 9, None, &schema(0, &[("v", T), ("w", T)])), "id w");
    // Who dropped it itself adds it again.
    assert_eq!(taken(&dropped, 1, 9, None, &schema(0, &[("v", T)])), "id v");
}

/// read-10: the second of two that change one field differently stops and shows both.
#[test]
fn two_platforms_that_change_one_field_differently_are_told() {
    let steps = [step(1, &[], 1, 0), step(2, &[("n", T)], 1, 5)];
    let said = taken(&steps, 2, 9, None, &schema(0, &[("n", Type::Int(32))]));
    assert!(said.contains("`n` is of type Text in the dataset and of type Int(32)"), "{said}");
    let before = schema(0, &[("n", T)]);
    let said = taken(&steps, 2, 9, Some(&before), &schema(0, &[]));
    assert!(said.contains("`n` was dropped here") && said.contains("1.1"), "{said}");
}

#[test]
fn a_wider_column_widens_the_field_and_a_narrower_one_stops_whose_it_is() {
    let steps = [step(1, &[("n", Type::Int(32))], 1, 0)];
    let wide = take(&steps, actor(1), at(9), None, &schema(0, &[("n", Type::Int(64))])).unwrap();
    assert!(matches!(wide, Taken::New(s) if s.fields[1].ty == Type::Int(64)));
    assert_eq!(taken(&steps, 2, 9, None, &schema(0, &[("n", Type::Int(64))])), "= id n", "its own way of holding it");
    let said = taken(&steps, 1, 9, None, &schema(0, &[("n", Type::Int(16))]));
    assert!(said.contains("narrowed"), "{said}");
    let said = taken(&steps, 1, 9, None, &schema(0, &[("n", T)]));
    assert!(said.contains("needs another name"), "{said}");
    let dropped = [step(1, &[("n", T)], 1, 0), step(2, &[], 1, 5)];
    let said = taken(&dropped, 1, 9, None, &schema(0, &[("n", Type::Int(32))]));
    assert!(said.contains("before it was dropped"), "{said}");
}

#[test]
fn a_key_never_changes() {
    let steps = [step(1, &[("v", T)], 1, 0)];
    let mut form = schema(0, &[("v", T)]);
    form.key = vec![0, 1];
    assert!(taken(&steps, 1, 9, None, &form).contains("key cannot change"));
    let mut form = schema(0, &[("v", T)]);
    form.fields[0].ty = T;
    assert!(taken(&steps, 1, 9, None, &form).contains("key cannot change"));
}

#[test]
fn configured_fields_are_all_there_is() {
    let steps = [step(1, &[("v", T)], 0, 0)];
    assert_eq!(taken(&steps, 1, 9, None, &schema(0, &[("v", T), ("n", T)])), "= id v");
    assert!(taken(&steps, 1, 9, None, &schema(0, &[])).contains("is not there any more"));
}

/// read-12: a log that is read again means what it meant.
#[test]
fn what_i_changed_behind_a_place_is_not_in_force_there() {
    let steps = [
        step(1, &[("v", T)], 1, 0),
        step(2, &[("v", T), ("n", T)], 1, 5),
        step(3, &[("v", T), ("n", T), ("o", T)], 2, 3),
        step(4, &[("n", T), ("o", T)], 1, 7),
    ];
    assert_eq!(taken(&steps, 1, 4, None, &schema(0, &[("v", T)])), "= id v");
    assert_eq!(taken(&steps, 1, 5, None, &schema(0, &[("v", T), ("n", T)])), "= id v n o");
    assert_eq!(taken(&steps, 1, 8, None, &schema(0, &[("n", T)])), "= id n o");
    // Places in another platform's log mean nothing here.
    assert_eq!(taken(&steps, 2, 4, None, &schema(0, &[("v", T), ("n", T), ("o", T)])), "= id n o");
}

#[test]
fn a_destination_is_given_what_others_have_added() {
    let steps = [step(1, &[("v", T)], 1, 0), step(2, &[("v", T), ("n", T)], 2, 5)];
    let names = |me| given_by_others(&steps, actor(me)).iter().map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(
        (names(1), names(2), names(3)),
        (vec!["n".into()], vec!["id".into(), "v".into()], vec!["id".into(), "v".into(), "n".into()])
    );
}

proptest! {
    /// read-10: whoever asks again gets no further version, wherever in the log it asks from.
    #[test]
    fn what_was_taken_once_is_taken_as_it_is(forms in prop::collection::vec(prop::collection::btree_set(0u8..5, 0..5), 1..6)) {
        let forms: Vec<Schema> = forms.iter().map(|names| {
            let names: Vec<String> = names.iter().map(|n| format!("f{n}")).collect();
            schema(0, &names.iter().map(|n| (n.as_str(), T)).collect::<Vec<_>>())
        }).collect();
        let first = Schema { id: SchemaId(1), ..forms[0].clone() };
        let mut steps = vec![Step { schema: Arc::new(first), by: actor(1), at: Position::START }];
        let mut meant = Vec::new();
        for (n, form) in forms.iter().enumerate() {
            let place = at(n as u64 + 1);
            if let Taken::New(new) = take(&steps, actor(1), place, None, form).unwrap() {
                let id = SchemaId(steps.len() as u32 + 1);
                steps.push(Step { schema: Arc::new(Schema { id, ..new }), by: actor(1), at: place });
            }
            let newest = steps.last().unwrap().schema.clone();
            let mut names = [newest.fields.clone(), form.fields.clone()].map(|f| f.into_iter().map(|f| f.name).collect::<Vec<_>>());
            names.iter_mut().for_each(|n| n.sort());
            prop_assert_eq!(&names[0], &names[1]);
            meant.push(newest);
        }
        for (n, form) in forms.iter().enumerate() {
            let again = take(&steps, actor(1), at(n as u64 + 1), None, form).unwrap();
            prop_assert_eq!(again, Taken::As(meant[n].clone()));
        }
    }

    /// read-10, value-1: a row seen under a version it was made in keeps its fingerprint, whatever columns
    /// come beside it.
    #[test]
    fn columns_a_schema_does_not_know_do_not_count(a in any::<i64>(), b in any::<Option<i64>>(), turn in any::<bool>()) {
        let one = Arc::new(schema(1, &[("a", Type::Int(64))]));
        let mut wide = schema(0, &[("a", Type::Int(64)), ("b", Type::Int(64))]);
        let mut values = vec![Value::Int(1), Value::Int(a), b.map_or(Value::Null, Value::Int)];
        if turn {
            wide.fields.swap(1, 2);
            values.swap(1, 2);
        }
        let row = Row(vec![Value::Int(1), Value::Int(a)]);
        let lens = Lens::new(&wide, &one);
        prop_assert_eq!(lens.fp(&Row(values.clone())), Fp::of_row(&one, &row));
        prop_assert_eq!(lens.lift(&Row(values), &Value::Null), row.clone());
        let back = Lens::new(&one, &Arc::new(wide));
        prop_assert!(back.is_partial());
        prop_assert_eq!(lens.lift(&back.lift(&row, &Value::Unchanged), &Value::Null), row);
    }
}
