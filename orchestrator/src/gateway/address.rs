//! The address that a request came from.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;

use crate::Network;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Who is at the other end of the connection. Every request of a connection has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// The client's address: the peer's, unless that is a trusted proxy. Each proxy adds at the right of `X-Forwarded-For` whom
/// it was asked by, so the list is walked from there for as long as the one who wrote an entry is trusted. What is no
/// address ends the walk.
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let mut client = peer.to_canonical();
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    let mut hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    while trusted.iter().any(|network| network.contains(client)) {
        match hops.next().and_then(hop) {
            Some(before) => client = before,
            None => break,
        }
    }
    client
}

/// An entry: an address, perhaps with a port.
fn hop(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry).ok()?.trim();
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    let address = bare.parse().or_else(|_| entry.parse().map(|socket: SocketAddr| socket.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// What counts as one client: an IPv4 address, or the first 64 bits of an IPv6 address, which is what one customer has.
pub(super) fn client_bytes(client: IpAddr) -> Vec<u8> {
    match client {
        IpAddr::V4(four) => four.octets().to_vec(),
        IpAddr::V6(six) => six.octets()[..8].to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn found(peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).expect("a value"));
        }
        let trusted = Network::list("10.0.0.0/8, fd00::/8").expect("networks");
        client(peer.parse().expect("an address"), &headers, &trusted).to_string()
    }

    #[test]
    fn nobody_is_believed_but_trusted_proxies() {
        assert_eq!(found("203.0.113.1", &["1.2.3.4"]), "203.0.113.1");
        assert_eq!(found("::ffff:203.0.113.1", &["1.2.3.4"]), "203.0.113.1");
        assert_eq!(found("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(found("10.0.0.1", &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(found("::ffff:10.0.0.1", &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(found("fd00::1", &["2001:db8::7"]), "2001:db8::7");
    }

    #[test]
    fn the_walk_begins_at_the_right_and_ends_at_the_first_who_is_not_trusted() {
        assert_eq!(found("10.0.0.1", &["6.6.6.6, 1.2.3.4"]), "1.2.3.4", "what a client invents is at the left");
        assert_eq!(found("10.0.0.1", &["6.6.6.6, 1.2.3.4,10.0.0.2"]), "1.2.3.4");
        assert_eq!(found("10.0.0.1", &["6.6.6.6", "1.2.3.4, fd00::9", "10.0.0.2"]), "1.2.3.4", "lines are one list");
        assert_eq!(found("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3", "nobody outside asked");
        assert_eq!(found("10.0.0.1", &["::ffff:1.2.3.4"]), "1.2.3.4");
    }

    #[test]
    fn ports_are_left_out_and_garbage_ends_the_walk() {
        assert_eq!(found("10.0.0.1", &["1.2.3.4:5555"]), "1.2.3.4");
        assert_eq!(found("10.0.0.1", &["[2001:db8::7]:443"]), "2001:db8::7");
        assert_eq!(found("10.0.0.1", &["[2001:db8::7]"]), "2001:db8::7");
        for garbage in ["", "unknown", "_hidden", "1.2.3", "1.2.3.4.5", "[1.2.3.4", "\u{e9}", ","] {
            let line = format!("1.2.3.4,{garbage},10.0.0.2");
            assert_eq!(found("10.0.0.1", &[&line]), "10.0.0.2", "{garbage:?}");
        }
    }

    #[test]
    fn a_client_is_an_address_or_a_64_bit_network() {
        let bytes = |text: &str| client_bytes(text.parse().expect("an address"));
        assert_eq!(bytes("1.2.3.4"), [1, 2, 3, 4]);
        assert_eq!(bytes("2001:db8:1:2:3::4"), bytes("2001:db8:1:2:ffff::"));
        assert_ne!(bytes("2001:db8:1:2::"), bytes("2001:db8:1:3::"));
    }
}
