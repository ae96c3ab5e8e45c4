//! Tries one candidate after the other by running the tests, several at a time.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::candidates::Candidate;
use crate::repair::{Listener, Progress};
use crate::suite;

/// Changes being tried, each in a copy of its own.
pub struct Hunt {
    /// The names of the tests that are to pass.
    pub failing: Vec<String>,
    /// How many candidates have been tried.
    pub tried: usize,
    patience: Duration,
    idle: Vec<PathBuf>,
    running: JoinSet<io::Result<(usize, PathBuf, Verdict)>>,
    /// Candidates of the present run that were given up on: the machine may just have been busy.
    unsettled: Vec<usize>,
}

/// What the tests said to one change.
enum Verdict {
    /// All of that many pass.
    Passes(u32),
    Fails,
    /// They took longer than the patience.
    Unsettled,
}

impl Hunt {
    /// A hunt in these copies of the repository; one run of the suite may take `patience`.
    #[must_use]
    pub fn new(failing: Vec<String>, copies: Vec<PathBuf>, patience: Duration) -> Self {
        Self { failing, tried: 0, patience, idle: copies, running: JoinSet::new(), unsettled: Vec::new() }
    }

    /// Tries the candidates in their order; gives the first that makes all tests pass, and their
    /// number. Of several that run at the same time, the first in order wins. When none does, those
    /// that were given up on get ten times the patience, and so on up to a minute: a change may loop for ever, but a busy
    /// machine must not decide what is a repair.
    ///
    /// # Errors
    /// When a copy or Python is out of reach.
    pub async fn run<'a>(
        &mut self,
        candidates: &'a [Candidate],
        until: Instant,
        tell: Listener<'_>,
    ) -> io::Result<Option<(&'a Candidate, u32)>> {
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        loop {
            let found = self.pass(candidates, &order, until, tell).await?;
            order = std::mem::take(&mut self.unsettled);
            if found.is_some() || order.is_empty() || self.patience >= suite::PATIENCE {
                return Ok(found);
            }
            order.sort_unstable();
            self.patience = (self.patience * 10).min(suite::PATIENCE);
        }
    }

    /// Tries the candidates at these places once.
    async fn pass<'a>(
        &mut self,
        candidates: &'a [Candidate],
        order: &[usize],
        until: Instant,
        tell: Listener<'_>,
    ) -> io::Result<Option<(&'a Candidate, u32)>> {
        let mut waiting = order.iter().map(|at| (*at, &candidates[*at]));
        let mut best: Option<(usize, u32)> = None;
        loop {
            while best.is_none() && Instant::now() < until && !self.idle.is_empty() {
                let Some((at, candidate)) = waiting.next() else { break };
                let Some(lane) = self.idle.pop() else { break };
                let (candidate, failing) = (candidate.clone(), self.failing.clone());
                let patience = self.patience;
                self.running.spawn(async move {
                    let verdict = attempt(&lane, &candidate, &failing, patience).await?;
                    Ok((at, lane, verdict))
                });
                self.tried += 1;
            }
            let Some(ended) = self.running.join_next().await else {
                break;
            };
            let (at, lane, verdict) = ended.map_err(io::Error::other)??;
            self.idle.push(lane);
            match verdict {
                Verdict::Passes(tests) if best.is_none_or(|(known, _)| at < known) => best = Some((at, tests)),
                Verdict::Unsettled => self.unsettled.push(at),
                _ => tell(Progress::Tried { candidates: self.tried }),
            }
        }
        Ok(best.map(|(at, tests)| (&candidates[at], tests)))
    }
}

/// Tries one change: first on the failing tests alone, then on the whole suite. Leaves the copy as
/// it was.
async fn attempt(lane: &Path, candidate: &Candidate, failing: &[String], patience: Duration) -> io::Result<Verdict> {
    let path = lane.join(&candidate.file);
    let original = std::fs::read_to_string(&path)?;
    // Blocks for a moment only: the file is one of source, and local.
    std::fs::write(&path, candidate.applied_to(&original))?;
    let mut passed = suite::run(lane, failing, true, patience).await?;
    if passed.passed {
        passed = suite::run(lane, &[], true, patience).await?;
    }
    std::fs::write(&path, original)?;
    Ok(match passed {
        suite::Outcome { passed: true, ran, .. } => Verdict::Passes(ran),
        suite::Outcome { timed_out: true, .. } => Verdict::Unsettled,
        _ => Verdict::Fails,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tempdir::TempDir;

    #[tokio::test]
    async fn a_repair_is_found_however_slow_the_machine() {
        let dir = TempDir::new("orchestrator-hunt").expect("made");
        let test = "import unittest\nfrom sums import add\n\nclass T(unittest.TestCase):\n    \
                    def test_add(self):\n        self.assertEqual(add(1, 2), 3)\n";
        std::fs::write(dir.path().join("sums.py"), "def add(a, b):\n    return a - b\n").expect("written");
        std::fs::write(dir.path().join("test_sums.py"), test).expect("written");
        let file = PathBuf::from("sums.py");
        let (before, after) = ("    return a - b".into(), "    return a + b".into());
        let candidate = Candidate { file, line: 2, before, after, promise: 1.0 };
        // No Python starts in a millisecond: the first look settles nothing.
        let lanes = vec![dir.path().to_owned()];
        let mut hunt = Hunt::new(vec!["test_sums.T.test_add".into()], lanes, Duration::from_millis(1));
        let until = Instant::now() + Duration::from_secs(60);
        let candidates = [candidate];
        let found = hunt.run(&candidates, until, &|_| {}).await.expect("Python runs");
        assert_eq!(found.map(|(_, tests)| tests), Some(1));
        assert!(hunt.tried > 1, "the first look settled it");
    }
}
