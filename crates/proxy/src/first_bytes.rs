//! What does a client speak on a port that takes everything?
//!
//! Nothing is guessed early: a partial request line, preface or ClientHello waits until the header timeout. On a
//! listener with a TCP target, [`SILENCE`] without a byte, or the client's end, makes the proxy call the target; should
//! the server speak first, the stream is TCP; should the client speak first after all, its bytes are looked at as ever. A
//! server that greets as HTTP/2 is no reason to pass bytes unseen: its client is waited for. So it is, for a moment, where
//! the server leaves without a word: it may be that streams are denied there, and requests are not.
//!
//! Nothing is waited for, and no byte looked at, on the way to what is opaque. Where workloads call, an opaque port's
//! bytes are looked at only to tell mutual TLS from none.

use std::future::poll_fn;
use std::task::Poll;

use mesh_model::errors::Reason;

use crate::clock::after;
use crate::connection::{
    ClientState, Connection, Next, Streamed, WARM, fill, from_workload, over, pass_through,
};
use crate::detect::{Detected, detect, greets_as_http2};
use crate::http1;
use crate::io::wire::{Filled, ReadSize};
use crate::io::{Net, Stream};
use crate::plan::ListenerPlan;
use crate::streams::{Spoken, is_let_in, relay, spoken, stream_server, stream_to};
use crate::telemetry::Protocol;
use crate::timer::until;
use crate::upstream::stream::Dialled;

/// How long a client may be silent before the TCP target is called: long enough that a client that speaks first is
/// seldom misjudged, short enough that nobody notices.
const SILENCE: std::time::Duration = std::time::Duration::from_millis(10);
/// How long a silent client may still speak when the TCP target can't be reached, or leaves without a word: should it
/// speak HTTP, it learns why from a response, or is served.
const LAST_WORD: std::time::Duration = std::time::Duration::from_secs(1);

/// Finds out what the client speaks; streams of bytes are passed on here, to their end.
pub(crate) async fn by_first_bytes<N: Net>(mut connection: Connection<N>, plan: &ListenerPlan) -> Next<N> {
    let spoken = match spoken(&connection.client, plan).await {
        Ok(Spoken::Opaque) => {
            let streamed = stream_to(&mut connection, plan, None).await;
            return over(&connection, Protocol::Tcp, streamed);
        }
        Ok(spoken) => spoken,
        Err(reason) => return unanswered(connection, plan, reason).await,
    };
    // Where the kernel redirected it from decides what may be spoken.
    let takes_streams = plan.takes_streams(&connection.client.peer);
    let mut server = None;
    // Where requests alone are spoken, a client that is silent for a moment will say one.
    if takes_streams && spoken != Spoken::Http && connection.wire.unread().is_empty() {
        match first_byte(&mut connection, SILENCE).await {
            FirstByte::Came => {}
            // Who breaks off at once, as probes do, costs no server anything.
            FirstByte::Broken => return Next::Over(None),
            // Nor do probes that end their side, as far as can be told: others may still listen.
            FirstByte::Ended if !is_let_in(&connection.client, plan) => return Next::Over(None),
            FirstByte::Silence | FirstByte::Ended => match server_first(&mut connection, plan).await {
                ServerFirst::ClientSpoke(dialled) => {
                    server = dialled.map(|dialled| *dialled);
                    // It had reason to wait.
                    connection.client.head_since = connection.client.thread.now();
                }
                ServerFirst::Over(streamed) => return over(&connection, Protocol::Tcp, streamed),
            },
        }
    }
    by_bytes(connection, plan, server).await
}

/// A workload says that it sends bytes, to a port where requests may be sent too. It is not taken at its word: what the
/// application would take for a request is one here, with its rules and its headers. Its own proxy has waited for a word
/// already, so the server is called at once.
pub(crate) async fn of_workload<N: Net>(mut connection: Connection<N>, plan: &ListenerPlan) -> Next<N> {
    let mut server = None;
    if connection.wire.unread().is_empty() {
        match server_first(&mut connection, plan).await {
            ServerFirst::ClientSpoke(dialled) => server = dialled.map(|dialled| *dialled),
            ServerFirst::Over(streamed) => return over(&connection, Protocol::Tcp, streamed),
        }
    }
    connection.client.head_since = connection.client.thread.now();
    by_bytes(connection, plan, server).await
}

/// Looks at what the client has sent until it is clear what it speaks. A server may have been called for it.
async fn by_bytes<N: Net>(
    mut connection: Connection<N>,
    plan: &ListenerPlan,
    server: Option<Dialled<N::Stream>>,
) -> Next<N> {
    let (takes_streams, speaks_http) = (
        plan.takes_streams(&connection.client.peer),
        plan.speaks_http(&connection.client.peer),
    );
    // Behind the mesh's own TLS another one is the application's.
    let looks_into_tls = plan.tls.is_none() && connection.client.peer.called().is_none();
    let stats = connection.client.thread.telemetry.listener(&plan.label);
    let most = plan.http1.head_bytes;
    let at = after(connection.client.head_since, plan.timeouts.header)
        .min(connection.client.listener.drain_deadline());
    loop {
        let unread = connection.wire.unread();
        match detect(unread, most) {
            // What begins like a request is one only where requests are read.
            Detected::Undecided if speaks_http || !is_text(unread) => {}
            Detected::Http1 if speaks_http => {
                stats.detected(Protocol::Http1);
                return Next::Http1(connection);
            }
            Detected::Http2 if speaks_http => {
                stats.detected(Protocol::Http2);
                return Next::Http2(connection);
            }
            Detected::Tls if plan.workload.is_some() && looks_into_tls => {
                // Whoever is a workload was slow, and does not mean the server that was called for one without TLS.
                drop(server);
                stats.detected(Protocol::Tls);
                return from_workload(connection, plan).await;
            }
            Detected::Tls if plan.sni.is_some() && looks_into_tls => {
                stats.detected(Protocol::Tls);
                let streamed = pass_through(&mut connection, plan).await;
                return over(&connection, Protocol::Tls, streamed);
            }
            _ if takes_streams => {
                stats.detected(Protocol::Tcp);
                let streamed = stream_to(&mut connection, plan, server).await;
                return over(&connection, Protocol::Tcp, streamed);
            }
            Detected::Tls => return over(&connection, Protocol::Tls, Err(Reason::TlsNotConfigured)),
            // The HTTP/1 engine says what is wrong with it.
            _ if speaks_http => return Next::Http1(connection),
            _ => return over(&connection, Protocol::Tcp, Err(Reason::NotHttp)),
        }
        match fill(&mut connection, at, most).await {
            Ok(Filled::Bytes(_)) => {}
            // A client that has nothing to say may still listen to a server that was called.
            Ok(Filled::End) | Err(Reason::ClientClosed)
                if connection.wire.unread().is_empty() && server.is_none() =>
            {
                return Next::Over(None);
            }
            Ok(_) if takes_streams => {
                stats.detected(Protocol::Tcp);
                let streamed = stream_to(&mut connection, plan, server).await;
                return over(&connection, Protocol::Tcp, streamed);
            }
            Ok(_) if speaks_http => return Next::Http1(connection),
            Ok(_) => return over(&connection, Protocol::Tcp, Err(Reason::NotHttp)),
            // Waiting is no way around HTTP's rules: what may still become a request never becomes a TCP stream.
            Err(reason @ (Reason::HeaderTimeout | Reason::Draining | Reason::MaxConnectionAge))
                if speaks_http && is_text(connection.wire.unread()) =>
            {
                return Next::Over(Some(http1::connection::too_slow(connection, plan, reason).await));
            }
            Err(reason) => return over(&connection, Protocol::Tcp, Err(reason)),
        }
    }
}

/// Nobody is known who could be called. Whoever speaks HTTP learns it from a response: the requests are for the same
/// name, and find out the same. Anybody else is cut off.
async fn unanswered<N: Net>(mut connection: Connection<N>, plan: &ListenerPlan, reason: Reason) -> Next<N> {
    let opaque = connection
        .client
        .peer
        .original()
        .is_some_and(|original| plan.is_opaque_port(original.port()));
    let at = after(connection.client.thread.now(), Some(LAST_WORD))
        .min(connection.client.listener.drain_deadline());
    let most = plan.http1.head_bytes;
    let stats = connection.client.thread.telemetry.listener(&plan.label);
    while plan.speaks_http(&connection.client.peer) && !opaque {
        match detect(connection.wire.unread(), most) {
            Detected::Http1 => {
                stats.detected(Protocol::Http1);
                return Next::Http1(connection);
            }
            Detected::Http2 => {
                stats.detected(Protocol::Http2);
                return Next::Http2(connection);
            }
            Detected::Undecided => {}
            Detected::Tls | Detected::Other => break,
        }
        match fill(&mut connection, at, most).await {
            Ok(Filled::Bytes(_)) => {}
            Ok(_) | Err(_) => break,
        }
    }
    connection.wire.io.reset_on_drop();
    over(&connection, Protocol::Tcp, Err(reason))
}

/// Whether an answer in HTTP/1 would be understood: something was said, and it is no TLS.
fn is_text(unread: &[u8]) -> bool {
    unread.first().is_some_and(|first| *first != 0x16)
}

enum FirstByte {
    Came,
    Ended,
    Broken,
    Silence,
}

async fn first_byte<N: Net>(connection: &mut Connection<N>, span: std::time::Duration) -> FirstByte {
    let Connection {
        client: ClientState { thread, deadline, .. },
        wire,
    } = connection;
    deadline.set(after(thread.now(), Some(span)));
    match until(deadline, poll_fn(|cx| wire.poll_fill(cx, ReadSize::Small))).await {
        Some(Ok(Filled::Bytes(_) | Filled::Full)) => FirstByte::Came,
        Some(Ok(Filled::End)) => FirstByte::Ended,
        Some(Err(_)) => FirstByte::Broken,
        None => FirstByte::Silence,
    }
}

enum ServerFirst<S> {
    /// The client spoke after all; the server that waits, if one could be reached.
    ClientSpoke(Option<Box<Dialled<S>>>),
    Over(Streamed),
}

/// What comes first once the TCP target was called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    Client,
    Server,
    /// The server's end.
    End,
}

/// Calls the TCP target and sees who speaks first.
async fn server_first<N: Net>(connection: &mut Connection<N>, plan: &ListenerPlan) -> ServerFirst<N::Stream> {
    let mut server = match stream_server(connection, None).await {
        Ok(server) => server,
        Err(Reason::ClientClosed) => return ServerFirst::Over(Err(Reason::ClientClosed)),
        Err(reason) => {
            return match first_byte(connection, LAST_WORD).await {
                FirstByte::Came => ServerFirst::ClientSpoke(None),
                FirstByte::Ended | FirstByte::Broken => ServerFirst::Over(Ok(None)),
                FirstByte::Silence => {
                    connection.wire.io.reset_on_drop();
                    ServerFirst::Over(Err(reason))
                }
            };
        }
    };
    let is_http = plan.speaks_http(&connection.client.peer);
    let Connection {
        client:
            ClientState {
                thread,
                listener,
                deadline,
                opened,
                ..
            },
        wire,
    } = &mut *connection;
    let idle = after(thread.now(), plan.timeouts.tcp_idle);
    let warm = after(*opened, Some(WARM));
    deadline.set(idle);
    let first = until(
        deadline,
        poll_fn(|cx| {
            if wire.poll_fill(cx, ReadSize::Small).is_ready() {
                return Poll::Ready(First::Client);
            }
            while let Poll::Ready(filled) = server.pooled.wire.poll_fill(cx, ReadSize::Small) {
                let more = matches!(filled, Ok(Filled::Bytes(_)));
                if !more && server.pooled.wire.unread().is_empty() {
                    return Poll::Ready(First::End);
                }
                if !more || !is_http || greets_as_http2(server.pooled.wire.unread()).is_some() {
                    return Poll::Ready(First::Server);
                }
            }
            if let Some(leaves) = listener.closes_idle(warm) {
                deadline.set(idle.min(leaves));
            }
            Poll::Pending
        }),
    )
    .await;
    let greets = || greets_as_http2(server.pooled.wire.unread()) == Some(true);
    match first {
        Some(First::Client) => ServerFirst::ClientSpoke(Some(Box::new(server))),
        Some(First::Server) if is_http && greets() => ServerFirst::ClientSpoke(None),
        Some(First::End) if is_http && matches!(first_byte(connection, LAST_WORD).await, FirstByte::Came) => {
            ServerFirst::ClientSpoke(None)
        }
        Some(First::Server | First::End) => {
            let stats = connection.client.thread.telemetry.listener(&plan.label);
            stats.detected(Protocol::Tcp);
            ServerFirst::Over(Ok(relay(connection, plan, server, Protocol::Tcp).await))
        }
        None if connection.client.listener.is_closing() => ServerFirst::Over(Err(Reason::Draining)),
        None => {
            let cut = connection.client.deadline.cut();
            ServerFirst::Over(Err(cut.unwrap_or(Reason::IdleTimeout)))
        }
    }
}
