//! `mesh-sidecar`: the proxy as one binary.
//!
//! It reads its settings, builds a proxy, feeds it from a file or from two addresses, starts a command beside it if one
//! is given, and goes when it is told to or when the command has gone.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod command;
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
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use lines::Lines;
use listening::listens;
use mesh::{Life, settings::Workload};
use mesh_model::resources::{Address, Resources};
use mesh_proxy::log::Log;
use mesh_proxy::proxy::{Applied, ApplyError, Change, DrainOptions, Options, Phase, Proxy};
use mesh_proxy::{admin, compile};
use rustix::fs::OFlags;
use settings::{HELP, Running, Source, Task};
use tokio::signal::unix::{Signal, SignalKind, signal};

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
    let code = match settings::read(flags.into_iter().map(text), |name| {
        std::env::var_os(name).map(text)
    }) {
        Ok(Task::Run(..)) if command.as_ref().is_some_and(Vec::is_empty) => {
            refuse(&lines, &["--: the command is missing behind it".to_owned()])
        }
        Ok(Task::Help) => print(HELP),
        Ok(Task::Version) => print(concat!("mesh-sidecar ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Task::Check(source)) => match load(&source, When::First).and_then(check) {
            Ok(()) => print("the configuration is valid\n"),
            Err(problems) => refuse(&lines, &problems),
        },
        Ok(Task::Run(source, running)) => run(&lines, &Arc::new(source), &running, command),
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
            mesh_model::validate::parse(&text)
                .map_err(|issues| issues.iter().map(|issue| format!("{file}:{issue}")).collect())
        }
    }
}

fn check(resources: Resources) -> Result<(), Vec<String>> {
    compile::check(resources).map_err(|issues| issues.iter().map(ToString::to_string).collect())
}

/// How long a control plane may take to hear that a drained sidecar goes.
const FAREWELL: Duration = Duration::from_secs(1);

/// What an attempt to apply a configuration gave.
type Applying<'a> = Pin<Box<dyn Future<Output = Result<Applied, Vec<String>>> + 'a>>;

fn apply<'a>(proxy: &'a Proxy, source: &Arc<Source>, when: When) -> Applying<'a> {
    let source = Arc::clone(source);
    Box::pin(async move {
        let loaded = match when {
            // Whoever writes to a pipe may take his time, and signals are heard meanwhile.
            When::First => tokio::task::spawn_blocking(move || load(&source, when))
                .await
                .unwrap_or_else(|error| Err(vec![error.to_string()])),
            When::Again => load(&source, when),
        };
        let resources = loaded.inspect_err(|_| proxy.count_refused())?;
        proxy
            .apply_soon(Change::Replace(resources))
            .await
            .map_err(|error| match error {
                ApplyError::Invalid(issues) => issues.iter().map(ToString::to_string).collect(),
                error => vec![error.to_string()],
            })
    })
}

fn run(lines: &Lines, source: &Arc<Source>, running: &Running, command: Option<Vec<OsString>>) -> ExitCode {
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
    let log = Arc::new(lines.log(running));
    let mut proxy = match Proxy::start(Options {
        threads: running.threads,
        log: Arc::clone(&log),
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
        addresses: Vec::new(),
        command,
        started: None,
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
    let code = runtime.block_on(until_end(&proxy, work, life, signals, lines));
    // A pipe that nobody writes to may still be read.
    runtime.shutdown_background();
    code
}

/// Where callers first find the application behind it, if it is a server of a mesh.
fn application(source: &Source) -> Option<Address> {
    match source {
        Source::Mesh(workload) => workload.ports.first().map(|port| port.application.clone()),
        _ => None,
    }
}

/// Says where it listens that it did not before; gives where it listens now.
fn announce(log: &Log, before: &[(String, Address)], applied: Applied) -> Vec<(String, Address)> {
    for listening in applied.addresses.iter().filter(|now| !before.contains(now)) {
        let (name, address) = listening;
        log.info(&format!("{name} listens on {address}"), &[]);
    }
    applied.addresses
}

/// What it serves, and how.
struct Work<'a> {
    source: &'a Arc<Source>,
    running: &'a Running,
    addresses: Vec<(String, Address)>,
    /// What is to be started once it serves.
    command: Option<Vec<OsString>>,
    started: Option<command::Started>,
    /// Where the command is to listen before it is ready.
    awaited: Option<Address>,
}

impl Work<'_> {
    /// Starts the command, if there is one that was not started yet.
    fn start_command(&mut self) -> std::io::Result<()> {
        if let Some(command) = self.command.take() {
            self.started = Some(command::Started::start(&command, self.running.grace)?);
        }
        Ok(())
    }

    /// Resolves with the exit code of the command that was started; never, without one.
    async fn command_ended(&mut self) -> u8 {
        match &mut self.started {
            Some(started) => started.ended().await,
            None => std::future::pending().await,
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }
}

async fn until_end(
    proxy: &Proxy,
    mut work: Work<'_>,
    life: Option<Life<'_>>,
    mut signals: Signals,
    lines: &Lines,
) -> ExitCode {
    let log = proxy.log();
    let mut phase = proxy.phase();
    let mut draining = false;
    let mut drained = false;
    let mut serving = false;
    // How the command ended.
    let mut ended = None;
    let serves = life.as_ref().map(Life::serves);
    let lives = serves.is_some();
    // Whether the control plane knows that it goes.
    let mut left = false;
    let mut life = std::pin::pin!(async {
        match life {
            Some(life) => life.live().await,
            None => std::future::pending().await,
        }
    });
    let awaited = work.awaited.take();
    let mut awaits = awaited.is_some();
    let mut listening = std::pin::pin!(async {
        match &awaited {
            Some(application) => listens(application, log).await,
            None => std::future::pending().await,
        }
    });
    let mut applying = (!lives).then(|| apply(proxy, work.source, When::First));
    let mut ready = std::pin::pin!(async {
        let Some(mut serves) = serves else {
            return std::future::pending().await;
        };
        if serves.wait_for(|serves| *serves).await.is_err() {
            // It has left before.
            std::future::pending().await
        }
    });
    loop {
        if let (true, Some(code)) = (drained, ended) {
            return ExitCode::from(code);
        }
        tokio::select! {
            _ = signals.terminate.recv() => {}
            _ = signals.interrupt.recv() => {}
            () = &mut life, if !left => {
                left = true;
                continue;
            }
            () = &mut ready, if lives && !serving => {
                serving = true;
                match &awaited {
                    Some(application) => {
                        log.info(&format!("waits until the command listens on {application}"), &[]);
                    }
                    None => log.info("ready", &[]),
                }
                if !draining && let Err(error) = work.start_command() {
                    log.error(&format!("the command can't be started: {error}"), &[]);
                    return ExitCode::FAILURE;
                }
                continue;
            }
            () = &mut listening, if awaits && !draining && work.started.is_some() && ended.is_none() => {
                awaits = false;
                proxy.await_application(false);
                log.info("ready", &[]);
                continue;
            }
            _ = signals.hangup.recv(), if applying.is_none() => {
                proxy.reload_files();
                if lives {
                    continue;
                }
                applying = Some(apply(proxy, work.source, When::Again));
                continue;
            }
            result = async { Some(applying.as_mut()?.await) }, if applying.is_some() => {
                applying = None;
                match result {
                    Some(Ok(applied)) => {
                        if serving {
                            log.info(&format!("version {} is live", applied.version), &[]);
                        }
                        serving = true;
                        work.addresses = announce(log, &work.addresses, applied);
                        if !draining && let Err(error) = work.start_command() {
                            log.error(&format!("the command can't be started: {error}"), &[]);
                            return ExitCode::FAILURE;
                        }
                    }
                    Some(Err(problems)) if serving => {
                        problems.iter().for_each(|problem| log.error(problem, &[]));
                        log.error("not applied: the last good configuration keeps serving", &[]);
                    }
                    // What is not live by the time that a drain begins never is.
                    Some(Err(_)) if draining => {}
                    Some(Err(problems)) => return refuse(lines, &problems),
                    None => {}
                }
                continue;
            }
            _ = signals.user2.recv() => {
                if work.started.is_some() && !draining && *phase.borrow() != Phase::Draining {
                    log.warn("the command has ended, and what it left is being ended: draining", &[]);
                    proxy.drain(DrainOptions { lame_duck: Duration::ZERO, work: None });
                    draining = true;
                }
                continue;
            }
            code = work.command_ended(), if ended.is_none() => {
                ended = Some(code);
                if !draining && *phase.borrow() != Phase::Draining {
                    log.info(&format!("the command ended with {code}: draining"), &[]);
                    // Nobody is behind it any more: what comes anew is better off elsewhere.
                    proxy.drain(DrainOptions { lame_duck: Duration::ZERO, work: None });
                    draining = true;
                }
                continue;
            }
            _ = signals.user1.recv() => {
                proxy.reopen_logs();
                log.info("access logs are reopened", &[]);
                continue;
            }
            seen = async { phase.wait_for(|phase| *phase == Phase::Drained).await.is_ok() }, if !drained => {
                drained = true;
                if lives && !left {
                    left = tokio::time::timeout(FAREWELL, &mut life).await.is_ok();
                }
                match &work.started {
                    // The last of its requests is answered: it has nothing left to do.
                    Some(started) if seen => started.terminate(),
                    // The control thread ends only with the process.
                    _ => return if seen { ExitCode::SUCCESS } else { ExitCode::FAILURE },
                }
                continue;
            }
        }
        // It may also have been asked for on the admin port.
        if draining || matches!(*phase.borrow(), Phase::Draining | Phase::Drained) {
            log.warn("ended before all work was done", &[]);
            if let Some(started) = &mut work.started {
                started.kill().await;
            }
            return ExitCode::FAILURE;
        }
        draining = true;
        log.info("draining; a second signal ends at once", &[]);
        proxy.drain(DrainOptions {
            lame_duck: work.running.lame_duck,
            work: None,
        });
    }
}
