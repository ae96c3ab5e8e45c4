//! The demo as its user meets it: a program with an exit code.

use std::path::Path;
use std::process::{Command, Output};

use orchestrator_examples::tempdir::TempDir;

fn demo(args: &[&str], redis: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.args(args).env_remove("REDIS_URL").stdin(std::process::Stdio::null());
    if let Some(program) = redis {
        command.env("ORCHESTRATOR_REDIS_BIN", program);
    }
    command.output().expect("the demo runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn passes(repo: &Path) -> bool {
    let run = Command::new("python3").args(["-B", "-m", "unittest", "-q"]).current_dir(repo).output();
    run.expect("python3").status.success()
}

#[test]
fn the_story_is_told_and_holds_when_it_is_checked() {
    let dir = TempDir::new("orchestrator-demo-test").expect("made");
    let run = dir.path().join("run");
    let path = run.to_str().expect("utf-8");
    let done = demo(&["--seed", "4", "--dir", path], None);
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    assert!(done.status.success(), "{out}\n{err}");
    let told = [
        "seed 4",
        "in_progress",
        "attempt 1",
        "child of",
        "all 61 tests passed",
        "on branch fix/",
        "rolled back to",
        "waits for an event",
        "  * event      ",
        "alert.triggered, told by ops_agent: shop: ",
        "pr.merged, told by dev_agent: line ",
        "deploy.succeeded, told by ops_agent: commit ",
        "reviewer approves",
        "sla.warning",
        "sla.violation",
        path,
    ];
    for words in told {
        assert!(out.contains(words), "`{words}` is missing in:\n{out}");
    }
    let live = |status: &str| out.lines().filter(|line| line.contains(" s  ") && line.contains(status)).count();
    assert_eq!((live("  completed "), live("  failed "), live("  blocked ")), (11, 1, 3), "{out}");
    let place = |words: &str| out.find(words);
    assert!(
        place("alert.triggered,") < place("pr.merged,") && place("pr.merged,") < place("deploy.succeeded,"),
        "{out}"
    );
    assert!(passes(&run.join("shop")));

    let check = || demo(&["--check", path], None);
    let fine = check();
    assert!(fine.status.success(), "{}{}", text(&fine.stdout), text(&fine.stderr));
    assert!(!text(&fine.stdout).contains("WRONG"));
    let page = run.join("site/current/index.html");
    let built = std::fs::read_to_string(&page).expect("read");
    std::fs::write(&page, built + "<!-- somebody was here -->").expect("written");
    let wrong = check();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stdout).contains("WRONG  the page that is served is the one that was deployed"));
    assert!(text(&wrong.stderr).starts_with("demo: one thing is not as "), "{}", text(&wrong.stderr));
    let record = run.join("demo.json");
    let said = std::fs::read_to_string(&record).expect("read");
    std::fs::write(&record, said.replace("\"pr.merged\"", "\"pr.closed\"")).expect("written");
    let out = text(&check().stdout);
    assert!(out.contains("WRONG  investigation.done, alert.triggered, pr.merged, deploy.succeeded were told"), "{out}");
}

#[test]
fn what_stands_in_the_way_is_said() {
    let dir = TempDir::new("orchestrator-demo-test").expect("made");
    std::fs::write(dir.path().join("mine"), "x").expect("written");
    let path = dir.path().to_str().expect("utf-8");
    let in_use = demo(&["--dir", path], None);
    assert_eq!(in_use.status.code(), Some(1));
    assert_eq!(text(&in_use.stderr), format!("demo: {path} is not an empty directory\n"));
    let no_run = demo(&["--check", path], None);
    assert_eq!(no_run.status.code(), Some(1));
    assert!(text(&no_run.stderr).contains("demo.json: No such file"), "{}", text(&no_run.stderr));
    let no_redis = demo(&[], Some("/nowhere/redis-server"));
    assert_eq!(no_redis.status.code(), Some(1));
    assert!(text(&no_redis.stderr).contains("/nowhere/redis-server"));
    let unknown = demo(&["--sed"], None);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("`--sed` is not understood"));
}
