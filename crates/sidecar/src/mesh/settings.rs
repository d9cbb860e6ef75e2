//! What does a workload's sidecar have to be told?

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mesh_model::policy::PolicyDefault;
use mesh_model::resources::{Address, PortRange};
use mesh_model::spiffe::SpiffeId;
use mesh_model::validate::validate;

use super::own;
use super::proof::Proof;

/// The ports of destinations outside the mesh whose bytes nobody looks at, unless told otherwise. Their servers speak
/// first, or their clients may be silent for long: SMTP (25, 587), MySQL with Galera (3306, 4444, 4567, 4568),
/// PostgreSQL, Redis, Elasticsearch's transport, memcached. They are those of Linkerd, whose users expect them.
pub(crate) const OPAQUE_PORTS: &str = "25,587,3306,4444,4567,4568,5432,6379,9300,11211";

/// A workload of a mesh.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Workload {
    /// Where control planes are, `host:port`.
    pub(crate) control: Vec<String>,
    /// The file of the roots that vouch for the control plane.
    pub(crate) trust_anchors: String,
    /// What the first certificate is had for.
    pub(crate) proof: Option<Proof>,
    /// This copy's name.
    pub(crate) name: String,
    /// Who it is.
    pub(crate) identity: SpiffeId,
    /// The service that it is of.
    pub(crate) service: String,
    /// Where other workloads reach it.
    pub(crate) inbound: Address,
    /// Where others are told that they reach it, instead of `inbound`.
    pub(crate) advertise: Option<Address>,
    /// Where its own workload asks for others.
    pub(crate) outbound: Option<Address>,
    /// Who may ask there, and then calls as this workload.
    pub(crate) outbound_from: OutboundFrom,
    /// The ports that it offers.
    pub(crate) ports: Vec<Port>,
    /// Plain listeners that lead to one name each.
    pub(crate) forward: Vec<Forward>,
    /// Whether the kernel redirects connections here.
    pub(crate) transparent: bool,
    /// Ports of destinations outside the mesh whose bytes nobody looks at.
    pub(crate) opaque_ports: Vec<PortRange>,
    /// Whom it may call.
    pub(crate) egress: Reach,
    /// How long a name is kept that nobody calls.
    pub(crate) name_idle: Duration,
    /// Where the last good configuration and certificate are kept.
    pub(crate) state_dir: Option<PathBuf>,
}

/// Whose calls a workload's sidecar takes for the workload's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutboundFrom {
    /// Those of programs of its machine.
    Local,
    /// Those of whoever reaches it.
    Any,
}

/// Whom a workload may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Anybody.
    Any,
    /// Services of the mesh alone.
    Known,
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

impl Workload {
    /// Where others are told that they reach it, when its control plane is called from `local`. One that listens at
    /// every address of its machine is at the one that the control plane is reached from.
    pub(crate) fn place(&self, local: Option<SocketAddr>) -> Address {
        if let Some(advertise) = &self.advertise {
            return advertise.clone();
        }
        match (&self.inbound, local.map(|local| local.ip().to_canonical())) {
            // Who listens at all of IPv4 alone is at none of IPv6.
            (Address::Ip(inbound), Some(ip))
                if inbound.ip().is_unspecified() && (inbound.is_ipv6() || ip.is_ipv4()) =>
            {
                Address::Ip(SocketAddr::new(ip, inbound.port()))
            }
            _ => self.inbound.clone(),
        }
    }

    /// What of its settings can't be together: they are the listeners and ports that it has whatever is said to it.
    pub(crate) fn conflicts(&self) -> Vec<String> {
        let own = own::resources(self, PolicyDefault::default(), Vec::new(), None);
        let issues = validate(&own).into_iter();
        issues
            .map(|issue| format!("--inbound, --outbound, --ports and --forward do not go together: {issue}"))
            .collect()
    }

    /// Whether a host is below the mesh's trust domain, so that only the mesh can know it.
    pub(crate) fn has_name(&self, host: &str) -> bool {
        let above = host
            .trim_end_matches('.')
            .strip_suffix(self.identity.trust_domain().as_str());
        above.is_some_and(|above| above.ends_with('.'))
    }

    /// Whether nobody looks at the bytes to this port of a destination outside the mesh.
    pub(crate) fn is_opaque(&self, port: u16) -> bool {
        self.opaque_ports.iter().any(|range| range.contains(port))
    }
}

/// An address that others can call.
pub(crate) fn advertised(text: &str) -> Result<Option<Address>, String> {
    match text.parse::<Address>()? {
        Address::Ip(address) if address.ip().is_unspecified() || address.port() == 0 => {
            Err("expected an address that others can call".to_owned())
        }
        address => Ok(Some(address)),
    }
}

/// Ports and ranges of them as `25,8000-8010`, or `none`.
pub(crate) fn opaque_ports(text: &str) -> Result<Vec<PortRange>, String> {
    const EXPECTED: &str = "expected ports and ranges such as 25,8000-8010, or none";
    match text {
        "none" => Ok(Vec::new()),
        _ => list(text, |one| one.trim().parse().ok()).ok_or_else(|| EXPECTED.to_owned()),
    }
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
pub(super) mod tests {
    use super::*;

    pub(crate) const ME: &str = "spiffe://mesh.test/ns/shop/sa/web";

    /// A workload for tests, with one port.
    pub(crate) fn workload() -> Workload {
        Workload {
            control: vec!["127.0.0.1:4144".into()],
            trust_anchors: String::new(),
            proof: None,
            name: "web-1".into(),
            identity: ME.parse().unwrap(),
            service: "web".into(),
            inbound: "127.0.0.1:4143".parse().unwrap(),
            advertise: None,
            outbound: Some("127.0.0.1:4140".parse().unwrap()),
            outbound_from: OutboundFrom::Local,
            ports: vec![Port {
                port: 3000,
                application: "127.0.0.1:41000".parse().unwrap(),
                protocol: PortProtocol::Auto,
            }],
            forward: Vec::new(),
            transparent: false,
            opaque_ports: vec!["5432".parse().unwrap(), "8000-8010".parse().unwrap()],
            egress: Reach::Any,
            name_idle: Duration::from_secs(600),
            state_dir: None,
        }
    }

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
    fn one_at_every_address_is_where_the_control_plane_is_called_from() {
        let place = |inbound: &str, advertise: Option<&str>, local: Option<&str>| {
            let workload = Workload {
                inbound: inbound.parse().unwrap(),
                advertise: advertise.map(|address| address.parse().unwrap()),
                ..workload()
            };
            workload
                .place(local.map(|local| local.parse().unwrap()))
                .to_string()
        };
        let (v4, v6) = (Some("10.0.0.7:50000"), Some("[fd00::7]:50000"));
        assert_eq!(place("127.0.0.1:4143", None, v4), "127.0.0.1:4143");
        assert_eq!(place("0.0.0.0:4143", None, v4), "10.0.0.7:4143");
        assert_eq!(
            place("0.0.0.0:4143", None, Some("[::ffff:10.0.0.7]:1")),
            "10.0.0.7:4143"
        );
        assert_eq!(place("0.0.0.0:4143", None, v6), "0.0.0.0:4143");
        assert_eq!(place("[::]:4143", None, v4), "10.0.0.7:4143");
        assert_eq!(place("[::]:4143", None, v6), "[fd00::7]:4143");
        assert_eq!(place("0.0.0.0:4143", None, None), "0.0.0.0:4143");
        assert_eq!(place("0.0.0.0:4143", Some("10.9.9.9:443"), v4), "10.9.9.9:443");
        assert!(
            ["0.0.0.0:1", ":1", "10.0.0.7:0", "10.0.0.7", "host:1"]
                .iter()
                .all(|text| advertised(text).is_err())
        );
    }

    #[test]
    fn opaque_ports_are_ports_and_ranges() {
        let of = |text: &str| {
            let ranges = opaque_ports(text)?;
            Ok::<_, String>(
                ranges
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(","),
            )
        };
        assert_eq!(of("25, 8000-8010").as_deref(), Ok("25,8000-8010"));
        assert_eq!(of(OPAQUE_PORTS).as_deref(), Ok(OPAQUE_PORTS));
        assert_eq!(of("none").as_deref(), Ok(""));
        for wrong in ["", "smtp", "25,", "0", "9-1", "25;26", "none,25"] {
            assert!(opaque_ports(wrong).is_err(), "{wrong}");
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
