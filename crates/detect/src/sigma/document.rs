//! The documents of a file of rules, and where in the file an error is.

/// One document of a file: what stands between two lines of `---`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Document<'a> {
    /// The line of the file that it begins with, from 1.
    pub(super) first_line: usize,
    pub(super) text: &'a str,
}

/// The documents of a file that are not empty. A line that begins with `---` ends a document wherever it stands: YAML 1.2,
/// 9.1.2: no scalar holds one.
pub(super) fn documents(text: &str) -> Vec<Document<'_>> {
    let mut found = Vec::new();
    let (mut start, mut first_line, mut at) = (0, 1, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if line.strip_prefix("---").is_some_and(|rest| rest.trim_start().len() < rest.len() || rest.is_empty()) {
            found.extend(document(text.get(start..at).unwrap_or_default(), first_line));
            // What follows the dashes on their line belongs to the next document.
            start = at.saturating_add(3);
            first_line = number + 1;
        }
        at = at.saturating_add(line.len());
    }
    found.extend(document(text.get(start..).unwrap_or_default(), first_line));
    found
}

fn document(text: &str, first_line: usize) -> Option<Document<'_>> {
    let says_something = text.lines().map(str::trim).any(|line| !line.is_empty() && !line.starts_with('#'));
    says_something.then_some(Document { first_line, text })
}

impl Document<'_> {
    /// The line of the file that an error of the parser or compiler is about, as near as its text tells: the line that it
    /// counts, else one that holds what it quotes, else the title of the rule.
    pub(super) fn line_of(&self, error: &str) -> usize {
        self.counted(error)
            .or_else(|| quoted(error).find_map(|words| self.holding(words)))
            .or_else(|| error.contains("ondition").then(|| self.holding("condition:")).flatten())
            .or_else(|| error.contains("CIDR").then(|| self.holding("|cidr")).flatten())
            .or_else(|| error.contains("'title'").then(|| self.first_words()).flatten())
            .unwrap_or_else(|| self.title_line())
    }

    /// The line of the rule's title, by which people find it.
    pub(super) fn title_line(&self) -> usize {
        self.holding("title:").or_else(|| self.first_words()).unwrap_or(self.first_line)
    }

    /// `… at line 3 column 5`, counted within the document.
    fn counted(&self, error: &str) -> Option<usize> {
        let (_, after) = error.split_once("at line ")?;
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let line = after.get(..digits)?.parse::<usize>().ok()?;
        // YAML ends lines in more ways (a carriage return, U+0085) than editors count.
        Some(self.first_line + line.saturating_sub(1).min(self.text.lines().count()))
    }

    fn holding(&self, words: &str) -> Option<usize> {
        let at = self.text.lines().position(|line| line.contains(words))?;
        Some(self.first_line + at)
    }

    fn first_words(&self) -> Option<usize> {
        let at = self.text.lines().position(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))?;
        Some(self.first_line + at)
    }
}

/// What an error quotes: words between `'`, after a colon at the end, and the lines that `regex` repeats of a pattern.
fn quoted(error: &str) -> impl Iterator<Item = &str> {
    let between = error.split('\'').skip(1).step_by(2);
    let repeated = error.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('^'));
    let last = error.lines().next().and_then(|line| line.rsplit_once(": ")).map(|(_, words)| words.trim());
    between.chain(repeated).chain(last).filter(|words| words.len() > 1)
}

#[cfg(test)]
mod tests {
    use super::{Document, documents};

    #[test]
    fn documents_know_their_first_line() {
        let text = "title: a\n---\ntitle: b\nx: 1\n--- # c\ntitle: c\n---\n# nothing\n----\n";
        let found = documents(text);
        let lines = found.iter().map(|document| (document.first_line, document.title_line())).collect::<Vec<_>>();
        assert_eq!(lines[..3], [(1, 1), (2, 3), (5, 6)]);
        assert_eq!(found[0].text, "title: a\n");
        // Four dashes are no end of a document, and are something.
        assert_eq!(found.len(), 4);
        assert!(documents("---\n# nothing\n---\n").is_empty());
        assert_eq!(documents("---").len(), 0);
    }

    #[test]
    fn an_error_is_at_the_line_that_it_counts_or_quotes() {
        let document = Document { first_line: 10, text: "# x\ntitle: a\nfield|re: '(x'\ncondition: selection\n" };
        for (error, line) in [
            ("YAML parse error: bad at line 2 column 1", 11),
            ("YAML parse error: behind the end at line 5 column 1", 14),
            ("YAML parse error: of lines that nobody sees at line 33 column 1", 14),
            ("unknown detection identifier: selection", 13),
            ("invalid regex pattern: regex parse error:\n    (x\n    ^\nerror: unclosed group", 12),
            ("Condition parse error: empty", 13),
            ("something else", 11),
        ] {
            assert_eq!(document.line_of(error), line, "{error}");
        }
    }
}
