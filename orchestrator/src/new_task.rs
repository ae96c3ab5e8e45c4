//! A request to create a task: typed by the handler that it is for, checked when it is submitted.

mod template;

use std::marker::PhantomData;
use std::time::Duration;

use std::cell::OnceCell;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

pub(crate) use self::template::Template;
use crate::asking::{Asking, Request};
use crate::codec::{self, PAYLOAD_BYTES_MAX};
use crate::condition::Facts;
use crate::expiry::expires_ms;
use crate::id::ID_BYTES;
use crate::idempotency::Key;
use crate::policy::Gate;
use crate::record::{Body, Header, flag};
use crate::retry::MAX_RETRIES_DEFAULT;
use crate::router::check_name;
use crate::sla::{SlaRule, SlaTerms};
use crate::task::to_json;
use crate::unique::{Lock, Unique};
use crate::{Backoff, Config, Error, Event, Offer, Priority, Result, Sla, Source, Span, Task, TaskId};

/// Largest metadata of a task, in bytes of MessagePack.
pub const METADATA_BYTES_MAX: usize = 16 * 1024;

/// What a handler lays down for its tasks.
#[derive(Clone, Debug, Default)]
struct Policies {
    gate: Option<Gate>,
    sla: Option<SlaTerms>,
    expires: Option<Duration>,
    unique: Option<Unique>,
}

/// What its submitter lays down for its attempts, and for others like it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) expires: Option<Span>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) unique: Option<Unique>,
}

/// A task to be submitted. `T` is what its result will be read as; [`Value`] when nobody said.
#[derive(Clone, Debug)]
#[must_use = "a new task does nothing until it is enqueued"]
pub struct NewTask<T = Value> {
    pub(crate) id: Option<TaskId>,
    /// Whether the id follows from what caused the task, however long ago.
    derived_id: bool,
    pub(crate) task_type: String,
    pub(crate) queue: Option<String>,
    /// Queue of the handler that the caller has in its hands, used when no rule and no worker says otherwise.
    pub(crate) home: Option<String>,
    pub(crate) priority: Priority,
    pub(crate) source: Source,
    payload: std::result::Result<Vec<u8>, String>,
    max_retries: u8,
    trace_id: Option<String>,
    pub(crate) parent: Option<TaskId>,
    metadata: serde_json::Map<String, Value>,
    sla_target: Option<Span>,
    sla_deadline: Option<DateTime<Utc>>,
    sla: Option<SlaTerms>,
    /// Of the handler that the caller has in its hands, in case no worker has published it yet.
    handler: Policies,
    pub(crate) requested_by: Option<String>,
    asked_by: Option<String>,
    tenant: Option<String>,
    delay: Option<Span>,
    run_at: Option<DateTime<Utc>>,
    idempotency_key: Option<String>,
    pub(crate) rules: Rules,
    result: PhantomData<fn() -> T>,
}

impl<T> NewTask<T> {
    /// A task of `task_type` with `payload`, at priority P2, from a user, with 3 retries.
    ///
    /// A payload that cannot be written is reported when the task is enqueued.
    pub fn new<P: Serialize + ?Sized>(task_type: &str, payload: &P) -> Self {
        Self {
            id: None,
            derived_id: false,
            task_type: task_type.into(),
            queue: None,
            home: None,
            priority: Priority::default(),
            source: Source::default(),
            payload: codec::encode("payload", payload, PAYLOAD_BYTES_MAX).map_err(|error| error.to_string()),
            max_retries: MAX_RETRIES_DEFAULT,
            trace_id: None,
            parent: None,
            metadata: serde_json::Map::new(),
            sla_target: None,
            sla_deadline: None,
            sla: None,
            handler: Policies::default(),
            requested_by: None,
            asked_by: None,
            tenant: None,
            delay: None,
            run_at: None,
            idempotency_key: None,
            rules: Rules::default(),
            result: PhantomData,
        }
    }

    /// Its id, for a submitter that wants to be able to repeat the call: the same id yields the same task.
    pub fn id(mut self, id: TaskId) -> Self {
        self.id = Some(id);
        self
    }

    /// A key under which the same caller (see [`NewTask::requested_by`]) gets the same task when it submits the same again,
    /// for as long as [`Config::idempotency`] says; something else under that key is a conflict. What the task is to do
    /// counts, not the trace that it belongs to.
    pub fn idempotency_key(mut self, key: &str) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// The queue, instead of the routed one.
    pub fn queue(mut self, queue: &str) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// The queue to use when neither a rule nor a present worker names one.
    #[doc(hidden)]
    pub fn home(mut self, queue: &str) -> Self {
        self.home = Some(queue.into());
        self
    }

    /// Its order within the queue.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Who asks for it.
    pub fn source(mut self, source: Source) -> Self {
        self.source = source;
        self
    }

    /// Attempts that may follow the first, 0 to 255.
    pub fn max_retries(mut self, retries: u8) -> Self {
        self.max_retries = retries;
        self
    }

    /// The trace it belongs to: 1 to 128 printable ASCII characters.
    pub fn trace_id(mut self, trace_id: &str) -> Self {
        self.trace_id = Some(trace_id.into());
        self
    }

    /// Makes it a child of `parent`: the parent lists it, it joins the parent's trace and belongs to the parent's tenant.
    pub fn child_of(mut self, parent: &Task) -> Self {
        self.trace_id = Some(parent.trace_id.clone());
        self.tenant = parent.tenant.clone().or(self.tenant);
        self.parent_id(parent.task_id)
    }

    /// Makes it a child of the task `parent`, without its trace.
    pub fn parent_id(mut self, parent: TaskId) -> Self {
        self.parent = Some(parent);
        self
    }

    /// Makes it the one task that a consumer group starts because of an event: the same event starts it once, as long as it is
    /// kept. It joins the event's trace and, if the event is about a task, becomes its child.
    pub fn because_of<P>(mut self, event: &Event<P>, group: &str) -> Self {
        let (mut seed, mut id) = (Sha256::new(), [0; ID_BYTES]);
        for part in [group, &self.task_type, &event.event_id] {
            seed.update([part.as_bytes(), b"\n"].concat());
        }
        let told_ms = u64::try_from(event.timestamp.timestamp_millis()).unwrap_or(0);
        id[..6].copy_from_slice(&told_ms.to_be_bytes()[2..]);
        id[6..].copy_from_slice(&seed.finalize()[..ID_BYTES - 6]);
        (self.id, self.derived_id) = (TaskId::from_slice(&id), true);
        self.trace_id = Some(event.trace_id.clone());
        self.parent = event.task_id;
        self
    }

    /// One free field; all together at most [`METADATA_BYTES_MAX`].
    pub fn metadata(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// The total time it may take, from its creation.
    pub fn sla_target(mut self, target: impl Into<Span>) -> Self {
        self.sla_target = Some(target.into());
        self
    }

    /// The instant by which it must have ended.
    pub fn sla_deadline(mut self, deadline: DateTime<Utc>) -> Self {
        self.sla_deadline = Some(deadline);
        self
    }

    /// What is promised for its total time, instead of what its handler or a rule says.
    pub fn sla(mut self, sla: SlaTerms) -> Self {
        self.sla = Some(sla);
        self
    }

    /// The gate and the promise of its handler.
    #[doc(hidden)]
    pub fn policies(mut self, gate: Option<Gate>, sla: Option<SlaTerms>) -> Self {
        self.handler = Policies { gate, sla, ..self.handler };
        self
    }

    /// When the tasks of its handler expire, and what makes them unique.
    #[doc(hidden)]
    pub fn handler_rules(mut self, expires: Option<Duration>, unique: Option<Unique>) -> Self {
        self.handler = Policies { expires, unique, ..self.handler };
        self
    }

    /// The caller on whose behalf it is submitted unless one is named.
    pub(crate) fn requested_by_default(mut self, caller: Option<&str>) -> Self {
        self.requested_by = self.requested_by.or_else(|| caller.map(Into::into));
        self
    }

    /// The callers on whose behalf it is submitted unless one is named: of a task whose child it is, or that an event is about,
    /// also who had a schedule make that one.
    #[doc(hidden)]
    pub fn asked_for_default(mut self, requested_by: Option<&str>, asked_by: Option<&str>) -> Self {
        if self.requested_by.is_none() {
            self.asked_by = self.asked_by.or_else(|| asked_by.map(Into::into));
        }
        self.requested_by_default(requested_by)
    }

    /// The caller on whose behalf it is submitted: at most 128 characters.
    pub fn requested_by(mut self, caller: &str) -> Self {
        self.requested_by = Some(caller.into());
        self
    }

    /// Who has a schedule make it, where somebody else submits it.
    pub(crate) fn asked_by(mut self, caller: &str) -> Self {
        self.asked_by = Some(caller.into());
        self
    }

    /// The tenant that it belongs to: callers of a gateway who have a tenant see and change its tasks alone. A name of
    /// `a-z 0-9 _ . -`.
    pub fn tenant(mut self, tenant: &str) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// The tenant that it belongs to unless one is named: that of the task whose child it is.
    #[doc(hidden)]
    pub fn tenant_default(mut self, tenant: Option<&str>) -> Self {
        self.tenant = self.tenant.or_else(|| tenant.map(Into::into));
        self
    }

    /// Starts no sooner than `delay` from now.
    pub fn delay(mut self, delay: impl Into<Span>) -> Self {
        self.delay = Some(delay.into());
        self
    }

    /// Starts no sooner than `instant`.
    pub fn run_at(mut self, instant: DateTime<Utc>) -> Self {
        self.run_at = Some(instant);
        self
    }

    /// The same task with its result read as JSON, so that tasks of several kinds fit one list.
    pub fn untyped(self) -> NewTask {
        NewTask {
            id: self.id,
            derived_id: self.derived_id,
            task_type: self.task_type,
            queue: self.queue,
            home: self.home,
            priority: self.priority,
            source: self.source,
            payload: self.payload,
            max_retries: self.max_retries,
            trace_id: self.trace_id,
            parent: self.parent,
            metadata: self.metadata,
            sla_target: self.sla_target,
            sla_deadline: self.sla_deadline,
            sla: self.sla,
            handler: self.handler,
            requested_by: self.requested_by,
            asked_by: self.asked_by,
            tenant: self.tenant,
            delay: self.delay,
            run_at: self.run_at,
            idempotency_key: self.idempotency_key,
            rules: self.rules,
            result: PhantomData,
        }
    }

    /// Checks everything and writes the record for `queue`.
    pub(crate) fn into_draft(
        mut self,
        id: TaskId,
        queue: String,
        now_ms: u64,
        config: &Config,
        published: Option<&Offer>,
    ) -> Result<Draft> {
        check_name("task type", &self.task_type)?;
        check_name("queue", &queue)?;
        let payload = std::mem::replace(&mut self.payload, Ok(Vec::new())).map_err(Error::invalid)?;
        check_text("trace id", self.trace_id.as_deref())?;
        check_text("caller's name", self.requested_by.as_deref())?;
        check_text("caller's name", self.asked_by.as_deref())?;
        self.tenant.as_ref().map_or(Ok(()), |tenant| check_name("tenant", tenant))?;
        codec::encode("metadata", &self.metadata, METADATA_BYTES_MAX)?;
        let due_ms = match (&self.delay, self.run_at) {
            (Some(_), Some(_)) => return Err(Error::invalid("give either `delay` or `run_at`, not both")),
            (Some(delay), None) => now_ms + u64::try_from(delay.duration()?.as_millis()).unwrap_or(u64::MAX >> 1),
            (None, Some(instant)) => u64::try_from(instant.timestamp_millis()).unwrap_or(0),
            (None, None) => 0,
        };
        if due_ms > now_ms + crate::span::SPAN_MAX.as_millis() as u64 {
            return Err(Error::invalid("a task may be scheduled at most 366 days ahead"));
        }
        let due_ms = if due_ms > now_ms { due_ms } else { 0 };
        let args = OnceCell::new();
        let args = || args.get_or_init(|| to_json(&payload));
        let facts = |args| Facts {
            task_type: &self.task_type,
            priority: self.priority,
            source: self.source,
            metadata: &self.metadata,
            args,
        };
        let gate = published.and_then(|offer| offer.gate.as_ref()).or(self.handler.gate.as_ref());
        let gate = gate.filter(|gate| gate.stops(&facts(args())));
        let rule = config.approvals.stops(&facts(&Value::Null), || args().clone());
        // Both have to be passed. The handler's own is asked for by the worker when the rule's terms are others.
        let terms = match (gate, rule) {
            (gate, Some(rule)) => {
                let same = gate.filter(|gate| gate.terms == rule.terms);
                Some((rule.reason.as_str(), &rule.terms, same))
            }
            (Some(gate), None) => Some(("its handler asks for it", &gate.terms, Some(gate))),
            (None, None) => None,
        };
        let asking = terms
            .map(|(reason, terms, gate)| {
                let request = Request {
                    task_type: self.task_type.clone(),
                    priority: self.priority,
                    reason: reason.into(),
                    question: String::new(),
                    form: Vec::new(),
                    shown: args().clone(),
                    gate: true,
                    tenant: self.tenant.clone(),
                    asked_by: self.asked_by.clone(),
                    triggered_by: None,
                };
                let asking = Asking::new(request, terms.clone(), self.requested_by.clone())?;
                Ok::<_, Error>(Asking { due_ms, gate: gate.map(Gate::digest).unwrap_or_default(), ..asking })
            })
            .transpose()?;
        let sla = self.promise(published, config, id.created_at_ms(), || facts(args()))?;
        let Rules { expires, expires_at, backoff, unique } = std::mem::take(&mut self.rules);
        backoff.map_or(Ok(()), |backoff| backoff.check())?;
        let own = expires.is_some() || expires_at.is_some();
        let laid_down =
            published.and_then(|offer| offer.expires_ms).map(Duration::from_millis).or(self.handler.expires);
        let span = expires.clone().or_else(|| laid_down.filter(|_| !own).map(Span::from));
        let expires_at_ms = expires_ms(span, expires_at, due_ms.max(now_ms))?;
        let laid_down = published.and_then(|offer| offer.unique.as_ref()).or(self.handler.unique.as_ref());
        let unique = unique.as_ref().or(laid_down);
        let lock = unique.map(|unique| unique.lock(self.tenant.as_deref(), &facts(args()))).transpose()?;
        let body = Body {
            task_type: self.task_type,
            source: self.source,
            trace_id: self.trace_id,
            parent: self.parent,
            metadata: self.metadata,
            sla,
            requested_by: self.requested_by,
            asked_by: self.asked_by,
            tenant: self.tenant,
            run_at_ms: due_ms,
            expires_at_ms,
            backoff,
            lock,
            error: None,
        };
        let mut record = Vec::with_capacity(96 + payload.len());
        let key = match &self.idempotency_key {
            None => None,
            Some(key) => {
                let asked = Body { trace_id: None, run_at_ms: 0, expires_at_ms: 0, ..body.clone() };
                asked.write(&payload, &mut record)?;
                let whose = body.requested_by.as_deref().unwrap_or_default();
                let header = format!("{queue} {} {}", self.priority, self.max_retries);
                let mut when = format!("{:?} {:?}", self.delay.as_ref().map(Span::duration), self.run_at);
                if own {
                    when += &format!(" {:?} {expires_at:?}", expires.as_ref().map(Span::duration));
                }
                let key = Key::new(body.tenant.as_deref(), whose, key, &[header.as_bytes(), when.as_bytes(), &record])?;
                record.clear();
                Some(key)
            }
        };
        let mut header = Header::fresh(&queue, self.priority, self.max_retries);
        header.flags = if asking.is_some() { flag::ON_APPROVAL | flag::GATED } else { 0 }
            | if body.sla.is_some() { flag::CLOCKED } else { 0 }
            | if expires_at_ms > 0 { flag::EXPIRES } else { 0 }
            | if lock.is_some() { flag::UNIQUE } else { 0 };
        header.write(&mut record);
        body.write(&payload, &mut record)?;
        let Body { task_type, sla, .. } = body;
        let parent = self.parent;
        let sent_ms = if self.derived_id { now_ms } else { id.created_at_ms() };
        let chosen_id = self.id.is_some();
        Ok(Draft {
            id,
            sent_ms,
            chosen_id,
            queue,
            record,
            due_ms,
            parent,
            task_type,
            sla,
            asking,
            key,
            expires_at_ms,
            lock,
            existing: false,
        })
    }

    /// What is promised: on the task, by its handler, by a rule.
    fn promise<'f>(
        &self,
        published: Option<&Offer>,
        config: &Config,
        created_ms: u64,
        facts: impl FnOnce() -> Facts<'f>,
    ) -> Result<Option<Sla>> {
        let handler = published.and_then(|offer| offer.sla.as_ref()).or(self.handler.sla.as_ref());
        let own = self.sla_target.is_some() || self.sla_deadline.is_some();
        let terms = match self.sla.as_ref().or(handler) {
            None if !own && !config.sla.is_empty() => SlaRule::first(&config.sla, &facts()),
            terms => terms,
        };
        if let Some(terms) = terms {
            terms.check()?;
        }
        // A target or an instant given on the task replaces the target, and keeps the rest.
        let mut sla = terms.map(SlaTerms::sla).unwrap_or_default();
        if let Some(target) = &self.sla_target {
            let target = target.duration()?;
            if target < Duration::from_millis(1) {
                return Err(Error::invalid(
                    "a promise of less than a millisecond cannot be kept; write sla_target as in 30m",
                ));
            }
            sla.target = Some(humantime::format_duration(target).to_string());
        } else if self.sla_deadline.is_some() && self.sla.is_none() {
            (sla.target, sla.hours) = (None, None);
        }
        if let Some(deadline) = self.sla_deadline
            && u64::try_from(deadline.timestamp_millis()).unwrap_or(0) <= created_ms
        {
            return Err(Error::invalid(format!("the deadline {} lies in the past", deadline.to_rfc3339())));
        }
        sla.deadline = self.sla_deadline;
        // What the handler or a rule has declared to follow is for its own bound: a submitter must not bring it about.
        if let Some(terms) = terms.filter(|_| own && self.sla.is_none()) {
            let declared = crate::policy::millis(Span::from(terms.target.as_str()).duration()?);
            let target = self.sla_target.as_ref().map(Span::duration).transpose()?.map(crate::policy::millis);
            let left = self
                .sla_deadline
                .map(|at| u64::try_from(at.timestamp_millis()).unwrap_or(0).saturating_sub(created_ms));
            if [target, left].into_iter().flatten().any(|ms| ms < declared) {
                sla.on_violation = crate::OnViolation::Announce;
            }
        }
        Ok((own || terms.is_some()).then_some(sla))
    }
}

fn check_text(what: &str, text: Option<&str>) -> Result {
    match text {
        Some(text) if text.is_empty() || text.len() > 128 || !text.bytes().all(|b| (0x20..0x7f).contains(&b)) => {
            Err(Error::invalid(format!("a {what} has 1 to 128 printable ASCII characters")))
        }
        _ => Ok(()),
    }
}

/// A checked task, ready to be stored.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) id: TaskId,
    /// Whether the submitter chose the id.
    pub(crate) chosen_id: bool,
    /// When its id was made: from then on a send of it is good for a while.
    pub(crate) sent_ms: u64,
    pub(crate) queue: String,
    pub(crate) record: Vec<u8>,
    /// Unix milliseconds; 0 = at once.
    pub(crate) due_ms: u64,
    pub(crate) parent: Option<TaskId>,
    task_type: String,
    sla: Option<Sla>,
    pub(crate) asking: Option<Asking>,
    pub(crate) key: Option<Key>,
    /// Unix milliseconds after which no attempt is begun; 0 = never.
    expires_at_ms: u64,
    /// The key that it is to hold alone.
    lock: Option<Lock>,
    /// Whether another task holds that: the id is that one's, and nothing was stored.
    pub(crate) existing: bool,
}

impl Draft {
    /// Whether it takes ADMIT instead of ENQ.
    pub(crate) fn is_special(&self) -> bool {
        let asks = self.sla.is_some() || self.asking.is_some() || self.key.is_some();
        asks || self.expires_at_ms > 0 || self.lock.is_some()
    }

    /// The state of its clock, empty for none.
    pub(crate) fn clock(&self) -> Result<Vec<u8>> {
        let begin = |sla: &Sla| sla.begin(self.id.created_at_ms(), self.due_ms, self.asking.is_some(), &self.task_type);
        self.sla.as_ref().map(begin).transpose().map(Option::unwrap_or_default)
    }

    /// What is asked before it may be claimed, empty for nothing.
    pub(crate) fn asked(&self, config: &Config) -> Result<Vec<u8>> {
        let pack = |asking: &Asking| asking.pack(config.approvals.timeout);
        self.asking.as_ref().map(pack).transpose().map(Option::unwrap_or_default)
    }

    /// `id [‖ 'k' idempotency key] [‖ 'l' lock] [‖ 'x' expires] [‖ 'p' parent] [‖ 'd' due ms]`, as the script takes it.
    pub(crate) fn address(&self) -> Vec<u8> {
        let mut address = self.id.as_bytes().to_vec();
        if let Some(key) = self.key {
            address.push(b'k');
            address.extend(key.to_bytes());
        }
        if let Some(lock) = self.lock {
            address.push(b'l');
            address.extend(lock.to_bytes());
        }
        if self.expires_at_ms > 0 {
            address.push(b'x');
            address.extend(&self.expires_at_ms.to_be_bytes()[2..]);
        }
        if let Some(parent) = self.parent {
            address.push(b'p');
            address.extend(parent.as_bytes());
        }
        if self.due_ms > 0 {
            address.push(b'd');
            address.extend(self.due_ms.to_string().bytes());
        }
        address
    }
}
