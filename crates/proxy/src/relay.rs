//! What is left of a tunnel when it is over?
//!
//! Its counts and its line in the access log, the same whether a connection of its own carried it or a stream of HTTP/2.

use std::cell::Cell;

use mesh_model::errors::Reason;

use crate::access;
use crate::balance::EndpointState;
use crate::io::wire::Wire;
use crate::io::{Net, Stream};
use crate::policy::Admitted;
use crate::policy_log;
use crate::telemetry::{Finished, Label};
use crate::timer::Deadline;
use crate::tunnel::{Bounds, tunnel};
use crate::upstream::dial::rejected;

/// A client and a server between which bytes pass.
pub struct Relay<'a, N: Net> {
    /// Where the client came from.
    pub from: access::From<'a, N>,
    /// Wakes this task in time.
    pub deadline: &'a Deadline,
    /// As what it was let in.
    pub admitted: Admitted,
    /// The server's cluster.
    pub cluster: &'a Label,
    /// The server.
    pub endpoint: Option<&'a EndpointState>,
}

impl<N: Net> Relay<'_, N> {
    /// Passes bytes until both sides have ended, counts them and writes it down. Gives why it ended when that was not
    /// both sides' orderly end.
    pub async fn pass<C: Stream>(
        &self,
        client: &mut Wire<C>,
        server: &mut Wire<N::Stream>,
    ) -> Option<Reason> {
        let access::From {
            thread,
            listener,
            plan,
            peer,
            protocol,
        } = self.from;
        // It may have changed since it was let in: the first look judges.
        let judged = Cell::new(None);
        let barred = |server: &N::Stream| {
            let judgement = Some(listener.judgement());
            if judged.replace(judgement) == judgement {
                return None;
            }
            if !listener.judge().still(plan, peer, self.admitted) {
                return Some(Reason::Denied);
            }
            thread
                .leads_to_revoked(server)
                .then_some(Reason::UpstreamCertificate)
        };
        let bounds = Bounds {
            barred: &barred,
            deadline: self.deadline,
            idle: plan.timeouts.tcp_idle,
            now: &|| thread.now(),
            pipes: &thread.pipes,
        };
        let started = thread.now();
        let none = thread.telemetry.shared().none();
        let stats = thread
            .telemetry
            .route(&plan.label, none, self.cluster, protocol, plan.called(peer));
        stats.started();
        if self.admitted == Admitted::Stream
            && let Some(denied) = plan.audits(peer)
        {
            stats.audited();
            policy_log::stream(thread, plan, peer, denied);
        }
        let mut ended = tunnel(client, server, &bounds).await;
        if ended.reason == Some(Reason::UpstreamIncomplete)
            && let Some(endpoint) = self.endpoint.filter(|endpoint| endpoint.identity().is_some())
            && let Some(why) = server.io.refused()
        {
            ended.reason = Some(rejected(thread, self.cluster, endpoint, why));
        }
        let passed = access::Passed {
            received: ended.sent,
            sent: ended.received,
        };
        stats.received(passed.received);
        stats.sent(passed.sent);
        let end = Finished {
            status: None,
            grpc_status: None,
            reason: ended.reason,
            duration: thread.now() - started,
            retries: 0,
        };
        stats.finished(&end);
        access::tunnel(&self.from, self.cluster.as_str(), self.endpoint, &end, passed);
        ended.reason
    }
}
