//! The operator API as the command line calls it.

use std::time::Duration;

use reqwest::{Client, Method};
use runtime::tls::ClientTls;
use serde_json::Value;

use crate::context::Context;
use crate::exit::{Exit, Failure, chain};

/// A connection to the operator API of one site.
pub(crate) struct Api {
    client: Client,
    context: Context,
    key: secrecy::SecretString,
}

impl Api {
    /// Prepares to call; nothing is sent yet. The site must show a certificate under its own
    /// root, whatever the system's store trusts.
    pub(crate) fn new(context: Context) -> Result<Self, Failure> {
        if !context.server.starts_with("https://") {
            return Err(Failure::new(
                Exit::Usage,
                format!("{:?} is not an address of a site", context.server),
            )
            .help("Write it as https://HOST:PORT, as `roamgate site init` printed it."));
        }
        let unreadable = |what: &str, path: &std::path::Path, error: &dyn std::fmt::Display| {
            Failure::new(Exit::Usage, format!("cannot read {what} {}: {error}", path.display()))
                .help("Check the path, or set it anew with `roamgate context set`.")
        };
        let ca = std::fs::read(&context.ca_file)
            .map_err(|error| unreadable("the site root", &context.ca_file, &error))?;
        let roots = runtime::tls::roots_from_pem(&ca)
            .map_err(|error| unreadable("the site root", &context.ca_file, &error))?;
        // By this program's clock, so that commands follow a lab whose clock was moved.
        let tls = ClientTls::with_roots(crate::serve::clock(), roots)
            .build()
            .map_err(|error| Failure::from_error(Exit::Bug, &error))?;
        let key = runtime::config::private_file::read(&context.operator_key_file).map_err(|error| {
            Failure::from_error(Exit::Refused, &error)
                .help("The operator's key must be a file that only its owner can read: chmod 600.")
        })?;
        let key = std::str::from_utf8(&key).map(str::trim).unwrap_or_default().to_owned();
        // It goes into a header: one printable word.
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            let file = context.operator_key_file.display();
            return Err(Failure::new(Exit::Usage, format!("{file}: this is not an operator's key"))
                .help("`roamgate site init` wrote it; name the file with --operator-key-file or `roamgate context set`."));
        }
        let client = Client::builder()
            .tls_backend_preconfigured((*tls).clone())
            .no_proxy()
            .https_only(true)
            .connect_timeout(Duration::from_secs(10))
            .timeout(Duration::from_mins(1))
            .build()
            .map_err(|error| Failure::from_error(Exit::Bug, &error))?;
        Ok(Self { client, context, key: key.into() })
    }

    /// Reads something.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, None).await
    }

    /// Does something.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Sets something.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(Method::PUT, path, Some(body)).await
    }

    /// Removes something.
    pub(crate) async fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::DELETE, path, None).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        use secrecy::ExposeSecret as _;
        let url = format!("{}/api/v1/{path}", self.context.server.trim_end_matches('/'));
        let mut request = self.client.request(method, &url).bearer_auth(self.key.expose_secret());
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let body: Value = answer.json().await.map_err(|error| {
            Failure::new(Exit::Unreachable, format!("{url} did not answer as a site does: {}", chain(&error)))
        })?;
        if status.is_success() { Ok(body) } else { Err(refused(status.as_u16(), &body)) }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let exit = if error.is_timeout() { Exit::TimedOut } else { Exit::Unreachable };
        let cause = chain(error);
        let help = if cause.contains("invalid peer certificate") {
            "What answers there does not show a certificate of this site. Is the address right, and is --ca-file \
             the site root (`site-root.pem`, or `roamgate key export site-root`)?"
        } else {
            "Is the site host running (`roamgate serve`)? Is the address right (`roamgate context show`)?"
        };
        Failure::new(exit, format!("the site at {} did not answer: {cause}", self.context.server)).help(help)
    }
}

/// A refusal of the API as this command's own failure.
fn refused(status: u16, body: &Value) -> Failure {
    let exit = match status {
        400 | 422 => Exit::Usage,
        404 => Exit::NotFound,
        409 => Exit::Conflict,
        503 => Exit::Unreachable,
        500..=599 => Exit::Bug,
        _ => Exit::Refused,
    };
    let member =
        |name: &str| body.get("error").and_then(|e| e.get(name)).and_then(Value::as_str).unwrap_or_default();
    let message =
        if member("message").is_empty() { "the site refused without a reason" } else { member("message") };
    Failure::new(exit, message).help(member("fix"))
}
