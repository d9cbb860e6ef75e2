//! Addresses and durations.

use std::net::{IpAddr, SocketAddr};

use mesh_model::resources::{Address, Duration};

use super::Refusal;
use crate::wire;

/// A span as the model has it. What is between two milliseconds is rounded up: rounded to nothing, it would switch a
/// deadline off.
pub(super) fn duration(span: wire::Duration, field: &str) -> Result<Duration, Refusal> {
    let refusal = || Refusal::new(field, "expected 0 to 24 h");
    let seconds = u64::try_from(span.seconds).map_err(|_| refusal())?;
    let nanos = u32::try_from(span.nanos).map_err(|_| refusal())?;
    let milliseconds = seconds
        .checked_mul(1000)
        .and_then(|ms| ms.checked_add(nanos.div_ceil(1_000_000).into()));
    milliseconds
        .map(Duration::from_millis)
        .filter(|span| *span <= Duration::MAX && nanos < 1_000_000_000)
        .ok_or_else(refusal)
}

pub(super) fn to_duration(span: Duration) -> wire::Duration {
    wire::Duration {
        // Spans end at a day, nanoseconds at a billion: both fit.
        seconds: i64::try_from(span.0.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(span.0.subsec_nanos()).unwrap_or(i32::MAX),
    }
}

pub(super) fn address(address: Option<wire::Address>) -> Result<Address, Refusal> {
    match address {
        Some(wire::Address {
            socket_address: Some(socket),
            pipe: None,
        }) => socket_address(&socket)
            .map(Address::Ip)
            .map_err(|refusal| refusal.within("socket_address")),
        Some(wire::Address {
            pipe: Some(pipe),
            socket_address: None,
        }) => format!("unix:{}", pipe.path)
            .parse()
            .map_err(|reason: String| Refusal::new("pipe.path", reason)),
        _ => Err(Refusal::new(
            "",
            "expected one of socket_address and pipe, and no other kind",
        )),
    }
}

/// A literal address and a port of TCP. Names are not looked up: who answers for them is not ours to find out.
pub(super) fn socket_address(socket: &wire::SocketAddress) -> Result<SocketAddr, Refusal> {
    let ip: IpAddr = socket
        .address
        .parse()
        .map_err(|_| Refusal::new("address", "expected an IPv4 or IPv6 address"))?;
    Ok((ip, port(socket)?).into())
}

pub(super) fn port(socket: &wire::SocketAddress) -> Result<u16, Refusal> {
    if socket.protocol != 0 {
        return Err(Refusal::new("protocol", "only TCP is known"));
    }
    socket
        .port_value
        .and_then(|port| u16::try_from(port).ok())
        .ok_or_else(|| Refusal::new("port_value", "expected a port of 0 to 65535"))
}

pub(super) fn to_address(address: &Address) -> wire::Address {
    match address {
        Address::Ip(socket) => wire::Address {
            socket_address: Some(to_socket_address(socket.ip().to_string(), socket.port())),
            pipe: None,
        },
        Address::Unix(path) => wire::Address {
            socket_address: None,
            pipe: Some(wire::Pipe {
                path: path.to_string(),
            }),
        },
    }
}

pub(super) fn to_socket_address(address: String, port: u16) -> wire::SocketAddress {
    wire::SocketAddress {
        protocol: 0,
        address,
        port_value: Some(port.into()),
    }
}
