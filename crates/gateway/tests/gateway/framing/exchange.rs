//! Bytes out, bytes back, and what the connection point saw meanwhile.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use proto::id::Guid;
use proto::link::RequestHead;
use runtime::config::HumanDuration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::connector::{FakeConnector, Handler, ok};
use crate::device::Device;
use crate::site::ROLE;
use crate::{Running, start, within};

/// Cases that run at the same time.
const AT_ONCE: usize = 16;
/// What an incomplete case is waited for.
const PATIENCE: Duration = Duration::from_millis(1500);

/// A request as the connection point got it, whole.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) head: RequestHead<'static>,
    pub(super) body: Vec<u8>,
}

/// A gateway with a device at one side and a recorder at the other.
pub(super) struct Scene {
    gateway: Running,
    connector: FakeConnector,
    device: Device,
    token: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    cases: AtomicUsize,
}

/// What became of one case.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Status of each answer that is none of the gateway's refusals, and reason code of each that is.
    pub(super) codes: Vec<String>,
    /// The case's own requests that reached the connection point whole.
    pub(super) own: Vec<Seen>,
    /// How often the request behind it did.
    pub(super) behind: usize,
    /// What answers say that they must not, or do not say that they must.
    pub(super) indiscreet: Vec<String>,
}

impl Scene {
    pub(super) async fn new(chunked_bodies: bool) -> Self {
        let gateway = start(|config| {
            config.limits.chunked_bodies = chunked_bodies;
            config.limits.head_timeout = HumanDuration::new(PATIENCE);
            config.idle_timeout = HumanDuration::new(PATIENCE);
            config.body_timeout = HumanDuration::new(PATIENCE);
        })
        .await;
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let recorder = Arc::clone(&seen);
        let handler: Handler = Arc::new(move |head, body| {
            recorder.lock().unwrap().push(Seen { head: head.clone(), body: body.to_vec() });
            ok("")
        });
        let connector =
            FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), handler).await;
        let device = Device::new(1);
        let token = device.token(&gateway);
        Self { gateway, connector, device, token, seen, cases: AtomicUsize::new(0) }
    }

    pub(super) async fn stop(self) {
        self.gateway.stop().await;
    }

    /// Fills in what the texts of cases leave open. `{n}` names the case.
    pub(super) fn fill(&self, text: &str, case: usize) -> String {
        let base = format!("/CCM_Proxy_ServerAuth/{ROLE}");
        text.replace("{H}", "Host: gw.example\r\nAuthorization: Bearer {token}\r\n")
            .replace("{P}", "{base}/SMS_MP_TokenAuth/.sms_aut?case={n}")
            .replace("{M}", "{base}/ccm_system_tokenauth/request?case={n}")
            .replace("{base}", &base)
            .replace("{token}", &self.token)
            .replace("{role}", &ROLE.to_string())
            .replace("{n}", &format!("{case}."))
    }

    /// A good request, to stand behind each case.
    fn behind(&self, case: usize) -> String {
        self.fill(
            "GET {base}/SMS_MP_TokenAuth/.sms_aut?behind={n} HTTP/1.1\r\n{H}Connection: close\r\n\r\n",
            case,
        )
    }

    /// Writes each text on a connection of its own, with a good request behind it.
    pub(super) async fn run(&self, texts: Vec<String>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for texts in texts.chunks(AT_ONCE) {
            outcomes.extend(join_all(texts.iter().map(|text| self.case(text, usize::MAX))).await);
        }
        outcomes
    }

    /// Writes a text byte by byte.
    pub(super) async fn run_slowly(&self, text: &str) -> Outcome {
        self.case(text, 1).await
    }

    async fn case(&self, text: &str, at_once: usize) -> Outcome {
        let case = self.cases.fetch_add(1, Ordering::Relaxed);
        let text = self.fill(text, case);
        let bytes: Vec<u8> = latin1(&text).into_iter().chain(self.behind(case).bytes()).collect();
        let mut stream = self.device.tls(&self.gateway).await;
        for part in bytes.chunks(at_once.min(bytes.len())) {
            // Once it was refused, the gateway need not take the rest.
            if stream.write_all(part).await.is_err() || stream.flush().await.is_err() {
                break;
            }
        }
        let mut answer = Vec::new();
        // A connection that is reset after its answer was read counts as closed.
        let _ = within(stream.read_to_end(&mut answer)).await;
        let seen = self.seen.lock().unwrap().clone();
        let mine = |name: &str| {
            let mark = format!("{name}={case}.");
            seen.iter().filter(|seen| seen.head.target.contains(&mark)).cloned().collect::<Vec<_>>()
        };
        let answers = read_answers(&answer, text.starts_with("HEAD "));
        Outcome {
            codes: answers.iter().map(Answer::code).collect(),
            own: mine("case"),
            behind: mine("behind").len(),
            indiscreet: answers.iter().flat_map(|answer| answer.indiscretions(&self.token)).collect(),
        }
    }

    /// Targets of requests that passed and belong to no case.
    pub(super) fn strays(&self) -> Vec<String> {
        let seen = self.connector.requests();
        let known = |target: &str| target.contains("case=") || target.contains("behind=");
        seen.iter().filter(|head| !known(&head.target)).map(|head| head.target.to_string()).collect()
    }
}

/// Texts of cases stand for bytes, one a character.
fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("characters of cases are bytes")).collect()
}

/// An answer off the wire.
#[derive(Debug)]
struct Answer {
    status: String,
    headers: Vec<(String, String)>,
    body: String,
}

/// Cuts at the lengths that the answers state. What is left over or missing shows as an answer of its own.
fn read_answers(bytes: &[u8], to_head: bool) -> Vec<Answer> {
    let text: String = bytes.iter().copied().map(char::from).collect();
    let (mut rest, mut answers) = (text.as_str(), Vec::new());
    while !rest.is_empty() {
        let broken =
            || Answer { status: format!("broken {rest:?}"), headers: Vec::new(), body: String::new() };
        let Some((head, after)) = rest.split_once("\r\n\r\n") else {
            answers.push(broken());
            break;
        };
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap_or("none").to_owned();
        let headers: Vec<_> = lines
            .map(|line| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned())))
            .map(|header| header.expect("a header has a name and a value"))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value);
        let bodiless = to_head && answers.is_empty() || status == "100";
        let length: usize = length.filter(|_| !bodiless).map_or(0, |length| length.parse().unwrap());
        let Some((body, after)) = after.split_at_checked(length) else {
            answers.push(broken());
            break;
        };
        answers.push(Answer { status, headers, body: body.to_owned() });
        rest = after;
    }
    answers
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn code(&self) -> String {
        self.header("roamgate-reason").unwrap_or(&self.status).to_owned()
    }

    /// R54, and settled point 12.
    fn indiscretions(&self, token: &str) -> Vec<String> {
        let mut found = Vec::new();
        let whole = format!("{self:?}").to_ascii_lowercase();
        for secret in [
            &token.to_ascii_lowercase(),
            "hyper",
            "rust",
            "tokio",
            ".rs",
            "panic",
            "/src/",
            "127.0.0.1",
            "certificate ",
        ] {
            if whole.contains(secret) {
                found.push(format!("an answer says {secret:?}: {whole}"));
            }
        }
        if self.status == "100" {
            return found;
        }
        if self.header("roamgate-request-id").is_none_or(|id| id.len() != 36) {
            found.push(format!("an answer names no request: {whole}"));
        }
        if self.status.starts_with(['4', '5']) {
            let code = self.header("roamgate-reason").unwrap_or("no code");
            // A HEAD request is told the code by the header alone.
            let told = self.body.starts_with(&format!("{code}: ")) && self.body.lines().count() == 1;
            if !told && !self.body.is_empty() {
                found.push(format!("a refusal does not say its code and nothing else: {whole}"));
            }
        }
        found
    }
}
