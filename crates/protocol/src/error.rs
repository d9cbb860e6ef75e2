//! Why did a call, a stream or a connection end?

use std::io;
use std::sync::Arc;

use mesh_identity::Rejection;

use crate::status::{Code, Status};

/// Why it ended. One list for both sides.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Nobody is there.
    #[error("{address} can't be reached: {error}")]
    Connect {
        /// The address that was tried.
        address: Arc<str>,
        /// What the operating system says.
        error: Arc<io::Error>,
    },
    /// One side does not believe the other, or what is spoken is no TLS. [`Error::rejection`] has the reason's name.
    #[error("no TLS connection: {0}")]
    Tls(rustls::Error),
    /// The other side said no.
    #[error("{0}")]
    Status(Status),
    /// What came is not what this protocol has.
    #[error("{0}")]
    Protocol(Arc<str>),
    /// The connection, or the stream, is no more.
    #[error("the connection was closed")]
    Closed,
    /// It took too long.
    #[error("{0} took too long")]
    Deadline(&'static str),
}

impl Error {
    pub(crate) fn protocol(what: impl Into<Arc<str>>) -> Self {
        Self::Protocol(what.into())
    }

    /// Why the peer, or this side, was not believed, if that is it.
    pub fn rejection(&self) -> Option<Rejection> {
        match self {
            Self::Tls(error) => Rejection::of(error),
            _ => None,
        }
    }

    /// The other side's word for it, if it had one.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Status(status) => Some(status),
            _ => None,
        }
    }

    /// Whether the other side has no such call.
    pub fn is_unimplemented(&self) -> bool {
        self.status()
            .is_some_and(|status| status.code == Code::Unimplemented)
    }

    /// Whether the other side says that this one's identity, or its certificate, was revoked.
    pub fn is_revoked(&self) -> bool {
        match self {
            Self::Status(status) => {
                status.code == Code::PermissionDenied && status.message.starts_with("revoked:")
            }
            Self::Tls(error) => {
                *error == rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRevoked)
            }
            _ => false,
        }
    }

    /// Whether the other side says that this one's certificate has ended, or has yet to begin: TLS has one alert for both.
    pub fn is_expired(&self) -> bool {
        match self {
            Self::Status(status) => {
                status.code == Code::Unauthenticated && status.message.starts_with("expired:")
            }
            Self::Tls(error) => {
                *error == rustls::Error::AlertReceived(rustls::AlertDescription::CertificateExpired)
            }
            _ => false,
        }
    }

    /// Whether the other side says that somebody else has come by this one's name, and stands for it now.
    pub fn is_replaced(&self) -> bool {
        self.status()
            .is_some_and(|status| status.code == Code::Aborted && status.message.starts_with("replaced:"))
    }

    /// The token used in metrics and logs.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Tls(_) => "tls",
            Self::Status(_) => "status",
            Self::Protocol(_) => "protocol",
            Self::Closed => "closed",
            Self::Deadline(_) => "deadline",
        }
    }
}

/// What a caller is told whose stream could not be read or written on.
impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Status(status) => return status.clone(),
            Error::Protocol(_) => Code::InvalidArgument,
            Error::Deadline(_) => Code::DeadlineExceeded,
            Error::Connect { .. } | Error::Tls(_) | Error::Closed => Code::Cancelled,
        };
        Self::new(code, error.to_string())
    }
}
