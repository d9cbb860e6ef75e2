//! Where do requests go: clusters, their endpoints' connections, and how new ones are made.

pub mod carrier;
pub mod cluster;
pub mod connect;
pub mod dial;
pub mod pool;
pub mod room;
pub mod stream;
pub mod target;

pub use connect::ConnectError;
