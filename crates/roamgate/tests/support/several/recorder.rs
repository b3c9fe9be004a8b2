//! A role inside that writes down which numbered request reached it, how often, by which connection point, and
//! whether all of it came.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::load::Kind;
use super::organisation::Organisation;

/// What an ordinary answer takes.
const WORK: Duration = Duration::from_millis(10);

/// What reached the role of one request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrived {
    /// What it is, by its head.
    pub(crate) kind: Option<Kind>,
    /// By which connection points its head came, in this order.
    pub(crate) by: Vec<String>,
    /// How often all of it came.
    pub(crate) whole: usize,
    /// How often it was answered to the end, as far as the role knows.
    pub(crate) answered: usize,
}

impl Arrived {
    /// Whether the role works on it.
    fn is_under_way(&self) -> bool {
        self.answered < self.by.len()
    }
}

#[derive(Default)]
struct Book {
    arrived: HashMap<u64, Arrived>,
    /// Names and process ids of the connection points.
    points: Vec<(String, u32)>,
}

/// The role.
#[derive(Clone)]
pub(crate) struct Recorder {
    book: Arc<Mutex<Book>>,
    /// Whether it answers; while it does not, requests wait.
    gate: Arc<watch::Sender<bool>>,
    pub(crate) address: SocketAddr,
}

impl Recorder {
    /// Starts it behind TLS, with a certificate of this organisation.
    pub(crate) async fn start(organisation: &Organisation) -> Self {
        let tls = TlsAcceptor::from(Arc::new(server(organisation)));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (gate, _) = watch::channel(true);
        let recorder = Self { book: Arc::default(), gate: Arc::new(gate), address };
        let accepting = recorder.clone();
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                tokio::spawn(accepting.clone().serve(stream, peer, tls.clone()));
            }
        });
        recorder
    }

    /// Says which processes are connection points.
    pub(crate) fn know(&self, points: Vec<(String, u32)>) {
        self.book.lock().expect("no panic").points = points;
    }

    /// Has requests wait, or lets them go on.
    pub(crate) fn hold(&self, held: bool) {
        self.gate.send_replace(!held);
    }

    /// What came of the requests of these numbers.
    pub(crate) fn arrived(&self, from: u64) -> HashMap<u64, Arrived> {
        let book = self.book.lock().expect("no panic");
        book.arrived
            .iter()
            .filter(|(number, _)| **number >= from)
            .map(|(at, what)| (*at, what.clone()))
            .collect()
    }

    /// The requests of these numbers and above that it works on now and that this connection point brought.
    pub(crate) fn under_way_by(&self, point: &str, from: u64) -> HashMap<u64, Kind> {
        let book = self.book.lock().expect("no panic");
        let there = book.arrived.iter().filter(|(number, arrived)| {
            **number >= from && arrived.is_under_way() && arrived.by.last().is_some_and(|by| by == point)
        });
        there.filter_map(|(number, arrived)| Some((*number, arrived.kind?))).collect()
    }

    async fn serve(self, stream: TcpStream, peer: SocketAddr, tls: TlsAcceptor) {
        let points = self.book.lock().expect("no panic").points.clone();
        let port = self.address.port();
        let owner = tokio::task::spawn_blocking(move || owner_of(peer.port(), port, &points));
        let owner = owner.await.expect("no panic").unwrap_or_else(|| "nobody".to_owned());
        let service = service_fn(|request| {
            let (recorder, owner) = (self.clone(), owner.clone());
            async move { Ok::<_, Infallible>(recorder.answer(request, owner).await) }
        });
        let Ok(stream) = tls.accept(stream).await else { return };
        // A connection point that is killed in the middle is what the story is about.
        let _ =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(self, request: Request<Incoming>, owner: String) -> Response<Full<Bytes>> {
        let number =
            request.uri().query().and_then(|query| query.strip_prefix("n=")).and_then(|n| n.parse().ok());
        let Some(number) = number else { return Response::new(Full::new(Bytes::from_static(b"no number"))) };
        let kind = Kind::of(request.method().as_str(), request.body().size_hint().exact());
        self.note(number, |arrived| {
            arrived.kind = Some(kind);
            arrived.by.push(owner);
        });
        let mut gate = self.gate.subscribe();
        gate.wait_for(|open| *open).await.expect("the sender lives here");
        let mut body = request.into_body();
        let mut length = 0_usize;
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => length += frame.data_ref().map_or(0, Buf::remaining),
                Err(_) => return Response::new(Full::default()),
            }
        }
        self.note(number, |arrived| arrived.whole += 1);
        // Work that takes its time, so that there is always something under way.
        tokio::time::sleep(WORK).await;
        self.note(number, |arrived| arrived.answered += 1);
        Response::new(Full::new(Bytes::from(format!("{number} {length}"))))
    }

    fn note(&self, number: u64, change: impl FnOnce(&mut Arrived)) {
        change(self.book.lock().expect("no panic").arrived.entry(number).or_default());
    }
}

fn server(organisation: &Organisation) -> ServerConfig {
    let [certificate, key] = organisation.issue();
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a key that fits")
}

/// Which of these processes has the connection from `port` on this machine to `to`: by the kernel's table of
/// connections, and the process's open files.
fn owner_of(port: u16, to: u16, points: &[(String, u32)]) -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let (near, far) = (format!("0100007F:{port:04X}"), format!("0100007F:{to:04X}"));
    let socket = table.lines().find_map(|line| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        (words.get(1) == Some(&near.as_str()) && words.get(2) == Some(&far.as_str()))
            .then(|| format!("socket:[{}]", words.get(9).copied().unwrap_or_default()))
    })?;
    let has = |pid: u32| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files
            .filter_map(|file| std::fs::read_link(file.path()).ok())
            .any(|link| link.as_os_str() == socket.as_str())
    };
    points.iter().find(|(_, pid)| has(*pid)).map(|(name, _)| name.clone())
}
