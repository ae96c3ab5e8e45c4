//! Planted bugs, found and repaired without knowing what was planted.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use orchestrator_examples::git::git;
use orchestrator_examples::plants::{CATALOGUE, Plant};
use orchestrator_examples::repair::{Plan, Progress, Repair, RepairError, repair};
use orchestrator_examples::scratch;
use orchestrator_examples::tempdir::TempDir;

/// Whether the suite passes, as somebody would run it by hand.
fn passes(repo: &Path) -> bool {
    let run = Command::new("python3")
        .args(["-m", "unittest", "-q"])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(repo)
        .output();
    run.expect("python3").status.success()
}

async fn say(repo: &Path, args: &[&str]) -> String {
    git(repo, args).await.expect("git")
}

/// Plants a bug, has it repaired, and holds the result against everything that was promised.
async fn plant_and_repair(plant: Plant) -> (Repair, bool, Duration) {
    let dir = TempDir::new("orchestrator-repaired").expect("made");
    let repo = dir.path();
    let planted = scratch::make_with(repo, plant).await.expect("made");
    assert!(!passes(repo), "no test notices {plant:?}");
    let started = Instant::now();
    let plan = Plan::new("01-Test");
    let done = repair(repo, &plan, &|_| {}).await.unwrap_or_else(|error| panic!("{plant:?}: {error}"));
    let took = started.elapsed();
    assert!(passes(repo), "{plant:?} was not repaired by {done:?}");
    assert_eq!(done.branch, "fix/01-test");
    assert_eq!(say(repo, &["branch", "--show-current"]).await, done.branch);
    assert_eq!(say(repo, &["rev-parse", &done.branch]).await, done.commit);
    assert_eq!(say(repo, &["rev-parse", "HEAD^"]).await, planted.commit);
    assert_eq!(say(repo, &["status", "--porcelain", "--ignored"]).await, "");
    let numbers = say(repo, &["diff", "--numstat", "HEAD^", "HEAD"]).await;
    assert_eq!(numbers, format!("1\t1\t{}", done.file.display()));
    let message = say(repo, &["log", "-1", "--format=%B"]).await;
    assert!(message.contains(done.after.trim()) && message.contains("tests.test_"), "{message}");
    let exact = done.after.contains(plant.before) && done.file == Path::new(plant.file);
    (done, exact, took)
}

/// Repairs all of these one after the other, and prints how it went.
async fn repair_all(plants: impl Iterator<Item = Plant>) {
    let mut exact = 0;
    let mut count = 0;
    for plant in plants {
        let (done, same, took) = plant_and_repair(plant).await;
        count += 1;
        exact += usize::from(same);
        let (tried, file) = (done.candidates_tried, done.file.display());
        eprintln!("{:?} {file}:{} {tried} tried, {took:.1?}, {}", plant.kind, done.line, done.after.trim());
        assert!(took < Duration::from_secs(90), "{plant:?} took {took:?}");
    }
    eprintln!("{count} repaired, {exact} to the very line that was there");
    assert!(exact * 5 >= count * 4, "only {exact} of {count} are what was there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_seeds_are_repaired() {
    repair_all((1..=8).map(Plant::drawn)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "walks the whole catalogue, which takes minutes"]
async fn every_plant_is_repaired() {
    repair_all(CATALOGUE.iter().copied()).await;
}

#[tokio::test]
async fn progress_is_told_in_order() {
    let dir = TempDir::new("orchestrator-progress").expect("made");
    scratch::make(dir.path(), 5).await.expect("made");
    let told = Mutex::new(Vec::new());
    let note = |progress| told.lock().expect("not poisoned").push(progress);
    let done = repair(dir.path(), &Plan::new("progress"), &note).await.expect("repaired");
    let told = told.into_inner().expect("not poisoned");
    let [Progress::Ran { tests, failing }, Progress::Planned { .. }, .., Progress::Found { file, line }] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert!(*tests == done.tests_passed && !failing.is_empty());
    assert_eq!((file, *line), (&done.file, done.line));
}

#[tokio::test]
async fn a_second_attempt_finds_the_repair_of_the_first() {
    let dir = TempDir::new("orchestrator-again").expect("made");
    scratch::make(dir.path(), 8).await.expect("made");
    let first = repair(dir.path(), &Plan::new("t1"), &|_| {}).await.expect("repaired");
    say(dir.path(), &["switch", "--quiet", "main"]).await;
    let second = repair(dir.path(), &Plan::new("t1"), &|_| {}).await.expect("found again");
    assert_eq!(first, second);
    assert_eq!(say(dir.path(), &["branch", "--show-current"]).await, "fix/t1");
    let other = repair(dir.path(), &Plan::new("t2"), &|_| {}).await.expect_err("all pass");
    assert!(matches!(other, RepairError::AllPass(61)), "{other}");
}

#[tokio::test]
async fn what_cannot_be_repaired_is_left_as_it_was() {
    let dir = TempDir::new("orchestrator-hopeless").expect("made");
    let repo = dir.path();
    let test = "import unittest\nfrom one import one\n\nclass T(unittest.TestCase):\n    \
                def test_a(self):\n        self.assertEqual(one(), 'no number')\n";
    std::fs::write(repo.join("one.py"), "def one():\n    return 1\n").expect("written");
    std::fs::write(repo.join("test_one.py"), test).expect("written");
    say(repo, &["init", "--quiet", "--template="]).await;
    say(repo, &["add", "--all"]).await;
    say(repo, &["commit", "--quiet", "-m", "hopeless"]).await;
    let head = say(repo, &["rev-parse", "HEAD"]).await;
    let error = repair(repo, &Plan::new("t"), &|_| {}).await.expect_err("hopeless");
    assert!(matches!(error, RepairError::NotFound { tried: 1.., .. }) && error.is_final(), "{error}");
    assert_eq!(
        say(repo, &["for-each-ref", "--format=%(objectname) %(refname)"]).await,
        format!("{head} refs/heads/main")
    );
    assert_eq!(say(repo, &["status", "--porcelain", "--ignored"]).await, "");

    std::fs::write(repo.join("one.py"), "mine\n").expect("written");
    let error = repair(repo, &Plan::new("t"), &|_| {}).await.expect_err("in use");
    assert!(matches!(error, RepairError::Unclean(_)), "{error}");
    assert_eq!(std::fs::read_to_string(repo.join("one.py")).expect("read"), "mine\n");
}

#[tokio::test]
async fn without_a_suite_there_is_no_verdict() {
    let dir = TempDir::new("orchestrator-untested").expect("made");
    say(dir.path(), &["init", "--quiet", "--template="]).await;
    say(dir.path(), &["commit", "--quiet", "--allow-empty", "-m", "nothing"]).await;
    let error = repair(dir.path(), &Plan::new("t"), &|_| {}).await.expect_err("no tests");
    assert!(matches!(error, RepairError::AllPass(0) | RepairError::NoVerdict(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_that_is_called_off_leaves_nothing_behind() {
    let dir = TempDir::new("orchestrator-called-off").expect("made");
    let repo = dir.path();
    let head = scratch::make(repo, 2).await.expect("made").commit;
    for milliseconds in [50, 250, 450] {
        let limit = Duration::from_millis(milliseconds);
        let plan = Plan::new("called-off");
        if tokio::time::timeout(limit, repair(repo, &plan, &|_| {})).await.is_ok() {
            break;
        }
        assert_eq!(say(repo, &["rev-parse", "HEAD"]).await, head);
        assert_eq!(say(repo, &["status", "--porcelain", "--ignored"]).await, "");
        assert_eq!(say(repo, &["branch", "--list", "fix/*"]).await, "");
    }
}
