//! Texts from processes: cut to what an event may hold.

/// What a text costs in JSON, where a control character takes six bytes.
fn cost(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        c if u32::from(c) < 0x20 => 6,
        c => c.len_utf8(),
    }
}

/// `text`, or the start of it with `…` if it would take more than `bytes_max` in JSON.
pub(crate) fn cut(text: &str, bytes_max: usize) -> String {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += cost(c);
        if used > bytes_max {
            let mut kept = text.get(..at).unwrap_or_default().to_owned();
            kept.push('…');
            return kept;
        }
    }
    text.to_owned()
}

/// Bytes of a process as text: what is no UTF-8 is replaced.
pub(crate) fn lossy(bytes: &[u8], bytes_max: usize) -> String {
    // A replacement character takes three bytes for one, so that nothing that would stay is left out here.
    let bytes = bytes.get(..bytes_max.saturating_add(4).min(bytes.len())).unwrap_or_default();
    cut(&String::from_utf8_lossy(bytes), bytes_max)
}

/// The last part of a path.
pub(crate) fn base_name(path: &str) -> &str {
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path)
}

/// Arguments as one line, as a person would have to type them.
pub(crate) fn command_line<'a>(arguments: impl Iterator<Item = &'a str>, bytes_max: usize) -> String {
    let mut line = String::new();
    for argument in arguments {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(argument);
        if line.len() > bytes_max {
            break;
        }
    }
    cut(&line, bytes_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_below_at_and_above_the_limit() {
        assert_eq!([cut("ab", 3), cut("abc", 3), cut("abcd", 3)], ["ab", "abc", "abc…"]);
        assert_eq!(cut("é\u{1}é", 8), "é\u{1}…", "counted as they are written in JSON");
        assert_eq!(lossy(b"a\xffb", 10), "a\u{fffd}b");
        assert_eq!(lossy(&[b'x'; 100], 10), format!("{}…", "x".repeat(10)));
    }

    #[test]
    fn names_and_command_lines() {
        assert_eq!(
            [base_name("/usr/bin/bash"), base_name("bash"), base_name("/"), base_name("/a/")],
            ["bash", "bash", "/", "a"]
        );
        assert_eq!(command_line(["bash", "-c", "a b"].into_iter(), 100), "bash -c a b");
        assert_eq!(command_line(["aaaa", "bbbb"].into_iter(), 6), "aaaa b…");
    }
}
