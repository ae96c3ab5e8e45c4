//! The private Redis of a test, its virtual clock, and what happened when.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use orchestrator::event::unpack;
use orchestrator::{ApprovalId, Config, Embedded, Orchestrator, TaskId};
use redis::aio::MultiplexedConnection;
use tokio::sync::OnceCell;

use super::{EPOCH_MS, sure};

/// An event, and when it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen {
    /// Virtual time since the harness was started.
    pub at: Duration,
    /// The task.
    pub task: TaskId,
    /// What happened: `task.created`, `approval.requested`, `sla.warning` …
    pub event: &'static str,
    /// The approval that it is about.
    pub approval: Option<ApprovalId>,
}

/// One entry of the event stream.
type Entry = (String, Vec<(Vec<u8>, Vec<u8>)>);

/// The clock of one namespace.
pub(super) struct Clock {
    raw: MultiplexedConnection,
    base: String,
    now_ms: AtomicU64,
    /// The last entry of the event stream that was read, and what was in them.
    seen: Mutex<(String, Vec<Seen>)>,
}

/// Starts the private server of this process unless it runs, and connects to a fresh namespace whose clock stands.
pub(super) async fn begin(change: impl FnOnce(&mut Config)) -> (Orchestrator, Clock) {
    /// It ends with the process, as its shell sees to.
    static SERVER: OnceCell<Embedded> = OnceCell::const_new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let start = async {
        let server = Embedded::start()?;
        server.ready().await?;
        Ok::<_, orchestrator::Error>(server)
    };
    let server = sure("no Redis for the test", SERVER.get_or_try_init(|| start).await);
    let mut config = Config::new(&server.url());
    change(&mut config);
    config.url = server.url();
    config.namespace = format!("h{}", NEXT.fetch_add(1, Ordering::Relaxed));
    config.test_clock = true;
    let connect = async { redis::Client::open(config.url.as_str())?.get_multiplexed_async_connection().await };
    let raw = sure("the test's Redis", connect.await);
    let base = format!("{{{}.0}}:", config.namespace);
    let clock = Clock { raw, base, now_ms: AtomicU64::new(EPOCH_MS), seen: Mutex::new(("-".into(), Vec::new())) };
    clock.write(EPOCH_MS).await;
    (sure("the test's namespace", Orchestrator::with_config(config).await), clock)
}

impl Clock {
    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    /// Virtual time since the beginning.
    pub(super) fn passed(&self) -> Duration {
        Duration::from_millis(self.now_ms() - EPOCH_MS)
    }

    /// Moves the clock on. What has happened before has happened at the old time.
    pub(super) async fn set(&self, orch: &Orchestrator, to_ms: u64) {
        self.look().await;
        self.write(to_ms).await;
        self.now_ms.store(to_ms, Ordering::Relaxed);
        sure("the test's clock", orch.clock_error().await);
    }

    async fn write(&self, now_ms: u64) {
        let mut set = redis::cmd("HSET");
        set.arg(format!("{}now", self.base)).arg("s").arg(now_ms / 1000).arg("us").arg(now_ms % 1000 * 1000);
        sure("the test's clock", set.query_async::<()>(&mut self.raw.clone()).await);
    }

    fn seen(&self) -> MutexGuard<'_, (String, Vec<Seen>)> {
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Reads what has happened since it was last called.
    async fn look(&self) {
        let mut range = redis::cmd("XRANGE");
        range.arg(format!("{}e", self.base)).arg(self.seen().0.clone()).arg("+");
        let entries: Vec<Entry> = sure("the events", range.query_async(&mut self.raw.clone()).await);
        let (at, mut seen) = (self.passed(), self.seen());
        for (id, fields) in entries {
            seen.0 = format!("({id}");
            let events = unpack(&fields).into_iter();
            seen.1.extend(events.map(|e| Seen { at, task: e.task_id, event: e.event_type, approval: e.approval_id }));
        }
    }

    /// All that happened to `task`.
    pub(super) async fn events(&self, task: TaskId) -> Vec<Seen> {
        self.look().await;
        self.seen().1.iter().filter(|seen| seen.task == task).cloned().collect()
    }
}
