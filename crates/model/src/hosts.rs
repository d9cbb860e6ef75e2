//! Which of many host patterns take this host, the most specific first?
//!
//! Hosts are compared without case, port and final dot. Exact names and wildcard suffixes are hash maps, so the cost
//! of a look-up grows with the labels of the host asked for and not with the patterns known.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::net::Ipv6Addr;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use crate::resources::HostPattern;

/// Longest host that is compared with patterns: longer than any DNS name. Longer hosts meet `*` only.
const MAX_HOST_BYTES: usize = 256;

/// Bytes to look up by. Short ones stand in the map itself: one way less to memory that is not in the cache.
pub(crate) type ByteKey = SmallVec<[u8; 16]>;

/// A map by bytes. The seed is fixed: only the configuration puts keys in, so nobody outside can make them collide.
pub(crate) type ByteMap<V> = HashMap<ByteKey, V, FixedState>;

/// An empty map with a fixed seed.
pub(crate) fn byte_map<V>() -> ByteMap<V> {
    HashMap::with_hasher(FixedState::default())
}

fn key(name: &str) -> ByteKey {
    ByteKey::from_slice(name.to_ascii_lowercase().as_bytes())
}

/// Host patterns, each with what it stands for.
#[derive(Debug)]
pub(crate) struct HostMap<V> {
    exact: ByteMap<V>,
    /// Keys start with a dot.
    suffixes: ByteMap<V>,
    longest_suffix: usize,
    any: Option<V>,
}

impl<V: Copy> HostMap<V> {
    pub(crate) fn new() -> Self {
        Self {
            exact: byte_map(),
            suffixes: byte_map(),
            longest_suffix: 0,
            any: None,
        }
    }

    /// Adds a pattern; what it stands for already when it is there a second time.
    pub(crate) fn insert(&mut self, pattern: &HostPattern, value: V) -> Result<(), V> {
        let before = match pattern {
            HostPattern::Any => self.any.replace(value),
            HostPattern::Exact(host) => self.exact.insert(key(host), value),
            HostPattern::Suffix(suffix) => {
                self.longest_suffix = self.longest_suffix.max(suffix.len());
                self.suffixes.insert(key(suffix), value)
            }
        };
        before.map_or(Ok(()), Err)
    }

    /// Whether there is more than `*`.
    #[inline]
    pub(crate) fn tells_apart(&self) -> bool {
        !self.exact.is_empty() || !self.suffixes.is_empty()
    }

    /// Asks `choose` for each pattern that takes the host, the most specific first, until it chooses.
    #[inline]
    pub(crate) fn find<T>(&self, host: &[u8], mut choose: impl FnMut(V) -> Option<T>) -> Option<T> {
        self.named(host, &mut choose)
            .or_else(|| self.any.and_then(choose))
    }

    /// As [`HostMap::find`], without `*`.
    #[inline]
    pub(crate) fn named<T>(&self, host: &[u8], choose: &mut impl FnMut(V) -> Option<T>) -> Option<T> {
        if !self.tells_apart() {
            return None;
        }
        let host = bare(host);
        if host.is_empty() || host.len() > MAX_HOST_BYTES {
            return None;
        }
        if host.iter().any(|&b| b.is_ascii_uppercase() || b == b'[') {
            return self.unusual(host, choose);
        }
        self.canonical(host, choose)
    }

    /// Hosts that have to be rewritten before they are compared: upper case and IPv6.
    #[cold]
    #[inline(never)]
    fn unusual<T>(&self, host: &[u8], choose: &mut impl FnMut(V) -> Option<T>) -> Option<T> {
        let mut buffer = [0; MAX_HOST_BYTES];
        if let Some(address) = ipv6(host) {
            let mut room = buffer.as_mut_slice();
            write!(room, "[{address}]").ok()?;
            let left = room.len();
            return self.canonical(buffer.get(..MAX_HOST_BYTES - left)?, choose);
        }
        let folded = buffer.get_mut(..host.len())?;
        folded.copy_from_slice(host);
        folded.make_ascii_lowercase();
        self.canonical(folded, choose)
    }

    #[inline]
    fn canonical<T>(&self, host: &[u8], choose: &mut impl FnMut(V) -> Option<T>) -> Option<T> {
        if let Some(found) = self.exact.get(host).and_then(|&value| choose(value)) {
            return Some(found);
        }
        if self.suffixes.is_empty() {
            return None;
        }
        // The longest suffix first; at least one character stands in front of it.
        let start = host.len().saturating_sub(self.longest_suffix).max(1);
        let tail = host.get(start..)?;
        tail.iter()
            .enumerate()
            .filter(|&(_, &byte)| byte == b'.')
            .filter_map(|(at, _)| self.suffixes.get(tail.get(at..)?))
            .find_map(|&value| choose(value))
    }
}

/// The host without port and final dot.
#[inline]
pub fn bare(host: &[u8]) -> &[u8] {
    let name = match host.iter().rposition(|&b| matches!(b, b':' | b']')) {
        Some(colon) if host.get(colon) == Some(&b':') => {
            let (name, port) = host.split_at(colon);
            if port.iter().skip(1).all(u8::is_ascii_digit) {
                name
            } else {
                host
            }
        }
        _ => host,
    };
    name.strip_suffix(b".").unwrap_or(name)
}

/// The form in which hosts are compared: without port and final dot, in lower case, IPv6 addresses as RFC 5952 has them.
pub fn normal(host: &[u8]) -> Cow<'_, [u8]> {
    let host = bare(host);
    if let Some(address) = ipv6(host) {
        return Cow::Owned(format!("[{address}]").into_bytes());
    }
    match host.iter().any(u8::is_ascii_uppercase) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    }
}

fn ipv6(host: &[u8]) -> Option<Ipv6Addr> {
    let inner = host.strip_prefix(b"[")?.strip_suffix(b"]")?;
    std::str::from_utf8(inner).ok()?.parse().ok()
}
