//! How what is asked of the resolver stands in a record: rules, schemas and truncates, and how far copies are.

use super::wire::{Broken, Input, Out, Wire, put_items, put_len, record, symbols};
use crate::event::{
    Bootstrap, Control, Copying, Custom, Deletes, FieldRule, Gone, Merge, Otherwise, PlatformNo, Resolution, Rules,
    Schema, SchemaId, Truncate,
};
use std::sync::Arc;

record!(Gone { key, ctx, base_seq, base_tomb, fp });
record!(Truncate { stamp, dot, ts, schema, txn, src_pos, gone });

/// What decides a first meeting, and the platform whose copy wins; 0 if none does.
impl Wire for Bootstrap {
    fn put(&self, out: &mut Out<'_>) {
        let (kind, platform) = match *self {
            Bootstrap::Policy => (0, PlatformNo(0)),
            Bootstrap::Source(platform) => (1, platform),
            Bootstrap::Latest => (2, PlatformNo(0)),
        };
        put_len(&mut out.bytes, kind);
        platform.put(out);
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
        match (input.index(3, "what decides a first meeting")?, PlatformNo::take(input)?) {
            (0, PlatformNo(0)) => Ok(Bootstrap::Policy),
            (1, platform) => Ok(Bootstrap::Source(platform)),
            (2, PlatformNo(0)) => Ok(Bootstrap::Latest),
            _ => Err(input.broken("a platform without its kind")),
        }
    }
}

symbols!(Deletes { EditWins, DeleteWins, Latest, Review });
symbols!(Otherwise { Latest, Merged });
record!(Custom { rule, otherwise, merge, names });
record!(Merge { deletes, fields: rules_by_path });

/// `None` stands for last write wins.
impl Wire for Resolution {
    fn put(&self, out: &mut Out<'_>) {
        match self {
            Resolution::LastWriteWins => put_len(&mut out.bytes, 0),
            Resolution::Merge(merge) => {
                put_len(&mut out.bytes, 1);
                merge.put(out);
            }
            Resolution::Custom(custom) => {
                put_len(&mut out.bytes, 2);
                custom.put(out);
            }
        }
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
        match input.index(3, "how concurrent writes are settled")? {
            0 => Ok(Resolution::LastWriteWins),
            2 => Custom::take(input).map(Resolution::Custom),
            _ => Merge::take(input).map(Resolution::Merge),
        }
    }
}

/// A platform and its name.
impl Wire for (PlatformNo, Arc<str>) {
    fn put(&self, out: &mut Out<'_>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
        Ok((Wire::take(input)?, Wire::take(input)?))
    }
}

/// The rules of fields, by path.
mod rules_by_path {
    use super::{Broken, FieldRule, Input, Out, Wire, put_items};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    type Rules = BTreeMap<Arc<str>, FieldRule>;

    struct Named(Arc<str>, FieldRule);

    impl Wire for Named {
        fn put(&self, out: &mut Out<'_>) {
            self.0.put(out);
            Arc::<str>::from(self.1.to_string()).put(out);
        }

        fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
            let path = Wire::take(input)?;
            let rule = input.str("the rule of a field")?.parse();
            rule.map(|rule| Named(path, rule)).map_err(|_| input.broken("the rule of a field"))
        }
    }

    pub(super) fn put(rules: &Rules, out: &mut Out<'_>) {
        let named: Vec<Named> = rules.iter().map(|(path, rule)| Named(path.clone(), rule.clone())).collect();
        put_items(named.iter(), out);
    }

    pub(super) fn take(input: &mut Input<'_>) -> Result<Rules, Broken> {
        Ok(Vec::<Named>::take(input)?.into_iter().map(|Named(path, rule)| (path, rule)).collect())
    }
}

/// A schema travels as its id and its Avro text.
impl Wire for Arc<Schema> {
    fn put(&self, out: &mut Out<'_>) {
        self.id.put(out);
        Arc::<str>::from(super::schema::row_text(self)).put(out);
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
        let (id, text) = (SchemaId::take(input)?, Arc::<str>::take(input)?);
        super::parse::row(&text, id).map(Arc::new).map_err(Broken::Unusable)
    }
}

/// Whether a copy is finished, and the last key published if it has begun and is not.
impl Wire for Copying {
    fn put(&self, out: &mut Out<'_>) {
        let (done, through) = match self {
            Copying::Todo => (false, None),
            Copying::Through(key) => (false, Some(key.clone())),
            Copying::Done => (true, None),
        };
        done.put(out);
        through.put(out);
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
        match (bool::take(input)?, Wire::take(input)?) {
            (false, None) => Ok(Copying::Todo),
            (false, Some(key)) => Ok(Copying::Through(key)),
            (true, None) => Ok(Copying::Done),
            (true, Some(_)) => Err(input.broken("a finished copy or the key it has reached")),
        }
    }
}

impl Wire for Control {
    fn put(&self, out: &mut Out<'_>) {
        match self {
            Control::Rules(rules) => {
                out.bytes.push(0);
                rules.put(out);
            }
            Control::Schema(schema) => {
                out.bytes.push(2);
                schema.put(out);
            }
        }
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
        if input.index(2, "what is asked")? == 0 {
            return Rules::take(input).map(Control::Rules);
        }
        Wire::take(input).map(Control::Schema)
    }
}
