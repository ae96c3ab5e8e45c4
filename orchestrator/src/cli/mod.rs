//! What may be written on the command line, and how a command ends. Each command is a file.

mod cancel;
mod failure;
mod get;
mod handlers;
mod list;
mod output;
mod queue;
mod retry;
mod stats;
mod submit;
mod watch;

use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use orchestrator::{Config, Orchestrator};
use tracing_subscriber::EnvFilter;

use self::failure::Failure;
use self::output::Output;

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 refused, or the task has failed; 2 the command line is wrong; 3 no such task;
69 Redis does not serve. Errors go to standard error.";

#[derive(Debug, Parser)]
#[command(name = "orchestrator", version, about = "Tasks of AI agents on Redis", after_help = EXIT_CODES)]
#[command(max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
struct Global {
    /// Where Redis is: redis://host:6379 or unix:///path [default: $REDIS_URL]
    #[arg(long, global = true, value_name = "URL")]
    redis: Option<String>,
    /// First part of every key [default: $ORCHESTRATOR_QUEUE_PREFIX, else `orchestrator`]
    #[arg(long, global = true, value_name = "NAME")]
    namespace: Option<String>,
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Submit, show, cancel and retry tasks
    #[command(subcommand)]
    Task(Task),
    /// Show, pause and resume queues
    #[command(subcommand)]
    Queue(queue::Queue),
    /// Count everything
    Stats,
    /// Show the task types that workers offer
    Handlers,
    /// Print what makes a shell complete commands and options
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Submit a task and print its id
    Submit(submit::Submit),
    /// Show a task
    Get(get::Get),
    /// List tasks: live ones, newest first, then ended ones, last ended first
    List(list::List),
    /// End waiting tasks; ask running ones to stop
    Cancel(cancel::Cancel),
    /// Give failed or cancelled tasks a new life
    Retry(retry::Retry),
    /// Follow a task until it has ended, a line for each change
    Watch(watch::Watch),
}

/// Reads the command line and carries it out.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("LOG_LEVEL").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(cli: Cli) -> Result<(), Failure> {
    let mut out = Output::new(cli.global.json);
    if let Command::Completions { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "orchestrator", &mut script);
        return out.raw(&script);
    }
    let orch = connect(&cli.global).await?;
    match cli.command {
        Command::Task(Task::Submit(command)) => submit::run(&orch, command, &mut out).await,
        Command::Task(Task::Get(command)) => get::run(&orch, &command, &mut out).await,
        Command::Task(Task::List(command)) => list::run(&orch, command, &mut out).await,
        Command::Task(Task::Cancel(command)) => cancel::run(&orch, &command, &mut out).await,
        Command::Task(Task::Retry(command)) => retry::run(&orch, command, &mut out).await,
        Command::Task(Task::Watch(command)) => watch::run(&orch, &command, &mut out).await,
        Command::Queue(command) => queue::run(&orch, &command, &mut out).await,
        Command::Stats => stats::run(&orch, &mut out).await,
        Command::Handlers => handlers::run(&orch, &mut out).await,
        Command::Completions { .. } => Ok(()),
    }
}

/// Connects to the server named by the option or the environment; never starts one.
async fn connect(global: &Global) -> Result<Orchestrator, Failure> {
    let (url, mut config) = Config::from_env()?;
    config.url = global.redis.clone().or(url).ok_or_else(|| {
        Failure::usage("no Redis is named: set REDIS_URL, or write --redis redis://host:6379 or --redis unix:///path")
    })?;
    if let Some(namespace) = &global.namespace {
        config.namespace.clone_from(namespace);
    }
    Ok(Orchestrator::with_config(config).await?)
}
