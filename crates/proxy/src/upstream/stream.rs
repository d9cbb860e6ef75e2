//! Which server gets a stream of bytes?
//!
//! TCP streams and what follows CONNECT. An endpoint that can't be reached is put aside and another is tried: nothing
//! was sent.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use mesh_model::errors::Reason;
use mesh_model::resources::WeightedCluster;
use mesh_model::route::pick_cluster;

use super::cluster::Cluster;
use super::dial::connect_endpoint;
use super::pool::Pooled;
use crate::balance::{InFlight, Tried};
use crate::clock::Nanos;
use crate::io::Net;
use crate::telemetry::Label;
use crate::thread::{Listener, Thread};
use crate::timer::Deadline;

/// Endpoints tried for one stream.
const TRIES: u32 = 3;

/// A server for a stream of bytes.
pub struct Dialled<S> {
    /// The connection, its own.
    pub pooled: Pooled<S>,
    /// Counts the stream at its endpoint.
    pub in_flight: InFlight,
    /// The cluster, as it stands in metrics.
    pub cluster: Label,
}

/// Waits for a server as long as its client is there, as one is that has only ended its side. What is being opened is opened
/// all the same: whether the endpoint can be reached is for others to know.
///
/// # Errors
/// [`Reason::ClientClosed`] where the client has `gone` first, else why there is no server.
pub async fn as_long_as_wanted<T>(
    gone: impl Future<Output = ()>,
    server: impl Future<Output = Result<T, Reason>>,
) -> Result<T, Reason> {
    let (mut gone, mut server) = (pin!(gone), pin!(server));
    poll_fn(|cx| match server.as_mut().poll(cx) {
        Poll::Pending => gone.as_mut().poll(cx).map(|()| Err(Reason::ClientClosed)),
        done => done,
    })
    .await
}

/// Connects to one of these clusters, to which the listener's plan leads.
///
/// # Errors
/// [`Reason::NoRoute`] where there is none to choose from; else why the endpoint that was tried last could not be had.
pub async fn dial<N: Net>(
    thread: &Rc<Thread<N>>,
    listener: &Listener,
    deadline: &Deadline,
    not_after: Nanos,
    to: &[WeightedCluster],
) -> Result<Dialled<N::Stream>, Reason> {
    let target = pick_cluster(to, thread.random()).ok_or(Reason::NoRoute)?;
    let cluster = thread.cluster_of(listener, &target.cluster);
    let cluster = cluster.ok_or(Reason::ClusterUnknown)?;
    dial_cluster(thread, deadline, not_after, &cluster, None).await
}

/// Connects to this cluster; `hash` is what consistent hashing goes by.
///
/// # Errors
/// As [`dial`].
pub async fn dial_cluster<N: Net>(
    thread: &Rc<Thread<N>>,
    deadline: &Deadline,
    not_after: Nanos,
    cluster: &Cluster<N::Stream>,
    hash: Option<u64>,
) -> Result<Dialled<N::Stream>, Reason> {
    let plan = cluster.plan();
    let mut tried = Tried::default();
    let mut last = None;
    for _ in 0..TRIES {
        let now = thread.now();
        let picked = plan.pick(now, &mut thread.rng.borrow_mut(), hash, &tried);
        let (index, endpoint) = match picked {
            Ok(picked) => (picked.index, Arc::clone(picked.endpoint)),
            // Nobody else is left: what the tried ones said is the better story.
            Err(reason) => return Err(last.unwrap_or(reason)),
        };
        let in_flight = endpoint.start(now);
        match connect_endpoint(thread, deadline, &plan, &in_flight, not_after).await {
            Ok(pooled) => {
                return Ok(Dialled {
                    pooled,
                    in_flight,
                    cluster: plan.label.clone(),
                });
            }
            // No other endpoint changes that.
            Err(reason @ (Reason::RequestTimeout | Reason::Draining | Reason::ConnectionLimit)) => {
                return Err(reason);
            }
            Err(reason) => last = Some(reason),
        }
        tried.insert(index);
    }
    Err(last.unwrap_or(Reason::NoEndpoints))
}
