//! Users and computers of an on-premises directory, by LDAP.
//!
//! ```text
//! Session::open(source, clock)? ─► .mark()            where the next delta will begin
//!                               ─► .users(Since)      ─► Search ─► .next() ─► a page … None
//!                               ─► .computers(Since)  likewise
//! ```
//! Active Directory numbers its changes (`uSNChanged`), each domain controller by itself; other
//! directories date them (`modifyTimestamp`). Deletions are in neither: only a full run sees them.

mod entry;
mod error;
mod mark;
mod search;
mod session;
mod sid;

pub use entry::{Computer, Person};
pub use error::DirectoryError;
pub use mark::Mark;
pub use search::Search;
pub use session::{DirectorySource, Session};
