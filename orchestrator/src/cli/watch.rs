//! `task watch`.

use std::io::{IsTerminal, stdout};

use chrono::Utc;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use orchestrator::{Orchestrator, Status, Task, TaskId};

use super::failure::{Failure, REFUSED};
use super::get::progress;
use super::output::{Output, is_watched, plain};

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The task
    #[arg(value_name = "ID")]
    id: String,
}

pub(super) async fn run(orch: &Orchestrator, command: &Watch, out: &mut Output) -> Result<(), Failure> {
    let mut watch = orch.watch(command.id.parse::<TaskId>()?);
    let (mut last, mut told) = (None, None);
    let shows_bar = !out.is_json() && is_watched() && stdout().is_terminal();
    let bar = if shows_bar { ProgressBar::new(1000) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3} % {wide_msg}") {
        bar.set_style(style);
    }
    while let Some(task) = watch.next().await? {
        let change = Some((task.changes, task.status));
        if out.is_json() {
            out.object(&task)?;
        } else if !shows_bar || told != change {
            bar.suspend(|| out.line(&line(&task)))?;
        }
        match task.progress {
            Some(fraction) => {
                bar.set_message(plain(task.progress_note.as_deref().unwrap_or_default(), 100));
                bar.set_position((fraction * 1000.0) as u64);
            }
            None => bar.set_position(0),
        }
        (last, told) = (Some(task.status), change);
    }
    bar.finish_and_clear();
    // The exit code tells how it ended.
    if last == Some(Status::Completed) { Ok(()) } else { Err(Failure::told(REFUSED)) }
}

fn line(task: &Task) -> String {
    let time = task.completed_at.unwrap_or_else(Utc::now).format("%H:%M:%S");
    let attempt = match task.attempt {
        0 => String::new(),
        attempt => format!("attempt {attempt}"),
    };
    let about = match (&task.result, task.progress) {
        (Some(result), _) => plain(&result.to_string(), 200),
        (None, Some(fraction)) => progress(fraction, task.progress_note.as_deref()),
        (None, None) => plain(&super::list::remark(task), 200),
    };
    format!("{time} {:<11} {attempt:<10} {about}", task.status).trim_end().to_owned()
}
