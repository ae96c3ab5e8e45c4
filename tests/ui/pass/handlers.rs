//! What a handler may look like. The crate has `orchestrator-worker` as its one dependency here.

#![deny(warnings, unreachable_pub, missing_docs, missing_debug_implementations)]
#![forbid(unsafe_code)]

use orchestrator_worker::{Data, TaskContext, TaskResult, payload, task_handler};

/// A bug.
#[payload]
struct Bug {
    id: u64,
    title: String,
}

/// How it went.
#[payload]
#[derive(PartialEq)]
enum Fix {
    /// Well.
    Lines(u64),
}

#[derive(Debug)]
struct Desk {
    open: u64,
}

/// Fixes a bug,
/// with everything that a handler may say.
#[task_handler(
    "ops.bug-fix_2",
    queue = "ops",
    priority = P1,
    retries = 3,
    backoff = "exp(2s, 10m)",
    timeout = "15m",
    approval(
        unless = "args.id in [1, 2]",
        by = ["role:sre", "alice"],
        quorum = 2,
        expires = "4h",
        remind = "30m",
        escalate = "1h, role:lead",
    ),
    sla(
        target = "30m",
        warn = 0.8,
        pause = "human",
        on_violation = "escalate:role:lead",
        hours = "mon-fri 09:00-17:00 Europe/Berlin",
    ),
)]
async fn bugfix(Bug { id, title }: Bug, desk: Data<Desk>, _ctx: TaskContext, _again: Data<Desk>) -> TaskResult<Fix> {
    Ok(Fix::Lines(id + title.len() as u64 + desk.open))
}

#[task_handler("nothing")]
async fn nothing(_: ()) -> TaskResult {
    Ok(())
}

mod other {
    use orchestrator_worker::{TaskError, task_handler};

    // Names which the generated code must not mistake for its own.
    #[allow(dead_code)]
    mod core {}
    #[allow(dead_code)]
    mod std {}
    #[allow(dead_code)]
    struct Some;
    #[allow(dead_code)]
    struct Ok;

    #[task_handler("sum", backoff = "fixed(250ms)")]
    pub(crate) async fn sum(mut args: Vec<u64>) -> Result<u64, TaskError> {
        args.push(1);
        Result::Ok(args.iter().sum())
    }

    #[cfg(any())]
    #[task_handler("absent")]
    pub(crate) async fn absent(_: Missing) -> Missing {}

    #[task_handler("present")]
    #[cfg(not(any()))]
    pub(super) async fn r#type(args: u64) -> Result<u64, TaskError> {
        Result::Ok(args)
    }
}

mod renamed {
    mod mine {
        pub(crate) use orchestrator_worker as worker;
    }

    #[mine::worker::payload(crate = "mine::worker")]
    pub(crate) struct Job {
        pub(crate) id: u64,
    }

    #[mine::worker::task_handler("renamed", priority = P0, crate = "mine::worker")]
    pub(crate) async fn renamed(job: Job) -> mine::worker::TaskResult<u64> {
        Ok(job.id)
    }
}

macro_rules! handler {
    ($name:ident, $kind:literal, $queue:expr, $payload:ty, $result:ty) => {
        #[task_handler($kind, queue = $queue)]
        async fn $name(args: $payload) -> $result {
            Ok(args)
        }
    };
}

handler!(echo, "echo", "ops", String, TaskResult<String>);

/// Comes by itself.
#[task_handler("sweep", cron = "*/5 8-17 * * mon-fri", tz = "Europe/Berlin", overlap = "replace", catch_up = "skip")]
async fn sweep(_: ()) -> TaskResult {
    Ok(())
}

/// Comes by itself, with the default of what it takes.
#[task_handler("tidy", cron = "@daily")]
pub async fn tidy(_days: Option<u64>) -> TaskResult {
    Ok(())
}

#[orchestrator_worker::main]
async fn main() -> TaskResult {
    // A handler is a function,
    let sum: u64 = other::sum(vec![1, 2]).await?;
    assert_eq!(sum, 4);
    assert_eq!(other::r#type(7).await?, 7);
    assert_eq!(echo("hi".to_owned()).await?, "hi");
    nothing(()).await?;
    assert_eq!(renamed::renamed(renamed::Job { id: 1 }).await?, 1);

    // and what makes a task.
    let bug = Bug { id: 1, title: "x".to_owned() };
    let _ = bugfix::with(bug.clone());
    let _ = other::sum::with(vec![1]);
    let _ = nothing::with(());
    let _ = format!("{bug:?}, {:?}, {:?}", Fix::Lines(1), bugfix::default());

    // It may stand inside of a function as well.
    #[task_handler("inner")]
    async fn inner(_: u8) -> TaskResult {
        Ok(())
    }
    let _ = inner::with(1);
    inner(1).await
}
