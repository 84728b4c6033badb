//! How RudderStack's gateway looks at ids: cleaned texts, and the `rudderId` made of them.

use std::borrow::Cow;

use md5::{Digest as _, Md5};
use uuid::{Builder, Uuid};

use super::decode::Scalar;

/// Returns `text` without invisible and control characters, trimmed.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(text.trim_ascii());
    }
    let visible: String = text.chars().filter(|c| !is_invisible(*c)).collect();
    Cow::Owned(visible.trim().to_owned())
}

/// Returns the text by which the gateway tells whether an event has the id: a text or the JSON of
/// anything else, cleaned; empty for `null` and for a missing member.
#[must_use]
pub fn id_text<'a>(id: &'a Scalar<'_>) -> Cow<'a, str> {
    match id {
        Scalar::Missing | Scalar::Null => Cow::Borrowed(""),
        Scalar::Text(text) => clean(text),
        Scalar::Number(text) | Scalar::Other(text) => clean(text),
    }
}

/// Makes the `rudderId` of two cleaned ids: an MD5 in the form of a UUID of version 4.
#[must_use]
pub fn rudder_id(user_id: &str, anonymous_id: &str) -> Uuid {
    let mut hash = Md5::new();
    hash.update(user_id);
    hash.update(":");
    hash.update(anonymous_id);
    Builder::from_random_bytes(hash.finalize().into()).into_uuid()
}

/// Characters that nobody sees: controls, formats, fillers, odd blanks, and private ones.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || c != ' ' && c.is_whitespace()
        || matches!(
            u32::from(c),
            0xAD | 0x34F
                | 0x600..=0x605
                | 0x61C
                | 0x6DD
                | 0x70F
                | 0x890..=0x891
                | 0x8E2
                | 0x115F..=0x1160
                | 0x17B4..=0x17B5
                | 0x180B..=0x180F
                | 0x200B..=0x200F
                | 0x202A..=0x202E
                | 0x2060..=0x206F
                | 0x2800
                | 0x3164
                | 0xE000..=0xF8FF
                | 0xFE00..=0xFE0F
                | 0xFEFF
                | 0xFFA0
                | 0xFFF0..=0xFFFB
                | 0x110BD
                | 0x110CD
                | 0x13430..=0x1343F
                | 0x1BCA0..=0x1BCA3
                | 0x1D159
                | 0x1D173..=0x1D17A
                | 0xE0000..=0x10FFFF
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_cleaned_of_what_nobody_sees() {
        for (text, cleaned) in [
            ("u-1", "u-1"),
            ("  u 1 ", "u 1"),
            ("\u{200b}", ""),
            ("\u{feff}u\u{0}1\u{a0}", "u1"),
            ("\u{3164}é😀 ", "é😀"),
            ("\t\n", ""),
        ] {
            assert_eq!(clean(text), cleaned, "{text:?}");
        }
    }

    #[test]
    fn the_text_of_an_id_is_its_json_unless_it_is_a_text() {
        assert_eq!(id_text(&Scalar::Missing), "");
        assert_eq!(id_text(&Scalar::Null), "");
        assert_eq!(id_text(&Scalar::Number("42")), "42");
        assert_eq!(id_text(&Scalar::Other("false")), "false");
        assert_eq!(id_text(&Scalar::Text(" a ".into())), "a");
    }

    #[test]
    fn rudder_ids_are_those_of_the_gateway() {
        for (user, anonymous, id) in [
            ("u-1001", "anon-55", "4b88c106-f5d7-47a8-8870-7a9bb35fc671"),
            ("u-1001", "", "e2763d1a-6980-4662-929c-744d26478884"),
        ] {
            assert_eq!(rudder_id(user, anonymous).to_string(), id);
        }
    }
}
