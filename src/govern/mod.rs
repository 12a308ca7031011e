//! Whether a dataset may flow to a platform, judged by the labels both carry. Pure: no I/O, no clock.
//!
//! The same function is asked in three places: when the configuration is loaded, when a job is
//! created, and before data is written. A refusal names the rule, so that machines can read it too.
//! Only the policy that allows everything exists so far.

use crate::runtime::error::{Code, Error};
use serde::Serialize;
use std::sync::Arc;

/// What a platform or dataset is labelled with; all free text.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Labels {
    /// The governance layer, such as `GL10-29`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// How sensitive it is, such as `internal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classification: Option<String>,
    /// Who answers for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// Somebody with a name and labels.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// The name of the dataset or platform.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a Labels,
}

/// Why a policy refuses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Reason {
    /// The rule's stable name, for machines.
    pub rule: &'static str,
    /// What it says, for people.
    pub text: String,
}

/// A flow that is not allowed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Refusal {
    /// The dataset that would flow.
    pub dataset: String,
    /// The platform it would flow to.
    pub platform: String,
    /// Why not.
    #[serde(flatten)]
    pub reason: Reason,
}

/// A set of rules over labels. Must be pure: equal labels, equal answer.
pub trait Policy: Send + Sync {
    /// Whether data with the first labels may be stored where the second ones hold.
    ///
    /// # Errors
    /// The rule that forbids it.
    fn judge(&self, dataset: &Labels, platform: &Labels) -> Result<(), Reason>;
}

/// Allows every flow.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Policy for AllowAll {
    fn judge(&self, _dataset: &Labels, _platform: &Labels) -> Result<(), Reason> {
        Ok(())
    }
}

/// Whether a flow that was allowed still is: asked before each write.
pub type Allowed = Arc<dyn Fn() -> crate::runtime::error::Result<()> + Send + Sync>;

/// The one check of all three places.
///
/// # Errors
/// The refusal, with both names and the rule.
pub fn may_flow(policy: &dyn Policy, dataset: Party<'_>, platform: Party<'_>) -> Result<(), Refusal> {
    policy.judge(dataset.labels, platform.labels).map_err(|reason| Refusal {
        dataset: dataset.name.into(),
        platform: platform.name.into(),
        reason,
    })
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let Reason { rule, text } = refusal.reason;
        Error::new(Code::FlowForbidden, format!("the policy forbids this flow: {text}"))
            .at("dataset", refusal.dataset)
            .at("platform", refusal.platform)
            .at("rule", rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoSecretsOutside;

    impl Policy for NoSecretsOutside {
        fn judge(&self, dataset: &Labels, platform: &Labels) -> Result<(), Reason> {
            let secret = dataset.classification.as_deref() == Some("secret");
            if secret && platform.owner.as_deref() != Some("us") {
                return Err(Reason { rule: "no-secrets-outside", text: "secrets stay with us".into() });
            }
            Ok(())
        }
    }

    #[test]
    fn a_refusal_names_both_sides_and_the_rule() {
        let secret = Labels { classification: Some("secret".into()), ..Labels::default() };
        let dataset = Party { name: "keys", labels: &secret };
        let outside = Party { name: "cloud", labels: &Labels::default() };
        let refusal = may_flow(&NoSecretsOutside, dataset, outside).unwrap_err();
        assert_eq!(
            serde_json::to_value(&refusal).unwrap(),
            serde_json::json!({"dataset": "keys", "platform": "cloud", "rule": "no-secrets-outside", "text": "secrets stay with us"})
        );
        let error = Error::from(refusal);
        assert_eq!(error.code, Code::FlowForbidden);
        assert!(error.to_string().contains("rule no-secrets-outside"), "{error}");
    }

    #[test]
    fn everything_is_allowed_by_the_policy_that_allows_everything() {
        let labels = Labels { layer: Some("GL10-29".into()), ..Labels::default() };
        let party = Party { name: "a", labels: &labels };
        assert_eq!(may_flow(&AllowAll, party, party), Ok(()));
    }
}
