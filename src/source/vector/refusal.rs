//! Why a request is refused as a whole, and what its sender is told.
//!
//! Vector drops the events of a request after some statuses. These stand only where the same bytes
//! can never be taken; whatever may pass lets Vector repeat them.

use std::time::Duration;

use super::answer::{self, Answer, Code};
use super::wire::Broken;
use crate::source::Refused;
use crate::source::repeats::NotDelivered;
use crate::source::server::OVERLOAD;

/// Why nothing of a request was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The pipeline did not take the events.
    Refused(Refused),
    /// The events are taken, but not delivered yet, and the sender is to wait for that.
    NotDelivered,
    /// The requests that are in work hold too many bytes.
    NoRoom,
    /// The message did not arrive in time.
    Slow,
    /// The message ended early.
    Truncated,
    /// The message is compressed, and nothing says how.
    NoEncoding,
    /// A compression that is not known.
    UnknownEncoding,
    /// The message is not what its encoding says.
    BrokenEncoding,
    /// The request is not one message of gRPC.
    BrokenFrame(&'static str),
    /// The message is larger than this many bytes, or its events are larger than twice that.
    TooLarge(usize),
    /// The message is no list of events.
    Undecodable(Broken),
    /// A defect of our own.
    Internal,
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<NotDelivered> for Refusal {
    fn from(_: NotDelivered) -> Self {
        Self::NotDelivered
    }
}

impl From<Broken> for Refusal {
    fn from(broken: Broken) -> Self {
        Self::Undecodable(broken)
    }
}

impl Refusal {
    /// Returns the label of the metric.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Refused(refused) => refused.label(),
            Self::NoRoom => OVERLOAD,
            Self::Internal => "internal",
            Self::NotDelivered => NotDelivered::LABEL,
            Self::Slow | Self::Truncated => "body_unreadable",
            Self::NoEncoding | Self::UnknownEncoding | Self::BrokenEncoding => "encoding",
            Self::BrokenFrame(_) | Self::Undecodable(_) => "invalid_request",
            Self::TooLarge(_) => "too_large",
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Refused(_) | Self::NotDelivered | Self::NoRoom => Code::Unavailable,
            Self::Slow => Code::DeadlineExceeded,
            // On the way something took a part away: the next time it may be whole.
            Self::Truncated | Self::NoEncoding | Self::Internal => Code::Internal,
            Self::UnknownEncoding => Code::Unimplemented,
            Self::BrokenEncoding
            | Self::BrokenFrame(_)
            | Self::TooLarge(_)
            | Self::Undecodable(_) => Code::InvalidArgument,
        }
    }

    /// Tells whether the same request may be taken later.
    pub fn may_pass(&self) -> bool {
        !matches!(self.code(), Code::InvalidArgument | Code::Unimplemented)
    }

    /// Returns what is wrong and what helps.
    pub fn text(&self) -> String {
        let text = match self {
            Self::Refused(Refused::Full(after)) => {
                let after = (*after).max(Duration::from_secs(1)).as_secs();
                return format!(
                    "no room for the events: the buffer is full or mapping is behind; nothing is \
                     lost, repeat after {after} s"
                );
            }
            Self::Refused(Refused::Unavailable) => {
                "events cannot be stored now: look at the disk and the log of rudder-customerio; \
                 nothing is lost, repeat later"
            }
            Self::Refused(Refused::Closed) => "rudder-customerio is stopping; repeat later",
            Self::NotDelivered => {
                "the events are taken, but not delivered yet; repeat to wait on, or set `ack: buffered`"
            }
            Self::NoRoom => {
                "too many requests are in work, or they hold too much memory; repeat later, or lower \
                 `request.concurrency` of the sink"
            }
            Self::Slow => "the message did not arrive in time; repeat it",
            Self::Truncated => "the message ended early; repeat it",
            Self::NoEncoding => {
                "the message is compressed, but there is no `grpc-encoding`: does a proxy remove it?"
            }
            Self::UnknownEncoding => "`compression` of the sink must be none, gzip, or zstd",
            Self::BrokenEncoding => "the message is not what `grpc-encoding` says",
            Self::BrokenFrame(what) => return format!("this is no message of gRPC: {what}"),
            Self::TooLarge(limit) => {
                return format!(
                    "the message is larger than {limit} bytes: lower `batch.max_events` of the sink, \
                     or raise `max_body` of the source"
                );
            }
            Self::Undecodable(Broken(what)) => {
                return format!("the message is no list of Vector's events: {what}");
            }
            Self::Internal => "the request failed for a defect of rudder-customerio; repeat it",
        };
        text.to_owned()
    }

    /// Returns the answer.
    pub fn answer(&self) -> Answer {
        answer::refusal(self.code(), &self.text())
    }
}
