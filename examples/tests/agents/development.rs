//! `feature` and `refactor` as tasks.

use std::path::Path;

use orchestrator_examples::feature::{Feature, feature};
use orchestrator_examples::git::git;
use orchestrator_examples::plants::CATALOGUE;
use orchestrator_examples::refactor::{Refactor, refactor};
use orchestrator_examples::rename::Rename;
use orchestrator_examples::scratch;
use orchestrator_examples::synthesis::{Example, Spec};
use orchestrator_examples::tempdir::TempDir;
use orchestrator_worker::{Error, Status};
use serde_json::json;

use crate::begin;

fn wanted(repo: &Path, examples: &[(i64, i64)]) -> Feature {
    let example = |(arg, result): &(i64, i64)| Example { args: vec![json!(arg)], result: json!(result) };
    let spec = Spec {
        name: "tens".into(),
        doc: "Whole tens of so many minutes.".into(),
        parameters: vec!["minutes".into()],
        examples: examples.iter().map(example).collect(),
    };
    Feature { repo: repo.to_owned(), module: "shop/bookings.py".into(), spec, environment: "staging".into() }
}

fn renaming(repo: &Path, function: &str, to: &str) -> Refactor {
    let rename = Rename { function: function.into(), parameter: None, to: to.into() };
    Refactor { repo: repo.to_owned(), rename, environment: "staging".into() }
}

async fn say(repo: &Path, args: &[&str]) -> String {
    git(repo, args).await.expect("git")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feature_and_a_refactoring_follow_each_other() {
    let (orch, stop) = begin().await;
    let dir = TempDir::new("orchestrator-development").expect("made");
    let repo = dir.path();
    let head = scratch::make_healthy(repo).await.expect("made");
    let args = wanted(repo, &[(0, 0), (9, 0), (10, 1), (25, 2), (100, 10)]);
    let handle = orch.enqueue(feature::with(args)).await.expect("submitted");
    let added = handle.result().await.expect("added");
    assert_eq!((added.branch.as_str(), added.tests_passed), (format!("feature/{}", handle.id()).as_str(), 66));
    assert_eq!(added.expression, "minutes // 10");
    let handle = orch.enqueue(refactor::with(renaming(repo, "tens", "tens_of"))).await.expect("submitted");
    let renamed = handle.result().await.expect("renamed");
    let files: Vec<_> =
        renamed.files.iter().map(|file| (file.path.to_str().unwrap_or_default(), file.places)).collect();
    assert_eq!(files, [("shop/bookings.py", 1), ("tests/test_tens.py", 6)]);
    assert_eq!(renamed.tests_passed, 66);
    let log = say(repo, &["log", "--format=%H", &renamed.branch]).await;
    assert_eq!(log, format!("{}\n{}\n{head}", renamed.commit, added.commit));
    assert!(say(repo, &["log", "-1", "--format=%B"]).await.contains(&format!("Task-Id: {}", handle.id())));
    assert_eq!(say(repo, &["status", "--porcelain", "--ignored"]).await, "");
    stop.drain();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_safely_fails_at_once_and_commits_nothing() {
    let (orch, stop) = begin().await;
    let [healthy, broken] = ["a", "b"].map(|_| TempDir::new("orchestrator-development").expect("made"));
    scratch::make_healthy(healthy.path()).await.expect("made");
    scratch::make_with(broken.path(), CATALOGUE[0]).await.expect("made");
    for (args, why) in [
        (renaming(healthy.path(), "clashes", "merge"), "merge is a name in"),
        (renaming(healthy.path(), "nothing", "something"), "0 functions are called nothing"),
        (renaming(broken.path(), "clashes", "conflicts"), "do not pass as they are"),
    ] {
        let handle = orch.enqueue(refactor::with(args)).await.expect("submitted");
        let error = handle.result().await.expect_err(why);
        assert!(error.to_string().contains(why), "{error}");
        let task = handle.task().await.expect("known");
        assert_eq!((task.attempt, task.reason.as_deref()), (1, Some("fatal")));
    }
    let handle = orch.enqueue(feature::with(wanted(broken.path(), &[(1, 1), (2, 2)]))).await.expect("submitted");
    assert!(handle.result().await.expect_err("broken").to_string().contains("do not pass as they are"));
    for dir in [healthy, broken] {
        assert_eq!(say(dir.path(), &["rev-list", "--count", "--all"]).await, "1");
        assert_eq!(say(dir.path(), &["status", "--porcelain"]).await, "");
    }
    stop.drain();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_that_is_cancelled_leaves_the_repository_alone() {
    let (orch, stop) = begin().await;
    let dir = TempDir::new("orchestrator-development").expect("made");
    scratch::make_healthy(dir.path()).await.expect("made");
    // No expression does this; it would be looked for until its time is over.
    let args = wanted(dir.path(), &[(1, 2), (1, 3), (7, 424_242)]);
    let handle = orch.enqueue(feature::with(args)).await.expect("submitted");
    while handle.task().await.expect("known").status != Status::InProgress {
        tokio::task::yield_now().await;
    }
    handle.cancel().await.expect("asked for");
    let error = handle.result().timeout("20s").await.expect_err("cancelled");
    assert!(matches!(error, Error::TaskEnded { status: Status::Cancelled, .. }), "{error}");
    assert_eq!(say(dir.path(), &["rev-list", "--count", "--all"]).await, "1");
    stop.drain();
}
