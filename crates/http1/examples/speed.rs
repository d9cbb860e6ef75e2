//! What do a head and a body cost? Prints nanoseconds for each; run it in release mode.
//!
//! ```text
//! cargo run --release -p mesh-http1 --example speed
//! ```
#![allow(clippy::print_stdout, missing_docs)]

use std::hint::black_box;
use std::time::Instant;

use mesh_http1::path::{classify_path, normalise_path};
use mesh_http1::{
    BodyDecoder, BodyKind, HeadWriter, Known, Limits, Method, RequestHead, ResponseHead, copy_fields,
};

const REQUEST: &[u8] = b"GET /api/items/42?page=2 HTTP/1.1\r\n\
    Host: shop.test:8080\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=0123456789abcdef; theme=dark\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: nginx/1.22.1\r\n\
    Date: Mon, 24 Nov 2025 12:00:00 GMT\r\n\
    Content-Type: application/json; charset=utf-8\r\n\
    Content-Length: 100\r\n\
    Connection: keep-alive\r\n\
    Cache-Control: max-age=60\r\n\
    ETag: \"5f3c2a1b-64\"\r\n\
    X-Frame-Options: DENY\r\n\r\n";

/// The best of many short rounds: what the code costs while nothing else runs.
fn measure(name: &str, bytes: usize, mut run: impl FnMut()) {
    const ROUNDS: u32 = 400;
    // About the same time a round, however large the input.
    let turns = (250_000 / bytes.max(1)).clamp(2, 1_000) as u32;
    let best = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            (0..turns).for_each(|_| run());
            start.elapsed().as_secs_f64() / f64::from(turns)
        })
        .fold(f64::MAX, f64::min);
    println!(
        "{name:<44} {:>9.1} ns {:>8.2} GB/s",
        best * 1e9,
        bytes as f64 / best / 1e9
    );
}

fn main() {
    let limits = Limits::default();
    let mut request = RequestHead::new();
    let mut response = ResponseHead::new();
    let mut out = Vec::with_capacity(8192);

    measure("request of 7 fields, parse", REQUEST.len(), || {
        let _ = black_box(request.parse(black_box(REQUEST), &limits));
    });
    measure("response of 8 fields, parse", RESPONSE.len(), || {
        let _ = black_box(response.parse(black_box(RESPONSE), Method::Get, &limits));
    });
    measure("request of 7 fields, write", REQUEST.len(), || {
        out.clear();
        let mut head = HeadWriter::new(&mut out);
        head.request_line(request.method_span.of(REQUEST), request.target_span.of(REQUEST));
        head.field(b"Host", request.host.map_or(b"", |host| host.of(REQUEST)));
        copy_fields(REQUEST, &request.fields, head.out(), |field| {
            !field.hop && field.known != Known::Host
        });
        head.field(b"x-forwarded-for", b"127.0.0.1");
        head.field(b"x-forwarded-proto", b"http");
        head.field(b"x-request-id", b"0123456789abcdef0123456789abcdef");
        head.end();
        black_box(&out);
    });
    measure("path of 32 bytes, classify", 32, || {
        black_box(classify_path(black_box(b"/api/v1/shops/1234/items/5678/ab")));
    });
    measure("path of 32 bytes, normalise", 32, || {
        let _ = black_box(normalise_path(
            black_box(b"/api/v1/shops/../%69tems/5678/ab"),
            false,
            &mut out,
        ));
    });

    // The most a read of a slow attacker's head can cost.
    let long = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'y'; 65_000]].concat();
    measure("head of 64 KiB that is not complete", long.len(), || {
        let _ = black_box(request.parse(black_box(&long), &limits));
    });
    let tabs = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'\t'; 65_000]].concat();
    measure("the same of tabs", tabs.len(), || {
        let _ = black_box(request.parse(black_box(&tabs), &limits));
    });
    let target = [b"GET /".as_slice(), &[b'y'; 65_000]].concat();
    measure("the same in the request line", target.len(), || {
        let _ = black_box(request.parse(black_box(&target), &limits));
    });

    for size in [1usize, 16, 1024, 16 * 1024] {
        let chunk = [format!("{size:x}\r\n").as_bytes(), &vec![b'x'; size], b"\r\n"].concat();
        let body = [chunk.repeat(64 * 1024 / chunk.len()).as_slice(), b"0\r\n\r\n"].concat();
        measure(&format!("64 KiB in chunks of {size}, decode"), body.len(), || {
            let mut decoder = BodyDecoder::new(BodyKind::Chunked, &limits);
            let mut rest = black_box(body.as_slice());
            while let Ok(decoded) = decoder.decode(rest) {
                black_box(&decoded.data);
                rest = rest.get(decoded.consumed..).unwrap_or_default();
                if decoded.done {
                    break;
                }
            }
        });
    }
}
