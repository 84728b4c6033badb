//! Panics that are caught and reported as what they are: not another word of them.

use std::cell::Cell;
#[cfg(feature = "cli")]
use std::panic::{set_hook, take_hook};

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Runs work that may panic in a dependency and catches that itself.
pub(crate) fn expected<T>(work: impl FnOnce() -> T) -> T {
    /// Ends the expectation also when the panic was not caught.
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            EXPECTED.set(self.0);
        }
    }
    let _before = Before(EXPECTED.replace(true));
    work()
}

/// Tells whether this thread runs such work.
#[cfg(feature = "cli")]
pub(super) fn are_expected() -> bool {
    EXPECTED.get()
}

/// Lets the process' panic hook be silent about expected panics. Only the binary may.
#[cfg(feature = "cli")]
pub fn hide_expected() {
    let hook = take_hook();
    set_hook(Box::new(move |info| {
        if !are_expected() {
            hook(info);
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn a_panic_is_expected_only_within_and_on_its_thread() {
        expected(|| {
            assert!(are_expected());
            assert!(!std::thread::spawn(are_expected).join().unwrap());
            expected(|| ());
            assert!(are_expected(), "also after an inner one");
        });
        assert!(!are_expected());
        assert!(catch_unwind(|| expected(|| std::panic::resume_unwind(Box::new(())))).is_err());
        assert!(!are_expected(), "also after one that was not caught");
    }
}
