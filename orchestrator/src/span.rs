//! A length of time as people write it: `"15m"`, or a `Duration`.

use std::time::Duration;

use crate::{Error, Result};

/// Longest span taken: 366 days.
pub const SPAN_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// A length of time given as a [`Duration`] or as text such as `"250ms"`, `"15m"`, `"1h 30m"`, `"2d"`.
///
/// Text that is no span is reported by the call that uses it, so builders need no `?`.
#[derive(Clone, Debug)]
pub struct Span(std::result::Result<Duration, String>);

impl Span {
    /// The span itself.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the text was no span, or it is longer than [`SPAN_MAX`].
    pub fn duration(&self) -> Result<Duration> {
        match &self.0 {
            Ok(duration) if *duration <= SPAN_MAX => Ok(*duration),
            Ok(_) => Err(Error::invalid("a span of time may be at most 366 days")),
            Err(text) => Err(Error::invalid(format!(
                "`{}` is not a span of time; write a number and a unit: 250ms, 2s, 15m, 1h, 2d",
                crate::error::excerpt(text)
            ))),
        }
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(Ok(duration))
    }
}

impl From<&str> for Span {
    fn from(text: &str) -> Self {
        Self(humantime::parse_duration(text).map_err(|_| text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_durations_mean_the_same() {
        assert_eq!(Span::from("1h 30m").duration().ok(), Some(Duration::from_secs(5400)));
        assert_eq!(Span::from(Duration::from_millis(5)).duration().ok(), Some(Duration::from_millis(5)));
        assert!(Span::from("15 parsecs").duration().expect_err("no span").to_string().contains("15 parsecs"));
        assert!(Span::from("400d").duration().is_err());
    }
}
