//! What should be: plain maps, the table of transitions, and a clock that stands until it is moved.

use std::collections::{BTreeMap, BTreeSet};

use orchestrator::{BlockedOn, Cause, Priority, Status, TRANSITIONS, TaskId, Terms, Ticket};

use super::alone::Digest;
use super::awaited::{Tell, Voices};
use super::clock::{Clock, Promise};
use super::expiring::Expiry;
use super::outputs::Outputs;
use super::outside::Lives;
use super::parked::{Audited, Journal, Question};
use super::rare::RARE;
use super::ticks::Schedules;

/// Width of a bucket of finished tasks, in milliseconds.
pub(crate) const BUCKET: u64 = 4 * 3600 * 1000;
/// A send later than this after the task's creation is void, and so is one as much before it.
pub(crate) const SEND_WINDOW: u64 = 60_000;
/// Tasks moved by one script call at most.
pub(crate) const SWEEP: usize = 100;
/// Crashes after which a task is poison.
pub(crate) const CRASHES: u32 = 3;

/// The settings that matter here; times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) retention: u64,
    pub(crate) dead_retention: u64,
    pub(crate) dead_max: usize,
    pub(crate) queue_max: usize,
    pub(crate) history_max: usize,
    pub(crate) history_ttl: u64,
    pub(crate) self_approval: bool,
    /// Distance between two priorities in a score.
    pub(crate) class: u64,
}

/// Where a task is; exactly one place at a time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place {
    Ready {
        at: u64,
    },
    Timer {
        due: u64,
    },
    /// With the priority that it had when it was laid there.
    Shelf {
        priority: Priority,
    },
    /// Waits for a person, who decides on this approval, or for an instant or an event; at the latest until it is over.
    Parked {
        approval: Option<u16>,
        over: u64,
        /// Whether an event may come before.
        event: bool,
    },
    Held {
        worker: usize,
    },
    Ended {
        status: Status,
        at: u64,
        bucket: u64,
        ending: Ending,
    },
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

    pub(crate) fn expired() -> Self {
        Self { reason: Some("expired"), ..Self::default() }
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
    /// Who must approve before it may be claimed.
    pub(crate) gate: Option<Terms>,
    pub(crate) promise: Option<Promise>,
    pub(crate) requested_by: Option<String>,
    /// Instant after which no attempt of it begins; 0 = none.
    pub(crate) expires: u64,
    /// The key of which it is to be the only one, and whether only until it is begun.
    pub(crate) unique: Option<(&'static str, bool)>,
}

impl Asked {
    /// Whether it takes the road of tasks that need more than a place.
    pub(crate) fn is_special(&self) -> bool {
        self.gate.is_some() || self.promise.is_some() || self.expires > 0 || self.unique.is_some()
    }

    /// What a person is asked at its gate.
    pub(crate) fn question(&self, terms: &Terms, due: u64) -> Question {
        Question {
            terms: terms.clone(),
            own: self.requested_by.clone().unwrap_or_default(),
            asker: String::new(),
            hash: orchestrator::payload_hash(&serde_json::json!(self.payload)),
            due,
            form: Vec::new(),
        }
    }
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
    /// May be above the one that was asked for.
    pub(crate) priority: Priority,
    /// Has not passed its gate.
    pub(crate) gated: bool,
    /// Has passed it.
    pub(crate) passed: bool,
    /// A tick of its schedule may wait for its end.
    pub(crate) followed: bool,
    /// It has put something out.
    pub(crate) vocal: bool,
    /// Somebody was to be told of its end, or of what it puts out.
    pub(crate) awaited: bool,
    /// Its changes of state are not told.
    pub(crate) quiet: bool,
    pub(crate) journal: bool,
    /// Until when an attempt may begin; also of a task that has ended.
    pub(crate) expiry: Option<Expiry>,
    /// Its handler has begun, and waits or goes on behind a wait.
    pub(crate) going: bool,
    /// Also of a task that has ended, as long as it is kept.
    pub(crate) clock: Option<Clock>,
    pub(crate) error: Option<String>,
    pub(crate) place: Place,
    /// The stored body, once it was seen; it must not change but by a retry.
    pub(crate) body: Option<Vec<u8>>,
}

impl Entry {
    pub(crate) fn status(&self) -> Status {
        match self.place {
            Place::Ready { .. } => Status::Assigned,
            Place::Timer { .. } | Place::Shelf { .. } => Status::Pending,
            Place::Parked { .. } => Status::Blocked,
            Place::Held { .. } => Status::InProgress,
            Place::Ended { status, .. } => status,
        }
    }

    pub(crate) fn ticket(&self) -> Ticket {
        Ticket { id: self.asked.id, epoch: self.epoch }
    }

    pub(crate) fn blocked_on(&self) -> Option<BlockedOn> {
        match self.place {
            Place::Parked { approval: Some(_), .. } => Some(BlockedOn::Approval),
            Place::Parked { event: true, .. } => Some(BlockedOn::Event),
            Place::Parked { .. } => Some(BlockedOn::Timer),
            _ => None,
        }
    }
}

/// A worker's life, or that of an agent outside with one task. Its number is its place in [`Reference::workers`].
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) name: String,
    pub(crate) length: u64,
    /// The present generation, while it has one.
    pub(crate) generation: Option<u64>,
    /// When its lease is over, while it has one.
    pub(crate) lease: Option<u64>,
    /// Tasks whose cancelling it was told, each with the score of the note: the less time there is, the lower.
    pub(crate) notes: BTreeMap<TaskId, i64>,
}

/// A finish as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Fin {
    pub(crate) ticket: Ticket,
    pub(crate) cause: Cause,
    pub(crate) ending: Ending,
    /// What its handler told.
    pub(crate) tells: Vec<Tell>,
}

/// One event, as it is to be told: with the approval's number, if it is about one.
pub(crate) type Told = (TaskId, &'static str, u32, Option<u16>);

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
    /// Something had expired: there may be more.
    pub(crate) again: bool,
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
    /// Queues that were made quiet, and whether they still are.
    pub(crate) quiet: BTreeMap<String, bool>,
    pub(crate) workers: Lives,
    /// First bytes of ids under which live tasks are or were not long ago.
    pub(crate) slices: BTreeSet<[u8; 4]>,
    pub(crate) buckets: BTreeSet<u64>,
    pub(crate) dead: BTreeSet<(u64, TaskId)>,
    /// Reported starts: instant and worker.
    pub(crate) started: BTreeMap<TaskId, (u64, usize)>,
    pub(crate) children: BTreeMap<TaskId, Vec<TaskId>>,
    /// Who holds a key alone.
    pub(crate) locks: BTreeMap<Digest, TaskId>,
    /// What was asked of people, as long as it is kept.
    pub(crate) approvals: BTreeMap<(TaskId, u16), super::parked::Approval>,
    /// What was decided, by the instant of the decision.
    pub(crate) history: BTreeSet<(u64, TaskId, u16)>,
    /// Also of tasks that have ended or are gone: the server lets those expire by itself.
    pub(crate) journals: BTreeMap<TaskId, Journal>,
    /// Counts for the reports, by hour.
    pub(crate) hours: BTreeMap<u64, BTreeMap<String, u64>>,
    /// Entries of the audit not looked for yet.
    pub(crate) audited: Vec<Audited>,
    /// Events not looked for yet, in order.
    pub(crate) told: Vec<Told>,
    /// What people and handlers told, and who waits for it.
    pub(crate) voices: Voices,
    pub(crate) schedules: Schedules,
    /// What tasks put out, and who is told of it.
    pub(crate) outputs: Outputs,
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
            quiet: BTreeMap::new(),
            workers: Lives::default(),
            slices: BTreeSet::new(),
            buckets: BTreeSet::new(),
            dead: BTreeSet::new(),
            started: BTreeMap::new(),
            children: BTreeMap::new(),
            locks: BTreeMap::new(),
            approvals: BTreeMap::new(),
            history: BTreeSet::new(),
            journals: BTreeMap::new(),
            hours: BTreeMap::new(),
            audited: Vec::new(),
            told: Vec::new(),
            voices: Voices::default(),
            schedules: Schedules::default(),
            outputs: Outputs::default(),
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

    /// The place of a task of that priority that came at `at`.
    pub(crate) fn score(&self, priority: Priority, at: u64) -> u64 {
        priority as u64 * self.limits.class + at
    }

    pub(crate) fn ready(&self, queue: &str) -> BTreeSet<(u64, TaskId)> {
        let here = self.tasks.values().filter(|entry| entry.asked.queue == queue);
        here.filter_map(|entry| match entry.place {
            Place::Ready { at } => Some((self.score(entry.priority, at), entry.asked.id)),
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
    pub(crate) fn shelves(&self) -> BTreeMap<&str, BTreeSet<(u64, TaskId)>> {
        let mut shelves: BTreeMap<&str, BTreeSet<_>> = BTreeMap::new();
        for entry in self.tasks.values() {
            let Place::Shelf { priority } = entry.place else { continue };
            let id = entry.asked.id;
            let score = self.score(priority, id.created_at_ms());
            shelves.entry(&entry.asked.task_type).or_default().insert((score, id));
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
        let (wait, alarm) = (self.waits().first().map(|(over, _)| *over), self.next_alarm());
        let look = self.schedules.next_look();
        [timer, bucket, wait, alarm, look].into_iter().flatten().min().map(|due| due.saturating_sub(self.now))
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
