//! A gateway on a port of its own, a Redis on a socket of its own, and an HTTP client that hides nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use orchestrator::gateway::{GatewayConfig, RateLimits, Role, Tokens, serve};
use orchestrator::{
    ApprovalId, ApprovalPolicy, ApprovalStatus, Asking, Config, Decision, Entry, Incarnation, LEASE, NewTask, Noted,
    Orchestrator, Terms, Wait, hash_bytes,
};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const SECRET: &str = "a secret of the tests, long enough for HS256";

/// A real server on a socket of its own.
pub(crate) struct Redis {
    child: Child,
    folder: PathBuf,
}

impl Redis {
    pub(crate) fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("orch-http-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let child = spawn(&folder);
        let redis = Self { child, folder };
        redis.await_ready();
        redis
    }

    fn await_ready(&self) {
        let started = Instant::now();
        while std::os::unix::net::UnixStream::connect(self.folder.join("s")).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "Redis does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}/s", self.folder.display())
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let _ = std::fs::remove_file(self.folder.join("s"));
    }

    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.folder);
        self.await_ready();
    }

    /// One command, for bringing the server into a state.
    pub(crate) async fn command(&self, words: &[&str]) {
        let client = redis::Client::open(self.url()).unwrap();
        let mut link = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word);
        }
        command.query_async::<redis::Value>(&mut link).await.unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn spawn(folder: &std::path::Path) -> Child {
    let named = std::env::var_os("ORCHESTRATOR_REDIS_BIN").map(PathBuf::from);
    let on_path = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let fetched = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../.redis");
        std::env::split_paths(&path)
            .chain([fetched])
            .flat_map(|folder| [folder.join("redis-server"), folder.join("valkey-server")])
            .find(|program| program.is_file())
    };
    Command::new(named.or_else(on_path).expect("a Redis server; `scripts/redis` fetches one"))
        .args(["--port", "0", "--save", "", "--daemonize", "no", "--unixsocket"])
        .arg(folder.join("s"))
        .arg("--dir")
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The server of this test process. A shell that waits for the end of the process stops it.
fn shared() -> &'static str {
    static SHARED: OnceLock<String> = OnceLock::new();
    SHARED.get_or_init(|| {
        let redis = Redis::start();
        let watch = Command::new("/bin/sh")
            .args(["-c", r#"read -r _; kill -9 "$1"; rm -rf "$2""#, "sh", &redis.child.id().to_string()])
            .arg(&redis.folder)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        std::mem::forget(watch);
        let url = redis.url();
        std::mem::forget(redis);
        url
    })
}

/// A gateway that serves until it is dropped or stopped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) orch: Orchestrator,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) served: JoinHandle<()>,
}

/// One key a role (`user-key` and so on), and tokens by [`SECRET`].
pub(crate) fn config() -> GatewayConfig {
    let mut config = GatewayConfig::default().tokens(tokens());
    for (name, role) in [("USER", Role::User), ("AGENT", Role::Agent), ("ADMIN", Role::Admin)] {
        config = config.api_key(name, &format!("{role}-key"), role).unwrap();
    }
    config.drain_delay = Duration::ZERO;
    // All tests ask from one address.
    config.rate_limits = RateLimits::none();
    config
}

pub(crate) fn tokens() -> Tokens {
    Tokens::new(SECRET).unwrap()
}

/// A gateway before the shared Redis, in a namespace of its own.
pub(crate) async fn gateway() -> Running {
    gateway_on(shared(), config()).await
}

pub(crate) async fn gateway_with(config: GatewayConfig) -> Running {
    gateway_on(shared(), config).await
}

/// No task needs an approval: those tests are about something else.
pub(crate) async fn gateway_on(url: &str, config: GatewayConfig) -> Running {
    let settings = Config { namespace: namespace(), approvals: ApprovalPolicy::none(), ..Config::new(url) };
    serving(settings, config).await
}

/// A namespace of its own on the shared Redis, without approvals.
pub(crate) fn settings() -> Config {
    Config { namespace: namespace(), approvals: ApprovalPolicy::none(), ..Config::new(shared()) }
}

/// A gateway whose tasks need the approvals of the default policy.
pub(crate) async fn strict() -> Running {
    gated(ApprovalPolicy::default(), config()).await
}

pub(crate) async fn gated(approvals: ApprovalPolicy, config: GatewayConfig) -> Running {
    serving(Config { namespace: namespace(), approvals, ..Config::new(shared()) }, config).await
}

fn namespace() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("h{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A gateway before a namespace with settings of its own.
pub(crate) async fn gateway_of(settings: Config) -> Running {
    serving(settings, config()).await
}

pub(crate) async fn serving(settings: Config, config: GatewayConfig) -> Running {
    let orch = Orchestrator::with_config(settings).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        let _ = stopped.await;
    };
    let served = tokio::spawn(serve(orch.clone(), config, listener, shutdown));
    Running { address, orch, stop: Some(stop), served }
}

impl Running {
    pub(crate) fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes as they are and reads to the end of the connection.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect().await;
        // The other side may close before everything is sent.
        let _ = stream.write_all(bytes).await;
        Answer::read(stream).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        self.raw(&[head.as_bytes(), body].concat()).await
    }

    pub(crate) async fn get(&self, path: &str, key: &str) -> Answer {
        self.send("GET", path, &[("X-API-Key", key)], b"").await
    }

    /// Posts JSON with this key; nothing at all when `body` is empty.
    pub(crate) async fn post(&self, path: &str, key: &str, body: &str) -> Answer {
        let headers = [("X-API-Key", key), ("Content-Type", "application/json")];
        self.send("POST", path, &headers[..if body.is_empty() { 1 } else { 2 }], body.as_bytes()).await
    }

    /// Creates a task that needs an approval, with the agent's key, and returns the ids of both.
    pub(crate) async fn gated_task(&self, payload: &Value) -> (String, String) {
        let created = self.create(&serde_json::json!({"type": "deploy", "payload": payload}).to_string()).await;
        let text = |name: &str| created.body[name].as_str().unwrap_or_else(|| panic!("{created:?}")).to_owned();
        (text("task_id"), text("approval_id"))
    }

    /// A handler's question, as a worker asks it, about a task of `requested_by`.
    pub(crate) async fn question(
        &self,
        requested_by: &str,
        question: &str,
        form: &[&str],
        shown: Value,
        terms: Terms,
    ) -> ApprovalId {
        let queues = vec!["askers".to_owned()];
        let life = Incarnation::join(&self.orch, &queues, &[], 10 * LEASE).await.unwrap();
        let task = NewTask::<()>::new("faq", &()).queue("askers").requested_by(requested_by);
        self.orch.enqueue(task).await.unwrap();
        let claim = life.step(&[], 1, &queues, None).await.unwrap().claims.pop().unwrap();
        let step = Entry { order: 1, side_by_side: false, code: 0, digest: [0; 8], noted: Noted::Step(vec![0x2a]) };
        life.note(claim.ticket(), "plan", &step, &[]).await.unwrap();
        let form = form.iter().map(|field| (*field).to_owned()).collect();
        let asking = Asking::about(&claim.assignment(), shown, question, form, terms).unwrap();
        let (status, hash) = (ApprovalStatus::Pending, hash_bytes(asking.hash()));
        let noted = Noted::Asked { number: 0, status, hash, decision: Decision::default() };
        let entry = Entry { order: 2, side_by_side: false, code: 0, digest: [0; 8], noted };
        let id = ApprovalId { task: claim.ticket().id, number: 1 };
        life.park(&claim, &Wait::Person { name: "approval#1".into(), entry, asking }, &[]).await.unwrap();
        id
    }

    /// Creates a task with the agent's key.
    pub(crate) async fn create(&self, body: &str) -> Answer {
        let headers = [("X-API-Key", "agent-key"), ("Content-Type", "application/json")];
        self.send("POST", "/tasks", &headers, body.as_bytes()).await
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Value,
    /// The body as it came.
    pub(crate) text: String,
}

impl Answer {
    pub(crate) async fn read(mut stream: impl AsyncRead + Unpin) -> Self {
        let mut bytes = Vec::new();
        tokio::time::timeout(Duration::from_secs(40), stream.read_to_end(&mut bytes))
            .await
            .expect("an answer")
            .unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header =
            |line: &str| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
        Self {
            status,
            headers: lines.filter_map(header).collect(),
            body: serde_json::from_str(body).unwrap_or(Value::Null),
            text: body.to_owned(),
        }
    }

    pub(crate) fn detail(&self) -> &str {
        self.body["detail"].as_str().unwrap_or_default()
    }

    /// Checks that this is an error in the usual shape, and that its text says `part`.
    #[track_caller]
    pub(crate) fn refuses(&self, status: u16, part: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.detail().contains(part), "{part:?} is not in {self:?}");
        assert_eq!(self.headers["content-type"], "application/json");
        assert_eq!((&self.body["status"], &self.body["type"]), (&status.into(), &"about:blank".into()));
        assert!(self.body["title"].is_string() && self.body["instance"].is_string(), "{self:?}");
        for internal in ["panicked", "/src/", ".rs", "os error", "u8", "i64", "struct"] {
            assert!(!self.detail().contains(internal), "internal: {self:?}");
        }
    }
}
