//! Configurations that load: those of the repository, and any text without a panic.

use super::*;

#[test]
fn the_two_documents_of_the_mission_load_as_they_stand() {
    let first = include_str!("../../../configs/mission-synchronization.yaml");
    let second = include_str!("../../../configs/mission-dataset.yaml");
    let fake = Fake::with("1.yaml", first).and("2.yaml", second).and("both.yaml", &format!("{first}---\n{second}"));
    assert_eq!(fake.load(&["1.yaml"]).unwrap().datasets.len(), 0);
    for files in [&["2.yaml"][..], &["1.yaml", "2.yaml"], &["both.yaml"]] {
        let config = fake.load(files).unwrap();
        let dataset = config.dataset("platform-config").unwrap();
        let platforms: Vec<_> = dataset.platforms().collect();
        assert_eq!(platforms, ["platform-core", "platform-aws", "platform-gcp", "platform-azure"]);
        assert_eq!(
            (dataset.sync_mode, dataset.conflict_resolution),
            (Mode::RealTime, ConflictResolution::LastWriteWins)
        );
        assert_eq!((dataset.batch_size, dataset.partitions, dataset.bootstrap), (1000, 6, Bootstrap::SourceWins));
        assert_eq!(dataset.collections, [Collection::only("platform-config")]);
    }
    let config = fake.load(&["both.yaml"]).unwrap();
    assert_eq!(config.datasets[0].schedule.as_ref().unwrap().text, "0 */6 * * *");
}

#[test]
fn every_example_loads_and_can_be_shown_and_loaded_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let config =
            Fake::with(&name, &text).set("PWD", "/here").load(&[&name]).unwrap_or_else(|problems| panic!("{problems}"));
        if !name.starts_with("mission-") {
            assert_eq!(readiness::check(&config), Ok(()), "{name}");
        }
        let shown = serde_saphyr::to_string(&config.shown()).unwrap();
        let again = Fake::with("again.yaml", &shown).load(&["again.yaml"]).unwrap_or_else(|p| panic!("{shown}\n{p}"));
        assert_eq!(again.shown(), config.shown(), "{name}");
        names.push(name);
    }
    for name in ["demo", "mission-dataset", "backups", "platform-configuration", "service-metadata", "monitoring-data"]
    {
        assert!(names.contains(&format!("{name}.yaml")), "{name} of {names:?}");
    }
}

#[test]
fn the_demo_gives_the_schema_of_its_products() {
    let demo = Fake::with("demo.yaml", include_str!("../../../configs/demo.yaml")).set("PWD", "/here");
    let config = demo.load(&["demo.yaml"]).unwrap();
    let collection = &config.datasets[0].collections[0];
    let schema = collection.schema().unwrap();
    assert_eq!(schema.key, [0]);
    let types: Vec<_> = schema.fields.iter().map(|f| (&*f.name, format!("{:?}", f.ty), f.nullable)).collect();
    assert_eq!(types[0], ("id", "Int(64)".into(), false));
    assert_eq!(types[2], ("price", "Decimal".into(), true));
    assert_eq!(collection.place("shop"), json!({"table": "products"}));
    assert_eq!(collection.place("nobody"), Value::Null);
}

#[test]
fn deep_nesting_is_refused_and_does_not_overflow() {
    for text in ["[".repeat(100_000), "a: ".repeat(2), "{a: ".repeat(10_000), "- ".repeat(10_000)] {
        assert!(load(&text).is_err());
    }
}

fn yamlish() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "platforms",
        "datasets",
        "dataset",
        "log",
        "name",
        "type",
        "sqlite",
        "destinations",
        "collections",
        "fields",
        "on",
        "masks",
        ":",
        ": ",
        "\n",
        "\n  ",
        "\n    - ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "'",
        "\"",
        "&a ",
        "*a",
        "!!str ",
        "|\n",
        "${",
        "}",
        "file:",
        "~",
        "null",
        "1e999",
        "-0x1",
        "---\n",
        "...",
        "#",
        "é",
        "\u{0}",
        "\t",
        "<<: ",
        "? ",
        "array<",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_makes_the_loader_panic(text in prop_oneof![any::<String>(), yamlish()]) {
        if let Ok(config) = load(&text) {
            let _ = readiness::check(&config);
            let _ = config.shown();
        }
    }

    #[test]
    fn no_value_of_a_known_key_makes_the_loader_panic(key in 0..12usize, value in yamlish()) {
        let keys = ["name", "source", "destinations", "schedule", "collections", "priority", "partitions", "guarantee",
                    "layer", "batch-size", "sync-mode", "direction"];
        let _ = load(&format!("{TWO}dataset:\n  source: a\n  {}: {value}\n", keys[key]));
        let _ = load(&format!("log:\n  settings: {value}\nhttp: {value}\nplatforms: {value}\n"));
    }
}
