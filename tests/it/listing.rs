//! Listings: every task once, in the order that is promised, whatever its state and however long the list.

use std::collections::{BTreeMap, BTreeSet};

use orchestrator::{
    CLAIM_MAX, Claim, Config, Error, Incarnation, LEASE, NewTask, Orchestrator, Priority, Status, Task, TaskFilter,
    TaskId,
};
use orchestrator_tests::{config, orch, raw};
use serde_json::json;

fn new(task_type: &str, queue: &str) -> NewTask {
    NewTask::new(task_type, &json!({ "n": 1 })).queue(queue)
}

/// Walks all pages; returns the tasks and the number of pages.
async fn walk(orch: &Orchestrator, filter: &TaskFilter, limit: usize) -> (Vec<Task>, usize) {
    let (mut tasks, mut cursor, mut pages) = (Vec::new(), None::<String>, 0);
    loop {
        let page = orch.list(filter, cursor.as_deref(), limit).await.expect("a page");
        assert!(page.tasks.len() <= limit);
        assert_eq!(page.unreadable, 0);
        tasks.extend(page.tasks);
        pages += 1;
        cursor = page.cursor;
        if cursor.is_none() {
            return (tasks, pages);
        }
        assert!(pages < 10_000, "the listing does not end");
    }
}

fn ids(tasks: &[Task]) -> BTreeSet<TaskId> {
    let ids: BTreeSet<TaskId> = tasks.iter().map(|task| task.task_id).collect();
    assert_eq!(ids.len(), tasks.len(), "a task is told twice");
    ids
}

fn of(statuses: &[Status]) -> TaskFilter {
    TaskFilter { statuses: statuses.to_vec(), ..TaskFilter::default() }
}

async fn enqueue(orch: &Orchestrator, tasks: Vec<NewTask>) -> Vec<TaskId> {
    orch.enqueue_all(tasks).await.expect("room").iter().map(orchestrator::TaskHandle::id).collect()
}

async fn worker(orch: &Orchestrator, queues: &[&str]) -> (Incarnation, Vec<String>) {
    let queues: Vec<String> = queues.iter().map(|queue| (*queue).to_owned()).collect();
    (Incarnation::join(orch, &queues, &[], 10 * LEASE).await.expect("a seat"), queues)
}

async fn claim(worker: &(Incarnation, Vec<String>), count: usize) -> Vec<Claim> {
    let mut claims = Vec::new();
    while claims.len() < count {
        let want = (count - claims.len()).min(CLAIM_MAX);
        claims.extend(worker.0.step(&[], want, &worker.1, None).await.expect("a step").claims);
    }
    claims
}

/// Ends claims in steps of at most `together`, every fourth as failed.
async fn end(worker: &(Incarnation, Vec<String>), claims: Vec<Claim>, together: usize) {
    let finishes: Vec<_> = claims
        .into_iter()
        .enumerate()
        .map(|(i, claim)| if i % 4 == 0 { claim.fail("fatal", "no") } else { claim.complete(&[0x2a]) })
        .collect();
    for some in finishes.chunks(together) {
        worker.0.step(some, 0, &worker.1, None).await.expect("a step");
    }
}

/// Every state at once: some 3,000 tasks of several types, queues and priorities.
async fn populate(orch: &Orchestrator) -> BTreeSet<TaskId> {
    let mut all = BTreeSet::new();
    let ends = worker(orch, &["ending"]).await;
    all.extend(enqueue(orch, (0..1000).map(|i| new(["a", "b"][i % 2], "ending")).collect()).await);
    end(&ends, claim(&ends, 700).await, 7).await;
    for id in all.iter().rev().take(60) {
        orch.cancel(*id).await.expect("cancelled");
    }
    all.extend(enqueue(orch, (0..180).map(|_| new("later", "ending").delay("1h")).collect()).await);
    let runs = worker(orch, &["running"]).await;
    all.extend(enqueue(orch, (0..320).map(|_| new("a", "running").priority(Priority::P1)).collect()).await);
    for (i, claim) in claim(&runs, 320).await.iter().enumerate().take(120) {
        match i % 2 {
            0 => runs.0.shelve(claim).await.map(drop),
            _ => runs.0.retry(claim, std::time::Duration::from_secs(600), "not now").await.map(drop),
        }
        .expect("let go");
    }
    all.extend(enqueue(orch, (0..1100).map(|i| new(["a", "b", "c"][i % 3], ["p", "q"][i % 2])).collect()).await);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn every_task_is_told_once_as_get_tells_it_and_filters_agree() {
    let orch = orch().await;
    let all = populate(&orch).await;
    assert!(all.len() > 2500);
    let (whole, pages) = walk(&orch, &TaskFilter::default(), 1000).await;
    assert_eq!(ids(&whole), all);
    assert!(pages >= 3);
    let (small, _) = walk(&orch, &TaskFilter::default(), 37).await;
    assert!(whole == small, "the size of the pages changes the list");

    let mut count = BTreeMap::new();
    for task in &whole {
        *count.entry(task.status.as_str()).or_insert(0) += 1;
    }
    let expected = [
        ("assigned", 1340),
        ("cancelled", 60),
        ("completed", 525),
        ("failed", 175),
        ("in_progress", 200),
        ("pending", 300),
    ];
    assert_eq!(count, BTreeMap::from(expected));
    for task in whole.iter().step_by(17) {
        assert_eq!(*task, orch.get(task.task_id).await.expect("known"));
    }

    let from = whole[1500].created_at;
    let filters = [
        of(&[Status::Failed]),
        of(&[Status::Completed]),
        of(&[Status::InProgress]),
        of(&[Status::Pending, Status::Cancelled]),
        of(&[Status::Blocked]),
        TaskFilter { task_type: Some("b".into()), ..TaskFilter::default() },
        TaskFilter { queue: Some("ending".into()), ..of(&[Status::Assigned, Status::Failed]) },
        TaskFilter { priority: Some(Priority::P1), ..TaskFilter::default() },
        TaskFilter { created_from: Some(from), ..TaskFilter::default() },
        TaskFilter { created_before: Some(from), ..TaskFilter::default() },
    ];
    for filter in filters {
        let matching = |task: &&Task| {
            (filter.statuses.is_empty() || filter.statuses.contains(&task.status))
                && filter.task_type.as_ref().is_none_or(|t| *t == task.task_type)
                && filter.queue.as_ref().is_none_or(|q| *q == task.queue)
                && filter.priority.is_none_or(|p| p == task.priority)
                && filter.created_from.is_none_or(|from| task.created_at >= from)
                && filter.created_before.is_none_or(|to| task.created_at < to)
        };
        let expected: BTreeSet<TaskId> = whole.iter().filter(matching).map(|task| task.task_id).collect();
        for limit in [11, 1000] {
            assert_eq!(ids(&walk(&orch, &filter, limit).await.0), expected, "{filter:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn live_ones_come_newest_first_then_ended_ones_last_ended_first() {
    let orch = orch().await;
    populate(&orch).await;
    let (whole, _) = walk(&orch, &TaskFilter::default(), 100).await;
    let split = whole.iter().position(|task| task.status.is_terminal()).expect("ended ones");
    let (live, ended) = whole.split_at(split);
    assert!(live.windows(2).all(|pair| pair[0].task_id > pair[1].task_id && !pair[1].status.is_terminal()));
    // The stream was not trimmed; only what ended in its first millisecond comes behind.
    assert!(ended.windows(2).all(|pair| pair[0].completed_at >= pair[1].completed_at));
    for status in [Status::Failed, Status::Completed] {
        let (some, _) = walk(&orch, &of(&[status]), 30).await;
        assert!(some.windows(2).all(|pair| pair[0].completed_at >= pair[1].completed_at), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_stream_has_forgotten_is_told_from_the_buckets() {
    let orch = Orchestrator::with_config(Config { events_max: 100, ..config() }).await.expect("a client");
    let worker = worker(&orch, &["q"]).await;
    let mut all: BTreeSet<TaskId> = BTreeSet::new();
    for round in 0..4 {
        all.extend(enqueue(&orch, (0..300).map(|_| new("a", "q")).collect()).await);
        end(&worker, claim(&worker, 300).await, 1).await;
        let (some, _) = walk(&orch, &TaskFilter::default(), 40).await;
        assert_eq!(ids(&some), all, "round {round}");
    }
    let (failed, _) = walk(&orch, &of(&[Status::Failed]), 40).await;
    assert_eq!(failed.len(), 300);
    let (completed, _) = walk(&orch, &of(&[Status::Completed]), 40).await;
    assert_eq!(ids(&completed).len(), 900);

    // Trimmed beyond the cursor: nothing is left out, and only what ended in the millisecond of the cursor comes again.
    let page = orch.list(&TaskFilter::default(), None, 60).await.expect("a page");
    let mut told: Vec<TaskId> = page.tasks.iter().map(|task| task.task_id).collect();
    enqueue(&orch, (0..300).map(|_| new("b", "q")).collect()).await;
    end(&worker, claim(&worker, 300).await, 1).await;
    let mut cursor = page.cursor;
    while let Some(at) = cursor {
        let page = orch.list(&TaskFilter::default(), Some(&at), 100).await.expect("a page");
        told.extend(page.tasks.iter().filter(|task| task.task_type == "a").map(|task| task.task_id));
        cursor = page.cursor;
    }
    assert!(told.len() < all.len() + 30, "{} of {}", told.len(), all.len());
    assert_eq!(told.into_iter().collect::<BTreeSet<_>>(), all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowded_slice_is_told_once_too_and_a_page_reads_a_bounded_number() {
    let orch = orch().await;
    let mut all = BTreeSet::new();
    for _ in 0..12 {
        all.extend(enqueue(&orch, (0..1000).map(|_| new("a", "q")).collect()).await);
    }
    let (whole, _) = walk(&orch, &TaskFilter::default(), 1000).await;
    assert_eq!(ids(&whole), all);
    let (none, pages) = walk(&orch, &TaskFilter { task_type: Some("b".into()), ..TaskFilter::default() }, 10).await;
    assert!(none.is_empty() && pages >= 12, "{pages} pages for 12,000 records");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_exists_throughout_is_never_left_out_while_others_come_and_end() {
    let orch = orch().await;
    let steady =
        enqueue(&orch, (0..600).map(|i| new("steady", if i % 2 == 0 { "busy" } else { "idle" })).collect()).await;
    let worker = worker(&orch, &["busy"]).await;
    let (mut told, mut cursor) = (BTreeMap::<TaskId, usize>::new(), None::<String>);
    loop {
        let page = orch.list(&TaskFilter::default(), cursor.as_deref(), 25).await.expect("a page");
        for task in page.tasks.iter().filter(|task| task.task_type == "steady") {
            *told.entry(task.task_id).or_default() += 1;
        }
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
        let busy = worker.0.step(&[], 9, &worker.1, None).await.expect("a step").claims;
        end(&worker, busy, 9).await;
        enqueue(&orch, vec![new("late", "late")]).await;
    }
    assert!(steady.iter().all(|id| (1..=2).contains(&told.get(id).copied().unwrap_or(0))));
    // Those that never changed are told once.
    assert!(steady.iter().skip(1).step_by(2).all(|id| told[id] == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_record_is_counted_and_the_rest_is_told() {
    let orch = orch().await;
    let sound = enqueue(&orch, (0..5).map(|_| new("a", "q")).collect()).await;
    let uuid = uuid::Uuid::from(sound[2]).as_u128();
    let slice = ((uuid >> 96) as u32).to_be_bytes();
    let key = [format!("{{{}.0}}:t", orch.config().namespace).as_bytes(), &slice].concat();
    let mut link = raw().await;
    let fields: Vec<Vec<u8>> = redis::cmd("HKEYS").arg(&key).query_async(&mut link).await.expect("the slice");
    let broken = fields.iter().min().expect("a field");
    redis::cmd("HSET").arg(&key).arg(broken).arg("garbage").exec_async(&mut link).await.expect("a poke");
    let page = orch.list(&TaskFilter::default(), None, 50).await.expect("a page");
    assert_eq!((page.tasks.len(), page.unreadable), (4, 1));
    for limit in [0, 1001] {
        assert!(matches!(orch.list(&TaskFilter::default(), None, limit).await, Err(Error::Invalid { .. })));
    }
    assert!(matches!(orch.list(&TaskFilter::default(), Some("nonsense"), 5).await, Err(Error::Invalid { .. })));
}
