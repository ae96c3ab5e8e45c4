//! Figures of one process, told as Prometheus text. Each gateway and each worker has meters of its own, so that several in
//! one process do not add up.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use metrics::{Counter, Gauge, Histogram};
use metrics::{Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// The media type of [`Meters::text`].
pub const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// How often [`Meters::upkeep`] has to be called.
pub const UPKEEP: Duration = Duration::from_secs(5);
/// What stands for everything beyond the bound of a label.
pub const OTHER: &str = "other";
/// Different task types that are told of at most.
pub const TYPES_MAX: usize = 200;

const METADATA: Metadata<'static> = Metadata::new("orchestrator", Level::INFO, None);
/// Bounds of requests and waits for the machine, in seconds.
const QUICK: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0];
/// Bounds of tasks: from a millisecond to a day.
const WORK: [f64; 14] = [0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0];
/// Bounds of what people take: from a second to a month.
const HUMAN: [f64; 11] = [1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0, 604_800.0, 2_592_000.0];

/// A name, and what it tells.
pub type Help = (&'static str, &'static str);

/// A set of figures. Cheap to clone; the clones share them.
#[derive(Clone, Debug)]
pub struct Meters {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
}

impl Meters {
    /// No figures yet, and what those will tell that come.
    #[must_use]
    pub fn new(help: &[Help]) -> Self {
        // Without bounds, histograms become summaries, which nobody can add up; these bounds are none that are refused.
        let builder = PrometheusBuilder::new();
        let builder = builder.set_buckets(&QUICK).unwrap_or_default();
        let builder = builder.set_buckets_for_metric(Matcher::Prefix("orchestrator_task_".into()), &WORK);
        let builder = builder.unwrap_or_default();
        let builder = builder.set_buckets_for_metric(Matcher::Full("orchestrator_task_human_seconds".into()), &HUMAN);
        let recorder = builder.unwrap_or_default().build_recorder();
        for (name, text) in help {
            // All kinds of figures share one table of descriptions.
            recorder.describe_gauge(KeyName::from_const_str(name), None, (*text).into());
        }
        Self { handle: recorder.handle(), recorder: Arc::new(recorder) }
    }

    /// A figure that only rises.
    pub fn counter(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        self.recorder.register_counter(&key(name, labels), &METADATA)
    }

    /// A figure that rises and falls.
    pub fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        self.recorder.register_gauge(&key(name, labels), &METADATA)
    }

    /// How often something lasted how long, in seconds.
    pub fn histogram(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Histogram {
        self.recorder.register_histogram(&key(name, labels), &METADATA)
    }

    /// All figures as Prometheus text, version 0.0.4.
    #[must_use]
    pub fn text(&self) -> String {
        self.handle.render()
    }

    /// Folds away what histograms have gathered, so that they do not grow.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// Calls [`Meters::upkeep`] for ever.
    pub async fn keep_up(self) -> Infallible {
        loop {
            tokio::time::sleep(UPKEEP).await;
            self.upkeep();
        }
    }
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<Label> = labels.iter().map(|(label, value)| Label::new(*label, (*value).to_owned())).collect();
    Key::from_parts(name, labels)
}

/// The values that a label has had: the first so many by name, all others as [`OTHER`].
#[derive(Debug)]
pub struct Bounded {
    max: usize,
    known: Mutex<BTreeSet<String>>,
}

impl Bounded {
    /// At most `max` values.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, known: Mutex::default() }
    }

    /// `value`, unless that would be one too many.
    #[must_use]
    pub fn label<'v>(&self, value: &'v str) -> &'v str {
        let mut known = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if known.contains(value) {
            return value;
        }
        if known.len() == self.max {
            return OTHER;
        }
        known.insert(value.to_owned());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_told_with_help_type_and_bounds() {
        let meters = Meters::new(&[("orchestrator_x_total", "Things."), ("orchestrator_task_run_seconds", "Runs.")]);
        meters.counter("orchestrator_x_total", &[("kind", "a \"b\"\n# c\\")]).increment(2);
        meters.histogram("orchestrator_task_run_seconds", &[]).record(0.02);
        meters.upkeep();
        let text = meters.text();
        for line in [
            "# HELP orchestrator_x_total Things.",
            "# TYPE orchestrator_x_total counter",
            r#"orchestrator_x_total{kind="a \"b\"\n# c\\"} 2"#,
            "# TYPE orchestrator_task_run_seconds histogram",
            r#"orchestrator_task_run_seconds_bucket{le="0.01"} 0"#,
            r#"orchestrator_task_run_seconds_bucket{le="0.05"} 1"#,
            r#"orchestrator_task_run_seconds_bucket{le="86400"} 1"#,
            "orchestrator_task_run_seconds_count 1",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_label_has_so_many_values_and_no_more() {
        let bounded = Bounded::new(2);
        assert_eq!(["a", "b", "c", "a", "d"].map(|value| bounded.label(value)), ["a", "b", OTHER, "a", OTHER]);
    }
}
