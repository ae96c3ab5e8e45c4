//! The server as a browser, and as somebody with bad intentions, meets it.

use std::os::unix::fs::symlink;

use super::*;
use crate::http::get;
use crate::tempdir::TempDir;

/// A site with one release, a secret beside it, and its server.
async fn site() -> (TempDir, Server) {
    let dir = TempDir::new("orchestrator-server").expect("made");
    let release = dir.path().join("releases/one");
    std::fs::create_dir_all(release.join("docs")).expect("made");
    std::fs::write(dir.path().join("secret"), "secret").expect("written");
    std::fs::write(release.join("index.html"), "<p>one").expect("written");
    std::fs::write(release.join("docs/a b.txt"), "a b").expect("written");
    std::fs::write(release.join(".hidden"), "hidden").expect("written");
    std::fs::write(release.join(HEALTH), r#"{"status": "passing"}"#).expect("written");
    symlink("../../secret", release.join("link")).expect("linked");
    symlink("releases/one", dir.path().join("current")).expect("linked");
    let server = Server::start(dir.path()).await.expect("started");
    (dir, server)
}

/// Sends these bytes and gives the first line of the answer.
async fn send(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).await.expect("connected");
    stream.write_all(bytes).await.expect("sent");
    let mut text = String::new();
    // The server may be done before it has read everything.
    let _ = stream.read_to_string(&mut text).await;
    text.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn files_of_the_current_release_are_served() {
    let (dir, server) = site().await;
    let page = get(server.address(), "/").await.expect("served");
    assert_eq!((page.status, page.release.as_deref(), page.body.as_slice()), (200, Some("one"), &b"<p>one"[..]));
    assert_eq!(get(server.address(), "/docs/a%20b.txt?x=1").await.expect("served").body, b"a b");
    assert_eq!(get(server.address(), "/health").await.expect("served").status, 200);
    assert_eq!(get(server.address(), "/none.html").await.expect("answered").status, 404);
    assert_eq!(get(server.address(), "/docs").await.expect("answered").status, 404);
    std::fs::write(dir.path().join("current").join(HEALTH), r#"{"status": "failing"}"#).expect("written");
    assert_eq!(get(server.address(), "/health").await.expect("answered").status, 503);
    std::fs::remove_file(dir.path().join("current")).expect("removed");
    assert_eq!(get(server.address(), "/").await.expect("answered").status, 503);
}

#[tokio::test]
async fn nothing_leads_out_of_the_release() {
    let (_dir, server) = site().await;
    for path in [
        "/../../secret",
        "/%2e%2e/%2e%2e/secret",
        "/..%2f..%2fsecret",
        "/docs/../../../secret",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/link",
        "/.hidden",
        "/docs/%00",
        "/%",
        "/%zz",
        "/%ff",
        "/..%5c..%5csecret",
        "/docs/./.hidden",
    ] {
        let page = get(server.address(), path).await.expect(path);
        assert!(page.status == 400 || page.status == 404, "{path}: {}", page.status);
        assert!(!String::from_utf8_lossy(&page.body).contains("secret"), "{path}");
    }
}

#[tokio::test]
async fn what_is_no_get_request_is_refused() {
    let (_dir, server) = site().await;
    assert_eq!(send(&server, b"POST / HTTP/1.1\r\n\r\n").await, "HTTP/1.1 405 Method Not Allowed");
    assert_eq!(send(&server, b"GET /\r\n\r\n").await, "HTTP/1.1 400 Bad Request");
    assert_eq!(send(&server, b"GET http://x/ HTTP/1.1\r\n\r\n").await, "HTTP/1.1 400 Bad Request");
    assert_eq!(send(&server, b"\xff\xfe\r\n\r\n").await, "HTTP/1.1 400 Bad Request");
    let long = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; HEAD_MAX + 1]].concat();
    assert!(["HTTP/1.1 431 Request Header Fields Too Large", ""].contains(&send(&server, &long).await.as_str()));
    assert_eq!(get(server.address(), "/").await.expect("still there").status, 200);
}

#[tokio::test]
async fn a_dropped_server_is_gone() {
    let (_dir, server) = site().await;
    let address = server.address();
    drop(server);
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}
