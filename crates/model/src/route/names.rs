//! What is a route called that nobody gave a name?

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::resources::{GrpcMatch, PathMatch, Route, RouteTable, VirtualHost};

/// Gives every route of a table a name of its own.
pub(super) struct Names {
    taken: HashSet<Arc<str>>,
    /// How many routes were given each made name: the next number is found without trying those before it.
    made: HashMap<String, u32>,
}

impl Names {
    /// Longest name made from a match; long patterns are cut.
    const MOST: usize = 120;

    pub(super) fn of(table: &RouteTable) -> Self {
        let routes = table.virtual_hosts.iter().flat_map(|host| &host.routes);
        Self {
            taken: routes
                .filter(|route| !route.name.is_empty())
                .map(|route| route.name.as_str().into())
                .collect(),
            made: HashMap::new(),
        }
    }

    pub(super) fn name(&mut self, host: &VirtualHost, route: &Route) -> Arc<str> {
        if !route.name.is_empty() {
            return route.name.as_str().into();
        }
        let made = Self::made(host, route);
        let count = self.made.entry(made.clone()).or_default();
        loop {
            *count += 1;
            let name: Arc<str> = match *count {
                1 => made.as_str().into(),
                more => format!("{made}#{more}").into(),
            };
            // A name that was given may look like a made one.
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }

    /// `shop.test/api/*:GET`, with what a label can't hold replaced.
    fn made(host: &VirtualHost, route: &Route) -> String {
        let matches = &route.matches;
        let path = match (&matches.path, &matches.grpc) {
            (Some(PathMatch::Exact(path) | PathMatch::Template(path)), _) => path.clone(),
            (Some(PathMatch::Prefix(path)), _) => format!("{}/*", path.trim_end_matches('/')),
            (Some(PathMatch::Regex(path)), _) => format!("~{path}"),
            (None, Some(GrpcMatch { service, method })) => {
                format!("/{service}/{}", method.as_deref().unwrap_or("*"))
            }
            (None, None) => String::new(),
        };
        let mut name = match host.hosts.first().map(ToString::to_string) {
            Some(host) if host != "*" => host + &path,
            _ if path.is_empty() => "*".to_owned(),
            _ => path,
        };
        if !matches.methods.is_empty() {
            name = format!("{name}:{}", matches.methods.join(","));
        }
        name.chars()
            .take(Self::MOST)
            .map(|c| {
                if c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '`') {
                    c
                } else {
                    '_'
                }
            })
            .collect()
    }
}
