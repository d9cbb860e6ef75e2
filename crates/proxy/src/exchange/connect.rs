//! How is a CONNECT answered?
//!
//! The proxy is the tunnel's end: it connects to the cluster that the route names, says so, and what follows are the
//! client's bytes and the server's. The server never sees the CONNECT.
//!
//! On a listener that asks for names on demand, what follows a CONNECT of HTTP/1 is looked at like a new connection to
//! that name: requests in it are routed and authorised one by one.

use mesh_model::errors::Reason;

use super::message::Downstream;
use super::{Context, Forward, Left, Outcome, refuse};
use crate::balance::Outcome as Verdict;
use crate::io::Net;
use crate::on_demand::Name;
use crate::telemetry::Protocol;
use crate::upstream::cluster::Cluster;
use crate::upstream::stream::{Dialled, as_long_as_wanted, dial_cluster};

/// Whether what follows a CONNECT is looked into.
pub fn is_looked_into<N: Net>(cx: &Context<'_, N>) -> bool {
    cx.plan.on_demand.is_some() && cx.peer.tunnel().is_none() && cx.protocol == Protocol::Http1
}

/// Agrees to a tunnel that is looked into: the name that it is to.
pub fn look_into<D: Downstream>(down: &mut D) -> Option<Box<str>> {
    let name = Name::of(down.request().authority())?;
    down.accept_tunnel();
    Some(name.as_str().into())
}

/// Opens the tunnel or says why not.
pub async fn open<N: Net, D: Downstream>(
    cx: &Context<'_, N>,
    down: &mut D,
    forward: &Forward<'_>,
    cluster: &Cluster<N::Stream>,
    outcome: &mut Outcome<N::Stream>,
) {
    let not_after = forward.deadlines.request.min(cx.deadline.end());
    let server = dial_cluster(cx.thread, cx.deadline, not_after, cluster, forward.hash);
    // Boxed: it is seldom asked, and would make every exchange's memory larger.
    let dialled = Box::pin(as_long_as_wanted(down.gone(), server)).await;
    match dialled {
        Ok(server) => {
            outcome.endpoint = Some(server.in_flight.endpoint().clone());
            let Dialled {
                pooled,
                mut in_flight,
                ..
            } = server;
            in_flight.answered(cx.thread.now(), Verdict::Success);
            down.accept_tunnel();
            outcome.status = 200;
            outcome.tunnel = Some(Box::new(Left {
                pooled,
                _in_flight: in_flight,
                permit: None,
            }));
        }
        Err(Reason::ClientClosed) => outcome.reason = Some(Reason::ClientClosed),
        Err(reason) => refuse(cx, down, outcome, reason, None),
    }
}
