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
