//! From a request to what the API says about it.

use std::io::Read as _;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_ENCODING};
use http::{HeaderValue, Request};
use serde_json::{Map, Value, json};

use super::super::credentials::Shown;
use super::super::fault::firing::{self, Fired};
use super::super::fault::matching::request_names;
use super::super::log::Finding;
use super::super::options::{Region, RegionMismatch};
use super::super::request::{accepted, answer, json_answer, meta_error, meta_errors};
use super::super::request::{set_header, v2_error};
use super::super::route::{NoRoute, Route};
use super::super::v1;
use super::super::validate::{ItemError, MAX_BATCH_BYTES, MAX_ENTITY_BYTES, MAX_V1_BYTES};
use super::super::workspace::Received;
use super::Engine;
use crate::sandbox::clock::Seconds;

/// The most that is ever read or unpacked.
pub(in crate::sandbox) const MAX_READ_BYTES: usize = 4 << 20;

/// Whose workspace a request is for.
struct Account {
    region: Region,
    environment_id: u64,
}

impl Engine {
    /// What the Track API says to a request.
    pub(in crate::sandbox) fn pipeline(
        &mut self,
        request: &Request<Bytes>,
        number: u64,
        at: Seconds,
        fired: Option<&mut Fired>,
    ) -> Finding {
        let path = request.uri().path();
        let route = match Route::find(request.method(), path) {
            Ok(route) => route,
            Err(NoRoute::NotFound) => return meta_error(404, "not found").into(),
            Err(NoRoute::Method(allowed)) => {
                let mut response = meta_error(405, "method not allowed");
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
                return response.into();
            }
        };
        let mut note = None;
        if route.needs_auth() {
            let Some(account) = self.account(request) else {
                return meta_error(401, "Unauthorized request").into();
            };
            if route == Route::Region {
                return json_answer(
                    200,
                    &json!({
                        "url": account.region.url(),
                        "region": account.region.name(),
                        "environment_id": account.environment_id,
                    }),
                )
                .into();
            }
            match self.other_region(&account, request) {
                Ok(passed) => note = passed,
                Err(finding) => return *finding,
            }
        }
        let dedupe = self.workspace.options().dedupe
            && fired.as_ref().is_none_or(|fired| fired.effect.duplicate_id_ignored != Some(false));
        let received = Received { at, request: number, item: None, dedupe };
        let mut finding = match self.body(&route, request) {
            Err(finding) => *finding,
            Ok(body) if route == Route::Batch => self.batch(&body, received, fired),
            Ok(body) if route == Route::Entity => self.entity(&body, received, fired),
            Ok(body) => self.v1(&route, request, &body, received, fired),
        };
        finding.note = note;
        finding
    }

    fn account(&self, request: &Request<Bytes>) -> Option<Account> {
        let shown = Shown::of(request.headers())?;
        let identity = &self.identity;
        if identity.credentials.is_empty() {
            let Self { identity, .. } = self;
            return Some(Account {
                region: identity.region,
                environment_id: identity.environment_id,
            });
        }
        let known = identity.credentials.iter().find(|known| shown.is(known))?;
        let environment_id = known.environment_id.unwrap_or(identity.environment_id);
        Some(Account { region: known.region, environment_id })
    }

    /// What a credential of the other region meets: a note, or an answer.
    fn other_region(
        &self,
        account: &Account,
        request: &Request<Bytes>,
    ) -> Result<Option<String>, Box<Finding>> {
        let options = self.workspace.options();
        if account.region == self.identity.region {
            return Ok(None);
        }
        let unauthorized = || Box::new(meta_error(401, "Unauthorized request").into());
        if account.region == Region::Us {
            return Err(unauthorized());
        }
        match options.region_mismatch {
            RegionMismatch::Proxy => Ok(Some("passed through US".to_owned())),
            RegionMismatch::Fail => Err(unauthorized()),
            RegionMismatch::Redirect => {
                let base = options.other_region_url.as_deref().unwrap_or(account.region.url());
                let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
                let location = format!("{}{path}", base.trim_end_matches('/'));
                let mut response = answer(307, Bytes::new());
                set_header(&mut response, "location", &location);
                Err(Box::new(response.into()))
            }
        }
    }

    /// Size and encoding; gives the plain body.
    fn body(&self, route: &Route, request: &Request<Bytes>) -> Result<Bytes, Box<Finding>> {
        let body = request.body();
        if !route.has_body() {
            return Ok(Bytes::new());
        }
        let limit = match route {
            Route::Batch => MAX_BATCH_BYTES,
            Route::Entity => MAX_ENTITY_BYTES,
            _ => MAX_V1_BYTES,
        };
        let oversize = || -> Box<Finding> {
            let status = self.workspace.options().oversize_status;
            Box::new(if route.is_v2() {
                let message = format!("request cannot be larger than {limit} bytes");
                v2_error(status, &ItemError::invalid("", message)).into()
            } else {
                meta_error(status, "request too large").into()
            })
        };
        if body.len() > limit {
            return Err(oversize());
        }
        let encoding = request.headers().get(CONTENT_ENCODING);
        let encoding = encoding.map(|value| value.to_str().unwrap_or("?").trim());
        match encoding {
            None | Some("" | "identity") => Ok(body.clone()),
            Some("gzip") if self.workspace.options().accept_gzip => {
                let mut plain = Vec::new();
                let most = u64::try_from(MAX_READ_BYTES).unwrap_or(u64::MAX);
                let mut reader = flate2::read::MultiGzDecoder::new(body.as_ref()).take(most);
                if reader.read_to_end(&mut plain).is_err() {
                    return Err(Box::new(not_json(route)));
                }
                if plain.len() > limit { Err(oversize()) } else { Ok(plain.into()) }
            }
            Some(_) => Err(Box::new(meta_error(415, "unsupported content encoding").into())),
        }
    }

    fn v1(
        &mut self,
        route: &Route,
        request: &Request<Bytes>,
        body: &[u8],
        received: Received,
        fired: Option<&mut Fired>,
    ) -> Finding {
        let members = if route.has_body() {
            match serde_json::from_slice::<Map<String, Value>>(body) {
                Ok(members) => members,
                Err(_) => return not_json(route),
            }
        } else {
            Map::new()
        };
        if let Some(refused) = fired.and_then(|fired| chosen(fired, request)) {
            return refused;
        }
        match v1::operation(route, request.uri().query(), members, self.workspace.options()) {
            Ok(operation) => {
                self.workspace.take(vec![(received, operation)]);
                let response =
                    if *route == Route::Form { answer(204, Bytes::new()) } else { accepted() };
                Finding { items: 1, accepted: 1, ..response.into() }
            }
            Err(refused) => {
                let response = refused.into_answer();
                let message = String::from_utf8_lossy(response.body()).trim().to_owned();
                let errors = vec![(0, ItemError::invalid("", message))];
                Finding { items: 1, errors, ..response.into() }
            }
        }
    }
}

/// The error that a fault gives a v1 request, which is a batch of one to it.
fn chosen(fired: &mut Fired, request: &Request<Bytes>) -> Option<Finding> {
    // Whether the batch is refused as a whole depends on `items`, but v1 has no batches.
    if fired.effect.whole_batch_400.is_some() {
        return None;
    }
    let error = fired.chosen(0, |person| request_names(&firing::seen(request), person))?;
    let status = if fired.effect.items_in_200.is_some() { 200 } else { 400 };
    let text = match error.field.as_str() {
        "" => error.message.clone(),
        field => format!("{field}: {}", error.message),
    };
    let response = meta_errors(status, &text);
    Some(Finding { items: 1, errors: vec![(0, error)], hit: true, ..response.into() })
}

/// The answer to a body that is no JSON object.
pub(super) fn not_json(route: &Route) -> Finding {
    if route.is_v2() {
        v2_error(400, &ItemError::invalid("", "request body is not valid JSON")).into()
    } else {
        meta_errors(400, "invalid JSON").into()
    }
}
