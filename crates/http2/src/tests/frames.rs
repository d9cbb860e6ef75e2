//! What does a server make of bytes?

use super::*;
use crate::connection::Cause;
use crate::frame::PREFACE;

const BLOCK: &[u8] = &[0x82, 0x86, 0x84, 0x01, 0x06, b'a', b'.', b't', b'e', b's', b't'];

/// `GET /`; `flags` are those of HEADERS.
pub(super) fn request(stream: u32, flags: u8) -> Vec<u8> {
    frame(1, flags, stream, BLOCK)
}

/// A `POST` with fields, whose body follows.
fn post(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x83, 0x86, 0x84, 0x01, 0x06];
    block.extend_from_slice(b"a.test");
    block.extend(literals(fields));
    frame(1, 4, stream, &block)
}

fn literals(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.extend_from_slice(&[0, name.len() as u8]);
        block.extend_from_slice(name.as_bytes());
        block.push(value.len() as u8);
        block.extend_from_slice(value.as_bytes());
    }
    block
}

/// A server that has read the preface and these bytes.
fn server(bytes: &[u8]) -> Connection {
    let mut server = connection(Role::Server, settings());
    sent(&mut server);
    let all = [&PREFACE[..], &frame(4, 0, 0, &[]), bytes].concat();
    let used = server.receive(&all, 0);
    assert!(used == all.len());
    server
}

#[test]
fn errors_of_the_connection_end_it_with_their_code() {
    let open = request(1, 4);
    let cases: [(&str, Vec<u8>, Code); 22] = [
        ("DATA on 0", frame(0, 0, 0, b"x"), Code::PROTOCOL_ERROR),
        (
            "DATA on an idle stream",
            frame(0, 0, 1, b"x"),
            Code::PROTOCOL_ERROR,
        ),
        (
            "padding without a length",
            [&open[..], &frame(0, 8, 1, b"")].concat(),
            Code::FRAME_SIZE_ERROR,
        ),
        (
            "padding longer than the frame",
            [&open[..], &frame(0, 8, 1, &[5, 0])].concat(),
            Code::PROTOCOL_ERROR,
        ),
        ("HEADERS on 0", request(0, 5), Code::PROTOCOL_ERROR),
        ("HEADERS on an even stream", request(2, 5), Code::PROTOCOL_ERROR),
        (
            "HEADERS on a lower stream",
            [request(5, 5), request(3, 5)].concat(),
            Code::PROTOCOL_ERROR,
        ),
        (
            "a frame amid a block",
            [request(1, 1), frame(6, 0, 0, &[0; 8])].concat(),
            Code::PROTOCOL_ERROR,
        ),
        (
            "CONTINUATION without HEADERS",
            [&open[..], &frame(9, 4, 1, b"")].concat(),
            Code::PROTOCOL_ERROR,
        ),
        (
            "a broken block",
            frame(1, 5, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            Code::COMPRESSION_ERROR,
        ),
        (
            "RST_STREAM on an idle stream",
            frame(3, 0, 1, &[0; 4]),
            Code::PROTOCOL_ERROR,
        ),
        (
            "a short RST_STREAM",
            [&open[..], &frame(3, 0, 1, &[0])].concat(),
            Code::FRAME_SIZE_ERROR,
        ),
        ("SETTINGS on a stream", frame(4, 0, 1, &[]), Code::PROTOCOL_ERROR),
        (
            "SETTINGS of odd length",
            frame(4, 0, 0, &[0; 5]),
            Code::FRAME_SIZE_ERROR,
        ),
        (
            "push neither on nor off",
            frame(4, 0, 0, &[0, 2, 0, 0, 0, 2]),
            Code::PROTOCOL_ERROR,
        ),
        (
            "too large a window",
            frame(4, 0, 0, &[0, 4, 0x80, 0, 0, 0]),
            Code::FLOW_CONTROL_ERROR,
        ),
        (
            "too small a frame",
            frame(4, 0, 0, &[0, 5, 0, 0, 0x3f, 0xff]),
            Code::PROTOCOL_ERROR,
        ),
        ("PUSH_PROMISE", frame(5, 4, 1, &[0; 4]), Code::PROTOCOL_ERROR),
        ("a short PING", frame(6, 0, 0, &[0; 7]), Code::FRAME_SIZE_ERROR),
        (
            "GOAWAY on a stream",
            frame(7, 0, 1, &[0; 8]),
            Code::PROTOCOL_ERROR,
        ),
        (
            "an update by nothing",
            frame(8, 0, 0, &[0; 4]),
            Code::PROTOCOL_ERROR,
        ),
        (
            "an update beyond bounds",
            frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            Code::FLOW_CONTROL_ERROR,
        ),
    ];
    for (name, bytes, code) in cases {
        let mut server = server(&bytes);
        assert_eq!(verdict(&mut server), Some((0, code)), "{name}");
        assert!(matches!(server.over(), Some(Cause::Protocol(_))), "{name}");
        // What comes behind is passed over.
        assert_eq!(server.receive(&[0; 100], 0), 100);
    }
}

#[test]
fn errors_of_a_stream_end_it_alone() {
    let cases: [(&str, Vec<u8>, Code); 15] = [
        ("no path", frame(1, 5, 1, &[0x82, 0x86]), Code::PROTOCOL_ERROR),
        (
            "a method twice",
            frame(1, 5, 1, &[0x82, 0x82, 0x86, 0x84]),
            Code::PROTOCOL_ERROR,
        ),
        (
            "a status",
            frame(1, 5, 1, &[0x82, 0x86, 0x84, 0x88]),
            Code::PROTOCOL_ERROR,
        ),
        ("upper case", post(1, &[("X-a", "b")]), Code::PROTOCOL_ERROR),
        (
            "a connection field",
            post(1, &[("connection", "close")]),
            Code::PROTOCOL_ERROR,
        ),
        ("te", post(1, &[("te", "gzip")]), Code::PROTOCOL_ERROR),
        (
            "a line break",
            post(1, &[("x", "a\r\nb: c")]),
            Code::PROTOCOL_ERROR,
        ),
        ("whitespace around", post(1, &[("x", " a")]), Code::PROTOCOL_ERROR),
        (
            "two lengths",
            post(1, &[("content-length", "1"), ("content-length", "2")]),
            Code::PROTOCOL_ERROR,
        ),
        (
            "two lengths that are equal",
            post(1, &[("content-length", "1"), ("content-length", "1")]),
            Code::PROTOCOL_ERROR,
        ),
        (
            "a length of no signed 64 bits",
            post(1, &[("content-length", "9223372036854775808")]),
            Code::PROTOCOL_ERROR,
        ),
        (
            "a length of no 64 bits",
            post(1, &[("content-length", "99999999999999999999")]),
            Code::PROTOCOL_ERROR,
        ),
        (
            "a body longer than announced",
            [post(1, &[("content-length", "1")]), frame(0, 0, 1, b"xy")].concat(),
            Code::PROTOCOL_ERROR,
        ),
        (
            "a body shorter than announced",
            [post(1, &[("content-length", "3")]), frame(0, 1, 1, b"xy")].concat(),
            Code::PROTOCOL_ERROR,
        ),
        (
            "DATA behind the end",
            [request(1, 5), frame(0, 0, 1, b"x")].concat(),
            Code::STREAM_CLOSED,
        ),
    ];
    for (name, bytes, code) in cases {
        let mut server = server(&bytes);
        assert_eq!(verdict(&mut server), Some((1, code)), "{name}");
        assert_eq!(server.over(), None, "{name}");
        while let Some((key, _)) = server.arrived() {
            server.release(key);
        }
        // The compression is in step, and the next request is served.
        server.receive(&request(3, 5), 0);
        let (key, head) = server.arrived().unwrap();
        assert_eq!(head.authority(), Some(&b"a.test"[..]), "{name}");
        server.head(key, true, |out| out.status(204)).unwrap();
        server.release(key);
        assert!(server.streams.is_empty(), "{name}");
    }
}

#[test]
fn padding_and_priority_are_passed_over_and_padding_is_given_back() {
    let mut padded = vec![3, 0x80, 0, 0, 0, 7];
    padded.extend_from_slice(BLOCK);
    padded.extend_from_slice(&[0; 3]);
    let mut bytes = frame(1, 4 | 8 | 0x20, 1, &padded);
    bytes.extend(frame(0, 8, 1, &[4, b'o', b'k', 0, 0, 0, 0]));
    let mut server = server(&bytes);
    let (key, head) = server.arrived().unwrap();
    assert_eq!(head.path(), b"/");
    assert_eq!(take(&mut server, key), (b"ok".to_vec(), None));
    assert_eq!(server.credit, 7, "all of the frame");
}

#[test]
fn a_head_that_is_too_large_is_cut_and_one_far_too_large_ends_the_connection() {
    let long = "v".repeat(100);
    let fields: Vec<_> = (0..150).map(|_| ("x", long.as_str())).collect();
    let mut block = vec![0x82, 0x86, 0x84, 0x01, 0x01, b'a'];
    block.extend(literals(&fields));
    let (first, rest) = block.split_at(15_000);
    let bytes = [frame(1, 1, 1, first), frame(9, 4, 1, rest)].concat();
    let mut cut = server(&bytes);
    let (_, head) = cut.arrived().unwrap();
    assert!(head.over && head.size > 16_384 && head.fields.len() < 150);
    // An entry of the table, again and again (attacks.md 4).
    let mut block = vec![
        0x82, 0x86, 0x84, 0x01, 0x01, b'a', 0x40, 1, b'x', 0x7f, 0x81, 0x1e,
    ];
    block.extend([b'y'; 127 + 1 + (0x1e << 7)]);
    block.extend([0xbe; 1000]);
    let mut bombed = server(&frame(1, 5, 1, &block));
    assert_eq!(verdict(&mut bombed), Some((0, Code::ENHANCE_YOUR_CALM)));
}

#[test]
fn windows_are_kept() {
    // More than the stream's window.
    let mut bytes = request(1, 4);
    for _ in 0..4 {
        bytes.extend(frame(0, 0, 1, &[0; 16_384]));
    }
    assert_eq!(verdict(&mut server(&bytes)), Some((1, Code::FLOW_CONTROL_ERROR)));
    // More than the connection's.
    let mut bytes = Vec::new();
    for n in 0..30 {
        bytes.extend(request(2 * n + 1, 4));
        for _ in 0..3 {
            bytes.extend(frame(0, 0, 2 * n + 1, &[0; 16_384]));
        }
    }
    assert_eq!(verdict(&mut server(&bytes)), Some((0, Code::FLOW_CONTROL_ERROR)));
}

#[test]
fn a_window_may_shrink_below_nothing() {
    let mut server = server(&request(1, 5));
    let (key, _) = server.arrived().unwrap();
    server.head(key, false, |out| out.status(200)).unwrap();
    assert_eq!(give(&mut server, key, &[0; 60_000]), 60_000);
    sent(&mut server);
    server.receive(&frame(4, 0, 0, &[0, 4, 0, 0, 0, 10]), 0);
    assert_eq!(give(&mut server, key, b"x"), 0);
    server.receive(&frame(8, 0, 1, &60_000u32.to_be_bytes()), 0);
    assert_eq!(give(&mut server, key, &[0; 100]), 10);
}

#[test]
fn a_large_head_is_split_for_the_peer() {
    let wide = Settings {
        header_bytes: 1 << 20,
        budgets: Budgets::new(1 << 20),
        ..settings()
    };
    let mut pair = Pair::with(wide, wide);
    let (key, there, _) = pair.request(true);
    let value = vec![b'v'; 50_000];
    pair.server
        .head(there, true, |out| {
            out.status(200);
            out.field(mesh_http1::Known::Other, b"x-large", &value, false);
        })
        .unwrap();
    pair.talk();
    let head = next_head(&mut pair.client, key).unwrap();
    assert_eq!(head.fields[0].value.len(), 50_000);
    assert_eq!(take(&mut pair.client, key).1, Some(Ok(())));
}

#[test]
fn a_stream_taken_back_before_anybody_looked_is_not_shown() {
    let bytes = [request(1, 5), frame(3, 0, 1, &8u32.to_be_bytes()), request(3, 5)].concat();
    let mut server = server(&bytes);
    assert_eq!(server.arrived().map(|(key, _)| server.streams[key.0].id), Some(3));
    assert!(server.arrived().is_none());
    assert_eq!(server.open, 1);
}

#[test]
fn a_peer_begins_with_its_settings() {
    let mut server = connection(Role::Server, settings());
    sent(&mut server);
    server.receive(&[&PREFACE[..], &frame(6, 0, 0, &[0; 8])].concat(), 0);
    assert_eq!(verdict(&mut server), Some((0, Code::PROTOCOL_ERROR)));
    let mut client = connection(Role::Client, settings());
    sent(&mut client);
    client.receive(&frame(4, 1, 0, &[]), 0);
    assert_eq!(verdict(&mut client), Some((0, Code::PROTOCOL_ERROR)));
}

#[test]
fn streams_that_waited_for_room_and_went_leave_nothing() {
    let mut server = server(&[]);
    server.send_window = 0;
    for n in 0..300 {
        server.receive(&request(2 * n + 1, 5), u64::from(n) * 10_000_000);
        let (key, _) = server.arrived().unwrap();
        server.head(key, false, |out| out.status(200)).unwrap();
        assert_eq!(give(&mut server, key, b"x"), 0);
        server.receive(
            &frame(3, 0, 2 * n + 1, &8u32.to_be_bytes()),
            u64::from(n) * 10_000_000 + 5_000_000,
        );
        server.release(key);
    }
    assert_eq!(server.over(), None);
    assert!(server.blocked.is_empty() && server.streams.is_empty());
}

#[test]
fn late_heads_of_streams_that_were_reset_are_bounded() {
    let mut server = server(&[frame(1, 4, 1, &[0x82]), request(1, 5)].concat());
    assert_eq!(verdict(&mut server), Some((1, Code::PROTOCOL_ERROR)));
    assert_eq!(server.over(), None, "one is no harm");
    for _ in 0..300 {
        server.receive(&request(1, 5), 0);
    }
    assert_eq!(verdict(&mut server), Some((0, Code::ENHANCE_YOUR_CALM)));
}

#[test]
fn a_window_that_opens_by_a_byte_earns_nothing() {
    let mut server = server(&request(1, 5));
    let (key, _) = server.arrived().unwrap();
    server.head(key, false, |out| out.status(200)).unwrap();
    let body = vec![b'x'; 200_000];
    while give(&mut server, key, &body) > 0 {
        sent(&mut server);
    }
    server.receive(&frame(8, 0, 1, &1_000_000u32.to_be_bytes()), 0);
    for _ in 0..500 {
        server.receive(&frame(8, 0, 0, &1u32.to_be_bytes()), 0);
        give(&mut server, key, &body);
        sent(&mut server);
    }
    assert!(
        matches!(server.over(), Some(Cause::Flood(_))),
        "{:?}",
        server.over()
    );
}

#[test]
fn a_reader_of_little_pieces_is_served_to_the_end() {
    for read in [512u32, 1024, 4096] {
        let mut server = server(&request(1, 5));
        let (key, _) = server.arrived().unwrap();
        server.head(key, false, |out| out.status(200)).unwrap();
        // The windows are full; each read opens both by what it took.
        let body = vec![b'x'; 8192];
        while give(&mut server, key, &body) > 0 {}
        for _ in 0..20_000 {
            server.receive(&frame(8, 0, 0, &read.to_be_bytes()), 0);
            server.receive(&frame(8, 0, 1, &read.to_be_bytes()), 0);
            give(&mut server, key, &body);
            sent(&mut server);
        }
        assert_eq!(server.over(), None, "{read}");
    }
    // What goes in a frame that waits still earns as well.
    let mut server = server(&request(1, 5));
    let (key, _) = server.arrived().unwrap();
    server.head(key, false, |out| out.status(200)).unwrap();
    for _ in 0..16 {
        assert_eq!(give(&mut server, key, &[b'x'; 1024]), 1024);
    }
    let frames = sent(&mut server)
        .into_iter()
        .filter(|(kind, ..)| *kind == 0)
        .count();
    assert_eq!(frames, 1);
    for _ in 0..16 * 2 * 2 {
        server.receive(&frame(8, 0, 0, &512u32.to_be_bytes()), 0);
    }
    for _ in 0..100 {
        server.receive(&frame(8, 0, 0, &512u32.to_be_bytes()), 0);
    }
    assert_eq!(server.over(), None);
}

#[test]
fn what_comes_for_a_server_that_has_left_ends_nothing_else() {
    let mut server = server(&request(1, 5));
    let (key, _) = server.arrived().unwrap();
    server.leave();
    // The first of them comes right behind the client's word that it knows.
    let last = request(3, 5);
    server.receive(&[frame(6, 1, 0, b"leaving!"), last].concat(), 0);
    let (other, _) = server.arrived().unwrap();
    server.head(other, true, |out| out.status(204)).unwrap();
    server.release(other);
    assert!(server.knows_of_leave());
    server.leave_for_good();
    let late = [
        request(5, 4),
        frame(0, 1, 5, b"body"),
        frame(8, 0, 5, &1u32.to_be_bytes()),
        frame(3, 0, 5, &8u32.to_be_bytes()),
    ];
    server.receive(&late.concat(), 0);
    assert_eq!(server.over(), None);
    assert!(server.arrived().is_none());
    assert_eq!(server.credit, 4, "its bytes are given back");
    server.head(key, true, |out| out.status(204)).unwrap();
    server.release(key);
    assert!(server.is_done());
}

#[test]
fn a_head_is_unfinished_from_its_first_byte_to_its_last() {
    let mut server = server(&[]);
    assert_eq!(server.unfinished_since(), None);
    let (head, rest) = (request(1, 1), frame(9, 4, 1, b""));
    assert_eq!(server.receive(&head[..5], 10), 0);
    assert_eq!(server.receive(&head[..7], 20), 0);
    assert_eq!(server.unfinished_since(), Some(10));
    let used = server.receive(&head, 30);
    assert_eq!((used, server.unfinished_since()), (head.len(), Some(10)));
    server.receive(&rest[..5], 40);
    assert_eq!(server.unfinished_since(), Some(10));
    server.receive(&rest, 50);
    assert_eq!(server.unfinished_since(), None);
    // What is cut next has its own time; the payload of DATA is its stream's to wait for.
    let both = [request(3, 4), frame(0, 0, 3, b"x")].concat();
    let used = server.receive(&both[..both.len() - 8], 60);
    assert_eq!(server.unfinished_since(), Some(60));
    server.receive(&both[used..both.len() - 1], 70);
    assert_eq!(server.unfinished_since(), None);
}
