//! What a merge keeps of both sides, what it says it lost, and that the order of the two decides nothing.

use super::*;
use crate::event::{Field, Fp, Hlc, PlatformNo, Rules, Schema, SchemaId, Side, Type, Vv};
use proptest::prelude::*;

fn schema() -> Schema {
    let field = |name: &str, ty| Field { name: name.into(), ty, nullable: true };
    let list = || Type::Array(Box::new(Type::Int(64)));
    let fields = vec![
        field("id", Type::Int(64)),
        field("name", Type::Text),
        field("stock", Type::Int(64)),
        field("tags", list()),
        field("log", list()),
        field("high", Type::Int(64)),
        field("low", Type::Int(64)),
        field("doc", Type::Json),
        field("note", Type::Text),
        field(
            "lines",
            Type::Array(Box::new(Type::Record(vec![field("no", Type::Int(64)), field("qty", Type::Int(16))]))),
        ),
    ];
    Schema { id: SchemaId(1), name: "items".into(), fields, key: vec![0] }
}

fn policy(deletes: Deletes) -> Merge {
    let rule = |(name, rule): (&str, FieldRule)| (name.into(), rule);
    let fields = [
        ("stock", FieldRule::Counter),
        ("tags", FieldRule::Set),
        ("log", FieldRule::Append),
        ("high", FieldRule::Max),
        ("low", FieldRule::Min),
        ("note", FieldRule::Lines),
        ("lines", FieldRule::ByKey("no".into())),
        ("lines.qty", FieldRule::Counter),
        ("doc.n", FieldRule::Counter),
        ("doc.s", FieldRule::Set),
        ("doc.items", FieldRule::ByKey("id".into())),
        ("doc.items.seen", FieldRule::Max),
    ];
    Merge { fields: fields.into_iter().map(rule).collect(), deletes }
}

fn ints(values: &[i64]) -> Value {
    Value::Array(values.iter().map(|v| Value::Int(*v)).collect())
}

fn lines(lines: &[(i64, i64)]) -> Value {
    Value::Array(lines.iter().map(|(no, qty)| Value::Record(vec![Value::Int(*no), Value::Int(*qty)])).collect())
}

fn json(text: &str) -> Value {
    Value::Json(text.into())
}

fn side(platform: u16, ms: u64, row: Option<Row>) -> Side {
    let fp = row.as_ref().map_or(Fp::ABSENT, |row| Fp::of_row(&schema(), row));
    let by = ActorId::new(PlatformNo(platform), 1);
    Side {
        by,
        dot: None,
        vv: Vv::new(),
        seq: 0,
        ts: Hlc::from_ms(ms),
        fp,
        schema: SchemaId(1),
        value: row.map(Arc::new),
    }
}

/// The head is of platform 1 and older, the proposal of platform 2 and later.
fn decided(policy: &Merge, base: Option<Option<Row>>, head: Option<Row>, proposal: Option<Row>) -> Decision {
    let (head, proposal) = (side(1, 10, head), side(2, 20, proposal));
    let ancestor = base.map(|row| side(1, 1, row));
    let (rules, schema) = (Rules::default(), schema());
    policy.merge(&Case {
        rules: &rules,
        schema: &schema,
        ancestor: ancestor.as_ref(),
        head: &head,
        proposal: &proposal,
        past: &[],
    })
}

fn base() -> Row {
    let doc = json(r#"{"a":1,"b":{"c":2,"d":[1,2]}}"#);
    Row(vec![
        Value::Int(1),
        Value::text("x"),
        Value::Int(10),
        ints(&[1, 2]),
        ints(&[1]),
        Value::Int(5),
        Value::Int(5),
        doc,
        Value::text("a\nb\nc\n"),
        lines(&[(1, 5), (2, 5)]),
    ])
}

/// The base with other values in some places.
fn with(changes: &[(usize, Value)]) -> Row {
    let mut row = base();
    changes.iter().for_each(|(at, value)| row.0[*at] = value.clone());
    row
}

/// The merged row, the loser, the rule.
fn both(decision: Decision) -> (Row, Loser, String) {
    match decision.merged {
        Merged::Both { value, loser, .. } => (Row(value.unwrap().0.clone()), loser, decision.rule.to_string()),
        other => panic!("{other:?} by {}", decision.rule),
    }
}

fn merged(head: &[(usize, Value)], proposal: &[(usize, Value)]) -> (Row, Loser, String) {
    both(decided(&policy(Deletes::EditWins), Some(Some(base())), Some(with(head)), Some(with(proposal))))
}

#[test]
fn edits_of_different_fields_are_both_kept() {
    let found = merged(&[(1, Value::text("y"))], &[(2, Value::Int(9))]);
    assert_eq!(found, (with(&[(1, Value::text("y")), (2, Value::Int(9))]), Loser::Neither, "merge".into()));
}

#[test]
fn where_both_changed_a_field_without_a_rule_the_last_write_wins_and_the_log_names_the_field() {
    let (row, loser, rule) = merged(&[(1, Value::text("y"))], &[(1, Value::text("z")), (2, Value::Int(9))]);
    assert_eq!(row, with(&[(1, Value::text("z")), (2, Value::Int(9))]));
    assert_eq!((loser, rule.as_str()), (Loser::Head, "merge; last-write-wins: name"));
}

#[test]
fn each_rule_keeps_what_both_meant() {
    let head = [(2, Value::Int(13)), (3, ints(&[2, 3])), (4, ints(&[1, 2])), (5, Value::Int(8)), (6, Value::Int(4))];
    let proposal =
        [(2, Value::Int(8)), (3, ints(&[1, 2, 4])), (4, ints(&[1, 3])), (5, Value::Int(6)), (6, Value::Int(1))];
    let wanted =
        [(2, Value::Int(11)), (3, ints(&[2, 3, 4])), (4, ints(&[1, 2, 3])), (5, Value::Int(8)), (6, Value::Int(1))];
    assert_eq!(merged(&head, &proposal), (with(&wanted), Loser::Neither, "merge".into()));
}

#[test]
fn two_times_plus_one_is_plus_two() {
    let policy = policy(Deletes::EditWins);
    assert!(!policy.joins_equal_content() && Merge::default().joins_equal_content());
    let (row, loser, _) = merged(&[(2, Value::Int(11))], &[(2, Value::Int(11))]);
    assert_eq!((row, loser), (with(&[(2, Value::Int(12))]), Loser::Neither));
}

#[test]
fn what_a_rule_cannot_keep_is_told() {
    for (head, proposal) in [
        // No room in the type.
        ((2, Value::Int(i64::MAX)), (2, Value::Int(11))),
        // Not grown at its end.
        ((4, ints(&[])), (4, ints(&[1, 3]))),
        ((3, Value::Null), (3, ints(&[7]))),
    ] {
        let (row, loser, rule) = merged(&[head], std::slice::from_ref(&proposal));
        assert_eq!((row, loser), (with(&[proposal]), Loser::Head));
        assert!(rule.starts_with("merge; last-write-wins: "), "{rule}");
    }
}

#[test]
fn a_document_is_merged_by_path_and_its_numbers_stay_as_written() {
    let document = |head: &str, proposal: &str| {
        let (row, loser, _) = merged(&[(7, json(head))], &[(7, json(proposal))]);
        (row.0[7].clone(), loser)
    };
    let found = document(r#"{"a":1,"b":{"c":2.50,"d":[1,2]}}"#, r#"{"b":{"c":2,"d":[1,2],"e":"ü"}}"#);
    assert_eq!(found, (json(r#"{"b":{"c":2.50,"d":[1,2],"e":"ü"}}"#), Loser::Neither));
    let both_changed = document(r#"{"a":1,"b":{"c":3,"d":[1,2]}}"#, r#"{"a":2,"b":{"c":4,"d":[1,2]}}"#);
    assert_eq!(both_changed, (json(r#"{"a":2,"b":{"c":4,"d":[1,2]}}"#), Loser::Head));
    // A member one removed and the other changed stays, and the record says that a removal was not followed.
    let removed = document(r#"{"a":1}"#, r#"{"a":1,"b":{"c":4,"d":[1,2]}}"#);
    assert_eq!(removed, (json(r#"{"a":1,"b":{"c":4,"d":[1,2]}}"#), Loser::Head));
    assert_eq!(document("[1]", r#"{"a":3}"#), (json(r#"{"a":3}"#), Loser::Head));
}

#[test]
fn a_member_of_a_document_has_a_rule_by_its_path() {
    let at = |n: &str, s: &str, items: &str| json(&format!(r#"{{"items":[{items}],"n":{n},"s":[{s}]}}"#));
    let base = with(&[(7, at("1.50", "1,2", r#"{"id":"a","q":1,"seen":1},{"id":"b"}"#))]);
    let head = with(&[(7, at("2.50", "2", r#"{"id":"a","q":2,"seen":3}"#))]);
    let proposal = with(&[(7, at("2.50", "1,2,3", r#"{"id":"c"},{"id":"a","q":1,"seen":2},{"id":"b"}"#))]);
    let (row, loser, rule) = both(decided(&policy(Deletes::EditWins), Some(Some(base)), Some(head), Some(proposal)));
    assert_eq!(row.0[7], at("3.5", "2,3", r#"{"id":"a","q":2,"seen":3},{"id":"c"}"#));
    assert_eq!((loser, rule.as_str()), (Loser::Neither, "merge"));
}

#[test]
fn text_is_merged_by_lines_and_the_same_line_by_the_last_write() {
    let noted = |head: &str, proposal: &str| {
        let (row, loser, rule) = merged(&[(8, Value::text(head))], &[(8, Value::text(proposal))]);
        (row.0[8].clone(), loser, rule)
    };
    assert_eq!(noted("A\nb\nc\n", "a\nb\nC\nd\n"), (Value::text("A\nb\nC\nd\n"), Loser::Neither, "merge".into()));
    let told = "merge; last-write-wins: note".into();
    assert_eq!(noted("a\nX\nc\n", "a\nY\nc\n"), (Value::text("a\nY\nc\n"), Loser::Head, told));
}

#[test]
fn items_with_a_key_are_merged_one_by_one() {
    let ordered = |head: &[(i64, i64)], proposal: &[(i64, i64)]| {
        let (row, loser, rule) = merged(&[(9, lines(head))], &[(9, lines(proposal))]);
        (row.0[9].clone(), loser, rule)
    };
    let found = ordered(&[(1, 6), (2, 5), (3, 1)], &[(4, 1), (1, 7)]);
    assert_eq!(found, (lines(&[(1, 8), (3, 1), (4, 1)]), Loser::Neither, "merge".into()));
    // Removed by one and changed by the other: it stays, and the log says that something was not followed.
    let found = ordered(&[(1, 5)], &[(1, 5), (2, 9)]);
    assert_eq!(found, (lines(&[(1, 5), (2, 9)]), Loser::Head, "merge; last-write-wins: lines".into()));
    // No room in 16 bits for the sum.
    let found = ordered(&[(1, 30_000), (2, 5)], &[(1, 30_001), (2, 5)]);
    assert_eq!(found, (lines(&[(1, 30_001), (2, 5)]), Loser::Head, "merge; last-write-wins: lines.qty".into()));
    // Two items with one key cannot be told apart.
    let found = ordered(&[(1, 5), (1, 6)], &[(1, 5), (2, 9)]);
    assert_eq!(found, (lines(&[(1, 5), (2, 9)]), Loser::Head, "merge; last-write-wins: lines".into()));
}

#[test]
fn a_rule_that_cannot_hold_is_told_before_it_is_needed() {
    let wrong = |path: &str, rule: FieldRule| {
        let merge = Merge { fields: [(path.into(), rule)].into(), ..Merge::default() };
        misfits(&merge, &schema()).pop().map(|misfit| misfit.why)
    };
    assert_eq!(misfits(&policy(Deletes::EditWins), &schema()), []);
    for (path, rule, why) in [
        ("nmae", FieldRule::Max, "`items` has no field of this name; it has `id`, `name`, "),
        ("lines.price", FieldRule::Max, "`items` has no field of this name"),
        ("name.first", FieldRule::Max, "`items` has no field of this name"),
        ("id", FieldRule::Max, "a field of the key is the same on both sides"),
        ("name", FieldRule::Counter, "the rule `counter` is for integers and decimals"),
        ("stock", FieldRule::Set, "the rule `set` is for arrays"),
        ("tags", FieldRule::Lines, "the rule `lines` is for text"),
        ("tags", FieldRule::ByKey("id".into()), "the rule `by-key id` is for arrays of records that have this member"),
        ("lines", FieldRule::ByKey("id".into()), "the rule `by-key id` is for arrays of records that have this member"),
    ] {
        let found = wrong(path, rule).unwrap_or_default();
        assert!(found.starts_with(why), "{path}: {found}");
    }
}

#[test]
fn without_an_ancestor_all_that_differs_counts_as_changed_by_both() {
    let head = with(&[(1, Value::text("y")), (2, Value::Int(11)), (3, ints(&[1])), (7, json(r#"{"a":1}"#))]);
    let proposal = with(&[(3, ints(&[2])), (7, json(r#"{"b":2}"#))]);
    let decision = decided(&policy(Deletes::EditWins), None, Some(head), Some(proposal));
    let wanted = with(&[(3, ints(&[1, 2])), (7, json(r#"{"a":1,"b":2}"#))]);
    let rule = "merge; ancestor=missing; last-write-wins: name, stock";
    assert_eq!(both(decision), (wanted, Loser::Head, rule.into()));
}

#[test]
fn an_edit_wins_over_a_delete_but_what_the_deleter_saw_of_a_set_stays_removed() {
    let edit = with(&[(1, Value::text("y")), (3, ints(&[1, 2, 3]))]);
    let settled = |deletes, base: Option<Row>, edit: &Row| {
        let decision = decided(&policy(deletes), Some(base), Some(edit.clone()), None);
        (decision.merged, decision.rule.to_string())
    };
    let (row, loser, rule) = both(decided(&policy(Deletes::EditWins), Some(Some(base())), Some(edit.clone()), None));
    assert_eq!((row, loser), (with(&[(1, Value::text("y")), (3, ints(&[3]))]), Loser::Proposal));
    assert_eq!(rule, "merge; edit-wins");
    assert_eq!(settled(Deletes::DeleteWins, Some(base()), &edit), (Merged::Proposal, "merge; delete-wins".into()));
    assert_eq!(settled(Deletes::Latest, Some(base()), &edit), (Merged::Proposal, "merge; last-write-wins".into()));
    // Nothing was edited: the delete is the only change.
    assert_eq!(settled(Deletes::EditWins, Some(base()), &base()), (Merged::Proposal, "merge".into()));
    // Made anew by one who had seen nothing.
    assert_eq!(settled(Deletes::EditWins, None, &edit), (Merged::Head, "merge; edit-wins".into()));
}

/// value-4
#[test]
fn a_merge_counts_as_the_winners_write() {
    let later = decided(&policy(Deletes::EditWins), Some(Some(base())), Some(with(&[(1, Value::Null)])), Some(base()));
    let Merged::Both { by, .. } = later.merged else { panic!("{later:?}") };
    assert_eq!(by.platform(), PlatformNo(2));
    let edit = decided(&policy(Deletes::EditWins), Some(Some(base())), Some(with(&[(3, ints(&[9]))])), None);
    let Merged::Both { by, .. } = edit.merged else { panic!("{edit:?}") };
    assert_eq!(by.platform(), PlatformNo(1));
}

/// read-10
#[test]
fn a_side_without_a_field_says_nothing_of_it() {
    let old = with(&[(1, Value::Unchanged), (2, Value::Int(11))]);
    let base = with(&[(1, Value::Unchanged)]);
    let new = with(&[(1, Value::text("new"))]);
    let decision = decided(&policy(Deletes::EditWins), Some(Some(base)), Some(new), Some(old));
    assert_eq!(both(decision), (with(&[(1, Value::text("new")), (2, Value::Int(11))]), Loser::Neither, "merge".into()));
}

fn any_row() -> impl Strategy<Value = Row> {
    let list = || prop::collection::vec(0..4_i64, 0..4).prop_map(|values| ints(&values));
    let member = || prop_oneof![Just("1"), Just("2"), Just(r#"{"c":1}"#), Just(r#"{"c":2,"d":3}"#)];
    let doc = prop::collection::btree_map(prop_oneof![Just("a"), Just("b")], member(), 0..3).prop_map(|members| {
        let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        json(&format!("{{{}}}", members.join(",")))
    });
    let number = || prop_oneof![Just(Value::Null), (0..3_i64).prop_map(Value::Int)];
    (prop_oneof![Just("x"), Just("y"), Just("z")], number(), list(), list(), number(), number(), doc).prop_map(
        |(name, stock, tags, log, high, low, doc)| {
            Row(vec![Value::Int(1), Value::text(name), stock, tags, log, high, low, doc, Value::text(""), lines(&[])])
        },
    )
}

/// A row as it is for who does not care for the order of arrays.
fn unordered(row: &Row) -> Vec<String> {
    let plain = |value: &Value| match value {
        Value::Array(values) => {
            let mut values: Vec<String> = values.iter().map(|v| format!("{v:?}")).collect();
            values.sort();
            format!("{values:?}")
        }
        other => format!("{other:?}"),
    };
    row.0.iter().map(plain).collect()
}

proptest! {
    /// resolve-8, I1: which of two comes first decides nothing but the order of what both added.
    #[test]
    fn who_comes_first_does_not_matter(base in any_row(), a in any_row(), b in any_row()) {
        let policy = policy(Deletes::EditWins);
        let schema = schema();
        let rules = Rules::default();
        let ancestor = side(3, 1, Some(base));
        let (a, b) = (side(1, 10, Some(a)), side(2, 20, Some(b)));
        let case = |head, proposal| Case { rules: &rules, schema: &schema, ancestor: Some(&ancestor), head, proposal, past: &[] };
        let (one, _, _) = both(policy.merge(&case(&a, &b)));
        let (other, _, _) = both(policy.merge(&case(&b, &a)));
        prop_assert_eq!(unordered(&one), unordered(&other));
    }

    /// I2: where nothing is said to be lost, what either changed is what stands, or is in it by its rule.
    #[test]
    fn what_one_side_alone_changed_always_stands(base in any_row(), a in any_row(), b in any_row()) {
        let decision = decided(&policy(Deletes::EditWins), Some(Some(base.clone())), Some(a.clone()), Some(b.clone()));
        let (row, loser, rule) = both(decision);
        for (at, value) in row.0.iter().enumerate() {
            match (a.0[at] == base.0[at], b.0[at] == base.0[at]) {
                (true, _) => prop_assert_eq!(value, &b.0[at]),
                (_, true) => prop_assert_eq!(value, &a.0[at]),
                _ => {}
            }
        }
        if a.0[1] != base.0[1] && b.0[1] != base.0[1] && a.0[1] != b.0[1] {
            prop_assert!(loser == Loser::Head && rule.contains("name"), "{:?} {}", loser, rule);
        }
    }

    /// A document is merged with itself, or with the base, into itself.
    #[test]
    fn nothing_comes_of_nothing(base in any_row(), a in any_row()) {
        for (head, proposal) in [(&a, &base), (&base, &a)] {
            let decision =
                decided(&policy(Deletes::EditWins), Some(Some(base.clone())), Some(head.clone()), Some(proposal.clone()));
            prop_assert_eq!(both(decision), (a.clone(), Loser::Neither, "merge".into()));
        }
    }
}
