//! A line to Redis that a test may cut, hold back or darken, and that counts what passes.
//!
//! Each connection carries one request at a time: it is read whole, named (by script, once the script was loaded
//! through here), sent on, and its reply read whole before anything of it goes back. So a rule can let Redis do the
//! work and keep the answer.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use redis::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::Server;
use crate::resp::Side;

/// One request, named, and what Redis said to it.
#[derive(Debug)]
pub struct Exchange {
    /// The script's name, or the command in capitals.
    pub name: String,
    /// The request's arguments; of a script those behind its key.
    pub args: Vec<Vec<u8>>,
    /// The reply; nil for a request that was held back.
    pub reply: Value,
}

impl Exchange {
    /// The `i`-th item of a reply that is a list, as bytes.
    #[must_use]
    pub fn item(&self, i: usize) -> &[u8] {
        match &self.reply {
            Value::Array(items) => match items.get(i) {
                Some(Value::BulkString(bytes)) => bytes,
                _ => &[],
            },
            _ => &[],
        }
    }
}

type When = Box<dyn Fn(&Exchange) -> bool + Send>;

#[derive(Default)]
struct State {
    scripts: HashMap<String, String>,
    /// What was answered, by name.
    calls: Vec<String>,
    /// The first of them lies in wait.
    cuts: VecDeque<(String, When)>,
    hold: Option<String>,
    held: Vec<Vec<u8>>,
    /// One request in so many is lost, and one reply in so many; 0 = none.
    lossy: u32,
}

struct Shared {
    target: PathBuf,
    /// Name of each script, and the end of its text.
    endings: Vec<(String, String)>,
    state: Mutex<State>,
    dark: watch::Sender<bool>,
    struck: watch::Sender<usize>,
}

/// A line in front of a server; gone when dropped.
pub struct Proxy {
    folder: PathBuf,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

impl Proxy {
    /// A line to `server`.
    #[must_use]
    pub fn before(server: &Server) -> Self {
        let folder =
            std::env::temp_dir().join(format!("orch-line-{}-{:08x}", std::process::id(), rand::random::<u32>()));
        std::fs::create_dir_all(&folder).expect("a folder for the line");
        let listener = UnixListener::bind(folder.join("s")).expect("a socket for the line");
        let shared = Arc::new(Shared {
            target: server.socket(),
            endings: endings(),
            state: Mutex::default(),
            dark: watch::Sender::new(false),
            struck: watch::Sender::new(0),
        });
        let line = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            let mut served = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let line = Arc::clone(&line);
                served.spawn(async move { line.serve(client).await });
            }
        });
        Self { folder, shared, accepting: accepting.abort_handle() }
    }

    /// Where clients reach it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.folder.join("s").display())
    }

    /// Has the reply to the next `name` for which `when` holds kept back and its connection dropped; several in turn.
    pub fn cut(&self, name: &str, when: impl Fn(&Exchange) -> bool + Send + 'static) {
        self.shared.state().cuts.push_back((name.into(), Box::new(when)));
    }

    /// Has the next `name` kept back before Redis sees it and its connection dropped.
    pub fn hold(&self, name: &str) {
        self.shared.state().hold = Some(name.into());
    }

    /// From now on drops a connection before one request in `n`, and behind one in `n`; never with `n` = 0.
    pub fn lose_one_in(&self, n: u32) {
        self.shared.state().lossy = n;
    }

    /// Waits until `n` requests in all were cut or held.
    pub async fn struck(&self, n: usize) {
        let mut struck = self.shared.struck.subscribe();
        crate::within("the line to strike", struck.wait_for(|count| *count >= n)).await.expect("the line is there");
    }

    /// Sends what was held back to Redis now, and returns its reply.
    pub async fn deliver(&self) -> Value {
        let request = self.shared.state().held.remove(0);
        let mut server = Side::new(UnixStream::connect(&self.shared.target).await.expect("the server"));
        server.stream.write_all(&request).await.expect("the server reads");
        redis::parse_redis_value(&server.frame().await.expect("a reply")).unwrap_or_else(|error| panic!("{error}"))
    }

    /// From now on nothing passes in either direction, as on a line that loses every packet. What was sent meanwhile
    /// arrives when it is lit again, as TCP would send it once more.
    pub fn darken(&self, dark: bool) {
        self.shared.dark.send_replace(dark);
    }

    /// The names of all that was answered, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.shared.state().calls.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    async fn lit(&self) {
        let _ = self.dark.subscribe().wait_for(|dark| !dark).await;
    }

    /// Carries requests and replies until either end or a rule drops the connection.
    async fn serve(&self, client: UnixStream) -> Option<()> {
        let mut client = Side::new(client);
        self.lit().await;
        let mut server = Side::new(UnixStream::connect(&self.target).await.ok()?);
        loop {
            let request = client.frame().await?;
            self.lit().await;
            let mut exchange = self.name(&request);
            if self.loses() || self.holds(&exchange, &request) {
                return None;
            }
            server.stream.write_all(&request).await.ok()?;
            let reply = loop {
                tokio::select! {
                    reply = server.frame() => break reply?,
                    more = client.fill() => more?,
                }
            };
            exchange.reply = redis::parse_redis_value(&reply).unwrap_or(Value::Nil);
            self.learn(&exchange);
            if self.loses() || self.cuts(&exchange) {
                return None;
            }
            self.lit().await;
            client.stream.write_all(&reply).await.ok()?;
            self.state().calls.push(exchange.name);
        }
    }

    fn name(&self, request: &[u8]) -> Exchange {
        let parts: Vec<Vec<u8>> =
            redis::parse_redis_value(request).ok().and_then(|v| redis::from_redis_value(v).ok()).unwrap_or_default();
        let text = |i: usize| String::from_utf8_lossy(parts.get(i).map_or(&[], Vec::as_slice)).into_owned();
        let command = text(0).to_uppercase();
        let (name, skip) = match command.as_str() {
            "EVALSHA" => (self.state().scripts.get(&text(1)).cloned().unwrap_or(command), 4),
            _ => (command, 1),
        };
        Exchange { name, args: parts.into_iter().skip(skip).collect(), reply: Value::Nil }
    }

    /// The reply to a script's loading is its hash.
    fn learn(&self, exchange: &Exchange) {
        if let ("SCRIPT", [_, text, ..], Value::BulkString(hash)) = (&*exchange.name, &*exchange.args, &exchange.reply)
        {
            let text = String::from_utf8_lossy(text);
            if let Some((name, _)) = self.endings.iter().find(|(_, ending)| text.ends_with(ending)) {
                self.state().scripts.insert(String::from_utf8_lossy(hash).into_owned(), name.clone());
            }
        }
    }

    fn loses(&self) -> bool {
        let n = self.state().lossy;
        n > 0 && rand::random_ratio(1, n)
    }

    fn holds(&self, exchange: &Exchange, request: &[u8]) -> bool {
        let mut state = self.state();
        let strikes = state.hold.take_if(|name| *name == exchange.name).is_some();
        if strikes {
            state.held.push(request.to_vec());
            self.struck.send_modify(|count| *count += 1);
        }
        strikes
    }

    fn cuts(&self, exchange: &Exchange) -> bool {
        let mut state = self.state();
        let strikes = state.cuts.front().is_some_and(|(name, when)| *name == exchange.name && when(exchange));
        if strikes {
            state.cuts.pop_front();
            self.struck.send_modify(|count| *count += 1);
        }
        strikes
    }
}

macro_rules! sources {
    ($($name:ident)+) => {
        /// The scripts' sources by name, as the library was built with them.
        const SOURCES: &[(&str, &str)] = &[$((
            stringify!($name),
            include_str!(concat!("../../orchestrator/src/store/lua/", stringify!($name), ".lua")),
        )),+];
    };
}

sources!(
    admit agree approvals at_risk await_end beat cancel chunk consume decide disband enqueue fire forget gauge get hold hush join
    journal leave limit list mend output park pause publish reconcile release renew reorder replay reprioritise rescue
    retry revive ring schedule schedules shelve stats step tick unshelve
);

/// The scripts by name, and how each one's text ends, as far as no bound is filled in there.
fn endings() -> Vec<(String, String)> {
    let ending = |source: &str| {
        let kept = |line: &&str| !line.trim_start().starts_with("--") && !line.trim().is_empty();
        // Where shared functions are put in, only what is behind them is known.
        let body = source
            .rsplit_once("--{{")
            .map_or(source, |(_, rest)| rest)
            .lines()
            .skip(1)
            .filter(kept)
            .collect::<Vec<_>>()
            .join("\n");
        body.rsplit("}}").next().unwrap_or_default().to_owned()
    };
    SOURCES.iter().map(|(name, source)| ((*name).to_owned(), ending(source))).collect()
}
