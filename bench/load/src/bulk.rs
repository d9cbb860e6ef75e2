//! What does a byte stream cost? A client sends `up` bytes and then takes `down` bytes, on every connection.
//!
//! The stream: both counts (8 bytes each, big-endian), `up` bytes, from the origin one byte once it has them all, then
//! `down` bytes. Only counts are checked here; that every byte is the right one is a matter of the tests.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::args::Args;
use crate::link::{Link, Scratch};
use crate::poll::Poll;
use crate::run::Errors;
use crate::wire::{Machine, Output};

/// How long a stream may stand still.
const PATIENCE: Duration = Duration::from_secs(10);

struct Client {
    left: u64,
}

impl Machine for Client {
    type Shared = ();

    fn feed(&mut self, bytes: &[u8], out: &mut Output, shared: &mut ()) -> Result<usize, String> {
        self.skipped(bytes.len() as u64, out, shared)?;
        Ok(bytes.len())
    }

    fn opaque(&self) -> u64 {
        self.left
    }

    fn skipped(&mut self, count: u64, _out: &mut Output, _shared: &mut ()) -> Result<(), String> {
        self.left = self.left.checked_sub(count).ok_or("more bytes than asked for")?;
        Ok(())
    }

    fn closed(&mut self) -> Result<(), String> {
        if self.left == 0 {
            Ok(())
        } else {
            Err(format!("stream ended {} bytes early", self.left))
        }
    }
}

/// The origin's end.
#[derive(Default)]
pub(crate) struct Server {
    plan: Option<(u64, u64)>,
}

impl Server {
    pub(crate) fn feed(&mut self, bytes: &[u8], out: &mut Output) -> Result<usize, String> {
        if self.plan.is_some() {
            self.skipped(bytes.len() as u64, out)?;
            return Ok(bytes.len());
        }
        let Some((up, rest)) = bytes.split_first_chunk() else {
            return Ok(0);
        };
        let Some((down, rest)) = rest.split_first_chunk() else {
            return Ok(0);
        };
        self.plan = Some((u64::from_be_bytes(*up), u64::from_be_bytes(*down)));
        self.skipped(rest.len() as u64, out)?;
        Ok(bytes.len())
    }

    pub(crate) fn opaque(&self) -> u64 {
        self.plan.map_or(0, |(up, _)| up)
    }

    pub(crate) fn skipped(&mut self, count: u64, out: &mut Output) -> Result<(), String> {
        let (up, down) = self.plan.as_mut().ok_or("bytes before the counts")?;
        *up = up.checked_sub(count).ok_or("more bytes than announced")?;
        if *up == 0 {
            out.bytes.push(b'!');
            out.fill = std::mem::take(down);
        }
        Ok(())
    }
}

/// Runs `tcp`.
pub(crate) fn transfer(args: &Args) -> Result<(), String> {
    let (up, down): (u64, u64) = (args.or("up", 0)?, args.or("down", 0)?);
    let connections: usize = args.or("connections", 1)?;
    let start = Instant::now();
    let mut errors = Errors::default();
    if let Err(message) = run(args.need("to")?, connections, up, down) {
        errors.add(message);
    }
    errors.print(json!({
        "bytes": (up + down) * connections as u64,
        "connections": connections,
        "seconds": start.elapsed().as_secs_f64(),
    }));
    Ok(())
}

fn run(to: SocketAddr, connections: usize, up: u64, down: u64) -> Result<(), String> {
    let mut poll = Poll::new().map_err(|error| error.to_string())?;
    let mut scratch = Scratch::new();
    let mut links = Vec::new();
    for token in 0..connections {
        let mut link = Link::connect(to, Client { left: down + 1 }, None, &poll, token)?;
        link.out.bytes.extend_from_slice(&up.to_be_bytes());
        link.out.bytes.extend_from_slice(&down.to_be_bytes());
        link.out.fill = up;
        link.flush(&poll, &scratch)?;
        links.push(link);
    }
    let mut ready = Vec::new();
    while links.iter().any(|link| link.machine.left > 0) {
        poll.wait(Some(PATIENCE), &mut ready)
            .map_err(|error| error.to_string())?;
        if ready.is_empty() {
            return Err(format!("no byte moved for {} s", PATIENCE.as_secs()));
        }
        for event in &ready {
            let Some(link) = links.get_mut(event.token) else {
                continue;
            };
            if event.writable {
                link.writable(&poll, &mut scratch, &mut ())?;
            }
            if event.readable {
                link.readable(&poll, &mut scratch, &mut ())?;
            }
        }
    }
    Ok(())
}
