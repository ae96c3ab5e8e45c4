//! `orchestrator health`: 0 when what is asked is well, else 1.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};

fn health(arguments: &[&str], port: Option<u16>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orchestrator"));
    command.env_clear().arg("health").args(arguments);
    command.envs(port.map(|port| ("ORCHESTRATOR_PORT", port.to_string())));
    command.output().unwrap()
}

/// Answers one request with this, and tells what was asked.
fn answering(answer: &'static str) -> (u16, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let read = stream.read(&mut request).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&request[..read]).into_owned()
    });
    (port, asked)
}

#[test]
fn who_is_well_is_told_from_who_is_not() {
    for (answer, code, said) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 0, "is well"),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", 1, "answers 503"),
        ("HTTP/1.1 404 Not Found\r\n\r\n", 1, "answers 404"),
        ("SSH-2.0-nothing\r\n", 1, "does not answer in HTTP"),
        ("", 1, "does not answer in HTTP"),
    ] {
        let (port, asked) = answering(answer);
        let done = health(&[], Some(port));
        let told = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert!(done.status.code() == Some(code) && told.contains(said), "{answer:?}: {told}");
        assert!(asked.join().unwrap().starts_with("GET /readyz HTTP/1.1\r\n"), "ready is asked unless told otherwise");
    }
    let (port, asked) = answering("HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(health(&["--url", &format!("http://127.0.0.1:{port}/livez?a=1")], None).status.code(), Some(0));
    assert!(asked.join().unwrap().starts_with("GET /livez?a=1 HTTP/1.1\r\n"));
}

#[test]
fn who_is_not_there_is_not_well() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let done = health(&[], Some(closed));
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    for url in ["127.0.0.1:8000", "https://127.0.0.1/", "http://", "http://h/a b", "http://h/\r\nX: y"] {
        let done = health(&["--url", url], None);
        assert_eq!(done.status.code(), Some(2), "{url}: {done:?}");
    }
}
