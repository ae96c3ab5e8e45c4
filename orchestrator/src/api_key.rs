//! API keys that are kept in Redis: made once, shown once, refused from the moment they are revoked.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::gateway::Role;
use crate::router::check_name;
use crate::store::{KeyAdded, StoredKey};
use crate::task::instant;
use crate::{Error, Orchestrator, Result, codec};

/// Keys of one namespace at most, those that have expired included.
pub const API_KEYS_MAX: usize = 1000;
/// Longest life of a key that expires: 366 days.
pub const API_KEY_LIFE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// What every key begins with.
const PREFIX: &str = "ork_";
/// Hexadecimal digits of an id, and of a secret of 32 random bytes.
const ID_DIGITS: usize = 16;
const SECRET_DIGITS: usize = 64;
/// Largest stored key, in bytes.
const STORED_BYTES_MAX: usize = 1024;

/// What is known of a key. Its secret is not: of that there is a digest, which is shown to nobody.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ApiKey {
    /// The part of the key that names it: 16 hexadecimal digits.
    pub id: String,
    /// The name of the caller who shows it.
    pub name: String,
    /// What the caller may do.
    pub role: Role,
    /// The tenant whose tasks alone the caller sees and changes; everybody's without one.
    pub tenant: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// From when on it is refused.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last let through, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    #[serde(skip)]
    digest: [u8; 32],
}

/// A key as its holder shows it: `ork_`, its id, `_` and its secret. It is known when it is made, and never again.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKeySecret(String);

impl ApiKeySecret {
    /// The key itself, for its holder.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn generate() -> Self {
        let (id, secret) = (rand::random::<u64>(), rand::random::<[u128; 2]>());
        Self(format!("{PREFIX}{id:016x}_{:032x}{:032x}", secret[0], secret[1]))
    }
}

/// Tells nothing.
impl fmt::Debug for ApiKeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKeySecret(…)")
    }
}

/// All but the digest.
impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, name, role, tenant, created_at, expires_at, last_used_at, digest: _ } = self;
        let mut told = f.debug_struct("ApiKey");
        told.field("id", id).field("name", name).field("role", role).field("tenant", tenant);
        told.field("created_at", created_at).field("expires_at", expires_at).field("last_used_at", last_used_at);
        told.finish_non_exhaustive()
    }
}

/// A key as Redis holds it under its id.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(rename = "d")]
    digest: [u8; 32],
    #[serde(rename = "n")]
    name: String,
    #[serde(rename = "r")]
    role: Role,
    #[serde(rename = "tn", default, skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    #[serde(rename = "c")]
    created_ms: u64,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    expires_ms: Option<u64>,
}

impl ApiKey {
    /// The id and the secret of what somebody shows, when it is written like a key.
    pub(crate) fn split(shown: &[u8]) -> Option<(&str, &[u8])> {
        let is_hex = |digits: &[u8]| digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let rest = shown.strip_prefix(PREFIX.as_bytes())?;
        let (id, secret) = rest.split_at_checked(ID_DIGITS)?;
        let secret = secret.strip_prefix(b"_").filter(|secret| secret.len() == SECRET_DIGITS && is_hex(secret))?;
        let id = std::str::from_utf8(id).ok().filter(|id| is_hex(id.as_bytes()))?;
        Some((id, secret))
    }

    /// Whether this is its secret. Takes the same time whether it is or not.
    pub(crate) fn is_opened_by(&self, secret: &[u8]) -> bool {
        self.digest.ct_eq(Sha256::digest(secret).as_slice()).into()
    }

    fn read(stored: &StoredKey) -> Result<Self> {
        let Stored { digest, name, role, tenant, created_ms, expires_ms } = codec::decode("an API key", &stored.value)?;
        let (created_at, expires_at) = (instant(created_ms), expires_ms.map(instant));
        let last_used_at = stored.last_used_ms.map(instant);
        Ok(Self { id: stored.id.clone(), name, role, tenant, created_at, expires_at, last_used_at, digest })
    }
}

impl Orchestrator {
    /// Makes a key for the caller `name`, who may do what `role` may, with what belongs to `tenant` alone if one is named; good
    /// for `life`, else until it is revoked. Gateways take it at once.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is not 1 to 64 of `A-Z a-z 0-9 _ . -` or looks like an id, a tenant that is no name,
    /// and a life of less than a second or more than [`API_KEY_LIFE_MAX`]; [`Error::Conflict`] when another key has the name, in
    /// whichever case, and for more than [`API_KEYS_MAX`]; [`Error::Unavailable`].
    pub async fn create_key(
        &self,
        name: &str,
        role: Role,
        tenant: Option<&str>,
        life: Option<Duration>,
    ) -> Result<(ApiKey, ApiKeySecret)> {
        check_key_name(name)?;
        tenant.map_or(Ok(()), |tenant| check_name("tenant", tenant))?;
        if life.is_some_and(|life| life < Duration::from_secs(1) || life > API_KEY_LIFE_MAX) {
            return Err(Error::invalid("a key that expires lives between 1 second and 366 days"));
        }
        self.store.learn_time().await?;
        let created_ms = self.store.now_ms();
        let secret = ApiKeySecret::generate();
        let (id, word) = ApiKey::split(secret.0.as_bytes()).ok_or_else(|| Error::corrupt("a new API key"))?;
        let stored = Stored {
            digest: Sha256::digest(word).into(),
            name: name.into(),
            role,
            tenant: tenant.map(Into::into),
            created_ms,
            expires_ms: life.map(|life| created_ms + u64::try_from(life.as_millis()).unwrap_or(u64::MAX >> 1)),
        };
        let value = codec::encode("API key", &stored, STORED_BYTES_MAX)?;
        match self.store.add_key(id, &name.to_ascii_lowercase(), &value, API_KEYS_MAX).await? {
            KeyAdded::Done => {
                let key = ApiKey::read(&StoredKey { id: id.into(), value, last_used_ms: None })?;
                Ok((key, secret))
            }
            KeyAdded::Taken => Err(Error::Conflict {
                what: format!("there is an API key of the name `{name}`; revoke it first, or choose another name"),
            }),
            KeyAdded::Full => Err(Error::Conflict {
                what: format!("there are {API_KEYS_MAX} API keys, as many as there may be; revoke one"),
            }),
        }
    }

    /// All keys, by name; those that have expired too, until they are revoked. One that cannot be read is left out, and logged.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn api_keys(&self) -> Result<Vec<ApiKey>> {
        let read = |stored: &StoredKey| {
            let key = ApiKey::read(stored);
            key.inspect_err(|error| tracing::warn!(id = stored.id, %error, "an API key cannot be read")).ok()
        };
        let mut keys: Vec<ApiKey> = self.store.api_keys().await?.iter().filter_map(read).collect();
        keys.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(keys)
    }

    /// The key of this id or name.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn api_key(&self, id_or_name: &str) -> Result<ApiKey> {
        let keys = self.api_keys().await?;
        let found = keys.into_iter().find(|key| key.id == id_or_name || key.name.eq_ignore_ascii_case(id_or_name));
        found.ok_or_else(|| Error::NotFound { what: format!("API key `{}`", crate::error::excerpt(id_or_name)) })
    }

    /// Ends the key of this id or name for good; gateways refuse it within 2 seconds. Returns what was known of it.
    ///
    /// # Errors
    /// As [`Orchestrator::api_key`].
    pub async fn revoke_key(&self, id_or_name: &str) -> Result<ApiKey> {
        let key = self.api_key(id_or_name).await?;
        self.store.drop_key(&key.id, &key.name.to_ascii_lowercase()).await?;
        Ok(key)
    }
}

/// A key names its caller: as the keys of the environment do. What looks like an id would be taken for one.
fn check_key_name(name: &str) -> Result {
    if !crate::gateway::is_key_name(name) {
        return Err(Error::invalid("the name of an API key has 1 to 64 of the characters A-Z a-z 0-9 _ . -"));
    }
    match name.len() == ID_DIGITS && name.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => Err(Error::invalid(format!("`{name}` looks like the id of an API key; choose another name"))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_split_strictly_and_only_its_own_secret_opens_it() {
        let secret = ApiKeySecret::generate();
        let (id, word) = ApiKey::split(secret.reveal().as_bytes()).expect("a key of ours");
        let stored = Stored {
            digest: Sha256::digest(word).into(),
            name: "ci".into(),
            role: Role::Agent,
            tenant: None,
            created_ms: 1,
            expires_ms: None,
        };
        let value = codec::encode("API key", &stored, STORED_BYTES_MAX).expect("fair");
        let key = ApiKey::read(&StoredKey { id: id.into(), value, last_used_ms: None }).expect("ours");
        assert!(key.is_opened_by(word) && !key.is_opened_by(&word[1..]) && !key.is_opened_by(b""));
        let other = ApiKeySecret::generate();
        assert!(!key.is_opened_by(ApiKey::split(other.reveal().as_bytes()).expect("a key").1));
        let text = secret.reveal().to_owned();
        for wrong in [
            "",
            "ork_",
            &text[..84],
            &format!("{text}0"),
            &text.to_uppercase(),
            &text.replacen("ork_", "ork-", 1),
            &text.replacen('_', "", 1),
            &format!("{}_{}", &text[..20], "z".repeat(64)),
            &format!("ork_{}_{}", "é".repeat(8), "0".repeat(64)),
        ] {
            assert_eq!(ApiKey::split(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(format!("{secret:?}"), "ApiKeySecret(…)");
        let shown = format!("{key:?} {}", serde_json::to_string(&key).expect("JSON"));
        let digits: String = key.digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let numbers = format!("{}, {}", key.digest[0], key.digest[1]);
        assert!(!shown.contains("digest") && !shown.contains(&digits) && !shown.contains(&numbers), "{shown}");
    }
}
