//! Does the command listen yet?
//!
//! A copy whose application does not listen would answer its callers with 502. So it is not ready before, and joins the
//! others of its service when somebody answers at its first port.

use std::time::Duration;

use mesh_model::resources::Address;
use mesh_proxy::log::Log;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout};

/// How often it is looked: a start gets later by no more than that.
const LOOK: Duration = Duration::from_millis(50);
/// How long one look may take, where nobody says no.
const LOOK_DEADLINE: Duration = Duration::from_secs(1);
/// When somebody should hear that it takes long: most that listen at all do so by then.
const LONG: Duration = Duration::from_secs(10);

/// Resolves once a connection to the application is accepted. Without end: it says so when that takes long.
pub(crate) async fn listens(application: &Address, log: &Log) {
    listens_or_says(application, log, LONG).await;
}

async fn listens_or_says(application: &Address, log: &Log, after: Duration) {
    let long = Instant::now() + after;
    let mut is_said = false;
    while !accepts(application).await {
        if !is_said && Instant::now() >= long {
            is_said = true;
            log.warn(
                &format!("the command does not listen on {application} yet, which --ports names: not ready"),
                &[("seconds", &after.as_secs())],
            );
        }
        sleep(LOOK).await;
    }
}

async fn accepts(application: &Address) -> bool {
    let connecting = async {
        match application {
            Address::Ip(address) => TcpStream::connect(address).await.is_ok(),
            Address::Unix(path) => UnixStream::connect(&**path).await.is_ok(),
        }
    };
    timeout(LOOK_DEADLINE, connecting).await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::sync::{Arc, Mutex};

    use mesh_proxy::log::Level;

    use super::*;

    #[tokio::test]
    async fn a_command_that_does_not_listen_is_told_of_once_and_waited_for() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&said);
        let log = Log::new(Level::Info, move |entry| lines.lock().unwrap().push(entry.text()));
        let path = std::env::temp_dir().join(format!("mesh-listens-{}", std::process::id()));
        let application = Address::Unix(path.to_string_lossy().into());
        let mut waiting = std::pin::pin!(listens_or_says(&application, &log, LOOK));
        assert!(timeout(10 * LOOK, &mut waiting).await.is_err());
        assert_eq!(said.lock().unwrap().len(), 1);
        assert!(said.lock().unwrap()[0].contains(&*application.to_string()));
        let listener = UnixListener::bind(&path).unwrap();
        timeout(LONG, waiting).await.unwrap();
        drop(listener);
        std::fs::remove_file(path).unwrap();
    }
}
