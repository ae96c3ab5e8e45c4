//! What came of it all: a table of the tasks, and the story of the repair.

use std::path::Path;

use orchestrator_examples::investigate::Report;
use orchestrator_examples::monitor::Health;
use orchestrator_examples::repair::Repair;
use orchestrator_examples::scratch::Scratch;
use orchestrator_worker::{Status, Task};
use serde::de::DeserializeOwned;

use crate::Failure;
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
    lines.insert(1, "-".repeat(longest));
    lines.join("\n")
}

/// What a task found or did, in a few words.
fn outcome(task: &Task) -> String {
    if task.status != Status::Completed {
        return task.error.clone().unwrap_or_default();
    }
    let words = match task.task_type.as_str() {
        "monitor" => result(task).map(|health| health_words(&health)),
        "investigate" => result(task).map(|report| report_words(&report)),
        "bugfix" => result(task).map(|repair: Repair| format!("commit {:.10}", repair.commit)),
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
    if report.bugfix.is_some() {
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

/// Why this task did not complete, if it did not.
pub(crate) fn failure(task: &Task) -> Option<String> {
    let error = task.error.as_deref().unwrap_or("no error was recorded");
    (task.status != Status::Completed)
        .then(|| format!("{} {} is {}: {error}", task.task_type, task.task_id, task.status))
}

/// The story of the repair, or what is wrong with it.
pub(crate) fn story(tasks: &[Task], planted: &Scratch) -> Result<String, Failure> {
    let bugfix = tasks.iter().find(|task| task.task_type == "bugfix").ok_or("no bugfix was asked for")?;
    let parent = tasks
        .iter()
        .find(|task| Some(task.task_id) == bugfix.parent_task_id)
        .filter(|task| task.child_task_ids.contains(&bugfix.task_id))
        .ok_or("the bugfix is not the child of the investigation")?;
    if parent.trace_id != bugfix.trace_id {
        return Err("the bugfix is not in the trace of the investigation".into());
    }
    let repair: Repair = result(bugfix).ok_or("the result of the bugfix cannot be read")?;
    let (file, line) = (repair.file.display(), repair.line);
    let (plant, repo) = (planted.plant, quoted(&planted.path));
    Ok(format!(
        "\ntrace {}: investigate {} asked for bugfix {}\n\n\
         {file}, line {line}\n  - {}\n  + {}\n\n\
         {} changes tried until all {} tests passed\n\
         branch {}\ncommit {}\n\
         what had been planted, and no agent was told: `{}` instead of `{}`\n\n\
         look at it:     git -C {repo} show\n\
         run its tests:  cd {repo} && python3 -m unittest",
        parent.trace_id,
        short(parent.task_id),
        short(bugfix.task_id),
        repair.before.trim(),
        repair.after.trim(),
        repair.candidates_tried,
        repair.tests_passed,
        repair.branch,
        repair.commit,
        plant.after,
        plant.before,
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
