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
/// Authorities whose client certificates are trusted.
pub(crate) const AUTHORITIES: usize = 200;
/// Onboarded tenants.
pub(crate) const TENANTS: usize = 100;
/// On-premises directories.
pub(crate) const DIRECTORIES: usize = 100;
/// Entries of the list of expected devices.
pub(crate) const EXPECTED_DEVICES: u64 = 1_000_000;
/// Users or computers of a discovery that one transaction takes.
pub(crate) const FOUND_AT_ONCE: usize = 1000;
/// Longest text about what a fetch or a discovery met, in characters.
pub(crate) const PROBLEM_CHARS: usize = 500;
/// Distribution points that are remembered of one issuer.
pub(crate) const CRL_URLS: u64 = 8;
/// Longest file with authorities, in bytes.
pub(crate) const AUTHORITY_FILE: usize = 4 * 1024 * 1024;
/// Knockers with dead credentials that wait in memory for the next write.
pub(crate) const KNOCKS_IN_MEMORY: usize = 10_000;
/// Knockers with dead credentials that are kept; strangers and the oldest go first.
pub(crate) const KEPT_STRANDED: i64 = 10_000;
/// Custom client settings.
pub(crate) const CLIENT_SETTINGS: usize = 1_000;
/// Collections that one object of client settings is aimed at, or not for.
pub(crate) const TARGETS: usize = 100;
/// Revoked certificates on the lists of all issuers together: what fits into a snapshot.
pub(crate) const REVOKED: usize = 1_500_000;
/// A change of this many bytes makes all before it not worth keeping: whoever is behind gets a whole
/// snapshot sooner.
pub(crate) const LARGE_CHANGE: usize = 1024 * 1024;
