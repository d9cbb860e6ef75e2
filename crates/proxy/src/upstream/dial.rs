//! How is a connection to an endpoint opened, and who learns how that went?
//!
//! Each one is counted against the cluster's limit before it is tried, its time and its failure are recorded, and an
//! endpoint that can't be reached is put aside. So it is opened in a task of its own: who waits for it may leave before
//! it is known whether the endpoint can be reached, and would leave the next ones as wise as before. It ends by the
//! cluster's connect timeout, or with the drain that would have ended the one that it is for.
//!
//! A kernel accepts connections for a program that is stopped. So where HTTP/2 is spoken for certain an endpoint is
//! reached when its server has spoken, as it does unasked.

use std::rc::Rc;
use std::sync::Arc;

use mesh_identity::{Rejection, Side};
use mesh_model::errors::Reason;
use mesh_model::resources::UpstreamProtocol;
use tokio::sync::oneshot;

use super::cluster::{ClusterPlan, ConnectionPermit};
use super::pool::{OpenConnection, Pooled};
use super::target::Offer;
use crate::balance::{EndpointState, InFlight, Probe};
use crate::clock::Nanos;
use crate::io::wire::Wire;
use crate::io::{Net, Stream};
use crate::own::For;
use crate::telemetry::{Label, Limit};
use crate::thread::Thread;
use crate::timer::{Deadline, until};
use crate::upstream::ConnectError;

/// Opens a connection for a stream of bytes, which does not wait for room.
///
/// # Errors
/// [`Reason::ConnectionLimit`], and what [`open`] says.
pub async fn connect_endpoint<N: Net>(
    thread: &Rc<Thread<N>>,
    deadline: &Deadline,
    plan: &Arc<ClusterPlan>,
    in_flight: &InFlight,
    not_after: Nanos,
) -> Result<Pooled<N::Stream>, Reason> {
    let stats = thread.telemetry.cluster(&plan.label);
    stats.pool_miss();
    let Some(permit) = plan.permit() else {
        stats.limit_hit(Limit::Connections);
        return Err(Reason::ConnectionLimit);
    };
    let dial = Dial {
        permit,
        offer: Offer::Nothing,
        probe: in_flight.hand_over(),
    };
    let endpoint = in_flight.endpoint();
    // A stream's connection is of no use to another one.
    let late = async |_| {};
    open(thread, deadline, plan, endpoint, dial, not_after, late).await
}

/// What a connection is opened with.
pub struct Dial {
    /// Room for it.
    pub permit: ConnectionPermit,
    /// What the server is offered to speak.
    pub offer: Offer,
    /// Where it shows whether an endpoint that was out is back.
    pub probe: Option<Probe>,
}

/// Opens a connection for one who waits until `not_after`. It goes to `late` when nobody waits any more.
///
/// # Errors
/// What [`connect`] says; [`Reason::RequestTimeout`] when it takes longer, why it was cut when what caps the deadline came first.
pub async fn open<N: Net>(
    thread: &Rc<Thread<N>>,
    deadline: &Deadline,
    plan: &Arc<ClusterPlan>,
    endpoint: &Arc<EndpointState>,
    dial: Dial,
    not_after: Nanos,
    late: impl AsyncFnOnce(Pooled<N::Stream>) + 'static,
) -> Result<Pooled<N::Stream>, Reason> {
    let (tell, told) = oneshot::channel();
    let Dial { permit, offer, probe } = dial;
    thread.net.spawn({
        let deadline = deadline.another();
        let (thread, plan, endpoint) = (Rc::clone(thread), Arc::clone(plan), Arc::clone(endpoint));
        async move {
            let connected = connect(&thread, &deadline, &plan, &endpoint, permit, offer).await;
            if connected.as_ref().is_ok_and(|pooled| !chose_http2(pooled)) {
                endpoint.connect_succeeded();
            }
            drop(probe);
            if let Err(Ok(pooled)) = tell.send(connected) {
                late(pooled).await;
            }
        }
    });
    deadline.set(not_after);
    match until(deadline, told).await {
        Some(connected) => connected.unwrap_or(Err(Reason::ConnectFailed)),
        None => Err(deadline.cut().unwrap_or(Reason::RequestTimeout)),
    }
}

/// Whether a server chose HTTP/2.
pub fn chose_http2<S: Stream>(pooled: &Pooled<S>) -> bool {
    pooled.wire.io.alpn() == Some(b"h2")
}

/// Who books whether a server has spoken HTTP/2 on a connection that [`connect`] made. Where it never said that it would,
/// only that there is a connection counts: a client may ask an HTTP/1 server for gRPC.
pub fn greeting<N: Net>(
    thread: &Rc<Thread<N>>,
    plan: &Arc<ClusterPlan>,
    endpoint: &Arc<EndpointState>,
    pooled: &Pooled<N::Stream>,
    probe: Option<Probe>,
) -> Box<dyn FnOnce(Result<(), Reason>)> {
    if plan.resource.protocol != UpstreamProtocol::Http2 && pooled.wire.io.alpn().is_none() {
        endpoint.connect_succeeded();
        return Box::new(|_| {});
    }
    let (thread, plan, endpoint) = (Rc::clone(thread), Arc::clone(plan), Arc::clone(endpoint));
    Box::new(move |greeted| {
        match greeted {
            Ok(()) => endpoint.connect_succeeded(),
            Err(reason) => failed(&thread, &plan, &endpoint, reason),
        }
        drop(probe);
    })
}

/// Books a connect that failed.
fn failed<N: Net>(thread: &Thread<N>, plan: &ClusterPlan, endpoint: &EndpointState, reason: Reason) {
    thread.telemetry.cluster(&plan.label).connect_failed(reason);
    plan.connect_failed(endpoint, thread.now(), &mut thread.rng.borrow_mut());
}

/// Opens a connection, TLS included. That it succeeded is for the caller to book.
///
/// # Errors
/// Why it could not be made; [`Reason::LoopDetected`] when it would lead back to this proxy; why it was cut when what caps the
/// deadline came first.
pub async fn connect<N: Net>(
    thread: &Thread<N>,
    deadline: &Deadline,
    plan: &ClusterPlan,
    endpoint: &Arc<EndpointState>,
    permit: ConnectionPermit,
    offer: Offer,
) -> Result<Pooled<N::Stream>, Reason> {
    let stats = thread.telemetry.cluster(&plan.label);
    let by = match plan.workload {
        Some(_) => For::Workloads,
        None => For::All,
    };
    if thread.leads_here(&endpoint.address, by) {
        stats.connect_failed(Reason::LoopDetected);
        return Err(Reason::LoopDetected);
    }
    let started = thread.now();
    let connect_by = plan.connect_deadline(started);
    deadline.set(connect_by);
    let target = match plan.target(endpoint, offer) {
        Ok(target) => target,
        Err(reason) => {
            stats.connect_failed(reason);
            return Err(reason);
        }
    };
    let connected = until(deadline, thread.net.connect(&target)).await;
    let now = thread.now();
    let failed = |reason| {
        failed(thread, plan, endpoint, reason);
        Err(reason)
    };
    match connected {
        Some(Ok(stream)) => Ok(Pooled {
            wire: Wire::new(stream, Rc::clone(&thread.buffers)),
            opened: now,
            idle_since: now,
            exchanges: 0,
            epoch: plan.epoch,
            open: OpenConnection::new(permit, stats.clone(), now - started),
        }),
        Some(Err(ConnectError::Workload(rejection))) => {
            failed(rejected(thread, &plan.label, endpoint, rejection))
        }
        Some(Err(error)) if error.blames_endpoint() => failed(error.reason()),
        Some(Err(error)) => {
            stats.connect_failed(error.reason());
            Err(error.reason())
        }
        None if now < connect_by => Err(deadline.cut().unwrap_or(Reason::Draining)),
        None => failed(Reason::ConnectTimeout),
    }
}

/// Counts and says that a workload was not believed, or does not believe this one; the reason of calls that fail by that.
pub fn rejected<N: Net>(
    thread: &Thread<N>,
    cluster: &Label,
    endpoint: &EndpointState,
    rejection: Rejection,
) -> Reason {
    thread.telemetry.cluster(cluster).rejected(rejection);
    let fields: [(&str, &dyn std::fmt::Display); 4] = [
        ("cluster", &cluster.as_str()),
        ("endpoint", &endpoint.address),
        ("expected", &endpoint.identity().unwrap_or_default()),
        ("rejection", &rejection.as_str()),
    ];
    thread.say_rejected("a workload was not believed", &fields);
    rejection.reason(Side::Server)
}
