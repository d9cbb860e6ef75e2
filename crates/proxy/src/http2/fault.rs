//! What does the end of a stream mean to an exchange, and that of a connection to metrics?

use std::io;

use mesh_http2::meter::Flood;
use mesh_http2::{Code, Failure};

use crate::exchange::message::Fault;
use crate::telemetry::Limit;

/// The fault behind a failure.
pub fn fault(failure: Failure) -> Fault {
    match failure {
        Failure::Reset(code) => Fault::Reset(code),
        Failure::Refused => Fault::Refused,
        Failure::Protocol(token) => Fault::Protocol(token),
        Failure::Gone => Fault::Io(io::ErrorKind::ConnectionAborted),
    }
}

/// The `grpc-status` for a stream that its server took back (gRPC's HTTP/2 protocol, "Errors").
pub fn grpc_status(code: Code) -> u32 {
    match code {
        Code::CANCEL => 1,
        Code::REFUSED_STREAM => 14,
        Code::ENHANCE_YOUR_CALM => 8,
        Code::INADEQUATE_SECURITY => 7,
        _ => 13,
    }
}

/// The code for a client whose server took its stream back with this one. What is said of this proxy's part is not
/// the client's doing; what could be taken for leave to try again, or for an end in order (NO_ERROR, CANCEL), is not
/// meant for a response that has begun.
pub fn passed_on(code: Code) -> Code {
    match code {
        Code::ENHANCE_YOUR_CALM | Code::INADEQUATE_SECURITY => code,
        _ => Code::INTERNAL_ERROR,
    }
}

/// The name in metrics of a bound that a peer went beyond.
pub fn limit(flood: Flood) -> Limit {
    match flood {
        Flood::Resets => Limit::Http2Resets,
        Flood::LocalResets => Limit::Http2LocalResets,
        Flood::Continuations => Limit::Http2Continuations,
        Flood::HeaderBlock => Limit::HeaderBytes,
        Flood::Pings => Limit::Http2Pings,
        Flood::Settings => Limit::Http2Settings,
        Flood::Priorities => Limit::Http2Priorities,
        Flood::WindowUpdates => Limit::Http2WindowUpdates,
        Flood::SmallData => Limit::Http2SmallData,
    }
}
