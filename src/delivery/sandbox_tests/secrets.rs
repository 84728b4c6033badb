//! What must not be shown anywhere: the credentials in any form, and what events say.

use std::io::Write;

use super::super::client::Client;
use super::*;
use crate::config::Credential;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// `the-site:s3cret-key` as a header has it.
const ENCODED: &str = "dGhlLXNpdGU6czNjcmV0LWtleQ";

#[tokio::test]
async fn neither_keys_nor_events_are_logged_measured_or_shown() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone());
    let _subscriber = tracing::subscriber::set_default(subscriber.finish());
    let recorder = crate::telemetry::recorder::build();
    let shown = recorder.handle();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let mut trip = Trip::new(
        json!([
            {"when": {"times": 2}, "do": {"unauthorized": {}}},
            {"when": {"times": 2}, "do": {"redirect": {
                "location": "https://a:s3cret-key@track-eu.customer.io/?k=s3cret-key"
            }}},
            {"when": {"times": 2}, "do": {"status": 502, "body": "ada@example.org"}},
            {"when": {"times": 1}, "do": {"reset": "after_request"}},
            {"when": {"times": 2}, "do": {"status": 403, "body": "ada@example.org"}},
            {"do": {"items": {"indexes": [0]}, "error": {
                "reason": "invalid", "field": "x", "message": "ada@example.org"
            }}},
        ]),
        &[],
    )
    .await;
    let file = trip.dir.path().join("key");
    std::fs::write(&file, "s3cret-key").unwrap();
    trip.config.site_id = "the-site".into();
    trip.config.api_key = Credential::from_file(&file).unwrap();
    std::fs::write(&file, "s3cret-key\ns3cret-key").unwrap();
    let client = Client::new(&trip.config).unwrap();
    client.probe().await.unwrap_err();
    let text = format!("{client:#?} {:#?}", trip.config);
    let flow = trip.begin((0..5).map(|n| did(n, "ada@example.org")).collect()).await;
    let status = format!("{:?}", flow.handle.status());
    flow.end().await;
    assert!(trip.rejected() > 0, "the last fault came");
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("Delivery is held"), "{log}");
    for (place, text) in
        [("debug", text), ("status", status), ("log", log), ("metrics", shown.render())]
    {
        for secret in ["s3cret", ENCODED, "ada@example.org"] {
            assert!(!text.contains(secret), "{secret} in {place}: {text}");
        }
    }
    let letters = trip.letters();
    assert!(
        letters[0].to_string().contains("ada@example.org"),
        "letters may tell what was refused"
    );
    assert!(
        !format!("{letters:?}").contains("s3cret") && !format!("{letters:?}").contains(ENCODED)
    );
}
