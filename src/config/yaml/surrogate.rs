//! Characters that JSON writes as two escapes.
//!
//! JSON's `\u` escapes are UTF-16, so a character above U+FFFF is a pair of them (`\ud83d\ude00`),
//! which YAML does not know. In a document that is JSON each pair becomes the character itself;
//! places behind it on its line are then a few columns too small.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// Returns the text with surrogate pairs resolved if it is JSON, and else as it is.
pub(super) fn resolve(text: &str) -> Cow<'_, str> {
    let escaped = text.contains("\\ud") || text.contains("\\uD");
    if !escaped || serde_json::from_str::<IgnoredAny>(text).is_err() {
        return Cow::Borrowed(text);
    }
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    // In JSON a backslash stands in texts only, and always with the character behind it.
    while let Some((before, after)) = rest.split_once('\\') {
        resolved.push_str(before);
        match pair(after) {
            Some((character, behind)) => {
                resolved.push(character);
                rest = behind;
            }
            None => {
                resolved.push('\\');
                let mut behind = after.chars();
                resolved.extend(behind.next());
                rest = behind.as_str();
            }
        }
    }
    resolved.push_str(rest);
    Cow::Owned(resolved)
}

/// Reads a pair whose first backslash is already read.
fn pair(text: &str) -> Option<(char, &str)> {
    let (high, rest) = unit(text)?;
    let (low, rest) = unit(rest.strip_prefix('\\')?)?;
    let character = char::decode_utf16([high, low]).next()?.ok()?;
    (u32::from(character) > 0xffff).then_some((character, rest))
}

fn unit(text: &str) -> Option<(u16, &str)> {
    let (digits, rest) = text.strip_prefix('u')?.split_at_checked(4)?;
    let unit = u16::from_str_radix(digits, 16).ok()?;
    Some((unit, rest))
}

#[cfg(test)]
mod tests {
    use super::resolve;

    #[test]
    fn pairs_become_their_character_in_json_only() {
        for (text, resolved) in [
            (r#"["\ud83d\ude00!"]"#, r#"["😀!"]"#),
            (r#"["\uD83D\uDE00", "\u00e9\n"]"#, r#"["😀", "\u00e9\n"]"#),
            (r#"["\\ud83d\\ude00"]"#, r#"["\\ud83d\\ude00"]"#),
            (r"['\ud83d\ude00']", r"['\ud83d\ude00']"),
            (r#"["\ud83d"]"#, r#"["\ud83d"]"#),
            (r#"["\ude00\ud83d\\"]"#, r#"["\ude00\ud83d\\"]"#),
        ] {
            assert_eq!(resolve(text), resolved);
        }
    }
}
