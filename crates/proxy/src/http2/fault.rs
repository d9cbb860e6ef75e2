//! What does an error of `h2` mean to an exchange?

use std::io;
use std::task::{Context, Waker};

use bytes::Bytes;
use h2::{Reason, SendStream};

use crate::exchange::message::Fault;

/// The fault behind an error.
pub fn fault(error: &h2::Error) -> Fault {
    if let Some(io) = error.get_io() {
        return Fault::Io(io.kind());
    }
    match error.reason() {
        // RFC 9113 section 6.8: streams above the one that GOAWAY names were not looked at.
        Some(_) if error.is_remote() && error.is_go_away() => Fault::Refused,
        Some(reason) if error.is_remote() => reset(reason),
        Some(reason) if error.is_library() => Fault::Protocol(token(reason)),
        // The connection was ended by this side.
        Some(_) => Fault::Io(io::ErrorKind::ConnectionAborted),
        None => Fault::Protocol("http2_stream_closed"),
    }
}

/// A reset from the peer.
fn reset(reason: Reason) -> Fault {
    // RFC 9113 section 8.7: the request was not looked at and may be sent again.
    if reason == Reason::REFUSED_STREAM {
        Fault::Refused
    } else {
        Fault::Reset(reason)
    }
}

/// Why a stream takes no more.
pub fn send_fault(stream: &mut SendStream<Bytes>) -> Fault {
    match stream.poll_reset(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(Ok(reason)) => reset(reason),
        std::task::Poll::Ready(Err(error)) => fault(&error),
        std::task::Poll::Pending => Fault::Protocol("http2_stream_closed"),
    }
}

/// The rule that was broken, as one of our tokens.
fn token(reason: Reason) -> &'static str {
    match reason {
        Reason::FLOW_CONTROL_ERROR => "http2_flow_control",
        Reason::FRAME_SIZE_ERROR => "http2_frame_size",
        Reason::COMPRESSION_ERROR => "http2_compression",
        Reason::STREAM_CLOSED => "http2_stream_closed",
        Reason::ENHANCE_YOUR_CALM => "http2_flood",
        _ => "http2_protocol",
    }
}

/// The `grpc-status` for a stream that its server took back (gRPC's HTTP/2 protocol, "Errors").
pub fn grpc_status(code: Reason) -> u32 {
    match code {
        Reason::CANCEL => 1,
        Reason::REFUSED_STREAM => 14,
        Reason::ENHANCE_YOUR_CALM => 8,
        Reason::INADEQUATE_SECURITY => 7,
        _ => 13,
    }
}

/// The code for a client whose server took its stream back with this one. What is said of this proxy's part is not
/// the client's doing; what could be taken for leave to try again is not meant for a response that has begun.
pub fn passed_on(code: Reason) -> Reason {
    match code {
        Reason::CANCEL | Reason::ENHANCE_YOUR_CALM | Reason::INADEQUATE_SECURITY => code,
        _ => Reason::INTERNAL_ERROR,
    }
}
