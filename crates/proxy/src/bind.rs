//! How does a listener come by its sockets?
//!
//! One socket for each data thread, sharing the port by `SO_REUSEPORT`, so that the kernel spreads connections. That
//! option would also let this proxy share a port with a stranger of the same user, so a plain bind is tried first: a
//! port in use is an error, not a theft. Unix sockets are one socket, handed to every thread; its file goes when the
//! last of them lets go.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use mesh_model::resources::Address;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel holds until they are accepted; it caps this by `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A listening socket that no runtime owns yet.
#[derive(Debug)]
pub enum Listening {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// Unix, with the file that it is reached by.
    Unix(UnixListener, Arc<SocketFile>),
}

/// The file of a Unix socket. It is removed with this; a file that has taken its place since then stays.
#[derive(Debug)]
pub struct SocketFile {
    path: Box<str>,
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &str) -> io::Result<Self> {
        Ok(Self {
            path: path.into(),
            identity: identity(path)?,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            let _ = std::fs::remove_file(&*self.path);
        }
    }
}

/// What tells a file from another one of the same name.
fn identity(path: &str) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Binds an address for this many threads. Gives the sockets, and the address with the port that was chosen.
///
/// # Errors
/// What the system says, most often that the port is in use or that it is not ours to use.
pub fn bind(address: &Address, threads: usize) -> io::Result<(Vec<Listening>, Address)> {
    match address {
        Address::Ip(address) => match tcp(*address, threads) {
            // A machine without IPv6 can still serve `:8080`.
            Err(error) if address.ip().is_unspecified() && address.is_ipv6() && no_ipv6(&error) => {
                tcp((Ipv4Addr::UNSPECIFIED, address.port()).into(), threads)
            }
            result => result,
        },
        Address::Unix(path) => unix(path, threads),
    }
}

fn no_ipv6(error: &io::Error) -> bool {
    // EAFNOSUPPORT is 97 on Linux and 47 on macOS.
    matches!(error.raw_os_error(), Some(97 | 47)) || error.kind() == io::ErrorKind::AddrNotAvailable
}

fn tcp(address: SocketAddr, threads: usize) -> io::Result<(Vec<Listening>, Address)> {
    let threads = threads.max(1);
    let mut at = address;
    if threads > 1 && address.port() != 0 {
        socket(address, false)?;
    }
    let mut sockets = Vec::with_capacity(threads);
    for _ in 0..threads {
        let socket = socket(at, threads > 1)?;
        socket.listen(BACKLOG)?;
        if let Some(bound) = socket.local_addr()?.as_socket() {
            at = bound;
        }
        sockets.push(Listening::Tcp(socket.into()));
    }
    Ok((sockets, Address::Ip(at)))
}

fn socket(address: SocketAddr, share: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    if share {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn unix(path: &str, threads: usize) -> io::Result<(Vec<Listening>, Address)> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_over(path) => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        result => result?,
    };
    let file = Arc::new(SocketFile::of(path)?);
    listener.set_nonblocking(true)?;
    let mut sockets = Vec::with_capacity(threads);
    for _ in 1..threads {
        sockets.push(Listening::Unix(listener.try_clone()?, Arc::clone(&file)));
    }
    sockets.push(Listening::Unix(listener, file));
    Ok((sockets, Address::Unix(path.into())))
}

/// Whether it is the socket of a process that died: nobody listens. Any other file is somebody's.
fn is_left_over(path: &str) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_one_free_port_and_strangers_do_not() {
        let (sockets, bound) = bind(&"127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let ports: Vec<_> = sockets
            .iter()
            .map(|socket| match socket {
                Listening::Tcp(tcp) => tcp.local_addr().unwrap().port(),
                Listening::Unix(..) => 0,
            })
            .collect();
        let Address::Ip(address) = &bound else {
            panic!("{bound}")
        };
        assert!(ports.iter().all(|port| *port == address.port()));
        let again = bind(&bound, 3).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(bind(&bound, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_left_over_socket_file_is_no_obstacle_and_a_live_one_is() {
        let path = std::env::temp_dir().join(format!("mesh-bind-{}.sock", std::process::id()));
        let address = Address::Unix(path.to_str().unwrap().into());
        drop(UnixListener::bind(&path).unwrap());
        let (first, _) = bind(&address, 2).unwrap();
        assert_eq!(bind(&address, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists(), "it goes with the last socket");
    }

    #[test]
    fn a_file_that_is_not_ours_stays() {
        let path = std::env::temp_dir().join(format!("mesh-bind-{}.txt", std::process::id()));
        let address = Address::Unix(path.to_str().unwrap().into());
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(bind(&address, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        std::fs::remove_file(&path).unwrap();

        let (first, _) = bind(&address, 1).unwrap();
        std::fs::remove_file(&path).unwrap();
        let (second, _) = bind(&address, 1).unwrap();
        drop(first);
        assert!(path.exists(), "it is the second's");
        drop(second);
        assert!(!path.exists());
    }
}
