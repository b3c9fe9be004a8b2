//! Command lines in the spelling of the field's set-up program, taken as people paste them:
//! any case and order, with the program's own name or without, in quotes or without, an empty
//! `/mp:` included. What cannot be meant here is named, not guessed at.

use std::path::PathBuf;

use proto::id::SiteCode;

use super::table::{Meaning, PROPERTIES, SWITCHES};
use super::words;
use crate::address::{AddressError, GatewayAddress, InsideAddress};
use crate::credential::ProofSetup;
use crate::credential::pki::{IssuerName, SelectError};
use crate::location::GATEWAYS;
use crate::token::TokenText;

/// Most words that a pasted line may have. The longest seen has some ten.
const WORDS: usize = 200;
/// How often a value may hold words of its own (`CCMSETUPCMD="…"`).
const NESTING: usize = 2;

/// How the trusted root key was named on the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootKey {
    /// `SMSROOTKEYPATH=`.
    File(PathBuf),
    /// `SMSPUBLICROOTKEY=`.
    Hex(String),
}

/// What a line says.
#[derive(Debug, Default)]
pub struct SetupOptions {
    /// Gateways, from `CCMHOSTNAME`, `/mp`, and wherever else one was pasted.
    pub gateways: Vec<GatewayAddress>,
    /// Management points inside, from `SMSMP`, `SMSMPLIST` and `/mp`.
    pub inside: Vec<InsideAddress>,
    /// The site.
    pub site_code: Option<SiteCode>,
    /// The bulk registration token. On a command line it can be read by every account of the
    /// machine while the program runs; setup says so.
    pub token: Option<TokenText>,
    /// The trusted root key.
    pub root_key: Option<RootKey>,
    /// `RESETKEYINFORMATION=TRUE`.
    pub reset_key: bool,
    /// `CCMALWAYSINF=1`.
    pub always_internet: bool,
    /// Ways to prove the device: `/UsePKICert`, `/NoCRLCheck`, `CCMCERT…`, `AAD…`.
    pub proof: ProofSetup,
    /// What was taken and does nothing here.
    pub notes: Vec<Note>,
}

/// A word that does nothing here, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The switch or property, without its value.
    pub word: String,
    /// Why it does nothing, or what to use instead.
    pub hint: &'static str,
}

/// Why a line is refused. None of them shows a value that may be a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupLineError {
    /// A value that is no address.
    #[error("{word} does not name an address")]
    Address {
        /// The switch or property.
        word: String,
        /// What is wrong with it.
        source: AddressError,
    },
    /// A value that is no site code.
    #[error("SMSSITECODE is three letters or digits")]
    SiteCode,
    /// `AUTO` beside a gateway [docs].
    #[error("SMSSITECODE=AUTO cannot be used over a gateway; name the site")]
    AutomaticSite,
    /// A value that does not say which certificate.
    #[error("{word} does not say which certificate")]
    Certificate {
        /// The property.
        word: String,
        /// What is wrong with it.
        source: SelectError,
    },
    /// A property that takes two words only.
    #[error("{word} is {expected}")]
    Value {
        /// The property.
        word: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A switch that is spelt almost like one of ours.
    #[error("there is no {found}; did you mean {meant}?")]
    Misspelt {
        /// As it was written.
        found: String,
        /// As it is written.
        meant: String,
    },
    /// A switch that means something else here.
    #[error("{word} is not for setup: {hint}")]
    NotForSetup {
        /// The switch.
        word: String,
        /// What to use.
        hint: &'static str,
    },
    /// A word that is neither switch nor property.
    #[error("{0} is neither a switch (/mp:…) nor a property (SMSSITECODE=…)")]
    Stray(String),
    /// A bare token.
    #[error(
        "a token stands alone on the line; write /regtoken: in front of it, or better use --regtoken-file"
    )]
    StrayToken,
    /// Two different tokens.
    #[error("the line has two different tokens")]
    TwoTokens,
    /// More than anybody pastes.
    #[error("the line has more than {WORDS} words")]
    TooLong,
    /// A command line within a command line within a command line.
    #[error("CCMSETUPCMD is nested too deeply")]
    TooDeep,
}

/// Reads the words of a command line.
pub fn parse<S: AsRef<str>>(line: &[S]) -> Result<SetupOptions, SetupLineError> {
    let mut reader = Reader::default();
    reader.read(line.iter().map(|word| word.as_ref().to_owned()).collect(), 0)?;
    reader.finish()
}

#[derive(Default)]
struct Reader {
    options: SetupOptions,
    automatic_site: bool,
}

impl Reader {
    fn read(&mut self, line: Vec<String>, depth: usize) -> Result<(), SetupLineError> {
        if depth > NESTING {
            return Err(SetupLineError::TooDeep);
        }
        let mut all: Vec<String> = Vec::new();
        for word in line {
            if words::is_line(&word) && !holds_a_name(&word) {
                all.extend(words::split(&word));
            } else {
                all.push(clean(&word));
            }
            if all.len() > WORDS {
                return Err(SetupLineError::TooLong);
            }
        }
        let mut rest = all.into_iter().filter(|word| !word.is_empty() && !words::is_program(word)).peekable();
        while let Some(word) = rest.next() {
            let Some((shown, meaning, value)) = known(&word)? else {
                self.note_unknown(&word);
                continue;
            };
            // "/mp: https://…": the value slipped behind the colon.
            let value = match value {
                Some(value) if value.is_empty() && takes_value(meaning) => {
                    rest.next_if(|next| is_bare(next)).unwrap_or_default()
                }
                value => value.unwrap_or_default(),
            };
            self.take(shown, meaning, value, depth)?;
        }
        Ok(())
    }

    fn take(
        &mut self,
        word: String,
        meaning: Meaning,
        value: String,
        depth: usize,
    ) -> Result<(), SetupLineError> {
        let needs_value = matches!(
            meaning,
            Meaning::Token
                | Meaning::SiteCode
                | Meaning::RootKeyFile
                | Meaning::RootKey
                | Meaning::Command
                | Meaning::CertificateStore
                | Meaning::CertificateSelect
                | Meaning::CertificateIssuers
                | Meaning::Tenant
                | Meaning::ClientApp
                | Meaning::Resource
        );
        if needs_value && value.is_empty() {
            // An empty value is as good as none: what is then missing is said by name.
            return Ok(());
        }
        match meaning {
            Meaning::ManagementPoint | Meaning::Inside => {
                for address in value.split([';', ',', '*']).map(str::trim).filter(|a| !a.is_empty()) {
                    self.address(&word, address)?;
                }
            }
            Meaning::Gateway => {
                for address in value.split(';').map(str::trim).filter(|a| !a.is_empty()) {
                    let parsed = address.parse();
                    self.gateway(
                        parsed.map_err(|source| SetupLineError::Address { word: word.clone(), source })?,
                    );
                }
            }
            Meaning::Token => self.token(value)?,
            Meaning::SiteCode if value.eq_ignore_ascii_case("AUTO") => self.automatic_site = true,
            Meaning::SiteCode => {
                self.options.site_code = Some(value.parse().map_err(|_| SetupLineError::SiteCode)?);
            }
            Meaning::RootKeyFile => self.options.root_key = Some(RootKey::File(PathBuf::from(value))),
            Meaning::RootKey => self.options.root_key = Some(RootKey::Hex(value)),
            Meaning::ResetKey => self.options.reset_key = truth(&word, &value)?,
            Meaning::AlwaysInternet => self.options.always_internet = truth(&word, &value)?,
            Meaning::UsePki => self.options.proof.use_pki_certificate = true,
            Meaning::NoCrlCheck => self.options.proof.no_crl_check = true,
            Meaning::CertificateStore => self.options.proof.certificate_store = Some(PathBuf::from(value)),
            Meaning::CertificateSelect => {
                let select = value.parse().map_err(|source| SetupLineError::Certificate { word, source })?;
                self.options.proof.selection.select = Some(select);
            }
            Meaning::CertificateIssuers => {
                let issuers = IssuerName::read_list(&value);
                self.options.proof.selection.issuers =
                    issuers.map_err(|source| SetupLineError::Certificate { word, source })?;
            }
            Meaning::FirstCertificate => self.options.proof.selection.first = truth(&word, &value)?,
            Meaning::CertificateNameCheck => self.options.proof.selection.any_name = !truth(&word, &value)?,
            Meaning::Tenant => {
                let tenant = value.parse();
                self.options.proof.tenant = Some(
                    tenant.map_err(|_| SetupLineError::Value { word, expected: "the GUID of a tenant" })?,
                );
            }
            Meaning::ClientApp => self.options.proof.client_app_id = Some(plain(&word, value)?),
            Meaning::Resource => self.options.proof.resource = Some(plain(&word, value)?),
            Meaning::Command => self.read(words::split(words::unquoted(&value)), depth + 1)?,
            Meaning::Ignored(hint) => self.options.notes.push(Note { word, hint }),
            Meaning::Refused(hint) => return Err(SetupLineError::NotForSetup { word, hint }),
        }
        Ok(())
    }

    /// A gateway or a management point inside, whichever the address is.
    fn address(&mut self, word: &str, address: &str) -> Result<(), SetupLineError> {
        let failed = |source| SetupLineError::Address { word: word.to_owned(), source };
        if address.to_ascii_lowercase().contains("/ccm_proxy_") {
            self.gateway(address.parse().map_err(failed)?);
        } else {
            let inside: InsideAddress = address.parse().map_err(failed)?;
            if !self.options.inside.contains(&inside) && self.options.inside.len() < GATEWAYS {
                self.options.inside.push(inside);
            }
        }
        Ok(())
    }

    fn gateway(&mut self, gateway: GatewayAddress) {
        if !self.options.gateways.contains(&gateway) && self.options.gateways.len() < GATEWAYS {
            self.options.gateways.push(gateway);
        }
    }

    fn token(&mut self, value: String) -> Result<(), SetupLineError> {
        match &self.options.token {
            Some(token) if token.expose() != value => Err(SetupLineError::TwoTokens),
            _ => {
                self.options.token = Some(value.into());
                Ok(())
            }
        }
    }

    fn note_unknown(&mut self, word: &str) {
        let hint = "it is no switch or property of the set-up program";
        self.options.notes.push(Note { word: name_of(word), hint });
    }

    fn finish(self) -> Result<SetupOptions, SetupLineError> {
        if self.automatic_site && !self.options.gateways.is_empty() && self.options.site_code.is_none() {
            return Err(SetupLineError::AutomaticSite);
        }
        Ok(self.options)
    }
}

/// A word of the tables: as it is written, what it means, and its value if it has a place for one.
type Known = (String, Meaning, Option<String>);

fn known(word: &str) -> Result<Option<Known>, SetupLineError> {
    if let Some(switch) = word.strip_prefix('/') {
        let (name, value) = match switch.split_once([':', '=']) {
            Some((name, value)) => (name, Some(value.trim().to_owned())),
            None => (switch, None),
        };
        if let Some((known, meaning)) = find(SWITCHES, name) {
            return Ok(Some((format!("/{known}"), meaning, value.or(Some(String::new())))));
        }
        return match nearest(SWITCHES, name) {
            Some(meant) => Err(SetupLineError::Misspelt {
                found: format!("/{}", shorten(name)),
                meant: format!("/{meant}"),
            }),
            None => Ok(None),
        };
    }
    let Some((name, value)) = word.split_once('=').filter(|(name, _)| words::is_name(name)) else {
        return Err(bare(word));
    };
    if let Some((known, meaning)) = find(PROPERTIES, name) {
        return Ok(Some((known.to_owned(), meaning, Some(value.trim().to_owned()))));
    }
    match nearest(PROPERTIES, name) {
        Some(meant) => Err(SetupLineError::Misspelt { found: shorten(name), meant: meant.to_owned() }),
        None => Ok(None),
    }
}

/// Why a word is refused that is neither switch nor property.
fn bare(word: &str) -> SetupLineError {
    if looks_like_token(word) {
        return SetupLineError::StrayToken;
    }
    // "SMSSITECODE:ABC" and "mp:https://…": the wrong sign, or none.
    if let Some((name, _)) = word.split_once(':') {
        let found = format!("{}:", shorten(name));
        if let Some((known, _)) = find(PROPERTIES, name) {
            return SetupLineError::Misspelt { found, meant: format!("{known}=") };
        }
        if let Some((known, _)) = find(SWITCHES, name) {
            return SetupLineError::Misspelt { found, meant: format!("/{known}:") };
        }
    }
    SetupLineError::Stray(shorten(word))
}

fn find(table: &'static [(&'static str, Meaning)], name: &str) -> Option<(&'static str, Meaning)> {
    table.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).copied()
}

/// The word of the table that was probably meant. Only for words that do something: a misspelt
/// one of the others does no harm.
fn nearest(table: &'static [(&'static str, Meaning)], name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    table
        .iter()
        .filter(|(known, meaning)| known.len() > 4 && !matches!(meaning, Meaning::Ignored(_)))
        .map(|(known, _)| (words::distance(&known.to_ascii_lowercase(), &name), *known))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, known)| known)
}

fn takes_value(meaning: Meaning) -> bool {
    !matches!(
        meaning,
        Meaning::Ignored(_)
            | Meaning::Refused(_)
            | Meaning::ResetKey
            | Meaning::AlwaysInternet
            | Meaning::UsePki
            | Meaning::NoCrlCheck
            | Meaning::FirstCertificate
            | Meaning::CertificateNameCheck
    )
}

/// A word that is a value: no switch, no property.
fn is_bare(word: &str) -> bool {
    let is_property = word.split_once('=').is_some_and(|(name, _)| words::is_name(name));
    !word.starts_with('/') && !is_property
}

fn truth(word: &str, value: &str) -> Result<bool, SetupLineError> {
    match value.to_ascii_uppercase().as_str() {
        "1" | "TRUE" => Ok(true),
        "0" | "FALSE" | "" => Ok(false),
        _ => Err(SetupLineError::Value { word: word.to_owned(), expected: "TRUE or FALSE, or 1 or 0" }),
    }
}

/// A name of an app or a resource: printable, without blanks, not endless.
fn plain(word: &str, value: String) -> Result<String, SetupLineError> {
    let good = value.len() <= 300 && value.chars().all(|c| c.is_ascii_graphic());
    let error =
        || SetupLineError::Value { word: word.to_owned(), expected: "a name or an address without blanks" };
    good.then_some(value).ok_or_else(error)
}

/// Whether a word is one property whose value is a list of names with `=` of their own
/// (`CCMCERTISSUERS=CN=Root; O=Contoso`), and not a whole line that begins with it.
fn holds_a_name(word: &str) -> bool {
    let mut inner = words::split(word).into_iter();
    let is = |word: &str, names: &[&str]| {
        word.split_once('=')
            .is_some_and(|(name, _)| names.iter().any(|known| known.eq_ignore_ascii_case(name)))
    };
    let first = inner.next().is_some_and(|first| is(&first, &["CCMCERTISSUERS", "CCMCERTSEL"]));
    let other = |word: String| {
        word.starts_with('/')
            || word.split_once('=').is_some_and(|(name, _)| find(PROPERTIES, name).is_some())
    };
    first && !inner.any(other)
}

/// Three parts of base64url, or their beginning.
fn looks_like_token(word: &str) -> bool {
    word.starts_with("eyJ") || (word.len() > 60 && word.matches('.').count() == 2)
}

/// The word without its value, fit to be shown.
fn name_of(word: &str) -> String {
    let end = word.find([':', '=']).unwrap_or(word.len());
    shorten(word.get(..end).unwrap_or_default())
}

/// The beginning of a word, fit to be shown; of a long one only so much that it is found again,
/// since it may be a piece of a token.
fn shorten(word: &str) -> String {
    let length = if word.chars().count() > 40 { 8 } else { 40 };
    word.chars().filter(|c| !c.is_control()).take(length).collect()
}

/// One word of the shell, without the quotes and blanks that pasting left in it.
fn clean(word: &str) -> String {
    let without =
        |c: &char| !matches!(c, '"' | '\u{201C}'..='\u{201F}' | '\u{200B}'..='\u{200D}' | '\u{FEFF}');
    // A value with a command line in it keeps its quotes: they group its words.
    if word.to_ascii_uppercase().starts_with("CCMSETUPCMD=") {
        return word.trim().to_owned();
    }
    word.chars().filter(without).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests;
