//! The routes of a table, with everything that can be known before a request comes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::filter::CompiledEdits;
use crate::issue::{At, IssueCode, Issues, Problem};
use crate::resources::{
    Action, HashKey, HostRewrite, PathRewrite, Redirect, Respond, Route, RouteTimeouts, WeightedCluster,
};

use super::conditions::{Condition, Conditions};
use super::specificity::{PathPattern, Specificity};
use super::{RequestView, draw, keys};

/// The routes of a table, by their numbers.
///
/// Where there are ten thousand, what each request reads of its own is what the cache can't hold, and it drives out what
/// the kernel has there: so that is eight bytes of a route, which stand beside the host where it has only one, and all else
/// is kept apart.
#[derive(Debug, Default)]
pub(super) struct Routes {
    brief: Vec<Brief>,
    special: Vec<Special>,
    /// The names of the clusters, each once.
    clusters: Vec<Arc<str>>,
    written: Vec<Written>,
}

/// What is read of a route for each request.
#[derive(Clone, Copy, Debug)]
struct Brief {
    /// Which of [`Routes::special`], or [`NONE`].
    special: u32,
    /// Which of [`Routes::clusters`]; [`NONE`] where it answers by itself, [`SEVERAL`] where [`Special::clusters`] are.
    cluster: u32,
}

/// There is none.
const NONE: u32 = u32::MAX;
/// There are several.
const SEVERAL: u32 = u32::MAX - 1;
/// It is not said here.
const ELSEWHERE: u32 = u32::MAX - 2;

/// Who takes what comes to a host, in eight bytes that lie beside its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taker {
    /// The number of a virtual host, or that of a route with [`ONLY`].
    number: u32,
    /// As [`Brief::cluster`] of that route, where it is nothing special; else [`ELSEWHERE`].
    cluster: u32,
}

/// Marks a number as that of a route: the only one of its host, which takes whatever comes. So it is in tables of many
/// hosts, and nothing else has to be looked at.
const ONLY: u32 = 1 << 31;

impl Taker {
    /// One of the routes of this virtual host.
    pub(super) fn any_of(virtual_host: u32) -> Self {
        Self {
            number: virtual_host,
            cluster: ELSEWHERE,
        }
    }

    /// The virtual host whose routes are to be asked; none where it is a route.
    #[inline]
    pub(super) fn virtual_host(self) -> Option<u32> {
        (self.number & ONLY == 0).then_some(self.number)
    }
}

/// Which of [`Routes::clusters`], and the running sum of the weights.
type Share = (u32, u64);

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
    /// Where they are several.
    clusters: Box<[Share]>,
}

/// How a route was written, and where it stands.
#[derive(Debug)]
struct Written {
    /// The position of its virtual host in the table.
    virtual_host: u32,
    /// Its place among the routes of its virtual host, the most specific first.
    rank: u32,
    pattern: PathPattern,
    name: Arc<str>,
    route: Route,
}

/// A route made ready for requests, borrowed from its table.
#[derive(Clone, Copy, Debug)]
pub struct CompiledRoute<'a> {
    routes: &'a Routes,
    id: u32,
    brief: Brief,
}

impl Routes {
    /// None yet, with room for so many.
    pub(super) fn with_capacity(count: usize) -> Self {
        Self {
            brief: Vec::with_capacity(count),
            written: Vec::with_capacity(count),
            ..Self::default()
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> u32 {
        self.brief.len() as u32
    }

    /// The route of this number.
    #[inline]
    pub(super) fn get(&self, id: u32) -> Option<CompiledRoute<'_>> {
        let brief = *self.brief.get(id as usize)?;
        Some(CompiledRoute {
            routes: self,
            id,
            brief,
        })
    }

    /// This route, as the one that takes all of its host.
    pub(super) fn taker(&self, id: u32) -> Taker {
        let brief = self.brief.get(id as usize);
        let plain = brief.filter(|brief| brief.special == NONE);
        Taker {
            number: id | ONLY,
            cluster: plain.map_or(ELSEWHERE, |brief| brief.cluster),
        }
    }

    /// The route that takes all of a host.
    #[inline]
    pub(super) fn only(&self, taker: Taker) -> Option<CompiledRoute<'_>> {
        let id = taker.number & !ONLY;
        match taker.cluster {
            ELSEWHERE => self.get(id),
            cluster => Some(CompiledRoute {
                routes: self,
                id,
                brief: Brief {
                    special: NONE,
                    cluster,
                },
            }),
        }
    }

    /// All of them, by their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = CompiledRoute<'_>> {
        (0..self.len()).filter_map(|id| self.get(id))
    }

    /// Says that a route is this place among those of its virtual host.
    pub(super) fn rank(&mut self, id: u32, rank: u32) {
        if let Some(written) = self.written.get_mut(id as usize) {
            written.rank = rank;
        }
    }

    /// Compiles one more; its rank is said when its virtual host is complete.
    pub(super) fn push(
        &mut self,
        virtual_host: u32,
        name: Arc<str>,
        route: &Route,
        clusters: &mut ClusterNames,
        at: &At<'_>,
        issues: &mut Issues,
    ) {
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
        let (cluster, several) = match &route.action {
            Action::Forward { to } => issues
                .keep(
                    &at.key("action").key("to"),
                    clusters.compile(to, &mut self.clusters),
                )
                .unwrap_or((NONE, [].into())),
            Action::Redirect(_) | Action::Respond(_) => (NONE, [].into()),
        };
        let special = Special {
            conditions,
            path: filters.rewrite_path.clone(),
            host: filters.host.clone(),
            hash_keys: route.hash_key.iter().map(lower_case).collect(),
            request_edits: CompiledEdits::new(&filters.request_headers),
            response_edits: CompiledEdits::new(&filters.response_headers),
            timeouts: route.timeouts,
            clusters: several,
        };
        let mut brief = Brief {
            special: NONE,
            cluster,
        };
        if !special.is_empty() {
            brief.special = self.special.len() as u32;
            self.special.push(special);
        }
        self.brief.push(brief);
        self.written.push(Written {
            virtual_host,
            rank: 0,
            pattern,
            name,
            route: route.clone(),
        });
    }
}

impl<'a> CompiledRoute<'a> {
    /// Its position in the table, counted over all virtual hosts.
    #[inline]
    pub fn id(self) -> u32 {
        self.id
    }

    #[inline]
    fn special(self) -> Option<&'a Special> {
        match self.brief.special {
            NONE => None,
            at => self.routes.special.get(at as usize),
        }
    }

    fn as_written(self) -> &'a Written {
        // One is pushed with each route.
        &self.routes.written[self.id as usize]
    }

    /// The position of its virtual host in the table.
    pub fn virtual_host(self) -> u32 {
        self.as_written().virtual_host
    }

    /// Its place among the routes of its virtual host, the most specific first.
    pub(super) fn place(self) -> u32 {
        self.as_written().rank
    }

    /// The condition on its path.
    pub(super) fn pattern(self) -> &'a PathPattern {
        &self.as_written().pattern
    }

    /// Its name, unique in the table: the one it was given, or one made from its match.
    pub fn name(self) -> &'a Arc<str> {
        &self.as_written().name
    }

    /// The route as it was written.
    pub fn written(self) -> &'a Route {
        &self.as_written().route
    }

    /// `filters.requestHeaders`, ready to apply.
    #[inline]
    pub fn request_edits(self) -> &'a CompiledEdits {
        self.special()
            .map_or(&CompiledEdits::NONE, |special| &special.request_edits)
    }

    /// `filters.responseHeaders`, ready to apply.
    #[inline]
    pub fn response_edits(self) -> &'a CompiledEdits {
        self.special()
            .map_or(&CompiledEdits::NONE, |special| &special.response_edits)
    }

    /// Its deadlines.
    #[inline]
    pub fn timeouts(self) -> RouteTimeouts {
        self.special()
            .map_or_else(RouteTimeouts::default, |special| special.timeouts)
    }

    /// The redirect it answers with, if it does.
    pub fn redirect(self) -> Option<&'a Redirect> {
        match &self.written().action {
            Action::Redirect(redirect) => Some(redirect),
            Action::Forward { .. } | Action::Respond(_) => None,
        }
    }

    /// The response it answers with, if it does.
    pub fn respond(self) -> Option<&'a Respond> {
        match &self.written().action {
            Action::Respond(respond) => Some(respond),
            Action::Forward { .. } | Action::Redirect(_) => None,
        }
    }

    /// Draws a cluster by weight: its position among those of [`Action::Forward`]. `None` when it redirects or responds.
    /// `random` gives a number uniform over all 64 bits.
    #[inline]
    pub fn pick(self, random: impl FnOnce() -> u64) -> Option<usize> {
        match self.brief.cluster {
            NONE => None,
            SEVERAL => {
                let clusters = &self.special()?.clusters;
                let (_, total) = clusters.last()?;
                let drawn = draw(random(), *total);
                Some(clusters.partition_point(|&(_, sum)| sum <= drawn))
            }
            _ => Some(0),
        }
    }

    /// The name of a cluster that was picked.
    #[inline]
    pub fn cluster(self, position: usize) -> &'a str {
        let several = || self.special()?.clusters.get(position);
        let at = match self.brief.cluster {
            SEVERAL => several().map_or(NONE, |&(at, _)| at),
            at => at,
        };
        self.routes.clusters.get(at as usize).map_or("", |name| name)
    }

    /// The path that is sent on, if it is another than the one that came.
    #[inline]
    pub fn path_rewrite(self) -> Option<&'a PathRewrite> {
        self.special()?.path.as_ref()
    }

    /// The host that is sent on.
    #[inline]
    pub fn host_rewrite(self) -> &'a HostRewrite {
        self.special().map_or(&HostRewrite::Keep, |special| &special.host)
    }

    /// What consistent hashing hashes for this request: the first of the route's hash keys that is present.
    /// The same request gives the same number in every process.
    #[inline]
    pub fn hash_key(self, request: &impl RequestView, source: Option<IpAddr>) -> Option<u64> {
        let keys = &self.special()?.hash_keys;
        keys.iter().find_map(|key| keys::hash(key, request, source))
    }

    /// Whether everything but the path holds.
    #[inline]
    pub(super) fn takes(self, request: &impl RequestView) -> bool {
        self.conditions()
            .is_none_or(|conditions| conditions.hold(request))
    }

    /// All conditions but the one on its path.
    #[inline]
    pub(super) fn conditions(self) -> Option<&'a Conditions> {
        Some(&self.special()?.conditions).filter(|conditions| !conditions.is_empty())
    }

    /// Smaller is more specific; of the same, the one that stands first.
    pub(super) fn order(self) -> impl Ord + use<> {
        (
            Specificity::new(self.pattern().order(), &self.written().matches),
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
            && self.clusters.is_empty()
    }
}

/// Where the names of a table's clusters stand.
#[derive(Default)]
pub(super) struct ClusterNames(HashMap<Arc<str>, u32>);

impl ClusterNames {
    /// What [`Brief::cluster`] and [`Special::clusters`] say of these.
    fn compile(
        &mut self,
        clusters: &[WeightedCluster],
        names: &mut Vec<Arc<str>>,
    ) -> Result<(u32, Box<[Share]>), Problem> {
        let mut sum = 0;
        let numbered: Box<[_]> = clusters
            .iter()
            .map(|cluster| {
                sum += u64::from(cluster.weight);
                (self.number(&cluster.cluster, names), sum)
            })
            .collect();
        match &*numbered {
            _ if sum == 0 => Err(no_weight(clusters)),
            [(only, _)] => Ok((*only, [].into())),
            _ => Ok((SEVERAL, numbered)),
        }
    }

    fn number(&mut self, name: &str, names: &mut Vec<Arc<str>>) -> u32 {
        if let Some(known) = self.0.get(name) {
            return *known;
        }
        let number = names.len() as u32;
        let name: Arc<str> = name.into();
        names.push(Arc::clone(&name));
        self.0.insert(name, number);
        number
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
