//! Which lines of a repository its failing tests put under suspicion, and how strongly.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::process;
use crate::suite::{Failure, python};
use crate::tokens::{Lexeme, tokens};

/// Tells for each test of a suite which lines it stands on.
const SPECTRUM: &str = include_str!("spectrum.py");

/// A traceback that passes a line makes it more suspicious.
const IN_TRACEBACK: f64 = 1.5;

/// And so does a hint at its file.
const HINTED: f64 = 1.25;

/// A line that may be the wrong one.
#[derive(Debug, Clone, PartialEq)]
pub struct Suspect {
    /// Its file, relative to the repository.
    pub file: PathBuf,
    /// Its number, from 1.
    pub line: usize,
    /// How suspicious it is: above 0, and the more the likelier.
    pub suspicion: f64,
}

/// What the failing tests tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Suspects {
    /// The lines, the most suspicious first.
    pub lines: Vec<Suspect>,
    /// Numbers in the lines of the failing tests: what the code should say may be among them.
    pub literals: Vec<String>,
}

/// One test of the spectrum.
#[derive(Debug, Deserialize)]
struct Ran {
    passed: bool,
    lines: BTreeMap<PathBuf, Vec<usize>>,
}

/// Runs the suite in `dir` once more, watched, and weighs each line by Ochiai's measure: a line is
/// suspicious when many failing tests and few passing ones stand on it.
///
/// # Errors
/// When Python cannot be started.
pub async fn find(dir: &Path, failures: &[Failure], hints: &[PathBuf], limit: Duration) -> io::Result<Suspects> {
    let dir = dir.canonicalize()?;
    let done = process::run(python(&dir, &["-c", SPECTRUM]), limit).await?;
    let ran: Vec<Ran> = done.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let mut suspects = weigh(&ran);
    let in_traceback: BTreeSet<(PathBuf, usize)> = failures
        .iter()
        .flat_map(|failure| &failure.frames)
        .filter_map(|frame| Some((Path::new(&frame.file).strip_prefix(&dir).ok()?.to_owned(), frame.line)))
        .filter(|(file, _)| !is_test(file))
        .collect();
    for suspect in &mut suspects {
        let place = (suspect.file.clone(), suspect.line);
        suspect.suspicion *= if in_traceback.contains(&place) { IN_TRACEBACK } else { 1.0 };
        suspect.suspicion *= if hints.contains(&suspect.file) { HINTED } else { 1.0 };
    }
    if suspects.is_empty() {
        let alone = |(file, line)| Suspect { file, line, suspicion: 1.0 };
        suspects.extend(in_traceback.into_iter().map(alone));
    }
    suspects.sort_by(|a, b| b.suspicion.total_cmp(&a.suspicion));
    Ok(Suspects { lines: suspects, literals: literals(&dir, &ran) })
}

/// Ochiai's measure of every line that some failing test stands on.
fn weigh(ran: &[Ran]) -> Vec<Suspect> {
    let mut seen: BTreeMap<(&Path, usize), (f64, f64)> = BTreeMap::new();
    for test in ran {
        for (file, lines) in test.lines.iter().filter(|(file, _)| !is_test(file)) {
            for line in lines {
                let (failed, passed) = seen.entry((file, *line)).or_default();
                *(if test.passed { passed } else { failed }) += 1.0;
            }
        }
    }
    let all_failed = ran.iter().filter(|test| !test.passed).count() as f64;
    seen.into_iter()
        .filter(|(_, (failed, _))| *failed > 0.0)
        .map(|((file, line), (failed, passed))| Suspect {
            file: file.to_owned(),
            line,
            suspicion: failed / (all_failed * (failed + passed)).sqrt(),
        })
        .collect()
}

/// The first few numbers that the failing tests name.
fn literals(dir: &Path, ran: &[Ran]) -> Vec<String> {
    let mut found = Vec::new();
    for test in ran.iter().filter(|test| !test.passed) {
        for (file, lines) in test.lines.iter().filter(|(file, _)| is_test(file)) {
            let Ok(text) = std::fs::read_to_string(dir.join(file)) else {
                continue;
            };
            let lines = lines.iter().filter_map(|line| text.lines().nth(line.checked_sub(1)?));
            for token in lines.flat_map(tokens).filter(|token| token.kind == Lexeme::Number) {
                if !found.iter().any(|known| known == token.text) {
                    found.push(token.text.to_owned());
                }
            }
        }
    }
    found.truncate(12);
    found
}

/// Whether a file holds tests, by the names that are usual for them.
#[must_use]
pub fn is_test(file: &Path) -> bool {
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let in_tests = file.components().any(|part| matches!(part.as_os_str().to_str(), Some("test" | "tests")));
    in_tests || name.starts_with("test_") || name.ends_with("_test") || name == "conftest"
}

impl std::fmt::Display for Suspect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{} ({:.2})", self.file.display(), self.line, self.suspicion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plants::CATALOGUE;
    use crate::{scratch, suite, tempdir::TempDir};

    fn ran(passed: bool, lines: &[usize]) -> Ran {
        let lines = BTreeMap::from([("a.py".into(), lines.to_vec()), ("test_a.py".into(), vec![1])]);
        Ran { passed, lines }
    }

    #[test]
    fn lines_of_failing_tests_weigh_more_than_shared_ones() {
        let suspects = weigh(&[ran(false, &[1, 2]), ran(true, &[1, 3]), ran(true, &[1])]);
        let weights: Vec<_> = suspects.iter().map(|s| (s.line, (s.suspicion * 100.0).round())).collect();
        assert_eq!(weights, [(1, 58.0), (2, 100.0)]);
    }

    #[test]
    fn tests_are_no_suspects() {
        for name in ["tests/x.py", "test_x.py", "a/x_test.py", "conftest.py"] {
            assert!(is_test(Path::new(name)), "{name}");
        }
        assert!(!is_test(Path::new("shop/contest.py")));
    }

    #[tokio::test]
    async fn the_line_of_every_planted_bug_is_suspected() {
        for plant in CATALOGUE.iter().step_by(8) {
            let dir = TempDir::new("orchestrator-suspects").expect("made");
            scratch::make_with(dir.path(), *plant).await.expect("made");
            let limit = Duration::from_secs(30);
            let failures = suite::run(dir.path(), &[], false, limit).await.expect("runs").failures;
            let suspects = find(dir.path(), &failures, &[], limit).await.expect("found");
            let source = std::fs::read_to_string(dir.path().join(plant.file)).expect("read");
            let at = source.lines().position(|line| line.contains(plant.after)).expect("planted") + 1;
            let place = suspects.lines.iter().position(|s| s.file == Path::new(plant.file) && s.line == at);
            assert!(place.is_some_and(|place| place < 30), "{plant:?} at {at} is number {place:?}");
        }
    }
}
