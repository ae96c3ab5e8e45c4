//! Deciding from the command line, and what is shown of it.

use orchestrator::{
    ApprovalId, ApprovalStatus, Asking, Decision, Entry, NewTask, Noted, Status, TaskId, Terms, Wait, hash_bytes,
};
use serde_json::json;

use crate::bench::{Bench, finish};

const SECRET: &str = "a secret of the tests, long enough for HS256";

/// A task that is gated, and its approval.
async fn gated(bench: &Bench) -> (String, String) {
    let run = bench.run(&["task", "submit", "deploy", "--payload", r#"{"environment":"prod"}"#, "--as", "grace"]).await;
    let id = run.ok().to_owned();
    assert!(run.err.contains(&format!("orchestrator approval show approval_{id}")), "{}", run.err);
    let approval = format!("approval_{id}");
    (id, approval)
}

#[tokio::test]
async fn what_waits_is_listed_shown_and_approved() {
    let bench = Bench::strict().await;
    let (task, id) = gated(&bench).await;
    let listed = bench.run(&["approval", "list"]).await;
    let (titles, row) = listed.ok().split_once('\n').expect("a title and a row");
    assert!(titles.starts_with("ID ") && row.starts_with(&id) && row.contains("a change of production"), "{row}");
    assert!(row.contains("0/1") && row.contains("anybody"), "{row}");
    let shown = bench.run(&["approval", "show", &id]).await;
    let approval = bench.run(&["approval", "show", &id, "--json"]).await.json();
    let hash = approval["payload_hash"].as_str().expect("a hash").to_owned();
    assert_eq!((&approval["status"], &approval["shown"]), (&json!("pending"), &json!({"environment": "prod"})));
    for part in ["status     pending", "  \"environment\": \"prod\"", &format!("hash       {hash}")] {
        assert!(shown.ok().contains(part), "{part}: {}", shown.out);
    }
    assert!(shown.err.contains(&format!("approve {id} --hash {hash}")), "{}", shown.err);

    let got = bench.run(&["task", "get", &task]).await;
    for part in ["status    blocked", "waits for approval", "until     20", &format!("approval  {id}")] {
        assert!(got.ok().contains(part), "{part}: {}", got.out);
    }
    let stats = bench.run(&["stats"]).await;
    assert!(stats.ok().lines().any(|line| line.starts_with("blocked             1 ")), "{}", stats.out);
    assert!(bench.run(&["task", "list"]).await.ok().contains(&format!("waits for {id}")));

    let stale = bench.run(&["approval", "approve", &id, "--hash", &"0".repeat(64)]).await;
    assert!(stale.code == 1 && stale.err.contains("not what"), "{}", stale.err);
    let wrong = bench.run(&["approval", "approve", &id, "--hash", "abc"]).await;
    assert!(wrong.code == 2 && wrong.err.contains("64 hexadecimal"), "{}", wrong.err);
    let done = bench.run(&["approval", "approve", &id, "--hash", &hash, "--note", "go", "--as", "eve"]).await;
    assert_eq!(done.ok(), format!("{id} approved by eve"));
    let late = bench.run(&["approval", "reject", &id]).await;
    assert!(late.code == 1 && late.err.contains("was approved before, by eve"), "{}", late.err);
    assert_eq!(bench.orch.get(task.parse::<TaskId>().expect("an id")).await.expect("known").status, Status::Assigned);
    assert_eq!(bench.run(&["approval", "list"]).await.ok().lines().count(), 1);
    let history = bench.run(&["approval", "list", "--history"]).await;
    let row = history.ok().lines().nth(1).expect("a row").to_owned();
    assert!(row.starts_with(&id) && row.contains("approved") && row.contains("eve") && row.ends_with("go"), "{row}");
    let all = bench.run(&["approval", "list", "--history", "--limit", "1", "--json"]).await.json();
    assert_eq!((&all["total"], &all["approvals"][0]["approved_by"]), (&json!(1), &json!("eve")));
}

#[tokio::test]
async fn a_no_has_its_reason_and_the_name_is_that_of_the_user() {
    let bench = Bench::strict().await;
    let (task, id) = gated(&bench).await;
    let no = bench.run(&["approval", "reject", &id, "--reason", "not today", "--json"]).await.json();
    assert_eq!(no, json!({ "approval_id": id, "status": "rejected", "by": "ada" }));
    let task = bench.orch.get(task.parse::<TaskId>().expect("an id")).await.expect("known");
    assert_eq!((task.status, task.error.as_deref()), (Status::Cancelled, Some("rejected by ada: not today")));
    let mut nobody = bench.command(&["approval", "approve", &id]);
    nobody.env_remove("USER");
    let nobody = finish(nobody, b"").await;
    assert!(nobody.code == 2 && nobody.err.contains("--as NAME"), "{}", nobody.err);
    for (args, code, part) in [
        (&["approval", "show", "x"][..], 2, "no approval's id"),
        (&["approval", "show", "approval_019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000"], 3, "is not known here"),
        (&["approval", "approve", "approval_019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000"], 3, "is not known here"),
        (&["approval", "approve", &id, "--form", "[1]"], 2, "write an object"),
        (&["approval", "approve", &id, "--as", "two words"], 2, "names no approver"),
        (&["approval", "list", "--limit", "0"], 2, "1..=100000"),
        (&["task", "journal", "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000"], 3, "is not known here"),
    ] {
        let run = bench.run(args).await;
        assert!(run.code == code && run.err.contains(part), "{args:?}: {} {}", run.code, run.err);
    }
    let help = bench.run(&["approval", "approve", "--help"]).await;
    assert!(help.ok().contains("Whoever reaches Redis is trusted"), "{}", help.out);
}

#[tokio::test]
async fn roles_forms_votes_and_delegates() {
    let bench = Bench::new().await;
    let worker = bench.worker("hall").await;
    let task = NewTask::<()>::new("greet", &()).requested_by("bob").sla_target("30m");
    bench.orch.enqueue(task).await.expect("room");
    let claim = worker.claim().await;
    let step = Entry { order: 1, side_by_side: false, code: 0, digest: [0; 8], noted: Noted::Step(vec![0x2a]) };
    worker.life.note(claim.ticket(), "plan", &step, &[]).await.expect("noted");
    let terms = Terms { by: vec!["role:sre".into()], quorum: 2, ..Terms::default() };
    let asking = Asking::about(&claim.assignment(), json!({"n": 6}), "Scale?", vec!["start".into()], terms);
    let asking = asking.expect("fair");
    let (status, hash) = (ApprovalStatus::Pending, hash_bytes(asking.hash()));
    let noted = Noted::Asked { number: 0, status, hash, decision: Decision::default() };
    let entry = Entry { order: 2, side_by_side: false, code: 0, digest: [0; 8], noted };
    let wait = Wait::Person { name: "approval#1".into(), entry, asking };
    worker.life.park(&claim, &wait, &[]).await.expect("parked");
    let task = claim.ticket().id;
    let id = ApprovalId { task, number: 1 }.to_string();

    let shown = bench.run(&["approval", "show", &id]).await;
    assert!(shown.ok().contains("question   Scale?") && shown.ok().contains("form       start"), "{}", shown.out);
    let form = r#"{"start":"noon"}"#;
    let refused = bench.run(&["approval", "approve", &id, "--as", "eve", "--form", form]).await;
    assert!(refused.code == 1 && refused.err.contains("it is for 2 of: role:sre"), "{}", refused.err);
    let own = ["approval", "approve", &id, "--as", "Bob", "--role", "sre", "--form", form];
    assert!(bench.run(&own).await.err.contains("Bob submitted the task"));
    let empty = bench.run(&["approval", "approve", &id, "--as", "eve", "--role", "role:sre"]).await;
    assert!(empty.code == 2 && empty.err.contains("start"), "{}", empty.err);
    let vote =
        bench.run(&["approval", "approve", &id, "--as", "eve", "--role", "x", "--role", "sre", "--form", form]).await;
    assert_eq!(vote.ok(), format!("{id}: vote of eve counted, 1 of 2"));
    let delegated = bench.run(&["approval", "delegate", &id, "dan", "--as", "eve", "--role", "sre"]).await;
    assert_eq!(delegated.ok(), format!("{id} delegated to dan by eve"));
    let journal = bench.run(&["task", "journal", &task.to_string(), "--json"]).await.lines();
    assert_eq!(journal[0], json!({"name": "plan", "order": 1, "kind": "step", "state": "done", "output": 42}));
    let clock = bench.run(&["task", "get", &task.to_string()]).await;
    assert!(clock.ok().contains("clock     paused; queue "), "{}", clock.out);
    let last = bench.run(&["approval", "approve", &id, "--as", "dan", "--form", form, "--json"]).await.json();
    assert_eq!(last, json!({ "approval_id": id, "status": "approved", "by": "dan" }));
    let journal = bench.run(&["task", "journal", &task.to_string()]).await;
    let rows: Vec<&str> = journal.ok().lines().collect();
    assert!(
        rows[1].starts_with("1  plan") && rows[2].contains("approval#1") && rows[2].contains("approved"),
        "{rows:?}"
    );
    let clock = bench.run(&["task", "get", &task.to_string()]).await;
    let clock = clock.ok().lines().find(|line| line.starts_with("clock ")).expect("a clock").to_owned();
    assert!(clock.starts_with("clock     ok, ") && clock.contains(" left; ") && clock.contains("human "), "{clock}");
}

#[cfg(feature = "gateway")]
#[tokio::test]
async fn a_link_is_made_for_one_approver() {
    let bench = Bench::strict().await;
    let (_, id) = gated(&bench).await;
    let link = async |args: &[&str]| {
        let mut command = bench.command(&[&["approval", "link", &id], args].concat());
        command.env("ORCHESTRATOR_JWT_SECRET", SECRET);
        finish(command, b"").await
    };
    let told = link(&["--for", "eve"]).await;
    assert!(told.ok().starts_with("http://localhost:8000/approvals/link/ey"), "{}", told.out);
    let more = ["--for", "eve", "--role", "sre", "--ttl", "10m", "--base-url", "https://o.example.com/", "--json"];
    let told = link(&more).await.json();
    assert!(told["url"].as_str().expect("a URL").starts_with("https://o.example.com/approvals/link/ey"), "{told}");
    assert_eq!((&told["for"], &told["roles"], &told["approval_id"]), (&json!("eve"), &json!(["sre"]), &json!(id)));
    for (args, code, part) in [
        (&["--for", "two words"][..], 2, "names no approver"),
        (&["--for", "eve", "--ttl", "400d"], 2, "366 days"),
        (&["--for", "eve", "--base-url", "example.com"], 2, "https://"),
    ] {
        let run = link(args).await;
        assert!(run.code == code && run.err.contains(part), "{args:?}: {} {}", run.code, run.err);
    }
    let unset = bench.run(&["approval", "link", &id, "--for", "eve"]).await;
    assert!(unset.code == 2 && unset.err.contains("ORCHESTRATOR_JWT_SECRET is not set"), "{}", unset.err);
    bench.run(&["approval", "reject", &id]).await.ok();
    let late = link(&["--for", "eve"]).await;
    assert!(late.code == 1 && late.err.contains("is rejected already"), "{}", late.err);
}

#[tokio::test]
async fn promises_are_reported_and_whoever_submits_may_not_approve() {
    let bench = Bench::strict().await;
    let run = bench.run(&["task", "submit", "greet", "--queue", "q", "--sla", "30m"]).await;
    run.ok();
    let worker = bench.worker("q").await;
    let claim = worker.claim().await;
    worker.finish(claim.complete(&[0xc0])).await;
    let report = bench.run(&["sla", "report", "--window", "2h"]).await;
    let (titles, row) = report.ok().split_once('\n').expect("a title and a row");
    assert!(titles.starts_with("TYPE ") && row.starts_with("greet ") && row.contains("100.0 %"), "{row}");
    let report = bench.run(&["sla", "report", "--json"]).await.json();
    assert_eq!((&report["total"]["ended"], &report["total"]["violated"]), (&json!(1), &json!(0)));
    let wrong = bench.run(&["sla", "report", "--window", "40d"]).await;
    assert!(wrong.code != 0 && wrong.err.contains("31 days"), "{}", wrong.err);
    let none = bench.run(&["sla", "risk"]).await;
    assert!(none.ok().starts_with("TASK ") && none.err.contains("no promise is likely to be broken"), "{}", none.err);

    let id = format!("approval_{}", bench.run(&["task", "submit", "deploy"]).await.ok());
    let own = bench.run(&["approval", "approve", &id]).await;
    assert!(own.code == 1 && own.err.contains("ada submitted the task"), "{}", own.err);
    bench.run(&["approval", "approve", &id, "--as", "eve"]).await.ok();
}
