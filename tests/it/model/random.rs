//! What happens next, at random.

use std::collections::BTreeSet;

use orchestrator::{OnViolation, Priority, TaskId, Terms, Ticket};
use rand::Rng;
use rand::seq::IndexedRandom;

use super::bytes::make_id;
use super::hands::{Holding, Sent};
use super::outputs;
use super::reference::{Asked, BUCKET, Place};
use super::waits;
use super::world::{QUEUES, World};

pub(crate) const TYPES: [&str; 3] = ["x", "y", "z"];
/// Of which tasks are to be the only ones.
pub(crate) const KEYS: [&str; 2] = ["k", "a longer key"];
/// Live tasks above which no more are submitted.
const LIVE_MAX: usize = 60;

/// A finish, and whose claim it ended.
pub(crate) type Owned = (usize, Sent);

impl World {
    /// One operation.
    pub(crate) async fn act(&mut self) {
        let acting: Vec<usize> = (0..self.hands.len()).filter(|worker| self.hands[*worker].alive).collect();
        let Some(worker) = acting.choose(&mut self.rng).copied().filter(|_| acting.len() > 2) else {
            self.join(&queues_all()).await;
            return;
        };
        let crowded = self.model.live().count() > LIVE_MAX;
        match self.rng.random_range(0..1372) {
            0..170 if !crowded => self.submit().await,
            170..200 => self.submit_again().await,
            200..202 => self.bulk(worker).await,
            202..260 => self.beat(worker).await,
            260..310 => self.give_up(worker).await,
            310..345 => self.give_back(worker).await,
            345..375 => self.lay_aside(worker).await,
            375..405 => {
                let types = self.some_of(&TYPES);
                self.unshelve(worker, &types).await;
            }
            405..460 => {
                let id = self.any_task();
                self.cancel(id).await;
                if self.model.tasks.get(&id).is_some_and(|entry| entry.cancel) {
                    // Once more, now that it is asked to stop.
                    self.cancel(id).await;
                }
                self.get(id).await;
            }
            460..500 => {
                let id = self.any_task();
                self.revive(id).await;
                self.get(id).await;
            }
            1110..1145 => self.hold_outside().await,
            1145..1213 => self.report_outside().await,
            1213..1220 => self.fall_silent().await,
            1220..1250 => self.reprioritise().await,
            1250..1262 => self.bury().await,
            1262..1327 => self.see_to_schedules(worker).await,
            1327..1372 => self.see_to_output().await,
            877..912 => self.person_acts().await,
            912..962 => self.wait(worker).await,
            962..992 => self.jot(worker).await,
            992..1022 => self.publish().await,
            1022..1034 => self.hush().await,
            1034..1038 => self.cut_stream().await,
            500..512 => {
                let queue = QUEUES[self.rng.random_range(0..3)];
                self.pause(queue, true).await;
            }
            512..545 => {
                let queue = QUEUES[self.rng.random_range(0..3)];
                self.pause(queue, false).await;
            }
            545..600 => {
                self.tick(worker).await;
                if self.rng.random_bool(0.6) {
                    self.fire_due().await;
                }
            }
            600..690 => self.time_passes().await,
            690..700 if acting.len() < 7 => drop(self.join(&queues_all()).await),
            700..708 => {
                self.log.say(format!("w{worker} crashes"));
                self.hands[worker].alive = false;
            }
            708..716 => self.retire(worker).await,
            716..744 => self.watch(worker).await,
            744..774 => self.lose_a_reply(worker).await,
            774..834 => self.misbehave().await,
            834..837 => {
                self.log.say("the server loses its scripts".into());
                redis::cmd("SCRIPT").arg("FLUSH").query_async::<()>(&mut self.raw).await.expect("a reply");
            }
            837..857 => {
                let queues = self.some_of(&QUEUES);
                let Some(token) = self.ring(worker, &queues).await else { return };
                match self.rng.random_range(0..10) {
                    0 => {
                        self.log.say(format!("w{worker} crashes with the token in its hand"));
                        self.hands[worker].alive = false;
                    }
                    1 | 2 => self.put_back(worker, token).await,
                    _ => {
                        self.work(worker, &queues, Some(&token)).await;
                        if !self.hands[worker].alive {
                            self.put_back(worker, token).await;
                        }
                    }
                }
            }
            857..877 => {
                let id = self.any_task();
                self.get(id).await;
            }
            _ => {
                let queues = self.some_of(&QUEUES);
                self.work(worker, &queues, None).await;
            }
        }
    }

    /// Some of these in any order.
    pub(crate) fn some_of(&mut self, all: &[&str]) -> Vec<String> {
        let n = self.rng.random_range(1..=all.len());
        let mut some: Vec<String> = all.choose_multiple(&mut self.rng, n).map(|name| (*name).to_owned()).collect();
        if self.rng.random_bool(0.03) {
            // Named twice.
            some.push(some[0].clone());
        }
        some
    }

    /// A task in any state, or one that never was.
    pub(crate) fn any_task(&mut self) -> TaskId {
        let live = self.rng.random_bool(0.6);
        let ids: Vec<TaskId> = match self.rng.random_range(0..20) {
            0 => vec![make_id(self.model.now, self.rng.random())],
            1 => self.made.iter().map(|asked| asked.id).collect(),
            _ => self.model.tasks.values().filter(|e| e.status().is_terminal() != live).map(|e| e.asked.id).collect(),
        };
        let nobody = make_id(self.model.now, self.rng.random());
        ids.choose(&mut self.rng).copied().unwrap_or(nobody)
    }

    /// A task to be submitted, with an id of the submitter's choice.
    fn ask(&mut self) -> Asked {
        let now = self.model.now;
        let created = match self.rng.random_range(0..40) {
            0 => now - 60_000 - self.rng.random_range(0..3),
            1..=4 => now - self.rng.random_range(0..60_000),
            5..=8 => now + self.rng.random_range(0..50_000),
            _ => now - self.rng.random_range(0..3),
        };
        let due = if self.rng.random_bool(0.25) { now + self.rng.random_range(30_000..400_000) } else { 0 };
        let parent = self.rng.random_bool(0.1).then(|| self.any_task());
        let gate = self.rng.random_bool(0.15).then(|| self.terms());
        let clocked = self.rng.random_bool(if gate.is_some() { 0.5 } else { 0.2 });
        let asked = Asked {
            id: make_id(created, self.rng.random()),
            queue: QUEUES[self.rng.random_range(0..3)].into(),
            task_type: TYPES[self.rng.random_range(0..3)].into(),
            priority: self.priority(),
            payload: self.rng.random_range(0..1 << 40),
            max_retries: self.rng.random_range(0..=5),
            parent,
            due,
            gate,
            promise: clocked.then(|| self.promise()),
            requested_by: self.rng.random_bool(0.5).then(|| self.anybody()),
            expires: if self.rng.random_bool(0.25) { due.max(now) + self.rng.random_range(6_000..80_000) } else { 0 },
            unique: if self.rng.random_bool(0.25) {
                Some((KEYS[self.rng.random_range(0..2)], self.rng.random_bool(0.5)))
            } else {
                None
            },
        };
        self.made.push(asked.clone());
        asked
    }

    pub(crate) fn priority(&mut self) -> Priority {
        [Priority::P0, Priority::P1, Priority::P2, Priority::P3][self.rng.random_range(0..4)]
    }

    async fn submit(&mut self) {
        let n = if self.rng.random_bool(0.6) { 1 } else { self.rng.random_range(2..6) };
        let mut tasks: Vec<Asked> = (0..n).map(|_| self.ask()).collect();
        if self.rng.random_bool(0.01) {
            tasks.push(tasks[0].clone());
        }
        if self.rng.random_bool(0.01) {
            tasks[0].id = make_id(self.model.now + 3_600_000, self.rng.random());
        }
        self.enqueue(&tasks).await;
        self.get(tasks[0].id).await;
    }

    /// A task that was made before comes once more, as it was or otherwise, alone or with a new one.
    async fn submit_again(&mut self) {
        let from = self.made.len().saturating_sub(20);
        let Some(mut asked) = self.made[from..].choose(&mut self.rng).cloned() else { return };
        if self.rng.random_bool(0.5) {
            asked.priority = Priority::P0;
            asked.payload += 1;
            asked.queue = QUEUES[self.rng.random_range(0..3)].into();
        }
        let id = asked.id;
        if id.created_at_ms() > self.model.now + 55_000 {
            // Since the clock stepped back; too near to what the client refuses by its own idea of the time.
            return;
        }
        // A scheduled instant must lie well ahead: the client's own idea of the time decides whether it is past.
        if asked.due > 0 && asked.due < self.model.now + 30_000 {
            asked.due = 0;
        }
        if asked.expires > 0 && asked.expires < asked.due.max(self.model.now) + 6_000 {
            asked.expires = 0;
        }
        let tasks = if self.rng.random_bool(0.3) { vec![self.ask(), asked] } else { vec![asked] };
        self.enqueue(&tasks).await;
        self.get(id).await;
    }

    /// More at once than one call of a script moves.
    async fn bulk(&mut self, worker: usize) {
        let mut tasks: Vec<Asked> = (0..130).map(|_| self.ask()).collect();
        let due = if self.rng.random_bool(0.3) { self.model.now + 40_000 } else { 0 };
        let gate = self.rng.random_bool(0.2).then(|| Terms { expires_ms: Some(40_000), ..Terms::default() });
        let expires = if due == 0 && self.rng.random_bool(0.3) { self.model.now + 40_000 } else { 0 };
        for asked in &mut tasks {
            asked.queue = "a".into();
            asked.task_type = "x".into();
            asked.due = due;
            asked.gate = gate.clone();
            asked.promise = None;
            (asked.expires, asked.unique) = (expires, None);
            asked.id = make_id(self.model.now, self.rng.random());
        }
        self.enqueue(&tasks).await;
        if due > 0 || gate.is_some() || expires > 0 && self.rng.random_bool(0.5) {
            self.set_time(self.model.now + 40_000).await;
            return self.tick(worker).await;
        }
        let claims = self.step(worker, None, &[], 256, &["a".into()], None).await;
        self.give(worker, claims);
        self.check().await;
        match self.rng.random_range(0..3) {
            0 => self.hands[worker].alive = false,
            1 => {
                let all: Vec<Ticket> = self.hands[worker].claims.iter().map(Holding::ticket).collect();
                while !self.hands[worker].claims.is_empty() {
                    let holding = self.hands[worker].take(0);
                    self.hands[worker].dismiss(holding);
                }
                self.release(worker, None, &all).await;
            }
            _ => {
                while !self.hands[worker].claims.is_empty() {
                    let holding = self.hands[worker].take(0);
                    self.shelve(worker, None, &holding).await;
                    self.hands[worker].dismiss(holding);
                }
            }
        }
    }

    /// Finishes for some of what a worker holds.
    pub(crate) fn ends(&mut self, worker: usize) -> Vec<Sent> {
        let mut sent = Vec::new();
        let eager = self.rng.random_range(0.0..0.9);
        for at in (0..self.hands[worker].claims.len()).rev() {
            if self.rng.random_bool(eager) {
                let holding = self.hands[worker].take(at);
                let end = self.finish(holding);
                self.keep((worker, end.clone()));
                sent.push(end);
            }
        }
        sent
    }

    pub(crate) fn keep(&mut self, owned: Owned) {
        self.sent.push_back(owned);
        if self.sent.len() > 30 {
            self.sent.pop_front();
        }
    }

    pub(crate) fn want(&mut self) -> usize {
        if self.rng.random_bool(0.15) { 0 } else { self.rng.random_range(1..8) }
    }

    async fn work(&mut self, worker: usize, queues: &[String], woken: Option<&str>) {
        let sent = self.ends(worker);
        let want = if woken.is_some() { self.rng.random_range(1..4) } else { self.want() };
        let claims = self.step(worker, None, &sent, want, queues, woken).await;
        let claimed = claims.iter().flatten().map(Holding::ticket).next();
        self.give(worker, claims);
        if let Some(id) = claimed.map(|ticket| ticket.id).or(sent.first().map(|(_, fin)| fin.ticket.id)) {
            self.get(id).await;
        }
    }

    pub(crate) fn take_any(&mut self, worker: usize) -> Option<Holding> {
        let n = self.hands[worker].claims.len();
        (n > 0).then(|| self.rng.random_range(0..n)).map(|at| self.hands[worker].take(at))
    }

    async fn give_up(&mut self, worker: usize) {
        let Some(holding) = self.take_any(worker) else { return };
        let delay = [0, 1, 500, 30_000, 4_000_000][self.rng.random_range(0..5)];
        self.retry(worker, None, &holding, delay).await;
        if self.rng.random_bool(0.1) && self.hands[worker].alive {
            self.retry(worker, None, &holding, delay).await;
        }
        self.get(holding.ticket().id).await;
        self.hands[worker].dismiss(holding);
    }

    async fn lay_aside(&mut self, worker: usize) {
        // At best one that its clock raises.
        let raises = |holding: &Holding| {
            let clock = self.model.tasks.get(&holding.ticket().id).and_then(|entry| entry.clock.as_ref());
            clock.is_some_and(|clock| matches!(clock.action, OnViolation::Raise | OnViolation::Escalate(_)))
        };
        let at = self.hands[worker].claims.iter().position(raises).filter(|_| self.rng.random_bool(0.5));
        let raised = at.map(|at| self.hands[worker].take(at));
        let Some(holding) = raised.or_else(|| self.take_any(worker)) else { return };
        self.shelve(worker, None, &holding).await;
        if self.rng.random_bool(0.1) && self.hands[worker].alive {
            self.shelve(worker, None, &holding).await;
        }
        let id = holding.ticket().id;
        self.get(id).await;
        self.hands[worker].dismiss(holding);
        let shelved = self.model.tasks.get(&id).filter(|entry| matches!(entry.place, Place::Shelf { .. }));
        let ends = shelved.and_then(|entry| entry.clock.as_ref()?.ends);
        if let Some(ends) = ends {
            // Its clock runs out there.
            self.set_time(ends.max(self.model.now)).await;
            self.tick(worker).await;
            self.give_priority(id).await;
        }
    }

    async fn give_back(&mut self, worker: usize) {
        let mut tickets = Vec::new();
        for _ in 0..self.rng.random_range(1..4) {
            let Some(holding) = self.take_any(worker) else { continue };
            tickets.push(holding.ticket());
            self.hands[worker].dismiss(holding);
        }
        if self.rng.random_bool(0.1) {
            tickets.extend(tickets.first().copied());
        }
        self.release(worker, None, &tickets).await;
        if let Some(ticket) = tickets.first() {
            self.get(ticket.id).await;
        }
    }

    /// Leaves, most times with empty hands.
    async fn retire(&mut self, worker: usize) {
        if self.rng.random_bool(0.7) {
            let mut sent = Vec::new();
            while let Some(holding) = self.take_any(worker) {
                sent.push(self.finish(holding));
            }
            self.step(worker, None, &sent, 0, &[], None).await;
        }
        self.leave(worker).await;
    }

    async fn time_passes(&mut self) {
        let now = self.model.now;
        let edge = (now / BUCKET + 1) * BUCKET;
        let then = match self.rng.random_range(0..100) {
            0..35 => now + self.rng.random_range(0..4),
            35..55 => now + self.rng.random_range(4..2_000),
            55..65 => now + self.rng.random_range(2_000..100_000),
            65..80 => now + self.model.next_due().unwrap_or(1),
            80..85 => now + self.model.next_due().unwrap_or(1).saturating_sub(1),
            85..93 => now - self.rng.random_range(0..5_000),
            // To the edge of a bucket, so that small steps cross it to and fro.
            93..96 => edge - self.rng.random_range(0..3),
            96..99 => now + self.rng.random_range(1..5) * 3_600_000,
            _ if self.rng.random_bool(0.7) => now + self.model.limits.retention + self.rng.random_range(0..2 * BUCKET),
            _ => now + self.model.limits.dead_retention + self.rng.random_range(0..2 * BUCKET),
        };
        self.set_time(then).await;
    }

    /// Looks for the silent: a beat, some time, and a rescue.
    async fn watch(&mut self, worker: usize) {
        if self.rng.random_bool(0.8) {
            self.beat(worker).await;
            let then = self.model.now + self.rng.random_range(0..6);
            if self.rng.random_bool(0.3) {
                // Somebody shows up in between.
                let n = self.hands.len();
                let other = self.rng.random_range(n.saturating_sub(6)..n);
                if self.hands[other].alive {
                    self.beat(other).await;
                }
            }
            self.set_time(then).await;
        }
        self.rescue(worker).await;
    }

    /// Everything comes to an end: the workers die, a last one does all that is left, and time passes over it.
    pub(crate) async fn drain(&mut self) {
        for worker in 0..self.hands.len() {
            self.hands[worker].alive = false;
        }
        let all = queues_all();
        let last = self.join(&all).await;
        for queue in &all {
            self.pause(queue, false).await;
        }
        self.sights.clear();
        for name in self.model.schedules.plans.keys().cloned().collect::<Vec<_>>() {
            self.remove_schedule(&name).await;
        }
        self.first_sends().await;
        while self.model.live().next().is_some()
            || self.model.workers.iter().filter(|(_, life)| life.lease.is_some()).count() > 1
        {
            let mut timers: Vec<u64> = self.model.timers().iter().map(|(due, _)| *due).collect();
            timers.extend(self.model.waits().iter().map(|(over, _)| *over));
            let leases = self.model.workers.iter().filter_map(|(_, life)| life.lease);
            let then = timers.into_iter().chain(leases).chain([self.model.now]).max().expect("an instant");
            self.set_time(then + 1).await;
            self.beat(last).await;
            self.rescue(last).await;
            self.tick(last).await;
            self.unshelve(last, &TYPES.map(String::from)).await;
            let claims = self.step(last, None, &[], 256, &all, None).await;
            self.give(last, claims);
            let mut ends = Vec::new();
            while let Some(holding) = self.take_any(last) {
                ends.push(self.finish(holding));
            }
            self.step(last, None, &ends, 0, &[], None).await;
        }
        self.leave(last).await;
        self.check().await;
        waits::expiring(&mut self.raw, &self.base, &self.model).await;
        outputs::expiring(&mut self.raw, &self.base, &self.model).await;
        self.hear_all().await;
        self.proven().await;
        self.all_ended().await;
        self.set_time(self.model.now + self.model.limits.dead_retention + 3 * BUCKET).await;
        while !(self.model.buckets.is_empty() && self.model.slices.is_empty()) {
            self.tick(last).await;
        }
        self.check().await;
        let kinds: BTreeSet<u8> = self.kinds().await;
        // The order that was agreed upon, names of queues, wake tokens, events, the clock, the handler table, lines of children that the server lets
        // expire by itself, starts reported by workers that died before they could report the end, and what is kept of
        // decisions (the audit begins like an approval), journals, outputs, reports and names of events until it expires. The
        // ids of events told of late go when the next one is told. Of workers and queues nothing is left but the order that
        // was agreed upon.
        let unexpected: Vec<char> =
            kinds.iter().filter(|kind| !b"gqkenhcsajHRvxp".contains(kind)).map(|k| char::from(*k)).collect();
        assert!(unexpected.is_empty(), "keys of the kinds {unexpected:?} are left");
    }
}

fn queues_all() -> Vec<String> {
    QUEUES.map(String::from).to_vec()
}
