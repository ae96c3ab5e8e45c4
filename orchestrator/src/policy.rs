//! Which tasks need a person's approval before they may be claimed, of whom, and for how long it is waited for.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::approval::{APPROVERS_MAX, QUORUM_MAX, check_who};
use crate::condition::{Condition, Facts};
use crate::{Error, Result};

/// Who must approve, how many of them, and within what time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Names (`alice`, `name:alice`) and roles (`role:sre`) that may decide; empty for everybody with the right.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<String>,
    /// How many must say yes, 1 to [`QUORUM_MAX`].
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub quorum: u8,
    /// Milliseconds until it is closed without a decision; the namespace's default when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// Milliseconds between two reminders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remind_ms: Option<u64>,
    /// After so many milliseconds this name or role may decide too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate: Option<(u64, String)>,
}

fn one() -> u8 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_one(n: &u8) -> bool {
    *n == 1
}

impl Default for Terms {
    fn default() -> Self {
        Self { by: Vec::new(), quorum: 1, expires_ms: None, remind_ms: None, escalate: None }
    }
}

impl Terms {
    /// # Errors
    /// [`Error::Invalid`] naming what is out of its bounds.
    pub(crate) fn check(&self) -> Result {
        for who in self.by.iter().chain(self.escalate.as_ref().map(|(_, who)| who)) {
            check_who(who)?;
        }
        if self.by.len() > APPROVERS_MAX {
            return Err(Error::invalid(format!("an approval names at most {APPROVERS_MAX} approvers")));
        }
        if !(1..=QUORUM_MAX).contains(&self.quorum) {
            return Err(Error::invalid(format!("an approval needs 1 to {QUORUM_MAX} votes, not {}", self.quorum)));
        }
        let names_only =
            !self.by.is_empty() && self.escalate.is_none() && !self.by.iter().any(|w| w.starts_with("role:"));
        if names_only && self.by.len() < usize::from(self.quorum) {
            return Err(Error::invalid(format!(
                "{} votes are needed and only {} may vote: {}",
                self.quorum,
                self.by.len(),
                self.by.join(", ")
            )));
        }
        let longest = crate::SPAN_MAX.as_millis() as u64;
        let spans = [self.expires_ms, self.remind_ms, self.escalate.as_ref().map(|(after, _)| *after)];
        if spans.iter().flatten().any(|ms| !(1000..=longest).contains(ms)) {
            return Err(Error::invalid("the times of an approval are between 1 second and 366 days"));
        }
        Ok(())
    }
}

/// A handler's gate: its tasks need an approval before their first attempt, but for those that are exempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Which tasks are exempt.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    unless: Option<String>,
    /// Who must approve.
    #[serde(rename = "t", default)]
    pub terms: Terms,
}

impl Gate {
    /// Every task needs one, anybody with the right may give it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Exempts the tasks for which this [`Condition`] holds.
    #[must_use]
    pub fn unless(mut self, condition: &str) -> Self {
        self.unless = Some(condition.into());
        self
    }

    /// Lets this name or role decide; several calls add up.
    #[must_use]
    pub fn by(mut self, who: &str) -> Self {
        self.terms.by.push(who.into());
        self
    }

    /// How many must say yes.
    #[must_use]
    pub fn quorum(mut self, votes: u8) -> Self {
        self.terms.quorum = votes;
        self
    }

    /// Time until it is closed without a decision.
    #[must_use]
    pub fn expires(mut self, after: Duration) -> Self {
        self.terms.expires_ms = Some(millis(after));
        self
    }

    /// Time between two reminders.
    #[must_use]
    pub fn remind(mut self, every: Duration) -> Self {
        self.terms.remind_ms = Some(millis(every));
        self
    }

    /// After this time `who` may decide too.
    #[must_use]
    pub fn escalate(mut self, after: Duration, who: &str) -> Self {
        self.terms.escalate = Some((millis(after), who.into()));
        self
    }

    /// # Errors
    /// [`Error::Invalid`] for a condition that is none and terms out of their bounds.
    pub fn check(&self) -> Result {
        self.unless.as_deref().map(str::parse::<Condition>).transpose()?;
        self.terms.check()
    }

    /// What tells its terms from others: who has passed one gate has not passed another.
    #[must_use]
    pub fn digest(&self) -> String {
        let terms = serde_json::to_value(&self.terms).unwrap_or_default();
        crate::approval::payload_hash(&terms)[..16].to_owned()
    }

    /// Whether a task has to pass it. A condition that cannot be read exempts nobody.
    #[must_use]
    pub fn stops(&self, facts: &Facts<'_>) -> bool {
        !self.unless.as_deref().is_some_and(|text| text.parse::<Condition>().is_ok_and(|c| c.holds(facts)))
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One line of a policy: tasks that it means need an approval, but for those that are exempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRule {
    /// Why, as approvers read it.
    pub reason: String,
    /// Which tasks.
    pub when: Condition,
    /// Which of them are exempt.
    #[serde(default)]
    pub unless: Option<Condition>,
    /// Who must approve.
    #[serde(default)]
    pub terms: Terms,
}

/// Which tasks need an approval before they may be claimed, whatever their handlers say.
#[derive(Clone, Debug, PartialEq)]
pub struct ApprovalPolicy {
    /// The first that means a task counts.
    pub rules: Vec<ApprovalRule>,
    /// How long an approval waits unless its terms say otherwise.
    pub timeout: Duration,
    /// How long decided approvals are kept.
    pub history_ttl: Duration,
    /// Decided approvals kept at most; the oldest goes first.
    pub history_max: u32,
    /// Entries of the audit kept, roughly; the oldest go first.
    pub audit_max: u32,
    /// Whether a submitter may decide on their own task.
    pub self_approval: bool,
}

impl Default for ApprovalPolicy {
    /// P0 and P1; `deploy`, `feature` and `refactor` unless their environment is one of `staging`, `dev`,
    /// `development`, `test`, `preview`; and whatever says that it changes a feature flag. 24 hours each.
    fn default() -> Self {
        let rule = |reason: &str, when: &str, unless: Option<&str>| {
            let condition = |text: &str| text.parse::<Condition>().ok();
            condition(when).map(|when| ApprovalRule {
                reason: reason.into(),
                when,
                unless: unless.and_then(condition),
                terms: Terms::default(),
            })
        };
        let exempt = "args.environment in ['staging', 'dev', 'development', 'test', 'preview']";
        let rules = [
            rule("high priority", "priority in ['P0', 'P1']", None),
            rule("a change of production", "type in ['deploy', 'feature', 'refactor']", Some(exempt)),
            rule(
                "a change of a feature flag",
                "metadata.feature_flag_change in [true, 'true', 'yes', 'on', '1', 1]",
                None,
            ),
        ];
        Self { rules: rules.into_iter().flatten().collect(), ..Self::none() }
    }
}

impl ApprovalPolicy {
    /// No task needs an approval but for the gates of handlers.
    #[must_use]
    pub fn none() -> Self {
        Self {
            rules: Vec::new(),
            timeout: Duration::from_secs(24 * 3600),
            history_ttl: Duration::from_secs(30 * 24 * 3600),
            history_max: 1000,
            audit_max: 1_000_000,
            self_approval: false,
        }
    }

    /// Rules as JSON: a list of `{"reason", "when", "unless", "terms"}`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the mistake.
    pub fn rules_from_json(text: &str) -> Result<Vec<ApprovalRule>> {
        serde_json::from_str(text).map_err(|error| {
            Error::invalid(format!(
                "the approval rules cannot be read: {error}. They are a list like [{{\"reason\": \"money\", \"when\": \
                 \"type == 'refund'\", \"terms\": {{\"by\": [\"role:finance\"], \"quorum\": 2}}}}]"
            ))
        })
    }

    pub(crate) fn check(&self) -> Result {
        for rule in &self.rules {
            rule.terms.check()?;
        }
        if !(Duration::from_secs(1)..=crate::SPAN_MAX).contains(&self.timeout) {
            return Err(Error::invalid("an approval waits between 1 second and 366 days"));
        }
        if !(Duration::from_secs(60)..=crate::SPAN_MAX).contains(&self.history_ttl) {
            return Err(Error::invalid("decided approvals are kept between 1 minute and 366 days"));
        }
        if self.history_max == 0 || self.audit_max == 0 {
            return Err(Error::invalid("the bounds of the approval history and of the audit are at least 1"));
        }
        Ok(())
    }

    /// The rule that stops a task, if one does. `args` is asked for the payload only when a rule needs it.
    pub(crate) fn stops<'p>(&'p self, facts: &Facts<'_>, args: impl FnOnce() -> Value) -> Option<&'p ApprovalRule> {
        // Cheap first: most tasks are meant by no rule at all.
        let needs_args = |rule: &&ApprovalRule| {
            rule.when.asks_for_args()
                || rule.when.holds(facts) && rule.unless.as_ref().is_some_and(Condition::asks_for_args)
        };
        let loaded = self.rules.iter().find(needs_args).map(|_| args());
        let facts = Facts { args: loaded.as_ref().unwrap_or(facts.args), ..*facts };
        // A payload that is no object has no fields to ask for: a handler may read it by position all the same.
        let positional = !facts.args.is_null() && !facts.args.is_object();
        self.rules.iter().find(|rule| {
            let meant = rule.when.holds(&facts) || positional && rule.when.asks_for_args();
            meant && !rule.unless.as_ref().is_some_and(|unless| unless.holds(&facts))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::approval::Approver;
    use crate::{Priority, Source};

    fn stops(task_type: &str, priority: Priority, args: &Value, metadata: &Map<String, Value>) -> Option<String> {
        let policy = ApprovalPolicy::default();
        assert_eq!(policy.rules.len(), 3, "every rule of the default policy can be read");
        let facts = Facts { task_type, priority, source: Source::User, metadata, args: &Value::Null };
        policy.stops(&facts, || args.clone()).map(|rule| rule.reason.clone())
    }

    #[test]
    fn the_default_policy_lists_what_is_exempt_so_that_the_unknown_is_gated() {
        let none = Map::new();
        let production = Some("a change of production".to_owned());
        for environment in
            [json!("production"), json!("Prod"), json!("qa"), json!("pre view"), json!(null), json!(7), json!(["dev"])]
        {
            assert_eq!(stops("deploy", Priority::P2, &json!({"environment": environment}), &none), production);
        }
        assert_eq!(stops("feature", Priority::P3, &json!({}), &none), production);
        assert_eq!(stops("refactor", Priority::P2, &json!("dev"), &none), production);
        for environment in ["staging", "Dev", " TEST ", "preview", "development"] {
            assert_eq!(stops("deploy", Priority::P2, &json!({"environment": environment}), &none), None);
        }
        assert_eq!(stops("deploy", Priority::P1, &json!({"environment": "dev"}), &none), Some("high priority".into()));
        assert_eq!(stops("faq", Priority::P2, &json!({}), &none), None);
        let flagged = json!({"feature_flag_change": true});
        assert!(stops("faq", Priority::P3, &json!({}), flagged.as_object().expect("a map")).is_some());
        let not = json!({"feature_flag_change": "no"});
        assert_eq!(stops("faq", Priority::P3, &json!({}), not.as_object().expect("a map")), None);
        let text = json!({"feature_flag_change": "True"});
        assert!(stops("faq", Priority::P3, &json!({}), text.as_object().expect("a map")).is_some());
        // By position a handler could read what a rule asks for by name.
        let rules = r#"[{"reason": "r", "when": "args.environment == 'production'"}]"#;
        let policy =
            ApprovalPolicy { rules: ApprovalPolicy::rules_from_json(rules).expect("rules"), ..ApprovalPolicy::none() };
        let facts =
            Facts { task_type: "x", priority: Priority::P2, source: Source::User, metadata: &none, args: &Value::Null };
        assert!(policy.stops(&facts, || json!(["production"])).is_some());
        assert!(policy.stops(&facts, || json!({"environment": "dev"})).is_none());
    }

    #[test]
    fn who_is_meant_and_terms_that_cannot_be_met() {
        let bob = Approver::named("bob").role("sre");
        assert!(
            bob.is_meant(&[]) && bob.is_meant(&["role:sre".into()]) && bob.is_meant(&["x".into(), "name:bob".into()])
        );
        assert!(!bob.is_meant(&["sre".into()]) && !bob.is_meant(&["role:bob".into()]));
        assert!(Approver::named("BOB").is_meant(&["bob".into()]) && bob.is_meant(&["role:SRE".into()]));
        let fault = |gate: Gate| gate.check().expect_err("a fault").to_string();
        assert!(fault(Gate::new().by("a").quorum(2)).contains("only 1 may vote"));
        assert!(Gate::new().by("role:sre").quorum(2).check().is_ok());
        assert!(fault(Gate::new().quorum(0)).contains("1 to 20 votes"));
        assert!(fault(Gate::new().by("a b")).contains("names no approver"));
        assert!(fault(Gate::new().unless("env is dev")).contains("asks for `env`"));
        assert!(fault(Gate::new().expires(Duration::from_millis(5))).contains("between 1 second"));
    }
}
