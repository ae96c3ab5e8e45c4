//! API keys of the environment: kept as digests, compared in constant time.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Caller, Role};
use crate::{Error, Result};

/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 1024;
/// A shorter key can be guessed; it is taken, with a warning.
const KEY_BYTES_SAFE: usize = 16;

/// The keys that are accepted.
#[derive(Clone, Default)]
pub(super) struct ApiKeys(Vec<ApiKey>);

#[derive(Clone)]
struct ApiKey {
    name: String,
    role: Role,
    digest: [u8; 32],
    short: bool,
}

impl ApiKeys {
    /// Adds the key of `name`. Errors name the key, never show it.
    pub(super) fn add(&mut self, name: &str, key: &str, role: Role) -> Result {
        let refuse = |what: String| Err(Error::Invalid { what });
        if !is_key_name(name) {
            return refuse("the name of an API key has 1 to 64 of the characters A-Z a-z 0-9 _ . -".into());
        }
        if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return refuse(format!(
                "the API key of {name} is not usable: it has 1 to {KEY_BYTES_MAX} printable ASCII characters and no blank"
            ));
        }
        let digest = Sha256::digest(key).into();
        if let Some(other) = self.0.iter().find(|other| other.name == name || other.digest == digest) {
            let what = if other.name == name { "name" } else { "key" };
            return refuse(format!(
                "the API keys of {} and {name} have the same {what}; each needs its own",
                other.name
            ));
        }
        self.0.push(ApiKey { name: name.into(), role, digest, short: key.len() < KEY_BYTES_SAFE });
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names of keys that are short enough to be guessed.
    pub(super) fn short(&self) -> Vec<&str> {
        self.0.iter().filter(|key| key.short).map(|key| key.name.as_str()).collect()
    }

    /// Who holds this key. Takes the same time whichever key it is, and whether it is one.
    pub(super) fn caller(&self, presented: &[u8]) -> Option<Caller> {
        let digest = Sha256::digest(presented);
        let mut found = None;
        for key in &self.0 {
            if bool::from(key.digest.ct_eq(digest.as_slice())) {
                found = Some(key);
            }
        }
        found.map(|key| Caller { name: key.name.clone(), role: key.role, groups: Vec::new(), tenant: None })
    }
}

/// Whether this may be the name of a key, and so of its caller.
pub(crate) fn is_key_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// Names and roles only.
impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|key| (&key.name, key.role))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_caller_and_nothing_near_it_does() {
        let mut keys = ApiKeys::default();
        keys.add("DEV", "dev-key-123", Role::Agent).expect("a fair key");
        keys.add("ADMIN", "a:b:c-with-colons-in-it", Role::Admin).expect("a fair key");
        let name = |presented: &str| keys.caller(presented.as_bytes()).map(|caller| (caller.name, caller.role));
        assert_eq!(name("dev-key-123"), Some(("DEV".into(), Role::Agent)));
        assert_eq!(name("a:b:c-with-colons-in-it"), Some(("ADMIN".into(), Role::Admin)));
        for wrong in ["", "dev-key-12", "dev-key-1234", "DEV-KEY-123", "dev-key-123:agent"] {
            assert_eq!(name(wrong), None, "{wrong}");
        }
        assert_eq!(keys.short(), ["DEV"]);
        assert!(!format!("{keys:?}").contains("dev-key"));
    }

    #[test]
    fn unusable_and_ambiguous_keys_are_refused_without_being_shown() {
        let mut keys = ApiKeys::default();
        keys.add("A", "the-secret", Role::User).expect("a fair key");
        for (name, key) in
            [("", "k"), ("a b", "k"), ("B", ""), ("B", "with blank"), ("B", "é"), ("B", "the-secret"), ("A", "x")]
        {
            let fault = keys.add(name, key, Role::User).expect_err("a fault").to_string();
            assert!(!fault.contains("the-secret") && !fault.contains("with blank"), "{fault}");
        }
    }
}
