//! A server, a client on it, and the program.

use std::process::Stdio;
use std::time::Duration;

use orchestrator::{ApprovalPolicy, Claim, Config, Embedded, Incarnation, LEASE, Offer, Orchestrator};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// What a run of the program left.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    /// What was printed, when all went well.
    #[track_caller]
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "{}", self.err);
        self.out.trim_end()
    }

    /// The one JSON object that was printed.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {} {}", self.out, self.err))
    }

    /// The JSON objects that were printed, one a line.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
    }
}

/// A private server with a client on it.
pub(crate) struct Bench {
    pub(crate) orch: Orchestrator,
    /// `ORCHESTRATOR_APPROVAL_RULES` of the program.
    rules: &'static str,
}

impl Bench {
    /// One where no task needs an approval.
    pub(crate) async fn new() -> Self {
        Self::on("none", ApprovalPolicy::none()).await
    }

    /// One whose tasks need the approvals of the default policy.
    pub(crate) async fn strict() -> Self {
        Self::on("default", ApprovalPolicy::default()).await
    }

    async fn on(rules: &'static str, approvals: ApprovalPolicy) -> Self {
        let server = Embedded::start().expect("a Redis server; `scripts/redis` fetches one");
        let settings = Config { approvals, ..Config::new("") };
        Self { orch: Orchestrator::on(server, settings).await.expect("our own server"), rules }
    }

    pub(crate) fn url(&self) -> String {
        self.orch.server().expect("a private server").url()
    }

    /// The program on this server, ready to be run.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = program(args);
        command.env("REDIS_URL", self.url()).env("ORCHESTRATOR_APPROVAL_RULES", self.rules).env("USER", "ada");
        command
    }

    pub(crate) async fn run(&self, args: &[&str]) -> Run {
        finish(self.command(args), b"").await
    }

    /// A worker's life on `queue`, with an offer.
    pub(crate) async fn worker(&self, queue: &str) -> Worker {
        let offer = Offer {
            task_type: "greet".into(),
            queue: queue.into(),
            doc: "Greets somebody.".into(),
            ..Offer::default()
        };
        let queues = vec![queue.to_owned()];
        let life = Incarnation::join(&self.orch, &queues, &[offer], 10 * LEASE).await.expect("a seat");
        Worker { life, queues }
    }
}

/// Claims by hand.
pub(crate) struct Worker {
    pub(crate) life: Incarnation,
    queues: Vec<String>,
}

impl Worker {
    /// The next task, once there is one.
    pub(crate) async fn claim(&self) -> Claim {
        let bell = self.life.doorbell();
        for _ in 0..60 {
            if let Some(claim) = self.life.step(&[], 1, &self.queues, None).await.expect("a step").claims.pop() {
                return claim;
            }
            bell.wait(&self.queues, Duration::from_secs(1)).await.expect("a wait");
        }
        panic!("no task came");
    }

    pub(crate) async fn finish(&self, finish: orchestrator::Finish) {
        let stepped = self.life.step(&[finish], 0, &self.queues, None).await.expect("a step");
        assert!(stepped.stale.is_empty());
    }
}

/// The program with nothing of our own environment that it reads.
pub(crate) fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orchestrator"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("ORCHESTRATOR_") || name == "LOG_LEVEL") {
            command.env_remove(name);
        }
    }
    command.args(args).env_remove("REDIS_URL").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a program to its end.
pub(crate) async fn finish(mut command: Command, input: &[u8]) -> Run {
    let mut child = command.spawn().expect("the built program");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A program that does not read its input closes the pipe.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    let told = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await;
    let told = told.expect("the program ends").expect("the program's output");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    Run { code: told.status.code().expect("an exit code"), out: text(&told.stdout), err: text(&told.stderr) }
}
