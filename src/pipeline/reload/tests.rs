//! A running pipeline whose configuration is changed under it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::super::Substitutes;
use super::*;
use crate::admin::Process;
use crate::admin::status::Status;
use crate::config::LoadMode;
use crate::delivery::dead_letter::tests::letter;
use crate::delivery::{Destination, Hold, Reply, Verdict};
use crate::outcome::OutcomeKind;
use crate::pipeline::tests::{ask, write_small_scripts};
use crate::pipeline::{Pipeline, Surroundings};

/// Takes everything, and notes which credentials it was given.
#[derive(Debug, Default)]
struct Workspace {
    refuses_keys: AtomicBool,
    refuses_configuration: AtomicBool,
    configured: AtomicUsize,
    probed: AtomicUsize,
}

impl Destination for Workspace {
    fn send(&self, bodies: Vec<Bytes>, _attempt: u32) -> BoxFuture<'_, Reply> {
        std::future::ready(Reply::Items(vec![Verdict::Delivered; bodies.len()])).boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), Hold>> {
        self.probed.fetch_add(1, Ordering::SeqCst);
        let refusal = Hold { code: "unauthorized", message: String::new() };
        let refused = self.refuses_keys.load(Ordering::SeqCst);
        std::future::ready(if refused { Err(refusal) } else { Ok(()) }).boxed()
    }

    fn reconfigure(&self, _config: &CustomerIoConfig) -> Result<(), Vec<Diagnostic>> {
        self.configured.fetch_add(1, Ordering::SeqCst);
        match self.refuses_configuration.load(Ordering::SeqCst) {
            true => Err(vec![Diagnostic::error("no_use", "this cannot be used")]),
            false => Ok(()),
        }
    }
}

struct Machine {
    pipeline: Pipeline,
    workspace: Arc<Workspace>,
    /// What the configuration's file says.
    file: Arc<Mutex<String>>,
    levels: Arc<Mutex<Vec<LogLevel>>>,
    dir: tempfile::TempDir,
}

fn parse(text: &str) -> Result<(Config, Vec<Diagnostic>), Diagnostics> {
    Config::parse(text, "test.yaml", LoadMode::Full, &|_| None)
}

impl Machine {
    async fn start(more: &str) -> Self {
        Self::start_with(more, Arc::default()).await
    }

    async fn start_with(more: &str, workspace: Arc<Workspace>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_small_scripts(&dir.path().join("vrl"));
        let text = complete(dir.path(), more);
        let (config, _) = parse(&text).unwrap();
        let file = Arc::new(Mutex::new(text));
        let levels = Arc::<Mutex<Vec<LogLevel>>>::default();
        let (known, set) = (Arc::clone(&file), Arc::clone(&levels));
        let substitutes = Substitutes { destination: Some(workspace.clone()), store: None };
        let surroundings = Surroundings {
            reread: Some(Arc::new(move || parse(&known.lock().unwrap()))),
            set_log_level: Some(Arc::new(move |level| set.lock().unwrap().push(level))),
            ..Surroundings::default()
        };
        let pipeline = Pipeline::start_with(config, surroundings, substitutes).await.unwrap();
        Self { pipeline, workspace, file, levels, dir }
    }

    /// Saves the configuration with other lines, and reloads.
    async fn reload(&self, more: &str) -> Result<Reloaded, String> {
        *self.file.lock().unwrap() = complete(self.dir.path(), more);
        self.pipeline.reloads().reload().await
    }

    /// Sends one event of somebody who denied `ads`; tells whether it was withheld.
    async fn withholds(&self) -> bool {
        let event = r#"{"userId":"u","event":"Bought","messageId":"m","context":{
            "consentManagement":{"provider":"custom","deniedConsentIds":["ads"]}}}"#;
        let withheld = || self.pipeline.handle().ledger().snapshot().total(OutcomeKind::Withheld);
        let before = withheld();
        let answer = ask(self.pipeline.addresses()[0], "POST /v1/track", event).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        withheld() > before
    }

    fn rules(&self) -> Arc<Rules> {
        self.pipeline.handle().rules()
    }

    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn status(&self) -> Status {
        self.pipeline.control.status()
    }
}

fn complete(dir: &std::path::Path, more: &str) -> String {
    let mut text = format!(
        "data_dir: '{}'\nsources: [ {{ type: rudderstack, listen: '127.0.0.1:0' }} ]\n\
         admin: {{ listen: '127.0.0.1:0' }}\n{more}\n",
        dir.display()
    );
    if !more.contains("mapping:") {
        text += &format!("mapping: {{ dir: '{}', watch: false }}\n", dir.join("vrl").display());
    }
    if !more.contains("customerio:") {
        text += "customerio: { site_id: s, api_key: k }\n";
    }
    text
}

const NO_ADS: &str = "consent: { rules: [ { provider: custom, consents: [ ads ] } ] }";

#[tokio::test]
async fn events_after_the_answer_obey_the_new_consent_and_the_public_view_follows() {
    let machine = Machine::start("").await;
    assert!(!machine.withholds().await);
    let before = machine.rules();
    let reloaded = machine.reload(NO_ADS).await.unwrap();
    assert_eq!((reloaded.applied, reloaded.scripts), (vec!["consent.rules".to_owned()], false));
    assert!(machine.withholds().await);
    assert!(Arc::ptr_eq(&before.mapping, &machine.rules().mapping), "the scripts are the same");

    let gateway = machine.pipeline.addresses()[0];
    let public = ask(gateway, "GET /sourceConfig", "").await;
    assert!(public.contains(r#""consents":[{"consent":"ads"}]"#), "{public}");

    machine.reload("").await.unwrap();
    assert!(!machine.withholds().await);
}

#[tokio::test]
async fn anything_wrong_changes_nothing_and_is_told_until_it_is_mended() {
    let recorder = crate::telemetry::recorder::build();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let refused = |stage: &str| {
        let label = format!("error_type=\"reload\",stage=\"{stage}\"");
        recorder.handle().render().lines().any(|line| line.contains(&label))
    };
    let machine = Machine::start("").await;
    let before = machine.rules();
    let faults = machine.reload(&format!("{NO_ADS}\nlog: {{ level: loud }}")).await.unwrap_err();
    assert!(refused("configuration") && !refused("mapping"));
    assert!(faults.contains("log.level") && faults.contains("test.yaml"), "{faults}");
    assert_eq!(machine.status().config.error, Some(faults));
    assert_eq!(machine.status().scripts.error, None);
    assert!(Arc::ptr_eq(&before, &machine.rules()));

    // Scripts of another folder that do not compile are no better than a wrong key.
    let other = machine.dir.path().join("other");
    write_small_scripts(&other);
    std::fs::write(other.join("track.vrl"), ". = nonsense(").unwrap();
    let text = format!("{NO_ADS}\nmapping: {{ dir: '{}' }}", other.display());
    let faults = machine.reload(&text).await.unwrap_err();
    assert!(faults.contains("track.vrl") && refused("mapping"), "{faults}");
    assert_eq!(machine.status().scripts.error, Some(faults));
    assert_eq!(machine.status().config.error, None);
    assert!(Arc::ptr_eq(&before, &machine.rules()));
    assert!(machine.levels.lock().unwrap().is_empty());

    machine.reload("").await.unwrap();
    assert_eq!(machine.status().scripts.error, None);
    assert!(!machine.withholds().await);
}

#[tokio::test]
async fn a_destination_that_refuses_its_part_stops_the_whole_reload() {
    let machine = Machine::start("").await;
    machine.workspace.refuses_configuration.store(true, Ordering::SeqCst);
    let text = format!("{NO_ADS}\ncustomerio: {{ site_id: s, api_key: other }}");
    let faults = machine.reload(&text).await.unwrap_err();
    assert!(faults.contains("this cannot be used") && !faults.contains("other"), "{faults}");
    assert!(!machine.withholds().await);
    machine.workspace.refuses_configuration.store(false, Ordering::SeqCst);
    let reloaded = machine.reload(&text).await.unwrap();
    assert_eq!(reloaded.applied, ["consent.rules", "customerio.api_key"]);
}

#[tokio::test]
async fn filter_scripts_and_their_settings_change_together() {
    let machine = Machine::start("").await;
    let other = machine.dir.path().join("other");
    write_small_scripts(&other);
    std::fs::write(other.join("track.vrl"), "abort").unwrap();
    let before = machine.rules();
    let text = format!(
        "filter: {{ mode: device }}\n\
         mapping: {{ dir: '{}', watch: false, settings: {{ record_object: event }} }}",
        other.display()
    );
    let reloaded = machine.reload(&text).await.unwrap();
    assert!(reloaded.scripts);
    assert_eq!(reloaded.applied, ["filter.mode", "mapping.dir", "mapping.settings.record_object"]);
    let after = machine.rules();
    assert_eq!(reloaded.hash, after.mapping.hash());
    assert_ne!(before.mapping.hash(), after.mapping.hash());
    assert!(!Arc::ptr_eq(&before.filter, &after.filter));
    let threads = machine.pipeline.handle().mapping_threads();
    assert_eq!(after.mapping.prepared(), threads, "compiled before they came into force");

    let settings = "settings: { record_object: person }";
    let text = text.replace("settings: { record_object: event }", settings);
    let reloaded = machine.reload(&text).await.unwrap();
    assert_eq!(reloaded.applied, ["mapping.settings.record_object"]);
    assert!(!Arc::ptr_eq(&after.mapping, &machine.rules().mapping), "settings are compiled in");
}

#[tokio::test]
async fn keys_that_need_a_restart_are_told_and_not_applied() {
    let machine = Machine::start("").await;
    let text = format!("{NO_ADS}\ndrain_timeout: 1h\nbuffer: {{ max_size: 2 MiB }}");
    let reloaded = machine.reload(&text).await.unwrap();
    assert_eq!(reloaded.applied, ["consent.rules"]);
    assert_eq!(reloaded.needs_restart, ["buffer.max_size", "drain_timeout"]);
    assert_eq!(machine.status().config.needs_restart, reloaded.needs_restart);
    let again = machine.reload(&text).await.unwrap();
    assert_eq!((again.is_change(), again.needs_restart), (false, reloaded.needs_restart));
    let back = machine.reload(NO_ADS).await.unwrap();
    assert_eq!((back.is_change(), back.needs_restart), (false, vec![]));
}

#[tokio::test]
async fn dead_letters_that_are_full_get_more_room_by_a_reload() {
    let machine = Machine::start("dead_letters: { max_size: 64 KiB }").await;
    let handle = machine.pipeline.handle();
    let write = async || handle.dead_letters().write(vec![letter("{}"); 50]).await;
    while write().await.is_ok() {}
    let reloaded = machine.reload("dead_letters: { max_size: 1 MiB }").await.unwrap();
    assert_eq!(
        (reloaded.applied, reloaded.needs_restart.len()),
        (vec!["dead_letters.max_size".to_owned()], 0)
    );
    write().await.unwrap();
}

#[tokio::test]
async fn a_storm_of_reloads_that_change_nothing_swaps_nothing() {
    let machine = Machine::start("").await;
    let (rules, status) = (machine.rules(), machine.status());
    let reloads = machine.pipeline.reloads();
    let storm = (0..100).map(|_| reloads.reload());
    for reloaded in futures_util::future::join_all(storm).await {
        assert!(!reloaded.unwrap().is_change());
    }
    assert!(Arc::ptr_eq(&rules, &machine.rules()));
    assert_eq!(status.config, machine.status().config);
    assert_eq!(machine.workspace.configured.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn other_tests_of_the_same_scripts_are_checked_and_swap_nothing() {
    let machine = Machine::start("").await;
    let rules = machine.rules();
    let tests = machine.dir.path().join("vrl/tests");
    std::fs::create_dir(&tests).unwrap();
    std::fs::write(
        tests.join("track.yaml"),
        "- { name: n, event: { type: track }, outcome: dropped }",
    )
    .unwrap();
    assert!(machine.reload("").await.unwrap_err().contains("test_failed"));
    std::fs::write(tests.join("track.yaml"), "[]").unwrap();
    assert!(!machine.reload("").await.unwrap().is_change());
    assert!(Arc::ptr_eq(&rules, &machine.rules()));
}

#[tokio::test]
async fn new_credentials_are_tried_at_once_and_do_not_end_a_pause() {
    let workspace = Arc::<Workspace>::default();
    workspace.refuses_keys.store(true, Ordering::SeqCst);
    let machine = Machine::start_with("", Arc::clone(&workspace)).await;
    let state = |machine: &Machine| machine.status().delivery.state;
    machine.until(|machine| state(machine) == "held").await;
    machine.pipeline.handle().delivery().pause();
    machine.until(|machine| state(machine) == "paused").await;

    let probed = workspace.probed.load(Ordering::SeqCst);
    machine.reload("log: { level: warn }").await.unwrap();
    assert_eq!(*machine.levels.lock().unwrap(), [LogLevel::Warn]);
    assert_eq!(workspace.configured.load(Ordering::SeqCst), 0, "nothing of it changed");

    workspace.refuses_keys.store(false, Ordering::SeqCst);
    machine.reload("customerio: { site_id: s, api_key: other }").await.unwrap();
    assert_eq!(workspace.configured.load(Ordering::SeqCst), 1);
    machine.until(|machine| machine.workspace.probed.load(Ordering::SeqCst) > probed).await;
    assert_eq!(state(&machine), "paused");
    machine.pipeline.handle().delivery().resume();
    machine.until(|machine| state(machine) == "sending").await;
}
