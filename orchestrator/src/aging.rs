//! Whether tasks of low priority get on in a queue that never empties, and within which bound.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::{Error, Result, Span};

/// Distance between two priorities in a score without aging: more than any time in milliseconds.
const STRICT: u64 = 1 << 42;
/// What a step of priority may be worth.
const MIN: Duration = Duration::from_secs(1);
const MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// The order within a queue: strictly by priority, or by priority and age.
///
/// Strictly means all of P0 before any of P1: as long as P0 comes in faster than it is worked off, nothing else runs. With
/// aging each step of priority is worth a head start, `A`: a task is overtaken only by tasks that were submitted less than
/// `A` times the difference of their priorities after it. So with `10m` a P3 waits for no P0 that came 30 minutes later.
/// Among tasks of one priority the first in is the first out either way.
///
/// A namespace has one order, noted in Redis by the first process that connects; [`Orchestrator::set_aging`] changes it.
///
/// [`Orchestrator::set_aging`]: crate::Orchestrator::set_aging
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Aging {
    /// Whatever the namespace has; a new one has none. A client that has connected knows which it is.
    #[default]
    Stored,
    /// None: strictly by priority.
    Off,
    /// Each step of priority is worth this head start: 1 second to 30 days.
    By(Duration),
}

impl Aging {
    pub(crate) fn check(self) -> Result {
        match self {
            Self::By(step) if !(MIN..=MAX).contains(&step) || step.subsec_nanos() % 1_000_000 != 0 => {
                Err(Error::invalid(format!(
                    "aging: a step of priority is worth 1 second to 30 days, to the millisecond, not {}",
                    humantime::format_duration(step)
                )))
            }
            _ => Ok(()),
        }
    }

    /// Distance between two priorities in a score.
    pub(crate) fn class(self) -> u64 {
        match self {
            Self::Stored | Self::Off => STRICT,
            Self::By(step) => crate::policy::millis(step),
        }
    }

    /// As Redis keeps it: `off` or milliseconds; empty for [`Aging::Stored`].
    pub(crate) fn stored(self) -> String {
        match self {
            Self::Stored => String::new(),
            Self::Off => "off".into(),
            Self::By(step) => crate::policy::millis(step).to_string(),
        }
    }

    /// What [`Aging::stored`] wrote.
    pub(crate) fn from_stored(text: &str) -> Option<Self> {
        match text {
            "off" => Some(Self::Off),
            ms => Some(Self::By(Duration::from_millis(ms.parse().ok()?))).filter(|aging| aging.check().is_ok()),
        }
    }
}

impl From<Span> for Aging {
    /// A span that makes no sense is reported when a client connects.
    fn from(step: Span) -> Self {
        Self::By(step.duration().unwrap_or_default())
    }
}

impl FromStr for Aging {
    type Err = Error;

    /// `off`, or a span of time such as `10m`.
    fn from_str(text: &str) -> Result<Self> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let step = Span::from(text).duration().map_err(|_| {
            let text = crate::error::excerpt(text);
            Error::invalid(format!("`{text}` is no aging; write off, or what a step of priority is worth: 10m"))
        })?;
        Self::By(step).check().map(|()| Self::By(step))
    }
}

impl fmt::Display for Aging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored => f.pad("as stored"),
            Self::Off => f.pad("off"),
            Self::By(step) => f.pad(&humantime::format_duration(*step).to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_none_is_refused() {
        let ten = Aging::By(Duration::from_secs(600));
        assert_eq!(("10m".parse().ok(), "off".parse().ok()), (Some(ten), Some(Aging::Off)));
        assert_eq!((ten.to_string(), ten.class(), ten.stored()), ("10m".into(), 600_000, "600000".into()));
        assert_eq!((Aging::Off.class(), Aging::Stored.class()), (STRICT, STRICT));
        for aging in [Aging::Off, ten, Aging::By(MIN), Aging::By(MAX)] {
            assert_eq!(Aging::from_stored(&aging.stored()), Some(aging));
            assert_eq!(aging.to_string().parse().ok(), Some(aging));
        }
        for wrong in ["", "10", "on", "999ms", "31d", "1s 1ns", "-1m"] {
            assert!(wrong.parse::<Aging>().is_err(), "{wrong}");
        }
        for wrong in ["", "0", "999", "2592000001", "x"] {
            assert_eq!(Aging::from_stored(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_score_stays_an_exact_number_and_apart_from_strict_ones() {
        // Until the year 2100 an aged score lies below any strict one of P1, and all are exact as doubles.
        let year_2100_ms = 4_102_444_800_000_u64;
        assert!(3 * Aging::By(MAX).class() + year_2100_ms < STRICT && 4 * STRICT < 1 << 53);
    }
}
