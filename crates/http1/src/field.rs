//! A header field in the bytes that it came in, and the fields that a proxy must know.

/// A range of bytes in the buffer that was parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Self {
        // Heads are bounded far below 4 GiB.
        Self { start: start as u32, end: end as u32 }
    }

    /// The bytes; none when the span is not of this buffer.
    #[inline]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        buf.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// How many bytes.
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// Whether it is empty.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// One field line.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The name, in the case it came.
    pub name: Span,
    /// The value, without white space around it.
    pub value: Span,
    /// The line with its CRLF.
    pub line: Span,
    /// What it is to a proxy.
    pub known: Known,
    /// The line is `Name: value` CRLF to the byte, so that it can be copied as it is.
    pub canonical: bool,
    /// It concerns this connection only: by name, or because `Connection` says so (RFC 9110 section 7.6.1).
    pub hop: bool,
}

macro_rules! known {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// Fields that a proxy treats in a special way.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Known {
            /// Any other.
            Other,
            $($(#[$doc])* $name,)+
        }

        /// What a name in any case stands for.
        #[inline]
        pub fn classify(name: &[u8]) -> Known {
            // Most names are told apart by length and first letter; the rest costs one comparison.
            let key = (name.len(), name.first().map_or(0, |b| b | 0x20));
            $(
                const _: () = assert!(!$text.is_empty());
                if key == ($text.len(), $text[0]) && name.eq_ignore_ascii_case($text) {
                    return Known::$name;
                }
            )+
            Known::Other
        }
    };
}

known! {
    /// `host`
    Host = b"host",
    /// `connection`
    Connection = b"connection",
    /// `content-length`
    ContentLength = b"content-length",
    /// `transfer-encoding`
    TransferEncoding = b"transfer-encoding",
    /// `content-type`
    ContentType = b"content-type",
    /// `te`
    Te = b"te",
    /// `trailer`
    Trailer = b"trailer",
    /// `upgrade`
    Upgrade = b"upgrade",
    /// `keep-alive`
    KeepAlive = b"keep-alive",
    /// `proxy-connection`
    ProxyConnection = b"proxy-connection",
    /// `proxy-authenticate`
    ProxyAuthenticate = b"proxy-authenticate",
    /// `proxy-authorization`
    ProxyAuthorization = b"proxy-authorization",
    /// `expect`
    Expect = b"expect",
    /// `http2-settings`
    Http2Settings = b"http2-settings",
    /// `forwarded`
    Forwarded = b"forwarded",
    /// `x-forwarded-for`
    XForwardedFor = b"x-forwarded-for",
    /// `x-forwarded-host`
    XForwardedHost = b"x-forwarded-host",
    /// `x-forwarded-proto`
    XForwardedProto = b"x-forwarded-proto",
    /// `x-forwarded-port`
    XForwardedPort = b"x-forwarded-port",
    /// `x-real-ip`
    XRealIp = b"x-real-ip",
    /// `x-request-id`
    XRequestId = b"x-request-id",
    /// `via`
    Via = b"via",
    /// `grpc-timeout`
    GrpcTimeout = b"grpc-timeout",
}

impl Known {
    /// Whether the field concerns one connection only, by its name.
    #[inline]
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::TransferEncoding
                | Self::Te
                | Self::Upgrade
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
                | Self::Http2Settings
        )
    }
}

const fn table(extra: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = (b as u8).is_ascii_alphanumeric();
        b += 1;
    }
    let mut i = 0;
    while i < extra.len() {
        table[extra[i] as usize] = true;
        i += 1;
    }
    table
}

static TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~");

/// Whether all bytes may stand in a token (RFC 9110 section 5.6.2), and there is one.
#[inline]
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| TOKEN[*b as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case() {
        assert_eq!(classify(b"HOST"), Known::Host);
        assert_eq!(classify(b"x-Forwarded-For"), Known::XForwardedFor);
        assert_eq!(classify(b"Transfer-Encoding"), Known::TransferEncoding);
        for other in [&b""[..], b"hos", b"hosts", b"x-forwarded-far", b"\xff"] {
            assert_eq!(classify(other), Known::Other);
        }
    }
}
