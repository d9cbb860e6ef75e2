//! What is to be done about a request, as far as its head says?
//!
//! Policy is asked first, then the route is looked for, then what it says is worked out: which cluster, which path, which
//! deadlines. Nothing waits here.

use std::sync::Arc;

use mesh_model::errors::Reason;
use mesh_model::filter::{redirect_location, rewrite_path};
use mesh_model::policy::RuleId;
use mesh_model::resources::Action;
use mesh_model::route::{CompiledRoute, Matched};

use super::attempt::is_let_in_by;
use super::message::{Downstream, Length};
use super::request::{PathError, RequestKind, View};
use super::{Context, Deadlines};
use crate::clock::{NEVER, after};
use crate::io::Net;
use crate::on_demand::host_of;
use crate::plan::Routes;
use crate::policy::Passed;
use crate::policy_log;
use crate::telemetry::Limit;

/// What is to be done about a request.
pub(super) struct Decided<'a> {
    pub(super) step: Step<'a>,
    /// The route that says so, and its table.
    pub(super) route: Option<(&'a Arc<Routes>, CompiledRoute<'a>)>,
    /// Whether it passes and would be denied, were the policies in audit mode enforced.
    pub(super) audited: bool,
}

impl Decided<'_> {
    /// It is answered so.
    pub(super) fn refused(reason: Reason, detail: Option<&'static str>) -> Self {
        Self {
            step: Step::Refuse(reason, detail),
            route: None,
            audited: false,
        }
    }
}

pub(super) enum Step<'a> {
    Refuse(Reason, Option<&'static str>),
    Respond(CompiledRoute<'a>),
    Redirect(CompiledRoute<'a>, String),
    Forward(Forward<'a>),
}

/// A request that goes to a cluster.
pub struct Forward<'a> {
    /// The route.
    pub route: CompiledRoute<'a>,
    /// Which of the route's clusters.
    choice: usize,
    /// Path and query when they differ from what came.
    pub target: Option<Vec<u8>>,
    /// What consistent hashing hashes.
    pub hash: Option<u64>,
    /// Plain, upgrade or CONNECT.
    pub kind: RequestKind,
    /// Deadlines.
    pub deadlines: Deadlines,
    /// Most bytes of the body; `None` for any.
    pub most_body: Option<u64>,
    /// The policy's rule that let it in.
    pub rule: Option<RuleId>,
}

impl<'a> Forward<'a> {
    /// The cluster's name.
    pub fn cluster(&self) -> &'a str {
        self.route.cluster(self.choice)
    }
}

/// Everything that can be said of a request before anything waits.
pub(super) fn decide<'a, N: Net, D: Downstream>(
    cx: &Context<'a, N>,
    down: &D,
    normal: &mut Vec<u8>,
) -> Decided<'a> {
    let request = down.request();
    let view = match View::new(request, cx.plan, cx.peer, normal) {
        Ok(view) => view,
        Err(PathError(detail)) => return Decided::refused(Reason::BadRequest, Some(detail)),
    };
    if cx.plan.is_misdirected(cx.peer, view.host) {
        return Decided::refused(Reason::Misdirected, None);
    }
    let policy = cx.plan.policy.as_ref();
    let judged = policy.map(|policy| policy.request(cx.peer, &view)).transpose();
    if let Ok(Some(Passed {
        audited: Some(denied),
        ..
    }))
    | Err(denied) = judged
    {
        policy_log::request(cx.thread, cx.plan, cx.peer, denied, &view);
    }
    let Ok(passed) = judged else {
        return Decided::refused(Reason::Denied, None);
    };
    let rule = passed.and_then(|passed| passed.rule);
    // Who came to a former listener is served by its plan, but not against the word of a newer one.
    if let Some(judge) = cx.listener.other_judge(cx.plan)
        && !is_let_in_by(&judge, cx, down, rule)
    {
        return Decided::refused(Reason::Denied, None);
    }
    let (step, route) = lead(cx, down, &view, rule);
    Decided {
        step,
        route,
        audited: passed.is_some_and(|passed| passed.audited.is_some()),
    }
}

/// Which way a request goes that policy lets in by this rule, and the route that says so.
fn lead<'a, N: Net, D: Downstream>(
    cx: &Context<'a, N>,
    down: &D,
    view: &View<'_>,
    rule: Option<RuleId>,
) -> (Step<'a>, Option<(&'a Arc<Routes>, CompiledRoute<'a>)>) {
    let request = down.request();
    let Some(routes) = cx.plan.routes(cx.peer, view.host) else {
        let reason = match cx.plan.declares(cx.peer) {
            true => Reason::NoRoute,
            false => Reason::PortUndeclared,
        };
        return (Step::Refuse(reason, None), None);
    };
    let forward_proxy = cx.plan.resource.forward_proxy;
    let as_proxy = matches!(request.kind(), RequestKind::Connect) || (forward_proxy && request.is_absolute());
    let is_known = || cx.plan.on_demand.is_some() || routes.index.knows_host(view.host);
    if as_proxy && !(forward_proxy && is_known()) {
        return (Step::Refuse(Reason::ForwardDenied, None), None);
    }
    // What a tunnel is to was said before, and its requests may be for any host.
    let found = match cx.peer.tunnel() {
        Some(name) => routes.index.find(&view.for_host(host_of(name))),
        None => routes.index.find(view),
    };
    let Some(matched) = found else {
        return (Step::Refuse(Reason::NoRoute, None), None);
    };
    let route = matched.route;
    let step = match route.pick(|| cx.thread.random()) {
        Some(choice) => forward(cx, down, view, matched, choice, rule),
        None => answer(view, matched),
    };
    (step, Some((routes, route)))
}

/// What a route says that forwards nothing.
fn answer<'a>(view: &View<'_>, matched: Matched<'a>) -> Step<'a> {
    let route = matched.route;
    match &route.written().action {
        Action::Respond(_) => Step::Respond(route),
        Action::Redirect(to) => {
            let location = redirect_location(
                to,
                view.scheme(),
                view.host,
                view.path,
                view.query,
                matched.prefix_len,
            );
            Step::Redirect(route, location)
        }
        Action::Forward { .. } => Step::Refuse(Reason::ClusterUnknown, None),
    }
}

/// What is sent on, to which of a route's clusters, unless the body is too large. `rule` is that of the policy that let
/// it in.
fn forward<'a, N: Net, D: Downstream>(
    cx: &Context<'a, N>,
    down: &D,
    view: &View<'_>,
    matched: Matched<'a>,
    choice: usize,
    rule: Option<RuleId>,
) -> Step<'a> {
    let request = down.request();
    let kind = request.kind();
    let route = matched.route;
    let hash = route.hash_key(view, cx.peer.ip);
    let most_body = Some(cx.plan.resource.limits.request_body_bytes)
        .filter(|most| *most > 0 && kind == RequestKind::Plain);
    if matches!((most_body, down.length()), (Some(most), Length::Known(n)) if n > most) {
        let listener = cx.thread.telemetry.listener(&cx.plan.label);
        listener.limit_hit(Limit::RequestBodyBytes);
        return Step::Refuse(Reason::BodyTooLarge, None);
    }
    let mut target = Vec::new();
    let rewritten = rewrite_path(route.path_rewrite(), view.path, matched.prefix_len, &mut target);
    let target = (rewritten || view.changed).then(|| {
        if !rewritten {
            target.extend_from_slice(view.path);
        }
        if view.has_query {
            target.push(b'?');
            target.extend_from_slice(view.query);
        }
        target
    });
    let timeouts = route.timeouts();
    let span = timeouts.request.map_or(cx.plan.timeouts.request, |t| t.enabled());
    let grpc = request.grpc_timeout();
    let request_deadline =
        after(cx.started, span).min(grpc.map_or(NEVER, |span| after(cx.started, Some(span))));
    Step::Forward(Forward {
        choice,
        target,
        hash,
        kind,
        rule,
        most_body,
        deadlines: Deadlines {
            request: request_deadline,
            stream_idle: timeouts
                .stream_idle
                .map_or(cx.plan.timeouts.stream_idle, |t| t.enabled()),
        },
        route,
    })
}
