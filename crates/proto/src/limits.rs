//! Every bound on what a stranger may send, in one file.
//!
//! A bound that is not here is missing. Each says its unit, and what happens beyond it.

// --- HTTP ---

/// Longest request target (path and query) in bytes; longer is refused with 414 [ours].
/// The longest query seen is a policy id with its hash, some 130 bytes [observed].
pub const TARGET_BYTES: usize = 2048;
/// Largest client message in bytes, as sent; larger is refused with 413 [ours].
pub const MESSAGE_BYTES: usize = 5 * 1024 * 1024;
/// Longest token in bytes; longer is refused before anything is computed (R14).
/// A bulk registration token has some 860 [docs].
pub const TOKEN_BYTES: usize = 16 * 1024;
/// Longest value of one of our own request headers in bytes (certificates excepted).
pub const OWN_HEADER_BYTES: usize = 2048;
/// Longest certificate header in bytes: base64 of a chain of at most three certificates.
pub const CERTIFICATE_HEADER_BYTES: usize = 16 * 1024;

/// Certificates of a shown chain that are looked at (R3: no path is longer than six).
pub const CHAIN_CERTIFICATES: usize = 8;
/// Longest path from leaf to root, both counted (R3).
pub const PATH_CERTIFICATES: usize = 6;
/// Longest certificate of a shown chain in bytes; a longer one is not looked at. Two to four thousand
/// are usual; more only serves to make name constraints costly.
pub const CHAIN_CERTIFICATE_BYTES: usize = 16 * 1024;
/// Most extensions of one certificate of a path; a certificate with more is refused. Some ten are usual.
pub const CERTIFICATE_EXTENSIONS: usize = 64;
/// Most signatures that are checked while looking for paths of one chain. A chain without detours
/// needs one for each certificate below the root.
pub const PATH_SIGNATURES: usize = 24;
/// Most complete paths of one chain that are judged. One is usual, two where an authority was renewed.
pub const PATHS: usize = 6;

// --- what the site fetches (R6, R13) ---

/// Largest certificate revocation list in bytes: some 10⁶ serials.
pub const CRL_BYTES: usize = 48 * 1024 * 1024;
/// Most distribution point names that are read from one certificate or list. Two are usual.
pub const DISTRIBUTION_POINTS: usize = 16;
/// Longest distribution point name in characters; a longer one is passed over.
pub const DISTRIBUTION_POINT_CHARS: usize = 2048;
/// Largest key set of an identity provider in bytes. Entra's has some 20,000.
pub const KEY_SET_BYTES: usize = 1024 * 1024;
/// Most keys of one provider.
pub const KEY_SET_KEYS: usize = 100;

// --- names (R28) ---

/// Longest name of a device, role, gateway, operator or note in characters.
pub const NAME_CHARS: usize = 255;

// --- site to gateway ---

/// Largest signed snapshot or delta in bytes.
pub const SNAPSHOT_BYTES: usize = 64 * 1024 * 1024;
/// Largest message on the site link in bytes, other than a snapshot.
pub const LINK_MESSAGE_BYTES: usize = 1024 * 1024;

// --- one client message ---

/// Largest header part of a message in bytes of UTF-16; larger is refused. The largest
/// seen has some 5,600 bytes, most of it signatures [observed].
pub const MESSAGE_HEADER_BYTES: usize = 64 * 1024;
/// Largest header block of one part of an envelope in bytes; larger is refused.
pub const PART_HEADER_BYTES: usize = 2048;
/// Longest boundary of an envelope in characters (RFC 2046). The one in use has 26 [observed].
pub const BOUNDARY_CHARS: usize = 70;
/// Largest payload in bytes after inflating; inflating stops there and the message is refused (R49).
pub const INFLATED_BYTES: usize = 10 * 1024 * 1024;
/// Most hooks of one message; more are refused. Two is the most seen [observed].
pub const MESSAGE_HOOKS: usize = 8;
/// Most attachments that one message may name; more are refused. Two is the most seen [observed].
pub const MESSAGE_ATTACHMENTS: usize = 8;
/// Most properties of a header or hook; more are refused. Six is the most seen [observed].
pub const MESSAGE_PROPERTIES: usize = 32;

// --- XML ---

/// Longest XML document in bytes of UTF-8; longer is refused. UTF-16 at its limit is at
/// most half again as long.
pub const XML_CHARS: usize = INFLATED_BYTES / 2 * 3;
/// Deepest nesting of elements; deeper is refused (R50). Eight is the most seen [observed].
pub const XML_DEPTH: usize = 64;
/// Most elements and attributes of one document; more are refused. Bounds the tree to some
/// 20 MB; a full hardware inventory has some ten thousand.
pub const XML_NODES: usize = 100_000;
/// Most attributes of one element; more are refused. Fifteen is the most seen [observed].
pub const XML_ATTRIBUTES: usize = 64;
/// Longest single value taken from a document in characters, certificates and inventory
/// values excepted; longer is refused (R28). The longest seen is a policy location of 150 [observed].
pub const FIELD_CHARS: usize = 2048;

// --- bodies ---

/// Largest certificate in bytes of DER; larger is refused. Some 840 is usual [observed].
pub const CERTIFICATE_BYTES: usize = 8 * 1024;
/// Longest RSA signature in bytes: that of a 4096-bit key.
pub const SIGNATURE_BYTES: usize = 512;
/// Most discovery properties of a registration; more are refused. Five is the most seen [observed].
pub const DISCOVERY_PROPERTIES: usize = 64;
/// Longest value of a discovery property in characters; longer is refused (R28).
pub const DISCOVERY_VALUE_CHARS: usize = 512;
/// Longest list of gateways in a registration's answer, in bytes.
pub const CLOUD_GATEWAY_LIST_BYTES: usize = 64 * 1024;
/// Longest registration hint in characters; longer is refused. Some 1,650 is usual [observed].
pub const REGISTRATION_HINT_CHARS: usize = 8192;
/// Most policy assignments in one reply, and rules, actions or instances in one policy body.
pub const POLICY_ENTRIES: usize = 10_000;
/// Most entries of one list in a location request or reply (addresses, sites, records).
pub const LOCATION_ENTRIES: usize = 1_000;
/// Most state messages in one report; more are refused.
pub const STATE_MESSAGES: usize = 1_000;
/// Longest value of one inventory property in characters; longer is refused.
pub const INVENTORY_VALUE_CHARS: usize = 64 * 1024;
