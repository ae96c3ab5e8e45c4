//! Secrets that are changed while tokens are about, and tokens that are for somebody else.

use std::time::Duration;

use orchestrator::gateway::{Role, Tokens};
use serde_json::json;

use super::support::{SECRET, config, gateway_with};
use super::tokens::{HEADER, claims, shown, signed};

const NEXT: &str = "the secret that comes next, long enough as well";
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_old_secret_is_accepted_while_it_is_named_and_refused_after() {
    let old = Tokens::new(SECRET).unwrap().mint("ada", Role::User, MINUTE).unwrap();
    let rotating = Tokens::new(NEXT).unwrap().previous("one that is older still, of 32 bytes").unwrap();
    let rotating = rotating.previous(SECRET).unwrap();
    let new = rotating.mint("ada", Role::User, MINUTE).unwrap();
    let after = Tokens::new(NEXT).unwrap();

    let gateway = gateway_with(config().tokens(rotating)).await;
    assert_eq!((shown(&gateway, &old).await.status, shown(&gateway, &new).await.status), (200, 200));
    let past = signed(HEADER, &claims(&json!({"exp": 1})), SECRET);
    shown(&gateway, &past).await.refuses(401, "expired");
    shown(&gateway, &signed(HEADER, &claims(&json!({})), "a secret that nobody has ever set here"))
        .await
        .refuses(401, "signature");

    let gateway = gateway_with(config().tokens(after)).await;
    assert_eq!(shown(&gateway, &new).await.status, 200, "the newest secret signs");
    shown(&gateway, &old).await.refuses(401, "signature");
}

#[tokio::test]
async fn an_audience_and_an_issuer_are_asked_for_once_they_are_set() {
    let tokens = Tokens::new(SECRET).unwrap().audience("orders").unwrap().issuer("https://issuer.example").unwrap();
    let minted = tokens.mint("ada", Role::User, MINUTE).unwrap();
    let gateway = gateway_with(config().tokens(tokens)).await;
    assert_eq!(shown(&gateway, &minted).await.status, 200);
    let fair = json!({"aud": "orders", "iss": "https://issuer.example"});
    for (name, value, part) in [
        ("aud", json!(null), "names no audience"),
        ("aud", json!("billing"), "another audience"),
        ("aud", json!(["billing", "shipping"]), "another audience"),
        ("aud", json!([]), "another audience"),
        ("aud", json!(7), "names no audience"),
        ("aud", json!("orchestrator.approval"), "another audience"),
        ("iss", json!(null), "names no issuer"),
        ("iss", json!("https://issuer.example/"), "another issuer"),
        ("iss", json!(""), "another issuer"),
        ("iss", json!({"a": 1}), "names no issuer"),
    ] {
        let mut change = fair.clone();
        change[name] = value;
        let refused = shown(&gateway, &signed(HEADER, &claims(&change), SECRET)).await;
        refused.refuses(401, part);
        assert!(refused.headers.contains_key("www-authenticate"));
    }
    let many = json!({"aud": ["billing", "orders"], "iss": "https://issuer.example"});
    assert_eq!(shown(&gateway, &signed(HEADER, &claims(&many), SECRET)).await.status, 200);
}

#[test]
fn what_cannot_be_a_secret_an_audience_or_an_issuer_is_refused() {
    let tokens = || Tokens::new(SECRET).unwrap();
    let said = tokens().previous("short").unwrap_err().to_string();
    assert!(said.contains("ORCHESTRATOR_JWT_SECRET_PREVIOUS has 5 bytes") && !said.contains("short;"), "{said}");
    let many = (0..9).try_fold(tokens(), |tokens, _| tokens.previous(NEXT));
    assert!(many.unwrap_err().to_string().contains("more than 8"));
    for party in ["", "with blank", "é", &"x".repeat(257)] {
        assert!(tokens().audience(party).is_err() && tokens().issuer(party).is_err(), "{party}");
    }
    assert!(tokens().audience("orchestrator.approval").unwrap_err().to_string().contains("links"));
    let tenant = |tenant| tokens().mint_for("ada", Role::User, &[], Some(tenant), MINUTE);
    assert!(tenant("acme").is_ok() && tenant("").is_err() && tenant("ACME").is_err());
}
