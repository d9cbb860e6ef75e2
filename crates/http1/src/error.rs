//! In how many ways can a message be wrong? One name each, for answers, metrics and logs.

use std::fmt;

macro_rules! errors {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $name:ident = $token:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $type { $($(#[$variant_doc])* $name,)+ }

        impl $type {
            /// The name in answers, metrics and logs.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $token,)+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::error::Error for $type {}
    };
}

errors! {
    /// Why a head is refused.
    HeadError {
        /// Larger than [`Limits::head_bytes`](crate::Limits::head_bytes).
        TooLarge = "head_too_large",
        /// More fields than [`Limits::fields`](crate::Limits::fields).
        TooManyFields = "too_many_fields",
        /// `Expect` asks for what nobody here does (RFC 9110 section 10.1.1).
        ExpectationFailed = "expectation_failed",
        /// The start line does not follow the grammar (RFC 9112 sections 3 and 4).
        StartLine = "invalid_start_line",
        /// A version other than `HTTP/1.0` and `HTTP/1.1` (RFC 9112 section 2.3).
        Version = "unsupported_version",
        /// A byte that a target may not have (RFC 9112 section 3.2), or a form that this method may not have.
        Target = "invalid_target",
        /// A line that does not end in CRLF (RFC 9112 section 2.2).
        LineEnd = "bare_line_end",
        /// More than one empty line before a request, or one before a response (RFC 9112 section 2.2).
        LeadingEmptyLine = "leading_empty_line",
        /// A field name that is no token, is empty, or has white space around it (RFC 9112 section 5.1).
        FieldName = "invalid_field_name",
        /// A control byte in a field value, or a folded line (RFC 9110 section 5.5, RFC 9112 section 5.2).
        FieldValue = "invalid_field_value",
        /// No `Host` in HTTP/1.1 (RFC 9112 section 3.2).
        MissingHost = "missing_host",
        /// More than one `Host` (RFC 9112 section 3.2).
        DuplicateHost = "duplicate_host",
        /// A `Host` or authority that is not `host[:port]` (RFC 9110 section 7.2).
        InvalidHost = "invalid_host",
        /// The target names another host than `Host` (RFC 9112 section 3.2.2; we refuse what others overlook).
        HostMismatch = "host_mismatch",
        /// A `Content-Length` that is no number, or too large (RFC 9112 section 6.3).
        ContentLength = "invalid_content_length",
        /// More than one `Content-Length` (RFC 9112 section 6.3).
        DuplicateContentLength = "duplicate_content_length",
        /// A `Transfer-Encoding` other than `chunked` alone (RFC 9112 section 6.1).
        TransferEncoding = "unsupported_transfer_encoding",
        /// More than one `Transfer-Encoding`.
        DuplicateTransferEncoding = "duplicate_transfer_encoding",
        /// `Content-Length` and `Transfer-Encoding` together (RFC 9112 section 6.1).
        AmbiguousLength = "ambiguous_length",
        /// `Transfer-Encoding` in HTTP/1.0, or with a status that has no body (RFC 9112 section 6.1).
        UnexpectedTransferEncoding = "unexpected_transfer_encoding",
        /// A body with CONNECT or TRACE (RFC 9110 sections 9.3.6 and 9.3.8).
        UnexpectedBody = "unexpected_body",
        /// A `Connection` that is no list of tokens (RFC 9110 section 7.6.1).
        Connection = "invalid_connection",
        /// A status code outside 100 to 999.
        Status = "invalid_status",
    }
}

impl HeadError {
    /// Whether a bound was reached rather than a rule broken.
    pub fn is_too_large(self) -> bool {
        matches!(self, Self::TooLarge | Self::TooManyFields)
    }
}

errors! {
    /// Why a body's framing is refused.
    BodyError {
        /// The connection ended in the middle of the body.
        Truncated = "truncated_body",
        /// A chunk size that is no hexadecimal number, or too large (RFC 9112 section 7.1).
        ChunkSize = "invalid_chunk_size",
        /// A chunk extension with a control byte (RFC 9112 section 7.1.1).
        ChunkExtension = "invalid_chunk_extension",
        /// More chunk extensions than allowed.
        ChunkExtensionTooLarge = "chunk_extension_too_large",
        /// A chunk that does not end in CRLF.
        ChunkEnd = "invalid_chunk_end",
        /// A trailer field that breaks the grammar (RFC 9112 section 7.1.2).
        Trailer = "invalid_trailer",
        /// More bytes of trailers than allowed.
        TrailerTooLarge = "trailer_too_large",
    }
}
