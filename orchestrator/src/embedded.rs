//! A private Redis for those who have none running: a child process on a Unix socket, with an append-only file.
//!
//! The child is started by a small shell that holds the other end of a pipe: when this process ends, however it ends,
//! the pipe closes and the shell stops the server. The binary never downloads anything.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// Longest wait for the child to answer.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs `$1` on the configuration `$2` until standard input closes, then removes the socket `$3` and the temporary folder
/// `$4`, if there is one. It and its child are in a process group of their
/// own, so that Ctrl-C reaches the owner first, who then stops the server in order.
const SHELL: &str = r#""$1" "$2" >/dev/null 2>&1 & server=$!; read -r _; kill "$server" 2>/dev/null; wait "$server"
rm -f "$3"; [ -z "$4" ] || rm -rf "$4""#;

/// A private server. Stopped when dropped; its folder is removed unless the caller chose it.
#[derive(Debug)]
pub struct Embedded {
    shell: Child,
    socket: PathBuf,
    folder: PathBuf,
    program: PathBuf,
}

impl Embedded {
    /// Starts a server whose data lies in a temporary folder.
    ///
    /// # Errors
    /// [`Error::Unfit`] when no server program is found or it cannot be started.
    pub fn start() -> Result<Self> {
        let folder =
            std::env::temp_dir().join(format!("orchestrator-{}-{:08x}", std::process::id(), rand::random::<u32>()));
        Self::launch(&find()?, &folder, true)
    }

    /// Starts a server whose data stays in `folder`.
    ///
    /// # Errors
    /// As [`Embedded::start`].
    pub fn start_in(folder: &Path) -> Result<Self> {
        Self::launch(&find()?, folder, false)
    }

    fn launch(program: &Path, folder: &Path, temporary: bool) -> Result<Self> {
        let unfit =
            |what: &str, error: &io::Error| Error::Unfit { what: format!("{what} {}: {error}", folder.display()) };
        private_folder(folder).map_err(|error| unfit("no folder for Redis at", &error))?;
        let folder = folder.canonicalize().map_err(|error| unfit("no folder for Redis at", &error))?;
        // A socket's path has 107 bytes at most, which a folder of the user's choice may exceed.
        let socket =
            std::env::temp_dir().join(format!("orch-{}-{:08x}.sock", std::process::id(), rand::random::<u32>()));
        let config = folder.join("redis.conf");
        let text = format!(
            "port 0\nunixsocket {}\nunixsocketperm 700\ndir \"{}\"\nappendonly yes\nappendfsync everysec\nsave \"\"\n\
             maxmemory-policy noeviction\ndaemonize no\n",
            socket.display(),
            folder.display()
        );
        std::fs::write(&config, text).map_err(|error| unfit("cannot write the configuration of Redis in", &error))?;
        let mut command = Command::new("/bin/sh");
        let removed = if temporary { folder.as_os_str() } else { "".as_ref() };
        command.args(["-c", SHELL, "sh"]).arg(program).arg(&config).arg(&socket).arg(removed);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let shell = command.spawn().map_err(|error| unfit("cannot start Redis in", &error))?;
        Ok(Self { shell, socket, folder, program: program.into() })
    }

    /// Where clients reach it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The program that runs.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Where its data lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// [`Error::Unfit`] when it does not within 10 seconds.
    pub async fn ready(&self) -> Result {
        let started = Instant::now();
        while started.elapsed() < START_TIMEOUT {
            if tokio::net::UnixStream::connect(&self.socket).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(Error::Unfit {
            what: format!("{} did not answer on {} within 10 s", self.program.display(), self.socket.display()),
        })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // The shell ends when the server has saved and stopped.
        let _ = self.shell.wait();
    }
}

/// A folder that only its owner may enter.
fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// The server program: `ORCHESTRATOR_REDIS_BIN`, then the search path and usual places, then what `scripts/redis`
/// fetched into a `.redis` folder here or above.
fn find() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("ORCHESTRATOR_REDIS_BIN") {
        let named = PathBuf::from(named);
        return if named.is_file() {
            Ok(named)
        } else {
            Err(Error::Unfit { what: format!("ORCHESTRATOR_REDIS_BIN names {}, which is no file", named.display()) })
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/bin", "/usr/bin", "/usr/sbin", "/opt/homebrew/bin"].map(PathBuf::from);
    let here = std::env::current_dir().unwrap_or_default();
    let cached = here.ancestors().map(|folder| folder.join(".redis"));
    let mut folders = std::env::split_paths(&path).chain(usual).chain(cached);
    folders
        .find_map(|folder| {
            ["valkey-server", "redis-server"].map(|name| folder.join(name)).into_iter().find(|p| p.is_file())
        })
        .ok_or_else(|| Error::Unfit {
            what: "no Redis server found. Orchestrator needs Redis 7.0 or Valkey 7.2 or newer; do one of:\n  \
                   export REDIS_URL=redis://host:6379    use a server that you have\n  \
                   apt-get install redis-server          Debian, Ubuntu\n  \
                   brew install valkey                   macOS\n  \
                   scripts/redis                         fetch a pinned valkey-server into the project's folder"
                .into(),
        })
}
