//! One try over an HTTP/1 connection, which is the request's own as long as it lasts.

use super::attempt::{Connection, Failure, Try, method_of};
use super::kept::Kept;
use super::message::{Downstream, RequestRef};
use super::outgoing::Parts;
use super::request::RequestKind;
use super::{Left, Outcome};
use crate::balance::InFlight;
use crate::http1::client::{ClientExchange, Switch};
use crate::io::{Net, Stream};
use crate::upstream::pool::Pooled;
use mesh_http1::Method;

/// Sends a request and passes its response. The connection goes back to the pool when it may carry another.
pub(super) async fn send<N: Net, D: Downstream>(
    one: &Try<'_, N>,
    (down, kept): (&mut D, &mut Kept<'_>),
    pooled: Pooled<N::Stream>,
    in_flight: InFlight,
    outcome: &mut Outcome<N::Stream>,
) -> Result<(), Failure> {
    let (cx, forward) = (one.cx, one.forward);
    let Pooled {
        wire,
        opened,
        exchanges,
        epoch,
        open,
        ..
    } = pooled;
    let length = kept.begin(down);
    let mut up = {
        let request = down.request();
        let parts = Parts::new(cx, one.plan, one.endpoint, forward, request);
        outcome.request_id = Some(parts.request_id());
        let outgoing = parts.outgoing(cx, forward, request, length);
        let (method, switch) = match (request, forward.kind) {
            (RequestRef::Http2(_), RequestKind::Upgrade) => {
                (Method::Get, Switch::Required(parts.websocket_accept()))
            }
            (_, RequestKind::Upgrade) => (method_of(request), Switch::Asked),
            _ => (method_of(request), Switch::No),
        };
        let head = cx.thread.response_head();
        let mut up = ClientExchange::new(wire, head, method, switch, cx.plan.http1);
        up.start(request, &outgoing);
        up
    };
    let connection = if exchanges > 0 {
        Connection::Used
    } else {
        Connection::New
    };
    let end = one
        .pump((down, kept), &mut up, connection, in_flight, outcome)
        .await;
    let (mut wire, head, reusable) = up.finish_exchange();
    cx.thread.put_response_head(head);
    let end = end.map_err(|failure| one.explained(failure, connection, || wire.io.refused()));
    let pooled = Pooled {
        wire,
        opened,
        idle_since: cx.thread.now(),
        exchanges: exchanges + 1,
        epoch,
        open,
    };
    match end? {
        Some(in_flight) => {
            outcome.tunnel = Some(Box::new(Left {
                pooled,
                _in_flight: in_flight,
                permit: None,
            }));
        }
        // Somebody was revoked meanwhile, and idle connections were looked at without this one.
        _ if cx.listener.judgement() != cx.judgement && cx.thread.leads_to_revoked(&pooled.wire.io) => {}
        _ if reusable => one.cluster.put(one.endpoint, pooled),
        _ => {}
    }
    Ok(())
}
