//! How what is asked of the resolver stands in a record: rules, schemas and truncates, and how far copies are.

use super::wire::{Broken, Input, Out, Wire, put_len, record};
use crate::event::{Bootstrap, Control, Copying, Gone, PlatformNo, Rules, Schema, SchemaId, Truncate};
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
