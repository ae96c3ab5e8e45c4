//! One command while it runs. However this is let go of, the command is ended.

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::crew::Crew;

/// How long the system may take to end a process.
const END_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Process {
    crew: Arc<Crew>,
    /// None when nothing of it is left.
    running: Option<Running>,
}

struct Running {
    child: Child,
    pid: i32,
    mark: String,
    /// It was waited for, so its id may be another's.
    has_ended: bool,
}

impl Process {
    pub(super) fn start(crew: &Arc<Crew>, command: &mut Command) -> io::Result<Self> {
        let (child, pid, mark) = crew.spawn(command)?;
        let running = Some(Running { child, pid, mark, has_ended: false });
        Ok(Self { crew: Arc::clone(crew), running })
    }

    pub(super) fn child(&mut self) -> Option<&mut Child> {
        self.running.as_mut().map(|running| &mut running.child)
    }

    /// Waits until the command itself has ended; what it has started may still run.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        match &mut self.running {
            Some(running) => running.ended().await,
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Ends what is left, at once.
    pub(super) async fn kill(&mut self) {
        if let Some(running) = &mut self.running {
            running.kill(&self.crew).await;
        }
        self.running = None;
    }

    /// Asks it to end, and ends it when it has not within the grace.
    pub(super) async fn stop(&mut self) {
        if let Some(running) = &mut self.running {
            running.stop(&self.crew).await;
        }
        self.running = None;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            // At once: when the attempt is gone, another one may begin elsewhere. The grace was within it.
            running.signal(Signal::SIGKILL);
            let crew = Arc::clone(&self.crew);
            self.crew.endings.spawn_on(async move { running.kill(&crew).await }, &self.crew.runtime);
        }
    }
}

impl Running {
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.has_ended = true;
        status
    }

    fn signal(&self, signal: Signal) {
        // Elsewhere what is left of the group is not found otherwise.
        if (!self.has_ended || !cfg!(target_os = "linux"))
            && let Err(error) = killpg(Pid::from_raw(self.pid), signal)
            && error != Errno::ESRCH
        {
            tracing::warn!(%error, %signal, "a command was not signalled");
        }
    }

    async fn stop(&mut self, crew: &Arc<Crew>) {
        if !self.has_ended {
            self.signal(Signal::SIGTERM);
            let _ = tokio::time::timeout(crew.grace, self.ended()).await;
        }
        self.kill(crew).await;
    }

    async fn kill(&mut self, crew: &Arc<Crew>) {
        self.signal(Signal::SIGKILL);
        if !self.has_ended && tokio::time::timeout(END_TIMEOUT, self.ended()).await.is_err() {
            tracing::error!(pid = self.pid, "the system does not end a command that was killed");
        }
        let (crew, pid, mark) = (Arc::clone(crew), self.pid, self.mark.clone());
        let _ = tokio::task::spawn_blocking(move || crew.sweep(pid, &mark)).await;
    }
}
