//! What a worker puts around all of its handlers.

use std::sync::Arc;

use async_trait::async_trait;

use crate::handler::{HandlerSpec, TaskHandler};
use crate::output::Output;
use crate::{TaskContext, TaskError};

/// Something that is done around each call of a handler: a log line, a permission, a cache.
///
/// It runs within the attempt, behind the gate of the task: the timeout counts it, its panic is the handler's, and what it
/// makes of an error decides what is to follow. A handler that waits (`ctx.approve`, `ctx.sleep`, `ctx.wait_event`) is left
/// by dropping it together with what is around it: what comes after `next.run(ctx).await` is not reached then, and all of it
/// is entered anew later. What must be undone in any case belongs into a `Drop`.
///
/// ```
/// use orchestrator_worker::{Middleware, Next, Output, TaskContext, TaskError, async_trait};
///
/// /// Takes no task of a tenant that has not paid.
/// struct Paid(Vec<String>);
///
/// #[async_trait]
/// impl Middleware for Paid {
///     async fn call(&self, ctx: TaskContext, next: Next<'_>) -> Result<Output, TaskError> {
///         let tenant = ctx.metadata().get("tenant").and_then(|name| name.as_str()).unwrap_or_default().to_owned();
///         if !self.0.contains(&tenant) {
///             return Err(TaskError::reject("nobody pays for it"));
///         }
///         next.run(ctx).await.map_err(|error| error.context(format!("for {tenant}")))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no middleware",
    label = "this cannot be put around handlers by `.middleware`",
    note = "implement `Middleware` for it, with `#[async_trait]` on the `impl`; a layer of tower is added by `.layer`"
)]
#[async_trait]
pub trait Middleware: Send + Sync + 'static {
    /// Goes around one call; `next.run(ctx)` is what lies within. Not to run it is to answer in its place.
    ///
    /// # Errors
    /// What counts as the error of the handler.
    async fn call(&self, ctx: TaskContext, next: Next<'_>) -> Result<Output, TaskError>;
}

/// What lies within a middleware: the next one, or the handler. It is run once at most, because a handler makes its durable
/// calls once.
pub struct Next<'n>(&'n dyn TaskHandler);

impl Next<'_> {
    /// Runs it.
    ///
    /// # Errors
    /// Those of the handler, or what a middleware has made of them.
    pub async fn run(self, ctx: TaskContext) -> Result<Output, TaskError> {
        self.0.call(ctx).await
    }
}

impl std::fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Next")
    }
}

type Wrap = Box<dyn Fn(Arc<dyn TaskHandler>) -> Arc<dyn TaskHandler> + Send + Sync>;

/// What goes around handlers, the outermost first.
#[derive(Default)]
pub(crate) struct Around(Vec<Wrap>);

impl Around {
    pub(crate) fn add(&mut self, wrap: impl Fn(Arc<dyn TaskHandler>) -> Arc<dyn TaskHandler> + Send + Sync + 'static) {
        self.0.push(Box::new(wrap));
    }

    pub(crate) fn add_middleware(&mut self, middleware: impl Middleware) {
        let middleware = Arc::new(middleware);
        self.add(move |inner| Arc::new(Wrapped { middleware: Arc::clone(&middleware), inner }));
    }

    /// A handler with all of it around.
    pub(crate) fn wrap(&self, handler: Arc<dyn TaskHandler>) -> Arc<dyn TaskHandler> {
        self.0.iter().rev().fold(handler, |inner, wrap| wrap(inner))
    }
}

/// A handler with a middleware around it.
struct Wrapped<M> {
    middleware: Arc<M>,
    inner: Arc<dyn TaskHandler>,
}

#[async_trait]
impl<M: Middleware> TaskHandler for Wrapped<M> {
    fn spec(&self) -> HandlerSpec {
        self.inner.spec()
    }

    async fn call(&self, ctx: TaskContext) -> Result<Output, TaskError> {
        self.middleware.call(ctx, Next(&*self.inner)).await
    }
}
