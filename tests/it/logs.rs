//! The log of a worker: what is told of an attempt names its task and trace, in one line that no handler can forge.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use orchestrator_tests::orch;
use orchestrator_worker::{NewTask, Stop, TaskError, TaskResult, Worker, payload, task_handler};
use serde_json::Value;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const MARK: &str = "payload-marker-7713";
const EVIL: &str = "no\n{\"level\":\"FORGED\"}\r\u{1b}[31m";

#[payload]
struct Said {
    how: String,
    secret: String,
}

#[task_handler("tells", retries = 1, backoff = "fixed(1ms)")]
async fn tells(args: Said) -> TaskResult<usize> {
    match args.how.as_str() {
        "fails" => Err(EVIL.into()),
        "never" => Err(TaskError::fatal(EVIL)),
        _ => Ok(args.secret.len()),
    }
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// On one thread, so that the worker and its handlers log where this test listens.
#[tokio::test]
async fn attempts_are_told_by_task_and_trace_without_payloads() {
    let sink = Sink::default();
    let log = orchestrator::log::json("trace".parse().unwrap(), {
        let sink = sink.clone();
        move || sink.clone()
    });
    let _listening = orchestrator::log::listen(log);
    let orch = orch().await;
    let stop = Stop::new();
    let worker = Worker::builder(orch.clone()).discover(false).register::<tells>().build().unwrap();
    let running = tokio::spawn(worker.run_until(stop.clone()));
    let task = |how: &str| tells::with(Said { how: how.into(), secret: MARK.into() }).trace_id(TRACE);
    let fails = orch.enqueue(task("fails")).await.unwrap();
    let never = orch.enqueue(task("never")).await.unwrap();
    let fine = orch.enqueue(task("fine")).await.unwrap();
    assert_eq!(fine.result().await.unwrap(), MARK.len());
    for handle in [&fails, &never] {
        handle.result().await.expect_err("it fails");
    }
    let misfit: NewTask = NewTask::new("tells", &serde_json::json!({"how": {"deep": MARK}, "secret": 7}));
    let misfit = orch.enqueue(misfit.queue("default")).await.unwrap();
    let error = misfit.result().await.expect_err("it does not fit").to_string();
    assert!(error.contains("how"), "the task says where: {error}");
    let misfit_secret: NewTask = NewTask::new("tells", &serde_json::json!(MARK));
    orch.enqueue(misfit_secret.queue("default")).await.unwrap().result().await.expect_err("it does not fit");
    stop.drain();
    running.await.unwrap().unwrap();
    let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    assert!(!text.contains(MARK), "payloads are not logged: {text}");
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no object: {line:?}"))).collect();
    assert!(lines.iter().all(|line| line["level"] != "FORGED"), "{text}");
    let told = |id: String| lines.iter().filter(move |line| line["task_id"] == id.as_str()).collect::<Vec<_>>();
    let of = told(fails.id().to_string());
    assert_eq!(of.len(), 2, "{of:#?}");
    for (line, attempt) in of.iter().zip(1..) {
        assert_eq!(
            (&line["trace_id"], &line["attempt"], &line["error"]),
            (&TRACE.into(), &attempt.into(), &EVIL.into())
        );
        assert_eq!(line["task_type"], "tells");
    }
    let of = told(misfit.id().to_string());
    assert!(of[0]["error"].as_str().unwrap().contains("its payload does not fit"), "{of:#?}");
    assert_eq!(told(never.id().to_string())[0]["message"], "failed for good");
}
