//! Does anything that a server sends break the reading of a response, or make it depend on how the bytes are cut?
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_http1::{Limits, Method, Parsed, ResponseHead};

fuzz_target!(|input: (u8, &[u8])| {
    let (method, bytes) = input;
    let method = [Method::Get, Method::Head, Method::Connect, Method::Post][usize::from(method % 4)];
    let limits = Limits::default();
    let mut head = ResponseHead::new();
    let whole = head.parse(bytes, method, &limits);
    for end in [bytes.len() / 2, bytes.len().saturating_sub(1)] {
        let part = ResponseHead::new().parse(&bytes[..end], method, &limits);
        match whole {
            Ok(Parsed::Partial) => assert_eq!(part, Ok(Parsed::Partial)),
            Ok(Parsed::Complete) if end < head.head_len => assert_eq!(part, Ok(Parsed::Partial)),
            Ok(Parsed::Complete) => assert_eq!(part, whole),
            Err(_) => assert_ne!(part, Ok(Parsed::Complete)),
        }
    }
    if whole == Ok(Parsed::Complete) {
        assert!(head.head_len <= bytes.len() && head.fields.len() <= limits.fields);
    }
});
