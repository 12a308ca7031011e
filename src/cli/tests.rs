//! What is typed, what is answered, and with which number it ends.

use super::*;
use crate::config::tests::{CONNECTORS, Fake};
use serde_json::Value;

fn typed(file: &str, words: &str) -> (u8, String, String) {
    let around = Fake::with("driftless.yaml", file).set("PWD", "/here");
    let program = Program { connectors: CONNECTORS, policy: &AllowAll, around: &around };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let words = std::iter::once("driftless").chain(words.split_whitespace()).map(OsString::from);
    let exit = run(words, program, &mut out, &mut err);
    (exit.number(), String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

const DEMO: &str = include_str!("../../configs/demo.yaml");
const MISSION: &str = include_str!("../../configs/mission-dataset.yaml");

#[test]
fn validate_shows_what_each_platform_does() {
    let (exit, out, err) = typed(DEMO, "validate --ready");
    assert_eq!((exit, err.as_str()), (0, ""));
    assert_eq!(
        out,
        "valid: driftless.yaml\n\
         DATASET   PLATFORM   TYPE        PART              GUARANTEE\n\
         products  shop       sqlite      reads and writes  exact\n\
         products  warehouse  sqlite      reads and writes  exact\n\
         products  catalogue  filesystem  reads and writes  safe\n"
    );
    let (_, out, _) = typed(DEMO, "--json validate");
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&answer["ready"], &answer["datasets"][2]["guarantee"]), (&true.into(), &"safe".into()));
}

/// who-1
#[test]
fn validate_accepts_a_document_whose_platforms_are_elsewhere_unless_it_must_be_ready() {
    let (exit, out, err) = typed(MISSION, "validate");
    assert_eq!(exit, 0, "{err}");
    assert!(out.starts_with("valid: driftless.yaml\n"), "{out}");
    assert!(err.contains("driftless.yaml:4: dataset.destinations: not defined"), "{err}");
    assert_eq!(typed(MISSION, "validate --ready").0, 2);
}

#[test]
fn validate_lists_all_problems_and_ends_with_2() {
    let (exit, out, err) = typed("log: 1\nhttp: 2\n", "validate");
    assert_eq!((exit, out.as_str(), err.lines().count()), (2, "", 2), "{err}");
    let (exit, out, _) = typed("log: 1\nhttp: 2\n", "validate --json");
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, &answer["problems"][1]["line"], &answer["valid"]), (2, &2.into(), &false.into()));
}

#[test]
fn config_show_fills_in_defaults_and_hides_secrets() {
    let file = format!("{}log: {{brokers: 'h:1', settings: {{sasl.password: hunter2}}}}\n", DEMO);
    let (exit, out, err) = typed(&file, "config show");
    assert_eq!((exit, err.as_str()), (0, ""));
    assert!(out.contains("conflict-resolution: last-write-wins") && out.contains("***"), "{out}");
    assert!(!out.contains("hunter2"), "{out}");
    let (_, out, _) = typed(&file, "config show --json");
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["http"]["listen"], "127.0.0.1:7420");
    assert_eq!(answer["log"]["settings"]["sasl.password"], "***");
}

#[test]
fn an_error_is_told_on_stderr_and_in_json_too() {
    let (exit, out, err) = typed("log: 1\n", "config show");
    assert_eq!((exit, out.as_str()), (2, ""));
    assert!(err.starts_with("error: config_invalid: driftless.yaml:1: log: expected"), "{err}");
    let (_, out, _) = typed("log: 1\n", "config show --json");
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["error"]["code"], "config_invalid");
    assert_eq!(typed(DEMO, "config show --config missing.yaml").0, 2);
}

#[test]
fn what_cannot_be_understood_ends_with_2_and_help_with_0() {
    assert_eq!(typed(DEMO, "valdate").0, 2);
    assert_eq!(typed(DEMO, "").0, 2);
    let (exit, out, _) = typed(DEMO, "--help");
    assert!(exit == 0 && out.contains("validate"), "{out}");
    assert_eq!(typed(DEMO, "--version").0, 0);
}
