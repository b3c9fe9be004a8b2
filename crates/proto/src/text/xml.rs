//! Reads XML from strangers into a small tree.
//!
//! No DTD, no entities but the five, no processing instructions, no fetching; depth, nodes
//! and attributes are counted (R50). What the tree holds was checked, so nothing that works
//! on it has to check again.

use std::borrow::Cow;
use std::ops::Range;

use quick_xml::XmlVersion;
use quick_xml::events::attributes::Attributes;
use quick_xml::events::{BytesRef, Event};
use quick_xml::reader::Reader;

use crate::limits;

/// Why a text is not XML that we read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// Longer than [`limits::XML_CHARS`].
    #[error("a document of {0} bytes is too long")]
    TooLong(usize),
    /// Tags, quotes or names that do not fit together.
    #[error("not well-formed at byte {at}")]
    Malformed {
        /// Where it was noticed.
        at: usize,
    },
    /// A character that XML cannot carry, plain or as a reference.
    #[error("a control character at byte {at}")]
    ControlCharacter {
        /// Where it stands.
        at: usize,
    },
    /// `<!DOCTYPE`.
    #[error("a document type definition")]
    DocType,
    /// `<?name …?>`, other than the XML declaration at the start.
    #[error("a processing instruction")]
    ProcessingInstruction,
    /// An entity other than the five.
    #[error("an entity other than the five predefined ones")]
    UnknownEntity,
    /// Elements nested deeper than [`limits::XML_DEPTH`].
    #[error("elements nested too deeply")]
    TooDeep,
    /// More elements and attributes than [`limits::XML_NODES`].
    #[error("too many elements and attributes")]
    TooManyNodes,
    /// One element with more attributes than [`limits::XML_ATTRIBUTES`].
    #[error("too many attributes on one element")]
    TooManyAttributes,
    /// No root element, or it does not end.
    #[error("no complete root element")]
    NoRoot,
    /// Something beside the root element.
    #[error("content beside the root element")]
    BesideRoot,
}

/// One element with all that is in it. Names and plain text are borrowed from the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element<'t> {
    name: &'t str,
    attributes: Vec<(&'t str, Cow<'t, str>)>,
    text: Cow<'t, str>,
    children: Vec<Element<'t>>,
    span: Range<usize>,
}

/// Reads a document only to see whether it is acceptable.
pub fn check_xml(text: &str) -> Result<(), XmlError> {
    Element::parse(text).map(drop)
}

impl<'t> Element<'t> {
    /// Reads a whole document and gives its root element.
    pub fn parse(text: &'t str) -> Result<Self, XmlError> {
        if text.len() > limits::XML_CHARS {
            return Err(XmlError::TooLong(text.len()));
        }
        if let Some((at, _)) = text.char_indices().find(|(_, c)| !is_xml_char(*c)) {
            return Err(XmlError::ControlCharacter { at });
        }
        TreeReader::new(text).read()
    }

    /// The name, with its prefix if it has one. Names are compared as written: XML has case.
    pub fn name(&self) -> &'t str {
        self.name
    }

    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_ref())
    }

    /// All attributes in the order in which they stand.
    pub fn attributes(&self) -> impl Iterator<Item = (&'t str, &str)> {
        self.attributes.iter().map(|(name, value)| (*name, value.as_ref()))
    }

    /// All character data directly in this element.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The elements directly in this one.
    pub fn children(&self) -> &[Element<'t>] {
        &self.children
    }

    /// The first child of this name.
    pub fn child(&self, name: &str) -> Option<&Element<'t>> {
        self.children.iter().find(|child| child.name == name)
    }

    /// All children of this name.
    pub fn children_named<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e Element<'t>> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first element at the end of a path of names.
    pub fn descendant(&self, path: &[&str]) -> Option<&Element<'t>> {
        path.iter().try_fold(self, |element, name| element.child(name))
    }

    /// Where this element stands in the document, from `<` to `>`: what a signature covers.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }
}

/// Whether XML 1.0 can carry this character.
pub(crate) fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

pub(crate) fn is_name_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

pub(crate) fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':')
}

fn is_name(name: &str) -> bool {
    name.starts_with(is_name_start) && name.chars().all(is_name_char)
}

struct TreeReader<'t> {
    source: &'t str,
    reader: Reader<&'t [u8]>,
    open: Vec<Element<'t>>,
    root: Option<Element<'t>>,
    nodes: usize,
}

impl<'t> TreeReader<'t> {
    fn new(source: &'t str) -> Self {
        Self { source, reader: Reader::from_str(source), open: Vec::new(), root: None, nodes: 0 }
    }

    fn read(mut self) -> Result<Element<'t>, XmlError> {
        loop {
            let begin = self.position();
            let event = self.reader.read_event().map_err(|_| XmlError::Malformed { at: begin })?;
            let end = self.position();
            match event {
                Event::Start(_) => self.start(begin..end, 1)?,
                Event::Empty(_) => {
                    self.start(begin..end, 2)?;
                    self.end(end)?;
                }
                Event::End(_) => self.end(end)?,
                Event::Text(text) => self.append(text.xml10_content(), begin)?,
                Event::CData(text) => {
                    if self.open.is_empty() {
                        return Err(XmlError::BesideRoot);
                    }
                    self.append(text.xml10_content(), begin)?;
                }
                Event::GeneralRef(reference) => {
                    let character = resolve(&reference, begin)?;
                    self.append(Cow::Owned(character.to_string()), begin)?;
                }
                Event::Comment(_) => {}
                Event::Decl(_) if begin == 0 => {}
                Event::Decl(_) | Event::PI(_) => return Err(XmlError::ProcessingInstruction),
                Event::DocType(_) => return Err(XmlError::DocType),
                Event::Eof => break,
            }
        }
        if self.open.is_empty() { self.root.ok_or(XmlError::NoRoot) } else { Err(XmlError::NoRoot) }
    }

    fn position(&self) -> usize {
        usize::try_from(self.reader.buffer_position()).unwrap_or(usize::MAX)
    }

    /// Opens the element whose tag stands at `span`; `closing` bytes end it (`>` or `/>`).
    fn start(&mut self, span: Range<usize>, closing: usize) -> Result<(), XmlError> {
        let at = span.start;
        let malformed = || XmlError::Malformed { at };
        if self.root.is_some() {
            return Err(XmlError::BesideRoot);
        }
        if self.open.len() >= limits::XML_DEPTH {
            return Err(XmlError::TooDeep);
        }
        let source: &'t str = self.source;
        let tag = source.get(at + 1..span.end.saturating_sub(closing)).ok_or_else(malformed)?;
        let name_end = tag.find([' ', '\t', '\r', '\n']).unwrap_or(tag.len());
        let name = tag.get(..name_end).filter(|name| is_name(name)).ok_or_else(malformed)?;
        self.count()?;
        let mut attributes = Vec::new();
        for attribute in Attributes::new(tag, name_end) {
            let attribute = attribute.map_err(|_| malformed())?;
            if attributes.len() >= limits::XML_ATTRIBUTES {
                return Err(XmlError::TooManyAttributes);
            }
            self.count()?;
            if !is_name(attribute.key.0) || attribute.value.contains('<') {
                return Err(malformed());
            }
            let value = match attribute.normalized_value(XmlVersion::Implicit1_0) {
                Ok(value) => value,
                Err(quick_xml::Error::Escape(quick_xml::escape::EscapeError::UnrecognizedEntity(..))) => {
                    return Err(XmlError::UnknownEntity);
                }
                Err(_) => return Err(malformed()),
            };
            if !value.chars().all(is_xml_char) {
                return Err(XmlError::ControlCharacter { at });
            }
            attributes.push((attribute.key.0, value));
        }
        self.open.push(Element { name, attributes, text: Cow::Borrowed(""), children: Vec::new(), span });
        Ok(())
    }

    fn end(&mut self, end: usize) -> Result<(), XmlError> {
        let mut element = self.open.pop().ok_or(XmlError::Malformed { at: end })?;
        element.span.end = end;
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn append(&mut self, text: Cow<'t, str>, at: usize) -> Result<(), XmlError> {
        let Some(element) = self.open.last_mut() else {
            // White space around the root, and a BOM that a lenient caller left in front.
            let harmless = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n') || (c == '\u{FEFF}' && at == 0);
            return if text.chars().all(harmless) { Ok(()) } else { Err(XmlError::BesideRoot) };
        };
        if element.text.is_empty() {
            element.text = text;
        } else {
            element.text.to_mut().push_str(&text);
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), XmlError> {
        self.nodes += 1;
        if self.nodes > limits::XML_NODES { Err(XmlError::TooManyNodes) } else { Ok(()) }
    }
}

fn resolve(reference: &BytesRef<'_>, at: usize) -> Result<char, XmlError> {
    let character = match reference.resolve_char_ref() {
        Ok(Some(character)) => character,
        Ok(None) => match &**reference {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "apos" => '\'',
            "quot" => '"',
            _ => return Err(XmlError::UnknownEntity),
        },
        Err(_) => return Err(XmlError::ControlCharacter { at }),
    };
    if is_xml_char(character) { Ok(character) } else { Err(XmlError::ControlCharacter { at }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_attributes_text_and_places_are_found() {
        let xml = "<?xml version=\"1.0\" encoding=\"utf-16\"?>\r\n\
             <A x='1' y=\"a&lt;&#10;b\"><B>t&amp;u<![CDATA[<v>]]></B><!-- c --><B/></A>\n";
        let root = Element::parse(xml).unwrap();
        assert_eq!((root.name(), root.attribute("x"), root.attribute("y")), ("A", Some("1"), Some("a<\nb")));
        let second: Vec<_> = root.children_named("B").collect();
        assert_eq!(second.len(), 2);
        assert_eq!(second[0].text(), "t&u<v>");
        assert_eq!(&xml[second[0].span()], "<B>t&amp;u<![CDATA[<v>]]></B>");
        assert_eq!(&xml[second[1].span()], "<B/>");
        assert!(xml[root.span()].starts_with("<A x=") && xml[root.span()].ends_with("</A>"));
        assert_eq!(root.descendant(&["B", "C"]), None);
    }

    #[test]
    fn what_could_hurt_is_refused() {
        let deep = |n: usize| "<a>".repeat(n) + &"</a>".repeat(n);
        let attributes = |n: usize| (0..n).fold(String::new(), |text, i| text + &format!(" a{i}=''"));
        for (xml, error) in [
            ("<!DOCTYPE a><a/>".to_owned(), XmlError::DocType),
            ("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>".to_owned(), XmlError::DocType),
            ("<a>&x;</a>".to_owned(), XmlError::UnknownEntity),
            ("<a b='&x;'/>".to_owned(), XmlError::UnknownEntity),
            ("<a>&#1;</a>".to_owned(), XmlError::ControlCharacter { at: 3 }),
            ("<a>&#0;</a>".to_owned(), XmlError::ControlCharacter { at: 3 }),
            ("<a b='&#8;'/>".to_owned(), XmlError::ControlCharacter { at: 0 }),
            ("<a>\0</a>".to_owned(), XmlError::ControlCharacter { at: 3 }),
            ("<a>\u{FFFF}</a>".to_owned(), XmlError::ControlCharacter { at: 3 }),
            ("<?php x?><a/>".to_owned(), XmlError::ProcessingInstruction),
            ("<a/><?xml version='1.0'?>".to_owned(), XmlError::ProcessingInstruction),
            (deep(65), XmlError::TooDeep),
            (deep(10_000), XmlError::TooDeep),
            (format!("<a{}/>", attributes(limits::XML_ATTRIBUTES + 1)), XmlError::TooManyAttributes),
            (format!("<a>{}</a>", "<b/>".repeat(limits::XML_NODES)), XmlError::TooManyNodes),
            (" ".repeat(limits::XML_CHARS + 1), XmlError::TooLong(limits::XML_CHARS + 1)),
            (String::new(), XmlError::NoRoot),
            ("<a>".to_owned(), XmlError::NoRoot),
            ("<a/><b/>".to_owned(), XmlError::BesideRoot),
            ("x<a/>".to_owned(), XmlError::BesideRoot),
            ("<a/><![CDATA[]]>".to_owned(), XmlError::BesideRoot),
        ] {
            assert_eq!(check_xml(&xml), Err(error), "{xml:.60}");
        }
        assert_eq!(check_xml(&deep(64)), Ok(()));
        assert_eq!(check_xml(&format!("<a{}/>", attributes(limits::XML_ATTRIBUTES))), Ok(()));
    }

    #[test]
    fn broken_tags_are_refused() {
        for xml in [
            "<a></b>",
            "</a>",
            "<a b></a>",
            "<a b=1/>",
            "<a b='1' b='2'/>",
            "<a b='<'/>",
            "<1/>",
            "<a/b>",
            "< a/>",
            "<a&/>",
            "<a>&</a>",
            "<a b='&#x110000;'/>",
            "<a",
            "<a b='",
            "<a><![CDATA[</a>",
            "<a><!-- </a>",
            "<a \"='1'/>",
            "<>x</>",
            "<!a/>",
        ] {
            assert!(check_xml(xml).is_err(), "{xml}");
        }
    }
}
