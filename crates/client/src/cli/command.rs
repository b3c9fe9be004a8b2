//! One function a command.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::credential::ProofSetup;
use crate::credential::preference::Trigger;
use crate::device::{Device, DeviceError, DeviceOptions, Occasion, Prompter, UserTokenError};
use crate::doctor::Diagnosis;
use crate::platform;
use crate::policy::PolicyError;
use crate::retry::{Patience, patiently};
use crate::schedule::Intervals;
use crate::service::{self, Surroundings};
use crate::setup::{self, SetupRequest, command_words, read_token};
use crate::state::{StateError, StateFolder, StateLock, Store as _};
use crate::status::Status;
use crate::token::confirmation_is_due;
use proto::time::Timestamp;
use runtime::config::HumanDuration;
use runtime::telemetry::{Console, Level, LogHandle, LogInitError};
use runtime::{Clock, Drain};

use super::arguments::{Arguments, Command, Common, Output, ProofArguments, SetupArguments};
use super::exit::Exit;
use super::problem::Problem;

/// How long a command waits for the service to finish what it is doing.
const TURN: Duration = Duration::from_secs(75);
/// Time the service has to finish a request when it is asked to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// The log level of a command line that names none; the help says so, too.
const DEFAULT_LOG_LEVEL: u8 = 1;

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> Result<Exit, Problem> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Problem::new(Exit::Bug, "runtime", None, error))?;
    runtime.block_on(command(arguments))
}

async fn command(arguments: Arguments) -> Result<Exit, Problem> {
    let Arguments { common, command } = arguments;
    let clock = match &common.clock_offset_file {
        Some(path) => Clock::with_offset_file(path),
        None => Clock::system(),
    };
    let path = common.state.clone().unwrap_or_else(platform::default_state_folder);
    match command {
        Command::Setup(setup) => set_up(setup, &common, path, clock).await,
        Command::Status { output } => status(&StateFolder::open(&path)?, &clock, output),
        Command::Uninstall => uninstall(StateFolder::open(&path)?).await,
        Command::Register { regtoken_file } => {
            register(&opened(&common, path, clock).await?, regtoken_file).await
        }
        Command::Doctor { output } => doctor(&opened(&common, path, clock).await?, output),
        Command::Credentials(proof) => credentials(&opened(&common, path, clock).await?, proof).await,
        Command::SignIn => sign_in(&opened(&common, path, clock).await?).await,
        Command::SignOut { account } => sign_out(&opened(&common, path, clock).await?, &account),
        Command::UserPolicy { account } => {
            user_policy(&opened(&common, path, clock).await?, account.as_deref()).await
        }
        Command::Settings { words } => local_settings(&StateFolder::open(&path)?, &words),
        Command::Sync => sync(&opened(&common, path, clock).await?).await,
        Command::Token => token(&opened(&common, path, clock).await?).await,
        Command::Service { poll_interval, heartbeat_interval, end_with_stdin } => {
            let mut intervals =
                Intervals { poll: poll_interval.map(HumanDuration::get), ..Intervals::default() };
            if let Some(time) = heartbeat_interval {
                intervals.heartbeat = Some(time.get());
            }
            serve(&common, path, clock, intervals, end_with_stdin).await
        }
    }
}

/// A device's folder, opened for a command.
struct Opened {
    folder: StateFolder,
    clock: Clock,
    _lock: StateLock,
    _log: LogHandle,
}

impl Opened {
    fn device(&self) -> Result<Device, Problem> {
        Ok(device(&self.folder, &self.clock)?)
    }
}

async fn opened(common: &Common, path: PathBuf, clock: Clock) -> Result<Opened, Problem> {
    let folder = StateFolder::open(&path)?;
    let log = log(common, &folder, &clock)?;
    let lock = turn(&folder).await?;
    Ok(Opened { folder, clock, _lock: lock, _log: log })
}

fn device(folder: &StateFolder, clock: &Clock) -> Result<Device, DeviceProblem> {
    let options = DeviceOptions {
        state: folder.load().map_err(DeviceProblem::State)?,
        key: folder.load_key().map_err(DeviceProblem::State)?,
        store: Arc::new(folder.clone()),
        clock: clock.clone(),
        system_roots: true,
    };
    let mut device = Device::new(options).map_err(DeviceProblem::Device)?;
    device.on_network(platform::network());
    Ok(device)
}

enum DeviceProblem {
    State(StateError),
    Device(DeviceError),
}

impl From<DeviceProblem> for Problem {
    fn from(problem: DeviceProblem) -> Self {
        match problem {
            DeviceProblem::State(error) => error.into(),
            DeviceProblem::Device(error) => Self::new(
                Exit::Conflict,
                "device::unusable",
                Some(
                    "The device's key or roots are damaged: `roamgate-client uninstall`, then set it up anew.",
                ),
                error,
            ),
        }
    }
}

fn log(common: &Common, folder: &StateFolder, clock: &Clock) -> Result<LogHandle, Problem> {
    let console = if common.verbose { Console::Text } else { Console::Off };
    let level = Level::try_from(common.log_level).unwrap_or_default();
    let config = crate::log::config(Some(folder.logs()), level, console, clock.clone());
    runtime::telemetry::init(config).map_err(|error: LogInitError| {
        Problem::new(Exit::Conflict, "log::folder", Some("The log folder lies in the state folder."), error)
    })
}

/// Waits until no other process works with the folder.
async fn turn(folder: &StateFolder) -> Result<StateLock, StateError> {
    let begin = Instant::now();
    loop {
        match folder.try_lock() {
            Err(StateError::Busy(_)) if begin.elapsed() < TURN => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            other => return other,
        }
    }
}

async fn set_up(
    arguments: SetupArguments,
    common: &Common,
    path: PathBuf,
    clock: Clock,
) -> Result<Exit, Problem> {
    let request = SetupRequest {
        words: arguments.words,
        ca_file: arguments.ca_file,
        site_root: arguments.site_root,
        regtoken_file: arguments.regtoken_file,
        name: arguments.name,
        hardware_id: arguments.hardware_id,
        inside: arguments.inside,
        proof: proof_setup(arguments.proof),
    };
    let now = Timestamp::from_micros(clock.now());
    let plan = setup::plan(&request, &mut std::io::stdin(), now)?;
    for note in &plan.notes {
        eprintln!("ignored: {}: {}", note.word, note.hint);
    }
    for warning in &plan.warnings {
        eprintln!("warning: {warning}");
    }
    let folder = StateFolder::create(&path)?;
    let _log = log(common, &folder, &clock)?;
    let _lock = turn(&folder).await?;
    let mut progress = |step: &str| println!("  {step}");
    println!("Setting up {} in {}", plan.setup.name, folder.path().display());
    let finished = setup::run(
        plan,
        &folder,
        arguments.force,
        clock,
        Patience::INTERACTIVE,
        Some(prompter()),
        &mut progress,
    )
    .await?;
    if finished.policy.is_none() {
        println!(
            "Registered and not approved yet. An operator approves it with: roamgate device approve {}",
            finished.registration.client_id
        );
        return Ok(Exit::Partly);
    }
    let state = common.state.as_ref().map(|path| format!(" --state {}", path.display())).unwrap_or_default();
    println!("Done. Keep it managed with: roamgate-client service{state}");
    Ok(Exit::Done)
}

fn proof_setup(arguments: ProofArguments) -> ProofSetup {
    let words = |command: Option<String>| command.map(|text| command_words(&text)).unwrap_or_default();
    ProofSetup {
        certificate_store: arguments.certificate_store,
        certificate_password_file: arguments.certificate_password_file,
        workplace_join: arguments.workplace_join,
        join_status: arguments.join_status,
        authority: arguments.authority,
        device_token_command: words(arguments.device_token_command),
        user_token_command: words(arguments.user_token_command),
        sign_in: arguments.sign_in,
        ..ProofSetup::default()
    }
}

/// Shows a person what to do to sign in.
fn prompter() -> Prompter {
    Arc::new(|prompt| println!("  to sign in, open {} and enter the code {}", prompt.address, prompt.code))
}

/// Takes new ways to prove the device, and the best of them at once.
async fn credentials(opened: &Opened, arguments: ProofArguments) -> Result<Exit, Problem> {
    let proof = proof_setup(arguments);
    setup::check_certificate_store(&proof)?;
    let mut device = opened.device()?;
    device.registered()?;
    device.prove_with(&proof)?;
    device.prompt_with(prompter());
    patiently(&mut device, Patience::INTERACTIVE, async |device| device.refresh(Trigger::Setup).await)
        .await?;
    if device.state().registration.is_some_and(|registration| registration.confirmed.is_none()) {
        patiently(&mut device, Patience::INTERACTIVE, async |device| device.confirm().await).await?;
    }
    let method = device.state().method.as_ref();
    println!("method: {}", device.method());
    if let Some(method) = method {
        println!("because: {}", method.reason);
        for refused in &method.refused {
            println!("not {}: {}", refused.method, refused.why);
        }
    }
    Ok(Exit::Done)
}

fn doctor(opened: &Opened, output: Output) -> Result<Exit, Problem> {
    let mut device = opened.device()?;
    let diagnosis = Diagnosis::of(&mut device);
    let text = match output {
        Output::Text => diagnosis.to_string(),
        Output::Json => {
            let json = serde_json::to_string_pretty(&diagnosis);
            json.map_err(|error| Problem::new(Exit::Bug, "doctor::json", None, error))? + "\n"
        }
    };
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|error| Problem::new(Exit::Bug, "doctor::output", None, error))?;
    Ok(if diagnosis.has_problems() { Exit::Problems } else { Exit::Done })
}

async fn sign_in(opened: &Opened) -> Result<Exit, Problem> {
    let mut device = opened.device()?;
    device.prompt_with(prompter());
    let sid = device.sign_in().await?;
    let name =
        device.state().credentials.accounts.get(&sid).map_or(sid.clone(), |account| account.name.clone());
    println!("signed in: {name} ({sid})");
    Ok(Exit::Done)
}

fn sign_out(opened: &Opened, account: &str) -> Result<Exit, Problem> {
    let mut device = opened.device()?;
    match device.sign_out(account)? {
        Some(sid) => {
            println!("forgotten: {sid}");
            Ok(Exit::Done)
        }
        None => Err(unknown_account(account)),
    }
}

async fn user_policy(opened: &Opened, account: Option<&str>) -> Result<Exit, Problem> {
    let mut device = opened.device()?;
    device.registered()?;
    let accounts = &device.state().credentials.accounts;
    let sids: Vec<String> = match account {
        Some(text) => vec![accounts.find(text).ok_or_else(|| unknown_account(text))?.sid.clone()],
        None => accounts.iter().map(|account| account.sid.clone()).collect(),
    };
    if sids.is_empty() {
        let help = "`roamgate-client sign-in` adds one.";
        return Err(Problem::new(Exit::NotFound, "account::none", Some(help), UserTokenError::NoAccount));
    }
    let mut failed = None;
    for sid in sids {
        match device.user_policy(&sid).await {
            Ok(policy) => println!("{sid}: {} in force, serial {}", policy.applied.len(), policy.serial),
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(Exit::Done), |error| Err(error.into()))
}

fn unknown_account(account: &str) -> Problem {
    let help = "`roamgate-client status` shows the accounts; `roamgate-client sign-in` adds one.";
    Problem::new(Exit::NotFound, "account::unknown", Some(help), UserTokenError::Unknown(account.to_owned()))
}

async fn register(opened: &Opened, regtoken_file: Option<PathBuf>) -> Result<Exit, Problem> {
    let mut device = opened.device()?;
    let with_token = regtoken_file.is_some();
    if let Some(path) = regtoken_file {
        device.use_bulk_token(read_token(&path, &mut std::io::stdin())?);
    }
    device.look_around(Occasion::Start).await?;
    if with_token || device.client_id().is_none() {
        patiently(&mut device, Patience::INTERACTIVE, async |device| device.register().await).await?;
    }
    let registration =
        patiently(&mut device, Patience::INTERACTIVE, async |device| device.confirm().await).await?;
    let approved = registration.approval.is_approved();
    let word = if approved { "approved" } else { "waiting for approval" };
    println!("registered as {}, {word}", registration.client_id);
    Ok(if approved { Exit::Done } else { Exit::Partly })
}

fn local_settings(folder: &StateFolder, words: &[String]) -> Result<Exit, Problem> {
    let mut settings = folder.local_settings()?;
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        settings.set(name, value)?;
    }
    if !words.is_empty() {
        folder.save_local_settings(&settings)?;
    }
    let shown = settings.shown();
    if shown.is_empty() {
        println!("No settings made by hand.");
    }
    for (name, value) in shown {
        println!("{name}={value}");
    }
    Ok(Exit::Done)
}

async fn sync(opened: &Opened) -> Result<Exit, Problem> {
    let mut device = opened.device()?;
    device.registered()?;
    device.look_around(Occasion::Start).await?;
    patiently(&mut device, Patience::INTERACTIVE, async |device| {
        device.refresh(Trigger::RegistrationRefresh).await
    })
    .await?;
    let state = device.state();
    let held = state
        .registration
        .is_some_and(|registration| !registration.approval.is_approved() || registration.confirmed.is_none());
    let asks = device.may_only_ask_for_permission();
    if held || asks || confirmation_is_due(state.self_prove.as_ref(), device.now()) {
        patiently(&mut device, Patience::INTERACTIVE, async |device| device.confirm().await).await?;
    }
    let outcome = patiently(&mut device, Patience::INTERACTIVE, async |device| device.policy().await).await;
    let outcome = outcome.map_err(|error: PolicyError| Problem::from(error))?;
    patiently(&mut device, Patience::INTERACTIVE, async |device| device.learn_gateways().await).await?;
    patiently(&mut device, Patience::INTERACTIVE, async |device| device.heartbeat().await).await?;
    device.clear_failure()?;
    let state = device.state();
    let place = state.whereabouts.as_ref().map_or_else(String::new, |w| format!(" over the {}", w.locality));
    let version = state.policy.settings.version.as_deref().unwrap_or("none");
    println!(
        "policy: {} in force, {} fetched, client settings version {version}; heartbeat sent{place}",
        outcome.in_force, outcome.fetched
    );
    Ok(Exit::Done)
}

async fn token(opened: &Opened) -> Result<Exit, Problem> {
    let mut device = opened.device()?;
    device.registered()?;
    let token =
        patiently(&mut device, Patience::INTERACTIVE, async |device| device.ccm_token().await).await?;
    println!("{}", token.expose());
    Ok(Exit::Done)
}

fn status(folder: &StateFolder, clock: &Clock, output: Output) -> Result<Exit, Problem> {
    // Without the lock: the state file is replaced as a whole, so it can be read at any moment.
    let (state, key) = (folder.load()?, folder.load_key()?);
    let status = Status::of(&state, &key, Timestamp::from_micros(clock.now()));
    let text = match output {
        Output::Text => status.to_string(),
        Output::Json => {
            let json = serde_json::to_string_pretty(&status);
            json.map_err(|error| Problem::new(Exit::Bug, "status::json", None, error))? + "\n"
        }
    };
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|error| Problem::new(Exit::Bug, "status::output", None, error))?;
    Ok(Exit::Done)
}

async fn uninstall(folder: StateFolder) -> Result<Exit, Problem> {
    let lock = turn(&folder).await?;
    let path = folder.path().to_owned();
    folder.remove(lock)?;
    println!(
        "Removed key, tokens, policy and logs from {}. The site still has the device's record.",
        path.display()
    );
    Ok(Exit::Done)
}

async fn serve(
    common: &Common,
    path: PathBuf,
    clock: Clock,
    intervals: Intervals,
    end_with_stdin: bool,
) -> Result<Exit, Problem> {
    let folder = StateFolder::open(&path)?;
    let log = Arc::new(log(common, &folder, &clock)?);
    let device = device(&folder, &clock)?;
    let mut surroundings = Surroundings::default();
    // What the command line says counts before policy.
    if common.log_level == DEFAULT_LOG_LEVEL {
        let log = Arc::clone(&log);
        surroundings.set_log_level = Some(Box::new(move |level| crate::log::set_level(&log, level.level())));
    }
    let drain = Drain::new();
    let failed = |error: std::io::Error| Problem::new(Exit::Bug, "service::signals", None, error);
    if end_with_stdin {
        runtime::signal::end_with_standard_input(&drain, DRAIN).map_err(failed)?;
    }
    let stop = drain.clone();
    tokio::spawn(async move {
        if runtime::signal::wait_for_stop_signal().await.is_ok() {
            stop.begin(DRAIN);
        }
    });
    let service = service::run(device, folder, intervals, drain.clone(), surroundings);
    tokio::select! {
        ended = service => ended?,
        // The request under way did not end in time: the site treats it as one that got lost.
        () = async { drain.started().await; tokio::time::sleep(DRAIN).await } => {}
    }
    Ok(Exit::Done)
}
