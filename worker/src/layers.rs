//! Layers of tower around handlers.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures::future::BoxFuture;
use tower::{Layer, Service, ServiceExt};

use crate::handler::{HandlerSpec, TaskHandler};
use crate::output::Output;
use crate::{TaskContext, TaskError};

/// A handler as a service of tower: what a layer is put around. It is always ready.
#[derive(Clone)]
pub struct HandlerService(Arc<dyn TaskHandler>);

impl fmt::Debug for HandlerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HandlerService({})", self.0.spec().task_type)
    }
}

impl Service<TaskContext> for HandlerService {
    type Response = Output;
    type Error = HandlerError;
    type Future = BoxFuture<'static, Result<Output, HandlerError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ctx: TaskContext) -> Self::Future {
        let handler = Arc::clone(&self.0);
        Box::pin(async move { handler.call(ctx).await.map_err(HandlerError) })
    }
}

/// A [`TaskError`] on its way through layers: an error as the standard library has them, which layers ask for. As the end of an
/// attempt, or as the cause of another error, it means what the `TaskError` means.
#[derive(Debug)]
pub struct HandlerError(TaskError);

impl HandlerError {
    /// The error of the handler.
    #[must_use]
    pub fn task_error(&self) -> &TaskError {
        &self.0
    }

    /// The error of the handler.
    #[must_use]
    pub fn into_task_error(self) -> TaskError {
        self.0
    }
}

impl From<TaskError> for HandlerError {
    fn from(error: TaskError) -> Self {
        Self(error)
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for HandlerError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

/// A layer of tower that can go around handlers; for `WorkerBuilder::layer`. Every fitting one is.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot go around task handlers",
    label = "not a layer for `.layer(..)`",
    note = "it must be a `tower::Layer<HandlerService>`; the service that it makes must be `Clone + Send + Sync + 'static` and a \
            `tower::Service<TaskContext, Response = Output>` with `Error: Into<TaskError>` and `Future: Send`",
    note = "that of `tower::limit::RateLimitLayer`, for one, is not `Clone`: limit by `GlobalConcurrencyLimitLayer`, or write a \
            `Middleware`"
)]
pub trait TaskLayer: Send + Sync + 'static {
    /// The handler with the layer around it.
    #[doc(hidden)]
    fn around(&self, inner: Arc<dyn TaskHandler>) -> Arc<dyn TaskHandler>;
}

#[diagnostic::do_not_recommend]
impl<L> TaskLayer for L
where
    L: Layer<HandlerService> + Send + Sync + 'static,
    L::Service: Service<TaskContext, Response = Output> + Clone + Send + Sync + 'static,
    <L::Service as Service<TaskContext>>::Error: Into<TaskError>,
    <L::Service as Service<TaskContext>>::Future: Send,
{
    fn around(&self, inner: Arc<dyn TaskHandler>) -> Arc<dyn TaskHandler> {
        let service = self.layer(HandlerService(Arc::clone(&inner)));
        Arc::new(Layered { service, inner })
    }
}

/// A handler with a layer around it.
struct Layered<S> {
    service: S,
    inner: Arc<dyn TaskHandler>,
}

#[async_trait]
impl<S> TaskHandler for Layered<S>
where
    S: Service<TaskContext, Response = Output> + Clone + Send + Sync + 'static,
    S::Error: Into<TaskError>,
    S::Future: Send,
{
    fn spec(&self) -> HandlerSpec {
        self.inner.spec()
    }

    async fn call(&self, ctx: TaskContext) -> Result<Output, TaskError> {
        // Each call has a clone of its own, which is ready before it is called.
        self.service.clone().oneshot(ctx).await.map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    /// What a layer may make of an error.
    #[derive(Debug)]
    struct Around(HandlerError);

    impl fmt::Display for Around {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("behind a layer")
        }
    }

    impl StdError for Around {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn an_error_means_the_same_within_another_and_keeps_its_sources() {
        let number = "x".parse::<u32>().expect_err("no number");
        let boxed: Box<dyn StdError + Send + Sync> =
            Box::new(HandlerError(TaskError::from(number.clone()).context("reading")));
        let error = TaskError::from(boxed);
        assert_eq!(error.to_string(), "reading: invalid digit found in string");
        assert!(error.is::<std::num::ParseIntError>());
        let error = TaskError::from(Around(HandlerError(number.into())));
        assert!(error.is::<std::num::ParseIntError>() && error.kind == Kind::Retry);
        let error = TaskError::from(Around(HandlerError(TaskError::snooze("3s", "early"))));
        assert_eq!(
            (error.to_string().as_str(), error.kind),
            ("behind a layer: early", Kind::Snooze(std::time::Duration::from_secs(3)))
        );
    }
}
