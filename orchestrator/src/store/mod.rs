//! The only room that knows Redis: connections, scripts, keys, and what its errors mean.

mod aging;
#[cfg(feature = "gateway")]
mod api_keys;
mod bell;
mod dial;
mod fitness;
mod groups;
mod keys;
mod quiet;
mod reply;
mod schedules;
mod scripts;
mod walk;
#[cfg(feature = "gateway")]
mod webhooks;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Cmd, ErrorKind, RedisError, Script, ServerErrorKind, Value};

pub(crate) use self::aging::{Order, Place as Reordering};
#[cfg(feature = "gateway")]
pub(crate) use self::api_keys::{KeyAdded, StoredKey};
pub(crate) use self::bell::{Bell, Rung, URGENT_MS};
pub(crate) use self::groups::{Turn, Turned};
use self::keys::Keys;
use self::reply::field;
pub(crate) use self::reply::{Items, read};
pub(crate) use self::schedules::{Change, Changed, Fired, SCHEDULES_READ_MAX, Stored, Ticks};
use self::scripts::Scripts;
pub(crate) use self::walk::{BUCKET_MS, EntryId, Fields, Hash, Place, Slice, entry_id};
#[cfg(feature = "gateway")]
pub(crate) use self::webhooks::Replaced;
use crate::{Config, Error, Result, TaskId};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for the reply of a short command. A command that timed out may have run.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call that may be repeated safely is repeated before the caller is told.
const REPEAT_FOR: Duration = Duration::from_secs(15);

/// How long our idea of the server's clock is taken as good, in milliseconds.
const CLOCK_FRESH_MS: i64 = 60_000;

/// Why one command brought no reply.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The server refused before anything ran, and may not refuse later (loading, failing over …).
    NotNow(RedisError),
    /// No answer came: it may or may not have run.
    Lost(RedisError),
    /// A key has the wrong type; nothing that counts was written. [`Store::mend`] sets it aside.
    WrongType(RedisError),
    /// An answer that will not change.
    Final(Error),
}

impl Fault {
    /// The error for a caller who does not repeat.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::NotNow(error) | Self::Lost(error) => {
                Error::Unavailable { reason: error.to_string(), source: Some(Box::new(error)) }
            }
            Self::WrongType(error) => Error::corrupt(error.to_string()),
            Self::Final(error) => error,
        }
    }
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        let code = error.code().unwrap_or_default().to_owned();
        let detail = || error.detail().unwrap_or_default().to_owned();
        match (error.kind(), code.as_str()) {
            (_, "LOST") => Self::Final(Error::LeaseLost),
            (_, "QUEUEFULL") => Self::Final(Error::QueueFull { queue: detail(), bound: 0 }),
            (_, "OOM") => Self::Final(Error::OutOfMemory),
            (_, "TAKEN" | "LATE") => Self::Final(Error::Conflict { what: format!("{code} {}", detail()) }),
            (_, "WRONGTYPE") => Self::WrongType(error),
            (_, "MISCONF" | "NOREPLICAS") => Self::NotNow(error),
            (
                ErrorKind::Server(
                    ServerErrorKind::BusyLoading
                    | ServerErrorKind::ReadOnly
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::TryAgain
                    | ServerErrorKind::NoScript,
                ),
                _,
            )
            | (_, "BUSY") => Self::NotNow(error),
            (ErrorKind::Server(_) | ErrorKind::Extension, _) => Self::Final(match code.as_str() {
                "NOPERM" => Error::Unfit { what: format!("the Redis user lacks a permission: {error}") },
                _ => Error::corrupt(format!("Redis answered: {error}")),
            }),
            (ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig | ErrorKind::RESP3NotSupported, _) => {
                Self::Final(Error::Unfit { what: error.to_string() })
            }
            _ => Self::Lost(error),
        }
    }
}

/// One call of a script: arguments are copied once, straight into the command.
#[derive(Debug)]
pub(crate) struct Call {
    command: Cmd,
    /// What to send when a key has the wrong type, before this is sent again.
    mend: Option<Cmd>,
}

impl Call {
    /// A plain command, for the few things that need no script.
    pub(crate) fn plain(command: Cmd) -> Self {
        Self { command, mend: None }
    }

    pub(crate) fn arg(mut self, arg: impl redis::ToRedisArgs) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args<A: redis::ToRedisArgs>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        for arg in args {
            self.command.arg(arg);
        }
        self
    }

    /// Has keys of the wrong type set aside by `mend` instead of failing on them.
    pub(crate) fn mended_by(mut self, mend: Self) -> Self {
        self.mend = Some(mend.command);
        self
    }
}

/// One namespace on one server. Cheap to clone; all clones share a connection.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    link: ConnectionManager,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: redis::Client,
    config: Config,
    keys: Keys,
    scripts: Scripts,
    /// Server milliseconds at `started`, as last learnt.
    clock_ms: AtomicI64,
    started: Instant,
    /// Milliseconds after `started` when the server's clock was last heard.
    heard_ms: AtomicI64,
}

impl Store {
    /// Connects, refuses an unfit server, and loads the scripts.
    pub(crate) async fn connect(config: Config) -> Result<Self> {
        config.check()?;
        let client = dial::client(&config)?;
        // The manager's first connection would be tried for minutes; a server that is absent is to be told at once.
        let mut probe = dial::dedicated(&client).await?;
        fitness::check(&mut probe).await?;
        let link = Self::link(&client).await?;
        let shared = Shared {
            client,
            keys: Keys::new(&config.namespace),
            scripts: Scripts::new(&config),
            config,
            clock_ms: AtomicI64::new(0),
            started: Instant::now(),
            heard_ms: AtomicI64::new(0),
        };
        let mut store = Self { link, shared: Arc::new(shared) };
        store.load_scripts().await.map_err(Fault::into_error)?;
        store.settle_aging().await?;
        store.learn_time().await?;
        Ok(store)
    }

    /// The same store over a connection of its own, for a runtime of its own: a connection lives on the runtime that
    /// made it.
    pub(crate) async fn separate(&self) -> Result<Self> {
        Ok(Self { link: Self::link(&self.shared.client).await?, shared: Arc::clone(&self.shared) })
    }

    async fn link(client: &redis::Client) -> Result<ConnectionManager> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_min_delay(Duration::from_millis(20))
            .set_max_delay(Duration::from_millis(500))
            .set_number_of_retries(usize::MAX);
        ConnectionManager::new_with_config(client.clone(), config)
            .await
            .map_err(|error| Fault::from(error).into_error())
    }

    pub(crate) fn config(&self) -> &Config {
        &self.shared.config
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.shared.keys
    }

    pub(crate) fn scripts(&self) -> &Scripts {
        &self.shared.scripts
    }

    /// The server's clock, as this process knows it: learnt from replies, carried on by the monotonic clock.
    pub(crate) fn now_ms(&self) -> u64 {
        #[cfg(feature = "test-clock")]
        if self.shared.config.test_clock {
            // A clock that tests move stands in between.
            let heard = self.shared.clock_ms.load(Ordering::Relaxed) + self.shared.heard_ms.load(Ordering::Relaxed);
            return u64::try_from(heard).unwrap_or(0);
        }
        u64::try_from(self.shared.clock_ms.load(Ordering::Relaxed) + self.elapsed_ms()).unwrap_or(0)
    }

    /// A new id of this millisecond.
    pub(crate) fn new_id(&self, now_ms: u64) -> TaskId {
        #[cfg(feature = "test-clock")]
        if self.shared.config.test_clock {
            return TaskId::at_moved_clock(now_ms);
        }
        TaskId::at(now_ms)
    }

    /// Notes what the server's clock said just now.
    pub(crate) fn set_now_ms(&self, now_ms: u64) {
        let elapsed = self.elapsed_ms();
        self.shared.heard_ms.store(elapsed, Ordering::Relaxed);
        self.shared.clock_ms.store(i64::try_from(now_ms).unwrap_or(i64::MAX) - elapsed, Ordering::Relaxed);
    }

    /// Asks the server for its time unless it was heard within the last minute.
    pub(crate) async fn freshen_time(&self) -> Result {
        let heard = self.shared.heard_ms.load(Ordering::Relaxed);
        match self.elapsed_ms() - heard > CLOCK_FRESH_MS {
            true => self.learn_time().await,
            false => Ok(()),
        }
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Asks the server for its time.
    pub(crate) async fn learn_time(&self) -> Result {
        let clock = || {
            #[cfg(feature = "test-clock")]
            if self.shared.config.test_clock {
                let mut clock = redis::cmd("HMGET");
                clock.arg(self.keys().test_clock()).arg("s").arg("us");
                return clock;
            }
            redis::cmd("TIME")
        };
        let (seconds, micros): (u64, u64) = read(self.repeat(|_| Call::plain(clock())).await?)?;
        self.set_now_ms(seconds * 1000 + micros / 1000);
        Ok(())
    }

    /// Begins a call of `script`.
    pub(crate) fn call(&self, script: &Script) -> Call {
        let mut command = redis::cmd("EVALSHA");
        command.arg(script.get_hash()).arg(1).arg(self.shared.keys.events());
        Call { command, mend: None }
    }

    /// The call that sets keys of the wrong type aside, for scripts that leave this to it.
    pub(crate) fn mend(&self, worker: &str, queues: &[String], slices: &[&[u8]]) -> Call {
        self.call(&self.scripts().mend).arg(worker).arg(queues.len()).args(queues).args(slices)
    }

    /// Sends a call once. A server that has lost its scripts gets them again: nothing ran, so that is no repeat.
    pub(crate) async fn send(&self, call: &Call) -> Result<Value, Fault> {
        match (self.send_loading(&call.command).await, &call.mend) {
            (Err(Fault::WrongType(error)), Some(mend)) => {
                tracing::warn!(%error, "a key has the wrong type; it is set aside");
                self.send_loading(mend).await?;
                self.send_loading(&call.command).await
            }
            (outcome, _) => outcome,
        }
    }

    async fn send_loading(&self, command: &Cmd) -> Result<Value, Fault> {
        match self.query(command).await {
            Err(Fault::NotNow(error)) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.load_scripts().await?;
                self.query(command).await
            }
            outcome => outcome,
        }
    }

    /// Sends what `call` makes until an answer comes, for at most 15 seconds; `call` is told whether an earlier copy
    /// may have run. Only for calls that may be repeated.
    pub(crate) async fn repeat(&self, mut call: impl FnMut(bool) -> Call) -> Result<Value> {
        let started = Instant::now();
        let mut pause = Duration::from_millis(20);
        let mut sent = false;
        loop {
            let fault = match self.send(&call(sent)).await {
                Ok(value) => return Ok(value),
                Err(fault @ (Fault::Final(_) | Fault::WrongType(_))) => return Err(fault.into_error()),
                Err(fault) => fault,
            };
            sent |= matches!(fault, Fault::Lost(_));
            if started.elapsed() + pause > REPEAT_FOR {
                return Err(fault.into_error());
            }
            tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>())).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// A plain command, for the few things that need no script.
    pub(crate) async fn plain(&self, command: &Cmd) -> Result<Value, Fault> {
        self.query(command).await
    }

    async fn query(&self, command: &Cmd) -> Result<Value, Fault> {
        let mut link = self.link.clone();
        // While the manager reconnects, its own timeout does not run.
        match tokio::time::timeout(RESPONSE_TIMEOUT + CONNECT_TIMEOUT, command.query_async(&mut link)).await {
            Ok(reply) => reply.map_err(Fault::from),
            Err(_) => Err(Fault::Lost(RedisError::from((ErrorKind::Io, "no connection and no reply in 7 s")))),
        }
    }

    async fn load_scripts(&self) -> Result<(), Fault> {
        let mut pipe = redis::pipe();
        for script in self.scripts().all() {
            pipe.load_script(script).ignore();
        }
        pipe.query_async::<()>(&mut self.link.clone()).await.map_err(Fault::from)
    }
}
