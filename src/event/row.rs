//! A row: the values of a record, by position in its schema.

use super::value::Value;

/// The values of a record in the order of its schema's fields.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Row(pub Vec<Value>);

impl Row {
    /// The value of the field at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Value> {
        self.0.get(index)
    }

    /// About how large it is in bytes: its values as they are, without names and lengths.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.iter().map(Value::size).sum()
    }

    /// Whether a field is missing because the image did not carry it (value-2).
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.0.iter().any(|v| matches!(v, Value::Unchanged))
    }

    /// This image with its unchanged fields taken from `base` (value-2); `None` if one stays open.
    #[must_use]
    pub fn filled_from(&self, base: &Row) -> Option<Row> {
        let fill = |(i, v): (usize, &Value)| match v {
            Value::Unchanged => base.get(i).filter(|b| !matches!(b, Value::Unchanged)).cloned(),
            v => Some(v.clone()),
        };
        self.0.iter().enumerate().map(fill).collect::<Option<Vec<_>>>().map(Row)
    }
}

impl super::Canonical {
    /// About how large its record is in bytes: its key and its content.
    #[must_use]
    pub fn size(&self) -> usize {
        self.key.0.len() + self.after.as_ref().map_or(0, |row| row.size())
    }
}

impl super::Record {
    /// About how large it is in bytes: the keys and the content it carries.
    #[must_use]
    pub fn size(&self) -> usize {
        let row = |row: &Option<std::sync::Arc<Row>>| row.as_ref().map_or(0, |row| row.size());
        match self {
            Self::Proposal(proposal) => proposal.key.0.len() + row(&proposal.value) + row(&proposal.before),
            Self::Truncate(truncate) => truncate.gone.iter().map(|gone| gone.key.0.len()).sum(),
            Self::Canonical(version) | Self::Conflict(version) => version.size(),
            Self::State(state) => state.head.size(),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row() -> impl Strategy<Value = Row> {
        let value = prop_oneof![Just(Value::Null), Just(Value::Unchanged), any::<i64>().prop_map(Value::Int)];
        prop::collection::vec(value, 4).prop_map(Row)
    }

    proptest! {
        /// value-2
        #[test]
        fn unchanged_fields_come_from_the_base_and_no_others(image in row(), base in row()) {
            match image.filled_from(&base) {
                Some(filled) => {
                    prop_assert!(!filled.is_partial());
                    for ((filled, image), base) in filled.0.iter().zip(&image.0).zip(&base.0) {
                        prop_assert_eq!(filled, if *image == Value::Unchanged { base } else { image });
                    }
                }
                None => {
                    let open = |(i, b): (&Value, &Value)| *i == Value::Unchanged && *b == Value::Unchanged;
                    prop_assert!(image.0.iter().zip(&base.0).any(open));
                }
            }
        }

        /// value-2: unchanged is never null.
        #[test]
        fn a_full_image_fills_itself(numbers in prop::collection::vec(any::<Option<i64>>(), 4), base in row()) {
            let image = Row(numbers.into_iter().map(|n| n.map_or(Value::Null, Value::Int)).collect());
            prop_assert_eq!(image.filled_from(&base), Some(image));
        }
    }

    #[test]
    fn a_base_that_is_too_short_fills_nothing() {
        assert_eq!(Row(vec![Value::Null, Value::Unchanged]).filled_from(&Row(vec![Value::Null])), None);
    }
}
