//! HTTP/2 connections to servers.

use mesh_model::resources::ClusterTimeouts;

use crate::clock::Nanos;

/// A thread's HTTP/2 connections to the endpoints of a cluster.
#[derive(Default)]
pub struct Connections;

impl Connections {
    /// Closes the connections to endpoints that did not stay.
    pub fn retain(&self, _stays: impl Fn(usize) -> bool) {}

    /// Closes connections whose time is over.
    pub fn sweep(&self, _now: Nanos, _timeouts: ClusterTimeouts) {}
}
