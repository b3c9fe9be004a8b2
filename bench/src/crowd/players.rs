//! The players of a crowd: child processes that hold its connections, and what they have counted together.

use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use super::connection::{Credentials, GatewayFacts};
use super::player::{Count, Order, Plan};

/// Time between two looks at what was counted.
const LOOK: Duration = Duration::from_millis(250);

/// Time for an order to be followed by all.
const MARK: Duration = Duration::from_secs(10);

/// The players cannot play.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlayersError {
    /// One could not be started, or does not listen any more.
    #[error("a process of the crowd cannot be used")]
    Process(#[from] std::io::Error),
    /// An order could not be written down.
    #[error("an order cannot be written")]
    Order(#[from] serde_json::Error),
    /// One does not do what it is told.
    #[error("a process of the crowd does not follow orders")]
    Deaf,
    /// One ended.
    #[error("a process of the crowd ended ({0})")]
    Ended(std::process::ExitStatus),
}

/// How a crowd is put up.
pub(crate) struct Crowd {
    /// Gateways, among which connections are divided evenly.
    pub(crate) gateways: Vec<GatewayFacts>,
    /// As whom.
    pub(crate) credentials: Vec<Credentials>,
    /// Connections in all.
    pub(crate) connections: u32,
    /// Most connections of one process.
    pub(crate) per_process: u32,
    /// Time between two requests on a connection.
    pub(crate) poll: Duration,
}

/// Running players.
pub(crate) struct Players {
    children: Vec<Player>,
    marks: u32,
}

struct Player {
    child: Child,
    input: ChildStdin,
    latest: Arc<Mutex<Count>>,
}

impl Players {
    /// Starts as many processes as the crowd needs; nobody connects yet.
    pub(crate) async fn start(crowd: Crowd) -> Result<Self, PlayersError> {
        let processes = processes(crowd.connections, crowd.per_process, crowd.gateways.len());
        let mut children = Vec::new();
        for (number, first) in first_numbers(crowd.connections, processes).into_iter().enumerate() {
            let Some(gateway) = crowd.gateways.get(number % crowd.gateways.len().max(1)) else { break };
            let plan = Plan {
                gateway: gateway.clone(),
                credentials: crowd.credentials.clone(),
                first,
                poll_ms: u64::try_from(crowd.poll.as_millis()).unwrap_or(u64::MAX),
            };
            children.push(Player::start(&plan).await?);
        }
        Ok(Self { children, marks: 0 })
    }

    /// Opens connections until there are so many in all, so many new ones in a second.
    pub(crate) async fn hold(&mut self, connections: u32, per_second: f64) -> Result<(), PlayersError> {
        let processes = u32::try_from(self.children.len()).unwrap_or(u32::MAX).max(1);
        for (number, player) in (0..).zip(&mut self.children) {
            let order = Order::Hold {
                connections: share(connections, processes, number),
                per_second: per_second / f64::from(processes),
            };
            player.tell(&order).await?;
        }
        Ok(())
    }

    /// Counts seconds from now on, and who is back. All have begun to when this returns.
    pub(crate) async fn mark(&mut self) -> Result<(), PlayersError> {
        self.marks += 1;
        for player in &mut self.children {
            player.tell(&Order::Mark).await?;
        }
        let began = Instant::now();
        while self.children.iter().any(|player| player.latest().marks < self.marks) {
            if began.elapsed() > MARK {
                return Err(PlayersError::Deaf);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// What all have counted, as of a second ago at most. An error when one has ended.
    pub(crate) fn count(&mut self) -> Result<Count, PlayersError> {
        let mut sum = Count::default();
        for player in &mut self.children {
            if let Some(status) = player.child.try_wait()? {
                return Err(PlayersError::Ended(status));
            }
            sum.merge(&player.latest());
        }
        Ok(sum)
    }

    /// Waits until the count is as wanted, at most so long; the last count, and whether it is.
    pub(crate) async fn wait_for(
        &mut self,
        limit: Duration,
        is_there: impl Fn(&Count) -> bool,
    ) -> Result<(Count, bool), PlayersError> {
        let began = Instant::now();
        loop {
            let count = self.count()?;
            if is_there(&count) {
                return Ok((count, true));
            }
            if began.elapsed() > limit {
                return Ok((count, false));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends all: their input closes, and the connections with them.
    pub(crate) async fn end(self) -> Result<(), PlayersError> {
        for Player { mut child, input, .. } in self.children {
            drop(input);
            child.wait().await?;
        }
        Ok(())
    }
}

impl Player {
    async fn start(plan: &Plan) -> Result<Self, PlayersError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["crowd", "player"]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let missing = || std::io::Error::other("a pipe is missing");
        let mut input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        let latest = Arc::new(Mutex::new(Count::default()));
        let kept = Arc::clone(&latest);
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            // Ends with the process, whose end is noticed elsewhere.
            while let Ok(Some(line)) = lines.next_line().await {
                if let Ok(count) = serde_json::from_str(&line) {
                    *kept.lock().unwrap_or_else(PoisonError::into_inner) = count;
                }
            }
        });
        write_line(&mut input, &serde_json::to_string(plan)?).await?;
        Ok(Self { child, input, latest })
    }

    fn latest(&self) -> MutexGuard<'_, Count> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn tell(&mut self, order: &Order) -> Result<(), PlayersError> {
        Ok(write_line(&mut self.input, &serde_json::to_string(order)?).await?)
    }
}

async fn write_line(input: &mut ChildStdin, line: &str) -> std::io::Result<()> {
    input.write_all(line.as_bytes()).await?;
    input.write_all(b"\n").await?;
    input.flush().await
}

/// As many processes as the connections need, and the same number for each gateway.
fn processes(connections: u32, per_process: u32, gateways: usize) -> u32 {
    let gateways = u32::try_from(gateways).unwrap_or(1).max(1);
    connections.div_ceil(per_process.max(1)).max(1).next_multiple_of(gateways)
}

/// How many of all fall to process `number`.
fn share(all: u32, processes: u32, number: u32) -> u32 {
    all / processes + u32::from(number < all % processes)
}

/// The number of each process's first connection.
fn first_numbers(all: u32, processes: u32) -> Vec<u32> {
    let shares = (0..processes).map(|number| share(all, processes, number));
    shares
        .scan(0, |next, share| {
            let first = *next;
            *next += share;
            Some(first)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_divided_without_one_lost_or_held_twice() {
        for (all, processes) in [(20_000, 3), (7, 8), (19_953, 2), (0, 1)] {
            let sum: u32 = (0..processes).map(|number| share(all, processes, number)).sum();
            assert_eq!(sum, all);
            let firsts = first_numbers(all, processes);
            for (number, pair) in (0..).zip(firsts.windows(2)) {
                assert_eq!(pair[1] - pair[0], share(all, processes, number));
            }
        }
    }

    #[test]
    fn every_gateway_gets_the_same_number_of_processes() {
        assert_eq!(processes(20_000, 10_000, 1), 2);
        assert_eq!(processes(30_000, 10_000, 2), 4);
        assert_eq!(processes(1, 10_000, 2), 2);
        assert_eq!(processes(0, 10_000, 1), 1);
    }
}
