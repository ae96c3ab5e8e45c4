//! The worker: what it is made of, checked before it starts.

use std::sync::Arc;
use std::time::Duration;

use orchestrator::{Error, LEASE, Offer, Orchestrator, QUEUES_MAX, Result, Span, check_name};

use crate::Stop;
use crate::blocking::Pool;
use crate::extract::State;
use crate::handler::TaskHandler;
use crate::layers::TaskLayer;
use crate::listener::{EventHandler, Listeners};
use crate::metrics::Metrics;
use crate::middleware::{Around, Middleware};
use crate::registry::Registry;
use crate::run::Run;

/// Tasks that a worker runs at once unless told otherwise.
pub const SLOTS_DEFAULT: usize = 64;
/// Most tasks that one worker runs at once.
pub const SLOTS_MAX: usize = 4096;
/// How long a draining worker lets handlers go on unless told otherwise.
pub const DRAIN_GRACE_DEFAULT: Duration = Duration::from_secs(30);

/// Puts a worker together.
#[must_use = "a builder does nothing until it is built or run"]
pub struct WorkerBuilder {
    orch: Orchestrator,
    registry: Registry,
    listeners: Listeners,
    around: Around,
    state: State,
    slots: usize,
    blocking_slots: usize,
    queues: Option<Vec<String>>,
    expected: Vec<String>,
    discover: bool,
    grace: Span,
    lease: Duration,
    metrics_at: Option<String>,
    fault: Option<Error>,
}

impl WorkerBuilder {
    /// Runs at most this many tasks at once, 1 to [`SLOTS_MAX`]; [`SLOTS_DEFAULT`] unless called.
    pub fn slots(mut self, slots: usize) -> Self {
        self.slots = slots;
        self
    }

    /// Runs at most this many handlers with `blocking = true` at once, 1 to [`SLOTS_MAX`], each on a thread of its own; as many as
    /// there are cores unless called. What waits for a thread holds a slot, and its timeout has not begun; as many wait at
    /// most as run, then this worker claims nothing more from the queues that such handlers name as theirs. Tasks that are not to
    /// stand behind them belong into other queues.
    pub fn blocking_slots(mut self, slots: usize) -> Self {
        self.blocking_slots = slots;
        self
    }

    /// Gives the handlers a shared value, taken by them as `Data<T>`.
    pub fn data<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        if !self.state.put(value) {
            let name = std::any::type_name::<T>();
            self.fail(Error::Invalid {
                what: format!("two values of type {name} were given to one worker by `.data`"),
            });
        }
        self
    }

    /// Adds a handler by its name: `.register::<bugfix>()`. Handlers that the linker finds need no such line.
    pub fn register<H: TaskHandler + Default>(self) -> Self {
        self.handler(H::default())
    }

    /// Adds a handler that was made at run time.
    pub fn handler(mut self, handler: impl TaskHandler) -> Self {
        if let Err(error) = self.registry.add(Box::new(handler), "a call of `register` or `handler`".into()) {
            self.fail(error);
        }
        self
    }

    /// Adds a handler of events that was made at run time, or by its name: `.event_handler(announce::default())`. Those that
    /// the linker finds need no such line.
    pub fn event_handler(mut self, handler: impl EventHandler) -> Self {
        if let Err(error) = self.listeners.add(Box::new(handler), "a call of `event_handler`".into()) {
            self.fail(error);
        }
        self
    }

    /// Puts this around every task handler of the worker, also around those that are added later. What was added first is
    /// outermost, `.middleware` and `.layer` in one order.
    pub fn middleware(mut self, middleware: impl Middleware) -> Self {
        self.around.add_middleware(middleware);
        self
    }

    /// Puts a layer of tower around every task handler, as [`WorkerBuilder::middleware`] does. Each handler gets a service of
    /// its own: a `ConcurrencyLimitLayer` counts each by itself, a `GlobalConcurrencyLimitLayer` all together. Until the
    /// service is ready the task waits in its slot, and the attempt's timeout runs.
    ///
    /// A handler that waits for people or time is left by dropping its future with all layers; an error that a layer makes
    /// means *try again*, and one of the handler what it meant, whatever layers have put around it.
    pub fn layer(mut self, layer: impl TaskLayer) -> Self {
        self.around.add(move |inner| layer.around(inner));
        self
    }

    /// Whether handlers marked `#[task_handler]` or `#[event_handler]` anywhere in the program are added; they are unless
    /// called.
    pub fn discover(mut self, discover: bool) -> Self {
        self.discover = discover;
        self
    }

    /// The queues to serve, in order of preference, at most 8; those of its handlers unless called.
    pub fn queues<Q: Into<String>>(mut self, queues: impl IntoIterator<Item = Q>) -> Self {
        self.queues = Some(queues.into_iter().map(Into::into).collect());
        self
    }

    /// Refuses to start when one of these task types has no handler, for example because its crate was not linked.
    pub fn expect<T: Into<String>>(mut self, task_types: impl IntoIterator<Item = T>) -> Self {
        self.expected.extend(task_types.into_iter().map(Into::into));
        self
    }

    /// How long a draining worker lets handlers go on; [`DRAIN_GRACE_DEFAULT`] unless called.
    pub fn drain_grace(mut self, grace: impl Into<Span>) -> Self {
        self.grace = grace.into();
        self
    }

    /// How long its tasks stay its own without a heartbeat: at least 3 seconds; [`LEASE`] unless called.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Tells the worker's figures at this address, `0.0.0.0:9100` for example; port 0 takes a free one. There are `/metrics`
    /// (Prometheus text), `/livez`, and `/readyz`, which says no while the worker drains or has no lease. Without a call,
    /// `ORCHESTRATOR_METRICS_ADDRESS` names the address; without that, nothing is counted.
    ///
    /// Anybody who reaches the address may ask: choose one that only those reach who should.
    #[cfg(feature = "metrics")]
    pub fn metrics_at(mut self, address: &str) -> Self {
        self.metrics_at = Some(address.into());
        self
    }

    fn fail(&mut self, error: Error) {
        self.fault.get_or_insert(error);
    }

    /// Checks everything that can be checked before the first task.
    ///
    /// # Errors
    /// [`Error::Invalid`]: no handler, two for one type, an expected one missing, shared state missing, a bound crossed.
    /// [`Error::Unfit`]: the address for the figures cannot be had.
    pub fn build(mut self) -> Result<Worker> {
        if self.discover
            && let Err(error) = self.registry.discover().and_then(|()| self.listeners.discover())
        {
            self.fail(error);
        }
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let invalid = |what: String| Err(Error::Invalid { what });
        self.listeners.check(&self.state)?;
        let only_events = self.registry.specs().is_empty() && !self.listeners.is_empty();
        if !only_events || !self.expected.is_empty() {
            self.registry.check(&self.expected, &self.state)?;
        }
        if !(1..=SLOTS_MAX).contains(&self.slots) {
            return invalid(format!("a worker has 1 to {SLOTS_MAX} slots, not {}", self.slots));
        }
        if !(1..=SLOTS_MAX).contains(&self.blocking_slots) {
            return invalid(format!("a worker has 1 to {SLOTS_MAX} slots for blocking, not {}", self.blocking_slots));
        }
        if self.lease < Duration::from_secs(3) {
            return invalid("a lease lasts at least 3 seconds".into());
        }
        let queues = match self.queues {
            Some(queues) => queues,
            None => {
                let mut homes: Vec<String> = self.registry.specs().iter().map(|spec| spec.home().to_owned()).collect();
                homes.sort_unstable();
                homes.dedup();
                homes
            }
        };
        for queue in &queues {
            check_name("queue", queue)?;
        }
        if queues.is_empty() && !only_events || queues.len() > QUEUES_MAX {
            return invalid(format!(
                "a worker serves 1 to {QUEUES_MAX} queues, not {}: {}",
                queues.len(),
                queues.join(", ")
            ));
        }
        let blocking: Vec<&str> =
            self.registry.specs().iter().filter(|spec| spec.blocking == Some(true)).map(|spec| spec.home()).collect();
        let unblocked = queues.iter().filter(|queue| !blocking.contains(&queue.as_str())).cloned().collect();
        let pool = Pool::new(self.blocking_slots);
        self.state.put(Arc::clone(&pool));
        self.registry.wrap(&self.around);
        let task_types: Vec<&str> = self.registry.specs().iter().map(|spec| spec.task_type).collect();
        Ok(Worker {
            metrics: Metrics::at(self.metrics_at.as_deref(), self.slots, &task_types)?,
            orch: self.orch,
            registry: Arc::new(self.registry),
            listeners: self.listeners,
            state: Arc::new(self.state),
            slots: self.slots,
            pool,
            unblocked,
            queues,
            grace: self.grace.duration()?,
            lease: self.lease,
        })
    }

    /// Builds the worker and runs it; see [`Worker::run`].
    ///
    /// # Errors
    /// As [`WorkerBuilder::build`] and [`Worker::run`].
    pub async fn run(self) -> Result {
        self.build()?.run().await
    }
}

/// A worker that runs beside its starter. Dropping this does not stop it.
#[derive(Debug)]
pub struct Running {
    stop: Stop,
    ended: tokio::task::JoinHandle<Result>,
}

impl Running {
    /// Drains the worker and waits until it has left.
    ///
    /// # Errors
    /// As [`Worker::run`].
    pub async fn stop(self) -> Result {
        self.stop.drain();
        match self.ended.await {
            Ok(outcome) => outcome,
            Err(error) => Err(Error::Unavailable { reason: format!("the worker broke: {error}"), source: None }),
        }
    }
}

/// A worker ready to run.
pub struct Worker {
    pub(crate) orch: Orchestrator,
    pub(crate) registry: Arc<Registry>,
    pub(crate) listeners: Listeners,
    pub(crate) state: Arc<State>,
    pub(crate) slots: usize,
    pub(crate) pool: Arc<Pool>,
    pub(crate) queues: Vec<String>,
    /// Those of the queues that no blocking handler names as its own.
    pub(crate) unblocked: Vec<String>,
    pub(crate) grace: Duration,
    pub(crate) lease: Duration,
    pub(crate) metrics: Metrics,
}

impl Worker {
    /// Begins to put a worker together.
    pub fn builder(orch: Orchestrator) -> WorkerBuilder {
        WorkerBuilder {
            orch,
            registry: Registry::default(),
            listeners: Listeners::default(),
            around: Around::default(),
            state: State::default(),
            slots: SLOTS_DEFAULT,
            blocking_slots: Pool::size_default(),
            queues: None,
            expected: Vec::new(),
            discover: true,
            grace: DRAIN_GRACE_DEFAULT.into(),
            lease: LEASE,
            metrics_at: None,
            fault: None,
        }
    }

    /// Where its figures are told, if they are.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics_address(&self) -> Option<std::net::SocketAddr> {
        self.metrics.address()
    }

    /// Runs until SIGTERM or Ctrl-C: then it claims nothing more, finishes what runs within the grace, releases the
    /// rest uncounted, and returns. A second signal releases at once.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Redis is away at the start; later it waits for it to come back.
    pub async fn run(self) -> Result {
        let stop = Stop::on_signals()?;
        self.run_until(stop).await
    }

    /// Runs beside the caller, on the same runtime, until [`Running::stop`]. It is up a moment later: a group of events that is
    /// new begins then.
    #[must_use]
    pub fn start(self) -> Running {
        let stop = Stop::new();
        Running { stop: stop.clone(), ended: tokio::spawn(self.run_until(stop)) }
    }

    /// Runs until `stop` says otherwise.
    ///
    /// # Errors
    /// As [`Worker::run`].
    pub async fn run_until(mut self, stop: Stop) -> Result {
        for spec in self.registry.specs() {
            let timeout = spec.timeout.unwrap_or(crate::handler::TIMEOUT_DEFAULT);
            tracing::info!(task_type = spec.task_type, queue = spec.home(), ?timeout, "handles {}", spec.task_type);
        }
        let _serving = self.metrics.serve()?;
        let listening = self.listeners.start(&self.orch, &self.state, &stop).await?;
        let grace = self.grace;
        let outcome = match self.registry.specs().is_empty() {
            true => {
                self.metrics.meter.leased(true);
                stop.draining().await;
                self.metrics.meter.draining();
                Ok(())
            }
            false => {
                crate::schedules::settle(&self.orch, &self.registry).await?;
                Run::new(self).await?.until(stop.clone()).await
            }
        };
        listening.end(&stop, grace).await;
        outcome
    }

    /// What it publishes of its handlers.
    pub(crate) fn offers(&self) -> Vec<Offer> {
        let offer = |spec: &&crate::HandlerSpec| Offer {
            task_type: spec.task_type.into(),
            queue: spec.home().into(),
            doc: spec.doc.into(),
            gate: spec.approval.clone(),
            sla: spec.sla.clone(),
            expires_ms: spec.expires_ms(),
            unique: spec.unique.clone(),
        };
        self.registry.specs().iter().map(offer).collect()
    }
}
