//! The deployment and the alert, with a worker that dies at every await of them.

use orchestrator_examples::alert::{Alert, alert};
use orchestrator_examples::chain::Investigated;
use orchestrator_examples::deploy::{Deploy, deploy};
use orchestrator_examples::figures::Finding;
use orchestrator_examples::server::Server;
use orchestrator_examples::service::Service;
use orchestrator_examples::tempdir::TempDir;
use orchestrator_examples::{http, scratch};
use orchestrator_worker::testing::Harness;
use orchestrator_worker::{EventsFrom, Heard, NewEvent, Orchestrator, TaskId, patterns};

/// How often an event of this type was told about a task.
async fn told(orch: &Orchestrator, event_type: &str, task: TaskId) -> usize {
    let mut events = orch.events(&patterns(event_type).expect("a pattern"), EventsFrom::Oldest);
    let mut found = 0;
    while let Some(heard) = events.next_if_any().await.expect("read") {
        found += usize::from(matches!(heard, Heard::Event(event) if event.task_id == Some(task)));
    }
    found
}

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
            kb: None,
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
        assert_eq!(told(run.harness().orchestrator(), "deploy.succeeded", run.id()).await, 1);
    });
    let sweep = sweep.await;
    eprintln!("{sweep}");
    assert!(sweep.points > 10, "a build and a switch await more often than that");
    assert_eq!(sweep.steps.len(), 4);
}

#[orchestrator_worker::test]
async fn an_alert_survives_the_death_of_its_worker_at_every_await(h: Harness) {
    let dir = TempDir::new("orchestrator-crashes").expect("made");
    let task = || {
        let service = Service { name: "shop".into(), repo: dir.path().to_owned(), target: None };
        let finding = Finding { subject: "load".into(), measured: 9.0, threshold: 1.5, message: "much load".into() };
        alert::with(Alert { service, findings: vec![finding] })
    };
    // Nobody here investigates; the test tells what came of it.
    let h = h.register::<alert>();
    let sweep = h.crash_everywhere(task, |run| async move {
        assert_eq!(run.until_parked().await, None);
        let orch = run.harness().orchestrator();
        let [child] = run.task().await.child_task_ids[..] else { panic!("one child") };
        assert_eq!(told(orch, "alert.triggered", run.id()).await, 0);
        let done = Investigated { failing: 2, suspects: vec![] };
        orch.publish(&NewEvent::new("investigation.done", &done).task(child)).await.expect("told");
        let raised = run.finish().await.expect("raised");
        assert_eq!(raised.failing, 2);
        assert_eq!(told(orch, "alert.triggered", run.id()).await, 1);
    });
    let sweep = sweep.await;
    eprintln!("{sweep}");
    assert_eq!(sweep.steps.len(), 3);
}
