//! Failed tasks from the command line: counted first, and never touched without a yes.

use orchestrator::{NewTask, Status, TaskId};
use serde_json::json;

use crate::bench::Bench;

/// Has `n` tasks fail, by turns of two bugs.
async fn fail(bench: &Bench, n: usize) -> Vec<TaskId> {
    let worker = bench.worker("q").await;
    let mut failed = Vec::new();
    for i in 0..n {
        let id = bench.orch.enqueue(NewTask::<()>::new(["a", "b"][i % 2], &i).queue("q")).await.unwrap().id();
        let error = [format!("order {i} not found\nwith more"), format!("no luck in {i}s")];
        worker.finish(worker.claim().await.fail(["retries", "fatal"][i % 2], &error[i % 2])).await;
        failed.push(id);
    }
    worker.life.leave(&[]).await.unwrap();
    failed
}

#[tokio::test]
async fn they_are_listed_grouped_and_shown() {
    let bench = Bench::new().await;
    let failed = fail(&bench, 6).await;
    let listed = bench.run(&["dead", "list"]).await;
    let lines: Vec<&str> = listed.ok().lines().collect();
    assert!(lines[0].starts_with("ID") && lines[0].ends_with("ERROR"), "{lines:?}");
    assert_eq!(lines.len(), 7);
    assert!(lines[1].starts_with(&failed[5].to_string()) && lines[1].contains("no luck in 5s"), "{lines:?}");
    let some = bench.run(&["dead", "list", "--type", "a", "-n", "2", "--json"]).await.json();
    assert_eq!(some["dead_letters"].as_array().unwrap().len(), 2);
    let more = ["dead", "list", "--type", "a", "--json", "--cursor", some["cursor"].as_str().unwrap()];
    let more = bench.run(&more).await.json();
    assert_eq!((more["dead_letters"].as_array().unwrap().len(), &more["cursor"]), (1, &json!(null)));

    let groups = bench.run(&["dead", "groups", "--json"]).await.lines();
    assert_eq!(groups.len(), 2);
    assert_eq!((&groups[0]["count"], &groups[1]["count"]), (&json!(3), &json!(3)));
    let table = bench.run(&["dead", "groups", "--reason", "fatal"]).await;
    let lines: Vec<&str> = table.ok().lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("FINGERPRINT") && lines[1].contains("no luck"), "{lines:?}");
    let name = groups[0]["fingerprint"].as_str().unwrap();
    let of_it = bench.run(&["dead", "list", "--fingerprint", name, "--json"]).await.json();
    assert_eq!(of_it["dead_letters"].as_array().unwrap().len(), 3);

    let shown = bench.run(&["dead", "show", &failed[0].to_string()]).await;
    for part in ["reason       retries", "attempts     1, 0 of them", "error        order 0 not found", "with more"] {
        assert!(shown.ok().contains(part), "{part}: {}", shown.out);
    }
    assert!(!shown.ok().contains("not known any more"), "the worker is known: {}", shown.out);
    assert_eq!(bench.run(&["dead", "show", "--json", &failed[0].to_string()]).await.json()["task"]["type"], "a");
}

#[tokio::test]
async fn nothing_is_done_without_a_yes_and_never_more_than_was_counted() {
    let bench = Bench::new().await;
    let failed = fail(&bench, 6).await;
    for (args, code, says) in [
        (&["dead", "delete"][..], 2, "say which are meant"),
        (&["dead", "retry", "--yes"], 2, "say which are meant"),
        (&["dead", "delete", "--all", "x"], 2, "cannot be used with"),
        (&["dead", "delete", "--type", "a"], 1, "3 dead letters will be deleted: say --yes"),
        (&["dead", "retry", "--all"], 1, "6 dead letters will be retried: say --yes"),
        (&["dead", "delete", "--all", "--yes", "--expected", "5"], 1, "6 dead letters are meant by now, not 5"),
        (&["dead", "list", "--fingerprint", "xyz"], 2, "is no fingerprint"),
        (&["dead", "list", "--since", "yore"], 2, "2030-01-31T12:00:00Z"),
        (&["dead", "show", "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000"], 3, "is not known here"),
    ] {
        let run = bench.run(args).await;
        assert_eq!((run.code, run.out.as_str()), (code, ""), "{args:?}: {}", run.err);
        assert!(run.err.contains(says), "{args:?}: {}", run.err);
    }
    let one = failed[0].to_string();
    assert!(bench.run(&["dead", "delete", &one]).await.err.contains("say --yes"));
    for dry in [&["dead", "delete", "--all", "--dry-run"][..], &["dead", "retry", "--all", "--dry-run", "--yes"]] {
        assert!(bench.run(dry).await.ok().starts_with("6 dead letters would be"));
    }
    assert_eq!(bench.orch.stats().await.unwrap().dead_tasks, 6);

    let retried = bench.run(&["dead", "retry", "--error", "ORDER", "--yes", "--expected", "3"]).await;
    assert_eq!(retried.ok(), "3 of 3 dead letters retried");
    assert_eq!(bench.orch.get(failed[0]).await.unwrap().status, Status::Assigned);
    assert_eq!(
        bench.run(&["dead", "delete", "--yes", &failed[1].to_string()]).await.ok(),
        format!("{} deleted", failed[1])
    );
    let gone = bench.run(&["dead", "delete", "--yes", &one, &failed[1].to_string()]).await;
    assert_eq!(gone.code, 1, "the first is live: {}", gone.err);
    let swept = bench.run(&["dead", "delete", "--all", "--yes", "--json"]).await.json();
    assert_eq!((&swept["found"], &swept["done"], &swept["complete"]), (&json!(2), &json!(2), &json!(true)));
    assert_eq!(bench.run(&["dead", "delete", "--all", "--yes"]).await.ok(), "0 dead letters would be deleted");
    let audit = bench.run(&["audit", "list", "--json"]).await;
    assert_eq!(audit.out.matches(r#""op":"deleted""#).count(), 3, "{}", audit.out);
    assert!(audit.out.contains(r#""who":"ada""#));
}

#[tokio::test]
async fn the_help_keeps_tasks_and_events_apart() {
    let bench = Bench::new().await;
    let help = bench.run(&["dead", "--help"]).await;
    assert!(help.ok().contains("A dead letter is a task that has failed") && help.ok().contains("group dead"));
    let help = bench.run(&["group", "--help"]).await;
    let text = help.ok().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("failed tasks are listed by `orchestrator dead`"), "{text}");
}
