//! Conditions under which a policy assignment or rule applies.

use crate::request::words;
use crate::text::field::{FieldError, Fields as _, at_most};
use crate::text::write::XmlWriter;
use crate::text::xml::Element;
use crate::{limits, text};

words! {
    /// How long an expression is asked again [sdk-meta].
    ExpressionType {
        /// Once.
        Once = "once",
        /// Until it holds: the only one seen [observed].
        UntilTrue = "until-true",
        /// Always.
        Continuous = "continuous",
    }
}

words! {
    /// How an operator joins its operands [sdk-meta].
    OperatorType {
        /// All hold.
        And = "AND",
        /// One holds.
        Or = "OR",
        /// It does not hold.
        Not = "NOT",
    }
}

/// A condition. Depth is bounded by that of the document ([`limits::XML_DEPTH`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// A query; an empty one always holds [observed].
    Expression {
        /// How long it is asked again.
        kind: ExpressionType,
        /// `WQL` [observed].
        language: String,
        /// The query.
        query: String,
    },
    /// Several conditions joined.
    Operator {
        /// How.
        kind: OperatorType,
        /// What.
        operands: Vec<Condition>,
    },
}

impl Condition {
    /// The condition that always holds, as in every recorded policy [observed].
    pub fn always() -> Self {
        Self::Expression { kind: ExpressionType::UntilTrue, language: "WQL".to_owned(), query: String::new() }
    }

    /// Reads the `Condition` child of an element, if it has one with content.
    pub(crate) fn of(parent: &Element<'_>) -> Result<Option<Self>, FieldError> {
        match parent.child("Condition").and_then(|condition| condition.children().first()) {
            Some(element) => Self::from_element(element).map(Some),
            None => Ok(None),
        }
    }

    fn from_element(element: &Element<'_>) -> Result<Self, FieldError> {
        match element.name() {
            "Expression" => Ok(Self::Expression {
                kind: element.parsed_attribute("ExpressionType")?,
                language: element.attribute_or_empty("ExpressionLanguage")?,
                query: text::field::short("Expression", element.text().trim())?.to_owned(),
            }),
            "Operator" => Ok(Self::Operator {
                kind: element.parsed_attribute("OperatorType")?,
                operands: at_most(
                    "operands",
                    limits::POLICY_ENTRIES,
                    element.children().iter().map(Self::from_element).collect::<Result<_, _>>()?,
                )?,
            }),
            other => Err(FieldError::invalid("Condition", other)),
        }
    }

    pub(crate) fn write(&self, xml: &mut XmlWriter) {
        xml.start("Condition");
        self.write_inner(xml);
        xml.end();
    }

    fn write_inner(&self, xml: &mut XmlWriter) {
        match self {
            Self::Expression { kind, language, query } => {
                xml.start("Expression")
                    .attribute("ExpressionLanguage", language)
                    .attribute("ExpressionType", kind)
                    .text(query)
                    .end();
            }
            Self::Operator { kind, operands } => {
                xml.start("Operator").attribute("OperatorType", kind);
                for operand in operands {
                    operand.write_inner(xml);
                }
                xml.end();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_come_back_and_unknown_ones_are_refused() {
        let query = Condition::Expression {
            kind: ExpressionType::Once,
            language: "WQL".to_owned(),
            query: "SELECT * FROM X WHERE a < 1".to_owned(),
        };
        let not = Condition::Operator { kind: OperatorType::Not, operands: vec![query.clone()] };
        let both = Condition::Operator { kind: OperatorType::And, operands: vec![Condition::always(), not] };
        for condition in [Condition::always(), query, both] {
            let mut xml = XmlWriter::new();
            xml.start("P");
            condition.write(&mut xml);
            let xml = xml.finish();
            assert_eq!(Condition::of(&Element::parse(&xml).unwrap()), Ok(Some(condition)));
        }
        let of = |xml| Condition::of(&Element::parse(xml).unwrap());
        assert_eq!(of("<P/>"), Ok(None));
        assert_eq!(of("<P><Condition/></P>"), Ok(None));
        assert!(of("<P><Condition><Script/></Condition></P>").is_err());
        assert!(of("<P><Condition><Expression ExpressionType='sometimes'/></Condition></P>").is_err());
    }
}
