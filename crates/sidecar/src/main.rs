//! `mesh-sidecar`: the proxy as one binary.
//!
//! It reads its settings, builds a proxy, feeds it from a file or from two addresses, and goes when it is told to.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod settings;

use std::io::Write;
use std::process::ExitCode;

use mesh_model::resources::Resources;
use mesh_proxy::proxy::{Applied, ApplyError, Change, DrainOptions, Options, Phase, Proxy};
use settings::{HELP, Running, Source, Task};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Bad settings or a bad configuration (`EX_USAGE` of sysexits.h).
const USAGE: u8 = 64;

fn main() -> ExitCode {
    match settings::read(std::env::args().skip(1), |name| std::env::var(name).ok()) {
        Ok(Task::Help) => print(HELP),
        Ok(Task::Version) => print(concat!("mesh-sidecar ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Task::Check(source)) => match load(&source).and_then(check) {
            Ok(()) => print("the configuration is valid\n"),
            Err(problems) => refuse(&problems),
        },
        Ok(Task::Run(source, running)) => run(&source, running),
        Err(problems) => refuse(&problems),
    }
}

fn print(text: &str) -> ExitCode {
    // A reader that has gone wants nothing more.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "mesh-sidecar: {line}");
}

fn refuse(problems: &[String]) -> ExitCode {
    problems.iter().for_each(|problem| say(problem));
    ExitCode::from(USAGE)
}

fn load(source: &Source) -> Result<Resources, Vec<String>> {
    match source {
        Source::Direct(resources) => Ok(Resources::clone(resources)),
        Source::File(file) => {
            let text = std::fs::read_to_string(file).map_err(|error| vec![format!("{file}: {error}")])?;
            mesh_model::validate::parse(&text)
                .map_err(|issues| issues.iter().map(|issue| format!("{file}:{issue}")).collect())
        }
    }
}

fn check(resources: Resources) -> Result<(), Vec<String>> {
    let issues = mesh_model::validate::validate(&resources);
    if issues.is_empty() {
        Ok(())
    } else {
        Err(issues.iter().map(ToString::to_string).collect())
    }
}

fn apply(proxy: &Proxy, source: &Source) -> Result<Applied, Vec<String>> {
    let resources = load(source)?;
    proxy
        .apply(Change::Replace(resources))
        .map_err(|error| match error {
            ApplyError::Invalid(issues) => issues.iter().map(ToString::to_string).collect(),
            error => vec![error.to_string()],
        })
}

fn run(source: &Source, running: Running) -> ExitCode {
    let failed = |what: &str, error: std::io::Error| {
        say(&format!("{what}: {error}"));
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
    let proxy = match Proxy::start(Options {
        threads: running.threads,
    }) {
        Ok(proxy) => proxy,
        Err(error) => return failed("the proxy can't start", error),
    };
    match apply(&proxy, source) {
        Ok(applied) => {
            for (name, address) in &applied.addresses {
                say(&format!("{name} listens on {address}"));
            }
        }
        Err(problems) => return refuse(&problems),
    }
    runtime.block_on(until_end(&proxy, source, running, signals))
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

async fn until_end(proxy: &Proxy, source: &Source, running: Running, mut signals: Signals) -> ExitCode {
    let mut phase = proxy.phase();
    let mut draining = false;
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => {}
            _ = signals.interrupt.recv() => {}
            _ = signals.hangup.recv() => {
                match apply(proxy, source) {
                    Ok(applied) => say(&format!("version {} is live", applied.version)),
                    Err(problems) => {
                        problems.iter().for_each(|problem| say(problem));
                        say("not applied: the last good configuration keeps serving");
                    }
                }
                continue;
            }
            drained = phase.wait_for(|phase| *phase == Phase::Drained) => {
                // The control thread ends only with the process.
                return if drained.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
            }
        }
        if draining {
            say("ended");
            return ExitCode::FAILURE;
        }
        draining = true;
        say("draining; a second signal ends at once");
        proxy.drain(DrainOptions {
            lame_duck: running.lame_duck,
            work: None,
        });
    }
}
