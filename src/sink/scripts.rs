//! Scripts of a sink: their own tests, and others while it runs.

use std::path::Path;
use std::sync::Arc;

use super::threads::{no_thread, on_mapping_stack};
use super::{Rules, SinkHandle};
use crate::config::{ConsentConfig, FilterConfig};
use crate::diagnostic::{Diagnostic, Diagnostics, Severity};
use crate::filter::Filter;
use crate::mapping::{Mapping, Mappings, Settings, SuiteReport, run_suite};
use crate::operation::grammar::check_root;

/// Runs the tests of scripts in the given files or folders; with none, those in `tests/` beside the
/// scripts. Compiles them first, and blocks while it runs.
///
/// ```
/// use rudder_customerio::mapping::{Mappings, Settings};
/// use rudder_customerio::sink::test_mappings;
///
/// let report = test_mappings(&Mappings::built_in(), &Settings::default(), &[]);
/// for (file, case, difference) in &report.failed {
///     eprintln!("{file}: {case}\n{difference}");
/// }
/// assert!(report.passed > 0 && report.failed.is_empty() && report.diagnostics.is_empty());
/// ```
#[must_use]
pub fn test_mappings(mappings: &Mappings, settings: &Settings, paths: &[&Path]) -> SuiteReport {
    run_suite(mappings, settings, paths, &check_root)
}

/// Logs what is to be said about scripts that are right.
pub(crate) fn warn_about(mapping: &Mapping) {
    for warning in mapping.warnings().iter().filter(|w| w.severity == Severity::Warning) {
        tracing::warn!(code = warning.code, "A script has a warning: {}.", warning.message);
    }
    for note in mapping.notes() {
        tracing::debug!("Events of a script map slower: {note}.");
    }
}

impl SinkHandle {
    /// Compiles scripts and puts them in force, together with the rules for what may be sent.
    /// Batches whose mapping has begun keep the old ones.
    ///
    /// The scripts' own tests are not run; see [`test_mappings`].
    ///
    /// ```no_run
    /// # use std::path::Path;
    /// # use rudder_customerio::config::{Config, LoadMode};
    /// # use rudder_customerio::mapping::Mappings;
    /// # async fn example(handle: rudder_customerio::sink::SinkHandle) -> Result<(), Box<dyn std::error::Error>> {
    /// let (config, _) = Config::load(Path::new("customerio.yaml"), LoadMode::Full)?;
    /// let scripts = Mappings::read(Path::new("vrl"))?;
    /// handle.reload(&config.filter, &config.consent, scripts, config.mapping.settings).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Diagnostics of the scripts, or of consent rules that could take no effect. What was in force
    /// stays so.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped before it answers, what was in force stays so.
    pub async fn reload(
        &self,
        filter: &FilterConfig,
        consent: &ConsentConfig,
        mappings: Mappings,
        settings: Settings,
    ) -> Result<(), Diagnostics> {
        consent.check()?;
        let threads = self.mapping_threads();
        let compile = move || {
            let mapping = Arc::new(Mapping::load(&mappings, &settings)?);
            mapping.prepare(threads);
            Ok::<_, Vec<Diagnostic>>(mapping)
        };
        let mapping =
            on_mapping_stack(compile).await.map_err(|error| vec![no_thread(&error)])??;
        warn_about(&mapping);
        let filter = Arc::new(Filter::new(filter, consent));
        self.put_in_force(Rules { filter, mapping });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BufferConfig, Config, ConsentRule, LoadMode};
    use crate::pipeline::tests::write_small_scripts;
    use crate::sink::{CustomerIoSink, EventBatch, Incoming, Origin};

    fn config(text: &str) -> Config {
        let head = "sources: [ { type: stdin } ]\n\
                    customerio: { site_id: s, api_key: k, endpoint: 'http://127.0.0.1:1' }\n";
        Config::parse(&format!("{head}{text}"), "test", LoadMode::Full, &|_| None).unwrap().0
    }

    /// Hands in an event of somebody who denied `ads`; tells how many such events now wait.
    async fn waiting(sink: &SinkHandle) -> u64 {
        let event = r#"{"type":"track","userId":"u","event":"Bought","messageId":"m","context":{
            "consentManagement":{"provider":"custom","deniedConsentIds":["ads"]}}}"#;
        let batch = EventBatch {
            elements: vec![Incoming::new(Ok(event.into()), 0)],
            set_type: None,
            origin: Origin { source: "test".into(), source_type: "web".into() },
            received_at: chrono::Utc::now(),
            client_ip: None,
        };
        sink.submit(batch).await.unwrap().buffered().await.unwrap();
        sink.ledger().snapshot().buffered
    }

    #[tokio::test]
    async fn a_reload_is_in_force_for_the_next_batch_and_a_bad_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        write_small_scripts(dir.path());
        let scripts = Mappings::read(dir.path()).unwrap();
        let before = config("");
        let builder = CustomerIoSink::builder(before.customerio.unwrap());
        let builder = builder.mappings(scripts.clone()).buffer(BufferConfig::memory());
        let sink = builder.data_dir(dir.path().join("data")).build().await.unwrap();
        let handle = sink.handle();
        assert_eq!(waiting(&handle).await, 1);

        let after = config("consent: { rules: [ { provider: custom, consents: [ ads ] } ] }");
        let settings = Settings::default();
        let reload =
            handle.reload(&after.filter, &after.consent, scripts.clone(), settings.clone());
        reload.await.unwrap();
        assert_eq!(waiting(&handle).await, 1, "the next one is withheld");

        std::fs::write(dir.path().join("track.vrl"), ". = nonsense(").unwrap();
        let broken = Mappings::read(dir.path()).unwrap();
        assert_ne!(broken, scripts);
        let reload = handle.reload(&before.filter, &before.consent, broken, settings);
        assert!(!reload.await.unwrap_err().is_empty());
        assert_eq!(waiting(&handle).await, 1, "the rules of the refused reload are not in force");
    }

    #[tokio::test]
    async fn consent_rules_that_could_take_no_effect_are_refused() {
        let rule = |provider, consent| ConsentRule::new(provider, [consent]);
        let consent = |rules: &[ConsentRule]| ConsentConfig {
            rules: rules.to_vec(),
            ..ConsentConfig::default()
        };
        let dir = tempfile::tempdir().unwrap();
        let builder = || {
            let before = config("");
            let builder = CustomerIoSink::builder(before.customerio.unwrap());
            builder.buffer(BufferConfig::memory()).data_dir(dir.path())
        };
        let sink = builder().consent(consent(&[rule("custom", "ads")])).build().await.unwrap();
        let (handle, filter) = (sink.handle(), config("").filter);

        for (rules, key, code) in [
            (vec![rule("custom", "ads"), rule("custom", "mail")], "rules[1]", "duplicate_rule"),
            (vec![rule("custom", "")], "rules[0]", "empty_list"),
            (vec![rule("", "ads")], "rules[0]", "empty_value"),
        ] {
            let consent = consent(&rules);
            let (mappings, settings) = (Mappings::built_in(), Settings::default());
            let reloaded = handle.reload(&filter, &consent, mappings, settings).await.unwrap_err();
            let built = builder().consent(consent).build().await.unwrap_err();
            assert_eq!(built, reloaded);
            assert_eq!(built[0].code, code);
            assert!(built.to_string().contains(key), "{built}");
        }
        assert_eq!(waiting(&handle).await, 0, "the first rule is in force still");
    }
}
