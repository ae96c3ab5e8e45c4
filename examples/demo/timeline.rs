//! Follows tasks to their end, and tells each change of their state as it is seen.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use orchestrator_worker::{Event, Orchestrator, SlaState, Status, Task, TaskId};

use crate::Failure;
use crate::told::Told;

/// How often the tasks are looked at.
const BEAT: Duration = Duration::from_millis(10);

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
    /// It is the first.
    new: bool,
    status: Status,
    more: String,
}

impl Change {
    fn place(&self, created_ms: i64) -> Place {
        let rank = match self.at == created_ms {
            true if self.new => 2,
            true => 3,
            false => 0,
        };
        (self.at, rank)
    }
}

/// Unix milliseconds, and what comes first of one millisecond: what became of a task, then what it told, then what that
/// started.
type Place = (i64, u8);

/// All tasks that have become known, in that order, and what was told of them.
pub(crate) struct Timeline<'a> {
    orch: &'a Orchestrator,
    tell: &'a (dyn Fn(&str) + Sync),
    told: &'a Told,
    /// How many events were told of.
    heard: usize,
    known: Vec<TaskId>,
    tasks: Vec<Task>,
    /// What was seen, until nothing earlier can be seen any more.
    lines: Vec<(Place, String)>,
    /// Unix milliseconds of the first task.
    begun: Option<i64>,
}

impl<'a> Timeline<'a> {
    /// An empty one; `tell` gets each line of it, with those of the events that are told.
    pub(crate) fn new(orch: &'a Orchestrator, told: &'a Told, tell: &'a (dyn Fn(&str) + Sync)) -> Self {
        tell("  elapsed  task         id        status       more");
        Self { orch, tell, told, heard: 0, known: vec![], tasks: vec![], lines: vec![], begun: None }
    }

    /// The tasks as they were last seen.
    pub(crate) fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// Follows this task too, and all the children it turns out to have, until each has ended, one of type `last` among
    /// them: what an event starts may come when all else has ended. It will not come when a task has not completed.
    pub(crate) async fn follow(&mut self, id: TaskId, last: Option<&str>, patience: Duration) -> Result<(), Failure> {
        let mut until = Instant::now() + patience;
        self.known.push(id);
        loop {
            self.look(last.is_some()).await?;
            let open: Vec<&Task> = self.tasks.iter().filter(|task| !task.status.is_terminal()).collect();
            let astray = self.tasks.iter().any(|task| !matches!(task.status, Status::Completed));
            let come = last.is_none_or(|last| astray || self.tasks.iter().any(|task| task.task_type == last));
            let ended = open.is_empty() && come;
            let settled = if ended { i64::MAX } else { now_ms() - SETTLED_MS };
            self.lines.sort_by_key(|(place, _)| *place);
            let ripe = self.lines.partition_point(|((at, _), _)| *at <= settled);
            self.lines.drain(..ripe).for_each(|(_, line)| (self.tell)(&line));
            if ended {
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

    /// Looks at every task that has not ended as far as known, or at all of them, and at what was told.
    async fn look(&mut self, all: bool) -> Result<(), Failure> {
        let mut at = 0;
        // The list may grow while it is gone through.
        while let Some(id) = self.known.get(at).copied() {
            let before = self.tasks.get(at);
            if all || !before.is_some_and(|task| task.status.is_terminal()) {
                let task = self.orch.get(id).await?;
                let begun = *self.begun.get_or_insert(task.created_at.timestamp_millis());
                let strangers = task.child_task_ids.iter().filter(|child| !self.known.contains(child));
                let strangers: Vec<TaskId> = strangers.copied().collect();
                self.known.extend(strangers);
                let created_ms = task.created_at.timestamp_millis();
                let seen = changes(before, &task).into_iter();
                self.lines
                    .extend(seen.map(|change| (change.place(created_ms), line(change.at - begun, &task, &change))));
                match self.tasks.get_mut(at) {
                    Some(place) => *place = task,
                    None => self.tasks.push(task),
                }
            }
            at += 1;
        }
        self.lines.extend(self.told.take_notes().into_iter().map(|(at, line)| ((at, 4), line)));
        for event in self.told.since(self.heard) {
            self.heard += 1;
            let at = event.timestamp.timestamp_millis();
            self.lines.push(((at, 1), event_line(at - self.begun.unwrap_or(at), &event)));
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

/// An event stands out by its star.
fn event_line(elapsed_ms: i64, event: &Event) -> String {
    let elapsed = elapsed_ms as f64 / 1000.0;
    let Event { event_type, source_agent, .. } = event;
    let about = event.task_id.map(short).unwrap_or_default();
    let words = event.payload["summary"].as_str().map(|words| format!(": {words}")).unwrap_or_default();
    format!("{elapsed:>7.3} s  * event      {about:<8}  {event_type}, told by {source_agent}{words}")
}

/// What happened to a task since it was last looked at.
fn changes(before: Option<&Task>, now: &Task) -> Vec<Change> {
    let mut found = Vec::new();
    let parked = now.blocked_on.is_some() && now.approval_id.is_none();
    if before.is_none() {
        let status = match now.blocked_on {
            Some(_) if now.attempt == 0 && !parked => Status::Blocked,
            _ if now.run_at.is_some() => Status::Pending,
            _ => Status::Assigned,
        };
        let parent = now.parent_task_id.map(|parent| format!(", child of {}", short(parent)));
        let more = format!("in {}, {}{}", now.queue, now.priority, parent.unwrap_or_default());
        found.push(Change { at: now.created_at.timestamp_millis(), new: true, status, more });
    }
    if before.map_or(0, |task| task.attempt) < now.attempt {
        // Of an attempt that goes on, the server does not always know yet when it began.
        let at = now.started_at.map_or_else(now_ms, |started| started.timestamp_millis());
        let more = format!("attempt {}", now.attempt);
        found.push(Change { at, new: false, status: Status::InProgress, more });
    }
    let error = || match now.blocked_on {
        Some(_) if parked => "waits for an event, and holds nothing meanwhile".to_owned(),
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
        found.push(Change { at: now_ms(), new: false, status: now.status, more: more.to_owned() });
    }
    if before.is_some_and(|task| task.status.is_terminal()) {
        return found;
    }
    if let Some(ended) = now.completed_at {
        let took = took_ms(now).map(|took| format!("after {took} ms"));
        let well = now.status == Status::Completed;
        let more = if well { took.unwrap_or_default() } else { error() };
        found.push(Change { at: ended.timestamp_millis(), new: false, status: now.status, more });
    } else if now.status != Status::InProgress && before.map_or(parked, |task| task.changes != now.changes) {
        found.push(Change { at: now_ms(), new: false, status: now.status, more: error() });
    }
    found
}

/// Unix milliseconds now.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
