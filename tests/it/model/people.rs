//! People who decide, handlers that wait for them, and what handlers note.

use std::time::Duration;

use orchestrator::{
    ApprovalId, ApprovalStatus, Approver, Asking, Ballot, Decided, Entry, Gate, LetGo, Noted, OnViolation, TaskId,
    Telling, Terms, Until, Wait, digest, encode_value, hash_bytes,
};
use rand::Rng;
use rand::seq::IndexedRandom;
use serde_json::json;

use super::awaited::Tell;
use super::bytes::{id_bytes, make_id};
use super::clock::Promise;
use super::hands::Holding;
use super::parked::{Heard, Note, Question, Waiting, Word};
use super::reference::{Ending, Place};
use super::voices::{patience, real_ms};
use super::waits;
use super::world::{World, aside, kind};

/// Who submits and decides; `Ann` is `ann`.
const PEOPLE: [&str; 5] = ["ann", "bob", "cid", "dan", "Ann"];
/// Who has the role `sre`.
const SRE: [&str; 2] = ["cid", "dan"];
/// Bytes that a journal may have.
const JOURNAL_MAX: u64 = 8 << 20;

/// How the library waits and the model does, and what was told before.
pub(crate) type Waits = (Wait, Waiting, Tellings);
/// What a handler tells, for the library and for the model.
pub(crate) type Tellings = (Vec<Telling>, Vec<Tell>);

impl World {
    // What is asked for.

    pub(crate) fn anybody(&mut self) -> String {
        PEOPLE[self.rng.random_range(0..PEOPLE.len())].to_owned()
    }

    pub(crate) fn terms(&mut self) -> Terms {
        let by: &[&str] = match self.rng.random_range(0..4) {
            0 => &["ann", "bob", "name:cid"],
            1 => &["role:sre", "bob"],
            _ => &[],
        };
        let escalate = self.rng.random_bool(0.2).then(|| (self.rng.random_range(1_000..30_000), "dan".to_owned()));
        Terms {
            by: by.iter().map(|who| (*who).to_owned()).collect(),
            quorum: if self.rng.random_bool(0.4) { 2 } else { 1 },
            expires_ms: self.rng.random_bool(0.8).then(|| self.rng.random_range(1_000..60_000)),
            remind_ms: self.rng.random_bool(0.3).then(|| self.rng.random_range(1_000..20_000)),
            escalate,
        }
    }

    pub(crate) fn promise(&mut self) -> Promise {
        let (now, kind) = (self.model.now, self.rng.random_range(0..10));
        let target = if kind == 0 { 0 } else { self.rng.random_range(1..60_000) };
        let deadline = if kind < 3 { now + self.rng.random_range(60_001..120_000) } else { 0 };
        if target == 0 {
            // An instant alone takes the defaults for the rest.
            return Promise { target, deadline, warn: 0.8, pauses: true, action: OnViolation::Announce };
        }
        let action = match self.rng.random_range(0..8) {
            0 => OnViolation::Raise,
            1 | 2 => OnViolation::Cancel,
            3 | 4 => OnViolation::Escalate("dan".into()),
            _ => OnViolation::Announce,
        };
        let warn = [0.5, 0.8, 0.95][self.rng.random_range(0..3)];
        Promise { target, deadline, warn, pauses: self.rng.random_bool(0.5), action }
    }

    // What people do.

    /// Somebody looks at what is asked, and says something.
    pub(crate) async fn person_acts(&mut self) {
        let pending = |status: ApprovalStatus| status == ApprovalStatus::Pending;
        let open: Vec<(TaskId, u16)> =
            self.model.approvals.iter().filter(|(_, a)| pending(a.status)).map(|(id, _)| *id).collect();
        let recent: Vec<(TaskId, u16)> = self.model.history.iter().rev().take(6).map(|(_, id, n)| (*id, *n)).collect();
        let nobody = (make_id(self.model.now, self.rng.random()), self.rng.random_range(0..2));
        let among = match self.rng.random_range(0..12) {
            0 => vec![nobody],
            1 | 2 => recent,
            _ => open,
        };
        let Some((id, n)) = among.choose(&mut self.rng).copied() else { return };
        // Often at once, so that votes meet.
        for _ in 0..self.rng.random_range(1..4) {
            let word = self.word(id, n);
            match self.rng.random_range(0..12) {
                0 => self.delegate(id, n, &word).await,
                1 => self.judge_again(id, n, &word).await,
                _ => self.decide(id, n, &word).await,
            }
            self.look_at(id, n).await;
        }
        self.get(id).await;
    }

    fn word(&mut self, id: TaskId, n: u16) -> Word {
        let who = self.anybody();
        let roles = if SRE.contains(&who.as_str()) { vec!["sre".to_owned()] } else { Vec::new() };
        let approval = self.model.approvals.get(&(id, n));
        let hash = approval.map_or_else(String::new, |approval| approval.question.hash.clone());
        let asks = approval.is_some_and(|a| a.status == ApprovalStatus::Pending && !a.question.form.is_empty());
        let approve = self.rng.random_bool(0.75);
        let form =
            if asks && approve { encode_value("form", &json!({"n": 3}), 100).expect("a form") } else { Vec::new() };
        Word {
            who,
            roles,
            approve,
            note: ["", "fine", "no, but"][self.rng.random_range(0..3)].into(),
            shown: match self.rng.random_range(0..8) {
                0 => "0".repeat(64),
                1..=3 => hash,
                _ => String::new(),
            },
            once: if self.rng.random_bool(0.4) { "word".into() } else { String::new() },
            form,
        }
    }

    /// The kind of an error and its text, or the votes when more are needed.
    fn compare(&mut self, what: &str, reply: &orchestrator::Result<Option<(u8, u8)>>, expected: &Heard) {
        match (reply, expected) {
            (Ok(is), Ok(should)) => assert_eq!(is, should, "{what}"),
            (Err(error), Err((should, text))) => {
                assert_eq!(kind(reply), Err(*should), "{what}: {error}, should say {text}");
                assert!(error.to_string().contains(text), "{what}: {error}, should say {text}");
            }
            _ => panic!("{what}: {reply:?}, should be {expected:?}"),
        }
    }

    async fn decide(&mut self, id: TaskId, n: u16, word: &Word) {
        let name = self.name(id);
        let expected = self.model.decide(id, n, word);
        self.log.say(format!("{} on {n} of {name}: {} {expected:?}", word.who, word.approve));
        let ballot = match word.approve {
            true => Ballot::approve(approver(word)),
            false => Ballot::reject(approver(word)),
        };
        let ballot = ballot.note(&word.note);
        let ballot = if word.shown.is_empty() { ballot } else { ballot.shown(&word.shown) };
        let ballot = if word.once.is_empty() { ballot } else { ballot.once(&word.once) };
        let ballot = if word.form.is_empty() { ballot } else { ballot.form(json!({"n": 3})) };
        if self.decide_sha.is_none() {
            self.watch_calls(true).await;
        }
        let reply = aside(self.orch.decide(ApprovalId { task: id, number: n }, &ballot)).await;
        if self.decide_sha.is_none() {
            self.watch_calls(false).await;
        }
        let reply = reply.map(|decided| match decided {
            Decided::Counted { votes, quorum } => Some((votes, quorum)),
            Decided::Done(status) => {
                let should = if word.approve { ApprovalStatus::Approved } else { ApprovalStatus::Rejected };
                assert_eq!(status, should, "the decision on {n} of {name}");
                None
            }
        });
        self.compare(&format!("a decision on {n} of {name}"), &reply, &expected);
    }

    async fn delegate(&mut self, id: TaskId, n: u16, word: &Word) {
        let (name, to) = (self.name(id), PEOPLE[self.rng.random_range(0..4)]);
        // Handing on says nothing about what was shown.
        let word = Word { shown: String::new(), once: String::new(), ..word.clone() };
        let expected = self.model.delegate(id, n, &word, to);
        self.log.say(format!("{} hands {n} of {name} on to {to}: {expected:?}", word.who));
        let reply = aside(self.orch.delegate(ApprovalId { task: id, number: n }, &approver(&word), to)).await;
        self.compare(&format!("handing {n} of {name} on"), &reply.map(|()| None), &expected);
    }

    /// Learns the name of the script that hears decisions from the server's log of slow calls.
    async fn watch_calls(&mut self, begin: bool) {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("slowlog-log-slower-than").arg(if begin { 0 } else { 10_000_000 });
        set.query_async::<()>(&mut self.raw).await.expect("a reply");
        let mut ask = redis::cmd("SLOWLOG");
        if begin {
            return ask.arg("RESET").query_async::<()>(&mut self.raw).await.expect("a reply");
        }
        type Slow = (u64, u64, u64, Vec<Vec<u8>>, redis::Value, redis::Value);
        let slow: Vec<Slow> = ask.arg("GET").arg(20).query_async(&mut self.raw).await.expect("slow calls");
        let decides = |args: &[Vec<u8>]| args.first().is_some_and(|c| c == b"EVALSHA") && args.len() == 16;
        let call = slow.iter().map(|call| &call.3).find(|args| decides(args));
        self.decide_sha = call.map(|args| String::from_utf8_lossy(&args[1]).into_owned());
    }

    /// The word is judged by what was told before, and things have changed since: the script itself must see that.
    async fn judge_again(&mut self, id: TaskId, n: u16, word: &Word) {
        let Some(sha) = self.decide_sha.clone() else { return };
        let there: Vec<bool> =
            redis::cmd("SCRIPT").arg("EXISTS").arg(&sha).query_async(&mut self.raw).await.expect("a reply");
        let Some(approval) = self.model.approvals.get(&(id, n)).filter(|_| there == [true]) else { return };
        let mut by = approval.by.clone();
        if self.rng.random_bool(0.3) {
            by.push("eve".into());
        }
        let ending = |reason, error: String| {
            super::bytes::ending(&Ending { reason: Some(reason), error: Some(error), ..Ending::default() })
        };
        let error = match word.note.as_str() {
            "" => format!("rejected by {}", word.who),
            why => format!("rejected by {}: {why}", word.who),
        };
        let mark = self.model.told.len();
        let expected = self.model.hear(id, n, word, &by);
        self.model.seal(mark);
        let name = self.name(id);
        self.log.say(format!("{} on {n} of {name}, judged before: {expected:?}", word.who));
        let mut call = redis::cmd("EVALSHA");
        call.arg(sha).arg(1).arg(format!("{}e", self.base)).arg(id_bytes(id)).arg(n);
        call.arg(if word.approve { "approve" } else { "reject" }).arg(&word.who).arg(&word.note).arg(&word.shown);
        call.arg(&word.form).arg(u8::from(self.model.limits.self_approval)).arg(ending("rejected", error));
        call.arg(ending("timeout", "its approval expired: nobody decided in time".into()));
        call.arg(&word.once).arg(by.join(" "));
        let reply: Vec<redis::Value> = call.query_async(&mut self.raw).await.expect("a reply");
        let outcome: String = redis::from_redis_value(reply[0].clone()).expect("an outcome");
        let should = match &expected {
            Ok(None) => "done",
            Ok(Some(_)) => "counted",
            Err(("changed", _)) => "changed",
            Err(("Forbidden", _)) => "own",
            Err((_, text)) if text.contains("has voted") => "voted",
            Err((_, text)) if text.contains("has been used") => "used",
            Err((_, text)) if text.contains("look at it again") => "stale",
            Err(_) => "closed",
        };
        assert_eq!(outcome, should, "{} on {n} of {name}", word.who);
    }

    async fn look_at(&mut self, id: TaskId, n: u16) {
        let reply = self.orch.approval(ApprovalId { task: id, number: n }).await;
        let Some(approval) = self.model.approvals.get(&(id, n)) else {
            return assert_eq!(kind(&reply), Err("NotFound"), "approval {n} of {id} is not known any more");
        };
        waits::agrees(&reply.expect("an approval"), (id, n), approval);
        if self.rng.random_bool(0.1) {
            let page = self.orch.approvals_pending(0, 1000).await.expect("a page");
            let mut open: Vec<_> =
                self.model.approvals.iter().filter(|(_, a)| a.status == ApprovalStatus::Pending).collect();
            open.sort_by_key(|((id, n), a)| std::cmp::Reverse((a.asked_at, *id, *n)));
            let told: Vec<_> = page.approvals.iter().map(|a| (a.approval_id.task, a.approval_id.number)).collect();
            assert_eq!(told, open.iter().map(|(id, _)| **id).collect::<Vec<_>>(), "what waits for a decision");
            let page = self.orch.approvals_history(0, 1000).await.expect("a page");
            let told: Vec<_> = page.approvals.iter().map(|a| (a.approval_id.task, a.approval_id.number)).collect();
            let should: Vec<_> = self.model.history.iter().rev().map(|(_, id, n)| (*id, *n)).collect();
            assert_eq!(told, should, "what was decided");
        }
    }

    // What handlers do.

    /// Something that a handler waits for.
    pub(crate) fn waiting(&mut self, holding: &Holding) -> Waits {
        let asked = self.model.tasks.get(&holding.ticket().id).map(|entry| entry.asked.clone());
        let terms = self.terms();
        let order = self.rng.random_range(1..9);
        let entry = |noted| Entry { order, side_by_side: false, code: 0, digest: digest(b"in"), noted };
        let kind = self.rng.random_range(0..18);
        if let (0 | 1, Some(asked)) = (kind, &asked) {
            let mut gate = Gate::new();
            gate.terms = terms.clone();
            let passed = holding.claim.has_passed_its_gate();
            if let Some(asking) = Asking::at_gate(&holding.claim, &gate).expect("terms").filter(|_| !passed) {
                let told = (Vec::new(), Vec::new());
                return (Wait::Gate(asking), Waiting::Gate(asked.question(&terms, 0)), told);
            }
        }
        let told = self.tells(holding);
        if kind < 6 {
            let name = ["q1", "q2"][self.rng.random_range(0..2)].to_owned();
            let form = if self.rng.random_bool(0.3) { vec!["n".to_owned()] } else { Vec::new() };
            let shown = json!({"plan": self.rng.random_range(0..3)});
            let asking = Asking::about(&holding.claim, shown, "Really?", form.clone(), terms.clone()).expect("terms");
            let hash = asking.hash().to_owned();
            let own = holding.claim.requested_by().unwrap_or_default().to_owned();
            let noted = Noted::Asked {
                number: 0,
                status: ApprovalStatus::Pending,
                hash: hash_bytes(&hash),
                decision: orchestrator::Decision::default(),
            };
            let question = Question { terms, own, asker: String::new(), hash, due: 0, form };
            let entry = entry(noted);
            let waiting = Waiting::Person(name.clone(), entry.clone(), question);
            return (Wait::Person { name, entry, asking }, waiting, told);
        }
        if kind >= 10 {
            let name = ["e1", "e2"][self.rng.random_range(0..2)].to_owned();
            let (id, entry) = (holding.ticket().id, entry(Noted::Waiting(0)));
            let awaited = self.awaited(id);
            let (behind, wait) = (self.behind(id, &awaited), patience(&mut self.rng));
            let cursor = behind.map(|(ms, seq)| format!("{ms}-{seq}.0").parse().expect("a place"));
            let at = self.model.now + wait.as_millis() as u64;
            let (until, should) = match self.rng.random_bool(0.5) {
                true => (Until::After(wait), Ok(wait.as_millis() as u64)),
                false => (Until::Instant(at), Err(at)),
            };
            let waiting = Waiting::Event(name.clone(), entry.clone(), should, awaited.clone(), behind);
            return (Wait::Event { name, entry, until, awaited, behind: cursor }, waiting, told);
        }
        let (name, entry) = (["z1", "z2"][self.rng.random_range(0..2)].to_owned(), entry(Noted::Sleep(0)));
        let ms = [0, 1, 2_000, 40_000][self.rng.random_range(0..4)];
        let (until, should) = match self.rng.random_bool(0.5) {
            true => (Until::After(Duration::from_millis(ms)), Ok(ms)),
            false => (Until::Instant(self.model.now + ms), Err(self.model.now + ms)),
        };
        (Wait::Sleep { name: name.clone(), entry: entry.clone(), until }, Waiting::Sleep(name, entry, should), told)
    }

    /// Parks; tells whether the task was let go of.
    pub(crate) async fn park(
        &mut self,
        worker: usize,
        generation: Option<u64>,
        holding: &Holding,
        (wait, waiting, (tellings, tells)): &Waits,
    ) -> bool {
        let (life, seat) = self.seat(worker, generation);
        let names = self.names(&[holding.ticket()]);
        let what = match waiting {
            Waiting::Gate(_) => "at its gate".to_owned(),
            Waiting::Person(name, ..) => format!("for a person at {name}"),
            Waiting::Sleep(name, _, until) => format!("asleep at {name} until {until:?}"),
            Waiting::Event(name, _, until, awaited, behind) => {
                format!("for {awaited} behind {behind:?} at {name} until {until:?}")
            }
        };
        let expected = self.model.park(seat, holding.ticket(), waiting, tells);
        self.log.say(format!("w{worker} at {}: park {names} {what}: {expected:?}", seat.1));
        let from = real_ms();
        let reply = life.park(&holding.claim, wait, tellings).await;
        let to = real_ms();
        self.hear().await;
        match expected {
            Some(None) => {
                assert_eq!(kind(&reply), Err("Invalid"), "a full journal: {reply:?}");
                false
            }
            expected => {
                self.let_go(worker, generation, &reply, expected.flatten());
                if let (Some(Some(LetGo::Done)), Waiting::Event(.., behind)) = (expected, waiting) {
                    self.begin_wait(holding.ticket().id, *behind, (from, to)).await;
                }
                expected.flatten() != Some(LetGo::Stale)
            }
        }
    }

    pub(crate) async fn wait(&mut self, worker: usize) {
        if let Some(holding) = self.take_any(worker) {
            self.wait_with(worker, holding).await;
        }
    }

    pub(crate) async fn wait_with(&mut self, worker: usize, holding: Holding) {
        let id = holding.ticket().id;
        self.read_journal(worker, &holding).await;
        let wait = self.waiting(&holding);
        if self.rng.random_bool(0.1) {
            // Asked for just before it lets go.
            self.cancel(id).await;
        }
        let full = !matches!(wait.1, Waiting::Gate(_)) && self.rng.random_bool(0.2);
        let before = if full { self.fill(id).await } else { None };
        let crowd = match &wait.1 {
            Waiting::Event(.., name, _) if self.rng.random_bool(0.05) => Some((name, self.crowd(name).await)),
            _ => None,
        };
        let parked = self.park(worker, None, &holding, &wait).await;
        if let Some((name, before)) = crowd {
            self.uncrowd(name, before).await;
        }
        self.unfill(id, before).await;
        if !self.hands[worker].alive {
            return self.hands[worker].dismiss(holding);
        }
        if !parked && self.model.holds(worker, holding.ticket()) {
            return self.give(worker, Some(vec![holding]));
        }
        if self.rng.random_bool(0.1) {
            self.park(worker, None, &holding, &wait).await;
        }
        self.get(id).await;
        self.hands[worker].dismiss(holding);
        if parked && matches!(wait.1, Waiting::Event(..)) && self.rng.random_bool(0.05) {
            self.cut_stream().await;
        }
        if self.rng.random_bool(0.1) {
            self.cancel(id).await;
            if self.rng.random_bool(0.5) {
                // Asked anew, or not at all.
                self.revive(id).await;
                self.get(id).await;
            }
        }
    }

    /// Makes the journal of a task look full; returns what it said before.
    async fn fill(&mut self, id: TaskId) -> Option<u64> {
        let journal = self.model.journals.get_mut(&id)?;
        let before = journal.bytes?;
        journal.bytes = Some(JOURNAL_MAX);
        self.count_bytes(id, JOURNAL_MAX).await;
        Some(before)
    }

    async fn unfill(&mut self, id: TaskId, before: Option<u64>) {
        let Some(before) = before else { return };
        let Some(journal) = self.model.journals.get_mut(&id) else { return };
        let more = journal.bytes.expect("a count") - JOURNAL_MAX;
        journal.bytes = Some(before + more);
        self.count_bytes(id, before + more).await;
    }

    async fn count_bytes(&mut self, id: TaskId, bytes: u64) {
        let key = [self.base.as_bytes(), b"j:", &id_bytes(id)].concat();
        let mut set = redis::cmd("HSET");
        set.arg(key).arg(b"\0b").arg(bytes).query_async::<()>(&mut self.raw).await.expect("a reply");
    }

    async fn read_journal(&mut self, worker: usize, holding: &Holding) {
        let entries = self.hands[worker].life.journal(holding.ticket()).await.expect("a journal");
        if self.model.holds(worker, holding.ticket()) {
            waits::reads(&entries, self.model.journals.get(&holding.ticket().id));
        }
    }

    /// Something that a handler notes.
    pub(crate) fn noted(&mut self) -> (String, Entry) {
        let n = self.rng.random_range(0..3u8);
        let (name, noted) = match self.rng.random_range(0..5) {
            0 | 1 => (format!("s{n}"), Noted::Step(vec![n])),
            2 | 3 => (format!("o{n}"), Noted::Begun),
            _ => (format!("o{n}"), Noted::Done(vec![n, n])),
        };
        let order = self.rng.random_range(1..3);
        (name, Entry { order, side_by_side: self.rng.random_bool(0.1), code: 7, digest: digest(b"in"), noted })
    }

    pub(crate) async fn note(
        &mut self,
        worker: usize,
        generation: Option<u64>,
        holding: &Holding,
        (name, entry): (&str, &Entry),
        (tellings, tells): &Tellings,
    ) {
        let (life, seat) = self.seat(worker, generation);
        let names = self.names(&[holding.ticket()]);
        let expected = self.model.note(seat, holding.ticket(), (name, entry), tells);
        self.log.say(format!("w{worker} at {}: note {name} of {names}: {expected:?}", seat.1));
        let reply = life.note(holding.ticket(), name, entry, tellings).await;
        self.hear().await;
        let should = match expected {
            Note::Lost | Note::Stale => Err("LeaseLost"),
            Note::Noted => Ok(()),
            Note::Taken => Err("Conflict"),
            Note::Full => Err("Invalid"),
        };
        assert_eq!(kind(&reply), should, "reply to a note: {reply:?}");
        if expected == Note::Lost {
            self.lost(worker, generation);
        }
    }

    /// Notes one thing or several, and some of them twice.
    pub(crate) async fn jot(&mut self, worker: usize) {
        let Some(holding) = self.take_any(worker) else { return };
        let id = holding.ticket().id;
        for _ in 0..self.rng.random_range(1..4) {
            if !self.hands[worker].alive {
                break;
            }
            let (name, entry) = self.noted();
            let before = if self.rng.random_bool(0.03) { self.fill(id).await } else { None };
            let tells = self.tells(&holding);
            self.note(worker, None, &holding, (&name, &entry), &tells).await;
            self.unfill(id, before).await;
            if self.rng.random_bool(0.2) && self.hands[worker].alive {
                self.note(worker, None, &holding, (&name, &entry), &tells).await;
            }
        }
        if !self.hands[worker].alive {
            return self.hands[worker].dismiss(holding);
        }
        self.read_journal(worker, &holding).await;
        if matches!(self.model.tasks.get(&id).map(|entry| &entry.place), Some(Place::Held { .. })) {
            self.get(id).await;
        }
        // Whether it is still held or not: that is for the next call to find out.
        self.give(worker, Some(vec![holding]));
    }
}

fn approver(word: &Word) -> Approver {
    word.roles.iter().fold(Approver::named(&word.who), |approver, role| approver.role(role))
}
