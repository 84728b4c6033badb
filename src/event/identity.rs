//! What makes an event the same event when it comes again: the input of the deterministic id.

/// The six values from which event ids are made (Customer.io Track API: event deduplication).
///
/// Taken from the event as received, before any time is filled in or corrected.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IdInput {
    /// `messageId`, or the one that the source assigned.
    pub message_id: Box<str>,
    /// The type in lower case.
    #[serde(rename = "type")]
    pub type_name: Box<str>,
    /// `event`, else `name`: the first that is a text.
    pub name: Box<str>,
    /// `userId`; a number as its shortest decimal text.
    pub user_id: Box<str>,
    /// `anonymousId`.
    pub anonymous_id: Box<str>,
    /// First of `originalTimestamp` and `timestamp` that is a date, in Unix milliseconds, else 0.
    pub ms: u64,
}
