//! `queue aging`.

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use orchestrator::{Aging, Orchestrator};

use super::failure::Failure;
use super::output::{Output, is_watched, note};

#[derive(Debug, Args)]
pub(crate) struct Change {
    /// `off`, or what a step of priority is worth: 10m; shows how it is when left out
    #[arg(value_name = "off|SPAN")]
    aging: Option<Aging>,
    /// Only tell what would be done
    #[arg(long)]
    dry_run: bool,
    /// While workers are present too: what they put into queues until they are started anew lies in its old order, and the same
    /// command again repairs that
    #[arg(long)]
    force: bool,
}

pub(super) async fn run(orch: &Orchestrator, command: &Change, out: &mut Output) -> Result<(), Failure> {
    let seen = orch.aging().await?;
    let Some(aging) = command.aging.filter(|_| !command.dry_run) else {
        if out.is_json() {
            return out.object(&seen);
        }
        let hold = format!("aging is {}; {} tasks wait, {} leases run", seen.aging, seen.waiting, seen.leases);
        if seen.unfinished {
            note(&format!("a change of it was interrupted: `orchestrator queue aging {}` goes on with it", seen.aging));
        }
        return out.line(&match command.aging {
            None => hold,
            Some(aging) => format!("{hold}; they would get their places for aging {aging}"),
        });
    };
    let bar = if is_watched() { ProgressBar::new(seen.waiting) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len}, {eta} to go") {
        bar.set_style(style);
    }
    let done = orch
        .set_aging(aging, command.force, |looked, all| {
            bar.set_length(all);
            bar.set_position(looked);
        })
        .await;
    bar.finish_and_clear();
    let done = done?;
    if out.is_json() {
        return out.object(&done);
    }
    if done.leases > 0 {
        note("workers that are present keep the old order until they are started anew");
    }
    out.line(&format!(
        "aging was {} and is {}; {} of {} waiting tasks have new places",
        done.before, done.aging, done.rewritten, done.waiting
    ))
}
