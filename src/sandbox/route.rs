//! Which endpoint a method and a path name.

use http::Method;
use percent_encoding::percent_decode_str;

/// An endpoint of the Track API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `GET /api/v1/accounts/region`.
    Region,
    /// `POST /api/v2/entity`.
    Entity,
    /// `POST /api/v2/batch`.
    Batch,
    /// `PUT /api/v1/customers/{p}`.
    Identify(String),
    /// `DELETE /api/v1/customers/{p}`.
    Delete(String),
    /// `PUT /api/v1/customers/{p}/devices`.
    AddDevice(String),
    /// `DELETE /api/v1/customers/{p}/devices/{token}`.
    DeleteDevice(String, String),
    /// `POST /api/v1/customers/{p}/suppress`.
    Suppress(String),
    /// `POST /api/v1/customers/{p}/unsuppress`.
    Unsuppress(String),
    /// `POST /api/v1/customers/{p}/events`.
    Event(String),
    /// `POST /api/v1/events`.
    AnonymousEvent,
    /// `POST /api/v1/merge_customers`.
    Merge,
    /// `POST /api/v1/segments/{n}/add_customers` and `…/remove_customers`.
    Segment {
        /// The segment's number.
        segment: String,
        /// Whether people are removed.
        remove: bool,
    },
    /// `POST /api/v1/forms/{id}/submit`.
    Form,
    /// `POST /api/v1/metrics`.
    Metrics,
    /// `POST /api/v1/push/events`.
    PushEvent,
    /// `POST /unsubscribe/{delivery_id}`.
    Unsubscribe(String),
}

/// Why there is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoute {
    /// No such path.
    NotFound,
    /// The path exists for these methods.
    Method(&'static str),
}

impl Route {
    /// Finds the endpoint of a method and an undecoded path.
    pub(super) fn find(method: &Method, path: &str) -> Result<Self, NoRoute> {
        let decoded: Vec<String> = path
            .split('/')
            .skip(1)
            .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
            .collect();
        let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
        let only = |allowed: Method, name: &'static str, route: Self| {
            if *method == allowed { Ok(route) } else { Err(NoRoute::Method(name)) }
        };
        let get = |route| only(Method::GET, "GET", route);
        let post = |route| only(Method::POST, "POST", route);
        match parts.as_slice() {
            ["api", "v1", "accounts", "region"] => get(Self::Region),
            ["api", "v2", "entity"] => post(Self::Entity),
            ["api", "v2", "batch"] => post(Self::Batch),
            ["api", "v1", "customers", ""] | ["api", "v1", "customers", "", ..] => {
                Err(NoRoute::NotFound)
            }
            ["api", "v1", "customers", p] => match *method {
                Method::PUT => Ok(Self::Identify((*p).to_owned())),
                Method::DELETE => Ok(Self::Delete((*p).to_owned())),
                _ => Err(NoRoute::Method("PUT, DELETE")),
            },
            ["api", "v1", "customers", p, "devices"] => {
                only(Method::PUT, "PUT", Self::AddDevice((*p).to_owned()))
            }
            ["api", "v1", "customers", p, "devices", token] if !token.is_empty() => {
                let route = Self::DeleteDevice((*p).to_owned(), (*token).to_owned());
                only(Method::DELETE, "DELETE", route)
            }
            ["api", "v1", "customers", p, "suppress"] => post(Self::Suppress((*p).to_owned())),
            ["api", "v1", "customers", p, "unsuppress"] => post(Self::Unsuppress((*p).to_owned())),
            ["api", "v1", "customers", p, "events"] => post(Self::Event((*p).to_owned())),
            ["api", "v1", "events"] => post(Self::AnonymousEvent),
            ["api", "v1", "merge_customers"] => post(Self::Merge),
            ["api", "v1", "segments", number, what @ ("add_customers" | "remove_customers")]
                if number.bytes().all(|b| b.is_ascii_digit()) && !number.is_empty() =>
            {
                let remove = *what == "remove_customers";
                post(Self::Segment { segment: (*number).to_owned(), remove })
            }
            ["api", "v1", "forms", form, "submit"] if !form.is_empty() => post(Self::Form),
            ["api", "v1", "metrics"] => post(Self::Metrics),
            ["api", "v1", "push", "events"] => post(Self::PushEvent),
            ["unsubscribe", delivery] if !delivery.is_empty() => {
                post(Self::Unsubscribe((*delivery).to_owned()))
            }
            _ => Err(NoRoute::NotFound),
        }
    }

    /// Whether Basic auth is needed.
    pub(super) fn needs_auth(&self) -> bool {
        !matches!(self, Self::Metrics | Self::PushEvent | Self::Unsubscribe(_))
    }

    /// Whether the body is read.
    pub(super) fn has_body(&self) -> bool {
        !matches!(
            self,
            Self::Region
                | Self::Delete(_)
                | Self::DeleteDevice(..)
                | Self::Suppress(_)
                | Self::Unsuppress(_)
        )
    }

    /// Whether errors have the form of v2.
    pub(super) fn is_v2(&self) -> bool {
        matches!(self, Self::Entity | Self::Batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_once_after_splitting() {
        let route = Route::find(&Method::PUT, "/api/v1/customers/a%2Fb%2540c").unwrap();
        assert_eq!(route, Route::Identify("a/b%40c".to_owned()));
        let route = Route::find(&Method::DELETE, "/api/v1/customers/u%201/devices/t%2F1").unwrap();
        assert_eq!(route, Route::DeleteDevice("u 1".to_owned(), "t/1".to_owned()));
    }

    #[test]
    fn an_empty_identifier_is_not_found() {
        for path in ["/api/v1/customers/", "/api/v1/customers//events", "/", "/api/v3/batch"] {
            assert_eq!(Route::find(&Method::PUT, path), Err(NoRoute::NotFound), "{path}");
        }
    }

    #[test]
    fn a_wrong_method_names_the_right_ones() {
        let found = Route::find(&Method::GET, "/api/v1/customers/u-1");
        assert_eq!(found, Err(NoRoute::Method("PUT, DELETE")));
        assert_eq!(Route::find(&Method::PUT, "/api/v2/batch"), Err(NoRoute::Method("POST")));
    }
}
