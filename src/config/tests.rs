//! What loads, what is refused and in which words.

use super::*;
use crate::connectors::contract::{
    Abilities, Capture, Connector, Descriptor, Finding, Guarantee, Opened, Place, Scope,
};
use crate::event::Schema;
use crate::govern::{AllowAll, Labels, Reason};
use crate::runtime::error::{Error, Result as Res};
use proptest::prelude::*;
use std::io;
use std::path::Path;

/// Checks settings in the ways real connectors do, and opens nothing.
fn open(settings: Value, _platform: &str) -> Res<Box<dyn Connector>> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        #[expect(dead_code, reason = "only its presence is asked for")]
        path: String,
    }
    let wrong = |text: &str| Error::new(Code::ConfigInvalid, text);
    match settings.get("path") {
        Some(Value::Number(_)) => return Err(wrong("expected a path").at("setting", "path")),
        Some(Value::Bool(_)) => return Err(wrong("path: expected an absolute path")),
        _ => {}
    }
    if let Some(told) = settings.get("tell").and_then(Value::as_str) {
        return Err(wrong(&format!("this is told: {told}")));
    }
    if let Some(strict) = settings.get("strict") {
        serde_json::from_value::<Strict>(strict.clone()).map_err(|e| wrong("not understood").caused_by(e))?;
    }
    Ok(Box::new(Nothing))
}

struct Nothing;

#[async_trait::async_trait]
impl Connector for Nothing {
    async fn check(&self, _: Option<&Scope>) -> Res<Vec<Finding>> {
        Ok(Vec::new())
    }

    async fn schema(&self, _: &Place) -> Res<Option<Schema>> {
        Ok(None)
    }

    async fn open(&self, _: &Scope) -> Res<Opened> {
        Err(Error::new(Code::Unexpected, "not in this test"))
    }

    async fn remove(&self, _: &Scope) -> Res<Vec<Finding>> {
        Ok(Vec::new())
    }
}

const fn descriptor(name: &'static str, capture: Option<Capture>, apply: bool, guarantee: Guarantee) -> Descriptor {
    let exclusive = !matches!(capture, Some(Capture::Hint));
    Descriptor { name, abilities: Abilities { capture, apply, guarantee, exclusive }, open }
}

static SQLITE: Descriptor = descriptor("sqlite", Some(Capture::Log), true, Guarantee::Exact);
static FILESYSTEM: Descriptor = descriptor("filesystem", Some(Capture::Hint), true, Guarantee::Safe);
static POSTGRES: Descriptor = descriptor("postgres", Some(Capture::Log), true, Guarantee::Exact);
static WEBHOOK: Descriptor = descriptor("webhook", None, true, Guarantee::Exclusive);

pub(crate) const CONNECTORS: Connectors<'_> = Connectors {
    compiled: &[&SQLITE, &FILESYSTEM, &POSTGRES, &WEBHOOK],
    known: &["sqlite", "filesystem", "postgres", "webhook", "mysql"],
};

/// Files and variables of a test.
#[derive(Default)]
pub(crate) struct Fake {
    files: BTreeMap<String, String>,
    variables: BTreeMap<String, String>,
}

impl Fake {
    pub(crate) fn with(file: &str, text: &str) -> Self {
        Fake::default().and(file, text)
    }

    fn and(mut self, file: &str, text: &str) -> Self {
        self.files.insert(file.into(), text.into());
        self
    }

    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    fn load(&self, files: &[&str]) -> Result<Config, Problems> {
        let files: Vec<String> = files.iter().map(|f| (*f).into()).collect();
        Config::load(&files, CONNECTORS, &AllowAll, self)
    }
}

impl Surroundings for Fake {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let text = path.to_str().and_then(|path| self.files.get(path));
        text.cloned().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }
}

fn load(text: &str) -> Result<Config, Problems> {
    Fake::with("c.yaml", text).load(&["c.yaml"])
}

fn problems(text: &str) -> String {
    load(text).map(|config| config.shown()).unwrap_err().to_string()
}

const TWO: &str = "platforms:\n  a: {type: sqlite}\n  b: {type: filesystem}\n";

#[test]
fn the_two_documents_of_the_mission_load_as_they_stand() {
    let first = include_str!("../../configs/mission-synchronization.yaml");
    let second = include_str!("../../configs/mission-dataset.yaml");
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

/// who-1
#[test]
fn run_refuses_platforms_that_are_not_defined_and_says_which() {
    let second = include_str!("../../configs/mission-dataset.yaml");
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
         conflict-resolution: merge\n    schedule: '@daily'\n    direction: one-way\n    collections:\n      \
         - {{name: c, columns: [x], masks: {{y: hash}}, row-filter: z = 1}}\n"
    );
    let refused = readiness::check(&load(&text).unwrap()).unwrap_err();
    let lines: Vec<String> = refused.0.iter().map(|p| format!("{} {}", p.at.line, p.text)).collect();
    assert_eq!(
        lines,
        [
            "8 the mode `scheduled` does not exist in this version yet; use `real-time`",
            "9 the policy `merge` does not exist in this version yet; use `last-write-wins`",
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

const SECRETS: &str = "
log:
  brokers: h:9092
  registry: http://u:r-secret@reg
  settings: {sasl.username: u, sasl.password: '${KAFKA_PASSWORD}', linger.ms: 5}
platforms:
  a: {type: sqlite, path: x, password: a-secret, nested: {api-key: n-secret, list: [l-ok]}}
  b: {type: sqlite, url: 'postgres://u:${PW}@h/d', path: 'file:/run/s', dsn: 'host=h password=d-secret'}
  c: {type: sqlite, path: '${HOME_DIR}/x', secrets: [s-secret, {deep: t-secret}], plain: '$${PW}'}
";

#[test]
fn secrets_are_resolved_for_connectors_and_never_shown() {
    let fake = Fake::with("c.yaml", SECRETS)
        .and("/run/s", "f-secret${PW}\n")
        .set("KAFKA_PASSWORD", "k-secret")
        .set("PW", "p-secret")
        .set("HOME_DIR", "/data");
    let config = fake.load(&["c.yaml"]).unwrap();
    let open = |name: &str, key: &str| config.platforms[name].settings.open()[key].clone();
    assert_eq!(open("a", "password"), "a-secret");
    assert_eq!(open("b", "url"), "postgres://u:p-secret@h/d");
    assert_eq!(open("b", "path"), "f-secret${PW}");
    assert_eq!(open("c", "path"), "/data/x");
    assert_eq!(open("c", "plain"), "${PW}");
    let settings = config.log.place.librdkafka();
    assert_eq!((settings["sasl.password"].as_str(), settings["linger.ms"].as_str()), ("k-secret", "5"));

    for told in [config.shown().to_string(), format!("{config:?}")] {
        assert!(!told.contains("-secret"), "{told}");
    }
    let shown = config.shown();
    assert_eq!(shown["platforms"]["b"]["url"], "postgres://u:***@h/d");
    assert_eq!(shown["platforms"]["b"]["path"], "***");
    assert_eq!(shown["platforms"]["c"]["path"], "/data/x");
    assert_eq!(shown["platforms"]["a"]["nested"], json!({"api-key": "***", "list": ["l-ok"]}));
    assert_eq!(shown["log"]["registry"], "http://u:***@reg");
}

#[test]
fn a_problem_never_tells_a_secret() {
    let fake = Fake::with("c.yaml", "log: {compression: 'file:s'}\nhttp: {listen: '${PW_TOKEN}'}\ndata-dir: [1]\n")
        .and("s", "f-secret")
        .set("PW_TOKEN", "e-secret");
    let told = fake.load(&["c.yaml"]).unwrap_err().to_string();
    assert!(!told.contains("-secret"), "{told}");
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

#[test]
fn what_a_connector_says_of_a_secret_is_blanked_out() {
    let fake = Fake::with("c.yaml", "platforms:\n  a: {type: sqlite, tell: 'file:s'}\n").and("s", "hunter2");
    assert_eq!(fake.load(&["c.yaml"]).unwrap_err().to_string(), "c.yaml:2: platforms.a: this is told: ***");
}

#[test]
fn numbers_and_flags_may_come_from_the_environment() {
    let fake = Fake::with("c.yaml", "synchronization: {enabled: '${ON:-false}', batch-size: '${N}'}").set("N", "50");
    assert!(!fake.load(&["c.yaml"]).unwrap().enabled);
    let told = fake.set("N", "many").load(&["c.yaml"]).unwrap_err().to_string();
    assert!(told.contains("expected a whole number from 1 to 1000000, found `many`"), "{told}");
}

/// who-2, who-3
#[test]
fn direction_and_access_say_who_proposes_and_who_receives() {
    let part = |extra: &str, access: &str, platform: &str| {
        let text = format!(
            "platforms:\n  a: {{type: sqlite}}\n  b: {{type: filesystem, access: {access}}}\n  w: {{type: webhook}}\n\
             dataset: {{name: d, source: a, destinations: [b, w]{extra}}}\n"
        );
        let config = load(&text).unwrap();
        let Part { proposes, receives, guarantee } = config.datasets[0].part(&config.platforms[platform]);
        (proposes, receives, guarantee)
    };
    assert_eq!(part("", "both", "a"), (true, true, Guarantee::Exact));
    assert_eq!(part("", "both", "b"), (true, true, Guarantee::Safe));
    assert_eq!(part("", "write", "b"), (false, true, Guarantee::Safe));
    assert_eq!(part("", "both", "w"), (false, true, Guarantee::Exclusive));
    assert_eq!(part(", direction: one-way", "both", "a"), (true, false, Guarantee::Exact));
    assert_eq!(part(", direction: one-way", "both", "b"), (false, true, Guarantee::Safe));
    let exclusive = |direction: &str, kind: &str, access: &str| {
        let text = format!(
            "platforms:\n  a: {{type: sqlite}}\n  b: {{type: {kind}, access: {access}}}\n\
             dataset: {{name: d, source: a, destinations: [b], guarantee: exclusive, direction: {direction}}}\n"
        );
        load(&text).map(|config| config.datasets[0].part(&config.platforms["b"])).map_err(|e| e.to_string())
    };
    let part = Part { proposes: false, receives: true, guarantee: Guarantee::Exclusive };
    assert_eq!(exclusive("one-way", "postgres", "both"), Ok(part));
    assert_eq!(exclusive("both-ways", "postgres", "write"), Ok(part));
    assert!(exclusive("both-ways", "postgres", "both").unwrap_err().contains("nobody else writes"));
    assert!(exclusive("one-way", "filesystem", "both").unwrap_err().contains("keeps no mark"));
}

struct NothingSecretToFiles;

impl Policy for NothingSecretToFiles {
    fn judge(&self, dataset: &Labels, platform: &Labels) -> Result<(), Reason> {
        if dataset.classification.as_deref() == Some("secret") && platform.owner.is_none() {
            return Err(Reason {
                rule: "secrets-need-an-owner",
                text: "secret data goes to owned platforms only".into(),
            });
        }
        Ok(())
    }
}

#[test]
fn a_flow_the_policy_forbids_is_refused_at_load() {
    let text = "platforms:\n  a: {type: sqlite, owner: us}\n  b: {type: filesystem}\n\
                dataset:\n  name: d\n  source: a\n  destinations: [b]\n  classification: secret\n";
    let fake = Fake::with("c.yaml", text);
    let refused = Config::load(&["c.yaml".into()], CONNECTORS, &NothingSecretToFiles, &fake).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "c.yaml:7: dataset.destinations: the policy forbids the flow to `b` (secrets-need-an-owner): \
         secret data goes to owned platforms only"
    );
    assert_eq!(refused.0[0].code, Code::FlowForbidden);
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
    let demo = Fake::with("demo.yaml", include_str!("../../configs/demo.yaml")).set("PWD", "/here");
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
