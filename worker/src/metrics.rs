//! What a worker counts of itself: a clock and a few atomics a task, through handles that are made once for each type; and
//! nothing at all when nobody can ask for it.

mod serve;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use orchestrator::meters::{Counter, Gauge, Help, Histogram, Meters, OTHER, TYPES_MAX};
use orchestrator::{Claim, Error, Result};

use self::serve::Serving;
use crate::counted::{Ended, Rare};

/// The variable that names the address.
const ADDRESS: &str = "ORCHESTRATOR_METRICS_ADDRESS";

const TASKS: &str = "orchestrator_worker_tasks_total";
const QUEUE_TIME: &str = "orchestrator_task_queue_seconds";
const RUN_TIME: &str = "orchestrator_task_run_seconds";
const SLOTS: &str = "orchestrator_worker_slots";
const SLOTS_USED: &str = "orchestrator_worker_slots_used";
const RESCUED: &str = "orchestrator_worker_rescued_tasks_total";
const LATE: &str = "orchestrator_worker_lease_renewals_late_total";
const FAILED: &str = "orchestrator_worker_lease_renewals_failed_total";
const LOST: &str = "orchestrator_worker_leases_lost_total";
const ERRORS: &str = "orchestrator_worker_redis_errors_total";
const STALE: &str = "orchestrator_worker_stale_outcomes_total";
const LEASED: &str = "orchestrator_worker_leased";

const HELP: &[Help] = &[
    (TASKS, "Attempts of this worker that ended, by task type and outcome."),
    (
        QUEUE_TIME,
        "Time from when a task could run to its first claim, by type; those that waited for people first are left out.",
    ),
    (RUN_TIME, "Time of one attempt in its handler, by task type."),
    (SLOTS, "Tasks that this worker runs at once at most."),
    (SLOTS_USED, "Tasks that it runs now."),
    (RESCUED, "Tasks that this worker took back from workers that fell silent."),
    (LATE, "Renewals of this worker's lease that came through later than two thirds of it."),
    (FAILED, "Renewals of this worker's lease that did not come through."),
    (LOST, "Leases that this worker has lost."),
    (ERRORS, "Calls of this worker that Redis did not answer."),
    (STALE, "Outcomes that came too late: the task had been taken from this worker."),
    (LEASED, "Whether this worker holds a lease (1) or not (0)."),
];

/// Counts, if anybody can ask for the figures. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter(Option<Arc<Counts>>);

#[derive(Debug)]
struct Counts {
    meters: Meters,
    types: HashMap<String, Arc<OfType>>,
    slots_used: Gauge,
    leased: Gauge,
    rescued: Counter,
    rare: [Counter; 5],
    is_leased: AtomicBool,
    is_draining: AtomicBool,
}

#[derive(Debug)]
struct OfType {
    queue_time: Histogram,
    run_time: Histogram,
    ended: [Counter; Ended::NAMES.len()],
}

/// An attempt under way.
#[derive(Debug)]
pub(crate) struct Begun(Option<(Arc<OfType>, Instant)>);

impl Begun {
    /// Counts how it ended.
    pub(crate) fn end(&self, ended: Ended) {
        if let Self(Some((of, at))) = self {
            of.run_time.record(at.elapsed().as_secs_f64());
            of.ended[ended as usize].increment(1);
        }
    }
}

impl Meter {
    fn new(slots: usize, task_types: &[&str]) -> Self {
        let meters = Meters::new(HELP);
        meters.gauge(SLOTS, &[]).set(slots as f64);
        let of = |task_type: &str| {
            Arc::new(OfType {
                queue_time: meters.histogram(QUEUE_TIME, &[("task_type", task_type)]),
                run_time: meters.histogram(RUN_TIME, &[("task_type", task_type)]),
                ended: Ended::NAMES
                    .map(|outcome| meters.counter(TASKS, &[("task_type", task_type), ("outcome", outcome)])),
            })
        };
        let named = task_types.iter().take(TYPES_MAX).map(|name| ((*name).to_owned(), of(name)));
        let mut types: HashMap<String, Arc<OfType>> = named.collect();
        if task_types.len() > TYPES_MAX {
            types.insert(OTHER.into(), of(OTHER));
        }
        Self(Some(Arc::new(Counts {
            types,
            slots_used: meters.gauge(SLOTS_USED, &[]),
            leased: meters.gauge(LEASED, &[]),
            rescued: meters.counter(RESCUED, &[]),
            rare: [LATE, FAILED, LOST, ERRORS, STALE].map(|name| meters.counter(name, &[])),
            meters,
            is_leased: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
        })))
    }

    /// A task was claimed and begins now.
    pub(crate) fn begin(&self, claim: &Claim) -> Begun {
        let of = self.0.as_ref().and_then(|counts| {
            let of = counts.types.get(claim.task_type()).or_else(|| counts.types.get(OTHER))?;
            if let Some(waited) = claim.waited() {
                of.queue_time.record(waited.as_secs_f64());
            }
            Some((Arc::clone(of), Instant::now()))
        });
        Begun(of)
    }

    /// So many tasks run now.
    pub(crate) fn running(&self, tasks: usize) {
        if let Self(Some(counts)) = self {
            counts.slots_used.set(tasks as f64);
        }
    }

    /// So many tasks were taken back from others.
    pub(crate) fn rescued(&self, tasks: usize) {
        if let Self(Some(counts)) = self {
            counts.rescued.increment(tasks as u64);
        }
    }

    pub(crate) fn rare(&self, what: Rare) {
        if let Self(Some(counts)) = self {
            counts.rare[what as usize].increment(1);
        }
    }

    /// Whether it holds a lease, or needs none.
    pub(crate) fn leased(&self, is_leased: bool) {
        if let Self(Some(counts)) = self {
            counts.is_leased.store(is_leased, Ordering::Relaxed);
            counts.leased.set(f64::from(u8::from(is_leased)));
        }
    }

    /// It claims nothing more.
    pub(crate) fn draining(&self) {
        if let Self(Some(counts)) = self {
            counts.is_draining.store(true, Ordering::Relaxed);
        }
    }
}

/// Where the figures are told, as far as it is known before the worker runs.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) meter: Meter,
    listener: Option<TcpListener>,
}

impl Metrics {
    /// Takes the address that was asked for, else the one that the environment names, if any.
    pub(crate) fn at(asked: Option<&str>, slots: usize, task_types: &[&str]) -> Result<Self> {
        let named = std::env::var(ADDRESS).ok().filter(|address| !address.is_empty());
        let Some(address) = asked.map(Into::into).or(named) else { return Ok(Self::default()) };
        let bound = address.to_socket_addrs().and_then(|addresses| {
            let listener = TcpListener::bind(&addresses.collect::<Vec<_>>()[..])?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        let listener = bound.map_err(|error| Error::Unfit {
            what: format!(
                "the worker's figures cannot be told at `{address}`: {error}; write a free address like 0.0.0.0:9100 \
                 with `metrics_at` or {ADDRESS}, one for each worker"
            ),
        })?;
        Ok(Self { meter: Meter::new(slots, task_types), listener: Some(listener) })
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Tells them until what it returns is dropped.
    pub(crate) fn serve(&mut self) -> Result<Option<Serving>> {
        let (Some(listener), Meter(Some(counts))) = (self.listener.take(), &self.meter) else { return Ok(None) };
        let listener = tokio::net::TcpListener::from_std(listener)
            .map_err(|error| Error::Unfit { what: format!("the worker's figures cannot be told: {error}") })?;
        Ok(Some(Serving::start(listener, Arc::clone(counts))))
    }
}
