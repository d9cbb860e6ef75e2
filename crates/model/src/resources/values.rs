//! The small values that resources are made of: addresses, durations, networks and weights.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use ipnet::IpNet;
use ipnet::Ipv4Net;

/// Where something listens or answers: `127.0.0.1:8080`, `[::1]:8080`, `:8080` (all addresses, dual stack) or
/// `unix:/run/app.sock`. Port 0 asks the system for a free port (listeners only).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// An IP address and port.
    Ip(SocketAddr),
    /// The path of a Unix stream socket.
    Unix(Box<str>),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            // 107 bytes is what sun_path holds before its final NUL on Linux; macOS holds 103.
            return match path.len() {
                1..=107 if !path.contains('\0') => Ok(Self::Unix(path.into())),
                _ => Err("expected unix:PATH with a path of 1 to 107 bytes".into()),
            };
        }
        if let Some(port) = text.strip_prefix(':') {
            return Ok(Self::Ip((Ipv6Addr::UNSPECIFIED, parse_port(port)?).into()));
        }
        if let Some(port) = text.strip_prefix("localhost:") {
            return Ok(Self::Ip((Ipv4Addr::LOCALHOST, parse_port(port)?).into()));
        }
        match text.parse() {
            Ok(address) => Ok(Self::Ip(address)),
            Err(_) if text.parse::<IpAddr>().is_ok() => Err("the port is missing: expected IP:PORT".into()),
            Err(_) => Err("expected IP:PORT, [IPv6]:PORT, localhost:PORT, :PORT or unix:PATH".into()),
        }
    }
}

/// Digits only: the number parser of the standard library takes `+80` too.
fn parse_port(text: &str) -> Result<u16, String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| format!("`{text}` is not a port: expected 0 to 65535"))
}

/// A span of time, written `250ms`, `2s`, `1.5s`, `5m`, `1h` or `0s`. Resolution: one millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub std::time::Duration);

impl Duration {
    /// The longest span accepted: a day. Longer deadlines hide mistakes (a value meant in milliseconds).
    pub const MAX: Self = Self::from_secs(24 * 60 * 60);

    /// A span of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    /// A span of whole milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(std::time::Duration::from_millis(milliseconds))
    }

    /// The span, or `None` when it is zero: zero switches a deadline off.
    pub fn enabled(self) -> Option<std::time::Duration> {
        (!self.0.is_zero()).then_some(self.0)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        match ms {
            0 => f.write_str("0s"),
            _ if ms.is_multiple_of(3_600_000) => write!(f, "{}h", ms / 3_600_000),
            _ if ms.is_multiple_of(60_000) => write!(f, "{}m", ms / 60_000),
            _ if ms.is_multiple_of(1000) => write!(f, "{}s", ms / 1000),
            _ => write!(f, "{ms}ms"),
        }
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected a duration such as 250ms, 2s, 1.5s, 5m or 1h, at most 24h";
        let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or(EXPECTED)?;
        let (number, unit) = text.split_at(unit_at);
        let ms_per_unit = match unit {
            "ms" => 1.0,
            "s" => 1000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            _ => return Err(EXPECTED.into()),
        };
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(EXPECTED.into());
        }
        let number: f64 = number.parse().map_err(|_| EXPECTED)?;
        let ms = (number * ms_per_unit).round();
        // Rounded to nothing it would switch a deadline off.
        if ms > Self::MAX.0.as_millis() as f64 || (ms == 0.0 && number > 0.0) {
            return Err(EXPECTED.into());
        }
        Ok(Self::from_millis(ms as u64))
    }
}

/// A port, or all from one to another: `5432`, `8000-8010`. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange(u16, u16);

impl PortRange {
    /// Whether a port is one of these.
    pub fn contains(self, port: u16) -> bool {
        (self.0..=self.1).contains(&port)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 == self.1 {
            true => self.0.fmt(f),
            false => write!(f, "{}-{}", self.0, self.1),
        }
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (parse_port(first), parse_port(last)) {
            (Ok(first @ 1..), Ok(last)) if first <= last => Ok(Self(first, last)),
            _ => Err("expected a port from 1 to 65535, or a range such as 8000-8010".into()),
        }
    }
}

/// Whose word is believed on how a request came here: those of a network, or whoever comes by a Unix socket (`unix`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trusted {
    /// Clients with an address of this network.
    Network(IpNet),
    /// Clients of a Unix socket, which have no address.
    Unix,
}

impl fmt::Display for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

impl FromStr for Trusted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("unix", _) => Ok(Self::Unix),
            (_, Ok(network)) => one_form(network).map(Self::Network),
            (_, Err(_)) => Err("expected a network such as 10.0.0.0/8, or unix".into()),
        }
    }
}

/// A network in the form in which addresses are judged: IPv4 in IPv6 is IPv4.
///
/// # Errors
/// It holds that and other addresses, and not all: whether IPv4 is meant can't be said.
fn one_form(network: IpNet) -> Result<IpNet, String> {
    /// The bits before an IPv4 address in IPv6 (RFC 4291 section 2.5.5.2).
    const MAPPED: u8 = 96;
    let IpNet::V6(v6) = network else {
        return Ok(network);
    };
    match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(MAPPED)) {
        (Some(v4), Some(length)) => Ipv4Net::new(v4, length)
            .map(IpNet::V4)
            .map_err(|error| error.to_string()),
        (_, None) if v6.prefix_len() > 0 && v6.contains(&Ipv4Addr::UNSPECIFIED.to_ipv6_mapped()) => Err(
            format!("{v6} holds IPv4 addresses among others: write those as IPv4, such as 10.0.0.0/8"),
        ),
        _ => Ok(network),
    }
}

/// Networks in a resource, in the form in which addresses are judged.
pub(crate) fn networks<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
    let written = Vec::<IpNet>::deserialize(from)?;
    let read = written.into_iter().map(one_form).collect::<Result<_, _>>();
    read.map_err(serde::de::Error::custom)
}

/// The longest [`Name`], in bytes: that of a DNS name.
pub const MAX_NAME: usize = 253;

/// The name a listener, route table or cluster is known by: 1 to 253 printable ASCII characters without spaces
/// or quotes, so that it can stand in a metric label, a log line and a command.
pub type Name = String;

/// A PEM file's path, or PEM text itself (recognised by `-----BEGIN`). Text is never shown by `Debug`: it may be a key.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pem(pub String);

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pem").field(&self.redacted().0).finish()
    }
}

impl Pem {
    /// The path, or a mark in place of the text.
    pub fn redacted(&self) -> Self {
        Self(self.path().unwrap_or("-----BEGIN REDACTED-----").to_owned())
    }

    /// The path to read, or `None` when the value is the PEM text.
    pub fn path(&self) -> Option<&str> {
        (!self.0.trim_start().starts_with("-----BEGIN")).then_some(self.0.as_str())
    }
}

/// Serde by the type's text form (`Display` and `FromStr`).
macro_rules! serde_as_text {
    ($($type:ty),+) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
pub(crate) use serde_as_text;

serde_as_text!(Address, Duration, PortRange, Trusted);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for text in ["127.0.0.1:80", "[::1]:8080", "[::]:0", "unix:/run/app.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!(":80".parse::<Address>().unwrap().to_string(), "[::]:80");
        for text in [
            "",
            "80",
            "1.2.3.4",
            "example.test:80",
            "1.2.3.4:70000",
            "unix:",
            "::1",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn port_ranges_round_trip() {
        for text in ["1", "5432", "8000-8010", "1-65535"] {
            assert_eq!(text.parse::<PortRange>().unwrap().to_string(), text);
        }
        let range = "8000-8010".parse::<PortRange>().unwrap();
        let within = [7999, 8000, 8010, 8011].map(|port| range.contains(port));
        assert_eq!(within, [false, true, true, false]);
        for text in [
            "", "0", "-", "1-", "-1", "2-1", "1-2-3", "65536", "+80", "http", "80 - 81",
        ] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn those_who_are_trusted_round_trip() {
        for text in ["10.0.0.0/8", "::1/128", "unix"] {
            assert_eq!(text.parse::<Trusted>().unwrap().to_string(), text);
        }
        for text in ["", "10.0.0.0/33", "Unix", "unix:", "unix:/run/app.sock"] {
            assert!(text.parse::<Trusted>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_network_of_ipv4_in_ipv6_is_one_of_ipv4() {
        for (text, read) in [
            ("::ffff:127.0.0.0/104", "127.0.0.0/8"),
            ("::ffff:10.1.2.3/128", "10.1.2.3/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("::/96", "::/96"),
            ("fd00::/8", "fd00::/8"),
            ("64:ff9b::/96", "64:ff9b::/96"),
        ] {
            assert_eq!(text.parse::<Trusted>().unwrap().to_string(), read, "{text}");
        }
        for text in ["::ffff:0:0/95", "::ffff:127.0.0.0/80", "::/64", "::/1"] {
            assert!(text.parse::<Trusted>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_round_trip() {
        for text in ["0s", "250ms", "2s", "5m", "24h", "1500ms"] {
            assert_eq!(text.parse::<Duration>().unwrap().to_string(), text);
        }
        assert_eq!("1.5s".parse::<Duration>().unwrap(), Duration::from_millis(1500));
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1e3s",
            "1 s",
            "25h",
            "5d",
            "1.2.3s",
            "NaNs",
            "9999999999999999999999h",
            "0.4ms",
        ] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }
}
