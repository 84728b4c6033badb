//! How many requests of a source may be in work, and the share of one connection.

use std::sync::Arc;

use http::request::Parts;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::places::Begun;

/// Requests of a source that may be in work at once.
const MAX_REQUESTS: usize = 10_000;

/// A connection that has others beside it gets no further request once it has this part of the
/// requests that may still come.
///
/// So the more are in work the less each connection of HTTP/2 may add, and some are left to others
/// however many they are. With 200 streams a connection comes to feel it when 8000 are in work.
const PART: usize = 10;

/// A bound on the requests of one source.
#[derive(Debug)]
pub struct Requests(Semaphore);

impl Default for Requests {
    fn default() -> Self {
        Self::new(MAX_REQUESTS)
    }
}

impl Requests {
    /// Makes a bound of this many requests.
    pub fn new(most: usize) -> Self {
        Self(Semaphore::new(most))
    }

    /// Counts the request with this head until what it returns is dropped. There is none if too many
    /// are in work, or its connection has its share.
    pub fn begin(&self, head: &Parts) -> Option<SemaphorePermit<'_>> {
        let share = (self.0.available_permits() / PART).max(1);
        let in_work = head.extensions.get::<Arc<Begun>>().map_or(1, |begun| begun.beside());
        if in_work > share {
            return None;
        }
        self.0.try_acquire().ok()
    }
}

/// Waits until another connection needs the place of the one on which this request came. To be called
/// when the request waits for nothing but delivery.
pub async fn hurried(head: &Parts) {
    match head.extensions.get::<Arc<Begun>>() {
        Some(begun) => begun.hurried().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::super::places::{Place, Places};
    use super::*;

    /// A request on this connection, or on none.
    fn request(place: Option<&Arc<Place>>) -> Parts {
        let mut request = Request::new(());
        if let Some(place) = place {
            request.extensions_mut().insert(Arc::new(place.begin()));
        }
        request.into_parts().0
    }

    #[tokio::test]
    async fn the_more_are_in_work_the_less_a_connection_may_add_and_each_may_have_one() {
        let places: &'static Places = Box::leak(Box::new(Places::new(1000)));
        let requests: &'static Requests = Box::leak(Box::new(Requests::new(1000)));
        let mut in_work = Vec::new();
        let mut shares = Vec::new();
        for _ in 0..50 {
            let place = places.take().await;
            let before = in_work.len();
            loop {
                let head = request(Some(&place));
                let Some(begun) = requests.begin(&head) else { break };
                in_work.push((head, begun));
            }
            shares.push(in_work.len() - before);
        }
        assert_eq!(shares[..4], [91, 82, 75, 68], "about a tenth of what the others left");
        assert!(shares.is_sorted_by(|before, after| before >= after), "{shares:?}");
        assert!(shares.iter().all(|share| *share > 0), "{shares:?}");

        // Those of connections that have none get in to the last.
        while let Some(begun) = requests.begin(&request(None)) {
            in_work.push((request(None), begun));
        }
        assert_eq!(in_work.len(), 1000);
        in_work.pop();
        let place = places.take().await;
        let one = request(Some(&place));
        assert!(requests.begin(&one).is_some());
        let other = request(Some(&place));
        assert!(requests.begin(&other).is_none());
    }
}
