//! What of a request for somebody of whom nothing is known yet?
//!
//! It waits until the host of the proxy has found out ([`crate::on_demand`]), for as long as a name server would be
//! waited for, and is served by the plan that then is in force.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use mesh_model::errors::Reason;

use super::message::Downstream;
use super::request::RequestKind;
use super::{Context, Outcome, serve};
use crate::clock::after;
use crate::io::Net;
use crate::on_demand::{Name, OnDemand, PATIENCE, Wanted};

/// Serves a request that has no table yet.
pub(super) async fn exchange<N: Net, D: Downstream>(
    cx: &Context<'_, N>,
    down: &mut D,
    named: &OnDemand,
) -> Outcome<N::Stream> {
    let refused = find_out(cx, down, named).await.err();
    let plan = cx.listener.plan();
    let cx = Context { plan: &plan, ..*cx };
    serve(&cx, down, refused).await
}

async fn find_out<N: Net, D: Downstream>(
    cx: &Context<'_, N>,
    down: &mut D,
    named: &OnDemand,
) -> Result<(), Reason> {
    let request = down.request();
    let nobody = match request.is_absolute() || request.kind() == RequestKind::Connect {
        true => Reason::ForwardDenied,
        false => Reason::NoRoute,
    };
    let name = Name::of(request.authority()).ok_or(nobody)?;
    let name = name.as_str();
    match named.names.want(name) {
        Wanted::Pending => {}
        Wanted::Unknown => return Err(nobody),
        Wanted::Full => return Err(Reason::NameLimit),
    }
    let patience = after(cx.started, Some(PATIENCE));
    loop {
        let mut changed = pin!(cx.thread.changed.notified());
        let mut answered = pin!(named.names.answered());
        // Whoever answers from here on is heard.
        changed.as_mut().enable();
        answered.as_mut().enable();
        let plan = cx.listener.plan();
        let is_known = |on_demand: &OnDemand| on_demand.tables.contains_key(name);
        if plan.on_demand.as_ref().is_none_or(is_known) {
            return Ok(());
        }
        if named.names.is_unknown(name) {
            return Err(nobody);
        }
        let drain = cx.listener.drain_deadline();
        cx.deadline.set(patience.min(drain));
        poll_fn(|task| {
            if down.poll_cancelled(task).is_ready() {
                return Poll::Ready(Err(Reason::ClientClosed));
            }
            if changed.as_mut().poll(task).is_ready() || answered.as_mut().poll(task).is_ready() {
                return Poll::Ready(Ok(()));
            }
            cx.deadline.poll(task).map(|()| {
                Err(match drain < patience {
                    true => Reason::Draining,
                    false => Reason::NameTimeout,
                })
            })
        })
        .await?;
    }
}
