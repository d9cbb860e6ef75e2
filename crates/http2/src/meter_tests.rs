use super::*;
use proptest::prelude::*;

const MS: Nanos = 1_000_000;
const END_HEADERS: u8 = 4;

fn frame(kind: Kind, flags: u8, stream: u32, length: u32) -> Frame {
    Frame {
        kind,
        flags,
        stream,
        length,
        word: 0,
    }
}

fn reset(stream: u32, code: u32) -> Frame {
    Frame {
        word: code,
        ..frame(Kind::Reset, 0, stream, 4)
    }
}

fn headers(stream: u32) -> Frame {
    frame(Kind::Headers, END_HEADERS, stream, 20)
}

fn server() -> Meter {
    Meter::new(Role::Server, Budgets::new(65_536))
}

/// Repeats a step until it is too much; gives how often it was borne.
fn borne(mut step: impl FnMut(u32) -> Result<(), Flood>, most: u32) -> (u32, Option<Flood>) {
    for n in 0..most {
        if let Err(flood) = step(n) {
            return (n, Some(flood));
        }
    }
    (most, None)
}

#[test]
fn row_1_rapid_reset_is_stopped_after_a_hundred() {
    let mut meter = server();
    let result = borne(
        |n| {
            meter.on_frame(Direction::Received, &headers(2 * n + 1), 0)?;
            meter.on_frame(Direction::Received, &reset(2 * n + 1, 8), 0)
        },
        1000,
    );
    assert_eq!(result, (100, Some(Flood::Resets)));
}

#[test]
fn row_1_a_patient_rapid_reset_is_stopped_in_the_end() {
    let mut meter = server();
    let result = borne(
        |n| {
            let now = u64::from(n) * WINDOW / 50;
            meter.on_frame(Direction::Received, &headers(2 * n + 1), now)?;
            meter.on_frame(Direction::Received, &reset(2 * n + 1, 8), now)
        },
        20_000,
    );
    assert_eq!(result, (10_000, Some(Flood::Resets)));
}

#[test]
fn callers_that_cancel_are_borne() {
    // A hundred open streams, all of them given up after 20 ms, for as long as one likes.
    let mut meter = server();
    let slow = borne(
        |n| {
            let now = u64::from(n) * MS / 5;
            meter.on_frame(Direction::Received, &headers(2 * n + 1), now)?;
            if n >= 100 {
                meter.on_frame(Direction::Received, &reset(2 * (n - 100) + 1, 8), now)?;
            }
            Ok(())
        },
        200_000,
    );
    assert_eq!(slow, (200_000, None));
    // Every second call is cancelled at once, the others are answered.
    let mut meter = server();
    let half = borne(
        |n| {
            meter.on_frame(Direction::Received, &headers(4 * n + 1), 0)?;
            meter.on_frame(Direction::Sent, &headers(4 * n + 1), 0)?;
            meter.on_frame(Direction::Received, &headers(4 * n + 3), 0)?;
            meter.on_frame(Direction::Received, &reset(4 * n + 3, 8), 0)
        },
        100_000,
    );
    assert_eq!(half, (100_000, None));
    // Every call is cancelled after the answer began.
    let mut meter = server();
    let late = borne(
        |n| {
            meter.on_frame(Direction::Received, &headers(2 * n + 1), 0)?;
            meter.on_frame(Direction::Sent, &headers(2 * n + 1), 0)?;
            meter.on_frame(Direction::Received, &reset(2 * n + 1, 8), 0)
        },
        100_000,
    );
    assert_eq!(late, (100_000, None));
}

#[test]
fn resets_of_streams_that_are_not_open_are_bounded() {
    let mut meter = server();
    meter.on_frame(Direction::Received, &headers(1), 0).unwrap();
    meter.on_frame(Direction::Sent, &headers(1), 0).unwrap();
    let result = borne(|_| meter.on_frame(Direction::Received, &reset(1, 8), 0), 1000);
    assert_eq!(result, (102, Some(Flood::Resets)));
}

#[test]
fn a_peer_that_forgot_a_stream_may_say_so_for_every_frame() {
    let mut meter = Meter::new(Role::Client, Budgets::new(65_536));
    let result = borne(
        |n| {
            meter.on_frame(Direction::Sent, &headers(2 * n + 1), 0)?;
            meter.on_frame(Direction::Sent, &frame(Kind::Data, 0, 2 * n + 1, 1000), 0)?;
            meter.on_frame(Direction::Received, &headers(2 * n + 1), 0)?;
            meter.on_frame(Direction::Received, &reset(2 * n + 1, 0), 0)?;
            meter.on_frame(Direction::Received, &reset(2 * n + 1, 5), 0)
        },
        100_000,
    );
    assert_eq!(result, (100_000, None));
}

#[test]
fn row_2_mistakes_that_make_us_reset_are_bounded_and_our_own_resets_are_not() {
    for code in [1, 3, 5, 7] {
        let mut meter = server();
        let result = borne(
            |n| {
                meter.on_frame(Direction::Received, &headers(2 * n + 1), 0)?;
                meter.on_frame(Direction::Sent, &reset(2 * n + 1, code), 0)
            },
            2000,
        );
        assert_eq!(result, (500, Some(Flood::LocalResets)), "code {code}");
    }
    for code in [0, 2, 8] {
        let mut meter = server();
        let result = borne(
            |n| meter.on_frame(Direction::Sent, &reset(2 * n + 1, code), 0),
            200_000,
        );
        assert_eq!(result, (200_000, None), "code {code}");
    }
    // What a server behind refuses is no mistake of the peer's.
    let mut meter = server();
    let result = borne(
        |n| {
            meter.on_frame(Direction::Received, &headers(2 * n + 1), 0)?;
            meter.excuse_reset();
            meter.on_frame(Direction::Sent, &reset(2 * n + 1, 7), 0)
        },
        200_000,
    );
    assert_eq!(result, (200_000, None));
}

#[test]
fn frames_late_for_a_stream_that_we_cancelled_do_not_add_up() {
    // As a client: we cancel, the server's answer comes too late and is refused with STREAM_CLOSED.
    let mut meter = Meter::new(Role::Client, Budgets::new(65_536));
    let result = borne(
        |n| {
            meter.on_frame(Direction::Sent, &headers(2 * n + 1), 0)?;
            meter.on_frame(Direction::Sent, &reset(2 * n + 1, 8), 0)?;
            meter.on_frame(Direction::Received, &headers(2 * n + 1), 0)?;
            meter.on_frame(Direction::Sent, &reset(2 * n + 1, 5), 0)
        },
        200_000,
    );
    assert_eq!(result, (200_000, None));
}

#[test]
fn row_3_continuations_and_blocks_are_bounded() {
    let mut meter = server();
    meter
        .on_frame(Direction::Received, &frame(Kind::Headers, 0, 1, 10), 0)
        .unwrap();
    let result = borne(
        |_| meter.on_frame(Direction::Received, &frame(Kind::Continuation, 0, 1, 0), 0),
        100,
    );
    assert_eq!(result, (20, Some(Flood::Continuations)));
    let mut meter = server();
    meter
        .on_frame(Direction::Received, &frame(Kind::Headers, 0, 1, 16_384), 0)
        .unwrap();
    let result = borne(
        |_| meter.on_frame(Direction::Received, &frame(Kind::Continuation, 0, 1, 16_384), 0),
        100,
    );
    assert_eq!(result, (15, Some(Flood::HeaderBlock)));
    let mut meter = server();
    for n in 0..1000 {
        meter
            .on_frame(Direction::Received, &frame(Kind::Headers, 0, 2 * n + 1, 10), 0)
            .unwrap();
        for _ in 0..9 {
            meter
                .on_frame(
                    Direction::Received,
                    &frame(Kind::Continuation, 0, 2 * n + 1, 10),
                    0,
                )
                .unwrap();
        }
        meter
            .on_frame(
                Direction::Received,
                &frame(Kind::Continuation, END_HEADERS, 2 * n + 1, 10),
                0,
            )
            .unwrap();
        meter.on_frame(Direction::Sent, &headers(2 * n + 1), 0).unwrap();
    }
}

#[test]
fn rows_6_and_7_frames_that_answer_nothing_are_bounded() {
    let cases = [
        (Kind::Ping, 100, Flood::Pings),
        (Kind::Settings, 50, Flood::Settings),
        (Kind::GoAway, 50, Flood::Settings),
        (Kind::Priority, 100, Flood::Priorities),
        (Kind::Unknown, 100, Flood::Priorities),
        (Kind::WindowUpdate, 100, Flood::WindowUpdates),
        (Kind::Data, 100, Flood::SmallData),
    ];
    for (kind, most, flood) in cases {
        let mut meter = server();
        let result = borne(
            |_| meter.on_frame(Direction::Received, &frame(kind, 0, 0, 0), 5),
            1000,
        );
        assert_eq!(result, (most, Some(flood)), "{kind:?}");
        // Spread over time they are borne.
        let mut meter = server();
        let pace = WINDOW / u64::from(most);
        let result = borne(
            |n| meter.on_frame(Direction::Received, &frame(kind, 0, 0, 0), u64::from(n) * pace),
            10_000,
        );
        assert_eq!(result, (10_000, None), "{kind:?}");
    }
}

#[test]
fn what_is_sent_earns_its_answers() {
    let mut meter = server();
    let result = borne(
        |_| {
            meter.on_frame(Direction::Sent, &frame(Kind::Data, 0, 1, 16_384), 0)?;
            meter.on_frame(Direction::Received, &frame(Kind::WindowUpdate, 0, 0, 4), 0)?;
            meter.on_frame(Direction::Received, &frame(Kind::WindowUpdate, 0, 1, 4), 0)?;
            meter.on_frame(Direction::Received, &frame(Kind::Ping, 0, 0, 8), 0)
        },
        100_000,
    );
    assert_eq!(result, (100_000, None));
    let frames = (
        meter.received().of(Kind::WindowUpdate),
        meter.sent().of(Kind::Data),
    );
    assert_eq!(frames, (200_000, 100_000));
}

#[test]
fn readers_of_little_pieces_are_borne() {
    for read in [512, 1024, 4096, 8192] {
        let mut meter = server();
        let result = borne(
            |_| {
                meter.on_frame(Direction::Sent, &frame(Kind::Data, 0, 1, 16_384), 0)?;
                for _ in 0..16_384 / read {
                    meter.on_frame(Direction::Received, &frame(Kind::WindowUpdate, 0, 0, 4), 0)?;
                    meter.on_frame(Direction::Received, &frame(Kind::WindowUpdate, 0, 1, 4), 0)?;
                }
                Ok(())
            },
            10_000,
        );
        assert_eq!(result, (10_000, None), "{read}");
    }
    // A hundred streams of 4 MiB, read once all of it is there.
    let mut meter = server();
    for n in 0..100 * 256 {
        meter
            .on_frame(Direction::Sent, &frame(Kind::Data, 0, n, 16_384), 0)
            .unwrap();
    }
    let late = |_| meter.on_frame(Direction::Received, &frame(Kind::WindowUpdate, 0, 0, 4), 0);
    assert_eq!(borne(late, 2 * 100 * 1024), (2 * 100 * 1024, None));
}

#[test]
fn rows_6_and_7_what_was_sent_earns_no_flood_of_window_updates() {
    // 1 MiB: 4,096 for its bytes, 128 for its frames.
    let mut meter = server();
    for _ in 0..64 {
        meter
            .on_frame(Direction::Sent, &frame(Kind::Data, 0, 1, 16_384), 0)
            .unwrap();
    }
    let flood = |_| meter.on_frame(Direction::Received, &frame(Kind::WindowUpdate, 0, 0, 4), 5);
    assert_eq!(
        borne(flood, 100_000),
        (4096 + 128 + 100, Some(Flood::WindowUpdates))
    );
    // However much it was.
    let mut meter = server();
    for _ in 0..1_000_000 {
        meter
            .on_frame(Direction::Sent, &frame(Kind::Data, 0, 1, 16_384), 0)
            .unwrap();
    }
    let flood = |_| meter.on_frame(Direction::Received, &frame(Kind::WindowUpdate, 0, 0, 4), 5);
    assert_eq!(
        borne(flood, 1_000_000),
        (262_144 + 100, Some(Flood::WindowUpdates))
    );
}

#[test]
fn padding_is_no_payload() {
    let mut meter = server();
    let padded = Frame {
        word: 99,
        ..frame(Kind::Data, 8, 1, 100)
    };
    let result = borne(|_| meter.on_frame(Direction::Received, &padded, 0), 1000);
    assert_eq!(result, (100, Some(Flood::SmallData)));
    // The end of a stream may be empty.
    let result = borne(
        |_| meter.on_frame(Direction::Received, &frame(Kind::Data, 1, 1, 0), 0),
        1000,
    );
    assert_eq!(result, (1000, None));
}

proptest! {
    /// Whatever the frames and times, nothing panics and what is remembered is bounded.
    #[test]
    fn memory_is_bounded(
        frames in proptest::collection::vec((0usize..11, any::<u8>(), 0u32..64, 0u32..20_000, any::<bool>(), 0u64..MS), 0..600)
    ) {
        for role in [Role::Server, Role::Client] {
            let mut meter = Meter::new(role, Budgets::new(65_536));
            let mut now = 0;
            for (kind, flags, stream, length, sent, step) in &frames {
                now += step;
                let direction = if *sent { Direction::Sent } else { Direction::Received };
                let frame = frame(Kind::ALL[*kind], *flags, *stream, *length);
                if meter.on_frame(direction, &frame, now).is_err() {
                    break;
                }
                prop_assert!(meter.waiting.len() <= 64);
                prop_assert!(meter.waiting.iter().zip(meter.waiting.iter().skip(1)).all(|(a, b)| a.0 < b.0));
            }
        }
    }
}
