//! How long a task waits before its next attempt.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, NewTask, Result, Span};

/// Attempts that follow the first one, unless the handler or the task says otherwise.
pub const MAX_RETRIES_DEFAULT: u8 = 3;
/// Shortest time for which a task is put off: one that puts itself off again and again must not keep everybody busy.
pub const SNOOZE_MIN: Duration = Duration::from_millis(100);
/// Longest wait between two attempts.
const WAIT_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// The wait between an attempt that failed and the next. As text: `exp(2s, 10m)`, `fixed(30s)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backoff {
    /// Always the same.
    Fixed(Duration),
    /// Doubles from `base` up to `max`; the wait is drawn evenly between zero and that ("full jitter", as described
    /// by M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog 2015), so that tasks that failed
    /// together do not come back together.
    Exponential {
        /// Ceiling of the first wait.
        base: Duration,
        /// Ceiling of all waits.
        max: Duration,
    },
}

impl Backoff {
    /// Always `delay`.
    #[must_use]
    pub const fn fixed(delay: Duration) -> Self {
        Self::Fixed(delay)
    }

    /// Doubling from `base` to `max`, with full jitter.
    #[must_use]
    pub const fn exponential(base: Duration, max: Duration) -> Self {
        Self::Exponential { base, max }
    }

    /// # Errors
    /// [`Error::Invalid`] for a wait of less than a millisecond or more than 30 days, and for a first one above the longest.
    pub fn check(&self) -> Result {
        let (first, longest) = match *self {
            Self::Fixed(delay) => (delay, delay),
            Self::Exponential { base, max } => (base, max),
        };
        match first >= Duration::from_millis(1) && first <= longest && longest <= WAIT_MAX {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "the backoff `{self}` is out of bounds: a wait lasts 1ms to 30d, and the first is no longer than the longest"
            ))),
        }
    }

    /// The longest the task may wait after `failures` failed attempts (1 = after the first).
    #[must_use]
    pub fn ceiling(&self, failures: u32) -> Duration {
        match *self {
            Self::Fixed(delay) => delay,
            Self::Exponential { base, max } => {
                base.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1))).min(max)
            }
        }
    }

    /// The wait after `failures` failed attempts.
    #[must_use]
    pub fn draw(&self, failures: u32) -> Duration {
        let ceiling = self.ceiling(failures);
        match self {
            Self::Fixed(_) => ceiling,
            Self::Exponential { .. } => ceiling.mul_f64(rand::random::<f64>()),
        }
    }
}

impl Default for Backoff {
    /// From 2 seconds to 10 minutes.
    fn default() -> Self {
        Self::exponential(Duration::from_secs(2), Duration::from_secs(600))
    }
}

impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = humantime::format_duration;
        match *self {
            Self::Fixed(delay) => write!(f, "fixed({})", text(delay)),
            Self::Exponential { base, max } => write!(f, "exp({}, {})", text(base), text(max)),
        }
    }
}

impl FromStr for Backoff {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let delay = |text: &str| Span::from(text.trim()).duration();
        let (shape, inner) = text.trim().strip_suffix(')').and_then(|text| text.split_once('(')).unwrap_or_default();
        let backoff = match (shape.trim(), inner.split(',').collect::<Vec<_>>().as_slice()) {
            ("exp", [base, max]) => Self::exponential(delay(base)?, delay(max)?),
            ("fixed", [every]) => Self::fixed(delay(every)?),
            _ => {
                return Err(Error::invalid(format!(
                    "`{}` is no backoff; write exp(BASE, MAX), as in exp(2s, 10m), or fixed(DELAY), as in fixed(30s)",
                    crate::error::excerpt(text)
                )));
            }
        };
        backoff.check().map(|()| backoff)
    }
}

impl Serialize for Backoff {
    fn serialize<S: Serializer>(&self, writer: S) -> std::result::Result<S::Ok, S::Error> {
        writer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Backoff {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(reader)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<T> NewTask<T> {
    /// The wait between its attempts, instead of its handler's.
    ///
    /// ```
    /// # use orchestrator::{Backoff, NewTask};
    /// # use std::time::Duration;
    /// let poll = NewTask::<()>::new("poll", "build 7").max_retries(60).backoff(Backoff::fixed(Duration::from_secs(30)));
    /// ```
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.rules.backoff = Some(backoff);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backoff_reads_back_as_written_and_a_slip_is_named() {
        for text in ["exp(2s, 10m)", "fixed(30s)", "exp(250ms, 1h 30m)"] {
            assert_eq!(text.parse::<Backoff>().expect("a backoff").to_string(), text);
        }
        assert_eq!(" exp( 2s,10m ) ".parse::<Backoff>().ok(), Some(Backoff::default()));
        let told = |text: &str| text.parse::<Backoff>().expect_err(text).to_string();
        assert!(told("linear(2s)").contains("is no backoff"));
        assert!(told("exp(2s)").contains("is no backoff"));
        assert!(told("fixed(soon)").contains("`soon` is not a span of time"));
        assert!(told("exp(10m, 2s)").contains("no longer than the longest"));
        assert!(told("fixed(0s)").contains("1ms to 30d") && told("fixed(31d)").contains("1ms to 30d"));
    }

    #[test]
    fn the_ceiling_doubles_up_to_its_bound() {
        let backoff = Backoff::default();
        let ceilings: Vec<u64> = [1, 2, 3, 9, 10, 255].iter().map(|n| backoff.ceiling(*n).as_secs()).collect();
        assert_eq!(ceilings, [2, 4, 8, 512, 600, 600]);
    }

    #[test]
    fn the_draw_fills_the_whole_range_below_the_ceiling() {
        let backoff = Backoff::exponential(Duration::from_secs(8), Duration::from_secs(8));
        let draws: Vec<f64> = (0..1000).map(|_| backoff.draw(1).as_secs_f64()).collect();
        assert!(draws.iter().all(|wait| (0.0..8.0).contains(wait)));
        assert!(draws.iter().any(|wait| *wait < 1.0) && draws.iter().any(|wait| *wait > 7.0));
        assert_eq!(Backoff::fixed(Duration::from_secs(3)).draw(7), Duration::from_secs(3));
    }
}
