//! API keys that are kept in Redis, as a gateway knows them: all of them at once, never older than 2 seconds.
//!
//! Whoever shows an id that is not known has the table read anew, so that a new key works at once. One read answers all who
//! wait for it, and there are at most ten a second: made-up ids cost neither memory nor more than that of Redis's time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::standing::{Standing, left};
use super::{Caller, Problem, READ_TIME};
use crate::{ApiKey, Error, Orchestrator, Result};

/// How long what was read is taken as known: a revoked key is refused within it.
const FRESH: Duration = Duration::from_secs(2);
/// How often a key is looked at whose holder is being answered.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time between two reads because of ids that are not known.
const PAUSE: Duration = Duration::from_millis(100);
/// How often the use of one key is noted.
const NOTE_EVERY: Duration = Duration::from_secs(60);

type Table = Arc<HashMap<String, ApiKey>>;

/// The keys of a namespace.
#[derive(Clone, Debug)]
pub(super) struct StoredKeys(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    orch: Orchestrator,
    known: Mutex<Known>,
    /// Held by the one who reads.
    reading: tokio::sync::Mutex<()>,
    /// When the use of a key was last noted from here.
    noted: Mutex<HashMap<String, Instant>>,
}

#[derive(Debug, Default)]
struct Known {
    /// What was read, and when that read began.
    table: Option<(Instant, Table)>,
    /// When a read last failed, and why.
    failed: Option<(Instant, Problem)>,
}

impl StoredKeys {
    pub(super) fn new(orch: Orchestrator) -> Self {
        let (known, noted) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Shared { orch, known, reading: tokio::sync::Mutex::default(), noted }))
    }

    /// Who holds this key, and how it stands; `None` when it is none of ours or was revoked.
    pub(super) async fn caller(&self, shown: &[u8]) -> Result<Option<(Caller, Standing)>, Problem> {
        let Some((id, secret)) = ApiKey::split(shown) else { return Ok(None) };
        let arrived = Instant::now();
        let mut table = self.0.table(arrived, FRESH).await?;
        if !table.contains_key(id) {
            table = self.0.table(arrived, Duration::ZERO).await?;
        }
        let Some(key) = table.get(id).filter(|key| key.is_opened_by(secret)) else { return Ok(None) };
        let now_ms = i64::try_from(self.0.orch.store().now_ms()).unwrap_or(i64::MAX);
        if key.expires_at.is_some_and(|end| end.timestamp_millis() <= now_ms) {
            return Err(Problem::bad_credential("this API key has expired"));
        }
        self.0.note_use(key, table.len());
        let caller = Caller { name: key.name.clone(), role: key.role, groups: Vec::new(), tenant: key.tenant.clone() };
        let end = key.expires_at.map(|end| end.timestamp_millis() as f64 / 1000.0);
        Ok(Some((caller, Standing::Key(HeldKey { keys: self.clone(), id: key.id.clone(), end }))))
    }
}

/// A key that somebody has shown.
#[derive(Clone, Debug)]
pub(super) struct HeldKey {
    keys: StoredKeys,
    id: String,
    /// The Unix second when it ends by itself.
    end: Option<f64>,
}

impl HeldKey {
    /// Waits until it has ended or was revoked; tells which.
    pub(super) async fn over(self) -> &'static str {
        loop {
            match self.end.map(left).filter(|left| *left <= LOOK_EVERY) {
                Some(left) => {
                    sleep(left).await;
                    return "the API key has expired";
                }
                None => sleep(LOOK_EVERY).await,
            }
            // While Redis is away nobody knows.
            if let Ok(table) = self.keys.0.table(Instant::now(), LOOK_EVERY).await
                && !table.contains_key(&self.id)
            {
                return "the API key was revoked";
            }
        }
    }
}

impl Shared {
    /// The table as it was not longer than `age` before somebody arrived.
    async fn table(&self, arrived: Instant, age: Duration) -> Result<Table, Problem> {
        if let Some(table) = self.known_since(arrived, age) {
            return Ok(table);
        }
        let _reading = self.reading.lock().await;
        // Others have read, or tried to, meanwhile.
        if let Some(table) = self.known_since(arrived, age) {
            return Ok(table);
        }
        let (last, failed) = {
            let known = self.known();
            (known.table.as_ref().map(|(began, _)| *began), known.failed.clone())
        };
        if let Some((_, problem)) = failed.filter(|(at, _)| *at >= arrived) {
            return Err(problem);
        }
        if let Some(last) = last {
            sleep((last + PAUSE).saturating_duration_since(Instant::now())).await;
        }
        let began = Instant::now();
        let read = timeout(READ_TIME, self.orch.api_keys()).await.unwrap_or_else(|_| {
            Err(Error::Unavailable { reason: format!("no answer within {READ_TIME:?}"), source: None })
        });
        let mut known = self.known();
        match read {
            Ok(keys) => {
                let table: Table = Arc::new(keys.into_iter().map(|key| (key.id.clone(), key)).collect());
                known.table = Some((began, Arc::clone(&table)));
                Ok(table)
            }
            Err(error) => {
                let problem = Problem::of(&error);
                known.failed = Some((Instant::now(), problem.clone()));
                Err(problem)
            }
        }
    }

    fn known_since(&self, arrived: Instant, age: Duration) -> Option<Table> {
        let known = self.known();
        known.table.as_ref().filter(|(began, _)| *began + age >= arrived).map(|(_, table)| Arc::clone(table))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Has the use of a key noted, once a minute, while its request goes on.
    fn note_use(&self, key: &ApiKey, keys: usize) {
        let mut noted = self.noted.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if noted.get(&key.id).is_some_and(|at| at.elapsed() < NOTE_EVERY) {
            return;
        }
        if noted.len() > keys {
            // Keys that were revoked since.
            noted.retain(|_, at| at.elapsed() < NOTE_EVERY);
        }
        noted.insert(key.id.clone(), Instant::now());
        let (orch, id) = (self.orch.clone(), key.id.clone());
        tokio::spawn(async move {
            if let Err(error) = orch.store().note_key_use(&id, NOTE_EVERY.as_millis() as u64).await {
                tracing::debug!(id, %error, "the use of an API key was not noted");
            }
        });
    }
}
