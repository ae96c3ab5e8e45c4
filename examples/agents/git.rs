//! Git without surprises: no configuration, hook, signature or variable of the user takes part.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command;

use crate::process;

/// No git command here takes longer unless something is badly wrong.
const LIMIT: Duration = Duration::from_secs(60);

/// Settings of every command.
const SETTINGS: [&str; 9] = [
    "user.name=orchestrator agent",
    "user.email=agent@localhost",
    "init.defaultBranch=main",
    "core.hooksPath=/dev/null",
    "core.autocrlf=false",
    "core.fsmonitor=false",
    "commit.gpgSign=false",
    "gc.auto=0",
    "advice.detachedHead=false",
];

/// Why a git command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// Git could not be started.
    #[error("git cannot be run: {0}")]
    Start(#[from] io::Error),
    /// Git ran and refused.
    #[error("git {command}: {message}")]
    Refused {
        /// The first words of the command.
        command: String,
        /// What git said about it.
        message: String,
    },
}

/// Runs one git command in a directory and gives what it printed, without the last newline.
///
/// # Errors
/// When git cannot be started, refuses, or takes longer than a minute.
pub async fn git(dir: &Path, args: &[&str]) -> Result<String, GitError> {
    let mut command = Command::new("git");
    command.arg("-C").arg(dir);
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    command.args(args);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GIT_") {
            command.env_remove(name);
        }
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
    let done = process::run(command, LIMIT).await?;
    if done.code == Some(0) {
        return Ok(done.stdout.trim_end_matches('\n').to_owned());
    }
    let message = if done.timed_out { "took too long" } else { done.stderr.trim() };
    let words = args.iter().take(2).copied().collect::<Vec<_>>();
    Err(GitError::Refused { command: words.join(" "), message: message.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tempdir::TempDir;

    #[tokio::test]
    async fn a_commit_needs_no_configuration_and_runs_no_hook() {
        let dir = TempDir::new("orchestrator-git").expect("made");
        let path = dir.path();
        git(path, &["init", "--quiet", "--template="]).await.expect("init");
        std::fs::create_dir(path.join(".git/hooks")).expect("hooks");
        std::fs::write(path.join(".git/hooks/pre-commit"), "#!/bin/sh\nexit 1\n").expect("hook");
        std::process::Command::new("chmod").arg("+x").arg(path.join(".git/hooks/pre-commit")).status().expect("chmod");
        std::fs::write(path.join("file"), "x").expect("file");
        git(path, &["add", "file"]).await.expect("add");
        git(path, &["commit", "--quiet", "-m", "one file"]).await.expect("commit");
        assert_eq!(git(path, &["log", "--format=%an %s"]).await.expect("log"), "orchestrator agent one file");
        assert_eq!(git(path, &["branch", "--show-current"]).await.expect("branch"), "main");
    }

    #[tokio::test]
    async fn a_refusal_says_what_git_said() {
        let error = git(Path::new("/"), &["rev-parse", "HEAD"]).await.expect_err("no repository");
        assert!(error.to_string().starts_with("git rev-parse HEAD: fatal: not a git repository"), "{error}");
    }
}
