//! Follows tasks to their end, and tells each change of their state as it is seen.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use orchestrator_worker::{Orchestrator, SlaState, Status, Task, TaskId};

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

/// All tasks that have become known, in that order, and what was told of them.
pub(crate) struct Timeline<'a> {
    orch: &'a Orchestrator,
    tell: &'a (dyn Fn(&str) + Sync),
    known: Vec<TaskId>,
    tasks: Vec<Task>,
    /// What was seen, until nothing earlier can be seen any more.
    lines: Vec<(i64, String)>,
    /// Unix milliseconds of the first task.
    begun: Option<i64>,
}

impl<'a> Timeline<'a> {
    /// An empty one; `tell` gets each line of it.
    pub(crate) fn new(orch: &'a Orchestrator, tell: &'a (dyn Fn(&str) + Sync)) -> Self {
        tell("  elapsed  task         id        status       more");
        Self { orch, tell, known: vec![], tasks: vec![], lines: vec![], begun: None }
    }

    /// The tasks as they were last seen.
    pub(crate) fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// Follows these tasks too, and all the children they turn out to have, until each has ended.
    pub(crate) async fn follow(&mut self, ids: &[TaskId], patience: Duration) -> Result<(), Failure> {
        let mut until = Instant::now() + patience;
        self.known.extend(ids);
        loop {
            self.look().await?;
            let open: Vec<&Task> = self.tasks.iter().filter(|task| !task.status.is_terminal()).collect();
            let settled = if open.is_empty() { i64::MAX } else { now_ms() - SETTLED_MS };
            self.lines.sort_by_key(|(at, _)| *at);
            let ripe = self.lines.partition_point(|(at, _)| *at <= settled);
            self.lines.drain(..ripe).for_each(|(_, line)| (self.tell)(&line));
            if open.is_empty() {
                return Ok(());
            }
            if open.iter().any(|task| task.status == Status::Blocked) {
                // People may take their time.
                until = Instant::now() + patience;
            }
            if Instant::now() > until {
                let open: Vec<String> = open.iter().map(|task| task.task_id.to_string()).collect();
                return Err(format!("not ended after {patience:?}: {}", open.join(", ")).into());
            }
            tokio::time::sleep(BEAT).await;
        }
    }

    /// Looks at every task that has not ended as far as known.
    async fn look(&mut self) -> Result<(), Failure> {
        let mut at = 0;
        // The list may grow while it is gone through.
        while let Some(id) = self.known.get(at).copied() {
            let before = self.tasks.get(at);
            if !before.is_some_and(|task| task.status.is_terminal()) {
                let task = self.orch.get(id).await?;
                let begun = *self.begun.get_or_insert(task.created_at.timestamp_millis());
                let strangers = task.child_task_ids.iter().filter(|child| !self.known.contains(child));
                let strangers: Vec<TaskId> = strangers.copied().collect();
                self.known.extend(strangers);
                let seen = changes(before, &task).into_iter();
                self.lines.extend(seen.map(|change| (change.at, line(change.at - begun, &task, &change))));
                match self.tasks.get_mut(at) {
                    Some(place) => *place = task,
                    None => self.tasks.push(task),
                }
            }
            at += 1;
        }
        Ok(())
    }

    /// Looks once more at every task: one that had ended may have been given a child since.
    pub(crate) async fn look_again(&mut self) -> Result<(), Failure> {
        for task in &mut self.tasks {
            *task = self.orch.get(task.task_id).await?;
        }
        Ok(())
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
        let status = match now.blocked_on {
            Some(_) if now.attempt == 0 => Status::Blocked,
            _ if now.run_at.is_some() => Status::Pending,
            _ => Status::Assigned,
        };
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
    let error = || match now.blocked_on {
        Some(_) => "waits for a person, and holds nothing meanwhile".to_owned(),
        None => now.error.clone().unwrap_or_default(),
    };
    let state = |task: &Task| task.sla_clock.as_ref().map(|clock| clock.state);
    let promise = match state(now) {
        told if before.and_then(state) == told => None,
        Some(SlaState::Warning) => Some("sla.warning: the promised time is nearly over"),
        Some(SlaState::Violated) => Some("sla.violation: the promised time is over"),
        _ => None,
    };
    if let Some(more) = promise {
        found.push(Change { at: now_ms(), status: now.status, more: more.to_owned() });
    }
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
