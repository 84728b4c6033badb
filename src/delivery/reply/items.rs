//! The `errors` list of an answer: which operation of the batch each error is about.

use serde_json::Value;

use super::super::{Refusal, Verdict, metering};
use super::{KEPT_BODY, Policy};

/// Errors by operation, and whether some could not be placed.
struct Errors {
    placed: Vec<(usize, Refusal)>,
    misplaced: bool,
}

/// Reads a 2xx answer.
pub fn accepted(policy: &Policy, status: u16, body: &[u8], items: usize) -> Vec<Verdict> {
    let errors = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(mut answer)) => answer.remove("errors"),
        Ok(_) | Err(_) => {
            if !body.iter().all(u8::is_ascii_whitespace) {
                metering::unexpected_answer();
            }
            None
        }
    };
    match errors {
        Some(Value::Array(list)) => {
            if list.is_empty() && status == 207 {
                metering::unexpected_answer();
            }
            let errors = read(status, list, items);
            let others = if errors.misplaced { Verdict::Unknown } else { Verdict::Delivered };
            place(policy, errors, others, items)
        }
        // 207 promises a list; without one, nothing is known.
        _ if status == 207 => vec![Verdict::Unknown; items],
        Some(Value::Null) | None => vec![Verdict::Delivered; items],
        Some(_) => vec![Verdict::Unknown; items],
    }
}

/// Reads the item errors of a refused request; `None` if it names no operation.
pub fn refused(policy: &Policy, status: u16, body: &[u8], items: usize) -> Option<Vec<Verdict>> {
    let Ok(Value::Object(mut answer)) = serde_json::from_slice(body) else { return None };
    let Some(Value::Array(list)) = answer.remove("errors") else { return None };
    let errors = read(status, list, items);
    if errors.placed.is_empty() {
        return None;
    }
    Some(place(policy, errors, Verdict::Again, items))
}

/// Reads the words of a request that was refused as a whole, in any of the API's forms.
pub fn refusal_of(status: u16, body: &[u8]) -> Refusal {
    let mut refusal = Refusal { status: Some(status), ..Refusal::default() };
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        if let Some(Value::Array(list)) = value.get("errors") {
            for error in list {
                join(&mut refusal, words(error));
            }
        }
        let meta = value.get("meta");
        if let Some(text) = meta.and_then(|m| m.get("error")).and_then(Value::as_str) {
            append(&mut refusal.message, Some(text.to_owned()));
        }
        if let Some(Value::Array(list)) = meta.and_then(|m| m.get("errors")) {
            for text in list.iter().filter_map(Value::as_str) {
                append(&mut refusal.message, Some(text.to_owned()));
            }
        }
    }
    if refusal.message.is_none() && !body.is_empty() {
        let kept = body.get(..KEPT_BODY).unwrap_or(body);
        refusal.message = Some(String::from_utf8_lossy(kept).into_owned());
    }
    refusal
}

fn read(status: u16, list: Vec<Value>, items: usize) -> Errors {
    let mut errors = Errors { placed: Vec::with_capacity(list.len()), misplaced: false };
    for error in list {
        let index = error.get("batch_index").and_then(Value::as_u64);
        match index.and_then(|i| usize::try_from(i).ok()).filter(|i| *i < items) {
            Some(index) => {
                let refusal = Refusal { status: Some(status), ..words(&error) };
                errors.placed.push((index, refusal));
            }
            None => errors.misplaced = true,
        }
    }
    errors
}

fn place(policy: &Policy, errors: Errors, others: Verdict, items: usize) -> Vec<Verdict> {
    let mut refusals: Vec<Option<Refusal>> = vec![None; items];
    for (index, refusal) in errors.placed {
        if let Some(place) = refusals.get_mut(index) {
            match place {
                Some(first) => join(first, refusal),
                None => *place = Some(refusal),
            }
        }
    }
    refusals
        .into_iter()
        .map(|refusal| match refusal {
            None => others.clone(),
            Some(refusal) if transient(policy, &refusal) => Verdict::Later(refusal),
            Some(refusal) => Verdict::Rejected(refusal),
        })
        .collect()
}

fn transient(policy: &Policy, refusal: &Refusal) -> bool {
    refusal.reason.as_ref().is_some_and(|reason| policy.item_reasons.contains(reason))
}

fn words(error: &Value) -> Refusal {
    let text = |name: &str| match error.get(name) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => Some(other.to_string()),
    };
    Refusal { reason: text("reason"), field: text("field"), message: text("message"), status: None }
}

/// Adds the words of a further error about the same operation.
fn join(first: &mut Refusal, further: Refusal) {
    append(&mut first.reason, further.reason);
    append(&mut first.field, further.field);
    append(&mut first.message, further.message);
}

fn append(to: &mut Option<String>, text: Option<String>) {
    let Some(text) = text else { return };
    match to {
        None => *to = Some(text),
        Some(known) if known.len() + text.len() > KEPT_BODY => {}
        Some(known) => {
            known.push_str("; ");
            known.push_str(&text);
        }
    }
}
