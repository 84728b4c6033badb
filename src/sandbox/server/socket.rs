//! The socket of a connection, and how the tasks of its requests end it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// What the tasks of a connection's requests share with the connection.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// The connection ends at once.
    pub(super) cut: Notify,
    /// The connection takes no further request.
    pub(super) last: Notify,
    reset: AtomicBool,
    /// Requests that were read.
    requests: AtomicU64,
    /// Requests that were read, and are not answered yet.
    active: AtomicUsize,
}

/// A request that was read, until it is answered.
pub(super) struct Active(Arc<Control>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Control {
    /// Ends the connection with a TCP reset.
    pub(super) fn reset(&self) {
        self.reset.store(true, Ordering::SeqCst);
        self.cut.notify_one();
    }

    /// Counts a request that was read.
    pub(super) fn begin(self: &Arc<Self>) -> Active {
        self.requests.fetch_add(1, Ordering::SeqCst);
        self.active.fetch_add(1, Ordering::SeqCst);
        Active(Arc::clone(self))
    }

    /// How many requests were read; none while some are not answered.
    pub(super) fn rest(&self) -> Option<u64> {
        let requests = self.requests.load(Ordering::SeqCst);
        (self.active.load(Ordering::SeqCst) == 0).then_some(requests)
    }

    /// Lets the connection end when no further request comes within `idle`.
    pub(super) fn close_when_idle(self: Arc<Self>, idle: Duration) {
        let seen = self.requests.load(Ordering::SeqCst);
        let idle = idle.max(Duration::from_millis(1));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(idle).await;
                if self.requests.load(Ordering::SeqCst) != seen {
                    return;
                }
                if self.rest().is_some() {
                    return self.last.notify_one();
                }
            }
        });
    }
}

/// The socket; dropped with a reset if the control says so.
pub(super) struct Socket {
    pub(super) stream: TcpStream,
    pub(super) control: Arc<Control>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.control.reset.load(Ordering::SeqCst) {
            reset_on_close(&self.stream);
        }
    }
}

/// Without lingering, closing sends RST instead of FIN.
pub(super) fn reset_on_close(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "Sandbox could not prepare a connection reset.");
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
