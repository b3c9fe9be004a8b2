//! Which way of proving oneself goes with which mode of management point, from where: the two
//! interdependency tables of the field as one piece of code (facts: `client-authentication.md`).
//!
//! [`ROWS`] is the table, as data; [`judge`] finds the row for one request. The management point
//! asks it at registration and at each request, `roamgate role show` and the documentation print it.

mod table;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use table::{ROWS, Row, Source, Verdict};

use crate::identity::Method;
use crate::reason::Reason;

/// How a management point speaks to clients inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Plain HTTP; every message is signed. Takes nothing from gateways.
    Http,
    /// HTTP, and HTTPS with a site-issued certificate besides (enhanced HTTP). The default.
    #[default]
    Ehttp,
    /// HTTPS with a PKI certificate.
    Https,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Http, Self::Ehttp, Self::Https];

    /// The word in the database, in configuration and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Ehttp => "ehttp",
            Self::Https => "https",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == word)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a device is joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Join {
    /// To nothing.
    Workgroup,
    /// To an on-premises domain.
    Domain,
    /// To Entra ID.
    Entra,
    /// To both.
    Hybrid,
}

impl Join {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Workgroup, Self::Domain, Self::Entra, Self::Hybrid];

    /// The word in the database and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Workgroup => "workgroup",
            Self::Domain => "domain",
            Self::Entra => "entra",
            Self::Hybrid => "hybrid",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|join| join.as_str() == word)
    }
}

impl fmt::Display for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// From where a request comes to the management point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Straight, from inside.
    Intranet,
    /// Through a gateway.
    Gateway,
}

impl Way {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Intranet, Self::Gateway];

    /// The word in output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Intranet => "intranet",
            Self::Gateway => "gateway",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose scenario: device management or user management.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// The device's.
    Device,
    /// Its user's.
    User,
}

impl Scenario {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Device, Self::User];

    /// The word in output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::User => "user",
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A combination that does not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", row.fact)]
pub struct Refused {
    /// The row that says so.
    pub row: &'static Row,
    /// The code of the refusal.
    pub reason: Reason,
    /// What a person does about it.
    pub fix: &'static str,
}

/// Judges one request.
///
/// `join` is what the device reports with *this* request, `None` where it reports nothing: then the
/// most favourable one counts, since a report is no proof and its absence nothing against it. (Do
/// not take it from the device's record: the first Entra token of a device that was joined
/// yesterday comes before its record says so.)
///
/// `method` is what was proved. A device that holds a registered key and signs its messages by it
/// counts as [`Method::SiteToken`]; one that shows nothing at all is [`judge_newcomer`]'s.
pub fn judge(
    mode: Mode,
    method: Method,
    join: Option<Join>,
    way: Way,
    scenario: Scenario,
) -> Result<(), Refused> {
    let judged = |join| find(mode, method, join, way, scenario).result();
    match join {
        Some(join) => judged(join),
        // A hybrid device has every way that any other has, but those of the mode itself.
        None => judged(Join::Hybrid),
    }
}

/// Judges a registration that brings a fresh key and no other evidence: at which management point
/// a rule of the site may approve it by its network alone, or hold it for a person.
///
/// At an HTTPS management point being inside is not enough [docs]: it wants a certificate, an Entra
/// token or a bulk registration token. Through a gateway nobody comes without one of them.
pub fn judge_newcomer(mode: Mode, way: Way) -> Result<(), Refused> {
    table::newcomer(mode, way).result()
}

/// One line of the whole table written out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Combination {
    /// The management point's mode.
    pub mode: Mode,
    /// What the device proved.
    pub method: Method,
    /// How it is joined.
    pub join: Join,
    /// From where it comes.
    pub way: Way,
    /// For whom.
    pub scenario: Scenario,
    /// The row that decides.
    pub row: &'static Row,
}

/// The whole table written out, in the order of its columns.
pub fn combinations() -> impl Iterator<Item = Combination> {
    let joins = Join::ALL.into_iter().flat_map(|join| Scenario::ALL.map(|scenario| (join, scenario)));
    let methods = Method::PREFERENCE
        .into_iter()
        .flat_map(move |method| joins.clone().map(move |(join, scenario)| (method, join, scenario)));
    Mode::ALL.into_iter().flat_map(|mode| Way::ALL.map(|way| (mode, way))).flat_map(move |(mode, way)| {
        methods.clone().map(move |(method, join, scenario)| Combination {
            mode,
            method,
            join,
            way,
            scenario,
            row: find(mode, method, join, way, scenario),
        })
    })
}

/// The first row that speaks of this combination. A test walks all of them, so that the fallback is
/// never taken; it refuses.
fn find(mode: Mode, method: Method, join: Join, way: Way, scenario: Scenario) -> &'static Row {
    let speaks_of_it = |row: &&Row| {
        row.modes.contains(&mode)
            && row.methods.contains(&method)
            && row.joins.contains(&join)
            && row.ways.contains(&way)
            && row.scenarios.contains(&scenario)
    };
    ROWS.iter().find(speaks_of_it).unwrap_or(&table::NOTHING_SAID)
}
