//! What is refused, at which line, and in which words.

use super::*;

/// who-1
#[test]
fn run_refuses_platforms_that_are_not_defined_and_says_which() {
    let second = include_str!("../../../configs/mission-dataset.yaml");
    let config = Fake::with("m.yaml", second).load(&["m.yaml"]).unwrap();
    let refused = readiness::check(&config).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "m.yaml:3: dataset.source: not defined under `platforms`: `platform-core`\n\
         m.yaml:4: dataset.destinations: not defined under `platforms`: `platform-aws`, `platform-gcp`, `platform-azure`"
    );
    assert!(refused.0.iter().all(|p| p.code == Code::ConfigMissing));
}

#[test]
fn run_refuses_what_does_not_exist_yet_and_says_on_which_line() {
    let text = format!(
        "{TWO}datasets:\n  - name: d\n    source: a\n    destinations: [b]\n    sync-mode: scheduled\n    \
         conflict-resolution: custom\n    schedule: '@daily'\n    direction: one-way\n    collections:\n      \
         - {{name: c, columns: [x], masks: {{y: hash}}, row-filter: z = 1}}\n"
    );
    let refused = readiness::check(&load(&text).unwrap()).unwrap_err();
    let lines: Vec<String> = refused.0.iter().map(|p| format!("{} {}", p.at.line, p.text)).collect();
    assert_eq!(
        lines,
        [
            "8 the mode `scheduled` does not exist in this version yet; use `real-time`",
            "9 `c` has no rule; expected `custom: { rule: … }`, see `driftless rules --help`",
        ]
    );
    for (word, key) in [("manual", "sync-mode"), ("custom", "conflict-resolution")] {
        let text = format!("{TWO}dataset: {{name: d, source: a, destinations: [b], {key}: {word}}}\n");
        assert!(readiness::check(&load(&text).unwrap()).unwrap_err().to_string().contains(word), "{word}");
    }
    assert!(
        readiness::check(&load("synchronization:\n  enabled: false\n").unwrap())
            .unwrap_err()
            .to_string()
            .contains("c.yaml:2")
    );
    let ready = format!("{TWO}dataset: {{name: d, source: a, destinations: [b]}}\n");
    assert_eq!(readiness::check(&load(&ready).unwrap()), Ok(()));
}

/// Each input has exactly this one problem.
#[test]
fn each_mistake_is_told_with_line_path_and_what_is_expected() {
    let whole = |text: &str| format!("{TWO}{text}");
    let in_dataset = |text: &str| format!("{TWO}dataset:\n  name: d\n  source: a\n  destinations: [b]\n{text}");
    let in_collection = |text: &str| in_dataset(&format!("  collections:\n    - name: c\n{text}"));
    let cases = [
        (whole("datsets: []"), "c.yaml:4: datsets: unknown key; did you mean `datasets`?; expected "),
        (whole("log: {compresion: lz4}"), "c.yaml:4: log.compresion: unknown key; did you mean `compression`?"),
        (whole("log: {level: 3}"), "c.yaml:4: log.level: only `compression: zstd` has levels"),
        (whole("log: {compression: zstd, level: 23}"), "log.level: expected a whole number from 1 to 22, found the number 23"),
        (whole("log: {brokers: nowhere}"), "log.brokers: expected host:port, found `nowhere`"),
        (whole("log: {type: kafka}"), "c.yaml:4: log.brokers: missing; expected host:port"),
        (whole("log: {type: kafka, brokers: 'h:1', path: x}"), "log.path: belongs to `type: embedded`; the log here is kafka"),
        (whole("log:\n  brokers: 'h:1'\n  settings:\n    acks: 1"), "c.yaml:7: log.settings.acks: is set by driftless"),
        (whole("log: {prefix: 'a b'}"), "log.prefix: `a b` cannot begin topic names: expected up to 40 of"),
        (whole("http: {listen: here}"), "http.listen: expected an address such as 127.0.0.1:7420, found `here`"),
        (whole("data-dir: 7"), "data-dir: expected the path of a folder (put it in quotes), found the number 7"),
        (whole("synchronization: real-time"), "synchronization: expected the settings of synchronization, found `real-time`"),
        (whole("synchronization: {enabled: yes}"), "synchronization.enabled: expected true or false, found `yes`"),
        (whole("synchronization:\n  schedule: every day"), "c.yaml:5: synchronization.schedule: `every day` is no cron expression"),
        (whole("synchronization: {}\n---\nsynchronization: {}"), "c.yaml:6: synchronization: stands at c.yaml:4 already; expected once"),
        (whole("synchronization: {batch-size: 0}"), "synchronization.batch-size: expected a whole number from 1 to 1000000, found the number 0"),
        ("platforms:\n  a: {path: x}".into(), "c.yaml:2: platforms.a.type: missing; expected the kind of platform"),
        ("platforms:\n  a: {type: sqlit}".into(), "c.yaml:2: platforms.a.type: unknown connector `sqlit`; did you mean `sqlite`?; expected sqlite, filesystem,"),
        ("platforms:\n  a: {type: mysql}".into(), "platforms.a.type: the connector `mysql` exists but was not compiled in; build with `--features mysql`"),
        ("platforms:\n  A_: {type: sqlite}".into(), "c.yaml:2: platforms.A_: `A_` cannot be the name of a platform: expected 1 to 63 of"),
        ("platforms:\n  a:\n    type: sqlite\n    path: 5".into(), "c.yaml:4: platforms.a.path: expected a path"),
        ("platforms:\n  a: {type: webhook, access: read}".into(), "platforms.a.access: `read` is not possible: webhook cannot tell"),
        ("platforms:\n  a: {type: sqlite}\n  a: {type: sqlite}".into(), "c.yaml:3: platforms.a: this key stands on line 2 already"),
        (whole("---\nplatforms: {a: {type: sqlite}}"), "c.yaml:5: platforms.a: is defined at c.yaml:2 already"),
        (whole("dataset: {source: a, destinations: [b]}"), "c.yaml:4: dataset.name: missing; expected the name of the dataset"),
        (whole("dataset: {name: D, source: a, destinations: [b]}"), "dataset.name: `D` cannot be the name of a dataset"),
        (whole("dataset: {name: d, source: a, destinations: []}"), "dataset.destinations: expected at least one platform"),
        (whole("dataset: {name: d, source: a, destinations: [a]}"), "dataset.destinations[0]: `a` is the source already"),
        (whole("dataset: {name: d, source: a, destinations: [b, b]}"), "dataset.destinations[1]: `b` is named twice"),
        (whole("datasets:\n - {name: d, source: a, destinations: [b]}\n - {name: d, source: a, destinations: [b]}"),
            "c.yaml:6: datasets[1]: another dataset at c.yaml:5 is called `d`"),
        (in_dataset("  sync-mode: realtime"), "c.yaml:8: dataset.sync-mode: expected real-time, scheduled or manual, found `realtime`; did you mean `real-time`?"),
        (in_dataset("  conflict_resolution: merge"), "c.yaml:8: dataset.conflict_resolution: unknown key; did you mean `conflict-resolution`?"),
        (in_dataset("  sync-mode: scheduled"), "c.yaml:4: dataset.schedule: missing; expected a cron expression"),
        (in_dataset("  partitions: 0"), "dataset.partitions: expected a whole number from 1 to 10000"),
        (in_dataset("  priority: [c]"), "dataset.priority[0]: `c` is no platform of this dataset; did you mean `a`?; expected a or b"),
        (in_dataset("  guarantee: exact"), "c.yaml:8: dataset.guarantee: `b` only reaches `safe`"),
        (in_dataset("  guarantee: exclusive"), "dataset.guarantee: `exclusive` means that nobody else writes"),
        (in_dataset("  collections: []"), "dataset.collections: expected at least one collection"),
        (in_dataset("  collections: [{name: c}, {name: c}]"), "dataset.collections[1]: another collection is called `c`"),
        (in_dataset("  collections: [{name: ledger}]"), "dataset.collections[0].name: `ledger` is reserved for a topic"),
        (in_dataset("  merge: {}"), "c.yaml:8: dataset.merge: rules of a merge count only with `conflict-resolution: merge`"),
        (in_dataset("  conflict-resolution: merge\n  merge: {deletes: never}"), "c.yaml:9: dataset.merge.deletes: expected edit-wins, delete-wins, latest or review, found `never`"),
        (in_dataset("  conflict-resolution: merge\n  merge: {fields: {x: sum}}"), "c.yaml:9: dataset.merge.fields.x: found `sum`; expected `latest`, `counter`, `set`,"),
        (in_dataset("  conflict-resolution: merge\n  merge: {fields: {x: set}}\n  collections: [{name: c}, {name: e}]"), "c.yaml:9: dataset.merge: each collection has fields of its own"),
        (in_dataset("  conflict-resolution: merge\n  collections:\n    - name: c\n      key: x\n      fields: [{name: x, type: int}, {name: y, type: text}]\n      merge: {fields: {y: counter}}"),
            "dataset.collections: `y`: the rule `counter` is for integers and decimals"),
        (in_dataset("  custom: {rule: stood}"), "c.yaml:8: dataset.custom: a rule counts only with `conflict-resolution: custom`"),
        (in_dataset("  conflict-resolution: custom\n  custom: {}"), "c.yaml:9: dataset.custom.rule: missing; expected a rule in CEL"),
        (in_dataset("  conflict-resolution: custom\n  custom: {rule: 'stood ? came'}"), "c.yaml:9: dataset.custom.rule: line 1, column"),
        (in_dataset("  conflict-resolution: custom\n  custom: {rule: stood, otherwise: stood}"), "c.yaml:9: dataset.custom.otherwise: expected latest or merged, found `stood`"),
        (in_dataset("  conflict-resolution: custom\n  custom: {rule: 'stod'}"), "c.yaml:9: dataset.custom.rule: line 1, column 1 of the rule: there is no `stod`; a rule sees `stood`,"),
        (in_dataset("  conflict-resolution: custom\n  custom: {rule: 'stood.value.z == 1 ? stood : came'}\n  collections:\n    - name: c\n      key: x\n      fields: [{name: x, type: int}]"),
            "c.yaml:9: dataset.custom: `rule`: line 1, column 12 of the rule: a record has no `z` here; it has `x`"),
        (in_collection("      on: {x: {table: t}}"), "c.yaml:10: dataset.collections[0].on.x: no platform of this dataset"),
        (in_collection("      on: {a: t}"), "dataset.collections[0].on.a: expected where the collection lies, such as `{table: products}`, found `t`"),
        (in_collection("      fields: [{name: x, type: text}]"), "dataset.collections[0].key: missing"),
        (in_collection("      key: x\n      fields: [{name: x, type: txt}]"), "c.yaml:11: dataset.collections[0].fields[0].type: unknown type `txt`; did you mean `text`?; expected bool,"),
        (in_collection("      key: y\n      fields: [{name: x, type: text}]"), "c.yaml:10: dataset.collections[0].key: there is no field `y`"),
        (in_collection("      key: x\n      fields: [{name: x, type: double}]"), "fields[0].type: a field of the key cannot be of type double"),
        (in_collection("      key: x\n      fields: [{name: x, type: int, nullable: true}]"), "fields[0].nullable: a field of the key cannot be null"),
        (in_collection("      key: [x, x]"), "dataset.collections[0].key[1]: `x` is named twice"),
        (in_collection("      key: x\n      columns: [y]"), "c.yaml:11: dataset.collections[0].columns: `x` belongs to the key"),
        (in_collection("      masks: {x: secret}"), "collections[0].masks.x: expected hash, null or `{fixed: value}`, found `secret`"),
        (in_collection("      row-filter: x ="), "c.yaml:10: dataset.collections[0].row-filter: expected a text in quotes, a number, true or false at the end"),
        (in_collection("      key: x\n      fields: [{name: x, type: int}]\n      row-filter: y = 1"), "dataset.collections[0].row-filter: row-filter: there is no field `y`"),
        (in_collection("      key: x\n      fields: [{name: x, type: int}, {name: y, type: int}]\n      masks: {y: hash}"), "dataset.collections[0].masks: `y` cannot be masked by a hash"),
        (in_collection("      key: x\n      views: {b: {columns: [z]}}"), "dataset.collections[0].columns: `x` belongs to the key"),
        (in_collection("      views: {x: {columns: [z]}}"), "dataset.collections[0].views.x: no platform of this dataset"),
        (in_collection("      views: {a: {row-filter: z = 1}}"), "dataset.collections: `a` is the source and shows whole rows"),
        ("platforms:\n  a: {type: sqlite, access: write}\n  b: {type: sqlite}\ndataset: {name: d, source: a, destinations: [b]}".into(),
            "c.yaml:4: dataset.source: `a` cannot be read"),
        ("platforms:\n  a: {type: sqlite}\n  b: {type: sqlite, access: read}\ndataset: {name: d, source: a, destinations: [b]}".into(),
            "c.yaml:4: dataset.destinations: `b` cannot be written"),
        (whole("data-dir: file:none"), "c.yaml:4: data-dir: the file `none` named here cannot be read"),
        (whole("data-dir: ${NONE}"), "c.yaml:4: data-dir: the environment variable NONE is not set"),
        (whole("data-dir: ${A B}"), "c.yaml:4: data-dir: `${A B}` names no variable"),
        (whole("data-dir: ${A"), "c.yaml:4: data-dir: `${` without `}`"),
        ("- a".into(), "c.yaml:1: expected a map of settings, found a list"),
        ("a: [".into(), "c.yaml:1: this is not YAML that can be read"),
        ("platforms:\n  a: {type: sqlite\nlog: 1\n".into(), "this is not YAML that can be read"),
    ];
    let mut wrong = Vec::new();
    for (text, expected) in cases {
        let told = problems(&text);
        // A text that could not be resolved stands as it is, so nothing else is told about it.
        if !told.contains(expected) || told.lines().count() != 1 {
            wrong.push(format!("--- {text}\nexpected: {expected}\ntold: {told}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_problems_of_all_files_are_told_at_once_in_order() {
    let fake = Fake::with("one.yaml", "platforms:\n  a: {type: nope}\n  b: {type: sqlite, access: none}\nhttp: 3\n")
        .and("two.yaml", "dataset:\n  name: UP\n  sources: a\n");
    let told = fake.load(&["one.yaml", "two.yaml", "three.yaml"]).unwrap_err().to_string();
    let starts: Vec<&str> = told.lines().map(|line| line.splitn(4, ": ").take(2).last().unwrap()).collect();
    assert_eq!(
        starts,
        [
            "platforms.a.type",
            "platforms.b.access",
            "http",
            "the configuration cannot be read (no such file); name it with --config",
            "dataset.source",
            "dataset.destinations",
            "dataset.name",
            "dataset.sources"
        ],
        "{told}"
    );
}

#[test]
fn a_problem_becomes_an_error_with_its_code() {
    let error = Error::from(load("platforms:\n  a: {type: mysql}\n").unwrap_err());
    assert_eq!(error.code, Code::ConfigUnsupported);
    let error = Error::from(Fake::default().load(&["none.yaml"]).unwrap_err());
    assert_eq!(error.code, Code::ConfigMissing);
}

/// Connectors name the setting in one of three ways, and each gets its line.
#[test]
fn what_a_connector_refuses_is_told_at_the_line_of_the_setting() {
    let told = |setting: &str| problems(&format!("platforms:\n  a:\n    type: sqlite\n    {setting}\n"));
    assert_eq!(told("path: true"), "c.yaml:4: platforms.a.path: path: expected an absolute path");
    assert_eq!(told("path: 5"), "c.yaml:4: platforms.a.path: expected a path");
    assert!(told("strict: {pth: x}").contains("platforms.a.pth: not understood; unknown field `pth`, expected `path`"));
    assert!(told("strict: {}").contains("platforms.a.path: not understood; missing field `path`"));
    assert_eq!(told("strict: {path: 1}"), "c.yaml:2: platforms.a: not understood");
}
