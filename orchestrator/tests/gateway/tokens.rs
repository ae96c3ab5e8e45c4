//! Tokens that must not pass, one trick each.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use orchestrator::gateway::{Role, Tokens};
use serde_json::{Value, json};

use super::support::{Answer, Running, SECRET, gateway, tokens};

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn encoded(text: impl AsRef<[u8]>) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in text.as_ref().chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            out.push(char::from(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize]));
        }
    }
    out
}

/// A token of exactly this header and these claims, signed with `secret`.
pub(crate) fn signed(header: &str, claims: &str, secret: &str) -> String {
    let message = format!("{}.{}", encoded(header), encoded(claims));
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

pub(crate) const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

pub(super) async fn shown(gateway: &Running, token: &str) -> Answer {
    gateway.send("GET", "/sla/risk", &[("Authorization", &format!("Bearer {token}"))], b"").await
}

pub(crate) fn claims(change: &Value) -> String {
    let mut claims = json!({"sub": "eve", "role": "agent", "exp": now() + 600});
    for (name, value) in change.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims.to_string()
}

#[tokio::test]
async fn sound_tokens_pass() {
    let gateway = gateway().await;
    let minted = tokens().mint("ada", Role::User, Duration::from_secs(60)).unwrap();
    assert_eq!(shown(&gateway, &minted).await.status, 200);
    for change in [
        json!({}),
        json!({"nbf": now() - 5}),
        json!({"exp": now() as f64 + 60.5}),
        json!({"team": ["x"], "iat": now()}),
        json!({"groups": ["sre", "a team"]}),
    ] {
        let answer = shown(&gateway, &signed(HEADER, &claims(&change), SECRET)).await;
        assert_eq!(answer.status, 200, "{change}: {answer:?}");
    }
    assert_eq!(shown(&gateway, &signed(r#"{"alg":"HS256"}"#, &claims(&json!({})), SECRET)).await.status, 200);
}

#[tokio::test]
async fn claims_that_must_not_pass() {
    let gateway = gateway().await;
    for (change, part) in [
        (json!({"exp": null}), "cannot be read"),
        (json!({"exp": now() - 60}), "expired"),
        (json!({"exp": now() - 30}), "expired"),
        (json!({"exp": "tomorrow"}), "cannot be read"),
        (json!({"exp": u64::MAX}), "366 days"),
        (json!({"exp": now() + 400 * 24 * 3600}), "366 days"),
        (json!({"exp": -1}), "cannot be read"),
        (json!({"sub": null}), "cannot be read"),
        (json!({"sub": ""}), "sub"),
        (json!({"sub": 7}), "cannot be read"),
        (json!({"sub": "x".repeat(129)}), "sub"),
        (json!({"sub": "eve\nrole: admin"}), "sub"),
        (json!({"role": null}), "cannot be read"),
        (json!({"role": "root"}), "cannot be read"),
        (json!({"role": "ADMIN"}), "cannot be read"),
        (json!({"role": ["admin"]}), "cannot be read"),
        (json!({"nbf": now() + 3600}), "not valid yet"),
        (json!({"aud": "another service"}), "another audience"),
        (json!({"aud": "orchestrator.approval"}), "another audience"),
        (json!({"tenant": ""}), "tenant"),
        (json!({"tenant": "Acme"}), "tenant"),
        (json!({"tenant": ["acme"]}), "cannot be read"),
        (json!({"groups": "sre"}), "cannot be read"),
        (json!({"groups": [7]}), "cannot be read"),
        (json!({"groups": [""]}), "groups"),
        (json!({"groups": ["x".repeat(65)]}), "groups"),
        (json!({"groups": vec!["x"; 51]}), "at most 50"),
    ] {
        let token = signed(HEADER, &claims(&change), SECRET);
        shown(&gateway, &token).await.refuses(401, part);
    }
    for twice in
        [r#""role":"admin","#, r#""sub":"ada","#, r#""exp":1,"#, r#""tenant":"a","tenant":"b","#, r#""tenant":null,"#]
    {
        let twice = format!(r#"{{{twice}"sub":"eve","role":"user","exp":{}}}"#, now() + 600);
        let refused = shown(&gateway, &signed(HEADER, &twice, SECRET)).await;
        refused.refuses(401, "each once");
        assert!(refused.headers["www-authenticate"].contains("invalid_token"), "{refused:?}");
    }
}

#[tokio::test]
async fn headers_and_signatures_that_must_not_pass() {
    let gateway = gateway().await;
    let fair = claims(&json!({"role": "admin"}));
    for alg in ["none", "None", "NONE", "nOnE", "", "HS384", "HS512", "RS256", "ES256"] {
        let header = format!(r#"{{"alg":"{alg}","typ":"JWT"}}"#);
        for token in [signed(&header, &fair, SECRET), format!("{}.{}.", encoded(&header), encoded(&fair))] {
            shown(&gateway, &token).await.refuses(401, "HS256");
        }
    }
    let two = r#"{"alg":"none","alg":"HS256"}"#;
    shown(&gateway, &signed(two, &fair, SECRET)).await.refuses(401, "cannot be read");
    for crit in [
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        r#"{"alg":"HS256","crit":["x"]}"#,
        r#"{"alg":"HS256","crit":[]}"#,
    ] {
        shown(&gateway, &signed(crit, &fair, SECRET)).await.refuses(401, "critical");
    }
    shown(&gateway, &signed(HEADER, &fair, "")).await.refuses(401, "signature");
    shown(&gateway, &signed(HEADER, &fair, "another secret of the right length, HS256"))
        .await
        .refuses(401, "signature");
    let good = signed(HEADER, &fair, SECRET);
    let (message, _) = good.rsplit_once('.').unwrap();
    let other = signed(HEADER, &claims(&json!({"role": "user"})), SECRET);
    let spliced = format!("{message}.{}", other.rsplit_once('.').unwrap().1);
    shown(&gateway, &spliced).await.refuses(401, "signature");
    shown(&gateway, &format!("{message}.")).await.refuses(401, "signature");
    let (head, rest) = good.split_once('.').unwrap();
    for junk in [
        "x",
        "a.b",
        "a.b.c",
        "..",
        &format!("{good}.{good}"),
        &format!("{good}="),
        &format!("{head}==.{rest}"),
        &format!("{good}."),
        &format!("{good}.."),
        &format!(".{good}"),
        &format!("{head}. {rest}"),
        &format!("{head} .{rest}"),
        &format!("{good} x"),
        &format!("{head}.\t{rest}"),
    ] {
        let refused = shown(&gateway, junk).await;
        let part = if refused.detail().contains("signature is wrong") { "signature" } else { "cannot be read" };
        refused.refuses(401, part);
    }
    let long = signed(HEADER, &claims(&json!({"pad": "x".repeat(7000)})), SECRET);
    assert!(long.len() > 9 * 1024, "{}", long.len());
    shown(&gateway, &long).await.refuses(401, "8192");
}

#[tokio::test]
async fn a_token_by_a_secret_cannot_choose_the_key_that_it_is_judged_by() {
    let gateway = gateway().await;
    let fair = claims(&json!({"role": "admin"}));
    for kid in [r#""../../../../dev/null""#, r#""x' UNION SELECT '""#, r#""\u0000""#, r#""/proc/sys/kernel/ostype""#] {
        let header = format!(r#"{{"alg":"HS256","kid":{kid}}}"#);
        for secret in ["", "\0", "Linux\n"] {
            shown(&gateway, &signed(&header, &fair, secret)).await.refuses(401, "signature");
        }
    }
    for kid in [r#"["a"]"#, "7", r#"{"a":1}"#] {
        let header = format!(r#"{{"alg":"HS256","kid":{kid}}}"#);
        shown(&gateway, &signed(&header, &fair, SECRET)).await.refuses(401, "cannot be read");
    }
    for brought in [r#""jku":"https://keys.example/set""#, r#""x5u":"file:///tmp/key""#, r#""x5c":["AA=="]"#] {
        let header = format!(r#"{{"alg":"HS256",{brought}}}"#);
        shown(&gateway, &signed(&header, &fair, SECRET)).await.refuses(401, "only keys that are set here");
    }
    let header = r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AA"}}"#;
    shown(&gateway, &signed(header, &fair, "\0")).await.refuses(401, "only keys that are set here");
}

#[test]
fn short_secrets_and_endless_lives_are_refused() {
    for secret in ["", "your-secret-key-here", &"x".repeat(31)] {
        let said = Tokens::new(secret).unwrap_err().to_string();
        assert!(
            said.contains("ORCHESTRATOR_JWT_SECRET") && said.contains(&format!("{} bytes", secret.len())),
            "{said}"
        );
    }
    for life in [0, 400 * 24 * 3600] {
        assert!(tokens().mint("ada", Role::User, Duration::from_secs(life)).is_err());
    }
    assert!(tokens().mint("", Role::User, Duration::from_secs(60)).is_err());
    assert_eq!(format!("{:?}", tokens()), "Tokens(HS256)");
}
