//! One namespace on a real Redis beside the model of it: each call is made on both, and what they say is compared.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use orchestrator::{
    Aging, ApprovalPolicy, Config, Error, Gate, NewTask, Orchestrator, Priority, Result, SlaTerms, Status, TaskHandle,
    TaskId, Ticket, Unique,
};
use orchestrator_tests::{Server, namespace};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redis::aio::MultiplexedConnection;
use tokio::runtime::{Builder, Runtime};

use super::hands::{Hand, Sent};
use super::outputs;
use super::outside::Grip;
use super::reference::{Asked, Limits, Reference, Refusal, SEND_WINDOW};
use super::schedulers::Seen;
use super::state::{self, Stream};
use super::ticks::Making;
use super::waits;

pub(crate) const QUEUES: [&str; 3] = ["a", "b", "c"];
/// The instant when worlds begin, before a random part.
pub(crate) const GENESIS: u64 = 1_900_000_000_000;
/// How far the clock may fall behind the latest instant that it has shown.
const BACK_MAX: u64 = 30_000;

/// Tasks with a gate or a clock in one call at most.
const SPECIAL_MAX: usize = 100;
/// Looks between two at what is closed and expires.
const THOROUGH_EVERY: usize = 5;

/// The score of a note about a cancelling without any time.
pub(crate) const URGENT: i64 = 1 << 40;

/// Lines that are kept.
const LINES: usize = 30;

/// The last operations, readable after a panic.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<(usize, VecDeque<String>)>>);

impl Log {
    fn lines(&self) -> MutexGuard<'_, (usize, VecDeque<String>)> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn say(&self, mut line: String) {
        line.truncate(line.char_indices().nth(250).map_or(line.len(), |(at, _)| at));
        let mut log = self.lines();
        log.1.push_back(line);
        if log.1.len() > LINES {
            log.1.pop_front();
        }
    }

    /// Counts a step; returns its number.
    pub(crate) fn count(&self) -> usize {
        let mut log = self.lines();
        log.0 += 1;
        log.0
    }

    pub(crate) fn tell(&self) -> String {
        let log = self.lines();
        let lines: String = log.1.iter().map(|line| format!("  {line}\n")).collect();
        format!("step {}; the last operations:\n{lines}", log.0)
    }
}

/// The kind of an error, for comparing.
pub(crate) fn kind<T>(reply: &Result<T>) -> Result<(), &'static str> {
    Err(match reply {
        Ok(_) => return Ok(()),
        Err(Error::NotFound { .. }) => "NotFound",
        Err(Error::Conflict { .. }) => "Conflict",
        Err(Error::Invalid { .. }) => "Invalid",
        Err(Error::QueueFull { .. }) => "QueueFull",
        Err(Error::LeaseLost) => "LeaseLost",
        Err(Error::Forbidden { .. }) => "Forbidden",
        Err(other) => panic!("a script broke: {other}"),
    })
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) orch: Orchestrator,
    pub(crate) raw: MultiplexedConnection,
    pub(crate) base: String,
    pub(crate) rng: StdRng,
    pub(crate) log: Log,
    pub(crate) model: Reference,
    pub(crate) hands: Vec<Hand>,
    pub(crate) accepted: BTreeSet<TaskId>,
    /// Tasks in the order of their making, accepted or not.
    pub(crate) made: Vec<Asked>,
    /// Finishes sent not long ago, and by whom.
    pub(crate) sent: VecDeque<(usize, Sent)>,
    /// What processes have read of schedules, and not acted upon yet.
    pub(crate) sights: VecDeque<Seen>,
    /// Schedules as they were stored.
    pub(crate) definitions: Vec<(Making, Vec<u8>)>,
    /// What agents outside were given, the last of it; they may not have it any more.
    pub(crate) grips: VecDeque<Grip>,
    labels: HashMap<TaskId, usize>,
    stream: Stream,
    audit: waits::Audit,
    looks: usize,
    /// Name of the script that hears decisions, once a call of it was seen.
    pub(crate) decide_sha: Option<String>,
    latest: u64,
}

impl World {
    pub(crate) async fn new(server: &Server, seed: u64, log: Log) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let now = GENESIS + rng.random_range(0..1 << 40);
        let limits = Limits {
            retention: if rng.random_bool(0.3) { 60_000 } else { 24 * 3_600_000 },
            dead_retention: if rng.random_bool(0.3) { 3_600_000 } else { 30 * 24 * 3_600_000 },
            dead_max: if rng.random_bool(0.3) { 6 } else { 100_000 },
            queue_max: if rng.random_bool(0.3) { 20 } else { 10_000_000 },
            history_max: if rng.random_bool(0.3) { 5 } else { 1000 },
            history_ttl: if rng.random_bool(0.3) { 3_600_000 } else { 30 * 24 * 3_600_000 },
            self_approval: rng.random_bool(0.2),
            class: if rng.random_bool(0.25) { [1_000, 20_000][rng.random_range(0..2)] } else { 1 << 42 },
        };
        log.say(format!("{limits:?}"));
        let config = Config {
            namespace: namespace(),
            retention: Duration::from_millis(limits.retention),
            dead_retention: Duration::from_millis(limits.dead_retention),
            dead_max: limits.dead_max as u32,
            queue_max: limits.queue_max as u64,
            events_max: 10_000_000,
            aging: if limits.class < 1 << 42 { Aging::By(Duration::from_millis(limits.class)) } else { Aging::Off },
            approvals: ApprovalPolicy {
                history_max: limits.history_max as u32,
                history_ttl: Duration::from_millis(limits.history_ttl),
                self_approval: limits.self_approval,
                ..ApprovalPolicy::none()
            },
            test_clock: true,
            ..Config::new(&server.url())
        };
        let limits = Limits { dead_retention: limits.dead_retention.max(limits.retention), ..limits };
        let (mut raw, base) = (server.raw().await, format!("{{{}.0}}:", config.namespace));
        set_clock(&mut raw, &base, now, 0).await;
        let orch = Orchestrator::with_config(config).await.expect("a client");
        Self {
            orch,
            raw,
            base,
            rng,
            log,
            model: Reference::new(limits, now),
            hands: Vec::new(),
            accepted: BTreeSet::new(),
            made: Vec::new(),
            sent: VecDeque::new(),
            sights: VecDeque::new(),
            definitions: Vec::new(),
            grips: VecDeque::new(),
            labels: HashMap::new(),
            stream: Stream::default(),
            audit: waits::Audit::default(),
            looks: 0,
            decide_sha: None,
            latest: now,
        }
    }

    pub(crate) fn name(&mut self, id: TaskId) -> String {
        let next = self.labels.len();
        format!("t{}", self.labels.entry(id).or_insert(next))
    }

    pub(crate) fn names(&mut self, tickets: &[Ticket]) -> String {
        let names: Vec<String> = tickets.iter().map(|t| format!("{}@{}", self.name(t.id), t.epoch)).collect();
        format!("[{}]", names.join(" "))
    }

    /// Moves the clock.
    pub(crate) async fn set_time(&mut self, now: u64) {
        let now = now.max(self.latest - BACK_MAX);
        self.log.say(format!("the time moves by {} ms", now as i64 - self.model.now as i64));
        (self.model.now, self.latest) = (now, self.latest.max(now));
        let below_ms = self.rng.random_range(0..1000);
        set_clock(&mut self.raw, &self.base, now, below_ms).await;
        self.orch.clock_error().await.expect("the time");
    }

    // What clients do.

    /// Submits tasks in one call; they may be of several queues.
    pub(crate) async fn enqueue(&mut self, tasks: &[Asked]) {
        let ids: Vec<String> = tasks.iter().map(|asked| format!("{}→{}", self.name(asked.id), asked.queue)).collect();
        self.log.say(format!("enqueue {}", ids.join(" ")));
        if tasks.iter().any(|asked| asked.due > 0 || asked.expires > 0) {
            // Its own idea of the time runs on meanwhile.
            self.orch.clock_error().await.expect("the time");
        }
        let new = tasks.iter().map(|asked| {
            let task = NewTask::<u64>::new(&asked.task_type, &asked.payload).id(asked.id).queue(&asked.queue);
            let task = task.priority(asked.priority).max_retries(asked.max_retries);
            let task =
                if asked.due == 0 { task } else { task.run_at((UNIX_EPOCH + Duration::from_millis(asked.due)).into()) };
            let task = alone(promised(task, asked), asked);
            let task = asked.requested_by.iter().fold(task, |task, caller| task.requested_by(caller));
            asked.parent.into_iter().fold(task, NewTask::parent_id)
        });
        let reply = aside(self.orch.enqueue_all(new)).await;
        let ids: BTreeSet<TaskId> = tasks.iter().map(|asked| asked.id).collect();
        let ahead = tasks.iter().any(|asked| asked.id.created_at_ms() > self.model.now + SEND_WINDOW);
        let mut expected = if ids.len() < tasks.len() || ahead { Err("Invalid") } else { Ok(()) };
        // In the order in which they are sent: by queue and by road, and of those that need more at most so many at once.
        let (mut roads, mut others): (Vec<(&String, bool)>, _) = (Vec::new(), BTreeMap::new());
        for asked in tasks.iter().filter(|_| expected.is_ok()) {
            let road = (&asked.queue, asked.is_special());
            if !roads.contains(&road) {
                roads.push(road);
            }
        }
        'sending: for (queue, special) in roads {
            let batch: Vec<Asked> =
                tasks.iter().filter(|asked| (&asked.queue, asked.is_special()) == (queue, special)).cloned().collect();
            for batch in batch.chunks(if special { SPECIAL_MAX } else { usize::MAX }) {
                match self.model.enqueue(batch) {
                    Ok(refused) => {
                        let stored = batch.iter().map(|asked| asked.id).filter(|id| !refused.contains_key(id));
                        self.accepted.extend(stored);
                        others.extend(refused);
                    }
                    Err(refusal) => {
                        expected = Err(if refusal == Refusal::Late { "Invalid" } else { "QueueFull" });
                        break 'sending;
                    }
                }
            }
        }
        assert_eq!(kind(&reply), expected, "reply to a submission: {reply:?}");
        for (asked, handle) in tasks.iter().zip(reply.into_iter().flatten()) {
            let other = others.get(&asked.id);
            let told = (handle.id(), handle.existing());
            assert_eq!(
                told,
                (other.copied().unwrap_or(asked.id), other.is_some()),
                "which task stands for {}",
                asked.id
            );
        }
    }

    /// Tasks whose ids the library makes go another way, because nobody can have sent them before. Those ids are no seed's:
    /// nothing at random comes behind this.
    pub(crate) async fn first_sends(&mut self) {
        for n in [1, 1, 3, 1, 40] {
            self.hush().await;
            let queue = QUEUES[self.rng.random_range(0..3)];
            self.orch.clock_error().await.expect("the time");
            let task =
                |payload: u64| NewTask::<u64>::new("x", &payload).queue(queue).priority(Priority::P1).max_retries(2);
            let reply = self.orch.enqueue_all((0..n).map(task)).await;
            self.log.say(format!("{n} first sends to {queue}: {:?}", kind(&reply)));
            if self.model.ready(queue).len() + n as usize > self.model.limits.queue_max {
                assert_eq!(kind(&reply), Err("QueueFull"), "{reply:?}");
                continue;
            }
            let asked = |(payload, handle): (u64, TaskHandle<u64>)| Asked {
                id: handle.id(),
                queue: queue.into(),
                task_type: "x".into(),
                priority: Priority::P1,
                payload,
                max_retries: 2,
                parent: None,
                due: 0,
                gate: None,
                promise: None,
                requested_by: None,
                expires: 0,
                unique: None,
            };
            let asked: Vec<Asked> = (0..n).zip(reply.expect("handles")).map(asked).collect();
            assert_eq!(self.model.enqueue(&asked), Ok(BTreeMap::new()), "first sends are new");
            self.accepted.extend(asked.iter().map(|asked| asked.id));
            self.get(asked[0].id).await;
        }
        self.check().await;
    }

    pub(crate) async fn get(&mut self, id: TaskId) {
        let reply = self.orch.get(id).await;
        let Some(entry) = self.model.known(id) else {
            return assert_eq!(kind(&reply), Err("NotFound"), "{id} is not known any more");
        };
        match reply {
            Ok(task) => state::agrees(&task, entry, &self.model),
            Err(error) => panic!("{id} should be {} and cannot be read: {error}", entry.status()),
        }
    }

    pub(crate) async fn cancel(&mut self, id: TaskId) {
        let name = self.name(id);
        let within = self.rng.random_bool(0.4).then(|| [1, 2_000, 600_000][self.rng.random_range(0..3)]);
        let expected = self.model.cancel(id, within.map_or(0, |ms| ms as i64 - URGENT));
        self.log.say(format!("cancel {name} within {within:?}: {expected:?}"));
        let reply = match within {
            Some(ms) => self.orch.cancel_within(id, Duration::from_millis(ms)).await,
            None => self.orch.cancel(id).await,
        };
        assert_eq!(kind(&reply), expected.map(drop), "reply to cancel {name}: {reply:?}");
        assert_eq!(reply.ok(), expected.ok(), "reply to cancel {name}");
    }

    pub(crate) async fn revive(&mut self, id: TaskId) {
        let name = self.name(id);
        let expected = self.model.revive(id);
        self.log.say(format!("revive {name}: {expected:?}"));
        let reply = self.orch.retry(id).await;
        assert_eq!(kind(&reply), expected, "reply to a manual retry of {name}: {reply:?}");
    }

    pub(crate) async fn pause(&mut self, queue: &str, pause: bool) {
        self.log.say(format!("{} {queue}", if pause { "pause" } else { "resume" }));
        let expected = if pause { self.model.pause(queue) } else { self.model.resume(queue) };
        let reply = if pause { self.orch.pause(queue).await } else { self.orch.resume(queue).await };
        assert_eq!(reply.expect("a reply"), expected, "whether pausing {queue} changed something");
    }

    // Holding all against the model.

    /// Everything that is stored, the counts, and the stream.
    pub(crate) async fn check(&mut self) {
        self.looks += 1;
        // What is closed does not change, and there is much of it.
        let all = self.looks.is_multiple_of(THOROUGH_EVERY);
        let closed = if all { BTreeSet::new() } else { waits::closed(&self.model) };
        let mut actual = state::actual(&mut self.raw, &self.base, &mut self.model, &closed).await;
        outputs::read(&mut self.raw, &self.base, &closed, &mut actual).await;
        state::awake(&mut actual, &self.model);
        state::same(&actual, &state::expected(&self.model, &closed));
        state::each_in_one_place(&actual);
        waits::no_orphans(&actual, self.latest);
        if all {
            waits::expiring(&mut self.raw, &self.base, &self.model).await;
            outputs::expiring(&mut self.raw, &self.base, &self.model).await;
        }
        let stats = self.orch.stats().await.expect("counts");
        state::counted(&stats, &actual, &self.model);
        self.stream.check(&mut self.raw, &self.base, &mut self.model).await;
        self.audit.check(&mut self.raw, &self.base, &mut self.model).await;
        for (worker, hand) in self.hands.iter().enumerate().filter(|(_, hand)| hand.alive) {
            if self.model.workers[worker].generation == Some(hand.generation()) {
                let believed: BTreeSet<TaskId> = hand.claims.iter().map(|holding| holding.ticket().id).collect();
                let held: BTreeSet<TaskId> = self.model.held(worker).iter().map(|ticket| ticket.id).collect();
                assert_eq!(believed, held, "what w{worker} believes to hold");
            }
        }
    }

    /// The first letters of the keys that are there.
    pub(crate) async fn kinds(&mut self) -> BTreeSet<u8> {
        let keys: Vec<Vec<u8>> = self.keys().await;
        keys.iter().map(|key| key[self.base.len()]).collect()
    }

    async fn keys(&mut self) -> Vec<Vec<u8>> {
        redis::cmd("KEYS").arg(format!("{}*", self.base)).query_async(&mut self.raw).await.expect("the keys")
    }

    /// Makes room for the next world.
    pub(crate) async fn clear(&mut self) {
        let keys = self.keys().await;
        redis::cmd("UNLINK").arg(keys).query_async::<()>(&mut self.raw).await.expect("a reply");
    }

    /// Every task ever accepted has ended, once: its value is there, or its retention has passed.
    pub(crate) async fn all_ended(&mut self) {
        let mut left = self.accepted.clone();
        for (id, entry) in self.model.tasks.clone() {
            assert!(entry.status().is_terminal(), "{id} is {}", entry.status());
            assert!(left.remove(&id), "{id} was never accepted");
            self.get(id).await;
        }
        for id in self.model.gone.clone() {
            left.remove(&id);
        }
        assert!(left.is_empty(), "accepted and lost: {left:?}");
        let ended = |status| self.model.tasks.values().filter(|entry| entry.status() == status).count();
        assert_eq!(ended(Status::Failed), self.model.dead.len());
    }

    /// The audit is whole.
    pub(crate) async fn proven(&mut self) {
        let verdict = self.orch.verify_audit(|_| ()).await.expect("the audit");
        assert_eq!((verdict.fault, verdict.entries), (None, self.audit.written()), "the audit");
    }
}

/// Polls a call on a runtime that runs nothing. Some calls leave a look at the timers behind for when the next is due by
/// the real clock; that would fire them at any moment, and here they fire when the model says so.
pub(crate) async fn aside<T>(call: impl Future<Output = T>) -> T {
    static IDLE: LazyLock<Runtime> =
        LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));
    let mut call = pin!(call);
    std::future::poll_fn(|context| {
        let _there = IDLE.enter();
        call.as_mut().poll(context)
    })
    .await
}

/// With the end of its time, and with its key.
fn alone(task: NewTask<u64>, asked: &Asked) -> NewTask<u64> {
    let task = match asked.expires {
        0 => task,
        at => task.expires_at((UNIX_EPOCH + Duration::from_millis(at)).into()),
    };
    let unique = asked.unique.map(|(key, started)| match started {
        true => Unique::until_started(key),
        false => Unique::until_done(key),
    });
    unique.into_iter().fold(task, NewTask::unique)
}

/// With its gate, and with what is promised.
fn promised(mut task: NewTask<u64>, asked: &Asked) -> NewTask<u64> {
    if let Some(terms) = &asked.gate {
        let mut gate = Gate::new();
        gate.terms = terms.clone();
        task = task.policies(Some(gate), None);
    }
    let Some(promise) = &asked.promise else { return task };
    if promise.target > 0 {
        let terms = SlaTerms::new(Duration::from_millis(promise.target)).warn(promise.warn).pause(promise.pauses);
        task = task.sla(terms.on_violation(promise.action.clone()));
    }
    match promise.deadline {
        0 => task,
        at => task.sla_deadline((UNIX_EPOCH + Duration::from_millis(at)).into()),
    }
}

/// Sets the clock that the scripts read.
pub(crate) async fn set_clock(raw: &mut MultiplexedConnection, base: &str, now: u64, below_ms: u64) {
    let mut set = redis::cmd("HSET");
    set.arg(format!("{base}now")).arg("s").arg(now / 1000).arg("us").arg(now % 1000 * 1000 + below_ms);
    set.query_async::<()>(raw).await.expect("the clock");
}
