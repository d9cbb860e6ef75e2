//! Is the other side still there?

use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{sleep, timeout};

/// How often it is asked.
pub(crate) const EVERY: Duration = Duration::from_secs(20);
/// How long it may take to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Asks for as long as there are answers.
pub(crate) async fn unanswered(ping_pong: Option<PingPong>) {
    // h2 hands it out once, and to us.
    let Some(mut ping_pong) = ping_pong else {
        return std::future::pending().await;
    };
    loop {
        sleep(EVERY).await;
        if !matches!(timeout(PATIENCE, ping_pong.ping(Ping::opaque())).await, Ok(Ok(_))) {
            return;
        }
    }
}
