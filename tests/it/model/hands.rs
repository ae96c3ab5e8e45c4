//! Workers: what each believes, and its calls.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use orchestrator::{
    Cause, Claim, Doorbell, Error, Finish, Incarnation, LetGo, Offer, Result, SNOOZE_MIN, Stepped, TaskId, Ticket,
    Wake, encode_value,
};
use rand::Rng;

use super::reference::{Ending, Fin};
use super::world::{URGENT, World, kind};

/// A claim in a worker's hands, and when it was told of it.
#[derive(Debug)]
pub(crate) struct Holding {
    pub(crate) claim: Claim,
    at: u64,
}

impl Holding {
    pub(crate) fn ticket(&self) -> Ticket {
        self.claim.ticket()
    }

    /// The same claim once more.
    pub(crate) fn twin(&self) -> Self {
        Self { claim: self.claim.duplicate_for_tests(), at: self.at }
    }
}

/// A finish and what the model knows of it.
pub(crate) type Sent = (Finish, Fin);

/// Somebody's lease in the eyes of another.
#[derive(Clone, Debug)]
struct Watched {
    other: usize,
    lease: u64,
    /// It is over by the monotonic clock not before the first of these, and from the second on.
    over: (Instant, Instant),
}

/// Who has not looked for so long does not know whether a lease stood still.
const BLIND: Duration = Duration::from_secs(1);
/// Further apart than two instants that could be mistaken for one another.
const APART: Duration = Duration::from_millis(50);
/// Leases that a beat tells of.
const OLDEST: usize = 16;

/// A worker process: what it believes.
#[derive(Debug)]
pub(crate) struct Hand {
    pub(crate) life: Incarnation,
    /// Still acting; else it crashed, left, or learnt that its lease was lost.
    pub(crate) alive: bool,
    pub(crate) claims: Vec<Holding>,
    /// Claims that it has let go of, for calls that come twice or too late.
    pub(crate) past: VecDeque<Holding>,
    begun: Vec<(TaskId, u64)>,
    left: Vec<TaskId>,
    /// Leases of others as of its last beat.
    watch: Vec<Watched>,
    /// Between which instants it looked last.
    looked: (Instant, Instant),
    bell: Option<Doorbell>,
}

impl Hand {
    pub(crate) fn dismiss(&mut self, holding: Holding) {
        self.past.push_back(holding);
        if self.past.len() > 8 {
            self.past.pop_front();
        }
    }

    /// Takes a claim out of its hands.
    pub(crate) fn take(&mut self, at: usize) -> Holding {
        let holding = self.claims.remove(at);
        let id = holding.ticket().id;
        match self.begun.iter().position(|(begun, _)| *begun == id) {
            Some(at) => drop(self.begun.remove(at)),
            None => self.left.push(id),
        }
        holding
    }

    pub(crate) fn generation(&self) -> u64 {
        self.life.generation()
    }
}

impl World {
    // What workers do.

    pub(crate) async fn join(&mut self, queues: &[String]) -> usize {
        let lease = self.rng.random_range(1..=3);
        let offers: Vec<Offer> = queues
            .iter()
            .map(|queue| Offer { task_type: format!("of.{queue}"), queue: queue.clone(), ..Offer::default() })
            .collect();
        let before = Instant::now();
        let life = Incarnation::join(&self.orch, queues, &offers, Duration::from_millis(lease)).await.expect("a life");
        let worker = self.model.join(life.name(), lease, queues);
        self.log.say(format!("w{worker} joins with a lease of {lease} ms"));
        self.hands.push(Hand {
            life,
            alive: true,
            claims: Vec::new(),
            past: VecDeque::new(),
            begun: Vec::new(),
            left: Vec::new(),
            watch: Vec::new(),
            looked: (before, Instant::now()),
            bell: None,
        });
        assert_eq!(self.hands.len(), worker + 1);
        worker
    }

    /// The caller's view of a life: the present one, or what a delayed call of an older generation sees.
    pub(crate) fn seat(&self, worker: usize, generation: Option<u64>) -> (Incarnation, (usize, u64)) {
        let life = &self.hands[worker].life;
        match generation {
            Some(generation) => (life.at_generation(generation), (worker, generation)),
            None => (life.clone(), (worker, life.generation())),
        }
    }

    /// Notes that a worker was told that its lease is lost.
    pub(crate) fn lost(&mut self, worker: usize, generation: Option<u64>) {
        if generation.is_none() {
            self.dead(worker);
        }
    }

    pub(crate) fn dead(&mut self, worker: usize) {
        let hand = &mut self.hands[worker];
        hand.alive = false;
        hand.bell = None;
        let claims = std::mem::take(&mut hand.claims);
        claims.into_iter().for_each(|holding| hand.dismiss(holding));
    }

    /// Chooses an end for a claim.
    pub(crate) fn finish(&mut self, holding: Holding) -> Sent {
        let ticket = holding.ticket();
        let started_after = Some(holding.at.saturating_sub(ticket.id.created_at_ms()));
        let n = self.rng.random_range(0..1000);
        let (tellings, tells) = self.tells(&holding);
        let (finish, cause, ending) = match self.rng.random_range(0..12) {
            10 | 11 => {
                let (reason, cause) = match n % 2 {
                    0 => ("rejected", Cause::Reject),
                    _ => ("timeout", Cause::Expire),
                };
                let error = format!("nobody wanted {n}");
                let finish = holding.claim.rejected(reason, &error);
                (finish, cause, Ending { reason: Some(reason), error: Some(error), ..Ending::default() })
            }
            0..=2 => {
                let error = format!("no {n}");
                let finish = holding.claim.fail("fatal", &error);
                (finish, Cause::Fail, Ending { reason: Some("fatal"), error: Some(error), ..Ending::default() })
            }
            3 => (holding.claim.cancelled(), Cause::Cancel, Ending { reason: Some("request"), ..Ending::default() }),
            _ => {
                let finish = holding.claim.complete(&encode_value("result", &n, 100).expect("a small number"));
                (finish, Cause::Complete, Ending { result: Some(n), ..Ending::default() })
            }
        };
        (finish.telling(tellings), Fin { ticket, cause, ending: Ending { started_after, ..ending }, tells })
    }

    pub(crate) async fn step(
        &mut self,
        worker: usize,
        generation: Option<u64>,
        sent: &[Sent],
        want: usize,
        queues: &[String],
        woken: Option<&str>,
    ) -> Option<Vec<Holding>> {
        let (life, seat) = self.seat(worker, generation);
        let (finishes, fins): (Vec<Finish>, Vec<Fin>) = sent.iter().cloned().unzip();
        let tickets: Vec<Ticket> = fins.iter().map(|fin| fin.ticket).collect();
        let names = self.names(&tickets);
        self.log.say(format!("w{worker} at {}: step {names}, wants {want} of {queues:?}, woken {woken:?}", seat.1));
        let expected = self.model.step(seat, &fins, want, queues, woken);
        let reply = life.step(&finishes, want, queues, woken).await;
        self.hear().await;
        assert_eq!(kind(&reply).is_ok(), expected.is_some(), "reply to a step: {reply:?}");
        let (Ok(stepped), Some(expected)) = (reply, expected) else {
            self.lost(worker, generation);
            return None;
        };
        let Stepped { claims, stale, unreadable, due, again } = stepped;
        let claimed: Vec<Ticket> = claims.iter().map(|claim| claim.ticket()).collect();
        let names = self.names(&claimed);
        self.log.say(format!("    claimed {names}"));
        assert_eq!(claimed, expected.claims, "claims: should be {}", self.names(&expected.claims.clone()));
        assert_eq!(stale, expected.stale, "stale finishes: should be {}", self.names(&expected.stale.clone()));
        assert_eq!(due, expected.due.map(Duration::from_millis), "time until the next timer");
        assert_eq!((again, unreadable.len()), (expected.again, 0));
        for ticket in &claimed {
            self.model.begins_in_time(ticket.id);
        }
        Some(claims.into_iter().map(|claim| self.hold(claim)).collect())
    }

    /// Checks what a claim says.
    fn hold(&mut self, claim: Claim) -> Holding {
        let entry = &self.model.tasks[&claim.ticket().id];
        let asked = &entry.asked;
        assert_eq!((claim.queue(), claim.task_type()), (asked.queue.as_str(), asked.task_type.as_str()));
        assert_eq!((claim.priority(), claim.max_retries()), (entry.priority, asked.max_retries));
        assert_eq!((claim.has_passed_its_gate(), claim.has_journal()), (entry.passed, entry.journal));
        assert_eq!(claim.requested_by(), asked.requested_by.as_deref());
        assert_eq!((claim.failures(), claim.attempt()), (entry.attempts, entry.attempts + entry.crashes + 1));
        assert_eq!(claim.payload_as::<u64>().expect("a number"), asked.payload);
        Holding { claim, at: self.model.now }
    }

    /// Puts claims into a worker's hands.
    pub(crate) fn give(&mut self, worker: usize, claims: Option<Vec<Holding>>) {
        let hand = &mut self.hands[worker];
        for holding in claims.into_iter().flatten() {
            hand.left.retain(|id| *id != holding.ticket().id);
            hand.begun.push((holding.ticket().id, holding.at));
            hand.claims.push(holding);
        }
    }

    pub(crate) async fn beat(&mut self, worker: usize) {
        self.log.say(format!("w{worker} beats"));
        let hand = &mut self.hands[worker];
        let (begun, left) = (std::mem::take(&mut hand.begun), std::mem::take(&mut hand.left));
        let life = hand.life.clone();
        let expected = self.model.beat(worker, &begun, &left);
        let before = Instant::now();
        let reply = life.beat(&begun, &left).await;
        let looked = (before, Instant::now());
        match (reply, expected) {
            (Ok(beaten), Some((due, shelf))) => {
                assert_eq!((beaten.due, beaten.shelf), (due.map(Duration::from_millis), shelf), "reply to a beat");
                self.see(worker, looked);
            }
            (Err(Error::LeaseLost), None) => self.dead(worker),
            (reply, expected) => panic!("reply to a beat: {reply:?}, should be {expected:?}"),
        }
    }

    /// What a worker sees of the leases of others: one that has not changed is over when it was to be before.
    fn see(&mut self, worker: usize, looked: (Instant, Instant)) {
        let now = self.model.now;
        let there = self.model.workers.iter().filter_map(|(other, life)| Some((life.lease?, &life.name, other)));
        let oldest: BTreeSet<_> = there.collect();
        let hand = &mut self.hands[worker];
        let is_blind = looked.0 - hand.looked.1 > BLIND;
        let may_be_blind = looked.1 - hand.looked.0 > BLIND;
        let known = std::mem::take(&mut hand.watch);
        let own = hand.life.lease();
        hand.looked = looked;
        let others = oldest.into_iter().take(OLDEST).filter(|(.., other)| *other != worker);
        hand.watch = others
            .map(|(lease, _, other)| {
                let wait = own.max(Duration::from_millis(lease.saturating_sub(now)));
                let anew = (looked.0 + wait, looked.1 + wait);
                let before = known.iter().find(|watched| (watched.other, watched.lease) == (other, lease));
                let over = match before.filter(|_| !is_blind) {
                    Some(before) if may_be_blind => (before.over.0, anew.1),
                    Some(before) => before.over,
                    None => anew,
                };
                Watched { other, lease, over }
            })
            .collect();
    }

    /// Takes back the tasks of those whose leases stood still for as long as they were to last.
    pub(crate) async fn rescue(&mut self, worker: usize) {
        let hand = &mut self.hands[worker];
        let life = hand.life.clone();
        let soon = |watched: &&Watched| watched.over.1 > Instant::now() && watched.over.0 < Instant::now() + APART;
        while let Some(at) = hand.watch.iter().filter(soon).map(|watched| watched.over.1).max() {
            tokio::time::sleep_until((at + Duration::from_micros(100)).into()).await;
        }
        let now = Instant::now();
        let (over, still): (Vec<_>, Vec<_>) =
            std::mem::take(&mut hand.watch).into_iter().partition(|watched| watched.over.1 <= now);
        hand.watch = still;
        let expected: usize = over.iter().map(|watched| self.model.rescue(watched.other, watched.lease)).sum();
        let others: Vec<_> = over.iter().map(|watched| (watched.other, watched.lease)).collect();
        self.log.say(format!("w{worker} rescues {expected} tasks of the workers {others:?}"));
        assert_eq!(life.rescue().await.expect("a reply"), expected, "tasks rescued");
    }

    pub(crate) async fn tick(&mut self, worker: usize) {
        self.log.say(format!("w{worker} ticks"));
        let expected = self.model.tick().map(Duration::from_millis);
        let life = self.hands[worker].life.clone();
        assert_eq!(life.tick().await.expect("a reply"), expected, "time until the next timer");
        self.names_go_with_their_events().await;
    }

    pub(crate) async fn unshelve(&mut self, worker: usize, task_types: &[String]) {
        self.log.say(format!("w{worker} unshelves {task_types:?}"));
        self.model.unshelve(task_types);
        let life = self.hands[worker].life.clone();
        life.unshelve(task_types).await.expect("a reply");
    }

    pub(crate) async fn retry(&mut self, worker: usize, generation: Option<u64>, holding: &Holding, delay: u64) {
        let counts = !self.rng.random_bool(0.3);
        let n = self.rng.random_range(0..1000);
        let error = format!("not yet {n}");
        let (life, seat) = self.seat(worker, generation);
        let names = self.names(&[holding.ticket()]);
        self.log.say(format!("w{worker} at {}: retry {names} after {delay} ms, counts: {counts}", seat.1));
        let shortest = if counts { 0 } else { SNOOZE_MIN.as_millis() as u64 };
        let expected = self.model.retry(seat, holding.ticket(), delay.max(shortest), &error, counts);
        let delay = Duration::from_millis(delay);
        let reply = match counts {
            true => life.retry(&holding.claim, delay, &error).await,
            false => life.snooze(&holding.claim, delay, &error).await,
        };
        self.let_go(worker, generation, &reply, expected);
    }

    pub(crate) async fn shelve(&mut self, worker: usize, generation: Option<u64>, holding: &Holding) {
        let (life, seat) = self.seat(worker, generation);
        let names = self.names(&[holding.ticket()]);
        self.log.say(format!("w{worker} at {}: shelve {names}", seat.1));
        let expected = self.model.shelve(seat, holding.ticket());
        let reply = life.shelve(&holding.claim).await;
        self.let_go(worker, generation, &reply, expected);
    }

    pub(crate) fn let_go(
        &mut self,
        worker: usize,
        generation: Option<u64>,
        reply: &Result<LetGo>,
        expected: Option<LetGo>,
    ) {
        assert_eq!(kind(reply), expected.map(drop).ok_or("LeaseLost"), "{reply:?}");
        assert_eq!(reply.as_ref().ok(), expected.as_ref());
        if expected.is_none() {
            self.lost(worker, generation);
        }
    }

    pub(crate) async fn release(&mut self, worker: usize, generation: Option<u64>, tickets: &[Ticket]) {
        let (life, seat) = self.seat(worker, generation);
        let names = self.names(tickets);
        self.log.say(format!("w{worker} at {}: release {names}", seat.1));
        let expected = self.model.release(seat, tickets);
        let reply = life.release(tickets).await;
        assert_eq!(kind(&reply), expected.as_ref().map(drop).ok_or("LeaseLost"), "{reply:?}");
        assert_eq!(reply.ok(), expected, "stale tickets");
        if expected.is_none() {
            self.lost(worker, generation);
        }
    }

    /// Asks what the worker holds, and takes over what it did not know of; `late` is to be sent once more.
    pub(crate) async fn reconcile(&mut self, worker: usize, generation: Option<u64>, late: &[Sent]) {
        let (life, seat) = self.seat(worker, generation);
        let tickets =
            self.hands[worker].claims.iter().map(Holding::ticket).chain(late.iter().map(|(_, fin)| fin.ticket));
        let known: BTreeSet<(TaskId, u32)> = tickets.map(|ticket| (ticket.id, ticket.epoch)).collect();
        self.log.say(format!("w{worker} at {}: reconcile", seat.1));
        let expected = self.model.reconcile(seat);
        let reply = life.reconcile(|ticket| known.contains(&(ticket.id, ticket.epoch))).await;
        let (mut held, expected) = match (reply, expected) {
            (Ok(held), Some(expected)) => (held, expected),
            (Err(Error::LeaseLost), None) => return self.lost(worker, generation),
            (reply, expected) => panic!("reply to reconcile: {reply:?}, should be {expected:?}"),
        };
        // Redis tells them in no order, and what follows must depend on the seed alone.
        held.adopted.sort_by_key(|claim| claim.ticket().id);
        let sorted = |tickets: &[Ticket]| tickets.iter().map(|t| (t.id, t.epoch)).collect::<BTreeSet<_>>();
        let (tickets, expected) = (sorted(&held.tickets), sorted(&expected));
        assert_eq!(tickets, expected, "tickets held");
        assert_eq!(held.tickets.len(), expected.len(), "tickets told twice");
        let adopted: Vec<Ticket> = held.adopted.iter().map(|claim| claim.ticket()).collect();
        assert_eq!(sorted(&adopted), expected.difference(&known).copied().collect(), "claims adopted");
        assert!(held.unreadable.is_empty());
        let names = self.names(&adopted);
        self.log.say(format!("    adopted {names}"));
        if generation.is_none() {
            let claims = held.adopted.into_iter().map(|claim| self.hold(claim)).collect();
            self.give(worker, Some(claims));
        }
    }

    pub(crate) async fn leave(&mut self, worker: usize) {
        let hand = &self.hands[worker];
        let reported: Vec<TaskId> =
            hand.left.iter().copied().chain(hand.claims.iter().map(|h| h.ticket().id)).collect();
        self.log.say(format!("w{worker} leaves"));
        let expected = self.model.leave(worker, &reported);
        let reply = hand.life.leave(&reported).await.expect("a reply");
        assert_eq!(reply, expected as u64, "tasks still held at leaving");
        self.dead(worker);
    }

    /// Waits at the bell, if something is there; `Some` names the queue whose token was taken.
    pub(crate) async fn ring(&mut self, worker: usize, queues: &[String]) -> Option<String> {
        let notes = &mut self.model.workers[worker].notes;
        let note = notes.iter().map(|(id, urgency)| (*urgency, *id)).min();
        note.map(|(_, id)| notes.remove(&id));
        let mut look = redis::pipe();
        for queue in queues {
            look.exists(format!("{}k:{queue}", self.base));
        }
        let there: Vec<bool> = look.query_async(&mut self.raw).await.expect("the tokens");
        let token =
            queues.iter().zip(there).find(|(_, there)| *there && note.is_none()).map(|(queue, _)| queue.clone());
        let expected = match (note, &token) {
            (Some((0, id)), _) => Wake::Cancel(id),
            (Some((urgency, id)), _) => Wake::CancelWithin(id, Duration::from_millis((urgency + URGENT) as u64)),
            (None, Some(queue)) => Wake::Work(queue.clone()),
            (None, None) => return None,
        };
        self.log.say(format!("w{worker} is woken: {expected:?}"));
        self.model.owed.extend(token.iter().map(|queue| (worker, queue.clone())));
        let hand = &mut self.hands[worker];
        let bell = hand.bell.get_or_insert_with(|| hand.life.doorbell()).clone();
        let wake = bell.wait(queues, Duration::from_secs(20)).await.expect("a wait");
        assert_eq!(wake, Some(expected), "what woke a worker");
        token
    }

    pub(crate) async fn put_back(&mut self, worker: usize, queue: String) {
        self.log.say(format!("w{worker} puts the token of {queue} back"));
        self.hands[worker].life.doorbell().put_back(&queue).await.expect("a reply");
        self.model.owed.remove(&(worker, queue));
    }
}
