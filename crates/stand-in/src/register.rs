//! Objects of a tenant with the number of their last change, so that one can ask what changed.

use std::collections::BTreeMap;

use proto::id::Guid;

/// Objects by id, and those that were removed.
#[derive(Debug)]
pub(crate) struct Register<T> {
    rows: BTreeMap<Guid, (u64, T)>,
    gone: BTreeMap<Guid, u64>,
    /// Number of the last change. Begins at 1, so that 0 is before everything.
    version: u64,
}

/// One object since a version.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change<'r, T> {
    Present(&'r T),
    Gone(Guid),
}

impl<T> Default for Register<T> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), gone: BTreeMap::new(), version: 1 }
    }
}

impl<T> Register<T> {
    pub(crate) fn put(&mut self, id: Guid, value: T) {
        self.version += 1;
        self.gone.remove(&id);
        self.rows.insert(id, (self.version, value));
    }

    pub(crate) fn remove(&mut self, id: Guid) -> bool {
        let removed = self.rows.remove(&id).is_some();
        if removed {
            self.version += 1;
            self.gone.insert(id, self.version);
        }
        removed
    }

    pub(crate) fn get(&self, id: Guid) -> Option<&T> {
        self.rows.get(&id).map(|(_, value)| value)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.rows.values().map(|(_, value)| value)
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// What changed after `since`, up to and with `until`, in the order of ids. Since 0: everything
    /// that is there.
    pub(crate) fn changes(&self, since: u64, until: u64) -> Vec<Change<'_, T>> {
        let within = |version: u64| version > since && version <= until;
        let present = self
            .rows
            .values()
            .filter(|(version, _)| within(*version))
            .map(|(_, value)| Change::Present(value));
        let gone = self.gone.iter().filter(|(_, version)| since > 0 && within(**version));
        present.chain(gone.map(|(id, _)| Change::Gone(*id))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_tell_what_came_changed_and_went_since_a_version() {
        let id = |n: u8| Guid::from_bytes([n; 16]);
        let mut register = Register::default();
        register.put(id(1), "a");
        register.put(id(2), "b");
        let seen = register.version();
        assert_eq!(register.changes(0, seen), [Change::Present(&"a"), Change::Present(&"b")]);
        assert_eq!(register.changes(seen, register.version()), []);

        register.put(id(1), "A");
        assert!(register.remove(id(2)) && !register.remove(id(2)));
        assert_eq!(register.changes(seen, register.version()), [Change::Present(&"A"), Change::Gone(id(2))]);
        assert_eq!(register.changes(0, register.version()), [Change::Present(&"A")], "nobody knew the other");
        assert_eq!(register.get(id(1)), Some(&"A"));
    }
}
