//! Which rule was broken?

use mesh_model::errors::Reason;

/// Enums whose variants are rules: each with its token and documentation, so that none is forgotten.
macro_rules! rules {
    ($(#[$outer:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $token:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every rule.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The rule's name for metrics, logs and `proxy-status`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $token,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::error::Error for $name {}
    };
}
pub(crate) use rules;

rules! {
/// Why a head is refused. After any of these the connection can't be used: where the message ends is unknown.
pub enum HeadError {
    /// More bytes than `Limits::head_bytes` (RFC 6585 section 5).
    TooLarge = "head_too_large",
    /// More fields than `Limits::fields` (RFC 6585 section 5).
    TooManyFields = "too_many_fields",
    /// More than one empty line before the request (RFC 9112 section 2.2 asks for one to be ignored).
    LeadingLines = "leading_empty_lines",
    /// A method that is empty or no token (RFC 9112 section 3.1).
    InvalidMethod = "invalid_method",
    /// No target, or one with bytes that no URI has: control bytes, spaces, `#`, non-ASCII (RFC 9112 section 3.2).
    InvalidTarget = "invalid_target",
    /// A form of target that does not belong to the method: `*` but not OPTIONS, a bare authority but not CONNECT, a
    /// scheme other than `http` and `https` (RFC 9112 section 3.2).
    InvalidTargetForm = "invalid_target_form",
    /// Neither `HTTP/1.1` nor `HTTP/1.0`, or no version at all (RFC 9112 section 2.3).
    UnsupportedVersion = "unsupported_version",
    /// A start line whose parts are not separated by single spaces (RFC 9112 sections 3 and 4).
    InvalidStartLine = "invalid_start_line",
    /// A status that is not three digits from 100 up (RFC 9112 section 4, RFC 9110 section 15).
    InvalidStatus = "invalid_status",
    /// Control bytes in the reason phrase (RFC 9112 section 4).
    InvalidReason = "invalid_reason",
    /// A line that ends in LF without CR (RFC 9112 section 2.2).
    BareLf = "bare_lf",
    /// A CR that is not followed by LF (RFC 9112 section 2.2).
    BareCr = "bare_cr",
    /// Whitespace between the start line and the first field (RFC 9112 section 2.2).
    LeadingWhitespace = "leading_whitespace",
    /// A field continued on the next line (RFC 9112 section 5.2).
    ObsoleteFold = "obsolete_line_folding",
    /// A field without a name (RFC 9110 section 5.1).
    EmptyName = "empty_field_name",
    /// A field's name that is no token (RFC 9110 section 5.1).
    InvalidName = "invalid_field_name",
    /// Whitespace between a field's name and the colon (RFC 9112 section 5.1).
    SpaceBeforeColon = "space_before_colon",
    /// A line without a colon (RFC 9112 section 5).
    MissingColon = "missing_colon",
    /// Control bytes in a field's value (RFC 9110 section 5.5).
    InvalidValue = "invalid_field_value",
    /// An HTTP/1.1 request without `host` (RFC 9112 section 3.2).
    MissingHost = "missing_host",
    /// More than one `host` (RFC 9112 section 3.2).
    DuplicateHost = "duplicate_host",
    /// A `host` that is no host with an optional port: empty, userinfo, a port above 65535 (RFC 9110 section 7.2).
    InvalidHost = "invalid_host",
    /// A target's authority that is none (RFC 9110 section 4.2).
    InvalidAuthority = "invalid_authority",
    /// `host` and the target name different hosts (RFC 9112 section 3.2.2).
    HostMismatch = "host_mismatch",
    /// More than one `content-length`, even of equal values (RFC 9112 section 6.3).
    DuplicateContentLength = "duplicate_content_length",
    /// A `content-length` that is not one decimal number up to 2^63 - 1 (RFC 9110 section 8.6).
    InvalidContentLength = "invalid_content_length",
    /// Both `content-length` and `transfer-encoding` (RFC 9112 section 6.1).
    LengthAndEncoding = "content_length_and_transfer_encoding",
    /// More than one `transfer-encoding` (RFC 9112 section 6.1).
    DuplicateTransferEncoding = "duplicate_transfer_encoding",
    /// A `transfer-encoding` other than `chunked` (RFC 9112 section 6.1).
    InvalidTransferEncoding = "invalid_transfer_encoding",
    /// A `transfer-encoding` where none may be: in HTTP/1.0, 1xx or 204 (RFC 9112 section 6.1).
    UnexpectedTransferEncoding = "unexpected_transfer_encoding",
    /// A body on CONNECT or TRACE, or announced by 1xx or 204 (RFC 9110 sections 9.3.6, 9.3.8 and 8.6).
    UnexpectedBody = "unexpected_body",
    /// A `connection` that is no list of tokens (RFC 9110 section 7.6.1).
    InvalidConnection = "invalid_connection",
    /// More options in `connection` than anyone needs: each costs a look at every field (RFC 9110 section 7.6.1).
    TooManyConnectionOptions = "too_many_connection_options",
    /// A request's `upgrade` that is no list of protocols, or a 101 that names none (RFC 9110 sections 7.8 and 15.2.2).
    InvalidUpgrade = "invalid_upgrade",
    /// An `expect` that hides `100-continue` from some readers: twice, or amid other text (RFC 9110 section 10.1.1).
    InvalidExpect = "invalid_expect",
    /// An expectation that nobody knows: 417 (RFC 9110 section 10.1.1).
    ExpectationFailed = "expectation_failed",
}
}

impl HeadError {
    /// Whether it was too much rather than wrong: 431 instead of 400.
    pub fn is_too_large(self) -> bool {
        matches!(
            self,
            Self::TooLarge | Self::TooManyFields | Self::TooManyConnectionOptions
        )
    }

    /// Why the proxy refuses a request for it.
    pub fn reason(self) -> Reason {
        match self {
            Self::TooLarge => Reason::HeadTooLarge,
            Self::TooManyFields | Self::TooManyConnectionOptions => Reason::TooManyHeaders,
            Self::ExpectationFailed => Reason::ExpectationFailed,
            _ => Reason::BadRequest,
        }
    }

    /// The status that a client is answered with. What a server gets wrong is 502.
    pub fn status(self) -> u16 {
        match self {
            Self::ExpectationFailed => 417,
            _ if self.is_too_large() => 431,
            _ => 400,
        }
    }
}

rules! {
/// Why a body's framing is refused, or can't be written.
pub enum BodyError {
    /// A chunk's size that is not hexadecimal digits alone (RFC 9112 section 7.1).
    InvalidChunkSize = "invalid_chunk_size",
    /// A chunk's size of more than 16 digits or 2^63 - 1 bytes (RFC 9112 section 7.1).
    ChunkTooLarge = "chunk_size_overflow",
    /// Control bytes in a chunk's extensions (RFC 9112 section 7.1.1).
    InvalidChunkExtension = "invalid_chunk_extension",
    /// More extensions than `Limits` allow (RFC 9112 section 7.1.1).
    ChunkExtensionTooLarge = "chunk_extension_too_large",
    /// A line, or a chunk's data, that does not end in CRLF (RFC 9112 section 7.1).
    InvalidLineEnd = "invalid_chunk_line_end",
    /// A trailer that is no field (RFC 9112 section 7.1.2).
    InvalidTrailer = "invalid_trailer",
    /// More trailers than `Limits` allow (RFC 9112 section 7.1.2).
    TrailersTooLarge = "trailers_too_large",
    /// The connection ended before the body (RFC 9112 section 8).
    Truncated = "body_truncated",
    /// More payload than announced is to be sent.
    LongerThanAnnounced = "body_longer_than_announced",
    /// Less payload than announced was sent.
    ShorterThanAnnounced = "body_shorter_than_announced",
}
}
