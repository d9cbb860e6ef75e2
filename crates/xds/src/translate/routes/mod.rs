//! RDS: `RouteConfiguration` and [`RouteTable`].
//!
//! A message is read whole: a field that is not in our messages makes a table refused, since most of them narrow who is
//! reached or who may ask. What is harmless to neglect is in our messages and passed over.

mod action;
mod edits;
mod hosts;
mod matches;
mod order;
#[cfg(test)]
mod property_tests;
mod rewrite;
#[cfg(test)]
mod tests;

pub(super) use self::matches::template_pattern;

use std::collections::BTreeMap;

use mesh_model::resources::{Action, Filters, HostRewrite, Route, RouteTable, RouteTimeouts};

use super::{Refusal, Translate, our_metadata, refuse_present, to_metadata};
use crate::kind::Kind;
use crate::wire;

/// The keys of our metadata.
mod ours {
    pub(super) const TEMPLATE: &str = "template";
    pub(super) const PREFIX_REWRITE: &str = "prefix_rewrite";
    pub(super) const CONTENT_TYPE: &str = "content_type";
    /// The route belongs to a less specific host.
    pub(super) const FALLBACK: &str = "fallback";
}

impl Translate for RouteTable {
    const KIND: Kind = Kind::RouteTable;
    const WHOLE: bool = true;
    type Message = wire::RouteConfiguration;

    fn from_message(message: Self::Message) -> Result<Self, Refusal> {
        refuse_present(&[
            ("vhds", message.vhds.is_some()),
            ("internal_only_headers", !message.internal_only_headers.is_empty()),
            (
                "typed_per_filter_config",
                !message.typed_per_filter_config.is_empty(),
            ),
            (
                "ignore_path_parameters_in_path_matching",
                message.ignore_path_parameters_in_path_matching,
            ),
            (
                "request_headers_to_add",
                !message.request_headers_to_add.is_empty(),
            ),
            (
                "request_headers_to_remove",
                !message.request_headers_to_remove.is_empty(),
            ),
            (
                "response_headers_to_add",
                !message.response_headers_to_add.is_empty(),
            ),
            (
                "response_headers_to_remove",
                !message.response_headers_to_remove.is_empty(),
            ),
        ])?;
        Ok(Self {
            name: message.name,
            virtual_hosts: hosts::virtual_hosts(message.virtual_hosts)?,
        })
    }

    fn to_message(&self) -> Result<Self::Message, Refusal> {
        Ok(wire::RouteConfiguration {
            name: self.name.clone(),
            virtual_hosts: hosts::to_virtual_hosts(self)?,
            ignore_port_in_host_matching: true,
            ..wire::RouteConfiguration::default()
        })
    }
}

/// A route, and whether it belongs to a less specific host.
fn route(message: wire::Route) -> Result<(Route, bool), Refusal> {
    refuse_present(&[(
        "typed_per_filter_config",
        !message.typed_per_filter_config.is_empty(),
    )])?;
    let ours = our_metadata(message.metadata.as_ref());
    let matches = matches::route_match(message.r#match.unwrap_or_default(), &ours)
        .map_err(|refusal| refusal.within("match"))?;
    let edits = |add, remove, field: &str| {
        edits::edits(add, remove)
            .map_err(|refusal| Refusal::new(format!("{field}{}", refusal.field), refusal.reason))
    };
    let filters = Filters {
        request_headers: edits(
            message.request_headers_to_add,
            message.request_headers_to_remove,
            "request_headers_to_add",
        )?,
        response_headers: edits(
            message.response_headers_to_add,
            message.response_headers_to_remove,
            "response_headers_to_add",
        )?,
        ..Filters::default()
    };
    let mut route = Route {
        name: message.name,
        matches,
        filters,
        action: Action::Forward { to: Vec::new() },
        timeouts: RouteTimeouts::default(),
        hash_key: Vec::new(),
    };
    match (message.route, message.redirect, message.direct_response) {
        (Some(action), None, None) => {
            action::forward(action, &mut route, &ours).map_err(|refusal| refusal.within("route"))?
        }
        (None, Some(redirect), None) => {
            route.action = action::redirect(redirect, &route.matches, &ours)
                .map(Action::Redirect)
                .map_err(|refusal| refusal.within("redirect"))?;
        }
        (None, None, Some(response)) => {
            route.action = action::respond(response, &ours)
                .map(Action::Respond)
                .map_err(|refusal| refusal.within("direct_response"))?;
        }
        _ => {
            return Err(Refusal::new(
                "action",
                "expected one of route, redirect and direct_response",
            ));
        }
    }
    Ok((route, ours.contains_key(ours::FALLBACK)))
}

fn to_route(route: &Route, mark: Option<&str>) -> Result<wire::Route, Refusal> {
    let named = |refusal: Refusal| match route.name.as_str() {
        "" => refusal.within("routes"),
        name => refusal.within(&format!("routes[`{name}`]")),
    };
    to_unnamed(route, mark).map_err(named)
}

fn to_unnamed(route: &Route, mark: Option<&str>) -> Result<wire::Route, Refusal> {
    let mut ours = BTreeMap::new();
    ours.extend(mark.map(|mark| (mark.to_owned(), "true".to_owned())));
    let matches =
        matches::to_route_match(&route.matches, &mut ours).map_err(|refusal| refusal.within("match"))?;
    let (request_headers_to_add, request_headers_to_remove) = edits::to_edits(&route.filters.request_headers);
    let (response_headers_to_add, response_headers_to_remove) =
        edits::to_edits(&route.filters.response_headers);
    let mut message = wire::Route {
        name: route.name.clone(),
        r#match: Some(matches),
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        ..wire::Route::default()
    };
    let within = |refusal: Refusal| refusal.within("action");
    match &route.action {
        Action::Forward { to } => message.route = Some(action::to_forward(to, route, &mut ours)?),
        Action::Redirect(redirect) => {
            refuse_forwarding(route)?;
            message.redirect =
                Some(action::to_redirect(redirect, &route.matches, &mut ours).map_err(within)?);
        }
        Action::Respond(respond) => {
            refuse_forwarding(route)?;
            message.direct_response = Some(action::to_respond(respond, &mut ours));
        }
    }
    message.metadata = to_metadata(ours);
    Ok(message)
}

/// What only concerns requests that are sent on has no place in xDS where none are.
fn refuse_forwarding(route: &Route) -> Result<(), Refusal> {
    let present = [
        ("filters.rewritePath", route.filters.rewrite_path.is_some()),
        ("filters.host", route.filters.host != HostRewrite::Keep),
        ("timeouts", route.timeouts != RouteTimeouts::default()),
        ("hashKey", !route.hash_key.is_empty()),
    ];
    match present.iter().find(|(_, there)| *there) {
        Some((field, _)) => Err(Refusal::new(*field, "nothing is sent on by this route")),
        None => Ok(()),
    }
}
