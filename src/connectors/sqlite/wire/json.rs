//! JSON in canonical text: no spaces, keys sorted, numbers as written. A document with one name
//! twice is refused: nobody can say which value counts.

use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;

/// The canonical text of a document, or why there is none.
pub(crate) fn canonical(text: &str) -> Result<String, String> {
    let document: &RawValue = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let mut out = String::with_capacity(text.len());
    write(document.get(), &mut out)?;
    Ok(out)
}

/// Each level is read anew with its parts left as they are, so numbers never pass through a float.
fn write(text: &str, out: &mut String) -> Result<(), String> {
    let reason = |e: serde_json::Error| e.to_string();
    match text.as_bytes().first() {
        Some(b'{') => {
            let Members(members) = serde_json::from_str(text).map_err(reason)?;
            let open = |(i, (name, value)): (usize, (&String, &&RawValue))| {
                out.push(if i == 0 { '{' } else { ',' });
                out.push_str(&serde_json::to_string(name).map_err(reason)?);
                out.push(':');
                write(value.get(), out)
            };
            members.iter().enumerate().try_for_each(open)?;
            out.push_str(if members.is_empty() { "{}" } else { "}" });
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(reason)?;
            for (i, item) in items.iter().enumerate() {
                out.push(if i == 0 { '[' } else { ',' });
                write(item.get(), out)?;
            }
            out.push_str(if items.is_empty() { "[]" } else { "]" });
        }
        Some(b'"') => {
            let string: String = serde_json::from_str(text).map_err(reason)?;
            out.push_str(&serde_json::to_string(&string).map_err(reason)?);
        }
        _ => out.push_str(text),
    }
    Ok(())
}

/// An object's members by name, each once.
struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    if members.contains_key(&name) {
                        return Err(serde::de::Error::custom(format!("the name {name:?} occurs twice")));
                    }
                    members.insert(name, value);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_and_numbers_stay_as_written() {
        let text = " { \"b\" : [ 1.50 , 1e400 ,-0, {} , [] ] ,\"a\":\"\\u00e4\\n\", \"\":null } ";
        assert_eq!(canonical(text).unwrap(), "{\"\":null,\"a\":\"ä\\n\",\"b\":[1.50,1e400,-0,{},[]]}");
        assert_eq!(canonical(" true ").unwrap(), "true");
    }

    #[test]
    fn broken_documents_and_names_that_occur_twice_are_refused() {
        for text in ["", "{", "[1,]", "{\"a\":1,\"a\":2}", "nul", "1 2"] {
            assert!(canonical(text).is_err(), "{text}");
        }
    }
}
