//! Everything that Redis holds for a namespace, and everything that it should hold.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use orchestrator::{SlaClock, SlaState, Stats, Status, TaskId, UniqueUntil, event};
use redis::Value;
use redis::aio::MultiplexedConnection;

use super::bytes::{header, id_bytes, read_id, slice, split_record};
use super::clock::Clock;
use super::outside::OUTSIDE;
use super::reference::{Entry, Place, Reference, Told};
use super::waits;

/// Members or fields by key, without the namespace in front: what is in a value beside them is cut to what is known of
/// it. An ordered set's score is the value of its member.
pub(crate) type Dump = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Names and values of an entry of the stream.
pub(crate) type Fields = Vec<(Vec<u8>, Vec<u8>)>;

pub(crate) fn key(name: &str, rest: impl AsRef<[u8]>) -> Vec<u8> {
    [name.as_bytes(), rest.as_ref()].concat()
}

pub(crate) fn number(n: u64) -> Vec<u8> {
    n.to_string().into_bytes()
}

/// What the model says; `closed` are the keys whose content is not looked at.
pub(crate) fn expected(model: &Reference, closed: &BTreeSet<Vec<u8>>) -> Dump {
    let mut dump = Dump::new();
    let mut put = |key: Vec<u8>, member: Vec<u8>, value: Vec<u8>| {
        assert!(dump.entry(key).or_default().insert(member, value).is_none(), "the model says something twice");
    };
    for entry in model.tasks.values() {
        let (id, asked) = (id_bytes(entry.asked.id), &entry.asked);
        let score = |at: &u64| number(model.score(entry.priority, *at));
        match &entry.place {
            Place::Ready { at } => put(key("r:", &asked.queue), id.clone(), score(at)),
            Place::Timer { due } => put(key("z", ""), key("d", &id), number(*due)),
            Place::Shelf { priority } => {
                let score = number(model.score(*priority, asked.id.created_at_ms()));
                put(key("u:", &asked.task_type), id.clone(), score);
            }
            Place::Parked { .. } => {}
            Place::Held { worker } => {
                let member = [id.as_slice(), &entry.epoch.to_be_bytes()].concat();
                put(key("w:", &model.workers[*worker].name), member, Vec::new());
            }
            Place::Ended { status, at, bucket, .. } => {
                let letter = match status {
                    Status::Completed => b'c',
                    Status::Failed => b'f',
                    _ => b'x',
                };
                let value = [header(entry), at.to_be_bytes()[2..].to_vec(), vec![letter]].concat();
                put(key("D", bucket.to_string()), id, value);
                continue;
            }
        }
        put(key("t", slice(asked.id)), id, header(entry));
    }
    for task_type in model.shelves().keys() {
        put(key("U", ""), task_type.as_bytes().to_vec(), Vec::new());
    }
    for queue in &model.queues {
        put(key("q", ""), queue.as_bytes().to_vec(), Vec::new());
    }
    for queue in &model.paused {
        put(key("g", ""), key("p", queue), number(1));
    }
    for (_, worker) in model.workers.iter() {
        if let Some(generation) = worker.generation {
            put(key("g", ""), key("w", &worker.name), number(generation));
        }
        if let Some(lease) = worker.lease {
            put(key("W", ""), worker.name.clone().into_bytes(), number(lease));
        }
        for (note, urgency) in &worker.notes {
            put(key("i:", &worker.name), key("c", id_bytes(*note)), urgency.to_string().into_bytes());
        }
    }
    for slice in &model.slices {
        put(key("T", ""), slice.to_vec(), number(0));
    }
    for bucket in &model.buckets {
        put(key("B", ""), number(*bucket), number(model.expiry(*bucket)));
    }
    for (at, id) in &model.dead {
        put(key("X", ""), id_bytes(*id), number(*at));
    }
    for (id, (at, worker)) in &model.started {
        put(key("s", ""), id_bytes(*id), format!("{at} {}", model.workers[*worker].name).into_bytes());
    }
    for (parent, children) in &model.children {
        let line = children.iter().flat_map(|child| id_bytes(*child)).collect();
        put(key("c", slice(*parent)), id_bytes(*parent), line);
    }
    for (digest, id) in &model.locks {
        let (mode, _) = model.tasks[id].asked.lock().expect("a key");
        put(key("l", ""), digest.to_vec(), id_bytes(*id));
        put(key("l", ""), id_bytes(*id), [&[mode], digest.as_slice()].concat());
    }
    waits::expected(model, &mut put);
    for key in closed {
        dump.insert(key.clone(), BTreeMap::new());
    }
    dump
}

/// What Redis says. Bodies of tasks are learnt, and must be what they were before.
pub(crate) async fn actual(
    raw: &mut MultiplexedConnection,
    base: &str,
    model: &mut Reference,
    closed: &BTreeSet<Vec<u8>>,
) -> Dump {
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg(format!("{base}*")).query_async(raw).await.expect("the keys");
    let (mut names, mut read, mut dump) = (Vec::new(), redis::pipe(), Dump::new());
    for key in &keys {
        let name = &key[base.len()..];
        if closed.contains(name) {
            dump.insert(name.to_vec(), BTreeMap::new());
            continue;
        }
        let command = match name {
            b"e" | b"now" | b"h" | b"audit" => continue,
            b"g" | b"s" | b"C" | b"O" | b"l" | b"quiet" | b"S" | b"N" | b"n" => "HGETALL",
            b"q" | b"U" => "SMEMBERS",
            b"W" | b"T" | b"z" | b"B" | b"X" | b"P" | b"y" | b"A" | b"H" | b"x" | b"Z" => "ZRANGE",
            _ => match (name[0], name.get(1)) {
                (b'w', Some(b':')) => "SMEMBERS",
                (b'r' | b'k' | b'u' | b'i', Some(b':')) => "ZRANGE",
                (b't' | b'c', _) if name.len() == 5 => "HGETALL",
                (b'a' | b'j' | b'S', Some(b':')) => "HGETALL",
                // A stream: it is read by itself.
                (b'p', Some(b':')) => continue,
                (b'D' | b'C' | b'R' | b'v', Some(b'0'..=b'9')) => "HGETALL",
                _ => panic!("there is a key that nobody should have made: {}", name.escape_ascii()),
            },
        };
        read.cmd(command).arg(key);
        if command == "ZRANGE" {
            read.arg(0).arg(-1).arg("WITHSCORES");
        }
        names.push((name.to_vec(), command));
    }
    let contents: Vec<Vec<Vec<u8>>> = read.query_async(raw).await.expect("what the keys hold");
    for ((name, command), content) in names.into_iter().zip(contents) {
        let mut members = BTreeMap::new();
        if command == "SMEMBERS" {
            members.extend(content.into_iter().map(|member| (member, Vec::new())));
        } else {
            let mut content = content.into_iter();
            while let (Some(member), Some(value)) = (content.next(), content.next()) {
                if name == b"g" && member == b"a" {
                    // The order that was agreed upon.
                    continue;
                }
                if name[0] == b'D' && member.is_empty() {
                    // It is there for the encoding only.
                    continue;
                }
                let Some(value) = waits::cut(&name, &member, value) else { continue };
                let value = match name[0] {
                    b't' => cut_record(model, &member, &value),
                    b'D' => cut_finished(model, &member, &value),
                    _ => value,
                };
                members.insert(member, value);
            }
        }
        if !members.is_empty() {
            dump.insert(name, members);
        }
    }
    dump
}

fn cut_record(model: &mut Reference, id: &[u8], record: &[u8]) -> Vec<u8> {
    let (header, body) = split_record(record).expect("a record with a header");
    if let Some(entry) = read_id(id).and_then(|id| model.tasks.get_mut(&id)) {
        match &entry.body {
            Some(known) => assert_eq!(known.as_slice(), body, "the body of {} has changed", entry.asked.id),
            None => entry.body = Some(body.to_vec()),
        }
    }
    header.to_vec()
}

fn cut_finished(model: &mut Reference, id: &[u8], value: &[u8]) -> Vec<u8> {
    let (rest, length) = value.split_last_chunk::<4>().expect("a finished value");
    let (record, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
    [cut_record(model, id, record), rest[..7].to_vec()].concat()
}

/// Says where two dumps differ first.
pub(crate) fn same(actual: &Dump, expected: &Dump) {
    if actual == expected {
        return;
    }
    let keys: BTreeSet<&Vec<u8>> = actual.keys().chain(expected.keys()).collect();
    let mut told = String::new();
    let nothing = BTreeMap::new();
    for key in keys {
        if actual.contains_key(key) != expected.contains_key(key) {
            told += &format!("\n  {} is there: {}", key.escape_ascii(), actual.contains_key(key));
        }
        let (is, should) = (actual.get(key).unwrap_or(&nothing), expected.get(key).unwrap_or(&nothing));
        let members: BTreeSet<&Vec<u8>> = is.keys().chain(should.keys()).collect();
        for member in members.into_iter().filter(|member| is.get(*member) != should.get(*member)) {
            let show = |value: Option<&Vec<u8>>| value.map_or("nothing".into(), |v| v.escape_ascii().to_string());
            let skip = usize::from(matches!(key[0], b'z' | b'i' | b'P' | b'y'));
            let id =
                if b"rzuwtDXsciPyAHC".contains(&key[0]) { member.get(skip..skip + 14).and_then(read_id) } else { None };
            let name = id.map_or_else(|| member.escape_ascii().to_string(), |id| id.to_string());
            told += &format!("\n  {} {name}", key.escape_ascii());
            told += &format!("\n     is {}\n should {}", show(is.get(member)), show(should.get(member)));
        }
    }
    panic!("Redis and the model differ:{}", told.chars().take(4000).collect::<String>());
}

/// A queue from which something can be had has its wake token, or somebody took it and owes a step. Takes the tokens
/// out: more of them than needed do no harm.
pub(crate) fn awake(dump: &mut Dump, model: &Reference) {
    let mut tokens = BTreeSet::new();
    dump.retain(|key, members| {
        let token = key.strip_prefix(b"k:");
        if let Some(queue) = token {
            assert_eq!(*members, BTreeMap::from([(b"x".to_vec(), number(0))]), "a wake token");
            tokens.insert(queue.to_vec());
        }
        token.is_none()
    });
    for queue in model.queues.iter().filter(|queue| !model.paused.contains(*queue) && !model.ready(queue).is_empty()) {
        let owed = model.owed.iter().any(|(_, owed)| owed == queue);
        assert!(owed || tokens.contains(queue.as_bytes()), "queue {queue} has tasks, and nobody is woken for them");
    }
}

/// Each accepted task lies in exactly one place, counted on Redis alone.
pub(crate) fn each_in_one_place(dump: &Dump) {
    let mut places: BTreeMap<&[u8], Vec<&[u8]>> = BTreeMap::new();
    let mut stored = BTreeSet::new();
    for (key, members) in dump {
        for member in members.keys() {
            match (key[0], key.get(1)) {
                (b'r' | b'u', Some(b':')) => places.entry(member).or_default().push(key),
                (b'w', Some(b':')) => places.entry(&member[..14]).or_default().push(key),
                (b'z' | b'P', None) => places.entry(&member[1..]).or_default().push(key),
                (b'D', _) => places.entry(member).or_default().push(key),
                (b't', Some(_)) => assert!(stored.insert(member.as_slice()), "two records of one task"),
                _ => {}
            }
        }
    }
    for (id, places) in places {
        assert_eq!(places.len(), 1, "{} lies in {places:?}", id.escape_ascii());
        assert_eq!(
            stored.remove(id),
            places[0][0] != b'D',
            "the record of {} does not fit its place",
            id.escape_ascii()
        );
    }
    assert!(stored.is_empty(), "records of tasks that lie nowhere: {stored:?}");
}

/// The counts of `stats` are those of the keys and those of the model.
pub(crate) fn counted(stats: &Stats, dump: &Dump, model: &Reference) {
    let size = |name: &str| dump.get(name.as_bytes()).map_or(0, |members| members.len() as u64);
    let kind = |name: &str| -> u64 {
        dump.iter().filter(|(key, _)| key.starts_with(name.as_bytes())).map(|(_, members)| members.len() as u64).sum()
    };
    let of = |place: fn(&Place) -> bool| model.tasks.values().filter(|entry| place(&entry.place)).count() as u64;
    let ready = of(|place| matches!(place, Place::Ready { .. }));
    let timers = of(|place| matches!(place, Place::Timer { .. }));
    let held = of(|place| matches!(place, Place::Held { .. }));
    let shelved = of(|place| matches!(place, Place::Shelf { .. }));
    let blocked = of(|place| matches!(place, Place::Parked { .. }));
    let present = model.workers.iter().filter(|(life, l)| *life < OUTSIDE && l.lease.is_some()).count() as u64;
    let leases = dump.get(b"W".as_slice()).into_iter().flat_map(|leases| leases.keys());
    let workers = leases.filter(|name| !name.starts_with(b"h:")).count() as u64;
    assert_eq!([stats.scheduled_tasks; 2], [size("z"), timers], "scheduled");
    assert_eq!([stats.pending_tasks; 2], [kind("r:") + size("z"), ready + timers], "pending");
    assert_eq!([stats.processing_tasks; 2], [kind("w:"), held], "processing");
    assert_eq!(stats.total_tasks, ready + timers + held, "total");
    assert_eq!([stats.shelved_tasks; 2], [kind("u:"), shelved], "shelved");
    assert_eq!([stats.blocked_tasks; 2], [size("P"), blocked], "blocked");
    assert_eq!([stats.dead_tasks; 2], [size("X"), model.dead.len() as u64], "dead");
    assert_eq!([stats.workers; 2], [workers, present], "workers");
    assert_eq!(stats.set_aside, 0, "set aside");
    let told: Vec<(&str, u64, bool)> = stats.queues.iter().map(|q| (q.queue.as_str(), q.ready, q.paused)).collect();
    let ready = |queue: &String| model.ready(queue).len() as u64;
    let queues: Vec<_> = model.queues.iter().map(|q| (q.as_str(), ready(q), model.paused.contains(q))).collect();
    assert_eq!(told, queues, "queues");
}

/// The events from an entry on, and the id of the last entry.
pub(crate) async fn read_events(
    raw: &mut MultiplexedConnection,
    base: &str,
    from: &str,
) -> (Option<String>, Vec<event::TaskEvent>) {
    let mut read = redis::cmd("XRANGE");
    let entries: Vec<Value> =
        read.arg(format!("{base}e")).arg(from).arg("+").query_async(raw).await.expect("the stream");
    let (mut last, mut events) = (None, Vec::new());
    for entry in entries {
        let (id, fields): (String, Fields) = redis::from_redis_value(entry).expect("an entry");
        let bare = fields.iter().all(|(name, _)| name == b"w") || fields.iter().any(|(_, value)| value.is_empty());
        assert!(!bare, "the entry {id} tells of nothing: {fields:?}");
        last = Some(id);
        if fields[0].0 == b"P" {
            let task_id = read_id(&fields[0].1[..14]).expect("the id of an event");
            events.push(event::TaskEvent { task_id, event_type: "told", number: 0, approval_id: None });
        }
        events.extend(event::unpack(&fields));
    }
    (last, events)
}

/// Reads the stream on from where it was left, and holds its events against what should be told.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    last: String,
    numbers: HashMap<TaskId, u32>,
}

impl Stream {
    pub(crate) async fn check(&mut self, raw: &mut MultiplexedConnection, base: &str, model: &mut Reference) {
        let from = if self.last.is_empty() { "-".into() } else { format!("({}", self.last) };
        let (last, events) = read_events(raw, base, &from).await;
        self.last = last.unwrap_or_else(|| std::mem::take(&mut self.last));
        let mut events: Vec<Told> = events
            .into_iter()
            .map(|e| {
                (
                    *model.voices.lines.get(&e.task_id).unwrap_or(&e.task_id),
                    e.event_type,
                    e.number,
                    e.approval_id.map(|approval| approval.number),
                )
            })
            .collect();
        for (id, event_type, number, _) in &events {
            if *number == 0 {
                // No change of state.
                continue;
            }
            let last = self.numbers.insert(*id, *number).unwrap_or(0);
            // A dead letter that was pushed out is forgotten, and may be sent once more.
            let anew = *number == 1 && *event_type == "task.created" && model.gone.contains(id);
            assert!(anew || *number == last + 1, "event {event_type} of {id} is number {number} after {last}");
        }
        let mut told = std::mem::take(&mut model.told);
        // Within one call the order among tasks is free; that of one task is not.
        told.sort_by_key(|(id, ..)| *id);
        events.sort_by_key(|(id, ..)| *id);
        let differ = events.iter().zip(&told).position(|(is, should)| is != should);
        let at = differ.unwrap_or(events.len().min(told.len()));
        assert!(events == told, "the stream tells {:?} where {:?} should be", events.get(at), told.get(at));
    }
}

/// The task as the client reads it is the task of the model.
pub(crate) fn agrees(task: &orchestrator::Task, entry: &Entry, model: &Reference) {
    let (id, asked) = (entry.asked.id, &entry.asked);
    assert_eq!(task.status, entry.status(), "status of {id}");
    let running = matches!(entry.place, Place::Held { .. });
    let instant = |at: Option<u64>| at.and_then(|at| i64::try_from(at).ok());
    let (mut started, mut ended, mut error, mut reason, mut result) = (None, None, entry.error.clone(), None, None);
    let mut due = (asked.due > 0).then_some(asked.due);
    let (mut until, mut followed) = (None, entry.attempts);
    match &entry.place {
        Place::Held { .. } => started = model.started.get(&id).map(|(at, _)| *at),
        Place::Timer { due: at } => due = Some(*at),
        Place::Parked { over, .. } => until = Some(*over),
        Place::Ended { at, ending, .. } => {
            started = ending.started_after.map(|after| id.created_at_ms() + after);
            ended = Some(*at);
            error = ending.error.clone().or(error);
            (reason, result) = (ending.reason, ending.result);
            followed -= u32::from(ending.started_after.is_some()).min(followed);
        }
        _ => {}
    }
    assert_eq!(task.task_id, id);
    assert_eq!(
        (&task.task_type, &task.queue, &task.assigned_to),
        (&asked.task_type, &asked.queue, &asked.queue),
        "{id}"
    );
    assert_eq!((task.priority, task.max_retries), (entry.priority, asked.max_retries), "{id}");
    assert_eq!(task.payload, serde_json::json!(asked.payload), "payload of {id}");
    assert_eq!(task.created_at.timestamp_millis() as u64, id.created_at_ms(), "creation of {id}");
    assert_eq!(task.parent_task_id, asked.parent, "parent of {id}");
    assert_eq!(task.child_task_ids, model.children.get(&id).cloned().unwrap_or_default(), "children of {id}");
    assert_eq!(task.started_at.map(|at| at.timestamp_millis()), instant(started), "start of {id}");
    assert_eq!(task.completed_at.map(|at| at.timestamp_millis()), instant(ended), "end of {id}");
    assert_eq!(task.run_at.map(|at| at.timestamp_millis()), instant(due), "due instant of {id}");
    assert_eq!(task.blocked_until.map(|at| at.timestamp_millis()), instant(until), "end of the wait of {id}");
    assert_eq!((task.error.as_ref(), task.reason.as_deref()), (error.as_ref(), reason), "error of {id}");
    assert_eq!(task.result, result.map(|n| serde_json::json!(n)), "result of {id}");
    assert_eq!((task.retry_count, task.crashes), (followed, entry.crashes), "retries and crashes of {id}");
    assert_eq!(task.attempt, entry.attempts + entry.crashes + u32::from(running), "attempts of {id}");
    assert_eq!(task.shelved, matches!(entry.place, Place::Shelf { .. }), "shelf of {id}");
    assert_eq!(task.blocked_on, entry.blocked_on(), "what {id} waits for");
    let approval = match entry.place {
        _ if entry.gated => Some(0),
        Place::Parked { approval: Some(number), .. } => Some(number),
        _ => entry.passed.then_some(0),
    };
    assert_eq!(task.approval_id.map(|approval| approval.number), approval, "approval of {id}");
    assert_eq!(task.requested_by, asked.requested_by, "submitter of {id}");
    assert_eq!(
        task.expires_at.map(|at| at.timestamp_millis()),
        instant(entry.expiry.map(|expiry| expiry.at)),
        "when {id} expires"
    );
    let until = asked.unique.map(|(_, started)| if started { UniqueUntil::Started } else { UniqueUntil::Done });
    assert_eq!(task.unique, until, "until when {id} is alone");
    assert_eq!((task.sla.is_some(), task.sla_clock.is_some()), (asked.promise.is_some(), entry.clock.is_some()));
    if let (Some(told), Some(clock)) = (&task.sla_clock, &entry.clock) {
        clock_agrees(told, clock, entry);
    }
    assert_eq!(task.cancel_requested, entry.cancel, "request to cancel {id}");
    let progress =
        model.journals.get(&id).filter(|_| running && entry.journal).and_then(|journal| journal.progress.as_ref());
    assert_eq!(task.progress, progress.map(|(fraction, _)| *fraction), "how far {id} is");
    let note = progress.map(|(_, note)| note.as_str()).filter(|note| !note.is_empty());
    assert_eq!(task.progress_note.as_deref(), note, "what is told of how far {id} is");
    assert_eq!(task.changes, entry.changes + u32::from(running), "changes of {id}");
}

/// The clock as the client reads it. It counts the time on by its own idea of it while the task is live.
fn clock_agrees(told: &SlaClock, clock: &Clock, entry: &Entry) {
    let (id, ended) = (entry.asked.id, entry.status().is_terminal());
    let state = match clock {
        _ if clock.violated => SlaState::Violated,
        _ if ended => SlaState::Met,
        _ if clock.stands() => SlaState::Paused,
        _ if clock.warned => SlaState::Warning,
        _ => SlaState::Ok,
    };
    assert_eq!(told.state, state, "clock of {id}");
    let due = clock.end().filter(|_| !ended).map(|at| at as i64);
    assert_eq!(told.due.map(|at| at.timestamp_millis()), due, "when the clock of {id} runs out");
    if ended {
        assert_eq!([told.queue_ms, told.machine_ms, told.human_ms], clock.spent, "where the time of {id} went");
    }
}
