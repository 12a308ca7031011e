//! Which rows a platform has: a condition on the fields of a record, checked when the configuration is
//! loaded and bound to the collection's types when its schema is known.
//!
//! ```text
//! condition  := term { or term } · term := factor { and factor }
//! factor     := not factor | ( condition ) | field test
//! test       := (= | != | <> | < | <= | > | >=) literal | in ( literal {, literal} ) | is [not] null
//! literal    := 'text' | number | true | false
//! ```
//!
//! Null compares as in SQL: the comparison is neither true nor false, and a row is admitted only if the
//! condition is true. Text compares by its bytes. No functions, no other fields on the right: a filter
//! is total and looks at one record alone.

mod parse;

pub use parse::{Compare, Literal, Spoken, parse};

use crate::event::decimal::Decimal;
use crate::event::{Row, Schema, Type, Value};
use std::cmp::Ordering;
use std::fmt;

/// A condition bound to a collection.
#[derive(Clone, Debug)]
pub struct Filter {
    text: String,
    fields: Vec<usize>,
    root: Node,
}

#[derive(Clone, Debug)]
enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Compare(usize, Compare, Value),
    In(usize, Vec<Value>),
    IsNull(usize),
}

impl Filter {
    /// The condition on records of `schema`, or what is wrong with it.
    pub fn of(text: &str, schema: &Schema) -> Result<Filter, String> {
        let mut fields = Vec::new();
        let root = bind(&parse(text)?, schema, &mut fields)?;
        fields.sort_unstable();
        fields.dedup();
        Ok(Filter { text: text.trim().to_owned(), fields, root })
    }

    /// Whether a whole record is admitted.
    #[must_use]
    pub fn admits(&self, row: &Row) -> bool {
        self.root.holds(row) == Some(true)
    }

    /// Whether a part of a record is certainly not admitted: nothing the condition asks for is missing.
    #[must_use]
    pub fn excludes(&self, part: &Row) -> bool {
        let known = |at: &usize| part.get(*at).is_some_and(|value| *value != Value::Unchanged);
        self.fields.iter().all(known) && !self.admits(part)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A field by its name.
fn field<'s>(name: &str, schema: &'s Schema, fields: &mut Vec<usize>) -> Result<(usize, &'s Type), String> {
    let missing = || format!("there is no field `{name}`");
    let at = schema.index_of(name).ok_or_else(missing)?;
    fields.push(at);
    schema.fields.get(at).map(|field| (at, &field.ty)).ok_or_else(missing)
}

fn bind(spoken: &Spoken, schema: &Schema, fields: &mut Vec<usize>) -> Result<Node, String> {
    let literal = |name: &str, ty: &Type, literal: &Literal| {
        literal_of(ty, literal).map_err(|why| format!("`{name}` is compared with {literal}: {why}"))
    };
    Ok(match spoken {
        Spoken::And(all) => Node::And(all.iter().map(|s| bind(s, schema, fields)).collect::<Result<_, _>>()?),
        Spoken::Or(any) => Node::Or(any.iter().map(|s| bind(s, schema, fields)).collect::<Result<_, _>>()?),
        Spoken::Not(inner) => Node::Not(Box::new(bind(inner, schema, fields)?)),
        Spoken::IsNull(name) => Node::IsNull(field(name, schema, fields)?.0),
        Spoken::Compare(name, compare, right) => {
            let (at, ty) = field(name, schema, fields)?;
            Node::Compare(at, *compare, literal(name, ty, right)?)
        }
        Spoken::In(name, list) => {
            let (at, ty) = field(name, schema, fields)?;
            Node::In(at, list.iter().map(|right| literal(name, ty, right)).collect::<Result<_, _>>()?)
        }
    })
}

impl Node {
    /// As in SQL: `None` where null makes it unknown.
    fn holds(&self, row: &Row) -> Option<bool> {
        match self {
            Node::Not(inner) => inner.holds(row).map(|holds| !holds),
            Node::And(all) => all.iter().map(|node| node.holds(row)).min_by_key(rank).flatten(),
            Node::Or(any) => any.iter().map(|node| node.holds(row)).max_by_key(rank).flatten(),
            Node::IsNull(at) => Some(row.get(*at).is_none_or(Value::is_null)),
            Node::Compare(at, compare, right) => order(row.get(*at)?, right).map(|order| compare.fits(order)),
            Node::In(at, list) => {
                let value = row.get(*at).filter(|value| !value.is_null())?;
                Some(list.iter().any(|right| order(value, right) == Some(Ordering::Equal)))
            }
        }
    }
}

/// False, then unknown, then true: a conjunction is the least of its terms, an alternative the greatest.
fn rank(holds: &Option<bool>) -> u8 {
    match holds {
        Some(false) => 0,
        None => 1,
        Some(true) => 2,
    }
}

/// How two values of one type compare; `None` if one is null or has no order.
fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Int(b)) | (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
        (Value::Date(a), Value::Date(b)) => Some(a.cmp(b)),
        (Value::Float32(a), Value::Float32(b)) => a.partial_cmp(b),
        (Value::Float64(a), Value::Float64(b)) => a.partial_cmp(b),
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Uuid(a), Value::Uuid(b)) => Some(a.cmp(b)),
        (Value::Decimal(a), Value::Decimal(b)) => match (a, b) {
            (Decimal::Finite(a), Decimal::Finite(b)) => Some(a.cmp(b)),
            (Decimal::Infinity, Decimal::Finite(_)) | (Decimal::Finite(_), Decimal::NegInfinity) => {
                Some(Ordering::Greater)
            }
            (Decimal::NegInfinity, Decimal::Finite(_)) | (Decimal::Finite(_), Decimal::Infinity) => {
                Some(Ordering::Less)
            }
            _ => None,
        },
        _ => None,
    }
}

/// A literal as a value of a type, or what was expected.
pub(super) fn literal_of(ty: &Type, literal: &Literal) -> Result<Value, String> {
    let expected = |what: &str| Err(format!("expected {what}"));
    match (ty, literal) {
        (Type::Bool, Literal::Bool(b)) => Ok(Value::Bool(*b)),
        (Type::Int(bits), Literal::Number(n)) => {
            let limit = 1i128 << (bits - 1);
            let int = n.parse::<i64>().ok().filter(|i| (-limit..limit).contains(&i128::from(*i)));
            int.map_or_else(|| expected(&format!("a whole number of {bits} bits")), |i| Ok(Value::Int(i)))
        }
        (Type::Float(32), Literal::Number(n)) => n.parse().map(Value::Float32).or_else(|_| expected("a number")),
        (Type::Float(_), Literal::Number(n)) => n.parse().map(Value::Float64).or_else(|_| expected("a number")),
        (Type::Decimal, Literal::Number(n) | Literal::Text(n)) => {
            n.parse().map(Value::Decimal).or_else(|_| expected("a decimal number"))
        }
        (Type::Text, Literal::Text(text)) => Ok(Value::text(text)),
        (Type::Uuid, Literal::Text(text)) => match uuid::Uuid::try_parse(text) {
            Ok(uuid) => Ok(Value::Uuid(*uuid.as_bytes())),
            Err(_) => expected("a UUID in quotes"),
        },
        (Type::Date, Literal::Text(text)) => match date(text) {
            Some(day) => Ok(Value::Date(day)),
            None => expected("a date such as '2026-01-31'"),
        },
        (Type::Timestamp { zone }, Literal::Text(text)) => match timestamp(text, *zone) {
            Some(micros) => Ok(Value::Timestamp(micros)),
            None if *zone => expected("an instant such as '2026-01-31T12:00:00Z'"),
            None => expected("a time such as '2026-01-31T12:00:00'"),
        },
        (Type::Bool, _) => expected("true or false"),
        (Type::Int(_) | Type::Float(_) | Type::Decimal, _) => expected("a number"),
        (Type::Text | Type::Uuid | Type::Date | Type::Timestamp { .. }, _) => expected("a text in quotes"),
        _ => Err(format!("a field of type {ty:?} can only be asked whether it is null")),
    }
}

/// Days since 1970 of `YYYY-MM-DD`.
fn date(text: &str) -> Option<i32> {
    let day = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    i32::try_from(day.signed_duration_since(chrono::NaiveDate::default()).num_days()).ok()
}

/// Microseconds since 1970; with `zone` the text must say UTC or an offset.
fn timestamp(text: &str, zone: bool) -> Option<i64> {
    if zone {
        return chrono::DateTime::parse_from_rfc3339(text).ok().map(|at| at.timestamp_micros());
    }
    let read = |format| chrono::NaiveDateTime::parse_from_str(text, format).ok();
    let at = read("%Y-%m-%dT%H:%M:%S%.f").or_else(|| read("%Y-%m-%d %H:%M:%S%.f"))?;
    Some(at.and_utc().timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Field, SchemaId};
    use proptest::prelude::*;

    fn schema() -> Schema {
        let field = |name: &str, ty| Field { name: name.into(), ty, nullable: true };
        let fields = vec![
            field("id", Type::Int(64)),
            field("region", Type::Text),
            field("price", Type::Decimal),
            field("live", Type::Bool),
            field("since", Type::Timestamp { zone: true }),
            field("note", Type::Json),
        ];
        Schema { id: SchemaId(1), name: "shops".into(), fields, key: vec![0] }
    }

    fn row(region: Option<&str>, price: &str, live: bool) -> Row {
        let region = region.map_or(Value::Null, Value::text);
        let since = Value::Timestamp(1_767_225_600_000_000);
        Row(vec![Value::Int(7), region, Value::Decimal(price.parse().unwrap()), Value::Bool(live), since, Value::Null])
    }

    fn admits(text: &str, row: &Row) -> bool {
        Filter::of(text, &schema()).unwrap_or_else(|why| panic!("{text}: {why}")).admits(row)
    }

    /// read-11
    #[test]
    fn a_condition_admits_the_rows_it_describes_and_no_others() {
        let eu = row(Some("EU"), "10.50", true);
        for yes in [
            "region = 'EU'",
            "region in ('US', 'EU') and price < 11",
            "not (region = 'US') and live = true",
            "price >= 10.5 and price <= '10.5' and id != 8",
            "since >= '2026-01-01T00:00:00Z' AND note IS NULL",
            "region is not null or price > 1000",
            "\"region\" <> 'E''U'",
        ] {
            assert!(admits(yes, &eu), "{yes}");
        }
        for no in ["region = 'eu'", "price > 10.5", "since < '2026-01-01T00:00:00Z'", "note is not null"] {
            assert!(!admits(no, &eu), "{no}");
        }
    }

    #[test]
    fn null_is_neither_equal_nor_unequal_to_anything() {
        let nowhere = row(None, "1", true);
        for no in ["region = 'EU'", "region != 'EU'", "not region = 'EU'", "region in ('EU')", "not region in ('EU')"] {
            assert!(!admits(no, &nowhere), "{no}");
        }
        assert!(admits("region = 'EU' or live = true", &nowhere));
        assert!(!admits("not (region = 'EU' and live = true)", &nowhere));
    }

    #[test]
    fn a_part_of_a_record_is_excluded_only_if_all_that_is_asked_for_is_there() {
        let filter = Filter::of("region = 'EU' and live = true", &schema()).unwrap();
        let mut part = row(Some("US"), "1", true);
        assert!(filter.excludes(&part));
        part.0[3] = Value::Unchanged;
        assert!(!filter.excludes(&part), "what is not known may be anything");
    }

    #[test]
    fn what_cannot_be_compared_is_refused_with_what_was_expected() {
        for (text, why) in [
            ("", "expected a field"),
            ("regin = 'EU'", "there is no field `regin`"),
            ("region = 5", "expected a text in quotes"),
            ("id = 1.5", "expected a whole number of 64 bits"),
            ("note = '{}'", "can only be asked whether it is null"),
            ("region = 'EU' live", "expected `and`, `or` or the end"),
            ("(region = 'EU'", "expected `)`"),
            ("region = null", "use `is null`"),
            ("since > '2026-01-01'", "expected an instant such as"),
        ] {
            let error = Filter::of(text, &schema()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>(), words in prop::collection::vec(
            prop::sample::select(vec!["id", "=", "(", ")", "not", "and", "in", ",", "'x'", "1", "is", "null", "<", "-"]), 0..30)) {
            let _ = Filter::of(&text, &schema());
            let _ = Filter::of(&words.join(" "), &schema());
        }
    }
}
