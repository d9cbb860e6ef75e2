//! What is spoken inside a mesh connection? The outbound side says it by ALPN, so that the inbound side never guesses.

use crate::Rejection;

/// A protocol between sidecars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Bytes.
    Tcp,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: &'static [Self] = &[Self::Http1, Self::Http2, Self::Tcp];

    /// The name in ALPN.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "mesh/h1",
            Self::Http2 => "mesh/h2",
            Self::Tcp => "mesh/tcp",
        }
    }

    /// The name in ALPN, as rustls takes it.
    pub const fn as_bytes(self) -> &'static [u8] {
        self.as_str().as_bytes()
    }

    /// What a handshake agreed on.
    ///
    /// # Errors
    /// On nothing, or on what is none of the mesh's: there is no protocol to fall back to.
    pub fn agreed(alpn: Option<&[u8]>) -> Result<Self, Rejection> {
        Self::ALL
            .iter()
            .copied()
            .find(|protocol| Some(protocol.as_bytes()) == alpn)
            .ok_or(Rejection::NoProtocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_agreed_is_a_rejection() {
        for &protocol in Protocol::ALL {
            assert_eq!(Protocol::agreed(Some(protocol.as_bytes())), Ok(protocol));
        }
        for alpn in [None, Some(&b"h2"[..]), Some(b"mesh/h"), Some(b"")] {
            assert_eq!(Protocol::agreed(alpn), Err(Rejection::NoProtocol));
        }
    }
}
