//! A worker that sleeps beyond its lease and wakes: nothing that it still believes to hold counts.

use std::time::{Duration, Instant};

use orchestrator::{Claim, Error, Incarnation, LetGo, NewTask, Orchestrator, Status, encode_value};
use orchestrator_tests::{Server, orch, raw, until, within};
use orchestrator_worker::{TaskResult, task_handler};
use redis::AsyncCommands;

use super::look::Look;
use super::{SHORT, fixture, run, worker};

#[task_handler("linger", queue = "linger")]
async fn linger(_: String) -> TaskResult<String> {
    Ok("b".into())
}

fn task(name: &str) -> NewTask<String> {
    NewTask::new("linger", name).queue("linger")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_wakes_beyond_its_lease_changes_nothing_and_begins_anew() {
    let orch = orch().await;
    let effects = Server::start(&[]);
    let mut told = effects.raw().await;
    let mut look = Look::at(&orch, raw().await);
    let zombie = fixture(&orch, &effects).start();
    // Two tasks in its hands: one that will be done the moment it wakes, and one that would go on for ever.
    let handles = orch.enqueue_all(["done", "endless"].map(task)).await.unwrap();
    for _ in 0..2 {
        let _: (String, String) = told.blpop("started:a", 20.0).await.expect("a task in the zombie's hands");
    }
    let names = look.workers().await;
    zombie.signal("STOP");
    let stopped = Instant::now();
    let _: String = told.xadd("open:done", "*", &[("x", "x")]).await.unwrap();

    let (stop, running) = run(worker(&orch).register::<linger>().lease(SHORT));
    for handle in &handles {
        assert_eq!(handle.result().await.unwrap(), "b", "somebody else did it");
        let seen = handle.task().await.unwrap();
        assert_eq!((seen.status, seen.attempt, seen.crashes), (Status::Completed, 2, 1));
    }
    eprintln!("rescued and done elsewhere {:.2?} after the stop", stopped.elapsed());
    stop.drain();
    running.await.unwrap().unwrap();

    let before = look.dump().await;
    zombie.signal("CONT");
    zombie.says("Beginning anew").await;
    let mut halted = String::new();
    while halted != "endless" {
        (_, halted) = told.blpop::<_, (String, String)>("halted:a", 20.0).await.expect("a handler that was stopped");
    }
    let mut anew = look.workers().await;
    while anew.is_empty() || anew == names {
        anew = look.workers().await;
    }
    assert_eq!(look.dump().await, before, "the zombie touched a task that was not its own any more");

    let _: String = told.xadd("open:later", "*", &[("x", "x")]).await.unwrap();
    let later = orch.enqueue(task("later")).await.unwrap();
    assert_eq!(later.result().await.unwrap(), "a", "it works on under its new name");
}

async fn claim(life: &Incarnation) -> Claim {
    let stepped = life.step(&[], 1, &["q".into()], None).await.unwrap();
    stepped.claims.into_iter().next().expect("a task to claim")
}

async fn life(orch: &Orchestrator, lease: Duration) -> Incarnation {
    Incarnation::join(orch, &["q".into()], &[], lease).await.unwrap()
}

/// Whatever a life that is over still says of a task that it held is refused, and leaves no trace.
async fn refuses_all(old: &Incarnation, held: &Claim, look: &mut Look) {
    let before = look.dump().await;
    let ticket = held.ticket();
    let refused = [
        ("step", old.step(&[], 5, &["q".into()], Some("q")).await.map(drop)),
        ("retry", old.retry(held, Duration::ZERO, "no").await.map(drop)),
        ("shelve", old.shelve(held).await.map(drop)),
        ("release", old.release(&[ticket]).await.map(drop)),
        ("beat", old.beat(&[(ticket.id, 1)], &[ticket.id]).await.map(drop)),
        ("reconcile", old.reconcile(|_| true).await.map(drop)),
    ];
    for (verb, outcome) in refused {
        assert!(matches!(outcome, Err(Error::LeaseLost)), "{verb}: {outcome:?}");
    }
    assert_eq!(look.dump().await, before);
}

#[tokio::test]
async fn every_verb_of_a_life_that_is_over_is_refused() {
    let orch = orch().await;
    let mut look = Look::at(&orch, raw().await);
    let lease = Duration::from_millis(200);
    let (old, new) = (life(&orch, lease).await, life(&orch, lease).await);
    let handle = orch.enqueue(NewTask::<u32>::new("t", &1u32).queue("q")).await.unwrap();
    let held = claim(&old).await;
    let ticket = held.ticket();
    until("the rescue", || async {
        new.beat(&[], &[]).await.unwrap();
        (new.rescue().await.unwrap() == 1).then_some(())
    })
    .await;
    let rescued = claim(&new).await;
    assert_eq!((rescued.ticket().id, rescued.ticket().epoch), (ticket.id, ticket.epoch + 1));

    refuses_all(&old, &held, &mut look).await;
    let result = encode_value("result", &7u32, 100).unwrap();
    assert!(new.step(&[rescued.complete(&result)], 0, &[], None).await.unwrap().stale.is_empty());
    refuses_all(&old, &held, &mut look).await;

    let before = look.dump().await;
    let late = old.step(&[held.complete(&result)], 0, &[], None).await;
    assert!(matches!(late, Err(Error::LeaseLost)), "{late:?}");
    assert_eq!(look.dump().await, before);
    assert_eq!(handle.result().await.unwrap(), 7);
    assert_eq!(within("leaving", old.leave(&[])).await.unwrap(), 0, "leaving harms nobody");
    assert_eq!(look.dump().await, before);
}

#[tokio::test]
async fn a_ticket_that_was_let_go_of_is_stale_in_the_same_life() {
    let orch = orch().await;
    let mut look = Look::at(&orch, raw().await);
    let life = life(&orch, SHORT).await;
    let handle = orch.enqueue(NewTask::<u32>::new("t", &1u32).queue("q")).await.unwrap();
    let old = claim(&life).await;
    let ticket = old.ticket();
    assert!(life.release(&[ticket]).await.unwrap().is_empty());
    let new = claim(&life).await;
    assert_eq!(new.ticket().epoch, ticket.epoch + 1);

    let before = look.dump().await;
    assert_eq!(life.release(&[ticket]).await.unwrap(), [ticket]);
    assert_eq!(life.retry(&old, Duration::ZERO, "no").await.unwrap(), LetGo::Stale);
    assert_eq!(life.shelve(&old).await.unwrap(), LetGo::Stale);
    assert_eq!(life.step(&[old.fail("late", "late")], 0, &[], None).await.unwrap().stale, [ticket]);
    assert_eq!(look.dump().await, before);
    let result = encode_value("result", &7u32, 100).unwrap();
    assert!(life.step(&[new.complete(&result)], 0, &[], None).await.unwrap().stale.is_empty());
    assert_eq!(handle.result().await.unwrap(), 7);
}

#[tokio::test]
async fn a_long_lease_is_watched_from_beat_to_beat() {
    let orch = orch().await;
    let lease = Duration::from_secs(15);
    let (silent, watchful) = (life(&orch, lease).await, life(&orch, lease).await);
    watchful.beat(&[], &[]).await.unwrap();
    let due = watchful.next_rescue().expect("the other's lease is watched");
    // As long as there is between two beats with such a lease.
    tokio::time::sleep(lease / 3).await;
    watchful.beat(&[], &[]).await.unwrap();
    assert_eq!(watchful.next_rescue(), Some(due), "the lease stood still all the while");
    silent.leave(&[]).await.unwrap();
}
