//! Where tokens of a tenant come from: built-in sources, and any program that prints one.
//!
//! | source | what it needs |
//! |---|---|
//! | device | the workplace-join key: a signed proof at the tenant's token endpoint |
//! | user | a sign-in by a code that the user types elsewhere; later its refresh token |
//! | command | a program that prints `{"access_token": "…", "expires_on": 1790000000}` |
//!
//! The program gets `ROAMGATE_TENANT`, `ROAMGATE_CLIENT_APP_ID`, `ROAMGATE_RESOURCE`, `ROAMGATE_AUTHORITY` and
//! `ROAMGATE_ACCOUNT` (`device` or `user`) in its environment, nothing on standard input, and a minute.
//! What it prints on standard error is shown when it fails. `expires_on` is a number of seconds since 1970; `expires_in`
//! (seconds from now) does as well, and `accessToken` for `access_token`.

use std::process::Stdio;
use std::time::Duration;

use proto::id::Guid;
use proto::limits;
use proto::time::Timestamp;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::entra::{
    Claims, Endpoints, Granted, JoinKey, JoinKeyError, Onboarding, ProviderError, Refusal, form, read_answer,
};
use crate::token::TokenText;

/// Time for one request to a provider.
const REQUEST: Duration = Duration::from_secs(20);
/// Largest answer of a provider, in bytes.
const ANSWER_BYTES: usize = 256 * 1024;
/// Time that a program has.
const COMMAND: Duration = Duration::from_mins(1);
/// Longest output of a program that is read, in bytes.
const OUTPUT_BYTES: u64 = 64 * 1024;
/// Longest time that a sign-in may take, whatever the provider says.
const SIGN_IN: Duration = Duration::from_mins(15);

/// Why a source gave no token.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The workplace-join key.
    #[error("the device cannot prove its workplace join")]
    Key(#[source] JoinKeyError),
    /// The provider's addresses.
    #[error("the tenant's authority cannot be used")]
    Provider(#[source] ProviderError),
    /// The provider was not reached.
    #[error("the tenant's authority at {host} was not reached")]
    Unreachable {
        /// Whom it was for.
        host: String,
        /// What the network said.
        source: reqwest::Error,
    },
    /// Something that is no answer of a provider.
    #[error("the tenant's authority answered {status} with something that is no answer of a token service")]
    Unreadable {
        /// HTTP status.
        status: u16,
    },
    /// The provider refused.
    #[error("the tenant refused the token: {0}")]
    Refused(Refusal),
    /// It signs nobody in by a code.
    #[error("the tenant offers no sign-in by a code")]
    NoCode,
    /// The user did not sign in.
    #[error("nobody signed in before the code ended")]
    NotSignedIn,
    /// The program could not be started.
    #[error("the program {program:?} could not be started")]
    Start {
        /// Which.
        program: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The program did not end.
    #[error("the program {0:?} printed no token within a minute")]
    TimedOut(String),
    /// The program failed.
    #[error("the program {program:?} failed ({status}): {said}")]
    Failed {
        /// Which.
        program: String,
        /// How it ended.
        status: String,
        /// The first line of its standard error.
        said: String,
    },
    /// The program printed something else.
    #[error("the program {program:?} printed no token: {why}")]
    Output {
        /// Which.
        program: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The token is for somebody else than was asked for.
    #[error("the token that came is {0}")]
    Other(&'static str),
}

impl SourceError {
    /// The code that the field's clients log: no workplace-join key or a refusal of it is an error of the
    /// extension, everything about users a missing token.
    pub fn hresult(&self) -> u32 {
        match self {
            Self::NoCode | Self::NotSignedIn => 0x8007_03F0,
            _ => 0xD009_0016,
        }
    }

    /// Whether the same may succeed a little later by itself.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Unreadable { status } => *status >= 500,
            Self::Refused(refusal) => refusal.error == "temporarily_unavailable",
            _ => false,
        }
    }
}

/// What a user is asked to do elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The page to open.
    pub address: String,
    /// What to type there.
    pub code: String,
}

/// A provider's token service, found and ready.
#[derive(Debug)]
pub struct Provider<'h> {
    http: &'h reqwest::Client,
    onboarding: Onboarding,
    endpoints: Endpoints,
}

impl<'h> Provider<'h> {
    /// Reads the authority's discovery document.
    pub async fn discover(http: &'h reqwest::Client, onboarding: Onboarding) -> Result<Self, SourceError> {
        let authority = onboarding.authority.trim_end_matches('/');
        let host = super::entra::host_of(authority).map_err(SourceError::Provider)?.to_owned();
        let request = http.get(format!("{authority}/.well-known/openid-configuration")).timeout(REQUEST);
        let (status, body) = answer(request, &host).await?;
        if status != 200 {
            return Err(SourceError::Unreadable { status });
        }
        let endpoints = Endpoints::read(&body, authority).map_err(SourceError::Provider)?;
        Ok(Self { http, onboarding, endpoints })
    }

    /// The token endpoint: the `AccountId` of the field's log line about device tokens.
    pub fn token_endpoint(&self) -> &str {
        &self.endpoints.token
    }

    /// A device token, against proof of the workplace-join key.
    pub async fn device_token(
        &self,
        key: &JoinKey,
        id: Guid,
        now: Timestamp,
    ) -> Result<Granted, SourceError> {
        let proof = self.proof(key, id, now)?;
        let mut fields = vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer".to_owned()),
            ("client_id", self.onboarding.client_app_id.clone()),
            ("assertion", proof.expose().to_owned()),
        ];
        fields.extend(self.endpoints.audience(&self.onboarding.resource, false));
        let granted = self.ask(&self.endpoints.token, &fields, now).await?;
        // A token that does not say which device it is proves no device to anybody.
        match Claims::read(granted.token.expose()) {
            Some(Claims { user: None, device: Some(_), .. }) => Ok(granted),
            _ => Err(SourceError::Other("no device's: it does not say which device it is")),
        }
    }

    /// Begins the sign-in of a user: what to show, and what to ask with.
    pub async fn begin_sign_in(&self) -> Result<SignIn, SourceError> {
        let endpoint = self.endpoints.device_code.as_ref().ok_or(SourceError::NoCode)?;
        let mut fields = vec![("client_id", self.onboarding.client_app_id.clone())];
        fields.extend(self.endpoints.audience(&self.onboarding.resource, true));
        let (status, body) = self.post(endpoint, &fields).await?;
        if let Some(Err(refusal)) = read_answer(&body, Timestamp::from_seconds(0)) {
            return Err(SourceError::Refused(refusal));
        }
        let sign_in = SignIn::read(&body).ok_or(SourceError::Unreadable { status })?;
        // The page lies at the provider: a person will type a password there.
        super::entra::host_of(&sign_in.prompt.address).map_err(SourceError::Provider)?;
        Ok(sign_in)
    }

    /// Asks once whether the user has signed in: `None`, not yet.
    pub async fn poll(
        &self,
        sign_in: &mut SignIn,
        key: Option<(&JoinKey, Guid)>,
        now: Timestamp,
    ) -> Result<Option<Granted>, SourceError> {
        let mut fields = vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code".to_owned()),
            ("client_id", self.onboarding.client_app_id.clone()),
            ("device_code", sign_in.device_code.expose().to_owned()),
        ];
        fields.extend(self.endpoints.audience(&self.onboarding.resource, true));
        self.add_device(&mut fields, key, now)?;
        match self.ask(&self.endpoints.token, &fields, now).await {
            Ok(granted) => users(granted).map(Some),
            Err(SourceError::Refused(refusal)) => match refusal.error.as_str() {
                "authorization_pending" => Ok(None),
                "slow_down" => {
                    sign_in.interval += Duration::from_secs(5);
                    Ok(None)
                }
                "expired_token" => Err(SourceError::NotSignedIn),
                _ => Err(SourceError::Refused(refusal)),
            },
            Err(error) => Err(error),
        }
    }

    /// Waits until the user has signed in, at most as long as the code counts. The device's own proof
    /// goes along where there is one, so that the token says on which device the user is.
    pub async fn wait(
        &self,
        mut sign_in: SignIn,
        key: Option<&JoinKey>,
        now: impl Fn() -> Timestamp,
    ) -> Result<Granted, SourceError> {
        let limit = sign_in.lifetime.min(SIGN_IN);
        let waited = async {
            loop {
                tokio::time::sleep(sign_in.interval).await;
                let key = key.map(|key| (key, crate::transport::fresh_guid()));
                match self.poll(&mut sign_in, key, now()).await {
                    Ok(Some(granted)) => return Ok(granted),
                    Ok(None) => {}
                    Err(error) if error.is_transient() => {}
                    Err(error) => return Err(error),
                }
            }
        };
        tokio::time::timeout(limit, waited).await.unwrap_or(Err(SourceError::NotSignedIn))
    }

    /// The next token of a user who signed in before.
    pub async fn refresh(
        &self,
        refresh: &TokenText,
        key: Option<(&JoinKey, Guid)>,
        now: Timestamp,
    ) -> Result<Granted, SourceError> {
        let mut fields = vec![
            ("grant_type", "refresh_token".to_owned()),
            ("client_id", self.onboarding.client_app_id.clone()),
            ("refresh_token", refresh.expose().to_owned()),
        ];
        fields.extend(self.endpoints.audience(&self.onboarding.resource, true));
        self.add_device(&mut fields, key, now)?;
        users(self.ask(&self.endpoints.token, &fields, now).await?)
    }

    fn proof(&self, key: &JoinKey, id: Guid, now: Timestamp) -> Result<TokenText, SourceError> {
        key.assertion(&self.endpoints.token, id, now).map_err(SourceError::Key)
    }

    fn add_device(
        &self,
        fields: &mut Vec<(&'static str, String)>,
        key: Option<(&JoinKey, Guid)>,
        now: Timestamp,
    ) -> Result<(), SourceError> {
        let Some((key, id)) = key else { return Ok(()) };
        let proof = self.proof(key, id, now)?;
        fields.push((
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned(),
        ));
        fields.push(("client_assertion", proof.expose().to_owned()));
        Ok(())
    }

    async fn ask(
        &self,
        endpoint: &str,
        fields: &[(&str, String)],
        now: Timestamp,
    ) -> Result<Granted, SourceError> {
        let (status, body) = self.post(endpoint, fields).await?;
        match read_answer(&body, now) {
            Some(Ok(granted)) if status == 200 => Ok(granted),
            Some(Err(refusal)) => Err(SourceError::Refused(refusal)),
            _ => Err(SourceError::Unreadable { status }),
        }
    }

    async fn post(&self, endpoint: &str, fields: &[(&str, String)]) -> Result<(u16, Vec<u8>), SourceError> {
        let host = super::entra::host_of(endpoint).map_err(SourceError::Provider)?.to_owned();
        let request = self
            .http
            .post(endpoint)
            .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form(fields))
            .timeout(REQUEST);
        answer(request, &host).await
    }
}

/// Only a user's token is one.
fn users(granted: Granted) -> Result<Granted, SourceError> {
    match Claims::read(granted.token.expose()) {
        Some(Claims { user: Some(_), .. }) => Ok(granted),
        _ => Err(SourceError::Other("no user's")),
    }
}

async fn answer(request: reqwest::RequestBuilder, host: &str) -> Result<(u16, Vec<u8>), SourceError> {
    let failed = |source: reqwest::Error| SourceError::Unreachable {
        host: host.to_owned(),
        source: source.without_url(),
    };
    let mut response = request.send().await.map_err(failed)?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > ANSWER_BYTES {
            return Err(SourceError::Unreadable { status });
        }
        body.extend_from_slice(&chunk);
    }
    Ok((status, body))
}

/// A sign-in under way.
#[derive(Debug)]
pub struct SignIn {
    /// What the user is asked to do.
    pub prompt: Prompt,
    device_code: TokenText,
    interval: Duration,
    lifetime: Duration,
}

impl SignIn {
    fn read(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Begun {
            device_code: String,
            user_code: String,
            #[serde(alias = "verification_url")]
            verification_uri: String,
            expires_in: Option<serde_json::Value>,
            interval: Option<serde_json::Value>,
        }
        let number = |value: Option<serde_json::Value>| match value? {
            serde_json::Value::Number(number) => number.as_u64(),
            serde_json::Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let begun: Begun = serde_json::from_slice(body).ok()?;
        let clean = |text: &str| text.chars().all(|c| c.is_ascii_graphic() || c == ' ') && text.len() <= 300;
        let good = clean(&begun.user_code)
            && clean(&begun.verification_uri)
            && begun.device_code.len() <= limits::TOKEN_BYTES;
        good.then(|| Self {
            prompt: Prompt { address: begun.verification_uri, code: begun.user_code },
            device_code: begun.device_code.into(),
            interval: Duration::from_secs(number(begun.interval).unwrap_or(5).min(60))
                .max(Duration::from_millis(200)),
            lifetime: Duration::from_secs(number(begun.expires_in).unwrap_or(900)),
        })
    }
}

/// Runs a program that prints a token.
pub async fn command(
    words: &[String],
    onboarding: Option<&Onboarding>,
    account: &str,
    now: Timestamp,
) -> Result<Granted, SourceError> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(SourceError::Output { program: String::new(), why: "no program is named" });
    };
    let program = program.clone();
    let mut command = tokio::process::Command::new(&program);
    command
        .args(arguments)
        .env("ROAMGATE_ACCOUNT", account)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(onboarding) = onboarding {
        command
            .env("ROAMGATE_TENANT", onboarding.tenant.to_string())
            .env("ROAMGATE_CLIENT_APP_ID", &onboarding.client_app_id)
            .env("ROAMGATE_RESOURCE", &onboarding.resource)
            .env("ROAMGATE_AUTHORITY", &onboarding.authority);
    }
    let mut child =
        command.spawn().map_err(|source| SourceError::Start { program: program.clone(), source })?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let ended = async { tokio::join!(read_all(out), read_all(err), child.wait()) };
    let Ok((out, err, status)) = tokio::time::timeout(COMMAND, ended).await else {
        return Err(SourceError::TimedOut(program));
    };
    let status = status.map_err(|source| SourceError::Start { program: program.clone(), source })?;
    if !status.success() {
        let said = String::from_utf8_lossy(&err);
        let said = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
        let said = said.chars().filter(|c| !c.is_control()).take(200).collect();
        return Err(SourceError::Failed { program, status: status.to_string(), said });
    }
    read_output(&out, now).map_err(|why| SourceError::Output { program, why })
}

async fn read_all(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What could be read counts: a broken pipe is the end of the output.
        let _ = pipe.take(OUTPUT_BYTES).read_to_end(&mut bytes).await;
    }
    bytes
}

fn read_output(output: &[u8], now: Timestamp) -> Result<Granted, &'static str> {
    #[derive(Deserialize)]
    struct Output {
        #[serde(alias = "accessToken")]
        access_token: String,
        expires_on: Option<serde_json::Value>,
        expires_in: Option<u64>,
    }
    let output: Output =
        serde_json::from_slice(output).map_err(|_| "not a JSON object with access_token and expires_on")?;
    if output.access_token.is_empty() || output.access_token.len() > limits::TOKEN_BYTES {
        return Err("the token is empty or too long");
    }
    let on = output.expires_on.and_then(|value| match value {
        serde_json::Value::Number(number) => number.as_i64(),
        serde_json::Value::String(text) => text.trim().parse().ok(),
        _ => None,
    });
    let told = on
        .map(Timestamp::from_seconds)
        .or_else(|| output.expires_in.map(|seconds| now.plus(Duration::from_secs(seconds))))
        .ok_or("neither expires_on nor expires_in is a number of seconds")?;
    let claimed = Claims::read(&output.access_token).map_or(told, |claims| claims.expires);
    Ok(Granted { token: output.access_token.into(), expires: told.min(claimed), refresh: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);

    fn words(text: &[&str]) -> Vec<String> {
        text.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn output_is_read_in_the_forms_that_programs_print() {
        for text in [
            r#"{"access_token":"t","expires_on":1790003600}"#,
            r#"{"accessToken":"t","expires_on":"1790003600","tokenType":"Bearer"}"#,
            r#"{"access_token":"t","expires_in":3600}"#,
        ] {
            let granted = read_output(text.as_bytes(), NOW).unwrap();
            assert_eq!((granted.token.expose(), granted.expires), ("t", NOW.plus(Duration::from_hours(1))));
        }
        for wrong in [
            "",
            "t",
            "{}",
            r#"{"access_token":""}"#,
            r#"{"access_token":"t"}"#,
            r#"{"access_token":"t","expires_on":"soon"}"#,
        ] {
            assert!(read_output(wrong.as_bytes(), NOW).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_sign_in_is_read_and_its_page_must_be_plain_text() {
        let body = r#"{"device_code":"d","user_code":"ABCD","verification_uri":"https://x/y","expires_in":900,"interval":5}"#;
        let sign_in = SignIn::read(body.as_bytes()).unwrap();
        assert_eq!(sign_in.prompt, Prompt { address: "https://x/y".into(), code: "ABCD".into() });
        assert!(!format!("{sign_in:?}").contains("\"d\""), "the device code is a secret");
        let escape = body.replace("ABCD", "AB\\u001b[2J");
        assert!(SignIn::read(escape.as_bytes()).is_none());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_program_prints_a_token_fails_or_says_nothing_of_use() {
        let onboarding = Onboarding {
            tenant: Guid::nil(),
            client_app_id: "app".into(),
            resource: "api://x".into(),
            authority: "https://login.example".into(),
        };
        let run = async |script: &str| {
            command(&words(&["/bin/sh", "-c", script]), Some(&onboarding), "device", NOW).await
        };
        let script =
            r#"printf '{"access_token":"%s-%s","expires_in":60}' "$ROAMGATE_ACCOUNT" "$ROAMGATE_RESOURCE""#;
        assert_eq!(run(script).await.unwrap().token.expose(), "device-api://x");
        let error = run("echo 'no sign-in yet' >&2; exit 3").await.unwrap_err().to_string();
        assert!(error.contains("no sign-in yet") && error.contains('3'), "{error}");
        assert!(matches!(run("echo hello").await, Err(SourceError::Output { .. })));
        let error = command(&words(&["/no/such/program"]), None, "user", NOW).await.unwrap_err();
        assert!(matches!(error, SourceError::Start { .. }));
        assert!(matches!(command(&[], None, "user", NOW).await, Err(SourceError::Output { .. })));
    }
}
