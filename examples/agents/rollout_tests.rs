//! Deployments that go well, that go wrong, and that are gone on with by a second attempt.

use super::*;
use crate::git::git;
use crate::plants::CATALOGUE;
use crate::scratch;
use crate::tempdir::TempDir;

/// A folder with a repository whose first commit has a bug and whose second, `main`, has none.
async fn repository() -> (TempDir, String) {
    let dir = TempDir::new("orchestrator-rollout").expect("made");
    let repo = dir.path().join("repo");
    let broken = scratch::make_with(&repo, CATALOGUE[0]).await.expect("made").commit;
    let module = repo.join(CATALOGUE[0].file);
    let source = std::fs::read_to_string(&module).expect("read");
    std::fs::write(&module, source.replace(CATALOGUE[0].after, CATALOGUE[0].before)).expect("written");
    git(&repo, &["commit", "--quiet", "--all", "-m", "repaired"]).await.expect("git");
    (dir, broken)
}

fn plan(dir: &TempDir, task: &str, rev: &str, address: Option<SocketAddr>) -> Plan {
    Plan {
        task: task.to_owned(),
        repo: dir.path().join("repo"),
        rev: rev.to_owned(),
        site: dir.path().join("site"),
        environment: "staging".to_owned(),
        address,
    }
}

async fn deploy(plan: Plan) -> Result<Live, RolloutError> {
    prepare(plan).await?.go_live().await
}

#[tokio::test]
async fn a_broken_build_is_rolled_back_and_the_good_one_served_on() {
    let (dir, broken) = repository().await;
    std::fs::create_dir_all(dir.path().join("site")).expect("made");
    let server = Server::start(&dir.path().join("site")).await.expect("started");
    let address = Some(server.address());
    let good = deploy(plan(&dir, "t1", "main", address)).await.expect("deployed");
    assert_eq!((good.release.as_str(), good.previous.as_ref(), good.tests), ("t1", None, 61));
    let page = get(server.address(), "/").await.expect("served");
    assert_eq!((sha256(&page.body), page.body.len()), (good.sha256.clone(), good.bytes));
    assert!(String::from_utf8_lossy(&page.body).contains(&good.commit));

    let error = deploy(plan(&dir, "t2", &broken, address)).await.expect_err("broken");
    assert!(error.is_final());
    assert!(error.to_string().starts_with("/health answered 503: "), "{error}");
    assert!(error.to_string().ends_with(" of 61 tests do not pass; rolled back to t1"), "{error}");
    let served = get(server.address(), "/").await.expect("served");
    assert_eq!((served.release.as_deref(), served.body), (Some("t1"), page.body));
    assert_eq!(get(server.address(), "/health").await.expect("served").status, 200);

    // A second attempt at either learns how it ended, and changes nothing.
    assert_eq!(deploy(plan(&dir, "t1", "main", address)).await.expect("live"), good);
    let again = deploy(plan(&dir, "t2", &broken, address)).await.expect_err("still broken");
    assert_eq!(again.to_string(), error.to_string());
    assert_eq!(get(server.address(), "/").await.expect("served").release.as_deref(), Some("t1"));
}

#[tokio::test]
async fn the_first_release_of_all_is_taken_back_to_none() {
    let (dir, broken) = repository().await;
    let error = deploy(plan(&dir, "t1", &broken, None)).await.expect_err("broken");
    assert!(matches!(error, RolloutError::RolledBack { previous: None, .. }), "{error}");
    assert!(!dir.path().join("site/current").exists());
    let error = deploy(plan(&dir, "t2", "no-such-branch", None)).await.expect_err("no commit");
    assert!(error.is_final() && error.to_string().contains("no-such-branch"), "{error}");
}

#[tokio::test]
async fn an_attempt_that_was_lost_is_gone_on_with() {
    let (dir, _) = repository().await;
    deploy(plan(&dir, "t1", "main", None)).await.expect("deployed");
    let lost = |task: &str, previous: &str| Note {
        release: task.to_owned(),
        commit: "unknown".to_owned(),
        state: State::Switched,
        previous: Some(previous.to_owned()),
        why: None,
    };
    // Lost after the note and before the switch; then after the switch.
    for (task, previous, switched) in [("t2", "t1", false), ("t3", "t2", true)] {
        let prepared = prepare(plan(&dir, task, "main", None)).await.expect("built");
        prepared.releases.write_note(&lost(task, previous)).expect("written");
        if switched {
            prepared.releases.switch(Some(task)).expect("switched");
        }
        drop(prepared);
        let live = deploy(plan(&dir, task, "main", None)).await.expect("gone on with");
        assert_eq!((live.release.as_str(), live.previous.as_deref()), (task, Some(previous)));
    }
    // Lost, and another one went live since: it is not pushed aside.
    let prepared = prepare(plan(&dir, "t4", "main", None)).await.expect("built");
    prepared.releases.write_note(&lost("t4", "t1")).expect("written");
    drop(prepared);
    let error = deploy(plan(&dir, "t4", "main", None)).await.expect_err("superseded");
    assert!(matches!(&error, RolloutError::Superseded(by) if by == "t3") && error.is_final(), "{error}");
}

#[tokio::test]
async fn a_server_of_something_else_is_no_proof() {
    let (dir, _) = repository().await;
    let other = TempDir::new("orchestrator-rollout").expect("made");
    let server = Server::start(other.path()).await.expect("started");
    let error = deploy(plan(&dir, "t1", "main", Some(server.address()))).await.expect_err("not served");
    assert!(error.to_string().contains("rolled back to no release"), "{error}");
    drop(server);
}
