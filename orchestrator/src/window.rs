//! What one consumer of a group has read and not let go of: which event may begin, which has to wait, and what is to be
//! told to Redis. No I/O.
//!
//! Events of one *line*, those about one task, are handled one behind the other; one that waits for another attempt holds
//! its line up. Events that were read by a process that died are *suspects*, since one of them may have killed it: before
//! one begins, this is noted. A suspect of more than one crash begins only when no other suspect runs, so that the next
//! crash says which it was.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::bus::EventCursor;
use crate::store::EntryId;

/// Crashes with an event in hand after which it is poison. More than of a task: a crash hits all that is in hand.
pub(crate) const EVENT_CRASHES_MAX: u8 = 5;
/// Dead letters noted by one call: each may have half a megabyte.
const LETTERS_AT_ONCE: usize = 8;
/// Failures of an event that is done with, as Redis keeps them.
const DONE: u8 = 255;

/// Which events are handled one behind the other: those about one task, or else about one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Line {
    /// About this task or key.
    About(Vec<u8>),
    /// About nothing that others are about.
    Alone(EventCursor),
}

/// What is known of one event: how often it failed, and how often a process died that had it in hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) failures: u8,
    pub(crate) crashes: u8,
}

impl Mark {
    /// The marks of one entry, as Redis keeps them: index → mark, `None` for what is done with.
    pub(crate) fn read(bytes: &[u8]) -> HashMap<u32, Option<Self>> {
        let mark = |item: &[u8]| {
            let mark = Self { failures: item[2], crashes: item[3] };
            (u32::from(u16::from_be_bytes([item[0], item[1]])), (mark.failures != DONE).then_some(mark))
        };
        bytes.chunks_exact(4).map(mark).collect()
    }

    /// One item of an entry's marks; `None` for what is done with.
    pub(crate) fn write(mark: Option<Self>, index: u32) -> [u8; 4] {
        let mark = mark.unwrap_or(Self { failures: DONE, crashes: 0 });
        let [.., high, low] = index.to_be_bytes();
        [high, low, mark.failures, mark.crashes]
    }

    /// Number of the next attempt, from 1.
    pub(crate) fn attempt(self) -> u32 {
        u32::from(self.failures) + u32::from(self.crashes) + 1
    }
}

/// One event, `E` being what it is told from.
#[derive(Debug)]
pub(crate) struct Job<E> {
    /// Where it stands in the stream.
    pub(crate) at: EventCursor,
    pub(crate) event: E,
    pub(crate) mark: Mark,
    line: Line,
    /// Bytes that it takes.
    weight: usize,
    /// When it may begin, if it is to wait.
    due: Option<Instant>,
    /// A process died with it.
    suspect: bool,
}

/// A job that is not under way.
#[derive(Debug)]
enum Stage {
    Ready,
    /// Its crash is to be noted first.
    Marking,
    /// It waits for another attempt.
    Delayed,
    UnderWay,
}

#[derive(Debug)]
struct Slot<E> {
    stage: Stage,
    job: Option<Job<E>>,
}

/// What an entry has left.
#[derive(Debug)]
struct Open {
    left: usize,
    many: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Window<E> {
    entries: BTreeMap<EntryId, Open>,
    /// Jobs of each line; only the first of a line can be other than ready.
    lines: HashMap<Line, VecDeque<Slot<E>>>,
    ready: VecDeque<Line>,
    /// Suspects of several crashes, whose crash is noted only when it is their turn.
    solos: VecDeque<Line>,
    /// The solo that has its turn.
    solo: Option<Line>,
    delayed: BinaryHeap<Reverse<(Instant, Line)>>,
    /// Suspects of one crash that may begin, or have begun. Those behind another in their line wait for that one.
    first_suspects: usize,
    under_way: usize,
    events: usize,
    bytes: usize,
    /// To be noted.
    notes: Notes,
}

/// What is to be noted in Redis.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Events that became dead letters.
    pub(crate) letters: Vec<Letter>,
    /// What is known of an event, `None` when it is done with; and the line that may go on when it is noted.
    pub(crate) marks: Vec<(EventCursor, Option<Mark>, Option<Line>)>,
    /// Entries that are done with.
    pub(crate) acks: Vec<EntryId>,
}

/// An event that nobody will handle any more, on its way to the dead letters.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) at: EventCursor,
    pub(crate) attempts: u8,
    /// The event, MessagePack.
    pub(crate) event: Vec<u8>,
    pub(crate) error: String,
}

impl<E> Default for Window<E> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            lines: HashMap::new(),
            ready: VecDeque::new(),
            solos: VecDeque::new(),
            solo: None,
            delayed: BinaryHeap::new(),
            events: 0,
            bytes: 0,
            under_way: 0,
            first_suspects: 0,
            notes: Notes::default(),
        }
    }
}

impl<E> Window<E> {
    /// Events that are not done with, and the bytes that they take.
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.events, self.bytes)
    }

    /// Events that have begun or may begin.
    pub(crate) fn going_on(&self) -> usize {
        self.ready.len() + self.under_way
    }

    /// Adds an entry and the events of it that are wanted, in their order, each with the bytes that it takes. `marks` is what
    /// was known of a pending one, `died` whether a process died with it, and `wait` how long one that failed has to wait.
    /// Returns those that are poison.
    pub(crate) fn add(
        &mut self,
        entry: EntryId,
        events: Vec<(u32, Line, usize, E)>,
        marks: &[u8],
        died: bool,
        wait: impl Fn(Mark) -> Duration,
    ) -> Vec<Job<E>> {
        if self.entries.contains_key(&entry) {
            // Read again after a lost answer.
            return Vec::new();
        }
        let known = Mark::read(marks);
        let many = events.len() > 1;
        let open: Vec<_> = events.into_iter().filter(|(index, ..)| known.get(index) != Some(&None)).collect();
        if open.is_empty() {
            self.notes.acks.push(entry);
            return Vec::new();
        }
        self.entries.insert(entry, Open { left: open.len(), many });
        self.events += open.len();
        let mut poison = Vec::new();
        for (index, line, weight, event) in open {
            let mark = known.get(&index).copied().flatten().unwrap_or_default();
            let due = (mark.failures > 0).then(|| Instant::now() + wait(mark));
            let at = EventCursor { entry, index };
            let mut job = Job { at, event, mark, line, weight, due, suspect: died };
            self.bytes += weight;
            if job.suspect && job.mark.crashes + 1 >= EVENT_CRASHES_MAX {
                poison.push(job);
                continue;
            }
            if job.suspect {
                job.mark.crashes += 1;
            }
            let line = job.line.clone();
            let first = !self.lines.contains_key(&line);
            self.lines.entry(line.clone()).or_default().push_back(Slot { stage: Stage::Ready, job: Some(job) });
            if first {
                self.head(&line);
            }
        }
        poison
    }

    /// The first of a line comes into view.
    fn head(&mut self, line: &Line) {
        let Some(slot) = self.lines.get_mut(line).and_then(VecDeque::front_mut) else {
            self.lines.remove(line);
            return;
        };
        let Some(job) = &slot.job else { return };
        if !job.suspect {
            self.may_begin(line);
        } else {
            slot.stage = Stage::Marking;
            if job.mark.crashes > 1 {
                self.solos.push_back(line.clone());
            } else {
                self.first_suspects += 1;
                self.notes.marks.push((job.at, Some(job.mark), Some(line.clone())));
            }
        }
        self.next_solo();
    }

    /// The first of a line may begin, now or when its time has come.
    fn may_begin(&mut self, line: &Line) {
        let Some(slot) = self.lines.get_mut(line).and_then(VecDeque::front_mut) else { return };
        match slot.job.as_mut().and_then(|job| job.due.take()) {
            Some(due) => {
                slot.stage = Stage::Delayed;
                self.delayed.push(Reverse((due, line.clone())));
            }
            None => {
                slot.stage = Stage::Ready;
                self.ready.push_back(line.clone());
            }
        }
    }

    /// Lets the next suspect of several crashes have its turn, when there is no other.
    fn next_solo(&mut self) {
        if self.solo.is_some() || self.first_suspects > 0 {
            return;
        }
        let Some(line) = self.solos.pop_front() else { return };
        if let Some(job) = self.lines.get(&line).and_then(|slots| slots.front()?.job.as_ref()) {
            self.notes.marks.push((job.at, Some(job.mark), Some(line.clone())));
            self.solo = Some(line);
        }
    }

    /// What there is to be noted. Whoever takes it says [`Window::noted`] when Redis has it, or puts it back.
    pub(crate) fn notes(&mut self, most: usize) -> Notes {
        fn front<T>(list: &mut Vec<T>, most: usize) -> Vec<T> {
            list.drain(..list.len().min(most)).collect()
        }
        let letters = front(&mut self.notes.letters, LETTERS_AT_ONCE);
        let marks = front(&mut self.notes.marks, most);
        // An entry is let go of last: what is noted of its events counts only while it is pending.
        let early = !self.notes.letters.is_empty() || !self.notes.marks.is_empty();
        let acks = front(&mut self.notes.acks, if early { 0 } else { most });
        Notes { letters, marks, acks }
    }

    pub(crate) fn has_notes(&self) -> bool {
        let Notes { letters, marks, acks } = &self.notes;
        !letters.is_empty() || !marks.is_empty() || !acks.is_empty()
    }

    /// Redis has these notes: what waited for one may begin.
    pub(crate) fn noted(&mut self, notes: Notes) {
        for line in notes.marks.into_iter().filter_map(|(.., line)| line) {
            let slot = self.lines.get(&line).and_then(VecDeque::front);
            if slot.is_some_and(|slot| matches!(slot.stage, Stage::Marking)) {
                self.may_begin(&line);
            }
        }
    }

    /// Nobody knows whether Redis has these notes: they are noted again.
    pub(crate) fn put_back(&mut self, notes: Notes) {
        self.notes.letters.splice(0..0, notes.letters);
        self.notes.marks.splice(0..0, notes.marks);
        self.notes.acks.splice(0..0, notes.acks);
    }

    /// The next event that may begin.
    pub(crate) fn begin(&mut self, now: Instant) -> Option<Job<E>> {
        while self.delayed.peek().is_some_and(|Reverse((due, _))| *due <= now) {
            let Some(Reverse((_, line))) = self.delayed.pop() else { break };
            if let Some(slot) = self.lines.get_mut(&line).and_then(VecDeque::front_mut) {
                slot.stage = Stage::Ready;
                self.ready.push_back(line);
            }
        }
        // While one suspect has its turn, no other may begin.
        let may = |line: &Line| self.solo.as_ref().is_none_or(|solo| solo == line) || !self.is_suspect(line);
        let place = self.ready.iter().position(may)?;
        let line = self.ready.remove(place)?;
        let slot = self.lines.get_mut(&line)?.front_mut()?;
        slot.stage = Stage::UnderWay;
        let job = slot.job.take()?;
        self.under_way += 1;
        Some(job)
    }

    fn is_suspect(&self, line: &Line) -> bool {
        let first = self.lines.get(line).and_then(|slots| slots.front()?.job.as_ref());
        first.is_some_and(|job| job.suspect)
    }

    /// When the next delayed one is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.delayed.peek().map(|Reverse((due, _))| *due)
    }

    /// An event that had begun waits for another attempt.
    pub(crate) fn again(&mut self, mut job: Job<E>, due: Instant) {
        self.stopped(&job);
        job.mark.failures = job.mark.failures.saturating_add(1).min(DONE - 1);
        job.suspect = false;
        self.notes.marks.push((job.at, Some(job.mark), None));
        let line = job.line.clone();
        if let Some(slot) = self.lines.get_mut(&line).and_then(VecDeque::front_mut) {
            *slot = Slot { stage: Stage::Delayed, job: Some(job) };
        }
        self.delayed.push(Reverse((due, line)));
        self.next_solo();
    }

    fn bury(&mut self, job: &Job<E>, event: Vec<u8>, error: String) {
        let attempts = u8::try_from(job.mark.attempt()).unwrap_or(u8::MAX);
        self.notes.letters.push(Letter { at: job.at, attempts, event, error });
    }

    /// An event that had begun is done with.
    pub(crate) fn done(&mut self, job: &Job<E>) {
        self.over(job, true);
    }

    /// An event that had begun is a dead letter.
    pub(crate) fn dead(&mut self, job: &Job<E>, event: Vec<u8>, error: String) {
        self.bury(job, event, error);
        self.over(job, false);
    }

    fn over(&mut self, job: &Job<E>, mark: bool) {
        self.stopped(job);
        if let Some(slots) = self.lines.get_mut(&job.line) {
            slots.pop_front();
        }
        self.settle(job, mark);
        self.head(&job.line.clone());
        self.next_solo();
    }

    /// One that never began is a dead letter.
    pub(crate) fn poison(&mut self, job: &Job<E>, event: Vec<u8>, error: String) {
        self.bury(job, event, error);
        self.settle(job, false);
    }

    fn stopped(&mut self, job: &Job<E>) {
        self.under_way -= 1;
        self.first_suspects -= usize::from(job.suspect && job.mark.crashes == 1);
        if self.solo.as_ref() == Some(&job.line) {
            self.solo = None;
        }
    }

    /// An event is done with: its entry too, when it was the last one. A letter is a mark itself.
    fn settle(&mut self, job: &Job<E>, mark: bool) {
        let at = job.at;
        let Some(open) = self.entries.get_mut(&at.entry) else { return };
        open.left -= 1;
        self.events -= 1;
        self.bytes -= job.weight;
        if open.left == 0 {
            self.entries.remove(&at.entry);
            self.notes.acks.push(at.entry);
        } else if open.many && mark {
            self.notes.marks.push((at, None, None));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(
        window: &mut Window<char>,
        entry: EntryId,
        events: Vec<(u32, Line, char)>,
        marks: Option<&[u8]>,
    ) -> Vec<Job<char>> {
        let events = events.into_iter().map(|(index, line, event)| (index, line, 1, event)).collect();
        window.add(entry, events, marks.unwrap_or_default(), marks.is_some(), |_| Duration::ZERO)
    }

    fn about(task: u8) -> Line {
        Line::About(vec![task])
    }

    fn alone(seq: u64) -> Line {
        Line::Alone(EventCursor { entry: (1, seq), index: 0 })
    }

    /// Redis takes what there is to be noted.
    fn note(window: &mut Window<char>) -> Vec<EntryId> {
        let notes = window.notes(100);
        let acks = notes.acks.clone();
        window.noted(notes);
        acks
    }

    fn begun(window: &mut Window<char>) -> Vec<Job<char>> {
        std::iter::from_fn(|| window.begin(Instant::now())).collect()
    }

    #[test]
    fn events_of_one_task_come_one_after_the_other_and_an_entry_goes_with_its_last() {
        let mut window = Window::default();
        add(&mut window, (1, 0), vec![(0, about(1), 'a'), (1, about(2), 'b'), (2, about(1), 'c')], None);
        let jobs = begun(&mut window);
        assert_eq!(jobs.iter().map(|job| job.event).collect::<String>(), "ab");
        window.done(&jobs[0]);
        let next = begun(&mut window);
        assert_eq!((next.len(), next[0].event), (1, 'c'));
        assert_eq!(note(&mut window), []);
        window.done(&jobs[1]);
        window.done(&next[0]);
        assert_eq!((note(&mut window), window.held()), (vec![(1, 0)], (0, 0)));
    }

    #[test]
    fn an_event_that_waits_for_another_attempt_holds_its_task_up_and_nobody_else() {
        let mut window = Window::default();
        add(&mut window, (1, 0), vec![(0, about(1), 'a')], None);
        add(&mut window, (1, 1), vec![(0, about(1), 'b')], None);
        add(&mut window, (1, 2), vec![(0, about(2), 'c')], None);
        let mut jobs = begun(&mut window);
        let due = Instant::now() + Duration::from_secs(60);
        window.again(jobs.remove(0), due);
        window.done(&jobs[0]);
        assert!(begun(&mut window).is_empty());
        assert_eq!((window.due(), note(&mut window)), (Some(due), vec![(1, 2)]));
        let late = window.begin(due).expect("its time has come");
        assert_eq!((late.event, late.mark.attempt()), ('a', 2));
        window.done(&late);
        assert_eq!(begun(&mut window)[0].event, 'b');
    }

    #[test]
    fn what_a_process_died_with_is_noted_before_it_begins_and_handled_events_are_not_handled_again() {
        let mut window = Window::default();
        let marks = Mark::write(None, 1);
        add(&mut window, (1, 0), vec![(0, alone(0), 'a'), (1, alone(1), 'b')], Some(&marks));
        assert!(begun(&mut window).is_empty());
        let notes = window.notes(10);
        assert_eq!(notes.marks[0].1, Some(Mark { failures: 0, crashes: 1 }));
        window.put_back(notes);
        assert!(begun(&mut window).is_empty(), "nobody knows whether it was noted");
        note(&mut window);
        let jobs = begun(&mut window);
        assert_eq!((jobs.len(), jobs[0].event, jobs[0].mark.attempt()), (1, 'a', 2));
        window.done(&jobs[0]);
        assert_eq!(note(&mut window), [(1, 0)]);
    }

    #[test]
    fn suspects_of_several_crashes_run_alone_and_one_of_too_many_is_poison() {
        let mut window = Window::default();
        let crashed = |crashes| Mark::write(Some(Mark { failures: 0, crashes }), 0);
        let poison = add(&mut window, (1, 0), vec![(0, alone(0), 'p')], Some(&crashed(EVENT_CRASHES_MAX - 1)));
        assert_eq!(poison.iter().map(|job| job.event).collect::<String>(), "p");
        window.poison(&poison[0], Vec::new(), String::new());
        note(&mut window);
        add(&mut window, (1, 1), vec![(0, alone(1), 'a')], Some(&[]));
        add(&mut window, (1, 2), vec![(0, alone(2), 'b')], Some(&crashed(1)));
        add(&mut window, (1, 3), vec![(0, alone(3), 'c')], Some(&crashed(1)));
        add(&mut window, (1, 4), vec![(0, alone(4), 'd')], None);
        let mut order = String::new();
        loop {
            note(&mut window);
            let jobs = begun(&mut window);
            if jobs.is_empty() {
                break;
            }
            assert!(jobs.iter().filter(|job| job.suspect && job.mark.crashes > 1).count() <= 1);
            for job in &jobs {
                order.push(job.event);
                window.done(job);
            }
        }
        assert_eq!(order, "dabc");
    }

    /// Whatever is read, fails and was taken over: all of it comes to its end, in the order of its line, one solo at a time.
    #[test]
    fn everything_comes_to_its_end_in_order() {
        use rand::{Rng, SeedableRng};
        for seed in 0..500 {
            let mut random = rand::rngs::StdRng::seed_from_u64(seed);
            let mut window = Window::default();
            let (mut running, mut acked, mut entries) = (Vec::<Job<u64>>::new(), Vec::<EntryId>::new(), 0);
            let mut last: HashMap<Line, EventCursor> = HashMap::new();
            let (mut told, mut ended) = (0, 0);
            let now = Instant::now();
            for turn in 0.. {
                assert!(turn < 5000, "seed {seed}: {ended} of {told} came to their end");
                if entries < 20 {
                    let events: Vec<_> = (0..random.random_range(0..4))
                        .map(|index| (index, about(random.random_range(0..3)), u64::from(index)))
                        .collect();
                    told += events.len();
                    let crashes = random.random_range(0..EVENT_CRASHES_MAX);
                    let marks: Vec<u8> = events
                        .iter()
                        .flat_map(|(i, ..)| Mark::write(Some(Mark { failures: (crashes % 2), crashes }), *i))
                        .collect();
                    let events = events.into_iter().map(|(index, line, event)| (index, line, 3, event)).collect();
                    for job in window.add((1, entries), events, &marks, random.random_bool(0.5), |_| Duration::ZERO) {
                        ended += 1;
                        window.poison(&job, Vec::new(), String::new());
                    }
                    entries += 1;
                }
                if random.random_bool(0.5) {
                    let notes = window.notes(random.random_range(1..4));
                    if random.random_bool(0.2) {
                        window.put_back(notes);
                    } else {
                        acked.extend(&notes.acks);
                        window.noted(notes);
                    }
                }
                if let Some(job) = window.begin(now + Duration::from_secs(60)) {
                    assert!(last.get(&job.line).is_none_or(|before| *before <= job.at), "seed {seed}");
                    last.insert(job.line.clone(), job.at);
                    running.push(job);
                    let solos = running.iter().filter(|job| job.suspect && job.mark.crashes > 1).count();
                    let suspects = running.iter().filter(|job| job.suspect).count();
                    assert!(solos == 0 || suspects == 1, "seed {seed}: {solos} solos among {suspects} suspects");
                }
                if !running.is_empty() && random.random_bool(0.5) {
                    let job = running.swap_remove(random.random_range(0..running.len()));
                    match random.random_bool(0.2) {
                        true => window.again(job, now),
                        false => {
                            ended += 1;
                            window.done(&job);
                        }
                    }
                }
                if entries == 20 && acked.len() == 20 {
                    break;
                }
            }
            assert_eq!((ended, window.held(), window.going_on()), (told, (0, 0), 0), "seed {seed}");
            acked.sort_unstable();
            assert_eq!(
                acked,
                (0..20).map(|entry| (1, entry)).collect::<Vec<_>>(),
                "seed {seed}: each is let go of once"
            );
        }
    }
}
