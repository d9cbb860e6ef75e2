//! What does a client speak? Decided from its first bytes, never before they allow only one answer.
//!
//! A partial request line, HTTP/2 preface or ClientHello is [`Detected::Undecided`]; the caller waits for more until the
//! header timeout. A byte that no longer fits any of them makes it [`Detected::Other`] at once.
//!
//! And does a server that speaks first mean it? Servers of HTTP/2 greet before they are asked ([`greets_as_http2`]).

/// The preface of HTTP/2 (RFC 9113 section 3.4).
pub const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Longer methods are not HTTP's: IANA's longest is 17 bytes.
const MAX_METHOD: usize = 32;

/// What the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    /// An HTTP/1 request line.
    Http1,
    /// The HTTP/2 preface.
    Http2,
    /// A TLS ClientHello record.
    Tls,
    /// None of these.
    Other,
    /// It may still become one of these.
    Undecided,
}

/// Looks at all bytes that came so far. `most` bytes of a request line that does not end are HTTP/1, to be refused by
/// its rules: length is no way around them.
pub fn detect(bytes: &[u8], most: usize) -> Detected {
    match bytes.first() {
        None => Detected::Undecided,
        Some(0x16) => tls(bytes),
        Some(b'P') if preface(bytes) => {
            if bytes.len() >= HTTP2_PREFACE.len() {
                Detected::Http2
            } else {
                Detected::Undecided
            }
        }
        Some(_) => match http1(bytes) {
            Detected::Undecided if bytes.len() >= most => Detected::Http1,
            detected => detected,
        },
    }
}

fn preface(bytes: &[u8]) -> bool {
    bytes.iter().zip(HTTP2_PREFACE).all(|(a, b)| a == b)
}

/// A handshake record (RFC 8446 section 5.1) that begins with a ClientHello.
fn tls(bytes: &[u8]) -> Detected {
    let fits = |at: usize, ok: fn(u8) -> bool| bytes.get(at).is_none_or(|b| ok(*b));
    let all = fits(1, |major| major == 3)
        // The minor version "MUST be ignored for all purposes".
        // At most 2^14 bytes of plaintext, and at least a handshake header.
        && fits(3, |high| high <= 0x40)
        && fits(5, |kind| kind == 1);
    match (all, bytes.len()) {
        (false, _) => Detected::Other,
        (true, 0..6) => Detected::Undecided,
        (true, _) => Detected::Tls,
    }
}

/// `method SP target SP HTTP/d.d` and the end of the line (RFC 9112 section 3).
fn http1(bytes: &[u8]) -> Detected {
    let Some(method) = bytes.iter().take(MAX_METHOD + 1).position(|b| !is_token(*b)) else {
        return if bytes.len() > MAX_METHOD {
            Detected::Other
        } else {
            Detected::Undecided
        };
    };
    if method == 0 || bytes.get(method) != Some(&b' ') {
        return Detected::Other;
    }
    let rest = bytes.get(method + 1..).unwrap_or_default();
    let Some(target) = rest.iter().position(|b| !(0x21..=0x7e).contains(b)) else {
        return Detected::Undecided;
    };
    if target == 0 || rest.get(target) != Some(&b' ') {
        return Detected::Other;
    }
    let version = rest.get(target + 1..).unwrap_or_default();
    let fits = version.iter().zip(b"HTTP/0.0\r\n").all(|(got, want)| match want {
        b'0' => got.is_ascii_digit(),
        // A bare LF ends the line too: that this is HTTP is clear, that it is wrong is the codec's to say.
        b'\r' => matches!(got, b'\r' | b'\n'),
        b'\n' => true,
        want => got == want,
    });
    match (fits, version.len()) {
        (false, _) => Detected::Other,
        (true, 0..9) => Detected::Undecided,
        (true, _) => Detected::Http1,
    }
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// Whether a server's first bytes begin a SETTINGS frame on stream 0: the preface of a server of HTTP/2, which it may
/// send before the client's (RFC 9113 section 3.4). `None` while they may still become one.
pub fn greets_as_http2(bytes: &[u8]) -> Option<bool> {
    let fits = |at: usize, byte: u8| bytes.get(at).is_none_or(|b| *b == byte);
    // A length below 2^16, the type, no flags, stream 0.
    let greeting = fits(0, 0) && fits(3, 4) && (4..9).all(|at| fits(at, 0));
    match (greeting, bytes.len()) {
        (false, _) => Some(false),
        (true, 0..9) => None,
        (true, _) => Some(true),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 65_536;

    fn client_hello() -> Vec<u8> {
        let mut hello = vec![0x16, 3, 1, 1, 0, 1];
        hello.resize(261, 7);
        hello
    }

    #[test]
    fn knows_each_protocol_and_never_guesses_early() {
        let cases: [(&[u8], Detected); 12] = [
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Detected::Http1),
            (b"PRIORITIZE /x HTTP/1.0\r\n\r\n", Detected::Http1),
            (b"GET / HTTP/1.1\n", Detected::Http1),
            (b"OPTIONS * HTTP/1.1\r\n\r\n", Detected::Http1),
            (HTTP2_PREFACE, Detected::Http2),
            (&client_hello(), Detected::Tls),
            (b"get key\r\n", Detected::Other),
            (b"EHLO mail.test\r\n", Detected::Other),
            (b"PING\r\n", Detected::Other),
            (b"*1\r\n$4\r\nPING\r\n", Detected::Other),
            (b"\x00\x03\x00\x00", Detected::Other),
            (b"GET / HTTP/x.1\r\n", Detected::Other),
        ];
        for (bytes, expected) in cases {
            let decided_at = (1..=bytes.len())
                .find(|n| detect(&bytes[..*n], MOST) != Detected::Undecided)
                .unwrap_or_else(|| panic!("{:?} undecided", String::from_utf8_lossy(bytes)));
            for n in decided_at..=bytes.len() {
                assert_eq!(
                    detect(&bytes[..n], MOST),
                    expected,
                    "{:?}",
                    String::from_utf8_lossy(&bytes[..n])
                );
            }
        }
    }

    #[test]
    fn a_server_of_http2_is_known_by_its_settings_at_any_split() {
        let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0];
        for n in 0..=settings.len() {
            let expected = (n >= 9).then_some(true);
            assert_eq!(greets_as_http2(&settings[..n]), expected, "{n}");
        }
        for other in [
            &b"220 mail.test ESMTP\r\n"[..],
            b"\x4a\0\0\0\x0a8.0.36\0",
            b"\0\0\0\x04\x01\0\0\0\0",
            b"\0\0\0\x04\0\0\0\0\x01",
        ] {
            assert_eq!(greets_as_http2(other), Some(false), "{other:?}");
        }
    }

    #[test]
    fn long_undecided_input_is_bounded() {
        let line = [b"GET /".as_slice(), &[b'a'; 100]].concat();
        assert_eq!(detect(&line, 1000), Detected::Undecided);
        assert_eq!(detect(&line, 100), Detected::Http1);
        assert_eq!(detect(&[b'A'; 40], 1000), Detected::Other);
    }

    proptest! {
        /// Once decided, more bytes change nothing; and nothing panics.
        #[test]
        fn decisions_are_final(bytes in proptest::collection::vec(any::<u8>(), 0..64), start in 0usize..5) {
            let starts: [&[u8]; 5] = [b"", b"GET /", b"PRI * HTTP/2.0\r\n", b"\x16\x03\x01", b"POST /a HTTP/1."];
            let bytes = [starts[start], &bytes].concat();
            let mut decided = Detected::Undecided;
            for n in 0..=bytes.len() {
                let now = detect(&bytes[..n], MOST);
                if decided != Detected::Undecided {
                    prop_assert_eq!(now, decided);
                }
                decided = now;
            }
        }
    }
}
