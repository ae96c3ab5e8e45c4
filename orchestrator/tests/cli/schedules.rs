//! Schedules from the command line.

use serde_json::json;

use crate::bench::{Bench, finish};

#[tokio::test]
async fn a_schedule_is_added_shown_paused_triggered_and_removed() {
    let bench = Bench::new().await;
    let add =
        ["schedule", "add", "nightly", "bugfix", "--cron", "30 2 * * mon-fri", "--tz", "Europe/Berlin", "--as", "ann"];
    let tried = bench.run(&[&add[..], &["--dry-run"]].concat()).await;
    assert_eq!(tried.ok().lines().count(), 5, "{}", tried.out);
    assert_eq!(bench.run(&["schedule", "list", "--json"]).await.ok(), "", "nothing was added");
    let added = bench.run(&[&add[..], &["-p", r#"{"n": 1}"#, "--overlap", "queue"]].concat()).await;
    assert!(added.ok().contains("when       30 2 * * mon-fri Europe/Berlin"), "{}", added.out);
    assert!(added.out.contains("T02:30:00+0") && added.err.contains("it is new"), "{}", added.err);
    let again = bench.run(&add).await;
    assert!(again.code == 1 && again.err.contains("another schedule has the name"), "{}", again.err);
    let task = ["--unique", "night", "--backoff", "fixed(30s)"];
    let replaced = bench.run(&[&add[..], &["--replace", "--json"], &task].concat()).await.json();
    assert_eq!((&replaced["overlap"], &replaced["made_by"]), (&json!("skip"), &json!("ann")));

    let listed = bench.run(&["schedule", "list"]).await;
    let (titles, row) = listed.ok().split_once('\n').expect("a title and a row");
    assert!(titles.starts_with("NAME") && row.starts_with("nightly") && row.contains("in "), "{}", listed.out);
    let next = bench.run(&["schedule", "next", "nightly", "-n", "2"]).await;
    assert_eq!(next.ok().lines().count(), 2, "{}", next.out);

    assert_eq!(bench.run(&["schedule", "pause", "nightly"]).await.ok(), "schedule nightly is paused");
    assert_eq!(bench.run(&["schedule", "pause", "nightly"]).await.ok(), "schedule nightly was paused already");
    assert!(bench.run(&["schedule", "list"]).await.ok().contains("paused"));
    let run = bench.run(&["schedule", "trigger", "nightly"]).await;
    let task = bench.run(&["task", "get", run.ok(), "--json"]).await.json();
    assert_eq!(task["metadata"]["schedule"], "nightly");
    let same = bench.run(&["task", "submit", "bugfix", "--unique", "night"]).await;
    assert_eq!(same.ok(), run.ok(), "the schedule's task is the only one of its key");
    let refused = bench.run(&["schedule", "trigger", "nightly"]).await;
    assert!(refused.code == 1 && refused.err.contains(run.ok()), "{}", refused.err);
    assert_eq!(bench.run(&["schedule", "resume", "nightly"]).await.ok(), "schedule nightly is resumed");

    assert!(bench.run(&["schedule", "remove", "nightly"]).await.ok().contains("--yes removes it"));
    assert_eq!(bench.run(&["schedule", "show", "nightly", "--json"]).await.json()["fired"], 1);
    assert_eq!(bench.run(&["schedule", "remove", "nightly", "--yes"]).await.ok(), "schedule nightly is removed");
    assert_eq!(bench.run(&["schedule", "show", "nightly"]).await.code, 3);
}

#[tokio::test]
async fn what_is_wrong_is_said_and_the_next_ticks_need_no_redis() {
    let bench = Bench::new().await;
    let mut command =
        bench.command(&["schedule", "next", "--cron", "*/15 * * * *", "--tz", "Asia/Kolkata", "-n", "3", "--json"]);
    command.env("REDIS_URL", "unix:///nowhere");
    let run = finish(command, b"").await;
    assert_eq!(run.ok().lines().count(), 3, "{}", run.err);
    assert!(run.out.lines().all(|line| line.contains("+05:30")), "{}", run.out);
    for (words, said) in [
        (&["schedule", "next", "--cron", "* * * *"][..], "has 4 fields"),
        (&["schedule", "next", "--cron", "* * * * *", "--tz", "Mars"], "`Mars` is no time zone"),
        (&["schedule", "next"], "required"),
        (&["schedule", "add", "x", "bugfix"], "required"),
        (&["schedule", "add", "x", "bugfix", "--every", "1ms"], "once a second at most"),
        (&["schedule", "add", "x", "bugfix", "--cron", "@daily", "--every", "1h"], "cannot be used with"),
        (&["schedule", "add", "x", "nobody.knows", "--cron", "@daily"], "no queue is known"),
    ] {
        let run = bench.run(words).await;
        assert!(run.code == 2 && run.err.contains(said), "{words:?}: {} {}", run.code, run.err);
    }
}
