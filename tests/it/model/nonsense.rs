//! What somebody writes into Redis who should not.

use std::time::Duration;

use orchestrator::TaskId;
use rand::Rng;
use rand::seq::IndexedRandom;

use super::bytes::{id_bytes, make_id, read_id, split_record};
use super::pokes::{Field, LIVES, QUEUES, TYPES};
use super::reference::BUCKET;
use super::voices::real_ms;

/// Ordered sets, and scores that something may trip over.
const SCORED: [(&str, &str); 9] = [
    ("B", "0"),
    ("B", "inf"),
    ("T", "0"),
    ("z", "inf"),
    ("z", "-inf"),
    ("P", "-inf"),
    ("y", "-inf"),
    ("y", "0"),
    ("A", "0"),
];

impl Field {
    fn noise(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.rng.random()).collect()
    }

    pub(crate) async fn poke(&mut self) {
        let (now, soon) = (self.now.to_string().into_bytes(), (self.now - 1).to_string().into_bytes());
        let stranger = make_id(self.now, self.rng.random());
        let length = [0, 1, 5, 13, 15, 18, 40][self.rng.random_range(0..7)];
        let junk = self.noise(length);
        let queue = QUEUES[self.rng.random_range(0..2)];
        let queue = self.key(&format!("r:{queue}"));
        let life = self.hands[self.rng.random_range(0..LIVES)].life.name().to_owned();
        match self.rng.random_range(0..29) {
            0 => self.put("ZADD", &queue, &[b"0", &junk]).await,
            1 => self.put("ZADD", &queue, &[b"0", &id_bytes(stranger)]).await,
            2 => {
                let timer = [b"d", junk.as_slice()].concat();
                self.put("ZADD", &self.key("z"), &[&now, &timer]).await;
            }
            3 => self.put("ZADD", &self.key("z"), &[&soon, &junk]).await,
            4 => {
                // A timer for a task that is nowhere.
                let timer = [b"d", id_bytes(stranger).as_slice()].concat();
                self.put("ZADD", &self.key("z"), &[&soon, &timer]).await;
            }
            5 | 6 | 22..26 => self.poke_record().await,
            26 => {
                // The end of the time of a task that is nowhere, or has none.
                let id = self.anybody().filter(|_| self.rng.random_bool(0.5)).unwrap_or(stranger);
                let timer = [b"x", id_bytes(id).as_slice()].concat();
                let there: Option<f64> = self.ask_score(&timer).await;
                if there.is_none() {
                    self.put("ZADD", &self.key("y"), &[&soon, &timer]).await;
                }
            }
            27.. => self.poke_keys(stranger, &junk).await,
            7 => {
                // A sound header with a body that is cut short, in its place in the queue.
                let record = [&[1][..], &[0; 14], &[1, b'a', 0x81, 0xa1]].concat();
                self.put("HSET", &self.slice_key("t", stranger), &[&id_bytes(stranger), &record]).await;
                self.put("ZADD", &self.key("r:a"), &[b"0", &id_bytes(stranger)]).await;
                self.hurt.insert(stranger);
            }
            8 => {
                let shelf = TYPES[self.rng.random_range(0..2)];
                self.put("ZADD", &self.key(&format!("u:{shelf}")), &[b"0", &junk]).await;
                self.put("SADD", &self.key("U"), &[shelf.as_bytes()]).await;
            }
            9 => self.put("SADD", &self.key(&format!("w:{life}")), &[&junk]).await,
            10 => {
                let bucket = self.key(&format!("D{}", self.now / BUCKET));
                self.put("HSET", &bucket, &[&id_bytes(stranger), &junk]).await;
                self.hurt.insert(stranger);
            }
            11 => {
                self.put("ZADD", &self.key("X"), &[&now, &junk]).await;
                self.put("ZADD", &self.key("X"), &[&now, &id_bytes(stranger)]).await;
            }
            12 => self.put("ZADD", &self.key("W"), &[b"0", &junk]).await,
            13 => self.put("HSET", &self.key("g"), &[&[b"w", life.as_bytes()].concat(), &junk]).await,
            14 => {
                let (key, score) = SCORED[self.rng.random_range(0..SCORED.len())];
                self.put("ZADD", &self.key(key), &[score.as_bytes(), &junk]).await;
            }
            15 => {
                let name = if self.rng.random_bool(0.5) { "q" } else { "U" };
                self.put("SADD", &self.key(name), &[&junk]).await;
            }
            _ => self.poke_key(&life).await,
        }
    }

    async fn ask_score(&mut self, timer: &[u8]) -> Option<f64> {
        let key = self.key("y");
        let right: String = self.ask("TYPE", &[&key]).await;
        if right == "zset" { self.ask("ZSCORE", &[&key, timer]).await } else { None }
    }

    /// Somebody who is nowhere holds a key, or one who does not know of it.
    async fn poke_keys(&mut self, stranger: TaskId, junk: &[u8]) {
        let key = self.key("l");
        let fields = self.members(&key).await;
        let field = fields.choose(&mut self.rng).cloned().unwrap_or_else(|| junk.to_vec());
        let holder = match self.rng.random_range(0..3) {
            0 => id_bytes(stranger),
            1 => id_bytes(self.anybody().unwrap_or(stranger)),
            _ => junk.to_vec(),
        };
        if let Some(id) = read_id(&field).filter(|_| field.len() == 14) {
            // What it is to free is not known any more.
            self.healthy.remove(&id);
            self.hurt.insert(id);
        }
        self.put("HSET", &key, &[&field, &holder]).await;
    }

    async fn put(&mut self, command: &str, key: &[u8], rest: &[&[u8]]) {
        let name = &key[self.base.len()..];
        let right: String = self.ask("TYPE", &[key]).await;
        let kind = match command {
            "ZADD" => "zset",
            "HSET" => "hash",
            _ => "set",
        };
        if right != "none" && right != kind {
            // Poked before.
            return;
        }
        let told: Vec<String> = rest.iter().map(|part| part.escape_ascii().to_string()).collect();
        self.log.say(format!("POKE {command} {} {}", name.escape_ascii(), told.join(" ")));
        let arguments: Vec<&[u8]> = [key].into_iter().chain(rest.iter().copied()).collect();
        let _: i64 = self.ask(command, &arguments).await;
    }

    /// Overwrites the record of a live task.
    async fn poke_record(&mut self) {
        let held: Vec<TaskId> =
            self.hands.iter().flat_map(|hand| &hand.claims).map(|claim| claim.ticket().id).collect();
        let held = held.choose(&mut self.rng).copied().filter(|_| self.rng.random_bool(0.5));
        let Some(id) = held.or_else(|| self.anybody()) else { return };
        let key = self.slice_key("t", id);
        let right: String = self.ask("TYPE", &[&key]).await;
        if right != "hash" {
            return;
        }
        let record: Option<Vec<u8>> = self.ask("HGET", &[&key, &id_bytes(id)]).await;
        let Some(record) = record else { return };
        let header = split_record(&record).map_or(0, |(header, _)| header.len());
        let record = match self.rng.random_range(0..8) {
            0 => Vec::new(),
            1 => self.noise(3),
            2 => [&[1][..], &self.noise(8)].concat(),
            3 => [&[1][..], &self.noise(15)].concat(),
            4 => [&[2][..], &record[1.min(record.len())..]].concat(),
            5 => record[..header].to_vec(),
            6 => record[..record.len().saturating_sub(1)].to_vec(),
            _ => self.noise(200),
        };
        self.healthy.remove(&id);
        self.hurt.insert(id);
        self.put("HSET", &key, &[&id_bytes(id), &record]).await;
    }

    /// Puts a key of another type in the place of one.
    async fn poke_key(&mut self, life: &str) {
        let waited: Vec<u8> = id_bytes(self.anybody().unwrap_or_else(|| make_id(self.now, 0)));
        let id = read_id(&waited).expect("an id");
        let (queue, shelf) = (QUEUES[self.rng.random_range(0..2)], TYPES[self.rng.random_range(0..2)]);
        let names = ["e", "g", "W", "q", "z", "B", "X", "T", "U", "s", "h", "n", "Q", "P", "y", "C", "A", "H", "audit"];
        let key = match self.rng.random_range(0..39) {
            37..39 => self.key("l"),
            31..33 => self.key("x"),
            33 => self.key("O"),
            34..36 => self.key(&format!("v{}", real_ms() / 3_600_000)),
            36 => self.key("quiet"),
            n @ 24..30 => self.key(names[n - 11]),
            n @ 0..13 => self.key(names[n]),
            13 => self.key(&format!("r:{queue}")),
            14 => self.key(&format!("k:{queue}")),
            15 => self.key(&format!("u:{shelf}")),
            16 => self.key(&format!("w:{life}")),
            17 => self.key(&format!("i:{life}")),
            18 => self.slice_key("t", make_id(self.now, 0)),
            19 => self.slice_key("t", id),
            20 => self.slice_key("c", id),
            21 => self.key(&format!("D{}", self.now / BUCKET)),
            30 => [self.key("j:"), waited.clone()].concat(),
            22 => self.key(&format!("D{}", (self.now + 29 * 24 * 3_600_000) / BUCKET)),
            _ => return self.poke_inbox(id).await,
        };
        self.overwrite(&key).await;
    }

    async fn overwrite(&mut self, key: &[u8]) {
        let name = key[self.base.len()..].to_vec();
        self.lose(key, &name).await;
        self.log.say(format!("POKE {} is of another type", name.escape_ascii()));
        let _: i64 = self.ask("DEL", &[key]).await;
        if self.rng.random_bool(0.5) || name == b"Q" {
            let _: String = self.ask("SET", &[key, b"poked"]).await;
        } else {
            let _: i64 = self.ask("LPUSH", &[key, b"poked"]).await;
        }
        self.deaf |= name == b"e";
    }

    /// What lay in a key that is overwritten is hurt.
    async fn lose(&mut self, key: &[u8], name: &[u8]) {
        let mut lost = match name[0] {
            b'r' | b'w' | b'u' | b't' | b'D' | b'X' | b'z' | b'P' => self.members(key).await,
            _ => Vec::new(),
        };
        if matches!(name, b"z" | b"P") {
            lost = lost.iter().filter_map(|timer| Some(timer.get(1..)?.to_vec())).collect();
        }
        // Leases and generations both name the workers: without either nobody finds what they hold.
        let twin = match name {
            b"W" => Some(("g", 1)),
            b"g" => Some(("W", 0)),
            _ => None,
        };
        if let Some((twin, skip)) = twin {
            let named = self.members(&self.key(twin)).await;
            for held in self.keys("w:*").await {
                let worker = &held[self.base.len() + 2..];
                if !named.iter().any(|name| name.get(skip..) == Some(worker)) {
                    lost.extend(self.members(&held).await);
                }
            }
        }
        if name == b"U" {
            for shelf in self.keys("u:*").await {
                lost.extend(self.members(&shelf).await);
            }
        }
        for id in lost.iter().filter_map(|member| read_id(member.get(..14)?)) {
            self.healthy.remove(&id);
            self.hurt.insert(id);
        }
    }

    /// Somebody waits for a task, and where he is to be told is no inbox.
    async fn poke_inbox(&mut self, id: TaskId) {
        let handle = self.orch.handle::<u64>(id);
        let wait = tokio::spawn(async move { drop(handle.result().timeout("5s").await) });
        let waiters = self.key("n");
        let inbox = loop {
            let right: String = self.ask("TYPE", &[&waiters]).await;
            let inbox: Option<String> =
                if right == "hash" { self.ask("HGET", &[&waiters, &id_bytes(id)]).await } else { None };
            if inbox.is_some() || wait.is_finished() {
                break inbox;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        wait.abort();
        if let Some(inbox) = inbox {
            let key = if self.rng.random_bool(0.5) { waiters } else { self.key(&format!("i:{inbox}")) };
            self.overwrite(&key).await;
        }
    }
}
