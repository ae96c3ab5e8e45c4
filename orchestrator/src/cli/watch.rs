//! `task watch`.

use chrono::Utc;
use clap::Args;
use orchestrator::{Orchestrator, Status, Task, TaskId};

use super::failure::{Failure, REFUSED};
use super::output::{Output, plain};

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The task
    #[arg(value_name = "ID")]
    id: String,
}

pub(super) async fn run(orch: &Orchestrator, command: &Watch, out: &mut Output) -> Result<(), Failure> {
    let mut watch = orch.watch(command.id.parse::<TaskId>()?);
    let mut last = None;
    while let Some(task) = watch.next().await? {
        if out.is_json() {
            out.object(&task)?;
        } else {
            out.line(&line(&task))?;
        }
        last = Some(task.status);
    }
    // The exit code tells how it ended.
    if last == Some(Status::Completed) { Ok(()) } else { Err(Failure::told(REFUSED)) }
}

fn line(task: &Task) -> String {
    let time = task.completed_at.unwrap_or_else(Utc::now).format("%H:%M:%S");
    let attempt = match task.attempt {
        0 => String::new(),
        attempt => format!("attempt {attempt}"),
    };
    let about = match &task.result {
        Some(result) => plain(&result.to_string(), 200),
        None => plain(&super::list::remark(task), 200),
    };
    format!("{time} {:<11} {attempt:<10} {about}", task.status).trim_end().to_owned()
}
