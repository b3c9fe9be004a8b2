//! One search, read page by page.

use std::marker::PhantomData;

use ldap3::adapters::{Adapter, EntriesOnly, PagedResults};
use ldap3::{Ldap, LdapError, Scope, SearchEntry, SearchStream};
use proto::time::Timestamp;
use runtime::telemetry::OneLine;
use tracing::debug;

use super::entry::{Found, modified};
use super::error::DirectoryError;
use super::session::{ANSWER, DirectorySource};
use crate::config::Attributes;
use crate::log::DIRECTORIES;

/// Entries that the server gives at a time. Active Directory gives at most a thousand.
const PAGE: i32 = 500;
/// Entries that are handed on at a time.
const BATCH: usize = 500;
/// Most entries of one search.
const ENTRIES: usize = 2_000_000;

/// Results still to come. Stop at an error: what was given is not the whole.
pub struct Search<'s, T> {
    stream: SearchStream<'static, String, Vec<String>>,
    names: &'s Attributes,
    base: &'s str,
    account: &'s str,
    newest: &'s mut Option<Timestamp>,
    read: usize,
    passed_over: usize,
    done: bool,
    kind: PhantomData<fn() -> T>,
}

impl<'s, T: Found> Search<'s, T> {
    pub(super) async fn begin(
        ldap: &Ldap,
        source: &'s DirectorySource,
        filter: String,
        dated: bool,
        newest: &'s mut Option<Timestamp>,
    ) -> Result<Self, DirectoryError> {
        let mut attributes = T::attributes(&source.attributes);
        if dated {
            attributes.push("modifyTimestamp".to_owned());
        }
        // Referrals within the results are left out: nobody named those servers.
        let adapters: Vec<Box<dyn Adapter<'_, _, _>>> =
            vec![Box::new(EntriesOnly::new()), Box::new(PagedResults::new(PAGE))];
        let mut ldap = ldap.clone();
        let begun = ldap.with_timeout(ANSWER).streaming_search_with(
            adapters,
            &source.base,
            Scope::Subtree,
            &filter,
            attributes,
        );
        let stream = begun.await.map_err(|error| match error {
            LdapError::FilterParsing => DirectoryError::Filter { filter: filter.clone() },
            other => DirectoryError::of(other, ANSWER),
        })?;
        Ok(Self {
            stream,
            names: &source.attributes,
            base: &source.base,
            account: &source.bind_dn,
            newest,
            read: 0,
            passed_over: 0,
            done: false,
            kind: PhantomData,
        })
    }

    /// Some more; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<T>>, DirectoryError> {
        let mut batch = Vec::new();
        while !self.done && batch.len() < BATCH {
            let next = self.stream.next().await.map_err(|error| DirectoryError::of(error, ANSWER))?;
            match next {
                Some(entry) => self.take(&SearchEntry::construct(entry), &mut batch)?,
                None => self.end().await?,
            }
        }
        Ok(if batch.is_empty() { None } else { Some(batch) })
    }

    /// Entries that lack what is needed, such as users without a SID.
    pub fn passed_over(&self) -> usize {
        self.passed_over
    }

    fn take(&mut self, entry: &SearchEntry, batch: &mut Vec<T>) -> Result<(), DirectoryError> {
        self.read += 1;
        if self.read > ENTRIES {
            return Err(DirectoryError::TooMany(ENTRIES));
        }
        *self.newest = (*self.newest).max(modified(entry));
        if let Some(found) = T::read(entry, self.names) {
            batch.push(found);
        } else {
            self.passed_over += 1;
            debug!(component = DIRECTORIES, what = T::WHAT, entry = %OneLine(&entry.dn), "entry passed over");
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<(), DirectoryError> {
        self.done = true;
        let result = self.stream.finish().await;
        if result.rc == 0 { Ok(()) } else { Err(DirectoryError::of_search(&result, self.base, self.account)) }
    }
}

impl<T: Found> std::fmt::Debug for Search<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Search").field("what", &T::WHAT).field("read", &self.read).finish_non_exhaustive()
    }
}
