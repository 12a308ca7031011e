//! Where the file of a key lies, and which key a file belongs to: the path template. One key has one
//! path and one path one key; a path that another spelling of a key would give belongs to nobody.

use crate::event::{Field, Schema, Type, Value};
use std::fmt::Write;

/// The longest name of a file or directory, bytes.
const NAME_MAX: usize = 255;
/// The longest path below the root, bytes.
const PATH_MAX: usize = 3000;
/// An empty text; no escape is one digit long.
const EMPTY: &str = "%0";

/// A checked path template.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Template {
    segments: Vec<Vec<Part>>,
    types: Vec<Type>,
}

#[derive(Clone, PartialEq, Debug)]
enum Part {
    Literal(String),
    /// Index into the key.
    Field(usize),
}

impl Template {
    /// Checks `text` for the key of `schema`; the error says what is wrong.
    pub(crate) fn parse(text: &str, schema: &Schema) -> Result<Template, String> {
        let fields: Vec<&Field> = schema.key_fields().collect();
        for field in &fields {
            if !matches!(field.ty, Type::Int(_) | Type::Text | Type::Uuid) {
                return Err(format!(
                    "key field {} cannot stand in a path: its type must be an integer, text or uuid",
                    field.name
                ));
            }
        }
        let all = fields.iter().map(|f| format!("{{{}}}", f.name)).collect::<Vec<_>>().join(",");
        let named_key = fields.iter().any(|f| &*f.name == "key");
        let text = if named_key { text.to_owned() } else { text.replace("{key}", &all) };
        let segments = text.split('/').map(|s| parts_of(s, &fields)).collect::<Result<Vec<_>, _>>()?;
        let template = Template { segments, types: fields.iter().map(|f| f.ty.clone()).collect() };
        for (index, field) in fields.iter().enumerate() {
            let uses = template.segments.iter().flatten().filter(|p| **p == Part::Field(index)).count();
            if uses != 1 {
                return Err(format!("{{{}}} must stand in it exactly once", field.name));
            }
        }
        Ok(template)
    }

    /// How many names a path has.
    pub(crate) fn depth(&self) -> usize {
        self.segments.len()
    }

    /// The name at `depth` if it is the same for all keys.
    pub(crate) fn literal(&self, depth: usize) -> Option<&str> {
        match self.segments.get(depth)?.as_slice() {
            [Part::Literal(name)] => Some(name),
            _ => None,
        }
    }

    /// Whether a key's path may have `name` at `depth`.
    pub(crate) fn admits(&self, depth: usize, name: &str) -> bool {
        let mut values = vec![Value::Null; self.types.len()];
        self.segments.get(depth).is_some_and(|parts| self.read_segment(parts, name, &mut values).is_some())
    }

    /// The path of a key's values, or why it has none.
    pub(crate) fn path(&self, values: &[Value]) -> Result<String, String> {
        let mut path = String::new();
        for parts in &self.segments {
            if !path.is_empty() {
                path.push('/');
            }
            let start = path.len();
            for (at, part) in parts.iter().enumerate() {
                match part {
                    Part::Literal(text) => path.push_str(text),
                    Part::Field(index) => {
                        let value = values.get(*index).ok_or("the key has too few fields")?;
                        escape(&mut path, &value_text(value)?, at == 0, separator(parts, at));
                    }
                }
            }
            if path.len() - start > NAME_MAX {
                return Err(format!("its file name would be longer than {NAME_MAX} bytes"));
            }
        }
        if path.len() > PATH_MAX {
            return Err(format!("its path would be longer than {PATH_MAX} bytes"));
        }
        Ok(path)
    }

    /// The key's values whose path this is.
    pub(crate) fn values(&self, path: &str) -> Option<Vec<Value>> {
        let mut values = vec![Value::Null; self.types.len()];
        let mut names = path.split('/');
        for parts in &self.segments {
            self.read_segment(parts, names.next()?, &mut values)?;
        }
        // topic-4: another spelling of a key would be a second file for it.
        (names.next().is_none() && self.path(&values).is_ok_and(|p| p == path)).then_some(values)
    }

    fn read_segment(&self, parts: &[Part], name: &str, values: &mut [Value]) -> Option<()> {
        let mut rest = name;
        for (at, part) in parts.iter().enumerate() {
            let index = match part {
                Part::Literal(text) => {
                    rest = rest.strip_prefix(text.as_str())?;
                    continue;
                }
                Part::Field(index) => *index,
            };
            let end = match parts.get(at + 1) {
                None => rest.len(),
                Some(Part::Literal(suffix)) if at + 2 == parts.len() => rest.strip_suffix(suffix.as_str())?.len(),
                Some(Part::Literal(separator)) => rest.find(separator.as_str())?,
                Some(Part::Field(_)) => return None,
            };
            *values.get_mut(index)? = parse_value(self.types.get(index)?, &unescape(rest.get(..end)?)?)?;
            rest = rest.get(end..)?;
        }
        rest.is_empty().then_some(())
    }
}

/// The parts of one name of the template.
fn parts_of(segment: &str, fields: &[&Field]) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = segment;
    while let Some(open) = rest.find('{') {
        let (literal, field) = rest.split_at(open);
        let close = field.find('}').ok_or("a { without }")?;
        let name = field.get(1..close).unwrap_or_default();
        let index =
            fields.iter().position(|f| &*f.name == name).ok_or_else(|| format!("{{{name}}} is no field of the key"))?;
        if !literal.is_empty() {
            parts.push(Part::Literal(literal.to_owned()));
        }
        if let [.., Part::Field(_)] = parts.as_slice() {
            return Err("two fields need something between them".into());
        }
        parts.push(Part::Field(index));
        rest = field.get(close + 1..).unwrap_or_default();
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest.to_owned()));
    }
    check_parts(segment, &parts).map(|()| parts)
}

fn check_parts(segment: &str, parts: &[Part]) -> Result<(), String> {
    if parts.is_empty() || segment.starts_with('.') {
        return Err("a name in it is empty or begins with a dot".into());
    }
    for (at, part) in parts.iter().enumerate() {
        let Part::Literal(text) = part else { continue };
        if text.chars().any(|c| c.is_control() || matches!(c, '%' | '\\' | '}')) {
            return Err(format!("{text:?} has a character that may not stand there"));
        }
        let between = at > 0 && at + 1 < parts.len();
        if between && !text.starts_with(|c: char| c.is_ascii_punctuation() || c == ' ') {
            return Err(format!("{text:?} between two fields must begin with a punctuation mark"));
        }
    }
    Ok(())
}

/// The first character of what stands behind the field at `at`, if a further field follows: it is
/// escaped in the field, so that the field ends at its first occurrence.
fn separator(parts: &[Part], at: usize) -> Option<char> {
    match (parts.get(at + 1), parts.get(at + 2)) {
        (Some(Part::Literal(text)), Some(_)) => text.chars().next(),
        _ => None,
    }
}

fn escape(path: &mut String, text: &str, begins_name: bool, separator: Option<char>) {
    if text.is_empty() {
        path.push_str(EMPTY);
    }
    for (at, c) in text.chars().enumerate() {
        let hidden = begins_name && at == 0 && c == '.';
        if c.is_control() || matches!(c, '/' | '%' | '\\') || hidden || Some(c) == separator {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(path, "%{byte:02X}");
            }
        } else {
            path.push(c);
        }
    }
}

fn unescape(text: &str) -> Option<String> {
    if text == EMPTY {
        return Some(String::new());
    }
    if text.is_empty() {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after.get(2..)?;
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

fn value_text(value: &Value) -> Result<String, String> {
    match value {
        Value::Int(i) => Ok(i.to_string()),
        Value::Text(t) => Ok(t.as_str().to_owned()),
        Value::Uuid(u) => Ok(uuid::Uuid::from_bytes(*u).to_string()),
        _ => Err("a key field is neither integer, text nor uuid".into()),
    }
}

fn parse_value(ty: &Type, text: &str) -> Option<Value> {
    match ty {
        Type::Int(bits) => text.parse().ok().filter(|i| fits(*i, *bits)).map(Value::Int),
        Type::Text => Some(Value::text(text)),
        Type::Uuid => uuid::Uuid::try_parse(text).ok().map(|u| Value::Uuid(u.into_bytes())),
        _ => None,
    }
}

/// Whether a signed integer of `bits` bits can be `value`.
pub(crate) fn fits(value: i64, bits: u8) -> bool {
    let spare = 64u32.saturating_sub(u32::from(bits));
    (value << spare) >> spare == value
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn schema(types: &[(&str, Type)]) -> Schema {
        let field = |(name, ty): &(&str, Type)| Field { name: (*name).into(), ty: ty.clone(), nullable: false };
        Schema {
            id: Default::default(),
            name: "t".into(),
            fields: types.iter().map(field).collect(),
            key: (0..types.len()).collect(),
        }
    }

    fn three() -> Schema {
        schema(&[("a", Type::Text), ("b", Type::Int(32)), ("u", Type::Uuid)])
    }

    fn values() -> impl Strategy<Value = Vec<Value>> {
        let text = prop_oneof![any::<String>(), "[./%0,\\\\-]{0,5}", "[a-z]{0,9}"];
        (text, any::<i32>(), any::<[u8; 16]>())
            .prop_map(|(a, b, u)| vec![Value::text(&a), Value::Int(b.into()), Value::Uuid(u)])
    }

    proptest! {
        /// topic-4
        #[test]
        fn a_key_comes_back_from_its_path(values in values(), template in 0..5usize) {
            let text = ["{key}.json", "x/{a}/{u}.{b}", "{a}.{b}-{u}", "{b}/{a}/{u}", "{u} {a}--{b}.json.json"][template];
            let template = Template::parse(text, &three()).unwrap();
            if let Ok(path) = template.path(&values) {
                prop_assert!(path.split('/').all(|n| !n.is_empty() && !n.starts_with('.') && !n.contains('\0')), "{}", path);
                prop_assert_eq!(template.values(&path), Some(values));
            }
        }

        /// topic-4: no second path leads to a key.
        #[test]
        fn a_path_that_has_a_key_is_the_path_of_that_key(path in "[a-c%.,0-9A-F/]{1,12}") {
            let template = Template::parse("{a},{b}", &schema(&[("a", Type::Text), ("b", Type::Int(16))])).unwrap();
            if let Some(values) = template.values(&path) {
                prop_assert_eq!(template.path(&values), Ok(path));
            }
        }
    }

    #[test]
    fn templates_that_could_not_be_read_back_are_refused() {
        for text in [
            "{a}",
            "{a}{b}{u}",
            "{a}x{b}/{u}",
            "{a}/{b}/{u}/{a}",
            "../{key}",
            ".driftless/{key}",
            "/{key}",
            "{c}{key}",
            "{key}%",
        ] {
            assert!(Template::parse(text, &three()).is_err(), "{text}");
        }
        let float = schema(&[("f", Type::Float(64))]);
        assert!(Template::parse("{f}", &float).is_err());
    }

    #[test]
    fn other_spellings_of_a_key_belong_to_nobody() {
        let template = Template::parse("{b}", &schema(&[("b", Type::Int(16))])).unwrap();
        assert_eq!(template.values("7"), Some(vec![Value::Int(7)]));
        for name in ["07", "+7", "%37", "-0", "70000", "7 ", "", "7/7"] {
            assert_eq!(template.values(name), None, "{name}");
        }
    }
}
