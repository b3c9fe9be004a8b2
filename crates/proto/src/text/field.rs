//! Takes typed values out of an [`Element`], with errors that name what was wrong.

use std::str::FromStr;

use super::xml::Element;
use crate::limits;

/// A document is XML, but a value in it is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// Something that must be there is not.
    #[error("{element} has no {what}")]
    Missing {
        /// The element that lacks it.
        element: String,
        /// The attribute or child.
        what: &'static str,
    },
    /// A value that does not parse, cut to a length fit for a log line.
    #[error("{what} cannot be {value:?}")]
    Invalid {
        /// The attribute or child.
        what: &'static str,
        /// The beginning of its value.
        value: String,
    },
    /// A value longer than it may be.
    #[error("{what} is longer than {limit} characters")]
    TooLong {
        /// The attribute or child.
        what: &'static str,
        /// Characters it may have.
        limit: usize,
    },
    /// A list longer than it may be.
    #[error("more than {limit} {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// Entries it may have.
        limit: usize,
    },
}

impl FieldError {
    pub(crate) fn missing(element: &Element<'_>, what: &'static str) -> Self {
        Self::Missing { element: element.name().chars().take(80).collect(), what }
    }

    pub(crate) fn invalid(what: &'static str, value: &str) -> Self {
        Self::Invalid { what, value: value.chars().take(80).collect() }
    }
}

/// Typed reading. "Given" means there and not empty: clients write `<SID />` for no value [observed].
pub(crate) trait Fields {
    /// The child, which must be there.
    fn required_child(&self, name: &'static str) -> Result<&Self, FieldError>;
    /// An attribute, which must be there, as a text of at most [`limits::FIELD_CHARS`].
    fn required_attribute(&self, name: &'static str) -> Result<&str, FieldError>;
    /// An attribute that is given.
    fn given_attribute(&self, name: &'static str) -> Result<Option<&str>, FieldError>;
    /// A child's text, the child being required.
    fn required_text(&self, name: &'static str) -> Result<&str, FieldError>;
    /// A child's text that is given, without the white space around it.
    fn given_text(&self, name: &'static str) -> Result<Option<&str>, FieldError>;

    /// An attribute that must parse.
    fn parsed_attribute<T: FromStr>(&self, name: &'static str) -> Result<T, FieldError> {
        let value = self.required_attribute(name)?;
        value.trim().parse().map_err(|_| FieldError::invalid(name, value))
    }

    /// An attribute that must parse where it is given.
    fn parsed_given_attribute<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, FieldError> {
        self.given_attribute(name)?.map(|value| parse(name, value)).transpose()
    }

    /// A child's text that must parse.
    fn parsed_text<T: FromStr>(&self, name: &'static str) -> Result<T, FieldError> {
        parse(name, self.required_text(name)?)
    }

    /// A child's text that must parse where it is given.
    fn parsed_given_text<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, FieldError> {
        self.given_text(name)?.map(|value| parse(name, value)).transpose()
    }

    /// A child's text, or the empty text.
    fn text_or_empty(&self, name: &'static str) -> Result<String, FieldError> {
        Ok(self.given_text(name)?.unwrap_or_default().to_owned())
    }

    /// An attribute, or the empty text.
    fn attribute_or_empty(&self, name: &'static str) -> Result<String, FieldError> {
        Ok(self.given_attribute(name)?.unwrap_or_default().to_owned())
    }
}

impl Fields for Element<'_> {
    fn required_child(&self, name: &'static str) -> Result<&Self, FieldError> {
        self.child(name).ok_or_else(|| FieldError::missing(self, name))
    }

    fn required_attribute(&self, name: &'static str) -> Result<&str, FieldError> {
        let value = self.attribute(name).ok_or_else(|| FieldError::missing(self, name))?;
        short(name, value)
    }

    fn given_attribute(&self, name: &'static str) -> Result<Option<&str>, FieldError> {
        self.attribute(name).filter(|value| !value.is_empty()).map(|value| short(name, value)).transpose()
    }

    fn required_text(&self, name: &'static str) -> Result<&str, FieldError> {
        short(name, self.required_child(name)?.text().trim())
    }

    fn given_text(&self, name: &'static str) -> Result<Option<&str>, FieldError> {
        let text = self.child(name).map(|child| child.text().trim()).filter(|text| !text.is_empty());
        text.map(|text| short(name, text)).transpose()
    }
}

/// Refuses a list that is longer than it may be.
pub(crate) fn at_most<T>(what: &'static str, limit: usize, list: Vec<T>) -> Result<Vec<T>, FieldError> {
    if list.len() > limit { Err(FieldError::TooMany { what, limit }) } else { Ok(list) }
}

fn parse<T: FromStr>(what: &'static str, value: &str) -> Result<T, FieldError> {
    value.parse().map_err(|_| FieldError::invalid(what, value))
}

/// A text of at most [`limits::FIELD_CHARS`].
pub(crate) fn short<'v>(what: &'static str, value: &'v str) -> Result<&'v str, FieldError> {
    // Bytes are never fewer than characters, so most values need no counting.
    if value.len() > limits::FIELD_CHARS && value.chars().count() > limits::FIELD_CHARS {
        return Err(FieldError::TooLong { what, limit: limits::FIELD_CHARS });
    }
    Ok(value)
}
