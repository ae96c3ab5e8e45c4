//! Members and records that nobody can read: they are set aside or fail, and never stand in the way of others.

use std::time::Duration;

use orchestrator::{Error, NewTask, Orchestrator, TaskHandle, TaskId};
use orchestrator_tests::{orch, raw, until, within};
use orchestrator_worker::{Status, TaskResult, task_handler};
use redis::AsyncCommands;

use super::look::{Look, id_bytes, slice};
use super::{run, worker};

#[task_handler("ok", queue = "q")]
async fn ok(n: u32) -> TaskResult<u32> {
    Ok(n)
}

async fn stored(look: &mut Look, id: TaskId) -> Vec<u8> {
    let key = look.key(slice(id));
    look.raw.hget(key, id_bytes(id)).await.unwrap()
}

async fn overwrite(look: &mut Look, id: TaskId, record: &[u8]) {
    let key = look.key(slice(id));
    let _: () = look.raw.hset(key, id_bytes(id), record).await.unwrap();
}

/// Runs a worker with one slot until `healthy` are done.
async fn work(orch: &Orchestrator, healthy: &[TaskHandle<u32>]) {
    let (stop, running) = run(worker(orch).register::<ok>().slots(1));
    for (n, handle) in healthy.iter().enumerate() {
        assert_eq!(handle.result().timeout("20s").await.unwrap(), n as u32);
    }
    until("nothing left", || async { (orch.stats().await.unwrap().total_tasks == 0).then_some(()) }).await;
    stop.drain();
    within("the worker's end", running).await.unwrap().unwrap();
}

/// The raw entries that were set aside.
async fn aside(look: &mut Look) -> Vec<Vec<u8>> {
    look.raw.lrange(look.key("Q"), 0, -1).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_at_the_head_of_a_queue_is_passed_over() {
    let orch = orch().await;
    let mut look = Look::at(&orch, raw().await);
    let members: &[&[u8]] = &[b"", b"x", &[1; 13], &[1; 14], &[1; 15], &[0xff; 14], &[0; 400]];
    for member in members {
        let _: () = look.raw.zadd(look.key("r:q"), member, 0).await.unwrap();
    }
    let _: () = look.raw.zadd(look.key("r:q"), [2u8; 14].as_slice(), f64::NEG_INFINITY).await.unwrap();
    let healthy = [orch.enqueue(ok::with(0)).await.unwrap(), orch.enqueue(ok::with(1)).await.unwrap()];
    work(&orch, &healthy).await;
    assert!(aside(&mut look).await.is_empty(), "there was nothing to keep");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_nobody_can_read_fail_or_are_set_aside_raw() {
    let orch = orch().await;
    let mut look = Look::at(&orch, raw().await);
    let whole = orch.enqueue(ok::with(9)).await.unwrap();
    let sample = stored(&mut look, whole.id()).await;
    whole.cancel().await.unwrap();
    let header = 16 + usize::from(sample[15]);
    let changed = |at: usize, byte: u8| [&sample[..at], &[byte], &sample[at + 1..]].concat();
    let garbage: Vec<u8> = (0..200).map(|_| rand::random()).collect();
    // Each with whether the script can tell by itself.
    let records: Vec<(&str, Vec<u8>, bool)> = vec![
        ("empty", Vec::new(), true),
        ("one byte", vec![1], true),
        ("no body", sample[..header].to_vec(), false),
        ("cut in its header", sample[..10].to_vec(), true),
        ("cut in its queue's name", sample[..16].to_vec(), true),
        ("cut in its body", sample[..header + 3].to_vec(), false),
        ("cut in its payload", sample[..sample.len() - 1].to_vec(), false),
        ("stray bytes behind", [&*sample, b"stray"].concat(), false),
        ("another version", changed(0, 9), true),
        ("a queue's name beyond the end", changed(15, 255), false),
        ("a priority that is none", changed(12, 77), false),
        ("random bytes", [&[7], &*garbage].concat(), true),
        ("random bytes behind a version", [&[1], &*garbage].concat(), false),
        ("deep nesting", [&sample[..header], &[0x91; 5000]].concat(), false),
        ("a reserved marker", [&sample[..header], &[0xc1]].concat(), false),
    ];
    let mut hurt = Vec::new();
    for (what, record, _) in &records {
        let handle = orch.enqueue(ok::with(0)).await.unwrap();
        overwrite(&mut look, handle.id(), record).await;
        hurt.push((handle, *what));
    }
    let healthy = [orch.enqueue(ok::with(0)).await.unwrap(), orch.enqueue(ok::with(1)).await.unwrap()];
    work(&orch, &healthy).await;

    let aside = aside(&mut look).await;
    let dead: Vec<Vec<u8>> = look.raw.zrange(look.key("X"), 0, -1).await.unwrap();
    let mut buckets = look.names().await;
    buckets.retain(|name| name[0] == b'D');
    for ((handle, what), (_, record, by_script)) in hurt.iter().zip(&records) {
        let id = id_bytes(handle.id());
        if *by_script {
            let entry = [b"record ", &*id, b" ", record].concat();
            assert!(aside.contains(&entry), "{what}: not set aside");
            assert!(matches!(handle.task().await, Err(Error::NotFound { .. })), "{what}");
            continue;
        }
        assert!(dead.contains(&id), "{what}: no dead letter");
        let mut kept = None;
        for bucket in &buckets {
            let value: Option<Vec<u8>> = look.raw.hget(look.key(bucket), &id).await.unwrap();
            kept = kept.or(value);
        }
        let kept = kept.unwrap_or_else(|| panic!("{what}: not kept"));
        // Its counters were raised; everything behind them is there as it was.
        let tail = record.get(11..).unwrap_or_default();
        assert!(kept.windows(tail.len()).any(|window| window == tail), "{what}: its bytes are gone");
        assert!(kept.windows(9).any(|window| window == b"malformed"), "{what}: no reason is given");
        let error = handle.result().await.expect_err("failed");
        assert!(matches!(error, Error::TaskEnded { status: Status::Failed, .. }), "{what}: {error}");
    }
    let by_script = records.iter().filter(|(_, _, by_script)| *by_script).count();
    assert_eq!((aside.len(), dead.len()), (by_script, records.len() - by_script));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_among_timers_is_passed_over() {
    let orch = orch().await;
    let mut look = Look::at(&orch, raw().await);
    let unreadable = orch.enqueue(ok::with(0).delay("1h")).await.unwrap();
    overwrite(&mut look, unreadable.id(), b"nonsense").await;
    let timer = [b"d", &*id_bytes(unreadable.id())].concat();
    let members: &[&[u8]] = &[b"", b"d", b"dshort", &[b'd'; 14], &[b'd'; 15], &[b'q'; 15], &[b'd'; 300], &timer];
    for member in members {
        let _: () = look.raw.zadd(look.key("z"), member, 0).await.unwrap();
    }
    let _: () = look.raw.zadd(look.key("z"), b"dfar", f64::INFINITY).await.unwrap();
    let _: () = look.raw.zadd(look.key("z"), b"dnever", f64::NEG_INFINITY).await.unwrap();
    let healthy = orch.enqueue(ok::with(0).delay("100ms")).await.unwrap();
    let (stop, running) = run(worker(&orch).register::<ok>().slots(1));
    assert_eq!(healthy.result().timeout("20s").await.unwrap(), 0);
    until("all to be set aside", || async {
        (orch.stats().await.unwrap().set_aside == members.len() as u64 + 1).then_some(())
    })
    .await;
    assert_eq!(orch.stats().await.unwrap().scheduled_tasks, 1, "the one that is never due");
    stop.drain();
    within("the worker's end", running).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_in_every_index_stop_nothing() {
    let orch = orch().await;
    let mut look = Look::at(&orch, raw().await);
    let (stop, running) = run(worker(&orch).register::<ok>().lease(super::SHORT));
    orch.enqueue(ok::with(0)).await.unwrap().result().await.unwrap();
    let name = look.workers().await.remove(0);
    let strange: &[&[u8]] = &[b"", b"\0", b"not one of ours", &[0xff; 14], b"1e3", b"-1", b"nan"];
    for member in strange {
        for (i, zset) in ["W", "B", "X", "T", "u:ok", "k:q", &format!("i:{name}")].iter().enumerate() {
            let _: () = look.raw.zadd(look.key(zset), member, i).await.unwrap();
        }
        for set in ["q", "U"] {
            let _: () = look.raw.sadd(look.key(set), member).await.unwrap();
        }
        for hash in ["h", "n", "s", "g", "D0"] {
            let _: () = look.raw.hset(look.key(hash), member, member).await.unwrap();
        }
        let _: () = look.raw.rpush(look.key("Q"), member).await.unwrap();
        let _: String = look.raw.xadd(look.key("e"), "*", &[(member, member)]).await.unwrap();
    }
    let healthy: Vec<_> = orch.enqueue_all((0..20).map(ok::with)).await.unwrap();
    for (n, handle) in healthy.iter().enumerate() {
        assert_eq!(handle.result().timeout("20s").await.unwrap(), n as u32);
    }
    let stranger = Orchestrator::with_config(orch.config().clone()).await.unwrap();
    let late = stranger.enqueue(NewTask::<u32>::new("ok", &5u32).delay(Duration::from_millis(50))).await.unwrap();
    assert_eq!(late.result().timeout("20s").await.unwrap(), 5);
    // Workers that never were are cleared away like dead ones.
    until("the strange leases to go", || async { (orch.stats().await.unwrap().workers == 1).then_some(()) }).await;
    orch.offers().await.unwrap();
    stop.drain();
    within("the worker's end", running).await.unwrap().unwrap();
}
