//! The rows of the table: what is asked of whom, in which manner.

use super::load::Manner;
use super::peer::{DIRECT, NGINX, NGINX_TLS, NGINX_TWICE, NGINX_TWICE_TLS, OURS};

/// Connections of the busy rows.
const BUSY: usize = 64;
/// Connections that make handshakes at a time.
const AT_ONCE: usize = 4;

/// A row, as it is named on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum RowId {
    /// GET of 1 KiB on 64 kept connections
    Get64,
    /// CCM_POST of 2 KiB on 64 kept connections
    Post64,
    /// GET of 1 KiB on one connection
    One,
    /// New connection, handshake, first answer
    Fresh,
    /// CPU of handshakes: ECDSA, RSA, resumed
    Handshake,
    /// 64 MiB in one stream
    Download,
    /// Small answers beside two downloads
    Beside,
    /// Memory of connections that idle
    Idle,
    /// The relay with a token to look at in every request, and without
    Auth,
    /// The relay with all limits counted, and with all of them off
    Limits,
    /// How cost grows with connections and with requests a second
    Growth,
}

impl RowId {
    /// All, in the order of the table.
    pub(super) const ALL: [Self; 11] = [
        Self::Get64,
        Self::Post64,
        Self::One,
        Self::Fresh,
        Self::Handshake,
        Self::Download,
        Self::Beside,
        Self::Idle,
        Self::Auth,
        Self::Limits,
        Self::Growth,
    ];
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// 1 KiB.
    Small,
    /// 64 MiB.
    Large,
    /// A message with a body.
    Message,
    /// 1 KiB of what a device may have by either proof: by its token.
    ByToken,
    /// The same without a token, by a certificate that is judged once for a connection.
    ByCertificate,
}

/// Which of a peer's ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    /// With an ECDSA certificate.
    Main,
    /// With an RSA certificate.
    Rsa,
    /// Asking for a client certificate, which only Roamgate's main port does by itself.
    Asking,
    /// Of another Roamgate whose gateway counts all limits.
    Limited,
}

/// One measurement of one peer.
#[derive(Debug, Clone)]
pub(super) struct Task {
    /// Name in the results.
    pub(super) series: &'static str,
    /// What is asked.
    pub(super) asked: Asked,
    /// How.
    pub(super) manner: TaskManner,
    /// Where.
    pub(super) port: Port,
    /// Whether the device's certificate is shown to a server that asks.
    pub(super) shows: bool,
}

/// A manner, before it is known whom it meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TaskManner {
    Kept(usize),
    /// So many requests a second, on as many connections as in busy rows.
    Paced(u32),
    Beside,
    Fresh {
        resume: bool,
    },
    Handshakes {
        resume: bool,
    },
    Idle,
}

impl TaskManner {
    /// For the load generator. `large` is what downloads ask for.
    pub(super) fn with(self, large: impl FnOnce() -> super::load::Ask) -> Manner {
        match self {
            Self::Kept(connections) => Manner::Kept { connections, per_second: None },
            Self::Paced(rate) => Manner::Kept { connections: BUSY, per_second: Some(rate) },
            Self::Beside => Manner::Beside { connections: BUSY, large: large(), downloads: 2 },
            Self::Fresh { resume } => Manner::Fresh { resume },
            Self::Handshakes { resume } => Manner::Handshakes { resume, at_once: AT_ONCE },
            Self::Idle => Manner::Idle { sizes: IDLE.to_vec() },
        }
    }
}

/// Numbers of idle connections between which memory is compared. What a process allots once is allotted at the
/// first of them.
pub(super) const IDLE: [usize; 2] = [500, 2500];
/// Growth by connections: series and number.
pub(super) const CONNECTIONS: [(&str, usize); 3] =
    [("growth-connections-1", 1), ("growth-connections-64", 64), ("growth-connections-1000", 1000)];
/// Growth by requests a second: series and number.
pub(super) const RATES: [(&str, u32); 3] =
    [("growth-rate-500", 500), ("growth-rate-2000", 2000), ("growth-rate-8000", 8000)];

/// What a row measures of a peer.
pub(super) fn tasks(row: RowId, peer: &str) -> Vec<Task> {
    let requests = |series, asked, manner| Task { series, asked, manner, port: Port::Main, shows: true };
    let handshakes = |series, resume, port, shows| Task {
        series,
        asked: Asked::Small,
        manner: TaskManner::Handshakes { resume },
        port,
        shows,
    };
    let ours = peer == OURS;
    let is_nginx = peer == NGINX;
    match row {
        RowId::Get64 => vec![requests("get64", Asked::Small, TaskManner::Kept(BUSY))],
        RowId::Post64 => vec![requests("post64", Asked::Message, TaskManner::Kept(BUSY))],
        RowId::One if ours || is_nginx || peer == NGINX_TLS => vec![
            requests("one", Asked::Small, TaskManner::Kept(1)),
            requests("post-one", Asked::Message, TaskManner::Kept(1)),
        ],
        RowId::One => vec![requests("one", Asked::Small, TaskManner::Kept(1))],
        RowId::Fresh => {
            let mut tasks = vec![requests("fresh", Asked::Small, TaskManner::Fresh { resume: false })];
            if ours || is_nginx {
                let resumed = TaskManner::Fresh { resume: true };
                tasks.push(requests("fresh-resumed", Asked::Small, resumed));
            }
            if is_nginx {
                // The same work as ours: it asks for the certificate, too.
                let port = Port::Asking;
                tasks.push(Task { series: "fresh-asked", port, ..tasks[0].clone() });
            }
            tasks
        }
        RowId::Handshake if ours || is_nginx => vec![
            handshakes("handshake-ecdsa", false, Port::Main, false),
            handshakes("handshake-rsa", false, Port::Rsa, false),
            handshakes("handshake-resumed", true, Port::Main, ours),
            handshakes("handshake-shown", false, if ours { Port::Main } else { Port::Asking }, true),
        ],
        RowId::Download => vec![requests("download", Asked::Large, TaskManner::Kept(1))],
        RowId::Beside if ours || is_nginx || peer == NGINX_TLS || peer == NGINX_TWICE => {
            vec![requests("beside", Asked::Small, TaskManner::Beside)]
        }
        // What is behind a connection that idles does not count: one nginx stands for all its arrangements.
        RowId::Idle if ![DIRECT, NGINX_TLS, NGINX_TWICE_TLS].contains(&peer) => {
            vec![requests("idle", Asked::Small, TaskManner::Idle)]
        }
        RowId::Auth if ours => vec![
            requests("auth-token", Asked::ByToken, TaskManner::Kept(BUSY)),
            requests("auth-certificate", Asked::ByCertificate, TaskManner::Kept(BUSY)),
        ],
        RowId::Limits if ours => {
            let off = requests("limits-off", Asked::Small, TaskManner::Kept(BUSY));
            vec![off.clone(), Task { series: "limits-on", port: Port::Limited, ..off }]
        }
        RowId::Growth if ours || is_nginx => {
            let connections = CONNECTIONS.map(|(series, number)| (series, TaskManner::Kept(number)));
            let all =
                connections.into_iter().chain(RATES.map(|(series, rate)| (series, TaskManner::Paced(rate))));
            all.map(|(series, manner)| requests(series, Asked::Small, manner)).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_measures_something_of_ours_and_no_series_stands_twice() {
        let mut seen = std::collections::BTreeSet::new();
        for row in RowId::ALL {
            let tasks = tasks(row, OURS);
            assert!(!tasks.is_empty(), "{row:?}");
            for task in tasks {
                assert!(seen.insert(task.series), "{}", task.series);
            }
        }
    }
}
