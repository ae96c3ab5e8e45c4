//! Addresses that nothing outside has: a request to one would reach into the network that it is sent from.

use std::net::IpAddr;

use super::Network;

/// What must not be reached over IPv4, by the IANA registry of special-purpose addresses.
const FOUR: [(Network, &str); 17] = [
    (Network::v4([0, 0, 0, 0], 8), "an unspecified address"),
    (Network::v4([10, 0, 0, 0], 8), "a private address"),
    (Network::v4([100, 64, 0, 0], 10), "an address of a carrier's own network"),
    (Network::v4([127, 0, 0, 0], 8), "a loopback address"),
    (Network::v4([169, 254, 169, 254], 32), "the address of a cloud's metadata"),
    (Network::v4([169, 254, 0, 0], 16), "a link-local address"),
    (Network::v4([172, 16, 0, 0], 12), "a private address"),
    (Network::v4([192, 0, 0, 0], 24), "an address for protocols"),
    (Network::v4([192, 0, 2, 0], 24), "an address for documentation"),
    (Network::v4([192, 88, 99, 0], 24), "a relay's address"),
    (Network::v4([192, 168, 0, 0], 16), "a private address"),
    (Network::v4([198, 18, 0, 0], 15), "an address for benchmarks"),
    (Network::v4([198, 51, 100, 0], 24), "an address for documentation"),
    (Network::v4([203, 0, 113, 0], 24), "an address for documentation"),
    (Network::v4([224, 0, 0, 0], 4), "a multicast address"),
    (Network::v4([255, 255, 255, 255], 32), "the broadcast address"),
    (Network::v4([240, 0, 0, 0], 4), "a reserved address"),
];

/// The part of IPv6 that is given out to be reached from everywhere.
const GLOBAL: Network = Network::v6([0x2000, 0, 0, 0], 3);

/// What must not be reached over IPv6 within it.
const SIX: [(Network, &str); 7] = [
    (Network::v6([0x2001, 0, 0, 0], 32), "an address of Teredo, with an IPv4 address in it"),
    (Network::v6([0x2001, 2, 0, 0], 48), "an address for benchmarks"),
    (Network::v6([0x2001, 0x10, 0, 0], 28), "an address that names no place"),
    (Network::v6([0x2001, 0x20, 0, 0], 28), "an address that names no place"),
    (Network::v6([0x2001, 0xdb8, 0, 0], 32), "an address for documentation"),
    (Network::v6([0x2002, 0, 0, 0], 16), "an address of 6to4, with an IPv4 address in it"),
    (Network::v6([0x3fff, 0, 0, 0], 20), "an address for documentation"),
];

/// Names for what lies outside of it.
const SIX_OUTSIDE: [(Network, &str); 8] = [
    (Network::v6([0x64, 0xff9b, 0, 0], 96), "an address of NAT64, with an IPv4 address in it"),
    (Network::v6([0x64, 0xff9b, 1, 0], 48), "an address of NAT64, with an IPv4 address in it"),
    (Network::v6([0xfd00, 0xec2, 0, 0], 32), "in the network of a cloud's metadata"),
    (Network::v6([0xfc00, 0, 0, 0], 7), "a unique local address"),
    (Network::v6([0xfe80, 0, 0, 0], 10), "a link-local address"),
    (Network::v6([0xfec0, 0, 0, 0], 10), "a site-local address"),
    (Network::v6([0xff00, 0, 0, 0], 8), "a multicast address"),
    (Network::v6([0, 0, 0, 0], 0), "not an address that everybody can reach"),
];

/// What kind of address it is, when it is one that nobody outside has.
pub(super) fn forbidden(address: IpAddr) -> Option<&'static str> {
    let kind = |table: &[(Network, &'static str)]| {
        table.iter().find(|(network, _)| network.contains(address)).map(|(_, kind)| *kind)
    };
    match address {
        IpAddr::V4(_) => kind(&FOUR),
        IpAddr::V6(six) if six.is_loopback() => Some("a loopback address"),
        IpAddr::V6(six) if six.is_unspecified() => Some("an unspecified address"),
        IpAddr::V6(six) if six.to_ipv4().is_some() => Some("an IPv4 address in the form of an IPv6 one"),
        IpAddr::V6(_) if GLOBAL.contains(address) => kind(&SIX),
        IpAddr::V6(_) => kind(&SIX_OUTSIDE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_inside_is_forbidden_from_its_first_address_to_its_last() {
        for (address, kind) in [
            ("0.0.0.0", "unspecified"),
            ("0.255.255.255", "unspecified"),
            ("10.0.0.0", "private"),
            ("10.255.255.255", "private"),
            ("100.64.0.0", "carrier"),
            ("100.127.255.255", "carrier"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.255", "loopback"),
            ("169.254.0.1", "link-local"),
            ("169.254.169.254", "metadata"),
            ("172.16.0.0", "private"),
            ("172.31.255.255", "private"),
            ("192.0.0.8", "protocols"),
            ("192.0.2.1", "documentation"),
            ("192.88.99.1", "relay"),
            ("192.168.0.0", "private"),
            ("192.168.255.255", "private"),
            ("198.18.0.0", "benchmarks"),
            ("198.19.255.255", "benchmarks"),
            ("198.51.100.7", "documentation"),
            ("203.0.113.7", "documentation"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "broadcast"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::ffff:10.0.0.1", "IPv4"),
            ("::ffff:93.184.215.14", "IPv4"),
            ("::127.0.0.1", "IPv4"),
            ("::7f00:1", "IPv4"),
            ("64:ff9b::7f00:1", "NAT64"),
            ("64:ff9b:1::7f00:1", "NAT64"),
            ("100::1", "everybody"),
            ("2001::1", "Teredo"),
            ("2001:0:ffff::1", "Teredo"),
            ("2001:2::1", "benchmarks"),
            ("2001:10::1", "no place"),
            ("2001:2f::1", "no place"),
            ("2001:db8::1", "documentation"),
            ("2002:7f00:1::", "6to4"),
            ("3fff:fff::1", "documentation"),
            ("4000::1", "everybody"),
            ("5f00::1", "everybody"),
            ("fc00::1", "unique local"),
            ("fdff::1", "unique local"),
            ("fd00:ec2::254", "metadata"),
            ("fe80::1", "link-local"),
            ("febf::1", "link-local"),
            ("fec0::1", "site-local"),
            ("ff02::1", "multicast"),
        ] {
            let said = forbidden(address.parse().expect(address));
            assert!(said.is_some_and(|said| said.contains(kind)), "{address}: {said:?}");
        }
    }

    #[test]
    fn what_everybody_reaches_is_not() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2000::1",
            "2001:200::1",
            "2606:4700:4700::1111",
            "3ffe::1",
        ] {
            assert_eq!(forbidden(address.parse().expect(address)), None, "{address}");
        }
    }
}
