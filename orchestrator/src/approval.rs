//! Approvals: what is asked of people, who may answer, and which tasks have to ask.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::condition::{Condition, Facts};
use crate::{Assignment, Error, Priority, Result, TaskId};

/// Longest text of a note, a question or a reason, in bytes.
pub const NOTE_BYTES_MAX: usize = 2000;
/// Largest snapshot of what is shown, in bytes of JSON.
pub const SHOWN_BYTES_MAX: usize = 64 * 1024;
/// Names of one approval at most, delegates included.
pub const APPROVERS_MAX: usize = 50;
/// Votes that one approval may need at most.
pub const QUORUM_MAX: u8 = 20;

/// The name of one approval: `approval_<task id>` for the gate at submission, `approval_<task id>_<n>` for a handler's
/// n-th question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ApprovalId {
    /// The task that waits.
    pub task: TaskId,
    /// 0 for the gate, else which of its handler's questions.
    pub number: u16,
}

impl ApprovalId {
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..14].copy_from_slice(self.task.as_bytes());
        bytes[14..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        let (task, number) = bytes.split_at_checked(14)?;
        Some(Self { task: TaskId::from_slice(task)?, number: u16::from_be_bytes(number.try_into().ok()?) })
    }
}

impl fmt::Display for ApprovalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "approval_{}", self.task)?;
        if self.number > 0 { write!(f, "_{}", self.number) } else { Ok(()) }
    }
}

impl FromStr for ApprovalId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = || {
            let rest = text.strip_prefix("approval_")?;
            let (task, number) = rest.split_once('_').unwrap_or((rest, "0"));
            // One spelling an id: no leading zeros, no sign.
            let number = number.parse::<u16>().ok().filter(|n| n.to_string() == number)?;
            (rest.contains('_') == (number > 0)).then_some(())?;
            Some(Self { task: task.parse().ok()?, number })
        };
        parts().ok_or_else(|| {
            Error::invalid(format!(
                "`{}` is no approval's id; one looks like approval_<task id> or approval_<task id>_1",
                crate::error::excerpt(text)
            ))
        })
    }
}

impl Serialize for ApprovalId {
    fn serialize<S: Serializer>(&self, writer: S) -> std::result::Result<S::Ok, S::Error> {
        writer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ApprovalId {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(reader)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How an approval stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalStatus {
    /// Nobody has decided yet.
    Pending,
    /// Enough people said yes.
    Approved,
    /// Somebody said no.
    Rejected,
    /// Nobody decided in time.
    Timeout,
    /// The task was cancelled meanwhile.
    Cancelled,
}

impl fmt::Display for ApprovalStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
        })
    }
}

/// What asks: the gate before a task's first attempt, or its handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalKind {
    /// The gate.
    Gate,
    /// `ctx.approve(..)`.
    Handler,
}

/// One person's yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// Who.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
    /// What they wrote.
    pub note: String,
}

/// One approval in full: what was asked, of whom, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Approval {
    /// Its name.
    pub approval_id: ApprovalId,
    /// The task that waits.
    pub task_id: TaskId,
    /// That task's type.
    pub task_type: String,
    /// That task's priority.
    pub priority: Priority,
    /// Why it is asked.
    pub reason: String,
    /// Who may decide, in words.
    pub approver: String,
    /// How it stands.
    pub status: ApprovalStatus,
    /// When it was asked.
    pub requested_at: DateTime<Utc>,
    /// When it was decided, whatever the decision.
    pub approved_at: Option<DateTime<Utc>>,
    /// Who decided, whatever the decision.
    pub approved_by: Option<String>,
    /// Why it was rejected or closed without a decision.
    pub rejection_reason: Option<String>,
    /// Who submitted the task; may not decide.
    pub requested_by: Option<String>,
    /// When it is closed without a decision.
    pub expires_at: DateTime<Utc>,
    /// SHA-256 of what was shown, in canonical JSON.
    pub payload_hash: String,
    /// What is asked, in words.
    pub question: String,
    /// The fields that an approver is to fill in; empty for none.
    pub form: Vec<String>,
    /// What was filled in.
    pub form_values: Option<Value>,
    /// What is shown: the payload or the plan. Cut short when it is larger than [`SHOWN_BYTES_MAX`].
    pub shown: Value,
    /// The names and roles that may decide; empty for everybody with the right.
    pub by: Vec<String>,
    /// How many must say yes.
    pub quorum: u8,
    /// Those who have said yes so far, and the no.
    pub votes: Vec<Vote>,
    /// What asks.
    pub kind: ApprovalKind,
}

/// Somebody who decides: a name, and the roles that whoever identified them vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approver {
    /// The name.
    pub name: String,
    /// The roles, without a prefix: `sre`.
    pub roles: Vec<String>,
}

impl Approver {
    /// Somebody with no role but their name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), roles: Vec::new() }
    }

    /// The same with one role more.
    #[must_use]
    pub fn role(mut self, role: &str) -> Self {
        self.roles.push(role.into());
        self
    }

    /// Whether one of `by` means them; an empty list means everybody.
    #[must_use]
    pub fn is_meant(&self, by: &[String]) -> bool {
        by.is_empty()
            || by.iter().any(|who| match who.split_once(':') {
                Some(("role", role)) => self.roles.iter().any(|own| own.eq_ignore_ascii_case(role)),
                Some(("name", name)) => self.is_called(name),
                _ => self.is_called(who),
            })
    }

    /// Whether this is their name. The names of API keys come from the environment, in capitals as a rule: case says
    /// nothing about who somebody is.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

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

/// Checks a name or role as terms write it.
pub(crate) fn check_who(who: &str) -> Result {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"_.-@:+".contains(&b);
    if who.is_empty() || who.len() > 128 || !who.bytes().all(good) {
        return Err(Error::invalid(format!(
            "`{}` names no approver; write a name (alice) or a role (role:sre): letters, digits and _ . - @ +",
            crate::error::excerpt(who)
        )));
    }
    Ok(())
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
            rule("a change of a feature flag", "metadata.feature_flag_change == true", None),
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
        self.rules
            .iter()
            .find(|rule| rule.when.holds(&facts) && !rule.unless.as_ref().is_some_and(|unless| unless.holds(&facts)))
    }
}

/// SHA-256 of a value in canonical JSON (sorted keys, no blanks), as 64 hexadecimal digits.
#[must_use]
pub fn payload_hash(value: &Value) -> String {
    let digest = Sha256::digest(canonical(value).as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// JSON with sorted keys and without blanks.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_unstable_by_key(|(name, _)| *name);
            let entries =
                entries.iter().map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

/// What is asked, on its way to Redis.
#[derive(Clone, Debug)]
pub struct Asking {
    pub(crate) request: Request,
    pub(crate) terms: Terms,
    pub(crate) requested_by: Option<String>,
    pub(crate) hash: String,
    pub(crate) due_ms: u64,
}

/// The part of an approval that never changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Request {
    #[serde(rename = "t")]
    pub(crate) task_type: String,
    #[serde(rename = "p")]
    pub(crate) priority: Priority,
    #[serde(rename = "r")]
    pub(crate) reason: String,
    #[serde(rename = "q", default)]
    pub(crate) question: String,
    #[serde(rename = "f", default)]
    pub(crate) form: Vec<String>,
    #[serde(rename = "s")]
    pub(crate) shown: Value,
}

/// As `cmsgpack.unpack` takes it in the scripts.
#[derive(Serialize)]
struct Packed<'a> {
    /// As JSON: the scripts' reader knows no binary.
    v: String,
    by: String,
    q: u8,
    own: &'a str,
    hash: &'a str,
    ex: u64,
    due: u64,
    rem: u64,
    after: u64,
    esc: &'a str,
}

impl Asking {
    /// Asks about `shown`: all of it counts for the hash, and as much as fits is kept.
    ///
    /// # Errors
    /// [`Error::Invalid`] for terms out of their bounds and texts that are too long.
    pub(crate) fn new(request: Request, terms: Terms, requested_by: Option<String>) -> Result<Self> {
        terms.check()?;
        if request.question.len() > NOTE_BYTES_MAX || request.reason.len() > NOTE_BYTES_MAX {
            return Err(Error::invalid(format!("a question and a reason have at most {NOTE_BYTES_MAX} bytes each")));
        }
        let hash = payload_hash(&request.shown);
        Ok(Self { request, terms, requested_by, hash, due_ms: 0 })
    }

    /// Asks in the name of a running task about what its handler shows.
    ///
    /// # Errors
    /// [`Error::Invalid`] for terms out of their bounds, texts that are too long, and more than [`SHOWN_BYTES_MAX`] shown.
    pub fn about(task: &Assignment, shown: Value, question: &str, form: Vec<String>, terms: Terms) -> Result<Self> {
        let bytes = shown.to_string().len();
        if bytes > SHOWN_BYTES_MAX {
            return Err(Error::invalid(format!(
                "what is shown for an approval has {bytes} bytes of JSON; at most {SHOWN_BYTES_MAX} are allowed. Show a \
                 summary with a digest of the whole"
            )));
        }
        let request = Request {
            task_type: task.task_type().into(),
            priority: task.priority(),
            reason: "its handler asks".into(),
            question: question.into(),
            form,
            shown,
        };
        Self::new(request, terms, task.requested_by().map(Into::into))
    }

    /// What a task has to ask before its first attempt when its handler has a gate and nobody has asked yet: somebody
    /// submitted it who did not know of the gate.
    ///
    /// # Errors
    /// As [`Asking::about`].
    pub fn at_gate(task: &Assignment, gate: &Gate) -> Result<Option<Self>> {
        let args = task.args();
        let facts = Facts {
            task_type: task.task_type(),
            priority: task.priority(),
            source: task.source(),
            metadata: task.metadata(),
            args: &args,
        };
        if task.has_passed_its_gate() || !gate.stops(&facts) {
            return Ok(None);
        }
        let request = Request {
            task_type: task.task_type().into(),
            priority: task.priority(),
            reason: "its handler asks for it".into(),
            question: String::new(),
            form: Vec::new(),
            shown: args,
        };
        Self::new(request, gate.terms.clone(), task.requested_by().map(Into::into)).map(Some)
    }

    /// SHA-256 of what is shown.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// `timeout` is how long it waits unless its terms say otherwise.
    pub(crate) fn pack(&self, timeout: Duration) -> Result<Vec<u8>> {
        let mut request = self.request.clone();
        let text = request.shown.to_string();
        if text.len() > SHOWN_BYTES_MAX {
            let mut end = SHOWN_BYTES_MAX / 8;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            request.shown = Value::from(format!(
                "({} bytes of JSON, too large to be shown here; it begins with {})",
                text.len(),
                &text[..end]
            ));
        }
        let (after, esc) = self.terms.escalate.as_ref().map_or((0, ""), |(after, who)| (*after, who.as_str()));
        let packed = Packed {
            v: serde_json::to_string(&request)
                .map_err(|error| Error::invalid(format!("what is shown cannot be written: {error}")))?,
            by: self.terms.by.join(" "),
            q: self.terms.quorum,
            own: self.requested_by.as_deref().unwrap_or_default(),
            hash: &self.hash,
            ex: self.terms.expires_ms.unwrap_or_else(|| millis(timeout)),
            due: self.due_ms,
            rem: self.terms.remind_ms.unwrap_or(0),
            after,
            esc,
        };
        crate::codec::encode("approval", &packed, 8 * SHOWN_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Source;
    use serde_json::{Map, json};

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
        for environment in [json!("production"), json!("Prod"), json!("qa"), json!(null), json!(7), json!(["dev"])] {
            assert_eq!(stops("deploy", Priority::P2, &json!({"environment": environment}), &none), production);
        }
        assert_eq!(stops("feature", Priority::P3, &json!({}), &none), production);
        assert_eq!(stops("refactor", Priority::P2, &json!("dev"), &none), production);
        for environment in ["staging", "Dev", " TEST ", "pre view", "development"] {
            assert_eq!(stops("deploy", Priority::P2, &json!({"environment": environment}), &none), None);
        }
        assert_eq!(stops("deploy", Priority::P1, &json!({"environment": "dev"}), &none), Some("high priority".into()));
        assert_eq!(stops("faq", Priority::P2, &json!({}), &none), None);
        let flagged = json!({"feature_flag_change": true});
        assert!(stops("faq", Priority::P3, &json!({}), flagged.as_object().expect("a map")).is_some());
        let not = json!({"feature_flag_change": "no"});
        assert_eq!(stops("faq", Priority::P3, &json!({}), not.as_object().expect("a map")), None);
    }

    #[test]
    fn an_approvals_id_has_one_spelling() {
        let task = TaskId::at(1_790_000_000_000);
        for number in [0, 1, 12] {
            let id = ApprovalId { task, number };
            assert_eq!(id.to_string().parse::<ApprovalId>().ok(), Some(id));
            assert_eq!(ApprovalId::from_slice(&id.to_bytes()), Some(id));
        }
        for wrong in [
            format!("approval_{task}_0"),
            format!("approval_{task}_01"),
            format!("approval_{task}_"),
            task.to_string(),
            "approval_x".into(),
        ] {
            assert!(wrong.parse::<ApprovalId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_hash_does_not_depend_on_the_order_of_keys() {
        let (a, b) =
            (json!({"a": 1, "b": {"x": [1, "é"], "y": null}}), json!({"b": {"y": null, "x": [1, "é"]}, "a": 1}));
        assert_eq!(payload_hash(&a), payload_hash(&b));
        assert_ne!(payload_hash(&a), payload_hash(&json!({"a": "1"})));
        assert_eq!(payload_hash(&json!({})), "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
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
