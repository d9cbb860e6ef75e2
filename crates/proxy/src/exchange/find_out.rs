//! What of a request or a stream for somebody of whom nothing is known yet?
//!
//! It waits until the host of the proxy has found out ([`crate::on_demand`]), for as long as a name server would be
//! waited for, and is served by the plan that then is in force.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context as TaskContext, Poll};

use mesh_model::errors::Reason;
use mesh_model::resources::WeightedCluster;

use super::message::Downstream;
use super::request::RequestKind;
use super::{Context, Outcome, serve};
use crate::clock::after;
use crate::io::Net;
use crate::on_demand::{Name, OnDemand, PATIENCE, Wanted};
use crate::thread::{Listener, Thread};
use crate::timer::Deadline;

/// Serves a request that has no table yet.
pub(super) async fn exchange<N: Net, D: Downstream>(
    cx: &Context<'_, N>,
    down: &mut D,
    named: &OnDemand,
) -> Outcome<N::Stream> {
    let refused = find_out(cx, down, named).await.err();
    let plan = cx.listener.plan();
    let cx = Context { plan: &plan, ..*cx };
    // It may have taken a while.
    cx.ask_to_leave(down);
    serve(&cx, down, refused).await
}

/// Where a stream goes that was made to an address of which nothing is known yet.
///
/// # Errors
/// Nobody knows it, or not in time.
pub async fn stream<N: Net>(
    thread: &Thread<N>,
    listener: &Listener,
    deadline: &Deadline,
    name: &str,
) -> Result<Vec<WeightedCluster>, Reason> {
    let plan = listener.plan();
    let named = plan.on_demand.as_ref().ok_or(Reason::NoRoute)?;
    let asks = Asks {
        thread,
        listener,
        deadline,
        named,
        nobody: Reason::NoRoute,
    };
    asks.wait(name, |_| Poll::Pending).await?;
    let plan = listener.plan();
    let table = plan.on_demand.as_ref().and_then(|named| named.tables.get(name));
    table.map(|table| table.tcp.clone()).ok_or(Reason::NoRoute)
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
    let asked = Name::of(request.authority());
    let name = cx
        .peer
        .tunnel()
        .or(asked.as_ref().map(Name::as_str))
        .ok_or(nobody)?;
    let asks = Asks {
        thread: cx.thread,
        listener: cx.listener,
        deadline: cx.deadline,
        named,
        nobody,
    };
    asks.wait(name, |task| down.poll_cancelled(task)).await
}

/// Somebody who asks.
struct Asks<'a, N: Net> {
    thread: &'a Thread<N>,
    listener: &'a Listener,
    deadline: &'a Deadline,
    named: &'a OnDemand,
    /// What it is told when nobody knows.
    nobody: Reason,
}

impl<N: Net> Asks<'_, N> {
    /// Waits until a plan knows the name.
    async fn wait(
        &self,
        name: &str,
        mut poll_cancelled: impl FnMut(&mut TaskContext<'_>) -> Poll<()>,
    ) -> Result<(), Reason> {
        self.judge(self.named.names.want(name))?;
        let patience = after(self.thread.now(), Some(PATIENCE));
        loop {
            let mut changed = pin!(self.thread.changed.notified());
            let mut answered = pin!(self.named.names.answered());
            // Whoever answers from here on is heard.
            changed.as_mut().enable();
            answered.as_mut().enable();
            let plan = self.listener.plan();
            let is_known = |on_demand: &OnDemand| on_demand.tables.contains_key(name);
            if plan.on_demand.as_ref().is_none_or(is_known) {
                return Ok(());
            }
            if let Some(refused) = self.named.names.refused(name) {
                self.judge(refused)?;
            }
            self.deadline.set(patience);
            poll_fn(|task| {
                if poll_cancelled(task).is_ready() {
                    return Poll::Ready(Err(Reason::ClientClosed));
                }
                if changed.as_mut().poll(task).is_ready() || answered.as_mut().poll(task).is_ready() {
                    return Poll::Ready(Ok(()));
                }
                self.deadline
                    .poll(task)
                    .map(|()| Err(self.deadline.cut().unwrap_or(Reason::NameTimeout)))
            })
            .await?;
        }
    }

    fn judge(&self, wanted: Wanted) -> Result<(), Reason> {
        match wanted {
            Wanted::Pending => Ok(()),
            Wanted::Unknown => Err(self.nobody),
            Wanted::Undeclared => Err(Reason::PortUndeclared),
            Wanted::Unusable => Err(Reason::ConfigRefused),
            Wanted::Full => Err(Reason::NameLimit),
        }
    }
}
