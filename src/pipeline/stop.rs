//! The request to stop: the first one drains, the second one does not wait.

use tokio::sync::watch;

/// Makes requests; cheap to clone.
#[derive(Clone, Debug)]
pub struct Stopper {
    requests: watch::Sender<u32>,
}

/// Waits for requests; cheap to clone.
#[derive(Clone, Debug)]
pub struct Stop {
    requests: watch::Receiver<u32>,
}

/// Makes both ends. A stopper that is dropped makes no more requests.
#[must_use]
pub fn channel() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(0);
    (Stopper { requests: sender }, Stop { requests: receiver })
}

impl Stopper {
    /// Requests to stop, or, the second time, to stop at once.
    pub fn request(&self) {
        self.requests.send_modify(|requests| *requests = requests.saturating_add(1));
    }
}

impl Stop {
    /// Waits until there were so many requests; for ever if nobody can make them.
    pub async fn requested(&self, count: u32) {
        let mut requests = self.requests.clone();
        if requests.wait_for(|made| *made >= count).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn requests_are_counted_even_if_nobody_waited() {
        let (stopper, stop) = channel();
        assert!(stop.requested(1).now_or_never().is_none());
        stopper.request();
        assert!(stop.requested(1).now_or_never().is_some());
        assert!(stop.requested(2).now_or_never().is_none());
        stopper.request();
        assert!(stop.requested(2).now_or_never().is_some());
    }

    #[test]
    fn a_dropped_stopper_is_no_request() {
        let (stopper, stop) = channel();
        drop(stopper);
        assert!(stop.requested(1).now_or_never().is_none());
    }
}
