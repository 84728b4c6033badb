//! Replays through a real sink, with a destination that only notes what it gets.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::*;
use crate::buffer::{LetterId, Stored};
use crate::config::LoadMode;
use crate::delivery::{Destination, Hold, Refusal as Refused, Reply, Verdict};
use crate::event::Original;
use crate::event::identity::IdInput;
use crate::mapping::{Mapping, Mappings, Settings};
use crate::operation::{ConflictKeys, Effect, Operation};
use crate::sink::{Builder, CustomerIoSink};
use crate::source::{EventBatch, Incoming, Origin};

const BROKEN: &str = r#"assert!(.event == "good", message: "not yet")
. = {"type": "person", "action": "event", "identifiers": {"id": string!(.userId)}, "name": .event}"#;
const MENDED: &str = r#". = {"type": "person", "action": "event", "identifiers": {"id": string!(.userId)}, "name": .event}"#;

#[derive(Debug, Default)]
struct Inbox {
    refuses: std::sync::atomic::AtomicBool,
    bodies: Mutex<Vec<Bytes>>,
}

impl Destination for Inbox {
    fn send(&self, bodies: Vec<Bytes>, _attempt: u32) -> BoxFuture<'_, Reply> {
        let refuses = self.refuses.load(std::sync::atomic::Ordering::Relaxed);
        let verdict = |_: &Bytes| match refuses {
            true => Verdict::Rejected(Refused::default()),
            false => Verdict::Delivered,
        };
        let verdicts = bodies.iter().map(verdict).collect();
        self.bodies.lock().unwrap().extend(bodies);
        std::future::ready(Reply::Items(verdicts)).boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), Hold>> {
        std::future::ready(Ok(())).boxed()
    }
}

struct Scene {
    inbox: Arc<Inbox>,
    config: Config,
    sink: CustomerIoSink,
    dir: tempfile::TempDir,
}

fn scripts(track: &str) -> Mappings {
    Mappings {
        list: vec![("track".into(), vec!["track.vrl".into()])],
        list_text: String::new(),
        files: vec![("track.vrl".into(), track.into())],
        tests: vec![],
        dir: None,
    }
}

impl Scene {
    async fn new(track: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "data_dir: '{}'\ncustomerio: {{ site_id: s, api_key: k }}\n\
             consent: {{ onetrust_categories: [ C4 ] }}\nbuffer: {{ type: memory }}",
            dir.path().display()
        );
        let (config, _) = Config::parse(&text, "test.yaml", LoadMode::Full, &|_| None).unwrap();
        let inbox = Arc::new(Inbox::default());
        let sink = Self::builder(&config, &inbox, track).build().await.unwrap();
        Self { inbox, config, sink, dir }
    }

    fn builder(config: &Config, inbox: &Arc<Inbox>, track: &str) -> Builder {
        let customerio = config.customerio.clone().unwrap();
        let builder = Builder::from_config(config, customerio).mappings(scripts(track)).threads(1);
        builder.destination(inbox.clone())
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("dead-letters")
    }

    /// Puts another script in force.
    fn load(&self, track: &str) {
        let mapping = Mapping::load(&scripts(track), &Settings::default()).unwrap();
        let filter = Arc::clone(&self.sink.handle().rules().filter);
        self.sink.handle().put_in_force(Rules { filter, mapping: Arc::new(mapping) });
    }

    async fn send(&self, events: &[(&str, &str)]) {
        let element = |(n, (user, name)): (usize, &(&str, &str))| {
            let event = format!(
                r#"{{"type":"track","userId":"{user}","event":"{name}","messageId":"m-{user}"}}"#
            );
            Incoming::new(Ok(event.into()), n as u64)
        };
        let batch = EventBatch {
            elements: events.iter().enumerate().map(element).collect(),
            set_type: None,
            origin: Origin { source: "web".into(), source_type: "".into() },
            received_at: Utc::now(),
            client_ip: None,
        };
        self.sink.handle().submit(batch).await.unwrap().settled().await.unwrap();
    }

    async fn replay(&self, selection: Selection) -> (Report, Ending, Vec<String>) {
        let replays = Replays::new(&self.config, &self.sink.handle());
        run(replays.start(selection).unwrap()).await
    }

    /// People and ids of the events that arrived.
    fn arrived(&self) -> Vec<(String, String)> {
        let body = |body: &Bytes| {
            let body: serde_json::Value = serde_json::from_slice(body).unwrap();
            let text = |pointer| body.pointer(pointer).unwrap().as_str().unwrap().to_owned();
            (text("/identifiers/id"), text("/id"))
        };
        self.inbox.bodies.lock().unwrap().iter().map(body).collect()
    }

    fn people(&self) -> Vec<String> {
        self.arrived().into_iter().map(|(person, _)| person).collect()
    }
}

async fn run(mut running: Running) -> (Report, Ending, Vec<String>) {
    let mut notices = Vec::new();
    while let Some(message) = running.messages.recv().await {
        match message {
            Message::Notice { text } => notices.push(text),
            Message::Warning { .. } | Message::Progress { .. } => {}
            Message::End { report, ending } => {
                assert_eq!(running.task.await.unwrap(), report);
                return (report, ending, notices);
            }
        }
    }
    panic!("no end was told");
}

fn counted(name: &str, n: u64) -> std::collections::BTreeMap<String, u64> {
    [(name.to_owned(), n)].into()
}

#[tokio::test]
async fn a_letter_stays_until_its_event_no_longer_fails_and_is_then_replayed_once() {
    let scene = Scene::new(BROKEN).await;
    scene.send(&[("a", "bad"), ("b", "good"), ("c", "bad")]).await;
    let (report, ending, _) = scene.replay(Selection::default()).await;
    assert_eq!(ending, Ending::Done);
    assert_eq!(report.still_failing, counted("failed script_error", 2));
    let failure = "failed script_error".to_owned();
    let example = Example { failure, detail: "not yet".to_owned(), letters: 2 };
    assert_eq!(report.examples, [example]);
    assert!(!report.is_clean());
    assert_eq!(scene.people(), ["b"]);

    scene.load(MENDED);
    let (report, _, _) = scene.replay(Selection::default()).await;
    assert_eq!((report.replayed, report.letters, report.is_clean()), (2, 2, true));
    assert_eq!(report.selected, counted("failed script_error", 2));
    assert_eq!(scene.people(), ["b", "a", "c"]);

    let (report, _, _) = scene.replay(Selection::default()).await;
    assert_eq!((report.replayed, report.done_before, report.is_clean()), (0, 2, true));
    assert_eq!(scene.people().len(), 3);
    assert_eq!(scene.sink.handle().ledger().snapshot().gap(), 0);
}

#[tokio::test]
async fn only_what_goes_to_delivery_is_warned_of_and_what_stands_first_is_told_first() {
    let scene = Scene::new(BROKEN).await;
    scene.send(&[("a", "bad"), ("b", "bad")]).await;
    let warnings = async |dry_run| {
        let selection = Selection { dry_run, ..Selection::default() };
        let replays = Replays::new(&scene.config, &scene.sink.handle());
        let mut running = replays.start_with(selection, vec!["first".to_owned()]).unwrap();
        let mut warnings = Vec::new();
        while let Some(message) = running.messages.recv().await {
            if let Message::Warning { text } = message {
                warnings.push(text);
            }
        }
        running.task.await.unwrap();
        warnings
    };
    assert_eq!(warnings(false).await, ["first"]);
    scene.load(MENDED);
    for dry_run in [true, false] {
        let said = warnings(dry_run).await;
        assert!(said.len() == 2 && said[1].contains("may overwrite"), "{said:?}");
    }
    assert_eq!(warnings(false).await, ["first"], "everything was replayed");
}

#[tokio::test]
async fn an_event_that_is_rejected_again_is_a_new_letter_under_the_same_event_id() {
    let scene = Scene::new(MENDED).await;
    scene.inbox.refuses.store(true, std::sync::atomic::Ordering::Relaxed);
    scene.send(&[("a", "x")]).await;
    let (report, _, _) = scene.replay(Selection::default()).await;
    assert_eq!((report.replayed, report.failed_again, report.is_clean()), (1, 1, false));
    scene.inbox.refuses.store(false, std::sync::atomic::Ordering::Relaxed);
    let (report, _, _) = scene.replay(Selection::default()).await;
    assert_eq!((report.letters, report.replayed, report.done_before), (2, 1, 1));
    let arrived = scene.arrived();
    assert_eq!(arrived.len(), 3);
    assert!(arrived.iter().all(|event| *event == arrived[0]), "{arrived:?}");
}

#[tokio::test]
async fn what_the_buffer_remembers_is_marked_and_not_stored_again() {
    let scene = Scene::new(BROKEN).await;
    scene.send(&[("a", "bad")]).await;
    scene.load(MENDED);
    let file = read::list(&scene.folder()).unwrap().remove(0).path;
    let line = std::fs::read(&file).unwrap();
    let letter = LetterId::of(&line);
    // As a kill leaves it between the commit and the mark.
    let buffer = Arc::clone(scene.sink.handle().buffer());
    buffer.append(vec![stored_replay(letter)]).await.unwrap();
    assert_eq!(buffer.replayed(vec![letter]).await.unwrap(), [true]);
    let (report, _, _) = scene.replay(Selection::default()).await;
    assert_eq!((report.replayed, report.done_before), (0, 1));
    let marks = scene.folder().join("replayed");
    assert!(std::fs::read_to_string(&marks).unwrap().contains(".ndjson"));
    assert_eq!(buffer.replayed(vec![letter]).await.unwrap(), [false], "the mark is enough");
    let (report, _, _) = scene.replay(Selection::default()).await;
    assert_eq!((report.replayed, report.done_before), (0, 1));
}

fn stored_replay(letter: LetterId) -> Stored {
    let operation = Operation {
        keys: ConflictKeys::default(),
        effect: Effect::Ordinary,
        body: Bytes::from_static(br#"{"identifiers":{"id":"a"},"name":"bad"}"#),
    };
    Stored {
        operations: [operation].into_iter().collect(),
        original: Original { raw: Bytes::from_static(b"{}"), assigned: [].into_iter().collect() },
        id_input: IdInput::default(),
        received_at: Utc::now(),
        source: Arc::from("web"),
        letter: Some(letter),
    }
}

#[tokio::test]
async fn consent_is_asked_again_and_its_refusal_ends_the_letter() {
    let scene = Scene::new(BROKEN).await;
    scene.send(&[("a", "bad")]).await;
    scene.load(MENDED);
    let file = read::list(&scene.folder()).unwrap().remove(0).path;
    let text = std::fs::read_to_string(&file).unwrap();
    let denied = r#""event":{"context":{"consentManagement":{"deniedConsentIds":["C4"]}},"#;
    std::fs::write(&file, text.replace(r#""event":{"#, denied)).unwrap();
    for (kept_back, done_before) in [(1, 0), (0, 1)] {
        let (report, _, _) = scene.replay(Selection::default()).await;
        assert_eq!(report.kept_back.values().sum::<u64>(), kept_back);
        assert_eq!((report.done_before, report.is_clean()), (done_before, true));
    }
    assert!(scene.people().is_empty());
    let ledger = scene.sink.handle().ledger().snapshot();
    assert_eq!(ledger.total(crate::outcome::OutcomeKind::Withheld), 1);
}

#[tokio::test]
async fn a_dry_run_tells_and_does_nothing() {
    let scene = Scene::new(BROKEN).await;
    scene.send(&[("a", "bad"), ("b", "bad")]).await;
    let other = tempfile::tempdir().unwrap();
    let builder = Scene::builder(&scene.config, &scene.inbox, MENDED).data_dir(other.path());
    let parts = builder.parts().await.unwrap();
    let running = Replays::dry(&scene.config, &parts).start(Selection::default()).unwrap();
    let (report, ending, _) = run(running).await;
    assert_eq!((report.replayed, report.dry_run, ending), (2, true, Ending::Done));
    assert!(scene.people().is_empty());
    assert!(!scene.folder().join("replayed").exists());
}

#[tokio::test]
async fn reason_and_time_select_and_files_replace_the_folder() {
    let scene = Scene::new(BROKEN).await;
    scene.send(&[("a", "bad")]).await;
    scene.load(MENDED);
    let dry = Selection { dry_run: true, ..Selection::default() };
    let replayed = async |selection| scene.replay(selection).await.0.replayed;
    let reason = |reason: &str| Selection { reasons: vec![reason.into()], ..dry.clone() };
    assert_eq!(replayed(reason("refused")).await, 0);
    assert_eq!(replayed(reason("script_error")).await, 1);
    let since = |since| Selection { since: Some(since), ..dry.clone() };
    assert_eq!(replayed(since(Utc::now() + Duration::from_secs(60))).await, 0);
    assert_eq!(replayed(since(DateTime::UNIX_EPOCH)).await, 1);
    let copy = scene.dir.path().join("copy.txt");
    std::fs::copy(&read::list(&scene.folder()).unwrap()[0].path, &copy).unwrap();
    let files = |path: &Path| Selection { files: vec![path.into(), path.into()], ..dry.clone() };
    assert_eq!(replayed(files(&copy)).await, 1, "a file that is named twice is read once");

    let replays = Replays::new(&scene.config, &scene.sink.handle());
    let missing = files(&scene.folder().join("missing"));
    assert!(matches!(replays.start(missing), Err(Refusal::Invalid(_))));
    let confined = replays.confined();
    assert!(matches!(confined.start(files(&copy)), Err(Refusal::Invalid(_))));
    let within = read::list(&scene.folder()).unwrap().remove(0).path;
    assert_eq!(run(confined.start(files(&within)).unwrap()).await.0.replayed, 1);
}

#[tokio::test]
async fn one_replay_at_a_time_and_one_that_nobody_follows_stops_before_it_sends() {
    let scene = Scene::new(BROKEN).await;
    scene.send(&[("a", "bad")]).await;
    scene.load(MENDED);
    let replays = Replays::new(&scene.config, &scene.sink.handle());
    let Running { messages, task } = replays.start(Selection::default()).unwrap();
    assert_eq!(replays.start(Selection::default()).unwrap_err(), Refusal::Busy);
    drop(messages);
    assert_eq!(task.await.unwrap().replayed, 0);
    assert_eq!(run(replays.start(Selection::default()).unwrap()).await.0.replayed, 1);
}

#[tokio::test]
async fn lines_that_are_no_letters_are_told_with_their_place_and_the_rest_is_replayed() {
    let scene = Scene::new(BROKEN).await;
    scene.send(&[("a", "bad")]).await;
    scene.load(MENDED);
    let file = read::list(&scene.folder()).unwrap().remove(0).path;
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("nonsense\n{text}{{\"at\":")).unwrap();
    let (report, _, notices) = scene.replay(Selection::default()).await;
    assert_eq!((report.replayed, report.unreadable, report.is_clean()), (1, 1, false));
    assert!(notices[0].contains(".ndjson:1: not JSON"), "{notices:?}");
    assert!(notices[1].contains(".ndjson:3: the last line is cut off"), "{notices:?}");
    assert_eq!(report.bytes, report.of_bytes);
}

#[tokio::test]
async fn a_rate_makes_small_portions_in_order() {
    let scene = Scene::new(BROKEN).await;
    scene.send(&[("a", "bad"), ("b", "bad"), ("c", "bad")]).await;
    scene.load(MENDED);
    let (report, _, _) = scene.replay(Selection { rate: Some(1000), ..Selection::default() }).await;
    assert_eq!(report.replayed, 3);
    assert_eq!(scene.people(), ["a", "b", "c"]);
    assert!(matches!(
        Replays::new(&scene.config, &scene.sink.handle())
            .start(Selection { rate: Some(0), ..Selection::default() }),
        Err(Refusal::Invalid(_))
    ));
}
