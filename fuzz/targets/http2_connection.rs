//! Does anything that a peer sends break a connection of HTTP/2, make it depend on how the bytes are cut, or grow?
#![no_main]

use std::rc::Rc;

use libfuzzer_sys::fuzz_target;
use mesh_http2::meter::{Budgets, Role};
use mesh_http2::{Buffers, Connection, Pool, Settings};

struct Plain;

impl Buffers for Plain {
    fn take(&self) -> Vec<u8> {
        Vec::with_capacity(1024)
    }

    fn give(&self, _: Vec<u8>) {}
}

/// What a connection says to these bytes in pieces of at most `cut`, when it answers every request.
fn outcome(role: Role, bytes: &[u8], cut: usize) -> (Vec<u8>, usize, bool) {
    let settings = Settings {
        streams: 100,
        stream_window: 65_535,
        connection_window: 1 << 20,
        header_bytes: 16_384,
        budgets: Budgets::new(16_384),
    };
    let mut connection = Connection::new(role, settings, Rc::new(Pool::new(Plain)));
    let (mut waiting, mut requests) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(cut) {
        waiting.extend_from_slice(piece);
        let used = connection.receive(&waiting, 0);
        waiting.drain(..used);
    }
    while let Some((key, head)) = connection.arrived() {
        requests.push((key, head.bytes().len()));
    }
    for (key, _) in &requests {
        let _ = connection.head(*key, true, |out| out.status(200));
        connection.release(*key);
    }
    let is_over = connection.over().is_some();
    (connection.unsent().to_vec(), requests.len(), is_over)
}

fuzz_target!(|bytes: &[u8]| {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let as_client = [&preface[..], bytes].concat();
    for (role, bytes) in [(Role::Server, as_client.as_slice()), (Role::Client, bytes)] {
        let whole = outcome(role, bytes, usize::MAX);
        assert_eq!(whole, outcome(role, bytes, 1));
        assert_eq!(whole, outcome(role, bytes, 13));
        // A byte that comes is not answered with more than a frame.
        assert!(
            whole.0.len() <= 4096 + 64 * bytes.len(),
            "{} for {}",
            whole.0.len(),
            bytes.len()
        );
    }
});
