//! Inputs for the fuzz tests: good texts with a few changes, and texts made of nothing.
//!
//! Every test under a module `fuzz` looks at `FUZZ_CASES` inputs. Those that are made here are
//! always the same for the same number, so that a failure, which tells its input, comes again.

use fastrand::Rng;
use proptest::prelude::ProptestConfig;

/// Returns how many inputs were asked for.
fn cases() -> Option<u32> {
    std::env::var("FUZZ_CASES").ok().and_then(|n| n.parse().ok())
}

/// Returns the configuration of properties whose inputs `proptest` makes: `FUZZ_CASES`, or 256.
pub(crate) fn config() -> ProptestConfig {
    let cases = cases().unwrap_or(256);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Calls `check` with `FUZZ_CASES` inputs, or 10,000, made of `seeds`.
///
/// `words` are texts that mean something at this place, such as names of members.
pub(crate) fn run(seeds: &[Vec<u8>], words: &[&str], mut check: impl FnMut(&mut Rng, &[u8])) {
    for number in 0..cases().unwrap_or(10_000) {
        let mut rng = Rng::with_seed(u64::from(number));
        let input = Maker { rng: &mut rng, seeds, words }.input();
        let last = Last { number, input: &input };
        check(&mut rng, &input);
        drop(last);
    }
}

/// Tells the input of a test that fails.
struct Last<'i> {
    number: u32,
    input: &'i [u8],
}

impl Drop for Last<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("input {}: {}", self.number, self.input.escape_ascii());
        }
    }
}

/// What a JSON reader must tell apart, or refuse.
const TOKENS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\\",
    b"\\u",
    b"\\ud83d",
    b"\\udc00",
    b"\\u00e9",
    b"\\u0000",
    b"\\n",
    b"\\\"",
    b"{}",
    b"[]",
    b"[{}]",
    b"null",
    b"true",
    b"false",
    b"nul",
    b"0",
    b"-0",
    b"01",
    b"-",
    b"1.5",
    b"1e308",
    b"1e309",
    b"-1E+999",
    b"0e999",
    b"5e-324",
    b".5",
    b"1.",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"\"\"",
    b"\"or\"",
    b"18446744073709551616",
    b"179769313486231580793728971405301e277",
    b" ",
    b"\n",
    b"\t",
    b"\0",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xc3",
    b"\xc3\xa9",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x98\x80",
    b"\x0b",
    b"\xef\xbb\xbf",
    b"\xf4\x90\x80\x80",
    b"\xe2\x80\xa8",
    b"//",
    b"NaN",
    b"'",
];

struct Maker<'m> {
    rng: &'m mut Rng,
    seeds: &'m [Vec<u8>],
    words: &'m [&'m str],
}

impl Maker<'_> {
    fn input(&mut self) -> Vec<u8> {
        match self.rng.u8(0..16) {
            0 => (0..self.rng.usize(0..200)).map(|_| self.rng.u8(..)).collect(),
            1 => (0..self.rng.usize(0..40)).flat_map(|_| self.token()).collect(),
            2 | 3 => {
                let mut text = Vec::new();
                self.value(&mut text, 4);
                text
            }
            _ => self.mutation(),
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.rng.usize(0..end.max(1))
    }

    fn seed(&mut self) -> &[u8] {
        let place = self.below(self.seeds.len());
        self.seeds.get(place).map_or(b"", |seed| seed)
    }

    fn word(&mut self) -> String {
        let word = self.rng.choice(self.words).copied().unwrap_or("a");
        match self.rng.u8(0..16) {
            0 => word.to_uppercase(),
            1 => word.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect(),
            2 => format!("{word} "),
            _ => word.to_owned(),
        }
    }

    fn token(&mut self) -> Vec<u8> {
        match self.rng.u8(0..8) {
            0 => format!("\"{}\"", self.word()).into_bytes(),
            1 => format!("\"{}\":", self.word()).into_bytes(),
            _ => self.rng.choice(TOKENS).map_or(Vec::new(), |token| token.to_vec()),
        }
    }

    /// Writes a value that is one by the grammar, mostly.
    fn value(&mut self, text: &mut Vec<u8>, levels: u8) {
        let (open, close) = match self.rng.u8(0..if levels == 0 { 4 } else { 8 }) {
            0 => {
                let token = self.token();
                return text.extend(token);
            }
            1..4 => return text.extend(format!("\"{}\"", self.word()).bytes()),
            4 => (b'[', b']'),
            _ => (b'{', b'}'),
        };
        text.push(open);
        for i in 0..self.below(6) {
            if i > 0 {
                text.push(b',');
            }
            if open == b'{' {
                text.extend(format!("\"{}\":", self.word()).bytes());
            }
            self.value(text, levels - 1);
        }
        text.push(close);
    }

    fn mutation(&mut self) -> Vec<u8> {
        let mut text = self.seed().to_vec();
        for _ in 0..self.rng.u8(0..5) {
            self.change(&mut text);
        }
        text
    }

    fn change(&mut self, text: &mut Vec<u8>) {
        let at = self.below(text.len() + 1);
        let to = (at + self.below(40)).min(text.len());
        match self.rng.u8(0..16) {
            0 => {
                if let Some(byte) = text.get_mut(at) {
                    *byte ^= 1 << self.rng.u8(0..8);
                }
            }
            1 => text.truncate(at),
            2 => drop(text.drain(at..to)),
            3 => {
                let slice = text.get(at..to).unwrap_or_default().to_vec();
                let other = self.below(text.len() + 1);
                text.splice(other..other, slice);
            }
            4 => {
                let other = self.seed();
                let from = other.get(at.min(other.len())..).unwrap_or_default().to_vec();
                text.splice(at.., from);
            }
            5 => {
                let token = self.token();
                text.splice(at..to, token);
            }
            6 => {
                let token = self.token();
                text.splice(at..at, token);
            }
            7 | 8 => {
                let mut member = format!("\"{}\":", self.word()).into_bytes();
                self.value(&mut member, 2);
                if let Some(open) = text.iter().skip(at).position(|byte| *byte == b'{') {
                    let next = text.iter().skip(at + open + 1).find(|b| !b.is_ascii_whitespace());
                    if next != Some(&b'}') {
                        member.push(b',');
                    }
                    text.splice(at + open + 1..at + open + 1, member);
                }
            }
            9 => {
                let levels = [1, 2, 100, 125, 126, 127, 128, 129, 1000][self.below(9)];
                let (open, close) = if self.rng.bool() { ("[", "]") } else { ("{\"a\":", "}") };
                self.replace_text(text, |inner| {
                    let (open, close) = (open.repeat(levels), close.repeat(levels));
                    [open.as_bytes(), inner, close.as_bytes()].concat()
                });
            }
            10 => {
                let digits = vec![b'0' + self.rng.u8(0..10); self.below(400)];
                self.replace_text(text, |_| [b"1", &*digits].concat());
            }
            11 => {
                let token = self.token();
                self.replace_text(text, |_| token);
            }
            _ => {
                let mut value = Vec::new();
                self.value(&mut value, 2);
                self.replace_text(text, |_| value);
            }
        }
    }

    /// Puts what `with` makes in the place of a text in quotes that may be chosen.
    fn replace_text(&mut self, text: &mut Vec<u8>, with: impl FnOnce(&[u8]) -> Vec<u8>) {
        let at = self.below(text.len() + 1);
        let quote =
            |from: usize| Some(from + text.iter().skip(from).position(|byte| *byte == b'"')?);
        let place = quote(at).and_then(|first| Some(first..quote(first + 1)? + 1));
        if let Some(place) = place {
            let new = with(text.get(place.clone()).unwrap_or_default());
            text.splice(place, new);
        }
    }
}

/// What the grammar says about a text, told without the reader that is tested.
pub(crate) struct Facts {
    /// The text with `\ufffd` for unpaired surrogate escapes, if it is one JSON text.
    pub(crate) json: Option<String>,
    /// How deep objects and arrays are nested.
    pub(crate) depth: usize,
    /// Every number fits an `f64`.
    pub(crate) finite: bool,
}

impl Facts {
    pub(crate) fn of(input: &[u8]) -> Self {
        let mut facts = Self { json: None, depth: 0, finite: true };
        let Ok(text) = std::str::from_utf8(input) else { return facts };
        // Ignoring checks the grammar alone: neither depth nor numbers nor surrogates.
        if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
            return facts;
        }
        let mut json = String::with_capacity(text.len());
        let mut rest = text;
        let mut open = 0_usize;
        while let Some(first) = rest.chars().next() {
            let taken = match first {
                '"' => take_text(rest, &mut json),
                '-' | '0'..='9' => {
                    let end =
                        rest.find(|c: char| !matches!(c, '-' | '+' | '.' | 'e' | 'E' | '0'..='9'));
                    let number = rest.split_at(end.unwrap_or(rest.len())).0;
                    facts.finite &= number.parse::<f64>().unwrap().is_finite();
                    json.push_str(number);
                    number.len()
                }
                _ => {
                    match first {
                        '{' | '[' => open += 1,
                        '}' | ']' => open -= 1,
                        _ => {}
                    }
                    json.push(first);
                    1
                }
            };
            facts.depth = facts.depth.max(open);
            rest = rest.split_at(taken).1;
        }
        facts.json = Some(json);
        facts
    }

    /// Reads the text with `serde_json`, unless it is nested deeper than that reads.
    pub(crate) fn read<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        let json = self.json.as_ref().filter(|_| self.finite && self.depth < 128)?;
        Some(serde_json::from_str(json).unwrap())
    }
}

/// Copies the text in quotes at the begin of `rest`; returns its length.
fn take_text(rest: &str, json: &mut String) -> usize {
    let code = |at: usize| {
        let digits = rest.get(at..at + 6)?.strip_prefix("\\u")?;
        u32::from_str_radix(digits, 16).ok()
    };
    let mut at = 1;
    json.push('"');
    while let Some(next) = rest.get(at..).and_then(|rest| rest.chars().next()) {
        let length = match (next, code(at)) {
            ('"', _) => break,
            (_, Some(0xD800..=0xDBFF)) if matches!(code(at + 6), Some(0xDC00..=0xDFFF)) => 12,
            (_, Some(0xD800..=0xDFFF)) => {
                json.push(char::REPLACEMENT_CHARACTER);
                at += 6;
                continue;
            }
            (_, Some(_)) => 6,
            ('\\', None) => 2,
            (other, None) => other.len_utf8(),
        };
        json.push_str(rest.get(at..at + length).unwrap());
        at += length;
    }
    json.push('"');
    at + 1
}

mod tests {
    use super::*;

    #[test]
    fn the_facts_of_a_text_are_told() {
        let facts = Facts::of(br#"{"a]":[1e309,{}],"b":"\\ud800\ud83d\ude00\ud800\\\"["}"#);
        let json = "{\"a]\":[1e309,{}],\"b\":\"\\\\ud800\\ud83d\\ude00\u{fffd}\\\\\\\"[\"}";
        assert_eq!((facts.json.as_deref(), facts.depth, facts.finite), (Some(json), 3, false));
        assert_eq!(Facts::of(b"[1,]").json, None);
        assert_eq!(Facts::of("[".repeat(500).as_bytes()).json, None);
        let deep = ["[".repeat(500), "]".repeat(500)].concat();
        assert_eq!(Facts::of(deep.as_bytes()).depth, 500);
    }

    /// Otherwise the tests would look at refused texts alone, or at good ones alone.
    #[test]
    fn some_inputs_are_json_and_some_are_not() {
        let (mut json, mut all) = (0, 0);
        run(&[br#"{"a":{"b":["c",1]},"d":"e"}"#.to_vec()], &["a", "b"], |_, input| {
            all += 1;
            json += u32::from(Facts::of(input).json.is_some());
        });
        assert!(json * 4 > all && json * 4 < all * 3, "{json} of {all}");
    }
}
