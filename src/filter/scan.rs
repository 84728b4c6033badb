//! Steps over JSON that has been checked before, without building it.
//!
//! Everything here gives up (`None`) on what is unusual, above all on escapes in texts that are to
//! be read. The caller then asks the full reader, so giving up costs time and never a decision.

/// Calls `visit` with the name and the raw value of every member of a JSON object.
///
/// Returns `None` if the text is no object, if a name holds an escape, or if `visit` gives up.
pub(super) fn members<'a>(
    text: &'a str,
    mut visit: impl FnMut(&'a str, &'a str) -> Option<()>,
) -> Option<()> {
    let mut cursor = Cursor { text, at: 0 };
    cursor.take(b'{')?;
    if cursor.take(b'}').is_some() {
        return cursor.end();
    }
    loop {
        let name = text_of(cursor.value()?)?;
        cursor.take(b':')?;
        visit(name, cursor.value()?)?;
        if cursor.take(b',').is_none() {
            cursor.take(b'}')?;
            return cursor.end();
        }
    }
}

/// Calls `visit` with every raw item of a JSON array.
///
/// Returns `None` if the text is no array or if `visit` gives up.
pub(super) fn items<'a>(text: &'a str, mut visit: impl FnMut(&'a str) -> Option<()>) -> Option<()> {
    let mut cursor = Cursor { text, at: 0 };
    cursor.take(b'[')?;
    if cursor.take(b']').is_some() {
        return cursor.end();
    }
    loop {
        visit(cursor.value()?)?;
        if cursor.take(b',').is_none() {
            cursor.take(b']')?;
            return cursor.end();
        }
    }
}

/// Returns what a raw JSON text without escapes says.
pub(super) fn text_of(raw: &str) -> Option<&str> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    (memchr::memchr2(b'\\', b'"', inner.as_bytes()).is_none()).then_some(inner)
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        self.skip_space();
        (self.peek() == Some(wanted)).then(|| self.at += 1)
    }

    fn end(&mut self) -> Option<()> {
        self.skip_space();
        (self.at == self.text.len()).then_some(())
    }

    /// Returns the raw text of the value that begins here, and steps behind it.
    fn value(&mut self) -> Option<&'a str> {
        self.skip_space();
        let start = self.at;
        match self.peek()? {
            b'"' => self.string()?,
            b'{' | b'[' => self.nested()?,
            b',' | b':' | b'}' | b']' => return None,
            _ => self.scalar(),
        }
        self.text.get(start..self.at)
    }

    fn string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            let rest = self.text.as_bytes().get(self.at..)?;
            let step = memchr::memchr2(b'\\', b'"', rest)?;
            self.at += step;
            if self.peek() == Some(b'"') {
                self.at += 1;
                return Some(());
            }
            self.at += 2;
        }
    }

    fn nested(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn scalar(&mut self) {
        while self
            .peek()
            .is_some_and(|b| !matches!(b, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r'))
        {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str) -> Option<Vec<(&str, &str)>> {
        let mut found = Vec::new();
        members(text, |name, value| {
            found.push((name, value));
            Some(())
        })?;
        Some(found)
    }

    #[test]
    fn members_come_in_order_with_their_raw_values() {
        let text = r#" { "a" : [1, {"x":"]\"}"}] ,"b":"t" , "c":-1.5e3,"d":{} ,"e":null}  "#;
        assert_eq!(
            listed(text),
            Some(vec![
                ("a", r#"[1, {"x":"]\"}"}]"#),
                ("b", r#""t""#),
                ("c", "-1.5e3"),
                ("d", "{}"),
                ("e", "null"),
            ])
        );
        assert_eq!(listed("{ }"), Some(vec![]));
    }

    #[test]
    fn what_is_unusual_or_broken_is_given_up() {
        for text in [
            "",
            "[]",
            "null",
            r#"{"a\u0062":1}"#,
            r#"{"a":1"#,
            r#"{"a":"#,
            r#"{"a":"\"#,
            r#"{"a" 1}"#,
            "{\"a\":[}",
            r#"{"a":1} x"#,
            "{,}",
            r#"{"a":}"#,
        ] {
            // A wrong bracket inside a nested value is stepped over: the text was checked before.
            if text != "{\"a\":[}" {
                assert_eq!(listed(text), None, "{text}");
            }
        }
        assert_eq!(text_of(r#""a\n""#), None);
        assert_eq!(text_of("\""), None);
        assert_eq!(text_of(r#""é""#), Some("é"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"[\[\]{}",:\\ a-c0-2é]{0,40}"#) {
            let _seen = members(&text, |_, _| Some(()));
            let _seen = items(&text, |_| Some(()));
        }
    }
}
