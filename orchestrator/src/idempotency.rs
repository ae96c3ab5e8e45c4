//! What makes a repeated request the same one: a key of its caller's choice, and what was asked for under it.

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Longest idempotency key, in characters.
pub const IDEMPOTENCY_KEY_MAX: usize = 255;

/// A key on its way to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// Of tenant, caller and key: callers do not share theirs, and those of two tenants may have the same name.
    name: [u8; 16],
    /// Of what is asked for.
    digest: [u8; 16],
}

/// What Redis knew of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing: the request was carried out.
    New,
    /// The same request made this.
    Same(crate::TaskId),
    /// Another request was made under it.
    Other,
}

impl Key {
    /// # Errors
    /// [`Error::Invalid`] for a key that is empty, longer than [`IDEMPOTENCY_KEY_MAX`] or not printable ASCII.
    pub(crate) fn new(tenant: Option<&str>, caller: &str, key: &str, asked: &[&[u8]]) -> Result<Self> {
        if key.is_empty() || key.len() > IDEMPOTENCY_KEY_MAX || !key.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            return Err(Error::invalid(format!(
                "an idempotency key has 1 to {IDEMPOTENCY_KEY_MAX} printable ASCII characters; a random UUID is a good one"
            )));
        }
        let whose = tenant.into_iter().chain([caller, key]).map(str::as_bytes).collect::<Vec<_>>();
        Ok(Self { name: hash(&whose), digest: hash(asked) })
    }

    /// As the scripts take it.
    pub(crate) fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.name);
        bytes[16..].copy_from_slice(&self.digest);
        bytes
    }
}

impl Seen {
    /// As the scripts tell it: nothing, an id, or `!`.
    pub(crate) fn read(told: &[u8]) -> Self {
        match crate::TaskId::from_slice(told) {
            Some(id) => Self::Same(id),
            None if told.is_empty() => Self::New,
            None => Self::Other,
        }
    }

    pub(crate) fn conflict() -> Error {
        Error::Conflict {
            what: "another request was made under this idempotency key; take a new key for a new request".into(),
        }
    }
}

/// The first half of the SHA-256 of parts, each after its length, so that no two lists of parts hash alike.
pub(crate) fn hash(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let mut half = [0; 16];
    half.copy_from_slice(&hasher.finalize()[..16]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_do_not_share_keys_and_parts_do_not_run_together() {
        let key = |caller, key, asked: &[&[u8]]| Key::new(None, caller, key, asked).expect("a fair key");
        let of = |tenant, caller| Key::new(tenant, caller, "k", &[]).expect("a fair key");
        assert_ne!(of(Some("t"), "a").name, of(None, "a").name);
        assert_ne!(of(Some("t"), "a").name, of(Some("u"), "a").name);
        assert_ne!(of(Some("t"), "a").name, key("t", "a", &[]).name);
        assert_eq!(key("a", "k", &[b"x"]), key("a", "k", &[b"x"]));
        assert_ne!(key("a", "k", &[b"x"]).name, key("b", "k", &[b"x"]).name);
        assert_ne!(key("ab", "c", &[]).name, key("a", "bc", &[]).name);
        assert_ne!(key("a", "k", &[b"xy", b"z"]).digest, key("a", "k", &[b"x", b"yz"]).digest);
        for bad in ["", "ä", "a\nb", &"x".repeat(256)] {
            assert!(Key::new(None, "a", bad, &[]).is_err(), "{bad}");
        }
    }
}
