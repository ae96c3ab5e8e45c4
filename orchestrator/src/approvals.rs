//! What people do with approvals: look at them, decide, hand them on; and the audit of it all.

use serde_json::Value;

use crate::approval::{
    APPROVERS_MAX, Approval, ApprovalId, ApprovalKind, ApprovalStatus, Approver, NOTE_BYTES_MAX, Vote, check_who,
};
use crate::asking::Request;
use crate::audit::{AuditEntry, AuditVerdict, Chain};
use crate::record::{Ending, letter};
use crate::store::{Fields, Items, Store, read};
use crate::task::{instant, to_json};
use crate::{Error, Orchestrator, Result, codec};

/// Approvals of one page at most.
pub const APPROVALS_MAX: usize = 1000;
/// Entries of the audit read at once.
const AUDIT_PAGE: usize = 1000;
/// Largest form, in bytes of MessagePack.
const FORM_BYTES_MAX: usize = 64 * 1024;

/// One page of approvals, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct ApprovalPage {
    /// How many there are in all.
    pub total: u64,
    /// Those of this page.
    pub approvals: Vec<Approval>,
}

/// One person's word on an approval.
#[derive(Clone, Debug)]
#[must_use = "a ballot counts once it is given to `Orchestrator::decide`"]
pub struct Ballot {
    approver: Approver,
    approve: bool,
    note: String,
    form: Option<Value>,
    shown: Option<String>,
    once: Option<String>,
}

impl Ballot {
    /// Yes.
    pub fn approve(approver: Approver) -> Self {
        Self { approver, approve: true, note: String::new(), form: None, shown: None, once: None }
    }

    /// No.
    pub fn reject(approver: Approver) -> Self {
        Self { approve: false, ..Self::approve(approver) }
    }

    /// A note; of a no, the reason. At most [`NOTE_BYTES_MAX`] bytes.
    pub fn note(mut self, note: &str) -> Self {
        self.note = note.into();
        self
    }

    /// What the approver has filled in: an object with the fields that the approval asks for.
    pub fn form(mut self, form: Value) -> Self {
        self.form = Some(form);
        self
    }

    /// The `payload_hash` of what the approver was shown. A decision on something else is refused.
    pub fn shown(mut self, payload_hash: &str) -> Self {
        self.shown = Some(payload_hash.into());
        self
    }

    /// A word that lets this ballot be given once only, of a signed link for example.
    pub fn once(mut self, word: &str) -> Self {
        self.once = Some(word.into());
        self
    }
}

/// What a ballot has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// It was counted; more are needed.
    Counted {
        /// Those who have said yes.
        votes: u8,
        /// How many are needed.
        quorum: u8,
    },
    /// It has decided.
    Done(ApprovalStatus),
}

/// A reply of DECIDE.
struct Heard {
    outcome: String,
    status: String,
    who: String,
    why: String,
    votes: u8,
    quorum: u8,
}

impl Orchestrator {
    /// One approval.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is unknown or its retention has passed.
    pub async fn approval(&self, id: ApprovalId) -> Result<Approval> {
        let page = self.approvals("", &id.to_bytes(), 1).await?;
        page.approvals.into_iter().next().ok_or_else(|| Error::NotFound { what: id.to_string() })
    }

    /// Approvals that wait for a decision, newest first, `skip` passed over, at most [`APPROVALS_MAX`].
    ///
    /// # Errors
    /// [`Error::Invalid`] for a limit out of its bounds, [`Error::Unavailable`].
    pub async fn approvals_pending(&self, skip: usize, limit: usize) -> Result<ApprovalPage> {
        self.approvals("A", skip.to_string().as_bytes(), check_limit(limit)?).await
    }

    /// Approvals that were decided, expired or withdrawn, newest decision first.
    ///
    /// # Errors
    /// As [`Orchestrator::approvals_pending`].
    pub async fn approvals_history(&self, skip: usize, limit: usize) -> Result<ApprovalPage> {
        self.approvals("H", skip.to_string().as_bytes(), check_limit(limit)?).await
    }

    async fn approvals(&self, which: &str, from: &[u8], limit: usize) -> Result<ApprovalPage> {
        let script = &self.store.scripts().approvals;
        let call = |_| self.store.call(script).arg(which).arg(from).arg(limit);
        let mut items = Items::of(self.store.repeat(call).await?)?;
        let total = items.next()?;
        let mut approvals = Vec::new();
        while !items.is_empty() {
            let (id, fields): (Vec<u8>, Fields) = (items.next()?, items.next()?);
            // What cannot be read was not written by us; the others still hold.
            match ApprovalId::from_slice(&id).map(|id| told(id, &fields)) {
                Some(Ok(approval)) => approvals.push(approval),
                Some(Err(error)) => tracing::warn!(%error, "an approval cannot be read"),
                None => {}
            }
        }
        Ok(ApprovalPage { total, approvals })
    }

    /// Gives one person's word. The first decision wins; a task that was held goes on, or ends, in the same script call.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for somebody who may not decide, the submitter first of all; [`Error::Conflict`] when it was
    /// decided before (it says by whom and how), when they have voted, or when something else was shown to them;
    /// [`Error::NotFound`]; [`Error::Invalid`] for a form that does not fit.
    pub async fn decide(&self, id: ApprovalId, ballot: &Ballot) -> Result<Decided> {
        let name = &ballot.approver.name;
        check_who(name)?;
        check_note(&ballot.note)?;
        loop {
            let approval = self.approval(id).await?;
            self.check_may(&approval, &ballot.approver)?;
            let form = form(&approval, ballot)?;
            let op = if ballot.approve { "approve" } else { "reject" };
            let heard = self.say(&approval, op, ballot, &ballot.note, &form).await?;
            let status = if ballot.approve { ApprovalStatus::Approved } else { ApprovalStatus::Rejected };
            return match heard.outcome.as_str() {
                "changed" => continue,
                "counted" => Ok(Decided::Counted { votes: heard.votes, quorum: heard.quorum }),
                "done" => Ok(Decided::Done(status)),
                _ => Err(refused(id, name, &heard)),
            };
        }
    }

    /// Lets somebody else decide too: `to` is a name (`bob`) or a role (`role:lead`).
    ///
    /// # Errors
    /// As [`Orchestrator::decide`]; [`Error::Invalid`] when `to` is no name, is the submitter or asks.
    pub async fn delegate(&self, id: ApprovalId, approver: &Approver, to: &str) -> Result {
        check_who(to)?;
        loop {
            let approval = self.approval(id).await?;
            self.check_may(&approval, approver)?;
            let heir = Approver::named(to.strip_prefix("name:").unwrap_or(to));
            if approval.requested_by.as_deref().is_some_and(|own| heir.is_called(own)) && !self.self_approval() {
                return Err(Error::invalid(format!("`{to}` submitted the task and may not decide on it")));
            }
            if approval.is_asked_by(&heir) && !self.self_approval() {
                return Err(Error::invalid(format!("`{to}` asks this and may not decide on it")));
            }
            if approval.by.is_empty() && approval.status == ApprovalStatus::Pending {
                let what = format!("{id} may be decided by everybody with the right: nobody needs to be named");
                return Err(Error::invalid(what));
            }
            if approval.by.len() >= APPROVERS_MAX {
                return Err(Error::invalid(format!("an approval names at most {APPROVERS_MAX} approvers")));
            }
            let ballot = Ballot::approve(approver.clone());
            let heard = self.say(&approval, "delegate", &ballot, to, &[]).await?;
            return match heard.outcome.as_str() {
                "changed" => continue,
                "delegated" => Ok(()),
                _ => Err(refused(id, &approver.name, &heard)),
            };
        }
    }

    fn self_approval(&self) -> bool {
        self.config().approvals.self_approval
    }

    /// What cannot change meanwhile, or is looked at again by the script.
    fn check_may(&self, approval: &Approval, approver: &Approver) -> Result {
        if approval.status != ApprovalStatus::Pending {
            // The script tells who won.
            return Ok(());
        }
        if !self.self_approval() && approval.requested_by.as_deref().is_some_and(|own| approver.is_called(own)) {
            return Err(own(&approver.name));
        }
        if !self.self_approval() && approval.is_asked_by(approver) {
            let what = format!("{} asks this and may not decide on it: somebody else has to", approver.name);
            return Err(Error::Forbidden { what });
        }
        if !approver.is_meant(&approval.by) {
            return Err(Error::Forbidden {
                what: format!(
                    "{} may not decide on {}: it is for {}. Their roles are: {}",
                    approver.name,
                    approval.approval_id,
                    approval.approver,
                    if approver.roles.is_empty() { "none".into() } else { approver.roles.join(", ") }
                ),
            });
        }
        Ok(())
    }

    async fn say(&self, approval: &Approval, op: &str, ballot: &Ballot, note: &str, form: &[u8]) -> Result<Heard> {
        let name = &ballot.approver.name;
        let rejected = rejected_tail(
            "rejected",
            &match note {
                "" => format!("rejected by {name}"),
                why => format!("rejected by {name}: {why}"),
            },
        );
        let had_voted = approval.votes.iter().any(|vote| ballot.approver.is_called(&vote.by));
        let mut sent_before = false;
        let call = |before| {
            sent_before = before;
            let call = self.store.call(&self.store.scripts().decide);
            let call =
                call.arg(approval.task_id.as_bytes()).arg(approval.approval_id.number).arg(op).arg(name).arg(note);
            let call =
                call.arg(ballot.shown.as_deref().unwrap_or_default()).arg(form).arg(u8::from(self.self_approval()));
            let call = call.arg(rejected.as_slice()).arg(expired_tail());
            call.arg(ballot.once.as_deref().unwrap_or_default()).arg(approval.by.join(" "))
        };
        let mut items = Items::of(self.store.repeat(call).await?)?;
        let mut heard = Heard {
            outcome: items.next()?,
            status: items.next()?,
            who: items.next()?,
            why: items.next()?,
            votes: 0,
            quorum: 1,
        };
        items.next::<String>()?;
        (heard.votes, heard.quorum) = (items.next()?, items.next()?);
        self.store.tick_in(items.next()?);
        if sent_before {
            // An earlier copy of this call may have been taken: then this answer is about ourselves.
            let wanted = if ballot.approve { "approved" } else { "rejected" };
            match heard.outcome.as_str() {
                "voted" | "used" if !had_voted => heard.outcome = "counted".into(),
                "closed" if heard.who == *name && heard.status == wanted => heard.outcome = "done".into(),
                _ => {}
            }
        }
        Ok(heard)
    }

    /// Entries of the audit, oldest first, behind number `after`, at most 1,000.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn audit(&self, after: u64) -> Result<Vec<AuditEntry>> {
        let (mut chain, mut seen, mut entries) = (Chain::default(), (0, 0), Vec::new());
        while let (found, Some(last)) = self.store.audit(seen, AUDIT_PAGE).await? {
            seen = last;
            let wanted = found.iter().filter_map(|(id, fields)| chain.next(&format!("{}-{}", id.0, id.1), fields));
            entries.extend(wanted.filter(|entry| entry.number > after).take(AUDIT_PAGE - entries.len()));
            if entries.len() >= AUDIT_PAGE {
                break;
            }
        }
        Ok(entries)
    }

    /// Proves that no entry of the audit was changed, put in or taken out; `progress` is told how many were looked at.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn verify_audit(&self, mut progress: impl FnMut(u64)) -> Result<AuditVerdict> {
        let (mut chain, mut seen, mut looked) = (Chain::default(), (0, 0), 0);
        while let (found, Some(last)) = self.store.audit(seen, AUDIT_PAGE).await? {
            seen = last;
            for (id, fields) in &found {
                chain.next(&format!("{}-{}", id.0, id.1), fields);
            }
            looked += found.len() as u64;
            progress(looked);
        }
        Ok(chain.verdict(self.config().approvals.audit_max.into()))
    }
}

fn check_limit(limit: usize) -> Result<usize> {
    match (1..=APPROVALS_MAX).contains(&limit) {
        true => Ok(limit),
        false => Err(Error::invalid(format!("a page has 1 to {APPROVALS_MAX} approvals, not {limit}"))),
    }
}

fn check_note(note: &str) -> Result {
    match note.len() <= NOTE_BYTES_MAX {
        true => Ok(()),
        false => Err(Error::invalid(format!("a note has at most {NOTE_BYTES_MAX} bytes, not {}", note.len()))),
    }
}

fn own(name: &str) -> Error {
    Error::Forbidden { what: format!("{name} submitted the task and may not decide on it: somebody else has to") }
}

fn refused(id: ApprovalId, name: &str, heard: &Heard) -> Error {
    match heard.outcome.as_str() {
        "own" => own(name),
        "stale" => Error::Conflict {
            what: format!("what was shown to {name} is not what {id} asks about now: look at it again, then decide"),
        },
        "voted" => Error::Conflict {
            what: format!("{name} has voted on {id} before; {} of {} votes are in", heard.votes, heard.quorum),
        },
        "used" => Error::Conflict { what: format!("this link for {id} has been used; it works once") },
        "closed" => Error::Conflict {
            what: match (heard.status.as_str(), heard.who.as_str()) {
                ("timeout", _) => format!("{id} was closed before: {}", heard.why),
                ("cancelled", _) => format!("{id} was closed before: {}", heard.why),
                (status, who) => format!("{id} was {status} before, by {who}"),
            },
        },
        _ => Error::NotFound { what: id.to_string() },
    }
}

/// What a gated task ends with when it is not let through.
fn rejected_tail(reason: &str, error: &str) -> Vec<u8> {
    let ending = Ending { reason: Some(reason.into()), error: Some(error.into()), ..Ending::default() };
    ending.write(letter::CANCELLED, &[])
}

/// What a gated task ends with when nobody decided.
pub(crate) fn expired_tail() -> Vec<u8> {
    rejected_tail("timeout", "its approval expired: nobody decided in time")
}

/// What a task ends with when its clock has run out and it was declared to be cancelled then.
pub(crate) fn violated_tail() -> Vec<u8> {
    rejected_tail("sla", "cancelled because its service level was violated")
}

/// The form as MessagePack; empty for none.
fn form(approval: &Approval, ballot: &Ballot) -> Result<Vec<u8>> {
    let asked = approval.form.join(", ");
    let fault = |what: String| Err(Error::invalid(format!("{}: {what}", approval.approval_id)));
    match &ballot.form {
        _ if !ballot.approve || approval.status != ApprovalStatus::Pending => Ok(Vec::new()),
        None if approval.form.is_empty() => Ok(Vec::new()),
        None => fault(format!("a yes has to fill in the form: {asked}")),
        Some(_) if approval.form.is_empty() => fault("no form is asked for".into()),
        Some(Value::Object(map)) => match map.keys().find(|name| !approval.form.contains(name)) {
            Some(name) => {
                fault(format!("the form has no field `{}`; it asks for {asked}", crate::error::excerpt(name)))
            }
            None => codec::encode("form", map, FORM_BYTES_MAX),
        },
        Some(_) => fault(format!("a form is an object with the fields {asked}")),
    }
}

/// An approval as `a:` holds it.
fn told(id: ApprovalId, fields: &[(Vec<u8>, Vec<u8>)]) -> Result<Approval> {
    let raw =
        |name: &str| fields.iter().find(|(n, _)| n == name.as_bytes()).map(|(_, v)| v.as_slice()).unwrap_or_default();
    let text = |name: &str| String::from_utf8_lossy(raw(name)).into_owned();
    let some = |name: &str| Some(text(name)).filter(|text| !text.is_empty());
    let number = |name: &str| text(name).parse::<u64>().unwrap_or(0);
    let request: Request =
        serde_json::from_slice(raw("v")).map_err(|error| Error::corrupt(format!("an approval: {error}")))?;
    let status = match raw("st") {
        b"pending" => ApprovalStatus::Pending,
        b"approved" => ApprovalStatus::Approved,
        b"rejected" => ApprovalStatus::Rejected,
        b"timeout" => ApprovalStatus::Timeout,
        b"cancelled" => ApprovalStatus::Cancelled,
        _ => return Err(Error::corrupt("an approval's status")),
    };
    let by: Vec<String> = text("by").split_whitespace().map(Into::into).collect();
    let quorum = u8::try_from(number("q")).unwrap_or(1);
    let who = if by.is_empty() { "anybody who may approve".to_owned() } else { by.join(", ") };
    let mut votes: Vec<Vote> = fields
        .iter()
        .filter_map(|(name, value)| {
            let (by, value) = (name.strip_prefix(b"+")?, String::from_utf8_lossy(value));
            let (at, note) = value.split_once(' ')?;
            let by = String::from_utf8_lossy(by).into_owned();
            Some(Vote { by, at: instant(at.parse().ok()?), note: note.into() })
        })
        .collect();
    votes.sort_by(|a, b| (a.at, &a.by).cmp(&(b.at, &b.by)));
    let decided = status != ApprovalStatus::Pending;
    Ok(Approval {
        approval_id: id,
        task_id: id.task,
        task_type: request.task_type,
        priority: request.priority,
        reason: request.reason,
        approver: if quorum > 1 { format!("{quorum} of: {who}") } else { who },
        status,
        requested_at: instant(number("rq")),
        approved_at: decided.then(|| instant(number("at"))),
        approved_by: some("who"),
        rejection_reason: some("why").filter(|_| decided && status != ApprovalStatus::Approved),
        requested_by: some("own"),
        asked_by: request.asked_by,
        triggered_by: request.triggered_by,
        tenant: request.tenant,
        expires_at: instant(number("ex")),
        payload_hash: text("hash"),
        question: request.question,
        form: request.form,
        form_values: Some(raw("f")).filter(|f| !f.is_empty()).map(to_json),
        shown: request.shown,
        by,
        quorum,
        votes,
        kind: if id.number == 0 || request.gate { ApprovalKind::Gate } else { ApprovalKind::Handler },
    })
}

impl Orchestrator {
    /// What a task has done for good: the journal of its durable steps, in the order of the handler's calls.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn journal(&self, id: crate::TaskId) -> Result<Vec<crate::JournalEntry>> {
        let stored: Vec<(Vec<u8>, Vec<u8>)> = self.store.journal(id).await?;
        let mut entries: Vec<crate::JournalEntry> = stored
            .into_iter()
            .filter(|(name, _)| name.first() != Some(&0))
            .filter_map(|(name, entry)| {
                let entry = crate::journal::Entry::read(&entry).ok()?;
                Some(crate::JournalEntry::of(String::from_utf8_lossy(&name).into_owned(), &entry))
            })
            .collect();
        entries.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
        Ok(entries)
    }

    /// Fires what is due in this namespace, timers and schedules; returns the time until the next, if one is set. Workers and gateways
    /// do this by themselves.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn tick(&self) -> Result<Option<std::time::Duration>> {
        let (due, schedules) = self.store.tick().await?;
        if !schedules {
            return Ok(due);
        }
        match self.fire_schedules().await? {
            true => Ok(Some(std::time::Duration::ZERO)),
            false => self.store.tick().await.map(|(due, _)| due),
        }
    }
}

impl Store {
    /// Sees to the next timer when it is due before workers and gateways have heard of it: they look every 2 seconds.
    pub(crate) fn tick_in(&self, due_ms: i64) {
        #[cfg(feature = "test-clock")]
        if self.config().test_clock {
            // That time stands until somebody moves it.
            return;
        }
        if let Some(wait) = u64::try_from(due_ms).ok().filter(|ms| *ms <= 3000) {
            let store = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
                if let Err(error) = store.tick().await {
                    tracing::debug!(%error, "a timer is left to others");
                }
            });
        }
    }

    /// Fires the timers that are due; returns the time until the next, if one is set, and whether schedules are due.
    pub(crate) async fn tick(&self) -> Result<(Option<std::time::Duration>, bool)> {
        const MOST: usize = 100;
        loop {
            let call = |_| self.call(&self.scripts().tick).arg(MOST).arg(expired_tail()).arg(violated_tail());
            let (fired, due_ms, schedules): (usize, i64, u64) = read(self.repeat(call).await?)?;
            if fired < MOST {
                return Ok((u64::try_from(due_ms).ok().map(std::time::Duration::from_millis), schedules > 0));
            }
        }
    }
}
