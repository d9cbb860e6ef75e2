//! Is it found out early, and for good, what a client speaks, which server it asks for, and for whom a proxy speaks?
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_proxy::detect::{Detected, detect, greets_as_http2};
use mesh_proxy::proxy_header::{Header, header};
use mesh_proxy::tls::sniff::{Hello, client_hello};

/// What a request line that does not end may take.
const MOST: usize = 1024;

fuzz_target!(|bytes: &[u8]| {
    let mut known = Detected::Undecided;
    let mut hello = Hello::Incomplete;
    let mut sent = Header::Incomplete;
    let mut greets = None;
    for end in 0..=bytes.len().min(2 * MOST) {
        let part = &bytes[..end];
        let now = detect(part, MOST);
        assert!(
            known == Detected::Undecided || now == known,
            "{known:?}, then {now:?}"
        );
        known = now;
        let now = client_hello(part);
        assert!(
            hello == Hello::Incomplete || now == hello,
            "{hello:?}, then {now:?}"
        );
        hello = now;
        let now = header(part, MOST);
        assert!(
            sent == Header::Incomplete || now == sent,
            "{sent:?}, then {now:?}"
        );
        assert!(now != Header::Incomplete || end < MOST);
        sent = now;
        let now = greets_as_http2(part);
        assert!(greets.is_none() || now == greets);
        greets = now;
    }
    if let Hello::ServerName(Some(name)) = client_hello(bytes) {
        assert!(!name.is_empty() && !name.bytes().any(|byte| byte.is_ascii_uppercase()));
    }
});
