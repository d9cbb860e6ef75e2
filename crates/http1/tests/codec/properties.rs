//! What holds for all input.

use mesh_http1::path::{PathClass, classify_path, normalise_path};
use mesh_http1::{
    BodyDecoder, BodyEncoder, BodyKind, HeadWriter, Known, Limits, Method, Parsed, RequestHead, ResponseHead,
    classify, copy_fields, is_token, is_value,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::bodies::decode;

/// Names that have no meaning of their own, and values as they may be.
fn fields() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let value = vec(
        prop_oneof![8 => 0x21u8..0x7f, 1 => 0x80u8..=0xff, 1 => Just(b' '), 1 => Just(b'\t')],
        0..40,
    );
    let value = value.prop_map(|bytes| {
        let is_ows = |b: &u8| *b == b' ' || *b == b'\t';
        let start = bytes.iter().position(|b| !is_ows(b)).unwrap_or(bytes.len());
        let end = bytes
            .iter()
            .rposition(|b| !is_ows(b))
            .map_or(start, |last| last + 1);
        bytes[start..end].to_vec()
    });
    vec(
        (
            "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}"
                .prop_filter("plain", |n| classify(n.as_bytes()) == Known::Other),
            value,
        ),
        0..12,
    )
}

/// A valid head in every layout: whitespace around values, any fields.
fn layout() -> impl Strategy<Value = (Vec<u8>, Vec<(String, Vec<u8>)>)> {
    (
        fields(),
        vec(("[ \t]{0,3}", "[ \t]{0,3}"), 12),
        any::<bool>(),
        "/[!\"$-~]{0,30}",
    )
        .prop_map(|(fields, white, empty_line, target)| {
            let mut bytes = if empty_line { b"\r\n".to_vec() } else { Vec::new() };
            bytes.extend_from_slice(format!("PUT {target} HTTP/1.1\r\nHost: a.test\r\n").as_bytes());
            for ((name, value), (before, after)) in fields.iter().zip(white) {
                bytes.extend_from_slice(name.as_bytes());
                bytes.push(b':');
                bytes.extend_from_slice(before.as_bytes());
                bytes.extend_from_slice(value);
                bytes.extend_from_slice(after.as_bytes());
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"\r\n");
            (bytes, fields)
        })
}

/// Bytes that look like HTTP often enough to reach deep into the parser.
fn almost_http() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(&b"GET / HTTP/1.1\r\n"[..]),
        Just(&b"HTTP/1.1 200 OK\r\n"[..]),
        Just(&b"Host: a\r\n"[..]),
        Just(&b"Content-Length: 5\r\n"[..]),
        Just(&b"Transfer-Encoding: chunked\r\n"[..]),
        Just(&b"Connection: upgrade, x\r\n"[..]),
        Just(&b"Upgrade: y\r\n"[..]),
        Just(&b"X: y\r\n"[..]),
        Just(&b"CONNECT a:1 HTTP/1.0\r\n"[..]),
        Just(&b"GET http://a/ HTTP/1.1\r\n"[..]),
        Just(&b"\r\n"[..]),
        Just(&b"\n"[..]),
        Just(&b"\r"[..]),
        Just(&b" "[..]),
        Just(&b":"[..]),
        Just(&b"\0"[..]),
        Just(&b"5\r\nhello\r\n"[..]),
        Just(&b"0\r\n\r\n"[..]),
        Just(&b"Expect: 100-continue\r\n"[..]),
        Just(&b"\xff"[..]),
    ];
    vec(part, 0..10).prop_map(|parts| parts.concat())
}

/// What says how a message is framed and where it goes: valid, and in combinations that are not.
fn meaning() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just("Content-Length: 5\r\n"),
        Just("Content-Length: 05\r\n"),
        Just("Transfer-Encoding: chunked\r\n"),
        Just("transfer-encoding:\tCHUNKED \r\n"),
        Just("Connection: close, x-a\r\n"),
        Just("Connection: keep-alive\r\n"),
        Just("Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        Just("Expect: 100-continue\r\n"),
        Just("X-A: b\r\n"),
        Just("Host: b.test\r\n"),
    ];
    vec(line, 0..4).prop_map(|lines| lines.concat().into_bytes())
}

/// One thing done to bytes that were right.
#[derive(Clone, Debug)]
enum Slip {
    Replace(u8),
    Insert(u8),
    Remove,
    Repeat(usize),
    Cut,
}

fn slips() -> impl Strategy<Value = Vec<(prop::sample::Index, Slip)>> {
    let byte = || {
        prop_oneof![
            any::<u8>(),
            prop::sample::select(b"\r\n\t :,;/0\0\x7f\xff".to_vec())
        ]
    };
    let slip = prop_oneof![
        byte().prop_map(Slip::Replace),
        byte().prop_map(Slip::Insert),
        Just(Slip::Remove),
        (1usize..20).prop_map(Slip::Repeat),
        Just(Slip::Cut),
    ];
    vec((any::<prop::sample::Index>(), slip), 0..4)
}

fn slipped(mut bytes: Vec<u8>, slips: &[(prop::sample::Index, Slip)]) -> Vec<u8> {
    for (at, slip) in slips {
        let at = at.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
        match *slip {
            _ if bytes.is_empty() => {}
            Slip::Replace(byte) => bytes[at] = byte,
            Slip::Insert(byte) => bytes.insert(at, byte),
            Slip::Remove => drop(bytes.remove(at)),
            Slip::Repeat(length) => {
                let piece = bytes[at..(at + length).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            Slip::Cut => bytes.truncate(at),
        }
    }
    bytes
}

/// Gives a parser one prefix after the other: its answer never changes once there is one, and is then given.
fn settled<E: Copy + PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    mut parse: impl FnMut(&[u8]) -> Result<Parsed, E>,
) -> Result<Parsed, E> {
    let mut answer = Ok(Parsed::Partial);
    for end in 0..=bytes.len() {
        let next = parse(&bytes[..end]);
        if answer != Ok(Parsed::Partial) {
            assert_eq!(next, answer, "at {end} of {:?}", String::from_utf8_lossy(bytes));
        }
        answer = next;
    }
    answer
}

fn limits() -> Limits {
    Limits {
        head_bytes: 4096,
        fields: 32,
        ..Limits::default()
    }
}

/// Everything a parsed head says.
fn said(head: &RequestHead) -> String {
    format!("{head:?}")
}

proptest! {
    /// A head is incomplete up to its last byte, and then says the same, whatever follows.
    #[test]
    fn heads_mean_the_same_however_they_are_cut((bytes, fields) in layout(), tail in vec(any::<u8>(), 0..20)) {
        let mut head = RequestHead::new();
        for cut in 0..bytes.len() {
            prop_assert_eq!(head.parse(&bytes[..cut], &limits()), Ok(Parsed::Partial), "cut at {}", cut);
        }
        prop_assert_eq!(head.parse(&bytes, &limits()), Ok(Parsed::Complete));
        prop_assert_eq!(head.head_len, bytes.len());
        let first = said(&head);
        let found: Vec<_> = head.fields.iter().skip(1)
            .map(|f| (String::from_utf8(f.name.of(&bytes).to_vec()).unwrap(), f.value.of(&bytes).to_vec())).collect();
        prop_assert_eq!(found, fields);
        let longer = [bytes, tail].concat();
        prop_assert_eq!(RequestHead::new().parse(&longer, &limits()), Ok(Parsed::Complete));
        head.parse(&longer, &limits()).unwrap();
        prop_assert_eq!(said(&head), first);
    }

    /// What is copied parses to the same fields, in canonical form.
    #[test]
    fn what_is_written_parses_back((bytes, fields) in layout()) {
        let mut head = RequestHead::new();
        head.parse(&bytes, &limits()).unwrap();
        let mut out = Vec::new();
        let mut writer = HeadWriter::new(&mut out);
        writer.status_line(200, b"");
        copy_fields(&bytes, &head.fields, writer.out(), |field| field.known != Known::Host);
        for (name, value) in &fields {
            writer.field(name.as_bytes(), value);
        }
        writer.content_length(7);
        writer.end();
        let mut response = ResponseHead::new();
        prop_assert_eq!(response.parse(&out, Method::Get, &limits()), Ok(Parsed::Complete));
        prop_assert_eq!(response.body, BodyKind::Fixed(7));
        let found: Vec<_> = response.fields.iter()
            .map(|f| (String::from_utf8(f.name.of(&out).to_vec()).unwrap(), f.value.of(&out).to_vec())).collect();
        let want: Vec<_> = fields.iter().chain(&fields).cloned()
            .chain([("Content-Length".to_owned(), b"7".to_vec())]).collect();
        prop_assert_eq!(found, want);
        prop_assert!(response.fields.iter().all(|f| f.canonical));
    }

    /// No bytes make it panic; once refused, more bytes change nothing; spans stay inside.
    #[test]
    fn no_head_panics(bytes in prop_oneof![vec(any::<u8>(), 0..200), almost_http()], cut in any::<prop::sample::Index>()) {
        let cut = cut.index(bytes.len() + 1);
        let small = Limits { head_bytes: 150, fields: 3, ..Limits::default() };
        let mut head = RequestHead::new();
        let early = head.parse(&bytes[..cut], &small);
        let whole = head.parse(&bytes, &small);
        if early != Ok(Parsed::Partial) {
            prop_assert_eq!(early, whole);
        }
        if whole == Ok(Parsed::Complete) {
            for field in &head.fields {
                prop_assert!(is_token(field.name.of(&bytes)) && is_value(field.value.of(&bytes)));
                prop_assert!(field.line.of(&bytes).ends_with(b"\r\n"));
            }
            prop_assert!(head.head_len <= bytes.len());
        }
        let mut head = ResponseHead::new();
        let early = head.parse(&bytes[..cut], Method::Get, &small);
        let whole = head.parse(&bytes, Method::Get, &small);
        prop_assert!(early == Ok(Parsed::Partial) || early == whole);
    }

    /// What is nearly right is taken or refused the same way however it is cut, and what is taken means one thing.
    #[test]
    fn slips_are_judged_the_same_however_they_are_cut(
        (head, _) in layout(),
        meaning in meaning(),
        status in prop_oneof![Just("101"), Just("200"), Just("204"), Just("304")],
        slips in slips(),
    ) {
        let lines = head.windows(2).position(|pair| pair == b"\r\n").unwrap() + 2;
        let fields = &head[lines..head.len() - 2];
        let request = [&head[..lines], fields, &meaning, b"\r\n"].concat();
        let request = slipped(request, &slips);
        let mut parsed = RequestHead::new();
        if settled(&request, |bytes| parsed.parse(bytes, &limits())) == Ok(Parsed::Complete) {
            // One framing, and a host that is one.
            let count = |known| parsed.fields.iter().filter(|field| field.known == known).count();
            prop_assert!(count(Known::ContentLength) + count(Known::TransferEncoding) <= 1);
            prop_assert!(count(Known::Host) <= 1);
            let head = &request[..parsed.head_len];
            prop_assert!(head.ends_with(b"\r\n\r\n"));
            for (at, byte) in head.iter().enumerate() {
                prop_assert!(*byte != 0);
                prop_assert!(*byte != b'\n' || head[at - 1] == b'\r');
                prop_assert!(*byte != b'\r' || head[at + 1] == b'\n');
            }
            // What is sent on instead says the same.
            let mut out = Vec::new();
            let mut writer = HeadWriter::new(&mut out);
            writer.request_line(parsed.method_span.of(&request), parsed.target_span.of(&request));
            copy_fields(&request, &parsed.fields, writer.out(), |_| true);
            writer.end();
            let mut again = RequestHead::new();
            if parsed.version == mesh_http1::Version::Http11 {
                prop_assert_eq!(again.parse(&out, &limits()), Ok(Parsed::Complete));
                prop_assert_eq!((again.body, again.persistence, again.upgrade.is_some()), (parsed.body, parsed.persistence, parsed.upgrade.is_some()));
                prop_assert_eq!(again.host.map(|host| host.of(&out).to_vec()), parsed.host.map(|host| host.of(&request).to_vec()));
            }
        }
        let response = [b"HTTP/1.1 ", status.as_bytes(), b" \r\n", fields, &meaning, b"\r\n"].concat();
        let response = slipped(response, &slips);
        let mut parsed = ResponseHead::new();
        for method in [Method::Get, Method::Head, Method::Connect] {
            let _ = settled(&response, |bytes| parsed.parse(bytes, method, &limits()));
        }
    }

    /// The same for bodies: chunks that are nearly right.
    #[test]
    fn slips_in_bodies_are_judged_the_same_however_they_are_cut(
        chunks in vec(vec(any::<u8>(), 1..20), 0..4),
        trailer in prop_oneof![Just(""), Just("X: y\r\n"), Just("Content-Length: 1\r\n")],
        extension in prop_oneof![Just(""), Just(";a"), Just(";a=\"b\"")],
        slips in slips(),
        size in 1usize..8,
    ) {
        let mut bytes = Vec::new();
        for chunk in &chunks {
            bytes.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(format!("0\r\n{trailer}\r\nGET /").as_bytes());
        let bytes = slipped(bytes, &slips);
        let whole = decode(BodyKind::Chunked, &limits(), [bytes.as_slice()]);
        let cut = decode(BodyKind::Chunked, &limits(), bytes.chunks(size));
        prop_assert_eq!(&cut, &whole);
        if slips.is_empty() {
            let (payload, trailers, _, done) = whole.unwrap();
            prop_assert!(done);
            prop_assert_eq!(payload, chunks.concat());
            prop_assert_eq!(trailers, if trailer == "X: y\r\n" { b"X: y\r\n".to_vec() } else { Vec::new() });
        }
    }

    /// Payload, trailers and error are the same however the input is cut.
    #[test]
    fn bodies_mean_the_same_however_they_are_cut(
        bytes in prop_oneof![vec(any::<u8>(), 0..60), "[0-9a-f\r\n;: ]{0,40}".prop_map(String::into_bytes), almost_http()],
        cuts in vec(1usize..9, 1..40),
    ) {
        let small = Limits { chunk_extension_bytes: 8, body_extension_bytes: 12, trailer_bytes: 24, fields: 2, ..Limits::default() };
        for kind in [BodyKind::Chunked, BodyKind::Fixed(17), BodyKind::UntilClose, BodyKind::None] {
            let mut rest = bytes.as_slice();
            let mut sizes = cuts.iter().cycle();
            let pieces = std::iter::from_fn(|| {
                let (piece, after) = rest.split_at_checked(*sizes.next()?).unwrap_or((rest, &[]));
                rest = after;
                (!piece.is_empty()).then_some(piece)
            });
            prop_assert_eq!(decode(kind, &small, pieces), decode(kind, &small, [bytes.as_slice()]));
        }
    }

    /// What the encoder frames, the decoder takes apart.
    #[test]
    fn chunks_round_trip(
        chunks in vec(vec(any::<u8>(), 0..300), 0..8),
        trailers in fields(),
        tail in vec(any::<u8>(), 0..5),
        size in 1usize..50,
    ) {
        let mut out = Vec::new();
        let mut lines = Vec::new();
        for (name, value) in trailers.iter().take(5) {
            let mut line = HeadWriter::new(&mut lines);
            line.field(name.as_bytes(), value);
        }
        let mut encoder = BodyEncoder::Chunked;
        for chunk in &chunks {
            encoder.begin(chunk.len(), &mut out).unwrap();
            if !chunk.is_empty() {
                out.extend_from_slice(chunk);
                BodyEncoder::end_chunk(&mut out);
            }
        }
        encoder.finish(&lines, &mut out).unwrap();
        out.extend_from_slice(&tail);
        let (payload, found, mut left, done) = decode(BodyKind::Chunked, &Limits::default(), out.chunks(size)).unwrap();
        left.truncate(tail.len());
        prop_assert!(done);
        prop_assert_eq!(payload, chunks.concat());
        prop_assert_eq!(found, lines);
        prop_assert_eq!(left, tail);
    }

    /// A body's decoder takes at least one byte of every input until it is done or refuses.
    #[test]
    fn decoders_always_get_on(bytes in vec(any::<u8>(), 1..50)) {
        let mut decoder = BodyDecoder::new(BodyKind::Chunked, &Limits::default());
        if let Ok(decoded) = decoder.decode(&bytes) {
            prop_assert!(decoded.consumed > 0 || decoded.done);
        }
    }

    /// Normal stays normal; plain is normal; a plain path is never refused.
    #[test]
    fn the_normal_form_is_a_fixed_point(
        path in prop_oneof!["/[a-zA-Z0-9/.%;~\\\\-]{0,24}", "(/|\\.|%2e|%2E|%2f|;|a|%41|%c3|%3b|%25){0,12}"],
        keep in any::<bool>(),
    ) {
        let (mut once, mut twice) = (Vec::new(), Vec::new());
        let first = normalise_path(path.as_bytes(), keep, &mut once);
        if first.is_ok() {
            prop_assert_eq!(normalise_path(&once, keep, &mut twice), Ok(()));
            prop_assert_eq!(&once, &twice);
            prop_assert!(once.starts_with(b"/") && !once.windows(2).any(|pair| pair == b"//"));
        }
        if classify_path(path.as_bytes()) == PathClass::Plain {
            prop_assert_eq!(first, Ok(()));
            prop_assert_eq!(once, path.into_bytes());
        }
    }

    #[test]
    fn no_path_panics(path in vec(any::<u8>(), 0..40)) {
        let mut out = Vec::new();
        if classify_path(&path) == PathClass::Plain {
            prop_assert_eq!(normalise_path(&path, false, &mut out), Ok(()));
            prop_assert_eq!(out, path);
        } else {
            let _ = normalise_path(&path, true, &mut out);
        }
    }
}
