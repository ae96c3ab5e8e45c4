//! The client: one cheap handle for everything that is not running a handler.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::embedded::Embedded;
use crate::gather::Gatherer;
use crate::handle::TaskHandle;
use crate::newest::Newest;
use crate::progress::Progress;
use crate::record::{Body, Finished, Header};
use crate::stats::Stats;
use crate::store::{Call, Fault, Items, Store, URGENT_MS, read};
use crate::task::Task;
use crate::waiters::Waiters;
use crate::{
    CANCEL_GRACE_MAX, Config, Error, NewTask, Offer, Result, SlaClock, Span, Status, Submitted, TaskFilter, TaskId,
    TaskPage, TaskWatch, codec,
};

/// A connection to one namespace. Clones are cheap and share it.
#[derive(Clone, Debug)]
pub struct Orchestrator {
    pub(crate) store: Store,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) offers: Arc<crate::submit::Offers>,
    pub(crate) newest: Arc<Newest>,
    pub(crate) gatherer: Arc<Gatherer>,
    /// Kept so that a private server lives as long as its clients.
    embedded: Option<Arc<Embedded>>,
}

impl Orchestrator {
    /// Connects to the server at `url` (`redis://host:6379`, `unix:///path`) with default settings.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when nothing answers there, [`Error::Unfit`] when the server would lose tasks.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::with_config(Config::new(url)).await
    }

    /// Connects with the given settings.
    ///
    /// # Errors
    /// As [`Orchestrator::connect`]; [`Error::Invalid`] for a setting out of its bounds.
    pub async fn with_config(config: Config) -> Result<Self> {
        let store = Store::connect(config).await?;
        let waiters = Arc::new(Waiters::new(&store));
        Ok(Self {
            store,
            waiters,
            offers: Arc::default(),
            newest: Arc::default(),
            gatherer: Arc::default(),
            embedded: None,
        })
    }

    /// Connects as the environment says: `REDIS_URL`, or a private server when it is not set.
    ///
    /// # Errors
    /// As [`Orchestrator::connect`] and [`Orchestrator::embedded`]; [`Error::Invalid`] for an unknown setting.
    pub async fn from_env() -> Result<Self> {
        match Config::from_env()? {
            (Some(url), config) => Self::with_config(Config { url, ..config }).await,
            (None, config) => Self::on(Embedded::start()?, config).await,
        }
    }

    /// Starts a private server on a Unix socket, for trying things out; it ends with the last clone of this handle.
    ///
    /// # Errors
    /// [`Error::Unfit`] when no server program is found; the text says how to get one.
    pub async fn embedded() -> Result<Self> {
        Self::on(Embedded::start()?, Config::new("")).await
    }

    /// Connects to a private server that the caller has started.
    ///
    /// # Errors
    /// As [`Orchestrator::connect`].
    pub async fn on(server: Embedded, config: Config) -> Result<Self> {
        server.ready().await?;
        let orch = Self::with_config(Config { url: server.url(), ..config }).await?;
        Ok(Self { embedded: Some(Arc::new(server)), ..orch })
    }

    /// The private server, if this handle started one.
    #[must_use]
    pub fn server(&self) -> Option<&Embedded> {
        self.embedded.as_deref()
    }

    /// The settings in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        self.store.config()
    }

    /// The same client over another connection; it keeps no private server alive.
    pub(crate) fn over(&self, store: Store) -> Self {
        Self { store, embedded: None, ..self.clone() }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Submits one task; it is stored when this returns. Repeated by itself when an answer is lost, with the same id,
    /// so that it is stored once.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what cannot be accepted, [`Error::QueueFull`], [`Error::OutOfMemory`] (nothing was
    /// stored); [`Error::Unavailable`] when no answer came for 15 seconds: then it may be stored.
    pub async fn enqueue<T>(&self, task: NewTask<T>) -> Result<TaskHandle<T>> {
        let mut handles = self.enqueue_all([task]).await?;
        handles.pop().ok_or_else(|| Error::corrupt("a task was submitted and none came back"))
    }

    /// Submits one task and tells what it has become: for whoever submits in the name of many at once, who then share calls.
    ///
    /// # Errors
    /// As [`Orchestrator::enqueue`].
    pub async fn submit<T>(&self, task: NewTask<T>) -> Result<Submitted> {
        crate::submit::submit_one(self, task).await
    }

    /// Submits many tasks: one round trip for a thousand of one queue. Each thousand is stored as a whole; when a later
    /// one fails, the earlier ones stay.
    ///
    /// # Errors
    /// As [`Orchestrator::enqueue`].
    pub async fn enqueue_all<T>(&self, tasks: impl IntoIterator<Item = NewTask<T>>) -> Result<Vec<TaskHandle<T>>> {
        crate::submit::submit(self, tasks.into_iter()).await
    }

    /// One task, whatever its state.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is unknown or its retention has passed.
    pub async fn get(&self, id: TaskId) -> Result<Task> {
        let parts = self.parts(id).await?;
        let part = |i: usize| parts.get(i).map(Vec::as_slice).unwrap_or_default();
        let task = Task::told(id, [part(0), part(1), part(2), part(3)])?;
        let task = task.ok_or_else(|| Error::NotFound { what: format!("task {id}") })?;
        let sla_clock = SlaClock::read(part(4), self.store.now_ms(), task.status.is_terminal());
        let progress: Option<Progress> = codec::decode("progress", part(5)).ok();
        let (progress, note) = progress.map(|progress| (progress.fraction, progress.note)).unzip();
        Ok(Task { sla_clock, progress, progress_note: note.filter(|note| !note.is_empty()), ..task })
    }

    /// What the script `get` tells of a task.
    pub(crate) async fn parts(&self, id: TaskId) -> Result<Vec<Vec<u8>>> {
        let script = &self.store.scripts().get;
        read(self.store.repeat(|_| self.store.call(script).arg(id.as_bytes())).await?)
    }

    /// One page of the namespace's tasks; [`TaskPage`] tells the order. `cursor` comes from the page before, `limit` is
    /// 1 to [`LIST_MAX`](crate::LIST_MAX) tasks.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a limit out of its bounds and for a text that is no cursor; [`Error::Unavailable`].
    pub async fn list(&self, filter: &TaskFilter, cursor: Option<&str>, limit: usize) -> Result<TaskPage> {
        crate::listing::page(&self.store, filter, cursor, limit).await
    }

    /// Follows one task until it has ended, without polling.
    #[must_use]
    pub fn watch(&self, id: TaskId) -> TaskWatch {
        TaskWatch::new(self, id)
    }

    /// A handle for a task submitted elsewhere, whose result is to be read as `T`.
    #[must_use]
    pub fn handle<T>(&self, id: TaskId) -> TaskHandle<T> {
        TaskHandle::new(self.clone(), id)
    }

    /// Ends a waiting task at once, or asks the worker of a running one to stop it.
    ///
    /// Returns `cancelled` when it has ended now (or had been cancelled before), `in_progress` when its handler was
    /// asked.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it had completed or failed before, [`Error::NotFound`].
    pub async fn cancel(&self, id: TaskId) -> Result<Status> {
        self.call_off(id, 0).await
    }

    /// [`Orchestrator::cancel`], whose handler has no more than `span` to stop, or less when it is declared so: then it is
    /// dropped where it waits, and the task ends as `cancelled`. Agents outside are told to stop, not when.
    ///
    /// # Errors
    /// As [`Orchestrator::cancel`]; [`Error::Invalid`] for more than [`CANCEL_GRACE_MAX`](crate::CANCEL_GRACE_MAX).
    pub async fn cancel_within(&self, id: TaskId, span: impl Into<Span>) -> Result<Status> {
        let span = span.into().duration()?;
        if span > CANCEL_GRACE_MAX {
            return Err(Error::invalid(format!(
                "a handler has at most {} minutes to stop, not {span:?}",
                CANCEL_GRACE_MAX.as_secs() / 60
            )));
        }
        self.call_off(id, span.as_millis() as i64 - URGENT_MS as i64).await
    }

    async fn call_off(&self, id: TaskId, urgency: i64) -> Result<Status> {
        let script = &self.store.scripts().cancel;
        let tail = crate::claim::cancelled_tail();
        let call = |_| self.store.call(script).arg(id.as_bytes()).arg(tail.as_slice()).arg(urgency);
        let reply = self.store.repeat(call).await?;
        match read::<String>(reply)?.as_str() {
            "cancelled" | "x" => Ok(Status::Cancelled),
            "requested" => Ok(Status::InProgress),
            "c" => Err(Error::Conflict { what: format!("task {id} has completed; it cannot be cancelled any more") }),
            "f" => Err(Error::Conflict { what: format!("task {id} has failed; it cannot be cancelled any more") }),
            _ => Err(Error::NotFound { what: format!("task {id}") }),
        }
    }

    /// Gives a failed or cancelled task a new life under its id, with all its retries. Durable steps that were done stay
    /// done; what a person refused is asked again. The new life does not expire; a unique task takes its key again.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it has not ended, has completed, never passed its gate, or is unique and another task has its
    /// key; [`Error::NotFound`].
    pub async fn retry(&self, id: TaskId) -> Result {
        self.retry_by(id, "").await
    }

    /// [`Orchestrator::retry`] in the name of `by`, for the audit.
    ///
    /// # Errors
    /// As [`Orchestrator::retry`].
    pub async fn retry_by(&self, id: TaskId, by: &str) -> Result {
        match self.revive(id, by, &[]).await?.as_str() {
            "unique" => {
                // What it is to hold alone stands where no script reads.
                let task = self.parts(id).await?;
                if task.first().is_none_or(|place| place != b"ended") {
                    // Somebody was faster.
                    return self.revive(id, by, &[]).await.map(drop);
                }
                let finished = Finished::read(task.get(1).map(Vec::as_slice).unwrap_or_default())?;
                let lock = Body::read(Header::read(finished.record)?.1)?.0.lock;
                let lock = lock.ok_or_else(|| Error::corrupt("a unique task without its key"))?;
                self.revive(id, by, &lock.to_bytes()).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Sends the script; what it refuses is an error.
    async fn revive(&self, id: TaskId, by: &str, lock: &[u8]) -> Result<String> {
        let script = &self.store.scripts().revive;
        let mut sent_before = false;
        let call = |before| {
            sent_before = before;
            self.store.call(script).arg(id.as_bytes()).arg(by).arg(lock)
        };
        let reply = read::<Vec<u8>>(self.store.repeat(call).await?)?;
        if let Some(holder) = reply.strip_prefix(b"=").and_then(TaskId::from_slice) {
            return Err(Error::Conflict {
                what: format!(
                    "task {id} is to be the only one of its key, and task {holder} has it now; retry it when that one has ended"
                ),
            });
        }
        let reply = String::from_utf8_lossy(&reply).into_owned();
        match reply.as_str() {
            "revived" | "unique" => Ok(reply),
            "live" if sent_before => Ok(reply),
            "live" => Err(Error::Conflict {
                what: format!("task {id} has not ended; only a failed or cancelled one can be retried"),
            }),
            "c" => Err(Error::Conflict {
                what: format!("task {id} has completed; only a failed or cancelled one can be retried"),
            }),
            "gated" => Err(Error::Conflict {
                what: format!("task {id} was never approved; submit it anew, so that somebody can decide on it"),
            }),
            _ => Err(Error::NotFound { what: format!("task {id}") }),
        }
    }

    /// Stops handing out the tasks of `queue`; what runs goes on. Returns whether that was a change.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad name, [`Error::Unavailable`].
    pub async fn pause(&self, queue: &str) -> Result<bool> {
        self.set_paused(queue, 1).await
    }

    /// Goes on handing out the tasks of `queue`. Returns whether that was a change.
    ///
    /// # Errors
    /// As [`Orchestrator::pause`].
    pub async fn resume(&self, queue: &str) -> Result<bool> {
        self.set_paused(queue, 0).await
    }

    async fn set_paused(&self, queue: &str, paused: u8) -> Result<bool> {
        crate::router::check_name("queue", queue)?;
        let script = &self.store.scripts().pause;
        read(self.store.repeat(|_| self.store.call(script).arg(queue).arg(paused)).await?)
    }

    /// Counts of everything, all taken at one instant.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn stats(&self) -> Result<Stats> {
        Stats::read(Items::of(self.store.repeat(|_| self.store.call(&self.store.scripts().stats)).await?)?)
    }

    /// What workers have published: the handler table by task type.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn offers(&self) -> Result<HashMap<String, Offer>> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.store.keys().handlers());
        let call = |_| Call::plain(command.clone()).mended_by(self.store.mend("", &[], &[]));
        let table: HashMap<Vec<u8>, Vec<u8>> = read(self.store.repeat(call).await?)?;
        // An entry that cannot be read was not written by us; the others still hold.
        let offer =
            |(k, v): (Vec<u8>, Vec<u8>)| Some((String::from_utf8(k).ok()?, codec::decode("an offer", &v).ok()?));
        Ok(table.into_iter().filter_map(offer).collect())
    }

    /// Proves that Redis would take a new task now, by a write that changes nothing. Asks once.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Unavailable`] with what the server said: loading, read-only, failing disk …
    pub async fn check_writable(&self) -> Result {
        let mut command = redis::cmd("SETRANGE");
        command.arg(self.store.keys().probe()).arg(0).arg("");
        match self.store.plain(&command).await {
            // A key of another type under this name is found only after the write was let through.
            Ok(_) | Err(Fault::WrongType(_)) => Ok(()),
            Err(fault) => Err(fault.into_error()),
        }
    }

    /// How far this process's idea of the server's clock is from what the server says now.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn clock_error(&self) -> Result<Duration> {
        let before = self.store.now_ms();
        self.store.learn_time().await?;
        Ok(Duration::from_millis(self.store.now_ms().abs_diff(before)))
    }
}
