//! Gives a function or a parameter of a Python package another name, and changes nothing else.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::branch::{Landed, WorkError, Workplace};
use crate::{process, suite};

/// The program that knows Python's own tokens and syntax tree.
const PROGRAM: &str = include_str!("rename.py");

/// What is to have another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rename {
    /// The function; the only one of its name in the package.
    pub function: String,
    /// Its parameter, when that is what gets another name.
    #[serde(default)]
    pub parameter: Option<String>,
    /// The new name. Nothing in the package may have it yet.
    pub to: String,
}

/// A file that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    /// The file, relative to the repository.
    pub path: PathBuf,
    /// How many times it had the name.
    pub places: usize,
}

/// A renaming that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renamed {
    /// The files it touched.
    pub files: Vec<Touched>,
    /// How many tests passed before it: all there are.
    pub tests_before: u32,
    /// How many pass after it: all there are.
    pub tests_after: u32,
}

/// What the program says.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Files(Vec<Touched>),
    Refused(String),
}

/// Renames in a copy of the repository, with the suite run before and after, and commits it on the branch
/// `refactor/<task>` when all tests pass both times. What was committed for the same task before is found again.
///
/// # Errors
/// When the repository is in use, the renaming is not safe, or a test fails.
pub async fn rename(repo: &Path, task: &str, wish: &Rename) -> Result<Landed<Renamed>, WorkError> {
    let place = Workplace::new(repo, "refactor", task).await?;
    if let Some(done) = place.find().await? {
        return Ok(done);
    }
    let tests_before = place.before().await?;
    let files = apply(&place.path(), wish).await?;
    let tests_after = place.after().await?;
    if tests_after != tests_before {
        return Err(WorkError::FailsAfter(format!("{tests_after} tests where there were {tests_before}")));
    }
    let Rename { function, parameter, to } = wish;
    let what = parameter.as_ref().map_or_else(|| function.clone(), |name| format!("{name} of {function}"));
    let count: usize = files.iter().map(|file| file.places).sum();
    let message = format!(
        "Rename {what} to {to}\n\n{count} places in {} files; the syntax tree is the same but for the name.\n\
         {tests_after} tests passed before and after.",
        files.len()
    );
    place.land(&message, Renamed { files, tests_before, tests_after }).await
}

/// Renames in place; nothing is written unless all of it is safe.
///
/// # Errors
/// When it is not safe, or Python is out of reach.
pub async fn apply(root: &Path, wish: &Rename) -> Result<Vec<Touched>, WorkError> {
    let wish = serde_json::to_string(wish).map_err(std::io::Error::other)?;
    let command = suite::python(root, &["-c", PROGRAM, ".", &wish]);
    let done = process::run(command, suite::PATIENCE).await?;
    match serde_json::from_str(&done.stdout) {
        Ok(Said::Files(files)) => Ok(files),
        Ok(Said::Refused(why)) => Err(WorkError::Refused(why)),
        Err(_) => {
            let last = done.stderr.lines().last().unwrap_or("it did not come to an end").to_owned();
            Err(std::io::Error::other(format!("the renaming gave no answer: {last}")).into())
        }
    }
}

#[cfg(test)]
#[path = "rename_tests.rs"]
mod tests;
