//! Webhooks from the command line.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::bench::{Bench, Run, finish};

/// A receiver that answers the next request, and tells what it got.
async fn answered(listener: &TcpListener, answer: &str) -> String {
    let (mut stream, _) = listener.accept().await.expect("a connection");
    let mut got = Vec::new();
    // The body is one JSON object.
    while !got.ends_with(b"}") {
        assert!(stream.read_buf(&mut got).await.expect("bytes") > 0, "a whole request");
    }
    stream.write_all(answer.as_bytes()).await.expect("an answer");
    String::from_utf8(got).expect("UTF-8")
}

async fn allowed(bench: &Bench, args: &[&str], input: &str) -> Run {
    let mut command = bench.command(args);
    command.env("ORCHESTRATOR_WEBHOOK_ALLOW", "127.0.0.0/8");
    finish(command, input.as_bytes()).await
}

#[tokio::test]
async fn a_webhook_is_added_tried_changed_and_removed() {
    let bench = Bench::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    let add = ["webhook", "add", "slack", &url, "--types", "deploy.*"];
    let refused = bench.run(&add).await;
    assert!(refused.code == 2 && refused.err.contains("ORCHESTRATOR_WEBHOOK_ALLOW"), "{}", refused.err);

    let added = allowed(&bench, &add, "").await;
    let secret = added.ok().to_owned();
    assert!(secret.starts_with("whsec_") && added.err.contains("not shown again"), "{}", added.err);
    let again = allowed(&bench, &add, "").await;
    assert!(again.code == 1 && again.err.contains("is there already"), "{}", again.err);
    let same = allowed(&bench, &[&add[..], &["--secret", "-", "--json"]].concat(), &format!("{secret}\n")).await;
    assert_eq!((same.json()["secret"].as_str(), same.code), (Some(secret.as_str()), 0));

    for args in [&["webhook", "list"][..], &["webhook", "list", "--json"], &["webhook", "show", "slack"]] {
        let shown = bench.run(args).await;
        assert!(shown.ok().contains(&url) && shown.out.contains("deploy.*"), "{}", shown.out);
        assert!(!shown.out.contains("whsec_") && !shown.out.contains(&secret[6..]), "{}", shown.out);
    }

    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let (tried, got) = tokio::join!(allowed(&bench, &["webhook", "test", "slack"], ""), answered(&listener, ok));
    assert!(tried.ok().starts_with("200 in ") && tried.ok().ends_with(" ms"), "{}", tried.out);
    assert!(got.contains("webhook-signature: v1,") && got.contains(r#""event_type":"webhook.test""#), "{got}");
    let no = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    let test = ["webhook", "test", "slack", "--json"];
    let (tried, _) = tokio::join!(allowed(&bench, &test, ""), answered(&listener, no));
    assert_eq!((tried.code, tried.json()["status"].as_u64()), (1, Some(404)));
    let refused = bench.run(&test).await;
    assert!(refused.code == 1 && refused.err.contains("ORCHESTRATOR_WEBHOOK_ALLOW"), "{}", refused.err);

    let rotated = bench.run(&["webhook", "rotate", "slack"]).await;
    assert!(rotated.ok().starts_with("whsec_") && rotated.ok() != secret);
    assert!(bench.run(&["webhook", "show", "slack"]).await.ok().contains("2, the newest first"));
    assert_eq!(bench.run(&["webhook", "pause", "slack"]).await.ok(), "webhook slack is paused");
    assert_eq!(bench.run(&["webhook", "pause", "slack"]).await.ok(), "webhook slack was paused already");
    assert_eq!(bench.run(&["webhook", "list", "--json"]).await.json()["paused"], true);
    assert_eq!(bench.run(&["webhook", "resume", "slack"]).await.ok(), "webhook slack is resumed");

    assert!(bench.run(&["webhook", "remove", "slack"]).await.ok().contains("--yes removes it"));
    assert!(bench.run(&["webhook", "list"]).await.ok().contains("slack"), "nothing was removed yet");
    assert_eq!(bench.run(&["webhook", "remove", "slack", "--yes"]).await.ok(), "webhook slack is removed");
    assert_eq!(bench.run(&["webhook", "remove", "slack", "--yes"]).await.code, 3);
    assert_eq!(bench.run(&["webhook", "list", "--json"]).await.ok(), "");
}

#[tokio::test]
async fn what_cannot_be_a_webhook_is_refused() {
    let bench = Bench::new().await;
    let good = ["webhook", "add", "slack", "https://example.com/hook"];
    for (words, right) in [
        (&[&good[..], &["--types", " "]].concat()[..], "'*' for all"),
        (&[&good[..], &["--types", "Deploy"]].concat()[..], "is no pattern"),
        (&[&good[..], &["--types", "*", "--secret", "hunter2hunter2"]].concat()[..], "whsec_ and 24 to 64"),
        (&["webhook", "add", "Slack", "https://example.com/", "--types", "*"], "is no name for a webhook"),
        (&["webhook", "add", "slack", "https://0x7f.1/", "--types", "*"], "loopback"),
        (&["webhook", "add", "slack", "https://169.254.169.254/latest", "--types", "*"], "metadata"),
        (&["webhook", "add", "slack", "gopher://example.com/", "--types", "*"], "write https://"),
    ] {
        let run = bench.run(words).await;
        assert!(run.code == 2 && run.err.contains(right), "{words:?}: {} {}", run.code, run.err);
        assert!(!run.err.contains("hunter2"), "{}", run.err);
    }
    assert_eq!(bench.run(&["webhook", "list", "--json"]).await.out, "");
}
