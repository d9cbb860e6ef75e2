//! What is written.

use mesh_http1::{BodyEncoder, HeadWriter, copy_fields, reason_phrase};

use crate::requests::parse;

#[test]
fn heads_are_written_as_http_1_1() {
    let mut out = Vec::new();
    let mut head = HeadWriter::new(&mut out);
    head.request_line(b"GET", b"/a?b");
    head.field(b"Host", b"a");
    head.content_length(u64::MAX);
    head.content_length(0);
    head.end();
    assert_eq!(
        out.escape_ascii().to_string(),
        "GET /a?b HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 18446744073709551615\\r\\nContent-Length: 0\\r\\n\\r\\n"
    );
    for (status, reason, line) in [
        (200, "Fine", "HTTP/1.1 200 Fine\r\n"),
        (404, "", "HTTP/1.1 404 Not Found\r\n"),
        (599, "", "HTTP/1.1 599 \r\n"),
        (200, "a\r\nSet-Cookie: b", "HTTP/1.1 200 OK\r\n"),
    ] {
        let mut out = Vec::new();
        HeadWriter::new(&mut out).status_line(status, reason.as_bytes());
        assert_eq!(out, line.as_bytes());
    }
    assert_eq!(reason_phrase(503), "Service Unavailable");
}

/// attacks.md 20: no value becomes two lines.
#[test]
fn fields_that_are_no_line_are_left_out() {
    let mut out = Vec::new();
    let mut head = HeadWriter::new(&mut out);
    for (name, value) in [
        (&b"A"[..], &b"b\r\nC: d"[..]),
        (b"A", b"b\nc"),
        (b"A", b"b\0"),
        (b"A\r\nB", b"c"),
        (b"A:", b"c"),
        (b"", b"c"),
        (b":path", b"/"),
    ] {
        head.field(name, value);
    }
    head.field(b"A", b"\xc3\xa9\tb");
    assert_eq!(out, b"A: \xc3\xa9\tb\r\n");
}

#[test]
fn fields_are_copied_in_order_and_in_canonical_form() {
    let bytes =
        b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB:2\r\nC: 3 \r\nConnection: d\r\nD: 4\r\nE: 5\r\nF:\r\n\r\n";
    let head = parse(bytes);
    let copy = |keep: &dyn Fn(&str, bool) -> bool| {
        let mut out = b"> ".to_vec();
        copy_fields(bytes, &head.fields, &mut out, |field| {
            keep(std::str::from_utf8(field.name.of(bytes)).unwrap(), field.hop)
        });
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        copy(&|_, hop| !hop),
        "> Host: a\r\nA: 1\r\nB: 2\r\nC: 3\r\nE: 5\r\nF: \r\n"
    );
    assert_eq!(copy(&|name, _| name == "A" || name == "E"), "> A: 1\r\nE: 5\r\n");
    assert_eq!(copy(&|_, _| false), "> ");
}

#[test]
fn sizes_of_chunks() {
    for len in [1, 9, 10, 15, 16, 255, 4096, usize::MAX] {
        let mut out = Vec::new();
        BodyEncoder::chunk_head(len, &mut out);
        assert_eq!(out, format!("{len:X}\r\n").as_bytes());
    }
}
