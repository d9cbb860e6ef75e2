//! One route, with everything that can be known before a request comes.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::filter::CompiledEdits;
use crate::issue::{At, IssueCode, Issues, Problem, shown};
use crate::resources::{
    Action, GrpcMatch, HashKey, HostRewrite, PathMatch, PathRewrite, Redirect, Respond, Route, RouteMatch,
    RouteTable, RouteTimeouts, VirtualHost, WeightedCluster,
};

use super::conditions::{Condition, Conditions};
use super::templates::Template;
use super::{RequestView, draw, keys};

/// A route made ready for requests.
///
/// One cache line with the counts of its `Arc`, and nothing else is read of most routes: of ten thousand none is in the
/// cache, and both a line and a page of its own cost what a look-up costs. What few routes have and what no request asks
/// for are elsewhere.
#[derive(Debug)]
pub struct CompiledRoute {
    /// Its position in the table, counted over all virtual hosts.
    pub id: u32,
    special: Option<Box<Special>>,
    clusters: Clusters,
    pub(super) written: Box<Written>,
}

/// What most routes do without.
#[derive(Debug)]
struct Special {
    /// All but the one on its path.
    conditions: Conditions,
    path: Option<PathRewrite>,
    host: HostRewrite,
    /// Names of headers in lower case.
    hash_keys: Box<[HashKey]>,
    request_edits: CompiledEdits,
    response_edits: CompiledEdits,
    timeouts: RouteTimeouts,
}

/// How a route was written, and where it stands.
#[derive(Debug)]
pub(super) struct Written {
    /// The position of its virtual host in the table.
    virtual_host: u32,
    /// Its place among the routes of its virtual host, the most specific first.
    pub(super) rank: u32,
    pub(super) pattern: PathPattern,
    name: Arc<str>,
    route: Route,
}

/// Where a route forwards to. Names of one table are shared: the next route's is in the cache already.
#[derive(Debug)]
enum Clusters {
    /// It answers by itself.
    None,
    One(Arc<str>),
    /// With running sums of their weights.
    Several(Box<[(Arc<str>, u64)]>),
}

/// How specific a match is, by the documented order of [`RouteMatch`]. Smaller is more specific and asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Specificity {
    path: (u8, [usize; 3]),
    without_grpc: bool,
    without_method: bool,
    headers: Reverse<usize>,
    query: Reverse<usize>,
}

impl Specificity {
    /// How specific a match is; `None` when its path condition can't be read. Regular expressions are not compiled: they
    /// are all alike.
    pub fn of(matches: &RouteMatch) -> Option<Self> {
        let path = match &matches.path {
            Some(PathMatch::Regex(_)) => PathPattern::REGEX,
            _ => PathPattern::parse(matches).ok()?.order(),
        };
        Some(Self::new(path, matches))
    }

    fn new(path: (u8, [usize; 3]), matches: &RouteMatch) -> Self {
        Self {
            path,
            without_grpc: matches.grpc.is_none(),
            without_method: matches.methods.is_empty(),
            headers: Reverse(matches.headers.len()),
            query: Reverse(matches.query.len()),
        }
    }
}

/// The path condition, parsed. Kept to build the index and to say how specific it is.
#[derive(Debug)]
pub(super) enum PathPattern {
    Exact(Box<str>),
    Template(Template),
    Regex(regex::bytes::Regex),
    Prefix(Box<str>),
    None,
}

impl PathPattern {
    /// The order of regular expressions.
    const REGEX: (u8, [usize; 3]) = (2, [0; 3]);

    pub(super) fn parse(matches: &RouteMatch) -> Result<Self, Problem> {
        let pattern = match (&matches.path, &matches.grpc) {
            (Some(PathMatch::Exact(path)), _) => Self::Exact(path.as_str().into()),
            (Some(PathMatch::Prefix(prefix)), _) => Self::Prefix(prefix.as_str().into()),
            (Some(PathMatch::Template(text)), _) => Self::Template(Template::parse(text)?),
            (Some(PathMatch::Regex(text)), _) => Self::Regex(crate::pattern::compile(text)?),
            (
                None,
                Some(GrpcMatch {
                    service,
                    method: Some(method),
                }),
            ) => Self::Exact(format!("/{service}/{method}").into()),
            (
                None,
                Some(GrpcMatch {
                    service,
                    method: None,
                }),
            ) => Self::Prefix(format!("/{service}/").into()),
            (None, None) => Self::None,
        };
        match &pattern {
            Self::Exact(path) | Self::Prefix(path) if !path.starts_with('/') => Err(Problem::new(
                IssueCode::BadPath,
                format!("{} does not start with `/`", shown(path)),
                "a path such as /api",
            )),
            _ => Ok(pattern),
        }
    }

    /// Smaller is more specific: the kind, then what tells apart within the kind.
    fn order(&self) -> (u8, [usize; 3]) {
        match self {
            Self::Exact(_) => (0, [0; 3]),
            Self::Template(template) => (1, template.order()),
            Self::Regex(_) => Self::REGEX,
            Self::Prefix(prefix) => (3, [usize::MAX - prefix.len(), 0, 0]),
            Self::None => (4, [0; 3]),
        }
    }
}

impl CompiledRoute {
    /// Compiles a route; its rank is set when its virtual host is complete.
    pub(super) fn new(
        id: u32,
        virtual_host: u32,
        name: Arc<str>,
        route: &Route,
        clusters: &mut ClusterNames,
        at: &At<'_>,
        issues: &mut Issues,
    ) -> Self {
        let match_key = at.key("match");
        let path_key = match_key.key(if route.matches.path.is_some() {
            "path"
        } else {
            "grpc"
        });
        let pattern = issues
            .keep(&path_key, PathPattern::parse(&route.matches))
            .unwrap_or(PathPattern::None);
        let conditions = Conditions {
            grpc: route.matches.grpc.is_some(),
            methods: route
                .matches
                .methods
                .iter()
                .map(|method| method.as_bytes().into())
                .collect(),
            headers: compile_all(
                &route.matches.headers,
                &match_key.key("headers"),
                Condition::header,
                issues,
            ),
            query: compile_all(
                &route.matches.query,
                &match_key.key("query"),
                Condition::query,
                issues,
            ),
        };
        let filters = &route.filters;
        let special = Special {
            conditions,
            path: filters.rewrite_path.clone(),
            host: filters.host.clone(),
            hash_keys: route.hash_key.iter().map(lower_case).collect(),
            request_edits: CompiledEdits::new(&filters.request_headers),
            response_edits: CompiledEdits::new(&filters.response_headers),
            timeouts: route.timeouts,
        };
        let clusters = match &route.action {
            Action::Forward { to } => issues
                .keep(&at.key("action").key("to"), clusters.compile(to))
                .unwrap_or(Clusters::None),
            Action::Redirect(_) | Action::Respond(_) => Clusters::None,
        };
        let written = Written {
            virtual_host,
            rank: 0,
            pattern,
            name,
            route: route.clone(),
        };
        Self {
            id,
            special: (!special.is_empty()).then(|| Box::new(special)),
            clusters,
            written: Box::new(written),
        }
    }

    /// The position of its virtual host in the table.
    pub fn virtual_host(&self) -> u32 {
        self.written.virtual_host
    }

    /// Its name, unique in the table: the one it was given, or one made from its match.
    pub fn name(&self) -> &Arc<str> {
        &self.written.name
    }

    /// The route as it was written.
    pub fn written(&self) -> &Route {
        &self.written.route
    }

    /// `filters.requestHeaders`, ready to apply.
    #[inline]
    pub fn request_edits(&self) -> &CompiledEdits {
        self.special
            .as_ref()
            .map_or(&CompiledEdits::NONE, |special| &special.request_edits)
    }

    /// `filters.responseHeaders`, ready to apply.
    #[inline]
    pub fn response_edits(&self) -> &CompiledEdits {
        self.special
            .as_ref()
            .map_or(&CompiledEdits::NONE, |special| &special.response_edits)
    }

    /// Its deadlines.
    #[inline]
    pub fn timeouts(&self) -> RouteTimeouts {
        self.special
            .as_ref()
            .map_or_else(RouteTimeouts::default, |special| special.timeouts)
    }

    /// The redirect it answers with, if it does.
    pub fn redirect(&self) -> Option<&Redirect> {
        match &self.written.route.action {
            Action::Redirect(redirect) => Some(redirect),
            Action::Forward { .. } | Action::Respond(_) => None,
        }
    }

    /// The response it answers with, if it does.
    pub fn respond(&self) -> Option<&Respond> {
        match &self.written.route.action {
            Action::Respond(respond) => Some(respond),
            Action::Forward { .. } | Action::Redirect(_) => None,
        }
    }

    /// Draws a cluster by weight: its position among those of [`Action::Forward`]. `None` when it redirects or responds.
    /// `random` gives a number uniform over all 64 bits.
    #[inline]
    pub fn pick(&self, random: impl FnOnce() -> u64) -> Option<usize> {
        match &self.clusters {
            Clusters::None => None,
            Clusters::One(_) => Some(0),
            Clusters::Several(clusters) => {
                let (_, total) = clusters.last()?;
                let drawn = draw(random(), *total);
                Some(clusters.partition_point(|&(_, sum)| sum <= drawn))
            }
        }
    }

    /// The name of a cluster that was picked.
    #[inline]
    pub fn cluster(&self, position: usize) -> &str {
        match &self.clusters {
            Clusters::None => "",
            Clusters::One(name) => name,
            Clusters::Several(clusters) => clusters.get(position).map_or("", |(name, _)| name),
        }
    }

    /// The path that is sent on, if it is another than the one that came.
    #[inline]
    pub fn path_rewrite(&self) -> Option<&PathRewrite> {
        self.special.as_ref()?.path.as_ref()
    }

    /// The host that is sent on.
    #[inline]
    pub fn host_rewrite(&self) -> &HostRewrite {
        self.special
            .as_ref()
            .map_or(&HostRewrite::Keep, |special| &special.host)
    }

    /// What consistent hashing hashes for this request: the first of the route's hash keys that is present.
    /// The same request gives the same number in every process.
    #[inline]
    pub fn hash_key(&self, request: &impl RequestView, source: Option<IpAddr>) -> Option<u64> {
        let keys = &self.special.as_ref()?.hash_keys;
        keys.iter().find_map(|key| keys::hash(key, request, source))
    }

    /// Whether everything but the path holds.
    #[inline]
    pub(super) fn takes(&self, request: &impl RequestView) -> bool {
        self.conditions()
            .is_none_or(|conditions| conditions.hold(request))
    }

    /// All conditions but the one on its path.
    #[inline]
    pub(super) fn conditions(&self) -> Option<&Conditions> {
        let special = self.special.as_ref()?;
        Some(&special.conditions).filter(|conditions| !conditions.is_empty())
    }

    /// Smaller is more specific; of the same, the one that stands first.
    pub(super) fn order(&self) -> impl Ord + use<> {
        (
            Specificity::new(self.written.pattern.order(), &self.written.route.matches),
            self.id,
        )
    }
}

impl Special {
    fn is_empty(&self) -> bool {
        self.conditions.is_empty()
            && self.path.is_none()
            && self.host == HostRewrite::Keep
            && self.hash_keys.is_empty()
            && self.request_edits.is_empty()
            && self.response_edits.is_empty()
            && self.timeouts == RouteTimeouts::default()
    }
}

/// The clusters' names of a table, each once.
#[derive(Default)]
pub(super) struct ClusterNames(HashSet<Arc<str>>);

impl ClusterNames {
    fn compile(&mut self, clusters: &[WeightedCluster]) -> Result<Clusters, Problem> {
        let mut sum = 0;
        let named: Box<[_]> = clusters
            .iter()
            .map(|cluster| {
                sum += u64::from(cluster.weight);
                (self.name(&cluster.cluster), sum)
            })
            .collect();
        match &*named {
            _ if sum == 0 => Err(no_weight(clusters)),
            [(only, _)] => Ok(Clusters::One(Arc::clone(only))),
            _ => Ok(Clusters::Several(named)),
        }
    }

    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        self.0.insert(Arc::clone(&name));
        name
    }
}

fn lower_case(key: &HashKey) -> HashKey {
    match key {
        HashKey::Header(name) => HashKey::Header(name.to_ascii_lowercase()),
        other => other.clone(),
    }
}

fn compile_all<S, T>(
    sources: &[S],
    at: &At<'_>,
    compile: impl Fn(&S) -> Result<T, Problem>,
    issues: &mut Issues,
) -> Box<[T]> {
    sources
        .iter()
        .enumerate()
        .filter_map(|(position, source)| issues.keep(&at.index(position), compile(source)))
        .collect()
}

/// What is wrong with clusters whose weights add up to nothing.
pub(crate) fn no_weight(clusters: &[WeightedCluster]) -> Problem {
    if clusters.is_empty() {
        Problem::new(
            IssueCode::Missing,
            "there is no cluster to forward to",
            "at least one cluster",
        )
    } else {
        Problem::new(
            IssueCode::OutOfRange,
            "all weights are 0",
            "at least one weight above 0",
        )
    }
}

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
