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
use crate::mesh::settings::{OPAQUE_PORTS, Workload};

/// What `--help` says.
pub(crate) const HELP: &str = "\
mesh-sidecar: a proxy for every protocol, in one small process

usage:
  mesh-sidecar --config FILE [--check]
  mesh-sidecar --listen ADDRESS --to ADDRESS
  mesh-sidecar --control LIST --identity ID --inbound ADDRESS ...
  mesh-sidecar [flags] -- COMMAND...

  --config FILE       resources as JSON (see `mesh compile`); SIGHUP reads it again     MESH_CONFIG
  --check             only say what is wrong with the configuration and its files
  --listen ADDRESS    accept HTTP/1, HTTP/2, gRPC and TCP here                          MESH_LISTEN
  --to ADDRESS        and send everything there: IP:PORT, NAME:PORT or unix:PATH        MESH_TO
  --access-log FILE   with --listen: a line for each finished request, `-`: to stdout   MESH_ACCESS_LOG
  --control LIST      a workload of a mesh: HOST:PORT of its control planes             MESH_CONTROL
  --trust-anchors F   the roots that vouch for the control plane, in PEM                MESH_TRUST_ANCHORS
  --identity ID       spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT                           MESH_IDENTITY
  --token-file FILE   what the first certificate is had for                             MESH_TOKEN_FILE
  --name NAME         of this copy (default: the service and the process id)            MESH_NAME
  --service NAME      that it is a copy of (default: the identity's account)            MESH_SERVICE
  --inbound ADDRESS   where other workloads call it                                     MESH_INBOUND
  --advertise ADDRESS and what they are told to call, where that is another             MESH_ADVERTISE
                      (default: that; of one at every address, the address that its
                      control plane is called from)
  --outbound ADDRESS  where its own calls others, as a proxy                            MESH_OUTBOUND
  --ports LIST        PORT=ADDRESS of its application, /http1, /http2 or /tcp behind    MESH_PORTS
  --forward LIST      NAME:PORT=ADDRESS: plain listeners for one name, /tcp for bytes    MESH_FORWARD
  --transparent on    connections are redirected here by the kernel (mesh redirect)     MESH_TRANSPARENT
  --opaque-ports LIST outside the mesh, nobody looks at the bytes to these ports        MESH_OPAQUE_PORTS
                      (default 25,587,3306,4444,4567,4568,5432,6379,9300,11211; or none)
  --egress WHICH      any, or known: services of the mesh only (default any)            MESH_EGRESS
  --name-idle SPAN    how long a name is kept that nobody calls (default 10m)           MESH_NAME_IDLE
  --state-dir DIR     keep what is needed to start without a control plane              MESH_STATE_DIR
  --admin ADDRESS     health, metrics and statistics here, or off                       MESH_ADMIN
                      (default 127.0.0.1:4191)
  --threads N         data threads, 1 to 256 (default 1)                                MESH_THREADS
  --dns-server LIST   name servers to ask, IP or IP:PORT, with commas between           MESH_DNS_SERVER
                      (default: the system's)
  --lame-duck SPAN    how long a draining proxy still accepts (default 3s)              MESH_LAME_DUCK
  --grace SPAN        how long a command may take to end when asked (default 10s)       MESH_GRACE
  --with-parent PID   die with this parent, even when it is killed                      MESH_WITH_PARENT
  --log-level LEVEL   what is said: error, warn, info or debug (default info)           MESH_LOG_LEVEL
  --log-format FORM   lines as text or json (default text), on standard error           MESH_LOG_FORMAT
  --version           print the version
  --help              print this

A flag wins over its variable; an empty variable is none.
SIGTERM or SIGINT drains, a second one ends at once; SIGUSR1 opens access logs anew.
A COMMAND is started when the proxy is ready, and asked to end when it has drained.
Exit codes: 0 ended as asked, 1 failed, 64 bad settings or configuration; with a COMMAND, that command's.

examples:
  mesh-sidecar --listen 127.0.0.1:4143 --to 127.0.0.1:3000
  mesh compile mesh.yaml > mesh.json && mesh-sidecar --config mesh.json
  mesh-sidecar --listen 127.0.0.1:4143 --to 127.0.0.1:3000 -- node server.mjs
  curl 127.0.0.1:4191/metrics
";

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
const VALUES: [(&str, &str); 28] = [
    ("--config", "MESH_CONFIG"),
    ("--listen", "MESH_LISTEN"),
    ("--to", "MESH_TO"),
    ("--access-log", "MESH_ACCESS_LOG"),
    ("--control", "MESH_CONTROL"),
    ("--trust-anchors", "MESH_TRUST_ANCHORS"),
    ("--identity", "MESH_IDENTITY"),
    ("--token-file", "MESH_TOKEN_FILE"),
    ("--name", "MESH_NAME"),
    ("--service", "MESH_SERVICE"),
    ("--inbound", "MESH_INBOUND"),
    ("--advertise", "MESH_ADVERTISE"),
    ("--outbound", "MESH_OUTBOUND"),
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
                    .push(format!("{flag}: {expected}, received `{text}`"));
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
    let switch = |text: &str| match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("expected on or off".to_owned()),
    };
    let opaque_ports = mesh::settings::opaque_ports(OPAQUE_PORTS).unwrap_or_default();
    let identity = given.value("--identity", None, identity);
    let account = identity.as_ref().and_then(SpiffeId::service_account);
    let account = account.unwrap_or("workload").to_owned();
    let service = given.value("--service", None, text).unwrap_or(account);
    let own_name = format!("{service}-{}", std::process::id());
    let workload = Workload {
        control: given.value("--control", Vec::new(), control),
        trust_anchors: given.value("--trust-anchors", None, text).unwrap_or_default(),
        token_file: given.value("--token-file", None, text),
        name: given.value("--name", None, text).unwrap_or(own_name),
        service,
        inbound: given.value("--inbound", None, address)?,
        advertise: given.value("--advertise", None, mesh::settings::advertised),
        outbound: given.value("--outbound", None, address),
        ports: given.value("--ports", Vec::new(), mesh::settings::ports),
        forward: given.value("--forward", Vec::new(), mesh::settings::forwards),
        transparent: given.value("--transparent", false, switch),
        opaque_ports: given.value("--opaque-ports", opaque_ports, mesh::settings::opaque_ports),
        known_only: given.value("--egress", false, egress),
        name_idle: given.value("--name-idle", Duration::from_secs(600), span),
        state_dir: given.value("--state-dir", None, text).map(PathBuf::from),
        identity: identity?,
    };
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
mod tests {
    use super::*;

    fn told(arguments: &str) -> Result<Task, Vec<String>> {
        read(arguments.split_whitespace().map(String::from), |_| None)
    }

    #[test]
    fn two_addresses_are_a_whole_configuration() {
        for to in ["127.0.0.1:3000", "unix:/run/app.sock", "app.internal:80"] {
            let Ok(Task::Run(Source::Direct(resources), running)) =
                told(&format!("--listen 127.0.0.1:0 --to {to}"))
            else {
                panic!("{to}")
            };
            assert_eq!(mesh_model::validate::validate(&resources), []);
            assert_eq!(
                running,
                Running {
                    threads: 1,
                    lame_duck: Duration::from_secs(3),
                    grace: Duration::from_secs(10),
                    with_parent: None,
                    dns_servers: Vec::new(),
                    admin: Some("127.0.0.1:4191".parse().unwrap()),
                    log_level: Level::Info,
                    log_format: LogFormat::Text,
                }
            );
        }
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let problems = told(
            "--threads 0 --lame-duck soon --grace no --with-parent me --listen here --to 1.2.3.4 --nonsense --admin no --log-level loud \
             --log-format xml --dns-server ns.test",
        )
        .unwrap_err();
        let named = [
            "--nonsense",
            "--threads",
            "--lame-duck",
            "--grace",
            "--with-parent",
            "--dns-server",
            "--admin",
            "--log-level",
            "--log-format",
            "--listen",
            "--to",
        ];
        assert_eq!(problems.len(), named.len(), "{problems:?}");
        for name in named {
            assert!(
                problems.iter().any(|problem| problem.starts_with(name)),
                "{name}: {problems:?}"
            );
        }
        for wrong in [
            "",
            "--listen :1",
            "--to :1",
            "--config a --listen :1",
            "--config",
            "--config a --config b",
            "--config a --access-log b",
        ] {
            assert!(told(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn flags_win_over_the_environment() {
        let environment = |name: &str| match name {
            "MESH_CONFIG" => Some("env.json".into()),
            "MESH_THREADS" => Some("4".into()),
            _ => None,
        };
        let task = read(["--config=flag.json".into()].into_iter(), environment).unwrap();
        let Task::Run(source, running) = task else {
            panic!("{task:?}")
        };
        assert_eq!((source, running.threads), (Source::File("flag.json".into()), 4));
    }

    #[test]
    fn every_setting_can_come_from_the_environment() {
        let environment = |name: &str| {
            Some(
                match name {
                    "MESH_LISTEN" => "127.0.0.1:0",
                    "MESH_TO" => "127.0.0.1:1",
                    "MESH_ACCESS_LOG" => "-",
                    "MESH_ADMIN" => "off",
                    "MESH_THREADS" => "2",
                    "MESH_LAME_DUCK" => "0s",
                    "MESH_GRACE" => "1m",
                    "MESH_WITH_PARENT" => "1",
                    "MESH_LOG_LEVEL" => "debug",
                    "MESH_LOG_FORMAT" => "json",
                    _ => "",
                }
                .to_owned(),
            )
        };
        let Ok(Task::Run(Source::Direct(resources), running)) = read(std::iter::empty(), environment) else {
            panic!()
        };
        assert_eq!(resources.listeners[0].access_log, Some(AccessLog::default()));
        let expected = Running {
            threads: 2,
            lame_duck: Duration::ZERO,
            grace: Duration::from_secs(60),
            with_parent: Some(1),
            dns_servers: Vec::new(),
            admin: None,
            log_level: Level::Debug,
            log_format: LogFormat::Json,
        };
        assert_eq!(running, expected);
        for (flag, variable) in VALUES {
            assert!(HELP.contains(flag) && HELP.contains(variable), "{flag}");
        }
    }

    #[test]
    fn a_workload_of_a_mesh_has_a_control_plane() {
        let all = "--control 127.0.0.1:4144,control.test:4144 --trust-anchors roots.pem --token-file token \
                   --identity spiffe://mesh.test/ns/shop/sa/basket --inbound 127.0.0.1:0 --outbound 127.0.0.1:0 \
                   --ports 3000=127.0.0.1:41000 --forward web:80=127.0.0.1:0 --egress known --state-dir state";
        let Ok(Task::Run(Source::Mesh(workload), _)) = told(all) else {
            panic!()
        };
        assert_eq!(
            (workload.control.len(), &*workload.service, workload.known_only),
            (2, "basket", true)
        );
        assert!(workload.is_opaque(3306) && !workload.is_opaque(80));
        assert!(HELP.contains(OPAQUE_PORTS));
        let named = |arguments: &str, names: &[&str]| {
            let problems = told(arguments).unwrap_err();
            assert_eq!(problems.len(), names.len(), "{problems:?}");
            for name in names {
                assert!(
                    problems.iter().any(|problem| problem.starts_with(name)),
                    "{name}: {problems:?}"
                );
            }
        };
        named(
            "--control nowhere",
            &["--trust-anchors", "--identity", "--inbound", "--control"],
        );
        named(&format!("{all} --advertise :4143"), &["--advertise"]);
        named(&format!("{all} --opaque-ports smtp"), &["--opaque-ports"]);
        named(&format!("{all} --listen 127.0.0.1:0"), &["--listen"]);
        named("--config a --identity spiffe://mesh.test/a", &["--identity"]);
    }

    #[test]
    fn help_and_version_need_nothing_else() {
        assert_eq!(told("--help --threads x"), Ok(Task::Help));
        assert_eq!(told("-V"), Ok(Task::Version));
        assert_eq!(
            told("--config a --check"),
            Ok(Task::Check(Source::File("a".into())))
        );
    }
}
