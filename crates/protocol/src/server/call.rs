//! What becomes of one call?

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Method, Request, Response};
use prost::Message;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{Caller, Hears, SIGN_DEADLINE, Service, closes};
use crate::link::Link;
use crate::message::{SidecarMessage, SignRequest, SignResponse};
use crate::status::{Code, Status};
use crate::stream::{Check, Duplex, Incoming, Outgoing, is_grpc};
use crate::{CONTENT_TYPE, path};

/// What may be called.
enum Called {
    Sign,
    Delta,
    StateOfTheWorld,
    Report,
}

/// Answers a call, however it ends.
pub(super) async fn answer<S: Service>(
    service: Arc<S>,
    caller: Caller,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    closing: watch::Receiver<bool>,
) {
    let watch = Watch {
        service: &*service,
        caller: &caller,
        closing,
    };
    let called = called(&request, &caller);
    let body = request.into_body();
    match called {
        Err(status) => refuse(respond, status),
        Ok(Called::Sign) => {
            let check: Check<SignRequest> = SignRequest::check;
            let Some(mut stream) = open(respond, body, check) else {
                return;
            };
            let signing = sign(&*service, &caller, &mut stream);
            let outcome = watch.over(signing).await;
            stream.outgoing.finish(&outcome);
        }
        Ok(Called::Delta) => {
            let Some(mut stream) = open(respond, body, |_| Ok(())) else {
                return;
            };
            let outcome = watch.over(service.delta(&caller, &mut stream)).await;
            stream.outgoing.finish(&outcome);
        }
        Ok(Called::StateOfTheWorld) => {
            let Some(mut stream) = open(respond, body, |_| Ok(())) else {
                return;
            };
            let serving = service.state_of_the_world(&caller, &mut stream);
            let outcome = watch.over(serving).await;
            stream.outgoing.finish(&outcome);
        }
        Ok(Called::Report) => {
            let check: Check<SidecarMessage> = SidecarMessage::check;
            let Some(mut stream) = open(respond, body, check) else {
                return;
            };
            let outcome = watch.over(service.report(&caller, &mut stream)).await;
            stream.outgoing.finish(&outcome);
        }
    }
}

/// What is called, if this caller may.
fn called(request: &Request<RecvStream>, caller: &Caller) -> Result<Called, Status> {
    if request.method() != Method::POST || !is_grpc(request.headers()) {
        return Err(Status::new(Code::Unimplemented, "only gRPC is spoken here"));
    }
    let method = match request.uri().path() {
        path::SIGN if caller.hears == Hears::Sidecars => return Ok(Called::Sign),
        path::SIGN => Called::Sign,
        path::DELTA => Called::Delta,
        path::STATE_OF_THE_WORLD => Called::StateOfTheWorld,
        path::REPORT => Called::Report,
        _ => return Err(Status::new(Code::Unimplemented, "there is no such method")),
    };
    let reads = matches!(method, Called::Delta | Called::StateOfTheWorld);
    match (&caller.peer, caller.hears) {
        (Some(_), _) => Ok(method),
        (None, Hears::Subscribers) if reads => Ok(method),
        (None, Hears::Subscribers) => Err(Status::new(
            Code::PermissionDenied,
            "resources_only: this address tells resources and nothing else",
        )),
        (None, Hears::Sidecars) => Err(Status::new(
            Code::Unauthenticated,
            "no_certificate: only a certificate can be asked for without one",
        )),
    }
}

/// An answer that is a status alone.
fn refuse(mut respond: SendResponse<Bytes>, status: Status) {
    if let Some(mut head) = head() {
        head.headers_mut().extend(Status::trailers(&Err(status)));
        // The caller may be gone: then nobody is to be told.
        let _ = respond.send_response(head, true);
    }
}

fn head() -> Option<Response<()>> {
    let head = Response::builder().header("content-type", CONTENT_TYPE);
    head.body(()).ok()
}

/// Sends the head. `None` where the caller is gone.
fn open<Out, In>(
    mut respond: SendResponse<Bytes>,
    body: RecvStream,
    check: Check<In>,
) -> Option<Duplex<Out, In>>
where
    Out: Message,
    In: Message + Default,
{
    let stream = respond.send_response(head()?, false).ok()?;
    Some(Duplex {
        outgoing: Outgoing::new(stream, Link::default()),
        incoming: Incoming::request(body, check),
    })
}

async fn sign<S: Service>(
    service: &S,
    caller: &Caller,
    stream: &mut Duplex<SignResponse, SignRequest>,
) -> Result<(), Status> {
    let late = |_| Status::new(Code::DeadlineExceeded, "the certificate took too long");
    let work = async {
        let request = stream.incoming.receive().await?;
        let request = request.ok_or_else(|| Status::new(Code::InvalidArgument, "there is no request"))?;
        service.sign(caller, request).await
    };
    let response = timeout(SIGN_DEADLINE, work).await.map_err(late)??;
    Ok(stream.outgoing.send(&response).await?)
}

/// What ends a call from outside.
struct Watch<'a, S> {
    service: &'a S,
    caller: &'a Caller,
    closing: watch::Receiver<bool>,
}

impl<S: Service> Watch<'_, S> {
    /// Does the work until it is done, or until it must not go on.
    async fn over(mut self, work: impl Future<Output = Result<(), Status>> + Send) -> Result<(), Status> {
        tokio::select! {
            biased;
            status = self.service.dismissed(self.caller) => Err(status),
            () = expired(self.caller) => Err(Status::new(
                Code::Unauthenticated,
                "expired: the certificate of this connection has ended; come again with the next one",
            )),
            () = closes(&mut self.closing) => {
                Err(Status::new(Code::Unavailable, "closing: this control plane is closing"))
            }
            outcome = work => outcome,
        }
    }
}

/// When the caller's certificate has ended.
async fn expired(caller: &Caller) {
    /// Clocks are set: it is looked at once in a while.
    const LOOK: Duration = Duration::from_secs(60);
    let Some(peer) = &caller.peer else {
        return std::future::pending().await;
    };
    while let Ok(left) = peer.not_after.duration_since(SystemTime::now()) {
        // Its last second is still its own.
        sleep((left + Duration::from_secs(1)).min(LOOK)).await;
        if left.is_zero() {
            return;
        }
    }
}
