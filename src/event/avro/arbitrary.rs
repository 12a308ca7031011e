//! Records of every kind and shape from a seed, for tests. Property tests give the seed.

#![expect(clippy::indexing_slicing, reason = "a test that is out of bounds has failed")]

mod controls;

use crate::event::decimal::Decimal;
use crate::event::value::Interval;
use crate::event::*;
use bytes::Bytes;
use std::sync::Arc;

/// The ids of the schemas a record's rows may have.
pub(crate) type Known<'a> = &'a [Arc<Schema>];

/// A source of things.
pub(crate) struct Gen(u64);

impl Gen {
    pub(crate) fn new(seed: u64) -> Self {
        Gen(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 0
    }

    /// Small, large and extreme numbers alike.
    fn number(&mut self) -> u64 {
        match self.below(6) {
            0 => 0,
            1 => u64::MAX - self.below(2),
            2 => (i64::MAX as u64).wrapping_add(self.below(3)),
            3 => self.next() >> self.below(64),
            _ => self.below(200),
        }
    }

    fn list<T>(&mut self, max: u64, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(max + 1)).map(|_| item(self)).collect()
    }

    fn maybe<T>(&mut self, thing: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| thing(self))
    }

    fn bytes(&mut self) -> Bytes {
        self.list(20, |g| g.next() as u8).into()
    }

    fn string(&mut self) -> String {
        self.list(12, |g| char::from_u32(g.below(0x1_0400) as u32).unwrap_or('é')).into_iter().collect()
    }

    fn ty(&mut self, depth: u64) -> Type {
        match self.below(if depth == 0 { 16 } else { 18 }) {
            0 => Type::Bool,
            1 => Type::Int(16),
            2 => Type::Int(32),
            3 => Type::Int(64),
            4 => Type::Float(32),
            5 => Type::Float(64),
            6 => Type::Decimal,
            7 => Type::Text,
            8 => Type::Bytes,
            9 => Type::Uuid,
            10 => Type::Date,
            11 => Type::Time,
            12 => Type::TimeTz,
            13 => Type::Timestamp { zone: self.flag() },
            14 => Type::Interval,
            15 => Type::Json,
            16 => Type::Array(Box::new(self.ty(depth - 1))),
            _ => Type::Record(self.fields(0, depth - 1)),
        }
    }

    fn fields(&mut self, min: u64, depth: u64) -> Vec<Field> {
        let names = ["id", "name", "a b", "a_b", "é", "9", "_9", "ID", "type", "a-b", ""];
        let mut fields: Vec<Field> = Vec::new();
        for _ in 0..min + self.below(5) {
            let name = names[self.below(names.len() as u64) as usize];
            if fields.iter().all(|f| &*f.name != name) {
                fields.push(Field { name: name.into(), ty: self.ty(depth), nullable: self.flag() });
            }
        }
        fields
    }

    pub(crate) fn schema(&mut self) -> Schema {
        let fields = self.fields(1, 2);
        let key = (0..1 + self.below(fields.len() as u64)).map(|i| i as usize).rev().collect();
        Schema { id: SchemaId(0), name: ["orders", "a-b", "9"][self.below(3) as usize].into(), fields, key }
    }

    pub(crate) fn value(&mut self, ty: &Type) -> Value {
        match ty {
            Type::Bool => Value::Bool(self.flag()),
            Type::Int(bits) => Value::Int((self.number() as i64) << (64 - bits) >> (64 - bits)),
            Type::Float(32) => Value::Float32([0.0, -0.0, 1.5, f32::INFINITY, f32::MIN][self.below(5) as usize]),
            Type::Float(_) => Value::Float64([0.0, -0.0, 0.1, f64::NEG_INFINITY, f64::MAX][self.below(5) as usize]),
            Type::Decimal => Value::Decimal(match self.below(5) {
                0 => Decimal::NaN,
                1 => [Decimal::Infinity, Decimal::NegInfinity][self.below(2) as usize].clone(),
                _ => {
                    let digits = i128::from(self.number() as i64) * i128::from(self.number());
                    Decimal::finite(&bigdecimal::BigDecimal::new(digits.into(), self.below(60) as i64 - 30))
                }
            }),
            Type::Text => Value::text(&self.string()),
            Type::Bytes => Value::Bytes(self.bytes()),
            Type::Uuid => Value::Uuid(self.id().to_be_bytes()),
            Type::Date => Value::Date(self.number() as i32),
            Type::Time => Value::Time(self.below(86_400_000_001) as i64),
            Type::TimeTz => Value::TimeTz(self.below(86_400_000_001) as i64, self.number() as i32),
            Type::Timestamp { .. } => Value::Timestamp(self.number() as i64),
            Type::Interval => Value::Interval(Interval {
                months: self.number() as i32,
                days: self.number() as i32,
                micros: self.number() as i64,
            }),
            Type::Json => Value::Json(format!("{{\"n\":{}}}", self.number()).into()),
            Type::Array(item) => Value::Array(self.list(3, |g| g.nullable(true, item))),
            Type::Record(fields) => Value::Record(fields.iter().map(|f| self.nullable(f.nullable, &f.ty)).collect()),
        }
    }

    fn nullable(&mut self, nullable: bool, ty: &Type) -> Value {
        if nullable && self.below(3) == 0 { Value::Null } else { self.value(ty) }
    }

    pub(crate) fn row(&mut self, schema: &Schema) -> Row {
        Row(schema.fields.iter().map(|f| self.nullable(f.nullable, &f.ty)).collect())
    }

    fn image(&mut self, schema: &Schema) -> Row {
        let field = |f: &Field| match self.below(3) {
            0 => Value::Unchanged,
            _ => self.nullable(f.nullable, &f.ty),
        };
        Row(schema.fields.iter().map(field).collect())
    }

    fn id(&mut self) -> u128 {
        u128::from(self.number()) << 64 | u128::from(self.number())
    }

    fn key(&mut self) -> Key {
        Key(self.bytes())
    }

    fn dot(&mut self) -> Dot {
        Dot { actor: ActorId(self.number() as u32), ctr: self.number() }
    }

    fn vv(&mut self) -> Vv {
        self.list(4, Self::dot).into_iter().collect()
    }

    fn fp(&mut self) -> Fp {
        Fp(self.id().to_be_bytes())
    }

    fn ts(&mut self) -> Hlc {
        Hlc(self.number())
    }

    fn stamp(&mut self) -> Stamp {
        Stamp { epoch: self.number(), owner: self.id() }
    }

    fn position(&mut self) -> Position {
        Position { commit: self.number(), ordinal: self.number() }
    }

    fn link(&mut self) -> Link {
        Link { offset: self.number(), seq: self.number(), id: self.number() }
    }

    fn token(&mut self) -> Option<Token> {
        self.maybe(|g| Token(g.bytes()))
    }

    fn schema_id(&mut self) -> SchemaId {
        SchemaId(self.number() as u32)
    }

    fn role(&mut self) -> Role {
        match self.below(3) {
            0 => Role::Writer(PlatformNo(self.number() as u16)),
            1 => Role::Resolver,
            _ => Role::Control,
        }
    }

    fn entry(&mut self) -> LedgerEntry {
        LedgerEntry {
            seq: self.number(),
            vv: self.vv(),
            fp: self.fp(),
            ts: self.ts(),
            tomb: self.flag(),
            schema: self.schema_id(),
            token: self.token(),
            pend: self.maybe(|g| {
                Box::new(Intent {
                    iid: g.number(),
                    seq: g.number(),
                    vv: g.vv(),
                    fp: g.fp(),
                    ts: g.ts(),
                    tomb: g.flag(),
                    schema: g.schema_id(),
                    expect: g.token(),
                    exp_ms: g.number(),
                })
            }),
        }
    }

    fn any_schema<'a>(&mut self, known: Known<'a>) -> &'a Arc<Schema> {
        &known[self.below(known.len() as u64) as usize]
    }

    fn side(&mut self, known: Known<'_>) -> Side {
        let schema = self.any_schema(known);
        Side {
            by: ActorId(self.number() as u32),
            dot: self.maybe(Self::dot),
            vv: self.vv(),
            seq: self.number(),
            ts: self.ts(),
            fp: self.fp(),
            schema: schema.id,
            value: self.maybe(|g| Arc::new(if g.flag() { g.row(schema) } else { g.image(schema) })),
        }
    }

    fn proposal(&mut self, known: Known<'_>) -> Proposal {
        let schema = self.any_schema(known);
        Proposal {
            stamp: self.stamp(),
            key: self.key(),
            dot: self.dot(),
            ctx: self.vv(),
            base_seq: self.number(),
            base_tomb: self.flag(),
            ts: self.ts(),
            op: [Op::Put, Op::Delete, Op::Read][self.below(3) as usize],
            fp: self.fp(),
            fp_local: self.fp(),
            schema: schema.id,
            value: self.maybe(|g| Arc::new(g.image(schema))),
            before: self.maybe(|g| Arc::new(g.image(schema))),
            txn: self.maybe(|g| Txn { id: g.number(), idx: g.number() as u32 }),
            src_pos: self.position(),
            rev: self.number(),
            entry: self.maybe(|g| Box::new(g.entry())),
            ambiguous_base: self.flag(),
        }
    }

    pub(crate) fn canonical(&mut self, known: Known<'_>) -> Arc<Canonical> {
        let schema = self.any_schema(known);
        Arc::new(Canonical {
            key: self.key(),
            seq: self.number(),
            id: self.number(),
            prev: self.number(),
            origin: if self.flag() { Origin::Input(self.number()) } else { Origin::Source(self.position()) },
            idx: self.number() as u32,
            last: self.flag(),
            dot: self.dot(),
            vv: self.vv(),
            ts: self.ts(),
            fp: self.fp(),
            tomb: self.flag(),
            schema: schema.id,
            after: self.maybe(|g| Arc::new(g.row(schema))),
            by: ActorId(self.number() as u32),
            cause: [Cause::FastForward, Cause::Join, Cause::Merge][self.below(3) as usize],
            ack: (0..self.below(4))
                .map(|_| Join {
                    actor: ActorId(self.number() as u32),
                    ctr: self.number(),
                    seq: self.number(),
                    fp_local: self.fp(),
                })
                .collect(),
            rctr: self.number(),
            conflicted: self.number(),
            conflict: self.maybe(|g| {
                Box::new(Conflict {
                    ancestor: g.maybe(|g| g.side(known)),
                    head: g.side(known),
                    proposal: g.side(known),
                    loser: [Loser::Head, Loser::Proposal, Loser::Neither][g.below(3) as usize],
                    rule: g.string().into(),
                    rules: g.number(),
                    ambiguous_base: g.flag(),
                    earlier: g.number(),
                    open: g.maybe(|g| g.string().into()),
                })
            }),
            asked: self.maybe(|g| Box::new(g.asked())),
            copy: self.flag(),
        })
    }

    fn review(&mut self, known: Known<'_>) -> Review {
        let schema = self.any_schema(known).clone();
        Review {
            key: self.key(),
            ctx: self.vv(),
            base_seq: self.number(),
            ts: self.ts(),
            schema: schema.id,
            value: self.maybe(|g| Arc::new(g.row(&schema))),
            asked: self.asked(),
        }
    }

    fn asked(&mut self) -> Asked {
        Asked {
            command: u128::from(self.number()) << 64 | u128::from(self.number()),
            by: self.string().into(),
            why: self.string().into(),
            conflict: self.maybe(Self::number),
        }
    }

    fn rules(&mut self) -> Rules {
        Rules {
            version: self.number(),
            priority: self.list(3, |g| PlatformNo(g.number() as u16)),
            bootstrap: match self.below(3) {
                0 => Bootstrap::Policy,
                1 => Bootstrap::Source(PlatformNo(self.number() as u16)),
                _ => Bootstrap::Latest,
            },
            resolution: match self.below(3) {
                0 => Resolution::Merge(self.merge()),
                1 => Resolution::Custom(self.custom()),
                _ => Resolution::LastWriteWins,
            },
        }
    }

    fn merge(&mut self) -> Merge {
        let rules = [FieldRule::Counter, FieldRule::Lines, FieldRule::ByKey("n".into())];
        Merge {
            deletes: [Deletes::EditWins, Deletes::DeleteWins, Deletes::Latest, Deletes::Review][self.below(4) as usize],
            fields: self.list(3, |g| (g.string().into(), rules[g.below(3) as usize].clone())).into_iter().collect(),
        }
    }

    fn custom(&mut self) -> Custom {
        Custom {
            rule: self.string().into(),
            otherwise: if self.flag() { Otherwise::Latest } else { Otherwise::Merged },
            merge: self.merge(),
            names: self.list(3, |g| (PlatformNo(g.number() as u16), g.string().into())),
        }
    }

    /// A record of the kind at `kind` of `Kind::ALL`.
    pub(crate) fn record(&mut self, kind: usize, known: Known<'_>) -> Record {
        let stamp = self.stamp();
        match kind {
            0 => Record::Claim(Claim { role: self.role(), stamp }),
            1 => Record::Proposal(Box::new(self.proposal(known))),
            2 => self.control(known),
            3 => Record::Canonical(self.canonical(known)),
            4 => Record::State(Box::new(StateRecord { stamp, head: self.canonical(known) })),
            5 => Record::ResolverMark(Box::new(ResolverMark {
                stamp,
                number: self.number(),
                link: self.link(),
                c_off: self.number(),
                changes: Validity {
                    owners: self.list(3, |g| (g.role(), g.stamp())).into_iter().collect(),
                    last: self.list(3, |g| (ActorId(g.number() as u32), g.number())).into_iter().collect(),
                    commands: self.list(3, |g| (g.id(), ())).into_iter().collect(),
                    tip: (self.number(), self.number()),
                },
                rctr: self.number(),
                rules: self.rules(),
                schemas: self.list(3, |g| g.any_schema(known).clone()),
            })),
            6 => Record::Known(Box::new(KnownRecord {
                stamp,
                key: self.key(),
                known: super::super::Known {
                    vv: self.vv(),
                    base_seq: self.number(),
                    base_tomb: self.flag(),
                    fp: self.fp(),
                    schema: SchemaId(self.number() as u32),
                    ts: self.ts(),
                    pos: self.position(),
                },
            })),
            7 => Record::ReaderMark(Box::new(ReaderMark {
                stamp,
                number: self.number(),
                pos: self.position(),
                ctr: self.list(3, Self::number),
                cpos: self.list(3, Self::number),
                lastpos: self.list(3, Self::position),
                copied: self.list(3, |g| match g.below(3) {
                    0 => Copying::Todo,
                    1 => Copying::Through(g.key()),
                    _ => Copying::Done,
                }),
            })),
            8 => Record::Ledger(Box::new(LedgerRecord {
                stamp,
                key: self.key(),
                rev: self.number(),
                entry: self.entry(),
                canon: self.link(),
            })),
            9 => Record::AgentMark(Box::new(AgentMark {
                stamp,
                cpos: self.number(),
                ctr: self.number(),
                rev: self.number(),
                canon: self.link(),
            })),
            10 => Record::Conflict(self.canonical(known)),
            11 => self.truncate(stamp),
            12 => Record::Dead(Box::new(self.dead(known))),
            _ => Record::Review(Box::new(self.review(known))),
        }
    }
}
