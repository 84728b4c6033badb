//! "Did you mean …?" by edit distance.

/// Returns the candidate that is nearest to `word`, if one is near enough to be meant.
///
/// Case, `-`, and `_` do not count as differences. About one edit in three letters is allowed, and
/// none in words of three letters, where `any` would become `and`.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = plain(word);
    let allowed = if word.len() < 4 { 0 } else { (word.len() / 3).min(3) };
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn plain(text: &str) -> Vec<char> {
    text.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).take(64).collect()
}

/// Edits from one word to the other; swapping neighbours is one edit.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut before_a = None;
    for (i, ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        let mut before_b = None;
        for (j, cb) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&last, j) + usize::from(ca != cb))
                .min(at(&last, j + 1) + 1)
                .min(at(&row, j) + 1);
            if j > 0 && before_a == Some(cb) && before_b == Some(ca) {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
            before_b = Some(cb);
        }
        before = std::mem::replace(&mut last, row);
        before_a = Some(ca);
    }
    last.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_pen_find_their_word() {
        let keys = ["api_key", "site_id", "region", "batch", "burst"];
        for (slip, meant) in [
            ("api_kye", Some("api_key")),
            ("apiKey", Some("api_key")),
            ("site-id", Some("site_id")),
            ("regoin", Some("region")),
            ("bach", Some("batch")),
            ("Burst", Some("burst")),
            ("colour", None),
            ("bat", None),
            ("x", None),
        ] {
            assert_eq!(nearest(slip, keys), meant, "{slip}");
        }
    }
}
