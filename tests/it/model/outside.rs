//! Agents outside: what they may take by its id, what they say of it, and what each of those calls answers.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};
use std::time::Duration;

use orchestrator::{
    Answer, ApprovalId, ApprovalStatus, Cause, Decision, Entry, HoldToken, LetGo, Noted, Status, TaskId, Ticket,
    digest, hash_bytes, payload_hash,
};
use rand::Rng;
use rand::seq::IndexedRandom;
use serde_json::json;

use super::bytes::slice;
use super::outputs::{Piece, Sending};
use super::parked::{Question, Waiting};
use super::reference::{BUCKET, Ending, Fin, Life, Place, Reference};
use super::world::{World, aside, kind};

/// From here on the numbers of agents outside; below are those of workers.
pub(crate) const OUTSIDE: usize = 1 << 32;
/// Lease of a task that is taken only to be ended, in milliseconds.
const SHORTEST: u64 = 5_000;
const LEASES: [u64; 6] = [SHORTEST, SHORTEST + 1, 8_000, 90_000, 3_600_000, 24 * 3_600_000];
const AGENTS: [&str; 3] = ["ann", "bob the builder", "h:eve"];
/// Grips that are kept.
const KEPT: usize = 40;

/// Lives by their number.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    workers: Vec<Life>,
    outside: Vec<Life>,
}

impl Lives {
    /// Adds a worker's.
    pub(crate) fn add(&mut self, life: Life) -> usize {
        self.workers.push(life);
        self.workers.len() - 1
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Life)> {
        self.workers.iter().enumerate().chain((OUTSIDE..).zip(&self.outside))
    }

    /// The number of an agent with a task.
    fn of(&mut self, agent: &str, id: TaskId) -> usize {
        let name = format!("h:{id}:{agent}");
        let known = self.outside.iter().position(|life| life.name == name);
        OUTSIDE
            + known.unwrap_or_else(|| {
                self.outside.push(Life { name, length: 0, generation: None, lease: None, notes: BTreeMap::new() });
                self.outside.len() - 1
            })
    }
}

impl Index<usize> for Lives {
    type Output = Life;

    fn index(&self, life: usize) -> &Life {
        if life < OUTSIDE { &self.workers[life] } else { &self.outside[life - OUTSIDE] }
    }
}

impl IndexMut<usize> for Lives {
    fn index_mut(&mut self, life: usize) -> &mut Life {
        if life < OUTSIDE { &mut self.workers[life] } else { &mut self.outside[life - OUTSIDE] }
    }
}

/// Whose claim with which generation, and the claim.
type Claimed = ((usize, u64), Ticket);

/// What an agent was given.
#[derive(Clone, Debug)]
pub(crate) struct Grip {
    id: TaskId,
    agent: &'static str,
    token: HoldToken,
    epoch: u32,
}

/// Epoch and secret of a token.
fn parts(token: HoldToken) -> (u32, u64) {
    let text = token.to_string();
    let (epoch, secret) = text.split_once('-').expect("two halves");
    (u32::from_str_radix(epoch, 16).expect("an epoch"), u64::from_str_radix(secret, 16).expect("a secret"))
}

/// How far a task is, as its journal keeps it.
pub(crate) fn progress_bytes((fraction, note): &(f64, String)) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Told<'n> {
        p: f64,
        #[serde(skip_serializing_if = "str::is_empty")]
        n: &'n str,
    }
    rmp_serde::to_vec_named(&Told { p: *fraction, n: note }).expect("a number and a text")
}

impl Reference {
    /// What a claim of this task answers.
    fn holdable(&self, worker: usize, id: TaskId) -> &'static str {
        let Some(entry) = self.known(id) else { return "unknown" };
        match entry.place {
            Place::Ended { .. } => "ended",
            Place::Held { worker: present } if present == worker => "mine",
            Place::Held { .. } => "running",
            Place::Parked { .. } => "parked",
            Place::Timer { .. } => "pending",
            _ if self.paused.contains(&entry.asked.queue) => "paused",
            _ => "held",
        }
    }

    /// The same, and what is too late to be begun ends.
    fn try_to_hold(&mut self, worker: usize, id: TaskId) -> &'static str {
        match self.holdable(worker, id) {
            "held" if self.has_expired(id) => {
                self.lapse(id);
                self.meet("a task expired instead of being taken by an agent outside", "ended")
            }
            word => word,
        }
    }

    /// An agent has the task now, or still.
    fn take(&mut self, worker: usize, id: TaskId, secret: u64, lease: u64) {
        let (now, place) = (self.now, self.tasks[&id].place.clone());
        if place == (Place::Held { worker }) {
            assert_eq!(self.workers[worker].generation, Some(secret), "one hold has one secret");
            self.meet("an agent outside held on", ());
        } else {
            self.buckets.insert(now / BUCKET);
            if matches!(place, Place::Shelf { .. }) {
                self.walk(id, Cause::Unshelve, Place::Ready { at: now });
                self.slices.insert(slice(id));
                self.meet("an agent outside took a task from the shelf", ());
            }
            self.begins_in_time(id);
            self.walk(id, Cause::Claim, Place::Held { worker });
            self.started.insert(id, (now, worker));
            self.workers[worker].generation = Some(secret);
            self.meet("an agent outside took a task", ());
        }
        self.workers[worker].lease = Some(now + lease);
    }

    /// Its claim, if the agent has the task: at this epoch, if it proves one.
    fn grip(&mut self, worker: usize, id: TaskId, epoch: Option<u32>) -> Result<Claimed, &'static str> {
        let Some(entry) = self.known(id) else { return Err(self.unknown(id)) };
        let ticket = entry.ticket();
        if entry.place != (Place::Held { worker }) || epoch.is_some_and(|epoch| epoch != ticket.epoch) {
            return Err(self.meet("an agent outside had not got the task", "Conflict"));
        }
        assert_eq!(self.started[&id].1, worker, "who has begun {id}");
        Ok(((worker, self.workers[worker].generation.expect("a secret")), ticket))
    }

    /// Whether a hold of this epoch has ended so.
    fn ended_at(&self, id: TaskId, epoch: Option<u32>, end: Status) -> bool {
        let ended = self.known(id).filter(|entry| entry.status() == end && end.is_terminal());
        ended.is_some_and(|entry| Some(entry.epoch) == epoch.map(|epoch| epoch + 1))
    }

    /// The agent's claim; else what the call answers. Without a proof a task is taken for it.
    fn grip_to_end(
        &mut self,
        worker: usize,
        id: TaskId,
        epoch: Option<u32>,
        end: Status,
    ) -> Result<Option<Claimed>, &'static str> {
        match (self.grip(worker, id, epoch), epoch) {
            (Err("Conflict"), Some(_)) if self.ended_at(id, epoch, end) => Ok(self.meet("an end was said again", None)),
            (Err("Conflict"), None) if self.try_to_hold(worker, id) == "held" => {
                self.take(worker, id, 0, SHORTEST);
                self.meet("an agent outside took a task and ended it at once", ());
                self.grip(worker, id, None).map(Some)
            }
            (grip, _) => grip.map(Some),
        }
    }

    fn end_outside(&mut self, seat: (usize, u64), ticket: Ticket, cause: Cause, ending: Ending) {
        let started = self.started[&ticket.id].0;
        let ending = Ending { started_after: Some(started.saturating_sub(ticket.id.created_at_ms())), ..ending };
        let reply = self.step(seat, &[Fin { ticket, cause, ending, tells: Vec::new() }], 0, &[], None);
        assert_eq!(reply.expect("a lease").stale, [], "an end by whoever has the task");
        assert_eq!(self.leave(seat.0, &[ticket.id]), 0);
    }
}

impl World {
    /// An agent outside claims a task by its id.
    pub(crate) async fn hold_outside(&mut self) {
        let mut id = self.any_task();
        if self.rng.random_bool(0.6) {
            let waits = |place: &Place| matches!(place, Place::Ready { .. } | Place::Shelf { .. } | Place::Held { .. });
            let some: Vec<TaskId> = self.model.live().filter(|e| waits(&e.place)).map(|e| e.asked.id).collect();
            id = some.choose(&mut self.rng).copied().unwrap_or(id);
        }
        let mut agent = AGENTS[self.rng.random_range(0..AGENTS.len())];
        if self.rng.random_bool(0.25) {
            // Whoever had it, or has it.
            let before = self.grips.make_contiguous().choose(&mut self.rng);
            (id, agent) = before.map_or((id, agent), |grip| (grip.id, grip.agent));
        }
        let lease = LEASES[self.rng.random_range(0..LEASES.len())];
        let worker = self.model.workers.of(agent, id);
        let (name, word) = (self.name(id), self.model.try_to_hold(worker, id));
        self.log.say(format!("{agent} takes {name} for {lease} ms: {word}"));
        let reply = self.orch.hold(agent, id, Duration::from_millis(lease)).await;
        let says = match word {
            "held" | "mine" => "",
            "ended" => "has ended",
            "parked" => "is blocked",
            "paused" => "is paused",
            "pending" => "is pending",
            "running" => "in other hands",
            _ => "not found",
        };
        if !says.is_empty() {
            assert_eq!(kind(&reply), Err(if word == "unknown" { "NotFound" } else { "Conflict" }), "{reply:?}");
            let error = reply.expect_err("a refusal").to_string();
            assert!(word == "unknown" || error.contains(says), "{word}: {error}");
            return self.model.meet("an agent outside could not take a task", ());
        }
        let mut hold = reply.unwrap_or_else(|error| panic!("{name} should be {word}: {error}"));
        let (epoch, secret) = parts(hold.token);
        self.model.take(worker, id, secret, lease);
        assert_eq!(epoch, self.model.tasks[&id].epoch, "the epoch of a token");
        assert_eq!(hold.expires_at.timestamp_millis() as u64, self.model.now + lease, "the end of a lease");
        self.get(id).await;
        let mut task = self.orch.get(id).await.expect("the task");
        // These the claim does not tell.
        (task.sla_clock, hold.task.sla_clock) = (None, None);
        (task.progress, hold.task.progress) = (None, None);
        (task.progress_note, hold.task.progress_note) = (None, None);
        assert_eq!(hold.task, task, "what an agent is told of its task");
        self.grips.push_back(Grip { id, agent, token: hold.token, epoch });
        if self.grips.len() > KEPT {
            self.grips.pop_front();
        }
        let asked = |entry: &Entry| matches!(entry.noted, Noted::Asked { .. });
        if self.model.journals.get(&id).is_some_and(|journal| journal.entries.values().any(asked)) {
            // It goes on where it has asked.
            let holder = self.orch.holder(agent, id, Some(hold.token));
            self.ask_outside(&holder, (worker, id, Some(epoch))).await;
        }
    }

    /// An agent outside says something of a task that it was given, and may have no more.
    pub(crate) async fn report_outside(&mut self) {
        let holds = |grip: &&Grip| {
            let entry = self.model.tasks.get(&grip.id);
            entry.is_some_and(|e| {
                e.epoch == grip.epoch && matches!(e.place, Place::Held { worker } if worker >= OUTSIDE)
            })
        };
        let let_go = |grip: &&Grip| self.model.tasks.get(&grip.id).is_some_and(|entry| entry.epoch == grip.epoch + 1);
        let present: Vec<Grip> = self.grips.iter().filter(holds).cloned().collect();
        let past: Vec<Grip> = self.grips.iter().filter(let_go).cloned().collect();
        let among = match self.rng.random_range(0..20) {
            0..14 => present,
            14..18 => past,
            _ => self.grips.iter().cloned().collect(),
        };
        let Some(mut grip) = among.choose(&mut self.rng).cloned() else { return };
        if self.rng.random_bool(0.05) {
            grip.agent = AGENTS[self.rng.random_range(0..AGENTS.len())];
        }
        let token = self.rng.random_bool(0.85).then_some(grip.token);
        let epoch = token.map(|_| grip.epoch);
        let (id, worker) = (grip.id, self.model.workers.of(grip.agent, grip.id));
        let holder = self.orch.holder(grip.agent, id, token);
        let name = self.name(id);
        self.log.say(format!("{} at {epoch:?} says of {name}:", grip.agent));
        let lease = LEASES[self.rng.random_range(0..LEASES.len())];
        let span = Duration::from_millis(lease);
        let n = self.rng.random_range(0..1000u64);
        match self.rng.random_range(0..15) {
            0 | 1 => {
                let expected = self.model.grip(worker, id, epoch);
                self.log.say(format!("    renewed for {lease} ms: {expected:?}"));
                let reply = holder.renew(span).await;
                assert_eq!(kind(&reply), expected.map(drop), "{reply:?}");
                if let Ok(renewed) = reply {
                    self.renewed(worker, id, lease, &renewed);
                }
            }
            2..=4 => {
                let progress = (n as f64 / 1000.0, if n % 3 == 0 { String::new() } else { format!("note {n}") });
                let expected = self.model.grip(worker, id, epoch);
                self.log.say(format!("    progress {progress:?} for {lease} ms: {expected:?}"));
                let reply = aside(holder.progress(progress.0, &progress.1, span)).await;
                assert_eq!(kind(&reply), expected.map(drop), "{reply:?}");
                if let Ok(renewed) = reply {
                    self.renewed(worker, id, lease, &renewed);
                    self.model.journals.entry(id).or_default().progress = Some(progress);
                    self.model.tasks.get_mut(&id).expect("a task").journal = true;
                    self.hear_of(&[id], "task.progress", grip.agent).await;
                    self.model.meet("an agent outside told how far it was", ());
                }
            }
            5..=7 => {
                let expected = self.model.grip_to_end(worker, id, epoch, Status::Completed);
                self.log.say(format!("    completed with {n}: {expected:?}"));
                let reply = holder.complete(json!(n)).await;
                assert_eq!(kind(&reply), expected.map(drop), "{reply:?}");
                if expected == Ok(None) {
                    self.model.leave(worker, &[id]);
                }
                if let Ok(Some((seat, ticket))) = expected {
                    self.model.end_outside(
                        seat,
                        ticket,
                        Cause::Complete,
                        Ending { result: Some(n), ..Ending::default() },
                    );
                }
            }
            8 | 9 => {
                // Few texts, so that a failure is said again.
                let (retryable, error) = (self.rng.random_bool(0.6), format!("no {}", n % 2));
                let delay = [0, 1, 500, 30_000][self.rng.random_range(0..4)];
                for _ in 0..self.rng.random_range(1..3) {
                    self.fail_outside(&holder, (worker, id, epoch), retryable, &error, delay).await;
                }
            }
            13.. => self.put_out_outside(&holder, (worker, id, epoch), lease).await,
            10 => {
                let expected = self.model.grip(worker, id, epoch);
                self.log.say(format!("    released: {expected:?}"));
                let reply = holder.release().await;
                assert_eq!(kind(&reply), expected.map(drop), "{reply:?}");
                if let Ok((seat, ticket)) = expected {
                    assert_eq!(self.model.release(seat, &[ticket]), Some(Vec::new()));
                    self.model.leave(worker, &[id]);
                    assert_eq!(reply.ok(), Some(self.model.tasks[&id].status()));
                }
            }
            _ => self.ask_outside(&holder, (worker, id, epoch)).await,
        }
        self.get(id).await;
    }

    /// It puts something out, under few keys, so that one is sent again.
    async fn put_out_outside(
        &mut self,
        holder: &orchestrator::Holder,
        (worker, id, epoch): (usize, TaskId, Option<u32>),
        lease: u64,
    ) {
        let key = ["first", "second"][self.rng.random_range(0..2)];
        let expected = self.model.grip(worker, id, epoch);
        self.log.say(format!("    `{key}` put out for {lease} ms: {expected:?}"));
        let reply = holder.put_out(key.into(), Some(key), Duration::from_millis(lease)).await;
        assert_eq!(kind(&reply), expected.map(drop), "{reply:?}");
        let (Ok((seat, ticket)), Ok((renewed, number))) = (expected, reply) else { return };
        let entry = &self.model.tasks[&id];
        let piece = Piece {
            attempt: entry.attempts + entry.crashes + 1,
            epoch: ticket.epoch,
            name: digest(key.as_bytes()),
            chunks: vec![key.into()],
        };
        let sending = Sending { piece, at: 0, lost: 0 };
        let (told, _) = self.model.put_out(seat, ticket, &sending).expect("a task in its hands");
        assert_eq!(number, told, "the number of what was put out");
        self.renewed(worker, id, lease, &renewed);
        self.model.meet("an agent outside put something out", ());
    }

    fn renewed(&mut self, worker: usize, id: TaskId, lease: u64, renewed: &orchestrator::Renewed) {
        let ends = self.model.now + lease;
        self.model.workers[worker].lease = Some(ends);
        assert_eq!(renewed.expires_at.timestamp_millis() as u64, ends, "the end of a lease");
        assert_eq!(renewed.cancel_requested, self.model.tasks[&id].cancel, "whether {id} is to be stopped");
    }

    async fn fail_outside(
        &mut self,
        holder: &orchestrator::Holder,
        (worker, id, epoch): (usize, TaskId, Option<u32>),
        retryable: bool,
        error: &str,
        delay: u64,
    ) {
        let mut expected = self.model.grip_to_end(worker, id, epoch, Status::Failed);
        let mut status = Status::Failed;
        let again = self.model.known(id).is_some_and(|entry| {
            let follows = !entry.status().is_terminal() && Some(entry.epoch) == epoch.map(|epoch| epoch + 1);
            follows && entry.error.as_deref() == Some(error)
        });
        if expected == Err("Conflict") && retryable && again {
            (expected, status) = (Ok(None), Status::Pending);
            self.model.meet("an attempt that had failed was said to again", ());
        }
        self.log.say(format!("    failed with `{error}`, to be retried: {retryable}, after {delay} ms: {expected:?}"));
        let reply = holder.fail(error, retryable, Some(Duration::from_millis(delay))).await;
        assert_eq!(kind(&reply), expected.map(drop), "{reply:?}");
        let Ok(grip) = expected else { return };
        if grip.is_none() {
            self.model.leave(worker, &[id]);
        }
        if let Some((seat, ticket)) = grip {
            let entry = &self.model.tasks[&id];
            if retryable && entry.attempts < u32::from(entry.asked.max_retries) {
                let outcome = self.model.retry(seat, ticket, delay, error, true).expect("a lease");
                status = if outcome == LetGo::Cancelled { Status::Cancelled } else { Status::Pending };
                self.model.leave(worker, &[id]);
            } else {
                let reason = Some(if retryable { "retries" } else { "fatal" });
                let ending = Ending { reason, error: Some(error.into()), ..Ending::default() };
                self.model.end_outside(seat, ticket, Cause::Fail, ending);
            }
        }
        assert_eq!(reply.ok(), Some(status), "what has become of {id}");
    }

    async fn ask_outside(&mut self, holder: &orchestrator::Holder, (worker, id, epoch): (usize, TaskId, Option<u32>)) {
        let mut name = ["q1", "q2", "s1"][self.rng.random_range(0..3)];
        let form = if self.rng.random_bool(0.3) { vec!["n".to_owned()] } else { Vec::new() };
        let (terms, mut shown) = (self.terms(), json!({"plan": self.rng.random_range(0..2)}));
        if self.rng.random_bool(0.7) {
            // The same as before, if something was asked.
            for (asked, plan) in
                ["q1", "q2"].into_iter().flat_map(|name| (0..3).map(move |plan| (name, json!({"plan": plan}))))
            {
                let entry = self.model.journals.get(&id).and_then(|journal| journal.entries.get(asked));
                let is_it = |noted: &Noted| matches!(noted, Noted::Asked { hash, .. } if *hash == hash_bytes(&payload_hash(&plan)));
                if entry.is_some_and(|entry| is_it(&entry.noted)) {
                    (name, shown) = (asked, plan);
                }
            }
        }
        let grip = self.model.grip(worker, id, epoch);
        let hash = payload_hash(&shown);
        let journal = self.model.journals.get(&id);
        let before = journal.and_then(|journal| journal.entries.get(name)).map(|entry| entry.noted.clone());
        let order = 1 + journal.map_or(0, |journal| journal.entries.len()) as u16;
        let asked = |noted: &Noted| match noted {
            Noted::Asked { number, status, hash: shown, .. } => Some((*number, *status, *shown == hash_bytes(&hash))),
            _ => None,
        };
        let is_taken = before.as_ref().is_some_and(|noted| asked(noted).is_none());
        let open = [ApprovalStatus::Pending, ApprovalStatus::Cancelled];
        let decided = before.as_ref().and_then(asked).filter(|(_, status, same)| *same && !open.contains(status));
        let reply = holder.ask(name, "Really?", shown, form.clone(), terms.clone()).await;
        self.log.say(format!("    asked at {name}, {decided:?}, taken: {is_taken}: {grip:?}"));
        let (seat, ticket) = match grip {
            Ok(grip) if !is_taken => grip,
            refused => {
                let expected = refused.and(Err::<(), _>("Conflict"));
                return assert_eq!(kind(&reply), expected, "{reply:?}");
            }
        };
        if let Some((number, status, _)) = decided {
            let Ok(Answer::Decided { approval, status: told, by, .. }) = &reply else { panic!("{reply:?}") };
            assert_eq!((*approval, *told), (ApprovalId { task: id, number }, status));
            if let Some((_, decision)) = self.model.approvals.get(&(id, number)).and_then(|a| a.decision.clone()) {
                assert_eq!(*by, decision.who, "who decided");
            }
            return self.model.meet("an agent outside heard the decision", ());
        }
        let own = self.model.tasks[&id].asked.requested_by.clone().unwrap_or_default();
        let noted = Noted::Asked {
            number: 0,
            status: ApprovalStatus::Pending,
            hash: hash_bytes(&hash),
            decision: Decision::default(),
        };
        let entry = Entry { order, side_by_side: false, code: 0, digest: [0; 8], noted };
        let asker = self.model.workers[worker].name.splitn(3, ':').last().unwrap_or_default().to_owned();
        let question = Question { terms, own, asker, hash, due: 0, form };
        let outcome = self.model.park(seat, ticket, &Waiting::Person(name.into(), entry, question), &[]);
        match outcome.expect("a lease") {
            None => assert_eq!(kind(&reply), Err("Invalid"), "a full journal: {reply:?}"),
            Some(outcome) => {
                self.model.leave(worker, &[id]);
                let number = self.model.journals.get(&id).map_or(0, |journal| journal.asked);
                match outcome {
                    LetGo::Done => assert_eq!(reply.ok(), Some(Answer::Asked(ApprovalId { task: id, number }))),
                    _ => assert_eq!(kind(&reply), Err("Conflict"), "{reply:?}"),
                }
            }
        }
    }

    /// The lease of an agent outside ends, and somebody who has just come looks around.
    pub(crate) async fn fall_silent(&mut self) {
        let leases = self.model.workers.iter().filter(|(life, _)| *life >= OUTSIDE).filter_map(|(_, life)| life.lease);
        let Some(first) = leases.min() else { return };
        let then = first.max(self.model.now) + self.rng.random_range(0..2);
        self.set_time(then).await;
        let worker = self.join(&[]).await;
        self.beat(worker).await;
        let before = self.model.workers.iter().filter(|(life, l)| *life >= OUTSIDE && l.lease.is_some()).count();
        self.rescue(worker).await;
        let after = self.model.workers.iter().filter(|(life, l)| *life >= OUTSIDE && l.lease.is_some()).count();
        if after < before {
            self.model.meet("an agent outside fell silent", ());
        }
        self.log.say(format!("w{worker} crashes"));
        self.hands[worker].alive = false;
    }
}
