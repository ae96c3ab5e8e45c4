//! A thousand tasks wait three days for people, through the death of everything: of workers while they begin, of Redis
//! while they wait, of workers again while they go on.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use orchestrator::{ApprovalId, ApprovalPolicy, Approver, Ballot, Config, NewTask, Orchestrator, Status, Task, TaskId};
use orchestrator_tests::{Fixture, Process, Server, namespace, until};
use redis::AsyncCommands;

use super::{SHORT, fixture};

const TASKS: u32 = 1_000;
const DAY: u64 = 24 * 3600;

/// The namespace's own clock, which stands until it is moved.
struct Clock(redis::aio::MultiplexedConnection, String, u64);

impl Clock {
    async fn set(&mut self, seconds: u64) {
        self.2 = seconds;
        let _: () = self.0.hset_multiple(&self.1, &[("s", seconds), ("us", 0)]).await.unwrap();
    }

    /// Moves on until `fact` holds, a second at a time: leases end, and the dead are rescued.
    async fn run_until(&mut self, what: &str, mut fact: impl AsyncFnMut() -> bool) {
        for _ in 0..6000 {
            if fact().await {
                return;
            }
            self.set(self.2 + 1).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("waited in vain for: {what}");
    }
}

/// Four processes, of which one at a time is killed and replaced.
struct Fleet {
    fixture: Fixture,
    processes: Vec<Process>,
    started: usize,
}

impl Fleet {
    fn start(fixture: Fixture) -> Self {
        let processes = (0..4).map(|n| fixture.tagged(&n.to_string()).start()).collect();
        Self { fixture, processes, started: 4 }
    }

    async fn kill_one(&mut self) {
        let at = rand::random_range(0..self.processes.len());
        self.processes[at].signal("KILL");
        self.processes[at].ended().await;
        self.processes[at] = self.fixture.tagged(&self.started.to_string()).start();
        self.started += 1;
    }
}

async fn count(orch: &Orchestrator) -> (u64, u64) {
    match orch.stats().await {
        Ok(stats) => (stats.blocked_tasks, stats.total_tasks),
        Err(_) => (0, u64::MAX),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tasks_wait_three_days_through_the_death_of_everything() {
    let dir = PathBuf::from(if PathBuf::from("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" })
        .join(format!("orch-parked-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let mut server =
        Server::start(&["--appendonly", "yes", "--appendfsync", "always", "--dir", &dir.display().to_string()]);
    let effects = Server::start(&[]);
    let mut told = effects.raw().await;
    let namespace = namespace();
    let key = format!("{{{namespace}.0}}:now");
    let mut clock = Clock(server.raw().await, key.clone(), 0);
    clock.set(1_900_000_000).await;
    let config =
        Config { namespace, test_clock: true, approvals: ApprovalPolicy::none(), ..Config::new(&server.url()) };
    let orch = Orchestrator::with_config(config.clone()).await.unwrap();
    let tasks = (0..TASKS).map(|n| NewTask::<String>::new("review", &n).queue("review").requested_by("bob"));
    let ids: Vec<TaskId> = orch.enqueue_all(tasks).await.unwrap().iter().map(|handle| handle.id()).collect();

    // They begin, and workers die meanwhile.
    let fixture = Fixture { test_clock: true, slots: 4, lease: SHORT, ..fixture(&orch, &effects) };
    let mut fleet = Fleet::start(fixture.clone());
    for share in 1..=3 {
        let parked = u64::from(TASKS) * share / 8;
        clock.run_until("some to be parked", async || count(&orch).await.0 >= parked).await;
        fleet.kill_one().await;
    }
    clock.run_until("all to be parked", async || count(&orch).await.0 == u64::from(TASKS)).await;
    let crashes: HashMap<TaskId, u32> = crashes(&orch, &ids).await;
    let before: HashMap<u32, u32> = told.hgetall("before").await.unwrap();
    for (n, id) in ids.iter().enumerate() {
        let (done, died) = (before[&(n as u32)], crashes[id]);
        assert!(done == 1 || done <= 1 + died, "step of task {n} ran {done} times, its worker died {died} times");
    }
    eprintln!("before: {} repeats", before.values().sum::<u32>() - TASKS);

    // They wait: no worker, no lease, nothing held; Redis dies; three days pass.
    drop(fleet);
    clock
        .run_until("the dead to be gone", async || {
            // Nobody is there to rescue: a worker of ours looks after them.
            let survivor = fixture.tagged("survivor").start();
            let gone = until("a look at the silent", || async {
                let stats = orch.stats().await.ok()?;
                (stats.processing_tasks == 0).then_some(true)
            });
            let gone = gone.await;
            survivor.signal("KILL");
            gone
        })
        .await;
    drop(orch);
    server.kill();
    server.restart();
    let orch = Orchestrator::with_config(config).await.unwrap();
    clock = Clock(server.raw().await, key, clock.2);
    clock.set(clock.2 + 3 * DAY).await;
    assert_eq!(count(&orch).await, (u64::from(TASKS), 0));
    let held: Vec<String> = clock.0.keys("*:w:*").await.unwrap();
    assert!(held.is_empty(), "a parked task is held: {held:?}");

    // People decide, others go on with the work, and workers die again.
    let mut fleet = Fleet::start(Fixture { tag: "late".into(), ..fixture });
    let people = orch.clone();
    let deciders = futures::stream::iter(ids.clone()).for_each_concurrent(8, move |task| {
        let orch = people.clone();
        async move {
            let id = ApprovalId { task, number: 1 };
            orch.decide(id, &Ballot::approve(Approver::named("alice"))).await.expect("a decision");
        }
    });
    let deciding = tokio::spawn(deciders);
    for _ in 0..3 {
        let mark = count(&orch).await;
        clock.run_until("some to go on", async || count(&orch).await != mark).await;
        fleet.kill_one().await;
    }
    deciding.await.unwrap();
    clock.run_until("the end of all", async || count(&orch).await == (0, 0)).await;

    let crashes = self::crashes(&orch, &ids).await;
    let after: HashMap<u32, u32> = told.hgetall("after").await.unwrap();
    let again: HashMap<u32, u32> = told.hgetall("before").await.unwrap();
    assert_eq!(before, again, "what was done before the wait was not done again");
    for (n, id) in ids.iter().enumerate() {
        let task = orch.get(*id).await.unwrap();
        assert_eq!(task.status, Status::Completed, "{task:?}");
        assert!(task.result.unwrap().as_str().unwrap().starts_with(&format!("{n} by alice on ")));
        let (done, died) = (after[&(n as u32)], crashes[id]);
        assert!(done == 1 || done <= 1 + died, "the step behind the wait of task {n} ran {done} times");
    }
    eprintln!("after: {} repeats", after.values().sum::<u32>() - TASKS);
    assert_eq!(orch.verify_audit(|_| ()).await.unwrap().fault, None);
    let _ = std::fs::remove_dir_all(dir);
}

async fn crashes(orch: &Orchestrator, ids: &[TaskId]) -> HashMap<TaskId, u32> {
    let tasks: Vec<Task> =
        futures::stream::iter(ids).then(|id| async move { orch.get(*id).await.unwrap() }).collect().await;
    tasks.into_iter().map(|task| (task.task_id, task.crashes)).collect()
}
