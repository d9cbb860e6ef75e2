//! HTTP/2 connections of clients.

use mesh_model::errors::Reason;

use crate::connection::Connection;
use crate::io::Net;

/// Serves a client's connection to its end.
pub async fn serve<N: Net>(_connection: Connection<N>) -> Option<Reason> {
    Some(Reason::Http2Protocol)
}
