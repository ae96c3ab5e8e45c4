//! Worker processes are killed in the midst of 10,000 tasks.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use orchestrator::{LEASE, NewTask, Status};
use orchestrator_tests::{Server, orch, raw, until};
use redis::AsyncCommands;

use super::fixture;
use super::look::Look;

const TASKS: u32 = 10_000;
const KILLS: usize = 3;
/// Tasks that each process holds at the barrier.
const HELD: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_workers_lose_nothing_and_their_tasks_run_again_soon() {
    let orch = orch().await;
    let effects = Server::start(&[]);
    let mut told = effects.raw().await;
    let mut look = Look::at(&orch, raw().await);
    let handles = orch.enqueue_all((0..TASKS).map(|n| NewTask::<u32>::new("work", &n).queue("work"))).await.unwrap();

    let mut worker = fixture(&orch, &effects);
    (worker.slots, worker.lease, worker.hold) = (64, LEASE, HELD);
    let mut process = worker.tagged("0").start();
    let mut held_at_kills = 0;
    for kill in 0..KILLS {
        let held = format!("held:{kill}");
        until("32 held tasks", || {
            let (mut told, held) = (told.clone(), held.clone());
            async move { (told.llen::<_, usize>(held).await.unwrap() >= 32).then_some(()) }
        })
        .await;
        let names = look.workers().await;
        process.signal("KILL");
        let killed = Instant::now();
        process.ended().await;
        let [name] = names.as_slice() else { panic!("one worker at a time, not {names:?}") };
        // One round trip first, for Redis to have read whatever the dead process had sent.
        let _: String = redis::cmd("PING").query_async(&mut look.raw).await.unwrap();
        let victims = look.held(name).await;
        assert!(victims >= 32, "{victims} tasks were held at the kill");
        held_at_kills += victims;
        process = worker.tagged(&(kill + 1).to_string()).start();
        // What ran at the kill runs again, once each.
        let mut first = None;
        let mut again = Vec::new();
        for _ in 0..victims {
            let (_, n): (String, u32) =
                told.blpop(format!("again:{}", kill + 1), 20.0).await.expect("a task that runs again");
            first.get_or_insert_with(|| killed.elapsed());
            again.push(n);
        }
        let last = killed.elapsed();
        eprintln!(
            "kill {kill}: {victims} held; they ran again {:.2?} to {last:.2?} after it",
            first.unwrap_or_default()
        );
        assert!(last <= Duration::from_secs(10), "the last task ran again {last:?} after the kill");
        // Away from the next kill: crashing three times would be poison.
        for n in again {
            assert_eq!(handles[n as usize].result().await.unwrap(), n);
        }
    }
    let _: String = told.xadd("open", "*", &[("x", "x")]).await.unwrap();
    for handle in &handles {
        handle.result().await.unwrap();
    }
    let counted: HashMap<u32, usize> = told.hgetall("effects").await.unwrap();
    assert_eq!(counted.len(), TASKS as usize, "every task had its effect");
    let repeats = counted.values().sum::<usize>() - TASKS as usize;
    eprintln!("{repeats} repeats; {held_at_kills} were held at {KILLS} kills");
    assert!((32 * KILLS..=held_at_kills).contains(&repeats));
    for handle in handles.iter().step_by(997) {
        assert_eq!(handle.task().await.unwrap().status, Status::Completed);
    }
    process.signal("TERM");
    assert!(process.ended().await.success());
}
