//! Which promises are likely to be broken, and what would help: from the rates at which tasks came and were done.
//!
//! A waiting task starts when those before it have: its rank over the rate of its queue. It is done a mean service time
//! later (Little, "A Proof for the Queuing Formula L = λW", 1961, read backwards). The rates are those of the last minutes,
//! from the event stream; the shares of queues and the service times from a sample of what ended.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::event::unpack;
use crate::store::Place;
use crate::task::instant;
use crate::{Orchestrator, Result, Task, TaskId};

/// How far the rates look back, in milliseconds.
const WINDOW_MS: u64 = 5 * 60_000;
/// Time between two looks of one process.
const PAUSE: Duration = Duration::from_secs(15);
/// Entries of the event stream read at most.
const ENTRIES_MAX: usize = 1000;
/// Ended tasks looked up for shares and service times.
const SAMPLE_MAX: usize = 200;
/// Promises looked at: those that are due next.
const CANDIDATES_MAX: usize = 200;
/// How far ahead promises are looked at, in milliseconds.
const HORIZON_MS: u64 = 24 * 3_600_000;

/// One promise that is likely to be broken.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct AtRisk {
    /// The task.
    pub task_id: TaskId,
    /// Its queue.
    pub queue: String,
    /// When the promise breaks.
    pub due: DateTime<Utc>,
    /// Runnable tasks before it in its queue.
    pub ahead: u64,
    /// When it will be done at the present rate; `None` when nothing was done of late.
    pub predicted_finish: Option<DateTime<Utc>>,
    /// Tasks that came to the queue, a minute.
    pub arrivals_per_minute: f64,
    /// Tasks of the queue that were done, a minute.
    pub done_per_minute: f64,
    /// What would help, in words: `+2 workers for queue dev_agent`.
    pub would_help: String,
}

/// What is known of one queue, per millisecond.
#[derive(Clone, Copy, Debug, Default)]
struct Rates {
    arrivals: f64,
    done: f64,
    service_ms: f64,
}

/// Where a task stands in line.
struct Waiting {
    id: TaskId,
    queue: String,
    due_ms: u64,
    ahead: u64,
}

/// What comes of one waiting task; `None` when it will be in time.
fn predict(now_ms: u64, task: &Waiting, rates: Rates, workers: u64) -> Option<AtRisk> {
    let finish = (rates.done > 0.0)
        .then(|| now_ms as f64 + (task.ahead + 1) as f64 / rates.done + rates.service_ms)
        .filter(|finish| finish.is_finite());
    let left = task.due_ms.saturating_sub(now_ms) as f64;
    if finish.is_some_and(|finish| finish <= task.due_ms as f64) {
        return None;
    }
    // Nothing was done of late, and there is still time: an idle fleet is no risk as long as somebody is there.
    if finish.is_none() && workers > 0 && task.ahead == 0 {
        return None;
    }
    let would_help = match workers {
        0 => format!("a worker for queue {}: there is none", task.queue),
        _ if rates.done <= 0.0 => format!("a look at queue {}: nothing was done there of late", task.queue),
        _ if left <= rates.service_ms => {
            "nothing but a higher priority and faster work: one attempt takes longer than is left".into()
        }
        workers => {
            let needed = (task.ahead + 1) as f64 / (left - rates.service_ms);
            let extra = (workers as f64 * needed / rates.done).ceil() - workers as f64;
            format!("+{} workers for queue {}", extra.max(1.0), task.queue)
        }
    };
    Some(AtRisk {
        task_id: task.id,
        queue: task.queue.clone(),
        due: instant(task.due_ms),
        ahead: task.ahead,
        predicted_finish: finish.map(|finish| instant(finish as u64)),
        arrivals_per_minute: rates.arrivals * 60_000.0,
        done_per_minute: rates.done * 60_000.0,
        would_help,
    })
}

impl Orchestrator {
    /// Promises that are likely to be broken, those due first: at most 200 that are due within a day are looked at. Tells
    /// of each once by the event `sla.at_risk`. Workers and gateways do this by themselves now and then.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable).
    pub async fn forecast(&self) -> Result<Vec<AtRisk>> {
        self.store.freshen_time().await?;
        let now_ms = self.store.now_ms();
        let due = self.store.promises(now_ms, now_ms + HORIZON_MS, CANDIDATES_MAX).await?;
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<TaskId> = due.iter().map(|(id, _)| *id).collect();
        let (_, found) = self.store.look_up(&ids, Place::Live).await?;
        let mut waiting = Vec::new();
        for task in found {
            let [place, record, ..] = &task.parts;
            let due_ms = due.iter().find(|(id, _)| *id == task.id).map_or(0, |(_, due)| *due);
            if place != b"ready" {
                continue;
            }
            let queue = crate::record::Header::read(record)?.0.queue;
            if let Some(ahead) = self.store.rank(&queue, task.id).await? {
                waiting.push(Waiting { id: task.id, queue, due_ms, ahead });
            }
        }
        if waiting.is_empty() {
            return Ok(Vec::new());
        }
        let rates = self.rates(now_ms).await?;
        let workers = self.stats().await?.workers;
        let mut at_risk: Vec<AtRisk> = waiting
            .iter()
            .filter_map(|task| predict(now_ms, task, rates.get(&task.queue).copied().unwrap_or_default(), workers))
            .collect();
        at_risk.sort_by_key(|risk| risk.due);
        for some in at_risk.chunks(100) {
            let call = |_| {
                some.iter().fold(self.store.call(&self.store.scripts().at_risk), |call, risk| {
                    call.arg(risk.task_id.as_bytes()).arg(serde_json::to_string(risk).unwrap_or_default())
                })
            };
            self.store.repeat(call).await?;
        }
        Ok(at_risk)
    }

    /// [`Orchestrator::forecast`] every 15 seconds by one process of the namespace; never returns.
    pub async fn keep_forecasting(&self) -> Infallible {
        loop {
            match self.store.turn_to_forecast().await {
                Ok(true) => match self.forecast().await {
                    Ok(_) => {}
                    Err(error) => tracing::debug!(%error, "no forecast"),
                },
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "no forecast"),
            }
            tokio::time::sleep(PAUSE.mul_f64(0.9 + 0.2 * rand::random::<f64>())).await;
        }
    }

    /// What came and what was done of late, by queue.
    async fn rates(&self, now_ms: u64) -> Result<HashMap<String, Rates>> {
        let entries = self.store.events_back((u64::MAX, u64::MAX), ENTRIES_MAX).await?;
        let recent: Vec<_> = entries.iter().filter(|((ms, _), _)| *ms + WINDOW_MS >= now_ms).collect();
        let oldest = recent.last().map_or(now_ms, |((ms, _), _)| *ms);
        // What was read may cover less than the window: the stream is bounded, and work may just have begun.
        let span = now_ms.saturating_sub(oldest).max(1000) as f64;
        let (mut created, mut ended) = (Vec::new(), Vec::new());
        for event in recent.iter().flat_map(|(_, fields)| unpack(fields)) {
            match event.event_type {
                "task.created" => created.push(event.task_id),
                "task.completed" | "task.failed" => ended.push(event.task_id),
                _ => {}
            }
        }
        let mut queues: HashMap<String, (f64, f64, f64)> = HashMap::new();
        let bucket = now_ms / crate::store::BUCKET_MS;
        let sample: Vec<TaskId> = ended.iter().take(SAMPLE_MAX).copied().collect();
        let (_, found) = self.store.look_up(&sample, Place::Ended(bucket)).await?;
        for task in &found {
            let [place, value, children, number] = &task.parts;
            if let Ok(Some(task)) = Task::told(task.id, [place, value, children, number]) {
                let took =
                    task.completed_at.zip(task.started_at).map_or(0, |(end, start)| (end - start).num_milliseconds());
                let queue = queues.entry(task.queue).or_default();
                queue.1 += 1.0;
                queue.2 += took.max(0) as f64;
            }
        }
        let sampled = queues.values().map(|queue| queue.1).sum::<f64>().max(1.0);
        // What came is shared out like what was done, as it is over any longer time.
        let rates = queues.into_iter().map(|(queue, (_, done, took))| {
            let share = done / sampled;
            let rates = Rates {
                arrivals: created.len() as f64 * share / span,
                done: ended.len() as f64 * share / span,
                service_ms: took / done,
            };
            (queue, rates)
        });
        Ok(rates.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_and_the_rate_tell_when_a_task_is_done() {
        let task = |ahead, due_ms| Waiting { id: TaskId::at(1), queue: "q".into(), due_ms, ahead };
        // One a second, each a second long: the tenth is done 11 s from now.
        let rates = Rates { arrivals: 0.001, done: 0.001, service_ms: 1000.0 };
        assert!(predict(0, &task(9, 11_001), rates, 1).is_none());
        let late = predict(0, &task(9, 6_000), rates, 1).expect("late");
        assert_eq!(late.predicted_finish, Some(instant(11_000)));
        assert_eq!(late.would_help, "+1 workers for queue q");
        let far = predict(0, &task(99, 11_000), rates, 2).expect("late");
        assert_eq!(far.would_help, "+18 workers for queue q");
        assert!(predict(0, &task(0, 500), rates, 1).expect("late").would_help.contains("longer than is left"));
        assert!(predict(0, &task(0, 500), Rates::default(), 0).expect("late").would_help.contains("there is none"));
        assert!(predict(0, &task(0, 500), Rates::default(), 1).is_none());
    }
}
