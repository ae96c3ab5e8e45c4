//! What the failing tests of a Python suite call, and where the source defines it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::search::{Bounds, Found, SearchError, search};
use crate::suite::{Failure, Frame};
use crate::suspects::is_test;
use crate::tokens::{Lexeme, tokens};

/// No more names than this are looked for.
const NAMES_MAX: usize = 8;

/// Where one name was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clue {
    /// A name that a failing test calls.
    pub name: String,
    /// Where the source has it.
    pub found: Found,
}

/// The names that the failing tests call, those of the most tests first. Read from each test's
/// own lines, down to the one that failed.
#[must_use]
pub fn names(failures: &[Failure]) -> Vec<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for failure in failures {
        let in_tests = failure.frames.iter().filter(|frame| is_test(Path::new(&frame.file)));
        let mut called: Vec<String> = in_tests.flat_map(called_before).collect();
        called.sort();
        called.dedup();
        for name in called {
            *counts.entry(name).or_default() += 1;
        }
    }
    let mut names: Vec<(String, usize)> = counts.into_iter().collect();
    names.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    names.into_iter().take(NAMES_MAX).map(|(name, _)| name).collect()
}

/// The names called in a function, from its first line to the one of the frame.
fn called_before(frame: &Frame) -> Vec<String> {
    let text = std::fs::read_to_string(&frame.file).unwrap_or_default();
    let until: Vec<&str> = text.lines().take(frame.line).collect();
    let from = until.iter().rposition(|line| line.trim_start().starts_with("def ")).map_or(0, |at| at + 1);
    let own = if until.is_empty() { vec![frame.source.as_str()] } else { until[from..].to_vec() };
    own.into_iter().flat_map(called).collect()
}

/// The functions and classes called in a line, without methods and what Python brings along.
fn called(line: &str) -> Vec<String> {
    let tokens = tokens(line);
    let name_at = |at: usize| {
        let [name, open] = [tokens.get(at)?, tokens.get(at + 1)?];
        let method = at > 0 && tokens[at - 1].text == ".";
        let call = name.kind == Lexeme::Name && open.text == "(" && !method && name.ends_value();
        (call && !BUILT_IN.contains(&name.text)).then(|| name.text.to_owned())
    };
    (0..tokens.len()).filter_map(name_at).collect()
}

/// Common functions of Python itself.
const BUILT_IN: [&str; 22] = [
    "abs",
    "all",
    "any",
    "bool",
    "dict",
    "enumerate",
    "float",
    "int",
    "len",
    "list",
    "max",
    "min",
    "print",
    "range",
    "round",
    "set",
    "sorted",
    "str",
    "sum",
    "super",
    "tuple",
    "zip",
];

/// Searches the source for each name.
///
/// # Errors
/// When the tree under `root` cannot be listed.
pub fn clues(root: &Path, names: &[String], bounds: Bounds) -> Result<Vec<Clue>, SearchError> {
    let clue = |name: &String| {
        let mut found = search(root, name, bounds)?;
        found.hits.retain(|hit| !is_test(&hit.path));
        Ok(Clue { name: name.clone(), found })
    };
    names.iter().map(clue).collect()
}

/// The files that the clues lead to, tests aside, the one with the most definitions of the names first.
#[must_use]
pub fn suspects(clues: &[Clue]) -> Vec<PathBuf> {
    let mut scores: BTreeMap<&Path, u32> = BTreeMap::new();
    let hits = clues.iter().flat_map(|clue| &clue.found.hits);
    for hit in hits.filter(|hit| !is_test(&hit.path)) {
        let defined = hit.lines.iter().filter(|line| line.score >= 10).count();
        *scores.entry(&hit.path).or_default() += u32::try_from(defined).unwrap_or(u32::MAX);
    }
    let mut files: Vec<(&Path, u32)> = scores.into_iter().filter(|(_, score)| *score > 0).collect();
    files.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    files.into_iter().map(|(file, _)| file.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plants::CATALOGUE;
    use crate::{scratch, suite, tempdir::TempDir};

    #[test]
    fn calls_are_told_from_methods_and_words() {
        assert_eq!(called("self.assertEqual(free(day, len(x)), Gap(1))  # not(this)"), ["free", "Gap"]);
        assert_eq!(called("if (a and not (b)) or 'f(x)':"), Vec::<String>::new());
    }

    #[tokio::test]
    async fn the_clues_lead_to_the_file_of_every_planted_bug() {
        for plant in CATALOGUE.iter().step_by(10) {
            let dir = TempDir::new("orchestrator-evidence").expect("made");
            scratch::make_with(dir.path(), *plant).await.expect("made");
            let outcome = suite::run(dir.path(), &[], false, Duration::from_secs(30)).await.expect("runs");
            let names = names(&outcome.failures);
            let clues = clues(dir.path(), &names, Bounds::default()).expect("searched");
            assert_eq!(suspects(&clues).first().map(PathBuf::as_path), Some(Path::new(plant.file)), "{names:?}");
        }
    }
}
