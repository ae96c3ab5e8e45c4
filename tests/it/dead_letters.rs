//! Dead letters: found by whatever they have in common, page by page, grouped, retried and deleted, by the thousand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use orchestrator::{
    ApprovalPolicy, CLAIM_MAX, Claim, Config, DeadFilter, DeadLetter, DeadSweep, Entry, Error, Incarnation, LEASE,
    NewTask, Noted, Orchestrator, SlaTerms, Status, TaskFilter, TaskId, Unique, fingerprint,
};
use orchestrator_tests::{Proxy, all_events, config, key, namespace, orch, raw, server, until};
use orchestrator_worker::{TaskContext, TaskResult, Worker, task_handler};
use redis::AsyncCommands;

const QUEUES: [&str; 2] = ["left", "right"];

fn queues() -> Vec<String> {
    QUEUES.map(Into::into).to_vec()
}

async fn join(orch: &Orchestrator) -> Incarnation {
    Incarnation::join(orch, &queues(), &[], 100 * LEASE).await.unwrap()
}

/// The `n`-th failure: one of 3 types, 2 queues, 2 reasons, 3 tenants, and one of 4 bugs.
fn nth(n: usize) -> (NewTask<()>, &'static str, String) {
    let task = NewTask::new(["a", "b", "c"][n % 3], &n).queue(QUEUES[n % 2]);
    let task = match n % 5 {
        0 => task.tenant("acme"),
        1 => task.tenant("beta"),
        _ => task,
    };
    let bug = match n % 4 {
        0 => format!("order {n} not found"),
        1 => format!("no connection to 10.0.0.{n}:6379"),
        2 => format!("user 'u{n}' has no Address\nat line {n}"),
        _ => "out of luck".to_owned(),
    };
    (task, if n.is_multiple_of(7) { "fatal" } else { "retries" }, bug)
}

/// Has `n` tasks fail; returns them in the order of their failures.
async fn fail(orch: &Orchestrator, n: usize) -> Vec<TaskId> {
    let worker = join(orch).await;
    let mut how = BTreeMap::new();
    for start in (0..n).step_by(1000) {
        let (mut tasks, mut ends) = (Vec::new(), Vec::new());
        for i in start..n.min(start + 1000) {
            let (task, reason, error) = nth(i);
            tasks.push(task);
            ends.push((reason, error));
        }
        let made = orch.enqueue_all(tasks).await.unwrap();
        how.extend(made.iter().map(|task| task.id()).zip(ends));
    }
    let mut failed = Vec::new();
    while failed.len() < n {
        let claims = worker.step(&[], CLAIM_MAX, &queues(), None).await.unwrap().claims;
        failed.extend(claims.iter().map(|claim| claim.ticket().id).filter(|id| how.contains_key(id)));
        let ends: Vec<_> = claims
            .into_iter()
            .map(|claim| {
                // One that was retried fails once more.
                match how.get(&claim.ticket().id) {
                    Some((reason, error)) => claim.fail(reason, error),
                    None => claim.fail("retries", "once more"),
                }
            })
            .collect();
        worker.step(&ends, 0, &queues(), None).await.unwrap();
    }
    worker.leave(&[]).await.unwrap();
    failed
}

async fn walk(orch: &Orchestrator, filter: &DeadFilter, limit: usize) -> Vec<DeadLetter> {
    let (mut letters, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let page = orch.dead_letters(filter, cursor.as_deref(), limit).await.unwrap();
        assert!(page.letters.len() <= limit && page.unreadable == 0);
        letters.extend(page.letters);
        cursor = page.cursor;
        if cursor.is_none() {
            return letters;
        }
    }
}

fn ids(letters: &[DeadLetter]) -> Vec<TaskId> {
    letters.iter().map(|letter| letter.task.task_id).collect()
}

fn by(name: &str) -> DeadSweep {
    DeadSweep { by: name.into(), ..DeadSweep::default() }
}

fn some(text: &str) -> Option<String> {
    Some(text.into())
}

#[tokio::test]
async fn every_filter_means_what_it_says_on_pages_of_any_size() {
    let orch = orch().await;
    let failed: BTreeSet<TaskId> = fail(&orch, 700).await.into_iter().collect();
    let all = walk(&orch, &DeadFilter::default(), 1000).await;
    assert_eq!(ids(&all).into_iter().collect::<BTreeSet<_>>(), failed);
    assert!(all.windows(2).all(|pair| pair[0].died_at >= pair[1].died_at), "newest first");
    let at = all[350].died_at;
    let none = DeadFilter::default;
    let alike = fingerprint("a", "retries", "out of luck");
    type Means = Box<dyn Fn(&DeadLetter) -> bool>;
    let cases: Vec<(DeadFilter, Means)> = vec![
        (DeadFilter { task_type: some("b"), ..none() }, Box::new(|l| l.task.task_type == "b")),
        (DeadFilter { queue: some("left"), ..none() }, Box::new(|l| l.task.queue == "left")),
        (DeadFilter { reason: some("fatal"), ..none() }, Box::new(|l| l.task.reason.as_deref() == Some("fatal"))),
        (DeadFilter { tenant: some("acme"), ..none() }, Box::new(|l| l.task.tenant.as_deref() == Some("acme"))),
        (
            DeadFilter { error: some("ADDRESS"), ..none() },
            Box::new(|l| l.task.error.as_ref().is_some_and(|e| e.contains("no Address"))),
        ),
        (
            DeadFilter { fingerprint: Some(alike), ..none() },
            Box::new(|l| {
                (l.task.task_type.as_str(), l.task.reason.as_deref(), l.task.error.as_deref())
                    == ("a", Some("retries"), Some("out of luck"))
            }),
        ),
        (DeadFilter { since: Some(at), ..none() }, Box::new(move |l| l.died_at >= at)),
        (DeadFilter { until: Some(at), ..none() }, Box::new(move |l| l.died_at < at)),
        (
            DeadFilter { task_type: some("c"), queue: some("right"), reason: some("retries"), ..none() },
            Box::new(|l| {
                l.task.task_type == "c" && l.task.queue == "right" && l.task.reason.as_deref() == Some("retries")
            }),
        ),
        (DeadFilter { task_type: some("none"), ..none() }, Box::new(|_| false)),
    ];
    for (filter, means) in &cases {
        let expected: Vec<DeadLetter> = all.iter().filter(|letter| means(letter)).cloned().collect();
        for limit in [1000, 7] {
            assert!(walk(&orch, filter, limit).await == expected, "{filter:?} in pages of {limit}");
        }
        let counted = orch.count_dead(filter, &DeadSweep::default(), |_, _| ()).await.unwrap();
        assert_eq!((counted.found, counted.complete), (expected.len() as u64, true), "{filter:?}");
    }
    assert!(cases.iter().filter(|(_, means)| all.iter().any(means)).count() >= 8, "most cases mean something");

    for limit in [0, 1001] {
        assert!(matches!(orch.dead_letters(&none(), None, limit).await, Err(Error::Invalid { .. })));
    }
    for cursor in ["", "x", "x.1", "x.1.2", "l.019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000"] {
        assert!(matches!(orch.dead_letters(&none(), Some(cursor), 1).await, Err(Error::Invalid { .. })), "{cursor}");
    }
}

#[tokio::test]
async fn pages_tell_what_stays_once_while_letters_come_and_go() {
    let orch = orch().await;
    let failed = fail(&orch, 400).await;
    let goes: BTreeSet<TaskId> = failed.iter().step_by(3).copied().collect();
    let (mut seen, mut cursor, mut left) = (Vec::new(), None::<String>, goes.iter());
    loop {
        let page = orch.dead_letters(&DeadFilter::default(), cursor.as_deref(), 9).await.unwrap();
        seen.extend(ids(&page.letters));
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
        for (i, id) in left.by_ref().take(5).enumerate() {
            match i % 2 {
                0 => orch.retry(*id).await.unwrap(),
                _ => orch.delete_dead_letter(*id, "ann").await.unwrap(),
            }
        }
        if seen.len() < 100 {
            // What was retried fails again, and others for the first time.
            fail(&orch, 2).await;
        }
    }
    let once: BTreeSet<TaskId> = seen.iter().copied().collect();
    assert_eq!(once.len(), seen.len(), "a letter is told twice");
    assert!(failed.iter().filter(|id| !goes.contains(id)).all(|id| once.contains(id)), "one that stayed is left out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_are_grouped_counted_and_deleted_in_bounded_steps() {
    const MANY: usize = 10_000;
    let orch = orch().await;
    fail(&orch, MANY).await;
    let started = Instant::now();
    let mut last = 0;
    let progress = |looked, all| {
        assert!(looked >= last && looked <= all && all == MANY as u64);
        last = looked;
    };
    let told = orch.dead_groups(&DeadFilter::default(), &DeadSweep::default(), progress).await.unwrap();
    eprintln!("{MANY} letters: {} groups in {:?}", told.groups.len(), started.elapsed());
    // Three types, two reasons, four bugs.
    assert_eq!((told.groups.len(), told.letters, told.others, told.complete), (24, MANY as u64, 0, true));
    assert_eq!(told.groups.iter().map(|group| group.count).sum::<u64>(), MANY as u64);
    assert!(told.groups.windows(2).all(|pair| pair[0].count >= pair[1].count));
    let group = told.groups[0].clone();
    assert!(group.first_at <= group.last_at && !group.error.is_empty());
    let filter = DeadFilter { fingerprint: Some(group.fingerprint.clone()), ..DeadFilter::default() };
    let newest = orch.dead_letters(&filter, None, 1).await.unwrap().letters.remove(0);
    assert_eq!((newest.task.task_id, newest.died_at), (group.task_id, group.last_at));

    let none = DeadSweep { patience: Some(Duration::ZERO), ..DeadSweep::default() };
    assert!(!orch.count_dead(&DeadFilter::default(), &none, |_, _| ()).await.unwrap().complete);

    let limited = DeadSweep { limit: Some(30), ..by("ann") };
    let some = orch.delete_dead(&filter, &limited, |_, _| ()).await.unwrap();
    assert_eq!((some.found, some.done, some.left), (group.count, 30, group.count - 30));
    let started = Instant::now();
    let swept = orch.delete_dead(&DeadFilter::default(), &by("ann"), |_, _| ()).await.unwrap();
    eprintln!("{} deleted in {:?}", swept.done, started.elapsed());
    assert_eq!((swept.done, swept.left, swept.gone), (MANY as u64 - 30, 0, 0));
    assert_eq!(walk(&orch, &DeadFilter::default(), 10).await, []);
    assert_eq!(orch.verify_audit(|_| ()).await.unwrap().entries, MANY as u64);
}

static REPAIRED: AtomicBool = AtomicBool::new(false);

/// Fails until it is repaired.
#[task_handler("dead.fixable", queue = "fixable", retries = 0, crate = "orchestrator_worker")]
async fn fixable(n: u64, _ctx: TaskContext) -> TaskResult<u64> {
    match REPAIRED.load(Ordering::Relaxed) {
        true => Ok(n),
        false => Err(format!("the disk {n} is full").into()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_retried_by_its_fingerprint_succeeds_once_the_bug_is_gone() {
    let orch = orch().await;
    let running = Worker::builder(orch.clone()).discover(false).register::<fixable>().build().unwrap().start();
    let tasks = orch.enqueue_all((0..120).map(fixable::with)).await.unwrap();
    let dead = async |n| {
        until("they have failed", async || (orch.stats().await.unwrap().dead_tasks == n).then_some(())).await;
    };
    dead(120).await;
    fail(&orch, 10).await;
    let groups = orch.dead_groups(&DeadFilter::default(), &DeadSweep::default(), |_, _| ()).await.unwrap().groups;
    assert_eq!((groups[0].count, groups[0].task_type.as_str()), (120, "dead.fixable"));
    let filter = DeadFilter { fingerprint: Some(groups[0].fingerprint.clone()), ..DeadFilter::default() };
    REPAIRED.store(true, Ordering::Relaxed);

    let grown = DeadSweep { expected: Some(119), ..by("ann") };
    let error = orch.retry_dead(&filter, &grown, |_, _| ()).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict { what } if what.starts_with("120 dead letters")), "{error}");
    assert_eq!(orch.stats().await.unwrap().dead_tasks, 130, "nothing was done");

    let expected = DeadSweep { expected: Some(120), ..by("ann") };
    let swept = orch.retry_dead(&filter, &expected, |_, _| ()).await.unwrap();
    assert_eq!((swept.found, swept.done, swept.refused, swept.gone, swept.left), (120, 120, 0, 0, 0));
    for (n, task) in tasks.iter().enumerate() {
        assert_eq!(task.result().await.unwrap(), n as u64);
    }
    dead(10).await;
    let audit = orch.audit(0).await.unwrap();
    assert!(audit.iter().all(|entry| (entry.op.as_str(), entry.who.as_str()) == ("retried", "ann")));
    assert_eq!(audit.len(), 120);
    running.stop().await.unwrap();
}

/// All keys with what they hold, but for what tells of the past: events, audit, ids of events seen.
async fn dump(orch: &Orchestrator) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let base = key(orch, "");
    let keys: Vec<Vec<u8>> = raw().await.keys(format!("{base}*")).await.unwrap();
    let mut dump = BTreeMap::new();
    for name in keys {
        let short = name[base.len()..].to_vec();
        if [&b"e"[..], b"audit", b"x"].contains(&short.as_slice()) || short[0] == b'v' {
            continue;
        }
        let mut command = redis::cmd("DUMP");
        dump.insert(short, command.arg(&name).query_async(&mut raw().await).await.unwrap());
    }
    dump
}

fn step() -> Entry {
    Entry { order: 1, side_by_side: false, code: 0, digest: [0; 8], noted: Noted::Step(vec![0xc0]) }
}

async fn claim(worker: &Incarnation) -> Claim {
    worker.step(&[], 1, &queues(), None).await.unwrap().claims.pop().expect("a task")
}

#[tokio::test]
async fn a_deleted_one_leaves_nothing_behind_but_what_tells_of_it() {
    let orch = orch().await;
    let worker = join(&orch).await;
    // What stays is there before: queue, buckets, counts of the hour.
    fail(&orch, 4).await;
    let promised = || NewTask::<()>::new("a", &()).queue("left").sla(SlaTerms::new(Duration::from_secs(600)));
    orch.enqueue(promised()).await.unwrap();
    let first = claim(&worker).await;
    worker.step(&[first.complete(&[0xc0])], 0, &queues(), None).await.unwrap();
    let stay = orch.enqueue(NewTask::<()>::new("a", &()).queue("right").delay("1h")).await.unwrap().id();
    let before = dump(&orch).await;

    let id = orch.enqueue(promised().tenant("acme")).await.unwrap().id();
    let held = claim(&worker).await;
    worker.note(held.ticket(), "step", &step(), &[]).await.unwrap();
    let child = NewTask::<()>::new("a", &()).queue("right").parent_id(id);
    let child = orch.enqueue(child).await.unwrap().id();
    orch.cancel(child).await.unwrap();
    worker.step(&[held.fail("fatal", "no luck")], 0, &queues(), None).await.unwrap();
    let with = dump(&orch).await;
    let kinds: BTreeSet<u8> =
        with.iter().filter(|(name, held)| before.get(*name) != Some(held)).map(|(name, _)| name[0]).collect();
    for kind in [b'X', b'D', b'C', b'j', b'c'] {
        assert!(kinds.contains(&kind), "it was in {} before it was deleted", char::from(kind));
    }
    let letter = orch.dead_letter(id).await.unwrap();
    assert_eq!((letter.worker.as_deref(), letter.task.attempt), (Some(worker.name()), 1));
    assert_eq!(letter.fingerprint, fingerprint("a", "fatal", "no luck"));

    orch.delete_dead_letter(id, "ann").await.unwrap();
    assert!(matches!(orch.get(id).await, Err(Error::NotFound { .. })));
    assert!(matches!(orch.retry(id).await, Err(Error::NotFound { .. })));
    assert!(matches!(orch.delete_dead_letter(id, "ann").await, Err(Error::NotFound { .. })));
    let holds = |dump: &BTreeMap<Vec<u8>, Vec<u8>>| {
        let id = crate::model::bytes::id_bytes(id);
        let named = |bytes: &[u8]| bytes.windows(id.len()).any(|part| part == id);
        dump.iter()
            .filter(|(name, held)| named(name) || named(held))
            .map(|(name, _)| name.escape_ascii().to_string())
            .collect::<Vec<_>>()
    };
    let after = dump(&orch).await;
    assert!(holds(&with).len() >= 4, "{:?}", holds(&with));
    assert_eq!(holds(&after), Vec::<String>::new());
    let names = |dump: &BTreeMap<Vec<u8>, Vec<u8>>| {
        dump.keys().map(|name| name.escape_ascii().to_string()).collect::<BTreeSet<_>>()
    };
    // The hash of clocks of that bucket goes with its last one; the child that was cancelled is kept with its own.
    assert!(names(&after).is_subset(&names(&before)), "{:?} {:?}", names(&after), names(&before));

    let events: Vec<_> = all_events(&orch).await.into_iter().filter(|e| e.event_type == "task.deleted").collect();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].task_id, &events[0].payload["by"]), (Some(id), &serde_json::json!("ann")));
    assert_eq!(events[0].metadata["tenant"], "acme");
    let entry = orch.audit(0).await.unwrap().pop().unwrap();
    assert_eq!((entry.op.as_str(), entry.who.as_str(), entry.approval_id.task), ("deleted", "ann", id));
    assert_eq!(orch.verify_audit(|_| ()).await.unwrap().fault, None);
    let live = orch.dead_letter(stay).await.unwrap_err();
    assert!(matches!(&live, Error::Conflict { what } if what.contains("pending")), "{live}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_deletion_and_a_retry_at_once_one_wins() {
    let one = orch().await;
    let other = Orchestrator::with_config(one.config().clone()).await.unwrap();
    let failed = fail(&one, 300).await;
    let (mut deleted, mut retried) = (0, 0);
    for (i, id) in failed.iter().enumerate() {
        // A deletion looks at the letter first: it gets some head start.
        let retry = async {
            tokio::time::sleep(Duration::from_micros(20 * i as u64 % 3000)).await;
            one.retry(*id).await
        };
        let (retry, delete) = futures::join!(retry, other.delete_dead_letter(*id, "ann"));
        match (&retry, &delete) {
            (Ok(()), Err(Error::Conflict { .. })) => {
                assert_eq!(one.get(*id).await.unwrap().status, Status::Assigned);
                retried += 1;
            }
            (Err(Error::NotFound { .. }), Ok(())) => {
                assert!(one.get(*id).await.is_err());
                deleted += 1;
            }
            both => panic!("{both:?}"),
        }
    }
    eprintln!("{deleted} deleted, {retried} retried");
    assert!(deleted > 0 && retried > 0);
    assert_eq!(one.stats().await.unwrap().dead_tasks, 0);
    // Those that were retried are out of the way.
    for task in one.list(&TaskFilter::default(), None, 1000).await.unwrap().tasks {
        one.cancel(task.task_id).await.unwrap();
    }
    // All at once, by a filter each.
    fail(&one, 300).await;
    let all = DeadFilter::default();
    let (a, b) = (by("ann"), by("bob"));
    let (retry, delete) = futures::join!(one.retry_dead(&all, &a, |_, _| ()), other.delete_dead(&all, &b, |_, _| ()));
    let (retry, delete) = (retry.unwrap(), delete.unwrap());
    assert_eq!(retry.done + delete.done, 300, "{retry:?} {delete:?}");
    assert_eq!((retry.refused, retry.left, delete.left), (0, 0, 0));
    assert_eq!(one.stats().await.unwrap().dead_tasks, 0);
}

#[tokio::test]
async fn a_letter_that_cannot_be_retried_is_refused_and_told() {
    let orch = orch().await;
    let worker = join(&orch).await;
    let id = orch.enqueue(NewTask::<()>::new("a", &()).queue("left")).await.unwrap().id();
    let held = claim(&worker).await;
    worker.note(held.ticket(), "step", &step(), &[]).await.unwrap();
    worker.step(&[held.fail("fatal", "no luck")], 0, &queues(), None).await.unwrap();
    // Another one has the key by now that a unique one held.
    let unique = || NewTask::<()>::new("a", &()).queue("left").unique(Unique::until_done("repo"));
    let displaced = orch.enqueue(unique()).await.unwrap().id();
    let held = claim(&worker).await;
    worker.step(&[held.fail("fatal", "no luck")], 0, &queues(), None).await.unwrap();
    orch.enqueue(unique().delay("1h")).await.unwrap();
    let journal = [key(&orch, "j:").as_bytes(), &crate::model::bytes::id_bytes(id)].concat();
    let _: () = raw().await.del(journal).await.unwrap();
    fail(&orch, 3).await;
    let swept = orch.retry_dead(&DeadFilter::default(), &by("ann"), |_, _| ()).await.unwrap();
    assert_eq!((swept.found, swept.done, swept.refused, swept.gone), (5, 3, 2, 0));
    let refused: BTreeSet<TaskId> = swept.examples.iter().map(|refusal| refusal.task_id).collect();
    assert_eq!(refused, BTreeSet::from([id, displaced]));
    assert!(swept.examples.iter().any(|refusal| refusal.error.contains("has it now")), "{:?}", swept.examples);
}

#[tokio::test]
async fn lost_answers_delete_tell_and_count_once() {
    let line = Proxy::before(server::shared());
    let config = Config { namespace: namespace(), approvals: ApprovalPolicy::none(), ..Config::new(&line.url()) };
    let orch = Orchestrator::with_config(config).await.unwrap();
    fail(&orch, 50).await;
    line.cut("forget", |_| true);
    line.cut("forget", |_| true);
    let swept = orch.delete_dead(&DeadFilter::default(), &by("ann"), |_, _| ()).await.unwrap();
    line.struck(2).await;
    assert_eq!((swept.done, swept.gone), (50, 0));
    let deleted = all_events(&orch).await.iter().filter(|event| event.event_type == "task.deleted").count();
    assert_eq!((deleted, orch.verify_audit(|_| ()).await.unwrap().entries), (50, 50));
}

const START: u64 = 1_900_000_000;
const DAY: u64 = 86_400;

async fn set(namespace: &str, seconds: u64) {
    let _: () =
        raw().await.hset_multiple(format!("{{{namespace}.0}}:now"), &[("s", seconds), ("us", 0)]).await.unwrap();
}

async fn at(orch: &Orchestrator, seconds: u64) {
    set(&orch.config().namespace, START + seconds).await;
    while orch.tick().await.unwrap() == Some(Duration::ZERO) {}
    orch.clock_error().await.unwrap();
}

async fn kept_for(base: &Config, days: u64) -> Orchestrator {
    let dead_retention = Duration::from_secs(days * DAY);
    Orchestrator::with_config(Config { dead_retention, test_clock: true, ..base.clone() }).await.unwrap()
}

#[tokio::test]
async fn they_are_kept_for_their_retention_and_found_when_that_is_changed() {
    let base = Config { retention: Duration::from_secs(3600), ..config() };
    set(&base.namespace, START).await;
    let orch = kept_for(&base, 3).await;
    let old = fail(&orch, 6).await;
    let count = async |orch: &Orchestrator| walk(orch, &DeadFilter::default(), 100).await.len();
    at(&orch, DAY).await;
    // Whoever keeps them for longer or shorter from now on finds those of before.
    for days in [10, 1] {
        let other = kept_for(&base, days).await;
        at(&other, DAY).await;
        assert_eq!(count(&other).await, 6, "kept for {days} days");
        assert_eq!(other.dead_letter(old[0]).await.unwrap().task.status, Status::Failed);
    }
    orch.retry(old[0]).await.unwrap();
    let longer = kept_for(&base, 10).await;
    longer.retry(old[1]).await.unwrap();
    longer.delete_dead_letter(old[2], "ann").await.unwrap();
    assert_eq!(count(&longer).await, 3);
    at(&orch, 3 * DAY - 60).await;
    assert_eq!(count(&orch).await, 3);
    // A bucket is 4 hours wide, and dropped with the retention of others behind it.
    at(&orch, 3 * DAY + 6 * 3600).await;
    assert_eq!(count(&orch).await, 0);
    assert!(matches!(orch.get(old[5]).await, Err(Error::NotFound { .. })));
    assert_eq!(orch.stats().await.unwrap().dead_tasks, 0);
}
