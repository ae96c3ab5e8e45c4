//! Which dead letters are meant.

use chrono::{DateTime, Utc};

use crate::fingerprint::FINGERPRINT_LEN;
use crate::{DeadLetter, Error, Result, check_name};

/// Longest text that is looked for in errors, in bytes.
pub const DEAD_TEXT_MAX: usize = 500;

/// Which dead letters (failed tasks) are meant. What is left empty takes all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadFilter {
    /// This type.
    pub task_type: Option<String>,
    /// This queue.
    pub queue: Option<String>,
    /// This reason: `retries`, `fatal`, `poison` …
    pub reason: Option<String>,
    /// Failures that are alike, by their [`fingerprint`](crate::fingerprint).
    pub fingerprint: Option<String>,
    /// This text in the error; large and small letters are the same.
    pub error: Option<String>,
    /// Failed at this instant or later, to the millisecond.
    pub since: Option<DateTime<Utc>>,
    /// Failed before this instant, to the millisecond.
    pub until: Option<DateTime<Utc>>,
    /// This tenant.
    pub tenant: Option<String>,
}

impl DeadFilter {
    /// # Errors
    /// [`Error::Invalid`] for what no dead letter can have.
    pub(crate) fn check(&self) -> Result {
        self.task_type.as_ref().map_or(Ok(()), |name| check_name("task type", name))?;
        self.queue.as_ref().map_or(Ok(()), |name| check_name("queue", name))?;
        self.tenant.as_ref().map_or(Ok(()), |name| check_name("tenant", name))?;
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if let Some(name) = &self.fingerprint
            && (name.len() != FINGERPRINT_LEN || !name.bytes().all(hex))
        {
            let name = crate::error::excerpt(name);
            return Err(Error::invalid(format!(
                "`{name}` is no fingerprint; one has {FINGERPRINT_LEN} digits 0-9 a-f"
            )));
        }
        for text in [&self.error, &self.reason].into_iter().flatten() {
            if text.is_empty() || text.len() > DEAD_TEXT_MAX {
                return Err(Error::invalid(format!("a text that is looked for has 1 to {DEAD_TEXT_MAX} bytes")));
            }
        }
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since >= until
        {
            return Err(Error::invalid(format!("nothing failed since {since} and before {until}")));
        }
        Ok(())
    }

    /// Whether nothing is asked for but everything.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether more than the time is asked for, so that much of what is read may not be meant.
    pub(crate) fn is_narrow(&self) -> bool {
        *self != Self { since: self.since, until: self.until, ..Self::default() }
    }

    /// The milliseconds between which it failed, both included.
    pub(crate) fn span(&self) -> (u64, u64) {
        let ms = |at: DateTime<Utc>| u64::try_from(at.timestamp_millis()).unwrap_or(0);
        (self.since.map_or(0, ms), self.until.map_or(u64::MAX, |until| ms(until).saturating_sub(1)))
    }

    /// Whether it means this letter, whose instant fits.
    pub(crate) fn takes(&self, letter: &DeadLetter) -> bool {
        let task = &letter.task;
        let in_error = |text: &String| {
            task.error.as_ref().is_some_and(|error| error.to_lowercase().contains(&text.to_lowercase()))
        };
        self.task_type.as_ref().is_none_or(|task_type| *task_type == task.task_type)
            && self.queue.as_ref().is_none_or(|queue| *queue == task.queue)
            && (self.tenant.is_none() || self.tenant == task.tenant)
            && (self.reason.is_none() || self.reason == task.reason)
            && self.fingerprint.as_ref().is_none_or(|name| *name == letter.fingerprint)
            && self.error.as_ref().is_none_or(in_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_letter_can_have_is_refused() {
        let at = |s| DateTime::from_timestamp(s, 0);
        let text = || Some("x".repeat(DEAD_TEXT_MAX + 1));
        for wrong in [
            DeadFilter { task_type: Some("No Type".into()), ..DeadFilter::default() },
            DeadFilter { queue: Some(String::new()), ..DeadFilter::default() },
            DeadFilter { tenant: Some("{}".into()), ..DeadFilter::default() },
            DeadFilter { fingerprint: Some("291CA4BEF802".into()), ..DeadFilter::default() },
            DeadFilter { fingerprint: Some("291ca4".into()), ..DeadFilter::default() },
            DeadFilter { error: Some(String::new()), ..DeadFilter::default() },
            DeadFilter { error: text(), ..DeadFilter::default() },
            DeadFilter { reason: text(), ..DeadFilter::default() },
            DeadFilter { since: at(5), until: at(5), ..DeadFilter::default() },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
            assert!(!wrong.is_all());
        }
        let fair = DeadFilter { since: at(5), until: at(6), ..DeadFilter::default() };
        assert!(fair.check().is_ok() && !fair.is_narrow());
        assert_eq!(fair.span(), (5000, 5999));
        assert_eq!(DeadFilter::default().span(), (0, u64::MAX));
    }
}
