//! Locks that a panic elsewhere doesn't close.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also what somebody held who panicked: for what is whole between any two steps, or replaced as a
/// whole, so that a panic leaves nothing half done.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_in_a_panic_is_locked_again() {
        let mutex = Mutex::new(1);
        let holder = std::thread::scope(|scope| {
            let panics = || {
                *locked(&mutex) = 2;
                let _held = locked(&mutex);
                panic!("while it is held");
            };
            scope.spawn(panics).join()
        });
        assert!(holder.is_err() && mutex.is_poisoned());
        assert_eq!(*locked(&mutex), 2);
    }
}
