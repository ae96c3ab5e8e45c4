//! How far tasks are, as their handlers say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use orchestrator::{ApprovalPolicy, Error, Incarnation, NewTask, Progress};
use orchestrator_tests::{Proxy, all_events, config, key, namespace, orch, raw, server, until, within};
use orchestrator_worker::testing::{Harness, Solo};
use orchestrator_worker::{
    Config, Data, Orchestrator, Status, Stop, TaskContext, TaskResult, Worker, WorkerBuilder, task_handler,
};
use redis::AsyncCommands;
use tokio::sync::Notify;

#[derive(Default)]
struct Bench {
    started: Notify,
    go: Notify,
    entered: AtomicU32,
}

type Shared = Arc<Bench>;

/// Says all of these one after the other, waits for leave, and says the last.
#[task_handler("saying", retries = 0)]
async fn saying(words: Vec<(f64, String)>, bench: Data<Shared>, ctx: TaskContext) -> TaskResult {
    for (fraction, note) in &words {
        ctx.progress(*fraction, note)?;
    }
    bench.started.notify_one();
    bench.go.notified().await;
    ctx.progress(1.0, "done")?;
    ctx.progress(1.0, "done")
}

#[task_handler("hasty", retries = 1, backoff = "fixed(1ms)")]
async fn hasty(how: String, ctx: TaskContext) -> TaskResult {
    let attempt = ctx.attempt();
    ctx.progress(0.1, "begun")?;
    // In the same turn: only the last of these is told.
    ctx.progress(0.2, "further")?;
    ctx.progress(f64::from(attempt) / 4.0, format!("attempt {attempt}"))?;
    match how.as_str() {
        "fail" if attempt == 1 => Err("not yet".into()),
        "wait" => {
            ctx.sleep("50ms").await;
            Ok(())
        }
        _ => Ok(()),
    }
}

#[task_handler("wrong", retries = 3)]
async fn wrong(number: f64, bench: Data<Shared>, ctx: TaskContext) -> TaskResult {
    bench.entered.fetch_add(1, Ordering::SeqCst);
    ctx.progress(number * 10.0, "")
}

fn builder(orch: &Orchestrator, bench: &Shared) -> WorkerBuilder {
    let builder = Worker::builder(orch.clone()).discover(false).data(Arc::clone(bench));
    builder.register::<saying>().register::<hasty>().register::<wrong>()
}

fn run(builder: WorkerBuilder) -> (Stop, tokio::task::JoinHandle<orchestrator_worker::Result>) {
    let stop = Stop::new();
    let worker = builder.build().expect("a fair worker");
    (stop.clone(), tokio::spawn(worker.run_until(stop)))
}

/// What was told of progress, in order.
async fn told(orch: &Orchestrator) -> Vec<(f64, String)> {
    let events = all_events(orch).await.into_iter().filter(|event| event.event_type == "task.progress");
    let told = |payload: serde_json::Value| {
        (payload["progress"].as_f64().unwrap(), payload["note"].as_str().unwrap().to_owned())
    };
    events.map(|event| told(event.payload)).collect()
}

fn word(fraction: f64, note: &str) -> (f64, String) {
    (fraction, note.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_word_is_shown_and_told_and_the_last_one_before_the_end() {
    let (orch, bench) = (orch().await, Shared::default());
    let (stop, running) = run(builder(&orch, &bench));
    let words = (0..1000).map(|n| word(f64::from(n) / 1000.0, "busy")).chain([word(0.5, "half"), word(0.5, "half")]);
    let task = orch.enqueue(saying::with(words.collect())).await.unwrap();
    bench.started.notified().await;
    until("the newest word", async || (orch.get(task.id()).await.unwrap().progress == Some(0.5)).then_some(())).await;
    bench.go.notify_one();
    task.result().await.unwrap();
    let told = told(&orch).await;
    // The first at once, as soon as the handler waits; the others are gathered.
    assert!(told.len() <= 3, "{told:?}");
    assert_eq!(told[told.len() - 2..], [word(0.5, "half"), word(1.0, "done")]);
    let events = all_events(&orch).await;
    let kinds: Vec<&str> = events.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(kinds[kinds.len() - 2..], ["task.progress", "task.completed"], "the last word comes before the end");
    let last = &events[events.len() - 2];
    assert_eq!((last.task_id, last.source_agent.as_str()), (Some(task.id()), "default"));
    assert_eq!(last.trace_id, task.task().await.unwrap().trace_id);
    stop.drain();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_of_a_failed_attempt_may_be_lost_and_those_before_a_wait_are_not() {
    let (orch, bench) = (orch().await, Shared::default());
    let (stop, running) = run(builder(&orch, &bench));
    orch.enqueue(hasty::with("fail".into())).await.unwrap().result().await.unwrap();
    assert_eq!(told(&orch).await, [word(0.5, "attempt 2")], "nothing is told of what failed before it could be");
    orch.enqueue(hasty::with("wait".into())).await.unwrap().result().await.unwrap();
    // Entered anew it says the same, and it is told anew: it is another attempt's word.
    assert_eq!(told(&orch).await[1..], [word(0.25, "attempt 1"), word(0.25, "attempt 1")]);
    stop.drain();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_fraction_fails_the_task_for_good_and_says_why() {
    let (orch, bench) = (orch().await, Shared::default());
    let (stop, running) = run(builder(&orch, &bench));
    for number in [0.2, -0.1, f64::MAX] {
        let task = orch.enqueue(wrong::with(number)).await.unwrap();
        let error = task.result().await.expect_err("no fraction").to_string();
        assert!(error.contains("progress is a number from 0 to 1, not "), "{error}");
        assert_eq!(task.task().await.unwrap().reason.as_deref(), Some("fatal"));
    }
    assert_eq!(bench.entered.load(Ordering::SeqCst), 3, "trying again does not help");
    let long = Progress::new(0.5, &"x".repeat(1001)).expect_err("too long").to_string();
    assert!(long.contains("at most 1000 bytes, not 1001"), "{long}");
    stop.drain();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_is_refused_and_a_worker_keeps_its_lease() {
    let orch = orch().await;
    let queues = ["default".to_owned()];
    let lease = Duration::from_millis(50);
    let zombie = Incarnation::join(&orch, &queues, &[], lease).await.unwrap();
    let task = orch.enqueue(NewTask::<()>::new("saying", &()).queue("default")).await.unwrap();
    let claim = zombie.step(&[], 1, &queues, None).await.unwrap().claims.pop().unwrap();
    let say = async |fraction: f64| {
        let progress = Progress::new(fraction, "on it").unwrap();
        zombie.note_progress(&claim.assignment(), &progress, zombie.new_id()).await
    };
    let lease_end = async || -> u64 { raw().await.zscore(key(&orch, "W"), zombie.name()).await.unwrap() };
    let before = lease_end().await;
    until("a word that comes later", async || {
        say(0.25).await.unwrap();
        (lease_end().await > before).then_some(())
    })
    .await;
    assert!(
        zombie
            .at_generation(7)
            .note_progress(&claim.assignment(), &Progress::new(0.9, "").unwrap(), zombie.new_id())
            .await
            .is_err()
    );

    let rescuer = Incarnation::join(&orch, &queues, &[], lease).await.unwrap();
    until("the rescue", async || {
        rescuer.beat(&[], &[]).await.unwrap();
        (rescuer.rescue().await.unwrap() == 1).then_some(())
    })
    .await;
    let second = rescuer.step(&[], 1, &queues, None).await.unwrap().claims.pop().unwrap();
    assert!(matches!(say(0.75).await, Err(Error::LeaseLost)));
    assert_eq!(task.task().await.unwrap().progress, Some(0.25), "the word of who had it before");
    let own = Progress::new(0.5, "").unwrap();
    rescuer.note_progress(&second.assignment(), &own, rescuer.new_id()).await.unwrap();
    assert_eq!(task.task().await.unwrap().progress, Some(0.5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_whose_answer_is_lost_is_told_once() {
    let line = Proxy::before(server::shared());
    let config = Config { namespace: namespace(), approvals: ApprovalPolicy::none(), ..Config::new(&line.url()) };
    let plain = Orchestrator::with_config(Config { url: server::shared().url(), ..config.clone() }).await.unwrap();
    let behind = Orchestrator::with_config(config).await.unwrap();
    let bench = Shared::default();
    let (stop, running) = run(builder(&behind, &bench));
    line.cut("renew", |_| true);
    let task = plain.enqueue(saying::with(vec![word(0.5, "half")])).await.unwrap();
    line.struck(1).await;
    bench.go.notify_one();
    within("the end", task.result()).await.unwrap();
    assert_eq!(told(&plain).await, [word(0.5, "half"), word(1.0, "done")]);
    stop.drain();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_watch_tells_progress() {
    let (orch, bench) = (Orchestrator::with_config(config()).await.unwrap(), Shared::default());
    let (stop, running) = run(builder(&orch, &bench));
    let task = orch.enqueue(saying::with(vec![word(0.25, "a quarter")])).await.unwrap();
    let mut watch = orch.watch(task.id());
    let quarter = async {
        loop {
            let task = watch.next().await.unwrap().expect("it has not ended");
            if task.progress == Some(0.25) {
                return task;
            }
        }
    };
    let seen = within("the word on progress", quarter).await;
    assert_eq!((seen.status, seen.progress_note.as_deref()), (Status::InProgress, Some("a quarter")));
    bench.go.notify_one();
    let ended = async { while watch.next().await.unwrap().is_some() {} };
    within("the end", ended).await;
    stop.drain();
    running.await.unwrap().unwrap();
}

#[orchestrator_worker::test]
async fn the_test_kit_hears_of_it() {
    let solo = Solo::new().register::<hasty>();
    assert!(solo.run(hasty::with("wait".into())).await.is_ok());
    let all = [word(0.1, "begun"), word(0.2, "further"), word(0.25, "attempt 1")];
    assert_eq!(solo.progress(), [&all[..], &all].concat(), "entered twice, all of it");
}

#[orchestrator_worker::test]
async fn a_harness_has_it_for_real(h: Harness) {
    let h = h.register::<hasty>();
    let task = h.enqueue(hasty::with("wait".into())).await;
    h.until_parked(&task).await;
    assert_eq!(told(h.orchestrator()).await, [word(0.25, "attempt 1")]);
}

#[orchestrator_worker::test]
async fn wherever_the_worker_dies_it_goes_on(h: Harness) {
    let h = h.register::<hasty>();
    let sweep = h.crash_everywhere(
        || hasty::with("wait".into()),
        |run| async move {
            run.until_parked().await;
            run.advance("1s").await;
            assert!(run.finish().await.is_ok());
        },
    );
    assert!(sweep.await.points > 2);
}
