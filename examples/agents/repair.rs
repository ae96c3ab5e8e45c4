//! Finds the one-line change that makes a failing Python suite pass, by really trying changes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::candidates;
use crate::git::{GitError, git};
use crate::hunt::Hunt;
use crate::landing;
use crate::suite::{self, Outcome};
use crate::suspects;
use crate::tempdir::TempDir;
use serde::{Deserialize, Serialize};

/// What to repair, and how much may be spent on it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The task it is done for: it names the branch, `fix/<task>`, and stands in the commit.
    pub task: String,
    /// Files that are suspected beforehand, relative to the repository.
    pub hints: Vec<PathBuf>,
    /// Try at most this many changes.
    pub candidates: usize,
    /// Stop trying after this long.
    pub limit: Duration,
    /// Try this many at a time.
    pub lanes: usize,
}

impl Plan {
    /// The usual bounds: 500 changes within two minutes, as many at a time as there are cores.
    #[must_use]
    pub fn new(task: &str) -> Self {
        Self {
            task: task.to_owned(),
            hints: Vec::new(),
            candidates: 500,
            limit: Duration::from_secs(120),
            lanes: std::thread::available_parallelism().map_or(1, usize::from).min(4),
        }
    }

    /// The branch the repair goes to.
    #[must_use]
    pub fn branch(&self) -> String {
        let part = |c: char| {
            if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }
        };
        format!("fix/{}", self.task.chars().map(part).collect::<String>().trim_matches('-'))
    }
}

/// How far a repair has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The suite was run as it is.
    Ran {
        /// How many tests ran.
        tests: u32,
        /// The names of those that failed.
        failing: Vec<String>,
    },
    /// It is known what to try.
    Planned {
        /// How many lines are suspected.
        suspects: usize,
        /// How many changes will be tried at most.
        candidates: usize,
    },
    /// Changes were tried, none of them the right one.
    Tried {
        /// How many so far.
        candidates: usize,
    },
    /// A change makes the whole suite pass.
    Found {
        /// The file.
        file: PathBuf,
        /// The line.
        line: usize,
    },
}

/// A repair that was found and committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// The branch it is on, checked out now.
    pub branch: String,
    /// Its commit.
    pub commit: String,
    /// The file it changed, relative to the repository.
    pub file: PathBuf,
    /// The line it changed, from 1.
    pub line: usize,
    /// What the line said.
    pub before: String,
    /// What it says now.
    pub after: String,
    /// How many changes were tried until this one.
    pub candidates_tried: usize,
    /// How many tests pass now: all there are.
    pub tests_passed: u32,
}

/// Why nothing was repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// Somebody is working in the repository.
    #[error("{0} has changes that are not committed")]
    Unclean(PathBuf),
    /// The suite is fine.
    #[error("there is nothing to repair: all {0} tests pass")]
    AllPass(u32),
    /// The suite cannot be used.
    #[error("the suite gives no verdict: {0}")]
    NoVerdict(String),
    /// No change helped.
    #[error("no single change repairs it: {tried} tried in {seconds} s, {suspects} lines suspected")]
    NotFound {
        /// How many were tried.
        tried: usize,
        /// How long it took.
        seconds: u64,
        /// How many lines were suspected.
        suspects: usize,
    },
    /// The branch is there and is not this task's.
    #[error("the branch {0} exists already")]
    BranchTaken(String),
    /// Git refused.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A file or a program was out of reach.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl RepairError {
    /// Whether another try would end the same way.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Git(_) | Self::Io(_))
    }
}

/// Where progress is told.
pub type Listener<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// Repairs the repository: runs its suite, tries changes in copies of it, and commits the first
/// one that makes every test pass on a branch of its own. The repository itself is touched only
/// then; a repair that was committed for the same task before is found again and not repeated.
///
/// # Errors
/// When the repository is in use, its suite passes or gives no verdict, or no change helps.
pub async fn repair(repo: &Path, plan: &Plan, tell: Listener<'_>) -> Result<Repair, RepairError> {
    if !git(repo, &["status", "--porcelain"]).await?.is_empty() {
        return Err(RepairError::Unclean(repo.to_owned()));
    }
    let workshop = TempDir::new("orchestrator-repair")?;
    if let Some(done) = landing::find(repo, plan, workshop.path()).await? {
        return Ok(done);
    }
    let head = git(repo, &["rev-parse", "HEAD"]).await?;
    let lanes = copies(repo, workshop.path(), plan.lanes.max(1)).await?;
    let started = Instant::now();
    let first = suite::run(&lanes[0], &[], false, suite::PATIENCE).await?;
    let failing = failing(&first)?;
    let usual = started.elapsed();
    tell(Progress::Ran { tests: first.ran, failing: failing.clone() });

    let found = suspects::find(&lanes[0], &first.failures, &plan.hints, suite::PATIENCE).await?;
    let candidates = candidates::all(&lanes[0], &found, plan.candidates);
    tell(Progress::Planned { suspects: found.lines.len(), candidates: candidates.len() });
    let patience = (usual * 8).clamp(Duration::from_secs(2), suite::PATIENCE);
    let mut hunt = Hunt::new(failing, lanes.clone(), patience);
    let until = started + plan.limit;
    let Some((best, tests)) = hunt.run(&candidates, until, tell).await? else {
        let (tried, seconds) = (hunt.tried, started.elapsed().as_secs());
        return Err(RepairError::NotFound { tried, seconds, suspects: found.lines.len() });
    };
    let (tried, failing) = (hunt.tried, hunt.failing);
    tell(Progress::Found { file: best.file.clone(), line: best.line });
    let change = landing::Change { candidate: best, repaired: &failing, tried, tests };
    landing::land(repo, &lanes[0], &head, plan, &change).await
}

/// The names of the failing tests, if that is what the run was about.
fn failing(outcome: &Outcome) -> Result<Vec<String>, RepairError> {
    if outcome.passed {
        return Err(RepairError::AllPass(outcome.ran));
    }
    if outcome.timed_out {
        return Err(RepairError::NoVerdict("it does not come to an end".into()));
    }
    if outcome.failures.is_empty() {
        return Err(RepairError::NoVerdict(outcome.last_words.clone()));
    }
    Ok(outcome.failures.iter().map(|failure| failure.test.clone()).collect())
}

/// Copies of the repository to try changes in.
async fn copies(repo: &Path, workshop: &Path, count: usize) -> Result<Vec<PathBuf>, RepairError> {
    let from = repo.canonicalize()?;
    let mut lanes = Vec::new();
    for number in 0..count {
        let lane = workshop.join(number.to_string());
        let (from, to) = (from.to_string_lossy(), lane.to_string_lossy());
        git(workshop, &["clone", "--quiet", "--no-hardlinks", "--template=", "--", &from, &to]).await?;
        lanes.push(lane);
    }
    Ok(lanes)
}
