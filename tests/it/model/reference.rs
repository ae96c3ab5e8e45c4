//! What should be: plain maps, the table of transitions, and a clock that stands until it is moved.

use std::collections::{BTreeMap, BTreeSet};

use orchestrator::{Cause, LetGo, Priority, Status, TaskId, Ticket, next};

use super::bytes::slice;

/// Width of a bucket of finished tasks, in milliseconds.
pub(crate) const BUCKET: u64 = 4 * 3600 * 1000;
/// A send later than this after the task's creation is void.
const SEND_WINDOW: u64 = 60_000;
/// Tasks moved by one script call at most.
const SWEEP: usize = 100;
/// Crashes after which a task is poison.
const CRASHES: u32 = 3;

/// The settings that matter here; times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) retention: u64,
    pub(crate) dead_retention: u64,
    pub(crate) dead_max: usize,
    pub(crate) queue_max: usize,
}

/// Where a task is; exactly one place at a time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place {
    Ready { at: u64 },
    Timer { due: u64 },
    Shelf,
    Held { worker: usize },
    Ended { status: Status, at: u64, bucket: u64, ending: Ending },
}

/// What the end of a task leaves behind.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ending {
    pub(crate) started_after: Option<u64>,
    pub(crate) error: Option<String>,
    pub(crate) reason: Option<&'static str>,
    pub(crate) result: Option<u64>,
}

impl Ending {
    fn by_request() -> Self {
        Self { reason: Some("request"), ..Self::default() }
    }

    fn poison() -> Self {
        let error = format!("its worker died or fell silent {CRASHES} times while it ran");
        Self { reason: Some("poison"), error: Some(error), ..Self::default() }
    }
}

/// A task as it was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) id: TaskId,
    pub(crate) queue: String,
    pub(crate) task_type: String,
    pub(crate) priority: Priority,
    pub(crate) payload: u64,
    pub(crate) max_retries: u8,
    pub(crate) parent: Option<TaskId>,
    /// Instant before which it does not start; 0 = at once.
    pub(crate) due: u64,
}

/// A task as it stands.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) asked: Asked,
    pub(crate) epoch: u32,
    pub(crate) changes: u32,
    pub(crate) attempts: u32,
    pub(crate) crashes: u32,
    pub(crate) cancel: bool,
    pub(crate) error: Option<String>,
    pub(crate) place: Place,
    /// The stored body, once it was seen; it must not change but by a retry.
    pub(crate) body: Option<Vec<u8>>,
}

impl Entry {
    pub(crate) fn status(&self) -> Status {
        match self.place {
            Place::Ready { .. } => Status::Assigned,
            Place::Timer { .. } | Place::Shelf => Status::Pending,
            Place::Held { .. } => Status::InProgress,
            Place::Ended { status, .. } => status,
        }
    }

    pub(crate) fn ticket(&self) -> Ticket {
        Ticket { id: self.asked.id, epoch: self.epoch }
    }

    /// Its key in an order by priority, then `at`, then id.
    fn rank(&self, at: u64) -> (Priority, u64, TaskId) {
        (self.asked.priority, at, self.asked.id)
    }
}

/// A worker's life. Its number is its place in [`Reference::workers`].
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) name: String,
    pub(crate) length: u64,
    /// The present generation, while it has one.
    pub(crate) generation: Option<u64>,
    /// When its lease is over, while it has one.
    pub(crate) lease: Option<u64>,
    /// Tasks whose cancelling it was told.
    pub(crate) notes: BTreeSet<TaskId>,
}

/// A finish as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Fin {
    pub(crate) ticket: Ticket,
    pub(crate) cause: Cause,
    pub(crate) ending: Ending,
}

/// One event, as it is to be told.
pub(crate) type Told = (TaskId, &'static str, u32);

#[derive(Debug, PartialEq)]
pub(crate) enum Refusal {
    Late,
    Full,
}

#[derive(Debug, PartialEq)]
pub(crate) struct StepReply {
    pub(crate) stale: Vec<Ticket>,
    pub(crate) claims: Vec<Ticket>,
    pub(crate) due: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Reference {
    pub(crate) limits: Limits,
    pub(crate) now: u64,
    /// Every task of which a value is stored.
    pub(crate) tasks: BTreeMap<TaskId, Entry>,
    /// Accepted, ended, and not kept any more.
    pub(crate) gone: Vec<TaskId>,
    pub(crate) queues: BTreeSet<String>,
    pub(crate) tokens: BTreeSet<String>,
    pub(crate) paused: BTreeSet<String>,
    pub(crate) workers: Vec<Life>,
    /// First bytes of ids under which live tasks are or were not long ago.
    pub(crate) slices: BTreeSet<[u8; 4]>,
    pub(crate) buckets: BTreeSet<u64>,
    pub(crate) dead: BTreeSet<(u64, TaskId)>,
    /// Reported starts: instant and worker.
    pub(crate) started: BTreeMap<TaskId, (u64, usize)>,
    pub(crate) children: BTreeMap<TaskId, Vec<TaskId>>,
    /// Events not looked for yet, in order.
    pub(crate) told: Vec<Told>,
}

impl Reference {
    pub(crate) fn new(limits: Limits, now: u64) -> Self {
        Self {
            limits,
            now,
            tasks: BTreeMap::new(),
            gone: Vec::new(),
            queues: BTreeSet::new(),
            tokens: BTreeSet::new(),
            paused: BTreeSet::new(),
            workers: Vec::new(),
            slices: BTreeSet::new(),
            buckets: BTreeSet::new(),
            dead: BTreeSet::new(),
            started: BTreeMap::new(),
            children: BTreeMap::new(),
            told: Vec::new(),
        }
    }

    // Looking.

    /// The task, unless its retention has passed.
    pub(crate) fn known(&self, id: TaskId) -> Option<&Entry> {
        self.tasks.get(&id).filter(|entry| match &entry.place {
            Place::Ended { status: Status::Failed, .. } => true,
            Place::Ended { at, bucket, .. } => {
                let kept = *bucket >= (self.now - self.limits.retention - BUCKET) / BUCKET;
                assert!(kept || *at + self.limits.retention < self.now, "the model forgets too soon");
                kept
            }
            _ => true,
        })
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = &Entry> {
        self.tasks.values().filter(|entry| !entry.status().is_terminal())
    }

    pub(crate) fn ready(&self, queue: &str) -> BTreeSet<(Priority, u64, TaskId)> {
        let here = self.tasks.values().filter(|entry| entry.asked.queue == queue);
        here.filter_map(|entry| match entry.place {
            Place::Ready { at } => Some(entry.rank(at)),
            _ => None,
        })
        .collect()
    }

    pub(crate) fn timers(&self) -> BTreeSet<(u64, TaskId)> {
        let due = |entry: &Entry| match entry.place {
            Place::Timer { due } => Some((due, entry.asked.id)),
            _ => None,
        };
        self.tasks.values().filter_map(due).collect()
    }

    /// Shelved tasks by type, each in its order.
    pub(crate) fn shelves(&self) -> BTreeMap<&str, BTreeSet<(Priority, u64, TaskId)>> {
        let mut shelves: BTreeMap<&str, BTreeSet<_>> = BTreeMap::new();
        for entry in self.tasks.values().filter(|entry| entry.place == Place::Shelf) {
            shelves.entry(&entry.asked.task_type).or_default().insert(entry.rank(entry.asked.id.created_at_ms()));
        }
        shelves
    }

    pub(crate) fn held(&self, worker: usize) -> Vec<Ticket> {
        self.tasks.values().filter(|entry| entry.place == Place::Held { worker }).map(Entry::ticket).collect()
    }

    fn holds(&self, worker: usize, ticket: Ticket) -> bool {
        self.tasks.get(&ticket.id).is_some_and(|e| e.place == Place::Held { worker } && e.epoch == ticket.epoch)
    }

    /// When the bucket is dropped.
    pub(crate) fn expiry(&self, bucket: u64) -> u64 {
        (bucket + 1) * BUCKET + self.limits.retention
    }

    fn dead_shift(&self) -> u64 {
        self.limits.dead_retention.saturating_sub(self.limits.retention)
    }

    pub(crate) fn next_due(&self) -> Option<u64> {
        let timer = self.timers().first().map(|(due, _)| *due);
        let bucket = self.buckets.first().map(|bucket| self.expiry(*bucket));
        timer.into_iter().chain(bucket).min().map(|due| due.saturating_sub(self.now))
    }

    // Moving, by the table.

    /// Moves a task, if the table allows it; the numbers rise as the cause says.
    fn walk(&mut self, id: TaskId, cause: Cause, place: Place) {
        let entry = self.tasks.get_mut(&id).expect("a known task");
        let to = next(Some(entry.status()), cause);
        let leaves_worker = matches!(entry.place, Place::Held { .. });
        entry.place = place;
        assert_eq!(to, Some(entry.status()), "the table does not allow {cause:?} of {id}");
        match cause {
            Cause::Claim => return self.told.push((id, "task.started", entry.changes + 1)),
            Cause::Promote | Cause::Unshelve => entry.changes += 1,
            _ => {
                entry.epoch += 1;
                entry.changes += 1 + u32::from(leaves_worker);
            }
        }
        let event = match cause {
            Cause::Promote => "task.assigned",
            Cause::Complete => "task.completed",
            Cause::Fail | Cause::Poison => "task.failed",
            Cause::Cancel => "task.cancelled",
            Cause::Retry => "task.retrying",
            Cause::Release => "task.released",
            Cause::Shelve => "task.shelved",
            Cause::Unshelve => "task.unshelved",
            Cause::Rescue => "task.rescued",
            Cause::Revive => "task.revived",
            other => panic!("{other:?} moves no task that is there"),
        };
        self.told.push((id, event, entry.changes));
    }

    fn make_ready(&mut self, id: TaskId, cause: Cause, at: u64) {
        self.walk(id, cause, Place::Ready { at });
        let queue = self.tasks[&id].asked.queue.clone();
        self.tokens.insert(queue.clone());
        self.queues.insert(queue);
        self.slices.insert(slice(id));
    }

    fn end(&mut self, id: TaskId, cause: Cause, ending: Ending) {
        let status = next(Some(self.tasks[&id].status()), cause).expect("a legal end");
        let dead = status == Status::Failed;
        let bucket = (self.now + if dead { self.dead_shift() } else { 0 }) / BUCKET;
        self.walk(id, cause, Place::Ended { status, at: self.now, bucket, ending });
        self.buckets.insert(bucket);
        if dead {
            self.dead.insert((self.now, id));
            if self.dead.len() > self.limits.dead_max {
                let (_, oldest) = self.dead.pop_first().expect("a dead letter");
                self.forget(oldest);
            }
        }
    }

    fn forget(&mut self, id: TaskId) {
        self.tasks.remove(&id);
        self.gone.push(id);
    }

    fn cancel_asked(&self, id: TaskId) -> bool {
        self.tasks[&id].cancel
    }

    // What clients do.

    /// Tasks of one queue, all or none; returns how many are new.
    pub(crate) fn enqueue(&mut self, tasks: &[Asked]) -> Result<usize, Refusal> {
        let created = tasks.iter().map(|asked| asked.id.created_at_ms()).min().expect("a task");
        if self.now > created + SEND_WINDOW {
            return Err(Refusal::Late);
        }
        let fresh: Vec<&Asked> = tasks.iter().filter(|asked| self.known(asked.id).is_none()).collect();
        let queue = &tasks[0].queue;
        if !fresh.is_empty() && self.ready(queue).len() + fresh.len() > self.limits.queue_max {
            return Err(Refusal::Full);
        }
        let n = fresh.len();
        for asked in fresh {
            let (cause, place) = match asked.due {
                0 => (Cause::Enqueue, Place::Ready { at: self.now }),
                due => (Cause::Schedule, Place::Timer { due }),
            };
            let (asked, id) = (asked.clone(), asked.id);
            let entry = Entry {
                asked,
                epoch: 0,
                changes: 1,
                attempts: 0,
                crashes: 0,
                cancel: false,
                error: None,
                place,
                body: None,
            };
            assert_eq!(next(None, cause), Some(entry.status()), "the table does not allow {cause:?}");
            self.tasks.insert(id, entry);
            self.slices.insert(slice(id));
            self.told.push((id, "task.created", 1));
        }
        if n > 0 {
            self.queues.insert(queue.clone());
            self.tokens.insert(queue.clone());
            for asked in tasks {
                let Some(parent) = asked.parent else { continue };
                let line = self.children.entry(parent).or_default();
                if !line.contains(&asked.id) {
                    line.push(asked.id);
                }
            }
        }
        Ok(n)
    }

    /// What a request to cancel answers: the status, or the kind of error.
    pub(crate) fn cancel(&mut self, id: TaskId) -> Result<Status, &'static str> {
        let Some(entry) = self.known(id) else { return Err("NotFound") };
        let (status, place) = (entry.status(), entry.place.clone());
        match (next(Some(status), Cause::Cancel), place) {
            (None, _) if status == Status::Cancelled => Ok(Status::Cancelled),
            (None, _) => Err("Conflict"),
            (Some(_), Place::Held { worker }) => {
                self.tasks.get_mut(&id).expect("a task").cancel = true;
                self.workers[worker].notes.insert(id);
                Ok(Status::InProgress)
            }
            (Some(to), _) => {
                self.end(id, Cause::Cancel, Ending::by_request());
                Ok(to)
            }
        }
    }

    /// A manual retry.
    pub(crate) fn revive(&mut self, id: TaskId) -> Result<(), &'static str> {
        let Some(entry) = self.known(id) else { return Err("NotFound") };
        if next(Some(entry.status()), Cause::Revive).is_none() {
            return Err("Conflict");
        }
        self.dead.retain(|(_, dead)| *dead != id);
        let entry = self.tasks.get_mut(&id).expect("a task");
        (entry.attempts, entry.crashes, entry.cancel) = (0, 0, false);
        self.make_ready(id, Cause::Revive, self.now);
        Ok(())
    }

    pub(crate) fn pause(&mut self, queue: &str) -> bool {
        self.queues.insert(queue.to_owned());
        self.paused.insert(queue.to_owned())
    }

    pub(crate) fn resume(&mut self, queue: &str) -> bool {
        let changed = self.paused.remove(queue);
        if changed {
            self.tokens.insert(queue.to_owned());
        }
        changed
    }

    // What workers do. `None` is a lost lease.

    pub(crate) fn join(&mut self, name: &str, length: u64, queues: &[String]) -> usize {
        self.queues.extend(queues.iter().cloned());
        let (name, lease) = (name.to_owned(), Some(self.now + length));
        self.workers.push(Life { name, length, generation: Some(1), lease, notes: BTreeSet::new() });
        self.workers.len() - 1
    }

    fn present(&self, worker: usize, generation: u64) -> Option<()> {
        (self.workers[worker].generation == Some(generation)).then_some(())
    }

    fn attempted(&mut self, id: TaskId) {
        let entry = self.tasks.get_mut(&id).expect("a task");
        entry.attempts = (entry.attempts + 1).min(255);
    }

    pub(crate) fn step(
        &mut self,
        (worker, generation): (usize, u64),
        finishes: &[Fin],
        want: usize,
        queues: &[String],
        woken: Option<&str>,
    ) -> Option<StepReply> {
        self.present(worker, generation)?;
        let mut reply = StepReply { stale: Vec::new(), claims: Vec::new(), due: None };
        for fin in finishes {
            if self.holds(worker, fin.ticket) {
                self.attempted(fin.ticket.id);
                self.end(fin.ticket.id, fin.cause, fin.ending.clone());
            } else {
                reply.stale.push(fin.ticket);
            }
        }
        for queue in queues.iter().filter(|queue| !self.paused.contains(*queue)).collect::<Vec<_>>() {
            for (_, _, id) in self.ready(queue).into_iter().take(want - reply.claims.len()) {
                reply.claims.push(self.tasks[&id].ticket());
                self.walk(id, Cause::Claim, Place::Held { worker });
            }
        }
        if !reply.claims.is_empty() {
            if reply.claims.len() == want {
                self.tokens.extend(woken.map(ToOwned::to_owned));
            }
        } else if want > 0 {
            self.tokens.retain(|token| !queues.contains(token));
            reply.due = self.next_due();
        }
        Some(reply)
    }

    /// Ends the task instead, if that was asked for meanwhile.
    fn cancelled(&mut self, id: TaskId) -> bool {
        let asked = self.cancel_asked(id);
        if asked {
            self.end(id, Cause::Cancel, Ending::by_request());
        }
        asked
    }

    pub(crate) fn retry(&mut self, (worker, generation): (usize, u64), t: Ticket, delay: u64, error: &str) -> Option<LetGo> {
        self.present(worker, generation)?;
        if !self.holds(worker, t) {
            return Some(LetGo::Stale);
        }
        self.attempted(t.id);
        if self.cancelled(t.id) {
            return Some(LetGo::Cancelled);
        }
        self.walk(t.id, Cause::Retry, Place::Timer { due: self.now + delay });
        let entry = self.tasks.get_mut(&t.id).expect("a task");
        (entry.error, entry.body) = (Some(error.to_owned()), None);
        self.tokens.insert(entry.asked.queue.clone());
        self.slices.insert(slice(t.id));
        Some(LetGo::Done)
    }

    pub(crate) fn shelve(&mut self, (worker, generation): (usize, u64), t: Ticket) -> Option<LetGo> {
        self.present(worker, generation)?;
        if !self.holds(worker, t) {
            return Some(LetGo::Stale);
        }
        if self.cancelled(t.id) {
            return Some(LetGo::Cancelled);
        }
        self.walk(t.id, Cause::Shelve, Place::Shelf);
        self.slices.insert(slice(t.id));
        Some(LetGo::Done)
    }

    pub(crate) fn release(&mut self, (worker, generation): (usize, u64), tickets: &[Ticket]) -> Option<Vec<Ticket>> {
        self.present(worker, generation)?;
        let mut stale = Vec::new();
        for ticket in tickets {
            if !self.holds(worker, *ticket) {
                stale.push(*ticket);
            } else if !self.cancelled(ticket.id) {
                self.make_ready(ticket.id, Cause::Release, ticket.id.created_at_ms());
            }
        }
        Some(stale)
    }

    pub(crate) fn unshelve(&mut self, task_types: &[String]) {
        for task_type in task_types {
            let shelf = self.shelves().remove(task_type.as_str()).unwrap_or_default();
            for (_, created, id) in shelf {
                self.make_ready(id, Cause::Unshelve, created);
            }
        }
    }

    /// The time until the next timer, and whether there are shelves.
    pub(crate) fn beat(&mut self, worker: usize, begun: &[(TaskId, u64)], left: &[TaskId]) -> Option<(Option<u64>, bool)> {
        let life = &mut self.workers[worker];
        life.generation.and(life.lease)?;
        life.lease = Some(self.now + life.length);
        self.started.extend(begun.iter().map(|(id, at)| (*id, (*at, worker))));
        self.started.retain(|id, _| !left.contains(id));
        Some((self.next_due(), !self.shelves().is_empty()))
    }

    /// Every ticket that it holds.
    pub(crate) fn reconcile(&mut self, (worker, generation): (usize, u64)) -> Option<Vec<Ticket>> {
        let life = &mut self.workers[worker];
        if life.generation? > generation + 1 {
            return None;
        }
        life.generation = Some(generation + 1);
        life.lease = Some(self.now + life.length);
        Some(self.held(worker))
    }

    pub(crate) fn leave(&mut self, worker: usize, reported: &[TaskId]) -> usize {
        let left = self.held(worker).len();
        if left == 0 {
            let life = &mut self.workers[worker];
            (life.generation, life.lease) = (None, None);
            life.notes.clear();
        }
        self.started.retain(|id, _| !reported.contains(id));
        left
    }

    /// Takes back the tasks of a worker whose lease was seen to be `lease`; returns how many.
    pub(crate) fn rescue(&mut self, worker: usize, lease: u64) -> usize {
        if self.workers[worker].lease != Some(lease) || lease > self.now {
            return 0;
        }
        let held = self.held(worker);
        for ticket in &held {
            let id = ticket.id;
            self.started.remove(&id);
            self.tasks.get_mut(&id).expect("a task").crashes += 1;
            if self.cancelled(id) {
            } else if self.tasks[&id].crashes >= CRASHES {
                self.end(id, Cause::Poison, Ending::poison());
            } else {
                self.make_ready(id, Cause::Rescue, id.created_at_ms());
            }
        }
        let life = &mut self.workers[worker];
        (life.generation, life.lease) = (None, None);
        life.notes.clear();
        held.len()
    }

    /// Fires what is due; tells the time until the next.
    pub(crate) fn tick(&mut self) -> Option<u64> {
        loop {
            let due: Vec<_> = self.timers().into_iter().take_while(|(at, _)| *at <= self.now).take(SWEEP).collect();
            for (at, id) in &due {
                self.make_ready(*id, Cause::Promote, *at);
            }
            self.sweep();
            if due.len() < SWEEP {
                return self.next_due();
            }
        }
    }

    /// Drops a bucket that is due, and forgets slices that have emptied.
    fn sweep(&mut self) {
        let old = self.buckets.first().copied().filter(|bucket| self.expiry(*bucket) <= self.now);
        if let Some(old) = old {
            self.buckets.remove(&old);
            let dropped: Vec<TaskId> = self
                .tasks
                .values()
                .filter(|entry| matches!(entry.place, Place::Ended { bucket, .. } if bucket == old))
                .map(|entry| entry.asked.id)
                .collect();
            self.dead.retain(|(_, id)| !dropped.contains(id));
            dropped.into_iter().for_each(|id| self.forget(id));
        }
        let full: BTreeSet<[u8; 4]> = self.live().map(|entry| slice(entry.asked.id)).collect();
        let first: Vec<_> = self.slices.iter().take(8).copied().collect();
        for empty in first.iter().filter(|slice| !full.contains(*slice)) {
            self.slices.remove(empty);
        }
    }
}
