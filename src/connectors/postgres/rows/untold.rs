//! A row that cannot be carried over exactly (P8) stops nothing else: it is told whole, in the server's
//! own forms, for a person to look at.

use super::super::client::catalog::{Column, Table};
use super::super::values::Native;
use super::super::wire::cursor::{Cursor, Malformed};
use super::super::wire::pgoutput::Column as Cell;
use super::super::wire::text::write_element;
use super::norm::KEY_TOO_LONG;
use crate::connectors::contract::{CollectionNo, Unreadable};
use crate::event::{Key, Row, Value};
use crate::runtime::error::{Code, Error};
use bytes::Bytes;
use serde_json::json;

impl Table {
    /// What is told of a row that cannot be carried over. `cells` are its fields in order, as the server sent them.
    pub(crate) fn untold(&self, collection: CollectionNo, why: Malformed, cells: &[Cell]) -> Unreadable {
        let named = || self.field_columns().zip(cells);
        let printed = named().map(|(column, cell)| (column.name.clone(), column.native.print(cell)));
        let native = serde_json::Value::Object(printed.collect()).to_string();
        let error = if why == KEY_TOO_LONG {
            Error::new(Code::KeyTooLong, format!("{}; shorten it in the table", why.0))
        } else {
            let text = format!("a row cannot be carried over exactly: {}; change the value in the table", why.0);
            let at_fault = named().find(|(column, cell)| column.read(cell).is_err());
            let error = Error::new(Code::ValueRefused, text);
            at_fault.into_iter().fold(error, |error, (column, _)| error.at("column", &column.name))
        };
        Unreadable::new(collection, self.key_of_cells(cells).ok(), &error.at("table", self.shown()), native)
    }

    fn key_of_cells(&self, cells: &[Cell]) -> Result<Key, Malformed> {
        let mut sparse = Row(vec![Value::Null; self.fields.len()]);
        for &field in &self.schema.key {
            let missing = Malformed("a column is missing");
            let column = self.column(field).ok_or(missing)?;
            *sparse.0.get_mut(field).ok_or(missing)? = column.read(cells.get(field).ok_or(missing)?)?;
        }
        self.key_of(&sparse)
    }
}

impl Column {
    fn read(&self, cell: &Cell) -> Result<Value, Malformed> {
        self.native.read(cell.clone())
    }
}

impl Native {
    /// Reads a column of a row.
    pub(crate) fn read(&self, cell: Cell) -> Result<Value, Malformed> {
        match cell {
            Cell::Null => Ok(Value::Null),
            Cell::Unchanged => Ok(Value::Unchanged),
            Cell::Text(bytes) => self.read_text(bytes),
            Cell::Binary(bytes) => self.read_binary(bytes),
        }
    }

    /// For people: as the server prints it, or its bytes if that is not known here.
    fn print(&self, cell: &Cell) -> serde_json::Value {
        match cell {
            Cell::Null => serde_json::Value::Null,
            Cell::Unchanged => json!({ "unchanged": true }),
            Cell::Text(bytes) => String::from_utf8_lossy(bytes).into(),
            Cell::Binary(bytes) => match self.print_binary(bytes) {
                Ok(text) => text.into(),
                Err(_) => Native::Bytes.write_text(&Value::Bytes(bytes.clone())).unwrap_or_default().into(),
            },
        }
    }

    fn print_binary(&self, bytes: &Bytes) -> Result<String, Malformed> {
        match self {
            Native::Array(item) => print_array(item, bytes),
            _ => self.write_text(&self.read_binary(bytes.clone())?),
        }
    }
}

/// An array of any dimensions, with its bounds where it does not count from 1.
fn print_array(item: &Native, bytes: &Bytes) -> Result<String, Malformed> {
    let mut c = Cursor::new(bytes);
    let dimensions = c.u32()?;
    c.u64()?;
    let mut bounds = Vec::new();
    for _ in 0..dimensions {
        bounds.push((c.u32()?, c.i32()?));
    }
    let mut out = String::new();
    if bounds.iter().any(|(_, first)| *first != 1) {
        for &(count, first) in &bounds {
            out.push_str(&format!("[{first}:{}]", i64::from(first) + i64::from(count) - 1));
        }
        out.push('=');
    }
    out.push_str(&if bounds.is_empty() { "{}".to_owned() } else { print_items(item, &mut c, &bounds)? });
    Ok(out)
}

fn print_items(item: &Native, c: &mut Cursor<'_>, bounds: &[(u32, i32)]) -> Result<String, Malformed> {
    let mut out = String::new();
    let Some((&(count, _), inner)) = bounds.split_first() else { return Ok(out) };
    for _ in 0..count {
        if inner.is_empty() {
            let text = match usize::try_from(c.i32()?) {
                Ok(length) => Some(item.print_binary(&c.take(length)?)?),
                Err(_) => None,
            };
            match text {
                Some(text) if is_plain(&text) => separated(&mut out, &text),
                text => write_element(&mut out, text.as_deref()),
            }
        } else {
            separated(&mut out, &print_items(item, c, inner)?);
        }
    }
    out.push('}');
    Ok(out)
}

fn separated(out: &mut String, text: &str) {
    out.push(if out.is_empty() { '{' } else { ',' });
    out.push_str(text);
}

/// Whether the server prints it without quotes.
fn is_plain(text: &str) -> bool {
    let special = |c: char| c.is_ascii_whitespace() || "{}\",\\".contains(c);
    !text.is_empty() && !text.contains(special) && !text.eq_ignore_ascii_case("null")
}
