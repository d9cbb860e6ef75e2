//! What does a request ask for?

use crate::authority::{self, Authority};
use crate::error::HeadError;
use crate::method::Method;
use crate::span::Span;

/// The four forms of a request's target (RFC 9112 section 3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// `/path?query`: what servers are asked.
    Origin {
        /// From the first `/` up to the query.
        path: Span,
        /// Behind the `?`.
        query: Option<Span>,
    },
    /// `http://host/path?query`: what proxies are asked.
    Absolute {
        /// `http` or `https`, in any case.
        scheme: Span,
        /// A valid `host[:port]`.
        authority: Span,
        /// From the first `/` up to the query. Empty when none follows the authority: it means `/`, and where there is no
        /// query either `*` with OPTIONS (RFC 9112 sections 3.2.1 and 3.2.4).
        path: Span,
        /// Behind the `?`.
        query: Option<Span>,
    },
    /// `host:port` of CONNECT; the port is always there.
    Authority(Span),
    /// `*` of OPTIONS: the server as a whole.
    Asterisk,
}

impl Default for Target {
    fn default() -> Self {
        Self::Origin {
            path: Span::default(),
            query: None,
        }
    }
}

impl Target {
    /// Reads a target, whose bytes are known to be printable ASCII and at least one.
    #[inline]
    pub(crate) fn parse(buf: &[u8], span: Span, method: Method) -> Result<Self, HeadError> {
        let bytes = span.of(buf);
        match bytes.first() {
            _ if method == Method::Connect => {
                if !authority::is_tunnel_target(bytes) {
                    return Err(HeadError::InvalidAuthority);
                }
                Ok(Self::Authority(span))
            }
            Some(b'/') => {
                let (path, query) = split_query(buf, span);
                Ok(Self::Origin { path, query })
            }
            Some(b'*') if bytes.len() == 1 && method == Method::Options => Ok(Self::Asterisk),
            _ => Self::absolute(buf, span, bytes),
        }
    }

    /// RFC 9112 section 3.2.2.
    #[cold]
    fn absolute(buf: &[u8], span: Span, bytes: &[u8]) -> Result<Self, HeadError> {
        let scheme = ["http", "https"]
            .into_iter()
            .find(|scheme| {
                let (name, rest) = bytes.split_at_checked(scheme.len()).unwrap_or_default();
                name.eq_ignore_ascii_case(scheme.as_bytes()) && rest.starts_with(b"://")
            })
            .ok_or(HeadError::InvalidTargetForm)?;
        let at = span.start as usize + scheme.len() + 3;
        let rest = Span::new(at, span.end as usize).of(buf);
        let end = at
            + rest
                .iter()
                .position(|b| matches!(b, b'/' | b'?'))
                .unwrap_or(rest.len());
        let authority = Span::new(at, end);
        authority::parse(authority.of(buf)).ok_or(HeadError::InvalidAuthority)?;
        let (path, query) = split_query(buf, Span::new(end, span.end as usize));
        Ok(Self::Absolute {
            scheme: Span::new(span.start as usize, span.start as usize + scheme.len()),
            authority,
            path,
            query,
        })
    }

    /// The target's own authority, and the port that it means when it names none.
    pub(crate) fn authority(&self, buf: &[u8]) -> Option<(Span, Option<u16>)> {
        match self {
            Self::Absolute {
                scheme, authority, ..
            } => Some((*authority, Some(if scheme.of(buf).len() == 5 { 443 } else { 80 }))),
            // Its port is always there, and a `host` without one has been seen to mean the same.
            Self::Authority(span) => Some((*span, None)),
            Self::Origin { .. } | Self::Asterisk => None,
        }
    }

    /// Checks the target against `host` (RFC 9112 section 3.2.2) and gives the authority that counts.
    #[inline]
    pub(crate) fn effective_host(&self, buf: &[u8], host: Option<Span>) -> Result<Option<Span>, HeadError> {
        let Some((own, default)) = self.authority(buf) else {
            return Ok(host);
        };
        if let Some(host) = host {
            let parsed = |span: Span| -> Option<Authority<'_>> { authority::parse(span.of(buf)) };
            match (parsed(own), parsed(host)) {
                (Some(a), Some(b)) if a.agrees(&b, default) => {}
                _ => return Err(HeadError::HostMismatch),
            }
        }
        Ok(Some(own))
    }
}

#[inline]
fn split_query(buf: &[u8], span: Span) -> (Span, Option<Span>) {
    match span.of(buf).iter().position(|b| *b == b'?') {
        None => (span, None),
        Some(mark) => {
            let mark = span.start + mark as u32;
            (
                Span {
                    start: span.start,
                    end: mark,
                },
                Some(Span {
                    start: mark + 1,
                    end: span.end,
                }),
            )
        }
    }
}
