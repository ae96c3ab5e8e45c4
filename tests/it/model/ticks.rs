//! How the model keeps schedules: when they come, how they stand, and what people change of them.

use std::collections::BTreeMap;

use orchestrator::{CatchUp, Overlap, ScheduleChange, TaskId};
use sha2::{Digest, Sha256};

use super::bytes::{id_bytes, make_id};
use super::reference::{Asked, Reference};
use super::state::{key, number};

/// A tick that is later than this was missed.
const LATE: u64 = 60_000;
/// Ticks of a schedule that wait at most, and ticks that are made up for at most.
pub(crate) const TICKS_MAX: usize = 100;
/// Ticks that are counted.
const COUNTED_MAX: u64 = 1000;
/// A last tick further ahead than this comes of a clock that had jumped.
const AHEAD_MAX: u64 = 24 * 3_600_000;

/// When a schedule has its ticks, and what it makes of them; times in milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Making {
    pub(crate) every: u64,
    pub(crate) overlap: Overlap,
    pub(crate) catch_up: CatchUp,
    pub(crate) within: u64,
    /// Its id says nothing; `expires` is a span. The payload tells one from another.
    pub(crate) asked: Asked,
}

impl PartialEq for Making {
    fn eq(&self, other: &Self) -> bool {
        let all = |making: &Self| (making.every, making.overlap, making.catch_up, making.within, making.asked.payload);
        all(self) == all(other)
    }
}

impl Making {
    pub(crate) fn next_after(&self, ms: u64) -> u64 {
        (ms / self.every + 1) * self.every
    }

    /// How many ticks there are from `first` to `last`, as far as that is counted; both are instants.
    fn count(&self, first: u64, last: u64) -> u64 {
        (last / self.every + 1).saturating_sub(first.div_ceil(self.every)).min(COUNTED_MAX)
    }

    /// What is to be done about the ticks from `due` on: those that are to become tasks, and how many are left out.
    pub(crate) fn due(&self, due: u64, now: u64) -> (Vec<u64>, u64) {
        let oldest = now - self.within;
        let mut missed = if due < oldest { self.count(due, oldest - 1) } else { 0 };
        let (count, latest) = (self.count(due.max(oldest), now), now / self.every * self.every);
        let each = self.catch_up == CatchUp::All && self.overlap != Overlap::Replace;
        let kept = count.min(if each { TICKS_MAX as u64 } else { 1 });
        let mut runs: Vec<u64> = (0..kept).rev().map(|back| latest - back * self.every).collect();
        if self.catch_up == CatchUp::Skip {
            runs.retain(|tick| now - tick <= LATE);
        }
        missed += count - runs.len() as u64;
        (runs, missed)
    }
}

/// A schedule as it stands.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) making: Making,
    /// Its definition as it is stored, once it was seen.
    pub(crate) bytes: Vec<u8>,
    /// The tick that it waits for, unless it is paused.
    pub(crate) next: Option<u64>,
    /// The last tick that became a task, and that task.
    pub(crate) last: Option<(u64, TaskId)>,
    pub(crate) waiting: Vec<u64>,
    pub(crate) fired: u64,
    pub(crate) skipped: u64,
    pub(crate) missed: u64,
    /// By whom, perhaps nobody by name.
    pub(crate) paused: Option<String>,
    pub(crate) created: u64,
    pub(crate) changed: u64,
    /// What stood in the way, and when.
    pub(crate) error: Option<(String, u64)>,
    /// When it is to be looked at.
    pub(crate) look: Option<u64>,
}

impl Plan {
    pub(crate) fn last_id(&self) -> Option<TaskId> {
        self.last.map(|(_, id)| id)
    }

    /// Where its ticks go on for who read it at this instant: a clock that was set back brings none again.
    fn not_before(&self, now: u64) -> u64 {
        self.last.map_or(now, |(tick, _)| if tick <= now + AHEAD_MAX { tick.max(now) } else { now })
    }

    /// As it is stored.
    fn fields(&self) -> BTreeMap<&'static str, Vec<u8>> {
        let mut fields = BTreeMap::from([("ca", number(self.created)), ("ua", number(self.changed))]);
        fields.extend(self.next.map(|next| ("n", number(next))));
        fields.extend(self.last.iter().flat_map(|(tick, id)| [("t", number(*tick)), ("id", id_bytes(*id))]));
        let waiting: Vec<u8> = self.waiting.iter().flat_map(|tick| tick.to_be_bytes()[2..].to_vec()).collect();
        fields.extend((!waiting.is_empty()).then_some(("w", waiting)));
        for (name, count) in [("f", self.fired), ("s", self.skipped), ("m", self.missed)] {
            fields.extend((count > 0).then(|| (name, number(count))));
        }
        fields.extend(self.paused.iter().map(|who| ("p", who.clone().into_bytes())));
        fields
            .extend(self.error.iter().flat_map(|(error, at)| [("e", error.clone().into_bytes()), ("ea", number(*at))]));
        fields
    }
}

/// A schedule as one process has read it.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    pub(crate) name: String,
    pub(crate) at: u64,
    pub(crate) plan: Plan,
    /// Whether its last run had not ended.
    pub(crate) live: bool,
}

/// All of a namespace.
#[derive(Debug, Default)]
pub(crate) struct Schedules {
    pub(crate) plans: BTreeMap<String, Plan>,
    /// Runs that others wait for.
    pub(crate) followed: BTreeMap<TaskId, String>,
}

impl Schedules {
    pub(crate) fn next_look(&self) -> Option<u64> {
        self.plans.values().filter_map(|plan| plan.look).min()
    }

    /// Those that are to be looked at, in their order.
    pub(crate) fn due(&self, now: u64) -> Vec<String> {
        let looks = self.plans.iter().filter_map(|(name, plan)| Some((plan.look.filter(|at| *at <= now)?, name)));
        let mut due: Vec<(u64, &String)> = looks.collect();
        due.sort();
        due.into_iter().map(|(_, name)| name.clone()).collect()
    }

    pub(crate) fn plan(&mut self, name: &str) -> &mut Plan {
        self.plans.get_mut(name).expect("a schedule")
    }
}

/// The id of the task of one tick.
pub(crate) fn tick_id(name: &str, tick: u64) -> TaskId {
    let seed = Sha256::new().chain_update(b"schedule\n").chain_update(name).chain_update(tick.to_be_bytes()).finalize();
    make_id(tick, u64::from_be_bytes(seed[..8].try_into().expect("half an id")))
}

impl Reference {
    pub(crate) fn is_live(&self, id: Option<TaskId>) -> bool {
        id.and_then(|id| self.tasks.get(&id)).is_some_and(|entry| !entry.status().is_terminal())
    }

    pub(crate) fn see(&self, name: &str) -> Option<Sight> {
        let plan = self.schedules.plans.get(name)?.clone();
        Some(Sight { name: name.into(), at: self.now, live: self.is_live(plan.last_id()), plan })
    }

    /// Whether ticks of its schedule wait for the end of this task.
    pub(crate) fn is_followed(&self, id: TaskId) -> bool {
        let name = self.schedules.followed.get(&id).filter(|_| self.tasks[&id].followed);
        name.is_some_and(|name| !self.schedules.plans[name].waiting.is_empty())
    }

    /// It ends: ticks that wait for that may go on.
    pub(crate) fn let_on(&mut self, id: TaskId) {
        if !self.is_followed(id) {
            return;
        }
        let (now, name) = (self.now, self.schedules.followed[&id].clone());
        let plan = self.schedules.plan(&name);
        let what = match &mut plan.look {
            Some(look) => {
                *look = now;
                "the end of a run let a tick on"
            }
            None => "the end of a run let none on while its schedule was paused",
        };
        self.meet(what, ());
    }

    // What people do.

    /// Puts a schedule in the place of what was read; `None` when that was not there any more.
    pub(crate) fn put_schedule(&mut self, name: &str, making: &Making, seen: Option<&Sight>) -> Option<ScheduleChange> {
        let (now, there) = (self.now, self.schedules.plans.get(name));
        let awaited = |plan: Option<&Plan>| (plan.map(|plan| plan.making.clone()), plan.and_then(|plan| plan.next));
        if awaited(there) != awaited(seen.map(|seen| &seen.plan)) {
            return self.meet("a schedule was put over one that had changed", None);
        }
        let read_at = seen.map_or(now, |seen| seen.at);
        let before = seen.map(|seen| &seen.plan);
        let kept = before.and_then(|plan| {
            let next = plan.next?;
            let is_ours = next <= read_at && next % making.every == 0;
            (plan.making.every == making.every || is_ours).then_some(next)
        });
        let from = before.map_or(read_at, |plan| plan.not_before(read_at));
        let next = kept.unwrap_or_else(|| making.next_after(from));
        let change = match before {
            None => ScheduleChange::Created,
            Some(plan) if plan.making == *making => ScheduleChange::Same,
            Some(_) => ScheduleChange::Changed,
        };
        let others = before.filter(|plan| plan.making.every != making.every);
        let what = match (change, before) {
            (ScheduleChange::Created, _) => "a schedule was made",
            (ScheduleChange::Same, _) => "a schedule was put as it was",
            _ if others.is_some_and(|plan| plan.next == Some(next)) => "a tick that was due was kept for other times",
            _ if others.is_some() => "a schedule took other times",
            (_, Some(plan)) if plan.making.overlap != making.overlap => "a schedule took another overlap",
            _ => "a schedule took another task",
        };
        self.meet(what, ());
        let fresh = Plan {
            making: making.clone(),
            bytes: Vec::new(),
            next: None,
            last: None,
            waiting: Vec::new(),
            fired: 0,
            skipped: 0,
            missed: 0,
            paused: None,
            created: now,
            changed: now,
            error: None,
            look: None,
        };
        let plan = self.schedules.plans.entry(name.into()).or_insert(fresh);
        if plan.making != *making {
            (plan.making, plan.changed, plan.error) = (making.clone(), now, None);
        }
        if plan.paused.is_none() {
            plan.next = Some(next);
        }
        let (last, mut dropped) = (plan.last_id(), 0);
        if making.overlap != Overlap::Queue {
            dropped = std::mem::take(&mut plan.waiting).len();
            plan.skipped += dropped as u64;
        }
        plan.look = plan.paused.is_none().then_some(if plan.waiting.is_empty() { next } else { now });
        if dropped > 0 {
            self.meet("ticks that waited were left out by another overlap", ());
        }
        match last {
            Some(last) if making.overlap == Overlap::Queue => {
                self.schedules.followed.insert(last, name.into());
                if self.is_live(Some(last)) {
                    let entry = self.tasks.get_mut(&last).expect("a task");
                    if !std::mem::replace(&mut entry.followed, true) {
                        self.meet("a run was waited for that none was to wait for before", ());
                    }
                }
            }
            Some(last) => drop(self.schedules.followed.remove(&last)),
            None => {}
        }
        Some(change)
    }

    fn nobody_knows(&mut self, name: &str) -> Result<(), &'static str> {
        match self.schedules.plans.contains_key(name) {
            true => Ok(()),
            false => self.meet("nobody knew of a schedule", Err("NotFound")),
        }
    }

    pub(crate) fn pause_schedule(&mut self, name: &str, by: &str) -> Result<bool, &'static str> {
        self.nobody_knows(name)?;
        let plan = self.schedules.plan(name);
        if plan.paused.is_some() {
            return Ok(false);
        }
        (plan.paused, plan.next, plan.look) = (Some(by.into()), None, None);
        if !plan.waiting.is_empty() {
            self.meet("a schedule was paused while ticks waited", ());
        }
        self.meet("a schedule was paused", Ok(true))
    }

    /// `None` when it is not as it was read.
    pub(crate) fn resume_schedule(&mut self, seen: &Sight) -> Result<Option<bool>, &'static str> {
        let (now, name) = (self.now, seen.name.as_str());
        self.nobody_knows(name)?;
        let next = seen.plan.making.next_after(seen.plan.not_before(seen.at));
        let plan = self.schedules.plan(name);
        if plan.paused.is_none() {
            return Ok(Some(false));
        }
        if plan.making != seen.plan.making {
            return self.meet("a schedule was to go on that had changed", Ok(None));
        }
        (plan.paused, plan.next) = (None, Some(next));
        plan.look = Some(if plan.waiting.is_empty() { next } else { now });
        let what =
            if plan.waiting.is_empty() { "a schedule went on" } else { "a schedule went on with ticks that wait" };
        self.meet(what, Ok(Some(true)))
    }

    pub(crate) fn remove_schedule(&mut self, name: &str) -> Result<(), &'static str> {
        self.nobody_knows(name)?;
        let plan = self.schedules.plans.remove(name).expect("a schedule");
        if let Some(last) = plan.last_id() {
            self.schedules.followed.remove(&last);
        }
        let live = self.is_live(plan.last_id());
        self.meet(if live { "a schedule was removed while its run went on" } else { "a schedule was removed" }, Ok(()))
    }
}

/// What Redis should hold of all that.
pub(crate) fn expected(model: &Reference, mut put: impl FnMut(Vec<u8>, Vec<u8>, Vec<u8>)) {
    for (name, plan) in &model.schedules.plans {
        put(key("S", ""), name.clone().into_bytes(), plan.bytes.clone());
        for (field, value) in plan.fields() {
            put(key("S:", name), field.into(), value);
        }
        if let Some(look) = plan.look {
            put(key("Z", ""), name.clone().into_bytes(), number(look));
        }
    }
    for (id, name) in &model.schedules.followed {
        put(key("N", ""), id_bytes(*id), name.clone().into_bytes());
    }
}
