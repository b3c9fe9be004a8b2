//! Where the next delta of a tenant begins: one link to users and one to devices, kept by the site as
//! one text.

use serde::{Deserialize, Serialize};

/// Both links.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Links {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) users: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) devices: Option<String>,
}

impl Links {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// `None` without a link to users: then only a full run can be next.
    pub(crate) fn text(&self) -> Option<String> {
        self.users.as_ref()?;
        serde_json::to_string(self).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_come_back_as_they_were_kept() {
        let links = Links { users: Some("https://g/u?$deltatoken=1".to_owned()), devices: None };
        assert_eq!(Links::parse(&links.text().unwrap()), Some(links));
        assert_eq!(Links { users: None, devices: Some("https://g/d".to_owned()) }.text(), None);
        assert_eq!(Links::parse("https://g/u"), None);
    }
}
