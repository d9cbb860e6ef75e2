//! What is the sidecar told, by flags and by environment, and what of it makes no sense?
//!
//! A flag wins over its variable. Everything that is wrong is reported at once, each with what was expected.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mesh_model::resources::{AccessLog, Address, Resources};
use mesh_model::spiffe::SpiffeId;
use mesh_proxy::discovery::name_server;
use mesh_proxy::log::Level;

use crate::direct::{direct, target};
use crate::mesh;
use crate::mesh::proof::Proof;
use crate::mesh::settings::{OPAQUE_PORTS, Workload};

mod copy;
mod help;

use self::copy::own_name;
pub(crate) use self::help::HELP;

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

/// The settings that have a value, with their variables.
const VALUES: [(&str, &str); 30] = [
    ("--config", "MESH_CONFIG"),
    ("--listen", "MESH_LISTEN"),
    ("--to", "MESH_TO"),
    ("--access-log", "MESH_ACCESS_LOG"),
    ("--control", "MESH_CONTROL"),
    ("--trust-anchors", "MESH_TRUST_ANCHORS"),
    ("--identity", "MESH_IDENTITY"),
    ("--token-file", "MESH_TOKEN_FILE"),
    ("--attestation", "MESH_ATTESTATION"),
    ("--name", "MESH_NAME"),
    ("--service", "MESH_SERVICE"),
    ("--inbound", "MESH_INBOUND"),
    ("--advertise", "MESH_ADVERTISE"),
    ("--outbound", "MESH_OUTBOUND"),
    ("--outbound-from", "MESH_OUTBOUND_FROM"),
    ("--ports", "MESH_PORTS"),
    ("--forward", "MESH_FORWARD"),
    ("--transparent", "MESH_TRANSPARENT"),
    ("--opaque-ports", "MESH_OPAQUE_PORTS"),
    ("--egress", "MESH_EGRESS"),
    ("--name-idle", "MESH_NAME_IDLE"),
    ("--state-dir", "MESH_STATE_DIR"),
    ("--admin", "MESH_ADMIN"),
    ("--threads", "MESH_THREADS"),
    ("--dns-server", "MESH_DNS_SERVER"),
    ("--lame-duck", "MESH_LAME_DUCK"),
    ("--grace", "MESH_GRACE"),
    ("--with-parent", "MESH_WITH_PARENT"),
    ("--log-level", "MESH_LOG_LEVEL"),
    ("--log-format", "MESH_LOG_FORMAT"),
];

/// What was given, by flag, and what is wrong with it.
struct Given {
    values: HashMap<&'static str, String>,
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
                self.problems
                    .push(format!("{flag}: {expected}, received `{}`", text.escape_debug()));
                default
            }
        }
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
                let Some((name, _)) = VALUES.iter().find(|(name, _)| *name == flag) else {
                    given
                        .problems
                        .push(format!("{flag}: no such setting; see --help"));
                    continue;
                };
                let next = inline.or_else(|| arguments.next_if(|next| !next.starts_with("--")));
                match next {
                    Some(value) => {
                        if given.values.insert(name, value).is_some() {
                            given.problems.push(format!("{flag}: given twice"));
                        }
                    }
                    None => given.problems.push(format!("{flag}: the value is missing")),
                }
            }
        }
    }
    for (name, variable) in VALUES {
        let set = environment(variable).filter(|value| !value.is_empty());
        if let (false, Some(value)) = (given.values.contains_key(name), set) {
            given.values.insert(name, value);
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
    let threads = |text: &str| match text.parse() {
        Ok(threads @ 1..=256) => Ok(threads),
        _ => Err("expected 1 to 256".to_owned()),
    };
    let span = |text: &str| text.parse::<mesh_model::resources::Duration>().map(|span| span.0);
    let pid = |text: &str| {
        text.parse()
            .map(Some)
            .map_err(|_| "expected a process id".to_owned())
    };
    let admin = |text: &str| match text {
        "off" => Ok(None),
        _ => match text.parse::<Address>() {
            Ok(address) => Ok(Some(address)),
            Err(expected) => Err(format!("{expected}, or off")),
        },
    };
    let format = |text: &str| match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("expected text or json".to_owned()),
    };
    let servers = |text: &str| {
        let servers = text.split(',').map(|server| name_server(server.trim()));
        servers
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| "expected IP or IP:PORT, with commas between".to_owned())
    };
    let level = |text: &str| text.parse().map_err(|expected: &str| expected.to_owned());
    Running {
        threads: given.value("--threads", 1, threads),
        lame_duck: given.value("--lame-duck", Duration::from_secs(3), span),
        grace: given.value("--grace", Duration::from_secs(10), span),
        with_parent: given.value("--with-parent", None, pid),
        dns_servers: given.value("--dns-server", Vec::new(), servers),
        admin: given.value("--admin", ADMIN.parse().ok(), admin),
        log_level: given.value("--log-level", Level::Info, level),
        log_format: given.value("--log-format", LogFormat::Text, format),
    }
}

/// The settings of a workload, where there is a control plane.
fn workload(given: &mut Given) -> Option<Workload> {
    if !given.values.contains_key("--control") {
        // MESH_OUTBOUND is what applications are told: one of them may be another proxy.
        for flag in ["--identity", "--inbound", "--trust-anchors"] {
            if given.values.contains_key(flag) {
                given
                    .problems
                    .push(format!("{flag}: it goes with --control, which is missing"));
            }
        }
        return None;
    }
    for flag in ["--config", "--listen", "--to", "--access-log"] {
        if given.values.contains_key(flag) {
            given
                .problems
                .push(format!("{flag}: the control plane says that"));
        }
    }
    for flag in ["--trust-anchors", "--identity", "--inbound"] {
        if !given.values.contains_key(flag) {
            given
                .problems
                .push(format!("{flag}: it is missing, and --control needs it"));
        }
    }
    if ["--token-file", "--attestation"]
        .iter()
        .all(|flag| given.values.contains_key(flag))
    {
        given
            .problems
            .push("--attestation: --token-file is given too, and one of them is meant".to_owned());
    }
    let text = |text: &str| Ok::<_, String>(Some(text.to_owned()));
    let control = |text: &str| {
        let all: Vec<_> = text.split(',').map(|one| one.trim().to_owned()).collect();
        let is_address = |one: &String| {
            let port = one
                .rsplit_once(':')
                .map(|(host, port)| (host.is_empty(), port.parse::<u16>()));
            matches!(port, Some((false, Ok(1..))))
        };
        match all.iter().all(is_address) {
            true => Ok(all),
            false => Err("expected HOST:PORT, with commas between".to_owned()),
        }
    };
    let identity = |text: &str| {
        text.parse::<SpiffeId>()
            .map(Some)
            .map_err(|error| error.to_string())
    };
    let address = |text: &str| text.parse::<Address>().map(Some);
    let span = |text: &str| text.parse::<mesh_model::resources::Duration>().map(|span| span.0);
    let egress = |text: &str| match text {
        "any" => Ok(false),
        "known" => Ok(true),
        _ => Err("expected any or known".to_owned()),
    };
    let from = |text: &str| match text {
        "local" => Ok(false),
        "any" => Ok(true),
        _ => Err("expected local or any".to_owned()),
    };
    let switch = |text: &str| match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("expected on or off".to_owned()),
    };
    let opaque_ports = mesh::settings::opaque_ports(OPAQUE_PORTS).unwrap_or_default();
    let identity = given.value("--identity", None, identity);
    let account = identity.as_ref().and_then(SpiffeId::service_account);
    let account = account.unwrap_or("workload").to_owned();
    let name = |text: &str| match mesh_protocol::is_name(text) {
        true => Ok(Some(text.to_owned())),
        false => Err(format!(
            "expected 1 to {} bytes without control characters",
            mesh_protocol::MAX_NAME
        )),
    };
    let service = given.value("--service", None, name).unwrap_or(account);
    let token = given.value("--token-file", None, |file| {
        Ok(Some(Proof::Token(file.to_owned())))
    });
    let attestation = given.value("--attestation", None, |text| Proof::attestation(text).map(Some));
    let workload = Workload {
        control: given.value("--control", Vec::new(), control),
        trust_anchors: given.value("--trust-anchors", None, text).unwrap_or_default(),
        proof: attestation.or(token),
        name: given
            .value("--name", None, name)
            .unwrap_or_else(|| own_name(&service)),
        service,
        inbound: given.value("--inbound", None, address)?,
        advertise: given.value("--advertise", None, mesh::settings::advertised),
        outbound: given.value("--outbound", None, address),
        outbound_from_any: given.value("--outbound-from", false, from),
        ports: given.value("--ports", Vec::new(), mesh::settings::ports),
        forward: given.value("--forward", Vec::new(), mesh::settings::forwards),
        transparent: given.value("--transparent", false, switch),
        opaque_ports: given.value("--opaque-ports", opaque_ports, mesh::settings::opaque_ports),
        known_only: given.value("--egress", false, egress),
        name_idle: given.value("--name-idle", Duration::from_secs(600), span),
        state_dir: given.value("--state-dir", None, text).map(PathBuf::from),
        identity: identity?,
    };
    if given.problems.is_empty() {
        given.problems.extend(workload.conflicts());
    }
    Some(workload)
}

fn source(given: &mut Given) -> Option<Source> {
    if let Some(workload) = workload(given) {
        return Some(Source::Mesh(Box::new(workload)));
    }
    if given.values.contains_key("--control") {
        return None;
    }
    let Given { values, problems } = given;
    let access_log = values.get("--access-log").map(|path| AccessLog {
        path: (path != "-").then(|| path.clone()),
        ..AccessLog::default()
    });
    match (values.get("--config"), values.get("--listen"), values.get("--to")) {
        (Some(file), None, None) => {
            if access_log.is_some() {
                problems.push(
                    "--access-log goes with --listen: with --config each listener has its `accessLog`".into(),
                );
            }
            Some(Source::File(file.clone()))
        }
        (None, Some(listen), Some(to)) => {
            let listen = listen.parse::<Address>().map_err(|error| {
                problems.push(format!("--listen: {error}, received `{listen}`"));
            });
            let to = target(to).map_err(|error| problems.push(format!("--to: {error}, received `{to}`")));
            match (listen, to) {
                (Ok(listen), Ok(to)) => Some(Source::Direct(Box::new(direct(listen, to, access_log)))),
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
            problems.push("--config says all: leave --listen and --to out, or --config".into());
            None
        }
        (None, listen, _) => {
            let missing = if listen.is_some() { "--to" } else { "--listen" };
            problems.push(format!("--listen and --to go together: {missing} is missing"));
            None
        }
    }
}

#[cfg(test)]
mod tests;
