//! Which fields does the proxy treat specially?
//!
//! A name is compared once, when its line is parsed: by its length and first letter, then with the one or two names that
//! are left. From there on fields are told apart by this enum.

/// Names as enum: each variant with its name in lower case, sorted into classes by length.
macro_rules! known {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// A field that the proxy treats specially; everything else is [`Known::Other`].
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
        pub enum Known {
            /// Any other field.
            #[default]
            Other,
            $($(#[$doc])* $variant,)+
        }

        impl Known {
            /// Every known field.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in lower case; empty for [`Known::Other`].
            pub fn name(self) -> &'static str {
                match self {
                    Self::Other => "",
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

known! {
    /// RFC 9110 section 7.2.
    Host = "host",
    /// RFC 9110 section 7.6.1.
    Connection = "connection",
    /// RFC 9110 section 8.6.
    ContentLength = "content-length",
    /// RFC 9112 section 6.1.
    TransferEncoding = "transfer-encoding",
    /// RFC 9110 section 10.1.4.
    Te = "te",
    /// RFC 9110 section 6.6.2.
    Trailer = "trailer",
    /// RFC 9110 section 7.8.
    Upgrade = "upgrade",
    /// RFC 2068 section 19.7.1.
    KeepAlive = "keep-alive",
    /// RFC 9110 section 7.6.1: never standardised, often sent.
    ProxyConnection = "proxy-connection",
    /// RFC 9110 section 11.7.1.
    ProxyAuthenticate = "proxy-authenticate",
    /// RFC 9110 section 11.7.2.
    ProxyAuthorization = "proxy-authorization",
    /// RFC 9110 section 10.1.1.
    Expect = "expect",
    /// RFC 7239.
    Forwarded = "forwarded",
    /// The clients on the way here.
    XForwardedFor = "x-forwarded-for",
    /// The host that was asked first.
    XForwardedHost = "x-forwarded-host",
    /// The scheme that was spoken first.
    XForwardedProto = "x-forwarded-proto",
    /// The port that was asked first.
    XForwardedPort = "x-forwarded-port",
    /// The first client.
    XRealIp = "x-real-ip",
    /// One name for a request in every log.
    XRequestId = "x-request-id",
    /// RFC 9110 section 7.6.3.
    Via = "via",
    /// RFC 9110 section 8.3.
    ContentType = "content-type",
    /// RFC 9110 section 6.6.1.
    Date = "date",
    /// RFC 9110 section 10.2.4.
    Server = "server",
    /// RFC 6265 section 5.4.
    Cookie = "cookie",
    /// RFC 9110 section 11.6.2.
    Authorization = "authorization",
    /// gRPC over HTTP/2.
    GrpcTimeout = "grpc-timeout",
    /// gRPC over HTTP/2.
    GrpcStatus = "grpc-status",
    /// RFC 7540 section 3.2.1, obsolete.
    Http2Settings = "http2-settings",
    /// RFC 6455 section 11.3.1.
    SecWebSocketKey = "sec-websocket-key",
    /// RFC 6455 section 11.3.3.
    SecWebSocketAccept = "sec-websocket-accept",
    /// RFC 9209.
    ProxyStatus = "proxy-status",
}

impl Known {
    /// Whether the field is meant for the next hop alone, by its name (RFC 9110 section 7.6.1; RFC 2616 section 13.5.1
    /// for the two of proxy authentication). `trailer` is not: trailers are passed on.
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

/// Classifies a field by its name, in any case.
#[inline]
pub fn classify(name: &[u8]) -> Known {
    use Known::*;
    let Some(first) = name.first() else { return Other };
    // Bit 5 folds letters; names that differ in it are told apart by the comparison below.
    let candidate = match (name.len(), first | 0x20) {
        (2, b't') => Te,
        (3, b'v') => Via,
        (4, b'h') => Host,
        (4, b'd') => Date,
        (6, b'e') => Expect,
        (6, b's') => Server,
        (6, b'c') => Cookie,
        (7, b't') => Trailer,
        (7, b'u') => Upgrade,
        (9, b'f') => Forwarded,
        (9, b'x') => XRealIp,
        (10, b'c') => Connection,
        (10, b'k') => KeepAlive,
        (11, b'g') => GrpcStatus,
        (12, b'c') => ContentType,
        (12, b'x') => XRequestId,
        (12, b'g') => GrpcTimeout,
        (12, b'p') => ProxyStatus,
        (13, b'a') => Authorization,
        (14, b'c') => ContentLength,
        (14, b'h') => Http2Settings,
        (15, b'x') => XForwardedFor,
        (16, b'p') => ProxyConnection,
        (16, b'x') => match name.get(12).map(|b| b | 0x20) {
            Some(b'h') => XForwardedHost,
            _ => XForwardedPort,
        },
        (17, b'x') => XForwardedProto,
        (17, b't') => TransferEncoding,
        (17, b's') => SecWebSocketKey,
        (18, b'p') => ProxyAuthenticate,
        (19, b'p') => ProxyAuthorization,
        (20, b's') => SecWebSocketAccept,
        _ => return Other,
    };
    if name.eq_ignore_ascii_case(candidate.name().as_bytes()) {
        candidate
    } else {
        Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_recognised_in_any_case() {
        for known in Known::ALL {
            let name = known.name();
            assert_eq!(classify(name.as_bytes()), *known, "{name}");
            assert_eq!(classify(name.to_ascii_uppercase().as_bytes()), *known, "{name}");
            for at in 0..name.len() {
                let mut other = name.as_bytes().to_vec();
                other[at] = b'#';
                assert_eq!(classify(&other), Known::Other, "{name} at {at}");
                assert_eq!(
                    classify(&name.as_bytes()[..at]),
                    Known::Other,
                    "{name} cut at {at}"
                );
            }
        }
        assert_eq!(classify(b"user-agent"), Known::Other);
        assert_eq!(classify(b""), Known::Other);
    }

    #[test]
    fn bytes_that_differ_by_the_case_bit_alone_are_no_match() {
        // 0x0d | 0x20 is `-`; `K` in Unicode's disguises is not ASCII.
        assert_eq!(classify(b"keep\x0dalive"), Known::Other);
        assert_eq!(classify(b"\x48OST"), Known::Host);
        assert_eq!(classify(b"\x08OST"), Known::Other);
    }
}
