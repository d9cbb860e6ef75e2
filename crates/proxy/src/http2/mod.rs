//! stub
pub mod client { use crate::clock::Nanos; use mesh_model::resources::ClusterTimeouts;
/// stub
#[derive(Default)] pub struct Connections; impl Connections { /// stub
pub fn retain(&self, _: impl Fn(usize)->bool) {} /// stub
pub fn sweep(&self, _: Nanos, _: ClusterTimeouts) {} } }
pub mod server { use crate::{connection::Connection, io::Net}; use mesh_model::errors::Reason;
/// stub
pub async fn serve<N: Net>(_: Connection<N>) -> Option<Reason> { None } }
