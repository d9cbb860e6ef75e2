//! Which route takes this request?
//!
//! A [`RouteIndex`] is compiled from a [`RouteTable`] once and asked for every request. It is an index and not a list:
//!
//! ```text
//! host ─ hash of the exact name, then of each wildcard suffix, then `*`      (hosts.rs)
//!   └─ path ─ exact ─┐ one walk down a tree of segments                      (paths.rs)
//!        template ───┤ a tree of segments with variables                     (templates.rs)
//!        regex ──────┤ one by one behind a set that rules most out           (regexes.rs)
//!        prefix ─────┤ the deepest node of the walk, then up
//!        none ───────┘
//!          └─ method, headers, query of the few candidates, by specificity   (conditions.rs)
//! ```
//!
//! Invariants: the answer is the one that a scan of all routes in the documented order of
//! [`VirtualHost`](crate::resources::VirtualHost) and [`RouteMatch`](crate::resources::RouteMatch) gives (a property
//! test holds it to that); no look-up locks, and none allocates unless a query condition has to decode; ten thousand
//! routes cost what ten cost, as long as hosts, paths or gRPC methods tell them apart. Routes of one path that only
//! conditions tell apart are asked one after another, and so are regular expressions, up to a set at a time.
//!
//! Compiling costs a microsecond or two a route (a regular expression: fifty to a hundred), and is done again only for
//! a table that changed. `cargo run --release -p mesh-model --example route_bench` measures both.

mod compiled;
mod conditions;
mod explain;
mod keys;
mod names;
mod paths;
#[cfg(test)]
mod property_tests;
mod query;
mod regexes;
mod specificity;
mod templates;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use compiled::CompiledRoute;
pub(crate) use compiled::no_weight;
pub(crate) use conditions::Condition;
pub use keys::stable_hash;
pub use specificity::Specificity;
pub(crate) use templates::Template;

use crate::hosts::HostMap;
use crate::issue::{At, Issue, IssueCode, Issues, Problem};
use crate::resources::{RouteTable, WeightedCluster};
use compiled::{Routes, Taker};
use paths::PathIndex;

/// What a route may ask of a request. The data plane implements it over the bytes it received, without copying.
pub trait RequestView {
    /// The authority as it came: any case, with or without port; empty when there is none.
    fn host(&self) -> &[u8];
    /// The method.
    fn method(&self) -> &[u8];
    /// The path in its normal form, without query; empty or `*` when the request has none.
    fn path(&self) -> &[u8];
    /// The query without `?`, as it came; empty when there is none.
    fn query(&self) -> &[u8];
    /// The values of a header, whose name is given in lower case, in the order they came. `host` has the authority in its
    /// [normal form](crate::hosts::normal), `cookie` is one value however HTTP/2 cuts it, and headers
    /// [of the way](crate::way) are those that will be sent on.
    fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]>;
    /// The values of `cookie`, in any pieces that hold whole cookies.
    fn cookies(&self) -> impl Iterator<Item = &[u8]> {
        self.header("cookie")
    }
    /// Whether this is a gRPC call: whether [`is_grpc_type`] says so of its `content-type`.
    fn is_grpc(&self) -> bool;
}

/// Whether a `content-type` is that of a gRPC call: `application/grpc`, alone or with a suffix (`+proto`) or parameters;
/// in any case, as media types are (RFC 9110 section 8.3.1). `application/grpc-web` is another protocol.
#[inline]
pub fn is_grpc_type(content_type: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    content_type
        .split_at_checked(GRPC.len())
        .is_some_and(|(start, rest)| {
            start.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
        })
}

/// The route that takes a request.
#[derive(Clone, Copy, Debug)]
pub struct Matched<'a> {
    /// The route.
    pub route: CompiledRoute<'a>,
    /// How many bytes of the path the route's prefix took, without its final `/`; 0 for other kinds of match.
    pub prefix_len: usize,
}

/// A route table made ready for look-ups.
#[derive(Debug)]
pub struct RouteIndex {
    name: Arc<str>,
    hosts: HostMap<Taker>,
    /// By the number of the virtual host.
    paths: Vec<PathIndex>,
    routes: Routes,
}

impl RouteIndex {
    /// Compiles a table.
    ///
    /// # Errors
    /// All problems of the table that a look-up depends on: patterns that don't compile, hosts that stand twice,
    /// weights that can't be drawn. Paths start at the table. [`validate`](crate::validate::validate) finds these and more.
    pub fn compile(table: &RouteTable) -> Result<Self, Vec<Issue>> {
        let mut issues = Issues::default();
        let mut names = names::Names::of(table);
        let mut clusters = compiled::ClusterNames::default();
        let count = table.virtual_hosts.iter().map(|host| host.routes.len()).sum();
        let mut index = Self {
            name: table.name.as_str().into(),
            hosts: HostMap::new(),
            paths: Vec::with_capacity(table.virtual_hosts.len()),
            routes: Routes::with_capacity(count),
        };
        let routes = &mut index.routes;
        let hosts_key = At::Root.key("virtualHosts");
        for (number, host) in table.virtual_hosts.iter().enumerate() {
            let at = hosts_key.index(number);
            let routes_key = at.key("routes");
            let first = routes.len();
            for (position, route) in host.routes.iter().enumerate() {
                let name = names.name(host, route);
                let at = routes_key.index(position);
                routes.push(number as u32, name, route, &mut clusters, &at, &mut issues);
            }
            let paths = PathIndex::new(routes, first..routes.len());
            let taker = match paths.only(routes, first..routes.len()) {
                Some(id) => routes.taker(id),
                None => Taker::any_of(number as u32),
            };
            index.paths.push(paths);
            let patterns_key = at.key("hosts");
            for (position, pattern) in host.hosts.iter().enumerate() {
                if index.hosts.insert(pattern, taker).is_err() {
                    issues.add(&patterns_key.index(position), duplicate_host(pattern));
                }
            }
        }
        let issues = issues.into_vec();
        if issues.is_empty() { Ok(index) } else { Err(issues) }
    }

    /// The table's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// All routes, by [`CompiledRoute::id`].
    pub fn routes(&self) -> impl Iterator<Item = CompiledRoute<'_>> {
        self.routes.iter()
    }

    /// The route of this [number](CompiledRoute::id).
    #[inline]
    pub fn route(&self, id: u32) -> Option<CompiledRoute<'_>> {
        self.routes.get(id)
    }

    /// The route that takes a request: the most specific host, and of its routes the most specific.
    pub fn find(&self, request: &impl RequestView) -> Option<Matched<'_>> {
        let (route, prefix_len) = self
            .hosts
            .find(request.host(), |taker| match taker.virtual_host() {
                Some(number) => self.paths.get(number as usize)?.find(&self.routes, request),
                None => Some((self.routes.only(taker)?, 0)),
            })?;
        Some(Matched { route, prefix_len })
    }

    /// The position in the table of the virtual host that stands in [`RouteIndex::hosts`].
    fn virtual_host(&self, taker: Taker) -> Option<u32> {
        let route = || Some(self.routes.only(taker)?.virtual_host());
        taker.virtual_host().or_else(route)
    }

    /// Whether a virtual host other than `*` takes this host (any case, with or without port): the names that a
    /// forward proxy may reach.
    pub fn knows_host(&self, host: &[u8]) -> bool {
        self.hosts.named(host, &mut Some).is_some()
    }
}

pub(crate) fn duplicate_host(pattern: &crate::resources::HostPattern) -> Problem {
    Problem::plain(
        IssueCode::Duplicate,
        format!("the host `{pattern}` stands here a second time"),
    )
}

/// Draws one of several clusters by weight; `random` is uniform over all 64 bits. `None` when there is none to draw.
pub fn pick_cluster(clusters: &[WeightedCluster], random: u64) -> Option<&WeightedCluster> {
    if let [only] = clusters {
        return Some(only);
    }
    let total: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
    let mut drawn = draw(random, total);
    clusters
        .iter()
        .find(|cluster| match drawn.checked_sub(u64::from(cluster.weight)) {
            Some(rest) => {
                drawn = rest;
                false
            }
            None => true,
        })
}

/// A number below `total`, each as likely as the next, from 64 random bits.
pub(crate) fn draw(random: u64, total: u64) -> u64 {
    ((u128::from(random) * u128::from(total)) >> 64) as u64
}
