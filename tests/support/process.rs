//! Worker processes that a test may stop, kill and wake.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::until;

/// What the fixture worker (`tests/bin/fixture.rs`) is told.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// The program: `env!("CARGO_BIN_EXE_fixture")`.
    pub program: &'static str,
    /// The server of its tasks.
    pub redis: String,
    /// The namespace of its tasks.
    pub namespace: String,
    /// The server of its effects.
    pub effects: String,
    /// What it calls itself in its effects.
    pub tag: String,
    /// Its slots.
    pub slots: usize,
    /// Its lease.
    pub lease: Duration,
    /// How long it lets handlers go on while it drains.
    pub grace: Duration,
    /// How many tasks on their first attempt it holds until the barrier opens.
    pub hold: usize,
    /// Whether it reads the time from the namespace's key.
    pub test_clock: bool,
    /// The consumer group of which it is a member, instead of being a worker.
    pub group: Option<String>,
}

impl Fixture {
    /// Starts it, to do nothing but fire what is due.
    #[must_use]
    pub fn start_ticking(&self) -> Process {
        Process::spawn(self.command().env("FIXTURE_TICKING", "1"))
    }

    /// Starts it.
    #[must_use]
    pub fn start(&self) -> Process {
        Process::spawn(&mut self.command())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command
            .env("FIXTURE_REDIS", &self.redis)
            .env("FIXTURE_NAMESPACE", &self.namespace)
            .env("FIXTURE_EFFECTS", &self.effects)
            .env("FIXTURE_TAG", &self.tag)
            .env("FIXTURE_SLOTS", self.slots.to_string())
            .env("FIXTURE_LEASE_MS", self.lease.as_millis().to_string())
            .env("FIXTURE_GRACE_MS", self.grace.as_millis().to_string())
            .env("FIXTURE_HOLD", self.hold.to_string());
        if let Some(group) = &self.group {
            command.env("FIXTURE_GROUP", group);
        }
        if self.test_clock {
            command.env("FIXTURE_TEST_CLOCK", "1");
        }
        command
    }

    /// The same under another tag.
    #[must_use]
    pub fn tagged(&self, tag: &str) -> Self {
        Self { tag: tag.into(), ..self.clone() }
    }
}

/// A child process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Process {
    /// Starts `command`. Its standard input stays open as long as we live, for it to notice our end; what it says on
    /// standard error is kept, and shown with the test's own output.
    #[must_use]
    pub fn spawn(command: &mut Command) -> Self {
        let streams = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = streams.spawn().expect("the fixture's program");
        let said = Arc::new(Mutex::new(String::new()));
        let (stderr, heard) = (child.stderr.take().expect("a pipe"), Arc::clone(&said));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                eprintln!("{line}");
                let mut said = heard.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                said.push_str(&line);
                said.push('\n');
            }
        });
        Self { child, said }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_some()
    }

    /// Sends it a signal by name: `KILL`, `STOP`, `CONT`, `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().expect("the program kill");
        assert!(sent.success(), "{name} was not sent");
    }

    /// What it has said so far.
    #[must_use]
    pub fn said(&self) -> String {
        self.said.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Waits until it has said `text`.
    pub async fn says(&self, text: &str) {
        let said =
            || async { self.said.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).contains(text).then_some(()) };
        until(&format!("the process to say `{text}`"), said).await;
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = Mutex::new(&mut self.child);
        until("the process to end", || async { child.lock().expect("one user").try_wait().expect("our child") }).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
