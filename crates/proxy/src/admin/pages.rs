//! What is there on the admin port, for whom, and what does it say?

use std::fmt::Write;

use mesh_http1::{Method, RequestHead, Target};
use mesh_model::resources::Resources;

use super::Site;
use super::guard::{self, Caller};
use crate::log::{Level, News};
use crate::proxy::DrainOptions;
use crate::telemetry::{json, prometheus};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// A page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Live,
    Ready,
    Metrics,
    Stats,
    Config,
    LogLevel,
    Drain,
}

/// Who is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Audience {
    Everybody,
    ThisHost,
}

struct Page {
    name: Name,
    path: &'static str,
    allow: &'static str,
    audience: Audience,
    about: &'static str,
}

const PAGES: [Page; 7] = [
    Page {
        name: Name::Live,
        path: "/live",
        allow: "GET, HEAD",
        audience: Audience::Everybody,
        about: "200 as long as the process runs",
    },
    Page {
        name: Name::Ready,
        path: "/ready",
        allow: "GET, HEAD",
        audience: Audience::Everybody,
        about: "200 when traffic may come, with warnings, else 503 with the reasons",
    },
    Page {
        name: Name::Metrics,
        path: "/metrics",
        allow: "GET, HEAD",
        audience: Audience::Everybody,
        about: "all numbers, in Prometheus' text format",
    },
    Page {
        name: Name::Stats,
        path: "/stats",
        allow: "GET, HEAD",
        audience: Audience::ThisHost,
        about: "all numbers as JSON, with percentiles: what `mesh stats` shows",
    },
    Page {
        name: Name::Config,
        path: "/config",
        allow: "GET, HEAD",
        audience: Audience::ThisHost,
        about: "the resources in force as JSON, keys left out",
    },
    Page {
        name: Name::LogLevel,
        path: "/log-level",
        allow: "GET, HEAD, PUT, POST",
        audience: Audience::ThisHost,
        about: "how much the proxy says; PUT error, warn, info or debug to change it",
    },
    Page {
        name: Name::Drain,
        path: "/drain",
        allow: "POST",
        audience: Audience::ThisHost,
        about: "begins the way out",
    },
];

/// A request, whole.
pub(super) struct Request<'a> {
    pub(super) caller: Caller,
    pub(super) head: &'a RequestHead,
    /// What the head's spans point into.
    pub(super) bytes: &'a [u8],
    pub(super) body: &'a [u8],
}

/// A response. To HEAD its body is not sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) allow: Option<&'static str>,
    pub(super) body: String,
}

impl Response {
    /// A line of text.
    pub(super) fn text(status: u16, line: impl Into<String>) -> Self {
        let mut body = line.into();
        body.push('\n');
        Self {
            status,
            content_type: TEXT,
            allow: None,
            body,
        }
    }
}

/// Answers a request.
pub(super) fn answer(site: &Site, request: &Request<'_>) -> Response {
    let Target::Origin { path, .. } = request.head.target else {
        return Response::text(400, "this is not a proxy's port but its admin server's");
    };
    let path = path.of(request.bytes);
    let Some(page) = PAGES.iter().find(|page| page.path.as_bytes() == path) else {
        return not_found();
    };
    if page.audience == Audience::ThisHost
        && let Err(why) = guard::local(request.caller, request.head, request.bytes)
    {
        return Response::text(403, format!("{} is for callers on this host: {why}", page.path));
    }
    let method = request.head.method;
    let allowed = method.as_str().is_some_and(|method| {
        let mut methods = page.allow.split(", ");
        methods.any(|allowed| allowed == method)
    });
    if !allowed {
        let message = format!("{} takes {}", page.path, page.allow);
        return Response {
            allow: Some(page.allow),
            ..Response::text(405, message)
        };
    }
    match page.name {
        Name::Live => Response::text(200, "live"),
        Name::Ready => ready(site),
        Name::Metrics => Response {
            status: 200,
            content_type: prometheus::CONTENT_TYPE,
            allow: None,
            body: prometheus::render(&site.handle.report(), &prometheus::Options::default()),
        },
        Name::Stats => in_json(&json::render(&site.handle.look())),
        Name::Config => config(&site.handle.store().snapshot().resources()),
        Name::LogLevel if matches!(method, Method::Get | Method::Head) => {
            Response::text(200, site.handle.log().level().as_str())
        }
        Name::LogLevel => set_log_level(site, request.body),
        Name::Drain => drain(site),
    }
}

/// Whether this request's answer may be long, so that only a few are made at once.
pub(super) fn is_long(head: &RequestHead, bytes: &[u8]) -> bool {
    let Target::Origin { path, .. } = head.target else {
        return false;
    };
    matches!(path.of(bytes), b"/metrics" | b"/stats" | b"/config")
}

fn ready(site: &Site) -> Response {
    let reasons = site.handle.not_ready();
    if !reasons.is_empty() {
        return Response::text(503, reasons.join("\n"));
    }
    let warnings = site.handle.warnings().into_iter();
    Response::text(
        200,
        warnings.fold("ready".to_owned(), |text, warning| {
            text + "\nwarning: " + &warning
        }),
    )
}

fn in_json(value: &serde_json::Value) -> Response {
    Response {
        status: 200,
        content_type: JSON,
        allow: None,
        body: format!("{value}\n"),
    }
}

fn config(resources: &Resources) -> Response {
    match serde_json::to_value(resources.redacted()) {
        Ok(value) => in_json(&value),
        Err(error) => Response::text(500, error.to_string()),
    }
}

fn set_log_level(site: &Site, body: &[u8]) -> Response {
    let log = site.handle.log();
    let text = String::from_utf8_lossy(body);
    match text.trim().parse::<Level>() {
        Ok(level) => {
            let before = log.level();
            log.set_level(level);
            // Heard at either level.
            log.say(
                level.min(before),
                "the log level changed",
                &[("from", &before.as_str()), ("to", &level.as_str())],
            );
            Response::text(200, level.as_str())
        }
        Err(expected) => Response::text(400, expected),
    }
}

fn drain(site: &Site) -> Response {
    let log = site.handle.log();
    log.tell(Level::Info, "draining, as asked on the admin port", News::Drain);
    site.handle.drain(DrainOptions {
        lame_duck: site.handle.lame_duck(),
        work: None,
    });
    Response::text(202, "draining")
}

fn not_found() -> Response {
    let mut text = String::from("there is no such page; there are:");
    for page in &PAGES {
        // Writing to memory can't fail.
        let _ = write!(text, "\n  {:<21}{:<11} {}", page.allow, page.path, page.about);
    }
    Response::text(404, text)
}
