//! A key is overwritten in front of one particular call: the call does its work once and wholly all the same.

use std::time::Duration;

use orchestrator::{Claim, Incarnation, NewTask, Orchestrator, Status, TaskHandle, TaskId, Ticket, encode_value};
use orchestrator_tests::{orch, raw, until};
use redis::AsyncCommands;

use super::SHORT;
use super::look::{Look, id_bytes, slice};

struct Ground {
    orch: Orchestrator,
    look: Look,
    life: Incarnation,
}

impl Ground {
    async fn new() -> Self {
        let orch = orch().await;
        let look = Look::at(&orch, raw().await);
        let life = Incarnation::join(&orch, &["q".into()], &[], SHORT).await.unwrap();
        Self { orch, look, life }
    }

    async fn task(&self) -> TaskHandle<u32> {
        self.orch.enqueue(NewTask::new("t", &1u32).queue("q")).await.unwrap()
    }

    async fn poke(&mut self, name: impl AsRef<[u8]>) {
        let key = self.look.key(name);
        let _: () = self.look.raw.set(key, "poke").await.unwrap();
    }

    async fn claim(&self, want: usize, woken: Option<&str>) -> Vec<Claim> {
        self.life.step(&[], want, &["q".into()], woken).await.unwrap().claims
    }

    /// What the worker was given is what Redis says that it holds.
    async fn holds_just(&mut self, claims: &[Claim]) {
        let mut given: Vec<Vec<u8>> = claims.iter().map(|claim| member(claim.ticket())).collect();
        let mut held: Vec<Vec<u8>> =
            self.look.raw.smembers(self.look.key(format!("w:{}", self.life.name()))).await.unwrap();
        given.sort();
        held.sort();
        assert_eq!(given, held);
    }
}

fn member(ticket: Ticket) -> Vec<u8> {
    [id_bytes(ticket.id), ticket.epoch.to_be_bytes().to_vec()].concat()
}

fn seven() -> Vec<u8> {
    encode_value("result", &7u32, 100).unwrap()
}

#[tokio::test]
async fn a_claim_that_meets_a_poked_token_takes_what_it_tells_of() {
    let mut ground = Ground::new().await;
    let handles = [ground.task().await, ground.task().await];
    ground.poke("k:q").await;
    let claims = ground.claim(1, Some("q")).await;
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].ticket().id, handles[0].id());
    ground.holds_just(&claims).await;
}

#[tokio::test]
async fn a_claim_that_clears_away_nonsense_under_a_poked_list_takes_what_it_tells_of() {
    let mut ground = Ground::new().await;
    let nonsense = ground.task().await;
    let record = ground.look.key(slice(nonsense.id()));
    let _: () = ground.look.raw.hset(record, id_bytes(nonsense.id()), "nonsense").await.unwrap();
    let good = ground.task().await;
    ground.poke("Q").await;
    let claims = ground.claim(5, None).await;
    assert_eq!(claims.iter().map(|claim| claim.ticket().id).collect::<Vec<_>>(), [good.id()]);
    ground.holds_just(&claims).await;
}

#[tokio::test]
async fn a_finish_that_meets_poked_notes_counts_and_the_claim_beside_it_happens_once() {
    for key in ["n", "z", "B", "X", "T", "e", "Q", "k:q", "r:q", "q"] {
        let mut ground = Ground::new().await;
        let first = ground.task().await;
        let claims = ground.claim(1, None).await;
        // Somebody waits for it.
        let waiting = tokio::spawn({
            let first = first.clone();
            async move { first.result().timeout("40s").await }
        });
        let record = ground.look.key(slice(first.id()));
        let id = id_bytes(first.id());
        let raw = ground.look.raw.clone();
        until("the waiter's mark", || {
            let (mut raw, record, id) = (raw.clone(), record.clone(), id.clone());
            async move { (raw.hget::<_, _, Vec<u8>>(record, id).await.unwrap()[13] == 1).then_some(()) }
        })
        .await;
        ground.poke(key).await;
        let second = ground.task().await;
        let finish = claims.into_iter().next().unwrap().complete(&seven());
        let stepped = ground.life.step(&[finish], 1, &["q".into()], None).await.unwrap();
        assert_eq!(first.task().await.unwrap().status, Status::Completed, "{key}");
        assert_eq!(stepped.claims.len(), 1, "{key}");
        ground.holds_just(&stepped.claims).await;
        assert!(stepped.stale.is_empty(), "{key}: the finish counted, and is called stale");
        let told = |events: Vec<(&'static str, u32)>| events.into_iter().map(|(what, _)| what).collect::<Vec<_>>();
        // The stream itself loses what it held when it is overwritten.
        if key != "e" {
            let events = told(ground.look.events(first.id()).await);
            assert_eq!(events, ["task.created", "task.started", "task.completed"], "{key}");
        }
        let events = told(ground.look.events(second.id()).await);
        assert_eq!(events, ["task.created", "task.started"], "{key}");
        if key != "n" {
            assert_eq!(waiting.await.unwrap().unwrap(), 7, "{key}");
        }
    }
}

#[tokio::test]
async fn children_of_an_older_parent_are_stored_though_its_list_is_poked() {
    let mut ground = Ground::new().await;
    // A parent from another slice of time.
    let parent: TaskId = "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000".parse().unwrap();
    ground.poke([b"c", &id_bytes(parent)[..4]].concat()).await;
    let child = ground.orch.enqueue(NewTask::<u32>::new("t", &1u32).queue("q").parent_id(parent)).await.unwrap();
    assert_eq!(child.task().await.unwrap().parent_task_id, Some(parent));
    assert_eq!(ground.claim(1, None).await.len(), 1);
}

#[tokio::test]
async fn nonsense_among_what_a_worker_holds_does_not_hide_what_it_holds() {
    for nonsense in [&b""[..], b"short", &[7; 17], &[7; 18], &[7; 19], &[7; 100]] {
        let mut ground = Ground::new().await;
        let handles = [ground.task().await, ground.task().await, ground.task().await];
        let claims = ground.claim(2, None).await;
        let held = ground.look.key(format!("w:{}", ground.life.name()));
        let _: () = ground.look.raw.sadd(&held, nonsense).await.unwrap();
        // One of them is known, the other was claimed unseen.
        let known = claims[0].ticket();
        let told = ground.life.reconcile(|ticket| ticket == known).await.unwrap();
        assert!(told.tickets.contains(&known), "{nonsense:?} hides what is held: {told:?}");
        let adopted: Vec<TaskId> = told.adopted.iter().map(|claim| claim.ticket().id).collect();
        assert_eq!(adopted, [claims[1].ticket().id], "{nonsense:?}");
        let finishes =
            claims.into_iter().map(|claim| claim.complete(&seven())).chain(told.unreadable).collect::<Vec<_>>();
        let last = ground.life.step(&finishes, 1, &["q".into()], None).await.unwrap().claims;
        let finishes: Vec<_> = last.into_iter().map(|claim| claim.complete(&seven())).collect();
        assert!(ground.life.step(&finishes, 0, &[], None).await.unwrap().stale.is_empty());
        for handle in handles {
            assert_eq!(handle.result().await.unwrap(), 7);
        }
        let left = ground.life.leave(&[]).await.unwrap();
        assert_eq!(left, 0, "{nonsense:?} keeps the worker from leaving");
    }
}

#[tokio::test]
async fn a_worker_whose_lease_is_overwritten_or_deleted_keeps_what_it_holds() {
    for deleted in [false, true] {
        let mut ground = Ground::new().await;
        let handle = ground.task().await;
        let claims = ground.claim(1, None).await;
        match deleted {
            true => ground.look.raw.del::<_, ()>(ground.look.key("W")).await.unwrap(),
            false => ground.poke("W").await,
        }
        ground.life.beat(&[], &[]).await.expect("its generation is the present one");
        assert_eq!(ground.look.workers().await, [ground.life.name()]);
        ground.holds_just(&claims).await;
        let finishes: Vec<_> = claims.into_iter().map(|claim| claim.complete(&seven())).collect();
        assert!(ground.life.step(&finishes, 0, &[], None).await.unwrap().stale.is_empty());
        assert_eq!(handle.result().await.unwrap(), 7);
    }
}

#[tokio::test]
async fn the_dead_are_looked_after_though_their_leases_were_overwritten() {
    let mut ground = Ground::new().await;
    let handle = ground.task().await;
    assert_eq!(ground.claim(1, None).await.len(), 1);
    ground.poke("W").await;
    let lease = Duration::from_millis(100);
    let other = Incarnation::join(&ground.orch, &["q".into()], &[], lease).await.unwrap();
    until("the rescue", || async {
        other.beat(&[], &[]).await.unwrap();
        (other.rescue().await.unwrap() == 1).then_some(())
    })
    .await;
    assert_eq!(handle.task().await.unwrap().status, Status::Assigned);
}
