//! What does a client speak? Decided from its first bytes, never before they allow only one answer.
//!
//! A partial request line, HTTP/2 preface or ClientHello is [`Detected::Undecided`]; the caller waits for more until the
//! header timeout. A byte that no longer fits any of them makes it [`Detected::Other`] at once.
//!
//! What is [`Detected::Other`] may reach a server unseen, past routes, limits and the headers that are taken out. So HTTP/1
//! is not only what is right, it is whatever line some server may take for a request: with blank lines in front, two
//! blanks, bytes that no target has, without a version. What is wrong with it is the codec's to say.
//!
//! And does a server that speaks first mean it? Servers of HTTP/2 greet before they are asked ([`greets_as_http2`]).

/// The preface of HTTP/2 (RFC 9113 section 3.4).
pub const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

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

/// A line that some server may take for a request's (RFC 9112 section 3): a method, and a version at its end, or the
/// `GET` of HTTP/0.9.
fn http1(bytes: &[u8]) -> Detected {
    // Blank lines in front are passed over by many (RFC 9112 section 2.2), blanks by some.
    let Some(start) = bytes.iter().position(|b| !is_space(*b)) else {
        return Detected::Undecided;
    };
    let line = bytes.get(start..).unwrap_or_default();
    let Some(end) = line.iter().position(|b| !is_token(*b)) else {
        return Detected::Undecided;
    };
    let (method, rest) = line.split_at(end);
    // Servers that are lenient about what is between, or about bytes that no text has, know methods by their names.
    let is_word = method.len() >= 3 && method.iter().all(u8::is_ascii_alphabetic);
    match rest {
        [b'\r'] if is_word => return Detected::Undecided,
        [b'\r', b'\n', ..] | [b'\n', ..] => return Detected::Other,
        [b' ', ..] if end > 0 => {}
        [space, ..] if is_word && is_blank(*space) => {}
        _ => return Detected::Other,
    }
    let line_end = rest.iter().position(|b| *b == b'\n');
    let rest = rest.get(..line_end.unwrap_or(rest.len())).unwrap_or_default();
    if !is_word && rest.iter().any(|b| b.is_ascii_control() && !is_space(*b)) {
        return Detected::Other;
    }
    let has_version = || {
        rest.windows(7).any(|part| {
            matches!(part, [space, name @ .., digit]
                if is_blank(*space) && name.eq_ignore_ascii_case(b"HTTP/") && digit.is_ascii_digit())
        })
    };
    let is_simple = || {
        let mut words = rest.split(|b| is_blank(*b)).filter(|word| !word.is_empty());
        method == b"GET"
            && words.next().is_some_and(|target| target.starts_with(b"/"))
            && words.next().is_none()
    };
    match line_end {
        None => Detected::Undecided,
        Some(_) if has_version() || is_simple() => Detected::Http1,
        Some(_) => Detected::Other,
    }
}

/// What ends a word of a line, to some server.
fn is_blank(b: u8) -> bool {
    b != b'\n' && (is_space(b) || matches!(b, 0x1c..=0x1f | 0x85 | 0xa0))
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c)
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
        let cases: [(&[u8], Detected); 31] = [
            (b"\r\nGET / HTTP/1.1\r\n", Detected::Http1),
            (b"\n \tGET / HTTP/1.1\r\n", Detected::Http1),
            (b"GET  / HTTP/1.1\r\n", Detected::Http1),
            (b"GET\t/\x0bHTTP/1.1\r\n", Detected::Http1),
            (b"GET\r/\rHTTP/1.1\r\n", Detected::Http1),
            (b"GET /\xc3\xbc\x00 http/1.10 \r\n", Detected::Http1),
            (b"0*x / HTTP/1.1\n", Detected::Http1),
            (b"GET /\r\n", Detected::Http1),
            (
                &[[b'A'; 500].as_slice(), b" / HTTP/1.1\r\n"].concat(),
                Detected::Http1,
            ),
            (b"PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n", Detected::Http1),
            (b"CONNECT {\"version\":\"1.2\"}\r\n", Detected::Other),
            (b"CONNECT\naccept-version:1.2\n\n\0", Detected::Other),
            (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", Detected::Other),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Detected::Other),
            (b"\x0bMSH|^~\\&|A|B\r\x1c\r", Detected::Other),
            (
                b"0\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00",
                Detected::Other,
            ),
            (b"0 \x02\x01\x01\x60\x1b\x02\x01\x03\x04\x14cn", Detected::Other),
            (b"\x0a\x03abc\x10\x01", Detected::Other),
            (b"*3\r\n$3\r\nSET\r\n", Detected::Other),
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
        assert_eq!(detect(&[b'A'; 40], 1000), Detected::Undecided);
        assert_eq!(detect(&[b'\n'; 1000], 1000), Detected::Http1);
    }

    proptest! {
        /// Once decided, more bytes change nothing; and nothing panics.
        #[test]
        fn decisions_are_final(bytes in proptest::collection::vec(any::<u8>(), 0..64), start in 0usize..6) {
            let starts: [&[u8]; 6] =
                [b"", b"GET /", b"PRI * HTTP/2.0\r\n", b"\x16\x03\x01", b"POST /a HTTP/1.", b"\r\n0 "];
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
