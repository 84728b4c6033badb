//! An event's members: which are built, and where those stand that the pipeline itself reads.

use std::borrow::Cow;
use std::sync::Arc;

use bytestring::ByteString;
use vrl::value::{ObjectMap, Value};

use super::reader::{Fault, Reader};
use super::{finish, invalid, too_deep};
use crate::event::{Need, Plan, Spans, TypeIndex};
use crate::outcome::{Reason, ReasonCode};

/// An event's type and its place in the plan.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub(super) index: Option<TypeIndex>,
    pub(super) name: Arc<str>,
}

impl Kind {
    pub(super) fn of(text: &str, plan: &Plan) -> Self {
        let index = plan.find(text);
        let name = index.map_or_else(|| Arc::from(text.to_lowercase()), |index| plan.name(index));
        Self { index, name }
    }
}

/// One pass over an event's members.
pub(super) struct Envelope<'p> {
    plan: &'p Plan,
    /// `None` while `type` is missing or not a text.
    pub(super) kind: Option<Kind>,
    /// The type does not depend on what is read.
    fixed: bool,
    /// What is built from here on.
    pub(super) need: &'p Need,
    /// The type whose need has held since its `type` was read.
    narrowed: Option<Option<TypeIndex>>,
    /// Another type's need was in force for a part of the text.
    pub(super) again: bool,
    pub(super) spans: Spans,
    pub(super) body: ObjectMap,
}

impl<'p> Envelope<'p> {
    pub(super) fn read(
        source: &ByteString,
        plan: &'p Plan,
        kind: Option<Kind>,
    ) -> Result<Self, Reason> {
        let mut envelope = Self {
            plan,
            fixed: kind.is_some(),
            need: kind.as_ref().map_or(plan.any(), |kind| plan.need_of(kind.index)),
            kind,
            narrowed: None,
            again: false,
            spans: Spans::default(),
            body: ObjectMap::new(),
        };
        let mut reader = Reader::new(source);
        reader.blank();
        let is_object = reader.peek() == Some(b'{');
        let walked = if is_object {
            reader.members(|reader, key, _| envelope.member(reader, key))
        } else {
            reader.skip(0)
        };
        walked.map_err(invalid)?;
        finish(&mut reader)?;
        if !is_object {
            return Err(Reason::new(ReasonCode::NotAnEvent, "an event is a JSON object"));
        }
        if reader.too_deep {
            return Err(too_deep());
        }
        if let Some(narrowed) = envelope.narrowed {
            envelope.again = envelope.kind.as_ref().is_some_and(|kind| kind.index != narrowed);
        }
        Ok(envelope)
    }

    fn member<'t>(&mut self, reader: &mut Reader<'t>, key: Cow<'t, str>) -> Result<(), Fault> {
        let start = reader.position();
        let spans = &mut self.spans;
        let slot = match &*key {
            "type" => return self.type_member(reader, key),
            "context" => return self.context_member(reader, key),
            "messageId" => &mut spans.message_id,
            "event" => &mut spans.event,
            "name" => &mut spans.name,
            "userId" => &mut spans.user_id,
            "anonymousId" => &mut spans.anonymous_id,
            "originalTimestamp" => &mut spans.original_timestamp,
            "timestamp" => &mut spans.timestamp,
            "sentAt" => &mut spans.sent_at,
            "receivedAt" => &mut spans.received_at,
            "request_ip" => &mut spans.request_ip,
            "integrations" => &mut spans.integrations,
            _ => {
                return reader.member(self.need.member(&key), key, &mut self.body, 1);
            }
        };
        reader.member(self.need.member(&key), key, &mut self.body, 1)?;
        *slot = Some(reader.span_from(start));
        Ok(())
    }

    fn type_member<'t>(&mut self, reader: &mut Reader<'t>, key: Cow<'t, str>) -> Result<(), Fault> {
        let start = reader.position();
        if reader.peek() == Some(b'"') {
            let text = reader.string()?;
            if !self.fixed {
                let kind = Kind::of(&text, self.plan);
                if self.narrowed.is_none() {
                    self.narrowed = Some(kind.index);
                    self.need = self.plan.need_of(kind.index);
                }
                self.kind = Some(kind);
            }
            if self.need.member(&key).is_some() {
                self.body.insert("type".into(), Value::String(text));
            }
        } else {
            if !self.fixed {
                self.kind = None;
            }
            reader.member(self.need.member(&key), key, &mut self.body, 1)?;
        }
        self.spans.type_ = Some(reader.span_from(start));
        Ok(())
    }

    fn context_member<'t>(
        &mut self,
        reader: &mut Reader<'t>,
        key: Cow<'t, str>,
    ) -> Result<(), Fault> {
        const NOTHING: &Need = &Need::Some(Vec::new());
        self.spans.consent = None;
        let need = self.need.member(&key);
        if reader.peek() != Some(b'{') {
            return reader.member(need, key, &mut self.body, 1);
        }
        let mut context = ObjectMap::new();
        let inner = need.unwrap_or(NOTHING);
        reader.members(|reader, key, _| {
            let start = reader.position();
            let is_consent = key == "consentManagement";
            reader.member(inner.member(&key), key, &mut context, 2)?;
            if is_consent {
                self.spans.consent = Some(reader.span_from(start));
            }
            Ok(())
        })?;
        if need.is_some() {
            self.body.insert("context".into(), Value::Object(context));
        }
        Ok(())
    }
}
