//! One request and its answer.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::watch;

use super::Shared;
use super::body::{self, WireBody};
use super::socket::Control;
use crate::sandbox::dispatch::Plan;
use crate::sandbox::request::{Answer, Ending, FromElsewhere};

pub(super) async fn respond(
    request: Request<Incoming>,
    from_elsewhere: bool,
    shared: &Shared,
    control: Arc<Control>,
    mut closed: watch::Receiver<()>,
) -> Result<Response<WireBody>, hyper::Error> {
    let (mut parts, incoming) = request.into_parts();
    if from_elsewhere {
        parts.extensions.insert(FromElsewhere);
    }
    // An error ends the connection, or in HTTP/2 the stream: nobody is there to read an answer.
    let read = body::read(incoming).await?;
    let active = control.begin();
    let request = Request::from_parts(parts, read);
    let Answer { response, wire, number } = decide(shared, &request).await;
    if !wire.delay.is_zero() {
        // Other endings are on record as what they are already.
        let to_be_whole = matches!(wire.ending, Ending::Whole | Ending::Slow(_));
        let mut unsent = Unsent { shared, number: to_be_whole.then_some(number) };
        tokio::time::sleep(wire.delay).await;
        unsent.number = None;
    }
    let (mut parts, whole) = response.into_parts();
    let has_body = !whole.is_empty();
    match wire.ending {
        Ending::Hang => {
            // Never changed: returns when the connection is gone.
            let gone = closed.changed().await;
            tracing::trace!(?gone, "Sandbox stopped hanging.");
        }
        Ending::ResetMidway if has_body => {}
        Ending::Reset | Ending::ResetMidway => {
            control.reset();
            std::future::pending::<()>().await;
        }
        Ending::Whole | Ending::Slow(_) => {}
    }
    if let Some(idle) = wire.close_idle {
        Arc::clone(&control).close_when_idle(idle);
    }
    if has_body {
        parts.headers.insert(http::header::CONTENT_LENGTH, whole.len().into());
    }
    let body = match wire.ending {
        Ending::ResetMidway => body::cut(whole, control),
        Ending::Slow(pause) if has_body => body::slow(whole, pause, active),
        _ => body::whole(whole),
    };
    Ok(Response::from_parts(parts, body))
}

/// Asks the engine, with a wait between its two steps if a fault wants one.
async fn decide(shared: &Shared, request: &Request<Bytes>) -> Answer {
    let plan = shared.engine().begin(request);
    let wait = plan.wait();
    let mut begun = Begun { shared, request, plan: Some(plan) };
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    begun.finish()
}

/// A request that waits to be applied; recorded when the connection ends before.
struct Begun<'a> {
    shared: &'a Shared,
    request: &'a Request<Bytes>,
    plan: Option<Plan>,
}

impl Begun<'_> {
    fn finish(&mut self) -> Answer {
        let mut engine = self.shared.engine();
        let plan = self.plan.take().unwrap_or_else(|| engine.begin(self.request));
        engine.finish(self.request, plan)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if let Some(plan) = self.plan.take() {
            self.shared.engine().abandon(self.request, plan);
        }
    }
}

/// An answer that waits to be sent; recorded when the connection ends before.
struct Unsent<'a> {
    shared: &'a Shared,
    number: Option<u64>,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.shared.engine().unsent(number);
        }
    }
}
