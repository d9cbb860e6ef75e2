//! What becomes of a panic?
//!
//! It is a defect, and it ends what it happened in: a connection, an update, a lookup. It never ends the thread, and
//! never the process of the host. It is counted and said; the panic hook of the process has written where it was.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use crate::log::{Level, Log, News};
use crate::telemetry::Telemetry;

/// Counts and says panics.
pub struct Guard {
    telemetry: Arc<Telemetry>,
    /// Where they are said.
    pub log: Arc<Log>,
}

impl Guard {
    /// One that counts and says them here.
    pub fn new(telemetry: Arc<Telemetry>, log: Arc<Log>) -> Self {
        Self { telemetry, log }
    }

    /// Counts and says a panic of this thread. Without its payload when it is still on its way.
    pub fn contained(&self, payload: Option<&(dyn Any + Send)>) {
        self.telemetry.control().panics.increment();
        let what = payload.and_then(|payload| {
            let text = payload.downcast_ref::<&str>().copied();
            text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        });
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("a thread");
        let what = what.unwrap_or("standard error says where");
        self.log
            .tell(Level::Error, &format!("{thread} panicked: {what}"), News::Panic);
    }

    /// Does something that must not end this thread; `None` when it panicked.
    pub fn contain<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        catch_unwind(AssertUnwindSafe(work))
            .map_err(|payload| self.contained(Some(&*payload)))
            .ok()
    }

    /// Runs a future that must not end this thread.
    pub async fn watch(&self, future: impl Future<Output = ()>) {
        let mut future = pin!(future);
        // After a panic the future is done for; it is not polled again.
        poll_fn(|cx| {
            self.contain(|| future.as_mut().poll(cx))
                .unwrap_or(Poll::Ready(()))
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::log::Level;
    use crate::telemetry::TelemetryOptions;

    #[test]
    fn a_panic_is_counted_and_said_and_the_thread_goes_on() {
        let telemetry = Arc::new(Telemetry::new(TelemetryOptions::default()));
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let list = Arc::clone(&said);
        let log = Log::new(Level::Error, move |entry| {
            list.lock().unwrap().push(entry.message.to_owned());
        });
        let guard = Guard::new(Arc::clone(&telemetry), Arc::new(log));
        let work = move || {
            assert_eq!(guard.contain(|| 1), Some(1));
            assert_eq!(guard.contain::<()>(|| panic!("one")), None);
            assert_eq!(guard.contain::<()>(|| panic!("t{}", "wo")), None);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(guard.watch(async { panic!("three") }));
            runtime.block_on(guard.watch(async {}));
        };
        let thread = std::thread::Builder::new().name("mesh-test".into()).spawn(work);
        thread.unwrap().join().unwrap();
        let said = said.lock().unwrap();
        assert_eq!(
            *said,
            ["one", "two", "three"].map(|what| format!("mesh-test panicked: {what}"))
        );
        assert_eq!(telemetry.control().panics.get(), 3);
    }
}
