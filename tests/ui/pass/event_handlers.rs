//! What a handler of events may look like. The crate has `orchestrator-worker` as its one dependency here.

#![deny(warnings, unreachable_pub, missing_docs, missing_debug_implementations)]
#![forbid(unsafe_code)]

use std::time::Duration;

use orchestrator_worker::{
    Data, Event, EventContext, EventHandler, EventsFrom, TaskResult, event_handler, patterns, payload, task_handler,
};

/// A deployment.
#[payload]
struct Deploy {
    service: String,
}

/// What was merged, and what to do then.
#[payload]
struct Merged {
    service: Option<String>,
}

#[derive(Debug)]
struct Slack;

/// Deploys.
#[task_handler("deploy")]
async fn deploy(args: Deploy) -> TaskResult<String> {
    Ok(args.service)
}

/// Tells the channel,
/// with everything that a handler may say.
#[event_handler(
    "deploy.*",
    group = "release-notes",
    retries = 5,
    backoff = "exp(1s, 1m)",
    timeout = "5m",
    at_once = 4,
    from = "oldest"
)]
async fn announce(ev: Event<Deploy>, _slack: Data<Slack>, ctx: EventContext) -> TaskResult {
    let _ = format!("{}, attempt {}", ev.event_type, ctx.attempt());
    Ok(())
}

#[event_handler(["pr.merged", "pr.closed, pr.*.merged"], start = deploy)]
fn on_merge(ev: Event<Merged>) -> Option<Deploy> {
    ev.payload.service.map(|service| Deploy { service })
}

/// A handler of everything, whatever its payload.
#[event_handler("*", from = "now")]
async fn audit(_: Event) -> Result<(), orchestrator_worker::TaskError> {
    Ok(())
}

mod other {
    use orchestrator_worker::{Event, EventContext, TaskError, TaskResult, event_handler};

    use super::Deploy;

    // Names which the generated code must not mistake for its own.
    #[allow(dead_code)]
    mod core {}
    #[allow(dead_code)]
    mod std {}
    #[allow(dead_code)]
    struct Some;
    #[allow(dead_code)]
    struct Ok;

    #[event_handler("task.failed", start = super::deploy)]
    pub(crate) async fn again(ev: Event<Deploy>, ctx: EventContext) -> Result<Option<Deploy>, TaskError> {
        Result::Ok(Option::Some(ev.payload).filter(|_| ctx.attempt() == 1))
    }

    #[event_handler("task.failed", start = crate::deploy)]
    #[cfg(not(any()))]
    pub(super) fn r#type(Event { payload, .. }: Event<Deploy>) -> TaskResult<Option<Deploy>> {
        Result::Ok(Option::Some(payload))
    }

    #[cfg(any())]
    #[event_handler("task.failed")]
    pub(crate) async fn absent(_: Event<Missing>) -> TaskResult {}
}

mod renamed {
    pub(crate) mod mine {
        pub(crate) use orchestrator_worker as worker;
    }

    #[mine::worker::event_handler("a.b", from = "oldest", backoff = "fixed(1s)", crate = "mine::worker")]
    pub(crate) async fn renamed(_: mine::worker::Event<u64>) -> mine::worker::TaskResult<()> {
        Ok(())
    }
}

macro_rules! handler {
    ($name:ident, $patterns:expr, $group:literal, $event:ty, $result:ty) => {
        #[event_handler($patterns, group = $group)]
        async fn $name(_: $event) -> $result {
            Ok(())
        }
    };
}

handler!(first, "a.b", "first", Event<String>, TaskResult);
handler!(second, ["a.b"], "second", Event<u8>, TaskResult<()>);

#[orchestrator_worker::main]
async fn main() -> TaskResult {
    let spec = announce::default().spec();
    assert_eq!((spec.group, spec.types), ("release-notes", "deploy.*"));
    assert_eq!((spec.retries, spec.at_once), (Some(5), Some(4)));
    assert_eq!(spec.timeout, Some(Duration::from_secs(300)));
    assert_eq!(spec.from, Some(EventsFrom::Oldest));
    assert_eq!(spec.doc, "Tells the channel,\nwith everything that a handler may say.");
    assert!(spec.start.is_none() && spec.backoff.is_some());

    let spec = on_merge::default().spec();
    assert_eq!((spec.group, spec.types), ("on_merge", "pr.merged,pr.closed,pr.*.merged"));
    assert_eq!(patterns(spec.types)?.len(), 3);
    assert_eq!(spec.start, Some("deploy"));
    assert_eq!(other::again::default().spec().start, Some("deploy"));
    assert_eq!(other::r#type::default().spec().group, "type");
    assert_eq!(audit::default().spec().types, "*");
    assert_eq!(first::default().spec().group, "first");
    assert_eq!(second::default().spec().group, "second");
    assert_eq!(renamed::renamed::default().spec().types, "a.b");
    let _ = format!("{:?}", announce::default());

    // It may stand inside of a function as well.
    #[event_handler("a.b")]
    async fn inner(_: Event<u8>) -> TaskResult {
        Ok(())
    }
    assert_eq!(inner::default().spec().group, "inner");
    Ok(())
}
