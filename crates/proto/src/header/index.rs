//! Names found by their length first: each request has a dozen headers, and most lists as many names.

/// Names in lower case, sorted by length.
#[derive(Debug)]
pub(crate) struct Index {
    by_length: Vec<Vec<(u8, &'static str)>>,
}

impl Index {
    /// Of at most 255 names; each is found with its place among them.
    pub(crate) fn new(names: impl IntoIterator<Item = &'static str>) -> Self {
        let names: Vec<_> = (0..u8::MAX).zip(names).collect();
        let longest = names.iter().map(|(_, name)| name.len()).max().unwrap_or(0);
        let of_length = |length| names.iter().filter(|(_, name)| name.len() == length).copied().collect();
        Self { by_length: (0..=longest).map(of_length).collect() }
    }

    /// The name that `name` is, whatever its case, and its place.
    pub(crate) fn find(&self, name: &str) -> Option<(u8, &'static str)> {
        let alike = self.by_length.get(name.len())?;
        alike.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).copied()
    }
}
