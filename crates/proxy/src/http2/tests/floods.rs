//! Rows 1 to 8 and 11 of the attacks, byte by byte, and how the proxy takes leave.

use super::client::{Caller, local};
use super::*;

use mesh_http2::frame::PREFACE;

use crate::exchange::message::Fault;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `GET /` of `a` over HPACK's static table, the authority as a literal.
const REQUEST: &[u8] = &[0x82, 0x86, 0x84, 0x01, 0x01, b'a'];

/// A frame that came.
#[derive(Debug)]
struct Came {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Came {
    /// The error code of RST_STREAM or GOAWAY.
    fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// Sends the preface and what follows it, and reads until the connection ends. Writing goes on in a task, since the
/// proxy may stop reading.
async fn attack(address: SocketAddr, bytes: Vec<u8>) -> Vec<Came> {
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let writer = tokio::spawn(async move {
        let mut all = PREFACE.to_vec();
        all.extend(frame(SETTINGS, 0, 0, &[]));
        all.extend(bytes);
        // The proxy may close meanwhile.
        let _ = write.write_all(&all).await;
        write
    });
    let mut came = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, async {
        let mut head = [0; 9];
        while read.read_exact(&mut head).await.is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            if read.read_exact(&mut payload).await.is_err() {
                return;
            }
            let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
            came.push(Came {
                kind: head[3],
                stream,
                payload,
            });
        }
    })
    .await;
    assert!(ended.is_ok(), "the connection stands: {came:?}");
    drop(writer.await);
    came
}

/// Attacks, and asserts that the proxy said GOAWAY with ENHANCE_YOUR_CALM and counted it; another connection serves.
async fn is_calmed(bytes: Vec<u8>, limit: Limit) {
    let front = front(hello().await, json!({}));
    let came = attack(front.address, bytes).await;
    let goaway = came.iter().rfind(|frame| frame.kind == GOAWAY).expect("a GOAWAY");
    assert_eq!(goaway.code(), 0xb, "{limit:?}: {came:?}");
    // The client may hear of it first.
    eventually("it is counted", || front.limit(limit) == 1).await;
    let mut send = connect(front.address).await;
    assert_eq!(fetch(&mut send, get("/")).await.unwrap().status(), 200);
}

fn repeat(n: u32, each: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..n).flat_map(each).collect()
}

#[tokio::test]
async fn row_1_rapid_reset() {
    let bytes = repeat(2000, |n| {
        let stream = 2 * n + 1;
        let mut pair = frame(HEADERS, END_STREAM | END_HEADERS, stream, REQUEST);
        pair.extend(frame(RESET, 0, stream, &8u32.to_be_bytes()));
        pair
    });
    is_calmed(bytes, Limit::Http2Resets).await;
}

#[tokio::test]
async fn row_2_made_you_reset() {
    // A WINDOW_UPDATE of nothing on an open stream is a stream error each time (RFC 9113 section 6.9); so is a request
    // that depends on itself.
    let bytes = repeat(2000, |n| {
        let stream = 2 * n + 1;
        let mut payload = stream.to_be_bytes().to_vec();
        payload.push(0);
        payload.extend(REQUEST);
        frame(HEADERS, END_STREAM | END_HEADERS | 0x20, stream, &payload)
    });
    is_calmed(bytes, Limit::Http2LocalResets).await;
}

#[tokio::test]
async fn row_3_continuations() {
    let mut bytes = frame(HEADERS, END_STREAM, 1, REQUEST);
    bytes.extend(repeat(1000, |_| frame(CONTINUATION, 0, 1, &[])));
    // `h2` has a bound of its own, below the meter's for heads of this size.
    is_calmed(bytes, Limit::Http2Continuations).await;
}

#[tokio::test]
async fn row_3_a_block_without_end() {
    let mut bytes = frame(HEADERS, END_STREAM, 1, REQUEST);
    // One literal field whose value never ends.
    let mut begin = vec![0x00, 0x01, b'x', 0x7f];
    begin.extend([0xff, 0xff, 0xff, 0x07]);
    begin.resize(16_384, b'y');
    bytes.extend(frame(CONTINUATION, 0, 1, &begin));
    bytes.extend(repeat(40, |_| frame(CONTINUATION, 0, 1, &[b'y'; 16_384])));
    let front = front(hello().await, json!({}));
    let came = attack(front.address, bytes).await;
    let goaway = came.iter().rfind(|frame| frame.kind == GOAWAY).expect("a GOAWAY");
    // ENHANCE_YOUR_CALM, or COMPRESSION_ERROR for a string that is longer than any head may be.
    assert!(matches!(goaway.code(), 0xb | 0x9), "{came:?}");
}

#[tokio::test]
async fn row_4_a_bomb_of_indexed_fields_is_refused() {
    // One field in the dynamic table, then a reference a byte: a small block that would be many fields.
    let mut block = REQUEST.to_vec();
    block.extend([0x40, 0x06]);
    block.extend(b"cookie");
    block.extend([0x03]);
    block.extend(b"a=b");
    block.extend(vec![0xbe; 12_000]);
    is_calmed(
        frame(HEADERS, END_STREAM | END_HEADERS, 1, &block),
        Limit::HeaderBytes,
    )
    .await;
}

#[tokio::test]
async fn row_6_empty_data() {
    let mut bytes = frame(HEADERS, END_HEADERS, 1, REQUEST);
    bytes.extend(repeat(2000, |_| frame(DATA, 0, 1, &[])));
    is_calmed(bytes, Limit::Http2SmallData).await;
}

#[tokio::test]
async fn row_7_frames_that_want_an_answer() {
    let cases: [(u8, &[u8], Limit); 4] = [
        (PING, &[0; 8], Limit::Http2Pings),
        (SETTINGS, &[], Limit::Http2Settings),
        (WINDOW_UPDATE, &[0, 0, 0, 1], Limit::Http2WindowUpdates),
        (99, &[], Limit::Http2Priorities),
    ];
    for (kind, payload, limit) in cases {
        is_calmed(repeat(1000, |_| frame(kind, 0, 0, payload)), limit).await;
    }
    is_calmed(
        repeat(1000, |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 0])),
        Limit::Http2Priorities,
    )
    .await;
}

#[tokio::test]
async fn row_8_a_peer_that_never_reads_is_left() {
    let front = front(
        hello().await,
        json!({ "timeouts": { "streamIdle": "200ms", "request": "0s" } }),
    );
    // Each response is 64 KiB; the windows are as large as can be, and nothing is read.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut socket = socket.connect(front.address).await.unwrap();
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
    bytes.extend(frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0, 0, 0]));
    // `/here`, without indexing.
    let mut request = vec![0x82, 0x86, 0x04, 0x05];
    request.extend(b"/here");
    request.extend([0x01, 0x01, b'a']);
    bytes.extend(repeat(100, |n| {
        frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &request)
    }));
    socket.write_all(&bytes).await.unwrap();
    let stalled = async {
        while front.limit(Limit::Http2Backlog) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, stalled)
        .await
        .expect("the connection was given up");
}

#[tokio::test]
async fn row_11_streams_over_the_limit_are_refused() {
    let upstream = scripted(|mut socket| async move {
        let _ = socket.read(&mut [0; 1]).await;
        std::future::pending().await
    })
    .await;
    let front = front(upstream, json!({ "limits": { "streams": 2 } }));
    let mut bytes = repeat(3, |n| {
        frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, REQUEST)
    });
    // A stream of even number ends the connection, so that the test does.
    bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, 8, REQUEST));
    let came = attack(front.address, bytes).await;
    let refused = came
        .iter()
        .find(|frame| frame.kind == RESET)
        .expect("a RST_STREAM");
    assert_eq!((refused.stream, refused.code()), (5, 7));
    assert_eq!(came.iter().rfind(|frame| frame.kind == GOAWAY).unwrap().code(), 1);
}

#[tokio::test]
async fn row_11_frames_on_streams_that_are_not_there_end_the_connection() {
    for bytes in [
        frame(DATA, END_STREAM, 1, b"x"),
        frame(HEADERS, END_STREAM | END_HEADERS, 2, REQUEST),
        [
            frame(HEADERS, END_STREAM | END_HEADERS, 5, REQUEST),
            frame(HEADERS, END_STREAM | END_HEADERS, 3, REQUEST),
        ]
        .concat(),
    ] {
        let front = front(hello().await, json!({}));
        let came = attack(front.address, bytes).await;
        let goaway = came.iter().rfind(|frame| frame.kind == GOAWAY).expect("a GOAWAY");
        assert_eq!(goaway.code(), 1, "{came:?}");
    }
}

#[tokio::test]
async fn a_server_that_floods_is_left() {
    local(async {
        let upstream = scripted(|mut socket| async move {
            let mut bytes = frame(4, 0, 0, &[]);
            for _ in 0..1000 {
                bytes.extend(frame(6, 0, 0, &[0; 8]));
            }
            let _ = socket.write_all(&bytes).await;
            while socket.read(&mut [0; 4096]).await.is_ok_and(|n| n > 0) {}
        })
        .await;
        let caller = Caller::new(upstream, 100);
        assert!(matches!(caller.call().await.err(), Some(Fault::Io(_))));
        eventually("the connection is not used again", || {
            caller.connections.take(&caller.endpoint, 100).is_none()
        })
        .await;
    })
    .await;
}
