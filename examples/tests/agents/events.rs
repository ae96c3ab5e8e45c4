//! The chain of events: what is told starts one task each, however often it is told and whoever dies meanwhile.

use std::path::Path;
use std::time::Duration;

use orchestrator_examples::chain::Triggered;
use orchestrator_examples::knowledge::Knowledge;
use orchestrator_examples::service::{Service, Target};
use orchestrator_examples::tempdir::TempDir;
use orchestrator_examples::{http, scratch, server::Server};
use orchestrator_worker::{
    Approver, Ballot, Event, EventsFrom, Heard, NewEvent, Orchestrator, Priority, Status, Stop, Task, Worker, patterns,
};

use crate::begin;

/// The shop in a folder, with a bug, and a site for it if somebody serves that.
async fn shop(dir: &Path, environment: &str, server: Option<&Server>) -> Service {
    let repo = dir.join("repo");
    scratch::make(&repo, 4).await.expect("made");
    let target = server.map(|server| Target {
        site: dir.join("site"),
        address: Some(server.address()),
        environment: environment.into(),
        kb: Some(dir.join("kb")),
    });
    Service { name: "shop".into(), repo, target }
}

/// The alert, told by somebody who is no agent.
fn alarm(service: Service) -> NewEvent {
    let told = Triggered { service, summary: "readers complain".into(), suspects: vec![] };
    NewEvent::new("alert.triggered", &told).source("ann")
}

/// Everything that was told of a pattern so far.
async fn told(orch: &Orchestrator, pattern: &str) -> Vec<Event> {
    let mut events = orch.events(&patterns(pattern).expect("a pattern"), EventsFrom::Oldest);
    let mut found = Vec::new();
    while let Some(heard) = events.next_if_any().await.expect("read") {
        match heard {
            Heard::Event(event) => found.push(*event),
            Heard::Gap => panic!("a gap"),
        }
    }
    found
}

/// All tasks that were ever created, in that order.
async fn created(orch: &Orchestrator) -> Vec<Task> {
    let mut tasks = Vec::new();
    for event in told(orch, "task.created").await {
        tasks.push(orch.get(event.task_id.expect("of a task")).await.expect("known"));
    }
    tasks
}

/// The first task of a type that is in this state.
async fn until(orch: &Orchestrator, task_type: &str, status: Status) -> Task {
    for _ in 0..6000 {
        if let Some(task) = created(orch).await.into_iter().find(|task| task.task_type == task_type)
            && task.status == status
        {
            return task;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no {task_type} is {status} after a minute");
}

fn types(tasks: &[Task]) -> Vec<&str> {
    tasks.iter().map(|task| task.task_type.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_that_is_told_twice_starts_one_repair() {
    let (orch, stop) = begin().await;
    let dir = TempDir::new("orchestrator-events").expect("made");
    let service = shop(dir.path(), "staging", None).await;
    up(&orch).await;
    let id = orch.publish(&alarm(service.clone())).await.expect("told");
    let again = alarm(service.clone()).id(id.parse().expect("an id"));
    assert_eq!(orch.publish(&again).await.expect("told already"), id);
    let bugfix = until(&orch, "bugfix", Status::Completed).await;
    assert_eq!((bugfix.requested_by.as_deref(), bugfix.parent_task_id), (Some("ann"), None));
    // Events are handled in order: when this one has been, a second of the alert would have been too.
    let last = alarm(Service { repo: "/nowhere/at-all".into(), ..service });
    orch.publish(&last).await.expect("told");
    let failed = loop {
        let tasks = created(&orch).await;
        if let [_, failed] = &tasks[..] {
            break failed.clone();
        }
        assert!(tasks.len() < 3, "{:?}", types(&tasks));
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(failed.payload["repo"], "/nowhere/at-all");
    // A service that is deployed nowhere: the commit is told, and nothing follows.
    assert_eq!(told(&orch, "pr.merged").await.len(), 1);
    stop.now();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chain_goes_on_with_another_worker_and_nothing_happens_twice() {
    let (orch, stop) = begin().await;
    let dir = TempDir::new("orchestrator-events").expect("made");
    let server = Server::start(&dir.path().join("site")).await.expect("started");
    let service = shop(dir.path(), "staging", Some(&server)).await;
    up(&orch).await;
    orch.publish(&alarm(service)).await.expect("told");
    until(&orch, "bugfix", Status::InProgress).await;
    // In the middle of the repair; it is given back and begun anew.
    stop.now();
    until(&orch, "bugfix", Status::Assigned).await;
    let second = Stop::new();
    let worker = |stop: &Stop| {
        let worker = Worker::builder(orch.clone()).slots(4).build().expect("nine handlers");
        tokio::spawn(worker.run_until(stop.clone()))
    };
    let running = worker(&second);
    // As soon as the commit is told, whatever is under way then.
    until(&orch, "bugfix", Status::Completed).await;
    second.now();
    running.await.expect("ended").expect("left");
    let third = Stop::new();
    let running = worker(&third);
    let update = until(&orch, "kb_update", Status::Completed).await;
    let tasks = created(&orch).await;
    assert_eq!(types(&tasks), ["bugfix", "deploy", "kb_update"]);
    let chain = told(&orch, "alert.*, pr.*, deploy.*").await;
    let names: Vec<&str> = chain.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(names, ["alert.triggered", "pr.merged", "deploy.succeeded"]);
    assert!(chain.iter().all(|event| event.trace_id == update.trace_id));
    assert_eq!(tasks[1].requested_by.as_deref(), Some("ann"));
    let parents: Vec<_> = tasks.iter().map(|task| task.parent_task_id).collect();
    assert_eq!(parents, [None, Some(tasks[0].task_id), Some(tasks[1].task_id)]);
    let release = tasks[1].task_id.to_string();
    let page = http::get(server.address(), "/").await.expect("served");
    assert_eq!((page.status, page.release.as_deref()), (200, Some(release.as_str())));
    let knowledge = Knowledge::open(&dir.path().join("kb")).expect("there");
    let known = knowledge.ask("Which release is live in staging?").expect("asked").expect("known");
    assert!(known.text.contains(&release), "{}", known.text);
    third.drain();
    running.await.expect("ended").expect("left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_tells_of_an_alert_cannot_approve_what_it_leads_to() {
    let (orch, stop) = begin().await;
    let dir = TempDir::new("orchestrator-events").expect("made");
    let server = Server::start(&dir.path().join("site")).await.expect("started");
    let service = shop(dir.path(), "production", Some(&server)).await;
    up(&orch).await;
    orch.publish(&alarm(service)).await.expect("told");
    let deploy = until(&orch, "deploy", Status::Blocked).await;
    assert_eq!((deploy.requested_by.as_deref(), deploy.priority), (Some("ann"), Priority::P2));
    assert_eq!(deploy.metadata["environment"], "production");
    let approval = deploy.approval_id.expect("asked");
    let vote = |name: &str| Ballot::approve(Approver::named(name));
    let error = orch.decide(approval, &vote("ann")).await.expect_err("her own");
    assert!(error.to_string().contains("ann submitted the task"), "{error}");
    orch.decide(approval, &vote("ben")).await.expect("somebody else's");
    stop.now();
}

/// Waits until the worker is there, and with it the groups that handle events.
async fn up(orch: &Orchestrator) {
    while orch.stats().await.expect("asked").workers == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
