//! What may be written on the command line, and how a command ends. Each command is a file.

mod aging;
mod approval;
mod approve;
mod audit;
mod cancel;
mod dead;
#[cfg(feature = "gateway")]
mod dev;
mod events;
mod failure;
mod get;
mod group;
mod handlers;
mod health;
mod journal;
#[cfg(feature = "gateway")]
mod key;
#[cfg(feature = "gateway")]
mod link;
mod list;
mod new_task;
#[cfg(feature = "gateway")]
mod openapi;
mod output;
mod priority;
mod queue;
mod read;
mod result;
mod retry;
mod schedule;
#[cfg(feature = "gateway")]
mod serve;
mod sla;
mod stats;
mod submit;
#[cfg(feature = "gateway")]
mod token;
mod watch;
#[cfg(feature = "gateway")]
mod webhook;
mod worker;

use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use orchestrator::{Aging, Config, Orchestrator};

use self::failure::Failure;
use self::output::Output;

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 refused, or the task has failed; 2 the command line is wrong; 3 no such task or approval;
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
    /// Show tasks that have failed, by what they have in common; retry and delete them
    #[command(subcommand)]
    Dead(dead::Command),
    /// Show what waits for a person, and decide
    #[command(subcommand)]
    Approval(approval::Approval),
    /// Have tasks made again and again, as a clock says
    #[command(subcommand)]
    Schedule(schedule::Command),
    /// Show who decided what, and prove that nobody changed it
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Show how promises were kept, and which are at risk
    #[command(subcommand)]
    Sla(sla::Sla),
    /// Tell events, and read what was told
    #[command(subcommand)]
    Events(events::Events),
    /// Show who handles events, which events they gave up on, and have those handled anew
    #[command(subcommand)]
    Group(group::Command),
    /// Show, pause and resume queues, and change their order
    #[command(subcommand)]
    Queue(queue::Queue),
    /// Count everything
    Stats,
    /// Show the task types that workers offer
    Handlers,
    /// Serve HTTP before the Redis of --redis or $REDIS_URL
    #[cfg(feature = "gateway")]
    Serve(serve::Serve),
    /// Serve HTTP before a private Redis, for trying things out; prints requests to paste
    #[cfg(feature = "gateway")]
    Dev(dev::Dev),
    /// Print the document of the HTTP interface (OpenAPI 3.1), for client generators
    #[cfg(feature = "gateway")]
    Openapi,
    /// Make tokens for the gateway
    #[cfg(feature = "gateway")]
    #[command(subcommand)]
    Token(token::Token),
    /// Make, list and revoke API keys for the gateway
    #[cfg(feature = "gateway")]
    #[command(subcommand)]
    Key(key::Command),
    /// Tell addresses outside of events, by signed requests
    #[cfg(feature = "gateway")]
    #[command(subcommand)]
    Webhook(webhook::Command),
    /// Run a command for each task, in any language; `orchestrator worker --help` tells how
    #[command(disable_help_flag = true)]
    Worker(worker::Worker),
    /// Ask a gateway or a worker whether it is ready, for health checks; exits 0 or 1
    Health(health::Health),
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
    /// Give waiting tasks another priority; of running ones it counts from their next attempt
    Priority(priority::Reprioritise),
    /// Follow a task until it has ended, a line for each change, and a bar on a terminal
    Watch(watch::Watch),
    /// Print what a task puts out while it runs
    Output(read::Read),
    /// Print the result of a task
    Result(result::Wanted),
    /// List what a task has done for good
    Journal(journal::Journal),
}

impl Command {
    /// Whether it runs until it is told to stop, so that its log is what people look at.
    fn serves(&self) -> bool {
        #[cfg(feature = "gateway")]
        return matches!(self, Self::Serve(_) | Self::Dev(_));
        #[cfg(not(feature = "gateway"))]
        false
    }
}

/// Reads the command line and carries it out.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = if cli.command.serves() { "info" } else { "warn" };
    orchestrator::log::begin(level);
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

#[tokio::main]
async fn run(cli: Cli) -> Result<(), Failure> {
    let mut out = Output::new(cli.global.json);
    if let Command::Completions { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "orchestrator", &mut script);
        return out.raw(&script);
    }
    if let Command::Worker(command) = cli.command {
        return worker::run(&command, cli.global.redis.as_deref(), cli.global.namespace.as_deref());
    }
    if let Command::Health(command) = cli.command {
        return health::run(command, &mut out).await;
    }
    if let Command::Schedule(command) = &cli.command
        && let Some(done) = command.alone(&mut out)
    {
        return done;
    }
    #[cfg(feature = "gateway")]
    match cli.command {
        Command::Openapi => return openapi::run(&mut out),
        Command::Token(command) => return token::run(&command, &mut out),
        Command::Dev(_) if cli.global.redis.is_some() => {
            return Err(Failure::usage("`dev` starts a Redis of its own; `serve --redis URL` takes yours"));
        }
        Command::Dev(command) => return dev::run(command, cli.global.namespace, &mut out).await,
        _ => {}
    }
    let changes_order = matches!(&cli.command, Command::Queue(queue::Queue::Aging(_)));
    let orch = connect(&cli.global, changes_order).await?;
    match cli.command {
        Command::Task(Task::Submit(command)) => submit::run(&orch, command, &mut out).await,
        Command::Task(Task::Get(command)) => get::run(&orch, &command, &mut out).await,
        Command::Task(Task::List(command)) => list::run(&orch, command, &mut out).await,
        Command::Task(Task::Cancel(command)) => cancel::run(&orch, &command, &mut out).await,
        Command::Task(Task::Retry(command)) => retry::run(&orch, command, &mut out).await,
        Command::Task(Task::Priority(command)) => priority::run(&orch, &command, &mut out).await,
        Command::Task(Task::Watch(command)) => watch::run(&orch, &command, &mut out).await,
        Command::Task(Task::Output(command)) => read::run(&orch, &command, &mut out).await,
        Command::Task(Task::Result(command)) => result::run(&orch, command, &mut out).await,
        Command::Task(Task::Journal(command)) => journal::run(&orch, &command, &mut out).await,
        Command::Dead(command) => dead::run(&orch, command, &mut out).await,
        Command::Schedule(command) => schedule::run(&orch, command, &mut out).await,
        Command::Approval(command) => approval::run(&orch, command, &mut out).await,
        Command::Audit(command) => audit::run(&orch, command, &mut out).await,
        Command::Sla(command) => sla::run(&orch, command, &mut out).await,
        Command::Events(command) => events::run(&orch, command, &mut out).await,
        Command::Group(command) => group::run(&orch, command, &mut out).await,
        Command::Queue(command) => queue::run(&orch, &command, &mut out).await,
        Command::Stats => stats::run(&orch, &mut out).await,
        Command::Handlers => handlers::run(&orch, &mut out).await,
        #[cfg(feature = "gateway")]
        Command::Serve(command) => serve::run(orch, command, &mut out).await,
        #[cfg(feature = "gateway")]
        Command::Key(command) => key::run(&orch, command, &mut out).await,
        #[cfg(feature = "gateway")]
        Command::Webhook(command) => webhook::run(&orch, command, &mut out).await,
        #[cfg(feature = "gateway")]
        Command::Dev(_) | Command::Openapi | Command::Token(_) => Ok(()),
        Command::Completions { .. } | Command::Health(_) | Command::Worker(_) => Ok(()),
    }
}

/// Connects to the server named by the option or the environment; never starts one. Whoever `changes_order` takes whatever
/// order there is.
async fn connect(global: &Global, changes_order: bool) -> Result<Orchestrator, Failure> {
    let (url, mut config) = Config::from_env()?;
    config.url = global.redis.clone().or(url).ok_or_else(|| {
        Failure::usage("no Redis is named: set REDIS_URL, or write --redis redis://host:6379 or --redis unix:///path")
    })?;
    if let Some(namespace) = &global.namespace {
        config.namespace.clone_from(namespace);
    }
    if changes_order {
        config.aging = Aging::Stored;
    }
    Ok(Orchestrator::with_config(config).await?)
}
