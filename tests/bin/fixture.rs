//! A worker process for the fault tests: its handlers tell a second Redis what they did, and wait there for leave.
#![allow(clippy::expect_used)]

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use orchestrator::{Backoff, Delivery, Group, Unhandled, patterns};
use orchestrator_worker::{Config, Data, Orchestrator, Result, TaskContext, TaskResult, Worker, task_handler};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, AsyncConnectionConfig};
use tokio::sync::Semaphore;

/// How long an ordinary task works.
const WORK: Duration = Duration::from_millis(50);

/// The second Redis, and what this process was told.
struct Bench {
    client: redis::Client,
    link: MultiplexedConnection,
    tag: String,
    hold: Semaphore,
}

type Shared = Arc<Bench>;

impl Bench {
    async fn open() -> Shared {
        let client = redis::Client::open(var("EFFECTS")).expect("a URL");
        let link = client.get_multiplexed_async_connection().await.expect("the second Redis");
        let hold = Semaphore::new(var("HOLD").parse().expect("a number"));
        Arc::new(Self { client, link, tag: var("TAG"), hold })
    }

    async fn push(&self, list: &str, what: &str) -> redis::RedisResult<()> {
        self.link.clone().rpush(format!("{list}:{}", self.tag), what).await
    }

    /// Waits until the stream `barrier` has an entry, on a connection of its own.
    async fn barrier(&self, barrier: &str) -> redis::RedisResult<()> {
        let patient = AsyncConnectionConfig::new().set_response_timeout(None);
        let mut link = self.client.get_multiplexed_async_connection_with_config(&patient).await?;
        redis::cmd("XREAD").arg("BLOCK").arg(0).arg("STREAMS").arg(barrier).arg(0).query_async(&mut link).await
    }
}

/// One of many: counts itself, and on its first attempt may be held at the barrier.
#[task_handler("work", queue = "work", timeout = "10m")]
async fn work(n: u32, bench: Data<Shared>, ctx: TaskContext) -> TaskResult<u32> {
    let mut link = bench.link.clone();
    let _: u32 = link.hincr("effects", n, 1).await?;
    if ctx.attempt() > 1 {
        bench.push("again", &n.to_string()).await?;
    } else if let Ok(held) = bench.hold.try_acquire() {
        held.forget();
        bench.push("held", &n.to_string()).await?;
        bench.barrier("open").await?;
        return Ok(n);
    }
    tokio::time::sleep(WORK).await;
    Ok(n)
}

/// Tells when its handler is stopped before its end.
struct Watch(Shared, String, bool);

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.2 {
            let (bench, name) = (Arc::clone(&self.0), self.1.clone());
            tokio::spawn(async move { bench.push("halted", &name).await });
        }
    }
}

/// Waits for a barrier of its own.
#[task_handler("linger", queue = "linger")]
async fn linger(name: String, bench: Data<Shared>) -> TaskResult<String> {
    let mut watch = Watch(Arc::clone(&bench), name.clone(), false);
    bench.push("started", &name).await?;
    bench.barrier(&format!("open:{name}")).await?;
    watch.2 = true;
    bench.push("ended", &name).await?;
    Ok(bench.tag.clone())
}

/// Does something, asks people, does something more; counts what it does outside.
#[task_handler("review", queue = "review", retries = 0)]
async fn review(n: u32, bench: Data<Shared>, ctx: TaskContext) -> TaskResult<String> {
    let count = |what: &'static str| {
        let mut link = bench.link.clone();
        async move { link.hincr::<_, _, _, u32>(what, n, 1).await }
    };
    ctx.step("before", || count("before")).await?;
    let approved = ctx.approve(n).expires("10d").await?;
    ctx.step("after", || count("after")).await?;
    tokio::time::sleep(WORK).await;
    Ok(format!("{} by {} on {}", *approved, approved.by(), bench.tag))
}

/// Takes the whole process down.
#[task_handler("crash", queue = "crash")]
async fn crash(_: ()) -> TaskResult {
    std::process::abort()
}

/// Takes part in a consumer group. What a handler begins with is noted; some events fail, some take the process down.
async fn consume(orch: &Orchestrator, bench: Shared, name: &str) -> Result {
    let list = format!("events:{name}");
    let quick = Backoff::fixed(Duration::from_millis(10));
    let group = Group::new(name, &patterns("job.*")?).retries(1).backoff(quick).lease(millis("LEASE_MS"));
    let handle = move |delivery: Delivery| {
        let (mut link, list) = (bench.link.clone(), list.clone());
        async move {
            let payload = delivery.event.payload;
            let noted = link.rpush::<_, _, ()>(&list, format!("{} {}", payload["task"], payload["n"])).await;
            let failed = |error: &dyn ToString| Unhandled::Retry { error: error.to_string(), delay: None };
            noted.map_err(|error| failed(&error))?;
            match payload["kind"].as_str() {
                Some("bad") => Err(failed(&"as it was told to")),
                Some("deadly") => std::process::abort(),
                _ => Ok(()),
            }
        }
    };
    orch.consume(&group, handle, std::future::pending()).await
}

/// Fires what is due, again and again.
async fn tick(orch: &Orchestrator) -> Result {
    loop {
        // Redis may be away for a while.
        let _ = tokio::time::timeout(Duration::from_secs(1), orch.tick()).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn var(name: &str) -> String {
    std::env::var(format!("FIXTURE_{name}")).expect("started by a test")
}

fn millis(name: &str) -> Duration {
    Duration::from_millis(var(name).parse().expect("a number"))
}

#[orchestrator_worker::main]
async fn main() -> Result {
    // The test holds the other end: when it is gone, so are we.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(9);
    });
    let test_clock = std::env::var("FIXTURE_TEST_CLOCK").is_ok();
    let config = Config { namespace: var("NAMESPACE"), test_clock, ..Config::new(&var("REDIS")) };
    let (orch, bench) = (Orchestrator::with_config(config).await?, Bench::open().await);
    if std::env::var("FIXTURE_TICKING").is_ok() {
        return tick(&orch).await;
    }
    if let Ok(name) = std::env::var("FIXTURE_GROUP") {
        return consume(&orch, bench, &name).await;
    }
    Worker::builder(orch)
        .data(bench)
        .slots(var("SLOTS").parse().expect("a number"))
        .lease(millis("LEASE_MS"))
        .drain_grace(millis("GRACE_MS"))
        .run()
        .await
}
