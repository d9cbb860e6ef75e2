//! What number stands for a request when endpoints are chosen by consistent hashing?

use std::net::IpAddr;

use crate::resources::HashKey;

use super::RequestView;
use super::query;

/// The number of one key, or `None` when the request has no such thing. Names of headers are in lower case.
pub(super) fn hash(key: &HashKey, request: &impl RequestView, source: Option<IpAddr>) -> Option<u64> {
    match key {
        HashKey::Header(name) => request
            .header(name)
            .next()
            .map(|value| stable_hash(value.iter().copied())),
        HashKey::Cookie(name) => {
            let value = request.cookies().find_map(|line| cookie(line, name))?;
            Some(stable_hash(value.iter().copied()))
        }
        HashKey::Query(name) => query::values(request.query(), name)
            .next()
            .map(|value| stable_hash(value.bytes())),
        HashKey::SourceAddress => source.map(|address| match address.to_canonical() {
            IpAddr::V4(address) => stable_hash(address.octets().into_iter()),
            IpAddr::V6(address) => stable_hash(address.octets().into_iter()),
        }),
    }
}

/// The value of a cookie in a `cookie` header (RFC 6265 section 4.2), without quotes around it.
fn cookie<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    line.split(|&b| b == b';').find_map(|pair| {
        let pair = pair.trim_ascii();
        let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(
            value
                .strip_prefix(b"\"")
                .and_then(|value| value.strip_suffix(b"\""))
                .unwrap_or(value),
        )
    })
}

/// A hash of bytes that is the same in every process and version, so that proxies side by side choose the same
/// endpoint: 64-bit FNV-1a, then the finaliser of MurmurHash3, which spreads it over all bits.
pub fn stable_hash(bytes: impl Iterator<Item = u8>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found() {
        assert_eq!(
            cookie(b"a=1; session=xyz; b=2", "session"),
            Some(b"xyz".as_slice())
        );
        assert_eq!(cookie(b"session=\"q\"", "session"), Some(b"q".as_slice()));
        assert_eq!(cookie(b"sessions=1;session", "session"), None);
        assert_eq!(cookie(b"session=", "session"), Some(b"".as_slice()));
    }

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(stable_hash(std::iter::empty()), 0xefd0_1f60_ba99_2926);
        assert_ne!(
            stable_hash(b"a".iter().copied()),
            stable_hash(b"b".iter().copied())
        );
    }
}
