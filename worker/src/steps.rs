//! What a handler calls: steps that are done once, outside effects, sleeps.

use std::future::{Future, IntoFuture};

use futures::future::BoxFuture;
use orchestrator::{Error, Noted, RESULT_BYTES_MAX, Until, Wait};
use serde::Serialize;

use crate::durable::{Leaving, Moment, Name, within};
use crate::handler::Payload;
use crate::{Span, TaskContext, TaskError, TaskResult};

/// A durable step; see [`TaskContext::step`].
#[must_use = "a step does nothing until it is awaited"]
pub struct Step<'c, F> {
    pub(crate) ctx: &'c TaskContext,
    pub(crate) name: &'c str,
    pub(crate) input: Option<Result<Vec<u8>, Error>>,
    pub(crate) work: F,
}

impl<F> Step<'_, F> {
    /// What the step depends on. When it is another than it was, the task ends as `changed` instead of going on with an
    /// output that belongs to something else.
    pub fn input<I: Serialize + ?Sized>(mut self, input: &I) -> Self {
        self.input = Some(orchestrator::encode_value("input of a step", input, RESULT_BYTES_MAX));
        self
    }
}

impl<'c, F, Work, T, E> IntoFuture for Step<'c, F>
where
    F: FnOnce() -> Work + Send + 'c,
    Work: Future<Output = Result<T, E>> + Send + 'c,
    T: Payload + Send + Sync + 'c,
    E: Into<TaskError> + Send + 'c,
{
    type Output = TaskResult<T>;
    type IntoFuture = BoxFuture<'c, TaskResult<T>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let durable = self.ctx.durable();
            let input = match self.input.transpose() {
                Ok(input) => input,
                Err(error) => return durable.fatal("journal", error).await,
            };
            let call = durable.begin("step", Name::Own(self.name), input.as_deref()).await;
            if let Some(Noted::Step(output)) = &call.noted {
                let value = call.output(output).await;
                call.tell(Moment::Returned);
                return Ok(value);
            }
            call.tell(Moment::Begins);
            let value = within(self.name, (self.work)()).await.map_err(Into::into)?;
            call.tell(Moment::Ended);
            let value = call.keep(&value, Noted::Step).await;
            call.tell(Moment::Returned);
            Ok(value)
        })
    }
}

/// What has become of an outside effect that may happen once only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Once<T> {
    /// It was done, now or before, and this came of it.
    Done(T),
    /// An earlier attempt ended between the effect and its record: ask outside by this key whether it happened.
    Unknown(String),
}

impl TaskContext {
    /// Does `work` once in the life of the task: its output is noted, and the next attempt gets it without doing it again.
    /// An error is not noted; the next attempt tries again. Between the effect and the note the worker may die, or lose Redis
    /// for longer than its lease: then the work is done again; where that must not be, use [`TaskContext::once`]. What is
    /// returned has been written and read back, as in every later attempt.
    ///
    /// Each name is used once in a handler, and no step within another. A step ends the attempt, and does not return, when the worker has lost the
    /// task, when the journal has no room, or when the handler is not the one that began the task.
    ///
    /// ```
    /// use orchestrator_worker::{TaskContext, TaskResult, payload, task_handler};
    ///
    /// #[payload]
    /// struct Build { sha: String }
    /// # async fn build_image(sha: &str) -> std::io::Result<String> { Ok(sha.into()) }
    ///
    /// #[task_handler("build")]
    /// async fn build(args: Build, ctx: TaskContext) -> TaskResult<String> {
    ///     let image = ctx.step("image", || build_image(&args.sha)).input(&args.sha).await?;
    ///     ctx.sleep("10m").await; // no slot is held
    ///     Ok(image)
    /// }
    /// ```
    pub fn step<'c, F>(&'c self, name: &'c str, work: F) -> Step<'c, F> {
        Step { ctx: self, name, input: None, work }
    }

    /// Does an outside effect at most once. Its intent is noted before, its output after; `work` gets an idempotency key
    /// that is the same in every attempt. When an earlier attempt ended in between, whether by a crash or by an error of
    /// `work`, nobody here knows whether it happened: [`Once::Unknown`].
    ///
    /// # Errors
    /// What `work` returned.
    pub async fn once<'c, F, Work, T, E>(&'c self, name: &'c str, work: F) -> TaskResult<Once<T>>
    where
        F: FnOnce(String) -> Work + Send + 'c,
        Work: Future<Output = Result<T, E>> + Send + 'c,
        T: Payload + Send + Sync + 'c,
        E: Into<TaskError> + Send + 'c,
    {
        let durable = self.durable();
        let key = format!("{}:{name}", self.task_id());
        let call = durable.begin("once", Name::Own(name), None).await;
        match &call.noted {
            Some(Noted::Done(output)) => {
                let value = call.output(output).await;
                call.tell(Moment::Returned);
                return Ok(Once::Done(value));
            }
            Some(_) => {
                call.tell(Moment::Unknown);
                return Ok(Once::Unknown(key));
            }
            None => call.note(Noted::Begun).await,
        }
        call.tell(Moment::Begins);
        let value = within(name, work(key)).await.map_err(Into::into)?;
        call.tell(Moment::Ended);
        let value = call.keep(&value, Noted::Done).await;
        call.tell(Moment::Returned);
        Ok(Once::Done(value))
    }

    /// Waits without holding anything: the handler is left here and entered anew when the time has come. Everything before
    /// that must not happen twice belongs into steps.
    pub async fn sleep(&self, span: impl Into<Span>) {
        match span.into().duration() {
            Ok(span) => self.sleep_to(Until::After(span)).await,
            Err(error) => self.durable().fatal("journal", format!("ctx.sleep: {error}")).await,
        }
    }

    /// [`TaskContext::sleep`] until an instant, at most 366 days ahead.
    pub async fn sleep_until(&self, instant: impl Into<std::time::SystemTime>) {
        let at = instant.into().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let at = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        match at <= self.durable().now_ms() + orchestrator::SPAN_MAX.as_millis() as u64 {
            true => self.sleep_to(Until::Instant(at)).await,
            false => {
                self.durable().fatal("journal", "ctx.sleep_until: the instant lies more than 366 days ahead").await
            }
        }
    }

    async fn sleep_to(&self, until: Until) {
        let call = self.durable().begin("sleep", Name::Number, None).await;
        let until = match call.noted {
            // Exact when the task was claimed after its time; nearly so else, and then the wait goes on.
            Some(Noted::Sleep(at)) if at <= self.durable().now_ms().max(self.assignment().claimed_at_ms()) => {
                call.tell(Moment::Returned);
                return;
            }
            Some(Noted::Sleep(at)) => Until::Instant(at),
            _ => until,
        };
        let (name, entry) = (call.name.clone(), call.entry(Noted::Sleep(0)));
        self.durable().leave(Leaving::Park(Box::new(Wait::Sleep { name, entry, until }))).await
    }
}
