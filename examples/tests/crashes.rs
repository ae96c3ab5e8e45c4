//! The deployment, with a worker that dies at every await of it.

use orchestrator_examples::deploy::{Deploy, deploy};
use orchestrator_examples::server::Server;
use orchestrator_examples::tempdir::TempDir;
use orchestrator_examples::{http, scratch};
use orchestrator_worker::testing::Harness;

#[orchestrator_worker::test]
async fn a_deployment_to_production_survives_the_death_of_its_worker_at_every_await(h: Harness) {
    let dir = TempDir::new("orchestrator-crashes").expect("made");
    let (repo, site) = (dir.path().join("repo"), dir.path().join("site"));
    scratch::make_healthy(&repo).await.expect("made");
    let server = Server::start(&site).await.expect("started");
    let address = server.address();
    let task = || {
        // Each run begins with an empty site.
        let _ = std::fs::remove_dir_all(&site);
        std::fs::create_dir_all(&site).expect("made");
        let (repo, site) = (repo.clone(), site.clone());
        deploy::with(Deploy {
            repo,
            rev: "main".into(),
            site,
            address: Some(address),
            environment: "production".into(),
        })
    };
    let h = h.register::<deploy>();
    let sweep = h.crash_everywhere(task, |run| async move {
        run.until_parked().await.expect("a question: what was built is for production");
        // Readers see nothing of it while people think it over.
        assert_eq!(http::get(address, "/").await.expect("answered").status, 503);
        run.advance("3h").await;
        run.approve_as("reviewer").await;
        let deployed = run.finish().await.expect("live");
        let page = http::get(address, "/").await.expect("served");
        assert_eq!((page.status, page.release), (200, Some(run.id().to_string())));
        assert_eq!(deployed.live.release, run.id().to_string());
    });
    let sweep = sweep.await;
    eprintln!("{sweep}");
    assert!(sweep.points > 10, "a build and a switch await more often than that");
    assert_eq!(sweep.steps.len(), 3);
}
