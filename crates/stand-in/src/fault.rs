//! Ways in which a provider fails.

/// How a part of the stand-in fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Connections are closed as soon as they come. Always concerns everything.
    Refuse,
    /// Requests are taken and never answered.
    Hang,
    /// 500 with a short text.
    ServerError,
    /// 200 with a page for people, as a captive portal or a proxy gives.
    Html,
    /// A key set without keys. Only [`Part::Keys`] has one; elsewhere as none.
    EmptyKeySet,
    /// A key set of 50 MB. Only [`Part::Keys`] has one; elsewhere as none.
    HugeKeySet,
}

/// Which requests a fault concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All.
    Everything,
    /// The discovery document.
    Discovery,
    /// The key set.
    Keys,
    /// Tokens and sign-in.
    Token,
    /// Users and devices.
    Graph,
}

impl Part {
    /// The part that serves a path.
    pub(crate) fn of(path: &str) -> Self {
        if path.starts_with("/v1.0/") {
            Self::Graph
        } else if path.ends_with("/.well-known/openid-configuration") {
            Self::Discovery
        } else if path.ends_with("/keys") {
            Self::Keys
        } else {
            Self::Token
        }
    }
}

/// The fault that is set, if any.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults(Option<(Part, Fault)>);

impl Faults {
    pub(crate) fn new(part: Part, fault: Fault) -> Self {
        Self(Some((part, fault)))
    }

    /// How a request for `part` fails.
    pub(crate) fn at(self, part: Part) -> Option<Fault> {
        let (where_, fault) = self.0?;
        let concerns = fault == Fault::Refuse || where_ == Part::Everything || where_ == part;
        let needs_keys = matches!(fault, Fault::EmptyKeySet | Fault::HugeKeySet);
        (concerns && (!needs_keys || part == Part::Keys)).then_some(fault)
    }

    /// Whether connections are closed at once.
    pub(crate) fn refuses(self) -> bool {
        matches!(self.0, Some((_, Fault::Refuse)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_concerns_its_part_alone() {
        let faults = Faults::new(Part::Keys, Fault::Hang);
        assert_eq!(faults.at(Part::of("/t/discovery/v2.0/keys")), Some(Fault::Hang));
        assert_eq!(faults.at(Part::of("/t/v2.0/.well-known/openid-configuration")), None);
        assert_eq!(faults.at(Part::of("/v1.0/users")), None);
        let faults = Faults::new(Part::Everything, Fault::HugeKeySet);
        assert_eq!(faults.at(Part::of("/t/oauth2/token")), None, "there is no key set");
        assert_eq!(faults.at(Part::Keys), Some(Fault::HugeKeySet));
        assert_eq!(Faults::new(Part::Graph, Fault::Refuse).at(Part::Token), Some(Fault::Refuse));
    }
}
