//! What rules see, what becomes of what they say, and which are refused (resolve-8).

use super::check::{FUNCTIONS, OPERATORS};
use super::*;
use crate::event::{
    ActorId, Canonical, Conflict, Deletes, Field, FieldRule, Fp, Hlc, Loser, Merge, PlatformNo, Row, Rules, SchemaId,
    Type, Value as Own, Vv,
};
use crate::resolve::policy::Merged;

fn schema() -> Schema {
    let field = |name: &str, ty| Field { name: name.into(), ty, nullable: name != "id" };
    let fields = vec![
        field("id", Type::Int(64)),
        field("name", Type::Text),
        field("stock", Type::Int(16)),
        field("price", Type::Decimal),
        field("seen", Type::Timestamp { zone: true }),
        field("tags", Type::Array(Box::new(Type::Text))),
        field("doc", Type::Json),
        field("day", Type::Date),
    ];
    Schema { id: SchemaId(1), name: "items".into(), fields, key: vec![0] }
}

fn row(name: &str, stock: i64) -> Row {
    Row(vec![
        Own::Int(1),
        Own::text(name),
        Own::Int(stock),
        Own::Decimal("12.50".parse().unwrap()),
        Own::Timestamp(1_700_000_000_123_456),
        Own::Array(vec![Own::text("a"), Own::text("b")]),
        Own::Json(r#"{"n":1.50,"on":true}"#.into()),
        Own::Date(19_000),
    ])
}

fn side(platform: u16, ms: u64, row: Option<Row>) -> Side {
    let fp = row.as_ref().map_or(Fp::ABSENT, |row| Fp::of_row(&schema(), row));
    let by = ActorId::new(PlatformNo(platform), 1);
    let (ts, value) = (Hlc::from_ms(ms), row.map(Arc::new));
    Side { by, dot: None, vv: Vv::new(), seq: 4, ts, fp, schema: SchemaId(1), value }
}

fn custom(rule: &str) -> event::Custom {
    let names = vec![(PlatformNo(1), "shop".into()), (PlatformNo(2), "depot".into())];
    let fields = [("stock".into(), FieldRule::Counter)].into();
    let merge = Merge { fields, deletes: Deletes::Review };
    event::Custom { rule: rule.into(), otherwise: Otherwise::Latest, merge, names }
}

/// What stood is of `shop`, the first in priority; what came is of `depot`, and later.
fn asked(custom: &event::Custom, stood: Option<Row>, came: Option<Row>, past: &[Arc<Canonical>]) -> Decision {
    let rules = Rules { priority: vec![PlatformNo(1), PlatformNo(2)], ..Rules::default() };
    let (schema, ancestor) = (schema(), side(1, 1, Some(row("x", 10))));
    let (head, proposal) = (side(1, 10, stood), side(2, 20, came));
    Custom::of(custom).merge(&Case {
        rules: &rules,
        schema: &schema,
        ancestor: Some(&ancestor),
        head: &head,
        proposal: &proposal,
        past,
    })
}

fn decided(rule: &str) -> Decision {
    Rule::compile(rule).and_then(|compiled| compiled.fits(&schema())).unwrap_or_else(|flaw| panic!("{rule}: {flaw}"));
    asked(&custom(rule), Some(row("ours", 12)), Some(row("theirs", 8)), &[])
}

fn made(decision: &Decision) -> Row {
    let Merged::Both { value: Some(row), .. } = &decision.merged else { panic!("{decision:?}") };
    (**row).clone()
}

#[test]
fn a_rule_picks_a_side_by_what_it_sees() {
    for (rule, came) in [
        ("stood", false),
        ("came", true),
        ("latest", true),
        ("stood.platform == 'shop' ? stood : came", false),
        ("stood.priority < came.priority ? came : stood", true),
        ("came.time > stood.time + duration('5ms') ? came : stood", true),
        ("came.value.stock > stood.value.stock ? came : stood", false),
        ("came.value.price == 12.5 && came.value.price > 12 ? came : stood", true),
        ("'name' in came.changed && !('price' in came.changed) ? came : stood", true),
        ("ancestor.value.name == 'x' && key.id == 1 ? came : stood", true),
        ("came.value.doc.on ? came : stood", true),
        ("came.value.tags.exists(t, t == 'b') ? came : stood", true),
        ("came.value.tags.filter(t, t != 'a').map(t, t + '!') == ['b!'] ? came : stood", true),
        ("came.value.seen.getFullYear() == 2023 ? came : stood", true),
        ("came.value.day == timestamp('2022-01-08T00:00:00Z') ? came : stood", true),
        ("has(came.value.name) && came.value['name'].startsWith('the') ? came : stood", true),
        ("size(conflicts) == 0 ? came : stood", true),
        ("came.deleted || merged.value == null ? stood : came", true),
    ] {
        let decision = decided(rule);
        let (merged, name) = if came { (Merged::Proposal, "custom: came") } else { (Merged::Head, "custom: stood") };
        assert_eq!((decision.merged, decision.open), (merged, None), "{rule}: {}", decision.rule);
        assert_eq!(&*decision.rule, name, "{rule}");
    }
}

#[test]
fn a_rule_makes_a_value_and_what_it_passes_on_stays_exact() {
    let decision = decided("came.with({'stock': stood.value.stock + came.value.stock - ancestor.value.stock})");
    assert_eq!((&*decision.rule, made(&decision)), ("custom: came, changed", row("theirs", 10)));
    assert!(matches!(decision.merged, Merged::Both { by, loser: Loser::Head, .. } if by.platform() == PlatformNo(2)));
    // The document and the decimal keep their digits, though CEL sees floats.
    let passed = decided("stood.with({'name': came.value.name, 'doc': came.value.doc, 'price': came.value.price})");
    assert_eq!(made(&passed), row("theirs", 12));
    let merged = decided("merged.with({'name': 'both'})");
    assert_eq!((&*merged.rule, made(&merged)), ("custom: merge; last-write-wins: name, changed", row("both", 10)));
    let price = made(&decided("stood.with({'price': stood.value.price * 3.0, 'doc': {'a': [1, null]}, 'tags': []})"));
    assert_eq!(price.0[3], Own::Decimal("37.5".parse().unwrap()));
    assert_eq!((&price.0[5], &price.0[6]), (&Own::Array(vec![]), &Own::Json(r#"{"a":[1,null]}"#.into())));
    assert_eq!(decided("stood.with({'name': stood.value.name})").merged, Merged::Head, "nothing is another value");
    assert_eq!(decided("merged").rule, "custom: merge; last-write-wins: name".into());
}

#[test]
fn a_rule_asks_for_a_review_or_rejects() {
    let told = |rule: &str| {
        let Decision { merged, rule, open } = decided(rule);
        (merged, rule.to_string(), open.map(|why| why.to_string()))
    };
    let by = |how: &str, why: &str| (format!("custom: review; {how}; {why}"), Some(why.to_owned()));
    let (rule, open) = by("stood", "look");
    assert_eq!(told("review(stood, 'look')"), (Merged::Head, rule, open));
    let (rule, open) = by("last-write-wins", "the rule asks for it");
    assert_eq!(told("review()"), (Merged::Proposal, rule, open));
    assert_eq!(told("reject('closed')"), (Merged::Head, "custom: rejected; closed".into(), None));
    // What the merge leaves open stays open.
    let merged = asked(&custom("merged"), Some(row("ours", 12)), None, &[]);
    assert_eq!((merged.merged, merged.open.is_some()), (Merged::Head, true));
}

#[test]
fn a_rule_sees_the_earlier_conflicts_of_the_record() {
    let (head, proposal) = (side(1, 10, Some(row("a", 1))), side(2, 20, Some(row("b", 2))));
    let conflict = Conflict {
        ancestor: None,
        head,
        proposal,
        loser: Loser::Head,
        rule: "custom: came".into(),
        rules: 1,
        ambiguous_base: false,
        earlier: 0,
        open: None,
    };
    let version = Canonical { seq: 7, conflict: Some(Box::new(conflict)), key: "k".into(), ..Canonical::blank() };
    let rule = "conflicts.exists(c, c.winner == 'came' && c.came == 'depot' && c.version == 7) ? stood : came";
    let decision = asked(&custom(rule), Some(row("ours", 12)), Some(row("theirs", 8)), &[Arc::new(version)]);
    assert_eq!((decision.merged, &*decision.rule), (Merged::Head, "custom: stood"));
    assert!(Custom::of(&custom(rule)).looks_back() && !Custom::of(&custom("stood")).looks_back());
}

#[test]
fn a_rule_that_fails_has_a_stated_winner_and_a_person_is_asked() {
    for (rule, why) in [
        ("came.value.stock / 0 > 1 ? came : stood", "division by zero"),
        ("came.value.doc.gone == 1 ? came : stood", "there is no `gone` in this record"),
        ("came.value.tags[9] == 'a' ? came : stood", "a list is shorter than that"),
        ("came.with({'stock': 70000})", "`stock` cannot hold what the rule made of it"),
        ("came.with({'tags': [1]})", "`tags` cannot hold what the rule made of it"),
        ("came.with({came.value.name: 1})", "`with` names a field that is not there"),
        ("came.value.doc.on + 1 > 1 ? came : stood", "two values do not go together"),
    ] {
        let decision = decided(rule);
        assert_eq!(decision.merged, Merged::Proposal, "{rule}");
        let open = decision.open.unwrap();
        assert!(open.starts_with("the rule failed: ") && open.contains(why), "{rule}: {open}");
        assert!(decision.rule.starts_with("custom: last-write-wins; the rule failed: "), "{}", decision.rule);
    }
    let otherwise = event::Custom { otherwise: Otherwise::Merged, ..custom("came.with({'stock': 70000})") };
    let decision = asked(&otherwise, Some(row("ours", 12)), Some(row("ours", 8)), &[]);
    assert_eq!((made(&decision), decision.open.is_some()), (row("ours", 10), true));
    let deleted = asked(&custom("came.with({'stock': 1})"), Some(row("ours", 12)), None, &[]);
    assert!(deleted.rule.contains("deleted has no fields"), "{}", deleted.rule);
    // resolve-8
    let large = asked(&custom("stood"), Some(row(&"x".repeat(INPUT_BYTES_MAX), 1)), Some(row("y", 1)), &[]);
    assert_eq!((large.merged, large.open.is_some()), (Merged::Proposal, true));
    assert!(large.rule.ends_with("the record is larger than 64 KiB"), "{}", large.rule);
}

#[test]
fn a_rule_that_can_mean_nothing_is_refused_with_its_place() {
    for (rule, line, column, why) in [
        ("stood ? came", 1, 13, "this is no CEL"),
        ("stod", 1, 1, "there is no `stod`; a rule sees `stood`, `came`"),
        ("true\n  ? stood\n  : cam", 3, 5, "there is no `cam`"),
        ("stood.value", 1, 6, "the rule comes to a map"),
        ("ancestor", 1, 1, "the rule comes to a side"),
        ("1 > 2 ? stood : 'x'", 1, 7, "has no form for a bool and a side and a string"),
        ("stood.age > 1 ? stood : came", 1, 6, "a side has no `age` here"),
        ("stood.value.nme == 'x' ? stood : came", 1, 12, "a record has no `nme` here; it has `id`, `name`"),
        ("stood.value.name > 1 ? stood : came", 1, 18, "`>` has no form for a string and an int"),
        ("stood.value.price + 1 > 1.0 ? stood : came", 1, 19, "write `2.0` for `2`"),
        ("stood.time.getHours('Asia/Tokyo') == 1 ? stood : came", 1, 20, "`getHours` has no form for"),
        ("now() > stood.time ? stood : came", 1, 4, "`now` has no form for"),
        ("stood.value.doc.map(d, d) == [1] ? stood : came", 1, 20, "names have no order"),
        ("stood.value.name.exists(c, c == 'x') ? stood : came", 1, 24, "only lists can be gone over; found a string"),
        ("ancestor.with({'name': 'x'})", 1, 14, "only `stood`, `came`, `latest` and `merged` can be changed"),
        ("stood.with({'nme': 'x'})", 1, 13, "`items` has no field `nme`; it has `id`"),
        ("stood.with({'id': 2})", 1, 13, "`id` belongs to the key"),
        ("review(1)", 1, 7, "`review` takes an outcome"),
        ("reject(1)", 1, 7, "`reject` takes a reason"),
        ("Thing{a: 1}", 1, 6, "there is no type `Thing`"),
    ] {
        let flaw = Rule::compile(rule).and_then(|rule| rule.fits(&schema())).unwrap_err();
        assert!(flaw.why.contains(why), "{rule}: {flaw}");
        assert_eq!((flaw.line, flaw.column), (line, column), "{rule}: {flaw}");
    }
}

/// resolve-8
#[test]
fn resolve_8_a_rule_that_could_take_too_long_is_refused() {
    let nested = "stood.value.tags.all(a, came.value.tags.all(b, a == b)) ? stood : came";
    let flaw = Rule::compile(nested).err().unwrap();
    assert!(flaw.why.contains("a list is gone over inside another"), "{flaw}");
    let chained = "stood.value.tags.filter(a, a != '').map(b, b + '').all(c, c != '') ? stood : came";
    assert_eq!(decided(chained).merged, Merged::Head);
    let long = format!("{} ? stood : came", vec!["true"; 600].join(" && "));
    let flaw = Rule::compile(&long).err().unwrap();
    assert!(flaw.why.contains("1000 at most"), "{flaw}");
    let text = format!("stood.platform == '{}' ? stood : came", "x".repeat(16 << 10));
    assert!(Rule::compile(&text).err().unwrap().why.contains("bytes"));
    let deep = format!("{}true{} ? stood : came", "(".repeat(5_000), ")".repeat(5_000));
    assert!(Rule::compile(&deep).is_err());
}

/// What stands in the tables can be called: a form that CEL does not have would fail at the first conflict.
#[test]
fn every_form_of_the_tables_is_one_of_cel() {
    let value = |letter: char, name: &str| match (letter, name) {
        ('b', _) => "true",
        ('i', _) => "1",
        ('u', _) => "1u",
        ('d', _) => "1.5",
        ('s', "timestamp") => "'2020-01-01T00:00:00Z'",
        ('s', "duration") => "'1s'",
        ('s', _) => "'1'",
        ('y', _) => "b'1'",
        ('t', _) => "timestamp('2020-01-01T00:00:00Z')",
        ('p', _) => "duration('1s')",
        ('l', _) => "[1]",
        _ => "{'a': 1}",
    };
    let runs = |text: &str| {
        let rule = format!("[{text}].size() == 1 ? stood : came");
        assert_eq!(decided(&rule).rule, "custom: stood".into(), "{text}");
    };
    for (name, is_method, forms, _) in FUNCTIONS {
        for form in forms.split(' ') {
            let mut given = form.chars().map(|letter| value(letter, name));
            let target = if *is_method { format!("{}.", given.next().unwrap()) } else { String::new() };
            runs(&format!("{target}{name}({})", given.collect::<Vec<_>>().join(", ")));
        }
    }
    for (name, forms) in OPERATORS {
        for form in forms.split(' ') {
            let values: Vec<&str> = form[..form.len() - 1].chars().map(|letter| value(letter, name)).collect();
            let sign = name.trim_matches('_');
            runs(&match values.as_slice() {
                [one] => format!("{sign}({one})"),
                values => values.join(&format!(" {sign} ")),
            });
        }
    }
}
