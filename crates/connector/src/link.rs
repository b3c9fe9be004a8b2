//! The site link: an HTTPS connection to the site, upgraded to messages both ways. Kept up by dialling again;
//! device traffic does not depend on it.

mod frame;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use proto::limits;
use proto::link::{Down, LINK_PATH, LINK_PROTOCOL, SITE_NAME, Up};
use proto::trust::Purpose;
use runtime::backoff;
use runtime::telemetry::Chain;
use rustls::version::TLS13;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::context::Context;
use crate::log::COMPONENT;
use crate::peer::{DIAL_TIMEOUT, DialError, Peer, Trust, dial_tls, server_name};
use frame::FrameError;

/// First pause after a failure is a random part of this.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause: after an outage of any length the link is back well within ten seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// Time between two signs of life of ours.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Bytes taken from the connection at once; the largest snapshot is megabytes.
const READ_AHEAD: usize = 16 * 1024;
/// Time for what waits when the process stops.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why there is no link, or none any more.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
    #[error("the site cannot be reached")]
    Dial(#[source] DialError),
    #[error("the site link does not speak HTTP")]
    Http(#[source] hyper::Error),
    #[error("the site did not open a link: status {0}")]
    Status(StatusCode),
    #[error("the site did not answer within {} seconds", DIAL_TIMEOUT.as_secs())]
    Silent,
    #[error("the site link broke")]
    Frame(#[source] FrameError),
    #[error("the site closed the link")]
    Closed,
}

/// Keeps the link up until `stop`.
pub(crate) async fn keep_link(context: Arc<Context>, stop: CancellationToken) {
    let mut failures = 0;
    let mut told = None;
    for address in context.site_links.iter().cycle() {
        let mut was_up = false;
        let session = session(&context, address, &mut was_up, &mut told, &stop);
        let outcome = tokio::select! {
            outcome = session => outcome,
            // A link that is up ends by itself, after its last words.
            () = until_stopped_while_down(&context, &stop) => return,
        };
        context.uplink.end();
        let error = match outcome {
            Ok(()) => return,
            Err(error) => Chain(&error).to_string(),
        };
        failures = if was_up { 0 } else { failures + 1 };
        if told.as_ref() != Some(&error) {
            warn!(component = COMPONENT, address, %error, "no site link");
            told = Some(error);
        }
        let pause = backoff::next(failures, FIRST_PAUSE, LONGEST_PAUSE, runtime::id::random());
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn until_stopped_while_down(context: &Context, stop: &CancellationToken) {
    stop.cancelled().await;
    if context.uplink.has_link() {
        std::future::pending::<()>().await;
    }
}

/// One connection, from dialling to its end. `Ok`: the process stops.
async fn session(
    context: &Arc<Context>,
    address: &str,
    was_up: &mut bool,
    told: &mut Option<String>,
    stop: &CancellationToken,
) -> Result<(), LinkError> {
    let upgraded =
        timeout(DIAL_TIMEOUT * 2, open(context, address)).await.map_err(|_| LinkError::Silent)??;
    let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
    *was_up = true;
    *told = None;
    info!(component = COMPONENT, address, "site link up");
    let version = context.known.version();
    let hello = Up::Hello { program: env!("CARGO_PKG_VERSION").to_owned(), version };
    context.uplink.begin(std::iter::once(hello).chain(context.publisher.begin_link(version)));
    tokio::select! {
        outcome = read_all(context, &mut reader) => outcome,
        outcome = write_all(context, &mut writer, stop) => outcome,
    }
}

/// Dials, and asks for the upgrade.
async fn open(context: &Context, address: &str) -> Result<Upgraded, LinkError> {
    let name = server_name(SITE_NAME).map_err(LinkError::Dial)?;
    let peer = Peer {
        trust: Trust::Site { root: Arc::clone(&context.root), purpose: Purpose::LinkSite },
        name: name.clone(),
        withdrawn: context.known.withdrawn(),
        clock: context.clock.clone(),
    };
    let tls = peer.tls(Some(&context.certificate), &[&TLS13], None).map_err(LinkError::Setup)?;
    let connection = dial_tls(address, name, tls, READ_AHEAD).await.map_err(LinkError::Dial)?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(connection)).await.map_err(LinkError::Http)?;
    // Ends with the upgrade, or with the answer's error.
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = http::Uri::from_static(LINK_PATH);
    for (name, value) in [(HOST, SITE_NAME), (CONNECTION, "Upgrade"), (UPGRADE, LINK_PROTOCOL)] {
        request.headers_mut().insert(name, http::HeaderValue::from_static(value));
    }
    let answer = sender.send_request(request).await.map_err(LinkError::Http)?;
    let agreed = answer.headers().get(UPGRADE).is_some_and(|protocol| protocol == LINK_PROTOCOL);
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS || !agreed {
        return Err(LinkError::Status(answer.status()));
    }
    hyper::upgrade::on(answer).await.map_err(LinkError::Http)
}

async fn read_all(context: &Arc<Context>, reader: &mut ReadHalf<TokioIo<Upgraded>>) -> Result<(), LinkError> {
    loop {
        match frame::read(reader, limits::SNAPSHOT_BYTES, frame::SILENCE).await.map_err(LinkError::Frame)? {
            None => return Err(LinkError::Closed),
            // A sign of life.
            Some(message) if message.is_empty() => {}
            Some(message) => match serde_json::from_slice(&message) {
                Ok(message) => take(context, message).await,
                // What a later version of the site says besides is not for us.
                Err(error) => {
                    warn!(component = COMPONENT, error = %Chain(&error), "message of the site not understood");
                }
            },
        }
    }
}

/// Does what the site says, and writes it down.
async fn take(context: &Arc<Context>, message: Down) {
    let shared = Arc::clone(context);
    // Certificates are read and the state is written: neither is for a reactor.
    let saved = tokio::task::spawn_blocking(move || {
        let (context, known) = (&shared, &shared.known);
        match message {
            Down::Publication { version, signed, .. } => {
                known.set_version(version);
                context.publisher.publish(version, signed);
            }
            Down::Gateways { gateways } => known.set_gateways(gateways),
            Down::Roles { roles } => known.set_roles(roles, |roles| {
                // Which certificate a role is shown follows from whom that role trusts.
                context.role_certificates.refresh(roles, context.now());
            }),
            Down::Withdrawn { thumbprints } => known.set_withdrawn(thumbprints),
        }
        known.save()
    })
    .await;
    if let Ok(Err(error)) = saved {
        error!(component = COMPONENT, error = %Chain(&error), "what the site said is not kept for a restart");
    }
}

async fn write_all(
    context: &Context,
    writer: &mut WriteHalf<TokioIo<Upgraded>>,
    stop: &CancellationToken,
) -> Result<(), LinkError> {
    let mut keep_alive = interval(KEEP_ALIVE);
    keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            message = context.uplink.next() => message,
            _ = keep_alive.tick() => Bytes::new(),
            () = stop.cancelled() => break,
        };
        frame::write(writer, &message).await.map_err(LinkError::Frame)?;
    }
    let last_words = async {
        while let Some(message) = context.uplink.try_next() {
            frame::write(writer, &message).await?;
        }
        writer.shutdown().await.map_err(FrameError::Io)
    };
    // Reports are lost at worst; the site sees the end of the connection either way.
    let _ = timeout(LAST_WORDS, last_words).await;
    Ok(())
}
