//! `deploy` as a task.

use std::path::Path;

use orchestrator_examples::deploy::{Deploy, deploy};
use orchestrator_examples::git::git;
use orchestrator_examples::plants::CATALOGUE;
use orchestrator_examples::releases::{State, read_note};
use orchestrator_examples::rollout::sha256;
use orchestrator_examples::server::Server;
use orchestrator_examples::tempdir::TempDir;
use orchestrator_examples::{http, scratch};
use orchestrator_worker::{Error, Status};

use crate::begin;

fn release(dir: &Path, rev: &str, server: &Server) -> Deploy {
    let (repo, site, address) = (dir.join("repo"), dir.join("site"), Some(server.address()));
    Deploy { repo, rev: rev.to_owned(), site, address, environment: "staging".into(), kb: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_build_is_taken_back_and_stays_so_when_it_is_retried() {
    let (orch, stop) = begin().await;
    let dir = TempDir::new("orchestrator-deploy").expect("made");
    let (repo, site) = (dir.path().join("repo"), dir.path().join("site"));
    scratch::make_healthy(&repo).await.expect("made");
    let plant = CATALOGUE[0];
    let source = std::fs::read_to_string(repo.join(plant.file)).expect("read");
    let server = Server::start(&site).await.expect("started");
    let good = orch.enqueue(deploy::with(release(dir.path(), "main", &server))).await.expect("submitted");
    let deployed = good.result().await.expect("live");
    assert_eq!((deployed.environment.as_str(), deployed.live.release.clone()), ("staging", good.id().to_string()));
    let page = http::get(server.address(), "/").await.expect("served");
    assert_eq!(sha256(&page.body), deployed.live.sha256);

    std::fs::write(repo.join(plant.file), source.replace(plant.before, plant.after)).expect("written");
    git(&repo, &["commit", "--quiet", "--all", "-m", "a bug"]).await.expect("git");
    let bad = orch.enqueue(deploy::with(release(dir.path(), "HEAD", &server))).await.expect("submitted");
    for life in ["first", "second"] {
        let error = bad.result().await.expect_err(life);
        assert!(error.to_string().contains(&format!("rolled back to {}", good.id())), "{life}: {error}");
        let task = bad.task().await.expect("known");
        assert_eq!((task.status, task.reason.as_deref()), (Status::Failed, Some("fatal")));
        assert_eq!(http::get(server.address(), "/").await.expect("served"), page);
        let note = read_note(&site, &bad.id().to_string()).expect("read").expect("noted");
        assert_eq!((note.state, note.previous), (State::RolledBack, Some(good.id().to_string())));
        if life == "first" {
            orch.retry(bad.id()).await.expect("a new life");
        }
    }
    stop.drain();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_is_cancelled_is_seen_by_nobody() {
    let (orch, stop) = begin().await;
    let dir = TempDir::new("orchestrator-deploy").expect("made");
    let (repo, site) = (dir.path().join("repo"), dir.path().join("site"));
    std::fs::create_dir(&repo).expect("made");
    let endless = "import time, unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        time.sleep(50)\n";
    std::fs::write(repo.join("test_endless.py"), endless).expect("written");
    for args in [&["init", "--quiet", "--template="][..], &["add", "--all"], &["commit", "--quiet", "-m", "endless"]] {
        git(&repo, args).await.expect("git");
    }
    let server = Server::start(&site).await.expect("started");
    let handle = orch.enqueue(deploy::with(release(dir.path(), "main", &server))).await.expect("submitted");
    let draft = site.join("releases").join(format!(".{}", handle.id()));
    while !draft.is_dir() {
        tokio::task::yield_now().await;
    }
    handle.cancel().await.expect("asked for");
    let error = handle.result().timeout("20s").await.expect_err("cancelled");
    assert!(matches!(error, Error::TaskEnded { status: Status::Cancelled, .. }), "{error}");
    assert!(!site.join("current").exists() && !site.join("releases").join(handle.id().to_string()).exists());
    assert_eq!(http::get(server.address(), "/").await.expect("answered").status, 503);
    stop.drain();
}
