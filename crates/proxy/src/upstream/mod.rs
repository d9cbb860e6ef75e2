//! Where do requests go: clusters, their endpoints' connections, and how new ones are made.

pub mod cluster;
pub mod connect;
pub mod pool;
pub mod target;

pub use connect::ConnectError;
