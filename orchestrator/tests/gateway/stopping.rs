//! Stopping in order.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{Answer, config, gateway_with};

#[tokio::test]
async fn readiness_fails_first_and_what_is_under_way_is_finished() {
    let mut slow = config();
    slow.drain_delay = Duration::from_secs(3);
    let mut gateway = gateway_with(slow).await;
    // A request whose body is still to come, and a connection that waits for its next request.
    let mut under_way = gateway.connect().await;
    let body = r#"{"type":"faq","payload":{}}"#;
    let head = format!(
        "POST /tasks HTTP/1.1\r\nHost: h\r\nX-API-Key: agent-key\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    under_way.write_all(head.as_bytes()).await.unwrap();
    let mut idle = gateway.connect().await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    assert!(idle.read(&mut [0; 4096]).await.unwrap() > 0);

    gateway.stop();
    let started = Instant::now();
    while gateway.send("GET", "/readyz", &[], b"").await.status == 200 {
        assert!(started.elapsed() < Duration::from_millis(2500), "readiness fails while requests are still taken");
    }
    gateway.send("GET", "/readyz", &[], b"").await.refuses(503, "stopping");
    assert_eq!(gateway.send("GET", "/livez", &[], b"").await.status, 200);

    while TcpStream::connect(gateway.address).await.is_ok() {
        assert!(started.elapsed() < Duration::from_secs(10), "no connection is taken any more");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    under_way.write_all(body.as_bytes()).await.unwrap();
    assert_eq!(Answer::read(under_way).await.status, 200);
    assert_eq!(idle.read(&mut [0; 16]).await.unwrap_or(0), 0, "an idle connection is closed");
    gateway.served.await.unwrap();
}

#[tokio::test]
async fn the_grace_is_bounded() {
    let mut impatient = config();
    impatient.drain_grace = Duration::from_millis(200);
    let mut gateway = gateway_with(impatient).await;
    let mut endless = gateway.connect().await;
    let head = "POST /tasks HTTP/1.1\r\nHost: h\r\nX-API-Key: agent-key\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n";
    endless.write_all(head.as_bytes()).await.unwrap();
    gateway.send("GET", "/livez", &[], b"").await;
    gateway.stop();
    tokio::time::timeout(Duration::from_secs(5), gateway.served).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn more_connections_than_places_wait_for_one() {
    let mut narrow = config();
    narrow.connections_max = 1;
    let gateway = gateway_with(narrow).await;
    let mut first = gateway.connect().await;
    first.write_all(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    assert!(first.read(&mut [0; 4096]).await.unwrap() > 0);
    let second = gateway.send("GET", "/livez", &[], b"");
    tokio::pin!(second);
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut second).await.is_err(), "there is one place");
    drop(first);
    assert_eq!(second.await.status, 200);
}
