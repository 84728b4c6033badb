//! What a rule must fulfil beyond the types of its members, so that no rule silently does nothing.

use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{Effect, Items, Match, Redirect, Reset, Rule, Unauthorized, When};

/// A rule as it is read.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Unchecked {
    #[serde(rename = "match")]
    matches: Match,
    when: When,
    #[serde(rename = "do")]
    effect: Effect,
    /// Shown beside a rule that is in force; taken, so that what was shown can be set again.
    #[serde(rename = "counts")]
    _counts: Option<IgnoredAny>,
}

impl TryFrom<Unchecked> for Rule {
    type Error = String;

    fn try_from(given: Unchecked) -> Result<Self, String> {
        let Unchecked { matches, when, effect, .. } = given;
        when.check()?;
        effect.check()?;
        if effect.reset == Some(Reset::Accept) && !matches.is_empty() {
            return Err("`match` cannot be used with `reset: accept`, which happens before a \
                        request is read"
                .to_owned());
        }
        Ok(Self { matches, when, effect })
    }
}

fn require(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

fn is_share(share: Option<f64>) -> bool {
    share.is_none_or(|share| (0.0..=1.0).contains(&share))
}

impl Match {
    fn is_empty(&self) -> bool {
        let Self { path, method, person, body_contains } = self;
        [path, method, person, body_contains].iter().all(|part| part.is_none())
    }
}

impl When {
    fn check(&self) -> Result<(), String> {
        require(is_share(self.probability), "`when.probability` must be between 0 and 1")?;
        require(self.every != Some(0), "`when.every` must be at least 1")
    }
}

/// A member of `do`, and whether it is given.
type Part = (&'static str, bool);

impl Effect {
    fn check(&self) -> Result<(), String> {
        self.check_values()?;
        self.check_answer()?;
        self.check_choice()?;
        let reset = ("reset", self.reset.is_some());
        exclusive(&[reset, ("slow_body", self.slow_body.is_some())])?;
        exclusive(&[reset, ("close_idle", self.close_idle.is_some())])?;
        let alone = self.reset != Some(Reset::Accept) || self.name() == "reset_accept";
        require(alone, "`reset: accept` stands alone: no request is read")
    }

    fn check_values(&self) -> Result<(), String> {
        let status = self.status.is_none_or(|status| (200..600).contains(&status));
        require(status, "`status` must be between 200 and 599")?;
        for items in [&self.items, &self.items_in_200].into_iter().flatten() {
            items.check()?;
        }
        if let Some(redirect) = &self.redirect {
            redirect.check()?;
        }
        if let Some(unauthorized) = &self.unauthorized {
            unauthorized.check()?;
        }
        for (name, value) in &self.headers {
            check_header(name, value)?;
        }
        let wait = match &self.retry_after {
            None | Some(Value::Number(_)) => true,
            Some(Value::String(text)) => HeaderValue::from_str(text).is_ok(),
            Some(_) => false,
        };
        require(wait, "`retry_after` must be seconds, `date`, or `date:SECONDS`")
    }

    /// Answers, and silence, instead of what the API says.
    fn check_answer(&self) -> Result<(), String> {
        let fixed = [
            ("status", self.status.is_some()),
            ("rate_limit", self.rate_limit.is_some()),
            ("retry_after", self.retry_after.is_some()),
        ];
        let fixed = fixed.into_iter().find(|(_, given)| *given).unwrap_or(("status", false));
        for (part, given) in [
            ("body", self.body.is_some()),
            ("headers", !self.headers.is_empty()),
            ("html", self.html),
        ] {
            require(!given || fixed.1, &format!("`{part}` needs `status`"))?;
        }
        exclusive(&[("html", self.html), ("body", self.body.is_some())])?;
        let hang = ("hang", self.hang);
        let instead = [
            fixed,
            ("unauthorized", self.unauthorized.is_some()),
            ("redirect", self.redirect.is_some()),
            hang,
        ];
        exclusive(&instead)?;
        for (part, given) in self.applying() {
            if let Some((answer, _)) = instead.iter().find(|(_, instead)| *instead && given) {
                return Err(format!(
                    "`{answer}` applies nothing, so that `{part}` cannot be used with it"
                ));
            }
        }
        exclusive(&[hang, ("reset", self.reset.is_some())])?;
        exclusive(&[hang, ("slow_body", self.slow_body.is_some())])?;
        exclusive(&[hang, ("close_idle", self.close_idle.is_some())])
    }

    fn check_choice(&self) -> Result<(), String> {
        let [items, in_200, whole, ..] = self.applying();
        let chooses = items.1 || in_200.1 || whole.1;
        let needed = "`error` needs `items`, `items_in_200`, or `whole_batch_400`";
        require(self.error.is_none() || chooses, needed)?;
        exclusive(&[items, in_200])?;
        exclusive(&[in_200, whole])
    }

    /// What changes how a request is applied, or what is said about its items.
    fn applying(&self) -> [Part; 5] {
        [
            ("items", self.items.is_some()),
            ("items_in_200", self.items_in_200.is_some()),
            ("whole_batch_400", self.whole_batch_400.is_some()),
            ("bad_errors", self.bad_errors.is_some()),
            ("duplicate_id_ignored", self.duplicate_id_ignored.is_some()),
        ]
    }
}

/// At most one of the effects may be given.
fn exclusive(effects: &[Part]) -> Result<(), String> {
    let mut given = effects.iter().filter(|(_, given)| *given);
    match (given.next(), given.next()) {
        (Some((one, _)), Some((other, _))) => {
            Err(format!("`{one}` and `{other}` exclude each other; make two rules of them"))
        }
        _ => Ok(()),
    }
}

fn check_header(name: &str, value: &Value) -> Result<(), String> {
    let framing = ["content-length", "transfer-encoding", "connection"];
    require(
        HeaderName::try_from(name).is_ok() && !framing.contains(&name.to_lowercase().as_str()),
        &format!("`headers`: `{name}` cannot be set"),
    )?;
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    require(
        HeaderValue::try_from(text).is_ok(),
        &format!("`headers`: the value of `{name}` is none that HTTP can carry"),
    )
}

impl Items {
    fn check(&self) -> Result<(), String> {
        require(is_share(self.probability), "`items.probability` must be between 0 and 1")
    }
}

impl Redirect {
    fn check(&self) -> Result<(), String> {
        require(
            matches!(self.status, 301 | 302 | 307 | 308),
            "`redirect.status` must be one of 301, 302, 307, 308",
        )?;
        require(
            !self.location.is_empty() && HeaderValue::from_str(&self.location).is_ok(),
            "`redirect.location` must be a URL",
        )
    }
}

impl Unauthorized {
    fn check(&self) -> Result<(), String> {
        let is_pair = |pair: &String| {
            pair.split_once(':').is_some_and(|(site, key)| !site.is_empty() && !key.is_empty())
        };
        require(
            self.until.as_ref().is_none_or(is_pair),
            "`unauthorized.until` must be SITE_ID:API_KEY; a rule that was shown names only the \
             key's end",
        )?;
        let from_to = self.from.zip(self.to).is_none_or(|(from, to)| from < to);
        require(from_to, "`unauthorized.from` must be before `unauthorized.to`")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(rule: Value) -> String {
        serde_json::from_value::<Rule>(rule).unwrap_err().to_string()
    }

    #[test]
    fn rules_that_could_not_do_what_they_say_are_refused_by_member() {
        for (rule, named) in [
            (json!({"do": {"statsu": 503}}), "`statsu`"),
            (json!({"when": {"evry": 3}}), "`evry`"),
            (json!({"match": {"host": "x"}}), "`host`"),
            (json!({"doo": {}}), "`doo`"),
            (json!({"when": {"probability": 1.5}}), "`when.probability`"),
            (json!({"when": {"every": 0}}), "`when.every`"),
            (json!({"do": {"status": 199}}), "`status`"),
            (json!({"do": {"items": {"probability": -1}}}), "`items.probability`"),
            (json!({"do": {"redirect": {"status": 303, "location": "/"}}}), "301, 302, 307, 308"),
            (json!({"do": {"redirect": {"location": "a\nb"}}}), "`redirect.location`"),
            (json!({"do": {"unauthorized": {"until": "…1234"}}}), "`unauthorized.until`"),
            (json!({"do": {"unauthorized": {"from": "2s", "to": "1s"}}}), "`unauthorized.from`"),
            (json!({"do": {"status": 503, "headers": {"a b": "x"}}}), "`a b`"),
            (json!({"do": {"status": 503, "headers": {"Content-Length": "1"}}}), "Content-Length"),
            (json!({"do": {"retry_after": true}}), "`retry_after`"),
            (json!({"do": {"html": true}}), "`html` needs `status`"),
            (json!({"do": {"error": {}}}), "`error` needs `items`"),
            (json!({"do": {"status": 503, "items": {}}}), "`items`"),
            (json!({"do": {"hang": true, "status": 503}}), "`hang`"),
            (json!({"do": {"hang": true, "reset": "after_request"}}), "`reset`"),
            (json!({"do": {"reset": "mid_response", "slow_body": true}}), "`slow_body`"),
            (json!({"do": {"items": {}, "items_in_200": {}}}), "`items_in_200`"),
            (json!({"do": {"reset": "accept", "latency": "1s"}}), "stands alone"),
            (json!({"match": {"path": "*"}, "do": {"reset": "accept"}}), "`match`"),
            (json!({"do": {"rate_limit": {"per_second": 1, "brust": 2}}}), "`brust`"),
            (json!({"do": {"latency": {"p50": "2s", "p99": "1s"}}}), "p99"),
        ] {
            let text = error(rule.clone());
            assert!(text.contains(named), "{rule}: {text}");
        }
    }

    #[test]
    fn effects_that_go_together_are_taken() {
        for effect in [
            json!({"status": 503, "retry_after": 2, "latency": "1s", "reset": "mid_response"}),
            json!({"status": 503, "rate_limit": 5, "retry_after": "date"}),
            json!({"items": {"person": "u"}, "whole_batch_400": true, "error": {"message": "x"}}),
            json!({"items": {}, "bad_errors": "cut", "close_idle": "5ms"}),
            json!({"hang": true, "latency": "1s"}),
            json!({}),
        ] {
            serde_json::from_value::<Rule>(json!({"do": effect})).unwrap();
        }
    }
}
