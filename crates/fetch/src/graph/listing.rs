//! A list on its way, page by page.

use std::marker::PhantomData;

use serde::Deserialize;
use serde_json::Value;
use tracing::debug;

use super::client::GraphClient;
use super::error::GraphError;
use super::object::{Entry, Listed};
use crate::log::TENANTS;

/// Most pages of one list: ten million users at the usual hundred.
const PAGES: u32 = 100_000;
/// Longest link, in bytes. They carry a state of some hundred to some thousand.
const LINK_BYTES: usize = 64 * 1024;

/// Pages still to come. Stop at an error: what was given is not the whole.
#[derive(Debug)]
pub struct Listing<'c, T> {
    client: &'c mut GraphClient,
    next: Option<String>,
    delta_link: Option<String>,
    pages: u32,
    kind: PhantomData<fn() -> T>,
}

#[derive(Deserialize)]
struct Page {
    value: Vec<Value>,
    #[serde(rename = "@odata.nextLink", default)]
    next: Option<String>,
    #[serde(rename = "@odata.deltaLink", default)]
    delta: Option<String>,
}

impl<'c, T: Listed> Listing<'c, T> {
    pub(super) fn begin(client: &'c mut GraphClient, since: Option<&str>) -> Result<Self, GraphError> {
        let next = match since {
            // It was kept by the site, and the service's address may have been changed since.
            Some(link) if !client.is_ours(link) => return Err(GraphError::Resync),
            Some(link) => link.to_owned(),
            None => client.first::<T>(),
        };
        Ok(Self { client, next: Some(next), delta_link: None, pages: 0, kind: PhantomData })
    }

    /// The next page; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<Entry<T>>>, GraphError> {
        let Some(url) = self.next.take() else { return Ok(None) };
        if self.pages >= PAGES {
            return Err(GraphError::Endless { what: T::WHAT });
        }
        self.pages += 1;
        let answer = self.client.page::<T>(&url).await?;
        let page: Page =
            serde_json::from_slice(&answer.body).map_err(|_| GraphError::NotAPage { what: T::WHAT })?;
        self.next = self.ours(page.next)?;
        if self.next.as_ref() == Some(&url) {
            return Err(GraphError::Endless { what: T::WHAT });
        }
        if self.next.is_none() {
            self.delta_link = self.ours(page.delta)?;
        }
        Ok(Some(page.value.into_iter().filter_map(entry).collect()))
    }

    /// Where the next delta begins; there after the last page only.
    pub fn delta_link(&self) -> Option<&str> {
        self.delta_link.as_deref()
    }

    fn ours(&self, link: Option<String>) -> Result<Option<String>, GraphError> {
        match link {
            Some(link) if link.len() > LINK_BYTES || !self.client.is_ours(&link) => {
                Err(GraphError::ForeignLink { what: T::WHAT })
            }
            link => Ok(link),
        }
    }
}

/// One entry. What has no id that could be a user's or device's is passed over.
fn entry<T: Listed>(value: Value) -> Option<Entry<T>> {
    if value.get("@removed").is_some() {
        let id = value.get("id").and_then(Value::as_str).and_then(|id| id.parse().ok());
        return id.map(Entry::Gone);
    }
    match serde_json::from_value(value) {
        Ok(object) => Some(Entry::Present(object)),
        Err(error) => {
            debug!(component = TENANTS, what = T::WHAT, %error, "entry of a list passed over");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::graph::User;

    #[test]
    fn entries_are_there_gone_or_passed_over() {
        let id = "00000000-0000-0000-0000-000000000001";
        let there = entry::<User>(json!({ "id": id, "mail": null, "displayName": "A", "other": [1] }));
        let Some(Entry::Present(user)) = there else { panic!("{there:?}") };
        assert_eq!((user.display_name.as_deref(), user.mail), (Some("A"), None));
        let gone = entry::<User>(json!({ "id": id, "@removed": { "reason": "deleted" } }));
        assert_eq!(gone, Some(Entry::Gone(id.parse().unwrap())));
        assert_eq!(entry::<User>(json!({ "id": "x" })), None);
        assert_eq!(entry::<User>(json!(7)), None);
    }
}
