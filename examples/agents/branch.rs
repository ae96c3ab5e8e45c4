//! Work on a repository: done in a copy, tested there, and brought in as one commit on a branch of its own.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::git::{GitError, git};
use crate::suite::{self, Outcome};
use crate::tempdir::TempDir;

/// Begins the line of a commit's message that says whose work it is.
const TASK: &str = "Task-Id: ";
/// Begins the line that says what came of the task, for an attempt that finds the commit of an earlier one.
const OUTCOME: &str = "Outcome: ";

/// Why nothing was committed.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// Somebody is working in the repository.
    #[error("{0} has changes that are not committed")]
    Unclean(PathBuf),
    /// The suite is no measure as it is.
    #[error("the tests do not pass as they are, so they cannot show that a change is right: {0}")]
    FailsBefore(String),
    /// The change is wrong.
    #[error("the tests do not pass with the change, and it was dropped: {0}")]
    FailsAfter(String),
    /// The change cannot be made.
    #[error("{0}")]
    Refused(String),
    /// The branch is there and is not this task's.
    #[error("the branch {0} exists already")]
    BranchTaken(String),
    /// The repository went on while the work was done.
    #[error("{0} was changed meanwhile")]
    Moved(PathBuf),
    /// Git refused.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A file or a program was out of reach.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl WorkError {
    /// Whether another try would end the same way.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Moved(_) | Self::Git(_) | Self::Io(_))
    }
}

/// The commit that came of a task, and what else is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landed<T> {
    /// The branch it is on, checked out now.
    pub branch: String,
    /// The commit.
    pub commit: String,
    /// What the work was.
    pub outcome: T,
}

/// A copy of a repository to work in; it goes away with this.
#[derive(Debug)]
pub struct Workplace {
    repo: PathBuf,
    folder: TempDir,
    head: String,
    branch: String,
    task: String,
}

impl Workplace {
    /// Copies the repository for a task. The branch will be `<kind>/<task>`.
    ///
    /// # Errors
    /// When the repository has changes that are not committed, or cannot be copied.
    pub async fn new(repo: &Path, kind: &str, task: &str) -> Result<Self, WorkError> {
        if !git(repo, &["status", "--porcelain"]).await?.is_empty() {
            return Err(WorkError::Unclean(repo.to_owned()));
        }
        let repo = repo.canonicalize()?;
        let folder = TempDir::new("orchestrator-work")?;
        let head = git(&repo, &["rev-parse", "HEAD"]).await?;
        let (from, to) = (repo.to_string_lossy(), folder.path().join("copy"));
        let to = to.to_string_lossy();
        git(folder.path(), &["clone", "--quiet", "--no-hardlinks", "--template=", "--", &from, &to]).await?;
        Ok(Self { repo, folder, head, branch: format!("{kind}/{task}"), task: task.to_owned() })
    }

    /// Where to work.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("copy")
    }

    /// Looks for the commit of an earlier attempt at the same task, and checks it out when it is there.
    ///
    /// # Errors
    /// When the branch is there and its commit is not the task's.
    pub async fn find<T: DeserializeOwned>(&self) -> Result<Option<Landed<T>>, WorkError> {
        let full = format!("refs/heads/{}", self.branch);
        let Ok(commit) = git(&self.repo, &["rev-parse", "--verify", "--quiet", &full]).await else {
            return Ok(None);
        };
        let text = git(&self.repo, &["log", "-1", "--format=%B", &commit]).await?;
        let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let outcome = line(OUTCOME).and_then(|text| serde_json::from_str(text).ok());
        let (true, Some(outcome)) = (line(TASK) == Some(self.task.as_str()), outcome) else {
            return Err(WorkError::BranchTaken(self.branch.clone()));
        };
        git(&self.repo, &["switch", "--quiet", &self.branch]).await?;
        Ok(Some(Landed { branch: self.branch.clone(), commit, outcome }))
    }

    /// Runs the suite before the change; gives how many tests pass.
    ///
    /// # Errors
    /// When one does not.
    pub async fn before(&self) -> Result<u32, WorkError> {
        let ran = suite::run(&self.path(), &[], false, suite::PATIENCE).await?;
        if ran.passed { Ok(ran.ran) } else { Err(WorkError::FailsBefore(verdict(&ran))) }
    }

    /// Runs the suite after the change; gives how many tests pass.
    ///
    /// # Errors
    /// When one does not.
    pub async fn after(&self) -> Result<u32, WorkError> {
        let ran = suite::run(&self.path(), &[], false, suite::PATIENCE).await?;
        if ran.passed { Ok(ran.ran) } else { Err(WorkError::FailsAfter(verdict(&ran))) }
    }

    /// Commits everything in the copy, and takes the finished branch over into the repository, which is still as it
    /// was copied, or is left alone.
    ///
    /// # Errors
    /// When the repository was changed meanwhile, or git refuses.
    pub async fn land<T: Serialize>(self, message: &str, outcome: T) -> Result<Landed<T>, WorkError> {
        let copy = self.path();
        let written = serde_json::to_string(&outcome).map_err(io::Error::other)?;
        let message = format!("{message}\n\n{TASK}{}\n{OUTCOME}{written}\n", self.task);
        git(&copy, &["add", "--all"]).await?;
        git(&copy, &["switch", "--quiet", "--create", &self.branch]).await?;
        git(&copy, &["commit", "--quiet", "--cleanup=verbatim", "--message", &message]).await?;
        let commit = git(&copy, &["rev-parse", "HEAD"]).await?;
        if !bring(&self.repo, &copy, &self.head, &self.branch).await? {
            return Err(WorkError::Moved(self.repo));
        }
        Ok(Landed { branch: self.branch, commit, outcome })
    }
}

/// Takes a branch of a copy over into the repository and checks it out. Gives false, and leaves the repository alone,
/// when that is not clean at `head` any more.
///
/// # Errors
/// When git refuses.
pub async fn bring(repo: &Path, copy: &Path, head: &str, branch: &str) -> Result<bool, GitError> {
    let clean = git(repo, &["status", "--porcelain"]).await?.is_empty();
    if !clean || git(repo, &["rev-parse", "HEAD"]).await? != head {
        return Ok(false);
    }
    let (source, both) = (copy.to_string_lossy(), format!("{branch}:{branch}"));
    git(repo, &["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", &source, &both]).await?;
    if let Err(error) = git(repo, &["switch", "--quiet", branch]).await {
        git(repo, &["branch", "--quiet", "-D", branch]).await?;
        return Err(error);
    }
    Ok(true)
}

/// A run that did not pass, in a few words.
fn verdict(ran: &Outcome) -> String {
    match &ran.failures[..] {
        _ if ran.timed_out => "they do not come to an end".to_owned(),
        [] => ran.last_words.clone(),
        [first, ..] => format!("{} of {}, first {}: {}", ran.failures.len(), ran.ran, first.test, first.message),
    }
}

#[cfg(test)]
#[path = "branch_tests.rs"]
mod tests;
