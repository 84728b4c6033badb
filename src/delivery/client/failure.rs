//! From the client library's errors to what they mean for a batch.

use std::error::Error;
use std::io;

use super::super::reply::Failure;
use super::connect::ConnectTimeout;

/// Reads an error. `sent` tells whether the request had been handed over.
pub fn of(error: &hyper_util::client::legacy::Error, sent: bool) -> Failure {
    if error.is_connect() {
        if find::<ConnectTimeout>(error).is_some() {
            return Failure::ConnectTimeout;
        }
        return match find::<rustls::Error>(error) {
            Some(tls) => Failure::Tls(tls.to_string()),
            None => Failure::Connect,
        };
    }
    if let Some(http) = find::<hyper::Error>(error) {
        if http.is_parse() {
            return Failure::Unreadable;
        }
        if http.is_canceled() {
            // The connection was gone before the request was written.
            return Failure::Broken { sent: false };
        }
    }
    Failure::Broken { sent }
}

/// Finds a cause. [`io::Error`] hides what it wraps from [`Error::source`], so it is looked into.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_found_inside_nested_io_errors() {
        let cause = rustls::Error::General("x".into());
        let error = io::Error::other(io::Error::other(cause));
        assert!(find::<rustls::Error>(&error).is_some());
        assert!(find::<rustls::Error>(&io::Error::other("x")).is_none());
    }
}
