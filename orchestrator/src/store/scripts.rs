//! The scripts: one file a transition, put together with the prelude and the namespace's bounds once at connect.

use redis::Script;

use crate::{Config, OUTPUT_KEPT};

const HEAD: &str = include_str!("lua/head.lua");
const RECORD: &str = include_str!("lua/record.lua");
const CLOCK: &str = include_str!("lua/clock.lua");
const PARKED: &str = include_str!("lua/parked.lua");
const TELL: &str = include_str!("lua/tell.lua");
const ADMIT: &str = include_str!("lua/admit.lua");
const LOCK: &str = include_str!("lua/lock.lua");
const LOCKING: &str = include_str!("lua/locking.lua");

macro_rules! scripts {
    ($($name:ident),+ $(,)?) => {
        /// Every script by name, so that a missing one does not compile.
        #[derive(Debug)]
        pub(crate) struct Scripts {
            $(pub(crate) $name: Script,)+
            /// `enqueue` with the shared functions, for a repeated send.
            pub(crate) enqueue_again: Script,
        }

        impl Scripts {
            /// The file of each script, by name.
            #[cfg(test)]
            const SOURCES: &[(&str, &str)] =
                &[$((stringify!($name), include_str!(concat!("lua/", stringify!($name), ".lua")))),+];

            pub(crate) fn new(config: &Config) -> Self {
                Self {
                    $($name: Script::new(&assemble(
                        include_str!(concat!("lua/", stringify!($name), ".lua")),
                        &parts(stringify!($name)),
                        config,
                    )),)+
                    enqueue_again: Script::new(&assemble(include_str!("lua/enqueue.lua"), &[RECORD], config)),
                }
            }

            pub(crate) fn all(&self) -> Vec<&Script> {
                vec![$(&self.$name,)+ &self.enqueue_again]
            }
        }
    };
}

scripts!(
    admit,
    agree,
    approvals,
    at_risk,
    await_end,
    beat,
    cancel,
    chunk,
    consume,
    decide,
    disband,
    enqueue,
    fire,
    forget,
    gauge,
    get,
    hold,
    hush,
    join,
    journal,
    leave,
    limit,
    list,
    mend,
    output,
    park,
    pause,
    publish,
    reconcile,
    release,
    renew,
    reorder,
    replay,
    reprioritise,
    rescue,
    retry,
    revive,
    ring,
    schedule,
    schedules,
    shelve,
    stats,
    step,
    tick,
    unshelve,
);

/// Scripts that every task or request goes through: making the shared functions would cost them more than their work.
const LEAN: &[&str] = &["enqueue", "limit", "step"];

/// Scripts about approvals.
const ASKING: &[&str] = &["admit", "cancel", "decide", "forget", "park", "revive", "tick"];

/// Scripts that give a task what only one may hold.
const TAKING: &[&str] = &["admit", "fire", "revive"];

/// The shared functions that a script gets.
fn parts(name: &str) -> Vec<&'static str> {
    match name {
        name if LEAN.contains(&name) => vec![],
        name if TAKING.contains(&name) => vec![RECORD, PARKED, LOCKING],
        name if ASKING.contains(&name) => vec![RECORD, PARKED],
        _ => vec![RECORD],
    }
}

/// `#!lua …` first, then the shared parts with their bounds filled in, then the script. Lines `--{{clock}}`,
/// `--{{tell}}` and `--{{lock}}` stand for the functions of the service-level clock, for those that tell events, and for the one
/// that frees what a task holds alone; `--{{admit}}` for ADMIT as a function of its arguments.
fn assemble(source: &str, shared: &[&str], config: &Config) -> String {
    let (shebang, body) = source.split_once('\n').unwrap_or(("#!lua", source));
    let body = match shared {
        // Without the shared functions there is none that heals.
        [] => body
            .replace("--{{clock}}", &CLOCK.replace("go(", "call("))
            .replace("--{{tell}}", &TELL.replace("go(", "call("))
            .replace("--{{lock}}", &LOCK.replace("go(", "call(")),
        _ => body
            .replace("--{{tell}}", TELL)
            .replace("--{{admit}}", &format!("local function admit(ARGV)\n{}\nend", unheaded(ADMIT))),
    };
    let shared = shared.join("\n").replace("--{{clock}}", CLOCK).replace("--{{lock}}", LOCK);
    let dead_retention = config.dead_retention.max(config.retention);
    let whole = [shebang, &strip(HEAD), &strip(&shared), &strip(&body)]
        .join("\n")
        .replace("{{retention_ms}}", &config.retention.as_millis().to_string())
        .replace("{{dead_retention_ms}}", &dead_retention.as_millis().to_string())
        .replace("{{dead_max}}", &config.dead_max.to_string())
        .replace("{{class}}", &config.aging.class().to_string())
        .replace("{{queue_max}}", &config.queue_max.to_string())
        .replace("{{events_max}}", &config.events_max.to_string())
        .replace("{{events_age_ms}}", &config.events_age.as_millis().to_string())
        .replace("{{history_ttl_ms}}", &config.approvals.history_ttl.as_millis().to_string())
        .replace("{{history_max}}", &config.approvals.history_max.to_string())
        .replace("{{idempotency_ms}}", &config.idempotency.as_millis().to_string())
        .replace("{{output_kept_ms}}", &OUTPUT_KEPT.as_millis().to_string())
        .replace("{{audit_max}}", &config.approvals.audit_max.to_string());
    #[cfg(feature = "test-clock")]
    if config.test_clock {
        return whole.replace("redis.call('TIME')", "redis.call('HMGET', base .. 'now', 's', 'us')");
    }
    whole
}

/// A script as a part of another one.
fn unheaded(lua: &str) -> String {
    strip(lua.split_once('\n').map_or("", |(_, body)| body))
}

/// Without comment lines: they are for readers of the source, not for the server's memory.
fn strip(lua: &str) -> String {
    lua.lines()
        .filter(|line| !line.trim_start().starts_with("--") && !line.trim().is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header is the contract: what it does not list, the script must not use.
    #[test]
    fn every_header_tells_key_arguments_and_reply() {
        for (name, source) in Scripts::SOURCES {
            let mut lines = source.lines();
            let shebang = lines.next().unwrap_or_default();
            assert!(shebang.starts_with("#!lua"), "{name}: no shebang");
            assert_eq!(
                shebang.contains("allow-oom"),
                !["enqueue", "admit", "fire", "publish", "chunk"].contains(name),
                "{name}: only new tasks, events and output are refused when memory is full"
            );
            let header: String = lines.take_while(|line| line.starts_with("--")).collect::<Vec<_>>().join("\n");
            assert!(header.contains("KEYS[1] {ns.p}:e"), "{name}: the header names no key");
            assert!(header.contains("Reply:"), "{name}: the header tells no reply");
            let body: String =
                source.lines().skip(1).skip_while(|line| line.starts_with("--")).collect::<Vec<_>>().join("\n");
            let highest = (1..=9).rev().find(|n| body.contains(&format!("ARGV[{n}]"))).unwrap_or(0);
            assert!(highest == 0 || header.contains("ARGV: 1 "), "{name}: the header tells no arguments");
            assert!(!body.contains("KEYS["), "{name}: the base comes from the prelude");
        }
    }
}
