//! Where does a stream of bytes lead, and how does it pass?
//!
//! By the listener's TCP target, by the name that it is a tunnel to, or by the address that it was made to; past policy,
//! and then to its end.

use mesh_model::errors::Reason;
use mesh_model::resources::{UpstreamProtocol, WeightedCluster};

use crate::balance::{EndpointState, Outcome as Verdict};
use crate::connection::{ClientState, Connection, Streamed};
use crate::exchange::find_out;
use crate::io::{Net, Stream};
use crate::plan::ListenerPlan;
use crate::policy::Admitted;
use crate::policy_log;
use crate::relay::Relay;
use crate::telemetry::{Label, Protocol};
use crate::upstream::pool::Pooled;
use crate::upstream::stream::{Dialled, as_long_as_wanted, dial};

/// Passes a stream to one of these clusters, or to those that the client means.
pub(crate) async fn stream<N: Net>(
    connection: &mut Connection<N>,
    plan: &ListenerPlan,
    to: Option<&[WeightedCluster]>,
    protocol: Protocol,
) -> Streamed {
    match stream_server(connection, to).await {
        Ok(server) => Ok(relay(connection, plan, server, protocol).await),
        Err(reason) => {
            connection.wire.io.reset_on_drop();
            Err(reason)
        }
    }
}

/// Passes a stream to the TCP target, or to the server that was called already.
pub(crate) async fn stream_to<N: Net>(
    connection: &mut Connection<N>,
    plan: &ListenerPlan,
    server: Option<Dialled<N::Stream>>,
) -> Streamed {
    match server {
        Some(server) => Ok(relay(connection, plan, server, Protocol::Tcp).await),
        None => stream(connection, plan, None, Protocol::Tcp).await,
    }
}

/// Whether policy lets a stream in. Nothing is said of it.
pub(crate) fn is_let_in<N: Net>(client: &ClientState<N>, plan: &ListenerPlan) -> bool {
    let policy = plan.policy.as_ref();
    policy.is_none_or(|policy| policy.stream(&client.peer).is_ok()) && plan.declares(&client.peer)
}

/// Calls a server for a stream that policy lets in: of one of these clusters, which were looked up just now, or of those
/// that the client means by the plan in force. Whatever was waited for before, there may be others since. A client that breaks
/// off ends the wait.
pub(crate) async fn stream_server<N: Net>(
    connection: &Connection<N>,
    to: Option<&[WeightedCluster]>,
) -> Result<Dialled<N::Stream>, Reason> {
    let Connection { client, wire } = connection;
    let plan = client.listener.plan();
    if let Some(policy) = &plan.policy {
        let ClientState { thread, peer, .. } = client;
        if let Err(denied) = policy.stream(peer) {
            policy_log::stream(thread, &plan, peer, denied);
            return Err(Reason::Denied);
        }
    }
    if !plan.declares(&client.peer) {
        return Err(Reason::PortUndeclared);
    }
    let ClientState {
        thread,
        listener,
        deadline,
        ..
    } = client;
    let not_after = listener.drain_deadline();
    let to = to.unwrap_or_else(|| plan.tcp(&client.peer));
    let server = async {
        if to.is_empty()
            && let Some(to) = named(client, &plan, Unknown::Ask).await?
        {
            return dial(thread, listener, deadline, not_after, &to).await;
        }
        dial(thread, listener, deadline, not_after, to).await
    };
    // Boxed: it is over when bytes pass, and would be a part of that task's memory.
    Box::pin(as_long_as_wanted(wire.io.failed(), server)).await
}

/// What to do about a name of which nothing is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unknown {
    /// Find out.
    Ask,
    /// Leave it for later.
    Leave,
}

/// Where a connection leads by the name that it is to, or the address that it was made to, on a listener that asks who
/// that is.
async fn named<N: Net>(
    client: &ClientState<N>,
    plan: &ListenerPlan,
    unknown: Unknown,
) -> Result<Option<Vec<WeightedCluster>>, Reason> {
    let Some(on_demand) = &plan.on_demand else {
        return Ok(None);
    };
    let name = match (client.peer.tunnel(), client.peer.original()) {
        (Some(name), _) => name.to_owned(),
        (None, Some(original)) => original.to_string(),
        (None, None) => return Ok(None),
    };
    if let Some(table) = on_demand.tables.get(&*name) {
        return Ok(Some(table.tcp.clone()));
    }
    if unknown == Unknown::Leave {
        return Ok(None);
    }
    let ClientState {
        thread,
        listener,
        deadline,
        ..
    } = client;
    Box::pin(find_out::stream(thread, listener, deadline, &name))
        .await
        .map(Some)
}

/// What is said to be spoken where a connection leads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// Nothing is said.
    Anything,
    /// Bytes that nobody looks at.
    Opaque,
    /// Requests alone.
    Http,
}

/// What is said of the clusters that a connection leads to. Where all of its listener's lead to one name, or where it was
/// made to one of the listener's opaque ports, who that is is found out first.
pub(crate) async fn spoken<N: Net>(client: &ClientState<N>, plan: &ListenerPlan) -> Result<Spoken, Reason> {
    let unknown = match client.peer.original() {
        Some(original) if plan.is_opaque_port(original.port()) => Unknown::Ask,
        _ if plan.resource.leads_to.is_some() => Unknown::Ask,
        _ => Unknown::Leave,
    };
    let to = named(client, plan, unknown).await?.unwrap_or_default();
    let protocols = to.iter().map(|to| {
        let cluster = client.thread.cluster_of(&client.listener, &to.cluster);
        cluster.map_or(UpstreamProtocol::Auto, |cluster| cluster.plan().resource.protocol)
    });
    let spoken = protocols.map(|protocol| match protocol {
        UpstreamProtocol::Auto => Spoken::Anything,
        UpstreamProtocol::Http1 | UpstreamProtocol::Http2 => Spoken::Http,
        UpstreamProtocol::Tcp => Spoken::Opaque,
    });
    // Clusters that differ may be told apart by requests alone.
    let one = |one, other| if one == other { one } else { Spoken::Http };
    Ok(spoken.reduce(one).unwrap_or(Spoken::Anything))
}

/// Passes bytes to a server that was called, to their end.
pub(crate) async fn relay<N: Net>(
    connection: &mut Connection<N>,
    plan: &ListenerPlan,
    server: Dialled<N::Stream>,
    protocol: Protocol,
) -> Option<Reason> {
    let Dialled {
        mut pooled,
        in_flight,
        cluster,
    } = server;
    let endpoint = Some(&**in_flight.endpoint());
    let to = Server {
        cluster: &cluster,
        endpoint,
        admitted: Admitted::Stream,
    };
    let reason = pass(connection, plan, &mut pooled, to, protocol).await;
    let now = connection.client.thread.now();
    in_flight.finish(
        now,
        match reason {
            Some(Reason::UpstreamIncomplete | Reason::UpstreamTls) => Verdict::Failure,
            _ => Verdict::Cancelled,
        },
    );
    reason
}

/// Where bytes go, and as what they were let in.
#[derive(Clone, Copy)]
pub struct Server<'a> {
    /// The server's cluster.
    pub cluster: &'a Label,
    /// The server.
    pub endpoint: Option<&'a EndpointState>,
    /// What policy let in.
    pub admitted: Admitted,
}

/// Passes bytes between a client and a server to their end, see [`Relay`].
pub async fn pass<N: Net>(
    connection: &mut Connection<N>,
    plan: &ListenerPlan,
    server: &mut Pooled<N::Stream>,
    to: Server<'_>,
    protocol: Protocol,
) -> Option<Reason> {
    let Connection { client, wire } = connection;
    let relay = Relay {
        from: client.from(plan, protocol),
        deadline: &client.deadline,
        admitted: to.admitted,
        cluster: to.cluster,
        endpoint: to.endpoint,
    };
    relay.pass(wire, &mut server.wire).await
}
