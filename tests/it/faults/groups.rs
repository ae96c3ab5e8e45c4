//! Members of consumer groups are killed at random while events come; some events kill whoever handles them.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use orchestrator::{NewEvent, NewTask, Orchestrator, TaskHandle};
use orchestrator_tests::{Process, Server, orch, until};
use rand::Rng;
use redis::AsyncCommands;
use serde_json::json;

use super::fixture;

const GROUPS: [&str; 3] = ["audit", "notes", "late"];
const MEMBERS: usize = 3;
const TASKS: usize = 100;
/// Events that always fail, and such that take the process down.
const BAD: usize = 20;
const DEADLY: usize = 2;
/// Between two kills.
const PAUSE: Duration = Duration::from_millis(700);
/// What one process may have handled without Redis knowing: what it handles at once, and two turns of notes.
const IN_FLIGHT: usize = 32 + 2 * 200;

/// How many events: `EVENTS` in the environment, or as many as fit a usual run.
fn count() -> usize {
    std::env::var("EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000)
}

/// Events as they are told: task, number within the task, kind.
fn events(count: usize) -> Vec<(usize, usize, &'static str)> {
    let mut numbers = [0; TASKS];
    let kind = |i: usize| match i % (count / BAD) {
        7 => "bad",
        11 if i < DEADLY * (count / BAD) => "deadly",
        _ => "good",
    };
    let mut told = Vec::with_capacity(count);
    for i in 0..count {
        let task = rand::rng().random_range(0..TASKS);
        told.push((task, numbers[task], kind(i)));
        numbers[task] += 1;
    }
    told
}

async fn tell(orch: &Orchestrator, tasks: &[TaskHandle<()>], events: &[(usize, usize, &str)]) {
    for some in events.chunks(100) {
        let event = |(task, n, kind): &(usize, usize, &str)| {
            NewEvent::new("job.came", &json!({"task": task, "n": n, "kind": kind})).task(tasks[*task].id())
        };
        let some: Vec<NewEvent> = some.iter().map(event).collect();
        orch.publish_all(&some).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_members_lose_no_event_and_keep_the_order_of_each_task() {
    let orch = orch().await;
    let effects = Server::start(&[]);
    let mut told = effects.raw().await;
    let mut member = fixture(&orch, &effects);
    member.lease = Duration::from_secs(1);
    let start = |group: &str| {
        let member = orchestrator_tests::Fixture { group: Some(group.into()), ..member.clone() };
        (group.to_owned(), member.start())
    };
    let tasks = orch.enqueue_all((0..TASKS).map(|n| NewTask::<()>::new("faq", &n))).await.unwrap();
    // All groups are there; the last one goes away until half is told.
    let mut fleet: Vec<(String, Process)> = GROUPS.iter().map(|group| start(group)).collect();
    until("the groups are served", async || {
        let groups = orch.groups().await.unwrap();
        (groups.len() == 3 && groups.iter().all(|group| group.consumer.is_some())).then_some(())
    })
    .await;
    drop(fleet.pop());
    for group in &GROUPS[..2] {
        fleet.extend((1..MEMBERS).map(|_| start(group)));
    }
    let events = events(count());
    let (telling, half) = (orch.clone(), events.len() / 2);
    let (early, rest) = (events[..half].to_vec(), events[half..].to_vec());
    let about = tasks.clone();
    let mut telling = Some(tokio::spawn(async move {
        tell(&telling, &about, &early).await;
        (telling, about, rest)
    }));
    let begun = Instant::now();
    let (mut kills, mut second, mut is_late) = (0, None, false);
    loop {
        if telling.as_ref().is_some_and(tokio::task::JoinHandle::is_finished) {
            let (orch, about, rest) = telling.take().unwrap().await.unwrap();
            fleet.extend((0..MEMBERS).map(|_| start(GROUPS[2])));
            is_late = true;
            second = Some(tokio::spawn(async move { tell(&orch, &about, &rest).await }));
        }
        // The next fault, and whoever died of it or of an event comes back.
        tokio::time::sleep(PAUSE).await;
        let groups = orch.groups().await.unwrap();
        let all_done = groups.iter().all(|group| group.pending == 0 && group.behind == Some(0));
        if is_late && all_done && second.as_ref().is_some_and(tokio::task::JoinHandle::is_finished) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60 + events.len() as u64 / 200), "not done: {groups:?}");
        // After a while it is left in peace, so that it comes to an end.
        if begun.elapsed() < Duration::from_secs(8 + events.len() as u64 / 2000) {
            let victim = rand::rng().random_range(0..fleet.len());
            fleet[victim].1.signal("KILL");
            fleet[victim].1.ended().await;
            kills += 1;
        }
        for (group, process) in &mut fleet {
            if process.has_ended() {
                *process = start(group).1;
            }
        }
    }
    let took = begun.elapsed();
    drop(fleet);

    let bad: HashSet<(u64, u64)> =
        events.iter().filter(|(.., kind)| *kind != "good").map(|(task, n, _)| (*task as u64, *n as u64)).collect();
    assert_eq!(bad.len(), BAD + DEADLY);
    for group in GROUPS {
        let handled: Vec<String> = told.lrange(format!("events:{group}"), 0, -1).await.unwrap();
        let mut next: HashMap<u64, u64> = HashMap::new();
        let mut again = 0;
        for line in &handled {
            let (task, n) = line.split_once(' ').unwrap();
            let (task, n): (u64, u64) = (task.parse().unwrap(), n.parse().unwrap());
            let next = next.entry(task).or_default();
            assert!(n <= *next, "{group}: of task {task}, {n} came before {next}");
            again += usize::from(n < *next && !bad.contains(&(task, n)));
            *next = (*next).max(n + 1);
        }
        assert_eq!(next.values().sum::<u64>(), events.len() as u64, "{group}: every event was handled");
        let mut letters = Vec::new();
        while let Some(page) =
            Some(orch.dead_events(group, letters.last().map(|(id, _): &(String, _)| id.as_str()), 100).await.unwrap())
                .filter(|page| !page.is_empty())
        {
            letters.extend(page.into_iter().map(|letter| {
                let number = |name: &str| letter.event.payload[name].as_u64().unwrap();
                (letter.id.clone(), (number("task"), number("n")))
            }));
        }
        assert_eq!(letters.len(), bad.len(), "{group}: no dead letter is there twice");
        assert_eq!(letters.into_iter().map(|(_, event)| event).collect::<HashSet<_>>(), bad, "{group}");
        eprintln!("{group}: {} events, {again} of them twice", events.len());
        assert!(again <= (kills + DEADLY * 5) * IN_FLIGHT, "{group}: {again} events were handled twice");
    }
    eprintln!("{} events, {kills} kills, {took:.1?}", events.len());
}
