//! Who keeps the clients going? One loop: sockets that are ready, and in an open loop the clock.
//!
//! The first error ends the load: a figure with errors in it is worth nothing, so nobody waits for it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use serde_json::Value;

use crate::args::Args;
use crate::link::{Life, Link, Scratch};
use crate::poll::{Poll, Ready};
use crate::run::{Errors, Pace, Run};
use crate::tls::{self, Tls};
use crate::wire::{Machine, Output};
use crate::{h1, h2};

/// How long answers may take once no more requests start.
const PATIENCE: Duration = Duration::from_secs(10);
/// The clock's place among the connections.
const CLOCK: usize = usize::MAX;

/// A client of either protocol.
enum Client {
    H1(h1::Client),
    H2(Box<h2::Client>),
}

impl Client {
    fn fill(&mut self, out: &mut Output, run: &mut Run) {
        match self {
            Self::H1(client) => client.fill(out, run),
            Self::H2(client) => client.fill(out, run),
        }
    }

    fn in_flight(&self) -> u64 {
        match self {
            Self::H1(client) => client.in_flight(),
            Self::H2(client) => client.in_flight(),
        }
    }

    fn is_spent(&self) -> bool {
        matches!(self, Self::H1(client) if client.is_spent())
    }
}

impl Machine for Client {
    type Shared = Run;

    fn feed(&mut self, bytes: &[u8], out: &mut Output, run: &mut Run) -> Result<usize, String> {
        match self {
            Self::H1(client) => client.feed(bytes, out, run),
            Self::H2(client) => client.feed(bytes, out, run),
        }
    }

    fn opaque(&self) -> u64 {
        match self {
            Self::H1(client) => client.opaque(),
            Self::H2(client) => client.opaque(),
        }
    }

    fn skipped(&mut self, count: u64, out: &mut Output, run: &mut Run) -> Result<(), String> {
        match self {
            Self::H1(client) => client.skipped(count, out, run),
            Self::H2(client) => client.skipped(count, out, run),
        }
    }

    fn closed(&mut self) -> Result<(), String> {
        match self {
            Self::H1(client) => client.closed(),
            Self::H2(client) => client.closed(),
        }
    }
}

/// What every connection of the load does.
enum Plan {
    H1 {
        targets: Rc<[h1::Target]>,
        reuse: h1::Reuse,
    },
    H2 {
        call: h2::Call,
        streams: u32,
    },
}

impl Plan {
    fn from(protocol: &str, args: &Args) -> Result<Self, String> {
        let scheme = if args.flag("tls") { "https" } else { "http" };
        let path: String = args.or("path", "/b/100".to_owned())?;
        let host: String = args.or("host", "bench.test".to_owned())?;
        let streams = args.or("streams", 1)?;
        match protocol {
            "h1" => {
                let reuse = if args.flag("fresh") {
                    h1::Reuse::OneRequest
                } else {
                    h1::Reuse::KeepAlive
                };
                let variant = |n: u32| {
                    let name = n.to_string();
                    h1::Target::get(&path.replace("{n}", &name), &host.replace("{n}", &name))
                };
                Ok(Self::H1 {
                    targets: (0..args.or("variants", 1)?).map(variant).collect(),
                    reuse,
                })
            }
            "h2" => Ok(Self::H2 {
                call: h2::Call::get(scheme, &path, &host),
                streams,
            }),
            "grpc" => {
                let size = args.or("message", 100)?;
                if size > h2::MESSAGE_LIMIT {
                    return Err(format!("--message {size}: at most {} bytes", h2::MESSAGE_LIMIT));
                }
                Ok(Self::H2 {
                    call: h2::Call::grpc(scheme, &host, size),
                    streams,
                })
            }
            other => Err(format!("protocol {other:?}: expected h1, h2 or grpc")),
        }
    }

    fn alpn(&self) -> &'static str {
        match self {
            Self::H1 { .. } => "http/1.1",
            Self::H2 { .. } => "h2",
        }
    }

    fn client(&self, index: usize) -> Client {
        match self {
            Self::H1 { targets, reuse } => {
                Client::H1(h1::Client::new(Rc::clone(targets), index * 131, *reuse))
            }
            Self::H2 { call, streams } => Client::H2(Box::new(h2::Client::new(call.clone(), *streams))),
        }
    }
}

/// The open loop's clock: requests are due at even distances, whether or not anybody had time for the last one.
struct Clock {
    timer: OwnedFd,
    interval: Duration,
    next: Instant,
    warm: Option<Instant>,
    end: Instant,
}

impl Clock {
    fn new(rate: f64, warmup: Duration, length: Duration) -> Result<Self, String> {
        if !(rate > 0.0 && rate <= 1e6) {
            return Err(format!("--rate {rate}: expected more than 0 and at most 1000000"));
        }
        let interval = Duration::from_secs_f64(1.0 / rate);
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )
        .map_err(|error| error.to_string())?;
        let every = Timespec {
            tv_sec: i64::try_from(interval.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: interval.subsec_nanos().into(),
        };
        let start = Instant::now();
        timerfd_settime(
            &timer,
            TimerfdTimerFlags::empty(),
            &Itimerspec {
                it_interval: every,
                it_value: every,
            },
        )
        .map_err(|error| error.to_string())?;
        Ok(Self {
            timer,
            interval,
            next: start + interval,
            warm: Some(start + warmup),
            end: start + warmup + length,
        })
    }

    /// Acknowledges the timer and queues what is due.
    fn tick(&mut self, run: &mut Run) {
        let mut count = [0; 8];
        // Nothing to read means a tick that was already taken.
        let _ = rustix::io::read(&self.timer, &mut count);
        while self.next <= run.now && self.next < self.end {
            if self.warm.is_some_and(|warm| self.next >= warm) {
                self.warm = None;
                run.reset();
            }
            if let Pace::Open { due } = &mut run.pace {
                due.push_back(self.next);
            }
            self.next += self.interval;
        }
    }
}

/// Runs `h1`, `h2`, `grpc` or `rate` and prints what came of it.
pub(crate) fn load(command: &str, args: &Args) -> Result<(), String> {
    let open = command == "rate";
    let protocol = if open {
        args.or("protocol", "h1".to_owned())?
    } else {
        command.to_owned()
    };
    let plan = Plan::from(&protocol, args)?;
    let seconds = |name, default| {
        args.or(name, default).and_then(|value: f64| {
            Duration::try_from_secs_f64(value).map_err(|error| format!("--{name} {value}: {error}"))
        })
    };
    let requests: Option<u64> = args.get("requests")?;
    let length = seconds("seconds", if requests.is_some() { 600.0 } else { 1.0 })?;
    let clock = if open {
        Some(Clock::new(args.need("rate")?, seconds("warmup", 0.0)?, length)?)
    } else {
        None
    };
    let pace = match &clock {
        Some(_) => Pace::Open { due: VecDeque::new() },
        None => Pace::Closed {
            until: Instant::now() + length,
            left: requests.unwrap_or(u64::MAX),
        },
    };
    let mut load = Load {
        to: args.need("to")?,
        tls: Tls::from(args, plan.alpn())?,
        plan,
        poll: Poll::new().map_err(|error| error.to_string())?,
        scratch: Scratch::new(),
        run: Run::new(pace),
        links: Vec::new(),
        clock,
        opened: 0,
        agreed: Value::Null,
    };
    let start = Instant::now();
    let outcome = load.go(args.or("connections", 1)?);
    let mut report = load.run.report((load.run.now - start).as_secs_f64());
    report["connections"] = load.opened.into();
    report["tls"] = load.agreed.take();
    let mut errors = Errors::default();
    if let Err(message) = outcome {
        errors.add(message);
    }
    errors.print(report);
    Ok(())
}

struct Load {
    to: SocketAddr,
    tls: Option<Tls>,
    plan: Plan,
    poll: Poll,
    scratch: Scratch,
    run: Run,
    links: Vec<Link<Client>>,
    clock: Option<Clock>,
    opened: usize,
    agreed: Value,
}

impl Load {
    fn go(&mut self, connections: usize) -> Result<(), String> {
        if let Some(clock) = &self.clock {
            self.poll
                .add(&clock.timer, CLOCK)
                .map_err(|error| error.to_string())?;
        }
        for token in 0..connections {
            let link = self.open(token)?;
            self.links.push(link);
        }
        let mut ready: Vec<Ready> = Vec::new();
        let mut last_progress = (self.run.finished, Instant::now());
        while !self.is_over() {
            self.poll
                .wait(Some(PATIENCE), &mut ready)
                .map_err(|error| error.to_string())?;
            self.run.now = Instant::now();
            for event in &ready {
                if event.token == CLOCK {
                    self.tick()?
                } else {
                    self.serve(*event)?
                }
            }
            if self.run.finished > last_progress.0 {
                last_progress = (self.run.finished, self.run.now);
            } else if self.run.now - last_progress.1 >= PATIENCE {
                let waiting: u64 = self.links.iter().map(|link| link.machine.in_flight()).sum();
                return Err(format!(
                    "{waiting} requests unanswered for {} s",
                    PATIENCE.as_secs()
                ));
            }
        }
        if self.agreed.is_null()
            && let Some(tls) = self.links.first().and_then(Link::tls)
        {
            self.agreed = tls::describe(tls);
        }
        for link in &mut self.links {
            link.say_goodbye();
        }
        Ok(())
    }

    /// Nothing is under way and nothing more will start.
    fn is_over(&self) -> bool {
        !self.will_start() && self.run.started == self.run.finished
    }

    fn will_start(&self) -> bool {
        match (&self.run.pace, &self.clock) {
            (Pace::Closed { until, left }, _) => *left > 0 && self.run.now < *until,
            (Pace::Open { due }, Some(clock)) => !due.is_empty() || clock.next < clock.end,
            (Pace::Open { due }, None) => !due.is_empty(),
        }
    }

    fn open(&mut self, token: usize) -> Result<Link<Client>, String> {
        let tls = self.tls.as_ref().map(Tls::connection).transpose()?;
        let client = self.plan.client(self.opened);
        let mut link = Link::connect(self.to, client, tls, &self.poll, token)?;
        self.opened += 1;
        link.machine.fill(&mut link.out, &mut self.run);
        link.flush(&self.poll, &self.scratch)?;
        Ok(link)
    }

    fn serve(&mut self, event: Ready) -> Result<(), String> {
        let Some(link) = self.links.get_mut(event.token) else {
            return Ok(());
        };
        let mut life = Life::Open;
        if event.writable {
            life = link.writable(&self.poll, &mut self.scratch, &mut self.run)?;
        }
        if event.readable && life == Life::Open {
            link.readable(&self.poll, &mut self.scratch, &mut self.run)?;
        }
        if !link.machine.is_spent() {
            return Ok(());
        }
        link.say_goodbye();
        if self.agreed.is_null()
            && let Some(tls) = link.tls()
        {
            self.agreed = tls::describe(tls);
        }
        if self.will_start() {
            let fresh = self.open(event.token)?;
            if let Some(slot) = self.links.get_mut(event.token) {
                *slot = fresh;
            }
        }
        Ok(())
    }

    /// Gives what is due to connections that are free.
    fn tick(&mut self) -> Result<(), String> {
        let Some(clock) = &mut self.clock else {
            return Ok(());
        };
        clock.tick(&mut self.run);
        let first = usize::try_from(self.run.started).unwrap_or(0);
        let count = self.links.len();
        for step in 0..count {
            if matches!(&self.run.pace, Pace::Open { due } if due.is_empty()) {
                break;
            }
            // Turn by turn, so that all connections are in use.
            let Some(link) = self.links.get_mut((first + step) % count) else {
                break;
            };
            link.machine.fill(&mut link.out, &mut self.run);
            link.flush(&self.poll, &self.scratch)?;
        }
        Ok(())
    }
}
