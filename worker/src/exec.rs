//! The program `orchestrator-worker`: tasks in any language, by a command for each attempt.
//!
//! **Invariant:** when an attempt is over, whatever way it went, nothing runs any more of what its command has started: its
//! group is ended, and on Linux also what has left the group, found by the mark in its environment. Should the program itself
//! be killed, its guard, a process of its own, does the same for all attempts under way.

mod cli;
mod command;
mod crew;
mod guard;
mod hunt;
mod process;
mod run;
mod stderr;
mod words;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use orchestrator::{Config, Embedded, Error, Orchestrator, Result};

use self::cli::Cli;
use self::crew::Crew;
use self::run::Handler;
use crate::Worker;

/// The command line is wrong.
const USAGE: u8 = 2;
/// Redis does not serve; `EX_UNAVAILABLE` of sysexits.
const UNAVAILABLE: u8 = 69;

/// Reads the command line and works until SIGTERM or Ctrl-C.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(token) = guard::is_meant() {
        return guard::main(&token);
    }
    let cli = Cli::parse();
    orchestrator::log::begin("info");
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tell(&Error::Unfit { what: format!("no threads: {error}") }),
    };
    let outcome = runtime.block_on(work(&cli));
    runtime.shutdown_timeout(Duration::from_secs(1));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => tell(&error),
    }
}

fn tell(error: &Error) -> ExitCode {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "error: {error}");
    ExitCode::from(match error {
        Error::Invalid { .. } => USAGE,
        Error::Unavailable { .. } | Error::Unfit { .. } => UNAVAILABLE,
        _ => 1,
    })
}

async fn work(cli: &Cli) -> Result {
    let commands = cli.commands()?;
    let terms = cli.terms()?;
    let orch = connect(cli).await?;
    let crew = Crew::start(terms.grace)?;
    let mut builder = Worker::builder(orch).discover(false).drain_grace(terms.drain).slots(terms.at_once);
    if !cli.queue.is_empty() {
        builder = builder.queues(&cli.queue);
    }
    for command in commands {
        let task_type = &command.task_type;
        tracing::info!(task_type, timeout = ?terms.timeout, "runs a command for each {task_type}");
        // Its arguments may hold secrets.
        tracing::debug!(task_type, command = command.line, "the command for each {task_type}");
        builder = builder.handler(Handler::new(command, &terms, Arc::clone(&crew)));
    }
    let outcome = builder.run().await;
    crew.end().await;
    outcome
}

/// As every worker, but the command line goes before the environment.
async fn connect(cli: &Cli) -> Result<Orchestrator> {
    let (url, mut config) = Config::from_env()?;
    if let Some(namespace) = &cli.namespace {
        config.namespace.clone_from(namespace);
    }
    match cli.redis.clone().or(url) {
        Some(url) => Orchestrator::with_config(Config { url, ..config }).await,
        None => Orchestrator::on(Embedded::start()?, config).await,
    }
}
