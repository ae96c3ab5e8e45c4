//! Somebody writes nonsense into Redis, between the steps of workers: it ends set aside, and stops nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use orchestrator::{
    ApprovalPolicy, Claim, Config, Entry, Error, Finish, Incarnation, NewEvent, NewTask, Noted, Orchestrator, Priority,
    Result, Status, TaskId, Telling, Ticket, Unique, Until, Wait,
};
use orchestrator_tests::{Server, namespace};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use redis::aio::MultiplexedConnection;

use super::bytes::{id_bytes, make_id, read_id, slice};
use super::reference::BUCKET;
use super::state::read_events;
use super::world::{GENESIS, Log, aside, set_clock};

pub(crate) const QUEUES: [&str; 2] = ["a", "b"];
pub(crate) const TYPES: [&str; 2] = ["x", "y"];
pub(crate) const LIVES: usize = 3;
/// Rounds within which all that is healthy must have ended.
const ROUNDS_MAX: usize = 40;

/// A worker: a life, what it holds, and what it has to send.
#[derive(Debug)]
pub(crate) struct Hand {
    pub(crate) life: Incarnation,
    pub(crate) claims: Vec<Claim>,
    finishes: Vec<Finish>,
}

/// A namespace under fire.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) orch: Orchestrator,
    pub(crate) raw: MultiplexedConnection,
    pub(crate) base: String,
    pub(crate) rng: StdRng,
    pub(crate) log: Log,
    pub(crate) now: u64,
    pub(crate) hands: Vec<Hand>,
    /// Accepted, and nothing of theirs was touched.
    pub(crate) healthy: BTreeSet<TaskId>,
    /// Something of theirs was overwritten.
    pub(crate) hurt: BTreeSet<TaskId>,
    /// The stream was overwritten.
    pub(crate) deaf: bool,
}

/// What a call brought; `None` when the worker's lease is lost. Nothing else may stop a call.
fn fine<T>(reply: Result<T>) -> Option<T> {
    match reply {
        Ok(value) => Some(value),
        Err(Error::LeaseLost) => None,
        Err(error) => panic!("a script broke: {error}"),
    }
}

fn entry(noted: Noted) -> Entry {
    Entry { order: 1, side_by_side: false, code: 0, digest: [0; 8], noted }
}

impl Field {
    pub(crate) async fn new(server: &Server, seed: u64, log: Log) -> Self {
        let config = Config {
            namespace: namespace(),
            retention: Duration::from_secs(24 * 3600),
            approvals: ApprovalPolicy::none(),
            test_clock: true,
            ..Config::new(&server.url())
        };
        let (mut raw, base, now) = (server.raw().await, format!("{{{}.0}}:", config.namespace), GENESIS);
        set_clock(&mut raw, &base, now, 0).await;
        let orch = Orchestrator::with_config(config).await.expect("a client");
        let rng = StdRng::seed_from_u64(seed);
        let (hands, healthy, hurt) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        let mut field = Self { orch, raw, base, rng, log, now, hands, healthy, hurt, deaf: false };
        for _ in 0..LIVES {
            let hand = field.hand().await;
            field.hands.push(hand);
        }
        field
    }

    async fn hand(&mut self) -> Hand {
        let life = Incarnation::join(&self.orch, &QUEUES.map(String::from), &[], Duration::from_millis(1)).await;
        Hand { life: life.expect("a life"), claims: Vec::new(), finishes: Vec::new() }
    }

    /// A new life in place of one that is over.
    pub(crate) async fn reborn(&mut self, worker: usize) {
        self.log.say(format!("w{worker} begins anew"));
        self.hands[worker] = self.hand().await;
    }

    async fn time_passes(&mut self, ms: u64) {
        self.now += ms;
        set_clock(&mut self.raw, &self.base, self.now, 0).await;
        self.orch.clock_error().await.expect("the time");
    }

    pub(crate) fn key(&self, name: &str) -> Vec<u8> {
        [self.base.as_bytes(), name.as_bytes()].concat()
    }

    pub(crate) fn slice_key(&self, kind: &str, id: TaskId) -> Vec<u8> {
        [self.base.as_bytes(), kind.as_bytes(), &slice(id)].concat()
    }

    pub(crate) async fn ask<T: redis::FromRedisValue>(&mut self, command: &str, arguments: &[&[u8]]) -> T {
        let mut call = redis::cmd(command);
        for argument in arguments {
            call.arg(*argument);
        }
        call.query_async(&mut self.raw).await.expect("a plain command")
    }

    pub(crate) async fn keys(&mut self, pattern: &str) -> Vec<Vec<u8>> {
        let pattern = self.key(pattern);
        self.ask("KEYS", &[&pattern]).await
    }

    /// What a key holds, whatever its type: members or fields.
    pub(crate) async fn members(&mut self, key: &[u8]) -> Vec<Vec<u8>> {
        let right: String = self.ask("TYPE", &[key]).await;
        match right.as_str() {
            "zset" => self.ask("ZRANGE", &[key, b"0", b"-1"]).await,
            "hash" => self.ask("HKEYS", &[key]).await,
            "set" => self.ask("SMEMBERS", &[key]).await,
            _ => Vec::new(),
        }
    }

    // Honest work.

    pub(crate) async fn act(&mut self) {
        let worker = self.rng.random_range(0..LIVES);
        match self.rng.random_range(0..100) {
            0..20 => self.submit().await,
            20..45 => self.work(worker).await,
            45..55 => self.let_go(worker).await,
            55..65 => self.keep_house(worker).await,
            65..69 => self.reconcile(worker).await,
            69..71 => self.reborn(worker).await,
            71..77 => self.look().await,
            77..80 => self.publish().await,
            80..84 => {
                let ms = [1, 1_000, 40_000, BUCKET][self.rng.random_range(0..4)];
                // Not past anything's retention.
                if self.now < GENESIS + 4 * BUCKET {
                    self.time_passes(ms).await;
                }
            }
            _ => {
                self.poke().await;
                if self.rng.random_bool(0.4) {
                    self.let_go(worker).await;
                }
            }
        }
    }

    async fn submit(&mut self) {
        let mut ids = Vec::new();
        for _ in 0..self.rng.random_range(1..4) {
            let id = make_id(self.now - self.rng.random_range(0..30_000), self.rng.random());
            let task = NewTask::<u64>::new(TYPES[self.rng.random_range(0..2)], &7u64);
            let task = task.id(id).queue(QUEUES[self.rng.random_range(0..2)]);
            let later = UNIX_EPOCH + Duration::from_millis(self.now + 30_000);
            let task = if self.rng.random_bool(0.2) { task.run_at(later.into()) } else { task };
            let task = if self.rng.random_bool(0.2) { task.sla_target("1m") } else { task };
            let task = if self.rng.random_bool(0.2) { task.expires("2m") } else { task };
            let task = if self.rng.random_bool(0.3) { task.unique(self.key_alone()) } else { task };
            let parent = if self.rng.random_bool(0.2) { self.anybody() } else { None };
            ids.push((id, parent.into_iter().fold(task, NewTask::parent_id)));
        }
        self.log.say(format!("submit {:?}", ids.iter().map(|(id, _)| id).collect::<Vec<_>>()));
        let (ids, tasks): (Vec<_>, Vec<_>) = ids.into_iter().unzip();
        let handles = fine(aside(self.orch.enqueue_all(tasks)).await).expect("handles");
        let stored = ids.into_iter().zip(&handles).filter(|(_, handle)| !handle.existing()).map(|(id, _)| id);
        self.healthy.extend(stored);
    }

    fn key_alone(&mut self) -> Unique {
        let key = ["k", "another"][self.rng.random_range(0..2)];
        if self.rng.random_bool(0.5) { Unique::until_started(key) } else { Unique::until_done(key) }
    }

    /// A key is held by what is there, or free: nothing healthy is there any more.
    async fn keys_are_free(&mut self) {
        for (task_type, key) in TYPES.iter().flat_map(|task_type| ["k", "another"].map(|key| (task_type, key))) {
            let task = NewTask::<u64>::new(task_type, &7u64).queue(QUEUES[0]).unique(Unique::until_done(key));
            let handle = fine(aside(self.orch.enqueue(task)).await).expect("a handle");
            if handle.existing() {
                assert!(self.hurt.contains(&handle.id()), "the key {key} is held by {}", handle.id());
                let holder = self.orch.get(handle.id()).await;
                assert!(!holder.is_ok_and(|task| task.status.is_terminal()), "{} has ended with a key", handle.id());
            } else {
                self.orch.cancel(handle.id()).await.expect("it waits");
            }
        }
    }

    /// Somebody tells what tasks wait for.
    async fn publish(&mut self) {
        self.log.say("somebody tells of smoke".into());
        let event = self.smoke();
        fine(self.orch.publish(&event).await);
    }

    fn smoke(&mut self) -> NewEvent {
        NewEvent::new("smoke.done", &7).key("k").id(make_id(self.now, self.rng.random()))
    }

    /// What a handler tells, at times.
    fn tellings(&mut self) -> Vec<Telling> {
        if self.rng.random_bool(0.5) {
            return Vec::new();
        }
        let (event, id) = (self.smoke(), make_id(self.now, self.rng.random()));
        vec![Telling::new(&event, "told", entry(Noted::Told(id)), id).expect("a fair event")]
    }

    pub(crate) fn anybody(&mut self) -> Option<TaskId> {
        let all: Vec<TaskId> = self.healthy.iter().chain(&self.hurt).copied().collect();
        all.choose(&mut self.rng).copied()
    }

    async fn step(&mut self, worker: usize, want: usize) -> bool {
        let hand = &mut self.hands[worker];
        let finishes = std::mem::take(&mut hand.finishes);
        let life = hand.life.clone();
        let ended: Vec<TaskId> = finishes.iter().map(|finish| finish.ticket().id).collect();
        self.log.say(format!("w{worker} steps: ends {ended:?}, wants {want}"));
        let woken = self.rng.random_bool(0.3).then_some(QUEUES[0]);
        let Some(stepped) = fine(life.step(&finishes, want, &QUEUES.map(String::from), woken).await) else {
            self.reborn(worker).await;
            return false;
        };
        let claimed: Vec<TaskId> = stepped.claims.iter().map(|claim| claim.ticket().id).collect();
        self.log.say(format!("    claimed {claimed:?}, unreadable {}", stepped.unreadable.len()));
        for claim in &stepped.claims {
            if self.healthy.contains(&claim.ticket().id) {
                assert_eq!(claim.payload_as::<u64>().ok(), Some(7), "the payload of a healthy task");
            }
        }
        let late = stepped.stale.iter().find(|ticket| self.healthy.contains(&ticket.id));
        assert_eq!(late, None, "the end of a healthy task does not count");
        let broken = stepped.unreadable.iter().find(|finish| self.healthy.contains(&finish.ticket().id));
        assert!(broken.is_none(), "a healthy task cannot be read: {broken:?}");
        let more = stepped.again || !claimed.is_empty() || !stepped.unreadable.is_empty();
        self.hands[worker].claims.extend(stepped.claims);
        self.hands[worker].finishes.extend(stepped.unreadable);
        more
    }

    async fn work(&mut self, worker: usize) {
        while !self.hands[worker].claims.is_empty() && self.rng.random_bool(0.7) {
            self.end_one(worker);
        }
        let want = self.rng.random_range(0..5);
        self.step(worker, want).await;
    }

    fn end_one(&mut self, worker: usize) {
        let fails = self.rng.random_bool(0.2);
        let Some(claim) = self.hands[worker].claims.pop() else { return };
        let finish = if fails { claim.fail("fatal", "no") } else { claim.complete(&[1]) };
        let finish = finish.telling(self.tellings());
        self.hands[worker].finishes.push(finish);
    }

    async fn let_go(&mut self, worker: usize) {
        let claims = &mut self.hands[worker].claims;
        // One that is hurt, if there is one.
        let Some(last) = claims.len().checked_sub(1) else { return };
        let claim = claims.remove(claims.iter().position(|c| self.hurt.contains(&c.ticket().id)).unwrap_or(last));
        let (life, id) = (self.hands[worker].life.clone(), claim.ticket().id);
        let way = self.rng.random_range(0..7);
        let ways = ["retries", "shelves", "releases", "notes and parks", "parks", "awaits", "notes and awaits"];
        let told = self.tellings();
        self.log.say(format!("w{worker} {} {id}, tells {}", ways[way], told.len()));
        let reply = match way {
            0 if self.rng.random_bool(0.5) => {
                fine(life.snooze(&claim, Duration::from_secs(5), "too early").await).map(drop)
            }
            0 => fine(life.retry(&claim, Duration::from_secs(5), "not yet").await).map(drop),
            1 => fine(life.shelve(&claim).await).map(drop),
            3.. => {
                if way % 3 == 0 {
                    // What became of the note shows when the lease is asked for next.
                    match life.note(claim.ticket(), "step", &entry(Noted::Step(vec![1])), &told).await {
                        Ok(()) | Err(Error::LeaseLost) => {}
                        Err(error) => panic!("a script broke: {error}"),
                    }
                }
                let until = Until::After(Duration::from_secs(5));
                let wait = match way {
                    3 | 4 => Wait::Sleep { name: "sleep".into(), entry: entry(Noted::Sleep(0)), until },
                    _ => {
                        let (entry, awaited) = (entry(Noted::Waiting(0)), Wait::name_of("smoke.done", "k"));
                        Wait::Event { name: "smoke".into(), entry, until, awaited, behind: None }
                    }
                };
                let told = if way % 3 == 0 { Vec::new() } else { told };
                fine(life.park(&claim, &wait, &told).await).map(drop)
            }
            _ => {
                // Together with others, which must not suffer from it.
                let mut tickets = vec![claim.ticket()];
                tickets.extend(self.hands[worker].claims.drain(..).map(|claim| claim.ticket()));
                fine(life.release(&tickets).await).map(drop)
            }
        };
        if reply.is_none() {
            self.reborn(worker).await;
        }
    }

    async fn keep_house(&mut self, worker: usize) {
        let life = self.hands[worker].life.clone();
        self.log.say(format!("w{worker} keeps house"));
        let begun: Vec<(TaskId, u64)> = self.hands[worker].claims.iter().map(|c| (c.ticket().id, self.now)).collect();
        if fine(life.beat(&begun, &[]).await).is_none() {
            return self.reborn(worker).await;
        }
        if self.rng.random_bool(0.3) {
            tokio::time::sleep(Duration::from_micros(1_100)).await;
            self.time_passes(2).await;
            fine(life.rescue().await);
        }
        fine(life.tick().await);
        fine(life.unshelve(&TYPES.map(String::from)).await);
    }

    async fn reconcile(&mut self, worker: usize) {
        self.log.say(format!("w{worker} reconciles"));
        let hand = &mut self.hands[worker];
        let known: BTreeSet<(TaskId, u32)> = hand
            .claims
            .iter()
            .map(|claim| claim.ticket())
            .chain(hand.finishes.iter().map(Finish::ticket))
            .map(|ticket| (ticket.id, ticket.epoch))
            .collect();
        let life = hand.life.clone();
        let Some(held) = fine(life.reconcile(|ticket| known.contains(&(ticket.id, ticket.epoch))).await) else {
            return self.reborn(worker).await;
        };
        let tickets: BTreeSet<(TaskId, u32)> =
            held.tickets.iter().map(|ticket: &Ticket| (ticket.id, ticket.epoch)).collect();
        let missed = known.iter().find(|(id, epoch)| self.healthy.contains(id) && !tickets.contains(&(*id, *epoch)));
        assert_eq!(missed, None, "a healthy task that is held is not told of");
        let hand = &mut self.hands[worker];
        hand.claims.retain(|claim| tickets.contains(&(claim.ticket().id, claim.ticket().epoch)));
        hand.claims.extend(held.adopted);
        hand.finishes.extend(held.unreadable);
    }

    /// Reads, and acts on what is hurt; only there may bytes be unreadable.
    async fn look(&mut self) {
        fine(self.orch.stats().await);
        if let Some(id) = self.anybody() {
            let priority = [Priority::P0, Priority::P3][self.rng.random_range(0..2)];
            let told = self.orch.set_priority(id, priority).await;
            let fair = matches!(told, Ok(_) | Err(Error::Conflict { .. }));
            assert!(fair || self.hurt.contains(&id), "the priority of a healthy task: {told:?}");
            let reply = self.orch.get(id).await;
            assert!(reply.is_ok() || self.hurt.contains(&id), "a healthy task cannot be read: {reply:?}");
        }
        let hurt: Vec<TaskId> = self.hurt.iter().copied().collect();
        if let Some(id) = hurt.choose(&mut self.rng) {
            self.log.say(format!("cancel and revive {id}"));
            let (id, priority) = (*id, [Priority::P0, Priority::P3][self.rng.random_range(0..2)]);
            let _ = self.orch.set_priority(id, priority).await;
            let _ = self.orch.cancel(id).await;
            if self.rng.random_bool(0.3) {
                let _ = self.orch.retry(id).await;
            }
        }
    }

    // The end.

    /// The events of healthy tasks are numbered from 1 without a gap.
    async fn listen(&mut self) {
        let mut last: BTreeMap<TaskId, u32> = BTreeMap::new();
        for event in read_events(&mut self.raw, &self.base, "-").await.1 {
            if event.number == 0 {
                // No change of state.
                continue;
            }
            let before = last.insert(event.task_id, event.number).unwrap_or(0);
            let healthy = self.healthy.contains(&event.task_id);
            assert!(!healthy || event.number == before + 1, "{event:?} comes after number {before}");
        }
        for id in &self.healthy {
            assert!(last.contains_key(id), "no event tells of {id}");
        }
    }

    /// Where a task is, for the story of a fault.
    async fn places(&mut self, id: TaskId) -> Vec<String> {
        let mut places = Vec::new();
        for key in self.keys("*").await {
            let members = self.members(&key).await;
            let id = id_bytes(id);
            if members.iter().any(|member| member.windows(14).any(|part| part == id)) {
                places.push(key[self.base.len()..].escape_ascii().to_string());
            }
        }
        places
    }

    /// Ends all that is healthy, within bounds; returns how many things were set aside.
    pub(crate) async fn drain(&mut self) -> usize {
        for worker in 0..LIVES {
            self.reborn(worker).await;
        }
        let mut left = self.healthy.clone();
        for _ in 0..ROUNDS_MAX {
            self.time_passes(40_000).await;
            let life = self.hands[0].life.clone();
            if fine(life.beat(&[], &[]).await).is_none() {
                self.reborn(0).await;
                continue;
            }
            tokio::time::sleep(Duration::from_micros(1_100)).await;
            self.time_passes(2).await;
            fine(life.rescue().await);
            fine(life.tick().await);
            fine(life.unshelve(&TYPES.map(String::from)).await);
            for n in 0.. {
                assert!(n < 100, "a worker goes round in circles");
                while !self.hands[0].claims.is_empty() {
                    self.end_one(0);
                }
                if !self.step(0, 50).await {
                    break;
                }
            }
            for id in left.clone() {
                let task =
                    self.orch.get(id).await.unwrap_or_else(|error| panic!("a healthy task cannot be read: {error}"));
                if task.status.is_terminal() {
                    left.remove(&id);
                    assert_ne!(task.status, Status::Cancelled, "{id}: nobody asked for that");
                    assert_ne!(task.reason.as_deref(), Some("malformed"), "{id} was not touched");
                }
            }
        }
        for id in &left {
            let places = self.places(*id).await;
            self.log.say(format!("{id} is in {places:?}"));
        }
        assert!(left.is_empty(), "healthy tasks that did not end: {left:?}");
        if !self.deaf {
            self.listen().await;
        }
        for id in self.hurt.clone() {
            let _ = self.orch.cancel(id).await;
        }
        self.keys_are_free().await;
        let keys = self.keys("*").await;
        for key in &keys {
            let name = &key[self.base.len()..];
            let right: String = self.ask("TYPE", &[key]).await;
            match (name[0], name.get(1), right.as_str()) {
                // A record that looks sound may name a queue that nobody serves.
                (b'r', Some(b':'), "zset") if !QUEUES.iter().any(|queue| name[2..] == *queue.as_bytes()) => {}
                (b'r', Some(b':'), "zset") => panic!("{} is not empty", name.escape_ascii()),
                (b'z' | b'P' | b'y', None, "zset") => {
                    let now = self.now.to_string().into_bytes();
                    let due: u64 = self.ask("ZCOUNT", &[key, b"-inf", &now]).await;
                    assert_eq!(due, 0, "timers that do not fire");
                }
                (b't', _, "hash") => {
                    let ids = self.members(key).await;
                    let healthy: Vec<&Vec<u8>> =
                        ids.iter().filter(|id| read_id(id).is_some_and(|id| self.healthy.contains(&id))).collect();
                    assert!(healthy.is_empty(), "records of tasks that have ended: {healthy:?}");
                }
                _ => {}
            }
        }
        let aside = fine(self.orch.stats().await).map_or(0, |stats| stats.set_aside) as usize;
        let _: i64 = self.ask("UNLINK", &keys.iter().map(Vec::as_slice).collect::<Vec<_>>()).await;
        aside + keys.iter().filter(|key| key[self.base.len()..].starts_with(b"bad:")).count()
    }
}
