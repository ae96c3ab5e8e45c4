//! Follows tasks to their end, and tells each change of their state as it is seen.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use orchestrator_worker::{Orchestrator, Status, Task, TaskId};

use crate::Failure;

/// How often the tasks are looked at.
const BEAT: Duration = Duration::from_millis(20);

/// After this long, every change has been seen.
const SETTLED_MS: i64 = 60;

/// Eight digits of an id: of its last group, since the first ones only tell the time.
pub(crate) fn short(id: TaskId) -> String {
    id.to_string().chars().skip(24).take(8).collect()
}

/// How long the last attempt took, as far as known, in milliseconds.
pub(crate) fn took_ms(task: &Task) -> Option<i64> {
    Some((task.completed_at? - task.started_at?).num_milliseconds())
}

/// One change of one task's state.
struct Change {
    /// Unix milliseconds.
    at: i64,
    status: Status,
    more: String,
}

/// Follows these tasks, and all the children they turn out to have, until each has ended. Gives
/// them in the order in which they became known.
pub(crate) async fn follow(
    orch: &Orchestrator,
    ids: &[TaskId],
    patience: Duration,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<Vec<Task>, Failure> {
    let until = Instant::now() + patience;
    let begun = ids.iter().map(TaskId::created_at_ms).min().unwrap_or(0);
    let mut known = ids.to_vec();
    // What was seen, until nothing earlier can be seen any more.
    let mut lines: Vec<(i64, String)> = Vec::new();
    let mut tasks: Vec<Task> = Vec::new();
    tell("  elapsed  task         id        status       more");
    loop {
        let mut at = 0;
        // The list may grow while it is gone through.
        while let Some(id) = known.get(at).copied() {
            let before = tasks.get(at);
            if !before.is_some_and(|task| task.status.is_terminal()) {
                let task = orch.get(id).await?;
                let strangers = task.child_task_ids.iter().filter(|child| !known.contains(child));
                let strangers: Vec<TaskId> = strangers.copied().collect();
                known.extend(strangers);
                lines.extend(changes(before, &task).into_iter().map(|change| {
                    let elapsed = change.at.saturating_sub_unsigned(begun);
                    (change.at, line(elapsed, &task, &change))
                }));
                match tasks.get_mut(at) {
                    Some(place) => *place = task,
                    None => tasks.push(task),
                }
            }
            at += 1;
        }
        let open: Vec<&Task> = tasks.iter().filter(|task| !task.status.is_terminal()).collect();
        let settled = if open.is_empty() { i64::MAX } else { now_ms() - SETTLED_MS };
        lines.sort_by_key(|(at, _)| *at);
        let ripe = lines.partition_point(|(at, _)| *at <= settled);
        lines.drain(..ripe).for_each(|(_, line)| tell(&line));
        if open.is_empty() {
            return Ok(tasks);
        }
        if Instant::now() > until {
            let open: Vec<String> = open.iter().map(|task| task.task_id.to_string()).collect();
            return Err(format!("not ended after {patience:?}: {}", open.join(", ")).into());
        }
        tokio::time::sleep(BEAT).await;
    }
}

fn line(elapsed_ms: i64, task: &Task, change: &Change) -> String {
    let elapsed = elapsed_ms as f64 / 1000.0;
    let (kind, id) = (&task.task_type, short(task.task_id));
    format!("{elapsed:>7.3} s  {kind:<11}  {id}  {:<11}  {}", change.status, change.more)
}

/// What happened to a task since it was last looked at.
fn changes(before: Option<&Task>, now: &Task) -> Vec<Change> {
    let mut found = Vec::new();
    if before.is_none() {
        let status = if now.run_at.is_some() { Status::Pending } else { Status::Assigned };
        let parent = now.parent_task_id.map(|parent| format!(", child of {}", short(parent)));
        let more = format!("in {}, {}{}", now.queue, now.priority, parent.unwrap_or_default());
        found.push(Change { at: now.created_at.timestamp_millis(), status, more });
    }
    if before.map_or(0, |task| task.attempt) < now.attempt {
        // Of an attempt that goes on, the server does not always know yet when it began.
        let at = now.started_at.map_or_else(now_ms, |started| started.timestamp_millis());
        let more = format!("attempt {}", now.attempt);
        found.push(Change { at, status: Status::InProgress, more });
    }
    let error = || now.error.clone().unwrap_or_default();
    if let Some(ended) = now.completed_at {
        let took = took_ms(now).map(|took| format!("after {took} ms"));
        let well = now.status == Status::Completed;
        let more = if well { took.unwrap_or_default() } else { error() };
        found.push(Change { at: ended.timestamp_millis(), status: now.status, more });
    } else if now.status != Status::InProgress && before.is_some_and(|task| task.changes != now.changes) {
        found.push(Change { at: now_ms(), status: now.status, more: error() });
    }
    found
}

/// Unix milliseconds now.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
