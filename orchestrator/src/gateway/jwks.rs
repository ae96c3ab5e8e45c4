//! Public keys of others, in a JWKS file (RFC 7517): what tokens by RS256 and ES256 are judged by.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::excerpt;
use crate::{Error, Result};

/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Keys in one file at most.
const KEYS_MAX: usize = 100;
/// Longest name of a key, in bytes.
const KID_BYTES_MAX: usize = 256;
/// Bits of an RSA key.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Bytes of a coordinate on the curve P-256.
const P256_BYTES: usize = 32;
/// How long the keys are taken as known.
const EVERY: Duration = Duration::from_secs(60);

/// The keys of one file, which is looked at again from time to time.
#[derive(Debug)]
pub(super) struct Jwks {
    path: PathBuf,
    every: Duration,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    keys: Arc<[PublicKey]>,
    looked: Instant,
    /// What the file was like when it was read last, whether it could be used or not.
    stamp: Option<Stamp>,
}

type Stamp = (SystemTime, u64);

/// One key; it is good for one algorithm.
#[derive(Debug)]
struct PublicKey {
    kid: String,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Jwks {
    pub(super) fn open(path: &Path) -> Result<Self> {
        Self::looking_every(path, EVERY)
    }

    fn looking_every(path: &Path, every: Duration) -> Result<Self> {
        let told = |what: &str| Error::invalid(format!("the JWKS file `{}` {what}", path.display()));
        let stamp = stamp(path);
        let keys = read(path).map_err(|what| told(&what))?.into();
        Ok(Self { path: path.into(), every, kept: Mutex::new(Kept { keys, looked: Instant::now(), stamp }) })
    }

    /// The key `kid`, if it is there and for this algorithm.
    pub(super) async fn key(self: &Arc<Self>, kid: &str, algorithm: Algorithm) -> Option<DecodingKey> {
        if self.is_due() {
            let this = Arc::clone(self);
            // It reads a file. Others go on with the keys at hand meanwhile.
            let _ = tokio::task::spawn_blocking(move || this.look()).await;
        }
        let keys = Arc::clone(&self.kept().keys);
        keys.iter().find(|key| key.kid == kid && key.algorithm == algorithm).map(|key| key.key.clone())
    }

    /// Whether it is time to look, for one asker.
    fn is_due(&self) -> bool {
        let mut kept = self.kept();
        let due = kept.looked.elapsed() >= self.every;
        if due {
            kept.looked = Instant::now();
        }
        due
    }

    /// Reads the file if it has changed; keeps what there is when that cannot be used.
    fn look(&self) {
        let stamp = stamp(&self.path);
        if stamp.is_some() && stamp == self.kept().stamp {
            return;
        }
        let keys = read(&self.path);
        let mut kept = self.kept();
        kept.stamp = stamp;
        match keys {
            Ok(keys) => {
                tracing::info!(file = %self.path.display(), keys = keys.len(), "the JWKS file has changed and was read");
                kept.keys = keys.into();
            }
            Err(what) => {
                let file = self.path.display();
                tracing::warn!(%file, "the JWKS file {what}; the keys that it held before stay in force");
            }
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let about = std::fs::metadata(path).ok()?;
    Some((about.modified().ok()?, about.len()))
}

/// The keys of a file, or what is wrong with it.
fn read(path: &Path) -> std::result::Result<Vec<PublicKey>, String> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("is larger than {FILE_BYTES_MAX} bytes"));
    }
    parse(&text)
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// The secret part of a private key.
    d: Option<IgnoredAny>,
    /// A shared secret.
    k: Option<IgnoredAny>,
}

fn parse(text: &[u8]) -> std::result::Result<Vec<PublicKey>, String> {
    let set: KeySet = serde_json::from_slice(text).map_err(|error| {
        format!("is no key set ({{\"keys\": [...]}}): line {}, column {}", error.line(), error.column())
    })?;
    if set.keys.len() > KEYS_MAX {
        return Err(format!("has {} keys, and {KEYS_MAX} are the most", set.keys.len()));
    }
    let mut keys: Vec<PublicKey> = Vec::new();
    for jwk in &set.keys {
        let shown = jwk.kid.as_deref().map_or_else(|| "without a kid".into(), |kid| format!("`{}`", excerpt(kid)));
        let Some(key) = jwk.key().map_err(|what| format!("has the key {shown}, which {what}"))? else { continue };
        if keys.iter().any(|other| other.kid == key.kid) {
            return Err(format!("has two keys {shown}"));
        }
        keys.push(key);
    }
    match keys.is_empty() {
        true => Err("has no key for RS256 (RSA) or ES256 (P-256)".into()),
        false => Ok(keys),
    }
}

impl Jwk {
    /// The key; `None` when it is for something else.
    fn key(&self) -> std::result::Result<Option<PublicKey>, String> {
        let alg = self.alg.as_deref().unwrap_or_default();
        if self.kty == "oct" || self.k.is_some() || alg.starts_with("HS") {
            return Err("is a shared secret; secrets go into ORCHESTRATOR_JWT_SECRET, only public keys here".into());
        }
        if self.d.is_some() {
            return Err("is a private key; leave only its public part here".into());
        }
        let (algorithm, name) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => (Algorithm::RS256, "RS256"),
            ("EC", Some("P-256")) => (Algorithm::ES256, "ES256"),
            _ => return Ok(None),
        };
        let verifies = self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        let signs = self.usage.as_deref().is_none_or(|usage| usage == "sig");
        if !(verifies && signs && (alg.is_empty() || alg == name)) {
            return Ok(None);
        }
        let kid = self.kid.as_deref().filter(|kid| (1..=KID_BYTES_MAX).contains(&kid.len()));
        let kid = kid.ok_or_else(|| format!("cannot be named: a kid has 1 to {KID_BYTES_MAX} bytes"))?.to_owned();
        let key = match algorithm {
            Algorithm::RS256 => self.rsa()?,
            _ => self.p256()?,
        };
        Ok(Some(PublicKey { kid, algorithm, key }))
    }

    fn rsa(&self) -> std::result::Result<DecodingKey, String> {
        let (n, e) = (number(self.n.as_deref(), "n")?, number(self.e.as_deref(), "e")?);
        let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
        if !RSA_BITS.contains(&bits) {
            return Err(format!("has {bits} bits; an RSA key has {} to {} here", RSA_BITS.start(), RSA_BITS.end()));
        }
        let odd = e.last().is_some_and(|last| last % 2 == 1);
        if !odd || e == [1] || e.len() > 4 {
            return Err("has an exponent that no RSA key should have; 65537 (AQAB) is the usual one".into());
        }
        Ok(DecodingKey::from_rsa_raw_components(&n, &e))
    }

    fn p256(&self) -> std::result::Result<DecodingKey, String> {
        let (x, y) = (self.x.as_deref().unwrap_or_default(), self.y.as_deref().unwrap_or_default());
        for coordinate in [x, y] {
            if URL_SAFE_NO_PAD.decode(coordinate).map_or(0, |bytes| bytes.len()) != P256_BYTES {
                return Err(format!("has no point: x and y are {P256_BYTES} bytes each, in base64url without padding"));
            }
        }
        DecodingKey::from_ec_components(x, y).map_err(|error| format!("has no point: {error}"))
    }
}

/// A number without its leading zeros.
fn number(text: Option<&str>, name: &str) -> std::result::Result<Vec<u8>, String> {
    let bytes = text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let bytes = bytes.ok_or_else(|| format!("has no {name}: a number in base64url without padding"))?;
    Ok(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rsa(kid: &str, bits: usize) -> Value {
        let n = URL_SAFE_NO_PAD.encode(vec![0xff; bits / 8]);
        json!({"kty": "RSA", "kid": kid, "n": n, "e": "AQAB"})
    }

    fn p256(kid: &str) -> Value {
        let x = URL_SAFE_NO_PAD.encode([7; 32]);
        json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": x, "y": x})
    }

    fn with(mut key: Value, name: &str, value: Value) -> Value {
        key[name] = value;
        key
    }

    fn kids(keys: &[Value]) -> std::result::Result<Vec<String>, String> {
        let keys = parse(json!({ "keys": keys }).to_string().as_bytes())?;
        Ok(keys.into_iter().map(|key| format!("{} {:?}", key.kid, key.algorithm)).collect())
    }

    #[test]
    fn each_key_is_for_one_algorithm_and_what_is_for_something_else_is_passed_over() {
        let (r, e) = (rsa("r", 2048), p256("e"));
        assert_eq!(kids(&[r.clone(), e.clone()]), Ok(vec!["r RS256".into(), "e ES256".into()]));
        for other in [
            with(r.clone(), "alg", "RS384".into()),
            with(r.clone(), "alg", "PS256".into()),
            with(r.clone(), "alg", "ES256".into()),
            with(r.clone(), "use", "enc".into()),
            with(r, "key_ops", json!(["encrypt"])),
            with(e.clone(), "crv", "P-384".into()),
            json!({"kty": "OKP", "crv": "Ed25519", "kid": "o", "x": "AA"}),
        ] {
            assert_eq!(kids(&[other.clone(), e.clone()]), Ok(vec!["e ES256".into()]), "{other}");
            assert!(kids(&[other]).is_err_and(|what| what.contains("no key for RS256")));
        }
    }

    #[test]
    fn what_must_not_judge_tokens_is_refused() {
        for (key, said) in [
            (json!({"kty": "oct", "kid": "s", "k": "c2VjcmV0", "alg": "HS256"}), "`s`, which is a shared secret"),
            (with(rsa("r", 2048), "k", "c2VjcmV0".into()), "shared secret"),
            (with(rsa("r", 2048), "alg", "HS256".into()), "shared secret"),
            (with(rsa("r", 2048), "d", "AQ".into()), "private key"),
            (with(p256("e"), "d", "AQ".into()), "private key"),
            (rsa("r", 1024), "1024 bits"),
            (rsa("r", 2040), "2040 bits"),
            (rsa("r", 16384), "16384 bits"),
            (with(rsa("r", 2048), "n", "".into()), "0 bits"),
            (with(rsa("r", 2048), "n", "not base64!".into()), "no n"),
            (with(rsa("r", 2048), "n", Value::Null), "no n"),
            (with(rsa("r", 2048), "e", "AQ".into()), "exponent"),
            (with(rsa("r", 2048), "e", "Ag".into()), "exponent"),
            (with(p256("e"), "x", "AAAA".into()), "32 bytes"),
            (with(p256("e"), "kid", "".into()), "cannot be named"),
            (with(p256("e"), "kid", Value::Null), "without a kid"),
            (with(p256("e"), "kid", "x".repeat(257).into()), "cannot be named"),
        ] {
            let what = kids(std::slice::from_ref(&key)).expect_err("a fault");
            assert!(what.contains(said) && !what.contains("c2VjcmV0"), "{key}: {what}");
        }
        assert!(kids(&[p256("a"), rsa("a", 2048)]).is_err_and(|what| what.contains("two keys `a`")));
        let many: Vec<Value> = (0..=KEYS_MAX).map(|n| p256(&n.to_string())).collect();
        assert!(kids(&many).is_err_and(|what| what.contains("101 keys")));
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[{"kty":"EC","kty":"oct"}]}"#, "null"] {
            assert!(parse(text.as_bytes()).is_err_and(|what| what.contains("no key set")), "{text}");
        }
    }

    #[tokio::test]
    async fn a_changed_file_counts_and_a_broken_one_does_not() {
        let path = std::env::temp_dir().join(format!("orch-jwks-{}", std::process::id()));
        let write = |keys: &[Value]| std::fs::write(&path, json!({ "keys": keys }).to_string()).expect("written");
        write(&[p256("one")]);
        let slow = Arc::new(Jwks::open(&path).expect("fair keys"));
        let jwks = Arc::new(Jwks::looking_every(&path, Duration::ZERO).expect("fair keys"));
        let knows = async |jwks: &Arc<Jwks>, kid| jwks.key(kid, Algorithm::ES256).await.is_some();
        assert!(knows(&jwks, "one").await && jwks.key("one", Algorithm::RS256).await.is_none());
        write(&[p256("another")]);
        assert!(knows(&jwks, "another").await && !knows(&jwks, "one").await);
        assert!(knows(&slow, "one").await && !knows(&slow, "another").await, "it is not time to look again");
        std::fs::write(&path, "{").expect("written");
        assert!(knows(&jwks, "another").await, "what was good before stays");
        std::fs::write(&path, " ".repeat(FILE_BYTES_MAX as usize + 1)).expect("written");
        assert!(knows(&jwks, "another").await);
        let said = Jwks::open(&path).expect_err("too large").to_string();
        assert!(said.contains("larger than 262144"), "{said}");
        std::fs::remove_file(&path).expect("removed");
        assert!(knows(&jwks, "another").await);
        assert!(Jwks::open(&path).is_err());
        write(&[p256("three")]);
        assert!(knows(&jwks, "three").await && !knows(&jwks, "another").await);
        std::fs::remove_file(&path).expect("removed");
    }
}
