//! From joined source to program, on a thread with room for VRL's recursion.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use vrl::compiler::state::ExternalEnv;
use vrl::compiler::{CompilationResult, CompileConfig, Program, compile_with_external};
use vrl::diagnostic::DiagnosticList;
use vrl::path::OwnedTargetPath;

use super::needs::{self, Proof};
use super::source::Source;
use super::{STACK_BYTES, diagnose, functions, guard, shape};
use crate::diagnostic::{Diagnostic, Place};

/// How long one program may take to compile.
///
/// The limits of [`guard`] keep a statement quick, but not a file full of the worst statements, and
/// compiling cannot be interrupted: the thread is left behind.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// A program and what is known of it.
#[derive(Debug)]
pub(super) struct Compiled {
    /// The program.
    pub(super) program: Program,
    /// The compiler's warnings.
    pub(super) warnings: Vec<Diagnostic>,
    /// What it can read of an event.
    pub(super) proof: Proof,
}

/// Compiles a program and looks at it from all sides.
///
/// # Errors
///
/// What the compiler refuses, and what the type of the result already shows to be wrong.
pub(super) fn check(source: &Arc<Source>) -> Result<Compiled, Vec<Diagnostic>> {
    guard::check(source).map_err(|fault| vec![*fault])?;
    let copy = Arc::clone(source);
    on_own_thread(source, move || {
        let CompilationResult { program, warnings, .. } =
            compile(copy.text()).map_err(|list| diagnose::convert(&copy, list))?;
        let wrong = shape::check(&copy, &program);
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let proof = needs::prove(&program);
        Ok(Compiled { program, warnings: diagnose::convert(&copy, warnings), proof })
    })
}

/// Compiles a source that [`check`] has accepted in the form that runs fastest.
pub(super) fn for_running(source: &Arc<Source>) -> Option<Program> {
    let text = source.runnable();
    on_own_thread(source, move || compile(&text).map(|done| done.program).map_err(|_| Vec::new()))
        .ok()
}

fn compile(text: &str) -> Result<CompilationResult, DiagnosticList> {
    let mut config = CompileConfig::default();
    config.set_read_only_path(OwnedTargetPath::metadata_root(), true);
    // Known types of the event would turn `??` and `!`, which stock Vector demands, into errors.
    compile_with_external(text, &functions::allowed(), &ExternalEnv::default(), config)
}

fn on_own_thread<T: Send + 'static>(
    source: &Source,
    work: impl FnOnce() -> Result<T, Vec<Diagnostic>> + Send + 'static,
) -> Result<T, Vec<Diagnostic>> {
    let failed = |code: &str, message: String| {
        let file = source.locate(usize::MAX).file.to_owned();
        vec![Diagnostic::error(code, message).at(Place { file, ..Place::default() })]
    };
    let (send, receive) = mpsc::sync_channel(1);
    let spawned = thread::Builder::new().name("compile".to_owned()).stack_size(STACK_BYTES).spawn(
        move || {
            let done = catch_unwind(AssertUnwindSafe(work));
            // Nobody waits any more when the time limit has passed.
            drop(send.send(done.ok()));
        },
    );
    if let Err(error) = spawned {
        return Err(failed("compile_thread", format!("no thread to compile on: {error}")));
    }
    match receive.recv_timeout(TIME_LIMIT) {
        Ok(Some(done)) => done,
        Ok(None) | Err(RecvTimeoutError::Disconnected) => Err(failed(
            "compiler_panic",
            "VRL's compiler panicked; this is a fault of the compiler, not of the script"
                .to_owned(),
        )),
        Err(RecvTimeoutError::Timeout) => {
            let seconds = TIME_LIMIT.as_secs();
            Err(failed("compile_time", format!("the script does not compile within {seconds} s")))
        }
    }
}
