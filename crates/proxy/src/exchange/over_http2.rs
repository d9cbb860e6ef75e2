//! One try over a stream of a shared HTTP/2 connection.

use http::uri::Scheme;
use mesh_model::errors::Reason;

use super::Outcome;
use super::attempt::{Connection, Detail, Failure, Try, upstream_failure};
use super::message::{Downstream, Fault};
use super::outgoing::Parts;
use crate::balance::InFlight;
use crate::http2::client::Seat;
use crate::http2::client_stream::ClientStream;
use crate::io::Net;

/// Sends a request and passes its response. Whatever is left of the stream ends with this.
pub(super) async fn send<N: Net, D: Downstream>(
    one: &Try<'_, N>,
    down: &mut D,
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
    let head = {
        let request = down.request();
        let parts = Parts::new(cx, one.plan, one.endpoint, forward, request);
        outcome.request_id = Some(parts.request_id());
        let scheme = match one.plan.tls {
            Some(_) => Scheme::HTTPS,
            None => Scheme::HTTP,
        };
        parts
            .outgoing(cx, forward, request, down.length())
            .to_http2(request, scheme)
    };
    let Some(head) = head else {
        let token = Some("not_http2");
        return Err(Failure::Final(Reason::BadRequest, Detail { token, reset: None }));
    };
    let mut up = match ClientStream::start(seat, head, down.length(), cx.plan.http1.fields) {
        Ok(up) => up,
        // The connection takes no more requests: nothing was sent.
        Err(Fault::Refused) => return Err(Failure::Again(Reason::UpstreamClosed)),
        Err(fault) => return Err(upstream_failure(fault, false)),
    };
    one.pump(down, &mut up, connection, in_flight, outcome).await?;
    Ok(())
}
