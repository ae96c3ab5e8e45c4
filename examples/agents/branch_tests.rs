//! One commit or none, however often and however late.

use super::*;
use crate::plants::CATALOGUE;
use crate::scratch;

/// The scratch repository without its bug.
async fn healthy() -> TempDir {
    let dir = TempDir::new("orchestrator-branch").expect("made");
    scratch::make_healthy(dir.path()).await.expect("made");
    dir
}

async fn work(repo: &Path, task: &str) -> Result<Landed<u32>, WorkError> {
    let place = Workplace::new(repo, "feature", task).await?;
    if let Some(done) = place.find().await? {
        return Ok(done);
    }
    std::fs::write(place.path().join("shop/more.py"), "MORE = 1\n")?;
    let tests = place.after().await?;
    place.land("More", tests).await
}

#[tokio::test]
async fn a_second_attempt_finds_the_commit_of_the_first() {
    let dir = healthy().await;
    let first = work(dir.path(), "t1").await.expect("landed");
    assert_eq!((first.branch.as_str(), first.outcome), ("feature/t1", 61));
    git(dir.path(), &["switch", "--quiet", "main"]).await.expect("git");
    let second = work(dir.path(), "t1").await.expect("found");
    assert_eq!(first, second);
    assert_eq!(git(dir.path(), &["rev-list", "--count", "--all"]).await.expect("git"), "2");
    assert_eq!(git(dir.path(), &["branch", "--show-current"]).await.expect("git"), "feature/t1");
}

#[tokio::test]
async fn a_branch_of_somebody_else_is_left_alone() {
    let dir = healthy().await;
    git(dir.path(), &["branch", "feature/t1"]).await.expect("git");
    let error = work(dir.path(), "t1").await.expect_err("taken");
    assert!(matches!(error, WorkError::BranchTaken(_)) && error.is_final(), "{error}");
}

#[tokio::test]
async fn a_repository_that_went_on_gets_nothing() {
    let dir = healthy().await;
    let place = Workplace::new(dir.path(), "feature", "t1").await.expect("copied");
    std::fs::write(place.path().join("new"), "x").expect("written");
    git(dir.path(), &["commit", "--quiet", "--allow-empty", "-m", "meanwhile"]).await.expect("git");
    let error = place.land("New", 0).await.expect_err("moved");
    assert!(matches!(error, WorkError::Moved(_)) && !error.is_final(), "{error}");
    assert_eq!(git(dir.path(), &["branch", "--list", "feature/*"]).await.expect("git"), "");
    std::fs::write(dir.path().join("mine"), "x").expect("written");
    let error = Workplace::new(dir.path(), "feature", "t1").await.expect_err("in use");
    assert!(matches!(error, WorkError::Unclean(_)), "{error}");
}

#[tokio::test]
async fn failing_tests_are_no_measure() {
    let dir = TempDir::new("orchestrator-branch").expect("made");
    scratch::make_with(dir.path(), CATALOGUE[0]).await.expect("made");
    let place = Workplace::new(dir.path(), "feature", "t1").await.expect("copied");
    let error = place.before().await.expect_err("fails");
    assert!(error.to_string().contains("tests.test_bookings"), "{error}");
}
