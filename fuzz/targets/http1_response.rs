//! Does anything that a server sends break the reading of a response, or make it depend on how the bytes are cut?
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_fuzz::beginnings_agree;
use mesh_http1::{Limits, Method, Parsed, ResponseHead};

fuzz_target!(|input: (u8, &[u8])| {
    let (method, bytes) = input;
    let method = [Method::Get, Method::Head, Method::Connect, Method::Post][usize::from(method % 4)];
    let limits = Limits::default();
    let mut head = ResponseHead::new();
    let whole = head.parse(bytes, method, &limits);
    beginnings_agree(bytes, whole, head.head_len, |part| {
        ResponseHead::new().parse(part, method, &limits)
    });
    if whole == Ok(Parsed::Complete) {
        assert!(head.head_len <= bytes.len() && head.fields.len() <= limits.fields);
    }
});
