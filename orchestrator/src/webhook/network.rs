//! A network of addresses: `10.0.0.0/8`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::{Error, Result};

/// A network, as CIDR writes it: an address, and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    pub(super) const fn v4(address: [u8; 4], bits: u8) -> Self {
        let [a, b, c, d] = address;
        Self { address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits }
    }

    /// By the first four groups of the address; the others are zero.
    pub(super) const fn v6(address: [u16; 4], bits: u8) -> Self {
        let [a, b, c, d] = address;
        Self { address: IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)), bits }
    }

    /// Whether an address is in it. An IPv4 address in an IPv6 one is an IPv6 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(other)) => {
                (ours.to_bits() ^ other.to_bits()).checked_shr(32 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(other)) => {
                (ours.to_bits() ^ other.to_bits()).checked_shr(128 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    /// Reads a list such as `10.0.0.0/8,fd00::/8`; nothing is an empty one.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the first that is no network.
    pub fn list(text: &str) -> Result<Vec<Self>> {
        text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::parse).collect()
    }

    /// The address with all bits that do not count at zero.
    fn base(&self) -> IpAddr {
        let mask = |width: u32| u128::MAX.checked_shl(width - u32::from(self.bits)).unwrap_or(0);
        match self.address {
            IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & mask(32) as u32).into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & mask(128)).into(),
        }
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = || {
            let text = crate::error::excerpt(text);
            Error::invalid(format!("`{text}` is no network; write 10.0.0.0/8, fd00::/8, or one address"))
        };
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| refuse())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            Some(bits) if bits.bytes().all(|b| b.is_ascii_digit()) => bits.parse().map_err(|_| refuse())?,
            Some(_) => return Err(refuse()),
        };
        if bits > width {
            return Err(refuse());
        }
        let network = Self { address, bits };
        match network.base() == address {
            true => Ok(network),
            // Whoever writes 10.1.2.3/8 may mean one address or a whole network.
            false => Err(Error::invalid(format!(
                "{address}/{bits} is {}/{bits}; write it so, or {address} alone",
                network.base()
            ))),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_hold_their_addresses() {
        let holds = |network: &str, address: &str| {
            network.parse::<Network>().expect(network).contains(address.parse().expect(address))
        };
        for (network, address) in [
            ("10.0.0.0/8", "10.255.0.1"),
            ("0.0.0.0/0", "255.255.255.255"),
            ("127.0.0.1", "127.0.0.1"),
            ("100.64.0.0/10", "100.127.255.255"),
            ("fd00::/8", "fdff::1"),
            ("::/0", "ffff::"),
            ("::1", "::1"),
        ] {
            assert!(holds(network, address), "{network} {address}");
        }
        for (network, address) in [
            ("10.0.0.0/8", "11.0.0.0"),
            ("127.0.0.1", "127.0.0.2"),
            ("100.64.0.0/10", "100.128.0.0"),
            ("127.0.0.0/8", "::ffff:127.0.0.1"),
            ("::/0", "127.0.0.1"),
            ("fd00::/8", "fe00::"),
        ] {
            assert!(!holds(network, address), "{network} {address}");
        }
        for bad in ["10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/+8", "10.0.0.0/", "localhost", "10.1.2.3/8"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
        assert_eq!(Network::list(" 10.0.0.0/8, ::1 ,").expect("two").len(), 2);
        assert!(Network::list("").expect("none").is_empty());
        let said = "10.1.2.3/8".parse::<Network>().expect_err("stray bits").to_string();
        assert!(said.contains("10.0.0.0/8"), "{said}");
    }
}
