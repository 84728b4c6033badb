//! What others may see of a running delivery and tell it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::{DeliveryStatus, Tuning};

/// What the delivery task was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// Whether nothing is to be sent.
    pub paused: bool,
    /// Grows with each [`DeliveryHandle::resume`] and [`DeliveryHandle::try_again`]; a held delivery
    /// then probes at once.
    pub resumed: u64,
    /// The limits in force, if others than at the start.
    pub tuning: Option<Arc<Tuning>>,
    /// Grows with each [`DeliveryHandle::retune`].
    pub tuned: u64,
}

/// Control of a running delivery; cheap to clone.
///
/// ```
/// # fn example(handle: &rudder_customerio::sink::SinkHandle) {
/// let delivery = handle.delivery();
/// let status = delivery.status();
/// if status.state == "held" {
///     eprintln!("delivery is held: {}", status.reason.as_deref().unwrap_or("no reason"));
///     // After the key was put right: ask at once instead of within minutes.
///     delivery.try_again();
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DeliveryHandle {
    status: Arc<Mutex<DeliveryStatus>>,
    orders: watch::Sender<Orders>,
}

impl DeliveryHandle {
    pub(super) fn new(rate: f64) -> (Self, watch::Receiver<Orders>) {
        let (orders, receiver) = watch::channel(Orders::default());
        let status = DeliveryStatus { state: "sending", rate, ..DeliveryStatus::default() };
        (Self { status: Arc::new(Mutex::new(status)), orders }, receiver)
    }

    /// Returns the state.
    #[must_use]
    pub fn status(&self) -> DeliveryStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets a delivery that is held ask Customer.io at once whether it may go on; one that is paused
    /// stays so.
    pub fn try_again(&self) {
        self.orders.send_modify(|orders| orders.resumed += 1);
    }

    /// Stops sending until [`DeliveryHandle::resume`]; events are still accepted, and requests under
    /// way are finished.
    pub fn pause(&self) {
        self.orders.send_modify(|orders| orders.paused = true);
    }

    /// Goes on. A delivery that is held asks Customer.io at once whether it may go on.
    pub fn resume(&self) {
        self.orders.send_modify(|orders| {
            orders.paused = false;
            orders.resumed += 1;
        });
    }

    /// Puts other limits in force; requests under way keep the old ones. Nothing that waits is
    /// lost or sent twice for it.
    #[cfg(feature = "pipeline")]
    pub(crate) fn retune(&self, tuning: Tuning) {
        self.orders.send_modify(|orders| {
            orders.tuning = Some(Arc::new(tuning));
            orders.tuned += 1;
        });
    }

    /// Publishes the state; `since` is kept as long as state and reason stay the same.
    pub(super) fn publish(
        &self,
        state: &'static str,
        reason: Option<&str>,
        in_flight: usize,
        rate: f64,
    ) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if status.state != state || status.reason.as_deref() != reason || status.since.is_none() {
            status.since = Some(chrono::Utc::now().timestamp());
            status.state = state;
            status.reason = reason.map(str::to_owned);
        }
        status.in_flight = in_flight as u64;
        status.rate = rate;
    }
}
