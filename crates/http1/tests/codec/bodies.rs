//! Framing of bodies: what is payload, what is refused.

use mesh_http1::{BodyDecoder, BodyEncoder, BodyError, BodyKind, Decoded, Limits, is_forbidden_trailer};

use BodyError::*;

/// Payload, trailers, what is left over, and whether the body is done.
pub(crate) type Outcome = (Vec<u8>, Vec<u8>, Vec<u8>, bool);

/// Decodes input that comes in pieces.
pub(crate) fn decode<'i>(
    kind: BodyKind,
    limits: &Limits,
    pieces: impl IntoIterator<Item = &'i [u8]>,
) -> Result<Outcome, BodyError> {
    let mut decoder = BodyDecoder::new(kind, limits);
    let mut payload = Vec::new();
    let mut left = Vec::new();
    for piece in pieces {
        left.extend_from_slice(piece);
        while !left.is_empty() && !decoder.is_done() {
            let decoded = decoder.decode(&left)?;
            assert!(decoded.consumed > 0 && decoded.consumed <= left.len());
            assert!(decoded.data.end <= decoded.consumed);
            assert_eq!(decoded.done, decoder.is_done());
            payload.extend_from_slice(&left[decoded.data.clone()]);
            left.drain(..decoded.consumed);
        }
    }
    let done = decoder.is_done();
    Ok((payload, decoder.take_trailers().into_lines(), left, done))
}

fn chunked(input: &[u8]) -> Result<Outcome, BodyError> {
    let limits = Limits {
        trailer_bytes: 64,
        fields: 3,
        body_extension_bytes: 600,
        ..Limits::default()
    };
    let whole = decode(BodyKind::Chunked, &limits, [input]);
    let bytes = decode(BodyKind::Chunked, &limits, input.chunks(1));
    assert_eq!(whole, bytes, "{}", input.escape_ascii());
    whole
}

#[test]
fn fixed_bodies_end_where_they_should() {
    let mut decoder = BodyDecoder::new(BodyKind::Fixed(5), &Limits::default());
    assert_eq!(decoder.remaining(), Some(5));
    assert_eq!(
        decoder.decode(b"abc"),
        Ok(Decoded {
            consumed: 3,
            data: 0..3,
            done: false
        })
    );
    assert_eq!(decoder.remaining(), Some(2));
    assert_eq!(
        decoder.decode(b"deGET"),
        Ok(Decoded {
            consumed: 2,
            data: 0..2,
            done: true
        })
    );
    assert_eq!(
        decoder.decode(b"GET"),
        Ok(Decoded {
            consumed: 0,
            data: 0..0,
            done: true
        })
    );
    assert_eq!(decoder.on_eof(), Ok(()));
    for kind in [BodyKind::None, BodyKind::Fixed(0)] {
        assert!(BodyDecoder::new(kind, &Limits::default()).is_done());
    }
}

#[test]
fn the_end_of_the_connection_ends_some_bodies_and_cuts_others() {
    let mut decoder = BodyDecoder::new(BodyKind::UntilClose, &Limits::default());
    assert_eq!(
        decoder.decode(b"abc"),
        Ok(Decoded {
            consumed: 3,
            data: 0..3,
            done: false
        })
    );
    assert_eq!(decoder.on_eof(), Ok(()));
    assert!(decoder.is_done());
    for (kind, input) in [
        (BodyKind::Fixed(5), &b"abc"[..]),
        (BodyKind::Chunked, b"5\r\nab"),
        (BodyKind::Chunked, b"0\r\n"),
    ] {
        let mut decoder = BodyDecoder::new(kind, &Limits::default());
        decoder.decode(input).unwrap();
        assert_eq!(decoder.on_eof(), Err(Truncated));
        assert_eq!(decoder.decode(b"more"), Err(Truncated));
    }
}

#[test]
fn chunks_come_off() {
    let (payload, trailers, left, done) =
        chunked(b"5\r\nhello\r\n006;a=\"b\\\";c\r\n world\r\nA\r\n0123456789\r\n000\r\n\r\nGET /").unwrap();
    assert_eq!((payload.as_slice(), done), (&b"hello world0123456789"[..], true));
    assert!(trailers.is_empty());
    assert_eq!(left, b"GET /");
    let (payload, _, _, done) = chunked(b"0000000000000001\r\nx\r\n7fffffffffffffff\r\nyz").unwrap();
    assert_eq!((payload.as_slice(), done), (&b"xyz"[..], false));
}

/// A small body that came in one read is done in one call.
#[test]
fn framing_behind_payload_is_taken_with_it() {
    let input = b"5\r\nhello\r\n0\r\n\r\nGET";
    let mut decoder = BodyDecoder::new(BodyKind::Chunked, &Limits::default());
    assert_eq!(
        decoder.decode(input),
        Ok(Decoded {
            consumed: 15,
            data: 3..8,
            done: true
        })
    );
    let mut decoder = BodyDecoder::new(BodyKind::Chunked, &Limits::default());
    assert_eq!(
        decoder.decode(b"1\r\na\r\n2\r\nbc"),
        Ok(Decoded {
            consumed: 9,
            data: 3..4,
            done: false
        })
    );
}

/// attacks.md 14.
#[test]
fn bad_chunks_are_refused() {
    for (input, want) in [
        (&b"\r\n"[..], InvalidChunkSize),
        (b";a\r\n", InvalidChunkSize),
        (b"5\nhello", InvalidLineEnd),
        (b"5\r\r\n", InvalidLineEnd),
        (b"5\r\r;\r\n", InvalidLineEnd),
        (b"5\rx", InvalidLineEnd),
        (b"0_2e\r\n", InvalidChunkSize),
        (b"0x5\r\n", InvalidChunkSize),
        (b"0x\r\n", InvalidChunkSize),
        (b"+5\r\n", InvalidChunkSize),
        (b"-5\r\n", InvalidChunkSize),
        (b" 5\r\n", InvalidChunkSize),
        (b"5 \r\n", InvalidChunkSize),
        (b"5\t;a\r\n", InvalidChunkSize),
        (b"g\r\n", InvalidChunkSize),
        (b"5\x00\r\n", InvalidChunkSize),
        (b"\xc2\xb2\r\n", InvalidChunkSize),
        (b"8000000000000000\r\n", ChunkTooLarge),
        (b"10000000000000005\r\n", ChunkTooLarge),
        (b"00000000000000005\r\n", ChunkTooLarge),
        (b"5;a\nhello", InvalidLineEnd),
        (b"5;a\x00\r\n", InvalidChunkExtension),
        (b"5;a\x7f\r\n", InvalidChunkExtension),
        (b"5;a\rb\r\n", InvalidLineEnd),
        (b"5\r\nhello5\r\n", InvalidLineEnd),
        (b"5\r\nhello\n", InvalidLineEnd),
        (b"5\r\nhello\rx", InvalidLineEnd),
        (b"5\r\nhello\r\n\r\n", InvalidChunkSize),
        (b"0\r\n\n", InvalidTrailer),
        (b"0\r\n\rx", InvalidLineEnd),
        (b"0\r\nA: b\n\r\n", InvalidTrailer),
        (b"0\r\nA: b\r\n c\r\n\r\n", InvalidTrailer),
        (b"0\r\n A: b\r\n\r\n", InvalidTrailer),
        (b"0\r\nA : b\r\n\r\n", InvalidTrailer),
        (b"0\r\nA\r\n\r\n", InvalidTrailer),
        (b"0\r\n: b\r\n\r\n", InvalidTrailer),
        (b"0\r\nA: b\rc\r\n\r\n", InvalidTrailer),
        (b"0\r\nA: \x00\r\n\r\n", InvalidTrailer),
        (b"0\r\nGET / HTTP/1.1\r\n\r\n", InvalidTrailer),
        (b"0\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\n\r\n", TrailersTooLarge),
        (
            b"0\r\nHost: b\r\nHost: b\r\nHost: b\r\nHost: b\r\n\r\n",
            TrailersTooLarge,
        ),
    ] {
        assert_eq!(chunked(input).map(|_| ()), Err(want), "{}", input.escape_ascii());
    }
    let long = format!("0\r\nA: {}\r\n\r\n", "b".repeat(64));
    assert_eq!(chunked(long.as_bytes()).map(|_| ()), Err(TrailersTooLarge));
}

/// Extensions have a budget for a chunk and one for the body.
#[test]
fn extensions_are_bounded() {
    let chunk = |bytes: usize| format!("1;{}\r\nx\r\n", "e".repeat(bytes - 1));
    assert!(chunked((chunk(256) + "0\r\n\r\n").as_bytes()).unwrap().3);
    assert_eq!(
        chunked(chunk(257).as_bytes()).map(|_| ()),
        Err(ChunkExtensionTooLarge)
    );
    assert_eq!(
        chunked((chunk(250) + &chunk(250) + &chunk(101)).as_bytes()).map(|_| ()),
        Err(ChunkExtensionTooLarge)
    );
    assert!(
        chunked((chunk(250) + &chunk(250) + &chunk(100) + "0\r\n\r\n").as_bytes())
            .unwrap()
            .3
    );
}

/// What came before the mistake is given first, and the mistake then stays.
#[test]
fn payload_before_a_mistake_is_given() {
    let mut decoder = BodyDecoder::new(BodyKind::Chunked, &Limits::default());
    assert_eq!(
        decoder.decode(b"2\r\nab\r\nzz"),
        Ok(Decoded {
            consumed: 5,
            data: 3..5,
            done: false
        })
    );
    assert_eq!(decoder.decode(b"\r\nzz"), Err(InvalidChunkSize));
    assert_eq!(decoder.decode(b"0\r\n\r\n"), Err(InvalidChunkSize));
    assert_eq!(decoder.on_eof(), Err(InvalidChunkSize));
    assert!(!decoder.is_done());
}

#[test]
fn trailers_are_checked_and_sifted() {
    let limits = Limits::default();
    let input: &[u8] = b"1\r\nx\r\n0\r\nGrpc-Status:0\r\nContent-Length: 5\r\nX-Sum:  a b \r\nHost: evil\r\n\
        authorization: x\r\nx-forwarded-for: 1.1.1.1\r\nX_Forwarded_For: 1.1.1.1\r\nX-Forwarded-Prefix: /a\r\n\
        X-Mesh-Peer: spiffe://a/b\r\nX_Real_IP: 1.1.1.1\r\nConnection: close\r\nE:\r\n\r\nrest";
    for size in [1, 2, 3, 7, input.len()] {
        let (payload, trailers, left, done) = decode(BodyKind::Chunked, &limits, input.chunks(size)).unwrap();
        assert_eq!(payload, b"x");
        assert_eq!(trailers, b"Grpc-Status: 0\r\nX-Sum: a b\r\nE: \r\n", "{size}");
        assert_eq!((left.as_slice(), done), (&b"rest"[..], true));
    }
    let mut decoder = BodyDecoder::new(BodyKind::Chunked, &limits);
    decoder.decode(b"0\r\nA: b\r\n").unwrap();
    assert!(decoder.take_trailers().is_empty(), "not before the end");
    decoder.decode(b"\r\n").unwrap();
    let trailers = decoder.take_trailers();
    assert_eq!(trailers.iter().collect::<Vec<_>>(), [(&b"A"[..], &b"b"[..])]);
    assert!(decoder.take_trailers().is_empty(), "only once");
    assert!(is_forbidden_trailer(b"Transfer-Encoding") && !is_forbidden_trailer(b"grpc-status"));
}

#[test]
fn encoders_keep_their_word() {
    let mut out = Vec::new();
    let mut fixed = BodyEncoder::Fixed(5);
    assert_eq!(fixed.begin(3, &mut out), Ok(()));
    assert_eq!({ fixed }.finish(b"", &mut out), Err(ShorterThanAnnounced));
    assert_eq!({ fixed }.begin(3, &mut out), Err(LongerThanAnnounced));
    assert_eq!(fixed.begin(2, &mut out), Ok(()));
    assert_eq!(fixed.finish(b"", &mut out), Ok(()));
    assert_eq!(BodyEncoder::None.begin(1, &mut out), Err(LongerThanAnnounced));
    assert_eq!(BodyEncoder::UntilClose.begin(9, &mut out), Ok(()));
    assert!(out.is_empty());

    let mut encoder = BodyEncoder::Chunked;
    encoder.begin(0, &mut out).unwrap();
    assert!(out.is_empty(), "an empty chunk would end the body");
    encoder.begin(0x1f, &mut out).unwrap();
    BodyEncoder::end_chunk(&mut out);
    encoder.finish(b"A: b\r\n", &mut out).unwrap();
    assert_eq!(out, b"1F\r\n\r\n0\r\nA: b\r\n\r\n");
    assert_eq!(encoder, BodyEncoder::None);
}

/// attacks.md 20: trailers from elsewhere can't end the body early.
#[test]
fn encoders_refuse_trailers_that_are_no_lines() {
    for trailers in [
        &b"\r\n"[..],
        b"A: b",
        b"A: b\n",
        b"A: b\r\n\r\n",
        b"A b\r\n",
        b"A: b\rc\r\n",
        b": b\r\n",
        b"A : b\r\n",
    ] {
        let mut out = Vec::new();
        assert_eq!(
            BodyEncoder::Chunked.finish(trailers, &mut out),
            Err(InvalidTrailer),
            "{}",
            trailers.escape_ascii()
        );
        BodyEncoder::last_chunk(trailers, &mut out);
        assert_eq!(out, b"0\r\n\r\n");
    }
}

#[test]
fn rules_of_bodies_have_names_of_their_own() {
    let names: std::collections::HashSet<_> = BodyError::ALL.iter().map(|error| error.as_str()).collect();
    assert_eq!(names.len(), BodyError::ALL.len());
}
