//! Tables for people. Columns are as wide as their widest cell; the last one takes the rest of the line.

use std::io::{self, Write};

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
    let is_hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().map(|c| if is_hidden(c) { '\u{fffd}' } else { c }).collect()
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
}
