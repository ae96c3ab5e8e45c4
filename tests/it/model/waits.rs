//! What Redis should hold of approvals, journals, clocks and the audit.

use std::collections::{BTreeMap, BTreeSet};

use orchestrator::{ApprovalId, ApprovalStatus, Entry, Gate, Noted, TaskId};
use redis::Value;
use redis::aio::MultiplexedConnection;

use super::alone;
use super::awaited;
use super::bytes::{entry_stored, id_bytes, read_id};
use super::outputs;
use super::outside;
use super::parked::{Approval, Journal};
use super::reference::{Place, Reference};
use super::schedulers;
use super::state::{Fields, key, number};
use super::ticks;

/// The name of an approval behind `a:`, and in `A` and `H`.
pub(crate) fn member(id: TaskId, number: u16) -> Vec<u8> {
    [id_bytes(id).as_slice(), &number.to_be_bytes()].concat()
}

/// What stands beside the tasks.
pub(crate) fn expected(model: &Reference, mut put: impl FnMut(Vec<u8>, Vec<u8>, Vec<u8>)) {
    for (over, id) in model.waits() {
        put(key("P", ""), key("p", id_bytes(id)), self::number(over));
    }
    for (at, letter, id) in model.alarms() {
        put(key("y", ""), [&[letter], id_bytes(id).as_slice()].concat(), self::number(at));
    }
    for ((id, n), approval) in &model.approvals {
        if approval.status == ApprovalStatus::Pending {
            put(key("A", ""), member(*id, *n), self::number(approval.asked_at));
        }
        for (field, value) in fields(approval) {
            put(key("a:", member(*id, *n)), field.into_bytes(), value);
        }
    }
    for (at, id, n) in &model.history {
        put(key("H", ""), member(*id, *n), self::number(*at));
    }
    for (id, entry) in &model.tasks {
        if let Some(clock) = &entry.clock {
            let bucket = match &entry.place {
                Place::Ended { bucket, .. } => bucket.to_string(),
                _ => String::new(),
            };
            put(key("C", bucket), id_bytes(*id), clock.state());
        }
    }
    for (id, journal) in &model.journals {
        for (field, value) in noted(journal) {
            put(key("j:", id_bytes(*id)), field, value);
        }
    }
    ticks::expected(model, &mut put);
    outputs::expected(model, &mut put);
    awaited::expected(model, |name, member, value| put(key(name, ""), member, value));
    for (hour, counts) in &model.hours {
        for (row, count) in counts {
            put(key("R", hour.to_string()), row.clone().into_bytes(), self::number(*count));
        }
    }
}

/// The keys of what was decided, and of journals and outputs of tasks that have ended.
pub(crate) fn closed(model: &Reference) -> BTreeSet<Vec<u8>> {
    let decided = model.approvals.iter().filter(|(_, approval)| approval.status != ApprovalStatus::Pending);
    let ended = model.journals.iter().filter(|(_, journal)| journal.expires);
    let keys = decided.map(|((id, n), _)| key("a:", member(*id, *n)));
    let keys = keys.chain(ended.map(|(id, _)| key("j:", id_bytes(*id))));
    keys.chain(outputs::closed(model)).collect()
}

/// An approval as it is stored, but for what was asked in words.
fn fields(approval: &Approval) -> BTreeMap<String, Vec<u8>> {
    let (question, terms) = (&approval.question, &approval.question.terms);
    let status = approval.status.to_string();
    let mut gate = Gate::new();
    gate.terms = terms.clone();
    // Without a name in the journal it is a gate that asks.
    let digest = if approval.name.is_empty() { gate.digest() } else { String::new() };
    let mut fields: BTreeMap<String, Vec<u8>> = [
        ("st", status.into_bytes()),
        ("rq", number(approval.asked_at)),
        ("ex", number(approval.expires)),
        ("by", approval.by.join(" ").into_bytes()),
        ("q", number(terms.quorum.into())),
        ("own", question.own.clone().into_bytes()),
        ("hash", question.hash.clone().into_bytes()),
        ("n", number(approval.votes.into())),
        ("due", number(question.due)),
        ("jn", approval.name.clone().into_bytes()),
        ("rem", number(terms.remind_ms.unwrap_or(0))),
        ("gd", digest.into_bytes()),
        ("esc", terms.escalate.as_ref().map_or_else(Vec::new, |(_, whom)| whom.clone().into_bytes())),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    for (name, value) in &approval.marks {
        fields.insert(name.clone(), value.clone().into_bytes());
    }
    if let Some((at, decision)) = &approval.decision {
        fields.insert("at".into(), number(*at));
        fields.insert("who".into(), decision.who.clone().into_bytes());
        fields.insert("why".into(), decision.why.clone().into_bytes());
        fields.insert("f".into(), decision.form.clone());
    }
    fields
}

fn noted(journal: &Journal) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let stored = |(name, entry): (&String, &Entry)| match journal.waits.get(name) {
        Some(wait) => (name.clone().into_bytes(), wait.stored(entry)),
        None => (name.clone().into_bytes(), entry_stored(entry)),
    };
    let awaiting = journal.awaiting.iter().map(|call| (b"\0e".to_vec(), call.clone().into_bytes()));
    let progress = journal.progress.iter().map(|progress| (b"\0p".to_vec(), outside::progress_bytes(progress)));
    let entries = journal.entries.iter().map(stored).chain(awaiting).chain(progress);
    let counters = [(b"\0n", u64::from(journal.asked)), (b"\0b", journal.bytes.unwrap_or(0))];
    let there = [journal.asked > 0, journal.bytes.is_some()];
    let counters = counters.into_iter().zip(there).filter(|(_, there)| *there);
    entries.chain(counters.map(|((name, n), _)| (name.to_vec(), number(n)))).collect()
}

/// Cuts what the model does not know byte by byte: words, and how a decision is packed. The latter is looked at where
/// it is read.
pub(crate) fn cut(name: &[u8], field: &[u8], value: Vec<u8>) -> Option<Vec<u8>> {
    match name[0] {
        b'a' if field == b"v" => None,
        // When a queue told again, by the client's idea of the time.
        b'q' if name == b"quiet" && value != b"off" => Some(b"ended".to_vec()),
        b'j' if value.first() == Some(&b'a') && value.len() > 43 => Some(value[..43].to_vec()),
        _ => Some(value),
    }
}

/// Journals and approvals that are done with expire by themselves, and no others do.
pub(crate) async fn expiring(raw: &mut MultiplexedConnection, base: &str, model: &Reference) {
    let (mut ask, mut expires) = (redis::pipe(), Vec::new());
    for (id, journal) in &model.journals {
        ask.cmd("PTTL").arg([base.as_bytes(), b"j:", &id_bytes(*id)].concat());
        expires.push((format!("the journal of {id}"), journal.expires));
    }
    for ((id, n), approval) in &model.approvals {
        ask.cmd("PTTL").arg([base.as_bytes(), b"a:", &member(*id, *n)].concat());
        expires.push((format!("approval {n} of {id}"), approval.status != ApprovalStatus::Pending));
    }
    for hour in model.voices.named.keys() {
        ask.cmd("PTTL").arg(format!("{base}v{hour}"));
        expires.push((format!("what was told in hour {hour}"), true));
    }
    if expires.is_empty() {
        return;
    }
    let left: Vec<i64> = ask.query_async(raw).await.expect("what is left");
    for ((what, expires), left) in expires.into_iter().zip(left) {
        assert_eq!(left > 0, expires, "{what} has {left} ms left");
        assert!(left == -1 || expires, "{what} is not there");
    }
}

/// Nothing is asked of people and nothing has an alarm but what waits or runs, counted on Redis alone.
pub(crate) fn no_orphans(dump: &super::state::Dump, latest: u64) {
    let members = |name: &str| -> Vec<&Vec<u8>> {
        dump.get(name.as_bytes()).map(|members| members.keys().collect()).unwrap_or_default()
    };
    let records = dump.iter().filter(|(key, _)| key[0] == b't').flat_map(|(_, records)| records);
    let flags: BTreeMap<&[u8], u16> =
        records.map(|(id, record)| (id.as_slice(), u16::from_be_bytes([record[13], record[14]]))).collect();
    let waiting: Vec<&Vec<u8>> = dump.get(b"O".as_slice()).map(|names| names.values().collect()).unwrap_or_default();
    awaited::no_orphans(&waiting, &flags);
    let asking: BTreeSet<&[u8]> = members("A").into_iter().map(|asked| &asked[..14]).collect();
    let all = &flags;
    let flags = |id: &[u8]| all.get(id).copied().unwrap_or(0);
    let mut waiting = BTreeSet::new();
    for timer in members("P") {
        assert_ne!(flags(&timer[1..]) & 6, 0, "a wait of a task that does not wait");
        waiting.insert(timer[1..].to_vec());
    }
    for timer in members("y") {
        let flag = match timer[0] {
            b'm' | b'e' => 2,
            b'x' => 2048,
            _ => 32,
        };
        assert_ne!(flags(&timer[1..]) & flag, 0, "an alarm `{}` of a task that has none", char::from(timer[0]));
    }
    alone::no_orphans(dump, all);
    schedulers::no_orphans(dump, all, latest);
    outputs::no_orphans(dump, all);
    for (id, flags) in all {
        let timer = [b"x", *id].concat();
        let timers = members("y").into_iter().filter(|other| **other == timer).count();
        assert_eq!(timers, usize::from(flags & 2048 != 0), "{:?} expires, or its timer", read_id(id));
    }
    for asked in &asking {
        assert_eq!(flags(asked) & 2, 2, "a question of a task that asks nothing");
    }
    for clock in members("C") {
        assert_eq!(flags(clock) & 32, 32, "a clock of a task that has none");
    }
    for (id, flags) in all {
        assert_eq!(flags & 6 != 0, waiting.contains(*id), "{:?} waits for nothing", read_id(id));
        assert_eq!(flags & 2 != 0, asking.contains(id), "{:?} asks nobody", read_id(id));
    }
}

/// Reads the audit on from where it was left, and holds it against what should be written down.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    last: String,
    written: u64,
}

impl Audit {
    pub(crate) async fn check(&mut self, raw: &mut MultiplexedConnection, base: &str, model: &mut Reference) {
        let from = if self.last.is_empty() { "-".into() } else { format!("({}", self.last) };
        let mut read = redis::cmd("XRANGE");
        let entries: Vec<Value> =
            read.arg(format!("{base}audit")).arg(from).arg("+").query_async(raw).await.expect("the audit");
        let mut written = Vec::new();
        for entry in entries {
            let (stored, fields): (String, Fields) = redis::from_redis_value(entry).expect("an entry");
            self.last = stored;
            self.written += 1;
            let text = |name: &str| {
                let found = fields.iter().find(|(field, _)| field == name.as_bytes()).map(|(_, value)| value);
                String::from_utf8_lossy(found.unwrap_or_else(|| panic!("no {name} in the audit"))).into_owned()
            };
            assert_eq!(text("n"), self.written.to_string(), "number of an entry of the audit");
            let id = fields.iter().find(|(name, _)| name == b"id").and_then(|(_, id)| read_id(id)).expect("an id");
            let number = text("no").parse().expect("a number");
            let at = text("t").parse().expect("an instant");
            written.push((text("op"), id, number, text("who"), text("note"), text("hash"), at));
        }
        let mut should: Vec<_> = std::mem::take(&mut model.audited)
            .into_iter()
            .map(|(op, id, number, who, note, hash, at): (_, _, u16, _, _, _, u64)| {
                (op.to_owned(), id, number, who, note, hash, at)
            })
            .collect();
        // Within one call the order among tasks is free.
        should.sort_by_key(|(_, id, ..)| *id);
        written.sort_by_key(|(_, id, ..)| *id);
        let differ = written.iter().zip(&should).position(|(is, should)| is != should);
        let at = differ.unwrap_or(written.len().min(should.len()));
        assert!(written == should, "the audit says {:?} where {:?} should be", written.get(at), should.get(at));
    }

    pub(crate) fn written(&self) -> u64 {
        self.written
    }
}

/// An approval as the client reads it is the one of the model.
pub(crate) fn agrees(told: &orchestrator::Approval, (id, n): (TaskId, u16), approval: &Approval) {
    let question = &approval.question;
    assert_eq!(told.approval_id, ApprovalId { task: id, number: n });
    assert_eq!((told.status, told.quorum), (approval.status, question.terms.quorum), "approval {n} of {id}");
    assert_eq!((&told.by, &told.form), (&approval.by, &question.form), "approval {n} of {id}");
    assert_eq!(told.payload_hash, question.hash, "what approval {n} of {id} shows");
    assert_eq!(told.requested_by.clone().unwrap_or_default(), question.own, "submitter of {id}");
    let voted: BTreeSet<String> = told.votes.iter().map(|vote| format!("+{}", vote.by)).collect();
    let votes = approval.marks.keys().filter(|mark| mark.starts_with('+')).cloned().collect();
    assert_eq!(voted, votes, "votes on approval {n} of {id}");
    let at = |at: Option<u64>| at.map(|at| at as i64);
    let decided = approval.decision.as_ref();
    assert_eq!(told.approved_at.map(|at| at.timestamp_millis()), at(decided.map(|(at, _)| *at)));
    let who = decided.map(|(_, decision)| decision.who.clone()).filter(|who| !who.is_empty());
    assert_eq!(told.approved_by, who, "who decided on approval {n} of {id}");
    assert_eq!(told.expires_at.timestamp_millis() as u64, approval.expires);
}

/// What a running task reads in its journal, the decisions too.
pub(crate) fn reads(entries: &[(String, orchestrator::Entry)], journal: Option<&Journal>) {
    let entries: BTreeMap<_, _> = entries.iter().cloned().collect();
    let nothing = Journal::default();
    for (name, entry) in &journal.unwrap_or(&nothing).entries {
        let mut entry = entry.clone();
        if let Noted::Asked { .. } = entry.noted {
            entry.digest = [0; 8];
        }
        if let Some((at, bytes)) = journal.and_then(|journal| journal.waits.get(name)?.found.clone()) {
            let Some(Noted::Found(event)) = entries.get(name).map(|entry| entry.noted.clone()) else {
                panic!("{name} was found")
            };
            let id = read_id(&bytes[..14]).expect("an id").to_string();
            assert_eq!((event.event_id.clone(), event.cursor.to_string()), (id, format!("{}-{}.0", at.0, at.1)));
            entry.noted = Noted::Found(event);
        }
        assert_eq!(entries.get(name), Some(&entry), "the entry {name} of a journal");
    }
    assert_eq!(entries.len(), journal.map_or(0, |journal| journal.entries.len()), "entries of a journal");
}
