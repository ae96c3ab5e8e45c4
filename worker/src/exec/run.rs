//! One attempt by a command: what goes in, what comes out, and what its end means.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::Signal;
use orchestrator::{COMMAND_ENVIRONMENT, ERROR_BYTES_MAX, PROGRESS_NOTE_MAX, RESULT_BYTES_MAX};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::ChildStdin;

use super::cli::Terms;
use super::command::Command;
use super::crew::Crew;
use super::process::Process;
use super::stderr::{self, Hears, Said, Tail};
use crate::output::Output;
use crate::{HandlerSpec, TaskContext, TaskError, TaskHandler};

/// Exit codes that say that no attempt will help: `EX_USAGE` and `EX_DATAERR` of sysexits.
const FATAL: [i32; 2] = [64, 65];
/// How long streams are read whose other end should be closed, because nothing is left that could hold it.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How much longer an attempt may last than its command, beside the grace: for what ends the command.
pub(super) const SPARE: Duration = Duration::from_secs(15);
/// What commands get of a cleared environment.
const BASIC: [&str; 7] = ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// The handler of a task type that is done by a command.
pub(super) struct Handler {
    command: Command,
    /// As long as the program: there is one of each.
    task_type: &'static str,
    queue: Option<&'static str>,
    doc: &'static str,
    terms: Terms,
    crew: Arc<Crew>,
}

/// How the command came to its end.
enum End {
    Exited(ExitStatus),
    Flooded,
    TimedOut,
    Cancelled,
    Lost(std::io::Error),
}

impl Handler {
    pub(super) fn new(command: Command, terms: &Terms, crew: Arc<Crew>) -> Self {
        // Without its arguments, which may hold secrets: everybody may read what a handler says of itself.
        let program = Path::new(&command.program).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (task_type, doc) = (command.task_type.clone().leak(), format!("Runs `{program}`.").leak());
        let queue = terms.queue.clone().map(|queue| &*queue.leak());
        Self { task_type, queue, doc, terms: terms.clone(), crew, command }
    }

    /// The environment of the command, all of it.
    fn environment(&self, ctx: &TaskContext) -> Vec<(OsString, OsString)> {
        let passed = |name: &str| match self.terms.pass.iter().any(|pass| pass == name) {
            true => true,
            false if self.terms.clear_env => BASIC.contains(&name),
            false => name != "REDIS_URL" && !name.starts_with("ORCHESTRATOR_"),
        };
        let inherited = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(passed));
        let told = [
            ctx.task_id().to_string(),
            ctx.task_type().to_owned(),
            ctx.attempt().to_string(),
            ctx.priority().to_string(),
            ctx.queue().to_owned(),
            ctx.trace_id(),
            ctx.fencing_token().to_string(),
        ];
        inherited.chain(COMMAND_ENVIRONMENT.iter().map(OsString::from).zip(told.map(OsString::from))).collect()
    }

    fn start(&self, ctx: &TaskContext) -> Result<Process, TaskError> {
        let Command { program, args, .. } = &self.command;
        let mut command = tokio::process::Command::new(program);
        command.args(args).env_clear().envs(self.environment(ctx)).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Process::start(&self.crew, &mut command)
            .map_err(|error| TaskError::from(format!("the command `{program}` could not be started: {error}")))
    }

    /// What the end of the command means.
    fn judge(&self, end: End, stdout: &[u8], tail: &Tail) -> Result<Output, TaskError> {
        let failed = |what: String| TaskError::from(told(&what, tail));
        // What was in the pipe when it exited counts, too.
        let end = if stdout.len() > RESULT_BYTES_MAX { End::Flooded } else { end };
        match end {
            End::Exited(status) if status.success() => self.read(stdout, tail),
            End::Exited(status) => match (status.code(), status.signal()) {
                (Some(code), _) if FATAL.contains(&code) => Err(TaskError::fatal(told(
                    &format!("the command says that the task is wrong (exit code {code})"),
                    tail,
                ))),
                (Some(code), _) => Err(failed(format!("the command ended with exit code {code}"))),
                (None, signal) => {
                    let number = signal.unwrap_or_default();
                    let name = Signal::try_from(number).map_or("?", Signal::as_str);
                    Err(failed(format!("the command was ended by signal {number} ({name})")))
                }
            },
            End::Flooded => Err(TaskError::fatal(told(
                &format!("the command wrote more than {RESULT_BYTES_MAX} bytes to standard output, and was ended"),
                tail,
            ))),
            End::TimedOut => Err(failed(format!(
                "the command took longer than its timeout of {:?}, and was ended",
                self.terms.timeout
            ))),
            End::Cancelled => Err(failed("the command was ended, because cancelling was asked for".into())),
            End::Lost(error) => Err(failed(format!("nobody knows how the command ended: {error}"))),
        }
    }

    /// The result that was written.
    fn read(&self, stdout: &[u8], tail: &Tail) -> Result<Output, TaskError> {
        if self.terms.text {
            return match std::str::from_utf8(stdout) {
                Ok(text) => Output::new(text),
                Err(error) => Err(told(&format!("its standard output is no UTF-8: {error}"), tail).into()),
            };
        }
        if stdout.trim_ascii().is_empty() {
            return Output::new(&Value::Null);
        }
        match serde_json::from_slice::<Value>(stdout) {
            Ok(value) => Output::new(&value),
            Err(error) => {
                let what = format!(
                    "the command ended well, but its standard output is not one JSON value: {error}. Write one and nothing \
                     else, or use --text"
                );
                Err(told(&what, tail).into())
            }
        }
    }
}

/// What happened, and what the command said last.
fn told(what: &str, tail: &Tail) -> String {
    const SAID: &str = "; it said last: ";
    match tail.text(ERROR_BYTES_MAX.saturating_sub(what.len() + SAID.len())) {
        text if text.is_empty() => what.to_owned(),
        text => format!("{what}{SAID}{text}"),
    }
}

/// Writes the payload, as far as the command reads it.
async fn feed(stdin: Option<ChildStdin>, payload: &[u8]) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(payload).await;
        let _ = stdin.shutdown().await;
    }
}

/// Reads to the end, or until there is more than a result may have: whether there is.
async fn collect(stream: Option<impl AsyncRead + Unpin>, bytes: &mut Vec<u8>) -> bool {
    if let Some(stream) = stream {
        let _ = stream.take(RESULT_BYTES_MAX as u64 + 1).read_to_end(bytes).await;
    }
    bytes.len() > RESULT_BYTES_MAX
}

#[async_trait]
impl Hears for TaskContext {
    async fn hear(&self, said: Said) {
        let told = match said {
            Said::Progress(share, mut text) => {
                while text.len() > PROGRESS_NOTE_MAX {
                    text.pop();
                }
                self.progress(share, text)
            }
            Said::Chunk(text) => self.emit_chunk(text).await,
        };
        if let Err(error) = told {
            tracing::warn!(%error, "what the command says is not taken");
        }
    }
}

#[async_trait]
impl TaskHandler for Handler {
    fn spec(&self) -> HandlerSpec {
        let mut spec = HandlerSpec::new(self.task_type);
        spec.queue = self.queue;
        spec.doc = self.doc;
        // The command has its own timeout: when the attempt ends, nothing of it is left for the next one to meet.
        spec.timeout = Some(self.terms.timeout + self.terms.grace + SPARE);
        spec.cancel_grace = Some(self.terms.grace + SPARE);
        spec
    }

    async fn call(&self, ctx: TaskContext) -> Result<Output, TaskError> {
        let mut payload = serde_json::to_vec(&ctx.assignment().args()).map_err(TaskError::fatal)?;
        payload.push(b'\n');
        let mut process = self.start(&ctx)?;
        let (stdin, stdout, stderr) = match process.child() {
            Some(child) => (child.stdin.take(), child.stdout.take(), child.stderr.take()),
            None => (None, None, None),
        };
        let (mut written, mut tail) = (Vec::new(), Tail::default());
        let end = {
            let mut collecting = pin!(collect(stdout, &mut written));
            // Who does not read the payload is not waited for.
            let mut talking = pin!(async {
                let listen = stderr::listen(stderr, &mut tail, &ctx);
                tokio::join!(feed(stdin, &payload), listen);
            });
            let mut limit = pin!(tokio::time::sleep(self.terms.timeout));
            let (mut collected, mut talked) = (false, false);
            let end = loop {
                tokio::select! {
                    biased;
                    status = process.ended() => break status.map_or_else(End::Lost, End::Exited),
                    is_flood = &mut collecting, if !collected => {
                        collected = true;
                        if is_flood {
                            break End::Flooded;
                        }
                    }
                    () = &mut talking, if !talked => talked = true,
                    () = ctx.cancelled() => break End::Cancelled,
                    () = &mut limit => break End::TimedOut,
                }
            };
            let may_end_itself = matches!(end, End::TimedOut | End::Cancelled);
            let mut ending = pin!(async {
                match may_end_itself {
                    true => process.stop().await,
                    false => process.kill().await,
                }
            });
            // Who is asked to end may still have something to say, and must not be stopped by a full pipe.
            let mut last_words = pin!(async {
                let collect = async { collected || collecting.await };
                let talk = async {
                    if !talked {
                        talking.await
                    }
                };
                tokio::join!(collect, talk);
            });
            tokio::select! {
                () = &mut last_words => ending.await,
                () = &mut ending => { let _ = tokio::time::timeout(LAST_WORDS, last_words).await; }
            }
            end
        };
        self.judge(end, &written, &tail)
    }
}
