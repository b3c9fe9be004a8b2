//! One keeper a gateway: dials until every shard has a tunnel, and again when one is lost.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use proto::id::{Guid, Thumbprint};
use proto::link::{self, FromGateway, GatewayTarget};
use proto::trust::Purpose;
use runtime::Drain;
use runtime::telemetry::Chain;
use rustls::ClientConfig;
use rustls::version::TLS13;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::context::Context;
use crate::counters::RecentRows;
use crate::coverage::{Coverage, Verdict};
use crate::events;
use crate::forward::{self, Passage};
use crate::log::COMPONENT;
use crate::peer::{DialError, Peer, Trust, dial_tls, server_name};
use crate::publish::book::Greeting;
use crate::stream::RequestStream;
use crate::tunnel::{Ended, Handler, Tunnel, drive, peer_of};
use crate::workers::Seat;

/// News of tunnels that wait for their keeper. A few a tunnel.
const NEWS: usize = 64;
/// Bytes taken at once from a tunnel's connection: what a hundred requests bring that arrive together.
const READ_AHEAD: usize = 64 * 1024;
/// Reports (counters, events) that are taken from one tunnel in a second; more are dropped. A gateway needs one
/// every few seconds.
const REPORTS_PER_SECOND: u32 = 8;

/// Keeps tunnels to every gateway of the latest list, until the drain; then says goodbye to all, and returns when
/// their requests have ended.
pub(crate) async fn keep_gateways(context: Arc<Context>, drain: Drain) {
    let mut lists = context.known.gateways();
    let mut keepers: HashMap<Guid, (GatewayTarget, CancellationToken)> = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let list = lists.borrow_and_update().clone();
        context.publisher.set_gateways(&list);
        keepers.retain(|id, (target, stop)| {
            let stays = list.iter().any(|listed| listed.gateway == *id && listed == target);
            if !stays {
                stop.cancel();
            }
            stays
        });
        for target in list.iter() {
            if let Entry::Vacant(place) = keepers.entry(target.gateway) {
                let stop = CancellationToken::new();
                place.insert((target.clone(), stop.clone()));
                tasks.spawn(drain.track(keep(Arc::clone(&context), target.clone(), stop, drain.clone())));
            }
        }
        tokio::select! {
            () = drain.started() => break,
            // The sender lives in the context that is held here.
            _ = lists.changed() => {}
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// What a tunnel's task tells its keeper.
enum News {
    /// The gateway named the shard.
    Greeted { id: u64, tunnel: Arc<Tunnel>, shard: u16, shards: u16, version: u64 },
    /// It takes no new requests.
    Leaving { id: u64 },
    /// It is over, or was never made.
    Over { id: u64, ended: Ended },
}

struct Keeper {
    context: Arc<Context>,
    target: Arc<GatewayTarget>,
    tls: Arc<ClientConfig>,
    drain: Drain,
    sender: mpsc::Sender<News>,
    coverage: Coverage,
    /// Tunnels that have named their shard and are not over, with the certificate at their other end.
    tunnels: HashMap<u64, Arc<Tunnel>>,
    /// Tasks that have not named a shard yet.
    dialling: Vec<u64>,
    not_before: Instant,
    /// The problem that was logged last, so that it is logged once.
    told: Option<String>,
}

async fn keep(context: Arc<Context>, target: GatewayTarget, stop: CancellationToken, drain: Drain) {
    let tls = match tunnel_tls(&context, &target) {
        Ok(tls) => tls,
        Err(error) => {
            warn!(component = COMPONENT, gateway = %target.name, error = %Chain(&error), "TLS cannot be set up");
            return;
        }
    };
    let (sender, mut news) = mpsc::channel(NEWS);
    let keeper = Keeper {
        context,
        target: Arc::new(target),
        tls,
        drain: drain.clone(),
        sender,
        coverage: Coverage::default(),
        tunnels: HashMap::new(),
        dialling: Vec::new(),
        not_before: Instant::now(),
        told: None,
    };
    keeper.run(&mut news, &stop).await;
}

fn tunnel_tls(context: &Context, target: &GatewayTarget) -> Result<Arc<ClientConfig>, TlsError> {
    let peer = Peer {
        trust: Trust::Site { root: Arc::clone(&context.root), purpose: Purpose::LinkGateway },
        name: server_name(&link::gateway_name(target.gateway))?,
        withdrawn: context.known.withdrawn(),
        clock: context.clock.clone(),
    };
    Ok(peer.tls(Some(&context.certificate), &[&TLS13], Some(link::TUNNEL_ALPN))?)
}

/// Why no gateway can be dialled at all.
#[derive(Debug, thiserror::Error)]
enum TlsError {
    #[error(transparent)]
    Name(#[from] DialError),
    #[error(transparent)]
    Setup(#[from] rustls::Error),
}

impl Keeper {
    async fn run(mut self, news: &mut mpsc::Receiver<News>, stop: &CancellationToken) {
        loop {
            let wanted = self.coverage.wanted(self.dialling.len());
            if wanted > 0 && Instant::now() >= self.not_before {
                (0..wanted).for_each(|_| self.dial());
            }
            let waits = self.coverage.wanted(self.dialling.len()) > 0;
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.drain.started() => break,
                // This keeper holds a sender itself.
                Some(told) = news.recv() => self.hear(told),
                () = sleep_until(self.not_before), if waits => {}
            }
        }
        self.leave(news).await;
    }

    /// Starts the task of one more tunnel.
    fn dial(&mut self) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let Some(seat) = self.context.workers.seat() else { return };
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        self.dialling.push(id);
        let handle = seat.worker().handle.clone();
        let task = TunnelTask {
            id,
            context: Arc::clone(&self.context),
            target: Arc::clone(&self.target),
            seat,
            sender: self.sender.clone(),
        };
        handle.spawn(self.drain.track(task.run(Arc::clone(&self.tls))));
    }

    fn hear(&mut self, news: News) {
        let (context, gateway) = (Arc::clone(&self.context), self.target.gateway);
        match news {
            News::Greeted { id, tunnel, shard, shards, version } => {
                self.dialling.retain(|dialled| *dialled != id);
                match self.coverage.reached(id, shard, shards) {
                    Verdict::Keep => {
                        self.told = None;
                        info!(component = COMPONENT, gateway = %self.target.name, shard, shards, version, "tunnel up");
                        self.tunnels.insert(id, Arc::clone(&tunnel));
                        let greeting = Greeting { id, tunnel, shards, version };
                        context.publisher.up(&context.uplink, context.known.version(), gateway, &greeting);
                    }
                    Verdict::Surplus => tunnel.goodbye("this shard has a tunnel"),
                    Verdict::Nonsense => {
                        self.tell("the gateway named a shard that cannot be");
                        tunnel.goodbye("no such shard");
                    }
                }
                self.pause();
            }
            News::Leaving { id } => self.lost(id, "the gateway is stopping"),
            News::Over { id, ended } => {
                let problem = Chain(&ended).to_string();
                if self.dialling.contains(&id) {
                    self.dialling.retain(|dialled| *dialled != id);
                    self.coverage.failed();
                    self.tell(&problem);
                    context.publisher.change(&context.uplink, |book, _| book.failed(gateway, &problem));
                    self.pause();
                } else {
                    self.lost(id, &problem);
                }
            }
        }
    }

    fn lost(&mut self, id: u64, problem: &str) {
        self.tunnels.remove(&id);
        if self.coverage.lost(id) {
            self.tell(problem);
            let gateway = self.target.gateway;
            self.context.publisher.change(&self.context.uplink, |book, _| book.down(gateway, id, problem));
            self.pause();
        }
    }

    fn pause(&mut self) {
        self.not_before = Instant::now() + self.coverage.pause(runtime::id::random());
    }

    fn tell(&mut self, problem: &str) {
        if self.told.as_deref() != Some(problem) {
            self.told = Some(problem.to_owned());
            warn!(component = COMPONENT, gateway = %self.target.name, address = %self.target.address, error = problem, "no tunnel to the gateway");
        }
    }

    /// Says goodbye and waits for what is under way: until the drain's deadline, or as long as a request may
    /// take when only this gateway is left.
    async fn leave(mut self, news: &mut mpsc::Receiver<News>) {
        for tunnel in self.tunnels.values() {
            tunnel.goodbye("the connection point is leaving");
        }
        let by = Instant::now() + self.context.request_timeout.saturating_add(Duration::from_secs(1));
        while !(self.tunnels.is_empty() && self.dialling.is_empty()) {
            let heard = if self.drain.has_started() {
                news.recv().await
            } else {
                timeout_at(by, news.recv()).await.unwrap_or(None)
            };
            match heard {
                None => break,
                // Dialled just before the end.
                Some(News::Greeted { id, tunnel, .. }) => {
                    tunnel.goodbye("the connection point is leaving");
                    self.dialling.retain(|dialled| *dialled != id);
                    self.tunnels.insert(id, tunnel);
                }
                Some(News::Leaving { .. }) => {}
                Some(News::Over { id, .. }) => {
                    self.dialling.retain(|dialled| *dialled != id);
                    self.tunnels.remove(&id);
                }
            }
        }
        self.tunnels.values().for_each(|tunnel| tunnel.close(Ended::NotListed));
    }
}

/// The task of one tunnel, on the thread where its requests run.
struct TunnelTask {
    id: u64,
    context: Arc<Context>,
    target: Arc<GatewayTarget>,
    seat: Seat,
    sender: mpsc::Sender<News>,
}

impl TunnelTask {
    async fn run(self, tls: Arc<ClientConfig>) {
        let ended = match self.tunnel(tls).await {
            Ok(ended) | Err(ended) => ended,
        };
        // Nobody listens after the keeper has left.
        let _ = self.sender.send(News::Over { id: self.id, ended }).await;
    }

    async fn tunnel(&self, tls: Arc<ClientConfig>) -> Result<Ended, Ended> {
        let name = server_name(&link::gateway_name(self.target.gateway))?;
        let connection = dial_tls(&self.target.address, name, tls, READ_AHEAD).await?;
        let peer = peer_of(&connection)?;
        let tunnel = Tunnel::new(self.context.max_requests.into());
        let handler = GatewayHandler {
            id: self.id,
            passage: Arc::new(Passage {
                context: Arc::clone(&self.context),
                gateway: Arc::clone(&self.target),
                worker: Arc::clone(self.seat.worker()),
                rows: RecentRows::default(),
            }),
            tunnel: Arc::clone(&tunnel),
            sender: self.sender.clone(),
            second: Instant::now(),
            reports: 0,
        };
        let drive = drive(Arc::clone(&tunnel), connection, handler);
        let withdrawal = self.watch_withdrawal(peer, &tunnel);
        tokio::select! {
            ended = drive => Ok(ended),
            never = withdrawal => match never {},
        }
    }

    /// Ends the tunnel when its gateway's certificate is withdrawn.
    async fn watch_withdrawal(&self, peer: Thumbprint, tunnel: &Tunnel) -> std::convert::Infallible {
        let mut changed = self.context.known.withdrawn_changed();
        let withdrawn = self.context.known.withdrawn();
        loop {
            if withdrawn.load().contains(&peer) {
                tunnel.close(Ended::Withdrawn);
            }
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Takes what comes out of one tunnel.
struct GatewayHandler {
    id: u64,
    passage: Arc<Passage>,
    tunnel: Arc<Tunnel>,
    sender: mpsc::Sender<News>,
    /// Beginning of the second in which `reports` came.
    second: Instant,
    reports: u32,
}

impl GatewayHandler {
    /// Passes news on without waiting: a keeper that is that far behind will see the end of the tunnel.
    fn tell(&self, news: News) -> bool {
        self.sender.try_send(news).is_ok()
    }

    fn may_report(&mut self) -> bool {
        let now = Instant::now();
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            (self.second, self.reports) = (now, 0);
        }
        self.reports += 1;
        self.reports <= REPORTS_PER_SECOND
    }
}

impl Handler for GatewayHandler {
    fn request(&mut self, stream: RequestStream, head: Bytes, no_body: bool) {
        tokio::spawn(forward::run(Arc::clone(&self.passage), stream, head, no_body));
    }

    fn control(&mut self, message: FromGateway) -> bool {
        let passage = Arc::clone(&self.passage);
        let (context, gateway) = (&passage.context, passage.gateway.gateway);
        match message {
            FromGateway::Hello { shard, shards, version } => {
                let tunnel = Arc::clone(&self.tunnel);
                return self.tell(News::Greeted { id: self.id, tunnel, shard, shards, version });
            }
            FromGateway::Ack { version } => {
                context.publisher.change(&context.uplink, |book, _| book.acknowledged(gateway, version));
            }
            FromGateway::NeedSnapshot { have } => {
                context.publisher.change(&context.uplink, |book, now| book.needs(gateway, have, now));
            }
            FromGateway::Counters { from, to, endpoints } if self.may_report() => {
                let endpoints = events::counters_of_gateway(endpoints);
                let counters = link::Up::Counters { gateway: Some(gateway), from, to, endpoints };
                context.uplink.report(&counters);
            }
            FromGateway::Events { events } if self.may_report() => {
                context.uplink.report(&events::of_gateway(events));
            }
            FromGateway::WantKeys { tenant } if self.may_report() => {
                context.uplink.state([link::Up::WantKeys { tenant }]);
            }
            FromGateway::Counters { .. } | FromGateway::Events { .. } | FromGateway::WantKeys { .. } => {}
        }
        true
    }

    fn leaving(&mut self, text: &str) {
        info!(component = COMPONENT, gateway = %self.passage.gateway.name, text, "the gateway takes no new requests on this tunnel");
        self.tell(News::Leaving { id: self.id });
    }
}
