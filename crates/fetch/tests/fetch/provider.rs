//! Keys and tokens of a real OpenID provider, npm's oidc-provider, so that our stand-in cannot agree
//! with our own mistakes. Skips, and says so, where Node is missing or the provider cannot be
//! installed.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HOST};
use proto::entra::{EntraError, EntraSubject};
use proto::id::Guid;
use serde_json::{Value, json};
use site::NewTenant;
use stand_in::{Ca, StandIn, TenantConfig};

use crate::support::{Fetching, Served, TlsListener, onboarding, operator, run_stand_in, wait_for};

const TENANT: Guid = Guid::from_bytes([0x31; 16]);
const NEIGHBOUR: Guid = Guid::from_bytes([0x32; 16]);
const DEVICE: Guid = Guid::from_bytes([0x33; 16]);
const USER: Guid = Guid::from_bytes([0x34; 16]);
const RESOURCE: &str = "api://contoso.example/roamgate";
const SECRET: &str = "only-for-tests";
const FILES: [&str; 3] = ["package.json", "package-lock.json", "provider.mjs"];

/// Installs the provider once for all runs; or why not.
fn installed() -> Result<&'static Path, &'static str> {
    static INSTALLED: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(install).as_ref();
    installed.map(PathBuf::as_path).map_err(String::as_str)
}

fn install() -> Result<PathBuf, String> {
    for program in ["node", "npm"] {
        let version = Command::new(program).arg("--version").output();
        version.map_err(|error| format!("{program} is not to be had: {error}"))?;
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oidc");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("oidc");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let lock = std::fs::read(sources.join("package-lock.json")).unwrap();
    let before = std::fs::read(folder.join("installed-lock.json")).ok();
    for file in FILES {
        std::fs::copy(sources.join(file), folder.join(file)).map_err(|error| error.to_string())?;
    }
    if before.as_ref() != Some(&lock) {
        let npm = Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
            .args(["--fetch-timeout=60000", "--fetch-retries=1"])
            .current_dir(&folder)
            .output()
            .map_err(|error| error.to_string())?;
        if !npm.status.success() {
            let said = String::from_utf8_lossy(&npm.stderr);
            return Err(format!("npm could not install it: {}", said.trim().lines().last().unwrap_or("")));
        }
        std::fs::write(folder.join("installed-lock.json"), &lock).map_err(|error| error.to_string())?;
    }
    Ok(folder)
}

/// The provider's process; ends with the handle.
struct Provider {
    process: Child,
    _stdin: ChildStdin,
    port: u16,
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Provider {
    fn start(folder: &Path, issuer: &str, kids: &[&str]) -> Self {
        let device = json!({ "tid": TENANT, "idtyp": "device", "deviceid": DEVICE, "oid": USER });
        let user = json!({
            "tid": TENANT, "oid": USER, "scp": "user_impersonation", "upn": "ada@contoso.example",
            "onprem_sid": "S-1-5-21-1-2-3-1104", "deviceid": DEVICE,
        });
        let app = json!({ "tid": TENANT, "idtyp": "app", "oid": USER, "roles": [] });
        let foreign = json!({ "tid": NEIGHBOUR, "idtyp": "device", "deviceid": DEVICE });
        let claims = json!({ "device": device, "user": user, "app": app, "foreign": foreign });
        let settings = json!({ "issuer": issuer, "kids": kids, "secret": SECRET, "claims": claims });
        let mut process = Command::new("node")
            .args(["provider.mjs", &settings.to_string()])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = process.stdin.take().unwrap();
        let mut line = String::new();
        std::io::BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("the provider prints its port");
        Self { process, _stdin: stdin, port }
    }
}

/// What the TLS end in front of the provider does with requests for keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Refuse,
    Hang,
    ServerError,
    Html,
    Empty,
    Huge,
}

/// The TLS end: passes requests on, or fails in a way that a test sets.
struct Front {
    client: reqwest::Client,
    port: Mutex<u16>,
    fault: Mutex<Fault>,
    /// Requests for the key set.
    key_sets: AtomicU64,
}

impl Front {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }

    async fn pass(&self, request: Request) -> Result<Response, reqwest::Error> {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let url = format!("http://127.0.0.1:{}{target}", *self.port.lock().unwrap());
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let mut upstream =
            self.client.request(head.method, url).header("x-forwarded-proto", "https").body(body);
        for (name, value) in &head.headers {
            upstream = upstream.header(name, value);
        }
        let answer = upstream.header(HOST, head.headers[HOST].clone()).send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut response = Response::new(Body::from(answer.bytes().await?));
        *response.status_mut() = status;
        let kind = headers.get(CONTENT_TYPE).map(|value| (CONTENT_TYPE, value.clone()));
        response.headers_mut().extend(kind);
        Ok(response)
    }
}

async fn answer(State(front): State<Arc<Front>>, request: Request) -> Response {
    let is_keys = request.uri().path() == "/jwks";
    if is_keys {
        front.key_sets.fetch_add(1, Ordering::SeqCst);
    }
    match front.fault() {
        Fault::Hang => std::future::pending().await,
        Fault::Refuse | Fault::ServerError => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Fault::Html => Html("<!doctype html><h1>Sign in to the network</h1>").into_response(),
        Fault::Empty if is_keys => "{\"keys\":[]}".into_response(),
        Fault::Huge if is_keys => {
            let key = "{\"kty\":\"RSA\",\"kid\":\"padding\",\"n\":\"AQAB\",\"e\":\"AQAB\"},";
            format!("{{\"keys\":[{}{{}}]}}", key.repeat(50_000_000 / key.len())).into_response()
        }
        Fault::None | Fault::Empty | Fault::Huge => match front.pass(request).await {
            Ok(response) => response,
            Err(_) => StatusCode::BAD_GATEWAY.into_response(),
        },
    }
}

/// The whole: provider, its TLS end, a site that onboarded it, and a neighbour that is well.
struct Lab {
    fetching: Fetching,
    front: Arc<Front>,
    folder: &'static Path,
    issuer: String,
    provider: Option<Provider>,
    ca: Ca,
    _served: Served,
    _neighbour: crate::support::Running,
}

impl Lab {
    async fn start(folder: &'static Path) -> Self {
        let ca = Ca::make("Test provider CA").unwrap();
        let front = Arc::new(Front {
            client: reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .pool_max_idle_per_host(0)
                .build()
                .unwrap(),
            port: Mutex::new(0),
            fault: Mutex::new(Fault::None),
            key_sets: AtomicU64::new(0),
        });
        let gate = Arc::clone(&front);
        let listener = TlsListener::bind(&ca, move || gate.fault() != Fault::Refuse).await;
        let issuer = format!("https://localhost:{}", listener.address().port());
        let routes = Router::new().fallback(answer).with_state(Arc::clone(&front));
        let served = listener.serve(routes);

        let fetching = Fetching::new().await;
        let neighbour = TenantConfig::new(NEIGHBOUR, "Fabrikam");
        let config = stand_in::Config { tenants: vec![neighbour.clone()], ..stand_in::Config::default() };
        let bound = StandIn::bind(config, fetching.clock.clone()).unwrap();
        let mut onboarded = onboarding(&bound, &neighbour);
        onboarded.discovery = false;
        fetching.site.add_tenant(&operator(), onboarded).await.unwrap();
        let new = NewTenant {
            tenant: TENANT,
            name: "Contoso".to_owned(),
            issuers: vec![issuer.clone()],
            audiences: vec![RESOURCE.to_owned()],
            client_app_id: "device".to_owned(),
            resource: RESOURCE.to_owned(),
            authority: issuer.clone(),
            graph_url: String::new(),
            discovery_app_id: String::new(),
            secret: None,
            secret_expires_at: None,
            ca_pem: Some(ca.certificate.clone()),
            discovery: false,
        };
        fetching.site.add_tenant(&operator(), new).await.unwrap();
        let neighbour = run_stand_in(bound);
        let mut lab = Self {
            fetching,
            front,
            folder,
            issuer,
            provider: None,
            ca,
            _served: served,
            _neighbour: neighbour,
        };
        lab.restart(&["one"]);
        lab
    }

    /// Another process with other keys, at the same address.
    fn restart(&mut self, kids: &[&str]) {
        self.provider = None;
        let provider = Provider::start(self.folder, &self.issuer, kids);
        *self.front.port.lock().unwrap() = provider.port;
        self.provider = Some(provider);
    }

    async fn token(&self, client: &str) -> String {
        let tls = reqwest::Certificate::from_pem(self.ca.certificate.as_bytes()).unwrap();
        let http = reqwest::Client::builder().tls_certs_only([tls]).no_proxy().build().unwrap();
        let form = format!("grant_type=client_credentials&resource={RESOURCE}");
        let answer = http
            .post(format!("{}/token", self.issuer))
            .basic_auth(client, Some(SECRET))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form)
            .send()
            .await
            .unwrap();
        let answer: Value = answer.json().await.unwrap();
        answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    fn verify(&self, token: &str) -> Result<EntraSubject, EntraError> {
        self.fetching.site.tenant_set().verify(token).map(|token| token.subject)
    }

    async fn accepted(&self, token: &str) -> EntraSubject {
        wait_for("the token's key", async || self.verify(token).ok()).await
    }
}

macro_rules! provider_or_skip {
    () => {
        match installed() {
            Ok(folder) => folder,
            Err(reason) => {
                println!("skipped: no real OpenID provider: {reason}");
                return;
            }
        }
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_real_provider_are_accepted_for_what_they_say() {
    let lab = Lab::start(provider_or_skip!()).await;
    lab.fetching.run();
    let device = lab.token("device").await;
    assert_eq!(lab.accepted(&device).await, EntraSubject::Device { device: DEVICE });
    lab.fetching.site.tenant_set().verify(&device).unwrap().check_time(lab.fetching.now()).unwrap();
    let user = EntraSubject::User {
        user: USER,
        device: Some(DEVICE),
        sid: Some("S-1-5-21-1-2-3-1104".to_owned()),
        name: "ada@contoso.example".to_owned(),
    };
    assert_eq!(lab.verify(&lab.token("user").await), Ok(user));
    let app = lab.verify(&lab.token("app").await);
    assert!(matches!(app, Err(EntraError::NoSubject(_))), "an app is no device: {app:?}");
    let foreign = lab.verify(&lab.token("foreign").await);
    assert!(matches!(foreign, Err(EntraError::UnknownKey { tenant: NEIGHBOUR, .. })), "{foreign:?}");
    let late = lab.fetching.now().plus(Duration::from_hours(2));
    let token = lab.fetching.site.tenant_set().verify(&device).unwrap();
    assert!(matches!(token.check_time(late), Err(EntraError::Expired(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_real_provider_rotate_without_a_restart_of_ours() {
    let mut lab = Lab::start(provider_or_skip!()).await;
    lab.fetching.run();
    let first = lab.token("device").await;
    lab.accepted(&first).await;

    lab.restart(&["two", "one-more"]);
    let second = lab.token("device").await;
    assert!(matches!(lab.verify(&second), Err(EntraError::UnknownKey { tenant: TENANT, .. })));
    // One wish in thirty seconds is granted, and onboarding was one.
    lab.fetching.clock.advance(Duration::from_secs(31));
    lab.fetching.site.want_keys(TENANT);
    lab.accepted(&second).await;
    assert!(matches!(lab.verify(&first), Err(EntraError::UnknownKey { .. })), "its key is gone");
    assert_eq!(lab.fetching.tenant(TENANT).await.keys, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn outages_of_a_real_provider_leave_known_keys_and_everybody_else_alone() {
    let mut lab = Lab::start(provider_or_skip!()).await;
    lab.fetching.run();
    let token = lab.token("device").await;
    lab.accepted(&token).await;
    let site = &lab.fetching.site;
    let keys_until = site.tenant_set().verify(&token).unwrap().keys_until;

    let outages = [
        (Fault::Refuse, "was not reached"),
        (Fault::ServerError, "500"),
        (Fault::Html, "web page"),
        (Fault::Empty, "key set is empty"),
        (Fault::Huge, "more than 1048576 bytes"),
        (Fault::Hang, "did not answer within 10 seconds"),
    ];
    for (fault, expected) in outages {
        *lab.front.fault.lock().unwrap() = fault;
        lab.fetching.clock.advance(Duration::from_mins(20));
        let problem = wait_for(expected, async || {
            lab.fetching.tenant(TENANT).await.keys_problem.filter(|problem| problem.contains(expected))
        });
        let problem = problem.await;
        println!("{fault:?}: {problem}");
        let known = site.tenant_set().verify(&token).unwrap();
        assert_eq!(known.keys_until, keys_until, "{fault:?}: not one minute longer");
        let well = async || {
            lab.fetching.tenant(NEIGHBOUR).await.keys_fetched_at.filter(|at| *at == lab.fetching.now())
        };
        wait_for("the neighbour's keys", well).await;
        assert_eq!(lab.fetching.tenant(NEIGHBOUR).await.keys_problem, None);
    }
    // Its process is gone for good, and comes back.
    *lab.front.fault.lock().unwrap() = Fault::None;
    lab.provider = None;
    lab.fetching.clock.advance(Duration::from_mins(20));
    wait_for("bad gateway", async || {
        lab.fetching.tenant(TENANT).await.keys_problem.filter(|problem| problem.contains("502"))
    })
    .await;
    assert!(lab.verify(&token).is_ok());
    lab.restart(&["two"]);
    lab.fetching.clock.advance(Duration::from_mins(20));
    let next = lab.token("device").await;
    lab.accepted(&next).await;
    let healed = lab.fetching.tenant(TENANT).await;
    assert_eq!(healed.keys_problem, None);
    assert!(lab.fetching.site.tenant_set().verify(&next).unwrap().keys_until > keys_until);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tokens_with_invented_keys_cause_at_most_two_fetches() {
    let lab = Lab::start(provider_or_skip!()).await;
    lab.fetching.run();
    let token = lab.token("device").await;
    lab.accepted(&token).await;
    lab.fetching.clock.advance(Duration::from_secs(31));
    let before = lab.front.key_sets.load(Ordering::SeqCst);

    let (_, rest) = token.split_once('.').unwrap();
    for number in 0..1_000 {
        let header = json!({ "alg": "RS256", "typ": "at+jwt", "kid": format!("invented-{number}") });
        let forged = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()));
        match lab.verify(&forged) {
            Err(EntraError::UnknownKey { tenant, .. }) => lab.fetching.site.want_keys(tenant),
            other => panic!("{other:?}"),
        }
        if number % 25 == 0 {
            // A minute in all, in which the fetcher has its turns.
            lab.fetching.clock.advance(Duration::from_millis(1_450));
            tokio::task::yield_now().await;
        }
        if number == 500 {
            let fetched = async || (lab.front.key_sets.load(Ordering::SeqCst) > before).then_some(());
            wait_for("the first fetch", fetched).await;
        }
    }
    let fetches = || lab.front.key_sets.load(Ordering::SeqCst) - before;
    let within = fetches();
    println!("1,000 tokens with invented keys within a minute: {within} fetches");
    assert!((1..=2).contains(&within), "{within}");
    assert!(lab.verify(&token).is_ok(), "the known key goes on");
    // None was put off: the next wish after another pause brings one fetch and no more.
    lab.fetching.clock.advance(Duration::from_secs(31));
    lab.fetching.site.want_keys(TENANT);
    wait_for("the fetch after the pause", async || (fetches() > within).then_some(())).await;
    assert!(fetches() <= 3, "{}", fetches());
}
