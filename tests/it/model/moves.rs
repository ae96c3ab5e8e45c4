//! How the model changes: each call of a client or a worker, and what it answers.

use std::collections::{BTreeMap, BTreeSet};

use orchestrator::{Cause, LetGo, Status, TRANSITIONS, TaskId, Ticket, next};

use super::bytes::slice;
use super::clock::Clock;
use super::expiring::Expiry;
use super::outside::OUTSIDE;
use super::parked::{APPROVAL_TIMEOUT, Question};
use super::reference::{
    Asked, BUCKET, CRASHES, Ending, Entry, Fin, Life, Place, Reference, Refusal, SEND_WINDOW, SWEEP, StepReply,
};

/// What became of a task that was called off.
#[derive(Debug, PartialEq)]
pub(crate) enum Off {
    Ended,
    Asked,
}

impl Reference {
    // Telling.

    pub(crate) fn tell(&mut self, id: TaskId, event: &'static str) {
        self.told.push((id, event, 0, None));
    }

    pub(crate) fn tell_of(&mut self, id: TaskId, number: u16, event: &'static str) {
        self.told.push((id, event, 0, Some(number)));
    }

    /// One call that moves parked tasks tells all that it did in one entry: changes of state first, in their order, then
    /// approvals, then clocks.
    pub(crate) fn seal(&mut self, mark: usize) {
        self.told[mark..].sort_by_key(|(_, event, number, _)| match *event {
            event if event.starts_with("sla.") => u32::MAX,
            event if event.starts_with("approval.") => u32::MAX - 1,
            _ => *number,
        });
    }

    /// One change of a task's state is told, unless the task is quiet.
    fn tell_change(&mut self, id: TaskId, event: &'static str, number: u32) {
        if self.tasks[&id].quiet {
            return self.meet("a quiet task changed", ());
        }
        self.told.push((id, event, number, None));
    }

    // Moving, by the table.

    /// Counts a move, which the table must allow.
    fn count(&mut self, from: Option<Status>, cause: Cause, to: Status) {
        let row = TRANSITIONS.iter().position(|row| *row == (from, cause, to));
        self.walked[row.unwrap_or_else(|| panic!("the table does not lead from {from:?} by {cause:?} to {to}"))] += 1;
    }

    /// Moves a task; the numbers rise as the cause says.
    pub(crate) fn walk(&mut self, id: TaskId, cause: Cause, place: Place) {
        let entry = self.tasks.get_mut(&id).expect("a known task");
        let gated = entry.gated;
        let from = entry.status();
        let leaves_worker = matches!(entry.place, Place::Held { .. });
        entry.place = place;
        let to = entry.status();
        self.count(Some(from), cause, to);
        if matches!(cause, Cause::Retry | Cause::Release | Cause::Rescue | Cause::Shelve) {
            self.waits_to_begin(id);
        }
        let entry = self.tasks.get_mut(&id).expect("a known task");
        match cause {
            Cause::Claim => {
                let number = entry.changes + 1;
                self.tell_change(id, "task.started", number);
                self.unlock(id, b's');
                return self.turn(id, b'm');
            }
            Cause::Promote | Cause::Unshelve | Cause::Resume | Cause::Postpone => entry.changes += 1,
            _ => {
                entry.epoch += 1;
                entry.changes += 1 + u32::from(leaves_worker);
            }
        }
        let event = match cause {
            Cause::Promote => "task.assigned",
            Cause::Resume if gated => "task.assigned",
            Cause::Resume => "task.resumed",
            Cause::Postpone => "task.scheduled",
            Cause::Park => "task.blocked",
            Cause::Complete => "task.completed",
            Cause::Fail | Cause::Poison | Cause::Lapse => "task.failed",
            Cause::Cancel | Cause::Reject | Cause::Expire => "task.cancelled",
            Cause::Retry => "task.retrying",
            Cause::Release => "task.released",
            Cause::Shelve => "task.shelved",
            Cause::Unshelve => "task.unshelved",
            Cause::Rescue => "task.rescued",
            Cause::Revive => "task.revived",
            other => panic!("{other:?} moves no task that is there"),
        };
        let (number, person) = (entry.changes, matches!(entry.place, Place::Parked { approval: Some(_), .. }));
        self.tell_change(id, event, number);
        match (cause, to) {
            (Cause::Promote | Cause::Unshelve | Cause::Revive, _) => {}
            (_, Status::Completed) => self.stop(id, b'c'),
            (_, Status::Failed) => self.stop(id, b'f'),
            (_, Status::Cancelled) => self.stop(id, b'x'),
            _ => self.turn(id, if person { b'h' } else { b'q' }),
        }
        if to.is_terminal() {
            self.unlock(id, b'd');
            if self.tasks[&id].journal {
                self.journals.get_mut(&id).expect("a journal").expires = true;
            }
        }
    }

    pub(crate) fn make_ready(&mut self, id: TaskId, cause: Cause, at: u64) {
        self.walk(id, cause, Place::Ready { at });
        self.queues.insert(self.tasks[&id].asked.queue.clone());
        self.slices.insert(slice(id));
    }

    pub(crate) fn end(&mut self, id: TaskId, cause: Cause, ending: Ending) {
        self.let_on(id);
        self.tell_readers(id);
        self.close_output(id);
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
                self.journals.remove(&oldest);
                self.meet("a dead letter was pushed out", ());
            }
        }
    }

    pub(crate) fn forget(&mut self, id: TaskId) {
        self.tasks.remove(&id);
        self.gone.push(id);
    }

    fn cancel_asked(&self, id: TaskId) -> bool {
        self.tasks[&id].cancel
    }

    // What clients do.

    /// Tasks of one queue, all or none; returns those for which another is there, and which.
    pub(crate) fn enqueue(&mut self, tasks: &[Asked]) -> Result<BTreeMap<TaskId, TaskId>, Refusal> {
        let created = tasks.iter().map(|asked| asked.id.created_at_ms()).min().expect("a task");
        if self.now > created + SEND_WINDOW {
            return Err(self.meet("a send came too late", Refusal::Late));
        }
        let mut fresh: Vec<&Asked> = tasks.iter().filter(|asked| self.known(asked.id).is_none()).collect();
        let again = fresh.len() < tasks.len();
        let others = self.others(&fresh);
        fresh.retain(|asked| !others.contains_key(&asked.id));
        let queue = &tasks[0].queue;
        if !fresh.is_empty() && self.ready(queue).len() + fresh.len() > self.limits.queue_max {
            return Err(self.meet("a queue was full", Refusal::Full));
        }
        let n = fresh.len();
        let fresh: Vec<Asked> = fresh.into_iter().cloned().collect();
        if again {
            self.meet("a task was sent again", ());
        }
        for asked in fresh {
            self.store_new(asked, "", false);
        }
        if n > 0 {
            self.queues.insert(queue.clone());
        }
        Ok(others)
    }

    /// A task that nobody knows yet; at its gate somebody asks, by the name of `asker`. Of a schedule whose ticks may wait it
    /// is `followed`.
    pub(crate) fn store_new(&mut self, asked: Asked, asker: &str, followed: bool) {
        if let Some((_, digest)) = asked.lock() {
            self.locks.insert(digest, asked.id);
        }
        let question = asked.gate.as_ref().map(|terms| asked.question(terms, asked.due));
        let question = question.map(|question| Question { asker: asker.into(), ..question });
        let (cause, place) = match (&question, asked.due) {
            (Some(question), _) => {
                let wait = question.terms.expires_ms.unwrap_or(APPROVAL_TIMEOUT);
                (Cause::Ask, Place::Parked { approval: Some(0), over: self.now + wait, event: false })
            }
            (None, 0) => (Cause::Enqueue, Place::Ready { at: self.now }),
            (None, due) => (Cause::Schedule, Place::Timer { due }),
        };
        let id = asked.id;
        let clock = asked.promise.as_ref().map(|promise| {
            Clock::begin(promise, id.created_at_ms(), asked.due, self.now, question.is_some(), &asked.task_type)
        });
        let entry = Entry {
            priority: asked.priority,
            gated: question.is_some(),
            passed: false,
            followed,
            vocal: false,
            awaited: false,
            quiet: self.quiet.get(&asked.queue).copied().unwrap_or(false),
            journal: false,
            expiry: (asked.expires > 0).then_some(Expiry { at: asked.expires, waits: true }),
            going: false,
            clock,
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
        self.count(None, cause, entry.status());
        self.tasks.insert(id, entry);
        self.slices.insert(slice(id));
        self.tell_change(id, "task.created", 1);
        if let Some(question) = question {
            self.tasks.get_mut(&id).expect("a task").changes = 2;
            self.tell_change(id, "task.blocked", 2);
            self.ask(id, 0, &question, "");
        }
        let parent = self.tasks[&id].asked.parent;
        if let Some(line) = parent.map(|parent| self.children.entry(parent).or_default()) {
            // One that was forgotten may come once more.
            if line.last() != Some(&id) {
                line.push(id);
            }
        }
    }

    /// What a request to cancel answers: the status, or the kind of error.
    pub(crate) fn cancel(&mut self, id: TaskId, urgency: i64) -> Result<Status, &'static str> {
        let Some(entry) = self.known(id) else { return Err(self.unknown(id)) };
        let status = entry.status();
        match next(Some(status), Cause::Cancel) {
            None if status == Status::Cancelled => Ok(Status::Cancelled),
            None => Err(self.meet("a finished task was to be cancelled", "Conflict")),
            Some(to) => {
                let mark = self.told.len();
                let off = self.call_off(id, Ending::by_request(), urgency);
                self.seal(mark);
                Ok(if off == Off::Ended { to } else { Status::InProgress })
            }
        }
    }

    /// Ends a task that nobody runs, or asks its worker to stop, as urgently as that.
    pub(crate) fn call_off(&mut self, id: TaskId, ending: Ending, urgency: i64) -> Off {
        match self.tasks[&id].place {
            Place::Held { worker } => {
                self.tasks.get_mut(&id).expect("a task").cancel = true;
                let note = self.workers[worker].notes.entry(id).or_insert(urgency);
                if urgency < std::mem::replace(note, urgency.min(*note)) {
                    self.meet("a note became more urgent", ());
                }
                if urgency < 0 {
                    self.meet("a running task was to be cancelled within a time", ());
                }
                return Off::Asked;
            }
            Place::Parked { approval: Some(number), .. } => self.withdraw(id, number, "the task was cancelled"),
            Place::Parked { event: true, .. } => {
                self.unwait(id);
                self.meet("a wait for an event was called off", ());
            }
            _ => {}
        }
        self.end(id, Cause::Cancel, ending);
        Off::Ended
    }

    /// A manual retry.
    pub(crate) fn revive(&mut self, id: TaskId) -> Result<(), &'static str> {
        let Some(entry) = self.known(id) else { return Err(self.unknown(id)) };
        if next(Some(entry.status()), Cause::Revive).is_none() {
            return Err(self.meet("a task that had not failed was to be retried", "Conflict"));
        }
        if entry.gated {
            return Err(self.meet("a task that never passed its gate was to be retried", "Conflict"));
        }
        if let Some((_, digest)) = entry.asked.lock() {
            if self.locks.contains_key(&digest) {
                return Err(self.meet("a manual retry found its key taken", "Conflict"));
            }
            self.locks.insert(digest, id);
            self.meet("a task was revived with its key", ());
        }
        self.dead.retain(|(_, dead)| *dead != id);
        let entry = self.tasks.get_mut(&id).expect("a task");
        (entry.expiry, entry.going, entry.awaited, entry.vocal) = (None, false, false, false);
        // Ticks may wait for it only since it has ended.
        entry.followed |= self.schedules.followed.contains_key(&id);
        (entry.attempts, entry.crashes, entry.cancel) = (0, 0, false);
        // What was promised was for the life that has ended.
        entry.clock = None;
        if entry.journal {
            self.reopen(id);
        }
        self.make_ready(id, Cause::Revive, self.now);
        self.retried(id);
        Ok(())
    }

    pub(crate) fn pause(&mut self, queue: &str) -> bool {
        self.queues.insert(queue.to_owned());
        self.paused.insert(queue.to_owned())
    }

    pub(crate) fn resume(&mut self, queue: &str) -> bool {
        self.paused.remove(queue)
    }

    /// Whether that was a change.
    pub(crate) fn hush(&mut self, queue: &str, quiet: bool) -> bool {
        let before = self.quiet.get(queue).copied().unwrap_or(false);
        if before != quiet {
            self.quiet.insert(queue.to_owned(), quiet);
        }
        before != quiet
    }

    // What workers do. `None` is a lost lease.

    pub(crate) fn join(&mut self, name: &str, length: u64, queues: &[String]) -> usize {
        self.queues.extend(queues.iter().cloned());
        self.buckets.insert(self.now / BUCKET);
        let (name, lease) = (name.to_owned(), Some(self.now + length));
        self.workers.add(Life { name, length, generation: Some(1), lease, notes: BTreeMap::new() })
    }

    pub(crate) fn present(&mut self, worker: usize, generation: u64) -> Option<()> {
        match self.workers[worker].generation {
            None => self.meet("the lease was lost", None),
            Some(present) if present != generation => self.meet("the generation was old", None),
            _ => Some(()),
        }
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
        let mut reply = StepReply { stale: Vec::new(), claims: Vec::new(), due: None, again: false };
        let (mut woken_by, mut lapsed) = (0, 0);
        for (n, fin) in finishes.iter().enumerate() {
            if finishes[..n].iter().any(|before| before.ticket == fin.ticket) {
                // Twice in one step: the first counts.
            } else if self.holds(worker, fin.ticket) {
                self.attempted(fin.ticket.id);
                for tell in &fin.tells {
                    woken_by += self.tell_event(tell);
                    self.meet("an end told of an event", ());
                }
                woken_by += usize::from(self.is_followed(fin.ticket.id));
                self.end(fin.ticket.id, fin.cause, fin.ending.clone());
            } else {
                reply.stale.push(self.meet("a finish was stale", fin.ticket));
            }
        }
        for queue in queues {
            if self.paused.contains(queue) {
                self.meet("a paused queue was left alone", ());
                continue;
            }
            let ready = self.ready(queue);
            self.look_at_the_front(&ready);
            for (_, id) in ready.into_iter().take(want - reply.claims.len() - lapsed) {
                if self.has_expired(id) {
                    woken_by += usize::from(self.is_followed(id));
                    self.lapse(id);
                    self.meet("a task expired instead of being claimed", ());
                    lapsed += 1;
                    continue;
                }
                reply.claims.push(self.tasks[&id].ticket());
                self.walk(id, Cause::Claim, Place::Held { worker });
            }
        }
        let clocked = reply.claims.iter().any(|ticket| self.tasks[&ticket.id].clock.is_some());
        if woken_by > 0 {
            reply.due = Some(0);
        } else if lapsed > 0 {
            reply.again = true;
        } else if reply.claims.is_empty() && want > 0 || clocked {
            reply.due = self.next_due();
        }
        self.owed.retain(|(debtor, queue)| *debtor != worker || Some(queue.as_str()) != woken);
        Some(reply)
    }

    /// Ends the task instead, if that was asked for meanwhile.
    pub(crate) fn cancelled(&mut self, id: TaskId) -> bool {
        let asked = self.cancel_asked(id);
        if asked {
            self.end(id, Cause::Cancel, Ending::by_request());
            self.meet("an attempt that was let go of had been cancelled", ());
        }
        asked
    }

    pub(crate) fn retry(
        &mut self,
        (worker, generation): (usize, u64),
        t: Ticket,
        delay: u64,
        error: &str,
        counts: bool,
    ) -> Option<LetGo> {
        self.present(worker, generation)?;
        if !self.holds(worker, t) {
            return Some(self.meet("a ticket was stale", LetGo::Stale));
        }
        if counts {
            self.attempted(t.id);
        } else {
            self.meet("an attempt was put off", ());
        }
        if self.cancelled(t.id) {
            return Some(LetGo::Cancelled);
        }
        self.walk(t.id, Cause::Retry, Place::Timer { due: self.now + delay });
        let entry = self.tasks.get_mut(&t.id).expect("a task");
        (entry.error, entry.body) = (Some(error.to_owned()), None);
        self.slices.insert(slice(t.id));
        Some(LetGo::Done)
    }

    pub(crate) fn shelve(&mut self, (worker, generation): (usize, u64), t: Ticket) -> Option<LetGo> {
        self.present(worker, generation)?;
        if !self.holds(worker, t) {
            return Some(self.meet("a ticket was stale", LetGo::Stale));
        }
        if self.cancelled(t.id) {
            return Some(LetGo::Cancelled);
        }
        let priority = self.tasks[&t.id].priority;
        self.walk(t.id, Cause::Shelve, Place::Shelf { priority });
        self.slices.insert(slice(t.id));
        Some(LetGo::Done)
    }

    pub(crate) fn release(&mut self, (worker, generation): (usize, u64), tickets: &[Ticket]) -> Option<Vec<Ticket>> {
        self.present(worker, generation)?;
        let mut stale = Vec::new();
        for ticket in tickets {
            if !self.holds(worker, *ticket) {
                stale.push(self.meet("a ticket was stale", *ticket));
            } else if !self.cancelled(ticket.id) {
                self.make_ready(ticket.id, Cause::Release, ticket.id.created_at_ms());
            }
        }
        Some(stale)
    }

    pub(crate) fn unshelve(&mut self, task_types: &[String]) {
        for task_type in task_types {
            let shelf = self.shelves().remove(task_type.as_str()).unwrap_or_default();
            for (_, id) in shelf {
                self.make_ready(id, Cause::Unshelve, id.created_at_ms());
            }
        }
    }

    /// The time until the next timer, and whether there are shelves.
    pub(crate) fn beat(
        &mut self,
        worker: usize,
        begun: &[(TaskId, u64)],
        left: &[TaskId],
    ) -> Option<(Option<u64>, bool)> {
        let life = &mut self.workers[worker];
        life.generation.and(life.lease)?;
        life.lease = Some(self.now + life.length);
        self.buckets.insert(self.now / BUCKET);
        self.started.extend(begun.iter().map(|(id, at)| (*id, (*at, worker))));
        self.started.retain(|id, (_, by)| *by != worker || !left.contains(id));
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
        if left > 0 {
            self.meet("a worker could not leave yet", ());
        } else {
            let life = &mut self.workers[worker];
            (life.generation, life.lease) = (None, None);
            life.notes.clear();
        }
        if left == 0 || worker < OUTSIDE {
            self.started.retain(|id, (_, by)| *by != worker || !reported.contains(id));
        }
        left
    }

    /// Takes back the tasks of a worker whose lease was seen to be `lease`; returns how many.
    pub(crate) fn rescue(&mut self, worker: usize, lease: u64) -> usize {
        if self.workers[worker].lease != Some(lease) {
            return self.meet("a rescue found a lease renewed", 0);
        }
        if lease > self.now {
            return self.meet("a rescue came before the end of the lease", 0);
        }
        let held = self.held(worker);
        if held.is_empty() {
            self.meet("a rescue found nothing to take back", ());
        }
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
        self.owed.retain(|(debtor, _)| *debtor != worker);
        held.len()
    }

    /// Fires what is due; tells the time until the next.
    pub(crate) fn tick(&mut self) -> Option<u64> {
        loop {
            let (mark, now) = (self.told.len(), self.now);
            let due: Vec<_> = self.timers().into_iter().take_while(|(at, _)| *at <= now).take(SWEEP).collect();
            for (at, id) in &due {
                self.make_ready(*id, Cause::Promote, *at);
            }
            let over: Vec<_> = self.waits().into_iter().take_while(|(at, _)| *at <= now).take(SWEEP).collect();
            for (_, id) in &over {
                self.wait_is_over(*id);
            }
            let alarms: Vec<_> = self.alarms().into_iter().take_while(|(at, ..)| *at <= now).take(SWEEP).collect();
            for (at, letter, id) in &alarms {
                // An earlier one of this call may have taken it back.
                if self.each_alarm().any(|alarm| alarm == (*at, *letter, *id)) {
                    self.fire(*letter, *id);
                }
            }
            self.seal(mark);
            self.sweep();
            if due.len() + over.len() + alarms.len() < SWEEP {
                return self.next_due();
            }
            self.meet("more was due than one call moves", ());
        }
    }

    fn fire(&mut self, letter: u8, id: TaskId) {
        match letter {
            b'm' => self.remind(id),
            b'e' => self.escalate(id),
            b'x' => self.time_is_up(id),
            _ => {
                let clock = self.tasks.get_mut(&id).and_then(|entry| entry.clock.as_mut()).expect("a clock");
                match letter {
                    b's' => clock.warns = None,
                    _ => clock.ends = None,
                }
                self.alarm(id, letter == b'v');
            }
        }
    }

    /// Drops a bucket that is due, and forgets slices that have emptied.
    fn sweep(&mut self) {
        let old = self.buckets.first().copied().filter(|bucket| self.expiry(*bucket) <= self.now);
        if let Some(old) = old {
            self.buckets.remove(&old);
            self.meet("a bucket was dropped", ());
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
