//! Users and computers as a directory has them.

use ldap3::SearchEntry;
use proto::time::Timestamp;

use super::mark::parse_generalized;
use super::sid;
use crate::config::Attributes;

/// A user of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// On-premises SID.
    pub sid: String,
    /// Account name without its domain; may be empty, as the others below.
    pub account: String,
    /// `user@domain`.
    pub principal_name: String,
    /// Name for people.
    pub display_name: String,
    /// Mail address.
    pub mail: String,
    /// DNS name of the domain, by the distinguished name.
    pub domain: String,
    /// Distinguished name.
    pub distinguished_name: String,
}

/// A computer of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Computer {
    /// On-premises SID, where it has one.
    pub sid: Option<String>,
    /// Its name, without the domain.
    pub name: String,
    /// Distinguished name: in which organisational unit it is.
    pub distinguished_name: String,
}

/// What one entry of a directory can be read as.
pub trait Found: Sized {
    /// For logs.
    const WHAT: &'static str;
    /// Which attributes are asked for.
    fn attributes(names: &Attributes) -> Vec<String>;
    /// `None` when something is missing without which it is of no use.
    fn read(entry: &SearchEntry, names: &Attributes) -> Option<Self>;
}

impl Found for Person {
    const WHAT: &'static str = "users";

    fn attributes(names: &Attributes) -> Vec<String> {
        let usual = Attributes::default();
        let mut all = Vec::new();
        for names in [names, &usual] {
            for name in [&names.sid, &names.account, &names.principal_name, &names.display_name, &names.mail]
            {
                all.push(name.clone());
            }
        }
        all.extend(["uid", "cn"].map(str::to_owned));
        all
    }

    fn read(entry: &SearchEntry, names: &Attributes) -> Option<Self> {
        let usual = Attributes::default();
        let first = |all: &[&str]| all.iter().find_map(|name| text(entry, name)).unwrap_or_default();
        Some(Self {
            sid: read_sid(entry, names)?,
            account: first(&[&names.account, &usual.account, "uid"]),
            principal_name: first(&[&names.principal_name, &usual.principal_name, &names.mail, &usual.mail]),
            display_name: first(&[&names.display_name, &usual.display_name, "cn"]),
            mail: first(&[&names.mail, &usual.mail]),
            domain: domain(&entry.dn),
            distinguished_name: entry.dn.clone(),
        })
    }
}

impl Found for Computer {
    const WHAT: &'static str = "computers";

    fn attributes(names: &Attributes) -> Vec<String> {
        let own = [names.sid.clone(), Attributes::default().sid];
        own.into_iter().chain(["cn", "sAMAccountName"].map(str::to_owned)).collect()
    }

    fn read(entry: &SearchEntry, names: &Attributes) -> Option<Self> {
        let account = || text(entry, "sAMAccountName").map(|name| name.trim_end_matches('$').to_owned());
        let name = text(entry, "cn").or_else(account)?;
        Some(Self { sid: read_sid(entry, names), name, distinguished_name: entry.dn.clone() })
    }
}

/// When an entry was changed last, where the directory says so.
pub(super) fn modified(entry: &SearchEntry) -> Option<Timestamp> {
    parse_generalized(&text(entry, "modifyTimestamp")?)
}

fn read_sid(entry: &SearchEntry, names: &Attributes) -> Option<String> {
    let usual = Attributes::default().sid;
    [names.sid.as_str(), &usual].into_iter().find_map(|name| {
        let text = values(entry, name).map(String::as_bytes);
        // Bytes that happen to be text come as text.
        let bytes = entry.bin_attrs.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name));
        let bytes = bytes.flat_map(|(_, values)| values).map(Vec::as_slice);
        text.chain(bytes).find_map(sid::read)
    })
}

fn text(entry: &SearchEntry, name: &str) -> Option<String> {
    values(entry, name).find(|value| !value.is_empty()).cloned()
}

/// Attributes are named in any case, and servers answer in their own.
fn values<'e>(entry: &'e SearchEntry, name: &'e str) -> impl Iterator<Item = &'e String> {
    let named = entry.attrs.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name));
    named.flat_map(|(_, values)| values)
}

/// `example.org` of `CN=Ada,OU=Staff,DC=example,DC=org`.
fn domain(name: &str) -> String {
    let parts = name.split(',').filter_map(|part| {
        let (key, value) = part.trim().split_once('=')?;
        key.eq_ignore_ascii_case("dc").then(|| value.to_ascii_lowercase())
    });
    parts.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn entry(attributes: &[(&str, &str)]) -> SearchEntry {
        let attrs = attributes.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()]));
        SearchEntry {
            dn: "CN=Ada,OU=Staff\\, old,DC=Example,dc=org".to_owned(),
            attrs: attrs.collect(),
            bin_attrs: HashMap::new(),
        }
    }

    #[test]
    fn a_user_of_active_directory_is_read() {
        let mut ada =
            entry(&[("sAMAccountName", "ada"), ("userprincipalname", "ada@example.org"), ("cn", "Ada L")]);
        let sid = vec![1, 1, 0, 0, 0, 0, 0, 5, 0xff, 0, 0, 0];
        ada.bin_attrs.insert("objectSid".to_owned(), vec![sid]);
        let ada = Person::read(&ada, &Attributes::default()).unwrap();
        assert_eq!(
            (ada.sid.as_str(), ada.account.as_str(), ada.domain.as_str()),
            ("S-1-5-255", "ada", "example.org")
        );
        assert_eq!((ada.principal_name.as_str(), ada.display_name.as_str()), ("ada@example.org", "Ada L"));
    }

    #[test]
    fn a_user_of_another_directory_is_read_by_the_names_that_were_set() {
        let names = Attributes { sid: "employeeNumber".to_owned(), ..Attributes::default() };
        let ada = entry(&[("uid", "ada"), ("mail", "ada@example.org"), ("employeeNumber", "S-1-5-21-7")]);
        let ada = Person::read(&ada, &names).unwrap();
        assert_eq!((ada.sid.as_str(), ada.account.as_str()), ("S-1-5-21-7", "ada"));
        assert_eq!(ada.principal_name, "ada@example.org", "the mail address where there is no other");
        assert_eq!(Person::read(&entry(&[("uid", "x")]), &names), None, "no SID, no use");
    }

    #[test]
    fn a_computer_needs_a_name() {
        let names = Attributes::default();
        assert_eq!(Computer::read(&entry(&[("sAMAccountName", "PC1$")]), &names).unwrap().name, "PC1");
        assert_eq!(Computer::read(&entry(&[]), &names), None);
    }
}
