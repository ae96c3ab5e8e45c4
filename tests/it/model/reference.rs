//! What should be: plain maps, the table of transitions, and a clock that stands until it is moved.

use std::collections::{BTreeMap, BTreeSet};

use orchestrator::{Cause, Priority, Status, TRANSITIONS, TaskId, Ticket};

/// Width of a bucket of finished tasks, in milliseconds.
pub(crate) const BUCKET: u64 = 4 * 3600 * 1000;
/// A send later than this after the task's creation is void, and so is one as much before it.
pub(crate) const SEND_WINDOW: u64 = 60_000;
/// Tasks moved by one script call at most.
pub(crate) const SWEEP: usize = 100;
/// Crashes after which a task is poison.
pub(crate) const CRASHES: u32 = 3;

/// What must come up in a long run, beside the moves of the table.
pub(crate) const RARE: [&str; 19] = [
    "a send came too late",
    "a queue was full",
    "a task was sent again",
    "a dead letter was pushed out",
    "a bucket was dropped",
    "a finished task was not kept any more",
    "the lease was lost",
    "the generation was old",
    "a finish was stale",
    "a ticket was stale",
    "an attempt that was let go of had been cancelled",
    "a finished task was to be cancelled",
    "a task that had not failed was to be retried",
    "a paused queue was left alone",
    "a rescue found a lease renewed",
    "a rescue came before the end of the lease",
    "a rescue found nothing to take back",
    "a worker could not leave yet",
    "more was due than one call moves",
];

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
    pub(crate) fn by_request() -> Self {
        Self { reason: Some("request"), ..Self::default() }
    }

    pub(crate) fn poison() -> Self {
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
    pub(crate) fn rank(&self, at: u64) -> (Priority, u64, TaskId) {
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
    /// Wake tokens taken by workers who have not stepped since.
    pub(crate) owed: BTreeSet<(usize, String)>,
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
    /// How often each row of [`TRANSITIONS`] was walked.
    pub(crate) walked: [usize; TRANSITIONS.len()],
    /// How often the other things came up.
    pub(crate) met: BTreeMap<&'static str, usize>,
}

impl Reference {
    pub(crate) fn new(limits: Limits, now: u64) -> Self {
        Self {
            limits,
            now,
            tasks: BTreeMap::new(),
            gone: Vec::new(),
            queues: BTreeSet::new(),
            owed: BTreeSet::new(),
            paused: BTreeSet::new(),
            workers: Vec::new(),
            slices: BTreeSet::new(),
            buckets: BTreeSet::new(),
            dead: BTreeSet::new(),
            started: BTreeMap::new(),
            children: BTreeMap::new(),
            told: Vec::new(),
            walked: [0; TRANSITIONS.len()],
            met: RARE.iter().map(|what| (*what, 0)).collect(),
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

    pub(crate) fn holds(&self, worker: usize, ticket: Ticket) -> bool {
        self.tasks.get(&ticket.id).is_some_and(|e| e.place == Place::Held { worker } && e.epoch == ticket.epoch)
    }

    /// When the bucket is dropped.
    pub(crate) fn expiry(&self, bucket: u64) -> u64 {
        (bucket + 1) * BUCKET + self.limits.retention
    }

    pub(crate) fn dead_shift(&self) -> u64 {
        self.limits.dead_retention.saturating_sub(self.limits.retention)
    }

    pub(crate) fn next_due(&self) -> Option<u64> {
        let timer = self.timers().first().map(|(due, _)| *due);
        let bucket = self.buckets.first().map(|bucket| self.expiry(*bucket));
        timer.into_iter().chain(bucket).min().map(|due| due.saturating_sub(self.now))
    }

    pub(crate) fn meet<T>(&mut self, what: &'static str, then: T) -> T {
        *self.met.get_mut(what).expect("one of the rare things") += 1;
        then
    }

    pub(crate) fn unknown(&mut self, id: TaskId) -> &'static str {
        if self.gone.contains(&id) || self.tasks.contains_key(&id) {
            self.meet("a finished task was not kept any more", ());
        }
        "NotFound"
    }
}
