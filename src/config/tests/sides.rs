//! Who proposes, who receives, and what a policy forbids.

use super::*;

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
