//! What does a workload's sidecar have to be told?

use std::path::PathBuf;
use std::time::Duration;

use mesh_model::resources::Address;
use mesh_model::spiffe::SpiffeId;

/// A workload of a mesh.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Workload {
    /// Where control planes are, `host:port`, the first that answers is asked.
    pub(crate) control: Vec<String>,
    /// The file of the roots that vouch for the control plane.
    pub(crate) trust_anchors: String,
    /// The file of the token that the first certificate is had for.
    pub(crate) token_file: Option<String>,
    /// This copy's name.
    pub(crate) name: String,
    /// Who it is.
    pub(crate) identity: SpiffeId,
    /// The service that it is of.
    pub(crate) service: String,
    /// Where other workloads reach it.
    pub(crate) inbound: Address,
    /// Where its own workload asks for others.
    pub(crate) outbound: Option<Address>,
    /// The ports that it offers.
    pub(crate) ports: Vec<Port>,
    /// Plain listeners that lead to one name each.
    pub(crate) forward: Vec<Forward>,
    /// Whether the kernel redirects connections here.
    pub(crate) transparent: bool,
    /// Whether only services of the mesh may be called.
    pub(crate) known_only: bool,
    /// How long a name is kept that nobody calls.
    pub(crate) name_idle: Duration,
    /// Where the last good configuration and certificate are kept.
    pub(crate) state_dir: Option<PathBuf>,
}

/// A port that the workload offers, and where its application answers for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Port {
    /// The service's port.
    pub(crate) port: u16,
    /// The application's address.
    pub(crate) application: Address,
    /// What is spoken there.
    pub(crate) protocol: PortProtocol,
}

/// What an application speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortProtocol {
    /// What callers speak.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Something else.
    Tcp,
}

/// A listener for clients that know no proxies.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Forward {
    /// `host:port`, as it would be called.
    pub(crate) name: String,
    /// Where it listens.
    pub(crate) address: Address,
    /// Whether only bytes are passed, so that nothing is looked for in them.
    pub(crate) is_tcp: bool,
}

/// Ports as `3000=127.0.0.1:41000/http2`, with commas between.
pub(crate) fn ports(text: &str) -> Result<Vec<Port>, String> {
    const EXPECTED: &str =
        "expected PORT=ADDRESS, or PORT=ADDRESS/http1, /http2 or /tcp, with commas between";
    let one = |text: &str| {
        let (port, rest) = text.trim().split_once('=')?;
        let (address, protocol) = match rest.split_once('/') {
            None => (rest, PortProtocol::Auto),
            Some((address, "http1")) => (address, PortProtocol::Http1),
            Some((address, "http2")) => (address, PortProtocol::Http2),
            Some((address, "tcp")) => (address, PortProtocol::Tcp),
            Some(_) => return None,
        };
        Some(Port {
            port: port.parse().ok().filter(|port| *port != 0)?,
            application: address.parse().ok()?,
            protocol,
        })
    };
    list(text, one).ok_or_else(|| EXPECTED.to_owned())
}

/// Forwards as `basket:3000=127.0.0.1:41001`, or with `/tcp` behind, with commas between.
pub(crate) fn forwards(text: &str) -> Result<Vec<Forward>, String> {
    const EXPECTED: &str = "expected NAME:PORT=ADDRESS, or NAME:PORT=ADDRESS/tcp, with commas between";
    let one = |text: &str| {
        let (name, address) = text.trim().split_once('=')?;
        let (host, port) = name.rsplit_once(':')?;
        port.parse::<u16>().ok()?;
        let (address, is_tcp) = match address.strip_suffix("/tcp") {
            Some(address) => (address, true),
            None => (address, false),
        };
        Some(Forward {
            is_tcp,
            name: (!host.is_empty()).then(|| name.to_ascii_lowercase())?,
            address: address.parse().ok()?,
        })
    };
    list(text, one).ok_or_else(|| EXPECTED.to_owned())
}

fn list<T>(text: &str, one: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    text.split(',').map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_say_where_the_application_is_and_what_it_speaks() {
        let ports = ports("3000=127.0.0.1:41000, 5432=127.0.0.1:5432/tcp").unwrap();
        assert_eq!((ports[0].port, ports[0].protocol), (3000, PortProtocol::Auto));
        assert_eq!((ports[1].port, ports[1].protocol), (5432, PortProtocol::Tcp));
        for wrong in [
            "",
            "3000",
            "0=127.0.0.1:1",
            "3000=here",
            "3000=127.0.0.1:1/quic",
            "1=127.0.0.1:1,",
        ] {
            assert!(super::ports(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn forwards_name_a_service_and_a_port() {
        let forwards = forwards("Basket:3000=127.0.0.1:41001,ledger:5432=127.0.0.1:1/tcp").unwrap();
        assert_eq!((&*forwards[0].name, forwards[0].is_tcp), ("basket:3000", false));
        assert_eq!((&*forwards[1].name, forwards[1].is_tcp), ("ledger:5432", true));
        for wrong in [
            "",
            "basket=127.0.0.1:1",
            ":80=127.0.0.1:1",
            "basket:x=127.0.0.1:1",
            "basket:80",
        ] {
            assert!(super::forwards(wrong).is_err(), "{wrong}");
        }
    }
}
