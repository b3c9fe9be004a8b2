//! Setting a device up: what it is told, what is missing, and the steps until it is managed.

pub mod ccmsetup;
mod table;
mod words;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::limits;
use proto::time::Timestamp;
use runtime::Clock;

use crate::address::AddressError;
use crate::credential::ProofSetup;
use crate::credential::preference::Trigger;
use crate::device::{Device, DeviceError, DeviceOptions, Prompter, RequestError};
use crate::identity::{IdentityError, KeyMaterial};
use crate::location::known_gateways;
use crate::log::{field, line};
use crate::platform::{self, PlatformError};
use crate::policy::{PolicyError, PolicyOutcome};
use crate::retry::{Patience, patiently};
use crate::state::{Registration, Setup, SiteTrust, State, StateError, StateFolder};
use crate::token::{TokenFormError, TokenText, read_bulk_token};
use crate::trust::{Pin, PinError};
use ccmsetup::{Note, RootKey, SetupLineError};

/// Largest file of roots, in bytes.
const CA_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// What setup is given: pasted words, and options of our own.
#[derive(Debug, Default, Clone)]
pub struct SetupRequest {
    /// Words in the spelling of the field's program.
    pub words: Vec<String>,
    /// `--ca-file`.
    pub ca_file: Option<PathBuf>,
    /// `--site-root`.
    pub site_root: Option<String>,
    /// `--regtoken-file`; `-` is standard input.
    pub regtoken_file: Option<PathBuf>,
    /// `--name`.
    pub name: Option<String>,
    /// `--hardware-id`.
    pub hardware_id: Option<String>,
    /// `--inside`.
    pub inside: Vec<String>,
    /// Ways to prove the device, as our own options name them.
    pub proof: ProofSetup,
}

/// What setup will do.
#[derive(Debug)]
pub struct Plan {
    /// What the device will remember of it.
    pub setup: Setup,
    /// What it will remember of ways to prove itself.
    pub proof: ProofSetup,
    /// The bulk registration token.
    pub token: Option<TokenText>,
    /// Words that do nothing here.
    pub notes: Vec<Note>,
    /// What a person should know before it begins.
    pub warnings: Vec<String>,
}

/// Why setup does not begin.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The pasted words.
    #[error("the set-up line cannot be used")]
    Line(#[source] SetupLineError),
    /// Nobody to go to.
    #[error("no gateway named: add /mp:https://… or CCMHOSTNAME=…")]
    NoGateway,
    /// A gateway and nothing to show it.
    #[error("no bulk registration token: add --regtoken-file FILE or /regtoken:…")]
    NoToken,
    /// Nothing vouches for the site.
    #[error(
        "nothing says which site to trust: add --site-root sha256:… as `roamgate bulk-token new` prints it"
    )]
    NoRoot,
    /// `--authority`.
    #[error("--authority is no address of a tenant")]
    Authority(#[source] crate::credential::entra::ProviderError),
    /// The token is none.
    #[error("the bulk registration token cannot be used")]
    Token(#[source] TokenFormError),
    /// A file cannot be read.
    #[error("{what} {} cannot be read", path.display())]
    File {
        /// What it holds.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The certificate store is not there, or may not be read.
    #[error("the certificate store {} cannot be read", path.display())]
    CertificateStore {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The site root.
    #[error("the site root cannot be used")]
    Pin(#[source] PinError),
    /// `--inside`.
    #[error("--inside does not name a management point")]
    Inside(#[source] AddressError),
    /// The device's name.
    #[error("a device's name has 1 to {} characters, and no control characters", limits::NAME_CHARS)]
    Name,
    /// A fact about the machine.
    #[error("a fact about this machine is missing")]
    Platform(#[source] PlatformError),
}

/// Reads what was given, and says what is missing.
pub fn plan(request: &SetupRequest, stdin: &mut dyn Read, now: Timestamp) -> Result<Plan, PlanError> {
    let mut options = ccmsetup::parse(&request.words).map_err(PlanError::Line)?;
    let mut warnings = Vec::new();
    if options.token.is_some() {
        warnings.push(
            "the token stands on the command line, where every account of this machine can read it; \
             --regtoken-file FILE, or - for standard input, keeps it to itself"
                .to_owned(),
        );
    }
    if let Some(path) = &request.regtoken_file {
        options.token = Some(read_token(path, stdin)?);
    }
    for address in &request.inside {
        let address = address.parse().map_err(PlanError::Inside)?;
        if !options.inside.contains(&address) {
            options.inside.push(address);
        }
    }
    if options.gateways.is_empty() && (options.token.is_some() || options.inside.is_empty()) {
        return Err(PlanError::NoGateway);
    }
    let proof = merged(options.proof, &request.proof);
    if options.token.is_none() && options.inside.is_empty() && !proof.has_certificates() && !proof.has_entra()
    {
        return Err(PlanError::NoToken);
    }
    if let Some(authority) = &proof.authority {
        crate::credential::entra::host_of(authority).map_err(PlanError::Authority)?;
    }
    if proof.no_crl_check {
        warnings.push(
            "/NoCRLCheck: nobody checks whether the gateway's certificate was revoked until the first client settings \
             are there; the site is told"
                .to_owned(),
        );
    }
    if let Some(token) = &options.token {
        let claims = read_bulk_token(token.expose()).map_err(PlanError::Token)?;
        if now >= claims.expires {
            warnings.push(format!("by this device's clock the token ended at {}", claims.expires));
        }
    }
    let pin = pin(request.site_root.as_deref(), options.root_key.as_ref())?;
    let vouched =
        !options.gateways.is_empty() || options.inside.iter().any(|mp| mp.to_string().starts_with("https"));
    if pin == Pin::FirstUse && !vouched {
        return Err(PlanError::NoRoot);
    }
    if pin == Pin::FirstUse {
        warnings.push(
            "no site root was named: the first is taken that comes over a connection which this \
             system trusts; --site-root sha256:… names it for certain"
                .to_owned(),
        );
    }
    let name = match &request.name {
        Some(name) => name.trim().to_owned(),
        None => platform::host_name().map_err(PlanError::Platform)?,
    };
    let length = name.chars().count();
    if length == 0 || length > limits::NAME_CHARS || name.chars().any(char::is_control) {
        return Err(PlanError::Name);
    }
    check_certificate_store(&proof)?;
    Ok(Plan {
        setup: Setup {
            name,
            hardware_id: platform::hardware_id(request.hardware_id.as_deref())
                .map_err(PlanError::Platform)?,
            site_code: options.site_code,
            inside: options.inside,
            gateways: options.gateways,
            always_internet: options.always_internet,
            ca: request.ca_file.as_deref().map(read_ca).transpose()?,
            pin,
        },
        proof,
        token: options.token,
        notes: options.notes,
        warnings,
    })
}

/// Whether the folder that a person named as certificate store is there: one that comes later is
/// more often a spelling mistake.
pub fn check_certificate_store(proof: &ProofSetup) -> Result<(), PlanError> {
    let Some(path) = &proof.certificate_store else { return Ok(()) };
    match std::fs::read_dir(path) {
        Ok(_) => Ok(()),
        Err(source) => Err(PlanError::CertificateStore { path: path.clone(), source }),
    }
}

/// What the line says and what our own options say; an option counts before the line.
pub(crate) fn merged(line: ProofSetup, options: &ProofSetup) -> ProofSetup {
    let options = options.clone();
    let words = |ours: Vec<String>, theirs: Vec<String>| if ours.is_empty() { theirs } else { ours };
    ProofSetup {
        certificate_store: options.certificate_store.or(line.certificate_store),
        certificate_password_file: options.certificate_password_file.or(line.certificate_password_file),
        selection: line.selection,
        use_pki_certificate: line.use_pki_certificate || options.use_pki_certificate,
        no_crl_check: line.no_crl_check || options.no_crl_check,
        workplace_join: options.workplace_join.or(line.workplace_join),
        join_status: options.join_status.or(line.join_status),
        tenant: options.tenant.or(line.tenant),
        client_app_id: options.client_app_id.or(line.client_app_id),
        resource: options.resource.or(line.resource),
        authority: options.authority.or(line.authority),
        device_token_command: words(options.device_token_command, line.device_token_command),
        user_token_command: words(options.user_token_command, line.user_token_command),
        sign_in: options.sign_in || line.sign_in,
    }
}

/// The words of a command as a person types it into one option: quotes group.
pub fn command_words(text: &str) -> Vec<String> {
    words::split(text)
}

/// Reads a bulk registration token from a file or standard input. White space inside is that of a
/// mail program, not of the token.
pub fn read_token(path: &Path, stdin: &mut dyn Read) -> Result<TokenText, PlanError> {
    let failed = |source| PlanError::File { what: "the token file", path: path.to_owned(), source };
    let mut text = String::new();
    let limit = limits::TOKEN_BYTES as u64 + 1024;
    if path == Path::new("-") {
        stdin.take(limit).read_to_string(&mut text).map_err(failed)?;
    } else {
        std::fs::File::open(path).map_err(failed)?.take(limit).read_to_string(&mut text).map_err(failed)?;
    }
    let token: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    Ok(token.into())
}

fn read_ca(path: &Path) -> Result<String, PlanError> {
    let failed =
        |source| PlanError::File { what: "the file of trusted roots", path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(CA_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

fn pin(site_root: Option<&str>, key: Option<&RootKey>) -> Result<Pin, PlanError> {
    let pin = match (site_root, key) {
        (Some(text), _) => Pin::from_option(text),
        (None, Some(RootKey::File(path))) => Pin::from_file(path),
        (None, Some(RootKey::Hex(hex))) => Pin::from_key(hex),
        (None, None) => Ok(Pin::FirstUse),
    };
    pin.map_err(PlanError::Pin)
}

/// What a finished setup came to.
#[derive(Debug)]
pub struct Finished {
    /// Who the device is now.
    pub registration: Registration,
    /// The policy that was applied; none while the device waits for approval.
    pub policy: Option<PolicyOutcome>,
}

/// Why setup did not come to its end. What was reached is kept; the same line goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A device was set up here before.
    #[error("this device is set up already as {0}")]
    SetUpAlready(proto::id::ClientId),
    /// The state folder.
    #[error("the state cannot be kept")]
    State(#[source] StateError),
    /// The key.
    #[error("the device has no usable key")]
    Identity(#[source] IdentityError),
    /// The device.
    #[error("the device cannot be made")]
    Device(#[source] DeviceError),
    /// Registration.
    #[error("the device was not registered")]
    Register(#[source] RequestError),
    /// Confirmation.
    #[error("the registration was not confirmed")]
    Confirm(#[source] RequestError),
    /// Policy.
    #[error("the device is registered, but has no policy yet")]
    Policy(#[source] PolicyError),
    /// Heartbeat.
    #[error("the device is registered and has its policy, but its heartbeat was not taken")]
    Heartbeat(#[source] RequestError),
}

/// Sets the device up in a folder whose lock the caller holds: key, registration, confirmation,
/// policy, heartbeat. `progress` is told each step as it is reached.
pub async fn run(
    plan: Plan,
    folder: &StateFolder,
    force: bool,
    clock: Clock,
    patience: Patience,
    prompter: Option<Prompter>,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<Finished, SetupError> {
    field!(info, ccmsetup, "==========[ ccmsetup started in process {} ]==========", std::process::id());
    let result = steps(plan, folder, force, clock, patience, prompter, progress).await;
    let code = u32::from(result.is_err()) * 6;
    field!(info, ccmsetup, "CcmSetup is exiting with return code {code}");
    result
}

async fn steps(
    plan: Plan,
    folder: &StateFolder,
    force: bool,
    clock: Clock,
    patience: Patience,
    prompter: Option<Prompter>,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<Finished, SetupError> {
    let from_internet = plan.token.is_some() || plan.setup.inside.is_empty();
    field!(info, ccmsetup, "CCMSETUP bootstrap from Internet: {}", u8::from(from_internet));
    for note in &plan.notes {
        line!(info, ccmsetup, word = note.word, hint = note.hint, "word ignored");
    }
    let state = state(folder, plan.setup, plan.proof, plan.token.is_some(), force)?;
    if let Some(registration) = &state.registration {
        progress(&format!(
            "set up already as {}; registering anew under the same key",
            registration.client_id
        ));
    }
    let key = key(folder, &clock).await?;
    progress("key and certificate ready");
    let options = DeviceOptions { state, key, store: Arc::new(folder.clone()), clock, system_roots: true };
    let mut device = Device::new(options).map_err(SetupError::Device)?;
    device.on_network(crate::platform::network());
    device.save().map_err(SetupError::State)?;
    if let Some(token) = plan.token {
        device.use_bulk_token(token);
    }
    if let Some(prompter) = prompter {
        device.prompt_with(prompter);
    }
    let registration =
        patiently(&mut device, patience, async |device| device.register_as(Trigger::Setup).await)
            .await
            .map_err(SetupError::Register)?;
    // The way that registration went; a device that stayed inside has another line for it.
    if let Some(gateway) = device.state().setup.gateways.first().filter(|_| from_internet) {
        field!(info, ccmsetup, "Found a valid online MP 'https://{gateway}'");
    }
    let method = device.method();
    progress(&format!("registered as {} by {method}", registration.client_id));
    let registration = patiently(&mut device, patience, async |device| device.confirm().await)
        .await
        .map_err(SetupError::Confirm)?;
    progress("self-prove token received");
    // Gateways are for the way out: a device that has none yet may still learn them later.
    if let Err(error) = device.learn_gateways().await {
        line!(warn, ccmsetup, error = %runtime::telemetry::Chain(&error), "the site's gateways were not learnt");
    }
    if !registration.approval.is_approved() {
        progress("waiting for approval");
        return Ok(Finished { registration, policy: None });
    }
    progress("approved");
    let policy = patiently(&mut device, patience, async |device| device.policy().await)
        .await
        .map_err(SetupError::Policy)?;
    let version = device.state().policy.settings.version.clone().unwrap_or_else(|| "none".into());
    progress(&format!("policy applied: {} in force, client settings version {version}", policy.in_force));
    patiently(&mut device, patience, async |device| device.heartbeat().await)
        .await
        .map_err(SetupError::Heartbeat)?;
    progress("heartbeat sent");
    device.clear_failure().map_err(SetupError::State)?;
    Ok(Finished { registration, policy: Some(policy) })
}

/// The state to begin with: a new one, or that of a setup that did not come to its end. A device
/// that is registered is set up anew only on demand; it keeps its key, so it keeps its id. One that
/// gets a bulk registration token registers again, and keeps everything else that it has.
fn state(
    folder: &StateFolder,
    setup: Setup,
    proof: ProofSetup,
    has_token: bool,
    force: bool,
) -> Result<State, SetupError> {
    let old = if folder.is_set_up() { Some(folder.load().map_err(SetupError::State)?) } else { None };
    let mut new = State::new(setup);
    new.proof = proof;
    let Some(old) = old else { return Ok(new) };
    // The same hardware under the same key, whatever chance said today.
    new.setup.hardware_id.clone_from(&old.setup.hardware_id);
    match old.registration {
        Some(registration) if !force && !has_token => Err(SetupError::SetUpAlready(registration.client_id)),
        Some(_) if !force => Ok(kept(old, new)),
        _ => Ok(new),
    }
}

/// What an installed device keeps when it is given a new token: its id, its tokens, its policy. Words
/// of the new line count before what it was told once.
fn kept(mut old: State, new: State) -> State {
    let (before, told) = (&old.setup, new.setup);
    let setup = Setup {
        gateways: known_gateways([&*told.gateways, &*before.gateways]),
        inside: if told.inside.is_empty() { before.inside.clone() } else { told.inside },
        site_code: told.site_code.or(before.site_code),
        ca: told.ca.or(before.ca.clone()),
        pin: if told.pin == Pin::FirstUse { before.pin.clone() } else { told.pin },
        name: before.name.clone(),
        hardware_id: before.hardware_id.clone(),
        always_internet: told.always_internet || before.always_internet,
    };
    if setup.pin != before.pin {
        // Another pin may name another site: then what the old one signed counts no more.
        old.trust = SiteTrust::default();
    }
    let selection = new.proof.selection.clone();
    let no_crl_check = new.proof.no_crl_check;
    old.proof = ProofSetup { selection, no_crl_check, ..merged(old.proof, &new.proof) };
    old.setup = setup;
    // A token of before must not be used in place of the one that the new token gives.
    old.ccm = None;
    old
}

async fn key(folder: &StateFolder, clock: &Clock) -> Result<KeyMaterial, SetupError> {
    if folder.has_key() {
        return folder.load_key().map_err(SetupError::State);
    }
    let now = Timestamp::from_micros(clock.now());
    // Making the key takes its time; the runtime has other things to do meanwhile.
    let made = tokio::task::spawn_blocking(move || KeyMaterial::generate(now)).await;
    let key = made.unwrap_or(Err(IdentityError::Generate)).map_err(SetupError::Identity)?;
    folder.save_key(&key).map_err(SetupError::State)?;
    line!(info, CertificateMaintenance, thumbprint = %proto::id::Thumbprint::of(&key.certificate), "key and self-signed certificate made");
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::tests::text_of;
    use proto::token::TokenClass;

    const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);
    const GATEWAY: &str = "CCMHOSTNAME=gw/CCM_Proxy_MutualAuth/7";

    fn request(words: &[&str]) -> SetupRequest {
        SetupRequest {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            name: Some("pc1".into()),
            hardware_id: Some("random".into()),
            ..SetupRequest::default()
        }
    }

    fn token() -> String {
        format!("/regtoken:{}", text_of(TokenClass::Bulk, NOW.seconds() + 60))
    }

    fn planned(request: &SetupRequest) -> Result<Plan, PlanError> {
        plan(request, &mut std::io::empty(), NOW)
    }

    #[test]
    fn what_is_missing_is_said() {
        let token = token();
        for words in [&[][..], &["/mp:", "SMSSiteCode=GER", "SMSMP=https://mp1", &token], &[&token]] {
            let error = planned(&request(words)).unwrap_err();
            assert_eq!(
                error.to_string(),
                "no gateway named: add /mp:https://… or CCMHOSTNAME=…",
                "{words:?}"
            );
        }
        assert!(matches!(planned(&request(&[GATEWAY])), Err(PlanError::NoToken)));
        assert!(matches!(planned(&request(&["SMSMP=mp1"])), Err(PlanError::NoRoot)));
        assert!(planned(&request(&["SMSMP=https://mp1"])).is_ok());
        assert!(planned(&request(&[GATEWAY, &token])).is_ok());
    }

    #[test]
    fn a_token_on_the_command_line_is_taken_with_a_warning_and_a_file_without() {
        let plan = planned(&request(&[GATEWAY, &token()])).unwrap();
        assert!(plan.warnings.iter().any(|warning| warning.contains("--regtoken-file")));
        assert!(!format!("{plan:?}").contains(&token()[10..40]), "no token in debug output");

        let mut request = request(&[GATEWAY]);
        let text = text_of(TokenClass::Bulk, NOW.seconds() - 60);
        request.regtoken_file = Some("-".into());
        let folded = format!("{}\r\n {}\n", &text[..20], &text[20..]);
        let plan = super::plan(&request, &mut folded.as_bytes(), NOW).unwrap();
        assert_eq!(plan.token.unwrap().expose(), text);
        assert!(plan.warnings.iter().any(|warning| warning.contains("ended at")), "{:?}", plan.warnings);
        let wrong = text_of(TokenClass::SelfProve, NOW.seconds());
        assert!(matches!(super::plan(&request, &mut wrong.as_bytes(), NOW), Err(PlanError::Token(_))));
        request.regtoken_file = Some("/no/such/file".into());
        assert!(matches!(planned(&request), Err(PlanError::File { .. })));
    }

    #[test]
    fn options_and_words_come_together() {
        let mut request = request(&[GATEWAY, "SMSSITECODE=rg1", "SMSMP=mp1"]);
        request.inside = vec!["http://mp1".into(), "http://mp2:8080".into()];
        request.site_root = Some(format!("sha256:{}", "AB".repeat(32)));
        let setup = planned(&request).unwrap().setup;
        assert_eq!(setup.inside.len(), 2);
        assert!(matches!(setup.pin, Pin::Fingerprint(_)));
        assert_eq!(setup.site_code.unwrap().to_string(), "RG1");
        for name in [String::new(), "a\nb".into(), "x".repeat(256)] {
            request.name = Some(name);
            assert!(matches!(planned(&request), Err(PlanError::Name)));
        }
    }

    #[test]
    fn a_registered_device_is_set_up_anew_only_on_demand_and_stays_the_same_hardware() {
        use crate::state::{Approval, Store as _};
        let parent = tempfile::tempdir().unwrap();
        let folder = StateFolder::create(parent.path()).unwrap();
        let setup = planned(&request(&[GATEWAY, &token()])).unwrap().setup;
        let state =
            |setup, has_token, force| super::state(&folder, setup, ProofSetup::default(), has_token, force);
        let mut old = state(setup.clone(), false, false).unwrap();
        folder.save(&old).unwrap();
        assert!(state(setup.clone(), false, false).is_ok(), "not registered yet: goes on");
        old.registration = Some(Registration {
            client_id: proto::id::ClientId::new(proto::id::Guid::nil()),
            approval: Approval::Approved,
            registered: NOW,
            confirmed: None,
        });
        folder.save(&old).unwrap();
        assert!(matches!(state(setup.clone(), false, false), Err(SetupError::SetUpAlready(_))));
        let other = Setup { hardware_id: "2:00".into(), ..setup };
        let new = state(other.clone(), false, true).unwrap();
        assert_eq!(new.setup.hardware_id, old.setup.hardware_id);
        assert!(new.registration.is_none());
        let with_token = state(other, true, false).unwrap();
        assert_eq!(
            with_token.registration, old.registration,
            "a new token on an installed client keeps its id"
        );
        assert_eq!(with_token.setup.hardware_id, old.setup.hardware_id);
    }

    /// Everything that stands in the files of a folder.
    fn all_content(folder: &Path) -> String {
        let mut all = String::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                all += &all_content(&path);
            } else {
                all += &String::from_utf8_lossy(&std::fs::read(&path).unwrap());
            }
        }
        all
    }

    #[tokio::test]
    async fn a_pasted_line_makes_a_managed_device_and_the_token_is_nowhere_afterwards() {
        use crate::testing::{FakeSite, PolicyFixture, fixture_client_id, log_to};
        let clock = Clock::manual(NOW.micros());
        let site = FakeSite::start(&clock);
        site.site().policies = vec![PolicyFixture::settings("3.00", "")];
        let parent = tempfile::tempdir().unwrap();
        let ca = parent.path().join("ca.pem");
        std::fs::write(&ca, &site.ca).unwrap();
        let gateway = format!("CCMHOSTNAME={}", site.gateway());
        let text = text_of(TokenClass::Bulk, NOW.seconds() + 60);
        let mut request =
            request(&["ccmsetup.exe", "/mp:", &gateway, "SMSSITECODE=RG1", &format!("/regtoken:{text}")]);
        request.ca_file = Some(ca);
        request.site_root = Some(format!("sha256:{}", proto::id::Thumbprint::of(site.keys.root())));
        let folder = StateFolder::create(&parent.path().join("state")).unwrap();
        let mut steps = Vec::new();
        let mut progress = |step: &str| steps.push(step.to_owned());
        let (guard, handle) = log_to(&folder.logs(), runtime::telemetry::Level::Verbose, &clock);
        let plan = planned(&request).unwrap();
        let finished =
            run(plan, &folder, false, clock.clone(), Patience::NONE, None, &mut progress).await.unwrap();
        drop(guard);
        drop(handle);

        assert_eq!(finished.registration.client_id, fixture_client_id());
        assert_eq!(finished.policy.unwrap().in_force, 1);
        assert_eq!(steps.last().unwrap(), "heartbeat sent");
        let state = folder.load().unwrap();
        assert!(state.self_prove.is_some() && state.contact.failure.is_none());
        let content = all_content(folder.path());
        let secrets = [
            &text,
            state.ccm.as_ref().unwrap().text.expose(),
            state.self_prove.as_ref().unwrap().text.expose(),
        ];
        assert!(!content.contains(&text), "the bulk token is kept nowhere");
        let logs = all_content(&folder.logs());
        assert!(secrets.iter().all(|secret| !logs.contains(*secret)), "no token is logged");
        for line in [
            "[RegTask] - Starting registration, attempt 1.",
            "[RegTask] - Client is registered. Server assigned ClientID is GUID:3C283CD4-88D1-4D24-8AC7-8735BD09A9C3. Approval status 1",
            "Cached encrypted token for 'S-1-5-18'. Will expire at '",
            "Appending CCM Token to the header.",
            "Rotating internet management point, new management point [1] is: https://localhost:",
            "endpoint 'MP_PolicyManager'. Flags 0x280, sender account S-1-5-18",
            "CcmSetup is exiting with return code 0",
        ] {
            assert!(logs.contains(line), "{line}");
        }

        // The same line again: the device is given a token, so it registers again, under the same key and id.
        site.take_seen();
        let plan = planned(&request).unwrap();
        let again = run(plan, &folder, false, clock, Patience::NONE, None, &mut |_: &str| {}).await.unwrap();
        assert_eq!(again.registration.client_id, fixture_client_id());
        assert_eq!(site.take_seen()[0].token, Some(TokenClass::Bulk));
    }
}
