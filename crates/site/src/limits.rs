//! Bounds of the site that are not on the wire.

/// Rows of one page of a list. Longer lists are read page by page.
pub(crate) const PAGE: u32 = 1000;
