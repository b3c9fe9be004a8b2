//! What a figure must be, and whether it is.

use std::fmt;

use serde::Serialize;

/// A bound on a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Bound {
    /// As much, or more.
    AtLeast(f64),
    /// As much, or less.
    AtMost(f64),
}

impl Bound {
    /// Whether a figure keeps to it.
    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
        }
    }
}

/// What a figure must be, and what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Target {
    pub(crate) must: Bound,
    pub(crate) aim: Bound,
}

impl Target {
    /// How a figure stands to it.
    pub(crate) fn verdict(self, value: f64) -> Verdict {
        match (self.must.holds(value), self.aim.holds(value)) {
            (_, true) => Verdict::Aim,
            (true, false) => Verdict::Met,
            (false, false) => Verdict::NotMet,
        }
    }
}

/// How a figure stands to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// It has none.
    Told,
    /// It is what it should be.
    Aim,
    /// It is what it must be.
    Met,
    /// It is not.
    NotMet,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Told => "",
            Self::Aim => "met, aim too",
            Self::Met => "met",
            Self::NotMet => "NOT met",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_at_its_bound_keeps_to_it() {
        let target = Target { must: Bound::AtMost(1.0), aim: Bound::AtMost(0.6) };
        assert_eq!(target.verdict(1.0), Verdict::Met);
        assert_eq!(target.verdict(0.6), Verdict::Aim);
        assert_eq!(target.verdict(1.01), Verdict::NotMet);
        let target = Target { must: Bound::AtLeast(0.99), aim: Bound::AtLeast(1.0) };
        assert_eq!(target.verdict(0.99), Verdict::Met);
        assert_eq!(target.verdict(f64::NAN), Verdict::NotMet);
    }
}
