//! Until when an attempt of a task may begin.

use chrono::{DateTime, Utc};

use crate::policy::millis;
use crate::span::SPAN_MAX;
use crate::{Error, NewTask, Result, Span};

impl<T> NewTask<T> {
    /// No attempt of it is begun later than `span` after it may start: after its creation, or after its
    /// [`delay`](NewTask::delay) or [`run_at`](NewTask::run_at). At least a millisecond, at most 366 days.
    ///
    /// Neither the first attempt nor a retry is begun afterwards, by the server's clock: what then waits in its queue, for its
    /// next attempt, on the shelf or before its gate ends as `failed`, for the reason `expired`. What runs goes on, and so does
    /// what its handler has begun and waits for. A manual retry does not expire.
    ///
    /// ```
    /// # use orchestrator::NewTask;
    /// // A page that nobody has looked at for ten minutes is for the next shift to see.
    /// let task = NewTask::<()>::new("page", "disk full on db-3").expires("10m");
    /// ```
    pub fn expires(mut self, span: impl Into<Span>) -> Self {
        self.rules.expires = Some(span.into());
        self
    }

    /// [`NewTask::expires`] at an instant; one behind the instant when it may start, by at most 366 days.
    pub fn expires_at(mut self, instant: DateTime<Utc>) -> Self {
        self.rules.expires_at = Some(instant);
        self
    }
}

/// The instant after which no attempt is begun, in Unix milliseconds; 0 for none. The task may start at `start_ms`.
pub(crate) fn expires_ms(span: Option<Span>, instant: Option<DateTime<Utc>>, start_ms: u64) -> Result<u64> {
    let at = match (span, instant) {
        (Some(_), Some(_)) => return Err(Error::invalid("give either `expires` or `expires_at`, not both")),
        (None, None) => return Ok(0),
        (Some(span), None) => start_ms.saturating_add(millis(span.duration()?)),
        (None, Some(instant)) => u64::try_from(instant.timestamp_millis()).unwrap_or(0),
    };
    if at <= start_ms {
        return Err(Error::invalid(
            "the task would expire before it may start; write expires as in 1h: it counts from the start",
        ));
    }
    if at - start_ms > millis(SPAN_MAX) {
        return Err(Error::invalid("a task expires at most 366 days after it may start"));
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::instant;

    #[test]
    fn it_counts_from_the_start_and_lies_behind_it() {
        let at = |span: Option<&str>, instant_ms: Option<u64>| {
            expires_ms(span.map(Span::from), instant_ms.map(instant), 1_000_000)
        };
        assert_eq!(at(Some("1m"), None).unwrap_or(1), 1_060_000);
        assert_eq!(at(None, Some(1_000_001)).unwrap_or(1), 1_000_001);
        assert_eq!(at(None, None).unwrap_or(1), 0);
        let told = |span, instant_ms| at(span, instant_ms).expect_err("a mistake").to_string();
        assert!(told(None, Some(1_000_000)).contains("before it may start"));
        assert!(told(Some("0s"), None).contains("before it may start"));
        assert!(told(Some("1m"), Some(2_000_000)).contains("not both"));
        assert!(told(None, Some(1_000_001 + millis(SPAN_MAX))).contains("366 days"));
        assert!(told(Some("soon"), None).contains("is not a span of time"));
    }
}
