//! How is a lock taken, when a thread may have panicked with it in its hands?
//!
//! As if it had not: a panic is contained to its connection, so that nobody else suffers from it. Whatever is kept behind
//! a lock is whole after every statement, or made whole by whoever comes next.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
