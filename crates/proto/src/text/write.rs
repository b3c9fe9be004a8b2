//! Writes XML. What goes in as text comes out as text, whatever it contains.

use std::fmt::{self, Write as _};

use super::xml::{is_name_char, is_name_start, is_xml_char};

/// Builds one XML document, element by element, without white space between elements.
///
/// Characters that XML cannot carry (U+0000 and its like) are left out: they cannot be
/// escaped, and a value that reached this point is better short than the answer broken.
/// [`XmlWriter::finish`] closes what is still open.
#[derive(Debug, Default)]
pub struct XmlWriter {
    out: String,
    open: Vec<String>,
    in_tag: bool,
}

impl XmlWriter {
    /// A document without declaration, as message headers and bodies are [observed].
    pub fn new() -> Self {
        Self::default()
    }

    /// A document that begins with `<?xml version="1.0"?>`, as policy bodies do [observed].
    pub fn with_declaration(declaration: &'static str) -> Self {
        Self { out: declaration.to_owned(), ..Self::default() }
    }

    /// Opens an element. Characters that no name can have become `_`.
    pub fn start(&mut self, name: &str) -> &mut Self {
        self.close_tag();
        let name = clean_name(name);
        self.out.push('<');
        self.out.push_str(&name);
        self.open.push(name);
        self.in_tag = true;
        self
    }

    /// Adds an attribute to the element just opened; without one, does nothing.
    pub fn attribute(&mut self, name: &str, value: impl fmt::Display) -> &mut Self {
        if self.in_tag {
            self.out.push(' ');
            self.out.push_str(&clean_name(name));
            self.out.push_str("=\"");
            self.push_escaped(value);
            self.out.push('"');
        }
        self
    }

    /// Adds an attribute when there is a value.
    pub fn optional_attribute(&mut self, name: &str, value: Option<impl fmt::Display>) -> &mut Self {
        match value {
            Some(value) => self.attribute(name, value),
            None => self,
        }
    }

    /// Adds text to the open element.
    pub fn text(&mut self, value: impl fmt::Display) -> &mut Self {
        let before = self.out.len();
        let was_in_tag = self.in_tag;
        self.close_tag();
        let opened = self.out.len();
        self.push_escaped(value);
        if was_in_tag && self.out.len() == opened {
            // Nothing came: leave the tag open so that it can end as `<a/>`.
            self.out.truncate(before);
            self.in_tag = true;
        }
        self
    }

    /// Adds a CDATA section, split where the text itself contains `]]>`.
    pub fn cdata(&mut self, value: &str) -> &mut Self {
        self.close_tag();
        let clean: String = value.chars().filter(|c| is_xml_char(*c)).collect();
        self.out.push_str("<![CDATA[");
        self.out.push_str(&clean.replace("]]>", "]]]]><![CDATA[>"));
        self.out.push_str("]]>");
        self
    }

    /// Adds text that is XML already, as it is: a signed part must keep its very characters.
    pub fn verbatim(&mut self, xml: &str) -> &mut Self {
        self.close_tag();
        self.out.push_str(xml);
        self
    }

    /// Closes the innermost open element.
    pub fn end(&mut self) -> &mut Self {
        if let Some(name) = self.open.pop() {
            if self.in_tag {
                self.out.push_str("/>");
            } else {
                self.out.push_str("</");
                self.out.push_str(&name);
                self.out.push('>');
            }
            self.in_tag = false;
        }
        self
    }

    /// `<name>value</name>`.
    pub fn leaf(&mut self, name: &str, value: impl fmt::Display) -> &mut Self {
        self.start(name).text(value).end()
    }

    /// `<name>value</name>` when there is a value.
    pub fn optional_leaf(&mut self, name: &str, value: Option<impl fmt::Display>) -> &mut Self {
        match value {
            Some(value) => self.leaf(name, value),
            None => self,
        }
    }

    /// `<name/>`.
    pub fn empty(&mut self, name: &str) -> &mut Self {
        self.start(name).end()
    }

    /// The document, with everything closed.
    pub fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.end();
        }
        self.out
    }

    fn close_tag(&mut self) {
        if self.in_tag {
            self.out.push('>');
            self.in_tag = false;
        }
    }

    fn push_escaped(&mut self, value: impl fmt::Display) {
        // `Escaped` never fails, and neither do the values we print.
        let _ = write!(Escaped(&mut self.out), "{value}");
    }
}

struct Escaped<'w>(&'w mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars().filter(|c| is_xml_char(*c)) {
            match c {
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '&' => self.0.push_str("&amp;"),
                '"' => self.0.push_str("&quot;"),
                // As characters they would be read back as a space in an attribute.
                '\t' => self.0.push_str("&#9;"),
                '\n' => self.0.push_str("&#10;"),
                '\r' => self.0.push_str("&#13;"),
                _ => self.0.push(c),
            }
        }
        Ok(())
    }
}

fn clean_name(name: &str) -> String {
    let clean: String = name.chars().map(|c| if is_name_char(c) { c } else { '_' }).collect();
    if clean.starts_with(is_name_start) { clean } else { format!("_{clean}") }
}

#[cfg(test)]
mod tests {
    use super::super::xml::Element;
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let hostile = "a<b>&\"'\r\n\t]]> é𝄞";
        let mut xml = XmlWriter::new();
        xml.start("A").attribute("b", hostile).leaf("C", hostile).start("D").cdata(hostile);
        let xml = xml.finish();
        let root = Element::parse(&xml).unwrap();
        assert_eq!(root.attribute("b"), Some(hostile));
        assert_eq!(root.child("C").map(Element::text), Some(hostile));
        // A carriage return in CDATA is subject to XML's own line-end rule.
        assert_eq!(root.child("D").map(Element::text), Some(hostile.replace("\r\n", "\n").as_str()));
    }

    #[test]
    fn empty_text_and_no_text_look_the_same() {
        let mut xml = XmlWriter::new();
        xml.start("A").leaf("B", "").empty("C");
        assert_eq!(xml.finish(), "<A><B/><C/></A>");
    }

    #[test]
    fn what_xml_cannot_carry_is_left_out() {
        let mut xml = XmlWriter::new();
        xml.start("A b\"").attribute("x y", "1\0\u{1}\u{FFFE}2").text("3\u{8}4");
        assert_eq!(xml.finish(), "<A_b_ x_y=\"12\">34</A_b_>");
    }
}
