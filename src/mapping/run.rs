//! Runs compiled scripts on one thread, within a budget and behind a guard.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use vrl::compiler::runtime::{Runtime, Terminate};
use vrl::compiler::state::RuntimeState;
use vrl::compiler::{Program, TargetValueRef, TimeZone};
use vrl::value::{ObjectMap, Secrets, Value};

use super::source::Source;
use super::watch::Watched;
use super::{Settings, diagnose};
use crate::event::TypeIndex;
use crate::outcome::{Reason, ReasonCode};

/// Most expressions that one run may evaluate. Ordinary runs need about a hundred; nothing but
/// nested closures comes near.
const BUDGET: u32 = 100_000;

/// A type's program and the text it was made of.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) source: Arc<Source>,
    pub(super) program: Program,
}

/// Runs scripts on one thread.
///
/// It holds programs of its own: VRL counts references to literals, and a counter that two cores
/// share costs more than the memory.
pub struct Mapper {
    scripts: Vec<Script>,
    runtime: Runtime,
    metadata: Value,
    secrets: Secrets,
    zone: TimeZone,
    watched: Arc<Watched>,
}

impl std::fmt::Debug for Mapper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mapper").field("scripts", &self.scripts.len()).finish_non_exhaustive()
    }
}

/// What a run gave.
#[derive(Debug)]
pub enum Mapped {
    /// The value of `.` at the end, not checked yet.
    Root(Value),
    /// The script called `abort`.
    Dropped(Reason),
    /// The script failed, used up its budget, or panicked.
    Failed(Reason),
}

impl Mapper {
    pub(super) fn new(scripts: Vec<Script>, settings: &Settings) -> Self {
        Self {
            scripts,
            runtime: Runtime::new(RuntimeState::default()),
            metadata: metadata(settings),
            secrets: Secrets::new(),
            zone: TimeZone::parse("UTC").unwrap_or_default(),
            watched: Watched::new(),
        }
    }

    /// Sets what scripts see as `%customerio`.
    pub(super) fn set(&mut self, settings: &Settings) {
        self.metadata = metadata(settings);
    }

    /// Runs the type's script on the event's value.
    pub fn map(&mut self, index: TypeIndex, mut event: Value) -> Mapped {
        let Self { scripts, runtime, metadata, secrets, zone, watched } = self;
        let Some(Script { source, program }) = scripts.get(usize::from(index.0)) else {
            return Mapped::Failed(Reason::new(ReasonCode::ScriptError, "no script for the type"));
        };
        let mut steps = 0_u32;
        let mark = watched.begin();
        let mut control = || {
            steps += 1;
            let over = steps > BUDGET || watched.is_over(mark);
            if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let mut target = TargetValueRef { value: &mut event, metadata, secrets };
        let run = AssertUnwindSafe(|| {
            runtime.resolve_with_control(&mut target, program, zone, &mut control)
        });
        let ended = catch_unwind(run);
        watched.end(mark);
        let ended = match ended {
            Ok(ended) => ended,
            Err(_) => {
                self.runtime = Runtime::new(RuntimeState::default());
                let detail = format!("{}: VRL panicked", source.locate(usize::MAX).file);
                return Mapped::Failed(Reason::new(ReasonCode::ScriptPanic, detail));
            }
        };
        self.runtime.clear();
        match ended {
            Ok(_) => Mapped::Root(event),
            Err(terminate) => {
                let aborted = matches!(terminate, Terminate::Abort(_));
                let reason = diagnose::reason(source, terminate);
                if aborted && reason.code == ReasonCode::ScriptAbort {
                    Mapped::Dropped(reason)
                } else {
                    Mapped::Failed(reason)
                }
            }
        }
    }
}

/// What scripts see as `%`.
fn metadata(settings: &Settings) -> Value {
    let customerio = ObjectMap::from([
        ("device_token_event_name".into(), Value::from(settings.device_token_event_name.as_str())),
        ("record_object".into(), Value::from(settings.record_object.as_str())),
    ]);
    Value::Object(ObjectMap::from([("customerio".into(), Value::Object(customerio))]))
}
