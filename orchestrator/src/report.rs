//! How promises were kept over a window: from counts that scripts make when a task with a clock ends.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{Error, Orchestrator, Result, Span};

/// Longest window of a report in hours: the counts are kept for 32 days.
const HOURS_MAX: u64 = 31 * 24;

/// Percentiles of a time in milliseconds, from counts in steps of a quarter octave: at most 9 % off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
pub struct Percentiles {
    /// Half of the tasks took no longer.
    pub p50_ms: u64,
    /// Nine of ten took no longer.
    pub p90_ms: u64,
    /// All but one of a hundred took no longer.
    pub p99_ms: u64,
}

/// The tasks of one type and priority.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct SlaRow {
    /// The type.
    pub task_type: String,
    /// The priority that they ended with.
    pub priority: String,
    /// Tasks with a promise that completed or failed in the window. Cancelled ones are not counted.
    pub ended: u64,
    /// Those among them that broke it.
    pub violated: u64,
    /// Share of the promises that were kept, 0 to 1.
    pub attainment: f64,
    /// Waiting for a worker, for their instant, or asleep.
    pub queue: Percentiles,
    /// In the hands of workers.
    pub machine: Percentiles,
    /// Waiting for people.
    pub human: Percentiles,
}

/// How promises were kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SlaReport {
    /// Whole hours looked back, beside the one that has begun.
    pub hours: u64,
    /// By type, then priority.
    pub rows: Vec<SlaRow>,
    /// All of them together.
    pub total: SlaRow,
}

/// Counts of one row: how many, how many late, and a histogram of each time.
#[derive(Default)]
struct Counts {
    ended: u64,
    violated: u64,
    times: [BTreeMap<u32, u64>; 3],
}

impl Counts {
    fn add(&mut self, what: &str, n: u64) -> Option<()> {
        match what {
            "n" => self.ended += n,
            "l" => self.violated += n,
            _ => {
                let (letter, step) = what.split_at_checked(1)?;
                let time = "qmh".find(letter)?;
                *self.times[time].entry(step.parse().ok()?).or_default() += n;
            }
        }
        Some(())
    }

    fn merge(&mut self, other: &Self) {
        self.ended += other.ended;
        self.violated += other.violated;
        for (mine, theirs) in self.times.iter_mut().zip(&other.times) {
            for (step, n) in theirs {
                *mine.entry(*step).or_default() += n;
            }
        }
    }

    fn row(&self, task_type: &str, priority: &str) -> SlaRow {
        let [queue, machine, human] = [0, 1, 2].map(|time| percentiles(&self.times[time]));
        SlaRow {
            task_type: task_type.into(),
            priority: priority.into(),
            ended: self.ended,
            violated: self.violated,
            attainment: if self.ended == 0 { 1.0 } else { 1.0 - self.violated as f64 / self.ended as f64 },
            queue,
            machine,
            human,
        }
    }
}

fn percentiles(steps: &BTreeMap<u32, u64>) -> Percentiles {
    let total: u64 = steps.values().sum();
    let at = |share: f64| {
        let wanted = (share * total as f64).ceil() as u64;
        let mut seen = 0;
        let found = steps.iter().find(|(_, n)| {
            seen += **n;
            seen >= wanted
        });
        // The middle of the step; the first ones are exact.
        found.map_or(0, |(step, _)| (2f64.powf((f64::from(*step) + 0.5) / 4.0) - 1.0) as u64)
    };
    Percentiles { p50_ms: at(0.5), p90_ms: at(0.9), p99_ms: at(0.99) }
}

impl Orchestrator {
    /// How the promises of tasks that ended within the last `window` (1 hour to 31 days, in whole hours) were kept.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a window out of its bounds; [`Error::Unavailable`].
    pub async fn sla_report(&self, window: impl Into<Span>) -> Result<SlaReport> {
        let hours = window.into().duration()?.as_secs().div_ceil(3600);
        if !(1..=HOURS_MAX).contains(&hours) {
            return Err(Error::invalid("a report looks back between 1 hour and 31 days"));
        }
        self.store.learn_time().await?;
        let now = self.store.now_ms() / 3_600_000;
        let mut rows: BTreeMap<(String, String), Counts> = BTreeMap::new();
        // The present hour has only begun.
        for hour in now.saturating_sub(hours)..=now {
            for (field, n) in self.store.hour(hour).await? {
                let field = String::from_utf8_lossy(&field).into_owned();
                let parts: Vec<&str> = field.split(' ').collect();
                if let [task_type, priority, what] = parts.as_slice() {
                    rows.entry(((*task_type).into(), (*priority).into())).or_default().add(what, n);
                }
            }
        }
        let mut total = Counts::default();
        rows.values().for_each(|counts| total.merge(counts));
        let rows = rows.iter().map(|((task_type, priority), counts)| counts.row(task_type, priority)).collect();
        Ok(SlaReport { hours, rows, total: total.row("all", "all") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_at_most_a_tenth_off() {
        let mut steps = BTreeMap::new();
        for ms in 1..=1000u64 {
            *steps.entry((((ms + 1) as f64).log2() * 4.0).floor() as u32).or_default() += 1;
        }
        let found = percentiles(&steps);
        for (found, wanted) in [(found.p50_ms, 500.0), (found.p90_ms, 900.0), (found.p99_ms, 990.0)] {
            assert!((found as f64 / wanted - 1.0).abs() < 0.1, "{found} for {wanted}");
        }
        assert_eq!(percentiles(&BTreeMap::new()), Percentiles::default());
    }
}
