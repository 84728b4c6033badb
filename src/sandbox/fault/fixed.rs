//! Answers that a fault gives instead of the API.

use bytes::Bytes;
use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::{Value, json};

use super::{BadErrors, Effect};
use crate::sandbox::request::{answer, json_answer, meta_error, set_header};

impl Effect {
    /// The answer that needs no look at the request, if the effect has one.
    pub(in crate::sandbox) fn fixed(&self, now_millis: i64) -> Option<Response<Bytes>> {
        if self.unauthorized.is_some() {
            return Some(meta_error(401, "Unauthorized request"));
        }
        if let Some(redirect) = &self.redirect {
            let mut response = answer(redirect.status, Bytes::new());
            response.headers_mut().remove(CONTENT_TYPE);
            set_header(&mut response, "location", &redirect.location);
            return Some(response);
        }
        let limited = self.rate_limit.is_some() || self.retry_after.is_some();
        let status = self.status.or(limited.then_some(429))?;
        let mut response = self.with_body(status);
        if let Some(wait) = &self.retry_after {
            set_header(&mut response, "retry-after", &retry_after(wait, now_millis));
        }
        for (name, value) in &self.headers {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            set_header(&mut response, name, &text);
        }
        Some(response)
    }

    fn with_body(&self, status: u16) -> Response<Bytes> {
        match &self.body {
            Some(Value::String(text)) => answer(status, text.clone()),
            Some(body) => json_answer(status, body),
            None if self.html => html(status),
            None => match status {
                401 => meta_error(status, "Unauthorized request"),
                429 => meta_error(status, "too many requests"),
                500.. => meta_error(status, "internal error"),
                204 | 304 => answer(status, Bytes::new()),
                200..300 => json_answer(status, &json!({})),
                _ => meta_error(status, "injected"),
            },
        }
    }
}

/// A page as proxies send it.
fn html(status: u16) -> Response<Bytes> {
    let mut response = answer(status, Bytes::new());
    let reason = response.status().canonical_reason().unwrap_or_default();
    let page = format!("<html><body><h1>{status} {reason}</h1></body></html>");
    *response.body_mut() = page.into();
    response.headers_mut().remove(CACHE_CONTROL);
    set_header(&mut response, "content-type", "text/html");
    response
}

fn retry_after(wait: &Value, now_millis: i64) -> String {
    let Value::String(text) = wait else { return wait.to_string() };
    let ahead = match text.strip_prefix("date") {
        Some("") => Some(2),
        Some(rest) => rest.strip_prefix(':').and_then(|seconds| seconds.trim().parse().ok()),
        None => None,
    };
    let date = ahead.and_then(|seconds: i64| {
        let at = now_millis.saturating_add(seconds.saturating_mul(1000));
        chrono::DateTime::from_timestamp_millis(at)
    });
    date.map_or_else(|| text.clone(), |date| date.format("%a, %d %b %Y %H:%M:%S GMT").to_string())
}

impl BadErrors {
    /// The 207 for a batch of so many items.
    pub(in crate::sandbox) fn answer(self, items: usize) -> Response<Bytes> {
        match self {
            Self::IndexOutOfRange => json_answer(
                207,
                &json!({"errors": [{
                    "batch_index": items + 4,
                    "reason": "invalid",
                    "field": "",
                    "message": "injected",
                }]}),
            ),
            Self::IndexMissing => json_answer(207, &json!({"errors": [{"reason": "invalid"}]})),
            Self::NotAList => json_answer(207, &json!({"errors": {"reason": "invalid"}})),
            Self::Cut => answer(207, r#"{"errors":[{"batch_index":0,"reas"#),
            Self::Empty => answer(207, Bytes::new()),
            Self::Html => html(207),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(effect: Value) -> Response<Bytes> {
        serde_json::from_value::<Effect>(effect).unwrap().fixed(1_700_000_000_000).unwrap()
    }

    #[test]
    fn retry_after_takes_seconds_dates_and_nonsense() {
        for (wait, header) in [
            (json!(2), "2"),
            (json!(0.5), "0.5"),
            (json!(1_000_000_000), "1000000000"),
            (json!("date"), "Tue, 14 Nov 2023 22:13:22 GMT"),
            (json!("date:-20"), "Tue, 14 Nov 2023 22:13:00 GMT"),
            (json!("soon"), "soon"),
        ] {
            let response = fixed(json!({"status": 503, "retry_after": wait}));
            assert_eq!(response.headers()["retry-after"], header);
        }
        assert_eq!(fixed(json!({"retry_after": 1})).status(), 429);
    }

    #[test]
    fn bodies_and_headers_can_be_given() {
        let response = fixed(json!({"status": 418, "body": "tea", "headers": {"x-pot": 1}}));
        assert_eq!((response.status().as_u16(), response.body().as_ref()), (418, &b"tea"[..]));
        assert_eq!(response.headers()["x-pot"], "1");
        assert_eq!(fixed(json!({"status": 500, "body": {"a": 1}})).body().as_ref(), b"{\"a\":1}\n");
    }
}
