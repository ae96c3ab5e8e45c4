//! Promises about a task's total time, and the clock that watches them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::condition::{Condition, Facts};
use crate::hours::{Hours, after, counted};
use crate::task::instant;
use crate::{Error, Result, Span};

/// Fraction of the time after which to warn, unless something else is said.
pub(crate) const WARN_DEFAULT: f64 = 0.8;

/// What happens when a promise is broken, beside the event `sla.violation`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum OnViolation {
    /// Nothing more.
    #[default]
    Announce,
    /// The task gets priority P0.
    Raise,
    /// The task is cancelled.
    Cancel,
    /// The task gets priority P0, and this name or role may decide on the approval that it waits for.
    Escalate(String),
}

impl From<OnViolation> for String {
    fn from(action: OnViolation) -> Self {
        match action {
            OnViolation::Announce => "announce".into(),
            OnViolation::Raise => "raise".into(),
            OnViolation::Cancel => "cancel".into(),
            OnViolation::Escalate(who) => format!("escalate:{who}"),
        }
    }
}

impl TryFrom<String> for OnViolation {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        match (text.as_str(), text.strip_prefix("escalate:")) {
            ("announce", _) => Ok(Self::Announce),
            ("raise", _) => Ok(Self::Raise),
            ("cancel", _) => Ok(Self::Cancel),
            (_, Some(who)) => crate::approval::check_who(who).map(|()| Self::Escalate(who.into())),
            _ => Err(Error::invalid(format!(
                "`{}` is no reaction to a violation; known are announce, raise, cancel, escalate:WHO",
                crate::error::excerpt(&text)
            ))),
        }
    }
}

/// A promise about the total time of a task. Either bound may be given alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
pub struct Sla {
    /// Total time from creation, as text: `30m`.
    #[serde(default)]
    pub target: Option<String>,
    /// The instant by which it must have ended. It does not move while a person decides.
    #[serde(default)]
    pub deadline: Option<DateTime<Utc>>,
    /// Fraction of the time after which to warn, 0 to 1.
    #[serde(default = "warn_default")]
    pub alert_threshold: f64,
    /// Whether the clock of the target stands while a person decides.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub pause_for_people: bool,
    /// What happens when the promise is broken.
    #[serde(default, skip_serializing_if = "is_announce")]
    pub on_violation: OnViolation,
    /// The hours that count for the target, as [`Hours`] reads them; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<String>,
}

fn warn_default() -> f64 {
    WARN_DEFAULT
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_yes(value: &bool) -> bool {
    *value
}

fn is_announce(action: &OnViolation) -> bool {
    *action == OnViolation::Announce
}

impl Default for Sla {
    fn default() -> Self {
        Self {
            target: None,
            deadline: None,
            alert_threshold: WARN_DEFAULT,
            pause_for_people: true,
            on_violation: OnViolation::Announce,
            hours: None,
        }
    }
}

/// What a handler or a rule promises for its tasks: a target from creation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlaTerms {
    /// Total time from creation, as text: `30m`.
    pub target: String,
    /// Fraction of it after which to warn, 0 to 1.
    #[serde(default = "warn_default")]
    pub warn: f64,
    /// Whether the clock stands while a person decides.
    #[serde(default = "yes")]
    pub pause_for_people: bool,
    /// What happens when the promise is broken.
    #[serde(default)]
    pub on_violation: OnViolation,
    /// The hours that count, as [`Hours`] reads them; all when left out.
    #[serde(default)]
    pub hours: Option<String>,
}

impl SlaTerms {
    /// A promise of this time, warned of at 80 % of it; the clock stands while a person decides.
    #[must_use]
    pub fn new(target: Duration) -> Self {
        Self {
            target: humantime::format_duration(target).to_string(),
            warn: WARN_DEFAULT,
            pause_for_people: true,
            on_violation: OnViolation::Announce,
            hours: None,
        }
    }

    /// Fraction of the target after which to warn.
    #[must_use]
    pub fn warn(mut self, fraction: f64) -> Self {
        self.warn = fraction;
        self
    }

    /// Whether the clock stands while a person decides.
    #[must_use]
    pub fn pause(mut self, pause: bool) -> Self {
        self.pause_for_people = pause;
        self
    }

    /// What happens when the promise is broken.
    #[must_use]
    pub fn on_violation(mut self, action: OnViolation) -> Self {
        self.on_violation = action;
        self
    }

    /// The hours that count: `mon-fri 09:00-17:00 Europe/Berlin`.
    #[must_use]
    pub fn hours(mut self, hours: &str) -> Self {
        self.hours = Some(hours.into());
        self
    }

    /// # Errors
    /// [`Error::Invalid`] naming what is out of its bounds.
    pub fn check(&self) -> Result {
        Span::from(self.target.as_str()).duration()?;
        self.hours.as_deref().map(str::parse::<Hours>).transpose()?;
        check_warn(self.warn)
    }

    pub(crate) fn sla(&self) -> Sla {
        Sla {
            target: Some(self.target.clone()),
            deadline: None,
            alert_threshold: self.warn,
            pause_for_people: self.pause_for_people,
            on_violation: self.on_violation.clone(),
            hours: self.hours.clone(),
        }
    }
}

pub(crate) fn check_warn(fraction: f64) -> Result {
    match fraction > 0.0 && fraction < 1.0 {
        true => Ok(()),
        false => Err(Error::invalid(format!("the fraction to warn at lies between 0 and 1, like 0.8, not {fraction}"))),
    }
}

/// A promise for the tasks that a condition means, unless they or their handler bring their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlaRule {
    /// Which tasks; by type and priority, say.
    pub when: Condition,
    /// What is promised.
    pub sla: SlaTerms,
}

impl SlaRule {
    /// Rules as JSON: a list of `{"when", "sla"}`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the mistake.
    pub fn list_from_json(text: &str) -> Result<Vec<Self>> {
        serde_json::from_str(text).map_err(|error| {
            Error::invalid(format!(
                "the SLA rules cannot be read: {error}. They are a list like [{{\"when\": \"type == 'deploy' && priority \
                 == 'P0'\", \"sla\": {{\"target\": \"15m\"}}}}]"
            ))
        })
    }

    pub(crate) fn first<'r>(rules: &'r [Self], facts: &Facts<'_>) -> Option<&'r SlaTerms> {
        rules.iter().find(|rule| rule.when.holds(facts)).map(|rule| &rule.sla)
    }
}

impl Sla {
    /// The state of a clock that begins at `created_ms`, in the hands of a person or not, as the scripts keep it. The target
    /// of a task that is to start at `run_at_ms` counts from there.
    pub(crate) fn begin(&self, created_ms: u64, run_at_ms: u64, with_person: bool, task_type: &str) -> Result<Vec<u8>> {
        let target = self.target.as_deref().map(|text| Span::from(text).duration()).transpose()?;
        let target_ms = target.map_or(0, crate::policy::millis);
        let limit_ms = self.deadline.map_or(0, |at| u64::try_from(at.timestamp_millis()).unwrap_or(1));
        let (action, who) = match &self.on_violation {
            OnViolation::Announce => (b'a', ""),
            OnViolation::Raise => (b'r', ""),
            OnViolation::Cancel => (b'c', ""),
            OnViolation::Escalate(who) => (b'e', who.as_str()),
        };
        let start = created_ms.max(run_at_ms);
        let hours = self.hours.as_deref().map(str::parse::<Hours>).transpose()?;
        let windows = hours.map(|hours| hours.windows(start)).unwrap_or_default();
        let due = if target_ms > 0 { after(&windows, start, target_ms) } else { 0 };
        let at = [due, limit_ms].into_iter().filter(|ms| *ms > 0).min().unwrap_or(0);
        // At most some years of milliseconds: exact in a double.
        let lead = ((1.0 - self.alert_threshold) * counted(&windows, start.min(at), at) as f64).round() as u64;
        let mut state = vec![u8::from(self.pause_for_people), action, if with_person { b'h' } else { b'q' }];
        for ms in [created_ms, due, limit_ms, lead, 0, 0, 0] {
            state.extend(&ms.to_be_bytes()[2..]);
        }
        state.push(task_type.len() as u8);
        state.extend(task_type.bytes());
        state.push(who.len() as u8);
        state.extend(who.bytes());
        for (from, to) in windows {
            // Minutes since 1970 fit until the year 10136.
            state.extend((from as u32).to_be_bytes());
            state.extend((to as u32).to_be_bytes());
        }
        Ok(state)
    }
}

/// How a promise stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SlaState {
    /// In time.
    Ok,
    /// In time, and a person has it: the clock of its target stands.
    Paused,
    /// In time, but the warning has been given.
    Warning,
    /// Broken.
    Violated,
    /// Ended in time.
    Met,
}

/// Where the time of a task went, and what is left of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
pub struct SlaClock {
    /// Milliseconds spent waiting for a worker, for its instant, or asleep.
    pub queue_ms: u64,
    /// Milliseconds spent in the hands of workers.
    pub machine_ms: u64,
    /// Milliseconds spent waiting for a person.
    pub human_ms: u64,
    /// Milliseconds until the violation; negative when it has passed. `None` while the clock stands.
    pub left_ms: Option<i64>,
    /// When it will be violated, as things stand. `None` while the clock stands.
    pub due: Option<DateTime<Utc>>,
    /// How it stands.
    pub state: SlaState,
}

impl SlaClock {
    /// Reads the state that scripts keep, as it is at `now_ms`; `ended` when the task has ended.
    pub(crate) fn read(state: &[u8], now_ms: u64, ended: bool) -> Option<Self> {
        let (&[bits, _, phase], rest) = state.split_first_chunk::<3>()?;
        let number = |i: usize| Some(rest.get(i * 6..i * 6 + 6)?.iter().fold(0u64, |n, b| n << 8 | u64::from(*b)));
        let (since, mut due, limit) = (number(0)?, number(1)?, number(2)?);
        let [mut queue_ms, mut machine_ms, mut human_ms] = [number(4)?, number(5)?, number(6)?];
        let spent = if ended { 0 } else { now_ms.saturating_sub(since) };
        match phase {
            b'q' => queue_ms += spent,
            b'm' => machine_ms += spent,
            b'h' => human_ms += spent,
            _ => {}
        }
        let stands = phase == b'h' && bits & 1 == 1;
        if stands {
            due = 0;
        }
        let at = [due, limit].into_iter().filter(|ms| *ms > 0).min();
        let state = match (bits, ended) {
            (bits, _) if bits & 4 > 0 => SlaState::Violated,
            (_, true) => SlaState::Met,
            _ if stands => SlaState::Paused,
            (bits, _) if bits & 2 > 0 => SlaState::Warning,
            _ => SlaState::Ok,
        };
        let at = at.filter(|_| !ended);
        Some(Self {
            queue_ms,
            machine_ms,
            human_ms,
            left_ms: at.map(|at| i64::try_from(at).unwrap_or(i64::MAX) - i64::try_from(now_ms).unwrap_or(0)),
            due: at.map(instant),
            state,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_reads_back_and_stands_while_a_person_has_it() {
        let sla = Sla { target: Some("10m".into()), alert_threshold: 0.75, ..Sla::default() };
        let state = sla.begin(1_000_000, 0, false, "deploy").expect("a fair promise");
        assert_eq!(state.len(), 46 + 6 + 1);
        let clock = SlaClock::read(&state, 1_060_000, false).expect("our state");
        assert_eq!((clock.queue_ms, clock.left_ms, clock.state), (60_000, Some(540_000), SlaState::Ok));
        let state = sla.begin(1_000_000, 0, true, "deploy").expect("a fair promise");
        let clock = SlaClock::read(&state, 5_000_000, false).expect("our state");
        assert_eq!((clock.human_ms, clock.left_ms, clock.state), (4_000_000, None, SlaState::Paused));
        assert_eq!(SlaClock::read(&state[..20], 0, false), None);
    }

    #[test]
    fn reactions_are_words() {
        for text in ["announce", "raise", "cancel", "escalate:role:lead"] {
            let action = OnViolation::try_from(text.to_owned()).expect(text);
            assert_eq!(String::from(action), text);
        }
        assert!(OnViolation::try_from("page".to_owned()).is_err());
        assert!(SlaTerms::new(Duration::from_secs(60)).warn(1.5).check().is_err());
        assert!(SlaTerms { target: "soon".into(), ..SlaTerms::new(Duration::from_secs(60)) }.check().is_err());
    }
}
