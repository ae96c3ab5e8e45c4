//! Every way to fail has its exit code and one line that helps.

use std::process::Stdio;

use crate::bench::{Bench, Run, finish, program};

#[track_caller]
fn fails(run: &Run, code: i32, says: &str) {
    assert_eq!(run.code, code, "{}", run.err);
    assert!(run.out.is_empty(), "{}", run.out);
    assert!(run.err.starts_with("error: ") && run.err.contains(says), "{}", run.err);
}

#[tokio::test]
async fn what_is_wrong_on_the_command_line_ends_with_2() {
    let bench = Bench::new().await;
    for (args, says) in [
        (&["tsk"][..], "similar subcommand exists: 'task'"),
        (&["task", "lst"], "'list'"),
        (&["task", "submit"], "<TYPE>"),
        (&["task", "submit", "bugfx"], "Did you mean `bugfix`?"),
        (&["task", "submit", "bugfix", "--payload", "{a"], "not JSON"),
        (&["task", "submit", "bugfix", "--payload", "@/no/such/file"], "/no/such/file"),
        (&["task", "submit", "bugfix", "--priority", "P9"], "P0, P1, P2, P3"),
        (&["task", "submit", "bugfix", "--delay", "soon"], "250ms, 2s, 15m"),
        (&["task", "submit", "bugfix", "--meta", "novalue"], "KEY=VALUE"),
        (&["task", "submit", "bugfix", "--retries", "256"], "256"),
        (&["task", "get", "7f3c"], "looks like 019a"),
        (&["task", "list", "--status", "done"], "completed"),
        (&["task", "list", "--cursor", "x"], "no cursor"),
        (&["task", "list", "--limit", "0"], "1..=100000"),
        (&["task", "retry"], "--dead"),
        (&["task", "retry", "--dry-run", "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000"], "cannot be used with"),
        (&["task", "retry", "--dry-run"], "--dead"),
        (&["queue", "pause", "No Name"], "a-z 0-9"),
        (&["stats", "--redis", "nonsense"], "redis://host:6379"),
        (&["stats", "--namespace", "{x}"], "namespace"),
    ] {
        let run = bench.run(args).await;
        fails(&run, 2, says);
    }
    fails(&finish(program(&["stats"]), b"").await, 2, "set REDIS_URL");
    let mut misspelt = bench.command(&["stats"]);
    misspelt.env("ORCHESTRATOR_TASK_TL", "5");
    fails(&finish(misspelt, b"").await, 2, "ORCHESTRATOR_TASK_TTL");
}

#[tokio::test]
async fn an_unknown_task_ends_with_3_and_an_absent_server_with_69() {
    let bench = Bench::new().await;
    let unknown = "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000";
    for command in ["get", "cancel", "retry", "watch"] {
        fails(&bench.run(&["task", command, unknown]).await, 3, "is not known here");
        // A UUID that is no task's.
        fails(&bench.run(&["task", command, "d9428888-122b-11e1-b85c-61cd3cbb3210"]).await, 3, "is not known here");
    }
    for url in ["redis://127.0.0.1:1", "unix:///no/such/socket"] {
        fails(&finish(program(&["task", "list", "--redis", url]), b"").await, 69, "no connection to");
    }
}

#[tokio::test]
async fn several_tasks_are_all_dealt_with_and_the_first_failure_decides() {
    let bench = Bench::new().await;
    let unknown = "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000";
    let id = bench.run(&["task", "submit", "faq"]).await.ok().to_owned();
    let run = bench.run(&["task", "cancel", unknown, &id]).await;
    assert_eq!((run.code, run.out.trim_end()), (3, format!("{id} cancelled").as_str()));
    let run = bench.run(&["task", "cancel", "--json", &id, unknown]).await;
    let lines = run.lines();
    assert_eq!((run.code, lines.len(), lines[0]["status"].as_str()), (3, 2, Some("cancelled")));
    assert!(lines[1]["error"].as_str().is_some_and(|error| error.contains(unknown)));
    // A slip in one id stops all before anything is done.
    let other = bench.run(&["task", "submit", "faq"]).await.ok().to_owned();
    fails(&bench.run(&["task", "cancel", &other, "7f3c"]).await, 2, "not a task id");
    assert!(bench.run(&["task", "get", &other]).await.ok().contains("assigned"));
}

#[tokio::test]
async fn completions_and_help_need_no_server_and_a_closed_pipe_is_no_failure() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let run = finish(program(&["completions", shell]), b"").await;
        assert!(run.ok().contains("orchestrator") && run.ok().contains("submit"), "{shell}");
    }
    assert!(finish(program(&["--help"]), b"").await.ok().contains("Exit codes"));

    let mut child = program(&["completions", "bash"]).stdout(Stdio::piped()).spawn().expect("the program");
    drop(child.stdout.take());
    assert!(child.wait().await.expect("an end").success());
}
