//! The guard: a process beside the worker that ends the commands when the worker is killed. It holds one end of a pipe; when
//! that closes, however the worker has ended, what still runs of its commands is ended.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use super::hunt;

/// The argument by which the program knows that it is meant to be the guard.
const ARGUMENT: &str = "--guard";
/// Looks for processes that begin others as fast as they are ended.
const LOOKS_MAX: u32 = 200;

/// The worker's side.
#[derive(Debug)]
pub(super) struct Guard {
    token: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    process: Child,
    groups: BTreeSet<i32>,
}

impl Guard {
    /// Starts it, for the commands whose mark begins with this.
    pub(super) fn start(token: &str) -> io::Result<Self> {
        let state = State { process: start(token)?, groups: BTreeSet::new() };
        Ok(Self { token: token.into(), state: Mutex::new(state) })
    }

    pub(super) fn pid(&self) -> i32 {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).process.id().cast_signed()
    }

    /// Tells it that this group is to be ended with the worker, or that it has ended already. Returns its id: somebody may have
    /// ended it, then another one takes over.
    pub(super) fn tell(&self, group: i32, begins: bool) -> i32 {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let _ = if begins { state.groups.insert(group) } else { state.groups.remove(&group) };
        let sign = if begins { '+' } else { '-' };
        if say(&mut state.process, &format!("{sign}{group}\n")).is_err()
            && let Err(error) = self.replace(&mut state)
        {
            tracing::error!(%error, "the guard of the commands is gone, and no other can be started");
        }
        state.process.id().cast_signed()
    }

    fn replace(&self, state: &mut State) -> io::Result<()> {
        let _ = state.process.wait();
        state.process = start(&self.token)?;
        let all: String = state.groups.iter().map(|group| format!("+{group}\n")).collect();
        say(&mut state.process, &all)
    }
}

fn say(process: &mut Child, what: &str) -> io::Result<()> {
    process.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.write_all(what.as_bytes())
}

fn start(token: &str) -> io::Result<Child> {
    let program = std::env::current_exe()?;
    let mut command = Command::new(program);
    // In a group of its own, so that no Ctrl-C meant for the worker reaches it.
    command.args([ARGUMENT, token]).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

/// The token, when this process is to be the guard.
pub(super) fn is_meant() -> Option<String> {
    let mut args = std::env::args().skip(1);
    (args.next()? == ARGUMENT).then(|| args.next())?
}

/// Waits for the end of the worker, then ends what is left of its commands.
pub(super) fn main(token: &str) -> ExitCode {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    // What ends a whole service, signal by signal, must not end this before the worker.
    let _deaf: Vec<_> = runtime.block_on(async {
        let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()];
        kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect()
    });
    let mut groups = BTreeSet::new();
    for line in io::stdin().lines().map_while(io::Result::ok) {
        match (line.get(..1), line.get(1..).and_then(|group| group.parse::<i32>().ok())) {
            (Some("+"), Some(group)) => groups.insert(group),
            (Some("-"), Some(group)) => groups.remove(&group),
            _ => false,
        };
    }
    for group in groups {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    for _ in 0..LOOKS_MAX {
        let marked = |seen: &hunt::Seen| !seen.is_zombie && hunt::bears(seen.pid, &format!("{token}.")) == Some(true);
        let found: Vec<_> = hunt::all().into_iter().filter(marked).collect();
        if found.is_empty() {
            break;
        }
        found.iter().for_each(|seen| hunt::end(seen.pid));
        std::thread::sleep(Duration::from_millis(10));
    }
    ExitCode::SUCCESS
}
