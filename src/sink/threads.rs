//! Threads on which scripts are compiled and run: how many, and with how much stack.

use std::thread;

use crate::diagnostic::Diagnostic;

/// Scripts recurse over nested values; depth is limited, and this is enough for the limit.
pub(super) const STACK_BYTES: usize = 16 * 1024 * 1024;

/// How many threads map unless that is set.
pub(super) fn cores() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Runs something that compiles or runs scripts on a thread with enough stack.
///
/// # Errors
///
/// When the thread cannot be started, or panics.
pub async fn on_mapping_stack<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<T> {
    let (done, result) = tokio::sync::oneshot::channel();
    thread::Builder::new().name("mapping-load".to_owned()).stack_size(STACK_BYTES).spawn(
        move || {
            // Nobody waits any more if the receiver is gone.
            drop(done.send(work()));
        },
    )?;
    result.await.map_err(|_| std::io::Error::other("the thread panicked"))
}

/// Tells the operator that there is no such thread.
pub(super) fn no_thread(error: &std::io::Error) -> Diagnostic {
    Diagnostic::error("threads", format!("cannot run a mapping thread: {error}"))
        .help("set mapping.threads lower, or raise the limit of threads")
}
