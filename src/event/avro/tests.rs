//! What is written is read, stock libraries agree, and nothing else gets through.

#![expect(clippy::indexing_slicing, reason = "a test that is out of bounds has failed")]

use super::arbitrary::Gen;
use super::*;
use crate::event::{Canonical, Field, Row, Type};
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};

/// The schemas of a dataset's life, registered, and what is needed to write and read with them.
struct World {
    forms: Forms,
    schemas: Vec<Arc<Schema>>,
}

impl World {
    fn new(schemas: Vec<Schema>) -> Self {
        let forms = Forms::default();
        let mut next = 1;
        let mut register = |schema: Schema| {
            for wanted in wanted(&schema) {
                if forms.id_of(&wanted.text).is_none() {
                    forms.learn(SchemaId(next), &wanted.text);
                    next += 1;
                }
            }
            let text = wanted(&schema).remove(0).text;
            forms.row(forms.id_of(&text).unwrap()).unwrap()
        };
        let schemas = schemas.into_iter().map(&mut register).collect();
        World { forms, schemas }
    }

    /// One of a few dozen; making one takes a while.
    fn random(random: &mut Gen) -> &'static Self {
        static WORLDS: LazyLock<Vec<World>> = LazyLock::new(|| {
            let world = |seed| {
                let mut random = Gen::new(seed);
                World::new((0..3).map(|_| random.schema()).collect())
            };
            (0..30).map(world).collect()
        });
        &WORLDS[random.below(30) as usize]
    }

    fn schema(&self, record: &Record) -> Arc<Schema> {
        schema_of(record).map_or_else(|| self.schemas[0].clone(), |id| self.forms.row(id).unwrap())
    }

    fn encode(&self, record: &Record) -> Bytes {
        let collection = self.forms.collection(self.schema(record).id).unwrap();
        let mut out = Vec::new();
        encode(record, &collection, &self.forms, &mut out).unwrap();
        out.into()
    }

    fn text(&self, message: &[u8]) -> Arc<str> {
        self.forms.text_of(SchemaId(u32::from_be_bytes(message[1..5].try_into().unwrap()))).unwrap()
    }
}

fn apache(text: &str, value: apache_avro::types::Value) -> Vec<u8> {
    let schema = apache_avro::Schema::parse_str(text).unwrap();
    GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(value).unwrap()
}

fn apache_read(text: &str, bytes: &[u8]) -> apache_avro::types::Value {
    let schema = apache_avro::Schema::parse_str(text).unwrap();
    let mut rest = bytes;
    let value = GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut rest).unwrap();
    assert!(rest.is_empty(), "{} bytes left", rest.len());
    value
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(seed in any::<u64>(), kind in 0..Kind::ALL.len()) {
        let mut random = Gen::new(seed);
        let world = World::random(&mut random);
        let record = random.record(kind, &world.schemas);
        prop_assert_eq!(kind_of(&record), Kind::ALL[kind]);
        let message = world.encode(&record);
        prop_assert_eq!(decode(&message, &world.forms).unwrap(), record);
    }

    #[test]
    fn a_stock_library_reads_every_record_and_writes_the_same_bytes(seed in any::<u64>(), kind in 0..Kind::ALL.len()) {
        let mut random = Gen::new(seed);
        let world = World::random(&mut random);
        let message = world.encode(&random.record(kind, &world.schemas));
        let text = world.text(&message);
        let value = apache_read(&text, &message[HEADER_BYTES..]);
        prop_assert_eq!(&apache(&text, value)[..], &message[HEADER_BYTES..]);
    }

    #[test]
    fn fields_stand_under_their_names(seed in any::<u64>()) {
        let mut random = Gen::new(seed);
        let world = World::random(&mut random);
        for kind in [1, 3] {
            let record = random.record(kind, &world.schemas);
            let schema = world.schema(&record);
            let value = match &record {
                Record::Proposal(proposal) => foreign::proposal(proposal, &schema),
                Record::Canonical(canonical) => foreign::canonical(canonical, &schema, &world.forms),
                _ => unreachable!(),
            };
            let message = world.encode(&record);
            prop_assert_eq!(&apache(&world.text(&message), value)[..], &message[HEADER_BYTES..]);
        }
    }

    #[test]
    fn keys_are_the_avro_of_their_fields(seed in any::<u64>()) {
        let mut random = Gen::new(seed);
        let schema = random.schema();
        let values: Vec<Value> = schema.key_fields().map(|f| random.value(&f.ty)).collect();
        prop_assume!(!format!("{values:?}").contains("-0.0"));
        let Ok(key) = Key::encode(&values, &schema) else { return Ok(()) };
        prop_assert_eq!(&key.decode(&schema).unwrap(), &values);
        let text = &wanted(&schema)[2].text;
        prop_assert_eq!(&apache(text, foreign::key(&schema, &values))[..], &key.0[..]);
    }

    #[test]
    fn schema_texts_say_all_that_a_schema_says(seed in any::<u64>()) {
        let schema = Gen::new(seed).schema();
        let world = World::new(vec![schema.clone()]);
        prop_assert_eq!(&Schema { id: SchemaId(0), ..(*world.schemas[0]).clone() }, &schema);
        for wanted in wanted(&schema) {
            let parsed = apache_avro::Schema::parse_str(&wanted.text);
            prop_assert!(parsed.is_ok(), "{} {:?}", wanted.text, parsed.err());
            let id = world.forms.id_of(&wanted.text).unwrap();
            prop_assert!(world.forms.form(id).is_ok(), "{} {:?}", wanted.text, world.forms.form(id).err());
        }
    }

    /// Bytes of anybody, and our own with a byte changed or cut off.
    #[test]
    fn any_bytes_are_a_record_or_an_error(seed in any::<u64>(), kind in 0..Kind::ALL.len(), noise in any::<Vec<u8>>()) {
        let mut random = Gen::new(seed);
        let world = World::random(&mut random);
        let message = world.encode(&random.record(kind, &world.schemas)).to_vec();
        let at = random.below(message.len() as u64) as usize;
        let cut = message[..at].to_vec();
        prop_assert!(decode(&cut.into(), &world.forms).is_err());
        let mut changed = message.clone();
        changed[at] = random.below(256) as u8;
        let _ = decode(&changed.into(), &world.forms);
        let noisy = [&message[..HEADER_BYTES], &noise].concat();
        let _ = decode(&noisy.into(), &world.forms);
        let _ = decode(&noise.into(), &world.forms);
    }
}

fn sample_schema() -> Schema {
    let field = |name: &str, ty, nullable| Field { name: name.into(), ty, nullable };
    let fields =
        vec![field("id", Type::Int(64), false), field("price", Type::Decimal, true), field("x", Type::Float(64), true)];
    Schema { id: SchemaId(0), name: "orders".into(), fields, key: vec![0] }
}

fn sample(after: Vec<Value>) -> (World, Record) {
    let world = World::new(vec![sample_schema()]);
    let mut canonical = Gen::new(1).canonical(&world.schemas);
    Arc::make_mut(&mut canonical).after = Some(Arc::new(Row(after)));
    (world, Record::Canonical(canonical))
}

fn refused(world: &World, record: &Record) -> Error {
    let mut out = b"before".to_vec();
    let collection = world.forms.collection(world.schemas[0].id).unwrap();
    let error = encode(record, &collection, &world.forms, &mut out).unwrap_err();
    assert_eq!(out, b"before", "a refused record leaves nothing behind");
    error
}

fn broken(message: impl Into<Bytes>, forms: &Forms) -> Error {
    match decode(&message.into(), forms) {
        Err(Undecoded::Broken(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nan_keeps_its_bits() {
    let nan = f64::from_bits(0x7ff8_0000_0000_0123);
    let (world, record) = sample(vec![Value::Int(1), Value::Null, Value::Float64(nan)]);
    let Record::Canonical(read) = decode(&world.encode(&record), &world.forms).unwrap() else { panic!() };
    let after = read.after.clone().unwrap();
    assert!(matches!(after.0[2], Value::Float64(x) if x.to_bits() == nan.to_bits()));
}

/// value-2
#[test]
fn unchanged_is_refused_outside_of_proposals() {
    let (world, record) = sample(vec![Value::Int(1), Value::Unchanged, Value::Null]);
    let error = refused(&world, &record);
    assert_eq!(error.code, Code::ValueRefused);
    assert!(error.to_string().contains("price") && error.to_string().contains("unchanged"), "{error}");
}

#[test]
fn values_that_do_not_fit_their_schema_are_refused_by_name() {
    for (after, wrong) in [
        (vec![Value::text("1"), Value::Null, Value::Null], "not of the type"),
        (vec![Value::Null, Value::Null, Value::Null], "is null"),
        (vec![Value::Int(1)], "a row of 1 fields"),
        (vec![Value::Int(1), Value::Null, Value::Float32(1.0)], "not of the type"),
    ] {
        let (world, record) = sample(after);
        let error = refused(&world, &record);
        assert!(error.code == Code::ValueRefused && error.to_string().contains(wrong), "{error}");
    }
    let narrow = |ty| Schema { fields: vec![Field { name: "n".into(), ty, nullable: false }], ..sample_schema() };
    assert!(Key::encode(&[Value::Int(32768)], &narrow(Type::Int(16))).is_err());
    assert!(Key::encode(&[Value::Int(-32768)], &narrow(Type::Int(16))).is_ok());
    assert!(Key::encode(&[Value::Int(1 << 31)], &narrow(Type::Int(32))).is_err());
    assert!(Key::encode(&[Value::Int(i64::MIN)], &narrow(Type::Int(64))).is_ok());
}

/// topic-4
#[test]
fn equal_keys_are_equal_bytes() {
    let schema = Schema { fields: vec![sample_schema().fields[2].clone()], ..sample_schema() };
    let key = |x: f64| Key::encode(&[Value::Float64(x)], &schema).unwrap();
    assert_eq!(key(0.0), key(-0.0));
    assert_eq!(key(f64::NAN), key(f64::from_bits(f64::NAN.to_bits() | 1 << 63 | 5)));
    assert_ne!(key(1.0), key(-1.0));
}

#[test]
fn keys_without_values_and_long_keys_are_refused() {
    let schema = sample_schema();
    for values in [vec![Value::Null], vec![Value::Unchanged], vec![]] {
        assert_eq!(Key::encode(&values, &schema).unwrap_err().code, Code::ValueRefused);
    }
    let schema =
        Schema { fields: vec![Field { name: "path".into(), ty: Type::Text, nullable: true }], ..sample_schema() };
    // Two bytes count the text.
    assert!(Key::encode(&[Value::text(&"x".repeat(4094))], &schema).is_ok());
    let long = Key::encode(&[Value::text(&"x".repeat(4095))], &schema).unwrap_err();
    assert_eq!(long.code, Code::KeyTooLong);
}

#[test]
fn a_key_that_is_not_of_its_schema_is_an_error() {
    let schema = sample_schema();
    assert_eq!(Key::of_row(&Row(vec![Value::Int(9)]), &schema).unwrap().decode(&schema).unwrap(), [Value::Int(9)]);
    for bytes in [&b""[..], b"\x80", b"\x02\x02"] {
        let error = Key(Bytes::from_static(bytes)).decode(&schema).unwrap_err();
        assert_eq!(error.code, Code::RecordUndecodable);
    }
}

#[test]
fn foreign_and_damaged_messages_say_what_is_wrong() {
    let (world, record) = sample(vec![Value::Int(1), Value::Null, Value::Null]);
    let message = world.encode(&record);
    for (bytes, wrong) in [
        (b"{\"id\":1}".to_vec(), "0x00"),
        (vec![], "0x00"),
        (message[..message.len() - 1].to_vec(), "driftless.Canonical"),
        ([&message[..], b"x"].concat(), "the end of the record"),
    ] {
        let error = broken(bytes, &world.forms);
        assert!(error.code == Code::RecordUndecodable && error.to_string().contains(wrong), "{error}");
    }
    let unknown = [&header(SchemaId(999))[..], b"abc"].concat();
    assert!(matches!(decode(&unknown.into(), &world.forms), Err(Undecoded::UnknownSchema(SchemaId(999)))));
    world.forms.learn(SchemaId(500), r#"{"type":"record","name":"com.example.Order","fields":[]}"#);
    let error = broken(header(SchemaId(500)).to_vec(), &world.forms);
    assert!(error.code == Code::RecordUndecodable && error.to_string().contains("schema 500"), "{error}");
}

/// The image before may leave out what is not in the key, and sources say null for that; what is
/// proposed may not be null where no canonical version could be.
#[test]
fn a_null_where_none_may_be_is_refused_in_a_proposed_value_only() {
    let world = World::new(vec![sample_schema()]);
    let proposal = |value: Option<Row>, before: Option<Row>| {
        let Record::Proposal(mut proposal) = Gen::new(2).record(1, &world.schemas) else { panic!() };
        (proposal.value, proposal.before) = (value.map(Arc::new), before.map(Arc::new));
        Record::Proposal(proposal)
    };
    let nulls = Row(vec![Value::Null; 3]);
    assert!(refused(&world, &proposal(Some(nulls.clone()), None)).to_string().contains("is null"));
    let record = proposal(Some(Row(vec![Value::Unchanged; 3])), Some(nulls));
    assert_eq!(decode(&world.encode(&record), &world.forms).unwrap(), record);
}

/// A lying count must not allocate.
#[test]
fn a_count_beyond_the_message_is_an_error() {
    let world = World::new(vec![sample_schema()]);
    let record = Gen::new(3).record(7, &world.schemas);
    let mut message = world.encode(&record)[..HEADER_BYTES + 16].to_vec();
    message.extend_from_slice(&[0xff; 9]);
    message.push(1);
    assert_eq!(broken(message, &world.forms).code, Code::RecordUndecodable);
}

#[test]
fn a_newer_version_is_told_from_a_foreign_record() {
    let world = World::new(vec![sample_schema()]);
    let newer = |text: &str| text.replacen("\"driftless.version\":1", "\"driftless.version\":2", 1);
    let mut id = 100;
    for wanted in wanted(&sample_schema()).iter().skip(3) {
        id += 1;
        world.forms.learn(SchemaId(id), &newer(&wanted.text));
        let error = broken(header(SchemaId(id)).to_vec(), &world.forms);
        assert_eq!(error.code, Code::RecordNewer, "{error}");
    }
    // Also a kind that only the newer release has, and newer rows in a record of today.
    world.forms.learn(SchemaId(200), r#"{"type":"record","name":"driftless.New","driftless.version":1,"fields":[]}"#);
    let row = &wanted(&sample_schema())[0].text;
    let claims = wanted(&sample_schema())[6].text.replacen(row, &newer(row), 1);
    world.forms.learn(SchemaId(201), &claims);
    for id in [200, 201] {
        assert_eq!(broken(header(SchemaId(id)).to_vec(), &world.forms).code, Code::RecordNewer);
    }
    // The same name and version with another content is nobody's.
    let bent = wanted(&sample_schema())[6].text.replacen("\"long\"", "\"int\"", 1);
    world.forms.learn(SchemaId(202), &bent);
    let error = broken(header(SchemaId(202)).to_vec(), &world.forms);
    assert!(error.code == Code::RecordUndecodable && error.to_string().contains("differs"), "{error}");
}

#[test]
fn a_record_is_not_written_under_the_schema_of_another() {
    let (_, record) = sample(vec![Value::Int(1), Value::Null, Value::Null]);
    let other = World::new(vec![Schema { name: "other".into(), ..sample_schema() }, sample_schema()]);
    let Record::Canonical(mut canonical) = record else { panic!() };
    Arc::<Canonical>::make_mut(&mut canonical).schema = other.schemas[1].id;
    assert_eq!(refused(&other, &Record::Canonical(canonical)).code, Code::Unexpected);
}
