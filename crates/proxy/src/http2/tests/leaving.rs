//! Clients that are asked to leave: what they have begun, or are about to, comes to its end.

use super::*;

use std::time::Instant;

use crate::connection::WARM;
use crate::proxy::{DrainOptions, Phase};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
/// What is asked of a PING that goes with GOAWAY.
const LEAVING: &[u8] = b"leaving!";

/// A client that does as it is told, a frame at a time.
struct Client {
    socket: TcpStream,
    seen: Vec<u8>,
}

impl Client {
    /// Connects. `window` is what it takes of each response, and `buffer` what its kernel takes.
    async fn connect(address: SocketAddr, window: u32, buffer: u32) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(buffer).unwrap();
        let mut client = Self {
            socket: socket.connect(address).await.unwrap(),
            seen: Vec::new(),
        };
        client.socket.set_nodelay(true).unwrap();
        let mut settings = vec![0, 4];
        settings.extend_from_slice(&window.to_be_bytes());
        let start = [
            &mesh_http2::frame::PREFACE[..],
            &frame(SETTINGS, 0, 0, &settings),
            &frame(WINDOW_UPDATE, 0, 0, &window.to_be_bytes()),
        ];
        client.send(&start.concat()).await;
        client
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    /// The bytes of `GET /here` or `GET /`.
    fn get(stream: u32, path: &str) -> Vec<u8> {
        // From HPACK's tables, and two literals.
        let mut head = b"\x82\x86\x04".to_vec();
        head.push(path.len() as u8);
        head.extend_from_slice(path.as_bytes());
        head.extend_from_slice(b"\x41\x01a");
        frame(HEADERS, END_STREAM | END_HEADERS, stream, &head)
    }

    /// The next frame: kind, flags, stream, payload.
    async fn next(&mut self) -> (u8, u8, u32, Vec<u8>) {
        loop {
            if let [a, b, c, kind, flags, s0, s1, s2, s3, rest @ ..] = &self.seen[..] {
                let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                if let Some(payload) = rest.get(..length) {
                    let stream = u32::from_be_bytes([*s0, *s1, *s2, *s3]);
                    let found = (*kind, *flags, stream, payload.to_vec());
                    self.seen.drain(..9 + length);
                    return found;
                }
            }
            let mut piece = [0; 4096];
            let read = tokio::time::timeout(PATIENCE, self.socket.read(&mut piece)).await;
            let n = read.expect("something comes").expect("no reset");
            assert!(n > 0, "the end came too early");
            self.seen.extend_from_slice(&piece[..n]);
        }
    }

    /// Reads up to a frame of this kind that is no answer, and gives its payload.
    async fn until(&mut self, wanted: u8) -> Vec<u8> {
        loop {
            let (kind, flags, _, payload) = self.next().await;
            if kind == wanted && (kind != PING || flags != ACK) {
                return payload;
            }
        }
    }

    /// Waits until the server has read all that was sent; whether it said GOAWAY meanwhile.
    async fn sync(&mut self) -> bool {
        self.send(&frame(PING, 0, 0, b"are you?")).await;
        let mut leaves = false;
        loop {
            match self.next().await {
                (PING, ACK, _, _) => return leaves,
                (kind, ..) => leaves |= kind == GOAWAY,
            }
        }
    }

    /// Reads a response and gives how long it is; `each` is sent behind each of its pieces.
    async fn response(&mut self, stream: u32, each: &[u8]) -> usize {
        let mut length = 0;
        loop {
            let (kind, flags, of, payload) = self.next().await;
            if of != stream || !matches!(kind, DATA | HEADERS) {
                continue;
            }
            if kind == DATA {
                length += payload.len();
                // It may all be read by now, and the connection gone.
                let _ = self.socket.write_all(each).await;
            }
            if flags & END_STREAM != 0 {
                return length;
            }
        }
    }
}

/// A server whose answer is as long as this.
async fn long(length: usize) -> SocketAddr {
    scripted(move |mut socket| async move {
        read_until(&mut socket, "\r\n\r\n").await;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        let answer = [head.into_bytes(), vec![b'x'; length]].concat();
        let _ = socket.write_all(&answer).await;
    })
    .await
}

/// Requests that were answered.
fn answered(front: &Front) -> u64 {
    let report = front.proxy.look();
    report
        .routes
        .iter()
        .map(|(_, totals)| totals.duration.count())
        .sum()
}

#[tokio::test]
async fn who_reads_its_last_response_slowly_gets_all_of_it() {
    const LENGTH: usize = 512 * 1024;
    // This side leaves, or the client.
    for limit in [1, 0] {
        let limits = json!({ "protocol": "http2", "limits": { "requestsPerConnection": limit } });
        let front = front(long(LENGTH).await, limits);
        let mut client = Client::connect(front.address, 1 << 20, 16 * 1024).await;
        client.send(&Client::get(1, "/")).await;
        if limit == 1 {
            assert_eq!(client.until(PING).await, LEAVING);
            client.send(&frame(PING, ACK, 0, LEAVING)).await;
        } else {
            client.send(&frame(GOAWAY, 0, 0, &[0; 8])).await;
        }
        // The kernel has the rest of it.
        eventually("it is written", || answered(&front) == 1).await;
        let update = frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes());
        assert_eq!(client.response(1, &update).await, LENGTH);
    }
}

#[tokio::test]
async fn who_connects_is_served_before_it_is_asked_to_leave() {
    for drains in [true, false] {
        let age = if drains { "0s" } else { "1ms" };
        let timeouts = json!({ "maxConnectionAge": age });
        let front = front(
            hello().await,
            json!({ "protocol": "http2", "timeouts": timeouts }),
        );
        if drains {
            let mut phase = front.proxy.phase();
            front.proxy.drain(DrainOptions {
                lame_duck: PATIENCE,
                ..DrainOptions::default()
            });
            phase.wait_for(|phase| *phase == Phase::Draining).await.unwrap();
        }
        loop {
            let begun = Instant::now();
            let mut client = Client::connect(front.address, 65_535, 65_536).await;
            // The age has passed by then.
            let mut told = client.sync().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            told |= client.sync().await;
            if told {
                assert!(begun.elapsed() >= WARM, "it was asked to leave at once");
                continue;
            }
            client.send(&Client::get(1, "/")).await;
            // In whatever order.
            let (mut is_whole, mut leaves) = (false, false);
            while !(is_whole && leaves) {
                let (kind, flags, ..) = client.next().await;
                leaves |= kind == GOAWAY;
                is_whole |= matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
            }
            break;
        }
        // Who asks for nothing is asked to leave in a while.
        let mut silent = Client::connect(front.address, 65_535, 65_536).await;
        silent.until(GOAWAY).await;
    }
}

#[tokio::test]
async fn what_a_client_sends_with_its_word_that_it_knows_of_a_drain_is_served() {
    let front = front(hello().await, json!({ "protocol": "http2" }));
    let mut client = Client::connect(front.address, 65_535, 65_536).await;
    client.send(&Client::get(1, "/")).await;
    assert_eq!(client.response(1, b"").await, 5);
    front.proxy.drain(DrainOptions::default());
    assert_eq!(client.until(GOAWAY).await[..4], [0x7f, 0xff, 0xff, 0xff]);
    assert_eq!(client.until(PING).await, LEAVING);
    client
        .send(&[frame(PING, ACK, 0, LEAVING), Client::get(3, "/")].concat())
        .await;
    assert_eq!(client.response(3, b"").await, 5);
    assert_eq!(client.until(GOAWAY).await[..4], [0, 0, 0, 3]);
}
