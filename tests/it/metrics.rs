//! What a worker tells of itself: its figures follow what it does, and whoever asks cannot harm it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use orchestrator_tests::{Server, config, orch, until};
use orchestrator_worker::{
    Config, Data, Error, Orchestrator, Stop, TaskContext, TaskError, TaskResult, Worker, WorkerBuilder, task_handler,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

#[task_handler("metered", retries = 1, backoff = "fixed(1ms)")]
async fn metered(how: String, ctx: TaskContext) -> TaskResult<String> {
    match how.as_str() {
        "again" if ctx.attempt() == 1 => Err("not yet".into()),
        "never" => Err(TaskError::fatal("no")),
        "sleep" => {
            ctx.sleep("10ms").await;
            Ok(how)
        }
        _ => Ok(how),
    }
}

#[task_handler("held")]
async fn held(_: (), go: Data<Arc<Notify>>) -> TaskResult {
    go.notified().await;
    Ok(())
}

struct Up {
    at: SocketAddr,
    stop: Stop,
    running: tokio::task::JoinHandle<orchestrator_worker::Result>,
    go: Arc<Notify>,
}

fn builder(orch: &Orchestrator, go: &Arc<Notify>) -> WorkerBuilder {
    let builder = Worker::builder(orch.clone()).discover(false).slots(7).data(Arc::clone(go)).metrics_at("127.0.0.1:0");
    builder.register::<metered>().register::<held>().lease(Duration::from_secs(3))
}

fn start(orch: &Orchestrator) -> Up {
    let (stop, go) = (Stop::new(), Arc::new(Notify::new()));
    let worker = builder(orch, &go).build().expect("a fair worker");
    let at = worker.metrics_address().expect("an address");
    Up { at, stop: stop.clone(), running: tokio::spawn(worker.run_until(stop)), go }
}

/// Sends bytes and reads to the end of the connection.
async fn raw(at: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(at).await.expect("a connection");
    let _ = stream.write_all(bytes).await;
    let mut told = Vec::new();
    let _ = stream.read_to_end(&mut told).await;
    String::from_utf8_lossy(&told).into_owned()
}

async fn get(at: SocketAddr, path: &str) -> (u16, String) {
    let told = raw(at, format!("GET {path} HTTP/1.1\r\nHost: w\r\n\r\n").as_bytes()).await;
    let (head, body) = told.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {told:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn figures(at: SocketAddr) -> BTreeMap<String, f64> {
    let (status, text) = get(at, "/metrics").await;
    assert_eq!(status, 200, "{text}");
    let told = |kind: &str, name: &str| text.contains(&format!("# {kind} {name} "));
    let mut figures = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let family = family.filter(|family| told("TYPE", family)).unwrap_or(name);
        assert!(told("HELP", family) && told("TYPE", family), "{line} is not described");
        figures.insert(series.to_owned(), value.parse().unwrap());
    }
    figures
}

/// The figures once these are among them.
async fn await_figures(at: SocketAddr, wanted: &[(&str, f64)]) -> BTreeMap<String, f64> {
    until(&format!("{wanted:?}"), || async {
        let figures = figures(at).await;
        wanted.iter().all(|(name, value)| figures.get(*name) == Some(value)).then_some(figures)
    })
    .await
}

fn ended(task_type: &str, outcome: &str) -> String {
    format!(r#"orchestrator_worker_tasks_total{{task_type="{task_type}",outcome="{outcome}"}}"#)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_figures_follow_what_a_worker_does() {
    let orch = orch().await;
    let up = start(&orch);
    let first = await_figures(up.at, &[("orchestrator_worker_leased", 1.0)]).await;
    assert_eq!(first["orchestrator_worker_slots"], 7.0);
    assert_eq!(first[&ended("metered", "completed")], 0.0, "what has not happened yet is told");
    for how in ["fine", "fine", "again", "never", "sleep"] {
        orch.enqueue(metered::with(how.to_owned())).await.unwrap();
    }
    orch.enqueue(held::with(())).await.unwrap();
    await_figures(
        up.at,
        &[
            (&ended("metered", "completed"), 4.0),
            (&ended("metered", "retried"), 1.0),
            (&ended("metered", "failed"), 1.0),
            (&ended("metered", "parked"), 1.0),
            (&ended("held", "completed"), 0.0),
            (r#"orchestrator_task_run_seconds_count{task_type="metered"}"#, 7.0),
            // First claims only: nobody notes since when a later attempt can run.
            (r#"orchestrator_task_queue_seconds_count{task_type="metered"}"#, 5.0),
            (r#"orchestrator_task_queue_seconds_count{task_type="held"}"#, 1.0),
            ("orchestrator_worker_slots_used", 1.0),
        ],
    )
    .await;
    up.go.notify_one();
    await_figures(up.at, &[(&ended("held", "completed"), 1.0), ("orchestrator_worker_slots_used", 0.0)]).await;
    up.stop.drain();
    up.running.await.unwrap().unwrap();
    assert!(TcpStream::connect(up.at).await.is_err(), "the address is free again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_could_not_run_yet_has_not_waited() {
    let orch = orch().await;
    let up = start(&orch);
    orch.enqueue(metered::with("fine".into()).delay("1500ms")).await.unwrap();
    let told = await_figures(up.at, &[(&ended("metered", "completed"), 1.0)]).await;
    let waited = told[r#"orchestrator_task_queue_seconds_sum{task_type="metered"}"#];
    assert!((0.0..1.4).contains(&waited), "{waited} s");
    up.stop.drain();
    up.running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_ends_with_the_lease_and_with_draining() {
    let mut server = Server::start(&[]);
    let orch = Orchestrator::with_config(Config { url: server.url(), ..config() }).await.unwrap();
    let up = start(&orch);
    let ready = |wanted: u16, said: &'static str| {
        let at = up.at;
        async move {
            until(said, || async { (get(at, "/readyz").await.0 == wanted).then_some(()) }).await;
            assert!(get(at, "/readyz").await.1.contains(said));
            assert_eq!(get(at, "/livez").await.0, 200, "the process lives all the same");
        }
    };
    ready(200, "ready").await;
    server.kill();
    ready(503, "without a lease").await;
    let told = figures(up.at).await;
    assert_eq!(told["orchestrator_worker_leased"], 0.0);
    assert!(told["orchestrator_worker_lease_renewals_failed_total"] > 0.0, "{told:#?}");
    server.restart();
    ready(200, "ready").await;
    assert!(figures(up.at).await["orchestrator_worker_redis_errors_total"] > 0.0);
    orch.enqueue(held::with(())).await.unwrap();
    await_figures(up.at, &[("orchestrator_worker_slots_used", 1.0)]).await;
    up.stop.drain();
    ready(503, "draining").await;
    up.go.notify_one();
    up.running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_oddly_is_refused_and_harms_nobody() {
    let orch = orch().await;
    let up = start(&orch);
    for (path, status) in [("/", 404), ("/metrics/", 404), ("/../metrics", 404), ("/evil%0a", 404)] {
        assert_eq!(get(up.at, path).await.0, status, "{path}");
    }
    assert!(raw(up.at, b"POST /metrics HTTP/1.1\r\nHost: w\r\nContent-Length: 1\r\n\r\nx").await.contains(" 405 "));
    let huge = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    assert!(!raw(up.at, huge.as_bytes()).await.contains(" 200 "));
    raw(up.at, b"\0\xff\r\n\r\n").await;
    // More silent connections than are served at once: they are waited for until their time is over, not for ever.
    let silent: Vec<TcpStream> = {
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.push(TcpStream::connect(up.at).await.unwrap());
        }
        silent
    };
    assert_eq!(get(up.at, "/livez").await.0, 200, "the silent ones are cut off");
    drop(silent);
    up.stop.drain();
    up.running.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_address_that_cannot_be_had_is_told_before_the_worker_runs() {
    let orch = orch().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for address in [taken.local_addr().unwrap().to_string(), "nonsense".into(), "127.0.0.1".into()] {
        let built = builder(&orch, &Arc::default()).metrics_at(&address).build();
        let Err(Error::Unfit { what }) = built else { panic!("{address} is taken for fair") };
        assert!(what.contains(&address) && what.contains("ORCHESTRATOR_METRICS_ADDRESS"), "{what}");
    }
    let worker = Worker::builder(orch).discover(false).register::<metered>().build().unwrap();
    assert_eq!(worker.metrics_address(), None, "nothing is told unless it is asked for");
}
