//! Service-level clocks as they should stand: where a task's time went, and what is told when it runs out.

use orchestrator::{OnViolation, Priority, TaskId};

use super::moves::Off;
use super::reference::{Ending, Place, Reference};

/// What is promised for a task; times in milliseconds, 0 for none.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub(crate) target: u64,
    pub(crate) deadline: u64,
    pub(crate) warn: f64,
    pub(crate) pauses: bool,
    pub(crate) action: OnViolation,
}

/// The clock of one task.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    pub(crate) action: OnViolation,
    pub(crate) pauses: bool,
    pub(crate) warned: bool,
    pub(crate) violated: bool,
    pub(crate) phase: u8,
    pub(crate) since: u64,
    pub(crate) due: u64,
    pub(crate) limit: u64,
    pub(crate) lead: u64,
    /// Spent waiting for a machine, in one, and waiting for a person.
    pub(crate) spent: [u64; 3],
    pub(crate) task_type: String,
    /// When it warns, while that is set.
    pub(crate) warns: Option<u64>,
    /// When it is violated, while that is set.
    pub(crate) ends: Option<u64>,
}

impl Clock {
    /// `run_at` is when the task is to start, 0 for at once: its target counts from there.
    pub(crate) fn begin(
        promise: &Promise,
        created: u64,
        run_at: u64,
        now: u64,
        with_person: bool,
        task_type: &str,
    ) -> Self {
        let start = created.max(run_at);
        let due = if promise.target > 0 { start + promise.target } else { 0 };
        let at = [due, promise.deadline].into_iter().filter(|ms| *ms > 0).min().unwrap_or(0);
        let total = at.saturating_sub(start);
        let mut clock = Self {
            action: promise.action.clone(),
            pauses: promise.pauses,
            warned: false,
            violated: false,
            phase: if with_person { b'h' } else { b'q' },
            since: created,
            due,
            limit: promise.deadline,
            lead: ((1.0 - promise.warn) * total as f64).round() as u64,
            spent: [0; 3],
            task_type: task_type.into(),
            warns: None,
            ends: None,
        };
        clock.arm(now);
        clock
    }

    pub(crate) fn stands(&self) -> bool {
        self.pauses && self.phase == b'h'
    }

    /// When it is violated as things stand.
    pub(crate) fn end(&self) -> Option<u64> {
        let due = if self.stands() { 0 } else { self.due };
        [due, self.limit].into_iter().filter(|at| *at > 0).min()
    }

    fn arm(&mut self, now: u64) {
        let end = self.end();
        // Never in the past, unless that is where its end lies.
        // What is due already is still to be told, whoever has the task.
        if self.warns.is_none_or(|at| at > now) {
            self.warns = end.filter(|_| !self.warned).map(|at| at.min(now.max(at.saturating_sub(self.lead))));
        }
        if self.ends.is_none_or(|at| at > now) {
            self.ends = end.filter(|_| !self.violated);
        }
    }

    /// As it is stored.
    pub(crate) fn state(&self) -> Vec<u8> {
        let bits = u8::from(self.pauses) | u8::from(self.warned) << 1 | u8::from(self.violated) << 2;
        let (action, whom) = match &self.action {
            OnViolation::Announce => (b'a', ""),
            OnViolation::Raise => (b'r', ""),
            OnViolation::Cancel => (b'c', ""),
            OnViolation::Escalate(whom) => (b'e', whom.as_str()),
        };
        let [queue, machine, human] = self.spent;
        let mut state = vec![bits, action, self.phase];
        for ms in [self.since, self.due, self.limit, self.lead, queue, machine, human] {
            state.extend(&ms.to_be_bytes()[2..]);
        }
        state.push(self.task_type.len() as u8);
        state.extend(self.task_type.bytes());
        state.push(whom.len() as u8);
        state.extend(whom.bytes());
        state
    }

    /// Books the time since the last turn. Returns whether the clock stood meanwhile.
    fn book(&mut self, now: u64) -> bool {
        let (spent, stood) = (now.saturating_sub(self.since), self.stands());
        self.spent[match self.phase {
            b'q' => 0,
            b'm' => 1,
            _ => 2,
        }] += spent;
        if stood && self.due > 0 {
            // What was left when it was stopped is left now.
            self.due = now + self.due.saturating_sub(self.since);
        }
        self.since = now;
        stood
    }
}

impl Reference {
    /// The task's clock goes on in another phase.
    pub(crate) fn turn(&mut self, id: TaskId, phase: u8) {
        let now = self.now;
        let Some(clock) = self.tasks.get_mut(&id).and_then(|entry| entry.clock.as_mut()) else { return };
        let before = clock.due;
        let stood = clock.book(now);
        clock.phase = phase;
        if stood != clock.stands() {
            clock.arm(now);
        }
        if clock.due > before {
            self.meet("a clock moved on after a pause", ());
        }
    }

    /// The task has ended with this letter: its clock stops, and tells so if it ended late and nobody had told.
    pub(crate) fn stop(&mut self, id: TaskId, letter: u8) {
        let now = self.now;
        let entry = self.tasks.get_mut(&id).expect("a task");
        let priority = entry.priority;
        let Some(clock) = entry.clock.as_mut() else { return };
        clock.book(now);
        clock.phase = letter;
        let at = [clock.due, clock.limit].into_iter().filter(|at| *at > 0).min();
        let late = letter != b'x' && clock.ends.is_some() && at.is_some_and(|at| now > at);
        clock.violated |= late;
        (clock.warns, clock.ends) = (None, None);
        let (clock, hour) = (clock.clone(), now / 3_600_000);
        if letter != b'x' || clock.violated {
            let mut count = |what: String| {
                let row = format!("{} {priority} {what}", clock.task_type);
                *self.hours.entry(hour).or_default().entry(row).or_default() += 1;
            };
            count("n".into());
            if clock.violated {
                count("l".into());
            }
            for (letter, ms) in ['q', 'm', 'h'].into_iter().zip(clock.spent) {
                // In four steps an octave.
                let step = (((ms + 1) as f64).ln() / 2f64.ln() * 4.0).floor();
                count(format!("{letter}{step}"));
            }
        }
        if late {
            self.tell(id, "sla.violation");
            self.meet("a task ended late", ());
        }
    }

    /// A clock warns, or has run out.
    pub(crate) fn alarm(&mut self, id: TaskId, violated: bool) {
        let entry = self.tasks.get_mut(&id).expect("a task");
        let clock = entry.clock.as_mut().expect("a clock that warns");
        let action = clock.action.clone();
        if !violated {
            clock.warned = true;
            self.tell(id, "sla.warning");
            return self.meet("a clock warned", ());
        }
        clock.violated = true;
        self.tell(id, "sla.violation");
        self.meet("a clock ran out", ());
        match action {
            OnViolation::Announce => {}
            OnViolation::Cancel => {
                let error = "cancelled because its service level was violated".to_owned();
                let ending = Ending { reason: Some("sla"), error: Some(error), ..Ending::default() };
                if self.call_off(id, ending, 0) == Off::Ended {
                    self.meet("a task was called off by its clock", ());
                }
            }
            OnViolation::Raise => self.lift(id),
            OnViolation::Escalate(whom) => {
                if let Place::Parked { approval: Some(number), .. } = self.tasks[&id].place {
                    self.add_approver(id, number, &whom);
                    self.meet("a clock asked somebody else", ());
                }
                self.lift(id);
            }
        }
    }

    /// To the front of its queue, when it is there.
    fn lift(&mut self, id: TaskId) {
        let entry = self.tasks.get_mut(&id).expect("a task");
        if entry.priority != Priority::P0 {
            entry.priority = Priority::P0;
            if let Place::Ready { at } = &mut entry.place {
                *at = id.created_at_ms();
            }
            self.meet("a task was raised", ());
        }
    }
}
