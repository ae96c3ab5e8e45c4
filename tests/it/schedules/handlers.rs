//! Handlers that run by themselves, by their attribute.

use std::sync::Arc;

use orchestrator_tests::{until, within};
use orchestrator_worker::{Data, TaskContext, TaskResult, Worker, task_handler};
use tokio::sync::mpsc;

use super::*;

/// The tick, and when it ran.
type Ran = (Option<DateTime<Utc>>, DateTime<Utc>);
type Told = Arc<mpsc::UnboundedSender<Ran>>;

/// Comes every second.
#[task_handler("pulse", queue = "pulse", cron = "* * * * * *", overlap = "allow")]
async fn pulse(_: (), told: Data<Told>, ctx: TaskContext) -> TaskResult {
    let _ = told.send((ctx.scheduled_for(), Utc::now()));
    Ok(())
}

/// The same type in four programs.
mod first {
    use super::*;
    #[task_handler("nightly", queue = "nightly", cron = "0 3 * * *", tz = "Europe/Berlin", catch_up = "all")]
    pub(super) async fn nightly(_: Option<u8>) -> TaskResult {
        Ok(())
    }
}
mod second {
    use super::*;
    #[task_handler("nightly", queue = "nightly", cron = "0 4 * * *", tz = "Europe/Berlin", priority = P1)]
    pub(super) async fn nightly(_: Option<u8>) -> TaskResult {
        Ok(())
    }
}
mod without {
    use super::*;
    #[task_handler("nightly", queue = "nightly")]
    pub(super) async fn nightly(_: Option<u8>) -> TaskResult {
        Ok(())
    }
}
mod unfit {
    use super::*;
    #[task_handler("nightly", queue = "nightly", cron = "0 4 * * *", tz = "Europe/Berln")]
    pub(super) async fn nightly(_: Option<u8>) -> TaskResult {
        Ok(())
    }
}

/// Runs a worker until it is up, and ends it in order.
async fn begins<H: orchestrator_worker::TaskHandler + Default>(orch: &Orchestrator) {
    let worker = Worker::builder(orch.clone()).discover(false).register::<H>().build().unwrap();
    let running = worker.start();
    until("the worker is up", async || orch.offers().await.unwrap().contains_key("nightly").then_some(())).await;
    within("it ends", running.stop()).await.unwrap();
    let _: () = raw().await.del(key(orch, "h")).await.unwrap();
}

#[tokio::test]
async fn the_schedule_of_a_handler_follows_its_attribute() {
    let orch = orchestrator_tests::orch().await;
    let name = "handler.nightly";
    begins::<first::nightly>(&orch).await;
    let there = status(&orch, name).await;
    assert_eq!((there.cron.as_deref(), there.time_zone.as_deref()), (Some("0 3 * * *"), Some("Europe/Berlin")));
    assert_eq!((there.catch_up, there.task.task_type.as_str()), (orchestrator::CatchUp::All, "nightly"));
    assert!(there.task.payload.is_null() && !there.upcoming.is_empty());
    // A start that changes nothing leaves a pause; so does a change.
    orch.schedules().pause(name, Some("ann")).await.unwrap();
    begins::<first::nightly>(&orch).await;
    assert!(status(&orch, name).await.paused);
    begins::<second::nightly>(&orch).await;
    let there = status(&orch, name).await;
    assert_eq!((there.paused, there.cron.as_deref()), (true, Some("0 4 * * *")));
    assert_eq!(there.task.priority, orchestrator::Priority::P1);
    // Two that differ: the one that started last counts.
    begins::<first::nightly>(&orch).await;
    assert_eq!(status(&orch, name).await.cron.as_deref(), Some("0 3 * * *"));
    begins::<without::nightly>(&orch).await;
    assert!(matches!(orch.schedules().get(name).await, Err(Error::NotFound { .. })));

    let refused = Worker::builder(orch.clone()).discover(false).register::<unfit::nightly>().build();
    let refused = refused.err().expect("no worker").to_string();
    assert!(
        refused.contains("the handler of `nightly`") && refused.contains("Did you mean Europe/Berlin?"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_worker_fires_what_it_handles_in_time() {
    let orch = orchestrator_tests::orch().await;
    let (tell, mut told) = mpsc::unbounded_channel::<Ran>();
    let worker =
        Worker::builder(orch.clone()).discover(false).register::<pulse>().data(Arc::new(tell)).build().unwrap();
    let running = worker.start();
    let mut last = None;
    for _ in 0..4 {
        let (tick, ran) = within("a tick", told.recv()).await.unwrap();
        let tick = tick.expect("the schedule's tick");
        assert_eq!(tick.timestamp_subsec_millis(), 0);
        assert!((0..2500).contains(&(ran - tick).num_milliseconds()), "{tick} ran at {ran}");
        assert!(last.is_none_or(|last| tick > last), "{last:?} {tick}");
        last = Some(tick);
    }
    within("it ends", running.stop()).await.unwrap();
    let by_hand = orch.enqueue(pulse::with(())).await.unwrap().task().await.unwrap();
    assert!(by_hand.metadata.is_empty());
}
