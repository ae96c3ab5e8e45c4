//! What a task costs: Redis CPU, memory, idle traffic and pick-up, beside a bare client on the same server in one run.
//!
//! CPU is the server's own count of its main thread (`INFO cpu`), the minimum of seven interleaved rounds: it is stable
//! where wall-clock time is not. `scripts/bench` runs this on a server of its own with default settings.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use orchestrator::{
    ApprovalId, ApprovalStatus, Approver, Asking, Ballot, Claim, Config, Decision, Delivery, Entry, EventsFrom, Gate,
    Group, Incarnation, LEASE, NewEvent, NewTask, Noted, Orchestrator, Telling, Terms, Wait, encode_value, hash_bytes,
    patterns,
};
use orchestrator_worker::{Stop, TaskResult, Worker, task_handler};
use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;

const ROUNDS: usize = 7;
const TASKS: usize = 5_000;
/// Tasks for the figures of memory: enough that fixed sizes do not show.
const STORED: usize = 50_000;
const PAYLOAD: usize = 100;
const RESULT: usize = 50;

/// The usual design: a hash a task, a ready set, a lease set; one script a step, per-task calls inside.
mod bare {
    use super::*;

    const ENQUEUE: &str = "for i = 1, #ARGV, 3 do \
        redis.call('HSET', 'bare:t:' .. ARGV[i], 'state', 'ready', 'attempts', '0', 'created', ARGV[i + 2], 'payload', ARGV[i + 1]) \
        redis.call('ZADD', 'bare:ready', ARGV[i + 2], ARGV[i]) end return #ARGV / 3";
    const CLAIM: &str = "local ids = redis.call('ZPOPMIN', 'bare:ready', ARGV[1]) local out = {} \
        for i = 1, #ids, 2 do local k = 'bare:t:' .. ids[i] redis.call('HSET', k, 'state', 'running', 'worker', 'w1') \
        redis.call('ZADD', 'bare:leases', ARGV[2], ids[i]) out[#out + 1] = ids[i] out[#out + 1] = redis.call('HGET', k, 'payload') \
        end return out";
    const FINISH: &str = "for i = 1, #ARGV, 2 do if redis.call('ZREM', 'bare:leases', ARGV[i]) == 1 then \
        local k = 'bare:t:' .. ARGV[i] redis.call('HSET', k, 'state', 'done', 'result', ARGV[i + 1]) redis.call('EXPIRE', k, 86400) \
        end end return 1";

    pub(super) async fn round(link: &MultiplexedConnection, batch: usize, flight: usize) {
        join_all((0..flight).map(|lane| lane_of(link.clone(), batch, lane * TASKS / flight, TASKS / flight))).await;
    }

    async fn lane_of(mut link: MultiplexedConnection, batch: usize, start: usize, tasks: usize) {
        let link = &mut link;
        let (enqueue, claim, finish) =
            (redis::Script::new(ENQUEUE), redis::Script::new(CLAIM), redis::Script::new(FINISH));
        for first in (start..start + tasks).step_by(batch) {
            let mut call = enqueue.prepare_invoke();
            for n in first..first + batch {
                call.arg(format!("{n:032x}")).arg(vec![b'p'; PAYLOAD]).arg(n);
            }
            call.invoke_async::<()>(link).await.unwrap();
        }
        for _ in (0..tasks).step_by(batch) {
            let claimed: Vec<Vec<u8>> = claim.arg(batch).arg(1).invoke_async(link).await.unwrap();
            let mut call = finish.prepare_invoke();
            for pair in claimed.chunks(2) {
                call.arg(&pair[0]).arg(vec![b'r'; RESULT]);
            }
            call.invoke_async::<()>(link).await.unwrap();
        }
    }
}

async fn fresh(link: &mut MultiplexedConnection) {
    redis::cmd("FLUSHALL").arg("SYNC").query_async::<()>(link).await.unwrap();
}

async fn info(link: &mut MultiplexedConnection, section: &str, field: &str) -> f64 {
    let text: String = redis::cmd("INFO").arg(section).query_async(link).await.unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap_or("0");
    value.trim().parse().unwrap()
}

async fn cpu_us(link: &mut MultiplexedConnection) -> f64 {
    let user = info(link, "cpu", "used_cpu_user_main_thread").await;
    let system = info(link, "cpu", "used_cpu_sys_main_thread").await;
    (user + system) * 1e6
}

fn payload() -> String {
    "p".repeat(PAYLOAD - 2)
}

/// Enqueues all, then claims and finishes all, a batch at a time.
async fn ours(url: &str, batch: usize, flight: usize) {
    let orch = Orchestrator::connect(url).await.unwrap();
    join_all((0..flight).map(|_| enqueue(&orch, TASKS / flight, batch))).await;
    let workers = join_all((0..flight).map(|_| work_off(&orch, batch))).await;
    assert_eq!(workers.iter().sum::<usize>(), TASKS, "every task is done once");
}

async fn enqueue(orch: &Orchestrator, tasks: usize, batch: usize) {
    let payload = payload();
    for _ in (0..tasks).step_by(batch) {
        orch.enqueue_all((0..batch).map(|_| NewTask::<()>::new("bugfix", &payload))).await.unwrap();
    }
}

/// Claims and finishes until nothing is left; returns how many.
async fn work_off(orch: &Orchestrator, batch: usize) -> usize {
    let queues = ["dev_agent".to_owned()];
    let worker = Incarnation::join(orch, &queues, &[], LEASE).await.unwrap();
    let result = encode_value("result", &"r".repeat(RESULT - 2), 1000).unwrap();
    let mut finishes = Vec::new();
    let mut done = 0;
    loop {
        let stepped = worker.step(&finishes, batch, &queues, None).await.unwrap();
        done += stepped.claims.len();
        if stepped.claims.is_empty() {
            return done;
        }
        finishes = stepped.claims.into_iter().map(|claim| claim.complete(&result)).collect();
    }
}

/// What a task may ask for beside being done.
const EXTRAS: [&str; 9] = [
    "nothing",
    "no events of its own",
    "an event told",
    "an event told and handled by a group",
    "an event told with its end",
    "a promise",
    "a durable step",
    "a gate, approved",
    "a question, approved",
];

/// Enqueues in hundreds, then claims and finishes in hundreds, with one of [`EXTRAS`] for each task.
async fn with_extra(url: &str, extra: &str) {
    let orch = Orchestrator::connect(url).await.unwrap();
    let payload = payload();
    orch.set_queue_events("dev_agent", extra != "no events of its own").await.unwrap();
    let mut ids = Vec::new();
    for _ in (0..TASKS).step_by(100) {
        let task = || match extra {
            "a promise" => NewTask::<()>::new("bugfix", &payload).sla_target("1h"),
            "a gate, approved" => NewTask::new("bugfix", &payload).policies(Some(Gate::new()), None),
            _ => NewTask::new("bugfix", &payload),
        };
        if extra.starts_with("an event told") && extra != "an event told with its end" {
            let events: Vec<NewEvent> = (0..100).map(|_| NewEvent::new("bugfix.asked", &payload)).collect();
            orch.publish_all(&events).await.unwrap();
        }
        ids.extend(orch.enqueue_all((0..100).map(|_| task())).await.unwrap().iter().map(|handle| handle.id()));
    }
    let approve = async |number| {
        for some in ids.chunks(8) {
            let ballot = Ballot::approve(Approver::named("alice"));
            join_all(some.iter().map(|task| orch.decide(ApprovalId { task: *task, number }, &ballot)))
                .await
                .into_iter()
                .for_each(|decided| assert!(decided.is_ok()));
        }
    };
    if extra == "a gate, approved" {
        approve(0).await;
    }
    if extra == "an event told and handled by a group" {
        let (left, done) = (Arc::new(AtomicUsize::new(TASKS)), Arc::new(Notify::new()));
        let finished = Arc::clone(&done);
        let handle = move |delivery: Delivery| {
            let is_last = delivery.event.event_type == "bugfix.asked" && left.fetch_sub(1, Ordering::Relaxed) == 1;
            if is_last {
                done.notify_one();
            }
            std::future::ready(Ok(()))
        };
        let wanted = patterns("bugfix.*").unwrap();
        let group = Group::new("bench", &wanted).from(EventsFrom::Oldest).at_once(100);
        orch.consume(&group, handle, finished.notified()).await.unwrap();
    }
    let queues = ["dev_agent".to_owned()];
    let worker = Incarnation::join(&orch, &queues, &[], LEASE).await.unwrap();
    if extra == "a question, approved" {
        for _ in (0..TASKS).step_by(100) {
            let claims = worker.step(&[], 100, &queues, None).await.unwrap().claims;
            let parked = claims.iter().map(|claim| async {
                let asking = Asking::about(claim, "Go on?".into(), "", Vec::new(), Terms::default()).unwrap();
                let noted = Noted::Asked {
                    number: 0,
                    status: ApprovalStatus::Pending,
                    hash: hash_bytes(asking.hash()),
                    decision: Decision::default(),
                };
                let entry = Entry { order: 1, side_by_side: false, code: 0, digest: [0; 8], noted };
                worker.park(claim, &Wait::Person { name: "q".into(), entry, asking }, &[]).await.unwrap()
            });
            join_all(parked).await;
        }
        approve(1).await;
    }
    let result = encode_value("result", &"r".repeat(RESULT - 2), 1000).unwrap();
    let mut finishes = Vec::new();
    loop {
        let stepped = worker.step(&finishes, 100, &queues, None).await.unwrap();
        if stepped.claims.is_empty() {
            return;
        }
        if extra == "a durable step" {
            let noted = Noted::Step(result.clone());
            let entry = Entry { order: 1, side_by_side: false, code: 0, digest: [0; 8], noted };
            join_all(stepped.claims.iter().map(|claim| worker.note(claim.ticket(), "step", &entry, &[]))).await;
        }
        let finish = |claim: Claim| {
            if extra != "an event told with its end" {
                return claim.complete(&result);
            }
            let event = NewEvent::new("bugfix.done", &payload).task(claim.ticket().id);
            let entry = Entry { order: 1, side_by_side: false, code: 0, digest: [0; 8], noted: Noted::Begun };
            let telling = Telling::new(&event, "publish#1", entry, worker.new_id()).unwrap();
            claim.complete(&result).telling(vec![telling])
        };
        finishes = stepped.claims.into_iter().map(finish).collect();
    }
}

#[task_handler("ping", queue = "ping")]
async fn ping(sent: u64) -> TaskResult<u64> {
    Ok(sent)
}

/// Commands that the server saw in `span` of an idle worker, by name.
async fn idle(url: &str, link: &mut MultiplexedConnection, span: Duration) -> BTreeMap<String, u64> {
    let orch = Orchestrator::connect(url).await.unwrap();
    let stop = Stop::new();
    let worker = Worker::builder(orch).discover(false).register::<ping>().build().unwrap();
    let running = tokio::spawn(worker.run_until(stop.clone()));
    tokio::time::sleep(Duration::from_millis(500)).await;
    redis::cmd("CONFIG").arg("RESETSTAT").query_async::<()>(link).await.unwrap();
    tokio::time::sleep(span).await;
    let text: String = redis::cmd("INFO").arg("commandstats").query_async(link).await.unwrap();
    let count = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    };
    let commands =
        text.lines().filter_map(count).filter(|(name, _)| !name.contains("config") && name != "info").collect();
    stop.drain();
    running.await.unwrap().unwrap();
    commands
}

/// Time from before the enqueue to the return of the handler's result, and to the start of the attempt by Redis's clock.
async fn pick_up(url: &str) -> (Duration, Duration) {
    let orch = Orchestrator::connect(url).await.unwrap();
    let stop = Stop::new();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    struct Stamp(tokio::sync::mpsc::UnboundedSender<Instant>);
    #[orchestrator_worker::task_handler("stamp", queue = "stamp")]
    async fn stamp(_: (), to: orchestrator_worker::Data<Stamp>) -> TaskResult {
        let _ = to.0.send(Instant::now());
        Ok(())
    }
    let worker = Worker::builder(orch.clone()).discover(false).register::<stamp>().data(Stamp(tell)).build().unwrap();
    let running = tokio::spawn(worker.run_until(stop.clone()));
    let mut waits = Vec::new();
    for _ in 0..500 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let sent = Instant::now();
        orch.enqueue(stamp::with(())).await.unwrap();
        waits.push(told.recv().await.unwrap() - sent);
    }
    waits.sort_unstable();
    stop.drain();
    running.await.unwrap().unwrap();
    (waits[waits.len() / 2], waits[waits.len() * 99 / 100])
}

/// One round with the server's counts by command: where the time goes. `COST_PROFILE=<batch>` asks for it.
async fn profile(url: &str, link: &mut MultiplexedConnection, batch: usize) {
    let orch = Orchestrator::connect(url).await.unwrap();
    for part in ["bare", "enqueue", "claim and complete"] {
        redis::cmd("CONFIG").arg("RESETSTAT").query_async::<()>(link).await.unwrap();
        let before = cpu_us(link).await;
        if part == "bare" {
            bare::round(link, batch, 1).await;
        } else if part == "enqueue" {
            enqueue(&orch, TASKS, batch).await;
        } else {
            work_off(&orch, batch).await;
        }
        println!("{part}: {:.1} µs a task", (cpu_us(link).await - before) / TASKS as f64);
        let text: String = redis::cmd("INFO").arg("commandstats").query_async(link).await.unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("cmdstat_")) {
            let field = |name: &str| {
                line.split([':', ',']).find_map(|f| f.strip_prefix(name)?.parse::<f64>().ok()).unwrap_or(0.0)
            };
            let name = line.split(':').next().unwrap_or_default();
            println!(
                "  {name:<20} {:>7.2} calls  {:>7.2} µs a task",
                field("calls=") / TASKS as f64,
                field("usec=") / TASKS as f64
            );
        }
    }
}

#[tokio::main]
async fn main() {
    let url = std::env::var("REDIS_URL").expect("REDIS_URL; scripts/bench starts a server and sets it");
    let json = std::env::args().any(|arg| arg == "--json");
    let mut link = redis::Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
    link.set_response_timeout(Duration::from_secs(60));
    if let Some(batch) = std::env::var("COST_PROFILE").ok().and_then(|batch| batch.parse().ok()) {
        return profile(&url, &mut link, batch).await;
    }
    // Tasks in a call, and calls in flight.
    let ways = [(1, 1), (1, 8), (10, 1), (100, 1)];
    let mut figures: BTreeMap<String, f64> = BTreeMap::new();
    for round in 0..ROUNDS {
        for (batch, flight) in ways {
            for (name, bare) in [("ours", false), ("bare", true)] {
                fresh(&mut link).await;
                let before = cpu_us(&mut link).await;
                if bare {
                    bare::round(&link, batch, flight).await
                } else {
                    ours(&url, batch, flight).await
                }
                let cost = (cpu_us(&mut link).await - before) / TASKS as f64;
                let best = figures.entry(format!("{name}_us_batch_{batch}_in_flight_{flight}")).or_insert(f64::MAX);
                *best = best.min(cost);
            }
        }
        eprint!("\rround {} of {ROUNDS}", round + 1);
    }
    eprintln!();
    for _ in 0..3 {
        for extra in EXTRAS {
            fresh(&mut link).await;
            let before = cpu_us(&mut link).await;
            with_extra(&url, extra).await;
            let cost = (cpu_us(&mut link).await - before) / TASKS as f64;
            let best = figures.entry(format!("extra_us: {extra}")).or_insert(f64::MAX);
            *best = best.min(cost);
        }
    }
    fresh(&mut link).await;
    let orch = Orchestrator::with_config(Config { events_max: 1_000_000, ..Config::new(&url) }).await.unwrap();
    let record = {
        let payload = encode_value("payload", &payload(), 1000).unwrap();
        let body = 1 + 2 + 1 + "bugfix".len();
        payload.len() + 16 + "dev_agent".len() + body
    };
    let empty = info(&mut link, "memory", "used_memory").await;
    enqueue(&orch, STORED, 100).await;
    let queued = info(&mut link, "memory", "used_memory").await;
    work_off(&orch, 100).await;
    redis::cmd("DEL").arg("{orchestrator.0}:e").query_async::<()>(&mut link).await.unwrap();
    let finished = info(&mut link, "memory", "used_memory").await;
    figures.insert("bytes_envelope".into(), (record - PAYLOAD) as f64);
    figures.insert("bytes_queued_above_record".into(), (queued - empty) / STORED as f64 - record as f64);
    figures.insert(
        "bytes_finished_above_record_and_result".into(),
        (finished - empty) / STORED as f64 - (record + RESULT) as f64,
    );
    let (p50, p99) = pick_up(&url).await;
    figures.insert("pick_up_p50_us".into(), p50.as_micros() as f64);
    figures.insert("pick_up_p99_us".into(), p99.as_micros() as f64);
    fresh(&mut link).await;
    let idle = idle(&url, &mut link, Duration::from_secs(10)).await;
    if json {
        println!("{}", serde_json::json!({"figures": figures, "idle_worker_commands_in_10_s": idle}));
        return;
    }
    println!(
        "Redis CPU a task, enqueue + claim + complete, {PAYLOAD}-byte payload, events on (min of {ROUNDS} rounds)"
    );
    println!("{:>7} {:>10} {:>10} {:>16} {:>7}", "batch", "in flight", "ours, µs", "hash a task, µs", "ratio");
    for (batch, flight) in ways {
        let of = |name: &str| figures[&format!("{name}_us_batch_{batch}_in_flight_{flight}")];
        println!("{batch:>7} {flight:>10} {:>10.1} {:>16.1} {:>7.2}", of("ours"), of("bare"), of("ours") / of("bare"));
    }
    println!("\nin hundreds, with something more for each task (min of 3 rounds)");
    for extra in EXTRAS {
        println!("{extra:>24} {:>10.1} µs", figures[&format!("extra_us: {extra}")]);
    }
    println!("\nenvelope above the payload            {:>8.0} bytes", figures["bytes_envelope"]);
    println!("queued, above the record              {:>8.0} bytes", figures["bytes_queued_above_record"]);
    println!("finished, above record and result     {:>8.0} bytes", figures["bytes_finished_above_record_and_result"]);
    println!(
        "pick-up by an idle worker  p50 {:>6.0} µs   p99 {:>6.0} µs",
        figures["pick_up_p50_us"], figures["pick_up_p99_us"]
    );
    println!("\ncommands of an idle worker in 10 s (inside scripts too):");
    for (name, calls) in idle {
        println!("  {name:<20} {calls:>6}");
    }
}
