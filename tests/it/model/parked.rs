//! How the model waits: what is asked of people and what they say, sleeps, and journals.

use std::collections::{BTreeMap, BTreeSet};

use orchestrator::{ApprovalStatus, Cause, Decision, Entry, LetGo, Noted, TaskId, Terms, Ticket, hash_bytes};

use super::awaited::{At, Await, Tell};
use super::bytes::{entry_sent, slice};
use super::expiring::FAR;
use super::reference::{Ending, Place, Reference};

/// How long an approval waits when its terms do not say.
pub(crate) const APPROVAL_TIMEOUT: u64 = 24 * 3_600_000;
/// Bounds of a journal.
const ENTRIES_MAX: usize = 1000;
const BYTES_MAX: u64 = 8 << 20;

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) terms: Terms,
    /// Who asked for the task; empty for nobody.
    pub(crate) own: String,
    /// The agent outside that asks; empty for a handler or a gate.
    pub(crate) asker: String,
    pub(crate) hash: String,
    pub(crate) due: u64,
    pub(crate) form: Vec<String>,
}

/// What was asked of people, and what has become of it.
#[derive(Clone, Debug)]
pub(crate) struct Approval {
    pub(crate) question: Question,
    pub(crate) status: ApprovalStatus,
    pub(crate) asked_at: u64,
    pub(crate) expires: u64,
    /// Who may decide now.
    pub(crate) by: Vec<String>,
    pub(crate) votes: u8,
    /// Votes by `+` and the name, who has voted by `~`, and the words that work once by `!` and the word.
    pub(crate) marks: BTreeMap<String, String>,
    /// Its name in the journal.
    pub(crate) name: String,
    pub(crate) remind: Option<u64>,
    pub(crate) escalate: Option<u64>,
    /// When it was decided, by whom, what they wrote, and the form.
    pub(crate) decision: Option<(u64, Decision)>,
}

impl Approval {
    fn every(&self) -> u64 {
        self.question.terms.remind_ms.unwrap_or(0)
    }
}

/// What a task has noted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    pub(crate) entries: BTreeMap<String, Entry>,
    /// What the waits for events among them are about.
    pub(crate) waits: BTreeMap<String, Await>,
    /// Which of them was the last that began.
    pub(crate) awaiting: Option<String>,
    /// Questions asked so far; 0 = none.
    pub(crate) asked: u16,
    pub(crate) bytes: Option<u64>,
    /// How far the task is, as an agent outside has told.
    pub(crate) progress: Option<(f64, String)>,
    /// Whether the server lets it expire.
    pub(crate) expires: bool,
}

impl Journal {
    fn fields(&self) -> usize {
        let counters = [self.asked > 0, self.bytes.is_some(), self.awaiting.is_some(), self.progress.is_some()];
        self.entries.len() + counters.into_iter().filter(|there| *there).count()
    }
}

/// An entry of the audit: what, about which task and approval, by whom, the note, the hash of what was shown, and when.
pub(crate) type Audited = (&'static str, TaskId, u16, String, String, String, u64);

/// What a running task waits for.
#[derive(Clone, Debug)]
pub(crate) enum Waiting {
    Gate(Question),
    Person(String, Entry, Question),
    Sleep(String, Entry, Result<u64, u64>),
    /// With the event's name, and the place behind which it counts.
    Event(String, Entry, Result<u64, u64>, String, Option<At>),
}

impl Waiting {
    /// Its entry in the journal.
    fn noted(&self) -> Option<(&String, &Entry)> {
        match self {
            Self::Gate(_) => None,
            Self::Person(name, entry, _) | Self::Sleep(name, entry, _) | Self::Event(name, entry, ..) => {
                Some((name, entry))
            }
        }
    }
}

/// What became of a note.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Note {
    Lost,
    Stale,
    Noted,
    Taken,
    Full,
}

/// One person's word.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    pub(crate) who: String,
    pub(crate) roles: Vec<String>,
    pub(crate) approve: bool,
    pub(crate) note: String,
    /// Hash of what they say they were shown; empty for nothing said.
    pub(crate) shown: String,
    pub(crate) once: String,
    /// The form, MessagePack.
    pub(crate) form: Vec<u8>,
}

/// What a word has done, or why it counts for nothing: the kind of error, and what it must tell.
pub(crate) type Heard = Result<Option<(u8, u8)>, (&'static str, String)>;

impl Reference {
    /// Ends of waits, in their order.
    pub(crate) fn waits(&self) -> BTreeSet<(u64, TaskId)> {
        let over = |(id, entry): (&TaskId, &super::reference::Entry)| match entry.place {
            Place::Parked { over, .. } => Some((over, *id)),
            _ => None,
        };
        self.tasks.iter().filter_map(over).collect()
    }

    /// Reminders, escalations, warnings and violations that are set, in their order.
    pub(crate) fn alarms(&self) -> BTreeSet<(u64, u8, TaskId)> {
        self.each_alarm().collect()
    }

    pub(crate) fn each_alarm(&self) -> impl Iterator<Item = (u64, u8, TaskId)> {
        let asked = self.approvals.iter().flat_map(|((id, _), approval)| {
            let at = |letter| move |at| (at, letter, *id);
            [approval.remind.map(at(b'm')), approval.escalate.map(at(b'e'))]
        });
        let clocks = self.tasks.iter().filter_map(|(id, entry)| Some((id, entry.clock.as_ref()?)));
        let promised = clocks.flat_map(|(id, clock)| {
            let at = |letter| move |at| (at, letter, *id);
            [clock.warns.map(at(b's')), clock.ends.map(at(b'v'))]
        });
        let expiring = self.live().filter_map(|entry| Some((entry.expiry?.timer(), b'x', entry.asked.id)));
        asked.chain(promised).flatten().chain(expiring)
    }

    /// The first of them that is for an instant of ours.
    pub(crate) fn next_alarm(&self) -> Option<u64> {
        self.each_alarm().map(|(at, ..)| at).filter(|at| *at < FAR).min()
    }

    fn audit(&mut self, op: &'static str, id: TaskId, number: u16, who: &str, note: &str) {
        let hash = self.approvals.get(&(id, number)).map_or_else(String::new, |a| a.question.hash.clone());
        self.audited.push((op, id, number, who.into(), note.into(), hash, self.now));
    }

    pub(crate) fn retried(&mut self, id: TaskId) {
        self.audited.push(("retried", id, 0, String::new(), String::new(), String::new(), self.now));
    }

    /// Asks; the task must wait already.
    pub(crate) fn ask(&mut self, id: TaskId, number: u16, question: &Question, name: &str) {
        let terms = &question.terms;
        let approval = Approval {
            question: question.clone(),
            status: ApprovalStatus::Pending,
            asked_at: self.now,
            expires: self.now + terms.expires_ms.unwrap_or(APPROVAL_TIMEOUT),
            by: terms.by.clone(),
            votes: 0,
            marks: BTreeMap::new(),
            name: name.into(),
            remind: terms.remind_ms.map(|every| self.now + every),
            escalate: terms.escalate.as_ref().map(|(after, _)| self.now + after),
            decision: None,
        };
        self.approvals.insert((id, number), approval);
        self.history.retain(|(_, task, n)| (*task, *n) != (id, number));
        self.tell_of(id, number, "approval.requested");
        self.audit("requested", id, number, &question.own, "");
    }

    /// Closes an approval for good.
    fn settle(&mut self, id: TaskId, number: u16, status: ApprovalStatus, decision: &Decision) {
        let approval = self.approvals.get_mut(&(id, number)).expect("an approval");
        assert_eq!(approval.status, ApprovalStatus::Pending, "an approval is decided twice");
        (approval.remind, approval.escalate, approval.status) = (None, None, status);
        approval.decision = Some((self.now, decision.clone()));
        self.history.insert((self.now, id, number));
        let horizon = self.now - self.limits.history_ttl;
        self.history.retain(|(at, ..)| *at > horizon);
        while self.history.len() > self.limits.history_max {
            let (_, task, n) = self.history.pop_first().expect("a decision");
            self.approvals.remove(&(task, n));
            self.meet("an old decision was dropped", ());
        }
        let (op, event) = match status {
            ApprovalStatus::Approved => ("approved", "approval.approved"),
            ApprovalStatus::Rejected => ("rejected", "approval.rejected"),
            ApprovalStatus::Timeout => ("timeout", "approval.expired"),
            _ => ("cancelled", "approval.cancelled"),
        };
        self.audit(op, id, number, &decision.who, &decision.why);
        self.tell_of(id, number, event);
    }

    /// The task that waits for it has ended.
    pub(crate) fn withdraw(&mut self, id: TaskId, number: u16, why: &str) {
        let why = why.to_owned();
        self.settle(id, number, ApprovalStatus::Cancelled, &Decision { why, ..Decision::default() });
    }

    fn decided(&mut self, id: TaskId, number: u16, status: ApprovalStatus, decision: Decision, cause: Cause) {
        let approval = &self.approvals[&(id, number)];
        let (due, name) = (approval.question.due, approval.name.clone());
        self.settle(id, number, status, &decision);
        if number == 0 && status != ApprovalStatus::Approved {
            let (reason, error) = match (status, decision.why.as_str()) {
                (ApprovalStatus::Timeout, _) => ("timeout", "its approval expired: nobody decided in time".to_owned()),
                (_, "") => ("rejected", format!("rejected by {}", decision.who)),
                (_, why) => ("rejected", format!("rejected by {}: {why}", decision.who)),
            };
            return self.end(id, cause, Ending { reason: Some(reason), error: Some(error), ..Ending::default() });
        }
        if number > 0 {
            let journal = self.journals.get_mut(&id).expect("a journal");
            let entry = journal.entries.get_mut(&name).expect("the question");
            let Noted::Asked { status: stands, decision: told, .. } = &mut entry.noted else {
                panic!("{name} is no question");
            };
            (*stands, *told) = (status, decision);
        }
        self.go_on(id, due);
    }

    /// The wait is over.
    fn go_on(&mut self, id: TaskId, due: u64) {
        if due > self.now {
            self.walk(id, Cause::Postpone, Place::Timer { due });
            self.slices.insert(slice(id));
        } else {
            self.make_ready(id, Cause::Resume, id.created_at_ms());
        }
        let entry = self.tasks.get_mut(&id).expect("a task");
        let gated = std::mem::take(&mut entry.gated);
        entry.passed |= gated;
        if !gated {
            // What its handler has begun goes on, whenever the wait is over.
            self.may_expire(id, false);
        }
    }

    /// A wait has lasted as long as it may.
    pub(crate) fn wait_is_over(&mut self, id: TaskId) {
        match self.tasks[&id].place {
            Place::Parked { approval: Some(number), .. } => self.expire(id, number),
            Place::Parked { event: true, .. } => {
                if self.event_or_end(id) {
                    self.go_on(id, 0);
                }
            }
            _ => self.go_on(id, 0),
        }
    }

    fn expire(&mut self, id: TaskId, number: u16) {
        let why = "nobody decided in time".to_owned();
        let decision = Decision { why, ..Decision::default() };
        self.decided(id, number, ApprovalStatus::Timeout, decision, Cause::Expire);
    }

    pub(crate) fn remind(&mut self, id: TaskId) {
        let Place::Parked { approval: Some(number), .. } = self.tasks[&id].place else { panic!("{id} asks nobody") };
        let now = self.now;
        let approval = self.approvals.get_mut(&(id, number)).expect("an approval");
        approval.remind = Some(now + approval.every());
        self.tell_of(id, number, "approval.reminded");
        self.meet("somebody was reminded", ());
    }

    pub(crate) fn escalate(&mut self, id: TaskId) {
        let Place::Parked { approval: Some(number), .. } = self.tasks[&id].place else { panic!("{id} asks nobody") };
        let approval = self.approvals.get_mut(&(id, number)).expect("an approval");
        approval.escalate = None;
        let whom = approval.question.terms.escalate.clone().expect("somebody else").1;
        self.add_approver(id, number, &whom);
        self.meet("an approval was escalated", ());
    }

    pub(crate) fn add_approver(&mut self, id: TaskId, number: u16, whom: &str) {
        let approval = self.approvals.get_mut(&(id, number)).expect("an approval");
        if !approval.by.is_empty() {
            approval.by.push(whom.into());
        }
        self.tell_of(id, number, "approval.escalated");
        self.audit("escalated", id, number, whom, "");
    }

    // What people do.

    /// What holds before anything is looked at in the same instant as the decision.
    fn may(&mut self, id: TaskId, number: u16, who: &str, roles: &[String]) -> Result<(), (&'static str, String)> {
        let Some(approval) = self.approvals.get(&(id, number)) else {
            return Err(self.meet("nobody knew of an approval", ("NotFound", String::new())));
        };
        if approval.status != ApprovalStatus::Pending {
            return Ok(());
        }
        if !self.limits.self_approval && approval.question.own.eq_ignore_ascii_case(who) {
            return Err(self.meet("the submitter was refused", ("Forbidden", format!("{who} submitted the task"))));
        }
        if !self.limits.self_approval && approval.question.asker.eq_ignore_ascii_case(who) {
            return Err(self.meet("who asks was refused", ("Forbidden", format!("{who} asks this"))));
        }
        let named = |by: &String| match by.strip_prefix("role:") {
            Some(role) => roles.iter().any(|own| own == role),
            None => by.strip_prefix("name:").unwrap_or(by).eq_ignore_ascii_case(who),
        };
        if !approval.by.is_empty() && !approval.by.iter().any(named) {
            return Err(self.meet("somebody who was not asked was refused", ("Forbidden", "may not decide".into())));
        }
        Ok(())
    }

    /// What the script looks at for every word; `by` is who may decide, as the caller last saw it.
    fn open(&mut self, id: TaskId, number: u16, word: &Word, by: &[String]) -> Result<(), (&'static str, String)> {
        let approval = &self.approvals[&(id, number)];
        if approval.status != ApprovalStatus::Pending {
            let (_, decision) = approval.decision.clone().expect("a decision");
            let told = match approval.status {
                ApprovalStatus::Timeout | ApprovalStatus::Cancelled => format!("closed before: {}", decision.why),
                status => format!("was {status} before, by {}", decision.who),
            };
            return Err(self.meet("a decision came after the decision", ("Conflict", told)));
        }
        if !self.limits.self_approval && approval.question.own.eq_ignore_ascii_case(&word.who) {
            return Err(
                self.meet("the submitter was refused", ("Forbidden", format!("{} submitted the task", word.who)))
            );
        }
        if approval.by != by {
            return Err(self.meet("those who may decide had changed", ("changed", String::new())));
        }
        if !word.shown.is_empty() && word.shown != approval.question.hash {
            return Err(self.meet("something else had been shown", ("Conflict", "look at it again".into())));
        }
        if self.now >= approval.expires {
            self.expire(id, number);
            let told = "closed before: nobody decided in time".into();
            return Err(self.meet("a decision came after the time", ("Conflict", told)));
        }
        let approval = self.approvals.get_mut(&(id, number)).expect("an approval");
        if !word.once.is_empty() && approval.marks.insert(format!("!{}", word.once), "1".into()).is_some() {
            return Err(self.meet("a link was used twice", ("Conflict", "has been used".into())));
        }
        Ok(())
    }

    /// A word as the script hears it.
    pub(crate) fn hear(&mut self, id: TaskId, number: u16, word: &Word, by: &[String]) -> Heard {
        self.open(id, number, word, by)?;
        let stamp = format!("{} {}", self.now, word.note);
        let approval = self.approvals.get_mut(&(id, number)).expect("an approval");
        let quorum = approval.question.terms.quorum;
        let mark = format!("+{}", word.who);
        // Case says nothing about who somebody is.
        let person = format!("~{}", word.who.to_lowercase());
        if approval.marks.contains_key(&person) {
            let told = format!("{} has voted", word.who);
            return Err(self.meet("somebody voted twice", ("Conflict", told)));
        }
        approval.marks.insert(mark, stamp);
        approval.marks.insert(person, "1".into());
        let votes = approval.votes + 1;
        if word.approve {
            approval.votes = votes;
            if votes < quorum {
                self.tell_of(id, number, "approval.voted");
                self.audit("vote", id, number, &word.who, &word.note);
                return self.meet("a vote was counted", Ok(Some((votes, quorum))));
            }
        }
        let decision = Decision { who: word.who.clone(), why: word.note.clone(), form: word.form.clone() };
        let (status, cause) = match word.approve {
            true => (ApprovalStatus::Approved, Cause::Resume),
            false => (ApprovalStatus::Rejected, Cause::Reject),
        };
        self.decided(id, number, status, decision, cause);
        Ok(None)
    }

    /// One person's word: `Some` with the votes and the quorum when more are needed.
    pub(crate) fn decide(&mut self, id: TaskId, number: u16, word: &Word) -> Heard {
        let mark = self.told.len();
        let heard = self.may(id, number, &word.who, &word.roles).and_then(|()| {
            let by = self.approvals[&(id, number)].by.clone();
            self.hear(id, number, word, &by)
        });
        self.seal(mark);
        heard
    }

    pub(crate) fn delegate(&mut self, id: TaskId, number: u16, word: &Word, to: &str) -> Heard {
        let mark = self.told.len();
        let heard = self.hand_on(id, number, word, to);
        self.seal(mark);
        heard
    }

    fn hand_on(&mut self, id: TaskId, number: u16, word: &Word, to: &str) -> Heard {
        self.may(id, number, &word.who, &word.roles)?;
        let approval = &self.approvals[&(id, number)];
        let own = [&approval.question.own, &approval.question.asker];
        if !self.limits.self_approval && own.iter().any(|own| own.eq_ignore_ascii_case(to)) {
            return Err(("Invalid", "may not decide on it".into()));
        }
        if approval.by.is_empty() && approval.status == ApprovalStatus::Pending {
            return Err(("Invalid", "nobody needs to be named".into()));
        }
        let by = approval.by.clone();
        self.open(id, number, word, &by)?;
        if by.iter().any(|who| who == to) {
            // On the list already: nothing changes.
            return Ok(None);
        }
        self.approvals.get_mut(&(id, number)).expect("an approval").by.push(to.into());
        self.tell_of(id, number, "approval.delegated");
        self.audit("delegated", id, number, &word.who, to);
        self.meet("an approval was delegated", Ok(None))
    }

    // What workers do.

    /// Whether one more entry of this name has no room, beside what was told.
    fn is_full(&self, id: TaskId, (name, entry): (&String, &Entry), tells: &[Tell]) -> bool {
        let Some(journal) = self.journals.get(&id) else { return false };
        let length = entry_sent(entry).len() as u64 + Self::length_of(tells);
        !journal.entries.contains_key(name)
            && (journal.fields() + tells.len() >= ENTRIES_MAX || journal.bytes.unwrap_or(0) + length > BYTES_MAX)
    }

    /// `None` is a lost lease, `Some(None)` a journal without room, or too many who wait for the same event.
    pub(crate) fn park(
        &mut self,
        (worker, generation): (usize, u64),
        t: Ticket,
        wait: &Waiting,
        tells: &[Tell],
    ) -> Option<Option<LetGo>> {
        self.present(worker, generation)?;
        if !self.holds(worker, t) {
            return Some(Some(self.meet("a ticket was stale", LetGo::Stale)));
        }
        if wait.noted().is_some_and(|noted| self.is_full(t.id, noted, tells)) {
            return Some(self.meet("a journal was full", None));
        }
        if matches!(wait, Waiting::Event(.., name, _) if self.voices.crowded.as_ref() == Some(name)) {
            return Some(self.meet("too many waited for an event", None));
        }
        let told = self.pass_on(t.id, tells);
        if told > 0 {
            *self.journals.entry(t.id).or_default().bytes.get_or_insert(0) += told;
            // Else nobody would know of it when the task ends.
            self.tasks.get_mut(&t.id).expect("a task").journal = true;
        }
        if self.cancelled(t.id) {
            if told > 0 {
                self.meet("a task that told was cancelled", ());
            }
            return Some(Some(LetGo::Cancelled));
        }
        let now = self.now;
        let task = self.tasks.get_mut(&t.id).expect("a task");
        match wait {
            Waiting::Gate(_) => task.gated = true,
            _ => task.journal = true,
        }
        let (number, over) = match wait {
            Waiting::Gate(question) => (Some(0), now + question.terms.expires_ms.unwrap_or(APPROVAL_TIMEOUT)),
            Waiting::Person(name, entry, question) => {
                let journal = self.journals.entry(t.id).or_default();
                journal.asked += 1;
                let (number, hash) = (journal.asked, hash_bytes(&question.hash));
                let (status, decision) = (ApprovalStatus::Pending, Decision::default());
                let noted = Noted::Asked { number, status, hash, decision };
                journal.entries.insert(name.clone(), Entry { digest: [0; 8], noted, ..entry.clone() });
                (Some(number), now + question.terms.expires_ms.unwrap_or(APPROVAL_TIMEOUT))
            }
            Waiting::Sleep(name, entry, until) => {
                let until = until.map_or_else(|at| at, |delay| now + delay);
                let entry = Entry { noted: Noted::Sleep(until), ..entry.clone() };
                self.journals.entry(t.id).or_default().entries.insert(name.clone(), entry);
                (None, until)
            }
            Waiting::Event(name, entry, until, awaited, _) => {
                let until = until.map_or_else(|at| at, |delay| now + delay);
                let entry = Entry { noted: Noted::Waiting(until), ..entry.clone() };
                let journal = self.journals.entry(t.id).or_default();
                journal.entries.insert(name.clone(), entry);
                // The place is learnt from the script.
                let wait = Await { awaited: awaited.clone(), behind: (0, 0), found: None };
                journal.waits.insert(name.clone(), wait);
                journal.awaiting = Some(name.clone());
                (None, until)
            }
        };
        let event = matches!(wait, Waiting::Event(..));
        match wait {
            Waiting::Gate(_) => self.waits_to_begin(t.id),
            _ => self.tasks.get_mut(&t.id).expect("a task").going = true,
        }
        self.walk(t.id, Cause::Park, Place::Parked { approval: number, over, event });
        self.slices.insert(slice(t.id));
        if let Some((name, entry)) = wait.noted() {
            let length = name.len() + entry_sent(entry).len();
            *self.journals.entry(t.id).or_default().bytes.get_or_insert(0) += length as u64;
        }
        match wait {
            Waiting::Gate(question) => self.ask(t.id, 0, question, ""),
            Waiting::Person(name, _, question) => self.ask(t.id, number.expect("a number"), question, name),
            Waiting::Sleep(..) | Waiting::Event(..) => {}
        }
        Some(Some(LetGo::Done))
    }

    pub(crate) fn note(
        &mut self,
        (worker, generation): (usize, u64),
        t: Ticket,
        (name, entry): (&str, &Entry),
        tells: &[Tell],
    ) -> Note {
        if self.present(worker, generation).is_none() {
            return Note::Lost;
        }
        if !self.holds(worker, t) {
            return self.meet("a ticket was stale", Note::Stale);
        }
        let present = self.journals.get(&t.id).and_then(|journal| journal.entries.get(name));
        let (length, fresh) = (entry_sent(entry).len() as u64 + Self::length_of(tells), present.is_none());
        let more = match present {
            Some(present) if present == entry => return self.meet("a note was sent twice", Note::Noted),
            Some(Entry { noted: Noted::Begun, .. }) if matches!(entry.noted, Noted::Done(_)) => {
                self.meet("an effect was noted as done", length)
            }
            Some(_) => return self.meet("a name in the journal was taken", Note::Taken),
            None => length + name.len() as u64,
        };
        let (fields, bytes) = self.journals.get(&t.id).map_or((0, 0), |j| (j.fields(), j.bytes.unwrap_or(0)));
        if fresh && fields + tells.len() >= ENTRIES_MAX || bytes + more > BYTES_MAX {
            return self.meet("a journal was full", Note::Full);
        }
        let life = &mut self.workers[worker];
        life.lease = life.lease.map(|lease| lease.max(self.now + life.length));
        let journal = self.journals.entry(t.id).or_default();
        journal.entries.insert(name.into(), entry.clone());
        journal.bytes = Some(bytes + more);
        self.pass_on(t.id, tells);
        self.tasks.get_mut(&t.id).expect("a task").journal = true;
        Note::Noted
    }

    /// A manual retry begins a new life: what is done stays done, what was not approved is asked again.
    pub(crate) fn reopen(&mut self, id: TaskId) {
        let Some(journal) = self.journals.get_mut(&id) else { return };
        journal.expires = false;
        let before = journal.entries.len();
        journal.entries.retain(|name, entry| match entry.noted {
            Noted::Asked { status, .. } => status == ApprovalStatus::Approved,
            // Waited for anew, unless it was found.
            Noted::Waiting(_) => journal.waits.get(name).is_some_and(|wait| wait.found.is_some()),
            _ => true,
        });
        journal.waits.retain(|_, wait| wait.found.is_some());
        let (kept, forgot) = (!journal.entries.is_empty(), journal.entries.len() < before);
        if kept {
            self.meet("a revived task kept what was done", ());
        }
        if forgot {
            self.meet("a revived task forgot what was not approved", ());
        }
    }
}
