//! Exit codes, one list for every command of Roamgate. Stable: scripts rely on them.

use std::process::ExitCode;

/// How a command ended. `docs/operating.md` lists the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Something failed that should not: please report it.
    Bug = 1,
    /// The command line, a value or a configuration file is wrong.
    Usage = 2,
    /// What was named does not exist.
    NotFound = 3,
    /// The site, the gateway or the system refused.
    Refused = 4,
    /// It collides with what is there already.
    Conflict = 5,
    /// Nobody answered.
    Unreachable = 6,
    /// A check found problems.
    Problems = 7,
    /// Partly done, as a device that is registered and waits for approval.
    Partly = 8,
    /// Not in time.
    TimedOut = 9,
}

impl Exit {
    /// The word that stands above the message.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Partly => "partly-done",
            Self::Bug => "bug",
            Self::Usage => "usage",
            Self::NotFound => "not-found",
            Self::Refused => "refused",
            Self::Conflict => "conflict",
            Self::Unreachable => "unreachable",
            Self::Problems => "problems",
            Self::TimedOut => "timed-out",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
