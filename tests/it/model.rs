//! Random steps over the real scripts on a real Redis, held against a model in plain maps.
//!
//! `MODEL_SEED` runs one seed again; `MODEL_SEEDS` and `MODEL_STEPS` say how many seeds and how many steps each.

mod alone;
mod awaited;
pub(crate) mod bytes;
mod clock;
mod corners;
mod dead;
mod expiring;
mod fired;
mod hands;
mod misbehave;
mod moves;
mod nonsense;
mod order;
mod outputs;
mod outside;
mod parked;
mod people;
mod pokes;
mod random;
mod rare;
mod readers;
mod reference;
mod schedulers;
mod state;
mod ticks;
mod voices;
mod waits;
mod world;

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use futures::FutureExt;
use orchestrator::{Status, TRANSITIONS};
use orchestrator_tests::Server;

use self::pokes::Field;
use self::rare::RARE;
use self::world::{Log, World};

/// Steps that a run takes unless a variable narrows it.
const STEPS_MIN: u64 = 100_000;
/// Operations between two looks at everything.
const CHECK_EVERY: usize = 20;

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number")),
        Err(_) => default,
    }
}

/// The text of a panic.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("something")
}

/// How often each row of the table was walked, and how often the rare things came up.
type Walked = ([usize; TRANSITIONS.len()], BTreeMap<&'static str, usize>);

async fn life_of_a_namespace(server: &Server, seed: u64, steps: u64, log: &Log) -> Walked {
    let mut world = World::new(server, seed, log.clone()).await;
    for step in 1..=steps {
        log.count();
        world.act().await;
        if step % CHECK_EVERY as u64 == 0 {
            world.check().await;
        }
    }
    world.check().await;
    world.drain().await;
    world.clear().await;
    (world.model.walked, world.model.met)
}

/// Runs seeds on a server of their own, or tells the story of a fault.
fn lane<T>(seeds: &[u64], life: &impl AsyncFn(&Server, u64, &Log) -> T) -> Result<Vec<T>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = Server::start(&[]);
    let live = |seed: &u64| {
        let log = Log::default();
        let life = AssertUnwindSafe(life(&server, *seed, &log)).catch_unwind();
        runtime.block_on(life).map_err(|panic| format!("MODEL_SEED={seed}, {}{}", log.tell(), said(&*panic)))
    };
    seeds.iter().map(live).collect()
}

/// The seeds to be run.
fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("MODEL_SEED") {
        Ok(_) => vec![setting("MODEL_SEED", 0)],
        Err(_) => (1..=setting("MODEL_SEEDS", count)).collect(),
    }
}

#[test]
fn random_steps_do_what_the_model_says() {
    let (steps, seeds) = (setting("MODEL_STEPS", 2_000), seeds(50));
    let life = async |server: &Server, seed: u64, log: &Log| life_of_a_namespace(server, seed, steps, log).await;
    let started = Instant::now();
    let (left, right) = seeds.split_at(seeds.len() / 2);
    let lives: Result<Vec<_>, String> = std::thread::scope(|scope| {
        let lanes = [left, right].map(|seeds| scope.spawn(move || lane(seeds, &life)));
        lanes.map(|lane| lane.join().expect("a lane")).into_iter().collect()
    });
    let lives = lives.unwrap_or_else(|fault| panic!("{fault}")).concat();
    let (done, seconds) = (lives.len() as u64 * steps, started.elapsed().as_secs_f64());
    eprintln!("{done} steps in {seconds:.1} s: {:.0} a second", done as f64 / seconds);
    let narrowed = ["MODEL_SEED", "MODEL_SEEDS", "MODEL_STEPS"].iter().any(|name| std::env::var_os(name).is_some());
    assert!(done >= STEPS_MIN || narrowed, "{done} steps prove too little");
    for (row, (from, cause, to)) in TRANSITIONS.iter().enumerate() {
        let walked: usize = lives.iter().map(|(walked, _)| walked[row]).sum();
        eprintln!("{walked:8} × {} → {cause:?} → {to}", from.map_or("nothing", Status::as_str));
        assert!(walked > 0 || done < 50_000, "a way that was never walked");
    }
    for what in RARE {
        let met: usize = lives.iter().map(|(_, met)| met[what]).sum();
        eprintln!("{met:8} × {what}");
        assert!(met > 0 || done < 50_000, "something that never came up");
    }
}

#[test]
fn nonsense_in_redis_is_set_aside_and_stops_nothing_else() {
    let steps = setting("MODEL_STEPS", 200);
    let life = async |server: &Server, seed: u64, log: &Log| {
        let mut field = Field::new(server, seed, log.clone()).await;
        for _ in 0..steps {
            log.count();
            field.act().await;
        }
        field.drain().await
    };
    let aside: Vec<usize> = lane(&seeds(40), &life).unwrap_or_else(|fault| panic!("{fault}"));
    eprintln!("set aside: {aside:?}");
}
