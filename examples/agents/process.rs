//! Runs a program to its end: with a time limit, and with everything it started ended with it.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

/// More than this much of each output stream is not kept.
const KEPT: u64 = 1 << 20;

/// What a program left behind.
#[derive(Debug, Default)]
pub struct Finished {
    /// Its exit code; `None` when a signal or the time limit ended it.
    pub code: Option<i32>,
    /// What it wrote to its standard output, up to 1 MiB.
    pub stdout: String,
    /// What it wrote to its standard error, up to 1 MiB.
    pub stderr: String,
    /// Whether the time limit ended it.
    pub timed_out: bool,
}

/// Runs a program in a process group of its own. When the limit has passed, or when the returned
/// future is dropped, the whole group is killed.
///
/// # Errors
/// When the program cannot be started or waited for.
pub async fn run(mut command: Command, limit: Duration) -> io::Result<Finished> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut group = Group(child.id());
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let work = async { tokio::try_join!(read(out), read(err), child.wait()) };
    match timeout(limit, work).await {
        Ok(done) => {
            let (stdout, stderr, status) = done?;
            group.0 = None;
            Ok(Finished { code: status.code(), stdout, stderr, timed_out: false })
        }
        Err(_) => Ok(Finished { timed_out: true, ..Finished::default() }),
    }
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(KEPT).read_to_end(&mut bytes).await?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A process group that is killed when this is dropped, unless it is emptied first.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            // The group may be gone already; then there is nothing left to do.
            let _ = std::process::Command::new("sh")
                .args(["-c", "kill -KILL \"-$0\" 2>/dev/null", &id.to_string()])
                .status();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn output_and_code_are_kept() {
        let done = run(sh("echo out; echo err >&2; exit 3"), Duration::from_secs(5)).await.expect("runs");
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!((done.code, done.timed_out), (Some(3), false));
    }

    #[tokio::test]
    async fn a_limit_ends_the_whole_group() {
        let started = Instant::now();
        let mark = format!("30.{:09}", rand::random::<u32>() >> 3);
        let done = run(sh(&format!("sleep {mark} & wait")), Duration::from_millis(200)).await.expect("runs");
        assert!(done.timed_out && started.elapsed() < Duration::from_secs(5));
        let mut alive = true;
        for _ in 0..50 {
            alive = sleeping(&mark);
            if !alive {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(!alive, "the grandchild lives on");
    }

    /// Whether some process has this argument.
    fn sleeping(mark: &str) -> bool {
        let Ok(entries) = std::fs::read_dir("/proc") else {
            return false;
        };
        entries.flatten().any(|entry| {
            std::fs::read(entry.path().join("cmdline"))
                .is_ok_and(|line| line.split(|byte| *byte == 0).skip(1).any(|arg| arg == mark.as_bytes()))
        })
    }

    #[tokio::test]
    async fn a_missing_program_is_an_error() {
        let missing = Command::new("/nowhere/at-all");
        assert!(run(missing, Duration::from_secs(1)).await.is_err());
    }
}
