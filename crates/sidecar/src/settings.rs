//! What is the sidecar told, by flags and by environment, and what of it makes no sense?
//!
//! A flag wins over its variable. Everything that is wrong is reported at once, each with what was expected.

use std::collections::HashMap;
use std::time::Duration;

use mesh_model::resources::{
    Action, Address, Cluster, Discovery, Endpoint, Endpoints, HostPattern, Listener, Locality, Resources,
    Route, RouteMatch, RouteTable, VirtualHost, WeightedCluster,
};

/// What `--help` says.
pub(crate) const HELP: &str = "\
mesh-sidecar: a proxy for every protocol, in one small process

usage:
  mesh-sidecar --config FILE [--check]
  mesh-sidecar --listen ADDRESS --to ADDRESS

  --config FILE       resources as JSON (see `mesh compile`); SIGHUP reads it again     MESH_CONFIG
  --check             only say what is wrong with the configuration
  --listen ADDRESS    accept HTTP/1, HTTP/2, gRPC and TCP here                          MESH_LISTEN
  --to ADDRESS        and send everything there: IP:PORT, NAME:PORT or unix:PATH        MESH_TO
  --threads N         data threads, 1 to 256 (default 1)                                MESH_THREADS
  --lame-duck SPAN    how long a draining proxy still accepts (default 3s)              MESH_LAME_DUCK
  --version           print the version
  --help              print this

SIGTERM or SIGINT drains; a second one ends at once.
Exit codes: 0 ended as asked, 1 failed, 64 bad settings or configuration.

examples:
  mesh-sidecar --listen 127.0.0.1:4143 --to 127.0.0.1:3000
  mesh compile mesh.yaml > mesh.json && mesh-sidecar --config mesh.json
";

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
}

/// How to run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Running {
    /// Data threads.
    pub(crate) threads: usize,
    /// How long a draining proxy still accepts.
    pub(crate) lame_duck: Duration,
}

/// The settings that have a value, with their variables.
const VALUES: [(&str, &str); 5] = [
    ("--config", "MESH_CONFIG"),
    ("--listen", "MESH_LISTEN"),
    ("--to", "MESH_TO"),
    ("--threads", "MESH_THREADS"),
    ("--lame-duck", "MESH_LAME_DUCK"),
];

/// Reads flags and environment.
///
/// # Errors
/// Everything that is wrong, a line each.
pub(crate) fn read(
    arguments: impl Iterator<Item = String>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Task, Vec<String>> {
    let mut problems = Vec::new();
    let mut given: HashMap<&str, String> = HashMap::new();
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
                    problems.push(format!("{flag}: no such setting; see --help"));
                    continue;
                };
                let next = inline.or_else(|| arguments.next_if(|next| !next.starts_with("--")));
                match next {
                    Some(value) => {
                        if given.insert(name, value).is_some() {
                            problems.push(format!("{flag}: given twice"));
                        }
                    }
                    None => problems.push(format!("{flag}: the value is missing")),
                }
            }
        }
    }
    for (name, variable) in VALUES {
        if let (false, Some(value)) = (given.contains_key(name), environment(variable)) {
            given.insert(name, value);
        }
    }
    let threads = match given.get("--threads").map(|text| text.parse::<usize>()) {
        None => 1,
        Some(Ok(threads @ 1..=256)) => threads,
        Some(_) => {
            problems.push(format!(
                "--threads: expected 1 to 256, received `{}`",
                given["--threads"]
            ));
            1
        }
    };
    let lame_duck = match given
        .get("--lame-duck")
        .map(|text| text.parse::<mesh_model::resources::Duration>())
    {
        None => Duration::from_secs(3),
        Some(Ok(span)) => span.0,
        Some(Err(error)) => {
            problems.push(format!(
                "--lame-duck: {error}, received `{}`",
                given["--lame-duck"]
            ));
            Duration::ZERO
        }
    };
    let source = source(&given, &mut problems);
    match source {
        Some(source) if problems.is_empty() => {
            let running = Running { threads, lame_duck };
            Ok(if check {
                Task::Check(source)
            } else {
                Task::Run(source, running)
            })
        }
        _ => Err(problems),
    }
}

fn source(given: &HashMap<&str, String>, problems: &mut Vec<String>) -> Option<Source> {
    match (given.get("--config"), given.get("--listen"), given.get("--to")) {
        (Some(file), None, None) => Some(Source::File(file.clone())),
        (None, Some(listen), Some(to)) => {
            let listen = listen.parse::<Address>().map_err(|error| {
                problems.push(format!("--listen: {error}, received `{listen}`"));
            });
            let to = target(to).map_err(|error| problems.push(format!("--to: {error}, received `{to}`")));
            match (listen, to) {
                (Ok(listen), Ok(to)) => Some(Source::Direct(Box::new(direct(listen, to)))),
                _ => None,
            }
        }
        (None, None, None) => {
            problems.push("nothing to do: give --config FILE, or --listen ADDRESS and --to ADDRESS".into());
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

enum To {
    Address(Address),
    Name { host: String, port: u16 },
}

fn target(text: &str) -> Result<To, String> {
    if let Ok(address) = text.parse() {
        return Ok(To::Address(address));
    }
    let name = text
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse().ok()?)));
    match name {
        Some((host, port)) if matches!(host.parse::<HostPattern>(), Ok(HostPattern::Exact(_))) => {
            Ok(To::Name {
                host: host.into(),
                port,
            })
        }
        _ => Err("expected IP:PORT, NAME:PORT or unix:PATH".into()),
    }
}

/// Everything that comes in goes to one place, whatever it speaks.
fn direct(listen: Address, to: To) -> Resources {
    const NAME: &str = "main";
    let mut listener = Listener::new(NAME, listen);
    listener.routes = Some(NAME.into());
    listener.tcp = WeightedCluster::all(NAME);
    let mut cluster = Cluster::new(NAME);
    let mut endpoints = Vec::new();
    match to {
        To::Address(address) => endpoints.push(Endpoints {
            cluster: NAME.into(),
            localities: vec![Locality {
                endpoints: vec![Endpoint::new(address)],
                ..Locality::default()
            }],
        }),
        To::Name { host, port } => cluster.discovery = Discovery::Dns { host, port },
    }
    let route = Route {
        name: NAME.into(),
        matches: RouteMatch::default(),
        filters: Default::default(),
        action: Action::Forward {
            to: WeightedCluster::all(NAME),
        },
        timeouts: Default::default(),
        hash_key: Vec::new(),
    };
    let host = VirtualHost {
        hosts: vec![HostPattern::Any],
        routes: vec![route],
    };
    Resources {
        listeners: vec![listener],
        route_tables: vec![RouteTable {
            name: NAME.into(),
            virtual_hosts: vec![host],
        }],
        clusters: vec![cluster],
        endpoints,
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
                    lame_duck: Duration::from_secs(3)
                }
            );
        }
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let problems =
            told("--threads 0 --lame-duck soon --listen here --to 1.2.3.4 --nonsense").unwrap_err();
        let named = ["--nonsense", "--threads", "--lame-duck", "--listen", "--to"];
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
    fn help_and_version_need_nothing_else() {
        assert_eq!(told("--help --threads x"), Ok(Task::Help));
        assert_eq!(told("-V"), Ok(Task::Version));
        assert_eq!(
            told("--config a --check"),
            Ok(Task::Check(Source::File("a".into())))
        );
    }
}
