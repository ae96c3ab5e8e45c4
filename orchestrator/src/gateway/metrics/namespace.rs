//! How the namespace stands, as Redis tells it: looked at when somebody asks, but never twice within a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::gauges::Gauges;
use crate::meters::{Help, Meters, OTHER};
use crate::{Error, Orchestrator, Result, Stats};

/// Shortest time between two looks, so that whoever asks often does not load Redis.
const FRESH: Duration = Duration::from_secs(1);
/// The same for what costs more to find out.
const FRESH_RISK: Duration = Duration::from_secs(15);
/// Longest wait for Redis.
const PATIENCE: Duration = Duration::from_secs(2);
/// Queues told by name.
const QUEUES_MAX: usize = 100;

const UP: &str = "orchestrator_redis_up";
const READY: &str = "orchestrator_queue_ready_tasks";
const OLDEST: &str = "orchestrator_queue_oldest_age_seconds";
const PAUSED: &str = "orchestrator_queue_paused";
const TASKS: &str = "orchestrator_tasks";
const SET_ASIDE: &str = "orchestrator_set_aside";
const WORKERS: &str = "orchestrator_workers";
const APPROVALS: &str = "orchestrator_approvals_pending";
const APPROVALS_OLDEST: &str = "orchestrator_approvals_oldest_age_seconds";
const SLA_AT_RISK: &str = "orchestrator_sla_at_risk_tasks";
const SLA_ENDED: &str = "orchestrator_sla_ended_tasks";
const SLA_VIOLATED: &str = "orchestrator_sla_violated_tasks";

macro_rules! alike {
    ($text:literal) => {
        concat!($text, " The same at every gateway of the namespace: aggregate with max.")
    };
}

const HELP: &[Help] = &[
    (UP, "Whether Redis answered this gateway (1) or not (0)."),
    (READY, alike!("Runnable tasks, by queue.")),
    (OLDEST, alike!("For how long the oldest runnable task has been runnable, by queue; 0 without one.")),
    (PAUSED, alike!("Whether a queue's tasks are held back.")),
    (TASKS, alike!("Tasks by state: ready, scheduled, running, blocked, shelved (no worker for their type), dead.")),
    (SET_ASIDE, alike!("Records that nobody could read and that were set aside.")),
    (WORKERS, alike!("Workers with a lease.")),
    (APPROVALS, alike!("Approvals that nobody has decided yet.")),
    (APPROVALS_OLDEST, alike!("For how long the oldest of them has been waiting; 0 without one.")),
    (SLA_AT_RISK, alike!("Promises that are likely to be broken.")),
    (SLA_ENDED, alike!("Tasks with a promise that ended in this hour or the one before.")),
    (SLA_VIOLATED, alike!("Those among them that broke it.")),
];

/// What was seen last.
#[derive(Debug)]
pub(super) struct Namespace {
    orch: Orchestrator,
    /// One look at a time; whoever asks meanwhile gets what it finds.
    last: tokio::sync::Mutex<Last>,
}

#[derive(Debug)]
struct Last {
    seen: Option<(Instant, Arc<Seen>)>,
    risk: Option<(Instant, Risk)>,
    /// Decisions before this instant have been told.
    next_ms: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Risk {
    at_risk: usize,
    ended: u64,
    violated: u64,
}

/// One look.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Prometheus text.
    pub(super) text: String,
    decided: Mutex<Vec<(String, u64)>>,
}

impl Seen {
    /// What became of approvals since the look before, with the milliseconds that it took; told once.
    pub(super) fn take_decided(&self) -> Vec<(String, u64)> {
        std::mem::take(&mut *self.decided.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Namespace {
    pub(super) fn new(orch: Orchestrator) -> Self {
        let last = Last { seen: None, risk: None, next_ms: orch.now_ms() };
        Self { orch, last: tokio::sync::Mutex::new(last) }
    }

    /// What there is to be seen now, or was a moment ago.
    pub(super) async fn look(&self) -> Arc<Seen> {
        let mut last = self.last.lock().await;
        if let Some((at, seen)) = &last.seen
            && at.elapsed() < FRESH
        {
            return Arc::clone(seen);
        }
        let outcome = tokio::time::timeout(PATIENCE, self.ask(&mut last)).await.unwrap_or_else(|_| {
            Err(Error::Unavailable { reason: format!("no answer within {PATIENCE:?}"), source: None })
        });
        let seen = Arc::new(outcome.unwrap_or_else(|error| {
            tracing::debug!(%error, "the namespace cannot be looked at");
            let meters = Meters::new(HELP);
            meters.gauge(UP, &[]).set(0.0);
            Seen { text: meters.text(), ..Seen::default() }
        }));
        last.seen = Some((Instant::now(), Arc::clone(&seen)));
        seen
    }

    async fn ask(&self, last: &mut Last) -> Result<Seen> {
        let (stats, gauges) = tokio::try_join!(self.orch.stats(), self.orch.gauges(last.next_ms))?;
        let risk = match last.risk {
            Some((at, risk)) if at.elapsed() < FRESH_RISK => risk,
            _ => {
                let (at_risk, report) = tokio::try_join!(self.orch.forecast(), self.orch.sla_report("1h"))?;
                let (ended, violated) = (report.total.ended, report.total.violated);
                let risk = Risk { at_risk: at_risk.len(), ended, violated };
                last.risk = Some((Instant::now(), risk));
                risk
            }
        };
        last.next_ms = gauges.next_ms;
        // The figures are made anew each time, so that a queue that is gone leaves none behind.
        Ok(Seen { text: text(&stats, &gauges, risk), decided: Mutex::new(gauges.decided) })
    }
}

fn text(stats: &Stats, gauges: &Gauges, risk: Risk) -> String {
    let meters = Meters::new(HELP);
    let set = |name, value: u64| meters.gauge(name, &[]).set(value as f64);
    set(UP, 1);
    set(SET_ASIDE, stats.set_aside);
    set(WORKERS, stats.workers);
    set(APPROVALS, gauges.approvals_pending);
    meters.gauge(APPROVALS_OLDEST, &[]).set(seconds(gauges.approvals_oldest_ms));
    set(SLA_AT_RISK, risk.at_risk as u64);
    set(SLA_ENDED, risk.ended);
    set(SLA_VIOLATED, risk.violated);
    for (state, tasks) in [
        ("ready", stats.pending_tasks - stats.scheduled_tasks),
        ("scheduled", stats.scheduled_tasks),
        ("running", stats.processing_tasks),
        ("blocked", stats.blocked_tasks),
        ("shelved", stats.shelved_tasks),
        ("dead", stats.dead_tasks),
    ] {
        meters.gauge(TASKS, &[("state", state)]).set(tasks as f64);
    }
    for (at, queue) in stats.queues.iter().enumerate() {
        let name = if at < QUEUES_MAX { &queue.queue } else { OTHER };
        meters.gauge(READY, &[("queue", name)]).increment(queue.ready as f64);
        if at < QUEUES_MAX {
            let age = gauges.oldest_ms.iter().find(|(queue, _)| queue == name).map_or(0, |(_, ms)| *ms);
            meters.gauge(OLDEST, &[("queue", name)]).set(seconds(age));
            meters.gauge(PAUSED, &[("queue", name)]).set(f64::from(u8::from(queue.paused)));
        }
    }
    meters.text()
}

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::QueueStats;

    #[test]
    fn queues_beyond_the_bound_are_told_together() {
        let queue = |n: usize| QueueStats { queue: format!("q{n:03}"), ready: 2, paused: n == 0 };
        let stats = Stats { queues: (0..QUEUES_MAX + 5).map(queue).collect(), ..Stats::default() };
        let gauges = Gauges { oldest_ms: vec![("q001".into(), 1500)], ..Gauges::default() };
        let text = text(&stats, &gauges, Risk::default());
        for line in [
            r#"orchestrator_queue_ready_tasks{queue="q000"} 2"#,
            r#"orchestrator_queue_ready_tasks{queue="other"} 10"#,
            r#"orchestrator_queue_paused{queue="q000"} 1"#,
            r#"orchestrator_queue_oldest_age_seconds{queue="q001"} 1.5"#,
        ] {
            assert!(text.lines().any(|told| told == line), "{line} is not in\n{text}");
        }
        assert_eq!(text.matches("queue_ready_tasks{").count(), QUEUES_MAX + 1);
    }
}
