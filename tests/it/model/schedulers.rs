//! Who has schedules, and the processes that fire them: each acts on what it has read, whatever became of that since.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use orchestrator::{CatchUp, Gate, NewTask, Overlap, Schedule, SeenSchedule, SlaTerms, TaskId, Triggered, Unique};
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::bytes::make_id;
use super::clock::Promise;
use super::fired::{Fired, queue_full};
use super::random::{KEYS, TYPES};
use super::reference::Asked;
use super::state::Dump;
use super::ticks::{Making, Sight};
use super::world::{QUEUES, World, kind};

const NAMES: [&str; 3] = ["hourly", "nightly", "sweep"];
const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;
/// Sights that are kept, to be acted upon later.
const KEPT: usize = 12;

/// What a process has read, and what the model has.
pub(crate) type Seen = (SeenSchedule, Sight);

impl World {
    /// Somebody changes a schedule, or looks whether one is due.
    pub(crate) async fn see_to_schedules(&mut self, worker: usize) {
        let name = NAMES[self.rng.random_range(0..NAMES.len())];
        let there: Vec<String> = self.model.schedules.plans.keys().cloned().collect();
        // Most of what is done is done to one that is there.
        let known = there.choose(&mut self.rng).filter(|_| self.rng.random_bool(0.95)).cloned().unwrap_or(name.into());
        match self.rng.random_range(0..100) {
            0..18 => self.put_schedule(name).await,
            18..24 => self.pause_schedule(&known).await,
            24..36 => {
                let seen = self.see_schedule(&known).await;
                self.resume_schedule(&known, seen.as_ref()).await;
            }
            36..46 => self.trigger(&known).await,
            46..50 => self.remove_schedule(&known).await,
            50..62 => {
                // Until its next tick, and often at once to it.
                let next = self.model.schedules.plans.get(&known).and_then(|plan| plan.next);
                let Some(next) = next.filter(|next| *next > self.model.now) else { return };
                let then = next + [0, 0, 1, 70 * SECOND][self.rng.random_range(0..4)];
                self.set_time(then).await;
                self.fire_due().await;
            }
            62..72 => {
                let seen = self.see_schedule(&known).await;
                self.keep_sight(seen);
            }
            72..79 => self.act_on_old_sight().await,
            79..87 => self.lead_a_run_on(worker).await,
            87..93 => self.lead_to_and_fro().await,
            93..96 => self.begin_again().await,
            _ => self.fire_due().await,
        }
        self.look_at_schedule(&known).await;
    }

    // What people do.

    fn making(&mut self) -> Making {
        let overlap = [Overlap::Skip, Overlap::Queue, Overlap::Queue, Overlap::Replace, Overlap::Allow];
        let overlap = overlap[self.rng.random_range(0..5)];
        let unique = self.rng.random_bool(0.2) && overlap != Overlap::Replace;
        let promise = self.rng.random_bool(0.2).then(|| self.promise());
        let asked = Asked {
            id: make_id(0, 0),
            queue: QUEUES[self.rng.random_range(0..3)].into(),
            task_type: TYPES[self.rng.random_range(0..3)].into(),
            priority: self.priority(),
            payload: self.rng.random_range(0..1 << 40),
            max_retries: self.rng.random_range(0..=2),
            parent: None,
            due: 0,
            gate: self.rng.random_bool(0.2).then(|| self.terms()),
            promise: promise.map(|promise| Promise { target: promise.target.max(1), deadline: 0, ..promise }),
            requested_by: self.rng.random_bool(0.5).then(|| self.anybody()),
            expires: if self.rng.random_bool(0.3) { self.rng.random_range(6 * SECOND..80 * SECOND) } else { 0 },
            unique: unique.then(|| (KEYS[self.rng.random_range(0..2)], self.rng.random_bool(0.5))),
        };
        Making {
            every: self.every(),
            overlap,
            catch_up: [CatchUp::Latest, CatchUp::Latest, CatchUp::All, CatchUp::Skip][self.rng.random_range(0..4)],
            within: [60 * SECOND, HOUR, 24 * HOUR][self.rng.random_range(0..3)],
            asked,
        }
    }

    fn every(&mut self) -> u64 {
        [SECOND, 20 * SECOND, 60 * SECOND, 60 * SECOND, HOUR, 24 * HOUR][self.rng.random_range(0..6)]
    }

    /// A new one, or one that is there: as it is, or with something changed; at times over what was read long ago.
    async fn put_schedule(&mut self, name: &str) {
        let stale = self.sights.iter().any(|(_, sight)| sight.name == name) && self.rng.random_bool(0.2);
        let seen = match stale {
            true => {
                let at = self.sights.iter().position(|(_, sight)| sight.name == name).expect("a sight");
                self.sights.remove(at)
            }
            false => self.see_schedule(name).await,
        };
        let mut making = self.making();
        if let Some((_, sight)) = &seen {
            let (before, overlap, every) = (sight.plan.making.clone(), making.overlap, making.every);
            match self.rng.random_range(0..6) {
                0 => making = before,
                1 | 2 if before.asked.unique.is_none() => making = Making { overlap, ..before },
                3 => making = Making { every, ..before },
                _ => {}
            }
        }
        self.put_this(name, &making, seen.as_ref()).await;
    }

    /// A schedule is put over what was read.
    pub(crate) async fn put_this(&mut self, name: &str, making: &Making, seen: Option<&Seen>) {
        let expected = self.model.put_schedule(name, making, seen.map(|(_, sight)| sight));
        let what = (making.every, making.overlap, making.catch_up);
        self.log.say(format!("{name} is put, {what:?}: {expected:?}"));
        let schedule = schedule(name, making);
        let reply = self.orch.put_over_seen(&schedule, seen.map(|(seen, _)| seen)).await.expect("a reply");
        assert_eq!(reply, expected, "what putting {name} came to");
        if expected.is_some() {
            self.learn_definition(name).await;
        }
    }

    /// How a schedule is stored is learnt: the same for what is the same.
    async fn learn_definition(&mut self, name: &str) {
        let key = format!("{}S", self.base);
        let bytes: Vec<u8> =
            redis::cmd("HGET").arg(key).arg(name).query_async(&mut self.raw).await.expect("a schedule");
        let plan = self.model.schedules.plans.get_mut(name).expect("a schedule");
        let before = self.definitions.iter().find(|(making, _)| *making == plan.making);
        match before {
            Some((_, before)) => assert_eq!(*before, bytes, "the definition of {name}"),
            None => {
                let other = self.definitions.iter().find(|(_, other)| other[..8] == bytes[..8]);
                assert!(other.is_none(), "two schedules have the same digest");
                self.definitions.push((plan.making.clone(), bytes.clone()));
            }
        }
        plan.bytes = bytes;
    }

    async fn pause_schedule(&mut self, name: &str) {
        let by = self.rng.random_bool(0.5).then(|| self.anybody());
        let expected = self.model.pause_schedule(name, by.as_deref().unwrap_or_default());
        self.log.say(format!("{name} is paused by {by:?}: {expected:?}"));
        let reply = self.orch.schedules().pause(name, by.as_deref()).await;
        assert_eq!(kind(&reply), expected.map(drop), "{reply:?}");
        assert_eq!(reply.ok(), expected.ok(), "whether pausing {name} changed something");
    }

    async fn resume_schedule(&mut self, name: &str, seen: Option<&Seen>) {
        let Some((seen, sight)) = seen else {
            let reply = self.orch.schedules().resume(name).await;
            return assert_eq!(kind(&reply), Err("NotFound"), "{name} is not there");
        };
        let expected = self.model.resume_schedule(sight);
        self.log.say(format!("{name} goes on: {expected:?}"));
        let reply = self.orch.resume_seen(seen).await;
        assert_eq!(kind(&reply), expected.map(drop), "{reply:?}");
        assert_eq!(reply.ok(), expected.ok(), "whether {name} goes on");
    }

    pub(crate) async fn remove_schedule(&mut self, name: &str) {
        let expected = self.model.remove_schedule(name);
        self.log.say(format!("{name} is removed: {expected:?}"));
        assert_eq!(kind(&self.orch.schedules().remove(name).await), expected);
    }

    /// Somebody starts a run by hand, and at times the call comes twice.
    async fn trigger(&mut self, name: &str) {
        let old = self.sights.iter().position(|(_, sight)| sight.name == name).filter(|_| self.rng.random_bool(0.2));
        let seen = match old {
            Some(at) => self.sights.remove(at),
            None => self.see_schedule(name).await,
        };
        let Some((seen, sight)) = seen else { return };
        let by = self.rng.random_bool(0.5).then(|| self.anybody());
        let (tick, id) = (self.model.now, make_id(self.model.now, self.rng.random()));
        for _ in 0..self.rng.random_range(1..3) {
            let expected = self.model.trigger(&sight, by.as_deref(), tick, id);
            let run = self.name(id);
            self.log.say(format!("{by:?} starts {run} of {name} by hand: {expected:?}"));
            let reply = self.orch.trigger_seen(&seen, by.as_deref(), (tick, id)).await;
            match expected {
                Fired::Live(last) => {
                    assert_eq!(kind(&reply), Err("Conflict"), "{reply:?}");
                    let error = reply.expect_err("a refusal").to_string();
                    assert!(error.contains(&format!("task {last} has not ended")), "{last}: {error}");
                }
                Fired::Full => assert_eq!(kind(&reply), Err("QueueFull"), "{reply:?}"),
                Fired::Done => assert_eq!(reply.expect("a run"), Some(Triggered::Started(id))),
                Fired::Waits => assert_eq!(reply.expect("a wait"), Some(Triggered::Waits)),
                Fired::Other => assert_eq!(reply.expect("no run"), None),
            }
            if expected == Fired::Done {
                self.accepted.insert(id);
                self.get(id).await;
            }
        }
    }

    // What processes do that find schedules due.

    /// What a process reads of one.
    pub(crate) async fn see_schedule(&mut self, name: &str) -> Option<Seen> {
        let seen = self.orch.see_schedule(name).await.expect("a reply");
        let sight = self.model.see(name);
        assert_eq!(seen.is_some(), sight.is_some(), "whether {name} is there");
        seen.zip(sight)
    }

    fn keep_sight(&mut self, seen: Option<Seen>) {
        self.sights.extend(seen);
        if self.sights.len() > KEPT {
            self.sights.pop_front();
        }
    }

    /// Several processes find the same ones due, and act one after another. Others do something in between.
    pub(crate) async fn fire_due(&mut self) {
        let mut all = Vec::new();
        for _ in 0..self.rng.random_range(1..4) {
            let most = [1, 25, 25][self.rng.random_range(0..3)];
            let seen = self.orch.see_due_schedules(most).await.expect("a reply");
            let names: Vec<String> = self.model.schedules.due(self.model.now).into_iter().take(most).collect();
            assert_eq!(seen.iter().map(SeenSchedule::name).collect::<Vec<_>>(), names, "what is due");
            let sights: Vec<Sight> = names.iter().filter_map(|name| self.model.see(name)).collect();
            all.extend(seen.into_iter().zip(sights));
        }
        all.shuffle(&mut self.rng);
        for seen in all {
            if self.rng.random_bool(0.15) {
                self.come_between(&seen.1.name).await;
            }
            if self.rng.random_bool(0.1) {
                self.keep_sight(Some(seen));
            } else {
                self.act_on(&seen).await;
            }
        }
    }

    /// Something happens to a schedule or to its last run, after somebody has read it.
    async fn come_between(&mut self, name: &str) {
        let last = self.model.schedules.plans.get(name).and_then(|plan| plan.last);
        match (self.rng.random_range(0..7), last) {
            (0, Some((_, id))) => self.cancel(id).await,
            (1, Some((_, id))) => self.revive(id).await,
            (2, _) => self.pause_schedule(name).await,
            (3, _) => {
                let seen = self.see_schedule(name).await;
                self.resume_schedule(name, seen.as_ref()).await;
            }
            (4, _) => self.trigger(name).await,
            (5, _) => self.put_schedule(name).await,
            _ => self.remove_schedule(name).await,
        }
    }

    /// A process that was held up goes on with what it knew then.
    async fn act_on_old_sight(&mut self) {
        let n = self.sights.len();
        let Some(at) = (n > 0).then(|| self.rng.random_range(0..n)) else { return };
        let Some(seen) = self.sights.remove(at) else { return };
        if self.rng.random_bool(0.3) {
            return self.resume_schedule(&seen.1.name.clone(), Some(&seen)).await;
        }
        self.act_on(&seen).await;
    }

    pub(crate) async fn act_on(&mut self, (seen, sight): &Seen) {
        let before: BTreeSet<TaskId> = self.model.tasks.keys().copied().collect();
        let bound = self.model.limits.queue_max;
        self.model.act_on(sight, |queue| queue_full(queue, bound));
        let fresh: Vec<TaskId> = self.model.tasks.keys().filter(|id| !before.contains(id)).copied().collect();
        let names: Vec<String> = fresh.iter().map(|id| self.name(*id)).collect();
        self.log.say(format!("{}, as it was read, is fired: {names:?}", sight.name));
        self.orch.fire_seen(seen).await.expect("a reply");
        if let Some(id) = fresh.first() {
            self.get(*id).await;
        }
        self.accepted.extend(fresh);
    }

    /// A schedule as the client reads it.
    async fn look_at_schedule(&mut self, name: &str) {
        let reply = self.orch.schedules().get(name).await;
        let Some(sight) = self.model.see(name) else {
            return assert_eq!(kind(&reply), Err("NotFound"), "{name} is not there");
        };
        let (told, plan) = (reply.unwrap_or_else(|error| panic!("{name} cannot be read: {error}")), &sight.plan);
        let at = |at: &chrono::DateTime<chrono::Utc>| at.timestamp_millis() as u64;
        assert_eq!(
            (told.overlap, told.catch_up, told.paused),
            (plan.making.overlap, plan.making.catch_up, plan.paused.is_some())
        );
        assert_eq!(told.upcoming.first().map(at), plan.next, "the next tick of {name}");
        assert_eq!(
            (told.last_tick.as_ref().map(at), told.last_task_id),
            (plan.last.map(|(tick, _)| tick), plan.last.map(|(_, id)| id))
        );
        assert_eq!(told.last_is_live, sight.live, "whether the last run of {name} has ended");
        assert_eq!(told.waiting.iter().map(at).collect::<Vec<_>>(), plan.waiting, "ticks of {name} that wait");
        assert_eq!(
            (told.fired, told.skipped, told.missed),
            (plan.fired, plan.skipped, plan.missed),
            "counts of {name}"
        );
        let error = told.error.map(|error| (error.error, at(&error.at)));
        assert_eq!(error, plan.error, "what stood in the way of {name}");
    }
}

/// As somebody puts it.
fn schedule(name: &str, making: &Making) -> Schedule {
    let asked = &making.asked;
    let task = NewTask::<u64>::new(&asked.task_type, &asked.payload).queue(&asked.queue);
    let mut task = task.priority(asked.priority).max_retries(asked.max_retries);
    if let Some(terms) = &asked.gate {
        let mut gate = Gate::new();
        gate.terms = terms.clone();
        task = task.policies(Some(gate), None);
    }
    if let Some(promise) = &asked.promise {
        let terms = SlaTerms::new(Duration::from_millis(promise.target)).warn(promise.warn).pause(promise.pauses);
        task = task.sla(terms.on_violation(promise.action.clone()));
    }
    if asked.expires > 0 {
        task = task.expires(Duration::from_millis(asked.expires));
    }
    if let Some((key, started)) = asked.unique {
        task = task.unique(if started { Unique::until_started(key) } else { Unique::until_done(key) });
    }
    let task = asked.requested_by.iter().fold(task, |task, caller| task.requested_by(caller));
    let schedule = Schedule::every(name, Duration::from_millis(making.every), task);
    let within = Duration::from_millis(making.within);
    schedule.overlap(making.overlap).catch_up(making.catch_up).catch_up_within(within)
}

/// What belongs together is there together, counted on Redis alone; `flags` are those of the live tasks, `latest` is the latest
/// instant that the clock has shown.
pub(crate) fn no_orphans(dump: &Dump, flags: &BTreeMap<&[u8], u16>, latest: u64) {
    let nothing = BTreeMap::new();
    let of = |name: &[u8]| dump.get(name).unwrap_or(&nothing);
    let (schedules, looks, followed) = (of(b"S"), of(b"Z"), of(b"N"));
    let states = dump.keys().filter_map(|key| key.strip_prefix(b"S:"));
    assert_eq!(states.collect::<Vec<_>>(), schedules.keys().collect::<Vec<_>>(), "schedules, and what is kept of them");
    for name in schedules.keys() {
        let state = of(&[b"S:", name.as_slice()].concat());
        let field = |field: &str| state.get(field.as_bytes());
        let name = name.escape_ascii();
        let look = looks.get(&name.to_string().into_bytes());
        assert_eq!(look.is_some(), field("p").is_none(), "whether {name} is paused, or to be looked at");
        let live = field("id").is_some_and(|id| flags.contains_key(id.as_slice()));
        let (waits, held_up) = (field("w").is_some(), field("e").is_some());
        if let Some(look) = look.filter(|_| waits && !live && !held_up) {
            let look: u64 = String::from_utf8_lossy(look).parse().expect("an instant");
            assert!(look <= latest, "ticks of {name} wait for a run that has ended, and nobody looks before {look}");
        }
        let waited_for = followed.iter().filter(|(id, _)| Some(*id) == field("id")).count();
        assert!(!waits || waited_for == 1, "ticks of {name} wait, and nobody knows for what");
    }
    assert!(looks.keys().all(|name| schedules.contains_key(name)), "what is to be looked at is not there");
    for (id, name) in followed {
        let state = of(&[b"S:", name.as_slice()].concat());
        assert_eq!(state.get(b"id".as_slice()), Some(id), "the run that {} is to wait for", name.escape_ascii());
        let flags = flags.get(id.as_slice());
        assert!(flags.is_none_or(|flags| flags & 8192 != 0), "{} is waited for and does not know", id.escape_ascii());
    }
}
