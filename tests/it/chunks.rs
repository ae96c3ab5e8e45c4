//! What tasks put out while they run, and those who read it live.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use orchestrator::{ApprovalPolicy, Claim};
use orchestrator::{
    CHUNK_BYTES_MAX, Chunk, ChunkBatch, ChunkData, Chunks, Error, HOLD_LEASE_MIN, Incarnation, NewTask,
    OUTPUT_BYTES_MAX, OUTPUT_CHUNKS_MAX, PackedChunk, TaskId,
};
use orchestrator_tests::{Proxy, Server, config, key, namespace, orch, raw, server, taken_back, until, within};
use orchestrator_worker::testing::{Harness, Solo};
use orchestrator_worker::{
    Config, Data, Orchestrator, Status, Stop, TaskContext, TaskError, TaskResult, Worker, WorkerBuilder, task_handler,
};
use redis::AsyncCommands;
use serde_json::json;
use tokio::sync::Notify;

#[derive(Default)]
struct Bench {
    started: Notify,
    go: Notify,
}

type Shared = Arc<Bench>;

/// Puts out numbers one by one, and waits for leave after the first `before` of them.
#[task_handler("counting", retries = 0)]
async fn counting((before, all): (u32, u32), bench: Data<Shared>, ctx: TaskContext) -> TaskResult<u32> {
    for n in 0..all {
        if n == before {
            bench.started.notify_one();
            bench.go.notified().await;
        }
        ctx.emit_chunk(format!("{n};")).await?;
    }
    Ok(all)
}

#[task_handler("mixed", retries = 1, backoff = "fixed(1ms)")]
async fn mixed(how: String, ctx: TaskContext) -> TaskResult {
    ctx.emit_chunk(format!("attempt {}", ctx.attempt())).await?;
    ctx.emit_chunk("").await?;
    ctx.emit_chunk(vec![0, 255]).await?;
    ctx.emit_value(&json!({"how": how})).await?;
    match how.as_str() {
        "fail" if ctx.attempt() == 1 => Err("not yet".into()),
        "hopeless" => Err(TaskError::fatal("no way")),
        "wait" => {
            ctx.step("once", || async { ctx.emit_chunk("from a step").await }).await?;
            ctx.sleep("20ms").await;
            Ok(())
        }
        "too much" => ctx.emit_chunk("x".repeat(CHUNK_BYTES_MAX + 1)).await,
        _ => Ok(()),
    }
}

/// Puts out pieces of so many bytes.
#[task_handler("flood", retries = 0, timeout = "5m")]
async fn flood((pieces, bytes): (u32, usize), ctx: TaskContext) -> TaskResult<u32> {
    let piece = "x".repeat(bytes);
    for _ in 0..pieces {
        ctx.emit_chunk(piece.as_str()).await?;
    }
    Ok(pieces)
}

fn builder(orch: &Orchestrator, bench: &Shared) -> WorkerBuilder {
    let builder = Worker::builder(orch.clone()).discover(false).data(Arc::clone(bench));
    builder.register::<counting>().register::<mixed>().register::<flood>()
}

struct Working {
    stop: Stop,
    running: tokio::task::JoinHandle<orchestrator_worker::Result>,
}

fn work(builder: WorkerBuilder) -> Working {
    let stop = Stop::new();
    let worker = builder.build().expect("a fair worker");
    Working { stop: stop.clone(), running: tokio::spawn(worker.run_until(stop)) }
}

impl Working {
    async fn over(self) {
        self.stop.drain();
        within("the worker's end", self.running).await.unwrap().unwrap();
    }
}

/// All that a reader is told, to the end, also when Redis is away for a while.
async fn read(mut chunks: Chunks) -> (Vec<Chunk>, Option<Status>) {
    let mut read = Vec::new();
    let reading = async {
        loop {
            match chunks.next().await {
                Ok(Some(chunk)) => read.push(chunk),
                Ok(None) => break,
                Err(Error::Unavailable { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    within("the end of the output", reading).await;
    (read, chunks.status())
}

fn text(chunks: &[Chunk]) -> String {
    chunks.iter().filter_map(|chunk| chunk.data.as_text()).collect()
}

fn numbers(count: u32) -> String {
    (0..count).map(|n| format!("{n};")).collect()
}

/// A life that holds a task of its own.
async fn held(orch: &Orchestrator, lease: Duration) -> (Incarnation, Claim) {
    let queues = ["held".to_owned()];
    orch.enqueue(NewTask::<()>::new("held", &()).queue("held")).await.unwrap();
    let life = Incarnation::join(orch, &queues, &[], lease).await.unwrap();
    let claim = life.step(&[], 1, &queues, None).await.unwrap().claims.pop().unwrap();
    (life, claim)
}

fn batch(name: u8, words: &[&str]) -> ChunkBatch {
    let packed = |word: &&str| PackedChunk::new((*word).into()).unwrap().unwrap();
    ChunkBatch { name: [name; 8], chunks: words.iter().map(packed).collect(), at: 0, lost: 0 }
}

async fn all(orch: &Orchestrator, id: TaskId) -> Vec<(u64, u32, u64, String)> {
    let (mut chunks, mut found) = (orch.chunks(id), Vec::new());
    while let Some(chunk) = chunks.next_if_any().await.unwrap() {
        let text = chunk.data.as_text().unwrap_or_default().to_owned();
        found.push((chunk.number, chunk.attempt, chunk.missed, text));
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_tiny_chunks_come_in_order_and_whole_to_readers_whenever_they_come() {
    const COUNT: u32 = 10_000;
    let (orch, bench) = (orch().await, Shared::default());
    let line = Proxy::before(server::shared());
    let behind = Config { url: line.url(), ..orch.config().clone() };
    let behind = Orchestrator::with_config(behind).await.unwrap();
    let worker = work(builder(&behind, &bench));
    let task = orch.enqueue(counting::with((COUNT / 2, COUNT))).await.unwrap();
    let early = tokio::spawn(read(task.chunks()));
    within("half of it", bench.started.notified()).await;
    let others = Orchestrator::with_config(orch.config().clone()).await.unwrap();
    let late = tokio::spawn(read(others.chunks(task.id())));
    let last = tokio::spawn(read(others.chunks(task.id()).after(9_990)));
    bench.go.notify_one();
    assert_eq!(task.result().await.unwrap(), COUNT);
    for reader in [early, late] {
        let (chunks, status) = reader.await.unwrap();
        assert_eq!((text(&chunks), status), (numbers(COUNT), Some(Status::Completed)));
        assert!(chunks.iter().zip(1..).all(|(chunk, n)| chunk.number == n && chunk.missed == 0 && chunk.attempt == 1));
    }
    // A place that is not there yet means the newest.
    assert!(last.await.unwrap().0.iter().all(|chunk| chunk.missed == 0));
    let (chunks, _) = read(orch.chunks(task.id()).after(9_990)).await;
    assert_eq!(text(&chunks), "9990;9991;9992;9993;9994;9995;9996;9997;9998;9999;");
    let sent = line.calls().iter().filter(|name| *name == "chunk").count();
    assert!((1..500).contains(&sent), "{sent} calls for {COUNT} chunks");
    let ttl: i64 = raw().await.pttl(output_key(&orch).await).await.unwrap();
    assert!((1..=3_600_000).contains(&ttl), "an hour behind the end it is gone: {ttl}");
    worker.over().await;
}

/// Where the output of the one task of a namespace that has any is kept.
async fn output_key(orch: &Orchestrator) -> Vec<u8> {
    let keys: Vec<Vec<u8>> = raw().await.keys(key(orch, "p:*")).await.unwrap();
    assert_eq!(keys.len(), 1);
    keys[0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_are_text_bytes_and_values_and_attempts_are_told_apart() {
    let (orch, bench) = (orch().await, Shared::default());
    let worker = work(builder(&orch, &bench));
    let of_attempt = |n: u32, how: &str| {
        vec![
            (n, ChunkData::Text(format!("attempt {n}"))),
            (n, ChunkData::Bytes(vec![0, 255])),
            (n, ChunkData::Value(json!({"how": how}))),
        ]
    };
    for (how, attempts, status) in
        [("well", 1, Status::Completed), ("fail", 2, Status::Completed), ("hopeless", 1, Status::Failed)]
    {
        let task = orch.enqueue(mixed::with(how.into())).await.unwrap();
        let (chunks, ended) = read(task.chunks()).await;
        let told: Vec<(u32, ChunkData)> = chunks.iter().map(|chunk| (chunk.attempt, chunk.data.clone())).collect();
        let expected: Vec<(u32, ChunkData)> = (1..=attempts).flat_map(|n| of_attempt(n, how)).collect();
        assert_eq!((told, ended), (expected, Some(status)), "{how}");
        assert!(chunks.iter().zip(1..).all(|(chunk, n)| chunk.number == n), "{how}: numbered on");
    }
    // Behind a wait it is the same attempt, and begins anew all the same; what was put out in a step is not.
    let task = orch.enqueue(mixed::with("wait".into())).await.unwrap();
    let (chunks, _) = read(task.chunks()).await;
    let told: Vec<(u32, &str)> = chunks.iter().filter_map(|chunk| Some((chunk.epoch, chunk.data.as_text()?))).collect();
    assert_eq!(told, [(0, "attempt 1"), (0, "from a step"), (1, "attempt 1")]);
    let task = orch.enqueue(mixed::with("too much".into())).await.unwrap();
    let error = task.result().await.expect_err("it is too much").to_string();
    assert!(error.contains("a chunk of output has at most 65536 bytes, not 65537"), "{error}");
    worker.over().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_puts_out_nothing() {
    let orch = orch().await;
    let (zombie, claim) = held(&orch, Duration::from_millis(30)).await;
    let id = claim.ticket().id;
    zombie.put_out(&claim, &batch(1, &["a", "b"]), None).await.unwrap();
    let stale = zombie.at_generation(9).put_out(&claim, &batch(2, &["no"]), None).await;
    assert!(matches!(stale, Err(Error::LeaseLost)));
    let queues = ["held".to_owned()];
    let rescuer = Incarnation::join(&orch, &queues, &[], Duration::from_millis(30)).await.unwrap();
    until("the rescue", async || {
        rescuer.beat(&[], &[]).await.unwrap();
        (rescuer.rescue().await.unwrap() == 1).then_some(())
    })
    .await;
    let mine = rescuer.step(&[], 1, &queues, None).await.unwrap().claims.pop().unwrap();
    assert!(matches!(zombie.put_out(&claim, &batch(3, &["no"]), None).await, Err(Error::LeaseLost)));
    rescuer.put_out(&mine, &batch(1, &["c"]), None).await.unwrap();
    let expected = [(1, 1, 0, "a".into()), (2, 1, 0, "b".into()), (3, 2, 0, "c".into())];
    assert_eq!(all(&orch, id).await, expected, "the name of a call is good for one attempt");
    assert_eq!(orch.get(id).await.unwrap().crashes, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_sent_twice_counts_once_and_what_was_lost_is_counted() {
    let orch = orch().await;
    let (life, claim) = held(&orch, orchestrator::LEASE).await;
    let id = claim.ticket().id;
    let (first, ..) = life.put_out(&claim, &batch(1, &["a", "b"]), None).await.unwrap();
    let (again, ..) = life.put_out(&claim, &batch(1, &["a", "b"]), None).await.unwrap();
    assert_eq!((first, again), (2, 2));
    let lost = ChunkBatch { at: 2, lost: 3, ..batch(2, &["f"]) };
    assert_eq!(life.put_out(&claim, &lost, None).await.unwrap().0, 6);
    let told = [(1, 1, 0, "a".into()), (2, 1, 0, "b".into()), (6, 1, 3, "f".into())];
    assert_eq!(all(&orch, id).await, told);
    // Redis has forgotten it all: numbers go on, as readers know them.
    let output = output_key(&orch).await;
    let _: () = raw().await.unlink(&output).await.unwrap();
    life.put_out(&claim, &ChunkBatch { at: 6, ..batch(3, &["g"]) }, None).await.unwrap();
    assert_eq!(all(&orch, id).await, [(7, 1, 6, "g".into())]);
    // A key of the wrong type is set aside.
    let _: () = raw().await.set(&output, "poked").await.unwrap();
    assert_eq!(all(&orch, id).await, []);
    life.put_out(&claim, &ChunkBatch { at: 7, ..batch(4, &["h"]) }, None).await.unwrap();
    assert_eq!(all(&orch, id).await, [(8, 1, 7, "h".into())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_keeps_the_newest_and_says_what_is_gone() {
    let (orch, bench) = (orch().await, Shared::default());
    let worker = work(builder(&orch, &bench));
    for (pieces, bytes) in [(100, 32_000), (30_000, 3), (20, CHUNK_BYTES_MAX)] {
        let task = orch.enqueue(flood::with((pieces, bytes))).await.unwrap();
        within("the flood", task.result().timeout("2m")).await.unwrap();
        let (chunks, _) = read(task.chunks()).await;
        let kept: usize = chunks.iter().map(|chunk| chunk.data.as_text().unwrap().len()).sum();
        let first = &chunks[0];
        assert_eq!((first.missed, first.number), (first.number - 1, u64::from(pieces) - chunks.len() as u64 + 1));
        assert_eq!(chunks.last().unwrap().number, u64::from(pieces));
        assert!(chunks[1..].iter().all(|chunk| chunk.missed == 0));
        assert!(kept <= OUTPUT_BYTES_MAX + 3 * CHUNK_BYTES_MAX, "{kept} bytes are kept");
        assert!(chunks.len() <= OUTPUT_CHUNKS_MAX + 1000, "{} chunks are kept", chunks.len());
        assert!(kept > OUTPUT_BYTES_MAX / 2 || chunks.len() > OUTPUT_CHUNKS_MAX / 2, "{kept} bytes");
    }
    worker.over().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_answer_is_lost_each_chunk_comes_once() {
    let line = Proxy::before(server::shared());
    let config = Config { namespace: namespace(), approvals: ApprovalPolicy::none(), ..Config::new(&line.url()) };
    let plain = Orchestrator::with_config(Config { url: server::shared().url(), ..config.clone() }).await.unwrap();
    let behind = Orchestrator::with_config(config).await.unwrap();
    let bench = Shared::default();
    let worker = work(builder(&behind, &bench));
    for name in ["chunk", "chunk", "output", "BZPOPMIN", "output"] {
        line.cut(name, |_| true);
    }
    let task = plain.enqueue(counting::with((500, 1000))).await.unwrap();
    // The reader sits behind the line too.
    let reader = tokio::spawn(read(behind.chunks(task.id())));
    within("half of it", bench.started.notified()).await;
    line.lose_one_in(4);
    bench.go.notify_one();
    within("the end", task.result()).await.unwrap();
    line.lose_one_in(0);
    let (chunks, status) = reader.await.unwrap();
    assert_eq!((text(&chunks), status), (numbers(1000), Some(Status::Completed)));
    worker.over().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_and_writers_survive_a_restart_of_redis() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let config = Config { namespace: namespace(), approvals: ApprovalPolicy::none(), ..Config::new(&server.url()) };
    let orch = Orchestrator::with_config(config.clone()).await.unwrap();
    let reading = Orchestrator::with_config(config).await.unwrap();
    let bench = Shared::default();
    let worker = work(builder(&orch, &bench));
    let task = orch.enqueue(counting::with((500, 1000))).await.unwrap();
    let mut chunks = reading.chunks(task.id());
    within("the first", chunks.next()).await.unwrap();
    let reader = tokio::spawn(read(chunks));
    within("half of it", bench.started.notified()).await;
    server.kill();
    bench.go.notify_one();
    server.restart();
    within("the end", task.result()).await.unwrap();
    let (chunks, _) = reader.await.unwrap();
    assert_eq!(text(&chunks), numbers(1000).split_off(2));
    worker.over().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_memory_is_full_output_is_lost_and_the_task_goes_on() {
    let server = Server::start(&[]);
    let config = Config { namespace: namespace(), approvals: ApprovalPolicy::none(), ..Config::new(&server.url()) };
    let (orch, bench) = (Orchestrator::with_config(config).await.unwrap(), Shared::default());
    let worker = work(builder(&orch, &bench));
    let task = orch.enqueue(counting::with((10, 20))).await.unwrap();
    within("half of it", bench.started.notified()).await;
    let (mut reader, mut before) = (task.chunks(), Vec::new());
    while before.len() < 10 {
        before.push(within("a chunk", reader.next()).await.unwrap().unwrap());
    }
    let mut raw = server.raw().await;
    let limit = async |raw: &mut redis::aio::MultiplexedConnection, bytes: &str| {
        let set: () = redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).query_async(raw).await.unwrap();
        set
    };
    limit(&mut raw, "1").await;
    bench.go.notify_one();
    assert_eq!(within("the end", task.result()).await.unwrap(), 20, "the task goes on");
    limit(&mut raw, "0").await;
    let (after, status) = read(reader).await;
    assert_eq!((text(&before), after.len(), status), (numbers(10), 0, Some(Status::Completed)));
    worker.over().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_lost_in_between_is_told_as_a_gap() {
    let server = Server::start(&[]);
    let config = Config { namespace: namespace(), approvals: ApprovalPolicy::none(), ..Config::new(&server.url()) };
    let (orch, bench) = (Orchestrator::with_config(config).await.unwrap(), Shared::default());

    #[task_handler("gapped", retries = 0)]
    async fn gapped(_: (), bench: Data<Shared>, ctx: TaskContext) -> TaskResult {
        for word in ["kept", "lost", "kept again"] {
            ctx.emit_chunk(word).await?;
            bench.started.notify_one();
            bench.go.notified().await;
        }
        Ok(())
    }
    let worker = work(Worker::builder(orch.clone()).discover(false).data(Arc::clone(&bench)).register::<gapped>());
    let task = orch.enqueue(gapped::with(())).await.unwrap();
    let mut reader = task.chunks();
    assert_eq!(within("the first", reader.next()).await.unwrap().unwrap().data, "kept".into());
    bench.started.notified().await;
    let mut raw = server.raw().await;
    let refused = async |raw: &mut redis::aio::MultiplexedConnection| -> u64 {
        let stats: String = redis::cmd("INFO").arg("errorstats").query_async(raw).await.unwrap();
        let count = stats.lines().find_map(|line| line.strip_prefix("errorstat_OOM:count="));
        count.map_or(0, |count| count.trim().parse().unwrap())
    };
    let _: () = redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1").query_async(&mut raw).await.unwrap();
    bench.go.notify_one();
    until("the second is refused", async || (refused(&mut raw.clone()).await > 0).then_some(())).await;
    let _: () = redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("0").query_async(&mut raw).await.unwrap();
    bench.started.notified().await;
    bench.go.notify_one();
    let third = within("the third", reader.next()).await.unwrap().unwrap();
    assert_eq!((third.number, third.missed, third.data), (3, 1, "kept again".into()));
    bench.started.notified().await;
    bench.go.notify_one();
    assert_eq!(within("the end", reader.next()).await.unwrap(), None);
    worker.over().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_what_is_unknown_ended_or_waiting() {
    let (orch, bench) = (orch().await, Shared::default());
    let unknown: TaskId = "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000".parse().unwrap();
    assert!(matches!(orch.chunks(unknown).next().await, Err(Error::NotFound { .. })));
    assert!(matches!(orch.chunks(unknown).next_if_any().await, Err(Error::NotFound { .. })));
    let quiet = orch.enqueue(NewTask::<()>::new("held", &()).queue("nobody")).await.unwrap();
    assert_eq!(quiet.chunks().next_if_any().await.unwrap(), None);
    let readers: Vec<_> = (0..40).map(|_| tokio::spawn(read(quiet.chunks()))).collect();
    let named = key(&orch, "n");
    until("they wait", async || {
        let waiting: Vec<String> = raw().await.hvals(&named).await.unwrap();
        (waiting.len() == 1 && waiting[0].split(' ').count() == 1).then_some(())
    })
    .await;
    quiet.cancel().await.unwrap();
    for (chunks, status) in join_all(readers).await.into_iter().map(Result::unwrap) {
        assert_eq!((chunks, status), (Vec::new(), Some(Status::Cancelled)));
    }
    let worker = work(builder(&orch, &bench));
    let task = orch.enqueue(mixed::with("well".into())).await.unwrap();
    task.result().await.unwrap();
    let mut chunks = task.chunks();
    assert_eq!(chunks.status(), None);
    while chunks.next().await.unwrap().is_some() {}
    assert_eq!((chunks.status(), chunks.place(), chunks.next().await.unwrap()), (Some(Status::Completed), 3, None));
    let (none, status) = read(task.chunks().after(u64::MAX)).await;
    assert_eq!((none.len(), status), (0, Some(Status::Completed)));
    worker.over().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_leaves_is_told_no_more() {
    let orch = orch().await;
    let (life, claim) = held(&orch, orchestrator::LEASE).await;
    let id = claim.ticket().id;
    let (mut leaving, mut staying) = (orch.chunks(id), orch.chunks(id));
    let other = orch.enqueue(NewTask::<()>::new("held", &()).queue("nobody")).await.unwrap();
    // Somebody waits for something else, so that this process goes on listening.
    let waiting = tokio::spawn(async move { other.result().await });
    let named = async || {
        let names: Vec<String> = raw().await.hvals(key(&orch, "n")).await.unwrap();
        names.into_iter().find(|name| name.ends_with(".o"))
    };
    for reader in [&mut leaving, &mut staying] {
        let nothing = tokio::time::timeout(Duration::from_millis(1), reader.next()).await;
        assert!(nothing.is_err(), "there is nothing");
    }
    until("the inbox is named", async || named().await).await;
    drop(leaving);
    life.put_out(&claim, &batch(1, &["a"]), None).await.unwrap();
    assert_eq!(within("a", staying.next()).await.unwrap().unwrap().data, "a".into());
    drop(staying);
    life.put_out(&claim, &batch(2, &["b"]), None).await.unwrap();
    until("nobody is named", async || named().await.is_none().then_some(())).await;
    // And who comes back is told.
    let mut back = orch.chunks(id).after(2);
    let reading = tokio::spawn(async move { back.next().await });
    until("the inbox is named again", async || named().await).await;
    life.put_out(&claim, &batch(3, &["c"]), None).await.unwrap();
    assert_eq!(within("c", reading).await.unwrap().unwrap().unwrap().data, "c".into());
    waiting.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_outside_put_out_too() {
    let orch = orch().await;
    let task = orch.enqueue(NewTask::<()>::new("faq", &())).await.unwrap();
    let hold = orch.hold("ann", task.id(), HOLD_LEASE_MIN).await.unwrap();
    let holder = orch.holder("ann", task.id(), Some(hold.token));
    for _ in 0..2 {
        let (renewed, number) = holder.put_out("hello".into(), Some("first"), 2 * HOLD_LEASE_MIN).await.unwrap();
        assert!(renewed.expires_at > hold.expires_at && number == 1 && !renewed.cancel_requested);
    }
    holder.put_out("hello".into(), None, HOLD_LEASE_MIN).await.unwrap();
    assert!(matches!(holder.put_out("".into(), None, HOLD_LEASE_MIN).await, Err(Error::Invalid { .. })));
    orch.cancel(task.id()).await.unwrap();
    assert!(holder.put_out("bye".into(), None, HOLD_LEASE_MIN).await.unwrap().0.cancel_requested);
    holder.complete(json!(null)).await.unwrap();
    assert!(matches!(holder.put_out("late".into(), None, HOLD_LEASE_MIN).await, Err(Error::Conflict { .. })));
    let texts: Vec<String> = all(&orch, task.id()).await.into_iter().map(|(.., text)| text).collect();
    assert_eq!(texts, ["hello", "hello", "bye"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_behind_its_end_output_is_gone_whoever_ends_it() {
    let (hour, day) = (1..=3_600_000, 3_600_001..=86_400_000);
    let queues = ["held".to_owned()];
    for way in ["complete", "fail", "outside", "fail outside", "cancel", "poison"] {
        let (orch, brief) = (orch().await, Duration::from_millis(1));
        let left = async || -> i64 { raw().await.pttl(output_key(&orch).await).await.unwrap() };
        let (life, claim) = held(&orch, if way == "poison" { brief } else { orchestrator::LEASE }).await;
        let id = claim.ticket().id;
        life.put_out(&claim, &batch(1, &["a"]), None).await.unwrap();
        assert!(day.contains(&left().await), "{way}: it may go on for long");
        let null = orchestrator::encode_value("result", &(), 10).unwrap();
        match way {
            "complete" => drop(life.step(&[claim.complete(&null)], 0, &[], None).await.unwrap()),
            "fail" => drop(life.step(&[claim.fail("fatal", "no")], 0, &[], None).await.unwrap()),
            "poison" => {
                for crashes in 1..3 {
                    taken_back(&orch, "held", id, crashes).await;
                    let next = Incarnation::join(&orch, &queues, &[], brief).await.unwrap();
                    assert_eq!(next.step(&[], 1, &queues, None).await.unwrap().claims.len(), 1);
                }
                taken_back(&orch, "held", id, 3).await;
            }
            _ => {
                // It waits, and may be tried again: its output stays.
                life.retry(&claim, Duration::ZERO, "not yet").await.unwrap();
                orch.tick().await.unwrap();
                assert!(day.contains(&left().await), "{way}: it has not ended");
                if way == "cancel" {
                    orch.cancel(id).await.unwrap();
                } else {
                    let hold = orch.hold("ann", id, HOLD_LEASE_MIN).await.unwrap();
                    let holder = orch.holder("ann", id, Some(hold.token));
                    holder.put_out("b".into(), None, HOLD_LEASE_MIN).await.unwrap();
                    match way {
                        "outside" => holder.complete(json!(null)).await.unwrap(),
                        _ => drop(holder.fail("no", false, None).await.unwrap()),
                    }
                }
            }
        }
        assert!(orch.get(id).await.unwrap().status.is_terminal(), "{way}");
        assert!(hour.contains(&left().await), "{way}: {} ms are left", left().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_drains_tells_all_of_it() {
    let (orch, bench) = (Orchestrator::with_config(config()).await.unwrap(), Shared::default());
    let worker = work(builder(&orch, &bench));
    let task = orch.enqueue(counting::with((10, 2000))).await.unwrap();
    within("the beginning", bench.started.notified()).await;
    worker.stop.drain();
    bench.go.notify_one();
    worker.over().await;
    assert_eq!(task.task().await.unwrap().status, Status::Completed);
    assert_eq!(text(&read(task.chunks()).await.0), numbers(2000));
}

#[orchestrator_worker::test]
async fn the_test_kit_hears_of_it() {
    let solo = Solo::new().register::<mixed>();
    assert!(solo.run(mixed::with("fail".into())).await.is_ok());
    let texts: Vec<String> = solo.output().iter().filter_map(|chunk| Some(chunk.as_text()?.to_owned())).collect();
    assert_eq!((texts, solo.output().len()), (vec!["attempt 1".to_owned(), "attempt 2".to_owned()], 6));
}

#[orchestrator_worker::test]
async fn wherever_the_worker_dies_it_goes_on(h: Harness) {
    let h = h.register::<mixed>();
    let people = |run: orchestrator_worker::testing::Run<()>| async move {
        run.until_parked().await;
        run.advance("1m").await;
        assert!(run.finish().await.is_ok());
        let (chunks, _) = read(run.harness().orchestrator().chunks(run.id())).await;
        let steps = chunks.iter().filter(|chunk| chunk.data.as_text() == Some("from a step")).count();
        assert!((1..=2).contains(&steps), "a step may be done twice when the worker dies in it");
        assert!(chunks.iter().zip(1..).all(|(chunk, n)| chunk.number == n && chunk.missed == 0));
    };
    let sweep = h.crash_everywhere(|| mixed::with("wait".into()), people);
    assert!(sweep.await.points > 4);
}
