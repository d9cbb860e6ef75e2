//! What is the sidecar told, by flags and by environment, and what of it makes no sense?
//!
//! A flag wins over its variable. Everything that is wrong is reported at once, each with what was expected, by the name that
//! it was given by.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mesh_model::resources::{AccessLog, Address, Resources};
use mesh_model::spiffe::SpiffeId;
use mesh_proxy::log::Level;

use crate::direct::{direct, target};
use crate::mesh;
use crate::mesh::proof::Proof;
use crate::mesh::settings::{OPAQUE_PORTS, OutboundFrom, Reach, Workload};

mod copy;
mod forms;
mod help;
mod mistyped;

use self::copy::own_name;
pub(crate) use self::help::HELP;
use self::help::valued;
pub(crate) use self::mistyped::mistyped;

/// Where the admin server is unless told otherwise.
const ADMIN: &str = "127.0.0.1:4191";

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(crate) enum Task {
    /// Print the help.
    Help,
    /// Print the version.
    Version,
    /// Look at a configuration.
    Check(Source),
    /// Serve.
    Run(Source, Running),
}

/// Where resources come from.
#[derive(Debug, PartialEq)]
pub(crate) enum Source {
    /// A file.
    File(String),
    /// Two addresses.
    Direct(Box<Resources>),
    /// A control plane.
    Mesh(Box<Workload>),
}

/// How to run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Running {
    /// Data threads.
    pub(crate) threads: usize,
    /// How long a draining proxy still accepts.
    pub(crate) lame_duck: Duration,
    /// How long a command may take to end.
    pub(crate) grace: Duration,
    /// The parent whose end is this process's.
    pub(crate) with_parent: Option<u64>,
    /// Name servers to ask; the system's where there are none.
    pub(crate) dns_servers: Vec<SocketAddr>,
    /// Where the admin server listens.
    pub(crate) admin: Option<Address>,
    /// The least that is said.
    pub(crate) log_level: Level,
    /// How it is said.
    pub(crate) log_format: LogFormat,
}

/// The form of what is said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// What was given, by flag, and what is wrong with it.
struct Given {
    values: HashMap<&'static str, String>,
    /// The variables of those flags that were given by theirs.
    variables: HashMap<&'static str, &'static str>,
    problems: Vec<String>,
}

impl Given {
    /// A setting's value, or its default. What can't be read is a problem, and the default stands in.
    fn value<T>(&mut self, flag: &str, default: T, read: impl Fn(&str) -> Result<T, String>) -> T {
        let Some(text) = self.values.get(flag) else {
            return default;
        };
        match read(text) {
            Ok(value) => value,
            Err(expected) => {
                let received = text.escape_debug().to_string();
                self.problem(flag, format_args!("{expected}, received `{received}`"));
                default
            }
        }
    }

    fn has(&self, flag: &str) -> bool {
        self.values.contains_key(flag)
    }

    /// What a flag was given by: its variable, or itself.
    fn name<'a>(&self, flag: &'a str) -> &'a str {
        self.variables.get(flag).copied().unwrap_or(flag)
    }

    fn problem(&mut self, flag: &str, what: impl Display) {
        self.problems.push(format!("{}: {what}", self.name(flag)));
    }
}

/// Reads flags and environment.
///
/// # Errors
/// Everything that is wrong, a line each.
pub(crate) fn read(
    arguments: impl Iterator<Item = String>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Task, Vec<String>> {
    let mut given = Given {
        values: HashMap::new(),
        variables: HashMap::new(),
        problems: Vec::new(),
    };
    let mut check = false;
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        let (flag, inline) = match argument.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        match flag {
            "--help" | "-h" => return Ok(Task::Help),
            "--version" | "-V" => return Ok(Task::Version),
            "--check" => check = true,
            _ => {
                let Some((name, _)) = valued().find(|(name, _)| *name == flag) else {
                    given.problem(flag, "no such setting; see --help");
                    continue;
                };
                let next = inline.or_else(|| arguments.next_if(|next| !next.starts_with("--")));
                match next {
                    Some(value) => {
                        if given.values.insert(name, value).is_some() {
                            given.problem(flag, "given twice");
                        }
                    }
                    None => given.problem(flag, "the value is missing"),
                }
            }
        }
    }
    for (name, variable) in valued() {
        let set = environment(variable).filter(|value| !value.is_empty());
        if let (false, Some(value)) = (given.has(name), set) {
            given.values.insert(name, value);
            given.variables.insert(name, variable);
        }
    }
    let running = running(&mut given);
    let source = source(&mut given);
    match source {
        Some(source) if given.problems.is_empty() => Ok(if check {
            Task::Check(source)
        } else {
            Task::Run(source, running)
        }),
        _ => Err(given.problems),
    }
}

fn running(given: &mut Given) -> Running {
    Running {
        threads: given.value("--threads", 1, forms::threads),
        lame_duck: given.value("--lame-duck", Duration::from_secs(3), forms::span),
        grace: given.value("--grace", Duration::from_secs(10), forms::span),
        with_parent: given.value("--with-parent", None, forms::process),
        dns_servers: given.value("--dns-server", Vec::new(), forms::name_servers),
        admin: given.value("--admin", ADMIN.parse().ok(), forms::admin),
        log_level: given.value("--log-level", Level::Info, forms::log_level),
        log_format: given.value("--log-format", LogFormat::Text, forms::log_format),
    }
}

/// The settings of a workload, where there is a control plane.
fn workload(given: &mut Given) -> Option<Workload> {
    goes_with_control(given);
    if !given.has("--control") {
        return None;
    }
    let opaque_ports = mesh::settings::opaque_ports(OPAQUE_PORTS).unwrap_or_default();
    let identity = given.value("--identity", None, forms::identity);
    let account = identity.as_ref().and_then(SpiffeId::service_account);
    let account = account.unwrap_or("workload").to_owned();
    let service = given.value("--service", None, forms::name).unwrap_or(account);
    let token = given.value("--token-file", None, forms::text).map(Proof::Token);
    let attestation = given.value("--attestation", None, |text| Proof::attestation(text).map(Some));
    let workload = Workload {
        control: given.value("--control", Vec::new(), forms::control),
        trust_anchors: given
            .value("--trust-anchors", None, forms::text)
            .unwrap_or_default(),
        proof: attestation.or(token),
        name: given
            .value("--name", None, forms::name)
            .unwrap_or_else(|| own_name(&service)),
        service,
        inbound: given.value("--inbound", None, forms::address)?,
        advertise: given.value("--advertise", None, mesh::settings::advertised),
        outbound: given.value("--outbound", None, forms::address),
        outbound_from: given.value("--outbound-from", OutboundFrom::Local, forms::outbound_from),
        ports: given.value("--ports", Vec::new(), mesh::settings::ports),
        forward: given.value("--forward", Vec::new(), mesh::settings::forwards),
        transparent: given.value("--transparent", false, forms::switch),
        opaque_ports: given.value("--opaque-ports", opaque_ports, mesh::settings::opaque_ports),
        egress: given.value("--egress", Reach::Any, forms::egress),
        name_idle: given.value("--name-idle", Duration::from_secs(600), forms::span),
        state_dir: given.value("--state-dir", None, forms::text).map(PathBuf::from),
        identity: identity?,
    };
    if given.problems.is_empty() {
        given.problems.extend(workload.conflicts());
    }
    Some(workload)
}

/// Sees that there is what a control plane needs and nothing that it says itself, or nothing that is of use with one alone.
fn goes_with_control(given: &mut Given) {
    if !given.has("--control") {
        // MESH_OUTBOUND is what applications are told: one of them may be another proxy.
        for flag in ["--identity", "--inbound", "--trust-anchors"] {
            if given.has(flag) {
                given.problem(flag, "it goes with --control, which is missing");
            }
        }
        return;
    }
    for flag in ["--config", "--listen", "--to", "--access-log"] {
        if given.has(flag) {
            given.problem(flag, "the control plane says that");
        }
    }
    for flag in ["--trust-anchors", "--identity", "--inbound"] {
        if !given.has(flag) {
            given.problem(flag, "it is missing, and --control needs it");
        }
    }
    if given.has("--token-file") && given.has("--attestation") {
        let other = given.name("--token-file");
        given.problem(
            "--attestation",
            format_args!("{other} is given too, and one of them is meant"),
        );
    }
}

fn source(given: &mut Given) -> Option<Source> {
    if let Some(workload) = workload(given) {
        return Some(Source::Mesh(Box::new(workload)));
    }
    if given.has("--control") {
        return None;
    }
    let [config, listen, to, log] =
        ["--config", "--listen", "--to", "--access-log"].map(|flag| given.name(flag));
    let Given { values, problems, .. } = given;
    let access_log = values.get("--access-log").map(|path| AccessLog {
        path: (path != "-").then(|| path.clone()),
        ..AccessLog::default()
    });
    match (values.get("--config"), values.get("--listen"), values.get("--to")) {
        (Some(file), None, None) => {
            if access_log.is_some() {
                problems.push(format!(
                    "{log} goes with --listen: with {config} each listener has its `accessLog`"
                ));
            }
            Some(Source::File(file.clone()))
        }
        (None, Some(at), Some(server)) => {
            let at = at.parse::<Address>().map_err(|error| {
                problems.push(format!("{listen}: {error}, received `{at}`"));
            });
            let server =
                target(server).map_err(|error| problems.push(format!("{to}: {error}, received `{server}`")));
            match (at, server) {
                (Ok(at), Ok(server)) => Some(Source::Direct(Box::new(direct(at, server, access_log)))),
                _ => None,
            }
        }
        (None, None, None) => {
            problems.push(
                "nothing to do: give --config FILE, --listen ADDRESS and --to ADDRESS, or --control LIST"
                    .into(),
            );
            None
        }
        (Some(_), _, _) => {
            problems.push(format!(
                "{config} says all: leave {listen} and {to} out, or {config}"
            ));
            None
        }
        (None, given, _) => {
            let missing = if given.is_some() { "--to" } else { "--listen" };
            problems.push(format!("{listen} and {to} go together: {missing} is missing"));
            None
        }
    }
}

#[cfg(test)]
mod tests;
