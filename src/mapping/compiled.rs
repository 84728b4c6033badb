//! All scripts of a mapping, compiled: what workers are made of.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use sha2::{Digest, Sha256};
use vrl::compiler::Program;

use super::needs::Proof;
use super::run::{Mapper, Script};
use super::scripts::Mappings;
use super::source::Source;
use super::{Settings, compile};
use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::event::{Plan, TypeIndex};

/// Stack of threads that compile or run scripts: VRL's parser and runtime recurse without a limit
/// of their own, and this is room for what `guard` lets pass.
pub const STACK_BYTES: usize = 16 << 20;

/// Compiled scripts: an immutable snapshot, swapped whole on reload.
#[derive(Debug)]
pub struct Mapping {
    plan: Arc<Plan>,
    pub(super) types: Vec<TypeScript>,
    settings: Settings,
    warnings: Vec<Diagnostic>,
    hash: String,
    /// Workers that are compiled and that nobody has taken yet.
    prepared: Mutex<Vec<Mapper>>,
}

#[derive(Debug)]
pub(super) struct TypeScript {
    pub(super) name: String,
    source: Arc<Source>,
    pub(super) file: String,
    /// As checked; workers compile their own, and take a copy of this one if that fails.
    program: Program,
    pub(super) proof: Proof,
}

impl Mapping {
    /// Compiles every listed script and proves what may be pruned.
    ///
    /// # Errors
    ///
    /// All diagnostics of all scripts, with file, line, and column.
    pub fn load(scripts: &Mappings, settings: &Settings) -> Result<Self, Vec<Diagnostic>> {
        let (mut types, mut warnings, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        for loaded in load_types(scripts) {
            match loaded {
                Ok((script, more)) => {
                    types.push(script);
                    warnings.extend(more);
                }
                Err(more) => faults.extend(more),
            }
        }
        // Shared files are part of several programs; what is wrong in them is told once.
        for list in [&mut warnings, &mut faults] {
            let mut seen: Vec<Diagnostic> = Vec::new();
            list.retain(|d| {
                !seen.contains(d) && {
                    seen.push(d.clone());
                    true
                }
            });
        }
        if faults.iter().any(|d| d.severity == Severity::Error) {
            return Err(faults);
        }
        let plan =
            types.iter().map(|t| (Arc::from(t.name.as_str()), t.proof.need.clone())).collect();
        Ok(Self {
            plan: Arc::new(Plan::new(plan)),
            types,
            settings: settings.clone(),
            warnings,
            hash: hash(scripts),
            prepared: Mutex::default(),
        })
    }

    /// Returns what the decoder has to build per type.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Returns warnings of the compilation.
    #[must_use]
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// Returns a remark for each type whose events are built whole, and why: it maps slower.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let note = |t: &TypeScript| {
            let why = t.proof.why_all?;
            Some(format!("{}: {} events are built whole, because {why}", t.file, t.name))
        };
        self.types.iter().filter_map(note).collect()
    }

    /// Returns the SHA-256 (first 16 hexadecimal digits) of the scripts and their list.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Returns the name of the last file of the type's list, such as `track.vrl`.
    #[must_use]
    pub fn file(&self, index: TypeIndex) -> &str {
        self.types.get(usize::from(index.0)).map_or("", |t| &t.file)
    }

    /// Makes a worker; every thread has its own (programs are compiled once per worker, so that
    /// reference counts are not shared between cores). Run it on a thread with a stack of
    /// [`STACK_BYTES`].
    #[must_use]
    pub fn worker(self: &Arc<Self>) -> Mapper {
        let script = |t: &TypeScript| Script {
            source: Arc::clone(&t.source),
            program: compile::for_running(&t.source).unwrap_or_else(|| t.program.clone()),
        };
        Mapper::new(self.types.iter().map(script).collect(), &self.settings)
    }

    /// Compiles `count` workers side by side and keeps them for [`Mapping::prepared_worker`], so
    /// that no event waits for it. Blocks until they are there.
    pub fn prepare(self: &Arc<Self>, count: usize) {
        thread::scope(|scope| {
            for _ in 0..count {
                let make = || {
                    let worker = self.worker();
                    self.prepared.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
                };
                let thread = thread::Builder::new().name("prepare".to_owned());
                if let Err(error) = thread.stack_size(STACK_BYTES).spawn_scoped(scope, make) {
                    tracing::debug!(%error, "A worker will compile its scripts when it needs them.");
                }
            }
        });
    }

    /// Takes a worker that [`Mapping::prepare`] has made, or makes one as [`Mapping::worker`].
    #[must_use]
    pub fn prepared_worker(self: &Arc<Self>) -> Mapper {
        let prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).pop();
        prepared.unwrap_or_else(|| self.worker())
    }

    #[cfg(test)]
    pub(crate) fn prepared(&self) -> usize {
        self.prepared.lock().unwrap().len()
    }
}

/// Compiles all types side by side, since compiling is what a start waits for.
fn load_types(scripts: &Mappings) -> Vec<LoadedType> {
    thread::scope(|scope| {
        let load = |(name, files): &'_ (String, Vec<String>)| load_type(scripts, name, files);
        let threads: Vec<_> =
            scripts.list.iter().map(|listed| scope.spawn(move || load(listed))).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, LoadedType>| {
            thread.join().unwrap_or_else(|_| {
                Err(vec![Diagnostic::error("compile_thread", "compiling ended in a panic")])
            })
        };
        threads.into_iter().map(join).collect()
    })
}

type LoadedType = Result<(TypeScript, Vec<Diagnostic>), Vec<Diagnostic>>;

fn load_type(scripts: &Mappings, name: &str, files: &[String]) -> LoadedType {
    let mut pieces = Vec::new();
    for file in files {
        let Some(text) = scripts.text(file) else {
            let fault = Diagnostic::error("unreadable", "the file is listed but not there");
            return Err(vec![fault.at(Place { file: scripts.shown(file), ..Place::default() })]);
        };
        pieces.push((scripts.shown(file), text));
    }
    let source = Source::join(pieces.iter().map(|(file, text)| (file.as_str(), *text)));
    let source = Arc::new(source.map_err(|fault| vec![*fault])?);
    let compile::Compiled { program, warnings, proof } = compile::check(&source)?;
    let file = files.last().cloned().unwrap_or_default();
    Ok((TypeScript { name: name.to_owned(), source, file, program, proof }, warnings))
}

fn hash(scripts: &Mappings) -> String {
    let mut digest = Sha256::new();
    let mut part = |text: &str| {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text.as_bytes());
    };
    for (name, files) in &scripts.list {
        part(name);
        for file in files {
            part(file);
            part(scripts.text(file).unwrap_or_default());
        }
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
