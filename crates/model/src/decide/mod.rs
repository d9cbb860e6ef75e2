//! Which listener, route and cluster would this request take, or why would it be refused?
//!
//! For tools: a request is described in JSON and followed through the same validation, indexes and filters that the
//! data plane uses. Nothing is drawn at random (all clusters are listed with their shares) and nothing is known of the
//! outside (whether endpoints answer, which certificates are in files).
//!
//! ```text
//! DescribedRequest -> listener -> TLS: pass through | terminate | refuse
//!                                  └─> HTTP: route table -> route -> forward | redirect | respond | refuse
//!                                  └─> other bytes: stream | refuse
//! ```

mod request;
#[cfg(test)]
mod tests;

use serde::Serialize;
use serde::de::Unexpected;

use request::Request;
pub use request::{DescribedProtocol, DescribedRequest, HeaderValues};

use crate::errors::Reason;
use crate::filter::{redirect_location, rewrite_path};
use crate::issue::{Issue, IssueCode};
use crate::resources::{
    Action, Address, Duration, EscapedSlashes, HostPattern, HostRewrite, Listener, ListenerLimits,
    ListenerProtocol, Resources, RouteTable, WeightedCluster,
};
use crate::route::{CompiledRoute, Matched, RequestView, RouteIndex};
use crate::sni::SniIndex;
use crate::validate::{parse, validate};
use crate::way::{self, FORWARDED_PROTO};

/// What is known of HTTP by those who read it: whoever asks passes it in.
pub trait Codec {
    /// Whether the head of a request would be read on a listener with these limits.
    ///
    /// # Errors
    /// Why it would be refused, and the rule that it breaks.
    fn check_head(
        &self,
        head: &DescribedHead<'_>,
        limits: &ListenerLimits,
    ) -> Result<(), (Reason, &'static str)>;

    /// Brings a path into the normal form that requests are routed in.
    ///
    /// # Errors
    /// Why the request would be refused.
    fn normal_path(&self, path: &[u8], slashes: EscapedSlashes) -> Result<Vec<u8>, String>;
}

/// The head of a request as it is described: nothing of it was looked at.
#[derive(Clone, Copy, Debug)]
pub struct DescribedHead<'a> {
    /// The method.
    pub method: &'a [u8],
    /// What stands behind it in a request line: a path with its query, `*`, or the host of CONNECT.
    pub target: &'a [u8],
    /// The values of `host`. None where nothing is said of a host: any will do.
    pub hosts: &'a [Vec<u8>],
    /// All other fields, by their names in lower case.
    pub fields: &'a [(String, Vec<u8>)],
}

/// What the proxy would do with a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// The listener that takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// The route that takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<DecidedRoute>,
    /// Routes that are more specific and take its host and path, but not its method, headers or query.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<PassedOver>,
    /// What happens.
    pub outcome: Outcome,
}

/// A route that stands before the one that takes a request, or before none.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PassedOver {
    /// Its name, given or made.
    pub name: String,
    /// Its place, as in [`DecidedRoute`].
    pub path: String,
    /// The first condition that does not hold, in words.
    pub why: String,
}

/// Most routes listed as passed over: who reads further has another question.
const MOST_PASSED_OVER: usize = 20;

/// The route of a [`Decision`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DecidedRoute {
    /// Its name, given or made.
    pub name: String,
    /// Its route table.
    pub table: String,
    /// The hosts of its virtual host.
    pub hosts: Vec<HostPattern>,
    /// Its place: `routeTables[0].virtualHosts[1].routes[2]`.
    pub path: String,
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// It is sent on.
    Forward {
        /// Where to.
        clusters: Vec<Share>,
        /// The path that is sent on, with its query.
        path: String,
        /// The host that is sent on. Absent when it is the server's own name.
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// How long it may take in all.
        #[serde(skip_serializing_if = "Option::is_none")]
        timeout: Option<Duration>,
    },
    /// Its connection's bytes are sent on as they are.
    Stream {
        /// Where to.
        clusters: Vec<Share>,
    },
    /// It is sent elsewhere.
    Redirect {
        /// The status.
        status: u16,
        /// The `location` header.
        location: String,
    },
    /// The route answers it.
    Respond {
        /// The status.
        status: u16,
        /// The `content-type` header.
        content_type: String,
        /// The body.
        body: String,
    },
    /// The proxy refuses it.
    Refused {
        /// Why.
        reason: Reason,
        /// The HTTP status.
        status: u16,
        /// The gRPC status, for gRPC calls.
        #[serde(skip_serializing_if = "Option::is_none")]
        grpc_status: Option<u32>,
        /// Why, in words.
        message: String,
    },
    /// The description does not say enough, or something that is not there.
    Unclear {
        /// What is missing.
        message: String,
    },
}

/// A cluster and its part of the traffic.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// The cluster.
    pub cluster: String,
    /// Its part, 0 to 100.
    pub percent: f64,
}

/// As [`decide`], over JSON: a [`Decision`], or `{"issues": [...]}` when the resources or the request are wrong.
pub fn decide_json(resources: &str, request: &str, codec: &dyn Codec) -> String {
    let decided = parse(resources)
        .and_then(|resources| match validate(&resources) {
            issues if issues.is_empty() => Ok(resources),
            issues => Err(issues),
        })
        .and_then(|resources| Ok((resources, described(request)?)))
        .map(|(resources, request)| decide(&resources, &request, codec));
    // Decisions and issues hold nothing but text and numbers, which always serialise.
    match decided {
        Ok(decision) => serde_json::to_string(&decision).unwrap_or_default(),
        Err(issues) => serde_json::to_string(&serde_json::json!({ "issues": issues })).unwrap_or_default(),
    }
}

fn described(request: &str) -> Result<DescribedRequest, Vec<Issue>> {
    // A list would be taken for the fields in their order.
    let read = match request.trim_start().starts_with('[') {
        true => Err(serde::de::Error::invalid_type(Unexpected::Seq, &"an object")),
        false => serde_json::from_str(request),
    };
    read.map_err(|error: serde_json::Error| {
        vec![Issue {
            path: Vec::new(),
            code: if error.is_data() {
                IssueCode::Shape
            } else {
                IssueCode::Syntax
            },
            message: format!("the request can't be read: {error}"),
            expected: None,
            position: None,
        }]
    })
}

/// Follows a described request through valid resources.
pub fn decide(resources: &Resources, described: &DescribedRequest, codec: &dyn Codec) -> Decision {
    let nowhere = |message| Decision {
        listener: None,
        route: None,
        passed_over: Vec::new(),
        outcome: Outcome::Unclear { message },
    };
    let request = match Request::new(described) {
        Ok(request) => request,
        Err(message) => return nowhere(message),
    };
    let listener = match choose_listener(resources, described, &request) {
        Ok(listener) => listener,
        Err(message) => return nowhere(message),
    };
    let mut decision = Decision {
        listener: Some(listener.name.clone()),
        route: None,
        passed_over: Vec::new(),
        outcome: Outcome::Unclear {
            message: String::new(),
        },
    };
    decision.outcome = match connection(listener, &request) {
        Connection::Stream(targets) => stream(targets),
        Connection::Http => http(resources, listener, request, codec, &mut decision),
        Connection::Refused(reason) => refused(reason, &request, None),
    };
    decision
}

/// The listener that is named, or that has the port of the URL, or that is the only one.
fn choose_listener<'a>(
    resources: &'a Resources,
    described: &DescribedRequest,
    request: &Request,
) -> Result<&'a Listener, String> {
    let all = &resources.listeners;
    if let Some(name) = &described.listener {
        return all
            .iter()
            .find(|listener| listener.name == *name)
            .ok_or_else(|| format!("there is no listener `{name}`"));
    }
    let has_port = |listener: &&Listener| match &listener.address {
        Address::Ip(address) => Some(address.port()) == request.port,
        Address::Unix(_) => false,
    };
    let mut by_port = all.iter().filter(has_port);
    match (all.as_slice(), by_port.next(), by_port.next()) {
        ([], ..) => Err("there is no listener".into()),
        ([only], ..) | (_, Some(only), None) => Ok(only),
        _ => {
            let names: Vec<_> = all
                .iter()
                .take(10)
                .map(|listener| listener.name.as_str())
                .collect();
            Err(format!("name the listener; there are {}", names.join(", ")))
        }
    }
}

/// What a connection turns out to carry.
enum Connection {
    Stream(Vec<WeightedCluster>),
    Http,
    Refused(Reason),
}

/// Follows the first bytes of a connection.
fn connection(listener: &Listener, request: &Request) -> Connection {
    let passed = || {
        SniIndex::compile(&listener.sni)
            .ok()?
            .find(request.server_name())
            .map(<[_]>::to_vec)
    };
    let to_tcp = |otherwise: Reason| match listener.tcp.as_slice() {
        [] => Connection::Refused(otherwise),
        targets => Connection::Stream(targets.to_vec()),
    };
    let mut tls = request.tls.unwrap_or(listener.tls.is_some());
    if listener.tls.is_some() {
        if !tls {
            return Connection::Refused(Reason::TlsHandshakeFailed);
        }
        if let Some(targets) = passed() {
            return Connection::Stream(targets);
        }
        tls = false;
    }
    match listener.protocol {
        ListenerProtocol::Tcp => to_tcp(Reason::NotHttp),
        ListenerProtocol::TlsPassthrough if !tls => Connection::Refused(Reason::TlsHandshakeFailed),
        ListenerProtocol::TlsPassthrough => {
            passed().map_or(Connection::Refused(Reason::SniUnknown), Connection::Stream)
        }
        _ if request.is_http() && !tls && listener.routes.is_some() => Connection::Http,
        ListenerProtocol::Http1 | ListenerProtocol::Http2 => Connection::Refused(Reason::BadRequest),
        ListenerProtocol::Auto if tls && !listener.sni.is_empty() => {
            passed().map_or_else(|| to_tcp(Reason::SniUnknown), Connection::Stream)
        }
        ListenerProtocol::Auto => to_tcp(match (tls, &listener.routes) {
            (true, _) => Reason::TlsNotConfigured,
            // What is no HTTP is read as such where nothing else is spoken.
            (false, Some(_)) => Reason::BadRequest,
            (false, None) => Reason::NotHttp,
        }),
    }
}

/// Follows an HTTP request; the routes it meets are noted in the decision.
fn http(
    resources: &Resources,
    listener: &Listener,
    mut request: Request,
    codec: &dyn Codec,
    decision: &mut Decision,
) -> Outcome {
    let name = listener.routes.as_deref().unwrap_or_default();
    let Some((number, table)) = resources
        .route_tables
        .iter()
        .enumerate()
        .find(|(_, table)| table.name == name)
    else {
        let message = format!("there is no route table `{name}`");
        return Outcome::Unclear { message };
    };
    let index = match RouteIndex::compile(table) {
        Ok(index) => index,
        Err(issues) => {
            let message = issues.first().map(ToString::to_string).unwrap_or_default();
            return Outcome::Unclear { message };
        }
    };
    if let Err((reason, rule)) = request.read_by(codec, &listener.limits) {
        return refused(reason, &request, Some(rule.into()));
    }
    if request.path.starts_with(b"/") {
        match codec.normal_path(&request.path, listener.escaped_slashes) {
            Ok(path) => request.path = path,
            Err(why) => return refused(Reason::BadRequest, &request, Some(why)),
        }
    }
    if request.is_connect() && !(listener.forward_proxy && index.knows_host(&request.host)) {
        return refused(Reason::ForwardDenied, &request, None);
    }
    request.comes_by(listener);
    let passed = index.passed_over(&request, MOST_PASSED_OVER).into_iter();
    decision.passed_over = passed
        .map(|(route, why)| PassedOver {
            name: route.name().to_string(),
            path: place(number, table, route),
            why,
        })
        .collect();
    let Some(matched) = index.find(&request) else {
        return refused(Reason::NoRoute, &request, None);
    };
    let hosts = table.virtual_hosts.get(matched.route.virtual_host() as usize);
    decision.route = Some(DecidedRoute {
        name: matched.route.name().to_string(),
        table: table.name.clone(),
        hosts: hosts.map(|host| host.hosts.clone()).unwrap_or_default(),
        path: place(number, table, matched.route),
    });
    outcome(matched, listener, &request)
}

/// Where a route of the table with this number stands in the resources.
fn place(number: usize, table: &RouteTable, route: CompiledRoute<'_>) -> String {
    let host = route.virtual_host() as usize;
    let hosts = table.virtual_hosts.iter().take(host);
    let before: usize = hosts.map(|host| host.routes.len()).sum();
    let position = (route.id() as usize).saturating_sub(before);
    format!("routeTables[{number}].virtualHosts[{host}].routes[{position}]")
}

/// What the route does.
fn outcome(matched: Matched<'_>, listener: &Listener, request: &Request) -> Outcome {
    let route = matched.route.written();
    match &route.action {
        Action::Forward { to } => {
            let mut path = Vec::new();
            if !rewrite_path(
                route.filters.rewrite_path.as_ref(),
                &request.path,
                matched.prefix_len,
                &mut path,
            ) {
                path.extend_from_slice(&request.path);
            }
            if let Some(query) = &request.query {
                path.push(b'?');
                path.extend_from_slice(query);
            }
            Outcome::Forward {
                clusters: shares(to),
                path: String::from_utf8_lossy(&path).into_owned(),
                host: match &route.filters.host {
                    HostRewrite::Keep => Some(String::from_utf8_lossy(&request.host).into_owned()),
                    HostRewrite::Set(host) => Some(host.clone()),
                    HostRewrite::Upstream => None,
                },
                timeout: Some(route.timeouts.request.unwrap_or(listener.timeouts.request))
                    .filter(|timeout| timeout.enabled().is_some()),
            }
        }
        Action::Redirect(redirect) => Outcome::Redirect {
            status: redirect.status,
            location: redirect_location(
                redirect,
                way::scheme(request.header(FORWARDED_PROTO)).unwrap_or(if listener.tls.is_some() {
                    "https"
                } else {
                    "http"
                }),
                &request.host,
                &request.path,
                request.query(),
                matched.prefix_len,
            ),
        },
        Action::Respond(respond) => Outcome::Respond {
            status: respond.status,
            content_type: respond.content_type.clone(),
            body: respond.body.clone(),
        },
    }
}

fn stream(targets: Vec<WeightedCluster>) -> Outcome {
    Outcome::Stream {
        clusters: shares(&targets),
    }
}

fn shares(targets: &[WeightedCluster]) -> Vec<Share> {
    let total: f64 = targets.iter().map(|target| f64::from(target.weight)).sum();
    let percent = |weight: u32| {
        if total > 0.0 {
            f64::from(weight) * 100.0 / total
        } else {
            0.0
        }
    };
    targets
        .iter()
        .map(|target| Share {
            cluster: target.cluster.clone(),
            percent: percent(target.weight),
        })
        .collect()
}

fn refused(reason: Reason, request: &Request, why: Option<String>) -> Outcome {
    Outcome::Refused {
        reason,
        status: reason.status(),
        grpc_status: request.grpc.then(|| reason.grpc_status()),
        message: why.unwrap_or_else(|| reason.text().to_owned()),
    }
}
