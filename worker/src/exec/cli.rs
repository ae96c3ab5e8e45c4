//! What may be written on the command line.

use std::collections::HashSet;
use std::time::Duration;

use clap::Parser;
use orchestrator::{CANCEL_GRACE_MAX, Error, Result, Span};

use super::command::Command;
use super::run::SPARE;
use crate::{DRAIN_GRACE_DEFAULT, TIMEOUT_DEFAULT};

const ABOUT: &str = "\
What a command gets:
  standard input   the payload as one line of JSON, then its end
  environment      ORCHESTRATOR_TASK_ID, _TASK_TYPE, _ATTEMPT, _PRIORITY, _QUEUE, _TRACE_ID, _FENCING_TOKEN, and that of this
                   worker. Commands do not inherit REDIS_URL and the ORCHESTRATOR_* settings, which may hold secrets
                   (--pass, --clear-env)

What counts of it:
  exit code        0: done. 64 or 65 (EX_USAGE, EX_DATAERR): failed for good, the task is wrong. Any other, and an end by a
                   signal: the attempt failed and is tried again while retries are left
  standard output  the result: one JSON value of at most 1 MiB, nothing for null; with --text a string
  standard error   its last 4 KiB tell why an attempt failed; at LOG_LEVEL=debug all lines are logged. A line
                   `@progress 0.4 indexing` tells how far it is, `@chunk text` (or a JSON string) puts out a piece of its
                   output for who reads it live

A command is one program with arguments, parted as a shell would, but without a shell: write sh -c '…' for one. At its timeout
and when the task is cancelled, its process group gets SIGTERM and, after --cancel-grace, SIGKILL; whoever cancels can shorten
that with --within. When this worker loses the task, or stops and --drain-grace is over, it gets SIGKILL at once. What it has
started and left running when it ends is killed, on Linux also what has begun a session of its own, unless it has cleared its
environment, too.

Example: orchestrator worker --exec greet='python3 greet.py' --exec wordcount='sh wordcount.sh' --timeout 1m
Settings that every worker knows are read from the environment: REDIS_URL, ORCHESTRATOR_METRICS_ADDRESS, LOG_LEVEL, LOG_FORMAT.";

/// Longest attempt that can be asked for.
const TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Shortest one.
const TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// Longest time for a command to end by itself: the attempt lasts a little longer.
const GRACE_MAX: Duration = Duration::from_secs(CANCEL_GRACE_MAX.as_secs() - SPARE.as_secs());

#[derive(Debug, Parser)]
#[command(name = "orchestrator-worker", bin_name = "orchestrator worker", version)]
#[command(about = "Runs a command for each task, in any language", after_help = ABOUT, max_term_width = 125)]
pub(super) struct Cli {
    /// Tasks of TYPE are done by COMMAND; may be given several times
    #[arg(long, required = true, value_name = "TYPE=COMMAND")]
    exec: Vec<String>,
    /// Commands that run at once [default: the number of cores]
    #[arg(long, value_name = "N")]
    concurrency: Option<usize>,
    /// Longest attempt, at least 100ms [default: 15m]
    #[arg(long, value_name = "SPAN")]
    timeout: Option<String>,
    /// Time between SIGTERM and SIGKILL, at most 585s; less when whoever cancels says so (--within)
    #[arg(long, value_name = "SPAN", default_value = "5s")]
    cancel_grace: String,
    /// How long commands may go on when this worker is told to stop [default: 30s]
    #[arg(long, value_name = "SPAN")]
    drain_grace: Option<String>,
    /// A queue to serve, most preferred first; the first one becomes the home of these task types [default: that of each type]
    #[arg(long, value_name = "QUEUE")]
    pub(super) queue: Vec<String>,
    /// Take standard output as a string instead of JSON
    #[arg(long)]
    text: bool,
    /// Give this variable of the environment to commands, too
    #[arg(long, value_name = "NAME")]
    pass: Vec<String>,
    /// Give commands of the environment only PATH, HOME, USER, LANG, LC_ALL, TZ and TMPDIR
    #[arg(long)]
    clear_env: bool,
    /// Where Redis is: redis://host:6379 or unix:///path [default: $REDIS_URL, else a private one]
    #[arg(long, value_name = "URL")]
    pub(super) redis: Option<String>,
    /// First part of every key [default: $ORCHESTRATOR_QUEUE_PREFIX, else `orchestrator`]
    #[arg(long, value_name = "NAME")]
    pub(super) namespace: Option<String>,
}

/// How commands are run.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) at_once: usize,
    pub(super) timeout: Duration,
    pub(super) grace: Duration,
    pub(super) drain: Duration,
    pub(super) queue: Option<String>,
    pub(super) text: bool,
    pub(super) pass: Vec<String>,
    pub(super) clear_env: bool,
}

impl Cli {
    /// The commands, each of a type of its own.
    ///
    /// # Errors
    /// [`Error::Invalid`]
    pub(super) fn commands(&self) -> Result<Vec<Command>> {
        let commands = self.exec.iter().map(|text| Command::read(text)).collect::<Result<Vec<_>>>()?;
        let mut types = HashSet::new();
        match commands.iter().find(|command| !types.insert(&command.task_type)) {
            Some(twice) => {
                Err(Error::Invalid { what: format!("--exec names the task type `{}` twice", twice.task_type) })
            }
            None => Ok(commands),
        }
    }

    /// # Errors
    /// [`Error::Invalid`]
    pub(super) fn terms(&self) -> Result<Terms> {
        let span = |option: &str, text: Option<&str>, default: Duration, shortest: Duration, longest: Duration| {
            let span = match text {
                Some(text) => Span::from(text).duration().map_err(|error| format!("{option} '{text}': {error}")),
                None => Ok(default),
            };
            let fits = span.and_then(|span| match (span >= shortest, span <= longest) {
                (true, true) => Ok(span),
                (false, _) => Err(format!("{option}: at least {shortest:?}")),
                (_, false) => Err(format!("{option}: at most {longest:?}")),
            });
            fits.map_err(|what| Error::Invalid { what })
        };
        let cores = std::thread::available_parallelism().map_or(1, Into::into);
        Ok(Terms {
            at_once: self.concurrency.unwrap_or(cores),
            timeout: span("--timeout", self.timeout.as_deref(), TIMEOUT_DEFAULT, TIMEOUT_MIN, TIMEOUT_MAX)?,
            grace: span("--cancel-grace", Some(&self.cancel_grace), Duration::ZERO, Duration::ZERO, GRACE_MAX)?,
            drain: span(
                "--drain-grace",
                self.drain_grace.as_deref(),
                DRAIN_GRACE_DEFAULT,
                Duration::ZERO,
                TIMEOUT_MAX,
            )?,
            queue: self.queue.first().cloned(),
            text: self.text,
            pass: self.pass.clone(),
            clear_env: self.clear_env,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_makes_sense() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["orchestrator-worker", "--exec", "a=sh", "--exec", "a=true"]);
        assert!(cli.commands().expect_err("twice").to_string().contains("`a` twice"));
        let cli = Cli::parse_from(["orchestrator-worker", "--exec", "a=sh", "--timeout", "soon"]);
        assert!(cli.terms().expect_err("no span").to_string().contains("--timeout 'soon'"));
        let cli = Cli::parse_from(["orchestrator-worker", "--exec", "a=sh", "--timeout", "1ms"]);
        assert!(cli.terms().expect_err("too short").to_string().contains("--timeout: at least 100ms"));
        let cli = Cli::parse_from(["orchestrator-worker", "--exec", "a=sh", "--cancel-grace", "590s"]);
        assert!(cli.terms().expect_err("too long").to_string().contains("--cancel-grace: at most 585s"));
        let terms = Cli::parse_from(["orchestrator-worker", "--exec", "a=sh"]).terms().expect("defaults");
        assert_eq!(
            (terms.timeout, terms.grace, terms.drain),
            (TIMEOUT_DEFAULT, Duration::from_secs(5), DRAIN_GRACE_DEFAULT)
        );
    }
}
