//! Who answers behind the proxies? One thread that accepts, tells HTTP/1 from HTTP/2, and answers at once.

use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::json;

use crate::args::Args;
use crate::bulk;
use crate::h1;
use crate::h2::{self, PREFACE};
use crate::link::{Life, Link, Scratch};
use crate::poll::{Poll, Ready};
use crate::wire::{Machine, Output};

/// One connection from a proxy.
enum Server {
    /// Not enough bytes yet to tell.
    Unknown,
    H1(h1::Server),
    H2(Box<h2::Server>),
    Bulk(bulk::Server),
}

impl Machine for Server {
    type Shared = ();

    fn feed(&mut self, bytes: &[u8], out: &mut Output, _shared: &mut ()) -> Result<usize, String> {
        if matches!(self, Self::Unknown) {
            let common = bytes.len().min(PREFACE.len());
            if bytes.get(..common) != PREFACE.get(..common) {
                *self = Self::H1(h1::Server::default());
            } else if common == PREFACE.len() {
                *self = Self::H2(Box::new(h2::Server::new(out)));
            }
        }
        match self {
            Self::Unknown => Ok(0),
            Self::H1(server) => server.feed(bytes, out),
            Self::H2(server) => server.feed(bytes, out),
            Self::Bulk(server) => server.feed(bytes, out),
        }
    }

    fn opaque(&self) -> u64 {
        match self {
            Self::Bulk(server) => server.opaque(),
            _ => 0,
        }
    }

    fn skipped(&mut self, count: u64, out: &mut Output, _shared: &mut ()) -> Result<(), String> {
        match self {
            Self::Bulk(server) => server.skipped(count, out),
            _ => Ok(()),
        }
    }

    /// Proxies may hang up whenever they like.
    fn closed(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// The two listeners' places; connections come after them.
const HTTP: usize = 0;
const BULK: usize = 1;
const FIRST: usize = 2;

/// Runs `origin`: prints the addresses, then serves until it is killed.
pub(crate) fn serve(args: &Args) -> Result<(), String> {
    let listen = |name: &str| -> Result<TcpListener, String> {
        let address: SocketAddr = args.or(name, SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let listener = TcpListener::bind(address).map_err(|error| format!("{address}: {error}"))?;
        listener
            .set_nonblocking(true)
            .map_err(|error| error.to_string())?;
        Ok(listener)
    };
    let (http, bulk) = (listen("http")?, listen("tcp")?);
    let address = |listener: &TcpListener| listener.local_addr().map(|address| address.to_string()).ok();
    println!("{}", json!({ "http": address(&http), "tcp": address(&bulk) }));
    Origin {
        http,
        bulk,
        poll: Poll::new().map_err(|error| error.to_string())?,
        scratch: Scratch::new(),
        links: Vec::new(),
        free: Vec::new(),
    }
    .run()
}

struct Origin {
    http: TcpListener,
    bulk: TcpListener,
    poll: Poll,
    scratch: Scratch,
    links: Vec<Option<Link<Server>>>,
    free: Vec<usize>,
}

impl Origin {
    fn run(mut self) -> Result<(), String> {
        let text = |error: std::io::Error| error.to_string();
        self.poll.add(&self.http, HTTP).map_err(text)?;
        self.poll.add(&self.bulk, BULK).map_err(text)?;
        let mut ready: Vec<Ready> = Vec::new();
        loop {
            self.poll.wait(None, &mut ready).map_err(text)?;
            for event in &ready {
                match event.token {
                    HTTP | BULK => self.accept(event.token)?,
                    token => self.serve(token - FIRST, *event),
                }
            }
        }
    }

    fn accept(&mut self, listener: usize) -> Result<(), String> {
        loop {
            let from = if listener == BULK { &self.bulk } else { &self.http };
            match from.accept() {
                Ok((socket, _)) => self.adopt(socket, listener)?,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(format!("accept: {error}")),
            }
        }
    }

    fn adopt(&mut self, socket: TcpStream, listener: usize) -> Result<(), String> {
        let machine = if listener == BULK {
            Server::Bulk(bulk::Server::default())
        } else {
            Server::Unknown
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.links.push(None);
            self.links.len() - 1
        });
        let link = Link::adopt(socket, machine, None, &self.poll, slot + FIRST);
        if let Some(place) = self.links.get_mut(slot) {
            *place = Some(link.map_err(|error| error.to_string())?);
        }
        Ok(())
    }

    /// A connection that breaks is the affair of the proxy and of the client in front of it.
    fn serve(&mut self, slot: usize, event: Ready) {
        let Some(place) = self.links.get_mut(slot) else {
            return;
        };
        let Some(link) = place else { return };
        let mut life = Ok(Life::Open);
        if event.writable {
            life = link.writable(&self.poll, &mut self.scratch, &mut ());
        }
        if event.readable && life == Ok(Life::Open) {
            life = link.readable(&self.poll, &mut self.scratch, &mut ());
        }
        if life != Ok(Life::Open) {
            if let Err(message) = life {
                eprintln!("origin: {message}");
            }
            *place = None;
            self.free.push(slot);
        }
    }
}
