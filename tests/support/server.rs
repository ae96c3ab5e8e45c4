//! Real servers for tests: one shared by a test process, and private ones that a test may kill.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use redis::aio::MultiplexedConnection;

/// The server program: `ORCHESTRATOR_REDIS_BIN`, else on the path, else what `scripts/redis` fetched.
#[must_use]
pub fn redis_program() -> PathBuf {
    if let Some(named) = std::env::var_os("ORCHESTRATOR_REDIS_BIN") {
        return named.into();
    }
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.redis/valkey-server");
    if fetched.is_file() { fetched } else { "redis-server".into() }
}

/// A real server on a socket of its own, stopped when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    folder: PathBuf,
    extra: Vec<String>,
}

impl Server {
    /// Starts a server with extra arguments, such as `["--maxmemory", "10mb"]`.
    #[must_use]
    pub fn start(extra: &[&str]) -> Self {
        let folder =
            std::env::temp_dir().join(format!("orch-test-{}-{:08x}", std::process::id(), rand::random::<u32>()));
        std::fs::create_dir_all(&folder).expect("a folder for the server");
        let extra = extra.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
        let child = Self::spawn(&folder, &extra);
        let server = Self { child, folder, extra };
        server.await_ready();
        server
    }

    fn spawn(folder: &Path, extra: &[String]) -> Child {
        Command::new(redis_program())
            .args(["--port", "0", "--unixsocket"])
            .arg(folder.join("s"))
            .arg("--dir")
            .arg(folder)
            .args(["--save", "", "--daemonize", "no", "--enable-debug-command", "yes"])
            .args(extra)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a Redis server; `scripts/redis` fetches one")
    }

    fn await_ready(&self) {
        let client = redis::Client::open(self.url()).expect("our own URL");
        for _ in 0..2000 {
            let ready = client.get_connection().and_then(|mut link| redis::cmd("PING").query::<String>(&mut link));
            if ready.is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the server in {} does not answer", self.folder.display());
    }

    /// Where clients reach it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("s")
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A plain connection.
    pub async fn raw(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url()).expect("our own URL");
        let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(30)));
        client.get_multiplexed_async_connection_with_config(&patient).await.expect("a connection to our own server")
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// Starts it again on the same socket and data.
    pub fn restart(&mut self) {
        self.child = Self::spawn(&self.folder, &self.extra);
        self.await_ready();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The server shared by all tests of this process. It outlives them and goes with the process: nextest runs a process
/// a test, `cargo test` one for all.
pub fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| {
        let server = Server::start(&[]);
        reap_with_process(server.pid(), &server.folder);
        server
    })
}

/// A static is never dropped: a shell that waits for the end of this process stops the server and clears its folder.
fn reap_with_process(server: u32, folder: &Path) {
    let watch = Command::new("/bin/sh")
        .args(["-c", r#"read -r _; kill -9 "$1"; rm -rf "$2""#, "sh", &server.to_string()])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell");
    // Its end of the pipe stays open until the process ends.
    std::mem::forget(watch);
}
