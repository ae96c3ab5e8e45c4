//! Shows agents at work: a private Redis, a worker in this process, a repository with a planted bug, and tasks of all
//! nine types. A threshold that every machine crosses raises an alert. From there on events lead: `alert.triggered` to a
//! repair, `pr.merged` to its deployment, `deploy.succeeded` to what is known of it; each is shown as it is told. Then a
//! function is added and another renamed, a broken build is rolled back, and a question is answered.
//!
//! The deployment that stays is for production, so somebody else has to agree: that it may start at all, and to what was
//! built. On a terminal that is whoever sits there; else a second identity decides. And one task is too slow on purpose:
//! its service-level clock warns, and tells of the violation.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use orchestrator_examples::scratch::{self, Scratch};
use orchestrator_examples::tempdir::TempDir;
use orchestrator_worker::{Orchestrator, Stop, Worker};

#[path = "demo/check.rs"]
mod check;
#[path = "demo/options.rs"]
mod options;
#[path = "demo/person.rs"]
mod person;
#[path = "demo/record.rs"]
mod record;
#[path = "demo/scenario.rs"]
mod scenario;
#[path = "demo/summary.rs"]
mod summary;
#[path = "demo/survey.rs"]
mod survey;
#[path = "demo/timeline.rs"]
mod timeline;
#[path = "demo/told.rs"]
mod told;

use options::{Asked, Options};
use record::Record;
use scenario::Scenario;
use told::Told;

/// Whatever keeps the demo from its end; it is printed and nothing else is done with it.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Every type that a worker of the demo must handle.
const TYPES: [&str; 9] =
    ["monitor", "alert", "investigate", "bugfix", "feature", "refactor", "kb_update", "deploy", "faq"];

/// Writes one line for the user. Nobody may be reading; that is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

#[tokio::main]
async fn main() -> ExitCode {
    let asked = match options::parse(std::env::args().skip(1)) {
        Ok(Asked::Help) => {
            say(options::HELP);
            return ExitCode::SUCCESS;
        }
        Ok(asked) => asked,
        Err(mistake) => {
            eprintln!("demo: {mistake}\n\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    let work = async {
        match &asked {
            Asked::Run(options) => run(options).await,
            Asked::Check(dir) => check::check(dir, &say).await,
            Asked::Help => Ok(()),
        }
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<(), Failure> {
    for program in ["python3", "git"] {
        let found = tokio::process::Command::new(program).arg("--version").output().await;
        found.map_err(|error| format!("this demo needs {program} on the search path: {error}"))?;
    }
    let orch = Orchestrator::embedded().await?;
    let dir = folder(options)?;
    let server = orch.server().map_or_else(String::new, |server| server.program().display().to_string());
    say(&format!("seed {}: repeat this run with --seed {0}", options.seed));
    say(&format!("redis {server}: private, on a Unix socket, gone when the demo ends"));
    let planted = scratch::make(&dir.join(record::REPO), options.seed).await?;
    say(&format!("repository {}: a Python package with one planted bug", planted.path.display()));
    say(
        "all tasks: priority P2, environment staging, but for the deployment that stays: production, which needs approval",
    );
    say("the alert is real and easy to have: its threshold is one process\n");

    let stop = Stop::new();
    let worker = Worker::builder(orch.clone()).slots(8).expect(TYPES);
    let mut worker = tokio::spawn(worker.drain_grace("5s").build()?.run_until(stop.clone()));
    let told = Told::default();
    let mut scenario = Scenario::new(&orch, &told, &dir, &say);
    let played = tokio::select! {
        played = scenario.play(options.seed, &planted) => played,
        gone = person::decide(&orch, &told) => return gone,
        deaf = told.listen(&orch) => return deaf,
        ended = &mut worker => return Err(format!("the worker stopped: {ended:?}").into()),
    };
    stop.drain();
    worker.await??;
    say(&format!("\n{}", summary::table(scenario.tasks())));
    conclude(&played?, &scenario, &planted, &dir)
}

/// Where everything goes: where the user wants it, or in a directory for temporary files. It stays there, to be
/// looked at.
fn folder(options: &Options) -> Result<PathBuf, Failure> {
    let Some(dir) = &options.dir else {
        return Ok(TempDir::new("orchestrator-demo")?.keep());
    };
    let dir = std::path::absolute(dir)?;
    std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    if std::fs::read_dir(&dir)?.next().is_some() {
        return Err(format!("{} is not an empty directory", dir.display()).into());
    }
    Ok(dir)
}

fn conclude(record: &Record, scenario: &Scenario<'_>, planted: &Scratch, dir: &Path) -> Result<(), Failure> {
    record.write(dir)?;
    say(&summary::story(scenario.tasks(), planted, record, dir)?);
    Ok(())
}
