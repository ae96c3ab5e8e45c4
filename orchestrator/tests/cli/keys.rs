//! API keys from the command line.

use crate::bench::Bench;

#[tokio::test]
async fn a_key_is_made_listed_and_revoked() {
    let bench = Bench::new().await;
    let made = bench.run(&["key", "create", "ci", "--role", "agent", "--tenant", "acme", "--ttl", "90d"]).await;
    let key = made.ok().to_owned();
    assert!(key.starts_with("ork_") && key.len() == 85 && made.err.contains("not shown again"), "{}", made.err);
    assert!(!made.err.contains(&key));
    let (id, secret) = (&key[4..20], &key[21..]);

    let json = bench.run(&["key", "create", "ops", "--role", "admin", "--json"]).await.json();
    assert!(json["key"].as_str().is_some_and(|key| key.contains(json["id"].as_str().expect("an id"))), "{json}");
    assert_eq!((&json["name"], &json["role"], &json["tenant"]), (&"ops".into(), &"admin".into(), &().into()));

    let table = bench.run(&["key", "list"]).await;
    let line = table.ok().lines().find(|line| line.starts_with(id)).expect("the key");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!((words[1], words[2], words[3], words.last().copied()), ("ci", "agent", "acme", Some("never")));
    let listed = bench.run(&["key", "list", "--json"]).await;
    let first = &listed.lines()[0];
    assert_eq!((&first["id"], &first["tenant"], &first["last_used_at"]), (&id.into(), &"acme".into(), &().into()));
    assert!(first["expires_at"].is_string() && first["created_at"].is_string() && listed.lines().len() == 2);
    for shown in [&table.out, &listed.out, &table.err, &listed.err] {
        assert!(!shown.contains(secret) && !shown.contains("digest"), "{shown}");
    }

    assert!(bench.run(&["key", "revoke", "ci"]).await.ok().contains("--yes revokes it"));
    assert_eq!(bench.run(&["key", "list", "--json"]).await.lines().len(), 2, "nothing was revoked yet");
    let dry = bench.run(&["key", "revoke", "CI", "--json"]).await.json();
    assert_eq!((&dry["id"], &dry["revoked"]), (&id.into(), &false.into()));
    assert!(bench.run(&["key", "revoke", id, "--yes"]).await.ok().contains("is revoked"));
    assert_eq!(bench.run(&["key", "revoke", id, "--yes"]).await.code, 3);
    assert!(bench.run(&["key", "revoke", "ops", "--yes", "--json"]).await.json()["revoked"] == true);
    assert_eq!(bench.run(&["key", "list", "--json"]).await.ok(), "");
}

#[tokio::test]
async fn what_cannot_be_a_key_is_refused() {
    let bench = Bench::new().await;
    bench.run(&["key", "create", "ci", "--role", "user"]).await.ok();
    for (words, code, right) in [
        (&["key", "create", "ci", "--role", "user"][..], 1, "revoke it first"),
        (&["key", "create", "c i", "--role", "user"], 2, "A-Z a-z 0-9"),
        (&["key", "create", "x", "--role", "root"], 2, "user, agent, admin"),
        (&["key", "create", "x"], 2, "--role"),
        (&["key", "create", "x", "--role", "user", "--tenant", "ACME"], 2, "no name for a tenant"),
        (&["key", "create", "x", "--role", "user", "--ttl", "400d"], 2, "366 days"),
        (&["key", "revoke", "nobody"], 3, "API key `nobody`"),
    ] {
        let run = bench.run(words).await;
        assert!(run.code == code && run.err.contains(right), "{words:?}: {} {}", run.code, run.err);
    }
}

#[tokio::test]
async fn a_token_may_belong_to_a_tenant() {
    let bench = Bench::new().await;
    let words = ["token", "create", "--sub", "ada", "--role", "user", "--tenant", "acme", "--json"];
    let mut command = bench.command(&words);
    command.env("ORCHESTRATOR_JWT_SECRET", "0123456789abcdef0123456789abcdef");
    let made = crate::bench::finish(command, b"").await.json();
    assert_eq!((&made["sub"], &made["tenant"]), (&"ada".into(), &"acme".into()));
    let wrong = ["token", "create", "--sub", "ada", "--role", "user", "--tenant", "a b"];
    let mut command = bench.command(&wrong);
    command.env("ORCHESTRATOR_JWT_SECRET", "0123456789abcdef0123456789abcdef");
    let run = crate::bench::finish(command, b"").await;
    assert!(run.code == 2 && run.err.contains("no name for a tenant"), "{}", run.err);
}
