//! The demo as its user meets it: a program with an exit code.

use std::path::Path;
use std::process::{Command, Output};

use orchestrator_examples::tempdir::TempDir;

fn demo(args: &[&str], redis: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.args(args).env_remove("REDIS_URL");
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
fn the_bug_is_repaired_and_the_story_told() {
    let dir = TempDir::new("orchestrator-demo-test").expect("made");
    let repo = dir.path().join("shop");
    let path = repo.to_str().expect("utf-8");
    let done = demo(&["--seed", "4", "--dir", path], None);
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    assert!(done.status.success(), "{out}\n{err}");
    let told = ["seed 4", "bugfix", "in_progress", "attempt 1", "child of", "all 61 tests passed", "branch fix/", path];
    for words in told {
        assert!(out.contains(words), "`{words}` is missing in:\n{out}");
    }
    assert_eq!(out.lines().filter(|line| line.contains(" s  ") && line.contains("  completed ")).count(), 4, "{out}");
    assert!(passes(&repo));
}

#[test]
fn what_stands_in_the_way_is_said() {
    let dir = TempDir::new("orchestrator-demo-test").expect("made");
    std::fs::write(dir.path().join("mine"), "x").expect("written");
    let path = dir.path().to_str().expect("utf-8");
    let in_use = demo(&["--dir", path], None);
    assert_eq!(in_use.status.code(), Some(1));
    assert_eq!(text(&in_use.stderr), format!("demo: {path} is not an empty directory\n"));
    let no_redis = demo(&[], Some("/nowhere/redis-server"));
    assert_eq!(no_redis.status.code(), Some(1));
    assert!(text(&no_redis.stderr).contains("/nowhere/redis-server"));
    let unknown = demo(&["--sed"], None);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("`--sed` is not understood"));
}
