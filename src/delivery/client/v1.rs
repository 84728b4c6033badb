//! The Track API v1 form: one request per operation, with the person in its path.
//!
//! Answers mean what they mean for a batch of one, with two differences:
//!
//! * errors are texts (`{"meta":{"error":…}}` or `{"meta":{"errors":[…]}}`), which may begin with
//!   the name of a member;
//! * 404 and 405 can be about this one path. If Customer.io says so itself, and the region endpoint
//!   answers as it should, the operation is refused and delivery is not held. If somebody in between
//!   says so for this path alone, the operation is tried again, and holds up its own person only.

use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use serde_json::Value;

use super::super::reply::items;
use super::super::{Refusal, Reply, Verdict, batch};
use super::Client;
use super::current::Snapshot;
use crate::config::Api;
use crate::operation::v1;

/// A request, apart from what makes it ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    pub method: Method,
    pub uri: Uri,
    pub body: Bytes,
    /// Whether it is one operation on a path of its own.
    pub alone: bool,
}

impl Client {
    /// Makes the request that carries the operations. What has no form in v1, or would have a path
    /// that no URL can hold, goes as a batch of one: Customer.io is the judge of it.
    pub(super) fn form(&self, operations: &[Bytes]) -> Form {
        let alone = match (self.api, operations) {
            (Api::V1, [operation]) => self.form_alone(operation),
            _ => None,
        };
        alone.unwrap_or_else(|| Form {
            method: Method::POST,
            uri: self.batch_uri.clone(),
            body: batch::body(operations),
            alone: false,
        })
    }

    fn form_alone(&self, operation: &Bytes) -> Option<Form> {
        let v1::Request { method, path, body } = v1::request(operation).ok()?;
        if path == v1::BATCH_PATH {
            return None;
        }
        let uri = format!("{}{path}", self.endpoint).parse().ok()?;
        let method = Method::from_bytes(method.as_bytes()).ok()?;
        Some(Form { method, uri, body: body.unwrap_or_default(), alone: true })
    }

    /// Reads further what an answer to an operation alone means.
    pub(super) async fn reply_alone(
        &self,
        current: &Snapshot,
        status: StatusCode,
        body: &[u8],
        reply: Reply,
    ) -> Reply {
        match reply {
            Reply::Split(_) => Reply::Split(refusal(status, body)),
            // An error counts in an answer of any status, as in v2.
            Reply::Items(_) if status.is_success() && !texts(body).is_empty() => {
                Reply::Items(vec![Verdict::Rejected(refusal(status, body))])
            }
            Reply::Hold(hold)
                if matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) =>
            {
                match self.account_of(current).await {
                    Err(_) => Reply::Hold(hold),
                    Ok(_) if !texts(body).is_empty() => Reply::Split(refusal(status, body)),
                    Ok(_) => Reply::Retry { after: None, why: "http_404", unknown: false },
                }
            }
            reply => reply,
        }
    }
}

/// Reads the words of a refusal, with the members that they are about.
fn refusal(status: StatusCode, body: &[u8]) -> Refusal {
    let plain = items::refusal_of(status.as_u16(), body);
    let texts = texts(body);
    let (fields, messages): (Vec<_>, Vec<_>) = texts.iter().map(|text| about(text)).unzip();
    let fields: Vec<&str> = fields.into_iter().flatten().collect();
    if fields.is_empty() {
        return plain;
    }
    Refusal { field: Some(fields.join("; ")), message: Some(messages.join("; ")), ..plain }
}

/// The texts of a v1 error.
fn texts(body: &[u8]) -> Vec<String> {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let one = answer.pointer("/meta/error").cloned();
    let several = answer.pointer("/meta/errors").map(list).unwrap_or_default();
    one.into_iter().chain(several).filter_map(|text| Some(text.as_str()?.to_owned())).collect()
}

/// Splits `device.platform: platform is required`.
fn about(text: &str) -> (Option<&str>, &str) {
    let is_member = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.len() <= 200
            && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '[' | ']'))
    };
    match text.split_once(": ") {
        Some((name, message)) if is_member(name) => (Some(name), message),
        _ => (None, text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Server, answer, config_for};
    use super::*;
    use crate::config::CustomerIoConfig;
    use crate::delivery::Destination;

    const IDENTIFY: &str =
        r#"{"type":"person","action":"identify","identifiers":{"id":"a/b"},"attributes":{"x":1}}"#;
    const SUPPRESS: &str = r#"{"type":"person","action":"suppress","identifiers":{"id":"u"}}"#;
    const OBJECT: &str = r#"{"type":"object","action":"identify","identifiers":{"object_id":"o","object_type_id":"1"}}"#;

    fn client(server: &Server) -> Client {
        let config = CustomerIoConfig { api: Api::V1, ..config_for(server.address) };
        Client::new(&config).unwrap()
    }

    async fn sent(client: &Client, operation: &'static str) -> Reply {
        client.send(vec![Bytes::from_static(operation.as_bytes())], 0).await
    }

    #[tokio::test]
    async fn each_operation_is_a_request_with_headers_as_its_body_needs() {
        let server = Server::start(|_| answer(200, "{}")).await;
        let client = client(&server);
        for operation in [IDENTIFY, SUPPRESS, OBJECT] {
            assert_eq!(sent(&client, operation).await, Reply::Items(vec![Verdict::Delivered]));
        }
        let seen = server.seen.lock().unwrap();
        let shown: Vec<_> = seen
            .iter()
            .map(|r| {
                let header = |name: &str| r.headers().get(name).map(|v| v.to_str().unwrap());
                let body = std::str::from_utf8(r.body()).unwrap();
                (
                    r.method().as_str(),
                    r.uri().path(),
                    header("content-type"),
                    header("content-length"),
                    body,
                )
            })
            .collect();
        let json = Some("application/json");
        assert_eq!(shown[0], ("PUT", "/api/v1/customers/a%2Fb", json, Some("7"), r#"{"x":1}"#));
        assert_eq!(shown[1], ("POST", "/api/v1/customers/u/suppress", None, Some("0"), ""));
        let batch = format!(r#"{{"batch":[{OBJECT}]}}"#);
        let length = batch.len().to_string();
        assert_eq!(shown[2], ("POST", "/api/v2/batch", json, Some(&*length), &*batch));
    }

    #[tokio::test]
    async fn the_words_of_a_refusal_name_the_member() {
        for (body, field, message) in [
            (
                r#"{"meta":{"errors":["email: email is not valid"]}}"#,
                Some("email"),
                "email is not valid",
            ),
            (
                r#"{"meta":{"error":"primary: must have exactly one identifier"}}"#,
                Some("primary"),
                "must have exactly one identifier",
            ),
            (r#"{"meta":{"errors":["a.b[0]: x","c: y"]}}"#, Some("a.b[0]; c"), "x; y"),
            (
                r#"{"meta":{"errors":["event name cannot be longer than 100 bytes"]}}"#,
                None,
                "event name cannot be longer than 100 bytes",
            ),
            (r#"{"meta":{"errors":["no member here: x"]}}"#, None, "no member here: x"),
            ("<html>", None, "<html>"),
        ] {
            let server = Server::start(move |_| answer(400, body)).await;
            let refusal = Refusal {
                field: field.map(str::to_owned),
                message: Some(message.to_owned()),
                status: Some(400),
                reason: None,
            };
            assert_eq!(sent(&client(&server), IDENTIFY).await, Reply::Split(refusal));
        }
    }

    #[tokio::test]
    async fn an_error_in_an_answer_of_success_rejects_the_operation() {
        let error = r#"{"meta":{"errors":["email: email is not valid"]}}"#;
        let server = Server::start(move |_| answer(200, error)).await;
        let Reply::Items(verdicts) = sent(&client(&server), IDENTIFY).await else {
            panic!("no verdicts")
        };
        let [Verdict::Rejected(refusal)] = verdicts.as_slice() else { panic!("{verdicts:?}") };
        assert_eq!(refusal.field.as_deref(), Some("email"));
    }

    #[tokio::test]
    async fn a_404_holds_delivery_only_if_the_region_endpoint_is_not_there_either() {
        const REGION: &str = r#"{"region":"us","environment_id":1}"#;
        let found = |says: &'static str, region: u16| {
            Server::start(move |request| match request.uri().path() {
                "/api/v1/accounts/region" => answer(region, REGION),
                _ => answer(404, says),
            })
        };
        let api = r#"{"meta":{"error":"not found"}}"#;
        let server = found(api, 200).await;
        let Reply::Split(refusal) = sent(&client(&server), IDENTIFY).await else { panic!() };
        assert_eq!((refusal.status, refusal.message.as_deref()), (Some(404), Some("not found")));
        let server = found("<html>", 200).await;
        let reply = sent(&client(&server), IDENTIFY).await;
        assert_eq!(reply, Reply::Retry { after: None, why: "http_404", unknown: false });
        for (says, region) in [(api, 404), ("<html>", 404), (api, 503)] {
            let server = found(says, region).await;
            let reply = sent(&client(&server), IDENTIFY).await;
            assert!(matches!(&reply, Reply::Hold(hold) if hold.code == "protocol"), "{reply:?}");
        }
    }

    #[tokio::test]
    async fn what_has_no_usable_path_goes_as_a_batch_of_one() {
        let server = Server::start(|_| answer(200, "{}")).await;
        let client = client(&server);
        let id = "ü".repeat(15_000);
        let operation =
            format!(r#"{{"type":"person","action":"delete","identifiers":{{"id":"{id}"}}}}"#);
        let form = client.form(&[operation.into()]);
        assert_eq!((form.uri.path(), form.alone), ("/api/v2/batch", false));
        let broken = client.form(&[Bytes::from_static(b"no json")]);
        assert_eq!(broken.uri.path(), "/api/v2/batch");
    }

    #[tokio::test]
    async fn a_request_without_a_body_that_breaks_off_may_have_been_applied() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = [0; 1024];
                let read = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await;
                assert!(read.unwrap() > 0);
            }
        });
        let config = CustomerIoConfig { api: Api::V1, ..config_for(address) };
        let reply = sent(&Client::new(&config).unwrap(), SUPPRESS).await;
        assert_eq!(reply, Reply::Retry { after: None, why: "network", unknown: true });
    }
}
