//! The attributes of the worker crate, which re-exports them: name them through it.

mod args;
mod entry;
mod expand;
mod function;
mod mistakes;
mod options;
mod payload;
mod policies;
mod signature;
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
/// | `approval` | who has to agree before it runs; a list   | `approval(by = "ann")`     |
/// | `sla`      | when it is to be done; or a list          | `sla = "30m"`              |
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
