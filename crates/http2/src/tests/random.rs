//! Nothing depends on how bytes are cut, and nothing that bytes can do breaks a connection.

use proptest::prelude::*;

use super::*;
use crate::frame::PREFACE;

/// Frames that mean something often enough.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        3 => Just(vec![0x82, 0x86, 0x84, 0x01, 0x01, b'a']),
        1 => Just(vec![0x83, 0x86, 0x84, 0x41, 0x01, b'a', 0x40, 1, b'x', 1, b'y']),
        1 => Just(vec![0xbe, 0xbf]),
        2 => Just(8u32.to_be_bytes().to_vec()),
        2 => Just(vec![0; 8]),
        2 => proptest::collection::vec(any::<u8>(), 0..60),
        1 => Just(vec![b'x'; 5000]),
    ];
    let one = (
        0u8..11,
        prop_oneof![3 => Just(4u8), 3 => Just(5), 1 => Just(1), 1 => Just(0), 2 => any::<u8>()],
        0u32..12,
        payload,
    )
        .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload));
    proptest::collection::vec(one, 0..40).prop_map(|frames| frames.concat())
}

/// What becomes of these bytes in these pieces, when every request is answered and every byte of it taken.
fn outcome(bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, Vec<String>, Option<crate::Cause>) {
    let mut server = connection(Role::Server, settings());
    let (mut seen, mut keys) = (Vec::new(), Vec::new());
    let mut waiting = Vec::new();
    let mut cuts = cuts.iter().cycle();
    let mut rest = bytes;
    while !rest.is_empty() {
        let n = cuts.next().copied().unwrap_or(usize::MAX).clamp(1, rest.len());
        let (piece, tail) = rest.split_at(n);
        rest = tail;
        waiting.extend_from_slice(piece);
        let used = server.receive(&waiting, 0);
        waiting.drain(..used);
    }
    while let Some((key, head)) = server.arrived() {
        seen.push(fields(&head));
        keys.push(key);
    }
    for key in keys {
        let (payload, ended) = take(&mut server, key);
        seen.push(format!(
            "{} {ended:?} {:?}",
            payload.len(),
            server.take_trailers(key).map(|h| fields(&h))
        ));
        let _ = server.head(key, true, |out| out.status(200));
        server.release(key);
    }
    let out = server.unsent().to_vec();
    assert!(
        server.streams.iter().all(|(_, stream)| stream.released),
        "released and open"
    );
    assert_eq!(
        server.open as usize,
        server.streams.iter().filter(|(_, s)| s.counted).count()
    );
    (out, seen, server.over())
}

proptest! {
    #[test]
    fn any_cut_of_any_bytes_has_the_same_outcome(
        bytes in frames(),
        cuts in proptest::collection::vec(1usize..50, 1..20),
    ) {
        let all = [&PREFACE[..], &bytes].concat();
        let whole = outcome(&all, &[usize::MAX]);
        prop_assert_eq!(&outcome(&all, &cuts), &whole);
        prop_assert_eq!(&outcome(&all, &[1]), &whole);
    }

    #[test]
    fn payload_passes_whole_whatever_the_order(
        steps in proptest::collection::vec((0usize..4, 0u8..9, 1usize..30_000), 1..300),
        window in 1000u32..100_000,
    ) {
        let small = Settings { stream_window: window, connection_window: 70_000, ..settings() };
        let mut pair = Pair::with(small, small);
        let mut streams = Vec::new();
        for _ in 0..4 {
            let (key, there, _) = pair.request(false);
            pair.server.head(there, false, |out| out.status(200)).unwrap();
            streams.push((key, there, [0u64; 4], [false; 3]));
        }
        let byte = |n: u64| (n % 251) as u8;
        for (at, step, n) in steps {
            let (key, there, counts, ended) = &mut streams[at];
            let body = |from: u64| -> Vec<u8> { (from..from + n as u64).map(byte).collect() };
            match step {
                0 | 1 if !ended[0] => counts[0] += give(&mut pair.client, *key, &body(counts[0])) as u64,
                2 if !ended[1] => counts[1] += give(&mut pair.server, *there, &body(counts[1])) as u64,
                3 => { carry(&mut pair.client, &mut pair.server, n); }
                4 => { carry(&mut pair.server, &mut pair.client, n); }
                5 => {
                    let (came, _) = take(&mut pair.server, *there);
                    for b in came { prop_assert_eq!(b, byte(counts[2])); counts[2] += 1; }
                }
                6 => {
                    let (came, _) = take(&mut pair.client, *key);
                    for b in came { prop_assert_eq!(b, byte(counts[3])); counts[3] += 1; }
                }
                7 if n < 500 && !ended[0] => { pair.client.end(*key).unwrap(); ended[0] = true; }
                8 if n < 500 && !ended[1] => { pair.server.end(*there).unwrap(); ended[1] = true; }
                _ => {}
            }
        }
        for (key, there, counts, ended) in &mut streams {
            if !ended[0] { pair.client.end(*key).unwrap(); }
            if !ended[1] { pair.server.end(*there).unwrap(); }
            for _ in 0..200 {
                pair.talk();
                let (a, b) = (take(&mut pair.server, *there), take(&mut pair.client, *key));
                for b in a.0 { prop_assert_eq!(b, byte(counts[2])); counts[2] += 1; }
                for b in b.0 { prop_assert_eq!(b, byte(counts[3])); counts[3] += 1; }
                if a.1.is_some() && b.1.is_some() { break; }
            }
            prop_assert_eq!((counts[2], counts[3]), (counts[0], counts[1]));
            pair.client.release(*key);
            pair.server.release(*there);
        }
        pair.talk();
        pair.is_clean();
    }
}
