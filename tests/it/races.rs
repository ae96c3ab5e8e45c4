//! Two people, or a person and the clock, at the same instant: one wins, the other is told who.
//!
//! `RACES` says how many of each kind; 10,000 take about two minutes.

use std::collections::HashMap;
use std::future::Future;

use futures::future::join_all;
use orchestrator::event::unpack;
use orchestrator::{
    ApprovalId, ApprovalPolicy, ApprovalRule, ApprovalStatus, Approver, Ballot, Config, Decided, Error, NewTask,
    Orchestrator, Result, Status,
};
use orchestrator_tests::{config, raw};
use redis::AsyncCommands;

/// Races under way at once.
const LANES: usize = 16;

fn races() -> usize {
    std::env::var("RACES").ok().and_then(|n| n.parse().ok()).unwrap_or(400)
}

/// Two clients with a connection each, on a namespace where everything needs an approval.
async fn rivals(test_clock: bool) -> [Orchestrator; 2] {
    let rule = ApprovalRule {
        reason: "a race".into(),
        when: "type == 'race'".parse().unwrap(),
        unless: None,
        terms: orchestrator::Terms::default(),
    };
    let approvals = ApprovalPolicy { rules: vec![rule], history_max: 1_000_000, ..ApprovalPolicy::none() };
    let config = Config { approvals, test_clock, ..config() };
    if test_clock {
        set_clock(&config.namespace, 1_900_000_000).await;
    }
    [Orchestrator::with_config(config.clone()).await.unwrap(), Orchestrator::with_config(config).await.unwrap()]
}

async fn set_clock(namespace: &str, seconds: u64) {
    let _: () =
        raw().await.hset_multiple(format!("{{{namespace}.0}}:now"), &[("s", seconds), ("us", 0)]).await.unwrap();
}

async fn ask(orch: &Orchestrator) -> ApprovalId {
    let task = NewTask::<()>::new("race", &()).queue("race");
    ApprovalId { task: orch.enqueue(task).await.unwrap().id(), number: 0 }
}

fn yes(name: &str) -> Ballot {
    Ballot::approve(Approver::named(name))
}

/// How often each event came for each approval.
async fn told(orch: &Orchestrator) -> HashMap<ApprovalId, Vec<&'static str>> {
    let key = format!("{{{}.0}}:e", orch.config().namespace);
    let entries = raw().await.xrange_all(key).await.map(entries).unwrap();
    let mut told: HashMap<ApprovalId, Vec<&'static str>> = HashMap::new();
    for event in entries.iter().flat_map(|fields| unpack(fields)) {
        if let Some(id) = event.approval_id.filter(|_| event.event_type != "approval.requested") {
            told.entry(id).or_default().push(event.event_type);
        }
    }
    told
}

/// An entry's names and values.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn entries(reply: redis::streams::StreamRangeReply) -> Vec<Fields> {
    let bytes = |value: redis::Value| redis::from_redis_value::<Vec<u8>>(value).unwrap();
    reply
        .ids
        .into_iter()
        .map(|entry| entry.map.into_iter().map(|(name, value)| (name.into_bytes(), bytes(value))).collect())
        .collect()
}

/// Runs races of two moves; `check` gets both outcomes, and returns the event that must have come, once.
async fn run<A, B, F: Future<Output = A>, G: Future<Output = B>>(
    [one, other]: &[Orchestrator; 2],
    left: impl Fn(Orchestrator, ApprovalId) -> F,
    right: impl Fn(Orchestrator, ApprovalId) -> G,
    check: impl Fn(ApprovalId, A, B) -> (&'static str, Status),
    ways: usize,
) {
    let mut wins: HashMap<&'static str, usize> = HashMap::new();
    let mut done = 0;
    let mut expected = HashMap::new();
    while done < races() {
        let lanes = (0..LANES.min(races() - done)).map(|lane| {
            let (left, right) = (&left, &right);
            async move {
                let id = ask(one).await;
                // Whose command is written first changes from race to race.
                let (a, b) = if (done + lane) % 2 == 0 {
                    futures::join!(left(one.clone(), id), right(other.clone(), id))
                } else {
                    // And whose connection Redis reads first.
                    let (b, a) = futures::join!(right(one.clone(), id), left(other.clone(), id));
                    (a, b)
                };
                (id, a, b)
            }
        });
        for (id, a, b) in join_all(lanes).await {
            let (event, status) = check(id, a, b);
            *wins.entry(event).or_default() += 1;
            expected.insert(id, (event, status));
        }
        done += LANES;
    }
    let told = told(one).await;
    for (id, (event, status)) in &expected {
        assert_eq!(told.get(id).map(Vec::as_slice), Some(&[*event][..]), "{id}");
        assert_eq!(one.get(id.task).await.unwrap().status, *status, "{id}");
    }
    assert_eq!(one.approvals_pending(0, 1).await.unwrap().total, 0);
    assert_eq!(one.verify_audit(|_| ()).await.unwrap().fault, None);
    eprintln!("{} races: {wins:?}", expected.len());
    assert!(wins.len() == ways, "one side always won: no race");
}

fn loser(outcome: Result<Decided>, told: &str) {
    let error = outcome.expect_err("there is one winner");
    assert!(matches!(error, Error::Conflict { .. }) && error.to_string().contains(told), "{error}");
}

const DONE: Decided = Decided::Done(ApprovalStatus::Approved);

#[tokio::test]
async fn of_two_approvals_one_wins() {
    let rivals = rivals(false).await;
    run(
        &rivals,
        |orch, id| async move { orch.decide(id, &yes("alice")).await },
        |orch, id| async move { orch.decide(id, &yes("carol")).await },
        |_, a, b| {
            match a {
                Ok(DONE) => loser(b, "approved before, by alice"),
                a => {
                    assert_eq!(b.expect("one wins"), DONE);
                    loser(a, "approved before, by carol");
                }
            }
            ("approval.approved", Status::Assigned)
        },
        1,
    )
    .await;
}

#[tokio::test]
async fn of_an_approval_and_a_rejection_one_wins() {
    let rivals = rivals(false).await;
    run(
        &rivals,
        |orch, id| async move { orch.decide(id, &yes("alice")).await },
        |orch, id| async move { orch.decide(id, &Ballot::reject(Approver::named("carol"))).await },
        |_, a, b| match a {
            Ok(DONE) => {
                loser(b, "approved before, by alice");
                ("approval.approved", Status::Assigned)
            }
            a => {
                assert_eq!(b.expect("one wins"), Decided::Done(ApprovalStatus::Rejected));
                loser(a, "rejected before, by carol");
                ("approval.rejected", Status::Cancelled)
            }
        },
        2,
    )
    .await;
}

#[tokio::test]
async fn of_an_approval_and_its_cancelling_one_wins() {
    let rivals = rivals(false).await;
    run(
        &rivals,
        |orch, id| async move { orch.decide(id, &yes("alice")).await },
        |orch, id| async move {
            // A ballot looks at the approval first; so that both arrive together, this one does too.
            orch.approval(id).await.unwrap();
            orch.cancel(id.task).await
        },
        |_, a, b| {
            // A task that was approved first is cancelled all the same, from its queue.
            assert_eq!(b.expect("cancelled"), Status::Cancelled);
            match a {
                Ok(DONE) => ("approval.approved", Status::Cancelled),
                a => {
                    loser(a, "the task was cancelled");
                    ("approval.cancelled", Status::Cancelled)
                }
            }
        },
        2,
    )
    .await;
}

#[tokio::test]
async fn of_an_approval_and_its_expiry_one_wins() {
    let [one, other] = rivals(true).await;
    let day = 24 * 3600;
    let (mut now, mut wins) = (1_900_000_000, [0, 0]);
    let mut expected = HashMap::new();
    let mut done = 0;
    while done < races() {
        let ids = join_all((0..LANES.min(races() - done)).map(|_| ask(&one))).await;
        // The clock strikes while the ballots are on their way.
        let ballots = ids.iter().map(|id| {
            let one = one.clone();
            async move { one.decide(*id, &yes("alice")).await }
        });
        let strike = async {
            set_clock(&one.config().namespace, now + day).await;
            other.tick().await.unwrap();
        };
        let outcomes = if (done / LANES).is_multiple_of(2) {
            futures::join!(join_all(ballots), strike).0
        } else {
            futures::join!(strike, join_all(ballots)).1
        };
        now += day;
        other.tick().await.unwrap();
        for (id, outcome) in ids.into_iter().zip(outcomes) {
            let (event, status) = match outcome {
                Ok(DONE) => ("approval.approved", Status::Assigned),
                outcome => {
                    loser(outcome, "nobody decided in time");
                    ("approval.expired", Status::Cancelled)
                }
            };
            wins[usize::from(status == Status::Cancelled)] += 1;
            expected.insert(id, (event, status));
        }
        done += LANES;
    }
    let told = told(&one).await;
    for (id, (event, status)) in &expected {
        assert_eq!(told.get(id).map(Vec::as_slice), Some(&[*event][..]), "{id}");
        // Ended tasks are dropped after a day of this clock, which runs fast.
        if let Ok(task) = one.get(id.task).await {
            assert_eq!(task.status, *status, "{id}");
        }
    }
    eprintln!("{} races: {} approved, {} expired", expected.len(), wins[0], wins[1]);
    assert!(wins[0] > 0 && wins[1] > 0, "one side always won: no race");
}
