//! Five processes fire the same hundred schedules for weeks of virtual time, with and without changes of clocks, while
//! processes are killed, Redis is killed, and its clock steps back: each tick is fired exactly once.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Instant;

use chrono::TimeDelta;
use chrono_tz::Tz;
use orchestrator::event::unpack;
use orchestrator::{CatchUp, Overlap};
use orchestrator_tests::{Fixture, Process, Server, namespace, until};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const PROCESSES: usize = 5;
const ZONES: [&str; 6] =
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/St_Johns"];

/// Cron expression or span of the n-th schedule, and its zone.
fn kind(n: usize) -> (String, Option<&'static str>) {
    let zone = Some(ZONES[n % ZONES.len()]);
    match n {
        0 => ("45m".into(), None),
        1 => ("7m".into(), None),
        2 => ("1d".into(), None),
        3..8 => ("*/30 * * * *".into(), zone),
        8..20 => (format!("{} * * * *", n * 2), zone),
        20..32 => (format!("{} */4 * * *", n), zone),
        32..44 => (format!("{} 2 * * *", n), zone),
        44..56 => (format!("{} 1 * * *", n), zone),
        56..68 => (format!("{} 3 * * sun", n - 40), zone),
        68..76 => (format!("*/20 {} * * *", n % 4), zone),
        76..84 => (format!("15 0 {} * *", 24 + n % 8), zone),
        _ => (format!("{} {} * * mon-fri", n % 60, n % 24), zone),
    }
}

/// The ticks of a schedule behind `from` up to `to`, in seconds, by another implementation.
fn expected(n: usize, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<i64> {
    let (text, zone) = kind(n);
    let Some(zone) = zone else {
        let every = [45 * 60, 7 * 60, 24 * 3600][n];
        return (from.timestamp() / every + 1..=to.timestamp() / every).map(|i| i * every).collect();
    };
    let (zone, cron) = (zone.parse::<Tz>().unwrap(), croner::Cron::from_str(&text).unwrap());
    let ticks = cron.iter_after(from.with_timezone(&zone));
    ticks.map(|tick| tick.timestamp()).take_while(|tick| *tick <= to.timestamp()).collect()
}

struct Weeks {
    server: Server,
    fixture: Fixture,
    orch: Orchestrator,
    random: StdRng,
}

impl Weeks {
    async fn begin(from: DateTime<Utc>) -> Self {
        let server = Server::start(&["--appendonly", "yes"]);
        let namespace = namespace();
        let mut raw = server.raw().await;
        let _: () = raw.hset_multiple(now_key(&namespace), &[("s", from.timestamp()), ("us", 0)]).await.unwrap();
        let config = Config { url: server.url(), namespace: namespace.clone(), test_clock: true, ..config() };
        let fixture = Fixture {
            program: env!("CARGO_BIN_EXE_fixture"),
            redis: server.url(),
            namespace,
            effects: server.url(),
            tag: "tick".into(),
            slots: 1,
            lease: Duration::from_secs(6),
            grace: Duration::from_secs(1),
            hold: 0,
            test_clock: true,
            group: None,
        };
        let orch = Orchestrator::with_config(config).await.unwrap();
        for n in 0..100 {
            let (text, zone) = kind(n);
            let (name, task) = (format!("s{n}"), NewTask::<()>::new("report", &n).queue(&format!("q{n}")));
            let schedule = match zone {
                Some(zone) => Schedule::cron(&name, &text, task).tz(zone),
                None => Schedule::every(&name, text.as_str(), task),
            };
            put(&orch, schedule.overlap(Overlap::Allow).catch_up(CatchUp::All)).await;
        }
        Self { server, fixture, orch, random: StdRng::seed_from_u64(11) }
    }

    async fn set(&self, now: DateTime<Utc>) {
        let key = now_key(&self.fixture.namespace);
        let _: () = self.server.raw().await.hset(key, "s", now.timestamp()).await.unwrap();
    }

    /// Waits until nothing is due.
    async fn all_fired(&self, now: DateTime<Utc>) {
        let mut raw = self.server.raw().await;
        let key = key(&self.orch, "Z");
        let started = Instant::now();
        loop {
            let due: u64 = raw.zcount(&key, "-inf", now.timestamp_millis()).await.unwrap();
            if due == 0 {
                return;
            }
            if started.elapsed() > orchestrator_tests::PATIENCE {
                let names: Vec<String> = raw.zrangebyscore(&key, "-inf", now.timestamp_millis()).await.unwrap();
                panic!("at {now} these stay due: {names:?}; one is {:#?}", status(&self.orch, &names[0]).await);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The ticks of each queue's tasks, and how often a creation was told.
    async fn fired(&self) -> (BTreeMap<usize, Vec<i64>>, usize) {
        let mut raw = self.server.raw().await;
        let mut ticks = BTreeMap::new();
        for n in 0..100 {
            let ids: Vec<Vec<u8>> = raw.zrange(key(&self.orch, &format!("r:q{n}")), 0, -1).await.unwrap();
            let second = |id: &Vec<u8>| id[..6].iter().fold(0, |ms, byte| ms << 8 | i64::from(*byte)) / 1000;
            let mut of: Vec<i64> = ids.iter().map(second).collect();
            of.sort_unstable();
            ticks.insert(n, of);
        }
        let entries: Vec<Entry> =
            redis::cmd("XRANGE").arg(key(&self.orch, "e")).arg("-").arg("+").query_async(&mut raw).await.unwrap();
        let told = entries.iter().flat_map(|(_, fields)| unpack(fields));
        (ticks, told.filter(|event| event.event_type == "task.created").count())
    }
}

/// An entry of the stream: its place, and its fields.
type Entry = (String, Vec<(Vec<u8>, Vec<u8>)>);

/// Steps through the time, while processes and Redis come and go.
async fn through(from: &str, days: i64) {
    let from: DateTime<Utc> = from.parse().unwrap();
    let to = from + TimeDelta::days(days);
    let mut weeks = Weeks::begin(from).await;
    let mut processes: Vec<Process> = (0..PROCESSES).map(|_| weeks.fixture.start_ticking()).collect();
    let (mut now, mut steps) = (from, 0);
    while now < to {
        now = (now + TimeDelta::seconds(weeks.random.random_range(60..9000))).min(to);
        steps += 1;
        weeks.set(now).await;
        if steps % 40 == 20 {
            // In the midst of it: one dies, one comes.
            let dies = weeks.random.random_range(0..PROCESSES);
            processes[dies].signal("KILL");
            processes[dies].ended().await;
            processes[dies] = weeks.fixture.start_ticking();
        }
        if steps == 90 {
            weeks.server.kill();
            weeks.server.restart();
            // What came last may be gone where the disk is slow, and the time with it.
            weeks.set(now).await;
        }
        if steps % 50 == 30 {
            // The server's clock steps back, and everybody looks.
            weeks.set(now - TimeDelta::hours(3)).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            weeks.set(now).await;
        }
        weeks.all_fired(now).await;
    }
    drop(processes);
    let (fired, told) = weeks.fired().await;
    let mut all = 0;
    for (n, fired) in fired {
        let expected = expected(n, from, to);
        assert_eq!(fired, expected, "{:?}", kind(n));
        let there = status(&weeks.orch, &format!("s{n}")).await;
        assert_eq!((there.fired, there.skipped, there.missed), (expected.len() as u64, 0, 0), "{:?}", kind(n));
        all += expected.len();
    }
    assert_eq!(told, all, "each task was made once");
}

#[tokio::test]
async fn a_plain_week() {
    through("2026-07-06T00:00:00Z", 7).await;
}

#[tokio::test]
async fn the_week_when_clocks_go_forward() {
    through("2026-03-25T00:00:00Z", 7).await;
}

#[tokio::test]
async fn the_week_when_clocks_go_back() {
    // In Europe on 25 October, in America on 1 November.
    through("2026-10-24T12:00:00Z", 9).await;
}

/// A process dies between the computing of a tick and its firing; what it had sent arrives when another one has fired it.
#[tokio::test]
async fn a_process_that_dies_with_a_firing_under_way() {
    let from: DateTime<Utc> = "2026-07-06T00:30:00Z".parse().unwrap();
    let weeks = Weeks::begin(from).await;
    let line = orchestrator_tests::Proxy::before(&weeks.server);
    let doomed = Fixture { redis: line.url(), ..weeks.fixture.clone() };
    line.hold("fire");
    let mut process = doomed.start_ticking();
    let now = from + TimeDelta::hours(1);
    weeks.set(now).await;
    line.struck(1).await;
    process.signal("KILL");
    process.ended().await;
    let _second = weeks.fixture.start_ticking();
    until("the other one fires", async || {
        weeks.all_fired(now).await;
        Some(())
    })
    .await;
    let before = weeks.fired().await;
    let late = line.deliver().await;
    assert!(format!("{late:?}").contains("other"), "{late:?}");
    assert_eq!(weeks.fired().await, before);
    for (n, fired) in &before.0 {
        assert_eq!(*fired, expected(*n, from, now), "{:?}", kind(*n));
    }
}
