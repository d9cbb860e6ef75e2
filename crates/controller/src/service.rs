//! What is done for those who call?

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use mesh_identity::Denied as DeniedPeer;
use mesh_protocol::message::{
    ControlMessage, Denied, FromControl, FromSidecar, SignRequest, SignResponse, TelemetryInterval,
};
use mesh_protocol::server::{Delta, Reports, StateOfTheWorld};
use mesh_protocol::{Caller, Code, Duplex, Service, Status};
use mesh_xds::server::{Catalogue, DeltaStream, Has, StateOfTheWorldStream, TooManyNames};
use mesh_xds::wire::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Node,
};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::edges::Edges;
use crate::event::{Event, Out, PolicyDecision, millis};
use crate::fleet::{Fleet, Held, Nack, Phase, Place, is_of_all, nacks};
use crate::served::Live;
use crate::signing::{Revoked, Signing};

/// Names of one message: a list of revocations goes in parts.
const DENIED_PART: usize = 500;
/// How long a stream of reports may be silent before its hello.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);
/// Changes that come close together go out together.
const TOGETHER: Duration = Duration::from_millis(2);

/// Everything that callers have to do with.
pub(crate) struct Plane {
    pub(crate) signing: Signing,
    pub(crate) live: watch::Receiver<Arc<Live>>,
    pub(crate) fleet: Mutex<Fleet>,
    pub(crate) edges: Mutex<Edges>,
    pub(crate) out: Out,
    pub(crate) telemetry_interval: Duration,
}

impl Plane {
    pub(crate) fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn edges(&self) -> MutexGuard<'_, Edges> {
        self.edges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a subscriber what it lacks, until it goes.
    async fn serve<S: Subscriber>(
        &self,
        caller: &Caller,
        stream: &mut Duplex<S::Response, S::Request>,
        mut state: S,
    ) -> Result<(), Status> {
        let id = name_of(caller);
        let mut live = self.live.clone();
        let mut seen = live.borrow_and_update().seen_by(&id);
        let (mut node, mut refused) = (String::new(), Vec::new());
        let mut had = Vec::new();
        loop {
            // Whoever asks after a change is answered by it: a name that was made known a moment ago would be said not to
            // exist, and be looked for outside of the mesh.
            if live.has_changed().unwrap_or_default() {
                seen = live.borrow_and_update().seen_by(&id);
            }
            while !stream.outgoing.is_waiting() {
                let Some(response) = state.response(&seen) else {
                    break;
                };
                stream.outgoing.push(&response)?;
                // What goes through at once need not wait.
                tokio::select! {
                    biased;
                    sent = stream.outgoing.flush() => sent?,
                    () = std::future::ready(()) => {}
                }
            }
            tokio::select! {
                sent = stream.outgoing.flush(), if stream.outgoing.is_waiting() => sent?,
                request = stream.incoming.receive() => {
                    let Some(request) = request? else { return Ok(()) };
                    if let Some(named) = S::node(&request) {
                        node.clone_from(&named.id);
                    }
                    state
                        .request(request)
                        .map_err(|_| Status::new(Code::ResourceExhausted, "too many names"))?;
                    self.tell_nacks(&id, &node, &mut refused, state.nacks());
                    note_held(&mut had, state.has());
                    let held: Vec<_> = had.iter().map(|(_, held)| held.clone()).collect();
                    self.fleet().holds(&id, &node, &held);
                }
                changed = live.changed() => {
                    if changed.is_err() {
                        return Err(Status::new(Code::Unavailable, "closing"));
                    }
                    tokio::time::sleep(TOGETHER).await;
                    seen = live.borrow_and_update().seen_by(&id);
                }
            }
        }
    }

    /// Tells what a subscriber refuses, where that is something else than before.
    fn tell_nacks(&self, caller: &str, node: &str, before: &mut Vec<Nack>, now: Vec<Nack>) {
        if now == *before {
            return;
        }
        self.fleet().refused(caller, node, &now);
        self.out.send(&Event::Nack {
            identity: caller.to_owned(),
            node: node.to_owned(),
            nacks: now.clone(),
        });
        *before = now;
    }

    fn heard(&self, caller: &str, place: &Place, message: FromSidecar) -> Result<(), Status> {
        match message {
            FromSidecar::Hello(_) | FromSidecar::Aside(_) => {
                return Err(Status::new(Code::InvalidArgument, "a hello is said once"));
            }
            FromSidecar::Ready(_) => {
                if let Some(sidecar) = self.fleet().phase(place, Phase::Ready, SystemTime::now()) {
                    self.out.send(&Event::Ready { sidecar });
                }
            }
            FromSidecar::Draining(_) => {
                if let Some(sidecar) = self.fleet().phase(place, Phase::Draining, SystemTime::now()) {
                    self.out.send(&Event::Draining { sidecar });
                }
            }
            FromSidecar::CertificateState(state) => self.fleet().certificate(place, state),
            FromSidecar::ConfigState(state) => {
                // What it refuses of xDS is told by that stream.
                let is_of_all = is_of_all(&state.kind);
                let nacks = self.fleet().config(place, state).filter(|_| is_of_all);
                if let Some(nacks) = nacks {
                    self.out.send(&Event::Nack {
                        identity: caller.to_owned(),
                        node: place.name().to_owned(),
                        nacks,
                    });
                }
            }
            FromSidecar::Telemetry(telemetry) => {
                self.fleet().telemetry(place, SystemTime::now());
                let mut edges = self.edges();
                for edge in &telemetry.edges {
                    edges.add(caller, edge);
                }
                drop(edges);
                for decision in telemetry.decisions {
                    let decision = PolicyDecision::at(caller, place.name(), decision);
                    self.out.send(&Event::Policy(decision));
                }
            }
        }
        Ok(())
    }
}

/// A sidecar that is there until this is dropped.
struct Membership<'a> {
    plane: &'a Plane,
    place: Place,
}

impl Drop for Membership<'_> {
    fn drop(&mut self) {
        let left = self.plane.fleet().leave(&self.place, SystemTime::now());
        if let Some(sidecar) = left {
            self.plane.out.send(&Event::Gone { sidecar });
        }
    }
}

/// A subscriber, in either form of xDS.
trait Subscriber: Send {
    type Request: prost::Message + Default;
    type Response: prost::Message;

    fn node(request: &Self::Request) -> Option<&Node>;
    fn request(&mut self, request: Self::Request) -> Result<(), TooManyNames>;
    fn response(&mut self, catalogue: &Catalogue) -> Option<Self::Response>;
    fn nacks(&self) -> Vec<Nack>;
    fn has(&self) -> Vec<Has>;
}

impl Subscriber for DeltaStream {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn node(request: &Self::Request) -> Option<&Node> {
        request.node.as_ref()
    }

    fn request(&mut self, request: Self::Request) -> Result<(), TooManyNames> {
        self.received(request)
    }

    fn response(&mut self, catalogue: &Catalogue) -> Option<Self::Response> {
        self.poll_response(catalogue)
    }

    fn nacks(&self) -> Vec<Nack> {
        nacks(self.refused())
    }

    fn has(&self) -> Vec<Has> {
        self.has().collect()
    }
}

impl Subscriber for StateOfTheWorldStream {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn node(request: &Self::Request) -> Option<&Node> {
        request.node.as_ref()
    }

    fn request(&mut self, request: Self::Request) -> Result<(), TooManyNames> {
        self.received(request)
    }

    fn response(&mut self, catalogue: &Catalogue) -> Option<Self::Response> {
        self.poll_response(catalogue)
    }

    fn nacks(&self) -> Vec<Nack> {
        nacks(self.refused())
    }

    /// No sidecar, which would be shown with it.
    fn has(&self) -> Vec<Has> {
        Vec::new()
    }
}

/// Brings what a subscriber had up to what it has. What it accepted since then is of now.
fn note_held(had: &mut Vec<(Has, Held)>, has: Vec<Has>) {
    let now = millis(SystemTime::now());
    let noted = has.into_iter().map(|has| {
        let before = had.iter().find(|(before, _)| *before == has);
        let changed_at_ms = before.map_or(now, |(_, held)| held.changed_at_ms);
        let resource = has.kind.type_url().to_owned();
        let count = has.count;
        (
            has,
            Held {
                resource,
                count,
                changed_at_ms,
            },
        )
    });
    *had = noted.collect();
}

/// How a subscriber is called where it is told of: by its identity, or that it has none.
fn name_of(caller: &Caller) -> String {
    let peer = caller.peer.as_ref();
    peer.map_or_else(|| "nobody".to_owned(), |peer| peer.id.to_string())
}

fn id_of(caller: &Caller) -> Result<String, Status> {
    let peer = caller.peer.as_ref();
    peer.map(|peer| peer.id.to_string())
        .ok_or_else(|| Status::new(Code::Unauthenticated, "no_certificate: who is that?"))
}

impl Service for Plane {
    async fn sign(&self, caller: &Caller, request: SignRequest) -> Result<SignResponse, Status> {
        self.signing.sign(caller, request, &self.out).await
    }

    async fn delta(&self, caller: &Caller, stream: &mut Delta) -> Result<(), Status> {
        self.serve(caller, stream, DeltaStream::default()).await
    }

    async fn state_of_the_world(&self, caller: &Caller, stream: &mut StateOfTheWorld) -> Result<(), Status> {
        self.serve(caller, stream, StateOfTheWorldStream::default()).await
    }

    async fn report(&self, caller: &Caller, stream: &mut Reports) -> Result<(), Status> {
        let id = id_of(caller)?;
        let hello = timeout(HELLO_DEADLINE, stream.incoming.receive()).await;
        let late = |_| Status::new(Code::DeadlineExceeded, "there was no hello");
        let first = hello.map_err(late)??.and_then(|message| message.message);
        // Of who has no place nobody takes it.
        let (_placeless, stays) = oneshot::channel();
        let (place, mut replaced) = match first {
            Some(FromSidecar::Hello(hello)) => {
                let joined = self.fleet().join(&id, caller.address, hello, SystemTime::now());
                let Ok((place, replaced, sidecar)) = joined else {
                    return Err(Status::new(Code::ResourceExhausted, "too many sidecars"));
                };
                self.out.send(&Event::Connected { sidecar });
                (place, replaced)
            }
            Some(FromSidecar::Aside(aside)) => (Place::none(&id, aside.name), stays),
            _ => return Err(Status::new(Code::InvalidArgument, "the first message is a hello")),
        };
        let membership = Membership { plane: self, place };
        let interval_ms = u64::try_from(self.telemetry_interval.as_millis()).unwrap_or(u64::MAX);
        let interval = FromControl::TelemetryInterval(TelemetryInterval { interval_ms });
        stream.outgoing.push(&interval.into())?;
        let mut revoked = self.signing.revoked();
        for part in parts(&revoked.borrow_and_update().clone()) {
            stream.outgoing.push(&part)?;
        }
        loop {
            tokio::select! {
                sent = stream.outgoing.flush(), if stream.outgoing.is_waiting() => sent?,
                message = stream.incoming.receive() => {
                    let Some(message) = message? else { return Ok(()) };
                    if let Some(message) = message.message {
                        self.heard(&id, &membership.place, message)?;
                    }
                }
                _ = &mut replaced => {
                    return Err(Status::new(Code::Aborted, "replaced: a sidecar has come by the same name"));
                }
                // Who does not read is told what holds when it does: not all that held meanwhile.
                changed = revoked.changed(), if !stream.outgoing.is_waiting() => {
                    if changed.is_err() {
                        return Err(Status::new(Code::Unavailable, "closing"));
                    }
                    for part in parts(&revoked.borrow_and_update().clone()) {
                        stream.outgoing.push(&part)?;
                    }
                }
            }
        }
    }

    async fn dismissed(&self, caller: &Caller) -> Status {
        let Some(peer) = &caller.peer else {
            return std::future::pending().await;
        };
        let mut revoked = self.signing.revoked();
        loop {
            if revoked.borrow_and_update().list.denies(peer) {
                return Status::new(Code::PermissionDenied, "revoked: the identity was revoked");
            }
            let left = peer
                .not_after
                .duration_since(SystemTime::now())
                .unwrap_or_default();
            if left.is_zero() {
                return Status::new(Code::Unauthenticated, "expired: the certificate has ended");
            }
            tokio::select! {
                changed = revoked.changed() => {
                    if changed.is_err() {
                        return Status::new(Code::Unavailable, "closing");
                    }
                }
                () = tokio::time::sleep(left.min(Duration::from_secs(60))) => {}
            }
        }
    }
}

/// Who is revoked, in messages.
fn parts(revoked: &Revoked) -> Vec<ControlMessage> {
    let partial = !revoked.is_whole;
    let entries = revoked.list.entries();
    let chunks: Vec<_> = entries.chunks(DENIED_PART).collect();
    let mut messages = Vec::new();
    for (at, chunk) in chunks.iter().enumerate() {
        let mut denied = Denied {
            more: at + 1 < chunks.len(),
            partial,
            ..Denied::default()
        };
        for (entry, _) in *chunk {
            match entry {
                DeniedPeer::Id(id) => denied.identities.push(id.to_string()),
                DeniedPeer::Serial(serial) => denied.serials.push(serial.to_string()),
            }
        }
        messages.push(FromControl::Denied(denied).into());
    }
    if messages.is_empty() && !partial {
        messages.push(FromControl::Denied(Denied::default()).into());
    }
    messages
}
