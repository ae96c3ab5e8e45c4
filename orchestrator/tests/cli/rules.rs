//! What a submitter lays down for the attempts of a task, and for others like it.

use serde_json::json;

use crate::bench::Bench;

#[tokio::test]
async fn an_expiry_and_a_backoff_are_kept_and_shown() {
    let bench = Bench::new().await;
    let args = ["task", "submit", "faq", "--delay", "1h", "--expires", "10m", "--backoff", "fixed(30s)"];
    let id = bench.run(&args).await.ok().to_owned();
    let task = bench.run(&["task", "get", &id, "--json"]).await.json();
    assert_eq!(task["backoff"], "fixed(30s)");
    let shown = bench.run(&["task", "get", &id]).await;
    let expires = task["expires_at"].as_str().expect("an instant").trim_end_matches('Z').to_owned();
    assert!(shown.ok().contains(&format!("expires   {expires}")), "{}", shown.out);
    assert!(shown.ok().contains("backoff   fixed(30s)"), "{}", shown.out);
    let wrong = bench.run(&["task", "submit", "faq", "--backoff", "linear(3s)"]).await;
    assert!(wrong.code == 2 && wrong.err.contains("write exp(BASE, MAX)"), "{}", wrong.err);
    let wrong = bench.run(&["task", "submit", "faq", "--expires", "soon"]).await;
    assert!(wrong.code == 2 && wrong.err.contains("is not a span of time"), "{}", wrong.err);
}

#[tokio::test]
async fn a_second_one_of_a_key_prints_the_first_and_says_so() {
    let bench = Bench::new().await;
    let submit = ["task", "submit", "faq", "--unique", "k"];
    let first = bench.run(&submit).await;
    let id = first.ok().to_owned();
    assert!(!first.err.contains("nothing was stored"), "{}", first.err);
    let again = bench.run(&submit).await;
    assert_eq!((again.code, again.ok()), (0, id.as_str()));
    assert!(again.err.contains("nothing was stored: this task is there"), "{}", again.err);
    let told = bench.run(&[&submit[..], &["--json"]].concat()).await.json();
    assert_eq!(told, json!({ "task_id": id, "existing": true }));
    let shown = bench.run(&["task", "get", &id]).await;
    assert!(shown.ok().contains("unique    until done"), "{}", shown.out);

    let worker = bench.worker("faq_agent").await;
    let early = bench.run(&["task", "submit", "faq", "--unique", "s", "--unique-until", "started"]).await;
    for _ in 0..2 {
        drop(worker.claim().await);
    }
    let late = bench.run(&["task", "submit", "faq", "--unique", "s", "--json"]).await.json();
    assert_eq!(late.get("existing"), None, "{} has begun", early.ok());
    let alone = bench.run(&["task", "submit", "faq", "--unique-until", "done"]).await;
    assert!(alone.code == 2 && alone.err.contains("--unique <KEY>"), "{}", alone.err);
    bench.run(&["task", "cancel", &id]).await;
    let other = bench.run(&["task", "submit", "faq", "--unique", "k"]).await.ok().to_owned();
    let refused = bench.run(&["task", "retry", &id]).await;
    // The one that runs is asked to stop, and has not: its key is still its own.
    assert_eq!(other, id);
    assert!(refused.code == 1 && refused.err.contains("has not ended"), "{}", refused.err);
}
