//! Why was a stream or a connection ended?

use std::fmt;

/// An error code (RFC 9113 section 7).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u32);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)+) => {
        impl Code {
            $($(#[$doc])* pub const $name: Self = Self($value);)+

            /// The name in the RFC, where it has one.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)+
                    _ => None,
                }
            }
        }
    };
}

codes! {
    /// Nothing is wrong.
    NO_ERROR = 0,
    /// The peer broke the protocol.
    PROTOCOL_ERROR = 1,
    /// This side failed.
    INTERNAL_ERROR = 2,
    /// The peer sent more than its window.
    FLOW_CONTROL_ERROR = 3,
    /// SETTINGS were not acknowledged in time.
    SETTINGS_TIMEOUT = 4,
    /// A frame for a stream that is closed.
    STREAM_CLOSED = 5,
    /// A frame of the wrong size.
    FRAME_SIZE_ERROR = 6,
    /// The stream was not looked at.
    REFUSED_STREAM = 7,
    /// The stream is no longer wanted.
    CANCEL = 8,
    /// The header compression can't go on.
    COMPRESSION_ERROR = 9,
    /// What CONNECT connected was reset.
    CONNECT_ERROR = 10,
    /// The peer costs too much.
    ENHANCE_YOUR_CALM = 11,
    /// TLS is not good enough.
    INADEQUATE_SECURITY = 12,
    /// HTTP/1.1 is wanted.
    HTTP_1_1_REQUIRED = 13,
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#x}", self.0),
        }
    }
}
