//! The heartbeat: on a thread, a runtime and a connection of its own, so that no handler can stop it. It also does what
//! time demands of the whole namespace: timers, rescue of silent workers, tasks on the shelf.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use orchestrator::{Error, Incarnation, Orchestrator, Result, TaskId};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::counted::Rare;
use crate::metrics::Meter;

/// How long before the end of an unrenewed lease the worker stops its handlers by itself; of a short lease a sixth.
const MARGIN: Duration = Duration::from_secs(1);
/// Longest wait for one call; the next beat is due soon.
const CALL_TIMEOUT: Duration = Duration::from_millis(1500);

/// What runs now and since when (server milliseconds), kept by the worker and read by the heart.
pub(crate) type Roster = Arc<Mutex<HashMap<TaskId, u64>>>;

/// A beating heart; stops when dropped.
#[derive(Debug)]
pub(crate) struct Heart {
    stop: CancellationToken,
    alarm: Arc<Alarm>,
    thread: Option<JoinHandle<()>>,
}

/// How the heart reaches the handlers, past a worker that may be waiting for Redis itself.
#[derive(Debug, Default)]
struct Alarm {
    /// Stops the attempts begun under it; replaced when it was used.
    halt: Mutex<CancellationToken>,
    lost: CancellationToken,
    /// The earliest timer that the worker has heard of since the heart last looked.
    due: Mutex<Option<Instant>>,
    due_told: Notify,
}

impl Alarm {
    /// Stops every attempt that runs.
    fn halt(&self) {
        let mut halt = self.halt.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        std::mem::take(&mut *halt).cancel();
    }
}

impl Heart {
    /// What stops an attempt that begins now, should the lease become unsafe.
    pub(crate) fn halt(&self) -> CancellationToken {
        self.alarm.halt.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Resolves when the lease is gone.
    pub(crate) async fn lost(&self) {
        self.alarm.lost.cancelled().await;
    }

    /// A timer is due after `wait`: the heart is to fire it then.
    pub(crate) fn expect(&self, wait: Duration) {
        let at = Instant::now() + wait;
        let mut due = self.alarm.due.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if due.is_none_or(|due| at < due) {
            *due = Some(at);
            self.alarm.due_told.notify_one();
        }
    }

    pub(crate) fn start(
        (life, orch): (Incarnation, Orchestrator),
        task_types: Vec<String>,
        roster: Roster,
        meter: Meter,
    ) -> Result<Self> {
        let stop = CancellationToken::new();
        let alarm = Arc::new(Alarm::default());
        let beating = Beating {
            // A private server ends with its last client, which is not the heart.
            orch: life.client(&orch),
            life,
            task_types,
            roster,
            meter,
            alarm: Arc::clone(&alarm),
            stop: stop.clone(),
            reported: HashMap::new(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| Error::Unfit { what: format!("no runtime for the heartbeat: {error}") })?;
        let thread = std::thread::Builder::new()
            .name("orchestrator-heart".into())
            .spawn(move || runtime.block_on(beating.run()))
            .map_err(|error| Error::Unfit { what: format!("no thread for the heartbeat: {error}") })?;
        Ok(Self { stop, alarm, thread: Some(thread) })
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Beating {
    life: Incarnation,
    orch: Orchestrator,
    task_types: Vec<String>,
    roster: Roster,
    meter: Meter,
    alarm: Arc<Alarm>,
    stop: CancellationToken,
    reported: HashMap<TaskId, u64>,
}

impl Beating {
    async fn run(mut self) {
        let (stop, alarm, lease) = (self.stop.clone(), Arc::clone(&self.alarm), self.life.lease());
        let meter = self.meter.clone();
        let (beaten, alive) = watch::channel(Instant::now());
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.beat_on(&beaten) => {}
            () = guard(&alarm, &meter, alive, lease) => {}
        }
    }

    /// Beats until the lease is lost, and tells `beaten` when the last good beat began.
    async fn beat_on(&mut self, beaten: &watch::Sender<Instant>) {
        // The connection must live on this runtime.
        while let Err(error) = self.life.separate().await.map(|life| self.life = life) {
            tracing::warn!(%error, "the heartbeat has no connection");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        self.orch = self.life.client(&self.orch);
        let interval = self.life.lease() / 3;
        let mut next_beat = Instant::now();
        let mut due: Option<Instant> = None;
        let half = self.life.lease() / 2;
        loop {
            // Who has not seen the others' leases for a while does not judge them: Redis may be away for everybody.
            let rescue = self.life.next_rescue().filter(|_| beaten.borrow().elapsed() < half);
            let wake = [Some(next_beat), due, rescue].into_iter().flatten().min().unwrap_or(next_beat);
            tokio::select! {
                () = tokio::time::sleep_until(wake.into()) => {}
                () = self.alarm.due_told.notified() => {}
            }
            let told = self.alarm.due.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
            due = [due, told].into_iter().flatten().min();
            let now = Instant::now();
            if now >= next_beat {
                match self.beat().await {
                    Ok(next) => {
                        if beaten.borrow().elapsed() > 2 * interval {
                            self.meter.rare(Rare::LateRenewal);
                        }
                        self.meter.leased(true);
                        beaten.send_replace(now);
                        (due, next_beat) = (next, now + interval);
                    }
                    Err(Error::LeaseLost) => {
                        self.meter.leased(false);
                        tracing::error!("the lease was lost: the handlers are stopped");
                        self.alarm.halt();
                        self.alarm.lost.cancel();
                        return;
                    }
                    Err(error) => {
                        self.meter.rare(Rare::FailedRenewal);
                        tracing::warn!(%error, "a heartbeat did not come through");
                        next_beat = Instant::now() + Duration::from_millis(200);
                    }
                }
            }
            if due.is_some_and(|due| due <= Instant::now()) {
                due = match in_time(self.orch.tick()).await {
                    Ok(next) => next.map(|wait| Instant::now() + wait),
                    Err(_) => Some(Instant::now() + Duration::from_millis(200)),
                };
            }
            let sighted = beaten.borrow().elapsed() < half;
            if sighted && self.life.next_rescue().is_some_and(|at| at <= Instant::now()) {
                match in_time(self.life.rescue()).await {
                    Ok(0) => {}
                    Ok(tasks) => {
                        self.meter.rescued(tasks);
                        tracing::warn!(tasks, "took back the tasks of a worker that fell silent");
                    }
                    Err(error) => tracing::warn!(%error, "could not look after silent workers"),
                }
            }
        }
    }

    /// One beat; tells when the next timer is due.
    async fn beat(&mut self) -> Result<Option<Instant>> {
        let running = self.roster.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        let begun: Vec<(TaskId, u64)> =
            running.iter().filter(|(id, _)| !self.reported.contains_key(id)).map(|(id, at)| (*id, *at)).collect();
        let left: Vec<TaskId> = self.reported.keys().filter(|id| !running.contains_key(id)).copied().collect();
        let beaten = in_time(self.life.beat(&begun, &left)).await?;
        self.reported = running;
        if beaten.shelf {
            in_time(self.life.unshelve(&self.task_types)).await?;
        }
        Ok(beaten.due.map(|wait| Instant::now() + wait))
    }
}

/// Stops the handlers when no beat has come through for almost a lease, whatever the heart waits for meanwhile.
async fn guard(alarm: &Alarm, meter: &Meter, mut alive: watch::Receiver<Instant>, lease: Duration) {
    loop {
        let end = *alive.borrow_and_update() + lease - MARGIN.min(lease / 6);
        let beaten = tokio::select! {
            beaten = alive.changed() => beaten,
            () = tokio::time::sleep_until(end.into()) => {
                tracing::error!("no heartbeat for almost a lease: the handlers are stopped");
                meter.leased(false);
                alarm.halt();
                alive.changed().await
            }
        };
        if beaten.is_err() {
            return;
        }
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::Unavailable { reason: format!("no answer within {CALL_TIMEOUT:?}"), source: None }),
    }
}
