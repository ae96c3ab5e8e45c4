//! One attempt: the handler's future within its time, its panics and its cancelling.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use orchestrator::{Asking, Assignment, Backoff, Gate, Orchestrator, SNOOZE_MIN, Telling, Wait};
use tokio_util::sync::CancellationToken;

use crate::blocking::Blocking;
use crate::cancelling::{CANCEL_GRACE_DEFAULT, Cancelling};
use crate::counted::Ended;
use crate::durable::{Durable, Leaving, Ledger};
use crate::error::{Kind, NoRetry};
use crate::extract::State;
use crate::handler::TIMEOUT_DEFAULT;
use crate::registry::Registered;
use crate::voice::Voice;
use crate::{TaskContext, TaskError};

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The handler's output as one MessagePack value.
    Completed(Vec<u8>),
    /// Another attempt may follow after `delay`.
    Failed { error: String, delay: Duration },
    /// It was too early: another attempt follows after `delay`, and this one counts for nothing.
    Snoozed { message: String, delay: Duration },
    /// None may follow; the word says why.
    Fatal { error: String, reason: &'static str },
    /// People do not want it; the word says how.
    Rejected { error: String, reason: &'static str },
    /// It waits, without holding anything.
    Parked(Box<Wait>),
    /// It stopped, or was stopped, because cancelling was asked for.
    Cancelled,
    /// It was stopped because the lease may be over.
    Halted,
}

impl Outcome {
    /// What it counts as; `is_last` says that no retries are left.
    pub(crate) fn counted(&self, is_last: bool) -> Ended {
        match self {
            Self::Completed(_) => Ended::Completed,
            Self::Failed { .. } if !is_last => Ended::Retried,
            Self::Snoozed { .. } => Ended::Snoozed,
            Self::Failed { .. } | Self::Fatal { .. } => Ended::Failed,
            Self::Rejected { .. } => Ended::Rejected,
            Self::Parked(_) => Ended::Parked,
            Self::Cancelled => Ended::Cancelled,
            Self::Halted => Ended::Stopped,
        }
    }
}

/// Runs one attempt to its end, and what it has told and not noted; without a client for a test that has no Redis.
pub(crate) async fn run(
    registered: Registered,
    task: Arc<Assignment>,
    orch: impl Into<Option<Orchestrator>>,
    ledger: impl Ledger + 'static,
    state: Arc<State>,
    cancelling: Cancelling,
    halt: CancellationToken,
) -> (Outcome, Vec<Telling>) {
    let cancel = cancelling.token().clone();
    // A blocking handler waits for its place outside of its time.
    let blocking = match Blocking::begin(&registered.spec, &state, &cancel, &halt).await {
        Ok(blocking) => blocking,
        Err(outcome) => return (outcome, Vec::new()),
    };
    if blocking.is_some() && task.has_expired(ledger.now_ms()) {
        let error = "no place was free before it expired".into();
        return (Outcome::Fatal { error, reason: "expired" }, Vec::new());
    }
    let timeout = registered.spec.timeout.unwrap_or(TIMEOUT_DEFAULT);
    let after = After {
        backoff: task.backoff().or(registered.spec.backoff).unwrap_or_default(),
        failures: task.failures() + 1,
        no_retry: registered.spec.no_retry.clone().unwrap_or_default(),
    };
    let voice = Voice::new(ledger.mouth(), Arc::clone(&task));
    let durable = Durable::new(ledger, &task, registered.spec.code);
    let ctx = TaskContext::new(
        task,
        orch.into(),
        state,
        cancel.clone(),
        Instant::now() + timeout,
        durable,
        (voice, blocking),
    );
    let own = ctx.clone();
    let handler = Arc::clone(&registered.handler);
    let spec = Arc::clone(&registered.spec);
    let call = async move {
        if let Some(gate) = &spec.approval {
            pass(gate, &ctx).await;
        }
        ctx.durable().ready().await;
        handler.call(ctx).await
    };
    let call = AssertUnwindSafe(call).catch_unwind();
    let leave = |leaving| match leaving {
        Leaving::Park(_) if cancel.is_cancelled() => Outcome::Cancelled,
        Leaving::Park(wait) => Outcome::Parked(wait),
        Leaving::Fatal { reason, error } => Outcome::Fatal { error, reason },
        Leaving::Lost => Outcome::Halted,
    };
    let grace = registered.spec.cancel_grace.unwrap_or(CANCEL_GRACE_DEFAULT);
    let stopped = cancelling.overdue(grace);
    let _until_dropped = own.voice().until_dropped();
    let outcome = tokio::select! {
        // A handler that is done is done, even when its time ended in the same instant.
        biased;
        returned = call => match (own.durable().take_leaving(), returned) {
            // Who has asked for a wait gets it, whatever else the handler made of it.
            (Some(leaving), _) => leave(leaving),
            (None, Ok(Ok(output))) => {
                let left_out = own.durable().left_out();
                if !left_out.is_empty() {
                    tracing::warn!(left_out = left_out.join(", "), "completed without durable calls that it had made before");
                }
                Outcome::Completed(output.into_bytes())
            }
            _ if cancel.is_cancelled() => Outcome::Cancelled,
            (None, Ok(Err(error))) => after.failed(&error),
            (None, Err(panic)) => after.failed(&TaskError::from(format!("the handler panicked: {}", panic_text(&*panic)))),
        },
        leaving = own.durable().left() => leave(leaving),
        () = tokio::time::sleep(timeout) => {
            after.failed(&TaskError::from(format!("the attempt took longer than its timeout of {timeout:?}")))
        }
        () = stopped => Outcome::Cancelled,
        () = halt.cancelled() => Outcome::Halted,
        () = own.voice().speak() => Outcome::Halted,
    };
    if !matches!(outcome, Outcome::Halted) {
        // What was told of the work comes before its end.
        tokio::select! {
            biased;
            () = own.voice().finish(!matches!(outcome, Outcome::Failed { .. })) => {}
            () = halt.cancelled() => return (Outcome::Halted, own.durable().take_outbox()),
        }
    }
    (outcome, own.durable().take_outbox())
}

/// Stays here, for the task to wait for people, unless it has passed its handler's gate or is exempt.
async fn pass(gate: &Gate, ctx: &TaskContext) {
    let durable = ctx.durable();
    match Asking::at_gate(ctx.assignment(), gate) {
        Ok(None) => {}
        Ok(Some(asking)) => {
            if !durable.has_passed(&gate.digest(), ctx.assignment().has_passed_its_gate()).await {
                durable.leave(Leaving::Park(Box::new(Wait::Gate(asking)))).await
            }
        }
        Err(error) => durable.fatal("approval", error).await,
    }
}

/// What follows an attempt that failed.
struct After {
    backoff: Backoff,
    /// This one included.
    failures: u32,
    no_retry: Vec<NoRetry>,
}

impl After {
    fn failed(&self, error: &TaskError) -> Outcome {
        let text = error.to_string();
        match error.kind {
            _ if self.no_retry.iter().any(|never| never.means(error)) => {
                Outcome::Fatal { error: text, reason: "no_retry" }
            }
            Kind::Retry => Outcome::Failed { error: text, delay: self.backoff.draw(self.failures) },
            Kind::RetryIn(delay) => Outcome::Failed { error: text, delay },
            Kind::Snooze(delay) => Outcome::Snoozed { message: text, delay: delay.max(SNOOZE_MIN) },
            Kind::Rejected(reason) => Outcome::Rejected { error: text, reason },
            Kind::Fatal(reason) => Outcome::Fatal { error: text, reason },
        }
    }
}

/// What a panic says.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(without a text)")
}
