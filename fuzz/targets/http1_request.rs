//! Does anything that a client sends break the reading of a request, or make it depend on how the bytes are cut?
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_fuzz::beginnings_agree;
use mesh_http1::{BodyDecoder, BodyError, BodyKind, Limits, Parsed, RequestHead};

/// Payload, trailers and what is left over.
type Body = (Vec<u8>, Vec<u8>, Vec<u8>);

/// What is read from pieces of at most `cut` bytes.
fn body(kind: BodyKind, bytes: &[u8], cut: usize) -> Result<Body, BodyError> {
    let mut decoder = BodyDecoder::new(kind, &Limits::default());
    let (mut payload, mut left) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(cut) {
        left.extend_from_slice(piece);
        while !left.is_empty() && !decoder.is_done() {
            let decoded = decoder.decode(&left)?;
            assert!(decoded.consumed > 0 && decoded.consumed <= left.len());
            assert!(decoded.data.end <= decoded.consumed);
            payload.extend_from_slice(&left[decoded.data.clone()]);
            left.drain(..decoded.consumed);
        }
    }
    Ok((payload, decoder.take_trailers().into_lines(), left))
}

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    let mut head = RequestHead::new();
    let whole = head.parse(bytes, &limits);
    beginnings_agree(bytes, whole, head.head_len, |part| {
        RequestHead::new().parse(part, &limits)
    });
    if whole == Ok(Parsed::Complete) {
        assert!(head.head_len <= bytes.len() && head.fields.len() <= limits.fields);
        let rest = &bytes[head.head_len..];
        let one = body(head.body, rest, usize::MAX);
        assert_eq!(one, body(head.body, rest, 1));
        assert_eq!(one, body(head.body, rest, 7));
    }
});
