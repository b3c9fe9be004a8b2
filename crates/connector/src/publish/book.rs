//! What is known of each gateway, and what follows from it. Pure: time is an argument, and what is to be said
//! to the site comes back as a value.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proto::id::Guid;
use proto::link::{GatewayState, GatewayTarget, Up};

/// First pause before a gateway's need is told to the site again; doubles.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Longest such pause.
const ASK_AGAIN_CAP: Duration = Duration::from_mins(1);
/// Least time between two askings on behalf of one gateway, whatever it says: a snapshot may be large.
const ASK_LEAST: Duration = Duration::from_secs(1);
/// Longest problem that is told, in characters.
const PROBLEM_CHARS: usize = 300;

/// All gateways. `T` is a tunnel that a publication can be sent through.
#[derive(Debug)]
pub(crate) struct Book<T> {
    gateways: HashMap<Guid, Row<T>>,
}

#[derive(Debug)]
struct Row<T> {
    /// In the order in which they came up.
    tunnels: Vec<(u64, T)>,
    shards: u16,
    version: u64,
    problem: Option<String>,
    asked: Option<Asked>,
}

/// The last time that a snapshot was asked for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    have: u64,
    at: Instant,
    times: u32,
}

/// A tunnel that was kept, and what its gateway said at first.
#[derive(Debug)]
pub(crate) struct Greeting<T> {
    /// Number of the tunnel.
    pub(crate) id: u64,
    /// The tunnel.
    pub(crate) tunnel: T,
    /// Shards that the gateway has.
    pub(crate) shards: u16,
    /// Version of the publication that it has; 0: none.
    pub(crate) version: u64,
}

impl<T> Default for Book<T> {
    fn default() -> Self {
        Self { gateways: HashMap::new() }
    }
}

impl<T> Default for Row<T> {
    fn default() -> Self {
        Self { tunnels: Vec::new(), shards: 0, version: 0, problem: None, asked: None }
    }
}

impl<T: Clone> Book<T> {
    /// Forgets gateways that are not listed, and has a row for each that is.
    pub(crate) fn retain(&mut self, gateways: &[GatewayTarget]) {
        self.gateways.retain(|id, _| gateways.iter().any(|gateway| gateway.gateway == *id));
        for gateway in gateways {
            self.gateways.entry(gateway.gateway).or_default();
        }
    }

    /// A tunnel was kept.
    pub(crate) fn up(&mut self, gateway: Guid, news: &Greeting<T>, latest: u64, now: Instant) -> Vec<Up> {
        let Some(row) = self.gateways.get_mut(&gateway) else { return Vec::new() };
        row.tunnels.push((news.id, news.tunnel.clone()));
        row.shards = news.shards;
        row.version = news.version;
        row.problem = None;
        let mut said = vec![row.state(gateway)];
        said.extend(row.ask_if_behind(latest, now));
        said
    }

    /// A tunnel that was kept is over, or takes no new requests.
    pub(crate) fn down(&mut self, gateway: Guid, id: u64, problem: &str) -> Vec<Up> {
        let Some(row) = self.gateways.get_mut(&gateway) else { return Vec::new() };
        let before = row.tunnels.len();
        row.tunnels.retain(|(kept, _)| *kept != id);
        if row.tunnels.len() == before {
            return Vec::new();
        }
        if row.tunnels.is_empty() {
            row.problem = Some(shortened(problem));
        }
        vec![row.state(gateway)]
    }

    /// A dial failed.
    pub(crate) fn failed(&mut self, gateway: Guid, problem: &str) -> Vec<Up> {
        let Some(row) = self.gateways.get_mut(&gateway) else { return Vec::new() };
        let problem = Some(shortened(problem));
        // Of a gateway with tunnels a failed dial says little: one shard may be restarting.
        if !row.tunnels.is_empty() || row.problem == problem {
            return Vec::new();
        }
        row.problem = problem;
        vec![row.state(gateway)]
    }

    /// The gateway says that `version` is in force there.
    pub(crate) fn acknowledged(&mut self, gateway: Guid, version: u64) -> Vec<Up> {
        let Some(row) = self.gateways.get_mut(&gateway) else { return Vec::new() };
        if row.version == version {
            return Vec::new();
        }
        row.version = version;
        row.asked = None;
        vec![row.state(gateway)]
    }

    /// The gateway could not use a publication, and has `have`.
    pub(crate) fn needs(&mut self, gateway: Guid, have: u64, now: Instant) -> Vec<Up> {
        let Some(row) = self.gateways.get_mut(&gateway) else { return Vec::new() };
        row.version = have;
        row.ask(now).into_iter().collect()
    }

    /// Asks again for gateways that are still behind. To be called every second.
    pub(crate) fn tick(&mut self, latest: u64, now: Instant) -> Vec<Up> {
        self.gateways.values_mut().filter_map(|row| row.ask_if_behind(latest, now)).collect()
    }

    /// The state of every gateway.
    pub(crate) fn states(&self) -> Vec<Up> {
        self.gateways.iter().map(|(gateway, row)| row.state(*gateway)).collect()
    }

    /// Everything to be said on a new site link: what was asked on an earlier one is lost.
    pub(crate) fn begin_link(&mut self, latest: u64, now: Instant) -> Vec<Up> {
        let mut said = self.states();
        for row in self.gateways.values_mut() {
            row.asked = None;
            said.extend(row.ask_if_behind(latest, now));
        }
        said
    }

    /// The tunnels of each gateway that is behind `version`.
    pub(crate) fn behind(&self, version: u64) -> Vec<(Guid, Vec<T>)> {
        let behind = self.gateways.iter().filter(|(_, row)| row.version < version && !row.tunnels.is_empty());
        behind
            .map(|(id, row)| (*id, row.tunnels.iter().map(|(_, tunnel)| tunnel.clone()).collect()))
            .collect()
    }
}

impl<T> Row<T> {
    fn state(&self, gateway: Guid) -> Up {
        Up::Gateway(GatewayState {
            gateway,
            tunnels: u16::try_from(self.tunnels.len()).unwrap_or(u16::MAX),
            shards: self.shards,
            version: self.version,
            problem: self.problem.clone(),
        })
    }

    fn ask_if_behind(&mut self, latest: u64, now: Instant) -> Option<Up> {
        (self.version < latest && !self.tunnels.is_empty()).then(|| self.ask(now)).flatten()
    }

    /// Asks for what this gateway lacks, unless that was asked a short while ago.
    fn ask(&mut self, now: Instant) -> Option<Up> {
        let have = self.version;
        let times = match self.asked {
            Some(asked) => {
                let again = asked.have == have;
                let pause = if again {
                    ASK_AGAIN.saturating_mul(1 << asked.times.min(8)).min(ASK_AGAIN_CAP)
                } else {
                    ASK_LEAST
                };
                if now.saturating_duration_since(asked.at) < pause {
                    return None;
                }
                if again { asked.times + 1 } else { 0 }
            }
            None => 0,
        };
        self.asked = Some(Asked { have, at: now, times });
        Some(Up::NeedSnapshot { have })
    }
}

fn shortened(problem: &str) -> String {
    problem.chars().filter(|c| !c.is_control()).take(PROBLEM_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: Guid = Guid::nil();

    fn book() -> Book<u32> {
        let mut book = Book::default();
        book.retain(&[GatewayTarget {
            gateway: GATEWAY,
            name: "gw".into(),
            address: "gw:443".into(),
            host: "gw".into(),
        }]);
        book
    }

    fn greeting(id: u64, version: u64) -> Greeting<u32> {
        Greeting { id, tunnel: 7, shards: 2, version }
    }

    fn asks(said: &[Up]) -> Vec<u64> {
        said.iter()
            .filter_map(|up| if let Up::NeedSnapshot { have } = up { Some(*have) } else { None })
            .collect()
    }

    #[test]
    fn a_gateway_that_is_behind_is_asked_for_at_once_and_one_that_is_not_is_left_alone() {
        let now = Instant::now();
        let mut book = book();
        assert_eq!(asks(&book.up(GATEWAY, &greeting(1, 3), 5, now)), [3]);
        assert_eq!(book.behind(5), [(GATEWAY, vec![7])]);
        book.acknowledged(GATEWAY, 5);
        assert!(book.behind(5).is_empty());
        assert!(asks(&book.up(GATEWAY, &greeting(2, 5), 5, now)).is_empty());
    }

    #[test]
    fn an_answer_that_does_not_come_is_asked_for_again_ever_more_slowly() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut book = book();
        book.up(GATEWAY, &greeting(1, 3), 5, start);
        let mut asked = Vec::new();
        for second in 1..=180 {
            if !book.tick(5, at(second)).is_empty() {
                asked.push(second);
            }
        }
        assert_eq!(asked, [5, 15, 35, 75, 135]);
    }

    #[test]
    fn a_gateway_that_keeps_saying_that_it_needs_a_snapshot_does_not_make_the_site_busy() {
        let start = Instant::now();
        let mut book = book();
        book.up(GATEWAY, &greeting(1, 5), 5, start);
        let mut asked = 0;
        for number in 0..10_000_u64 {
            let now = start + Duration::from_millis(number);
            asked += book.needs(GATEWAY, number, now).len();
        }
        assert_eq!(asked, 10, "once a second at most");
    }

    #[test]
    fn a_new_link_is_told_everything_and_asked_again() {
        let now = Instant::now();
        let mut book = book();
        book.up(GATEWAY, &greeting(1, 3), 5, now);
        let said = book.begin_link(5, now);
        assert_eq!(asks(&said), [3]);
        assert!(matches!(&said[0], Up::Gateway(state) if state.tunnels == 1 && state.shards == 2));
    }

    #[test]
    fn a_problem_is_told_when_no_tunnel_is_left_and_once() {
        let now = Instant::now();
        let mut book = book();
        book.up(GATEWAY, &greeting(1, 5), 5, now);
        book.up(GATEWAY, &greeting(2, 5), 5, now);
        assert!(book.failed(GATEWAY, "refused").is_empty());
        let [Up::Gateway(state)] = &book.down(GATEWAY, 1, "cut")[..] else { panic!("state") };
        assert_eq!((state.tunnels, &state.problem), (1, &None));
        let [Up::Gateway(state)] = &book.down(GATEWAY, 2, "cut\n")[..] else { panic!("state") };
        assert_eq!((state.tunnels, state.problem.as_deref()), (0, Some("cut")));
        assert!(book.down(GATEWAY, 2, "again").is_empty());
        assert_eq!(book.failed(GATEWAY, "refused").len(), 1);
        assert!(book.failed(GATEWAY, "refused").is_empty());
    }

    #[test]
    fn a_gateway_that_is_not_listed_is_forgotten() {
        let mut book = book();
        book.retain(&[]);
        assert!(book.up(GATEWAY, &greeting(1, 0), 5, Instant::now()).is_empty());
        assert!(book.states().is_empty());
    }
}
