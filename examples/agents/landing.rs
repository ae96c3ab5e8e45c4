//! Brings a repair into the repository: one commit on a branch of its own, or nothing at all.

use std::path::{Path, PathBuf};

use crate::branch;
use crate::candidates::Candidate;
use crate::git::git;
use crate::repair::{Plan, Repair, RepairError};
use crate::suite;

/// A repair to bring in.
pub struct Change<'a> {
    /// The change that makes every test pass.
    pub candidate: &'a Candidate,
    /// The tests that failed before.
    pub repaired: &'a [String],
    /// How many changes were tried.
    pub tried: usize,
    /// How many tests pass.
    pub tests: u32,
}

/// Commits the change in a copy, and takes the finished branch over into the repository, which is
/// still at `head` and clean, or is left alone.
///
/// # Errors
/// When the repository was changed meanwhile, or git refuses.
pub async fn land(
    repo: &Path,
    copy: &Path,
    head: &str,
    plan: &Plan,
    change: &Change<'_>,
) -> Result<Repair, RepairError> {
    let branch = plan.branch();
    let candidate = change.candidate;
    let path = copy.join(&candidate.file);
    std::fs::write(&path, candidate.applied_to(&std::fs::read_to_string(&path)?))?;
    git(copy, &["switch", "--quiet", "--create", &branch]).await?;
    git(copy, &["commit", "--quiet", "--all", "--message", &message(plan, change)]).await?;
    let commit = git(copy, &["rev-parse", "HEAD"]).await?;

    if !branch::bring(repo, copy, head, &branch).await? {
        return Err(RepairError::Unclean(repo.to_owned()));
    }
    Ok(Repair {
        branch,
        commit,
        file: candidate.file.clone(),
        line: candidate.line,
        before: candidate.before.clone(),
        after: candidate.after.clone(),
        candidates_tried: change.tried,
        tests_passed: change.tests,
    })
}

/// The message of the commit; its last lines are for `find`.
fn message(plan: &Plan, change: &Change<'_>) -> String {
    let Candidate { file, line, before, after, .. } = change.candidate;
    let (file, before, after) = (file.display(), before.trim(), after.trim());
    let mut repaired: String = change.repaired.iter().take(20).map(|test| format!("    {test}\n")).collect();
    if change.repaired.len() > 20 {
        repaired.push_str(&format!("    and {} more\n", change.repaired.len() - 20));
    }
    format!(
        "Repair line {line} of {file}\n\n    {before}\n\nbecomes\n\n    {after}\n\n\
         These tests failed and pass now, with all others:\n\n{repaired}\n\
         Task-Id: {}\nCandidates-Tried: {}\n",
        plan.task, change.tried
    )
}

/// Looks for the repair of this very task, committed by an attempt that never came to tell.
/// When it is there, its tests are run once more and its branch is checked out.
///
/// # Errors
/// When the branch is somebody else's, or its tests do not pass.
pub async fn find(repo: &Path, plan: &Plan, workshop: &Path) -> Result<Option<Repair>, RepairError> {
    let branch = plan.branch();
    let full = format!("refs/heads/{branch}");
    let Ok(commit) = git(repo, &["rev-parse", "--verify", "--quiet", &full]).await else {
        return Ok(None);
    };
    let text = git(repo, &["log", "-1", "--format=%B", &commit]).await?;
    let trailer = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let diff = git(repo, &["show", "--format=", "--unified=0", &commit]).await?;
    let (Some(task), Some(change)) = (trailer("Task-Id:"), parse_diff(&diff)) else {
        return Err(RepairError::BranchTaken(branch));
    };
    if task != plan.task {
        return Err(RepairError::BranchTaken(branch));
    }
    let copy = workshop.join("found");
    let (from, to) = (repo.canonicalize()?, copy.to_string_lossy());
    let from = from.to_string_lossy();
    git(workshop, &["clone", "--quiet", "--template=", "--branch", &branch, "--", &from, &to]).await?;
    let outcome = suite::run(&copy, &[], false, suite::PATIENCE).await?;
    if !outcome.passed {
        return Err(RepairError::BranchTaken(branch));
    }
    git(repo, &["switch", "--quiet", &branch]).await?;
    let (file, line, before, after) = change;
    Ok(Some(Repair {
        branch,
        commit,
        file,
        line,
        before,
        after,
        candidates_tried: trailer("Candidates-Tried:").and_then(|n| n.parse().ok()).unwrap_or(0),
        tests_passed: outcome.ran,
    }))
}

/// The file, the line, and both versions of it, of a diff that changes a single line.
fn parse_diff(diff: &str) -> Option<(PathBuf, usize, String, String)> {
    let mut body = diff.lines().skip_while(|line| !line.starts_with("+++ b/"));
    let file = body.next()?.strip_prefix("+++ b/")?.into();
    let place = body.next()?.strip_prefix("@@ -")?;
    let line = place.split(' ').next()?.parse().ok()?;
    let before = body.next()?.strip_prefix('-')?.to_owned();
    let after = body.next()?.strip_prefix('+')?.to_owned();
    body.next().is_none().then_some((file, line, before, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_of_one_line_is_read() {
        let diff = "diff --git a/x.py b/x.py\nindex 1..2 100644\n--- a/x.py\n+++ b/x.py\n\
                    @@ -7 +7 @@ def f():\n-    a < b\n+    a <= b";
        let wanted = ("x.py".into(), 7, "    a < b".into(), "    a <= b".into());
        assert_eq!(parse_diff(diff), Some(wanted));
        assert_eq!(parse_diff(&format!("{diff}\ndiff --git a/y b/y")), None);
        assert_eq!(parse_diff(""), None);
    }
}
