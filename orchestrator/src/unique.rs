//! Tasks of which one at a time is wanted: whoever submits another gets the one that is there.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::approval::canonical;
use crate::condition::{self, Facts};
use crate::idempotency::hash;
use crate::{Error, NewTask, Result};

/// Longest key of a unique task, in bytes.
pub const UNIQUE_KEY_MAX: usize = 255;
/// Paths of which such a key is made, at most.
const PATHS_MAX: usize = 8;

/// Until when a task keeps others of its key out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "gateway", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum UniqueUntil {
    /// Its first attempt begins.
    Started,
    /// It ends, however it does.
    #[default]
    Done,
}

impl FromStr for UniqueUntil {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "started" => Ok(Self::Started),
            "done" => Ok(Self::Done),
            other => Err(Error::invalid(format!(
                "`{}` is no end of a task's being unique; known are: started done",
                crate::error::excerpt(other)
            ))),
        }
    }
}

/// What makes a task the only one: while it waits, or until it has ended, a task of the same tenant, type and key is not
/// stored; who submits it gets the one that is there. It belongs to the task and goes with it, has no time of its own, and never
/// keeps the task's own retries out.
///
/// ```
/// use orchestrator::{NewTask, Unique, UniqueUntil};
///
/// // One deployment of a service at a time.
/// let deploy = NewTask::<()>::new("deploy", "api").unique(Unique::until_done("api"));
/// // At most one refresh waits; one that runs may already have read what has changed since.
/// let by = Unique::by(["args.repo", "args.branch"]).until(UniqueUntil::Started);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unique {
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(rename = "b", default, skip_serializing_if = "Vec::is_empty")]
    by: Vec<String>,
    #[serde(rename = "u", default)]
    until: UniqueUntil,
}

impl Unique {
    /// The only one of this key until it has ended. A key has 1 to [`UNIQUE_KEY_MAX`] bytes and no control characters.
    #[must_use]
    pub fn until_done(key: &str) -> Self {
        Self { key: Some(key.into()), by: Vec::new(), until: UniqueUntil::Done }
    }

    /// The only one of this key until its first attempt begins.
    #[must_use]
    pub fn until_started(key: &str) -> Self {
        Self::until_done(key).until(UniqueUntil::Started)
    }

    /// The only one with these values until it has ended: 1 to 8 paths as in a [`Condition`](crate::Condition), like
    /// `args.repo`. A task that lacks one of them is refused; null is a value. Such keys are not those of
    /// [`Unique::until_done`].
    #[must_use]
    pub fn by(paths: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { key: None, by: paths.into_iter().map(Into::into).collect(), until: UniqueUntil::Done }
    }

    /// Until when it is the only one.
    #[must_use]
    pub fn until(mut self, until: UniqueUntil) -> Self {
        self.until = until;
        self
    }

    /// # Errors
    /// [`Error::Invalid`] naming what is out of its bounds.
    pub fn check(&self) -> Result {
        match &self.key {
            Some(key) if key.is_empty() || key.len() > UNIQUE_KEY_MAX || key.chars().any(char::is_control) => {
                Err(Error::invalid(format!(
                    "the key of a unique task has 1 to {UNIQUE_KEY_MAX} bytes and no control characters"
                )))
            }
            Some(_) => Ok(()),
            None if self.by.is_empty() || self.by.len() > PATHS_MAX => {
                Err(Error::invalid(format!("a task is unique by 1 to {PATHS_MAX} paths, like args.repo")))
            }
            None => self.by.iter().try_for_each(|path| condition::path(path).map(drop)),
        }
    }

    /// What the task holds.
    pub(crate) fn lock(&self, tenant: Option<&str>, facts: &Facts<'_>) -> Result<Lock> {
        self.check()?;
        let key = match &self.key {
            Some(key) => format!("={key}"),
            None => {
                let values = self.by.iter().map(|path| {
                    condition::path(path)?.find(facts).ok_or_else(|| {
                        Error::invalid(format!(
                            "a task of type `{}` is unique by {path}, and this one has no such field; write null where \
                             there is no value",
                            facts.task_type
                        ))
                    })
                });
                canonical(&Value::Array(values.collect::<Result<_>>()?))
            }
        };
        let whose = tenant.into_iter().chain([facts.task_type, &key]).map(str::as_bytes).collect::<Vec<_>>();
        Ok(Lock::new(self.until, hash(&whose)))
    }
}

impl<T> NewTask<T> {
    /// Is stored only when no other one of its key is there; see [`Unique`]. Else the handle is that of the task that is there,
    /// and says so by [`TaskHandle::existing`](crate::TaskHandle::existing). It goes before what its handler lays down.
    pub fn unique(mut self, unique: Unique) -> Self {
        self.rules.unique = Some(unique);
        self
    }
}

/// What a unique task holds: the mode as the scripts know it, and the digest of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lock(u8, u64, u64);

impl Lock {
    fn new(until: UniqueUntil, digest: [u8; 16]) -> Self {
        let mode = match until {
            UniqueUntil::Started => b's',
            UniqueUntil::Done => b'd',
        };
        let digest = u128::from_be_bytes(digest);
        Self(mode, (digest >> 64) as u64, digest as u64)
    }

    /// Mode ‖ digest.
    pub(crate) fn to_bytes(self) -> [u8; 17] {
        let mut bytes = [self.0; 17];
        bytes[1..9].copy_from_slice(&self.1.to_be_bytes());
        bytes[9..].copy_from_slice(&self.2.to_be_bytes());
        bytes
    }

    pub(crate) fn until(self) -> UniqueUntil {
        if self.0 == b's' { UniqueUntil::Started } else { UniqueUntil::Done }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Priority, Source};
    use serde_json::{Map, json};

    fn lock(unique: &Unique, tenant: Option<&str>, task_type: &str, args: &Value) -> Result<Lock> {
        let metadata = Map::new();
        let facts = Facts { task_type, priority: Priority::P2, source: Source::User, metadata: &metadata, args };
        unique.lock(tenant, &facts)
    }

    #[test]
    fn a_key_belongs_to_its_tenant_and_type_and_to_the_way_it_was_given() {
        let key = Unique::until_done("a");
        let of = |tenant, task_type| lock(&key, tenant, task_type, &json!({})).expect("a lock");
        assert_eq!(of(None, "t"), of(None, "t"));
        assert_ne!(of(None, "t"), of(Some("x"), "t"));
        assert_ne!(of(None, "t"), of(None, "u"));
        let by = lock(&Unique::by(["args.k"]), None, "t", &json!({"k": "a"})).expect("a lock");
        assert_ne!(by.to_bytes()[1..], of(None, "t").to_bytes()[1..]);
        let started = lock(&Unique::until_started("a"), None, "t", &json!({})).expect("a lock");
        assert_eq!(started.to_bytes()[1..], of(None, "t").to_bytes()[1..], "how long it holds is no part of the key");
        assert_eq!((started.to_bytes()[0], started.until()), (b's', UniqueUntil::Started));
    }

    #[test]
    fn values_count_as_they_are_and_what_is_absent_is_refused() {
        let by = Unique::by(["args.repo", "args.issue"]);
        let of = |args: Value| lock(&by, None, "t", &args).expect("a lock");
        assert_eq!(
            of(json!({"repo": {"a": 1, "b": 2}, "issue": null})),
            of(json!({"issue": null, "repo": {"b": 2, "a": 1}}))
        );
        assert_ne!(of(json!({"repo": "A", "issue": 1})), of(json!({"repo": "a", "issue": 1})));
        assert_ne!(of(json!({"repo": "a", "issue": 1})), of(json!({"repo": "a", "issue": "1"})));
        let told = lock(&by, None, "t", &json!({"repo": "a"})).expect_err("no issue").to_string();
        assert!(told.contains("unique by args.issue") && told.contains("write null"), "{told}");
        for wrong in [
            Unique::by(["repo"]),
            Unique::by(Vec::<String>::new()),
            Unique::by(["args.a == 1"]),
            Unique::until_done(""),
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
