//! Does an address lead back to this proxy?
//!
//! A connection to one's own listener is a loop, and one to the admin server would let clients in where only this host
//! is meant. Both are refused when the connection is about to be made, so that it does not matter how the address was
//! come by: written down, looked up in DNS, or asked for by a client of a forward proxy.
//!
//! A workload that calls its own service by mutual TLS may reach itself, as it may reach any other copy: what comes in so
//! goes to the application and nowhere else.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, OnceLock};

use mesh_model::resources::Address;

/// Who calls, and where that may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Anybody.
    All,
    /// Workloads, by mutual TLS.
    Workloads,
}

/// The addresses that a proxy listens on.
#[derive(Debug, Default)]
pub struct OwnAddresses {
    exact: HashSet<Address>,
    /// Ports that are listened on at every address of this machine.
    everywhere: HashSet<u16>,
    /// Those of `exact` and `everywhere` that workloads call.
    workloads: HashSet<Address>,
    workloads_everywhere: HashSet<u16>,
    /// Known before the first plan is made, and never changes after.
    admin: Arc<OnceLock<Address>>,
}

impl OwnAddresses {
    /// These addresses, with the ports that were chosen, each with what it is for, and the admin server's.
    pub fn new<'a>(
        addresses: impl IntoIterator<Item = (&'a Address, For)>,
        admin: Arc<OnceLock<Address>>,
    ) -> Self {
        let mut own = Self {
            admin,
            ..Self::default()
        };
        for (address, is_for) in addresses {
            let is_for_workloads = is_for == For::Workloads;
            match address {
                Address::Ip(ip) if ip.ip().is_unspecified() => {
                    own.everywhere.insert(ip.port());
                    if is_for_workloads {
                        own.workloads_everywhere.insert(ip.port());
                    }
                }
                _ => {
                    own.exact.insert(canonical(address));
                    if is_for_workloads {
                        own.workloads.insert(canonical(address));
                    }
                }
            }
        }
        own
    }

    /// Whether a connection to `address` would be one to this proxy, other than as a workload (`by`) to where workloads
    /// call. Asks the system only where a listener takes every address.
    pub fn leads_here(&self, address: &Address, by: For) -> bool {
        let address = canonical(address);
        if self.exact.contains(&address) {
            return by != For::Workloads || !self.workloads.contains(&address);
        }
        let admin = self.admin.get();
        if admin.is_some_and(|admin| canonical(admin) == address) {
            return true;
        }
        let ip = match address {
            Address::Ip(ip) => ip,
            Address::Unix(path) => return self.is_own_socket(&path),
        };
        let may_call = by == For::Workloads && self.workloads_everywhere.contains(&ip.port());
        let everywhere = (self.everywhere.contains(&ip.port()) && !may_call)
            || matches!(admin, Some(Address::Ip(admin)) if admin.ip().is_unspecified() && admin.port() == ip.port());
        everywhere && is_of_this_machine(ip.ip())
    }

    /// Whether a path leads to one of these Unix sockets: links, `..` and mounts give it many. Asked where a connection is
    /// made, and not remembered: what a path leads to may change.
    fn is_own_socket(&self, path: &str) -> bool {
        let own = self.exact.iter().chain(self.admin.get());
        let mut own = own.filter_map(|address| match address {
            Address::Unix(path) => Some(path),
            Address::Ip(_) => None,
        });
        let file = OnceCell::new();
        own.any(|path_of_own| {
            let file = *file.get_or_init(|| file_of(path));
            file.is_some() && file_of(path_of_own) == file
        })
    }
}

/// Which file a path leads to, over all links.
fn file_of(path: &str) -> Option<(u64, u64)> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// One form for addresses that reach the same place: IPv4 in IPv6 is IPv4, and no address is the loopback one.
fn canonical(address: &Address) -> Address {
    let Address::Ip(socket) = address else {
        return address.clone();
    };
    let ip = match socket.ip().to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Address::Ip(SocketAddr::new(ip, socket.port()))
}

/// Whether an address is one of this machine's: the way to such a one begins where it ends. Nothing is sent.
pub fn is_of_this_machine(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    if ip.is_loopback() {
        return true;
    }
    begins_at(ip) || (binds(ip) && !binds(elsewhere(ip)))
}

/// Whether the way to an address begins where it ends. Not so for a second address of a network, whose way begins at the
/// first one.
fn begins_at(ip: IpAddr) -> bool {
    let any: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let begins = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((ip, 9))?;
        socket.local_addr()
    };
    begins().is_ok_and(|begins| begins.ip() == ip)
}

/// Whether a socket may have this address. Where the system lets it have any (`ip_nonlocal_bind`), that says nothing.
fn binds(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// An address of the same kind that no machine has: those of documentation.
fn elsewhere(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn own_addresses_are_known_in_every_form() {
        let admin = Arc::new(OnceLock::new());
        let listeners = [
            address("127.0.0.1:8080"),
            address("[::1]:8081"),
            address("unix:/run/mesh.sock"),
            address("0.0.0.0:9000"),
        ];
        let own = OwnAddresses::new(
            listeners.iter().map(|address| (address, For::All)),
            Arc::clone(&admin),
        );
        assert!(!own.leads_here(&address("127.0.0.1:4191"), For::All));
        admin.set(address("127.0.0.1:4191")).unwrap();
        for here in [
            "127.0.0.1:8080",
            "[::ffff:127.0.0.1]:8080",
            "0.0.0.0:8080",
            "[::1]:8081",
            "[::]:8081",
            "unix:/run/mesh.sock",
            "127.0.0.1:4191",
            "0.0.0.0:4191",
            "127.0.0.1:9000",
            "127.9.9.9:9000",
            "[::1]:9000",
        ] {
            for by in [For::All, For::Workloads] {
                assert!(own.leads_here(&address(here), by), "{here}");
            }
        }
        for elsewhere in [
            "127.0.0.1:8081",
            "127.0.0.2:4191",
            "192.0.2.1:8080",
            "192.0.2.1:9000",
            "unix:/run/app.sock",
        ] {
            assert!(!own.leads_here(&address(elsewhere), For::All), "{elsewhere}");
        }
    }

    #[test]
    fn own_unix_sockets_are_known_by_every_path() {
        let dir = std::env::temp_dir().join(format!("mesh-own-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let path = |name: &str| format!("{}/{name}", dir.display());
        let listen = |name: &str| std::os::unix::net::UnixListener::bind(path(name)).unwrap();
        let _sockets = [listen("own.sock"), listen("admin.sock"), listen("app.sock")];
        std::os::unix::fs::symlink(path("own.sock"), path("link.sock")).unwrap();
        std::os::unix::fs::symlink(&dir, path("around")).unwrap();
        std::fs::hard_link(path("admin.sock"), path("hard.sock")).unwrap();
        let unix = |name: &str| address(&format!("unix:{}", path(name)));
        let admin = Arc::new(OnceLock::from(unix("admin.sock")));
        let listeners = [unix("own.sock"), address("127.0.0.1:8080")];
        let own = OwnAddresses::new(listeners.iter().map(|address| (address, For::All)), admin);
        for here in [
            "own.sock",
            "./own.sock",
            "/own.sock",
            "link.sock",
            "around/link.sock",
            "hard.sock",
        ] {
            assert!(own.leads_here(&unix(here), For::All), "{here}");
        }
        for elsewhere in ["app.sock", "./app.sock", "around/app.sock", "none.sock"] {
            assert!(!own.leads_here(&unix(elsewhere), For::All), "{elsewhere}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn an_admin_server_on_every_address_is_found_at_each() {
        let admin = Arc::new(OnceLock::from(address(":4191")));
        let own = OwnAddresses::new([], admin);
        assert!(own.leads_here(&address("127.0.0.1:4191"), For::Workloads));
        assert!(own.leads_here(&address("[::1]:4191"), For::All));
        assert!(!own.leads_here(&address("127.0.0.1:4192"), For::All));
    }

    #[test]
    fn a_workload_may_call_itself_where_workloads_call_and_nowhere_else() {
        let listeners = [
            (address("127.0.0.1:4143"), For::Workloads),
            (address("0.0.0.0:4144"), For::Workloads),
            (address("127.0.0.1:4140"), For::All),
            (address("0.0.0.0:4141"), For::All),
        ];
        let admin = Arc::new(OnceLock::from(address(":4144")));
        let of = |admin| {
            OwnAddresses::new(
                listeners.iter().map(|(address, is_for)| (address, *is_for)),
                admin,
            )
        };
        let own = of(Arc::default());
        for (at, is_loop) in [
            ("127.0.0.1:4143", false),
            ("127.0.0.1:4144", false),
            ("127.0.0.1:4140", true),
            ("127.0.0.1:4141", true),
        ] {
            assert!(own.leads_here(&address(at), For::All), "{at}");
            assert_eq!(own.leads_here(&address(at), For::Workloads), is_loop, "{at}");
        }
        assert!(of(admin).leads_here(&address("127.0.0.1:4144"), For::Workloads));
    }

    #[test]
    fn what_is_of_this_machine_is_told_from_what_is_not() {
        for (ip, is) in [
            ("127.0.0.1", true),
            ("127.1.2.3", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:192.0.2.7", false),
            ("::1", true),
            ("192.0.2.7", false),
            ("198.51.100.7", false),
            ("2001:db8::7", false),
        ] {
            assert_eq!(is_of_this_machine(ip.parse().unwrap()), is, "{ip}");
        }
    }
}
