//! A small XML writer whose bytes can be predicted: what a service's captures show is what a layout writes.
//!
//! Elements are closures, so that what was opened is closed. Names are `'static`: no input ever becomes a tag.

/// How a document is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Begin with `<?xml version="1.0" encoding="UTF-8"?>` and a line feed.
    pub declaration: bool,
    /// Spaces by which each level stands in; `None` puts everything on one line.
    pub indent: Option<usize>,
    /// End with a line feed.
    pub final_newline: bool,
}

impl Layout {
    /// STS and the other awsQuery services: two spaces, no declaration, a line feed at the end. Source: captures.
    pub const QUERY: Layout = Layout { declaration: false, indent: Some(2), final_newline: true };
    /// What EC2 answers in success: a declaration and four spaces. Source: captures; the missing last line feed is inferred.
    pub const EC2: Layout = Layout { declaration: true, indent: Some(4), final_newline: false };
    /// What EC2 and S3 answer in refusal: a declaration, then one line. Source: captures.
    pub const ONE_LINE: Layout = Layout { declaration: true, indent: None, final_newline: false };
}

/// Writes one document.
#[derive(Debug)]
pub struct Writer {
    out: String,
    indent: Option<usize>,
    depth: usize,
}

/// A document with one root element, in the namespace given.
///
/// ```
/// use inborn_wire::xml::{Layout, document};
/// let text = document(Layout::QUERY, "Root", Some("urn:x"), |w| w.leaf("Leaf", "a<b"));
/// assert_eq!(text, "<Root xmlns=\"urn:x\">\n  <Leaf>a&lt;b</Leaf>\n</Root>\n");
/// ```
#[must_use]
pub fn document(
    layout: Layout,
    root: &'static str,
    namespace: Option<&'static str>,
    content: impl FnOnce(&mut Writer),
) -> String {
    document_named(layout, &[root], namespace, content)
}

/// As [`document`], with a root name put together from parts, as `RunInstances` and `Response`.
#[must_use]
pub fn document_named(
    layout: Layout,
    root: &[&'static str],
    namespace: Option<&'static str>,
    content: impl FnOnce(&mut Writer),
) -> String {
    let mut writer = Writer { out: String::with_capacity(512), indent: layout.indent, depth: 0 };
    if layout.declaration {
        writer.out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    }
    writer.write_element(root, namespace, content);
    if layout.final_newline {
        writer.out.push('\n');
    }
    writer.out
}

impl Writer {
    /// An element with elements in it; `<name/>` if `content` writes nothing.
    pub fn element(&mut self, name: &'static str, content: impl FnOnce(&mut Self)) {
        self.write_element(&[name], None, content);
    }

    /// As [`Writer::element`], with a name put together from parts, as `GetCallerIdentity` and `Result`.
    pub fn element_named(&mut self, name: &[&'static str], content: impl FnOnce(&mut Self)) {
        self.write_element(name, None, content);
    }

    /// An element with text in it; `<name/>` if there is none.
    pub fn leaf(&mut self, name: &'static str, text: &str) {
        self.start_line();
        self.out.push('<');
        self.out.push_str(name);
        if text.is_empty() {
            self.out.push_str("/>");
            return;
        }
        self.out.push('>');
        escape_into(&mut self.out, text);
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    /// A leaf, where there is a value.
    pub fn optional(&mut self, name: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.leaf(name, text);
        }
    }

    /// A leaf of `true` or `false`.
    pub fn boolean(&mut self, name: &'static str, value: bool) {
        self.leaf(name, if value { "true" } else { "false" });
    }

    /// A leaf of decimal digits.
    pub fn integer(&mut self, name: &'static str, value: i64) {
        self.leaf(name, &value.to_string());
    }

    /// A list: `name` around one `member` element for each item. EC2 calls members `item`, awsQuery `member`.
    pub fn list<T>(
        &mut self,
        name: &'static str,
        member: &'static str,
        items: impl IntoIterator<Item = T>,
        mut content: impl FnMut(&mut Self, T),
    ) {
        self.element(name, |writer| {
            for item in items {
                writer.element(member, |writer| content(writer, item));
            }
        });
    }

    fn write_element(&mut self, name: &[&'static str], namespace: Option<&str>, content: impl FnOnce(&mut Self)) {
        self.start_line();
        self.out.push('<');
        self.push_name(name);
        if let Some(namespace) = namespace {
            self.out.push_str(" xmlns=\"");
            escape_into(&mut self.out, namespace);
            self.out.push('"');
        }
        self.out.push('>');
        let start = self.out.len();
        self.depth += 1;
        content(self);
        self.depth -= 1;
        if self.out.len() == start {
            self.out.truncate(start - 1);
            self.out.push_str("/>");
            return;
        }
        self.start_line();
        self.out.push_str("</");
        self.push_name(name);
        self.out.push('>');
    }

    fn push_name(&mut self, name: &[&'static str]) {
        for part in name {
            self.out.push_str(part);
        }
    }

    fn start_line(&mut self) {
        let Some(indent) = self.indent else { return };
        if !self.out.is_empty() && !self.out.ends_with('\n') {
            self.out.push('\n');
        }
        for _ in 0..self.depth * indent {
            self.out.push(' ');
        }
    }
}

/// Appends text. Quotes stay as they are, as in AWS's captures: nothing of ours goes into an attribute but namespaces.
///
/// A character that XML 1.0 has no form for, not even as a reference, becomes U+FFFD. A carriage return
/// becomes a reference, because a parser would turn the bare one into a line feed.
fn escape_into(out: &mut String, text: &str) {
    // Nearly all texts are of nothing else.
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'&' | b'<' | b'>');
    if text.bytes().all(is_plain) {
        return out.push_str(text);
    }
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\r' => out.push_str("&#xD;"),
            '\t' | '\n' => out.push(character),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(writer: &mut Writer) {
        writer.leaf("requestId", "r");
        writer.list("set", "item", ["a", "b"], |writer, item| writer.leaf("id", item));
        writer.list("none", "item", [], |writer, item| writer.leaf("id", item));
        writer.leaf("reason", "");
        writer.boolean("flag", true);
        writer.integer("code", -16);
        writer.optional("absent", None);
    }

    #[test]
    fn two_space_layout() {
        assert_eq!(
            document(Layout::QUERY, "R", Some("urn:x"), sample),
            "<R xmlns=\"urn:x\">\n  <requestId>r</requestId>\n  <set>\n    <item>\n      <id>a</id>\n    </item>\n    \
             <item>\n      <id>b</id>\n    </item>\n  </set>\n  <none/>\n  <reason/>\n  <flag>true</flag>\n  \
             <code>-16</code>\n</R>\n"
        );
    }

    #[test]
    fn four_space_layout_with_declaration() {
        assert_eq!(
            document_named(Layout::EC2, &["Run", "Response"], None, |w| w.leaf("requestId", "r")),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<RunResponse>\n    <requestId>r</requestId>\n</RunResponse>"
        );
    }

    #[test]
    fn one_line_layout() {
        assert_eq!(
            document(Layout::ONE_LINE, "R", None, |w| w.element("E", |w| w.leaf("Code", "C"))),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<R><E><Code>C</Code></E></R>"
        );
    }

    #[test]
    fn text_is_escaped() {
        let mut out = String::new();
        escape_into(&mut out, "<a href='x' b=\"y\">&amp;\r\n\t\0\u{1f}\u{ffff}é</a>]]>");
        let fine = "&lt;a href='x' b=\"y\"&gt;&amp;amp;&#xD;\n\t\u{fffd}\u{fffd}\u{fffd}é&lt;/a&gt;]]&gt;";
        assert_eq!(out, fine);
    }

    fn unescape(text: &str) -> String {
        text.replace("&#xD;", "\r").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    }

    proptest! {
        #[test]
        fn what_is_escaped_reads_back(text in "[ -~\t\r\n\u{80}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]*") {
            let mut out = String::new();
            escape_into(&mut out, &text);
            prop_assert!(!out.contains(['<', '>', '\r']));
            prop_assert_eq!(unescape(&out), text);
        }

        #[test]
        fn no_text_makes_a_tag_or_a_forbidden_character(text in any::<String>()) {
            let mut out = String::new();
            escape_into(&mut out, &text);
            prop_assert!(!out.contains(['<', '>']));
            let is_allowed = |c: char| matches!(c, '\t' | '\n' | ' '..='\u{fffd}' | '\u{10000}'..);
            prop_assert!(out.chars().all(is_allowed));
        }
    }
}
