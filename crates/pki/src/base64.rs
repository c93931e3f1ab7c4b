//! Base64 as EC2's metadata writes it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Characters of a line. Source: a capture of `signature`, 174 bytes for 128.
const LINE_CHARACTERS: usize = 76;

/// Lines of 76 characters, without a newline at the end.
pub(crate) fn in_lines(bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    let mut lines = String::with_capacity(text.len() + text.len() / LINE_CHARACTERS);
    let mut rest = text.as_str();
    while let Some((line, more)) = rest.split_at_checked(LINE_CHARACTERS).filter(|(_, more)| !more.is_empty()) {
        lines.push_str(line);
        lines.push('\n');
        rest = more;
    }
    lines.push_str(rest);
    lines
}

/// One line.
pub(crate) fn in_one_line(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_below_at_and_above() {
        assert_eq!(in_lines(b""), "");
        for (bytes, expected) in [(54, vec![72]), (57, vec![76]), (58, vec![76, 4]), (128, vec![76, 76, 20])] {
            let text = in_lines(&vec![b'x'; bytes]);
            assert_eq!(text.split('\n').map(str::len).collect::<Vec<_>>(), expected);
        }
        assert_eq!(in_lines(&[0; 128]).len(), 174, "as captured");
    }
}
