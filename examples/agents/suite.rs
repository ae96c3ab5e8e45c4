//! Runs a Python test suite and understands what it says: how many ran, which failed, and where.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::process;

/// Address space of a test run, in KiB: a test that fills memory must not take the machine along.
const MEMORY_KIB: u32 = 2 * 1024 * 1024;

/// How long a run may take when nothing better is known.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How one run of the suite ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How many tests ran.
    pub ran: u32,
    /// The tests that did not pass.
    pub failures: Vec<Failure>,
    /// Whether the time limit ended the run.
    pub timed_out: bool,
    /// Whether the suite itself calls the run a success.
    pub passed: bool,
    /// The last thing it said, for when it said nothing that is understood.
    pub last_words: String,
}

/// A test that did not pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its name, as `python3 -m unittest` takes it.
    pub test: String,
    /// What it said last: the error with its message.
    pub message: String,
    /// The places of its traceback, the innermost last.
    pub frames: Vec<Frame>,
}

/// One place of a traceback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The file, as Python names it.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// What the line says.
    pub source: String,
}

/// A command that runs Python in a directory: the same whatever the user has set, and leaving
/// no compiled files behind.
#[must_use]
pub fn python(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit -v {MEMORY_KIB} 2>/dev/null; exec python3 \"$@\"");
    command.args(["-c", &script, "sh"]).args(args).current_dir(dir);
    for name in ["PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "PYTHONOPTIMIZE", "PYTHONWARNINGS"] {
        command.env_remove(name);
    }
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONHASHSEED", "0").env("NO_COLOR", "1");
    command
}

/// Runs the tests of these names, or the whole suite when there are none, in a directory.
/// With `stop_early`, the first failure ends the run.
///
/// # Errors
/// When Python cannot be started.
pub async fn run(dir: &Path, tests: &[String], stop_early: bool, limit: Duration) -> io::Result<Outcome> {
    let mut args = vec!["-m", "unittest"];
    args.extend(stop_early.then_some("-f"));
    args.extend(tests.iter().map(String::as_str));
    let done = process::run(python(dir, &args), limit).await?;
    let mut outcome = parse(&done.stderr);
    outcome.timed_out = done.timed_out;
    outcome.passed = done.code == Some(0) && outcome.ran > 0;
    Ok(outcome)
}

fn parse(report: &str) -> Outcome {
    let mut outcome = Outcome::default();
    for line in report.lines() {
        if let Some(name) = line.strip_prefix("FAIL: ").or_else(|| line.strip_prefix("ERROR: ")) {
            let failure = Failure { test: full_name(name), message: String::new(), frames: vec![] };
            outcome.failures.push(failure);
        } else if let Some(rest) = line.strip_prefix("Ran ") {
            outcome.ran = rest.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        } else if let Some(failure) = outcome.failures.last_mut().filter(|_| outcome.ran == 0) {
            take_line(failure, line);
        }
        if !line.trim().is_empty() {
            outcome.last_words = line.trim().to_owned();
        }
    }
    // A test whose subtests fail is reported once for each.
    let mut seen = std::collections::HashSet::new();
    outcome.failures.retain(|failure| seen.insert(failure.test.clone()));
    outcome
}

/// Adds a line of a test's report to what is known about it.
fn take_line(failure: &mut Failure, line: &str) {
    if let Some(frame) = frame(line) {
        failure.frames.push(frame);
    } else if line.starts_with("    ") {
        let says_nothing = line.trim_start().starts_with(['^', '~']);
        if let Some(frame) = failure.frames.last_mut().filter(|f| f.source.is_empty() && !says_nothing) {
            frame.source = line.trim().to_owned();
        }
    } else if failure.message.is_empty() && !failure.frames.is_empty() && !line.starts_with(' ') {
        failure.message = line.trim().to_owned();
    }
}

/// `  File "shop/words.py", line 12, in tokenize`
fn frame(line: &str) -> Option<Frame> {
    let (file, rest) = line.strip_prefix("  File \"")?.split_once("\", line ")?;
    let line = rest.split(',').next()?.parse().ok()?;
    Some(Frame { file: file.to_owned(), line, source: String::new() })
}

/// `test_a (tests.test_b.C.test_a)`, or without the last part before Python 3.11.
fn full_name(reported: &str) -> String {
    let Some((test, rest)) = reported.split_once(" (") else {
        return reported.to_owned();
    };
    let Some((class, _)) = rest.split_once(')') else {
        return reported.to_owned();
    };
    if class.ends_with(&format!(".{test}")) || class.starts_with("unittest.loader.") {
        return class.to_owned();
    }
    format!("{class}.{test}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plants::CATALOGUE;
    use crate::{scratch, tempdir::TempDir};

    const REPORT: &str = r#"F.E
======================================================================
ERROR: test_b (tests.test_x.XTest.test_b)
----------------------------------------------------------------------
Traceback (most recent call last):
  File "/tmp/x/tests/test_x.py", line 7, in test_b
    self.assertEqual(half(0), 1)
                     ^^^^^^^
  File "/tmp/x/x.py", line 2, in half
    return 1 / n
           ~~^~~
ZeroDivisionError: division by zero

======================================================================
FAIL: test_a (tests.test_x.XTest) (n=2)
Says what it tests.
----------------------------------------------------------------------
Traceback (most recent call last):
  File "/tmp/x/tests/test_x.py", line 4, in test_a
    self.assertEqual(half(4), 2)
AssertionError: 3 != 2

----------------------------------------------------------------------
Ran 3 tests in 0.001s

FAILED (failures=1, errors=1)
"#;

    #[test]
    fn a_report_is_understood() {
        let outcome = parse(REPORT);
        assert_eq!(outcome.ran, 3);
        let names: Vec<_> = outcome.failures.iter().map(|f| f.test.as_str()).collect();
        assert_eq!(names, ["tests.test_x.XTest.test_b", "tests.test_x.XTest.test_a"]);
        let [first, second] = &outcome.failures[..] else { panic!("two failures") };
        assert_eq!((first.message.as_str(), first.frames.len()), ("ZeroDivisionError: division by zero", 2));
        assert_eq!((first.frames[1].line, first.frames[1].source.as_str()), (2, "return 1 / n"));
        assert_eq!((second.message.as_str(), second.frames.len()), ("AssertionError: 3 != 2", 1));
        assert_eq!(outcome.last_words, "FAILED (failures=1, errors=1)");
    }

    #[test]
    fn no_report_is_no_success() {
        let outcome = parse("sh: python3: not found\n");
        assert_eq!((outcome.ran, outcome.passed), (0, false));
        assert_eq!(outcome.last_words, "sh: python3: not found");
    }

    #[tokio::test]
    async fn a_real_suite_runs_whole_and_in_part() {
        let dir = TempDir::new("orchestrator-suite").expect("made");
        scratch::make_with(dir.path(), CATALOGUE[0]).await.expect("made");
        let limit = Duration::from_secs(30);
        let whole = run(dir.path(), &[], false, limit).await.expect("runs");
        assert!(whole.ran > 50 && !whole.passed && !whole.failures.is_empty());
        let names: Vec<String> = whole.failures.into_iter().map(|failure| failure.test).collect();
        let part = run(dir.path(), &names, false, limit).await.expect("runs");
        assert_eq!((part.ran as usize, part.failures.len()), (names.len(), names.len()));
        assert!(!dir.path().join("shop/__pycache__").exists());
    }

    #[tokio::test]
    async fn a_suite_that_never_ends_is_ended() {
        let dir = TempDir::new("orchestrator-suite").expect("made");
        let source =
            "import time, unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        time.sleep(60)\n";
        std::fs::write(dir.path().join("test_slow.py"), source).expect("written");
        let outcome = run(dir.path(), &[], false, Duration::from_millis(700)).await.expect("runs");
        assert!(outcome.timed_out && !outcome.passed);
    }
}
