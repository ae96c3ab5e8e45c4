//! The attributes of the worker crate, which re-exports them: name them through it.

mod args;
#[allow(dead_code, reason = "what its fields are for is the library's business")]
#[path = "../../orchestrator/src/cron/syntax.rs"]
mod cron_syntax;
mod entry;
mod events;
mod expand;
mod function;
mod mistakes;
mod options;
mod patterns;
mod payload;
mod policies;
mod schedules;
mod signature;
mod subject;
#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

/// Makes an async function the handler of a task type.
///
/// ```ignore
/// #[task_handler("bugfix", queue = "ops", priority = P1, retries = 3,
///                backoff = "exp(2s, 10m)", timeout = "15m")]
/// async fn bugfix(args: Bug, llm: Data<Llm>, ctx: TaskContext) -> TaskResult<Fix> { /* … */ }
/// ```
///
/// The first argument is the task type, 1 to 64 characters of `a-z`, `0-9`, `_`, `.` and `-`.
/// The rest is optional, and is used where the producer of a task says nothing else:
///
/// | option     | value                                     | example                    |
/// |------------|-------------------------------------------|----------------------------|
/// | `queue`    | a name, of the characters of a task type  | `queue = "ops"`            |
/// | `priority` | `P0`, `P1`, `P2` or `P3`                  | `priority = P1`            |
/// | `retries`  | 0 to 255                                  | `retries = 3`              |
/// | `backoff`  | `exp(BASE, MAX)` or `fixed(DELAY)`        | `backoff = "exp(2s, 10m)"` |
/// | `timeout`  | how long one attempt may take, at most 7d | `timeout = "15m"`          |
/// | `blocking` | `true`: a plain `fn`, on its own thread | `blocking = true`          |
/// | `no_retry` | error types after which none is made      | `no_retry = [BadSha]`      |
/// | `expires`  | how long after its start an attempt may still begin, at most 366d | `expires = "1h"` |
/// | `unique`   | of which one at a time is wanted; a list  | `unique(by = "args.repo")` |
/// | `approval` | who has to agree before it runs; a list   | `approval(by = "ann")`     |
/// | `sla`      | when it is to be done; or a list          | `sla = "30m"`              |
/// | `cron`     | when it runs by itself, see below         | `cron = "*/5 * * * *"`     |
/// | `crate`    | the worker crate, where it is renamed     | `crate = "my::worker"`     |
///
/// All of `approval(…)` is optional, and `approval` alone will do. A name is that of a user or a
/// role, 1 to 64 characters of `a-z`, `A-Z`, `0-9`, `_`, `.`, `-`, `@` and `:`.
///
/// | in `approval` | value                                          | example                      |
/// |---------------|------------------------------------------------|------------------------------|
/// | `unless`      | a condition under which nobody is asked        | `unless = "args.env == 'dev'"` |
/// | `by`          | a name, or an array of names                   | `by = ["role:sre", "alice"]` |
/// | `quorum`      | how many have to agree, 1 to 20                | `quorum = 2`                 |
/// | `expires`     | how long it may take, at most 30d              | `expires = "4h"`             |
/// | `remind`      | when to ask again, before it expires           | `remind = "30m"`             |
/// | `escalate`    | when to ask whom else, before it expires       | `escalate = "1h, role:lead"` |
///
/// An error counts as one of `no_retry` when it, or one of its sources, is of such a type; the task then ends as failed, for the
/// reason `no_retry`. What a task brings itself (retries, backoff, `expires`, a key) goes before what stands here.
///
/// | in `unique` | value                                                     | example                            |
/// |-------------|-----------------------------------------------------------|------------------------------------|
/// | `by`        | a path, or an array of up to 8: `args.NAME`, `metadata.NAME`, with more names behind dots, `priority`, `source` | `by = ["args.repo", "args.issue"]` |
/// | `until`     | `done`, or `started`: its first attempt begins            | `until = "started"`                |
///
/// While a task with the same values at these paths is there, of the same type and tenant, no other is stored: who submits one
/// gets the handle of the one that is there. A payload without such a field is refused.
///
/// `sla = "30m"` is short for `sla(target = "30m")`. There, all but the target is optional.
///
/// | in `sla`       | value                                           | example                      |
/// |----------------|-------------------------------------------------|------------------------------|
/// | `target`       | the time it may take in all, at most 366d       | `target = "30m"`             |
/// | `warn`         | the share of it after which to warn             | `warn = 0.8`                 |
/// | `pause`        | `human`: not counting the wait for one; `never` | `pause = "human"`            |
/// | `on_violation` | `announce`, `raise`, `cancel`, `escalate:NAME`  | `on_violation = "raise"`     |
/// | `hours`        | the hours which count                           | `hours = "mon-fri 09:00-17:00 Europe/Berlin"` |
///
/// `cron` makes a task whenever the expression says so (five fields, six with a second before them, `@hourly`, `@daily` …), once
/// for all workers; the payload is then the `Default` of its type. `tz = "Europe/Berlin"` is its time zone, UTC unless given;
/// `overlap` says what becomes of a tick while the last run has not ended (`skip`, `queue`, `replace`, `allow`), `catch_up` what
/// becomes of ticks that nobody was there for (`latest`, `all`, `skip`). The schedule is `handler.` and the task type.
///
/// The first parameter of the function is the payload: any owned type with serde's `Serialize` and
/// `Deserialize`. What else the handler needs follows in any order: `Data<T>` for shared state,
/// `TaskContext` for the task at hand, or your own `FromContext` type. It returns a
/// `TaskResult<Output>`, or a `Result<Output, E>` whose error converts into a `TaskError`.
///
/// The function stays callable as it is. Next to it there is a type of the same name, and
/// `bugfix::with(args)` is a task to be enqueued.
#[proc_macro_attribute]
pub fn task_handler(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::task_handler(args.into(), &item.into()).into()
}

/// Makes a function a handler of events: each event that its group wants is handled once, by one of the workers with it.
///
/// ```ignore
/// #[event_handler("deploy.*", group = "release-notes", retries = 5)]
/// async fn announce(ev: Event<Deployed>, slack: Data<Slack>, ctx: EventContext) -> TaskResult { /* … */ }
///
/// #[event_handler(["pr.merged", "pr.reopened"], start = deploy)]
/// fn on_merge(ev: Event<Merged>) -> Option<Deploy> { /* … */ }
/// ```
///
/// The first argument says which types of events it wants, in a string or an array of strings; commas do in a string too, and
/// there may be 100 in all. A type has two or more words of `a-z`, `0-9` and `_` with dots between them, up to 128 characters.
/// In a pattern, `*` stands for any one word, at the end for any number of words from one on, and alone for everything:
/// `deploy.succeeded`, `pr.*.merged`, `deploy.*`, `*`. The rest is optional:
///
/// | option    | value                                                      | example                    |
/// |-----------|------------------------------------------------------------|----------------------------|
/// | `group`   | a name, of the characters of a task type; the function's   | `group = "release-notes"`  |
/// | `retries` | 0 to 255; what fails after that is a dead letter           | `retries = 3`              |
/// | `backoff` | `exp(BASE, MAX)` or `fixed(DELAY)`                         | `backoff = "exp(1s, 1m)"`  |
/// | `timeout` | how long one attempt may take, at most 7d                  | `timeout = "5m"`           |
/// | `at_once` | how many events it handles at once, 1 to 1024              | `at_once = 16`             |
/// | `from`    | where a new group begins: `oldest`, or `now` unless given  | `from = "oldest"`          |
/// | `start`   | the function of the task handler whose tasks it starts     | `start = deploy`           |
/// | `crate`   | the worker crate, where it is renamed                      | `crate = "my::worker"`     |
///
/// The first parameter of the function is the `Event<Payload>`, with any owned type that serde can read; `Event` alone has its
/// payload as JSON. What else the handler needs follows in any order: `Data<T>` for shared state, `EventContext` for the
/// attempt at hand, or your own `FromEvent` type. It returns a `TaskResult`, or a `Result<(), E>` whose error converts into a
/// `TaskError`.
///
/// With `start`, the function may be without `async`. It returns an `Option<Args>`, or a `Result<Option<Args>, E>`: the payload
/// of the task to start because of this event, if any. However often the event is handled, that is one task.
///
/// The function stays callable as it is. Next to it there is a type of the same name, and `announce::default()` is what
/// `event_handler` of a worker's builder takes; the handlers that the linker finds need no such call.
#[proc_macro_attribute]
pub fn event_handler(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::event_handler(args.into(), &item.into()).into()
}

/// Derives what a payload or an output needs: `Debug`, `Clone` and serde's `Serialize` and
/// `Deserialize`, with no dependency on serde. What the type derives already is left out.
#[proc_macro_attribute]
pub fn payload(args: TokenStream, item: TokenStream) -> TokenStream {
    payload::payload(args.into(), &item.into()).into()
}

/// Runs `async fn main` on a multi-threaded runtime, with logs on standard error.
#[proc_macro_attribute]
pub fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    entry::main(args.into(), &item.into()).into()
}

/// Runs an `async fn` as a test, on a runtime of its own. Its parameter, if it has one, is a fresh `testing::Harness`.
/// Needs the feature `testing`.
#[proc_macro_attribute]
pub fn test(args: TokenStream, item: TokenStream) -> TokenStream {
    entry::test(args.into(), &item.into()).into()
}
