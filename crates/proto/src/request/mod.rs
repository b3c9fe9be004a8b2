//! Bodies of messages and answers of the management point, one file per noun. Each is read
//! and written, because client and management point are both built from this crate.

pub mod condition;
pub mod location;
pub mod policy;
pub mod policy_body;
pub mod policy_query;
pub mod registration;
pub mod report;
pub mod site_facts;
pub mod state_message;
pub mod status;

use crate::message::signature::SignatureError;
use crate::text::Utf16Error;
use crate::text::field::FieldError;
use crate::text::hex::HexError;
use crate::text::xml::{Element, XmlError};
use crate::zlib::InflateError;

/// Why a body was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not UTF-16LE with a BOM.
    #[error("not text")]
    Text(#[source] Utf16Error),
    /// Not XML that we read.
    #[error("not acceptable XML")]
    Xml(#[source] XmlError),
    /// Another document.
    #[error("the root element is {found:?}, not {expected}")]
    Root {
        /// The one that belongs here.
        expected: &'static str,
        /// The one that is there.
        found: String,
    },
    /// A value that is missing or wrong.
    #[error("a value is not acceptable")]
    Field(#[source] FieldError),
    /// A signature that cannot be read.
    #[error("an unreadable signature")]
    Signature(#[source] SignatureError),
    /// A value in hex that is none.
    #[error("{what} is not hex")]
    Hex {
        /// The value.
        what: &'static str,
        /// What is wrong with it.
        source: HexError,
    },
    /// A compressed part that does not inflate.
    #[error("a compressed part does not inflate")]
    Inflate(#[source] InflateError),
}

impl From<FieldError> for BodyError {
    fn from(error: FieldError) -> Self {
        Self::Field(error)
    }
}

/// Reads a document that must have this root.
pub(crate) fn parse_root<'t>(xml: &'t str, expected: &'static str) -> Result<Element<'t>, BodyError> {
    let root = Element::parse(xml).map_err(BodyError::Xml)?;
    expect_root(&root, expected)?;
    Ok(root)
}

pub(crate) fn expect_root(root: &Element<'_>, expected: &'static str) -> Result<(), BodyError> {
    if root.name() == expected {
        return Ok(());
    }
    Err(BodyError::Root { expected, found: root.name().chars().take(80).collect() })
}

/// Declares an enum whose members are words of the protocol, compared without case.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$member_meta:meta])* $member:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$member_meta])* $member),+ }

        impl $name {
            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$member => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                [$(Self::$member),+].into_iter().find(|word| word.as_str().eq_ignore_ascii_case(text)).ok_or(())
            }
        }
    };
}
pub(crate) use words;
