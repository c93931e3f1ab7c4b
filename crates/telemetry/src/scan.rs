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

/// The name of a member.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Name<'a> {
    /// Read; one of more than [`NAME_BYTES_MAX`] as it stands, which is nobody's name.
    pub(crate) text: Cow<'a, str>,
    /// As it stands, with the quotes.
    pub(crate) raw: &'a str,
}

/// One member of an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member<'a> {
    /// What it is called.
    pub(crate) name: Name<'a>,
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
    if scanner.peek() != Some(b'{') {
        // Whether it is JSON at all is worth knowing.
        scanner.value()?;
        scanner.end()?;
        return Err(ScanError::NotAnObject.into());
    }
    scanner.object(|scanner, name| each(Member { name, value: scanner.value()? }))?;
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
    if scanner.peek() != Some(b'[') {
        scanner.value()?;
        scanner.end()?;
        return Err(ScanError::NotAnArray.into());
    }
    scanner.array(|scanner| each(scanner.value()?))?;
    scanner.end()?;
    Ok(())
}

/// The text that a value is, if it is one. The value has been scanned.
pub(crate) fn string(value: &str) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(value).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

/// The text that a value is, if it is one, written to `out` if there are escapes in it. The value has been scanned.
pub(crate) fn unescape<'t>(value: &'t str, out: &'t mut Vec<u8>) -> Option<&'t str> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(inner);
    }
    let bytes = inner.as_bytes();
    out.clear();
    // What an escape stands for is shorter than it.
    out.resize(bytes.len(), 0);
    let (mut from, mut to) = (0, 0);
    while let Some(byte) = bytes.get(from) {
        let chunk = bytes.get(from..).and_then(|rest| rest.first_chunk::<8>());
        if let (Some(chunk), Some(room)) = (chunk, out.get_mut(to..to + 8)) {
            room.copy_from_slice(chunk);
            let plain = first(marks_of(u64::from_le_bytes(*chunk), b'\\'));
            (from, to) = (from + plain, to + plain);
            if plain > 0 {
                continue;
            }
        }
        if *byte != b'\\' {
            *out.get_mut(to)? = *byte;
            (from, to) = (from + 1, to + 1);
            continue;
        }
        let (character, length) = escaped(bytes.get(from + 1..)?)?;
        from += 1 + length;
        to += character.encode_utf8(out.get_mut(to..to + character.len_utf8())?).len();
    }
    out.truncate(to);
    std::str::from_utf8(out).ok()
}

/// The character that an escape stands for, by what follows its backslash, and how long that is.
fn escaped(rest: &[u8]) -> Option<(char, usize)> {
    let unit = |from: usize| {
        let digits = rest.get(from..from + 4)?.iter();
        digits.map(|digit| char::from(*digit).to_digit(16)).try_fold(0, |unit, digit| Some(unit * 16 + digit?))
    };
    let character = match rest.first()? {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let first = unit(1)?;
            if !(0xd800..0xdc00).contains(&first) {
                return Some((char::from_u32(first)?, 5));
            }
            let second = unit(7)?.checked_sub(0xdc00)?;
            return Some((char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + second)?, 11));
        }
        other => char::from(*other),
    };
    Some((character, 1))
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

/// Whether there are characters before the space. In JSON they are nothing but space around values.
pub(crate) fn has_controls(text: &str) -> bool {
    // The least of a piece of a fixed length: of this compilers make vectors, of "any" they may make a branch for each byte.
    let least = |piece: &[u8]| piece.iter().fold(u8::MAX, |least, byte| least.min(*byte));
    let (pieces, rest) = text.as_bytes().as_chunks::<64>();
    pieces.iter().any(|piece| least(piece) < b' ') || least(rest) < b' '
}

const EACH: u64 = u64::from_le_bytes([1; 8]);
const HIGH: u64 = EACH << 7;

/// The high bit of each byte of a word that is `byte`, and perhaps of bytes after the first such.
const fn marks_of(word: u64, byte: u8) -> u64 {
    let zero_where_it_is = word ^ (EACH * byte as u64);
    zero_where_it_is.wrapping_sub(EACH) & !zero_where_it_is & HIGH
}

/// The number of the first byte that is marked, 8 if none is.
const fn first(marks: u64) -> usize {
    marks.trailing_zeros() as usize / 8
}

/// Looks through one text of JSON, from its beginning to its end.
pub(crate) struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    left: usize,
    has_controls: bool,
}

impl<'a> Scanner<'a> {
    /// Stands at the first value.
    pub(crate) fn new(text: &'a str, depth_max: usize) -> Self {
        let has_controls = has_controls(text);
        let mut scanner = Self { text, bytes: text.as_bytes(), at: 0, left: depth_max, has_controls };
        scanner.space();
        scanner
    }

    /// The next character: after a name, the first of its value.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Makes sure that nothing follows.
    pub(crate) fn end(&mut self) -> Result<(), ScanError> {
        self.space();
        if self.at == self.bytes.len() { Ok(()) } else { Err(ScanError::Syntax) }
    }

    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// One value, whatever it is, as it stands.
    pub(crate) fn value(&mut self) -> Result<&'a str, ScanError> {
        let start = self.at;
        self.skip()?;
        Ok(self.since(start))
    }

    /// Passes over one value.
    pub(crate) fn skip(&mut self) -> Result<(), ScanError> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'{') => self.skip_object(),
            Some(b'[') => self.array(Self::skip),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(ScanError::Syntax),
        }
    }

    /// Passes over `null`, if that is what comes.
    pub(crate) fn skip_null(&mut self) -> Result<bool, ScanError> {
        let is_null = self.peek() == Some(b'n');
        if is_null {
            self.word(b"null")?;
        }
        Ok(is_null)
    }

    /// An object, if one comes. `each` is given the name of each member, and reads its value.
    pub(crate) fn object<E: From<ScanError>>(
        &mut self,
        mut each: impl FnMut(&mut Self, Name<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.peek() != Some(b'{') {
            self.skip()?;
            return Err(ScanError::NotAnObject.into());
        }
        self.descend()?;
        if self.peek() == Some(b'}') {
            self.ascend();
            return Ok(());
        }
        loop {
            let start = self.at;
            let is_escaped = self.name()?;
            let raw = self.since(start);
            self.colon()?;
            each(self, Name { text: Self::read_name(raw, is_escaped)?, raw })?;
            if !self.has_more(b'}')? {
                return Ok(());
            }
        }
    }

    /// The same, with nobody to read it: names are not even looked at.
    fn skip_object(&mut self) -> Result<(), ScanError> {
        self.descend()?;
        if self.peek() == Some(b'}') {
            self.ascend();
            return Ok(());
        }
        loop {
            self.name()?;
            self.colon()?;
            self.skip()?;
            if !self.has_more(b'}')? {
                return Ok(());
            }
        }
    }

    /// An array, if one comes. `each` reads each element.
    pub(crate) fn array<E: From<ScanError>>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.peek() != Some(b'[') {
            self.skip()?;
            return Err(ScanError::NotAnArray.into());
        }
        self.descend()?;
        if self.peek() == Some(b']') {
            self.ascend();
            return Ok(());
        }
        loop {
            each(self)?;
            if !self.has_more(b']')? {
                return Ok(());
            }
        }
    }

    /// One level down, past the bracket.
    fn descend(&mut self) -> Result<(), ScanError> {
        self.left = self.left.checked_sub(1).ok_or(ScanError::TooDeep)?;
        self.at += 1;
        self.space();
        Ok(())
    }

    /// One level up, past the bracket.
    fn ascend(&mut self) {
        self.at += 1;
        self.left += 1;
    }

    /// Whether another member or element follows, at which it stands then, or the end.
    fn has_more(&mut self, end: u8) -> Result<bool, ScanError> {
        self.space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.space();
                Ok(true)
            }
            Some(byte) if byte == end => {
                self.ascend();
                Ok(false)
            }
            _ => Err(ScanError::Syntax),
        }
    }

    /// The name of a member; whether there are escapes in it.
    fn name(&mut self) -> Result<bool, ScanError> {
        if self.peek() == Some(b'"') { self.string() } else { Err(ScanError::Syntax) }
    }

    fn read_name(raw: &'a str, is_escaped: bool) -> Result<Cow<'a, str>, ScanError> {
        if raw.len() > NAME_BYTES_MAX {
            return Ok(Cow::Borrowed(raw));
        }
        if is_escaped {
            return string(raw).ok_or(ScanError::Syntax);
        }
        raw.get(1..raw.len() - 1).map(Cow::Borrowed).ok_or(ScanError::Syntax)
    }

    fn colon(&mut self) -> Result<(), ScanError> {
        self.space();
        self.take(b':')?;
        self.space();
        Ok(())
    }

    fn take(&mut self, byte: u8) -> Result<(), ScanError> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(ScanError::Syntax)
    }

    fn word(&mut self, word: &[u8]) -> Result<(), ScanError> {
        let is_there = self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word));
        self.at += word.len();
        if is_there { Ok(()) } else { Err(ScanError::Syntax) }
    }

    /// A string, from quote to quote; whether there are escapes in it. That the text is UTF-8 is known.
    fn string(&mut self) -> Result<bool, ScanError> {
        let mut is_escaped = false;
        self.at += 1;
        loop {
            self.plain();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(is_escaped);
                }
                Some(b'\\') => {
                    is_escaped = true;
                    self.escape()?;
                }
                None | Some(0..=0x1f) => return Err(ScanError::Syntax),
                Some(_) => self.at += 1,
            }
        }
    }

    /// Passes over what means nothing in a string. It may stop early.
    fn plain(&mut self) {
        // Most strings are short: what is fast for long ones takes longer to begin.
        for _ in 0..3 {
            let Some(chunk) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) else { return };
            let word = u64::from_le_bytes(*chunk);
            let mut marks = marks_of(word, b'"') | marks_of(word, b'\\');
            if self.has_controls {
                marks |= word.wrapping_sub(EACH * 0x20) & !word & HIGH;
            }
            self.at += first(marks);
            if marks != 0 {
                return;
            }
        }
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let found = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
        let controls = rest.get(..found).filter(|_| self.has_controls);
        let plain = controls.and_then(|part| part.iter().position(|byte| *byte < b' ')).unwrap_or(found);
        self.at += plain;
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
            found.push((member.name.text.into_owned(), member.value));
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

        #[test]
        fn texts_are_unescaped_as_by_serde_json(text in any::<String>(), plain in "[a-z\"\\\\/\\x00-\\x20\u{e9}\u{1f600}]{0,40}") {
            for text in [text, plain] {
                let all_escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
                for json in [serde_json::Value::from(text.as_str()).to_string(), format!("\"{all_escaped}\"")] {
                    prop_assert!(scan(&json, 1).is_ok());
                    let mut out = vec![7; 3];
                    prop_assert_eq!(unescape(&json, &mut out), Some(text.as_str()));
                }
            }
        }

        #[test]
        fn unescaping_never_panics(json in r#"["\\a-fu0-9\u{e9}]{0,40}"#) {
            let is_text = serde_json::from_str::<String>(&json).ok();
            let mut out = Vec::new();
            let found = unescape(&json, &mut out);
            if is_text.is_some() {
                prop_assert_eq!(found, is_text.as_deref());
            }
        }
    }
}
