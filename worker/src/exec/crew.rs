//! All commands of a worker: who they are, and that nothing of them is left.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use orchestrator::{Error, Result};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::guard::Guard;
use super::hunt::{self, MARK};

/// Looks for processes that begin others as fast as they are ended.
const LOOKS_MAX: u32 = 200;
/// Looks at one whose environment is not there yet.
const UNSURE_MAX: u32 = 5;
/// Pause between two looks.
const BREATH: Duration = Duration::from_millis(10);
/// How often those are asked how they ended that nobody else will ask.
const ROUND: Duration = Duration::from_secs(5);

pub(super) struct Crew {
    /// Marks what this worker's commands have started.
    token: String,
    next: AtomicU64,
    guard: Guard,
    own: Mutex<Own>,
    /// Between SIGTERM and SIGKILL.
    pub(super) grace: Duration,
    /// Commands that are being ended although their attempts are gone.
    pub(super) endings: TaskTracker,
    pub(super) runtime: Handle,
}

/// Children of this process that are seen to elsewhere.
#[derive(Default)]
struct Own {
    /// Their ids, until they have been waited for.
    pids: HashSet<i32>,
}

impl Crew {
    /// # Errors
    /// [`Error::Unfit`] when the guard cannot be started.
    pub(super) fn start(grace: Duration) -> Result<Arc<Self>> {
        let unfit = |what: &str, error: &dyn std::fmt::Display| Error::Unfit { what: format!("{what}: {error}") };
        // What a command leaves behind becomes our child, so that it is found.
        #[cfg(target_os = "linux")]
        nix::sys::prctl::set_child_subreaper(true)
            .map_err(|error| unfit("this process cannot become a subreaper", &error))?;
        let token = format!("{}-{:016x}", std::process::id(), rand::random::<u64>());
        let guard =
            Guard::start(&token).map_err(|error| unfit("the guard of the commands cannot be started", &error))?;
        // A private Redis, and whatever else is there already.
        let pids = hunt::all().into_iter().filter(|seen| seen.parent == me()).map(|seen| seen.pid).chain([guard.pid()]);
        let own = Mutex::new(Own { pids: pids.collect() });
        let (endings, runtime) = (TaskTracker::new(), Handle::current());
        let crew = Arc::new(Self { token, next: AtomicU64::new(0), guard, own, grace, endings, runtime });
        let rounds = Arc::downgrade(&crew);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(ROUND).await;
                let Some(crew) = rounds.upgrade() else { return };
                let _ = tokio::task::spawn_blocking(move || bury(&crew.own(), &hunt::all())).await;
            }
        });
        Ok(crew)
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Starts a command in a group of its own; returns it with its mark.
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<(Child, i32, String)> {
        let mark = format!("{}.{}.", self.token, self.next.fetch_add(1, Ordering::Relaxed));
        command.env(MARK, &mark).process_group(0);
        // Whoever asks about zombies in between must not take it for a stranger.
        let mut own = self.own();
        let child = command.spawn()?;
        let pid = child.id().map_or(0, u32::cast_signed);
        own.pids.insert(pid);
        own.pids.insert(self.guard.tell(pid, true));
        Ok((child, pid, mark))
    }

    /// A command has been waited for: ends what it has left behind. Blocks for a moment.
    pub(super) fn sweep(&self, pid: i32, mark: &str) {
        self.own().pids.remove(&pid);
        let mut unsure = 0;
        for look in 1..=LOOKS_MAX {
            if self.look(pid, mark, &mut unsure) {
                break;
            }
            if look == LOOKS_MAX {
                tracing::error!("a command begins processes faster than they can be ended");
            }
            std::thread::sleep(BREATH);
        }
        let mut own = self.own();
        own.pids.insert(self.guard.tell(pid, false));
    }

    /// Ends what is found of a command; whether there was nothing.
    fn look(&self, pid: i32, mark: &str, unsure: &mut u32) -> bool {
        // Meanwhile no command begins that could be taken for a stranger.
        let own = self.own();
        let all = hunt::all();
        let mut found = 0;
        // What has lost its parent is our child by now, or descends from one that is.
        for seen in hunt::descendants(&all, me(), &own.pids).into_iter().filter(|seen| !seen.is_zombie) {
            // What is neither in its group nor marked may be anybody's, and is left alone.
            match if seen.group == pid { Some(true) } else { hunt::bears(seen.pid, mark) } {
                Some(true) => hunt::end(seen.pid),
                None if *unsure < UNSURE_MAX => *unsure += 1,
                _ => continue,
            }
            found += 1;
        }
        bury(&own, &all);
        found == 0
    }

    /// Waits until nothing of any command is left.
    pub(super) async fn end(&self) {
        self.endings.close();
        self.endings.wait().await;
    }
}

fn me() -> i32 {
    std::process::id().cast_signed()
}

/// Asks those how they ended that were left to us.
fn bury(own: &Own, all: &[hunt::Seen]) {
    for seen in all.iter().filter(|seen| seen.is_zombie && seen.parent == me() && !own.pids.contains(&seen.pid)) {
        let _ = waitpid(Pid::from_raw(seen.pid), Some(WaitPidFlag::WNOHANG));
    }
}
