//! Tables for people, and JSON for programs that people may look at. Columns are as wide as their widest cell; the last one takes the rest of the line.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

use serde_json::Value;

/// Names and values, one pair a line.
pub(crate) fn fields(out: &mut impl Write, fields: &[(&str, &str)]) -> io::Result<()> {
    let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in fields {
        writeln!(out, "{name:width$}  {}", printable(value))?;
    }
    Ok(())
}

/// A heading and rows.
pub(crate) fn table<const N: usize>(out: &mut impl Write, heading: [&str; N], rows: &[[String; N]]) -> io::Result<()> {
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.clone().map(|cell| printable(&cell))).collect();
    let mut widths = heading.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut line = |cells: &[String; N]| -> io::Result<()> {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            text.push_str(&format!("{cell:width$}  "));
        }
        writeln!(out, "{}", text.trim_end())
    };
    line(&heading.map(str::to_owned))?;
    rows.iter().try_for_each(line)
}

/// Names and tags are other people's words: nothing in them may speak to the terminal, be invisible, or turn the direction
/// in which the rest of the line is read (Unicode UAX #9).
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if is_hidden(c) { '\u{fffd}' } else { c }).collect()
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// JSON that says the same to a program and nothing to a terminal: what [`printable`] takes away is escaped, as JSON itself asks
/// only for the characters before the space. `{}` is one line, `{:#}` one for people.
pub(crate) struct Json<'a>(pub(crate) &'a Value);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = if f.alternate() { format!("{:#}", self.0) } else { self.0.to_string() };
        f.write_str(&escaped(&text))
    }
}

/// A text that is JSON, with its hidden characters escaped. Beyond ASCII they stand in strings and nowhere else, and so does DEL.
pub(crate) fn escaped(json: &str) -> Cow<'_, str> {
    let is_raw = |c: char| !matches!(c, '\n' | '\t' | '\r') && is_hidden(c);
    if !json.contains(is_raw) {
        return Cow::Borrowed(json);
    }
    let mut text = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_raw(c) {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_tail() {
        let mut out = Vec::new();
        table(&mut out, ["ID", "NAME"], &[["i-1".into(), "web".into()], ["i-22".into(), String::new()]]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "ID    NAME\ni-1   web\ni-22\n");
    }

    #[test]
    fn a_name_cannot_drive_the_terminal() {
        let mut out = Vec::new();
        fields(&mut out, &[("name", "\u{1b}[31mred\n")]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "name  \u{fffd}[31mred\u{fffd}\n");
        for hidden in ['\u{9b}', '\u{7f}', '\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}', '\u{2028}'] {
            assert_eq!(printable(&format!("a{hidden}b")), "a\u{fffd}b", "{:x}", u32::from(hidden));
        }
        assert_eq!(printable("Grün 名前"), "Grün 名前");
    }

    #[test]
    fn json_says_the_same_and_nothing_to_a_terminal() {
        let hidden = "a\u{1b}[2J\u{7f}\u{80}\u{9b}31m\u{9f}\u{202e}\u{2066}\u{200b}\u{feff}\u{61c}\u{2028}\"\\\nGrün 名前 \u{1f600}";
        let value = serde_json::json!({hidden: [hidden, 1, null], "plain": {}});
        for text in [Json(&value).to_string(), format!("{:#}", Json(&value))] {
            assert!(!text.contains(|c: char| c != '\n' && is_hidden(c)), "{text:?}");
            assert!(text.contains("Grün 名前 \u{1f600}"), "what can be seen stays: {text}");
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
        assert!(format!("{:#}", Json(&value)).contains("\n  "), "in lines");
        let plain = serde_json::json!({"a": ["b", 1]});
        assert_eq!(
            (Json(&plain).to_string(), format!("{:#}", Json(&plain))),
            (plain.to_string(), format!("{plain:#}"))
        );
    }
}
