//! Bounds of the site that are not on the wire.

/// Rows of one page of a list. Longer lists are read page by page.
pub(crate) const PAGE: u32 = 1000;
/// Approval rules of a site.
pub(crate) const APPROVAL_RULES: usize = 100;
/// Changes of the published snapshot that are kept for deltas; whoever is further behind gets a
/// whole snapshot.
pub(crate) const KEPT_CHANGES: i64 = 10_000;
/// Refused and slow requests that are kept for `roamgate trace`; the oldest go first.
pub(crate) const KEPT_EVENTS: i64 = 100_000;
/// Events of one link message that are taken.
pub(crate) const EVENTS_AT_ONCE: usize = 256;
/// Windows of counters that are kept in memory: a day of five minutes for a few gateways.
pub(crate) const KEPT_COUNTERS: usize = 2048;
/// Reports of one device and endpoint that are kept; a newer one takes the oldest's place (R57).
pub(crate) const KEPT_REPORTS: i64 = 10;
/// Reports that prove no sender that are kept in all.
pub(crate) const KEPT_ANONYMOUS_REPORTS: i64 = 10_000;
/// Devices whose last contact waits in memory for the next write.
pub(crate) const SEEN_IN_MEMORY: usize = 200_000;
/// Largest clear policy body in bytes of UTF-8.
pub(crate) const POLICY_BYTES: usize = 1024 * 1024;
/// Pairs of gateway and connection point whose state is kept.
pub(crate) const GATEWAY_STATES: usize = 10_000;
/// Device records that one write of last contacts covers; more are written one after the other.
pub(crate) const SEEN_AT_ONCE: usize = 10_000;
/// Longest report document that is stored, in bytes.
pub(crate) const REPORT_BYTES: usize = 8 * 1024 * 1024;
/// Longest heartbeat data on a device's record, in bytes of JSON.
pub(crate) const HEARTBEAT_BYTES: usize = 64 * 1024;
