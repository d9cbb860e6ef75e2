//! Is this an authority that every server reads alike? `host [":" port]` of RFC 3986 section 3.2, without userinfo.

const fn table() -> [bool; 256] {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = (b as u8).is_ascii_alphanumeric();
        b += 1;
    }
    // unreserved and sub-delims of RFC 3986. Percent-escapes are left out: no host needs them, and servers differ.
    let extra = b"-._~!$&'()*+,;=";
    let mut i = 0;
    while i < extra.len() {
        table[extra[i] as usize] = true;
        i += 1;
    }
    table
}

static REG_NAME: [bool; 256] = table();

/// Whether the bytes are a host with or without a port. `port` says whether one must be there.
pub(crate) fn is_authority(bytes: &[u8], needs_port: bool) -> bool {
    let (host, port) = if bytes.first() == Some(&b'[') {
        let Some(close) = bytes.iter().position(|b| *b == b']') else { return false };
        let (host, rest) = bytes.split_at(close + 1);
        let inner = host.get(1..close).and_then(|inner| std::str::from_utf8(inner).ok());
        if inner.is_none_or(|inner| inner.parse::<std::net::Ipv6Addr>().is_err()) {
            return false;
        }
        match rest.split_first() {
            None => (host, None),
            Some((b':', port)) => (host, Some(port)),
            Some(_) => return false,
        }
    } else {
        match bytes.iter().position(|b| *b == b':') {
            None => (bytes, None),
            Some(colon) => {
                let (host, port) = bytes.split_at(colon);
                (host, port.get(1..))
            }
        }
    };
    let host_ok = host.first() == Some(&b'[') || (!host.is_empty() && host.iter().all(|b| REG_NAME[*b as usize]));
    let port_ok = match port {
        None => !needs_port,
        Some(port) => is_port(port),
    };
    host_ok && port_ok && bytes.len() <= 255 + 6
}

fn is_port(port: &[u8]) -> bool {
    (1..=5).contains(&port.len())
        && port.iter().all(u8::is_ascii_digit)
        && port.iter().fold(0u32, |n, b| n * 10 + u32::from(b - b'0')) <= 65_535
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        for good in ["a", "shop.test", "shop.test:80", "127.0.0.1:8080", "[::1]", "[::1]:443", "a_b.test", "a:0", "xn--bcher-kva.test"] {
            assert!(is_authority(good.as_bytes(), false), "{good}");
        }
        for bad in ["", ":80", "a:", "a:b", "a:65536", "a:000080", "u@a", "a/b", "a b", "[::1", "[x]", "[::1]x", "a,b c", "a?b", "a#b", "a\\b", "%61", "a:80:80", "\u{e9}"] {
            assert!(!is_authority(bad.as_bytes(), false), "{bad}");
        }
        assert!(!is_authority(b"a", true) && is_authority(b"a:1", true));
    }
}
