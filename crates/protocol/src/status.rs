//! How did a call end?
//!
//! By a code and a text, in `grpc-status` and `grpc-message`: after the messages, or instead of them.

use std::fmt;

use http::{HeaderMap, HeaderValue};

/// The longest text that is sent or kept, in bytes.
const MAX_TEXT: usize = 1024;

/// Builds the enum and its lookups from one table.
macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $token:literal;)+) => {
        /// The codes of gRPC.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl Code {
            /// The number on the wire.
            pub const fn number(self) -> u8 {
                self as u8
            }

            /// The name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $token),+ }
            }

            /// What a number means. One that is not in the list is unknown, as gRPC wants it.
            pub fn of(number: u32) -> Self {
                match number { $($number => Self::$name,)+ _ => Self::Unknown }
            }
        }
    };
}

codes! {
    /// It went well.
    Ok = 0, "OK";
    /// The caller gave up.
    Cancelled = 1, "CANCELLED";
    /// Something else.
    Unknown = 2, "UNKNOWN";
    /// What was asked makes no sense.
    InvalidArgument = 3, "INVALID_ARGUMENT";
    /// It took too long.
    DeadlineExceeded = 4, "DEADLINE_EXCEEDED";
    /// There is no such thing.
    NotFound = 5, "NOT_FOUND";
    /// It is there already.
    AlreadyExists = 6, "ALREADY_EXISTS";
    /// This caller may not.
    PermissionDenied = 7, "PERMISSION_DENIED";
    /// Too much for now.
    ResourceExhausted = 8, "RESOURCE_EXHAUSTED";
    /// Not as things stand.
    FailedPrecondition = 9, "FAILED_PRECONDITION";
    /// Something came in between.
    Aborted = 10, "ABORTED";
    /// Beyond the end.
    OutOfRange = 11, "OUT_OF_RANGE";
    /// Nobody does this here.
    Unimplemented = 12, "UNIMPLEMENTED";
    /// The server is broken.
    Internal = 13, "INTERNAL";
    /// Not now; try again, maybe elsewhere.
    Unavailable = 14, "UNAVAILABLE";
    /// Something is lost.
    DataLoss = 15, "DATA_LOSS";
    /// Who calls is not known.
    Unauthenticated = 16, "UNAUTHENTICATED";
}

/// How a call ended other than well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The kind of end.
    pub code: Code,
    /// In words. Ours begin with a token where a program is to understand them: `token_expired: the token has expired`.
    pub message: String,
}

impl Status {
    /// With a text, shortened to [`MAX_TEXT`].
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(MAX_TEXT));
        Self { code, message }
    }

    /// As it stands in headers or trailers; `None` where they say nothing.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let number = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
        let text = headers.get("grpc-message").map(HeaderValue::as_bytes);
        Some(Self::new(Code::of(number), decoded(text.unwrap_or_default())))
    }

    /// Into trailers.
    pub(crate) fn trailers(outcome: &Result<(), Self>) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        let code = outcome.as_ref().map_or_else(|status| status.code, |()| Code::Ok);
        trailers.insert("grpc-status", u16::from(code.number()).into());
        if let Err(status) = outcome
            && let Ok(text) = HeaderValue::try_from(encoded(&status.message))
        {
            trailers.insert("grpc-message", text);
        }
        trailers
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

/// As gRPC writes texts into headers: everything but printable ASCII in percent.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn decoded(mut text: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    while let Some((&first, rest)) = text.split_first() {
        text = rest;
        match rest.split_first_chunk::<2>().filter(|_| first == b'%') {
            Some((&[high, low], rest)) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |byte| char::from(byte).to_digit(16).unwrap_or_default();
                decoded.push((digit(high) << 4 | digit(low)) as u8);
                text = rest;
            }
            _ => decoded.push(first),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_travels_whole() {
        for text in ["", "plain", "100 % né\n\u{1f600}", "%zz%"] {
            let status = Status::new(Code::Unauthenticated, text);
            let trailers = Status::trailers(&Err(status.clone()));
            assert_eq!(trailers["grpc-status"], "16");
            assert_eq!(Status::read(&trailers), Some(status));
        }
        assert_eq!(
            Status::read(&Status::trailers(&Ok(()))),
            Some(Status::new(Code::Ok, ""))
        );
        assert_eq!(Status::read(&HeaderMap::new()), None);
    }

    #[test]
    fn what_others_write_is_read_as_far_as_it_goes() {
        assert_eq!(decoded(b"a%2"), "a%2");
        assert_eq!(decoded(b"%+1%41"), "%+1A");
        assert_eq!(Code::of(77), Code::Unknown);
        assert_eq!(
            Status::new(Code::Internal, "é".repeat(MAX_TEXT)).message.len(),
            MAX_TEXT
        );
    }
}
