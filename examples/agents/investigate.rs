//! `investigate`: what the source says about a term, or about the tests that fail.

use std::path::{Path, PathBuf};

use orchestrator_worker::{TaskContext, TaskError, TaskResult, task_handler};
use serde::{Deserialize, Serialize};

use crate::chain::Investigated;
use crate::evidence::{self, Clue};
use crate::search::{Bounds, SearchError};
use crate::suite::{self, Failure, Outcome};

/// What to investigate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Investigate {
    /// The tree of source code.
    pub root: PathBuf,
    /// What is to be known about it.
    pub question: Question,
    /// How far to search.
    #[serde(default)]
    pub bounds: Bounds,
}

/// What is to be known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Where this term is defined and used.
    Term(String),
    /// Why the tests of this Python repository fail, if they do.
    FailingTests,
}

/// What came to light.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// What was searched for, and where it is.
    pub clues: Vec<Clue>,
    /// The tests that fail.
    pub failing: Vec<Failure>,
    /// The files that the failing tests lead to, the likeliest first.
    pub suspects: Vec<PathBuf>,
}

/// Searches a code tree for a term, or for what its failing tests call, and tells `investigation.done`.
#[task_handler("investigate", queue = "dev_agent", retries = 2, timeout = "3m")]
pub async fn investigate(args: Investigate, ctx: TaskContext) -> TaskResult<Report> {
    let Investigate { root, question, bounds } = args;
    let report = match question {
        Question::Term(term) => Report { clues: clues(&root, vec![term], bounds).await?, ..Report::default() },
        Question::FailingTests => failing_tests(&root, bounds).await?,
    };
    let told = Investigated { failing: report.failing.len(), suspects: report.suspects.clone() };
    ctx.publish("investigation.done", &told).await?;
    Ok(report)
}

async fn failing_tests(root: &Path, bounds: Bounds) -> TaskResult<Report> {
    let outcome = suite::run(root, &[], false, suite::PATIENCE).await?;
    let Outcome { failures, passed, timed_out, last_words, .. } = outcome;
    if passed {
        return Ok(Report::default());
    }
    if timed_out || failures.is_empty() {
        return Err(TaskError::from(format!("the suite gives no verdict: {last_words}")));
    }
    let clues = clues(root, evidence::names(&failures), bounds).await?;
    let suspects = evidence::suspects(&clues);
    Ok(Report { clues, failing: failures, suspects })
}

/// Searches on a thread that may block.
async fn clues(root: &Path, names: Vec<String>, bounds: Bounds) -> TaskResult<Vec<Clue>> {
    let root = root.to_owned();
    let found = tokio::task::spawn_blocking(move || evidence::clues(&root, &names, bounds)).await?;
    match found {
        // Another attempt would search for nothing again.
        Err(error @ SearchError::EmptyTerm) => Err(TaskError::fatal(error)),
        found => Ok(found?),
    }
}
