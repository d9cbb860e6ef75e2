//! Connections to servers: when they are made, shared, left and lost.

use super::*;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;

use h2::server::SendResponse;
use mesh_http2::Code;
use mesh_model::errors::Reason;
use mesh_model::resources::ClusterTimeouts;
use tokio::task::{LocalSet, spawn_local, yield_now};

use crate::balance::EndpointState;
use crate::clock::{NEVER, SystemClock};
use crate::exchange::message::{Fault, HeadKind, Length, Payload, Sink, Source, Trailers, Upstream};
use crate::http2::client::{Connections, NoSeat, Opened, Seat};
use crate::http2::client_stream::ClientStream;
use crate::io::socket::{Socket, Sockets};
use crate::io::wire::Wire;
use crate::log::Log;
use crate::panics::Guard;
use crate::telemetry::{Telemetry, TelemetryOptions, ThreadTelemetry};
use crate::thread::Thread;
use crate::upstream::cluster::ClusterShared;
use crate::upstream::pool::{Ages, OpenConnection, Pooled};

/// A data thread with one endpoint.
pub(super) struct Caller {
    thread: Rc<Thread<Sockets>>,
    pub(super) connections: Connections,
    pub(super) endpoint: Arc<EndpointState>,
    address: SocketAddr,
    /// Connections that were asked for.
    dialled: Rc<Cell<u32>>,
    streams: u32,
}

impl Caller {
    pub(super) fn new(address: SocketAddr, streams: u32) -> Rc<Self> {
        let telemetry = Arc::new(Telemetry::new(TelemetryOptions::default()));
        let guard = Arc::new(Guard::new(Arc::clone(&telemetry), Arc::new(Log::silent())));
        let net = Sockets {
            clock: SystemClock::start(),
            dialled: Arc::default(),
        };
        Rc::new(Self {
            thread: Thread::new(net, ThreadTelemetry::new(telemetry, 0), guard, None, 1),
            connections: Connections::new(Rc::default()),
            endpoint: Arc::new(EndpointState::new(Address::Ip(address), None, 0)),
            address,
            dialled: Rc::default(),
            streams,
        })
    }

    async fn seat(&self) -> Result<Seat, NoSeat> {
        let connect = || {
            self.dialled.set(self.dialled.get() + 1);
            dial(Rc::clone(&self.thread), self.address)
        };
        let seat = self
            .connections
            .checkout(&self.thread, &self.endpoint, self.streams, connect);
        tokio::time::timeout(PATIENCE, seat)
            .await
            .expect("a seat or a reason")
    }

    async fn start(&self, length: Length) -> ClientStream {
        let seat = self.seat().await.unwrap();
        ClientStream::start(seat, false, length, 128, |head| {
            head.request(b"GET", b"http", b"a.test", b"/", false);
        })
        .unwrap()
    }

    /// A whole exchange without a request body.
    pub(super) async fn call(&self) -> Result<(u16, Vec<u8>, Trailers), Fault> {
        receive(&mut self.start(Length::None).await).await
    }
}

async fn dial(thread: Rc<Thread<Sockets>>, address: SocketAddr) -> Result<Opened<Socket>, NoSeat> {
    let tcp = TcpStream::connect(address)
        .await
        .map_err(|_| NoSeat::Failed(Reason::ConnectRefused))?;
    tcp.set_nodelay(true).unwrap();
    let permit = Arc::new(ClusterShared::default()).connection(1).unwrap();
    let stats = thread.telemetry.cluster(thread.telemetry.shared().none());
    let pooled = Pooled {
        wire: Wire::new(Socket::Tcp(tcp), Rc::clone(&thread.buffers)),
        opened: thread.now(),
        idle_since: thread.now(),
        exchanges: 0,
        epoch: 0,
        open: OpenConnection::new(permit, stats, 0),
    };
    Ok(Opened {
        pooled,
        before: NEVER,
        greeted: Box::new(|_| {}),
    })
}

pub(super) async fn receive(stream: &mut ClientStream) -> Result<(u16, Vec<u8>, Trailers), Fault> {
    let received = async {
        while poll_fn(|cx| stream.poll_head(cx)).await? != HeadKind::Final {}
        let mut body = Vec::new();
        while poll_fn(|cx| stream.poll_payload(cx)).await? == Payload::Data {
            let n = stream.payload().len();
            body.extend(stream.payload());
            stream.advance(n);
        }
        Ok((stream.response().status(), body, stream.take_trailers()))
    };
    tokio::time::timeout(PATIENCE, received)
        .await
        .expect("an answer in time")
}

type Stream = (Request<h2::RecvStream>, SendResponse<Bytes>);

/// What a test's server does with the streams of a connection.
struct Server {
    address: SocketAddr,
    /// Streams that came and were not looked at.
    streams: Rc<RefCell<Vec<Stream>>>,
    /// Connections that ended.
    ended: Rc<Cell<u32>>,
    leave: Rc<Cell<bool>>,
}

/// A server that puts streams on a list, for the test to answer.
async fn server(builder: h2::server::Builder) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server {
        address: listener.local_addr().unwrap(),
        streams: Rc::default(),
        ended: Rc::default(),
        leave: Rc::default(),
    };
    let (streams, ended, leave) = (server.streams.clone(), server.ended.clone(), server.leave.clone());
    spawn_local(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (streams, ended, leave) = (streams.clone(), ended.clone(), leave.clone());
            socket.set_nodelay(true).unwrap();
            let handshake = builder.handshake(socket);
            spawn_local(async move {
                let mut connection = handshake.await.unwrap();
                while let Some(next) = poll_fn(|cx| {
                    if leave.take() {
                        connection.graceful_shutdown();
                    }
                    std::pin::pin!(connection.accept()).poll(cx)
                })
                .await
                {
                    let Ok(stream) = next else { break };
                    streams.borrow_mut().push(stream);
                }
                ended.set(ended.get() + 1);
            });
        }
    });
    server
}

impl Server {
    /// The next stream.
    async fn next(&self) -> Stream {
        let next = async {
            loop {
                if let Some(stream) = self.streams.borrow_mut().pop() {
                    return stream;
                }
                yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("a stream")
    }

    /// Answers every stream from now on.
    fn answer_all(&self, body: &'static [u8]) {
        let streams = self.streams.clone();
        spawn_local(async move {
            loop {
                let next = streams.borrow_mut().pop();
                match next {
                    Some((_, mut respond)) => answer(&mut respond, body),
                    None => yield_now().await,
                }
            }
        });
    }
}

fn answer(respond: &mut SendResponse<Bytes>, body: &'static [u8]) {
    // The caller may have left.
    if let Ok(mut stream) = respond.send_response(Response::new(()), false) {
        let _ = stream.send_data(Bytes::from_static(body), true);
    }
}

/// Runs a test as a data thread runs.
pub(super) async fn local(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn requests_share_a_connection_and_trailers_pass() {
    local(async {
        let server = server(h2::server::Builder::new()).await;
        let caller = Caller::new(server.address, 100);
        let mut stream = caller.start(Length::Unknown).await;
        assert!(!stream.is_reused());
        let (request, mut respond) = server.next().await;
        let mut informational = Response::new(());
        *informational.status_mut() = http::StatusCode::EARLY_HINTS;
        respond.send_informational(informational).unwrap();
        let kind = poll_fn(|cx| stream.poll_head(cx)).await.unwrap();
        assert_eq!((kind, stream.response().status()), (HeadKind::Informational, 103));
        stream.finish(Trailers::Lines(b"x-sum: 7\r\n".to_vec())).unwrap();
        let mut body = request.into_body();
        assert!(body.data().await.is_none());
        assert_eq!(body.trailers().await.unwrap().unwrap()["x-sum"], "7");
        let mut sink = respond.send_response(Response::new(()), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        sink.send_trailers(trailers).unwrap();
        let (status, _, trailers) = receive(&mut stream).await.unwrap();
        assert_eq!(
            (status, trailers.into_lines()),
            (200, b"grpc-status: 0\r\n".to_vec())
        );
        server.answer_all(b"hello");
        for _ in 0..200 {
            assert_eq!(caller.call().await.unwrap().1, b"hello");
        }
        assert!(caller.start(Length::None).await.is_reused());
        assert_eq!(caller.dialled.get(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_burst_waits_for_as_many_connections_as_it_needs() {
    local(async {
        let server = server(h2::server::Builder::new()).await;
        for (streams, expected) in [(100, 1), (5, 4)] {
            let caller = Caller::new(server.address, streams);
            let tasks: Vec<_> = (0..20)
                .map(|_| {
                    let caller = Rc::clone(&caller);
                    spawn_local(async move { caller.seat().await.unwrap() })
                })
                .collect();
            let mut seats = Vec::new();
            for task in tasks {
                seats.push(task.await.unwrap());
            }
            assert_eq!(
                (caller.dialled.get(), caller.connections.len()),
                (expected, expected as usize)
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_full_connection_by_the_servers_limit_gets_a_second_beside_it() {
    local(async {
        let server = server(h2::server::Builder::new().max_concurrent_streams(2).clone()).await;
        let caller = Caller::new(server.address, 100);
        let mut held = vec![caller.start(Length::None).await];
        let first = server.next().await;
        held.push(caller.start(Length::None).await);
        held.push(caller.start(Length::None).await);
        assert_eq!(caller.dialled.get(), 2);
        // A place that is free again is taken before another connection is made.
        drop((held.remove(0), first));
        held.push(caller.start(Length::None).await);
        assert_eq!(caller.dialled.get(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_failed_connect_is_everybodys() {
    local(async {
        let closed = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let caller = Caller::new(closed, 100);
        let tasks: Vec<_> = (0..10)
            .map(|_| {
                let caller = Rc::clone(&caller);
                spawn_local(async move { caller.seat().await.err() })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), Some(NoSeat::Failed(Reason::ConnectRefused)));
        }
        assert_eq!(caller.dialled.get(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_leaves_leaves_the_attempt_to_others() {
    local(async {
        let server = server(h2::server::Builder::new()).await;
        let caller = Caller::new(server.address, 100);
        {
            let mut first = std::pin::pin!(caller.seat());
            assert!(futures_poll(first.as_mut()).await.is_none());
        }
        caller.seat().await.unwrap();
        assert_eq!(caller.dialled.get(), 1);
    })
    .await;
}

/// Polls once.
async fn futures_poll<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|cx| {
        std::task::Poll::Ready(match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn resets_have_their_meaning() {
    local(async {
        let server = server(h2::server::Builder::new()).await;
        let caller = Caller::new(server.address, 100);
        let cases = [
            (h2::Reason::REFUSED_STREAM, Fault::Refused),
            (h2::Reason::INTERNAL_ERROR, Fault::Reset(Code::INTERNAL_ERROR)),
            (h2::Reason::CANCEL, Fault::Reset(Code::CANCEL)),
        ];
        for (reason, fault) in cases {
            let mut stream = caller.start(Length::Unknown).await;
            server.next().await.1.send_reset(reason);
            assert_eq!(receive(&mut stream).await.err(), Some(fault));
            assert!(!stream.response_begun());
        }
        assert_eq!(caller.dialled.get(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_leaves_finishes_its_streams_and_gets_no_more() {
    local(async {
        let server = server(h2::server::Builder::new()).await;
        let caller = Caller::new(server.address, 100);
        let mut old = caller.start(Length::None).await;
        let (_, mut respond) = server.next().await;
        server.leave.set(true);
        // The server notices with its next event.
        let mut nudge = caller.start(Length::None).await;
        server.answer_all(b"new");
        assert!(matches!(receive(&mut nudge).await, Ok(_) | Err(Fault::Refused)));
        eventually("goaway was seen", || {
            caller.connections.take(&caller.endpoint, 100).is_none()
        })
        .await;
        assert_eq!(caller.call().await.unwrap().1, b"new");
        assert_eq!(caller.dialled.get(), 2);
        answer(&mut respond, b"old");
        assert_eq!(receive(&mut old).await.unwrap().1, b"old");
    })
    .await;
}

#[tokio::test]
async fn a_lost_connection_is_a_fault_and_the_next_request_makes_another() {
    local(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let caller = Caller::new(address, 100);
        for dialled in 1..=2 {
            let mut stream = caller.start(Length::None).await;
            drop(listener.accept().await.unwrap());
            assert!(matches!(receive(&mut stream).await.err(), Some(Fault::Io(_))));
            assert_eq!(caller.dialled.get(), dialled);
        }
    })
    .await;
}

#[tokio::test]
async fn streams_that_are_cancelled_late_or_early_cost_the_others_nothing() {
    local(async {
        let server = server(h2::server::Builder::new()).await;
        let caller = Caller::new(server.address, 100);
        let mut watch = caller.start(Length::Unknown).await;
        let (_, mut watched) = server.next().await;
        for n in 0..3000 {
            let stream = caller.start(Length::Unknown).await;
            let (_, mut respond) = server.next().await;
            // The answer and the reset pass each other on their way.
            if n % 2 == 0 {
                answer(&mut respond, b"too late");
            }
            drop(stream);
        }
        // A server may end a connection with many resets on it: it is replaced before, and ends in peace.
        assert_eq!(caller.dialled.get(), 6);
        answer(&mut watched, b"still here");
        assert_eq!(receive(&mut watch).await.unwrap().1, b"still here");
    })
    .await;
}

#[tokio::test]
async fn servers_that_answer_before_they_have_read_cost_the_others_nothing() {
    local(async {
        // What is sent to a stream that this server has forgotten it answers with a reset, and after 1,024 of those, by
        // default, with GOAWAY. That is its own business; here it counts none.
        let mut lenient = h2::server::Builder::new();
        lenient.max_local_error_reset_streams(None);
        let server = server(lenient).await;
        server.answer_all(b"no need");
        let caller = Caller::new(server.address, 100);
        for _ in 0..2000 {
            let mut stream = caller.start(Length::Unknown).await;
            let mut body = Payloads(Bytes::from_static(&[b'x'; 1024]));
            poll_fn(|cx| stream.poll_send(cx, &mut body)).await.unwrap();
            poll_fn(|cx| stream.poll_flush(cx)).await.unwrap();
            assert_eq!(receive(&mut stream).await.unwrap().1, b"no need");
        }
        assert_eq!(caller.dialled.get(), 1);
    })
    .await;
}

/// A source of bytes.
struct Payloads(Bytes);

impl Source for Payloads {
    fn poll_payload(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<Payload, Fault>> {
        std::task::Poll::Ready(Ok(if self.0.is_empty() {
            Payload::End
        } else {
            Payload::Data
        }))
    }

    fn payload(&self) -> &[u8] {
        &self.0
    }

    fn advance(&mut self, n: usize) {
        bytes::Buf::advance(&mut self.0, n);
    }

    fn take_trailers(&mut self) -> Trailers {
        Trailers::None
    }

    fn length(&self) -> Length {
        Length::Unknown
    }
}

#[tokio::test]
async fn a_sink_takes_what_the_window_allows_and_no_more() {
    local(async {
        let server = server(h2::server::Builder::new()).await;
        let caller = Caller::new(server.address, 100);
        let mut stream = caller.start(Length::Unknown).await;
        let (request, _respond) = server.next().await;
        let mut source = Payloads(Bytes::from(vec![b'x'; 1 << 20]));
        let stuck = poll_fn(|cx| {
            std::task::Poll::Ready(loop {
                match stream.poll_send(cx, &mut source) {
                    std::task::Poll::Ready(sent) => sent.unwrap(),
                    std::task::Poll::Pending => break source.0.len(),
                }
            })
        })
        .await;
        assert_eq!((1 << 20) - stuck, 65_535, "the default window of a stream");
        let mut body = request.into_body();
        let sender = async {
            while !source.0.is_empty() {
                poll_fn(|cx| stream.poll_send(cx, &mut source)).await.unwrap();
            }
            stream.finish(Trailers::None).unwrap();
        };
        let reader = async {
            let mut seen = 0;
            while let Some(piece) = body.data().await {
                let n = piece.unwrap().len();
                seen += n;
                body.flow_control().release_capacity(n).unwrap();
            }
            seen
        };
        let ((), seen) = tokio::join!(sender, reader);
        assert_eq!(seen, 1 << 20);
    })
    .await;
}

#[tokio::test]
async fn responses_that_nobody_reads_hold_up_nobody() {
    local(async {
        let server = server(h2::server::Builder::new()).await;
        let caller = Caller::new(server.address, 100);
        let mut stuck = Vec::new();
        let mut sinks = Vec::new();
        for _ in 0..20 {
            let mut stream = caller.start(Length::None).await;
            let (_, mut respond) = server.next().await;
            let mut sink = respond.send_response(Response::new(()), false).unwrap();
            sink.send_data(Bytes::from(vec![b'x'; 1 << 20]), true).unwrap();
            assert_eq!(poll_fn(|cx| stream.poll_head(cx)).await, Ok(HeadKind::Final));
            stuck.push(stream);
            sinks.push(sink);
        }
        server.answer_all(b"through");
        assert_eq!(caller.call().await.unwrap().1, b"through");
        // And they are whole when somebody does.
        let mut seen = 0;
        let stream = &mut stuck[0];
        while poll_fn(|cx| stream.poll_payload(cx)).await.unwrap() == Payload::Data {
            let n = stream.payload().len().min(1000);
            stream.advance(n);
            seen += n;
        }
        assert_eq!(seen, 1 << 20);
        assert_eq!(caller.dialled.get(), 1);
    })
    .await;
}

#[tokio::test]
async fn idle_connections_and_those_of_gone_endpoints_are_closed() {
    local(async {
        let server = server(h2::server::Builder::new()).await;
        server.answer_all(b"x");
        let caller = Caller::new(server.address, 100);
        caller.call().await.unwrap();
        let mut timeouts = ClusterTimeouts::default();
        let in_nanos = |nanos, timeouts| Ages::at(caller.thread.now() + nanos, &timeouts);
        caller.connections.sweep(in_nanos(0, timeouts));
        assert_eq!(caller.connections.len(), 1);
        caller.connections.sweep(in_nanos(60_000_000_000, timeouts));
        assert!(caller.connections.is_empty());
        eventually("the idle connection is closed", || server.ended.get() == 1).await;
        let closed = || {
            let report = caller.thread.telemetry.shared().look(Vec::new());
            let (_, totals) = report.clusters.into_iter().next().unwrap();
            (totals.closed, totals.closed_by.iter().collect::<Vec<_>>())
        };
        eventually("it says why", || closed() == (0, vec![(Reason::IdleTimeout, 1)])).await;
        let mut busy = caller.start(Length::None).await;
        caller.connections.retain(|_| false);
        assert!(caller.connections.is_empty());
        assert_eq!(receive(&mut busy).await.unwrap().1, b"x");
        drop(busy);
        eventually("the other one too", || server.ended.get() == 2).await;
        eventually("its endpoint is gone: no age", || closed().0 == 1).await;
        let mut busy = caller.start(Length::None).await;
        timeouts.max_connection_age = mesh_model::resources::Duration::from_secs(1);
        caller.connections.sweep(in_nanos(2_000_000_000, timeouts));
        assert_eq!(receive(&mut busy).await.unwrap().1, b"x");
        drop(busy);
        let aged = (Reason::MaxConnectionAge, 1);
        eventually("in use, and too old", || closed().1.contains(&aged)).await;
    })
    .await;
}
