//! Servers that would lose tasks are refused, and absent ones are told of soon.

use std::time::{Duration, Instant};

use orchestrator::{Error, Orchestrator};
use orchestrator_tests::{Proxy, Server, server};

#[tokio::test]
async fn a_server_that_evicts_keys_is_refused_with_the_remedy() {
    for policy in ["allkeys-lru", "volatile-ttl"] {
        let server = Server::start(&["--maxmemory-policy", policy]);
        let error = Orchestrator::connect(&server.url()).await.expect_err("unfit");
        assert!(matches!(error, Error::Unfit { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(policy) && text.contains("CONFIG SET maxmemory-policy noeviction"), "{text}");
        let mut raw = server.raw().await;
        let _: () = redis::cmd("CONFIG")
            .arg("SET")
            .arg("maxmemory-policy")
            .arg("noeviction")
            .query_async(&mut raw)
            .await
            .unwrap();
        Orchestrator::connect(&server.url()).await.expect("the remedy helps");
    }
}

#[tokio::test]
async fn an_absent_or_silent_server_is_told_of_soon() {
    let silent = Proxy::before(server::shared());
    silent.darken(true);
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let deaf = format!("redis://{}", deaf.local_addr().unwrap());
    for url in ["redis://127.0.0.1:1", "unix:///nowhere/redis.sock", &silent.url(), &deaf] {
        let begun = Instant::now();
        let error = Orchestrator::connect(url).await.expect_err("nobody there");
        let took = begun.elapsed();
        assert!(matches!(error, Error::Unavailable { .. }), "{url}: {error:?}");
        assert!(took < Duration::from_secs(3), "{url}: told after {took:?}");
        eprintln!("{url}: {took:.2?}: {error}");
    }
}

#[tokio::test]
async fn an_address_that_makes_no_sense_is_refused_by_name() {
    for (url, says) in [("http://localhost", "redis://"), ("", "redis://"), ("rediss://localhost#insecure", "#")] {
        let error = Orchestrator::connect(url).await.expect_err("no address").to_string();
        assert!(error.contains(says), "{url}: {error}");
    }
}
