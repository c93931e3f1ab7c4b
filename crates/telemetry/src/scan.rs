//! JSON that is looked through and not built: what an object or an array holds, as pieces of its text.
//!
//! Most of an event is kept as it came. What is looked at are a few members; the rest only has to be JSON that every reader
//! reads alike. So what passes here is what `serde_json` would read (a property test compares them), and not deeper than asked.

use std::borrow::Cow;

/// Why a text is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ScanError {
    #[error("it is not JSON")]
    Syntax,
    #[error("it has too many levels")]
    TooDeep,
    #[error("it is no object")]
    NotAnObject,
    #[error("it is no array")]
    NotAnArray,
}

/// A number of this many characters may be beyond all numbers.
const LONG_NUMBER: usize = 300;

/// No name that anything is looked for by is longer, also where it is escaped.
const NAME_BYTES_MAX: usize = 1024;

/// One member of an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member<'a> {
    /// Its name, read; one of more than [`NAME_BYTES_MAX`] as it stands, which is nobody's name.
    pub(crate) name: Cow<'a, str>,
    /// Its name as it stands, with the quotes.
    pub(crate) raw_name: &'a str,
    /// Its value as it stands.
    pub(crate) value: &'a str,
}

/// Goes over the members of the one object that `text` is.
pub(crate) fn members<'a, E: From<ScanError>>(
    text: &'a str,
    depth_max: usize,
    mut each: impl FnMut(Member<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let mut scanner = Scanner::new(text, depth_max);
    scanner.space();
    if scanner.peek() != Some(b'{') {
        // Whether it is JSON at all is worth knowing.
        scanner.value()?;
        scanner.end()?;
        return Err(ScanError::NotAnObject.into());
    }
    scanner.object(&mut each)?;
    scanner.end()?;
    Ok(())
}

/// Goes over the elements of the one array that `text` is.
pub(crate) fn elements<'a, E: From<ScanError>>(
    text: &'a str,
    depth_max: usize,
    mut each: impl FnMut(&'a str) -> Result<(), E>,
) -> Result<(), E> {
    let mut scanner = Scanner::new(text, depth_max);
    scanner.space();
    if scanner.peek() != Some(b'[') {
        scanner.value()?;
        scanner.end()?;
        return Err(ScanError::NotAnArray.into());
    }
    scanner.array(&mut each)?;
    scanner.end()?;
    Ok(())
}

/// The text that a value is, if it is one. The value has been scanned.
pub(crate) fn string(value: &str) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(value).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

/// Writes a text as JSON.
pub(crate) fn quote(out: &mut String, text: &str) {
    let is_plain = text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
    if is_plain {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    left: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str, depth_max: usize) -> Self {
        Self { text, bytes: text.as_bytes(), at: 0, left: depth_max }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn end(&mut self) -> Result<(), ScanError> {
        self.space();
        if self.at == self.bytes.len() { Ok(()) } else { Err(ScanError::Syntax) }
    }

    fn take(&mut self, byte: u8) -> Result<(), ScanError> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(ScanError::Syntax)
    }

    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// One value, whatever it is, and what stands around it.
    fn value(&mut self) -> Result<&'a str, ScanError> {
        self.space();
        let start = self.at;
        match self.peek() {
            Some(b'"') => self.string()?,
            Some(b'{') => self.object(&mut |_| Ok::<(), ScanError>(()))?,
            Some(b'[') => self.array(&mut |_| Ok::<(), ScanError>(()))?,
            Some(b't') => self.word(b"true")?,
            Some(b'f') => self.word(b"false")?,
            Some(b'n') => self.word(b"null")?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => return Err(ScanError::Syntax),
        }
        let value = self.since(start);
        self.space();
        Ok(value)
    }

    fn object<E: From<ScanError>>(&mut self, each: &mut dyn FnMut(Member<'a>) -> Result<(), E>) -> Result<(), E> {
        self.descend()?;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            self.left += 1;
            return Ok(());
        }
        loop {
            self.space();
            let start = self.at;
            if self.peek() != Some(b'"') {
                return Err(ScanError::Syntax.into());
            }
            self.string()?;
            let raw_name = self.since(start);
            let name = if raw_name.len() > NAME_BYTES_MAX {
                Cow::Borrowed(raw_name)
            } else {
                string(raw_name).ok_or(ScanError::Syntax)?
            };
            self.space();
            self.take(b':')?;
            let value = self.value()?;
            each(Member { name, raw_name, value })?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(ScanError::Syntax.into()),
            }
        }
        self.at += 1;
        self.left += 1;
        Ok(())
    }

    fn array<E: From<ScanError>>(&mut self, each: &mut dyn FnMut(&'a str) -> Result<(), E>) -> Result<(), E> {
        self.descend()?;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            self.left += 1;
            return Ok(());
        }
        loop {
            let value = self.value()?;
            each(value)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(ScanError::Syntax.into()),
            }
        }
        self.at += 1;
        self.left += 1;
        Ok(())
    }

    /// One level down, past the bracket.
    fn descend(&mut self) -> Result<(), ScanError> {
        self.left = self.left.checked_sub(1).ok_or(ScanError::TooDeep)?;
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), ScanError> {
        let is_there = self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word));
        self.at += word.len();
        if is_there { Ok(()) } else { Err(ScanError::Syntax) }
    }

    /// A string, from quote to quote. That the text is UTF-8 is known.
    fn string(&mut self) -> Result<(), ScanError> {
        self.at += 1;
        loop {
            self.plain();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                None | Some(0..=0x1f) => return Err(ScanError::Syntax),
                Some(_) => self.at += 1,
            }
        }
    }

    /// Passes over what means nothing in a string, eight bytes at a time. It may stop early.
    fn plain(&mut self) {
        const EACH: u64 = u64::from_le_bytes([1; 8]);
        const HIGH: u64 = EACH << 7;
        // The high bit of each byte that is zero, and perhaps of bytes after the first such.
        let zeros = |word: u64| word.wrapping_sub(EACH) & !word & HIGH;
        while let Some(chunk) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            let word = u64::from_le_bytes(*chunk);
            let quotes = zeros(word ^ (EACH * u64::from(b'"')));
            let backslashes = zeros(word ^ (EACH * u64::from(b'\\')));
            let controls = word.wrapping_sub(EACH * 0x20) & !word & HIGH;
            let first = (quotes | backslashes | controls).trailing_zeros() as usize / 8;
            self.at += first;
            if first < 8 {
                return;
            }
        }
    }

    fn escape(&mut self) -> Result<(), ScanError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => match self.unit()? {
                // Half a character outside of the basic plane needs the other half.
                0xd800..=0xdbff => {
                    self.take(b'\\')?;
                    let is_low = self.peek() == Some(b'u') && matches!(self.unit()?, 0xdc00..=0xdfff);
                    if is_low { Ok(()) } else { Err(ScanError::Syntax) }
                }
                0xdc00..=0xdfff => Err(ScanError::Syntax),
                _ => Ok(()),
            },
            _ => Err(ScanError::Syntax),
        }
    }

    /// `uXXXX`.
    fn unit(&mut self) -> Result<u32, ScanError> {
        let digits = self.bytes.get(self.at + 1..self.at + 5).ok_or(ScanError::Syntax)?;
        self.at += 5;
        digits.iter().try_fold(0, |unit, digit| {
            let digit = char::from(*digit).to_digit(16).ok_or(ScanError::Syntax)?;
            Ok(unit * 16 + digit)
        })
    }

    fn digits(&mut self) -> Result<(), ScanError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(ScanError::Syntax) }
    }

    fn number(&mut self) -> Result<(), ScanError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        let mut may_be_infinite = self.at - start > LONG_NUMBER;
        if let Some(b'e' | b'E') = self.peek() {
            may_be_infinite = true;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        let is_number = !may_be_infinite || self.since(start).parse().is_ok_and(f64::is_finite);
        if is_number { Ok(()) } else { Err(ScanError::Syntax) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(text: &str, depth: usize) -> Result<(), ScanError> {
        let mut scanner = Scanner::new(text, depth);
        scanner.value()?;
        scanner.end()
    }

    #[test]
    fn pieces_are_given_as_they_stand() {
        let mut found = Vec::new();
        let text = " {\"a\" : [1, {}] ,\"b\\u0063\":\"x\\n\", \"d\":-1.5e3}\n";
        members::<ScanError>(text, 3, |member| {
            found.push((member.name.into_owned(), member.value));
            Ok(())
        })
        .unwrap();
        let expected = [("a", "[1, {}]"), ("bc", "\"x\\n\""), ("d", "-1.5e3")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(string("\"x\\n\"").unwrap(), "x\n");
        let mut found = Vec::new();
        elements::<ScanError>("[1,\n\"]\",[2]]", 2, |value| {
            found.push(value);
            Ok(())
        })
        .unwrap();
        assert_eq!(found, ["1", "\"]\"", "[2]"]);
    }

    #[test]
    fn levels_are_counted() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        for (depth, result) in [(31, Ok(())), (32, Ok(())), (33, Err(ScanError::TooDeep))] {
            assert_eq!(scan(&nested(depth), 32), result, "{depth}");
        }
        assert_eq!(scan(&"[".repeat(1_000_000), 32), Err(ScanError::TooDeep));
        assert_eq!(scan("[[],[],{\"a\":[]},[]]", 3), Ok(()), "levels end");
    }

    #[test]
    fn what_is_no_object_or_array() {
        let none = |_: Member<'_>| Ok::<(), ScanError>(());
        assert_eq!(members("[1]", 4, none), Err(ScanError::NotAnObject));
        assert_eq!(members("[1", 4, none), Err(ScanError::Syntax));
        assert_eq!(members("{} {}", 4, none), Err(ScanError::Syntax));
        assert_eq!(elements("{}", 4, |_| Ok::<(), ScanError>(())), Err(ScanError::NotAnArray));
    }

    fn agrees(text: &str) {
        let is_json = serde_json::from_str::<serde_json::Value>(text).is_ok();
        assert_eq!(scan(text, 100).is_ok(), is_json, "{text}");
    }

    #[test]
    fn odd_texts_are_judged_as_by_serde_json() {
        for text in [
            "",
            " ",
            "1",
            "01",
            "-",
            "-0",
            "1.",
            ".1",
            "1e",
            "1e5",
            "1e400",
            "-1e400",
            "1E+2",
            "0e0",
            "nul",
            "nulll",
            "\"\\ud800\"",
            "\"\\ud800\\udc00\"",
            "\"\\udc00\"",
            "\"\\ud800x\"",
            "\"\\ud800\\n\"",
            "\"\\u12g4\"",
            "\"\\x\"",
            "\"\n\"",
            "\"a",
            "[1,]",
            "[,1]",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\"}",
            "{\"a\":}",
            "[1 2]",
            "{\"a\":1 \"b\":2}",
            "\u{feff}1",
            "\u{a0}1",
            "true false",
            "[]]",
            "tru",
            "+1",
            "1e-400",
            "--1",
        ] {
            agrees(text);
        }
        agrees(&"9".repeat(310));
        agrees(&"9".repeat(299));
    }

    proptest! {
        #[test]
        fn any_text_is_judged_as_by_serde_json(text in r#"[\[\]{},:"\\a-fu0-9eE+\-. \n]{0,24}"#) {
            agrees(&text);
        }

        #[test]
        fn json_with_one_change_is_judged_as_by_serde_json(
            numbers in proptest::collection::vec(any::<f64>(), 0..4),
            text in any::<String>(), at in any::<prop::sample::Index>(), with in any::<char>(),
        ) {
            let json = serde_json::json!({ "n": numbers, "t": text, "o": { text.clone(): [null, true] } }).to_string();
            agrees(&json);
            let mut changed: Vec<char> = json.chars().collect();
            let index = at.index(changed.len());
            changed[index] = with;
            agrees(&changed.into_iter().collect::<String>());
        }

        #[test]
        fn texts_are_written_so_that_they_are_read_again(text in any::<String>()) {
            let mut out = String::new();
            quote(&mut out, &text);
            prop_assert_eq!(string(&out).unwrap(), text);
        }
    }
}
