//! How is a name server asked?
//!
//! With the system's settings (`/etc/resolv.conf`, `/etc/hosts`), read again when these files change; other name servers
//! may be given. Names that stand in the hosts file are not asked for. Short names go through the search list, both
//! address families of one candidate before the next candidate, as the C library does it.
//!
//! Nothing is cached here: when a name is asked for again is decided elsewhere, and then an old answer is of no use.
//! Invariant: every lookup ends within [`DEADLINE`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, TokioResolver};

use super::answer::{Failure, Family, LookupError, Question, Reply};
use super::endpoints::{MOST_ENDPOINTS, Target};
use crate::stamp::Stamp;

/// The end of every lookup, whatever the system's settings say of attempts and search lists.
const DEADLINE: Duration = Duration::from_secs(10);
/// The longest one query may take; `options timeout:` may say less.
const MOST_TIMEOUT: Duration = Duration::from_secs(3);
/// Attempts at most; `options attempts:` may say less.
const MOST_ATTEMPTS: usize = 3;
/// How long the other address family is waited for when one has answered: some name servers never answer AAAA.
const GRACE: Duration = Duration::from_secs(2);
/// The life of what stands in the hosts file or is an address already. The file is looked at with every lookup.
const STATIC_TTL: Duration = Duration::from_secs(30);

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// Asks name servers.
pub(super) struct Resolver {
    servers: Vec<SocketAddr>,
    built: Option<(Arc<Built>, [Option<Stamp>; 2])>,
}

/// What one state of the system's files makes.
struct Built {
    /// Why nobody can be asked.
    client: Result<TokioResolver, Failure>,
    hosts: Hosts,
    search: Vec<Name>,
    ndots: usize,
}

impl Resolver {
    /// Asks these name servers, or the system's where there are none.
    pub(super) fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, built: None }
    }

    /// A lookup, to be run on a task. A `stat` of two files each.
    pub(super) fn lookup(&mut self, question: Question) -> impl Future<Output = Reply> + Send + use<> {
        let stamps = [Stamp::of_file(RESOLV_CONF), Stamp::of_file(HOSTS)];
        let built = match &self.built {
            Some((built, seen)) if *seen == stamps => Arc::clone(built),
            _ => {
                let built = Arc::new(Built::new(&self.servers));
                self.built = Some((Arc::clone(&built), stamps));
                built
            }
        };
        async move {
            let answer = async {
                match &question {
                    Question::Host(name) => built.host(name).await,
                    Question::Service(name) => built.service(name).await,
                }
            };
            tokio::time::timeout(DEADLINE, answer)
                .await
                .unwrap_or_else(|_| Reply::Failed(LookupError::Timeout.into()))
        }
    }
}

impl Built {
    fn new(servers: &[SocketAddr]) -> Self {
        let system = read_system_conf();
        let (config, options) = match system {
            Ok((config, options)) => (Ok(config), options),
            Err(error) => (Err(error), ResolverOpts::default()),
        };
        let (search, ndots) = match &config {
            // The domain stands in the search list where it counts.
            Ok(config) => (config.search().to_vec(), options.ndots),
            Err(_) => (Vec::new(), options.ndots),
        };
        let servers = if servers.is_empty() {
            config
                .map(|config| config.name_servers().to_vec())
                .map_err(|error| {
                    let text = format!("{RESOLV_CONF} names no name server: {error}");
                    LookupError::Failed(text.into()).into()
                })
        } else {
            Ok(servers.iter().map(|server| name_server(*server)).collect())
        };
        Self {
            client: servers.and_then(|servers| client(servers, options)),
            hosts: Hosts::from_system().unwrap_or_default(),
            search,
            ndots,
        }
    }

    /// The full names to try, in order (resolv.conf(5), `ndots` and `search`).
    fn candidates(&self, name: &str) -> Result<Vec<Name>, Failure> {
        let bad = |_| Failure::from(LookupError::Failed(format!("`{name}` is no DNS name").into()));
        let mut full = Name::from_ascii(name).map_err(bad)?;
        if name.ends_with('.') {
            return Ok(vec![full]);
        }
        let searched = self
            .search
            .iter()
            // Where the two together are too long there is no such name.
            .filter_map(|domain| full.clone().append_domain(domain).ok());
        let mut names: Vec<Name> = searched.collect();
        full.set_fqdn(true);
        let dots = name.bytes().filter(|b| *b == b'.').count();
        let at = if dots >= self.ndots { 0 } else { names.len() };
        names.insert(at, full);
        names.iter_mut().for_each(|name| name.set_fqdn(true));
        Ok(names)
    }

    async fn host(&self, name: &str) -> Reply {
        if let Ok(ip) = name.parse::<IpAddr>() {
            return of_addresses(vec![ip], STATIC_TTL);
        }
        let candidates = match self.candidates(name) {
            Ok(candidates) => candidates,
            Err(failure) => return Reply::Failed(failure),
        };
        let mut failed = None;
        for candidate in candidates {
            let known = self.in_hosts_file(&candidate);
            if !known.is_empty() {
                return of_addresses(known, STATIC_TTL);
            }
            let client = match &self.client {
                Ok(client) => client,
                Err(failure) => return Reply::Failed(failure.clone()),
            };
            let (v4, v6) = both(
                family(client, candidate.clone(), RecordType::A),
                family(client, candidate, RecordType::AAAA),
            )
            .await;
            match (v4, v6) {
                (Family::Failed(_), Family::Failed(_)) if failed.is_some() => {}
                (v4 @ Family::Failed(_), v6 @ Family::Failed(_)) => failed = Some(Reply::Host(v4, v6)),
                (v4, v6) => return with_a_way(v4, v6),
            }
        }
        failed.unwrap_or_else(|| Reply::Failed(LookupError::NotFound.into()))
    }

    async fn service(&self, name: &str) -> Reply {
        let candidates = match self.candidates(name) {
            Ok(candidates) => candidates,
            Err(failure) => return Reply::Failed(failure),
        };
        let client = match &self.client {
            Ok(client) => client,
            Err(failure) => return Reply::Failed(failure.clone()),
        };
        let mut failed = None;
        for candidate in candidates {
            match records(client, candidate, RecordType::SRV).await {
                Ok((records, ttl)) => {
                    let mut targets: Vec<_> = records.iter().filter_map(target).collect();
                    targets.sort();
                    targets.dedup();
                    targets.truncate(MOST_ENDPOINTS);
                    // A single "." says that there is decidedly no such service (RFC 2782).
                    targets.retain(|target| !target.host.is_empty());
                    return Reply::Service(targets, ttl);
                }
                Err(failure) => {
                    failed.get_or_insert(failure);
                }
            }
        }
        Reply::Failed(failed.unwrap_or_else(|| LookupError::NotFound.into()))
    }

    fn in_hosts_file(&self, name: &Name) -> Vec<IpAddr> {
        [RecordType::A, RecordType::AAAA]
            .into_iter()
            .filter_map(|kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind)))
            .flat_map(|lookup| lookup.answers().iter().filter_map(address).collect::<Vec<_>>())
            .collect()
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn client(servers: Vec<NameServerConfig>, system: ResolverOpts) -> Result<TokioResolver, Failure> {
    let config = ResolverConfig::from_name_servers(servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    *options = system;
    options.timeout = options.timeout.min(MOST_TIMEOUT);
    options.attempts = options.attempts.min(MOST_ATTEMPTS);
    options.cache_size = 0;
    // Done here, for both families at once.
    options.use_hosts_file = ResolveHosts::Never;
    builder.build().map_err(|error| failure(&error))
}

/// An answer of addresses that are known without asking anybody.
fn of_addresses(addresses: Vec<IpAddr>, ttl: Duration) -> Reply {
    let (v4, v6): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv4);
    let family = |addresses: Vec<IpAddr>| {
        if addresses.is_empty() {
            Family::Failed(LookupError::NoRecords.into())
        } else {
            Family::Found(addresses, ttl)
        }
    };
    Reply::Host(family(v4), family(v6))
}

/// Waits for both; when one has found something, for the other only so much longer.
async fn both(v4: impl Future<Output = Family>, v6: impl Future<Output = Family>) -> (Family, Family) {
    let (mut v4, mut v6) = (pin!(v4), pin!(v6));
    tokio::select! {
        v4 = &mut v4 => {
            let v6 = rest(&v4, v6).await;
            (v4, v6)
        }
        v6 = &mut v6 => {
            let v4 = rest(&v6, v4).await;
            (v4, v6)
        }
    }
}

async fn rest(first: &Family, other: impl Future<Output = Family>) -> Family {
    match first {
        Family::Failed(_) => other.await,
        Family::Found(..) => tokio::time::timeout(GRACE, other)
            .await
            .unwrap_or_else(|_| Family::Failed(LookupError::Timeout.into())),
    }
}

/// Leaves a family out that this machine has no way to, when it has one to the other: most hosts with an AAAA record are
/// called from machines without IPv6, and each of those calls would begin with a failure.
fn with_a_way(v4: Family, v6: Family) -> Reply {
    let (Family::Found(a, a_ttl), Family::Found(b, b_ttl)) = (&v4, &v6) else {
        return Reply::Host(v4, v6);
    };
    let none = || Family::Failed(LookupError::NoRecords.into());
    let some = |ips: Vec<IpAddr>, ttl: &Duration| match ips.is_empty() {
        true => none(),
        false => Family::Found(ips, *ttl),
    };
    let (a, b) = (with_routes(a), with_routes(b));
    if a.is_empty() && b.is_empty() {
        return Reply::Host(v4, v6);
    }
    Reply::Host(some(a, a_ttl), some(b, b_ttl))
}

/// The addresses of one family to which there is a route. To connect a UDP socket asks the kernel and sends nothing.
fn with_routes(ips: &[IpAddr]) -> Vec<IpAddr> {
    /// Any will do; this one is for what is thrown away.
    const DISCARD: u16 = 9;
    let local: IpAddr = match ips.first() {
        Some(IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    };
    let socket = match UdpSocket::bind((local, 0)) {
        Ok(socket) => socket,
        Err(error) if no_way(&error) => return Vec::new(),
        Err(_) => return ips.to_vec(),
    };
    let routed = |ip: &&IpAddr| !socket.connect((**ip, DISCARD)).is_err_and(|error| no_way(&error));
    ips.iter().filter(routed).copied().collect()
}

fn no_way(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkUnreachable};
    // EAFNOSUPPORT is 97 on Linux and 47 on macOS.
    matches!(error.raw_os_error(), Some(97 | 47))
        || matches!(
            error.kind(),
            AddrNotAvailable | HostUnreachable | NetworkUnreachable
        )
}

async fn family(client: &TokioResolver, name: Name, kind: RecordType) -> Family {
    match records(client, name, kind).await {
        Ok((records, ttl)) => Family::Found(records.iter().filter_map(address).collect(), ttl),
        Err(failure) => Family::Failed(failure),
    }
}

/// The records of a kind, at least one, and the shortest life of what led to them.
async fn records(
    client: &TokioResolver,
    name: Name,
    kind: RecordType,
) -> Result<(Vec<Record>, Duration), Failure> {
    let answer = client.lookup(name, kind).await.map_err(|error| failure(&error))?;
    let answers = answer.answers();
    let leads = |record: &&Record| [kind, RecordType::CNAME].contains(&record.record_type());
    let ttl = answers.iter().filter(leads).map(|record| record.ttl).min();
    let records: Vec<_> = answers
        .iter()
        .filter(|record| record.record_type() == kind)
        .cloned()
        .collect();
    match ttl {
        Some(ttl) if !records.is_empty() => Ok((records, Duration::from_secs(ttl.into()))),
        _ => Err(LookupError::NoRecords.into()),
    }
}

fn address(record: &Record) -> Option<IpAddr> {
    record.data.ip_addr()
}

fn target(record: &Record) -> Option<Target> {
    let RData::SRV(srv) = &record.data else {
        return None;
    };
    let host = if srv.target.is_root() {
        String::new()
    } else {
        srv.target.to_ascii().to_ascii_lowercase()
    };
    Some(Target {
        priority: srv.priority,
        weight: srv.weight,
        port: srv.port,
        host: host.into(),
    })
}

fn failure(error: &NetError) -> Failure {
    let (error, ttl) = match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            let error = match none.response_code {
                ResponseCode::NXDomain => LookupError::NotFound,
                _ => LookupError::NoRecords,
            };
            (error, none.negative_ttl)
        }
        NetError::Dns(DnsError::ResponseCode(code)) => (LookupError::Server(code.to_str().into()), None),
        NetError::Timeout => (LookupError::Timeout, None),
        NetError::Io(error) if error.kind() == io::ErrorKind::TimedOut => (LookupError::Timeout, None),
        other => (LookupError::Failed(other.to_string().into()), None),
    };
    Failure {
        error,
        ttl: ttl.map(|ttl| Duration::from_secs(ttl.into())),
    }
}
