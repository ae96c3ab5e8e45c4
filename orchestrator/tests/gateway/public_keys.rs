//! Tokens that others sign: judged by public keys of a file, and by nothing that the token says of itself.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use orchestrator::gateway::{Role, Tokens};
use serde_json::{Value, json};

use super::support::{Running, SECRET, config, gateway_with};
use super::tokens::{HEADER, claims, encoded, shown, signed};

/// Somebody who signs tokens, with a key of each kind.
struct Issuer {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
}

impl Issuer {
    fn new() -> Self {
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        Self { rsa, ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap() }
    }

    fn rs256(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encoded(header), encoded(claims));
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
        format!("{message}.{}", encoded(signature))
    }

    fn es256(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encoded(header), encoded(claims));
        let signature = self.ec.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", encoded(signature))
    }

    fn public(&self, rsa: &str, ec: &str) -> [Value; 2] {
        let (n, e) = (self.rsa.public_key().modulus(), self.rsa.public_key().exponent());
        let point = self.ec.public_key().as_ref();
        [
            json!({
                "kty": "RSA", "kid": rsa, "use": "sig", "alg": "RS256",
                "n": encoded(n.big_endian_without_leading_zero()), "e": encoded(e.big_endian_without_leading_zero()),
            }),
            json!({"kty": "EC", "crv": "P-256", "kid": ec, "x": encoded(&point[1..33]), "y": encoded(&point[33..])}),
        ]
    }
}

/// A file that is gone when it is dropped.
struct Keys(PathBuf);

impl Keys {
    fn of(keys: &[Value]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("orch-keys-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, json!({ "keys": keys }).to_string()).unwrap();
        Self(path)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn header(alg: &str, kid: &str) -> String {
    json!({"alg": alg, "typ": "JWT", "kid": kid}).to_string()
}

async fn judging(tokens: Tokens) -> Running {
    gateway_with(config().tokens(tokens)).await
}

#[tokio::test]
async fn a_token_is_judged_by_the_key_that_its_kid_names() {
    let (ours, other, stranger) = (Issuer::new(), Issuer::new(), Issuer::new());
    let keys = Keys::of(&[ours.public("r1", "e1"), other.public("r2", "e2")].concat());
    let gateway = judging(Tokens::new(SECRET).unwrap().jwks(&keys.0).unwrap()).await;
    let fair = claims(&json!({"role": "admin"}));
    for token in [
        ours.rs256(&header("RS256", "r1"), &fair),
        ours.es256(&header("ES256", "e1"), &fair),
        other.rs256(&header("RS256", "r2"), &fair),
        signed(HEADER, &fair, SECRET),
    ] {
        assert_eq!(shown(&gateway, &token).await.status, 200, "{token}");
    }
    for (token, part) in [
        // The key of somebody else, and one that nobody named here.
        (ours.rs256(&header("RS256", "r2"), &fair), "signature is wrong"),
        (ours.es256(&header("ES256", "e2"), &fair), "signature is wrong"),
        (stranger.rs256(&header("RS256", "r1"), &fair), "signature is wrong"),
        (ours.rs256(&header("RS256", "r3"), &fair), "names no key"),
        (ours.rs256(&header("RS256", ""), &fair), "names no key"),
        (ours.rs256(&header("RS256", "R1"), &fair), "names no key"),
        (ours.rs256(&header("RS256", "r1\0"), &fair), "names no key"),
        (ours.rs256(&header("RS256", "../../r1"), &fair), "names no key"),
        (ours.rs256(&header("RS256", "r1' OR '1'='1"), &fair), "names no key"),
        (ours.rs256(r#"{"alg":"RS256"}"#, &fair), "kid is missing"),
        (ours.rs256(r#"{"alg":"RS256","kid":["r1"]}"#, &fair), "cannot be read"),
        // A key is good for one algorithm.
        (ours.rs256(&header("RS256", "e1"), &fair), "names no key"),
        (ours.es256(&header("ES256", "r1"), &fair), "names no key"),
        (ours.rs256(&header("RS384", "r1"), &fair), "no key is set"),
        (ours.rs256(&header("PS256", "r1"), &fair), "no key is set"),
        (ours.rs256(&header("HS256", "r1"), &fair), "signature is wrong"),
        // Claims hold for them too.
        (ours.rs256(&header("RS256", "r1"), &claims(&json!({"exp": 1}))), "expired"),
        (ours.rs256(&header("RS256", "r1"), &claims(&json!({"role": null}))), "cannot be read"),
        (ours.rs256(r#"{"alg":"RS256","kid":"r1","crit":["x"]}"#, &fair), "critical"),
        (
            ours.rs256(r#"{"alg":"RS256","kid":"r1","jku":"https://keys.example"}"#, &fair),
            "only keys that are set here",
        ),
    ] {
        let refused = shown(&gateway, &token).await;
        refused.refuses(401, part);
        assert!(refused.headers.contains_key("www-authenticate"));
    }
}

#[tokio::test]
async fn a_public_key_is_no_secret_and_a_secret_is_no_public_key() {
    let ours = Issuer::new();
    let keys = Keys::of(&ours.public("r1", "e1"));
    let der = AsDer::<PublicKeyX509Der<'_>>::as_der(ours.rsa.public_key()).unwrap();
    let body: String = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(der.as_ref())
    };
    let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
    let file = std::fs::read_to_string(&keys.0).unwrap();
    let fair = claims(&json!({"role": "admin"}));
    let public = [pem.as_str(), pem.trim_end(), &body, &file, ours.public("r1", "e1")[0]["n"].as_str().unwrap()]
        .map(ToOwned::to_owned);
    let both = judging(Tokens::new(SECRET).unwrap().jwks(&keys.0).unwrap()).await;
    let alone = judging(Tokens::by_jwks(&keys.0).unwrap()).await;
    for secret in &public {
        for head in [HEADER, &header("HS256", "r1")] {
            let token = signed(head, &fair, secret);
            shown(&both, &token).await.refuses(401, "signature is wrong");
            shown(&alone, &token).await.refuses(401, "no key is set");
        }
    }
    // And tokens by our secret under the other names.
    for alg in ["RS256", "ES256"] {
        let token = signed(&header(alg, if alg == "RS256" { "r1" } else { "e1" }), &fair, SECRET);
        shown(&both, &token).await.refuses(401, "signature is wrong");
    }
    shown(&alone, &signed(HEADER, &fair, SECRET)).await.refuses(401, "no key is set");
    assert_eq!(shown(&alone, &ours.rs256(&header("RS256", "r1"), &fair)).await.status, 200);
}

#[test]
fn public_keys_alone_make_no_tokens_and_a_bad_file_is_told_at_once() {
    let ours = Issuer::new();
    let keys = Keys::of(&ours.public("r1", "e1"));
    let tokens = Tokens::by_jwks(&keys.0).unwrap();
    assert_eq!(format!("{tokens:?}"), "Tokens(RS256, ES256)");
    let said = tokens.mint("ada", Role::User, std::time::Duration::from_secs(60)).unwrap_err().to_string();
    assert!(said.contains("no secret to sign with"), "{said}");
    let shared = Keys::of(&[json!({"kty": "oct", "kid": "s", "alg": "HS256", "k": encoded(SECRET)})]);
    let said = Tokens::by_jwks(&shared.0).unwrap_err().to_string();
    assert!(said.contains("shared secret") && !said.contains(&encoded(SECRET)), "{said}");
    let gone = std::env::temp_dir().join("no-such-key-set");
    assert!(Tokens::by_jwks(&gone).unwrap_err().to_string().contains("cannot be read"));
}
