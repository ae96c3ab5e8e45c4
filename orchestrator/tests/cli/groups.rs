//! Consumer groups from the command line.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use orchestrator::{Backoff, Delivery, Group, NewEvent, Unhandled, patterns};
use serde_json::json;

use crate::bench::Bench;

/// Waits for a fact.
async fn until(what: &str, mut fact: impl AsyncFnMut() -> Option<()>) {
    let begun = std::time::Instant::now();
    while fact().await.is_none() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn dead_letters_are_listed_sent_anew_and_forgotten_and_a_group_is_removed() {
    let bench = Bench::new().await;
    let orch = bench.orch.clone();
    let (works, (stop, stopped)) = (Arc::new(AtomicBool::new(false)), tokio::sync::oneshot::channel::<()>());
    let (client, mended) = (orch.clone(), Arc::clone(&works));
    let group = Group::new("notes", &patterns("job.*").expect("done"))
        .retries(1)
        .backoff(Backoff::fixed(Duration::from_millis(5)));
    orch.make_group(&group).await.expect("done");
    let member = tokio::spawn(async move {
        let handle = move |_: Delivery| {
            let works = mended.load(Ordering::Relaxed);
            async move {
                match works {
                    true => Ok(()),
                    false => Err(Unhandled::Retry { error: "the printer is on fire".into(), delay: None }),
                }
            }
        };
        client.consume(&group, handle, async { drop(stopped.await) }).await
    });
    for n in 0..3 {
        orch.publish(&NewEvent::new("job.came", &json!({"n": n}))).await.expect("done");
    }
    let dead = async || orch.groups().await.expect("done").first().map_or(0, |group| group.dead);
    until("three letters", async || (dead().await == 3).then_some(())).await;

    let listed = bench.run(&["group", "list"]).await;
    assert!(listed.ok().contains("notes") && listed.out.contains("SERVED BY"), "{}", listed.out);
    let refused = bench.run(&["group", "remove", "notes", "--yes"]).await;
    assert!(refused.code == 1 && refused.err.contains("is served by a process now"), "{}", refused.err);

    let letters = bench.run(&["group", "dead", "notes"]).await;
    assert_eq!(letters.ok().matches("the printer is on fire").count(), 3, "{}", letters.out);
    let newest = bench.run(&["group", "dead", "notes", "-n", "1", "--json"]).await.json();
    assert_eq!((&newest["attempts"], &newest["event"]["payload"]["n"]), (&json!(2), &json!(2)));

    works.store(true, Ordering::Relaxed);
    let id = newest["id"].as_str().expect("done");
    let sent = bench.run(&["group", "replay", "notes", id]).await;
    assert_eq!(sent.ok().trim(), "1 dead letter sent anew to group notes");
    let would = bench.run(&["group", "forget", "notes", "--all"]).await;
    assert_eq!(would.ok().trim(), "2 dead letters that --yes would forget of group notes");
    let oldest = bench.run(&["group", "dead", "notes", "--before", id, "--json"]).await;
    assert_eq!(oldest.ok().lines().count(), 2);
    let gone = bench.run(&["group", "forget", "notes", "--all", "--yes", "--json"]).await.json();
    assert_eq!(gone, json!({"group": "notes", "found": 2, "forgotten": 2}));
    until("all is handled", async || {
        let groups = orch.groups().await.expect("done");
        (groups[0].pending == 0 && groups[0].dead == 0).then_some(())
    })
    .await;
    let wrong = bench.run(&["group", "replay", "notes", "newest"]).await;
    assert!(wrong.code == 2 && wrong.err.contains("is no dead letter"), "{}", wrong.err);

    let _ = stop.send(());
    member.await.expect("done").expect("done");
    let would = bench.run(&["group", "remove", "notes"]).await;
    assert!(would.ok().contains("would be removed") && !orch.groups().await.expect("done").is_empty(), "{}", would.out);
    assert!(bench.run(&["group", "remove", "notes", "--yes"]).await.ok().contains("is removed"));
    let unknown = bench.run(&["group", "remove", "notes"]).await;
    assert!(unknown.code == 3 && unknown.err.contains("group notes"), "{}", unknown.err);
}
