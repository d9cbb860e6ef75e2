//! How do bytes get from a socket to a machine and back? One link for each connection, with TLS in between if asked.
//!
//! Invariants: a read that comes back short is the last one of its turn; a link waits for writability only while
//! something is left to write; nothing is read into a machine while its last large answer is still leaving.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustix::net::{RecvFlags, recv};
use rustls::ClientConnection;

use crate::poll::{Interest, Poll};
use crate::wire::{Machine, Output};

/// Bytes taken from a socket at once, and the size of the block that large bodies are sent from.
pub(crate) const BLOCK: usize = 256 * 1024;

/// Buffers that all links of a process share, since only one is at work at a time.
pub(crate) struct Scratch {
    received: Vec<u8>,
    plain: Vec<u8>,
    filler: Vec<u8>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self {
            received: vec![0; BLOCK],
            plain: vec![0; BLOCK],
            filler: vec![b'm'; BLOCK],
        }
    }
}

/// Whether a connection goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Open,
    Closed,
}

pub(crate) struct Link<M> {
    pub(crate) machine: M,
    pub(crate) out: Output,
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    input: Vec<u8>,
    sent: usize,
    interest: Interest,
    token: usize,
}

impl<M: Machine> Link<M> {
    pub(crate) fn connect(
        to: SocketAddr,
        machine: M,
        tls: Option<ClientConnection>,
        poll: &Poll,
        token: usize,
    ) -> Result<Self, String> {
        let socket = TcpStream::connect(to).map_err(|error| format!("connect to {to}: {error}"))?;
        Self::adopt(socket, machine, tls, poll, token).map_err(|error| error.to_string())
    }

    /// Takes over a connected socket.
    pub(crate) fn adopt(
        socket: TcpStream,
        machine: M,
        tls: Option<ClientConnection>,
        poll: &Poll,
        token: usize,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        poll.add(&socket, token)?;
        Ok(Self {
            machine,
            out: Output::default(),
            socket,
            tls: tls.map(Box::new),
            input: Vec::new(),
            sent: 0,
            interest: Interest::Read,
            token,
        })
    }

    pub(crate) fn tls(&self) -> Option<&ClientConnection> {
        self.tls.as_deref()
    }

    /// Reads what is there, feeds it and sends the answers.
    pub(crate) fn readable(
        &mut self,
        poll: &Poll,
        scratch: &mut Scratch,
        shared: &mut M::Shared,
    ) -> Result<Life, String> {
        // While a large answer is leaving, the peer's next bytes wait in the kernel.
        while self.out.fill == 0 {
            let opaque = if self.tls.is_none() && self.input.is_empty() {
                self.machine.opaque()
            } else {
                0
            };
            let (limit, flags) = match usize::try_from(opaque).unwrap_or(usize::MAX) {
                0 => (BLOCK, RecvFlags::empty()),
                count => (count.min(BLOCK), RecvFlags::TRUNC),
            };
            let window = scratch.received.get_mut(..limit).unwrap_or_default();
            let count = match recv(&self.socket, window, flags) {
                Ok((_, 0)) => {
                    self.machine.closed()?;
                    return Ok(Life::Closed);
                }
                Ok((_, count)) => count,
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => break,
                Err(error) => {
                    self.machine.closed().map_err(|_| format!("read: {error}"))?;
                    return Ok(Life::Closed);
                }
            };
            if flags.contains(RecvFlags::TRUNC) {
                self.machine.skipped(count as u64, &mut self.out, shared)?;
            } else if self.tls.is_some() {
                self.decrypt(count, scratch, shared)?;
            } else {
                let Scratch { received, .. } = scratch;
                feed(
                    &mut self.machine,
                    &mut self.input,
                    &received[..count],
                    &mut self.out,
                    shared,
                )?;
            }
            if count < limit {
                break;
            }
        }
        self.flush(poll, scratch)
    }

    fn decrypt(&mut self, count: usize, scratch: &mut Scratch, shared: &mut M::Shared) -> Result<(), String> {
        let Some(tls) = self.tls.as_deref_mut() else {
            return Ok(());
        };
        let mut rest = &scratch.received[..count];
        while !rest.is_empty() {
            tls.read_tls(&mut rest).map_err(|error| format!("tls: {error}"))?;
            let state = tls
                .process_new_packets()
                .map_err(|error| format!("tls: {error}"))?;
            let mut left = state.plaintext_bytes_to_read();
            while left > 0 {
                let got = tls
                    .reader()
                    .read(&mut scratch.plain)
                    .map_err(|error| format!("tls: {error}"))?;
                feed(
                    &mut self.machine,
                    &mut self.input,
                    &scratch.plain[..got],
                    &mut self.out,
                    shared,
                )?;
                left = left.saturating_sub(got.max(1));
            }
        }
        Ok(())
    }

    /// The socket takes bytes again: sends, and once all is gone lets the machine see input that had to wait.
    pub(crate) fn writable(
        &mut self,
        poll: &Poll,
        scratch: &mut Scratch,
        shared: &mut M::Shared,
    ) -> Result<Life, String> {
        let life = self.flush(poll, scratch)?;
        if life == Life::Open && self.interest == Interest::Read && !self.input.is_empty() {
            feed(&mut self.machine, &mut self.input, &[], &mut self.out, shared)?;
            return self.flush(poll, scratch);
        }
        Ok(life)
    }

    /// Sends what is waiting, as far as the socket takes it.
    pub(crate) fn flush(&mut self, poll: &Poll, scratch: &Scratch) -> Result<Life, String> {
        let outcome = match &mut self.tls {
            Some(tls) => send_tls(&self.socket, tls, &mut self.out),
            None => send_plain(&self.socket, &mut self.out, &mut self.sent, &scratch.filler),
        };
        let wanted = match outcome {
            Ok(()) => Interest::Read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Interest::ReadWrite,
            Err(error) => {
                self.machine.closed().map_err(|_| format!("write: {error}"))?;
                return Ok(Life::Closed);
            }
        };
        if wanted != self.interest {
            poll.modify(&self.socket, self.token, wanted)
                .map_err(|error| error.to_string())?;
            self.interest = wanted;
        }
        Ok(Life::Open)
    }

    /// Ends a TLS session in order before the socket is dropped.
    pub(crate) fn say_goodbye(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            // The peer may be gone already, and then nobody is left to tell.
            let _ = tls.write_tls(&mut &self.socket);
        }
    }
}

/// Gives the machine old and new bytes and keeps what it leaves.
fn feed<M: Machine>(
    machine: &mut M,
    kept: &mut Vec<u8>,
    fresh: &[u8],
    out: &mut Output,
    shared: &mut M::Shared,
) -> Result<(), String> {
    if kept.is_empty() {
        let used = machine.feed(fresh, out, shared)?;
        kept.extend_from_slice(fresh.get(used..).unwrap_or_default());
    } else {
        kept.extend_from_slice(fresh);
        let used = machine.feed(kept, out, shared)?;
        kept.drain(..used.min(kept.len()));
    }
    Ok(())
}

fn send_plain(mut socket: &TcpStream, out: &mut Output, sent: &mut usize, filler: &[u8]) -> io::Result<()> {
    while let Some(rest) = out.bytes.get(*sent..).filter(|rest| !rest.is_empty()) {
        *sent += socket.write(rest)?;
    }
    out.bytes.clear();
    *sent = 0;
    while out.fill > 0 {
        let size = filler.len().min(usize::try_from(out.fill).unwrap_or(usize::MAX));
        out.fill -= socket.write(filler.get(..size).unwrap_or_default())? as u64;
    }
    Ok(())
}

fn send_tls(mut socket: &TcpStream, tls: &mut ClientConnection, out: &mut Output) -> io::Result<()> {
    if !out.bytes.is_empty() {
        tls.writer().write_all(&out.bytes)?;
        out.bytes.clear();
    }
    while tls.wants_write() {
        tls.write_tls(&mut socket)?;
    }
    Ok(())
}
