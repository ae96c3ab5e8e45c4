//! Commands as handlers: what they are told, what their ends mean, and that nothing of them is left whatever they do.
#![cfg(target_os = "linux")]

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use orchestrator_tests::{Process, all_events, orch, server, until, within};
use orchestrator_worker::{NewTask, Orchestrator, Status, Task, TaskHandle};
use serde_json::{Value, json};

/// A worker of commands, in a process of its own.
struct Exec {
    orch: Orchestrator,
    process: Process,
}

impl Exec {
    /// Starts one for commands of `sh`, by type; it is up when it says so.
    async fn start(options: &[&str], scripts: &[(&str, &str)]) -> Self {
        let commands: Vec<(&str, String)> =
            scripts.iter().map(|(task_type, script)| (*task_type, format!("sh -c '{script}'"))).collect();
        Self::start_with(options, &commands).await
    }

    async fn start_with(options: &[&str], commands: &[(&str, String)]) -> Self {
        let orch = orch().await;
        let mut command = Command::new(env!("CARGO_BIN_EXE_exec_worker"));
        command.args(["--namespace", &orch.config().namespace]).args(options);
        for (task_type, line) in commands {
            command.args(["--exec", &format!("{task_type}={line}")]);
        }
        command.env("REDIS_URL", server::shared().url()).env("ORCHESTRATOR_ROLE_SECRET", "alice").env("COLOUR", "red");
        let process = Process::spawn(&mut command);
        process.says("worker is up").await;
        Self { orch, process }
    }

    async fn submit(&self, task_type: &str, payload: &Value) -> TaskHandle<Value> {
        self.orch.enqueue(NewTask::new(task_type, payload).max_retries(0)).await.unwrap()
    }

    async fn ended(&self, task: &TaskHandle<Value>) -> Task {
        let _ = within("the task to end", task.result()).await;
        task.task().await.unwrap()
    }

    /// What a task comes to.
    async fn run(&self, task_type: &str, payload: &Value) -> Result<Value, Task> {
        let task = self.submit(task_type, payload).await;
        match within("the result", task.result()).await {
            Ok(value) => Ok(value),
            Err(_) => Err(task.task().await.unwrap()),
        }
    }

    /// How a task fails.
    async fn fails(&self, task_type: &str) -> (String, String) {
        let task = self.run(task_type, &json!(null)).await.unwrap_err();
        assert_eq!(task.status, Status::Failed, "{task_type}");
        (task.reason.unwrap(), task.error.unwrap())
    }

    /// Processes that its commands have started, and zombies of its own.
    fn left(&self) -> Vec<String> {
        left(self.process.pid())
    }

    async fn nothing_is_left(&self) {
        nothing_is_left(self.process.pid()).await;
    }

    async fn stop(mut self) {
        self.nothing_is_left().await;
        self.process.signal("TERM");
        assert!(self.process.ended().await.success());
    }
}

fn left(worker: u32) -> Vec<String> {
    let mut found = Vec::new();
    let mark = format!("ORCHESTRATOR_EXEC_MARK={worker}-");
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let (environ, stat) = (read("environ"), String::from_utf8_lossy(&read("stat")).into_owned());
        let rest = stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        let is_marked = environ.split(|byte| *byte == 0).any(|variable| variable.starts_with(mark.as_bytes()));
        if is_marked || rest.starts_with(&format!("Z {worker} ")) {
            found.push(stat);
        }
    }
    found
}

async fn nothing_is_left(worker: u32) {
    until("nothing of the commands to be left", async || left(worker).is_empty().then_some(())).await;
}

fn example(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/exec").join(name).display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_do_what_they_say() {
    let commands = [
        ("greet", format!("python3 {}", example("greet.py"))),
        ("wordcount", format!("sh {}", example("wordcount.sh"))),
    ];
    let exec = Exec::start_with(&[], &commands).await;
    let task = exec.submit("greet", &json!({"name": "Ada \"the first\""})).await;
    let mut chunks = task.chunks();
    let chunk = within("a piece of its output", chunks.next()).await.unwrap().expect("before its end");
    assert_eq!(chunk.data.as_text(), Some("for Ada \"the first\": "));
    let greeted = within("the result", task.result()).await.unwrap();
    let progress = async || all_events(&exec.orch).await.into_iter().find(|event| event.event_type == "task.progress");
    let progress = until("the word on progress", progress).await.payload;
    assert!(progress.to_string().contains("thinking of a greeting"), "{progress}");
    assert_eq!(greeted, json!({"text": "Hello, Ada \"the first\"!", "attempt": 1}));
    let file = std::env::temp_dir().join(format!("words-{}", std::process::id()));
    std::fs::write(&file, "one two  three\nfour").unwrap();
    assert_eq!(exec.run("wordcount", &json!(file)).await.unwrap(), json!(4));
    std::fs::remove_file(&file).unwrap();
    // Told by their exit code, what is wrong with the task is not tried again.
    let task: TaskHandle<Value> =
        exec.orch.enqueue(NewTask::new("greet", &json!(["nobody"])).max_retries(5)).await.unwrap();
    let task = exec.ended(&task).await;
    assert_eq!((task.attempt, task.reason.as_deref()), (1, Some("fatal")));
    let error = "the command says that the task is wrong (exit code 65); it said last: the payload has no name";
    assert_eq!(task.error.as_deref(), Some(error));
    exec.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_told_its_task_and_no_secrets() {
    let exec = Exec::start(&["--text", "--queue", "tools"], &[("env", "env"), ("echo", "cat")]).await;
    let task = exec.submit("env", &json!(null)).await;
    let told: String = within("the result", task.result()).await.unwrap().as_str().unwrap().into();
    let has = |line: &str| told.lines().any(|told| told == line);
    let seen = task.task().await.unwrap();
    assert_eq!(seen.queue, "tools");
    for line in [
        format!("ORCHESTRATOR_TASK_ID={}", task.id()),
        "ORCHESTRATOR_TASK_TYPE=env".into(),
        "ORCHESTRATOR_ATTEMPT=1".into(),
        format!("ORCHESTRATOR_PRIORITY={}", seen.priority),
        "ORCHESTRATOR_QUEUE=tools".into(),
        format!("ORCHESTRATOR_TRACE_ID={}", seen.trace_id),
        "COLOUR=red".into(),
    ] {
        assert!(has(&line), "{line} is missing in\n{told}");
    }
    assert!(told.contains("ORCHESTRATOR_FENCING_TOKEN="));
    assert!(!told.contains("REDIS_URL") && !told.contains("ORCHESTRATOR_ROLE_SECRET"), "{told}");
    let payload = json!({"text": "two\nlines", "n": [1, 2.5, null]});
    let line = exec.run("echo", &payload).await.unwrap();
    assert_eq!(line.as_str().unwrap().matches('\n').count(), 1, "one line, then the end");
    assert_eq!(serde_json::from_str::<Value>(line.as_str().unwrap()).unwrap(), payload);
    exec.stop().await;

    let bare = Exec::start(&["--text", "--clear-env", "--pass", "REDIS_URL"], &[("env", "env")]).await;
    let told = bare.run("env", &json!(null)).await.unwrap();
    let told = told.as_str().unwrap();
    assert!(told.contains("REDIS_URL=") && told.contains("PATH=") && !told.contains("COLOUR"), "{told}");
    bare.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_end_has_its_reason_and_the_worker_goes_on() {
    let gone = std::env::temp_dir().join(format!("gone-{}", std::process::id()));
    std::fs::copy("/bin/true", &gone).unwrap();
    let mut commands: Vec<(&str, String)> = [
        ("code", "echo going down >&2; exit 3"),
        ("signal", "kill -SEGV $$"),
        ("broken", "echo [1,"),
        ("several", "echo 1 2"),
        ("nothing", "true"),
        ("silent", "exec >&-; read -r line; exit 0"),
        ("deaf", "exit 0"),
        ("slow-and-deaf", "sleep 0.2; echo 7"),
        ("flood", "yes"),
        ("loud", "head -c 20000000 /dev/zero | tr \"\\0\" x >&2; echo the end >&2; exit 4"),
        ("late-flood", "head -c 1048577 /dev/zero | tr \"\\0\" 1"),
    ]
    .map(|(task_type, script)| (task_type, format!("sh -c '{script}'")))
    .into();
    commands.push(("gone", gone.display().to_string()));
    let exec = Exec::start_with(&[], &commands).await;
    std::fs::remove_file(&gone).unwrap();

    for (task_type, reason, told) in [
        ("code", "retries", "ended with exit code 3; it said last: going down"),
        ("signal", "retries", "ended by signal 11 (SIGSEGV)"),
        ("broken", "retries", "not one JSON value: EOF while parsing a value at line 2 column 0"),
        ("several", "retries", "not one JSON value: trailing characters at line 1 column 3"),
        ("flood", "fatal", "wrote more than 1048576 bytes to standard output"),
        ("late-flood", "fatal", "wrote more than 1048576 bytes to standard output"),
        ("loud", "retries", "ended with exit code 4; it said last: xxxx"),
        ("gone", "retries", "could not be started: No such file or directory"),
    ] {
        let (why, error) = exec.fails(task_type).await;
        assert!(why == reason && error.contains(told) && error.len() <= 4096, "{task_type}: {why}: {error}");
        assert!(task_type != "loud" || error.ends_with("xxxthe end"), "{error}");
    }
    let large = json!("x".repeat(900_000));
    for (task_type, payload, result) in [
        ("nothing", json!(1), json!(null)),
        ("silent", json!(1), json!(null)),
        ("deaf", large.clone(), json!(null)),
        ("slow-and-deaf", large, json!(7)),
    ] {
        assert_eq!(exec.run(task_type, &payload).await.unwrap(), result, "{task_type}");
    }
    exec.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_too_long_is_asked_to_end_and_then_ended() {
    let scripts = [
        ("hangs", "sleep 600 & sleep 600"),
        ("says", "trap \"echo bye >&2; exit 0\" TERM; while :; do sleep 0.01; done"),
        ("ignores", "trap \"\" TERM; echo here >&2; while :; do sleep 600; done"),
        ("daemon", "setsid sleep 600 & setsid sh -c \"sleep 600 & sleep 600\" & sleep 600"),
        ("stopped", "kill -STOP $$"),
        ("fine", "echo 1"),
    ];
    let exec = Exec::start(&["--timeout", "300ms", "--cancel-grace", "200ms"], &scripts).await;
    for (task_type, last) in [("hangs", ""), ("says", "bye"), ("ignores", "here"), ("daemon", ""), ("stopped", "")] {
        let (_, error) = exec.fails(task_type).await;
        assert!(
            error.contains("took longer than its timeout of 300ms") && error.ends_with(last),
            "{task_type}: {error}"
        );
        assert_eq!(exec.left(), [""; 0], "when the attempt has ended, {task_type} is gone");
    }
    assert_eq!(exec.run("fine", &json!(null)).await.unwrap(), json!(1));
    exec.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_command_leaves_behind_is_ended() {
    let scripts = [
        // It holds standard output open, too.
        ("child", "sleep 600 & echo 1"),
        ("daemon", "setsid sleep 600 & sleep 0.05; echo 2"),
        ("deep", "setsid sh -c \"setsid sleep 600 & sleep 600\" & sleep 0.05; echo 3"),
        ("orphans", "for i in 1 2 3 4 5; do (true &) ; done; echo 4"),
    ];
    let exec = Exec::start(&[], &scripts).await;
    for (n, (task_type, _)) in (1..).zip(scripts) {
        let began = Instant::now();
        assert_eq!(exec.run(task_type, &json!(null)).await.unwrap(), json!(n), "{task_type}");
        assert_eq!(exec.left(), [""; 0], "{task_type}");
        assert!(began.elapsed() < Duration::from_secs(20), "{task_type} was not held up");
    }
    exec.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_neither_in_the_group_nor_marked_may_be_anybodys() {
    let script = "env -i setsid sleep 600 >/dev/null 2>&1 & until grep -q \"(sleep)\" /proc/$!/stat; do sleep 0.01; done; echo $!";
    let exec = Exec::start(&[], &[("unmarked", script)]).await;
    let pid = exec.run("unmarked", &json!(null)).await.unwrap().to_string();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    assert!(stat.contains("(sleep)") && !stat.contains(") Z "), "{stat}");
    assert!(Command::new("kill").args(["-s", "KILL", &pid]).status().unwrap().success());
    exec.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_are_left_alone() {
    let scripts = [("long", "setsid sh -c \"sleep 0.8; echo 1\""), ("short", "setsid sleep 600 & echo 2")];
    let exec = Exec::start(&["--concurrency", "4"], &scripts).await;
    let long = exec.submit("long", &json!(null)).await;
    while long.task().await.unwrap().status != Status::Completed {
        assert_eq!(exec.run("short", &json!(null)).await.unwrap(), json!(2));
    }
    assert_eq!(long.result().await.unwrap(), json!(1));
    exec.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_ends_the_command() {
    let exec = Exec::start(&["--cancel-grace", "200ms"], &[("hangs", "trap \"\" TERM; echo on >&2; sleep 600")]).await;
    let task = exec.submit("hangs", &json!(null)).await;
    until("the command to run", async || (exec.left().len() > 1).then_some(())).await;
    task.cancel().await.unwrap();
    assert_eq!(exec.ended(&task).await.status, Status::Cancelled);
    exec.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stops_ends_its_commands_and_gives_their_tasks_back() {
    let options = ["--drain-grace", "100ms", "--cancel-grace", "200ms"];
    let mut exec = Exec::start(&options, &[("hangs", "trap \"\" TERM; setsid sleep 600 & sleep 600")]).await;
    let task = exec.submit("hangs", &json!(null)).await;
    until("the command to run", async || (exec.left().len() > 2).then_some(())).await;
    exec.process.signal("TERM");
    assert!(exec.process.ended().await.success());
    assert_eq!(exec.left(), [""; 0], "when it has ended, nothing of them is left");
    let seen = task.task().await.unwrap();
    assert_eq!((seen.status, seen.retry_count), (Status::Assigned, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_die_with_a_worker_that_is_killed() {
    let scripts = [("hangs", "trap \"\" TERM; setsid sleep 600 & sleep 600"), ("fine", "echo 1")];
    for guard_is_killed in [false, true] {
        let mut exec = Exec::start(&["--concurrency", "2"], &scripts).await;
        if guard_is_killed {
            // Another one takes over with the next command.
            let guard = guard_of(exec.process.pid()).unwrap();
            assert!(Command::new("kill").args(["-s", "KILL", &guard.to_string()]).status().unwrap().success());
            until("the guard to be gone", async || (guard_of(exec.process.pid()) != Some(guard)).then_some(())).await;
        }
        exec.submit("hangs", &json!(null)).await;
        assert_eq!(exec.run("fine", &json!(null)).await.unwrap(), json!(1));
        until("the command to run", async || (exec.left().len() > 2).then_some(())).await;
        let guard = guard_of(exec.process.pid()).unwrap();
        // What ends a whole service does not end the guard before the worker.
        assert!(Command::new("kill").args(["-s", "TERM", &guard.to_string()]).status().unwrap().success());
        exec.process.signal("KILL");
        exec.process.ended().await;
        exec.nothing_is_left().await;
        let is_there = || std::path::Path::new(&format!("/proc/{guard}/environ")).exists() && !is_zombie(guard);
        until("the guard to end, too", async || (!is_there()).then_some(())).await;
    }
}

fn is_zombie(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

/// The living guard of a worker.
fn guard_of(worker: u32) -> Option<u32> {
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains(&format!("--guard\0{worker}-")).then(|| entry.file_name().to_str()?.parse().ok())?
    })
}

#[test]
fn a_wrong_command_line_is_refused_with_what_is_right() {
    for (args, told) in [
        (&["--exec", "greet"][..], "write TYPE=COMMAND"),
        (&["--exec", "greet=no-such-program-here"], "there is no program `no-such-program-here` on the search path"),
        (&["--exec", "greet=sh", "--exec", "greet=true"], "names the task type `greet` twice"),
        (&["--exec", "greet=sh", "--timeout", "soon"], "--timeout 'soon'"),
        (&["--exec", "greet=sh", "--timeout", "0s"], "--timeout"),
        (&["--exec", "greet=sh", "--concurrency", "0"], "1 to 4096 slots"),
        (&[], "--exec <TYPE=COMMAND>"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_exec_worker"));
        let done = command.args(args).env("REDIS_URL", server::shared().url()).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.code() == Some(2) && said.contains(told), "{args:?}: {said}");
    }
    let help = Command::new(env!("CARGO_BIN_EXE_exec_worker")).arg("--help").output().unwrap();
    let text = String::from_utf8_lossy(&help.stdout);
    for word in ["--exec", "--cancel-grace", "standard input", "65", "--clear-env", "@progress"] {
        assert!(text.contains(word), "{word} is missing in\n{text}");
    }
}
