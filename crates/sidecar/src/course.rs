//! How does a sidecar get from its start to its end?
//!
//! ```text
//!   starting ── something is served ──> serving ── a signal, or the command's end ──> draining ──> drained ──> the end
//!      │                                   │                                             ^            │
//!      └── nothing can be: the end         └───────── a drain on the admin port ─────────┘  a command ends first
//! ```
//!
//! What happens comes one at a time, and each has a method that says what is done about it.

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use mesh_model::resources::Address;
use mesh_proxy::log::Log;
use mesh_proxy::proxy::{Applied, ApplyError, Change, DrainOptions, Phase, Proxy};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::command::Started;
use crate::listening::listens;
use crate::mesh::Life;
use crate::settings::{Running, Source};
use crate::{When, load};

/// How long a control plane may take to hear that a drained sidecar goes.
const FAREWELL: Duration = Duration::from_secs(1);

/// It ended as it was asked to.
const SUCCESS: u8 = 0;
/// It failed, or was ended before its work was done.
const FAILURE: u8 = 1;

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

/// Says where it listens that it did not before; gives where it listens now.
pub(crate) fn announce(log: &Log, before: &[(String, Address)], applied: Applied) -> Vec<(String, Address)> {
    for listening in applied.addresses.iter().filter(|now| !before.contains(now)) {
        let (name, address) = listening;
        log.info(&format!("{name} listens on {address}"), &[]);
    }
    applied.addresses
}

/// The signals that it hears.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    /// Hears them from now on.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }
}

/// What it serves, and how.
pub(crate) struct Work<'a> {
    pub(crate) source: &'a Arc<Source>,
    pub(crate) running: &'a Running,
    /// What is to be started once it serves.
    pub(crate) command: Option<Vec<OsString>>,
    /// Where the command is to listen before it is ready.
    pub(crate) awaited: Option<Address>,
}

/// How it ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With this exit code.
    Code(u8),
    /// Its first configuration is bad.
    Refused(Vec<String>),
}

/// Serves until the end.
pub(crate) async fn until_end(
    proxy: &Proxy,
    work: Work<'_>,
    life: Option<Life<'_>>,
    mut signals: Signals,
) -> End {
    let source = work.source;
    let awaited = work.awaited.clone();
    let serves = life.as_ref().map(Life::serves);
    let lives = serves.is_some();
    let mut course = Course::new(proxy, work, lives);
    let mut life = pin!(async {
        match life {
            Some(life) => life.live().await,
            None => std::future::pending().await,
        }
    });
    let mut joined = pin!(async {
        let Some(mut serves) = serves else {
            return std::future::pending().await;
        };
        if serves.wait_for(|serves| *serves).await.is_err() {
            // It has left before.
            std::future::pending().await
        }
    });
    let mut listening = pin!(async {
        match &awaited {
            Some(application) => listens(application, proxy.log()).await,
            None => std::future::pending().await,
        }
    });
    let mut applying = (!lives).then(|| apply(proxy, source, When::First));
    loop {
        let next = tokio::select! {
            _ = signals.terminate.recv() => course.on_signal().await,
            _ = signals.interrupt.recv() => course.on_signal().await,
            () = &mut life, if !course.has_left => course.on_left(),
            () = &mut joined, if !course.stage.has_served() => course.on_joined(),
            () = &mut listening, if course.awaits_command() => course.on_listening(),
            _ = signals.hangup.recv(), if applying.is_none() => {
                proxy.reload_files();
                applying = (!lives).then(|| apply(proxy, source, When::Again));
                ControlFlow::Continue(())
            }
            Some(result) = async { Some(applying.as_mut()?.await) }, if applying.is_some() => {
                applying = None;
                course.on_applied(result)
            }
            _ = signals.user1.recv() => course.on_logs_moved(),
            _ = signals.user2.recv() => course.on_command_left_somebody(),
            code = course.command.ended() => course.on_command_ended(code),
            seen = drained(&mut course.phase), if course.stage != Stage::Drained => {
                course.on_drained(seen, &mut life).await
            }
        };
        if let ControlFlow::Break(end) = next {
            return end;
        }
    }
}

/// Resolves when the proxy has drained; whether it was seen to.
async fn drained(phase: &mut watch::Receiver<Phase>) -> bool {
    phase.wait_for(|phase| *phase == Phase::Drained).await.is_ok()
}

/// The command beside the proxy.
enum Command {
    /// There is none.
    None,
    /// It is started once something is served.
    Waiting(Vec<OsString>),
    /// It runs, or something that it started.
    Running(Started),
    /// All of it has gone. It ended with this exit code.
    Ended(u8),
}

impl Command {
    /// Starts it, if it was not started yet.
    fn start(&mut self, grace: Duration) -> std::io::Result<()> {
        if let Self::Waiting(command) = self {
            *self = Self::Running(Started::start(command, grace)?);
        }
        Ok(())
    }

    /// Resolves with its exit code when it runs and ends; never, when it does not run.
    async fn ended(&mut self) -> u8 {
        match self {
            Self::Running(started) => started.ended().await,
            _ => std::future::pending().await,
        }
    }
}

/// How far a sidecar is. A drain that is asked for on the admin port shows in the proxy's [`Phase`] alone, until it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing is served yet.
    Starting,
    /// Something is.
    Serving,
    /// It was asked to end.
    Draining { has_served: bool },
    /// Its work is done. A command has still to end.
    Drained,
}

impl Stage {
    fn has_served(self) -> bool {
        !matches!(self, Self::Starting | Self::Draining { has_served: false })
    }

    /// Whether nobody has asked for its end here.
    fn is_up(self) -> bool {
        matches!(self, Self::Starting | Self::Serving)
    }
}

/// A sidecar on its way.
struct Course<'a> {
    proxy: &'a Proxy,
    log: &'a Log,
    running: &'a Running,
    phase: watch::Receiver<Phase>,
    stage: Stage,
    /// Where it listens.
    addresses: Vec<(String, Address)>,
    command: Command,
    /// Where the command is to listen before it is ready, until it does.
    awaited: Option<Address>,
    /// Whether no control plane has to hear that it goes: none is there, or it knows.
    has_left: bool,
}

impl<'a> Course<'a> {
    fn new(proxy: &'a Proxy, work: Work<'a>, lives: bool) -> Self {
        Self {
            proxy,
            log: proxy.log(),
            running: work.running,
            phase: proxy.phase(),
            stage: Stage::Starting,
            addresses: Vec::new(),
            command: work.command.map_or(Command::None, Command::Waiting),
            awaited: work.awaited,
            has_left: !lives,
        }
    }

    /// Whether it is on its way out, whoever asked for that.
    fn is_leaving(&self) -> bool {
        !self.stage.is_up() || matches!(*self.phase.borrow(), Phase::Draining | Phase::Drained)
    }

    fn awaits_command(&self) -> bool {
        self.awaited.is_some() && self.stage.is_up() && matches!(self.command, Command::Running(_))
    }

    fn drain(&mut self, lame_duck: Duration) {
        self.proxy.drain(DrainOptions {
            lame_duck,
            work: None,
        });
        self.stage = Stage::Draining {
            has_served: self.stage.has_served(),
        };
    }

    /// Something is served from now on. So the command is started, unless it would have to end at once.
    fn serves(&mut self) -> ControlFlow<End> {
        match self.stage {
            Stage::Starting | Stage::Serving => self.stage = Stage::Serving,
            Stage::Draining { .. } => {
                self.stage = Stage::Draining { has_served: true };
                return ControlFlow::Continue(());
            }
            Stage::Drained => return ControlFlow::Continue(()),
        }
        match self.command.start(self.running.grace) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.log
                    .error(&format!("the command can't be started: {error}"), &[]);
                ControlFlow::Break(End::Code(FAILURE))
            }
        }
    }

    /// Somebody wants its end: after a drain, or at once where it drains already.
    async fn on_signal(&mut self) -> ControlFlow<End> {
        if self.is_leaving() {
            self.log.warn("ended before all work was done", &[]);
            if let Command::Running(started) = &mut self.command {
                started.kill().await;
            }
            return ControlFlow::Break(End::Code(FAILURE));
        }
        self.log.info("draining; a second signal ends at once", &[]);
        self.drain(self.running.lame_duck);
        ControlFlow::Continue(())
    }

    /// The control plane knows that it goes.
    fn on_left(&mut self) -> ControlFlow<End> {
        self.has_left = true;
        ControlFlow::Continue(())
    }

    /// It serves what its control plane says.
    fn on_joined(&mut self) -> ControlFlow<End> {
        match &self.awaited {
            Some(application) => {
                self.log
                    .info(&format!("waits until the command listens on {application}"), &[]);
            }
            None => self.log.info("ready", &[]),
        }
        self.serves()
    }

    /// The command listens where it is to.
    fn on_listening(&mut self) -> ControlFlow<End> {
        self.awaited = None;
        self.proxy.await_application(false);
        self.log.info("ready", &[]);
        ControlFlow::Continue(())
    }

    /// A configuration was applied, or has these problems.
    fn on_applied(&mut self, result: Result<Applied, Vec<String>>) -> ControlFlow<End> {
        match (result, self.stage) {
            (Ok(applied), stage) => {
                if stage.has_served() {
                    self.log
                        .info(&format!("version {} is live", applied.version), &[]);
                }
                self.addresses = announce(self.log, &self.addresses, applied);
                self.serves()
            }
            (Err(problems), stage) if stage.has_served() => {
                problems.iter().for_each(|problem| self.log.error(problem, &[]));
                self.log
                    .error("not applied: the last good configuration keeps serving", &[]);
                ControlFlow::Continue(())
            }
            (Err(problems), Stage::Starting) => ControlFlow::Break(End::Refused(problems)),
            // What is not live by the time that a drain begins never is.
            (Err(_), _) => ControlFlow::Continue(()),
        }
    }

    /// Somebody has moved the access logs.
    fn on_logs_moved(&mut self) -> ControlFlow<End> {
        self.proxy.reopen_logs();
        self.log.info("access logs are reopened", &[]);
        ControlFlow::Continue(())
    }

    /// The command has ended, but not all that it started.
    fn on_command_left_somebody(&mut self) -> ControlFlow<End> {
        if matches!(self.command, Command::Running(_)) && !self.is_leaving() {
            self.log.warn(
                "the command has ended, and what it left is being ended: draining",
                &[],
            );
            self.drain(Duration::ZERO);
        }
        ControlFlow::Continue(())
    }

    /// The command has ended with this exit code, and nothing that it started is left.
    fn on_command_ended(&mut self, code: u8) -> ControlFlow<End> {
        self.command = Command::Ended(code);
        if self.stage == Stage::Drained {
            return ControlFlow::Break(End::Code(code));
        }
        if !self.is_leaving() {
            self.log
                .info(&format!("the command ended with {code}: draining"), &[]);
            // Nobody is behind it any more: what comes anew is better off elsewhere.
            self.drain(Duration::ZERO);
        }
        ControlFlow::Continue(())
    }

    /// The proxy has drained, and was seen to; or its control thread is gone, which ends only with the process. `life`
    /// ends when the control plane has heard of it.
    async fn on_drained(&mut self, seen: bool, life: impl Future<Output = ()>) -> ControlFlow<End> {
        self.stage = Stage::Drained;
        if !self.has_left {
            self.has_left = tokio::time::timeout(FAREWELL, life).await.is_ok();
        }
        if !seen {
            return ControlFlow::Break(End::Code(FAILURE));
        }
        match &self.command {
            Command::Running(started) => {
                // The last of its requests is answered: it has nothing left to do.
                started.terminate();
                ControlFlow::Continue(())
            }
            Command::Ended(code) => ControlFlow::Break(End::Code(*code)),
            Command::None | Command::Waiting(_) => ControlFlow::Break(End::Code(SUCCESS)),
        }
    }
}

#[cfg(test)]
mod tests;
