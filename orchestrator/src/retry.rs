//! How long a task waits before its next attempt.

use std::time::Duration;

/// Attempts that follow the first one, unless the handler or the task says otherwise.
pub const MAX_RETRIES_DEFAULT: u8 = 3;

/// The wait between an attempt that failed and the next.
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

#[cfg(test)]
mod tests {
    use super::*;

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
