//! Shows the whole chain at work: a private Redis, a worker in this process, a repository with a
//! planted bug, and four tasks of which the last one repairs it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use orchestrator_examples::figures::Thresholds;
use orchestrator_examples::investigate::{Investigate, Question, investigate};
use orchestrator_examples::monitor::{Monitor, monitor};
use orchestrator_examples::scratch::{self, Scratch};
use orchestrator_examples::search::Bounds;
use orchestrator_examples::tempdir::TempDir;
use orchestrator_worker::{Orchestrator, Priority, Stop, Task, TaskId, Worker};

#[path = "demo/options.rs"]
mod options;
#[path = "demo/summary.rs"]
mod summary;
#[path = "demo/timeline.rs"]
mod timeline;

use options::{Asked, Options};

/// Whatever keeps the demo from its end; it is printed and nothing else is done with it.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// No demo takes longer than this unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(180);

/// Writes one line for the user. Nobody may be reading; that is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = match options::parse(std::env::args().skip(1)) {
        Ok(Asked::Run(options)) => options,
        Ok(Asked::Help) => {
            say(options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(mistake) => {
            eprintln!("demo: {mistake}\n\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    let outcome = tokio::select! {
        outcome = run(&options) => outcome,
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
    let server = orch.server().map_or_else(String::new, |server| server.program().display().to_string());
    say(&format!("seed {}: repeat this run with --seed {0}", options.seed));
    say(&format!("redis {server}: private, on a Unix socket, gone when the demo ends"));

    let planted = scratch(options).await?;
    say(&format!("repository {}: a Python package with one planted bug\n", planted.path.display()));

    let stop = Stop::new();
    let worker = Worker::builder(orch.clone()).slots(8).expect(["monitor", "investigate", "bugfix"]);
    let mut worker = tokio::spawn(worker.drain_grace("5s").build()?.run_until(stop.clone()));
    let submitted = submit(&orch, &planted.path).await?;
    let followed = tokio::select! {
        followed = timeline::follow(&orch, &submitted, PATIENCE, &say) => followed,
        ended = &mut worker => return Err(format!("the worker stopped: {ended:?}").into()),
    };
    stop.drain();
    worker.await??;
    conclude(&followed?, &planted)
}

/// Makes the repository: where the user wants it, or in a directory for temporary files. It stays
/// there, to be looked at.
async fn scratch(options: &Options) -> Result<Scratch, Failure> {
    let dir: PathBuf = match &options.dir {
        Some(dir) => std::path::absolute(dir)?,
        None => TempDir::new("orchestrator-demo")?.keep(),
    };
    Ok(scratch::make(&dir, options.seed).await?)
}

/// Submits what a person would: have a look at the machine, look something up in the project's own
/// source, and find out why the tests of the repository fail. Nobody asks for the repair.
async fn submit(orch: &Orchestrator, repo: &Path) -> Result<Vec<TaskId>, Failure> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).parent().filter(|dir| dir.is_dir());
    let source = source.unwrap_or(Path::new("."));
    let look = |root: &Path, question| Investigate { root: root.to_owned(), question, bounds: Bounds::default() };
    let machine = Monitor { disk: repo.to_owned(), thresholds: Thresholds::default(), service: None };
    let lookup = look(source, Question::Term("task_handler".to_owned()));
    let failing = look(repo, Question::FailingTests);
    let tasks = [
        monitor::with(machine).priority(Priority::P3).untyped(),
        investigate::with(lookup).untyped(),
        investigate::with(failing).priority(Priority::P1).untyped(),
    ];
    let handles = orch.enqueue_all(tasks).await?;
    Ok(handles.iter().map(|handle| handle.id()).collect())
}

/// Says how it ended; an error unless every task has completed and the bug is repaired.
fn conclude(tasks: &[Task], planted: &Scratch) -> Result<(), Failure> {
    say(&format!("\n{}", summary::table(tasks)));
    let failed: Vec<String> = tasks.iter().filter_map(summary::failure).collect();
    if !failed.is_empty() {
        return Err(failed.join("\n      ").into());
    }
    say(&summary::story(tasks, planted)?);
    Ok(())
}
