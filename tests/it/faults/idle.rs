//! A worker with nothing to do sends its heartbeat and its one blocking wait, and nothing else.

use std::collections::BTreeMap;

use orchestrator::Config;
use orchestrator_tests::{Proxy, namespace, server, until, within};
use orchestrator_worker::{Orchestrator, TaskResult, task_handler};

use super::{run, worker};

#[task_handler("nothing", queue = "nothing")]
async fn nothing(_: ()) -> TaskResult {
    Ok(())
}

/// What passed since the first `from` calls, by name.
fn since(line: &Proxy, from: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in line.calls().into_iter().skip(from) {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_worker_sends_a_heartbeat_and_a_blocking_wait() {
    let line = Proxy::before(server::shared());
    let orch = Orchestrator::with_config(Config { namespace: namespace(), ..Config::new(&line.url()) }).await.unwrap();
    let (stop, running) = run(worker(&orch).register::<nothing>());
    // A task first, so that the worker has gone from busy to idle.
    orch.enqueue(nothing::with(())).await.unwrap().result().await.unwrap();
    let begun = line.calls().len();
    until("the waiter's and the worker's last word", || async {
        since(&line, begun).contains_key("beat").then_some(())
    })
    .await;
    let begun = line.calls().len();
    until("two more beats", || async { (since(&line, begun).get("beat") >= Some(&2)).then_some(()) }).await;
    let mut sent = since(&line, begun);
    eprintln!("{sent:?}");
    sent.remove("beat");
    // The client that waited for the result gives up its inbox within 5 seconds.
    assert!(sent.remove("BZPOPMIN").unwrap_or(0) <= 1);
    assert!(sent.is_empty(), "{sent:?}");
    stop.drain();
    within("the worker's end", running).await.unwrap().unwrap();
}
