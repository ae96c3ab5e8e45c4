//! Handlers that block: each on a thread of its own, so many at once as there are places, apart from everything that is async.
//!
//! **Invariant:** a place is taken until its thread has returned, whatever has become of the attempt. A thread cannot be
//! ended; it is told by [`TaskContext::is_cancelled`], and [`TaskContext::block_on`] unwinds it. An attempt has one at a time: a
//! layer that calls the handler again waits for the thread of its last call.

use std::any::Any;
use std::cell::OnceCell;
use std::future::IntoFuture;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::attempt::{Outcome, panic_text};
use crate::extract::State;
use crate::handler::HandlerSpec;
use crate::output::Output;
use crate::{TaskContext, TaskError};

/// The places of a worker's blocking handlers.
#[derive(Debug)]
pub(crate) struct Pool {
    places: Arc<Semaphore>,
    size: usize,
    /// Threads whose attempts are over.
    lingering: AtomicUsize,
    eased: Notify,
}

impl Pool {
    pub(crate) fn new(size: usize) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(size));
        Arc::new(Self { places, size, lingering: AtomicUsize::new(0), eased: Notify::new() })
    }

    /// Handlers that block at once unless a worker is told otherwise: one a core.
    pub(crate) fn size_default() -> usize {
        std::thread::available_parallelism().map_or(1, Into::into)
    }

    /// That of handlers which run without a worker.
    fn of_tests() -> Arc<Self> {
        static ALONE: OnceLock<Arc<Pool>> = OnceLock::new();
        Arc::clone(ALONE.get_or_init(|| Self::new(Self::size_default())))
    }

    /// How many more tasks may be claimed when so many have been: as many wait at most as there are places
    /// in which no thread lingers.
    pub(crate) fn room(&self, claimed: usize) -> usize {
        let places = self.size.saturating_sub(self.lingering.load(Ordering::Relaxed));
        (2 * places).saturating_sub(claimed)
    }

    /// A thread has returned whose attempt was over.
    pub(crate) async fn eased(&self) {
        self.eased.notified().await;
    }

    /// Nobody gets a place any more, not even those that wait for one.
    pub(crate) fn close(&self) {
        self.places.close();
    }

    async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }
}

thread_local! {
    /// Whether the call is over whose thread this is.
    static OWN: OnceCell<CancellationToken> = const { OnceCell::new() };
}

/// What the context of a blocking handler has beside the others.
pub(crate) struct Blocking {
    pool: Arc<Pool>,
    /// Until the handler is called.
    place: Mutex<Option<OwnedSemaphorePermit>>,
    /// Of the one thread that an attempt may have at a time.
    turn: Arc<Semaphore>,
    /// The last call is over, or was left: a layer may call the handler again.
    over: Mutex<CancellationToken>,
    runtime: Handle,
}

impl Blocking {
    /// Waits for a place before the attempt of a blocking handler begins. While the worker drains there is none: the task goes
    /// back.
    pub(crate) async fn begin(
        spec: &HandlerSpec,
        state: &State,
        cancel: &CancellationToken,
        halt: &CancellationToken,
    ) -> Result<Option<Self>, Outcome> {
        if spec.blocking != Some(true) {
            return Ok(None);
        }
        let pool = state.get::<Arc<Pool>>().map_or_else(Pool::of_tests, |pool| Arc::clone(&pool));
        let place = tokio::select! {
            biased;
            () = halt.cancelled() => return Err(Outcome::Halted),
            () = cancel.cancelled() => return Err(Outcome::Cancelled),
            place = pool.enter() => Some(place.ok_or(Outcome::Halted)?),
        };
        let (place, over, runtime) = (Mutex::new(place), Mutex::default(), Handle::current());
        Ok(Some(Self { pool, place, turn: Arc::new(Semaphore::new(1)), over, runtime }))
    }

    /// That of the call whose thread this is; elsewhere, that of the last one.
    pub(crate) fn over(&self) -> CancellationToken {
        let own = OWN.try_with(|own| own.get().cloned()).ok().flatten();
        own.unwrap_or_else(|| self.over.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone())
    }

    /// Another call begins.
    fn begin_call(&self) -> CancellationToken {
        let over = CancellationToken::new();
        self.over.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone_from(&over);
        over
    }

    fn take_place(&self) -> Option<OwnedSemaphorePermit> {
        self.place.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
    }
}

/// What a thread is unwound with when its attempt was left.
struct Left;

/// Notes which of the attempt and its thread came to an end first.
struct Race {
    pool: Arc<Pool>,
    one_has_ended: AtomicBool,
}

impl Race {
    fn attempt_ends(&self) {
        if !self.one_has_ended.swap(true, Ordering::AcqRel) {
            self.pool.lingering.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn thread_ends(&self) {
        if self.one_has_ended.swap(true, Ordering::AcqRel) {
            self.pool.lingering.fetch_sub(1, Ordering::Relaxed);
            self.pool.eased.notify_one();
        }
    }
}

/// The attempt's side of a thread: tells it when the attempt is over.
struct Attempt {
    over: CancellationToken,
    race: Arc<Race>,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.race.attempt_ends();
        self.over.cancel();
    }
}

/// The thread's side. Its place is free when it has returned, and its attempt may have another one.
struct Thread {
    race: Arc<Race>,
    place: Option<OwnedSemaphorePermit>,
    _turn: OwnedSemaphorePermit,
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.place = None;
        self.race.thread_ends();
    }
}

/// Runs a handler on a thread of its own.
pub async fn blocking<F>(ctx: TaskContext, work: F) -> Result<Output, TaskError>
where
    F: FnOnce(TaskContext) -> Result<Output, TaskError> + Send + 'static,
{
    let Some(own) = ctx.blocking() else {
        let what = "a blocking handler was called for a task whose handler does not say `blocking`: what is put around it by \
                    hand has to return its `spec`";
        return Err(TaskError::fatal(what));
    };
    // The thread of a call that a layer has left may still run, and cannot be ended.
    let turn = Arc::clone(&own.turn).acquire_owned().await.map_err(|_| "this worker is stopping")?;
    let place = match own.take_place() {
        Some(place) => Some(place),
        // A layer calls it once more. While the worker drains nobody is given a place: that of the last call is still free.
        None => own.pool.enter().await,
    };
    let race = Arc::new(Race { pool: Arc::clone(&own.pool), one_has_ended: AtomicBool::new(false) });
    let thread = Thread { race: Arc::clone(&race), place, _turn: turn };
    let over = own.begin_call();
    let _attempt = Attempt { over: over.clone(), race };
    let (tell, told) = oneshot::channel();
    let (runtime, span) = (own.runtime.clone(), Span::current());
    // Not one of the runtime's threads: for those a program waits before it ends, however long.
    std::thread::Builder::new().name("orchestrator-blocking".into()).spawn(move || {
        let thread = thread;
        let _ = OWN.with(|own| own.set(over));
        let _runtime = runtime.enter();
        let _within = span.entered();
        let outcome = catch_unwind(AssertUnwindSafe(|| work(ctx)));
        drop(thread);
        if let Err(Err(panic)) = tell.send(outcome) {
            late(&*panic);
        }
    })?;
    match told.await {
        Ok(Ok(returned)) => returned,
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => Err("the thread of the handler was lost".into()),
    }
}

/// A handler has panicked after its attempt was over.
fn late(panic: &(dyn Any + Send)) {
    if !panic.is::<Left>() {
        tracing::warn!(panic = panic_text(panic), "a blocking handler panicked after its attempt was over");
    }
}

impl TaskContext {
    /// Awaits in a handler with `blocking = true`: `ctx.block_on(ctx.step("fetch", || fetch(url)))?`. When the attempt is left
    /// meanwhile, for a wait, at its timeout or because it was cancelled, this does not return: the thread is unwound, as
    /// by a panic that nobody hears of.
    ///
    /// # Panics
    /// In a handler that is async: write `.await` there.
    pub fn block_on<F: IntoFuture>(&self, future: F) -> F::Output {
        let Some(own) = self.blocking() else {
            panic!("`ctx.block_on` is for handlers with `blocking = true`; write `.await` in one that is async");
        };
        if std::thread::panicking() {
            // Unwinding from within a destructor that runs because of a panic would end the process.
            return own.runtime.block_on(future.into_future());
        }
        let over = own.over();
        let value = own.runtime.block_on(async {
            tokio::select! {
                biased;
                () = over.cancelled() => None,
                value = future.into_future() => Some(value),
            }
        });
        value.unwrap_or_else(|| resume_unwind(Box::new(Left)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_lingers_takes_the_place_of_two_tasks() {
        let pool = Pool::new(2);
        assert_eq!((pool.room(0), pool.room(3), pool.room(9)), (4, 1, 0));
        pool.lingering.store(1, Ordering::Relaxed);
        assert_eq!((pool.room(0), pool.room(1)), (2, 1));
        pool.lingering.store(2, Ordering::Relaxed);
        assert_eq!(pool.room(0), 0, "nothing could begin");
    }
}
