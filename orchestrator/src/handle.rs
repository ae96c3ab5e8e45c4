//! A submitted task in its submitter's hands.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::record::Finished;
use crate::{Error, Orchestrator, Result, Span, Status, Task, TaskId};

/// Longest wait for a result unless the caller says otherwise.
pub const WAIT_DEFAULT: Duration = Duration::from_secs(60);

/// Names one task whose result is a `T`.
pub struct TaskHandle<T = Value> {
    orch: Orchestrator,
    id: TaskId,
    existing: bool,
    result: PhantomData<fn() -> T>,
}

impl<T> TaskHandle<T> {
    pub(crate) fn new(orch: Orchestrator, id: TaskId) -> Self {
        Self { orch, id, existing: false, result: PhantomData }
    }

    pub(crate) fn found(mut self, existing: bool) -> Self {
        self.existing = existing;
        self
    }

    /// Whether nothing was stored, because this task was there and no other of its kind is wanted meanwhile; see
    /// [`Unique`](crate::Unique).
    #[must_use]
    pub fn existing(&self) -> bool {
        self.existing
    }

    /// The task's id.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// The task as it stands.
    ///
    /// # Errors
    /// As [`Orchestrator::get`].
    pub async fn task(&self) -> Result<Task> {
        self.orch.get(self.id).await
    }

    /// Cancels it; see [`Orchestrator::cancel`].
    ///
    /// # Errors
    /// As [`Orchestrator::cancel`].
    pub async fn cancel(&self) -> Result<Status> {
        self.orch.cancel(self.id).await
    }

    /// Cancels it, its handler within `span`; see [`Orchestrator::cancel_within`].
    ///
    /// # Errors
    /// As [`Orchestrator::cancel_within`].
    pub async fn cancel_within(&self, span: impl Into<Span>) -> Result<Status> {
        self.orch.cancel_within(self.id, span).await
    }

    /// What it puts out while it runs; see [`Orchestrator::chunks`].
    #[must_use]
    pub fn chunks(&self) -> crate::Chunks {
        self.orch.chunks(self.id)
    }

    /// Waits for its result, without polling: `handle.result().timeout("20m").await?`.
    pub fn result(&self) -> ResultWait<T> {
        ResultWait { orch: self.orch.clone(), id: self.id, timeout: Span::from(WAIT_DEFAULT), result: PhantomData }
    }
}

impl<T> Clone for TaskHandle<T> {
    fn clone(&self) -> Self {
        Self::new(self.orch.clone(), self.id).found(self.existing)
    }
}

impl<T> fmt::Debug for TaskHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskHandle({})", self.id)
    }
}

/// A wait for the result of one task; `.await` it.
#[must_use = "a wait does nothing until it is awaited"]
pub struct ResultWait<T> {
    orch: Orchestrator,
    id: TaskId,
    timeout: Span,
    result: PhantomData<fn() -> T>,
}

impl<T> ResultWait<T> {
    /// Gives up after `timeout`; [`WAIT_DEFAULT`] unless called.
    pub fn timeout(mut self, timeout: impl Into<Span>) -> Self {
        self.timeout = timeout.into();
        self
    }
}

impl<T> fmt::Debug for ResultWait<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResultWait({})", self.id)
    }
}

impl<T: DeserializeOwned + 'static> IntoFuture for ResultWait<T> {
    /// # Errors
    /// [`Error::TaskEnded`] when it failed or was cancelled, [`Error::TimedOut`], [`Error::NotFound`],
    /// [`Error::Corrupt`] when the result is no `T`.
    type Output = Result<T>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let waited = self.timeout.duration()?;
            let value = tokio::time::timeout(waited, self.orch.waiters.ended(self.id))
                .await
                .map_err(|_| Error::TimedOut { task: self.id, waited })??;
            let finished = Finished::read(&value)?;
            if finished.status == Status::Completed {
                return crate::codec::decode("the result", finished.result);
            }
            let error = finished.ending.error.or(finished.ending.reason).unwrap_or_default();
            Err(Error::TaskEnded { task: self.id, status: finished.status, error })
        })
    }
}
