//! What of the mesh does this workload need, what has the control plane said of it, and what is to be in force?
//!
//! ```text
//!   a name that is called ──> LDS name:port ──> RDS its table ──> CDS its clusters ──> EDS their endpoints ──> live
//! ```
//!
//! Pure: names and messages go in, wishes for subscriptions and whole configurations come out. A name goes live when all
//! that it needs is there, and stays as it was while something newer is on its way. Names that the control plane does
//! not know are outside the mesh: they are looked up by DNS, unless only services of the mesh may be called. They stay
//! asked for, so that nothing goes around the mesh from the moment at which it has a service of that name ([`outside`]).

mod lookups;
mod outside;
mod refused;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use mesh_identity::TrustBundle;
use mesh_model::issue::PathStep;
use mesh_model::policy::{AuthorizationPolicy, PolicyDefault};
use mesh_model::resources::{Action, ClientTls, Cluster, Discovery, Endpoints, Resources, RouteTable};
use mesh_model::validate::validate;
use mesh_proxy::tls::check_roots;
use mesh_xds::kind::Kind;
use mesh_xds::translate::{ServiceListener, Translate, TrustRoots, WorkloadListener};
use mesh_xds::wire::Any;

use self::lookups::Sought;
pub(crate) use self::outside::Answer;
use self::outside::{Egress, Host, Told, is_of_all_ports};
use self::refused::Tried;
use super::own;
use super::settings::Workload;
use super::state::Owner;

/// The secret with the roots that workloads are judged by.
pub(crate) const ROOTS: &str = "mesh/roots";
/// Clusters of one route table: each is subscribed to, and looked at whenever something changes.
const MAX_CLUSTERS: usize = 256;

/// What is known, and what is wished for.
pub(crate) struct Feed {
    workload: Workload,
    own: Option<WorkloadListener>,
    roots: Option<String>,
    names: BTreeMap<String, Name>,
    /// What was said of hosts, by `host:*`.
    hosts: BTreeMap<String, Host>,
    /// Names of which nothing is known but that their hosts are of the mesh, and when their askers are to be told so, unless
    /// more is said of them.
    undeclared: BTreeMap<String, Told>,
    tables: BTreeMap<String, RouteTable>,
    clusters: BTreeMap<String, Cluster>,
    endpoints: BTreeMap<String, Endpoints>,
    tried: Tried,
    sought: Sought,
    /// Whether servers can be judged by roots of the system.
    has_system_roots: bool,
}

/// A name that is called.
#[derive(Default)]
struct Name {
    /// The table that the control plane names for it.
    table: Option<String>,
    /// The table that is in force, complete when it was taken.
    live: Option<RouteTable>,
    /// Whether nobody knows it.
    is_unknown: bool,
    /// Where it is when it is outside the mesh.
    egress: Option<Egress>,
    /// Whether the control plane took back what it leads by: nothing is on its way that somebody could wait for.
    gone: bool,
    /// Whether whoever asked was told.
    answered: bool,
    /// Since when it was seen to be neither live nor asked for.
    dark: Option<Instant>,
    /// Why it is left out of what is in force.
    refused: Option<String>,
    /// Whether it was in what came into force last.
    is_in_force: bool,
}

/// What of a table is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Called<'a> {
    /// Somebody else, by this cluster.
    Cluster(&'a str),
    /// The route of this name, which answers by itself.
    Answer(&'a str),
}

impl Feed {
    /// Nothing is known yet.
    pub(crate) fn new(workload: Workload) -> Self {
        Self {
            workload,
            own: None,
            roots: None,
            names: BTreeMap::new(),
            hosts: BTreeMap::new(),
            undeclared: BTreeMap::new(),
            tables: BTreeMap::new(),
            clusters: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            tried: Tried::default(),
            sought: Sought::default(),
            has_system_roots: false,
        }
    }

    /// Somebody calls a name.
    pub(crate) fn want(&mut self, name: &str) {
        let known = self.names.entry(name.to_owned()).or_default();
        known.answered = false;
        known.dark = None;
    }

    /// The clusters that names lead to.
    pub(crate) fn in_use(&self) -> BTreeSet<&str> {
        self.live().flat_map(clusters_of).collect()
    }

    /// The routes of names that answer by themselves.
    pub(crate) fn answers_in_use(&self) -> BTreeSet<&str> {
        self.live().flat_map(answers_of).collect()
    }

    fn live(&self) -> impl Iterator<Item = &RouteTable> {
        self.names.values().filter_map(|name| name.live.as_ref())
    }

    /// Nobody calls these any more: names that need no other go. So do those that lead nowhere, and that nobody has asked
    /// for in `span`.
    pub(crate) fn forget(&mut self, now: Instant, span: Duration, is_idle: impl Fn(Called<'_>) -> bool) {
        self.names.retain(|_, name| {
            if !name.answered {
                name.dark = None;
                return true;
            }
            let live = name.live.iter();
            let mut called = live.flat_map(called_of).peekable();
            if called.peek().is_none() {
                let since = *name.dark.get_or_insert(now);
                return now.saturating_duration_since(since) < span;
            }
            name.dark = None;
            !called.all(&is_idle)
        });
    }

    /// What is to be subscribed to.
    pub(crate) fn wishes(&self) -> BTreeSet<(Kind, String)> {
        let mut wishes = BTreeSet::from([
            (Kind::Secret, ROOTS.to_owned()),
            (Kind::Listener, self.workload.identity.as_str().to_owned()),
        ]);
        for (name, known) in &self.names {
            wishes.insert((Kind::Listener, name.clone()));
            if known.table.is_none() {
                wishes.extend(self.asked_host(name).map(|host| (Kind::Listener, host)));
            }
            let Some(table) = &known.table else { continue };
            wishes.insert((Kind::RouteTable, table.clone()));
            let newest = self.tables.get(table);
            for cluster in newest.into_iter().chain(&known.live).flat_map(clusters_of) {
                wishes.insert((Kind::Cluster, cluster.to_owned()));
                if self.clusters.get(cluster).is_some_and(is_listed) {
                    wishes.insert((Kind::Endpoints, cluster.to_owned()));
                }
            }
        }
        wishes
    }

    /// Takes a resource.
    ///
    /// # Errors
    /// Why it can't be used; what was there before stays.
    pub(crate) fn accept(&mut self, kind: Kind, name: &str, any: &Any) -> Result<(), String> {
        fn read<T: Translate>(any: &Any) -> Result<T, String> {
            T::from_any(any).map_err(|refusal| refusal.to_string())
        }
        match kind {
            Kind::Secret => {
                let pem = read::<TrustRoots>(any)?.pem;
                let domain = self.workload.identity.trust_domain().clone();
                TrustBundle::from_pem(domain, pem.as_bytes()).map_err(|error| error.to_string())?;
                self.roots = Some(pem);
            }
            Kind::Listener if self.is_own(name) => {
                let own = read::<WorkloadListener>(any)?;
                sound(&own::resources(
                    &self.workload,
                    own.default_policy,
                    own.policies.clone(),
                    own.ports.as_ref(),
                ))?;
                // What was said of it by name holds once it is no more: see `nothing_is_said`.
                if !own.general || self.own.as_ref().is_none_or(|own| own.general) {
                    self.own = Some(own);
                }
            }
            Kind::Listener if is_of_all_ports(name) => {
                // It is of the mesh, be what is said of it refused.
                self.is_of_the_mesh(name);
                read::<ServiceListener>(any)?;
            }
            Kind::Listener => {
                if let Some(known) = self.names.get_mut(name) {
                    known.gone = false;
                    known.is_unknown = false;
                    // It is of the mesh now, be it refused. Calls wait for all of it rather than go around.
                    if known.egress.take().is_some() {
                        known.live = None;
                    }
                }
                let listener = read::<ServiceListener>(any)?;
                if let Some(known) = self.names.get_mut(name)
                    && known.table.as_ref() != Some(&listener.route_table)
                {
                    known.table = Some(listener.route_table);
                    self.tried.changed(kind, name);
                }
            }
            Kind::RouteTable => {
                let table = read::<RouteTable>(any)?;
                let clusters: BTreeSet<_> = clusters_of(&table).collect();
                if clusters.len() > MAX_CLUSTERS {
                    let count = clusters.len();
                    return Err(format!("leads to {count} clusters, {MAX_CLUSTERS} are taken"));
                }
                sound(&Resources {
                    // Several routes may lead to one.
                    clusters: clusters.into_iter().map(Cluster::new).collect(),
                    route_tables: vec![table.clone()],
                    ..Resources::default()
                })?;
                if self.tables.get(name) != Some(&table) {
                    self.tables.insert(name.to_owned(), table);
                    self.tried.changed(kind, name);
                }
            }
            Kind::Cluster => {
                if own::is_own(name) {
                    return Err("clusters of this sidecar are called so".to_owned());
                }
                let cluster = read::<Cluster>(any)?;
                sound(&Resources {
                    clusters: vec![cluster.clone()],
                    ..Resources::default()
                })?;
                if let Some(tls) = &cluster.tls {
                    self.check_roots(tls)?;
                }
                if self.clusters.get(name) != Some(&cluster) {
                    let before = self.clusters.insert(name.to_owned(), cluster);
                    self.changed_from(name, before);
                    self.tried.changed(kind, name);
                }
            }
            Kind::Endpoints => {
                let endpoints = read::<Endpoints>(any)?;
                let cluster = self.clusters.get(name).filter(|cluster| is_listed(cluster));
                sound(&Resources {
                    clusters: vec![cluster.cloned().unwrap_or_else(|| Cluster::new(name))],
                    endpoints: vec![endpoints.clone()],
                    ..Resources::default()
                })?;
                if self.endpoints.get(name) != Some(&endpoints) {
                    self.endpoints.insert(name.to_owned(), endpoints);
                    self.tried.changed(kind, name);
                }
            }
        }
        Ok(())
    }

    /// Whether a server can be judged. The system's roots are looked for until they are found.
    fn check_roots(&mut self, tls: &ClientTls) -> Result<(), String> {
        if tls.roots.is_some() || !self.has_system_roots {
            let tls_path = [PathStep::Key("tls".into())];
            check_roots(tls.roots.as_ref(), &tls_path).map_err(|issue| issue.to_string())?;
            self.has_system_roots |= tls.roots.is_none();
        }
        Ok(())
    }

    /// A resource is no more.
    pub(crate) fn removed(&mut self, kind: Kind, name: &str) {
        self.tried.changed(kind, name);
        match kind {
            Kind::Secret => {}
            Kind::Listener if self.is_own(name) => self.nothing_is_said(),
            Kind::Listener if is_of_all_ports(name) => self.host_removed(name),
            Kind::Listener => {
                if let Some(known) = self.names.get_mut(name) {
                    known.table = None;
                    known.live = None;
                    known.gone = true;
                }
            }
            Kind::RouteTable => drop(self.tables.remove(name)),
            Kind::Cluster => drop(self.clusters.remove(name)),
            Kind::Endpoints => drop(self.endpoints.remove(name)),
        }
    }

    /// Whether a listener says who may call this workload.
    pub(crate) fn is_own(&self, listener: &str) -> bool {
        listener == self.workload.identity.as_str()
    }

    /// Whether it was ever said who may call.
    pub(crate) fn knows_who_may_call(&self) -> bool {
        self.own.is_some()
    }

    /// The control plane says that it has nothing of who may call. What it said last holds: a service that is taken out or renamed
    /// opens to nobody while its copies run. Where it never said anything, whoever has an identity may.
    fn nothing_is_said(&mut self) {
        self.own.get_or_insert_with(|| WorkloadListener {
            name: self.workload.identity.as_str().to_owned(),
            general: true,
            default_policy: PolicyDefault::AllowAuthenticated,
            policies: Vec::new(),
            ports: None,
        });
    }

    /// The roots to judge workloads by, once after each change.
    pub(crate) fn take_roots(&mut self) -> Option<String> {
        self.roots.take()
    }

    /// What is to be in force, without the names that are left out or await a lookup; nothing before it is known who may call.
    pub(crate) fn resources(&mut self) -> Option<Resources> {
        self.go_live();
        self.go_on_from_serving();
        self.try_again();
        let own = self.own.as_ref()?;
        let mut resources = own::resources(
            &self.workload,
            own.default_policy,
            own.policies.clone(),
            own.ports.as_ref(),
        );
        let mut used = BTreeSet::new();
        for (name, known) in self.names.iter().filter(|(_, known)| known.refused.is_none()) {
            let Some(table) = known.live.as_ref().filter(|_| !self.awaits_lookup(known)) else {
                continue;
            };
            resources.route_tables.push(RouteTable {
                name: name.clone(),
                ..table.clone()
            });
            if let Some((cluster, endpoints)) = &known.egress {
                resources.clusters.push(cluster.clone());
                resources.endpoints.extend(endpoints.clone());
            } else {
                used.extend(clusters_of(table));
            }
        }
        for name in used {
            if let Some((cluster, endpoints)) = self.serving(name) {
                resources.clusters.push(cluster.clone());
                resources.endpoints.extend(endpoints.clone());
                continue;
            }
            resources.clusters.extend(self.clusters.get(name).cloned());
            resources.endpoints.extend(self.endpoints.get(name).cloned());
        }
        self.note_order(&resources);
        Some(resources)
    }

    /// Takes what is complete. What is not stays as it was, as long as its clusters are there.
    fn go_live(&mut self) {
        for known in self.names.values_mut().filter(|known| known.egress.is_none()) {
            let is_whole = |table: &RouteTable| {
                clusters_of(table).all(|name| match self.clusters.get(name) {
                    Some(cluster) => !is_listed(cluster) || self.endpoints.contains_key(name),
                    None => false,
                })
            };
            let newest = known.table.as_ref().and_then(|table| self.tables.get(table));
            match newest.filter(|table| is_whole(table)) {
                Some(table) => {
                    known.gone = false;
                    if known.live.as_ref() != Some(table) {
                        known.live = Some(table.clone());
                    }
                }
                None if known.live.as_ref().is_some_and(|live| !is_whole(live)) => {
                    known.live = None;
                    known.gone = true;
                }
                None => {}
            }
        }
        self.tell_apart();
    }

    /// The names that are live and whose askers were not told yet.
    pub(crate) fn take_answers(&mut self) -> Vec<String> {
        self.take_told(|feed, (_, known)| {
            known.live.is_some() && known.refused.is_none() && !feed.awaits_lookup(known)
        })
    }

    /// The names that are left out, or of which something was refused and nothing good is there, and whose askers were not
    /// told yet: they are to be told so, since nothing is on its way.
    pub(crate) fn take_unusable(&mut self, is_refused: impl Fn(Kind, &str) -> bool) -> Vec<String> {
        self.take_told(|feed, (name, known)| match known.live {
            Some(_) => known.refused.is_some(),
            None => feed.lacks(name, known, &is_refused),
        })
    }

    /// Whether what a name still needs is there and was refused.
    fn lacks(&self, name: &str, known: &Name, is_refused: impl Fn(Kind, &str) -> bool) -> bool {
        let Some(table) = &known.table else {
            return is_refused(Kind::Listener, name);
        };
        let Some(newest) = self.tables.get(table) else {
            return is_refused(Kind::RouteTable, table);
        };
        clusters_of(newest).any(|name| match self.clusters.get(name) {
            Some(cluster) if !is_listed(cluster) || self.endpoints.contains_key(name) => false,
            Some(_) => is_refused(Kind::Endpoints, name),
            None => is_refused(Kind::Cluster, name),
        })
    }

    /// The names that are no more, as nothing of their hosts is, and whose askers were not told yet. They are told that
    /// nobody knows them.
    pub(crate) fn take_gone(&mut self) -> Vec<String> {
        self.take_gone_of(Host::Outside)
    }

    /// The names that are no more, whose hosts are this, and whose askers were not told yet.
    fn take_gone_of(&mut self, is: Host) -> Vec<String> {
        self.take_told(|feed, (name, known)| known.gone && feed.host_of_gone(name, known) == Some(is))
    }

    fn take_told(&mut self, is: impl Fn(&Self, (&str, &Name)) -> bool) -> Vec<String> {
        let waiting = self.names.iter().filter(|(_, known)| !known.answered);
        let told = waiting.filter(|(name, known)| is(self, (name, known)));
        let told: Vec<_> = told.map(|(name, _)| name.clone()).collect();
        for name in &told {
            if let Some(known) = self.names.get_mut(name) {
                known.answered = true;
            }
        }
        told
    }

    /// What is kept for a start without a control plane, which was heard of last at this time.
    pub(crate) fn kept(&self, heard_at: Option<u64>) -> Kept {
        let own = self.own.as_ref();
        let live = self.names.iter().filter_map(|(name, known)| {
            let table = known.live.clone().filter(|_| known.egress.is_none())?;
            let source = known.table.clone()?;
            Some((name.clone(), source, table))
        });
        Kept {
            of: Owner::default(),
            heard_at,
            general: own.is_some_and(|own| own.general),
            default_policy: own.map(|own| own.default_policy),
            policies: own.map(|own| own.policies.clone()).unwrap_or_default(),
            ports: own.and_then(|own| own.ports.clone()),
            names: live.collect(),
            clusters: self.clusters.values().cloned().collect(),
            endpoints: self.endpoints.values().cloned().collect(),
        }
    }

    /// Takes up what was kept, until the control plane says something newer.
    pub(crate) fn restore(&mut self, kept: Kept) {
        self.own = kept.default_policy.map(|default_policy| WorkloadListener {
            name: self.workload.identity.as_str().to_owned(),
            general: kept.general,
            default_policy,
            policies: kept.policies,
            ports: kept.ports,
        });
        for (name, source, table) in kept.names {
            let known = self.names.entry(name.clone()).or_default();
            known.answered = true;
            known.live = Some(table.clone());
            known.table = Some(source.clone());
            self.tables.insert(source, table);
            self.tried.changed(Kind::Listener, &name);
        }
        self.clusters = kept.clusters.into_iter().map(|c| (c.name.clone(), c)).collect();
        self.endpoints = kept
            .endpoints
            .into_iter()
            .map(|e| (e.cluster.clone(), e))
            .collect();
    }
}

/// What a sidecar that starts alone goes by.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Kept {
    /// Whose it is. Who keeps it says so.
    pub(crate) of: Owner,
    /// When the control plane was heard of last, in seconds since 1970.
    #[serde(default)]
    pub(crate) heard_at: Option<u64>,
    /// Whether the policies are those of workloads that nothing is said of by name.
    #[serde(default)]
    general: bool,
    default_policy: Option<PolicyDefault>,
    policies: Vec<AuthorizationPolicy>,
    /// The ports that it may be called by; absent where nothing was said of them.
    #[serde(default)]
    ports: Option<BTreeSet<u16>>,
    /// Each name, its table at the control plane, and the table.
    names: Vec<(String, String, RouteTable)>,
    clusters: Vec<Cluster>,
    endpoints: Vec<Endpoints>,
}

impl Kept {
    /// Whether it says the same, of whatever time.
    pub(crate) fn says_as_much_as(&self, other: &Self) -> bool {
        let dated = Self {
            heard_at: other.heard_at,
            ..self.clone()
        };
        dated == *other
    }
}

fn is_listed(cluster: &Cluster) -> bool {
    cluster.discovery == Discovery::Endpoints
}

fn clusters_of(table: &RouteTable) -> impl Iterator<Item = &str> {
    let routes = table.virtual_hosts.iter().flat_map(|host| &host.routes);
    routes.flat_map(|route| match &route.action {
        Action::Forward { to } => to.iter().map(|to| to.cluster.as_str()).collect(),
        _ => Vec::new(),
    })
}

/// The routes that answer by themselves.
fn answers_of(table: &RouteTable) -> impl Iterator<Item = &str> {
    let routes = table.virtual_hosts.iter().flat_map(|host| &host.routes);
    let answers = routes.filter(|route| !matches!(route.action, Action::Forward { .. }));
    answers.map(|route| route.name.as_str())
}

fn called_of(table: &RouteTable) -> impl Iterator<Item = Called<'_>> {
    let clusters = clusters_of(table).map(Called::Cluster);
    clusters.chain(answers_of(table).map(Called::Answer))
}

/// What is wrong with resources, in one line.
fn sound(resources: &Resources) -> Result<(), String> {
    let issues = validate(resources);
    match issues.is_empty() {
        true => Ok(()),
        false => Err(issues
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")),
    }
}
