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
