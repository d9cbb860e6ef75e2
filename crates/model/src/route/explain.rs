//! Why did a request not take the routes that stand before its own?
//!
//! For tools: a scan over all routes, with words for people. It asks the same conditions as the index and tells each
//! path by itself, so it is a second opinion on the index too: a property test holds one to the other.

use super::compiled::CompiledRoute;
use super::specificity::PathPattern;
use super::{RequestView, RouteIndex};
use crate::issue::shown;
use crate::resources::{ValueCondition, ValueMatch};

impl RouteIndex {
    /// The routes that stand before the one that takes a request, the most specific first, each with the reason: their
    /// host and path take it, another condition does not. At most `most`.
    pub fn passed_over(&self, request: &impl RequestView, most: usize) -> Vec<(CompiledRoute<'_>, String)> {
        let mut passed = Vec::new();
        self.scan(request, |route, why| {
            if passed.len() < most {
                passed.push((route, why));
            }
        });
        passed
    }

    /// The route that takes a request, found by asking one after another; those before it are shown to `passed`.
    pub(super) fn scan<'a>(
        &'a self,
        request: &impl RequestView,
        mut passed: impl FnMut(CompiledRoute<'a>, String),
    ) -> Option<CompiledRoute<'a>> {
        self.hosts.find(request.host(), |taker| {
            let number = self.virtual_host(taker)?;
            let mut routes: Vec<_> = self
                .routes
                .iter()
                .filter(|route| route.virtual_host() == number && route.pattern().takes(request.path()))
                .collect();
            routes.sort_by_key(|route| route.place());
            routes.into_iter().find(|route| match route.why_not(request) {
                Some(why) => {
                    passed(*route, why);
                    false
                }
                None => true,
            })
        })
    }
}

impl PathPattern {
    /// Whether the pattern takes a path.
    fn takes(&self, path: &[u8]) -> bool {
        if !path.starts_with(b"/") {
            return matches!(self, Self::None);
        }
        match self {
            Self::Exact(exact) => exact.as_bytes() == path,
            Self::Template(template) => template.takes(path),
            Self::Regex(regex) => regex.is_match(path),
            Self::Prefix(prefix) => path
                .strip_prefix(prefix.as_bytes())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/") || prefix.ends_with('/')),
            Self::None => true,
        }
    }
}

impl CompiledRoute<'_> {
    /// The first condition beside the path that does not hold, in words.
    fn why_not(self, request: &impl RequestView) -> Option<String> {
        let matches = &self.written().matches;
        let conditions = self.conditions()?;
        if !conditions.method_holds(request) {
            return Some(format!("the method is not {}", matches.methods.join(" or ")));
        }
        if !conditions.grpc_holds(request) {
            return Some("it is no gRPC call".into());
        }
        let header = conditions
            .headers
            .iter()
            .position(|one| !one.header_holds(request));
        let query = conditions.query.iter().position(|one| !one.query_holds(request));
        header
            .and_then(|at| matches.headers.get(at))
            .map(|condition| why("header", condition))
            .or_else(|| {
                query
                    .and_then(|at| matches.query.get(at))
                    .map(|condition| why("parameter", condition))
            })
    }
}

/// Why a condition on a value does not hold.
fn why(what: &str, condition: &ValueMatch) -> String {
    let (no, yes, value) = match &condition.value {
        ValueCondition::Present => ("is absent", "is there", None),
        ValueCondition::Exact(value) => ("is not", "is", Some(value)),
        ValueCondition::Prefix(value) => ("does not start with", "starts with", Some(value)),
        ValueCondition::Suffix(value) => ("does not end with", "ends with", Some(value)),
        ValueCondition::Regex(value) => ("does not match", "matches", Some(value)),
    };
    let verb = if condition.invert { yes } else { no };
    let value = value.map_or_else(String::new, |value| format!(" {}", shown(value)));
    format!("the {what} {} {verb}{value}", shown(&condition.name))
}
