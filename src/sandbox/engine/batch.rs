//! `/api/v2/batch` and `/api/v2/entity`: validation item by item, and the faults that choose items.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::super::fault::WholeBatch;
use super::super::fault::firing::Fired;
use super::super::fault::matching::item_names;
use super::super::log::Finding;
use super::super::operation::Operation;
use super::super::request::{accepted, batch_errors, v2_error};
use super::super::route::Route;
use super::super::validate::ItemError;
use super::super::workspace::Received;
use super::Engine;
use super::pipeline::not_json;

/// Items with their sizes as received.
type Items = Vec<(Value, usize)>;

/// Items after validation.
struct Sorted {
    good: Vec<(usize, Operation)>,
    errors: Vec<(usize, ItemError)>,
    whole: Option<ItemError>,
    /// Whether a fault chose an item.
    hit: bool,
}

impl Engine {
    pub(super) fn batch(
        &mut self,
        body: &[u8],
        received: Received,
        fired: Option<&mut Fired>,
    ) -> Finding {
        let items = match items(body) {
            Ok(items) => items,
            Err(None) => return not_json(&Route::Batch),
            Err(Some(error)) => return v2_error(400, &error).into(),
        };
        let count = items.len();
        let in_200 = fired.as_ref().is_some_and(|fired| fired.effect.items_in_200.is_some());
        let Sorted { good, errors, whole, hit } = self.sort(items, fired);
        if let Some(error) = whole {
            return Finding { items: count, hit: true, ..v2_error(400, &error).into() };
        }
        let taken = good.len();
        let place = |(index, operation)| (Received { item: Some(index), ..received }, operation);
        self.workspace.take(good.into_iter().map(place).collect());
        let status = match self.workspace.options().all_invalid {
            _ if in_200 => 200,
            all_invalid if taken == 0 => all_invalid,
            _ => 207,
        };
        let response = if errors.is_empty() { accepted() } else { batch_errors(status, &errors) };
        Finding { items: count, accepted: taken, errors, hit, ..response.into() }
    }

    pub(super) fn entity(
        &mut self,
        body: &[u8],
        received: Received,
        fired: Option<&mut Fired>,
    ) -> Finding {
        let item = match serde_json::from_slice(body) {
            Ok(item @ Value::Object(_)) => item,
            _ => return not_json(&Route::Entity),
        };
        let in_200 = fired.as_ref().is_some_and(|fired| fired.effect.items_in_200.is_some());
        let Sorted { mut good, errors, whole, hit } = self.sort(vec![(item, body.len())], fired);
        let response = match whole.as_ref().or(errors.first().map(|(_, error)| error)) {
            Some(error) => v2_error(if in_200 && hit { 200 } else { 400 }, error),
            None => accepted(),
        };
        let operation = good.pop().filter(|_| whole.is_none());
        let taken = usize::from(operation.is_some());
        if let Some((_, operation)) = operation {
            self.workspace.take(vec![(received, operation)]);
        }
        let hit = hit || whole.is_some();
        Finding { items: 1, accepted: taken, errors, hit, ..response.into() }
    }

    fn sort(&self, items: Items, mut fired: Option<&mut Fired>) -> Sorted {
        let mut sorted = Sorted { good: Vec::new(), errors: Vec::new(), whole: None, hit: false };
        for (index, (item, bytes)) in items.into_iter().enumerate() {
            let names = |person: &str| item_names(&item, person);
            let chosen = fired.as_deref_mut().and_then(|fired| fired.chosen(index, names));
            sorted.hit |= chosen.is_some();
            let checked = match chosen {
                Some(error) => Err(error),
                None => self.workspace.validate(item, bytes),
            };
            match checked {
                Ok(operation) => sorted.good.push((index, operation)),
                Err(error) => sorted.errors.push((index, error)),
            }
        }
        if let Some(Fired { effect, .. }) = fired {
            let refused = match effect.whole_batch_400 {
                None => false,
                Some(WholeBatch::Chosen) => effect.items.is_none() || sorted.hit,
                Some(WholeBatch::BadItems) => !sorted.errors.is_empty(),
            };
            sorted.whole = refused.then(|| effect.error.clone().unwrap_or_default());
        }
        sorted
    }
}

impl Fired {
    /// The error that the fault gives an item, if it chooses the item.
    pub(super) fn chosen(
        &mut self,
        index: usize,
        names: impl Fn(&str) -> bool,
    ) -> Option<ItemError> {
        let items = self.effect.items.as_ref().or(self.effect.items_in_200.as_ref())?;
        let chosen = items.chooses(index, names, &mut self.random);
        chosen.then(|| self.effect.error.clone().unwrap_or_default())
    }
}

/// Reads the batch. Members that repeat are as with other JSON readers: the last one counts.
fn items(body: &[u8]) -> Result<Items, Option<ItemError>> {
    let text = std::str::from_utf8(body).map_err(|_| None)?;
    let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(|_| None)?;
    let batch = match members.remove("batch").map(RawValue::get) {
        None | Some("null") => {
            return Err(Some(ItemError::required("batch", "batch is required")));
        }
        Some(text) if !text.starts_with('[') => {
            return Err(Some(ItemError::invalid("batch", "batch must be an array")));
        }
        Some(text) => text,
    };
    let raw: Vec<&RawValue> = serde_json::from_str(batch).map_err(|_| None)?;
    raw.into_iter()
        .map(|item| {
            let value = serde_json::from_str(item.get()).map_err(|_| None)?;
            Ok((value, item.get().len()))
        })
        .collect()
}
