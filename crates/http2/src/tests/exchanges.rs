//! What passes between a client and a server.

use mesh_http1::Known;

use super::*;

#[test]
fn heads_pass_with_their_fields() {
    let mut pair = Pair::new();
    let key = pair.client.open_stream(false).unwrap();
    pair.client
        .head(key, true, |out| {
            out.request(b"POST", b"https", b"shop.test:80", b"/a?b=c", true);
            out.field(Known::Other, b"X-Mixed-Case", b"v", false);
            out.field(Known::ContentType, b"content-type", b"text/plain", false);
            out.field(Known::Other, b"secret", b"s", true);
        })
        .unwrap();
    pair.talk();
    let (there, head) = pair.server.arrived().unwrap();
    assert_eq!(
        (head.method(), head.scheme(), head.authority(), head.path()),
        (
            &b"POST"[..],
            &b"https"[..],
            Some(&b"shop.test:80"[..]),
            &b"/a?b=c"[..]
        )
    );
    assert_eq!(
        fields(&head),
        "x-mixed-case: v\r\ncontent-type: text/plain\r\nsecret: s\r\n"
    );
    assert_eq!(
        head.fields.iter().map(|f| f.never).collect::<Vec<_>>(),
        [false, false, true]
    );
    assert!(pair.server.is_at_end(there));
    pair.server.head(there, false, |out| out.status(103)).unwrap();
    pair.server.head(there, false, |out| out.status(200)).unwrap();
    assert_eq!(give(&mut pair.server, there, b"hello"), 5);
    pair.server
        .head(there, true, |out| {
            out.field(Known::GrpcStatus, b"grpc-status", b"0", false)
        })
        .unwrap();
    pair.talk();
    assert_eq!(next_head(&mut pair.client, key).unwrap().status, 103);
    assert_eq!(next_head(&mut pair.client, key).unwrap().status, 200);
    assert_eq!(take(&mut pair.client, key), (b"hello".to_vec(), Some(Ok(()))));
    assert!(!pair.client.is_at_end(key), "trailers wait");
    let trailers = pair.client.take_trailers(key).unwrap();
    assert_eq!(fields(&trailers), "grpc-status: 0\r\n");
    assert!(pair.client.is_at_end(key));
    pair.client.release(key);
    pair.server.release(there);
    pair.talk();
    pair.is_clean();
}

#[test]
fn the_end_goes_with_the_last_frame_that_waits() {
    let mut pair = Pair::new();
    let (_, there, _) = pair.request(true);
    pair.server.head(there, false, |out| out.status(200)).unwrap();
    give(&mut pair.server, there, b"hello ");
    give(&mut pair.server, there, b"world");
    pair.server.end(there).unwrap();
    let frames = sent(&mut pair.server);
    let short: Vec<_> = frames.iter().map(|(kind, flags, ..)| (*kind, *flags)).collect();
    assert_eq!(short, [(1, 4), (0, 1)], "one head, one payload that ends");
    assert_eq!(frames[1].3, b"hello world");
    // A head alone ends the stream itself; one that has left does not.
    let (_, there, _) = pair.request(true);
    pair.server.head(there, false, |out| out.status(204)).unwrap();
    pair.server.end(there).unwrap();
    assert_eq!(sent(&mut pair.server)[0].1, 5);
    let (_, there, _) = pair.request(true);
    pair.server.head(there, false, |out| out.status(200)).unwrap();
    sent(&mut pair.server);
    pair.server.end(there).unwrap();
    assert_eq!(sent(&mut pair.server), [(0, 1, 5, Vec::new())]);
}

#[test]
fn payload_larger_than_every_window_passes_whole() {
    let small = Settings {
        stream_window: 20_000,
        connection_window: 30_000,
        ..settings()
    };
    let mut pair = Pair::with(small, small);
    let (key, there, _) = pair.request(false);
    pair.server.head(there, false, |out| out.status(200)).unwrap();
    let body: Vec<u8> = (0..500_000u32).map(|n| n as u8).collect();
    let (mut up, mut down) = (0, 0);
    let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
    for _ in 0..10_000 {
        up += give(&mut pair.client, key, &body[up..]);
        down += give(&mut pair.server, there, &body[down..]);
        pair.talk();
        at_server.extend(take(&mut pair.server, there).0);
        at_client.extend(take(&mut pair.client, key).0);
        if at_server.len() == body.len() && at_client.len() == body.len() {
            break;
        }
    }
    assert!(
        at_server == body && at_client == body,
        "{} {}",
        at_server.len(),
        at_client.len()
    );
    pair.client.end(key).unwrap();
    pair.server.end(there).unwrap();
    pair.talk();
    pair.client.release(key);
    pair.server.release(there);
    pair.talk();
    pair.is_clean();
}

#[test]
fn all_streams_but_one_that_nobody_reads_hold_up_no_other() {
    let server = Settings {
        streams: 10,
        connection_window: 11 * 65_535,
        ..settings()
    };
    let mut pair = Pair::with(settings(), server);
    for _ in 0..9 {
        let (key, _, _) = pair.request(false);
        assert_eq!(give(&mut pair.client, key, &[b'x'; 60_000]), 60_000);
        pair.talk();
        assert_eq!(give(&mut pair.client, key, &[b'x'; 60_000]), 5_535);
        pair.talk();
    }
    let (key, there, _) = pair.request(false);
    let mut passed = 0;
    while passed < 5_000_000 {
        let n = give(&mut pair.client, key, &[b'x'; 10_000]);
        pair.talk();
        assert!(n > 0, "after {passed}");
        passed += n;
        take(&mut pair.server, there);
        pair.talk();
    }
}

#[test]
fn a_stream_that_nobody_reads_holds_up_no_other() {
    let mut pair = Pair::new();
    let (_, slow, _) = pair.request(true);
    let (key, quick, _) = pair.request(true);
    for there in [slow, quick] {
        pair.server.head(there, false, |out| out.status(200)).unwrap();
    }
    let body = vec![b'x'; 300_000];
    let mut sent = 0;
    loop {
        let n = give(&mut pair.server, slow, &body[sent..]);
        pair.talk();
        if n == 0 {
            break;
        }
        sent += n;
    }
    assert_eq!(sent, 65_535, "the window, and not a byte more");
    assert_eq!(give(&mut pair.server, quick, b"through"), 7);
    pair.talk();
    assert_eq!(take(&mut pair.client, key).0, b"through");
}

#[test]
fn a_window_that_grows_lets_more_pass() {
    let small = Settings {
        connection_window: 100_000,
        ..settings()
    };
    let mut pair = Pair::with(small, settings());
    let (unread, there, _) = pair.request(true);
    let (_, other, _) = pair.request(true);
    for there in [there, other] {
        pair.server.head(there, false, |out| out.status(200)).unwrap();
    }
    let fill = |pair: &mut Pair| {
        [there, other].map(|there| {
            let mut sent = 0;
            loop {
                let n = give(&mut pair.server, there, &[b'x'; 10_000]);
                pair.talk();
                if n == 0 {
                    return sent;
                }
                sent += n;
            }
        })
    };
    assert_eq!(fill(&mut pair), [65_535, 34_465]);
    for (window, more) in [(90_000, 0), (120_000, 20_000), (120_000, 0), (u32::MAX, 11_070)] {
        pair.client.grow(window);
        pair.talk();
        assert_eq!(fill(&mut pair), [0, more], "{window}");
    }
    assert_eq!(take(&mut pair.client, unread).0.len(), 65_535);
    pair.talk();
    assert_eq!(pair.client.over, None);
    assert_eq!(fill(&mut pair), [65_535, 0]);
}

#[test]
fn a_full_buffer_stops_payload_and_wakes_who_waits() {
    struct Count(std::sync::atomic::AtomicU32);
    impl std::task::Wake for Count {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let wide = Settings {
        stream_window: 1 << 20,
        connection_window: 1 << 22,
        ..settings()
    };
    let mut pair = Pair::with(wide, wide);
    let (_, first, _) = pair.request(true);
    let (_, second, _) = pair.request(true);
    for there in [first, second] {
        pair.server.head(there, false, |out| out.status(200)).unwrap();
    }
    let body = vec![b'x'; 100_000];
    assert!(give(&mut pair.server, first, &body) < 65_536);
    let count = std::sync::Arc::new(Count(0.into()));
    let waker = Waker::from(std::sync::Arc::clone(&count));
    let room = pair
        .server
        .poll_room(&mut Context::from_waker(&waker), second, 10);
    assert!(room.is_pending());
    pair.talk();
    assert_eq!(count.0.load(std::sync::atomic::Ordering::SeqCst), 1);
    assert_eq!(give(&mut pair.server, second, b"0123456789"), 10);
}

#[test]
fn what_came_before_a_reset_is_still_there() {
    let mut pair = Pair::new();
    let (key, there, _) = pair.request(true);
    pair.server.head(there, false, |out| out.status(200)).unwrap();
    give(&mut pair.server, there, b"half");
    pair.server.reset(there, Code::INTERNAL_ERROR);
    pair.talk();
    assert_eq!(next_head(&mut pair.client, key).unwrap().status, 200);
    let failure = Failure::Reset(Code::INTERNAL_ERROR);
    assert_eq!(
        take(&mut pair.client, key),
        (b"half".to_vec(), Some(Err(failure)))
    );
    assert_eq!(pair.client.end(key), Err(Failure::Gone), "its own side had ended");
    pair.client.release(key);
    pair.server.release(there);
    pair.talk();
    pair.is_clean();
}

#[test]
fn a_stream_that_is_let_go_is_reset_as_far_as_it_is_open() {
    // The request was left unread, the response is whole.
    let mut pair = Pair::new();
    let (_, there, _) = pair.request(false);
    pair.server.head(there, true, |out| out.status(413)).unwrap();
    pair.server.release(there);
    assert_eq!(verdict(&mut pair.server), Some((1, Code::NO_ERROR)));
    // Neither is whole.
    let mut pair = Pair::new();
    let (_, there, _) = pair.request(false);
    pair.server.release(there);
    assert_eq!(verdict(&mut pair.server), Some((1, Code::INTERNAL_ERROR)));
    let mut pair = Pair::new();
    let (key, there, _) = pair.request(true);
    pair.client.release(key);
    assert_eq!(
        pair.client.unsent().last_chunk(),
        Some(&Code::CANCEL.0.to_be_bytes())
    );
    pair.talk();
    assert!(pair.server.poll_failed(&mut cx(), there).is_ready());
    // What comes late for it is passed over, and its bytes do not shrink the connection's window for ever.
    for _ in 0..100 {
        let (key, there, _) = pair.request(true);
        pair.server.head(there, false, |out| out.status(200)).unwrap();
        give(&mut pair.server, there, &[b'x'; 60_000]);
        pair.client.release(key);
        pair.talk();
        pair.server.release(there);
        pair.talk();
    }
    pair.server.release(there);
    pair.talk();
    pair.is_clean();
    assert!(
        pair.client.receive_window + i64::from(pair.client.credit) == i64::from(settings().connection_window)
    );
}

#[test]
fn a_response_that_is_complete_may_be_followed_by_a_reset() {
    let mut pair = Pair::new();
    let (key, there, _) = pair.request(false);
    pair.server.head(there, false, |out| out.status(200)).unwrap();
    give(&mut pair.server, there, b"no need");
    pair.server.end(there).unwrap();
    pair.server.release(there);
    pair.talk();
    assert_eq!(next_head(&mut pair.client, key).unwrap().status, 200);
    assert_eq!(take(&mut pair.client, key), (b"no need".to_vec(), Some(Ok(()))));
    assert!(matches!(
        pair.client.poll_room(&mut cx(), key, 1),
        Poll::Ready(Err(_))
    ));
    pair.client.release(key);
    pair.talk();
    pair.is_clean();
}

#[test]
fn leaving_is_said_twice_and_what_is_under_way_goes_on() {
    let mut pair = Pair::new();
    let (key, there, _) = pair.request(true);
    pair.server.leave();
    // On its way while that is said.
    let late = pair.client.open_stream(false).unwrap();
    pair.client
        .head(late, true, |out| {
            out.request(b"GET", b"http", b"a.test", b"/late", false)
        })
        .unwrap();
    pair.talk();
    assert!(pair.client.peer_leaves() && !pair.client.can_open());
    let (late_there, head) = pair.server.arrived().unwrap();
    assert_eq!(head.path(), b"/late");
    assert!(!pair.server.is_done());
    for at in [there, late_there] {
        pair.server.head(at, true, |out| out.status(204)).unwrap();
        pair.server.release(at);
    }
    pair.talk();
    for at in [key, late] {
        assert_eq!(next_head(&mut pair.client, at).unwrap().status, 204);
        pair.client.release(at);
    }
    assert!(!pair.server.is_done() && pair.client.is_done());
    pair.server.leave_for_good();
    assert!(pair.server.is_done());
}

#[test]
fn streams_that_a_leaving_server_did_not_see_may_be_sent_again() {
    let mut pair = Pair::new();
    let (seen, _, _) = pair.request(true);
    let unseen = pair.client.open_stream(false).unwrap();
    pair.client
        .head(unseen, true, |out| {
            out.request(b"GET", b"http", b"a.test", b"/", false)
        })
        .unwrap();
    pair.client.receive(&frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]), 0);
    assert!(pair.client.poll_head(&mut cx(), seen).is_pending());
    assert_eq!(next_head(&mut pair.client, unseen).err(), Some(Failure::Refused));
}

#[test]
fn more_streams_than_allowed_are_refused_and_places_come_free() {
    let few = Settings {
        streams: 2,
        ..settings()
    };
    let mut pair = Pair::with(settings(), few);
    let mut open: Vec<_> = (0..2).map(|_| pair.request(true)).collect();
    assert!(!pair.client.can_open(), "the peer's limit is known");
    let request = crate::tests::frames::request(5, 5);
    pair.server.receive(&request, 0);
    assert_eq!(verdict(&mut pair.server), Some((5, Code::REFUSED_STREAM)));
    assert_eq!((pair.server.take_refused(), pair.server.take_refused()), (1, 0));
    let (_, there, _) = open.remove(0);
    pair.server.head(there, true, |out| out.status(204)).unwrap();
    pair.talk();
    assert!(pair.client.can_open());
    drop(open);
}

#[test]
fn a_response_that_can_not_have_a_body_has_none() {
    for (to_head, status) in [(true, 200), (false, 204), (false, 304)] {
        let mut pair = Pair::new();
        let key = pair.client.open_stream(to_head).unwrap();
        pair.client
            .head(key, true, |out| {
                out.request(b"GET", b"http", b"a.test", b"/", false)
            })
            .unwrap();
        pair.talk();
        let (there, _) = pair.server.arrived().unwrap();
        pair.server
            .head(there, false, |out| {
                out.status(status);
                out.field(Known::ContentLength, b"content-length", b"8", false);
            })
            .unwrap();
        give(&mut pair.server, there, b"smuggled");
        pair.talk();
        assert_eq!(next_head(&mut pair.client, key).unwrap().content_length, Some(8));
        let failure = Failure::Protocol("http2_body");
        assert_eq!(take(&mut pair.client, key), (Vec::new(), Some(Err(failure))));
    }
}

#[test]
fn row_21_a_response_with_two_lengths_is_malformed() {
    for second in [&b"8"[..], b"9"] {
        let mut pair = Pair::new();
        let (key, there, _) = pair.request(true);
        pair.server
            .head(there, false, |out| {
                out.status(200);
                out.field(Known::ContentLength, b"content-length", b"8", false);
                out.field(Known::ContentLength, b"content-length", second, false);
            })
            .unwrap();
        pair.talk();
        let failure = next_head(&mut pair.client, key).err();
        assert_eq!(failure, Some(Failure::Protocol("content_length")));
    }
}

#[test]
fn a_stream_of_which_nothing_was_said_is_not_reset() {
    let mut pair = Pair::new();
    let key = pair.client.open_stream(false).unwrap();
    pair.client.release(key);
    assert!(sent(&mut pair.client).is_empty());
    let (key, there, _) = pair.request(true);
    pair.server.head(there, true, |out| out.status(204)).unwrap();
    pair.talk();
    pair.client.release(key);
    pair.server.release(there);
    pair.talk();
    pair.is_clean();
}

#[test]
fn a_window_below_what_can_be_said_harms_no_honest_peer() {
    let small = Settings {
        connection_window: 20_000,
        ..settings()
    };
    let mut pair = Pair::with(small, small);
    let (key, _, _) = pair.request(false);
    assert_eq!(give(&mut pair.client, key, &[0; 65_535]), 65_535);
    pair.talk();
    assert_eq!(pair.server.over(), None);
}

#[test]
fn informational_heads_that_nobody_takes_are_bounded_by_their_bytes() {
    let mut pair = Pair::new();
    let (key, there, _) = pair.request(true);
    let value = vec![b'v'; 12_000];
    for _ in 0..5 {
        pair.server
            .head(there, false, |out| {
                out.status(103);
                out.field(Known::Other, b"x", &value, false);
            })
            .unwrap();
    }
    pair.talk();
    let mut failure = None;
    while failure.is_none() {
        failure = next_head(&mut pair.client, key).err();
    }
    assert_eq!(failure, Some(Failure::Protocol("informational")));
}
