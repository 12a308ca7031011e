//! Secrets and variables: resolved for connectors, and never shown.

use super::*;

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
