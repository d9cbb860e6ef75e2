//! One try over a stream of a shared HTTP/2 connection.

use mesh_model::errors::Reason;

use super::Outcome;
use super::attempt::{Connection, Failure, Try, upstream_failure};
use super::kept::Kept;
use super::message::{Downstream, Fault};
use super::outgoing::Parts;
use crate::balance::InFlight;
use crate::http2::client::Seat;
use crate::http2::client_stream::ClientStream;
use crate::io::Net;

/// Sends a request and passes its response. Whatever is left of the stream ends with this.
pub(super) async fn send<N: Net, D: Downstream>(
    one: &Try<'_, N>,
    (down, kept): (&mut D, &mut Kept<'_>),
    seat: Seat,
    in_flight: InFlight,
    outcome: &mut Outcome<N::Stream>,
) -> Result<(), Failure> {
    let (cx, forward) = (one.cx, one.forward);
    let connection = if seat.is_reused() {
        Connection::Used
    } else {
        Connection::New
    };
    let length = kept.begin(down);
    let mut up = {
        let request = down.request();
        let parts = Parts::new(cx, one.plan, one.endpoint, forward, request);
        outcome.request_id = Some(parts.request_id());
        let mut outgoing = parts.outgoing(cx, forward, request, length);
        if outgoing.authority.is_empty() {
            outgoing.authority = parts.server_name();
        }
        let scheme: &[u8] = match one.plan.tls {
            Some(_) => b"https",
            None => b"http",
        };
        let bodiless = outgoing.method == b"HEAD";
        let started = ClientStream::start(seat, bodiless, length, cx.plan.http1.fields, |head| {
            outgoing.write_http2(request, scheme, head);
        });
        match started {
            Ok(up) => up,
            // The connection takes no more requests: nothing was sent.
            Err(Fault::Refused) => return Err(Failure::Again(Reason::UpstreamClosed)),
            Err(fault) => return Err(upstream_failure(fault, false)),
        }
    };
    let end = one
        .pump((down, kept), &mut up, connection, in_flight, outcome)
        .await;
    end.map_err(|failure| one.explained(failure, connection, || up.refused()))?;
    Ok(())
}
