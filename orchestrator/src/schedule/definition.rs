//! A schedule as it is kept, and what is to be done when it is due.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{CATCH_UP_MAX, CatchUp, Overlap, SCHEDULE_PAYLOAD_MAX, Schedule, When};
use crate::cron::Cron;
use crate::id::ID_BYTES;
use crate::new_task::Template;
use crate::task::instant;
use crate::{Error, NewTask, Result, SPAN_MAX, TaskId, codec};

/// Bytes of the digest in front of a definition.
pub(crate) const DIGEST: usize = 8;
/// Shortest time between two ticks.
const EVERY_MIN: Duration = Duration::from_secs(1);
/// A tick that is later than this was missed.
const LATE_MS: u64 = 60_000;
/// Ticks that are counted one by one; of more, the number is at least this.
const COUNTED_MAX: u64 = 1000;
/// Largest definition, in bytes.
const DEFINITION_MAX: usize = SCHEDULE_PAYLOAD_MAX + 64 * 1024;

/// When a schedule has its ticks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Timing {
    Cron(Box<Cron>),
    /// So many milliseconds.
    Every(u64),
}

impl Timing {
    /// The first tick behind an instant, both in Unix milliseconds.
    pub(crate) fn next_after(&self, ms: u64) -> Option<u64> {
        match self {
            Self::Every(every) => (ms / every + 1).checked_mul(*every),
            Self::Cron(cron) => u64::try_from(cron.next_after(instant(ms))?.timestamp_millis()).ok(),
        }
    }

    /// How many ticks there are from `first`, which is one, to `last`; counted as far as [`COUNTED_MAX`]. And the latest of them,
    /// `keep` at most, in order.
    fn ticks(&self, first: u64, last: u64, keep: usize) -> (Vec<u64>, u64) {
        let walk = |mut tick: Option<u64>, most: u64| {
            let (mut found, mut count) = (Vec::new(), 0);
            while let Some(at) = tick.filter(|at| *at <= last) {
                if count == most {
                    return (found, count, false);
                }
                (tick, count) = (self.next_after(at), count + 1);
                found.push(at);
            }
            (found, count, true)
        };
        let (mut found, count, mut complete) = walk(Some(first), COUNTED_MAX);
        // Too many: the latest are found by looking from ever further back.
        let mut back_ms = 60_000;
        while !complete {
            let from = last.saturating_sub(back_ms).max(first);
            (found, _, complete) = walk(self.next_after(from.saturating_sub(1)), u64::MAX);
            complete &= found.len() >= keep || from == first;
            back_ms *= 4;
        }
        (found.split_off(found.len().saturating_sub(keep)), count)
    }
}

/// The first `n` ticks behind an instant, 100 at most.
pub(crate) fn next_of(timing: &Timing, mut after_ms: u64, n: usize) -> Vec<DateTime<Utc>> {
    let mut ticks = Vec::new();
    while let Some(next) = timing.next_after(after_ms).filter(|_| ticks.len() < n.min(100)) {
        ticks.push(instant(next));
        after_ms = next;
    }
    ticks
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What is kept of a schedule: digest (8 bytes) ‖ MessagePack map ‖ payload, one MessagePack value. Short names; what has its
/// default is left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Definition {
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub(crate) cron: Option<String>,
    #[serde(rename = "z", default, skip_serializing_if = "Option::is_none")]
    pub(crate) zone: Option<String>,
    /// Milliseconds.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(crate) every_ms: Option<u64>,
    #[serde(rename = "o", default, skip_serializing_if = "is_default")]
    pub(crate) overlap: Overlap,
    #[serde(rename = "u", default, skip_serializing_if = "is_default")]
    pub(crate) catch_up: CatchUp,
    #[serde(rename = "w")]
    pub(crate) within_ms: u64,
    #[serde(rename = "by", default, skip_serializing_if = "Option::is_none")]
    pub(crate) made_by: Option<String>,
    #[serde(rename = "t")]
    pub(crate) template: Template,
}

/// What is to be done about the ticks that are due.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Those that are to become tasks, in order.
    pub(crate) runs: Vec<u64>,
    /// How many are left out.
    pub(crate) missed: u64,
    /// The first one that is not due yet.
    pub(crate) next: Option<u64>,
}

impl Schedule {
    pub(super) fn timing(&self) -> Result<Timing> {
        match (&self.when, &self.zone) {
            (When::Cron(text), zone) => {
                Cron::new(text, zone.as_deref().unwrap_or("UTC")).map(|cron| Timing::Cron(Box::new(cron)))
            }
            (When::Every(_), Some(_)) => {
                Err(Error::invalid("a time zone goes with a cron expression; a schedule by a span of time has none"))
            }
            (When::Every(span), None) => match span.duration()? {
                span if span < EVERY_MIN => {
                    Err(Error::invalid("a schedule comes once a second at most; write every as in 10m"))
                }
                span => Ok(Timing::Every(crate::policy::millis(span))),
            },
        }
    }

    /// Checks everything that can be checked without Redis.
    pub(crate) fn define(&self) -> Result<(Definition, Timing)> {
        let timing = self.timing()?;
        let within = self.within.duration()?;
        if within < Duration::from_secs(60) {
            return Err(Error::invalid(format!(
                "ticks are made up for within 1 minute to {} days",
                SPAN_MAX.as_secs() / 86_400
            )));
        }
        if let Some(who) = self.made_by.as_deref().filter(|who| who.is_empty() || who.len() > 128) {
            return Err(Error::invalid(format!("a maker's name has 1 to 128 characters, not {}", who.len())));
        }
        if self.overlap == Overlap::Replace && self.task.rules.unique.is_some() {
            return Err(Error::invalid(
                "a unique task cannot take the place of the last run, which may hold its key: choose the overlap skip, queue \
                 or allow, or leave `unique` out",
            ));
        }
        let template = self.task.template()?;
        if template.payload.len() > SCHEDULE_PAYLOAD_MAX {
            return Err(Error::invalid(format!(
                "the payload of a schedule has at most {SCHEDULE_PAYLOAD_MAX} bytes, not {}. Keep large data elsewhere and pass \
                 a reference",
                template.payload.len()
            )));
        }
        let (cron, zone, every_ms) = match &timing {
            Timing::Cron(cron) => (Some(cron.as_str().into()), Some(cron.zone().into()), None),
            Timing::Every(ms) => (None, None, Some(*ms)),
        };
        let definition = Definition {
            cron,
            zone,
            every_ms,
            overlap: self.overlap,
            catch_up: self.catch_up,
            within_ms: crate::policy::millis(within),
            made_by: self.made_by.clone(),
            template,
        };
        Ok((definition, timing))
    }
}

impl Definition {
    pub(crate) fn write(&self) -> Result<Vec<u8>> {
        let fields = codec::encode("schedule", self, DEFINITION_MAX)?;
        let digest = Sha256::new().chain_update(&fields).chain_update(&self.template.payload).finalize();
        Ok([&digest[..DIGEST], fields.as_slice(), self.template.payload.as_slice()].concat())
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<(Self, Timing)> {
        let (_, rest) = bytes.split_at_checked(DIGEST).ok_or_else(|| Error::corrupt("a schedule is cut short"))?;
        let (fields, payload) = codec::split_value("a schedule", rest)?;
        let mut definition: Self = codec::decode("a schedule", fields)?;
        codec::check("payload", payload, SCHEDULE_PAYLOAD_MAX).map_err(|error| Error::corrupt(error.to_string()))?;
        definition.template.payload = payload.to_vec();
        let timing = match (&definition.cron, definition.every_ms) {
            (Some(text), None) => {
                let cron = Cron::new(text, definition.zone.as_deref().unwrap_or("UTC"));
                Timing::Cron(Box::new(cron.map_err(|error| Error::corrupt(error.to_string()))?))
            }
            (None, Some(ms)) if ms >= crate::policy::millis(EVERY_MIN) => Timing::Every(ms),
            _ => return Err(Error::corrupt("a schedule does not say when it comes")),
        };
        Ok((definition, timing))
    }

    /// Whether it comes when another one does.
    pub(crate) fn comes_as(&self, other: &Self) -> bool {
        (&self.cron, &self.zone, self.every_ms) == (&other.cron, &other.zone, other.every_ms)
    }

    /// The task of one tick.
    pub(crate) fn task(&self, name: &str, tick_ms: u64) -> NewTask {
        let at = instant(tick_ms).to_rfc3339_opts(SecondsFormat::AutoSi, true);
        self.template.task().metadata("schedule", name).metadata("scheduled_for", at)
    }

    /// What is to be done at `now_ms` about the ticks from `due_ms`, which is the first that was not seen to, and is due.
    pub(crate) fn plan(&self, timing: &Timing, due_ms: u64, now_ms: u64) -> Plan {
        let next = timing.next_after(now_ms);
        let oldest = now_ms.saturating_sub(self.within_ms);
        let (first, mut missed) = match due_ms < oldest {
            true => (timing.next_after(oldest - 1), timing.ticks(due_ms, oldest - 1, 0).1),
            false => (Some(due_ms), 0),
        };
        let mut runs = Vec::new();
        if let Some(first) = first.filter(|first| *first <= now_ms) {
            // Of those that replace each other the latest is the one that would be left.
            let each = self.catch_up == CatchUp::All && self.overlap != Overlap::Replace;
            let (latest, count) = timing.ticks(first, now_ms, if each { CATCH_UP_MAX } else { 1 });
            runs = latest;
            if self.catch_up == CatchUp::Skip {
                runs.retain(|tick| now_ms - tick <= LATE_MS);
            }
            missed += count.saturating_sub(runs.len() as u64);
        }
        Plan { runs, missed, next }
    }
}

/// The id of the task of one tick: the same for whoever makes it.
pub(crate) fn tick_id(name: &str, tick_ms: u64) -> TaskId {
    let seed =
        Sha256::new().chain_update(b"schedule\n").chain_update(name).chain_update(tick_ms.to_be_bytes()).finalize();
    let mut id = [0; ID_BYTES];
    id[..6].copy_from_slice(&tick_ms.to_be_bytes()[2..]);
    id[6..].copy_from_slice(&seed[..ID_BYTES - 6]);
    TaskId::from_bytes(id)
}

/// How a schedule stands, as scripts keep it.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The tick that it waits for, as it is written there.
    pub(crate) next: String,
    pub(crate) last_tick: Option<u64>,
    pub(crate) last_id: Option<TaskId>,
    pub(crate) waiting: Vec<u64>,
    pub(crate) fired: u64,
    pub(crate) skipped: u64,
    pub(crate) missed: u64,
    /// Who paused it, perhaps nobody by name.
    pub(crate) paused: Option<String>,
    pub(crate) created: Option<u64>,
    pub(crate) changed: Option<u64>,
    pub(crate) error: Option<(u64, String)>,
}

impl State {
    /// Reads what there is; what makes no sense was not written by us, and counts as not there.
    pub(crate) fn read(fields: &HashMap<Vec<u8>, Vec<u8>>) -> Self {
        let raw = |name: &str| fields.get(name.as_bytes()).map(Vec::as_slice);
        let text = |name: &str| raw(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let number = |name: &str| text(name).and_then(|text| text.parse::<u64>().ok());
        let waiting = raw("w").unwrap_or_default().chunks_exact(6);
        Self {
            next: text("n").unwrap_or_default(),
            last_tick: number("t"),
            last_id: raw("id").and_then(TaskId::from_slice),
            waiting: waiting.map(|tick| tick.iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte))).collect(),
            fired: number("f").unwrap_or(0),
            skipped: number("s").unwrap_or(0),
            missed: number("m").unwrap_or(0),
            paused: text("p"),
            created: number("ca"),
            changed: number("ua"),
            error: text("e").map(|error| (number("ea").unwrap_or(0), error)),
        }
    }

    /// The tick that it waits for.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.next.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[allow(clippy::needless_pass_by_value)]
    fn plan(schedule: Schedule, due_ms: u64, now_ms: u64) -> Plan {
        let (definition, timing) = schedule.define().expect("a fair schedule");
        definition.plan(&timing, due_ms, now_ms)
    }

    fn hourly() -> Schedule {
        Schedule::cron("x", "@hourly", NewTask::<()>::new("report", &()))
    }

    #[test]
    fn one_tick_in_time_is_a_run_whatever_the_policy() {
        for catch_up in [CatchUp::Latest, CatchUp::All, CatchUp::Skip] {
            let plan = plan(hourly().catch_up(catch_up), 1000 * HOUR, 1000 * HOUR + 500);
            assert_eq!(plan, Plan { runs: vec![1000 * HOUR], missed: 0, next: Some(1001 * HOUR) });
        }
    }

    #[test]
    fn missed_ticks_are_made_up_for_as_the_policy_says() {
        let gap = |schedule| plan(schedule, 1000 * HOUR, 1200 * HOUR + 120_000);
        let next = Some(1201 * HOUR);
        assert_eq!(gap(hourly()), Plan { runs: vec![1200 * HOUR], missed: 200, next });
        assert_eq!(gap(hourly().catch_up(CatchUp::Skip)), Plan { runs: vec![], missed: 201, next });
        let all = gap(hourly().catch_up(CatchUp::All));
        assert_eq!((all.runs, all.missed), ((1177..=1200).map(|hour| hour * HOUR).collect(), 201 - 24));
        let all = gap(hourly().catch_up(CatchUp::All).catch_up_within("20d"));
        assert_eq!((all.runs, all.missed), ((1101..=1200).map(|hour| hour * HOUR).collect(), 101));
        let replaced = gap(hourly().catch_up(CatchUp::All).overlap(Overlap::Replace));
        assert_eq!((replaced.runs, replaced.missed), (vec![1200 * HOUR], 200));
        // None that is recent enough.
        let daily = Schedule::cron("x", "@daily", NewTask::<()>::new("report", &())).catch_up_within("1h");
        assert_eq!(plan(daily, 0, 36 * HOUR), Plan { runs: vec![], missed: 2, next: Some(48 * HOUR) });
    }

    #[test]
    fn millions_of_missed_ticks_cost_no_time() {
        let every = Schedule::every("x", "1s", NewTask::<()>::new("report", &())).catch_up(CatchUp::All);
        let plan = plan(every.catch_up_within("366d"), 1_000_000_000_000, 1_030_000_000_500);
        let runs: Vec<u64> = (0..100).map(|n| 1_030_000_000_000 - (99 - n) * 1000).collect();
        assert_eq!(plan, Plan { runs, missed: COUNTED_MAX - 100, next: Some(1_030_000_001_000) });
    }

    #[test]
    fn a_definition_reads_back_and_its_digest_tells_any_change() {
        let task =
            || NewTask::<()>::new("report", &vec![1, 2]).queue("ops").metadata("a", 1).sla_target("30m").max_retries(9);
        let schedule =
            |task| Schedule::cron("x", "0 2 * * *", task).tz("Europe/Berlin").overlap(Overlap::Queue).made_by("ann");
        let (definition, timing) = schedule(task()).define().expect("a fair schedule");
        let bytes = definition.write().expect("it can be written");
        assert_eq!(Definition::read(&bytes).expect("it can be read"), (definition, timing));
        let other = schedule(task().priority(crate::Priority::P1)).define().expect("fair").0.write().expect("fair");
        assert_ne!(bytes[..DIGEST], other[..DIGEST]);
        for cut in 0..bytes.len() {
            assert!(Definition::read(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn what_a_schedule_cannot_be_is_told() {
        let fault = |schedule: Schedule| schedule.define().expect_err("a fault").to_string();
        let task = || NewTask::<()>::new("report", &());
        assert!(fault(Schedule::every("x", "10ms", task())).contains("once a second at most"));
        assert!(fault(Schedule::every("x", "soon", task())).contains("`soon` is not a span of time"));
        assert!(fault(Schedule::every("x", "1h", task()).tz("UTC")).contains("goes with a cron expression"));
        assert!(fault(hourly().catch_up_within("1s")).contains("within 1 minute"));
        assert!(fault(Schedule::cron("x", "@hourly", task().trace_id("t"))).contains("cannot have a trace"));
        assert!(fault(Schedule::cron("x", "@hourly", task().delay("1s"))).contains("a delay"));
        let large = NewTask::<()>::new("report", &"x".repeat(SCHEDULE_PAYLOAD_MAX));
        assert!(fault(Schedule::cron("x", "@hourly", large)).contains("at most 65536 bytes"));
        assert!(fault(hourly().made_by(&"x".repeat(129))).contains("1 to 128"));
        let unique = Schedule::cron("x", "@hourly", task().unique(crate::Unique::until_done("all")));
        assert!(fault(unique.overlap(Overlap::Replace)).contains("cannot take the place"));
    }

    #[test]
    fn the_id_of_a_tick_is_its_own() {
        assert_eq!(tick_id("a", 5), tick_id("a", 5));
        assert_ne!(tick_id("a", 5), tick_id("b", 5));
        assert_ne!(tick_id("a", 5), tick_id("a", 6));
        assert_eq!(tick_id("a", 1_790_000_000_000).created_at_ms(), 1_790_000_000_000);
    }
}
