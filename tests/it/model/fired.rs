//! How the model fires: what becomes of ticks by whoever acts on what it has read of their schedule.

use orchestrator::{CatchUp, Error, Overlap, Status, TaskId};

use super::reference::{Asked, Ending, Place, Reference};
use super::ticks::{Making, Plan, Sight, TICKS_MAX, tick_id};

/// How long a tick is put off that finds its queue full.
const PUT_OFF: u64 = 10_000;

/// Which ticks are fired.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ticks {
    /// Those from `awaited` on; the one behind them, and how many are left out.
    Due {
        awaited: Option<u64>,
        next: u64,
        missed: u64,
    },
    Waiting,
    /// Whether it may wait for the end of the last run.
    ByHand {
        may_wait: bool,
    },
}

/// One tick: when, and the task to be made of it; who asks at its gate beside whoever submits it.
type Run = (u64, Asked, String);

/// What became of ticks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fired {
    Done,
    Waits,
    /// Nothing begins beside this one.
    Live(TaskId),
    /// The schedule was not as it was read.
    Other,
    /// There was no room in the queue.
    Full,
}

impl Reference {
    fn run(&self, name: &str, making: &Making, tick: u64) -> Run {
        let expires = if making.asked.expires > 0 { self.now + making.asked.expires } else { 0 };
        (tick, Asked { id: tick_id(name, tick), expires, ..making.asked.clone() }, String::new())
    }

    /// Acts on a schedule that was found due.
    pub(crate) fn act_on(&mut self, seen: &Sight, queue_full: impl Fn(&str) -> String) {
        let (making, name) = (&seen.plan.making, seen.name.as_str());
        let waiting = seen.plan.waiting.first().copied().filter(|_| !seen.live);
        let due = seen.plan.next.filter(|due| *due <= seen.at);
        let (ticks, runs) = match (waiting, due) {
            (Some(tick), _) => (Ticks::Waiting, vec![tick]),
            (None, Some(due)) => {
                let (runs, missed) = making.due(due, seen.at);
                if runs.len() > 1 {
                    self.meet("ticks were made up for", ());
                }
                if missed > 0 {
                    self.meet("ticks were missed", ());
                }
                (Ticks::Due { awaited: seen.plan.next, next: making.next_after(seen.at), missed }, runs)
            }
            (None, None) => {
                self.meet("a schedule was looked at for nothing", ());
                return self.put_off(seen, seen.plan.next, None);
            }
        };
        let latest = runs.last().copied().unwrap_or(seen.at);
        let (all, fresh) = (runs.len() as u64, runs.iter().map(|tick| self.run(name, making, *tick)).collect());
        if self.fire_ticks(seen, ticks, fresh) != Fired::Full {
            return;
        }
        let why = queue_full(&making.asked.queue);
        if seen.at.saturating_sub(latest) < making.within && making.catch_up != CatchUp::Skip {
            self.meet("a tick found its queue full and was put off", ());
            return self.put_off(seen, Some(seen.at + PUT_OFF), Some(why));
        }
        // It is left out.
        if !self.is_as_read(seen) {
            return;
        }
        self.meet("a tick found its queue full and was left out", ());
        let now = self.now;
        let plan = self.schedules.plan(name);
        plan.error = Some((why, now));
        match ticks {
            Ticks::Due { next, missed, .. } => (plan.next, plan.missed) = (Some(next), plan.missed + missed + all),
            _ => {
                plan.missed += 1;
                if plan.waiting.first() == waiting.as_ref() {
                    plan.waiting.remove(0);
                }
            }
        }
        plan.look = if plan.paused.is_some() {
            None
        } else if plan.waiting.is_empty() {
            plan.next
        } else {
            Some(now)
        };
    }

    fn is_as_read(&self, seen: &Sight) -> bool {
        let there = self.schedules.plans.get(&seen.name);
        there.is_some_and(|plan| plan.making == seen.plan.making && plan.next == seen.plan.next)
    }

    /// It is to be looked at then, because of what stood in the way, or because nothing is to be done.
    fn put_off(&mut self, seen: &Sight, look: Option<u64>, why: Option<String>) {
        if !self.is_as_read(seen) {
            return;
        }
        let now = self.now;
        let live = self.is_live(self.schedules.plans[&seen.name].last_id());
        let is_idle = why.is_none();
        let plan = self.schedules.plan(&seen.name);
        plan.error = why.map(|why| (why, now)).or(plan.error.take());
        plan.look = look.filter(|_| plan.paused.is_none());
        if is_idle && plan.look.is_some() && !plan.waiting.is_empty() && !live {
            // Its run has ended since.
            plan.look = Some(now);
            self.meet("a schedule was put off by who knew too little", ());
        }
    }

    /// Makes tasks of ticks, all or none.
    fn fire_ticks(&mut self, seen: &Sight, ticks: Ticks, runs: Vec<Run>) -> Fired {
        let (name, by_hand) = (seen.name.as_str(), matches!(ticks, Ticks::ByHand { .. }));
        let making = seen.plan.making.clone();
        if by_hand && self.known(runs[0].1.id).is_some() {
            return self.meet("a run by hand was sent twice", Fired::Done);
        }
        let may_wait = making.overlap == Overlap::Queue && matches!(ticks, Ticks::ByHand { may_wait: true });
        let waits = |plan: &Plan| plan.waiting.contains(&runs[0].0);
        if may_wait && self.schedules.plans.get(name).is_some_and(waits) {
            return self.meet("a run by hand was sent twice", Fired::Waits);
        }
        let Some(plan) = self.schedules.plans.get(name).cloned() else {
            return self.meet("a tick was of a schedule that was gone", Fired::Other);
        };
        if plan.making != making {
            return self.meet("a tick was of a schedule that had changed", Fired::Other);
        }
        if plan.paused.is_some() && !by_hand {
            return self.meet("a tick was of a schedule that was paused", Fired::Other);
        }
        if matches!(ticks, Ticks::Due { awaited, .. } if awaited != plan.next) {
            return self.meet("a tick had been fired by somebody else", Fired::Other);
        }
        let (mut waiting, first, now) = (plan.waiting.clone(), plan.last_id(), self.now);
        match ticks {
            Ticks::Waiting if waiting.first() != runs.first().map(|(tick, ..)| tick) => {
                return self.meet("a tick that waited found others gone on", Fired::Other);
            }
            Ticks::Waiting if self.is_live(first) => {
                self.schedules.plan(name).look = plan.next;
                return self.meet("a tick that waited found its run alive", Fired::Waits);
            }
            Ticks::Waiting => drop(waiting.remove(0)),
            _ => {}
        }
        let most = if matches!(ticks, Ticks::ByHand { may_wait: false }) { 0 } else { TICKS_MAX };
        let (mut last, mut fired, mut skipped, mut word, all) = (plan.last, 0, 0, Fired::Done, runs.len());
        for (tick, asked, asker) in runs {
            let live = last.map(|(_, id)| id).filter(|id| self.is_live(Some(*id)));
            if let Some((_, id)) = last {
                self.met_last(id);
            }
            let queued = making.overlap == Overlap::Queue;
            if let Some(id) = live.filter(|_| making.overlap == Overlap::Skip) {
                if by_hand {
                    return self.meet("a run by hand was refused for the last one", Fired::Live(id));
                }
                skipped += 1;
                self.meet("a tick was left out because of the last run", ());
                continue;
            }
            if queued && (live.is_some() || !waiting.is_empty() && matches!(ticks, Ticks::Due { .. })) {
                let what = match (waiting.len() >= most, live) {
                    (true, _) if by_hand => {
                        let last = last.expect("a last run").1;
                        return self.meet("a run by hand was refused for the last one", Fired::Live(last));
                    }
                    (true, _) => {
                        skipped += 1;
                        "no more ticks could wait"
                    }
                    (false, live) => {
                        waiting.push(tick);
                        word = Fired::Waits;
                        match live {
                            _ if by_hand => "a run by hand waited for the last one",
                            Some(_) => "a tick waited for the last run",
                            None => "a tick waited behind others",
                        }
                    }
                };
                self.meet(what, ());
                continue;
            }
            let needed = if making.overlap == Overlap::Allow { all - fired } else { 1 };
            if self.ready(&asked.queue).len() + needed > self.limits.queue_max {
                assert_eq!(fired, 0, "all or none");
                return self.meet("a queue was full", Fired::Full);
            }
            if let Some(id) = live.filter(|_| making.overlap == Overlap::Replace) {
                self.replace(id);
            }
            let id = asked.id;
            if self.known(id).is_none() {
                if let Some(holder) = self.others(&[&asked]).remove(&id) {
                    if by_hand {
                        return self.meet("a run by hand was refused for its key", Fired::Live(holder));
                    }
                    skipped += 1;
                    self.meet("a tick found its key taken", ());
                    continue;
                }
                if live.is_some() && making.overlap == Overlap::Allow {
                    self.meet("a run began beside the last one", ());
                }
                if by_hand {
                    let paused = plan.paused.is_some();
                    let what = if paused {
                        "a run of a paused schedule was started by hand"
                    } else {
                        "a run was started by hand"
                    };
                    self.meet(what, ());
                }
                self.queues.insert(asked.queue.clone());
                self.store_new(asked, &asker, queued);
                fired += 1;
                self.meet(
                    if ticks == Ticks::Waiting { "a tick that waited became a task" } else { "a tick became a task" },
                    (),
                );
            } else {
                if queued && self.is_live(Some(id)) {
                    self.tasks.get_mut(&id).expect("a task").followed = true;
                }
                self.meet("a tick found its task made before", ());
            }
            last = Some((tick, id));
        }
        let plan = self.schedules.plans.get_mut(name).expect("a schedule");
        plan.last = last;
        if let Ticks::Due { next, missed, .. } = ticks {
            plan.next = Some(next);
            plan.missed += missed;
        }
        (plan.fired, plan.skipped) = (plan.fired + fired as u64, plan.skipped + skipped);
        if fired > 0 {
            plan.error = None;
        }
        plan.waiting = waiting;
        let (next, waits, paused) = (plan.next, !plan.waiting.is_empty(), plan.paused.is_some());
        let last = plan.last_id();
        if making.overlap == Overlap::Queue && last != first {
            first.map(|first| self.schedules.followed.remove(&first));
            self.schedules.followed.insert(last.expect("a last run"), name.into());
        }
        let live = self.is_live(last);
        if !by_hand && !paused {
            self.schedules.plan(name).look = if waits && !live { Some(now) } else { next };
        }
        word
    }

    /// How the last run stood when a tick came.
    fn met_last(&mut self, id: TaskId) {
        let what = match self.tasks.get(&id).map(|entry| &entry.place) {
            None => "a tick came when the last run was forgotten",
            Some(Place::Ready { .. }) => "a tick came while the last run waited for a worker",
            Some(Place::Timer { .. }) => "a tick came while the last run waited for its instant",
            Some(Place::Shelf { .. }) => "a tick came while the last run lay on the shelf",
            Some(Place::Held { .. }) => "a tick came while the last run ran",
            Some(Place::Parked { approval: Some(_), .. }) => "a tick came while the last run waited for a person",
            Some(Place::Parked { .. }) => "a tick came while the last run slept",
            Some(Place::Ended { ending, .. }) if ending.reason == Some("expired") => {
                "a tick came when the last run had expired"
            }
            Some(Place::Ended { status: Status::Completed, .. }) => "a tick came when the last run had completed",
            Some(Place::Ended { status: Status::Failed, .. }) => "a tick came when the last run had failed",
            Some(Place::Ended { .. }) => "a tick came when the last run had been cancelled",
        };
        self.meet(what, ());
    }

    /// The next run takes its place.
    fn replace(&mut self, id: TaskId) {
        let (mark, ran) = (self.told.len(), matches!(self.tasks[&id].place, Place::Held { .. }));
        let error = "the next run of its schedule took its place".to_owned();
        self.call_off(id, Ending { reason: Some("replaced"), error: Some(error), ..Ending::default() }, 0);
        self.seal(mark);
        let what =
            if ran { "a run was to take the place of one that ran" } else { "a run took the place of one that waited" };
        self.meet(what, ());
    }

    /// Somebody starts a run by hand, as by this tick and under this id.
    pub(crate) fn trigger(&mut self, seen: &Sight, by: Option<&str>, tick: u64, id: TaskId) -> Fired {
        let making = &seen.plan.making;
        let maker = making.asked.requested_by.as_deref();
        let is_maker = |by: &str| maker.is_some_and(|maker| maker.eq_ignore_ascii_case(by));
        let (_, mut asked, mut asker) = self.run(&seen.name, making, tick);
        asked.id = id;
        if let Some(by) = by {
            match maker {
                None => asked.requested_by = Some(by.into()),
                Some(_) if !is_maker(by) => asker = by.into(),
                Some(_) => {}
            }
        }
        let asks = asked.gate.is_some() && !asker.is_empty();
        let may_wait = by.is_none_or(is_maker);
        let fired = self.fire_ticks(seen, Ticks::ByHand { may_wait }, vec![(tick, asked, asker)]);
        match fired {
            Fired::Other => self.meet("a run by hand was of a schedule that had changed", fired),
            Fired::Done if asks => self.meet("who had a run made was to be asked for its gate", fired),
            fired => fired,
        }
    }
}

/// What a full queue answers.
pub(crate) fn queue_full(queue: &str, bound: usize) -> String {
    Error::QueueFull { queue: queue.into(), bound: bound as u64 }.to_string()
}
