//! `mesh-sidecar`: the proxy as one binary.
//!
//! It reads its settings, builds a proxy, feeds it from a file or from two addresses, starts a command beside it if one
//! is given, and goes when it is told to or when the command has gone.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod command;
mod course;
mod direct;
mod lines;
mod listening;
mod mesh;
mod parts;
mod settings;

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;
use std::sync::Arc;

use course::{End, Signals, Work, until_end};
use lines::Lines;
use mesh::{Life, settings::Workload};
use mesh_model::resources::{Address, Resources};
use mesh_model::validate::{Issue, IssueCode};
use mesh_proxy::log::Log;
use mesh_proxy::proxy::{Options, Proxy};
use mesh_proxy::{admin, compile};
use rustix::fs::OFlags;
use settings::{HELP, Running, Source, Task};

/// Bad settings or a bad configuration (`EX_USAGE` of sysexits.h).
const USAGE: u8 = 64;

fn main() -> ExitCode {
    // What is not UTF-8 is in no setting's form: it is refused with the rest.
    let text = |os: OsString| os.to_string_lossy().into_owned();
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(code) = command::hidden(&arguments) {
        return code;
    }
    let lines = match Lines::start(std::io::stderr()) {
        Ok(lines) => lines,
        Err(error) => {
            say(&format!("no thread can be started: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let (flags, command) = command::split(arguments);
    let task = settings::read(flags.into_iter().map(text), |name| {
        std::env::var_os(name).map(text)
    });
    let mistyped = settings::mistyped(std::env::vars_os().map(|(name, value)| (text(name), text(value))));
    // Who serves says it in the form of its log.
    if matches!(task, Ok(Task::Check(_)) | Err(_)) {
        mistyped
            .iter()
            .for_each(|line| lines.say(&format!("warning: {line}")));
    }
    let code = match task {
        Ok(Task::Run(..)) if command.as_ref().is_some_and(Vec::is_empty) => {
            refuse(&lines, &["--: the command is missing behind it".to_owned()])
        }
        Ok(Task::Help) => print(HELP),
        Ok(Task::Version) => print(concat!("mesh-sidecar ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Task::Check(source)) => match load(&source, When::First).and_then(check) {
            Ok(()) => print("the configuration is valid\n"),
            Err(problems) => refuse(&lines, &problems),
        },
        Ok(Task::Run(source, running)) => {
            let log = Arc::new(lines.log(&running));
            mistyped.iter().for_each(|line| log.warn(line, &[]));
            run(&lines, &log, &Arc::new(source), &running, command)
        }
        Err(problems) => refuse(&lines, &problems),
    };
    lines.finish();
    code
}

fn print(text: &str) -> ExitCode {
    // A reader that has gone wants nothing more.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// What a hidden form has to say, which hears no signals by then.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "mesh-sidecar: {line}");
}

fn refuse(lines: &Lines, problems: &[String]) -> ExitCode {
    problems.iter().for_each(|problem| lines.say(problem));
    ExitCode::from(USAGE)
}

/// When a source is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// At the start: a pipe will do.
    First,
    /// While it serves, and has signals to hear: nothing that could make it wait.
    Again,
}

/// Reads a file of resources.
fn read(file: &str, when: When) -> std::io::Result<String> {
    if when == When::First {
        return std::fs::read_to_string(file);
    }
    let mut opened = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(file)?;
    if !opened.metadata()?.is_file() {
        return Err(std::io::Error::other(
            "is no regular file, and only such a one is read again",
        ));
    }
    let mut text = String::new();
    opened.read_to_string(&mut text)?;
    Ok(text)
}

fn load(source: &Source, when: When) -> Result<Resources, Vec<String>> {
    match source {
        Source::Direct(resources) => Ok(Resources::clone(resources)),
        // The control plane says what is to be done; what can be looked at before is who vouches for it.
        Source::Mesh(workload) => mesh::trust(workload)
            .map(|_| Resources::default())
            .map_err(|problem| vec![problem]),
        Source::File(file) => {
            let text = read(file, when).map_err(|error| vec![format!("{file}: {error}")])?;
            mesh_model::validate::parse(&text).map_err(|issues| no_resources(file, &text, &issues))
        }
    }
}

/// What is wrong with a file that can't be read as resources, and what makes some.
fn no_resources(file: &str, text: &str, issues: &[Issue]) -> Vec<String> {
    const MEND: &str = "`mesh compile FILE > resources.json` makes it of a configuration";
    let text = text.trim_start();
    if !text.starts_with('{') {
        let what = match text {
            "" => "the file is empty, and no resources JSON",
            _ => "this is no resources JSON",
        };
        return vec![format!("{file}: {what}; {MEND}")];
    }
    let mut lines: Vec<_> = issues.iter().map(|issue| format!("{file}:{issue}")).collect();
    // A configuration may be written in JSON, too.
    if issues.iter().any(|issue| issue.code == IssueCode::Shape) {
        lines.push(format!("{file}: where this is no resources JSON yet, {MEND}"));
    }
    lines
}

fn check(resources: Resources) -> Result<(), Vec<String>> {
    compile::check(resources).map_err(|issues| issues.iter().map(ToString::to_string).collect())
}

fn run(
    lines: &Lines,
    log: &Arc<Log>,
    source: &Arc<Source>,
    running: &Running,
    command: Option<Vec<OsString>>,
) -> ExitCode {
    if let Some(parent) = running.with_parent
        && command::end_with(parent, rustix::process::Signal::KILL).is_err()
    {
        lines.say("--with-parent: that process is not the parent, or has gone");
        return ExitCode::FAILURE;
    }
    let failed = |what: &str, error: std::io::Error| {
        lines.say(&format!("{what}: {error}"));
        ExitCode::FAILURE
    };
    // Whoever reads that we listen may signal at once: it must be heard by then.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed("signals can't be heard", error),
    };
    let signals = match runtime.block_on(async { Signals::new() }) {
        Ok(signals) => signals,
        Err(error) => return failed("signals can't be heard", error),
    };
    let identity = match &**source {
        Source::Mesh(workload) => match mesh::trust(workload) {
            Ok(identity) => Some(identity),
            Err(problem) => return refuse(lines, &[problem]),
        },
        _ => None,
    };
    let mut proxy = match Proxy::start(Options {
        threads: running.threads,
        log: Arc::clone(log),
        dns_servers: running.dns_servers.clone(),
        identity: identity.clone(),
    }) {
        Ok(proxy) => proxy,
        Err(error) => return failed("the proxy can't start", error),
    };
    // Whoever started no command knows itself when its application is there.
    let awaited = command.as_ref().and(application(source));
    proxy.await_application(awaited.is_some());
    if let Some(address) = &running.admin {
        let options = admin::Options {
            address: address.clone(),
            lame_duck: running.lame_duck,
        };
        match proxy.serve_admin(options) {
            Ok(address) => log.info(&format!("admin listens on {address}"), &[]),
            Err(error) => {
                return refuse(
                    lines,
                    &[format!(
                        "admin can't listen on {address}: {error}; choose another address with --admin, or --admin off"
                    )],
                );
            }
        }
    }
    let work = Work {
        source,
        running,
        command,
        awaited,
    };
    let life = match (&**source, identity) {
        (Source::Mesh(workload), Some(identity)) => {
            match Life::new(Workload::clone(workload), &proxy, identity) {
                Ok(life) => Some(life),
                Err(problem) => return refuse(lines, &[problem]),
            }
        }
        _ => None,
    };
    let end = runtime.block_on(until_end(&proxy, work, life, signals));
    // A pipe that nobody writes to may still be read.
    runtime.shutdown_background();
    match end {
        End::Code(code) => ExitCode::from(code),
        End::Refused(problems) => refuse(lines, &problems),
    }
}

/// Where callers first find the application behind it, if it is a server of a mesh.
fn application(source: &Source) -> Option<Address> {
    match source {
        Source::Mesh(workload) => workload.ports.first().map(|port| port.application.clone()),
        _ => None,
    }
}
