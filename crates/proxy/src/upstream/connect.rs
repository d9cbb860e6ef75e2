//! How is a connection to a server made, and in how many ways can that fail?

use std::io;
use std::sync::Arc;

use mesh_identity::{Rejection, Side};
use mesh_model::errors::Reason;
use mesh_model::resources::Address;
use rustls::{AlertDescription, CertificateError, Error as TlsError};
use tokio::net::{TcpStream, UnixStream};

use super::target::Target;
use crate::descriptors::leaves_enough;
use crate::io::socket::{Plain, Socket, keep_alive, tune};

/// Why a connection could not be made. Nothing was sent, so the request may go to another endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// Nobody listens there.
    Refused,
    /// It took too long.
    Timeout,
    /// There is no way there.
    Unreachable,
    /// This process has no descriptor, port or memory left. Not the endpoint's fault.
    Exhausted,
    /// The TLS handshake failed.
    Tls,
    /// The server speaks none of the versions of HTTP that this request can be sent by, though maybe others of its cluster.
    /// Not the endpoint's fault.
    NoHttp1,
    /// The certificate is not to be trusted.
    Certificate,
    /// The certificate is for another name.
    Name,
    /// The workload is not the one that was called, or not to be believed.
    Workload(Rejection),
    /// Another failure.
    Other,
}

impl ConnectError {
    /// The reason that clients and operators see.
    pub fn reason(self) -> Reason {
        match self {
            Self::Refused => Reason::ConnectRefused,
            Self::Timeout => Reason::ConnectTimeout,
            Self::Unreachable => Reason::ConnectUnreachable,
            Self::Exhausted => Reason::Overloaded,
            Self::Tls => Reason::UpstreamTls,
            Self::NoHttp1 => Reason::UpstreamNoHttp1,
            Self::Certificate => Reason::UpstreamCertificate,
            Self::Name => Reason::UpstreamName,
            Self::Workload(rejection) => rejection.reason(Side::Server),
            Self::Other => Reason::ConnectFailed,
        }
    }

    /// Whether it speaks against the endpoint.
    pub fn blames_endpoint(self) -> bool {
        !matches!(self, Self::Exhausted | Self::NoHttp1)
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
            return tls_error(tls);
        }
        // EMFILE and ENFILE have no kind of their own: 24 and 23 on Linux and macOS.
        match (error.kind(), error.raw_os_error()) {
            (_, Some(23 | 24)) | (io::ErrorKind::OutOfMemory | io::ErrorKind::AddrNotAvailable, _) => {
                Self::Exhausted
            }
            (io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound, _) => Self::Refused,
            (io::ErrorKind::TimedOut, _) => Self::Timeout,
            (io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable, _) => Self::Unreachable,
            _ => Self::Other,
        }
    }
}

fn tls_error(error: &TlsError) -> ConnectError {
    match error {
        TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => ConnectError::Name,
        TlsError::InvalidCertificate(_) | TlsError::NoCertificatesPresented => ConnectError::Certificate,
        TlsError::AlertReceived(AlertDescription::UnknownCA | AlertDescription::BadCertificate) => {
            ConnectError::Certificate
        }
        _ => ConnectError::Tls,
    }
}

/// Connects with real sockets; `made` is told of one of TCP before anything is sent. The caller keeps the deadline.
pub async fn connect(target: &Target, made: impl FnOnce(&TcpStream)) -> Result<Socket, ConnectError> {
    let plain = match &target.address {
        Address::Ip(address) => {
            let tcp = TcpStream::connect(address).await?;
            made(&tcp);
            if !leaves_enough(&tcp) {
                return Err(ConnectError::Exhausted);
            }
            tune(&tcp)?;
            keep_alive(&tcp)?;
            Plain::Tcp(tcp)
        }
        Address::Unix(path) => {
            let unix = UnixStream::connect(&**path).await?;
            if !leaves_enough(&unix) {
                return Err(ConnectError::Exhausted);
            }
            Plain::Unix(unix)
        }
    };
    let Some(tls) = &target.tls else {
        return Ok(plain.into());
    };
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(tls.offering(target.offer)));
    let stream = connector
        .connect(tls.server_name.clone(), plain)
        .await
        .map_err(|error| match rejection(&error) {
            Some(Rejection::NoProtocol) if tls.narrows(target.offer) => ConnectError::NoHttp1,
            Some(rejection) if tls.workload => ConnectError::Workload(rejection),
            _ => error.into(),
        })?;
    Ok(Socket::TlsClient(Box::new(stream)))
}

/// Why a workload at the other end is not believed, where that is why a handshake failed.
pub(crate) fn rejection(error: &io::Error) -> Option<Rejection> {
    Rejection::of(error.get_ref()?.downcast_ref::<TlsError>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::target::Offer;

    #[tokio::test(flavor = "current_thread")]
    async fn failures_have_names() {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let refused = Target {
            address: Address::Ip(port),
            tls: None,
            offer: Offer::Nothing,
        };
        assert_eq!(connect(&refused, |_| {}).await.err(), Some(ConnectError::Refused));
        let absent = Target {
            address: Address::Unix("/nonexistent/socket".into()),
            tls: None,
            offer: Offer::Nothing,
        };
        assert_eq!(connect(&absent, |_| {}).await.err(), Some(ConnectError::Refused));
        let exhausted = ConnectError::from(io::Error::from_raw_os_error(24));
        assert_eq!(
            (exhausted, exhausted.blames_endpoint()),
            (ConnectError::Exhausted, false)
        );
    }
}
