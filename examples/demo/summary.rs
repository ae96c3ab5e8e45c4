//! What came of it all: a table of the tasks, and the story.

use std::path::Path;

use orchestrator_examples::alert::Raised;
use orchestrator_examples::deploy::Deployed;
use orchestrator_examples::faq::Reply;
use orchestrator_examples::feature::Added;
use orchestrator_examples::investigate::Report;
use orchestrator_examples::kb_update::Stored;
use orchestrator_examples::monitor::Health;
use orchestrator_examples::refactor::Refactored;
use orchestrator_examples::repair::Repair;
use orchestrator_examples::scratch::Scratch;
use orchestrator_worker::{Status, Task};
use serde::de::DeserializeOwned;

use crate::Failure;
use crate::record::{Answered, Record};
use crate::timeline::{short, took_ms};

/// A table with a row for each task.
pub(crate) fn table(tasks: &[Task]) -> String {
    let head = ["id", "type", "status", "attempts", "duration", "outcome"].map(str::to_owned);
    let mut rows = vec![head];
    rows.extend(tasks.iter().map(|task| {
        let took = took_ms(task).map_or_else(String::new, |took| format!("{took} ms"));
        let (id, attempts) = (short(task.task_id), task.attempt.to_string());
        [id, task.task_type.clone(), task.status.to_string(), attempts, took, outcome(task)]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3, 4].map(width);
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  "));
            cells.collect::<String>() + &row[5]
        })
        .collect();
    let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    // A long outcome may go beyond it.
    lines.insert(1, "-".repeat(longest.min(120)));
    lines.join("\n")
}

/// What a task found or did, in a few words.
fn outcome(task: &Task) -> String {
    if task.status != Status::Completed {
        return task.error.clone().unwrap_or_default();
    }
    let words = match task.task_type.as_str() {
        "monitor" => result(task).map(|health| health_words(&health)),
        "alert" => result(task).map(|raised: Raised| raised.summary),
        "investigate" => result(task).map(|report| report_words(&report)),
        "bugfix" => result(task).map(|repair: Repair| format!("commit {:.10}", repair.commit)),
        "feature" => result(task).map(|added: Added| {
            let Added { commit, function, expression, tried, .. } = added;
            format!("commit {commit:.10}: {function} is {expression}, found after {tried} others")
        }),
        "refactor" => result(task).map(|renamed: Refactored| {
            let places: usize = renamed.files.iter().map(|file| file.places).sum();
            format!("commit {:.10}: {places} places in {} files", renamed.commit, renamed.files.len())
        }),
        "kb_update" => result(task).map(|stored: Stored| format!("{}: {} passages", stored.id, stored.passages)),
        "deploy" => result(task).map(|deployed: Deployed| {
            let live = deployed.live;
            format!("{:.10} is live in {}: {}, {} bytes", live.commit, deployed.environment, live.url, live.bytes)
        }),
        "faq" => result(task).map(|reply: Reply| reply.words.replace('\n', " ")),
        _ => Some(String::new()),
    };
    words.unwrap_or_else(|| "a result that cannot be read".to_owned())
}

fn result<T: DeserializeOwned>(task: &Task) -> Option<T> {
    serde_json::from_value(task.result.clone()?).ok()
}

fn health_words(health: &Health) -> String {
    let figures = &health.figures;
    let [load, ..] = figures.load;
    let memory = figures.memory_available_kib as f64 / f64::from(1 << 20);
    let disk = figures.disk_free_kib as f64 / f64::from(1 << 20);
    let findings: Vec<&str> = health.findings.iter().map(|found| found.message.as_str()).collect();
    let findings = if findings.is_empty() { "nothing to report".to_owned() } else { findings.join("; ") };
    let cores = figures.cores;
    format!("load {load:.2} on {cores} cores, {memory:.1} GiB memory, {disk:.1} GiB disk: {findings}")
}

fn report_words(report: &Report) -> String {
    if !report.failing.is_empty() {
        let suspect = report.suspects.first();
        let suspect = suspect.map_or_else(|| "no file".to_owned(), |file| file.display().to_string());
        return match report.failing.len() {
            1 => format!("1 failing test leads to {suspect}"),
            many => format!("{many} failing tests lead to {suspect}"),
        };
    }
    let clue = |clue: &orchestrator_examples::evidence::Clue| {
        let best = clue.found.hits.first();
        let best = best.map_or_else(String::new, |hit| format!(", first {}", hit.path.display()));
        let found = &clue.found;
        let (lines, files) = (found.lines_matching, found.files_matching);
        format!("`{}`: {lines} lines in {files} of {} files{best}", clue.name, found.files_searched)
    };
    report.clues.iter().map(clue).collect::<Vec<_>>().join("; ")
}

/// The story in the end, with what to look at.
pub(crate) fn story(tasks: &[Task], planted: &Scratch, record: &Record, dir: &Path) -> Result<String, Failure> {
    let bugfix = tasks.iter().find(|task| task.task_type == "bugfix").ok_or("no bugfix was asked for")?;
    let repair: Repair = result(bugfix).ok_or("the result of the bugfix cannot be read")?;
    let Repair { file, line, before, after, candidates_tried, tests_passed, branch, .. } = repair;
    let (file, before, after) = (file.display(), before.trim(), after.trim());
    let (plant, trace) = (planted.plant, &bugfix.trace_id);
    let (dir, repo) = (quoted(dir), quoted(&planted.path));
    let (live, broken) = (&record.deployed, &record.rolled_back);
    let Answered { question, source, .. } = &record.answered;
    Ok(format!(
        "\nmonitor, alert, investigate, bugfix, deploy, kb_update: one trace, {trace}\n\n\
         {file}, line {line}\n  - {before}\n  + {after}\n\n\
         {candidates_tried} changes tried until all {tests_passed} tests passed; on branch {branch}\n\
         what had been planted, and no agent was told: `{}` instead of `{}`\n\n\
         {:.10} went live; {:.10}, the commit with the bug, was switched to, failed its health check, and was rolled back\n\
         \"{question}\" was answered from {}, which names release {}\n\n\
         look at it:     git -C {repo} log --graph --stat; {dir}/site/current/index.html\n\
         run its tests:  cd {repo} && python3 -m unittest\n\
         check it all:   demo --check {dir}    (scripts/demo --check {dir})",
        plant.after, plant.before, live.commit, broken.commit, source.id, live.release,
    ))
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
    let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    if plain { path } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_can_be_pasted_into_a_shell() {
        assert_eq!(quoted(Path::new("/tmp/a-1.b")), "/tmp/a-1.b");
        assert_eq!(quoted(Path::new("/tmp/it's")), "'/tmp/it'\\''s'");
    }
}
