//! `roamgate serve`: all roles of a configuration file bind before any of them serves.

#[cfg(feature = "site")]
mod watch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use runtime::telemetry::{Chain, ComponentSpec, Format, Level, LogConfig, LogHandle, StepSink};
use runtime::{Clock, Drain};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::cli::ServeArgs;
use crate::config::{self, Config, LogsSection};
use crate::exit::{Exit, Failure};
use crate::telemetry;

/// How long requests that are under way may take once the process was asked to stop.
const DRAIN: Duration = Duration::from_secs(30);
/// File of seconds by which the lab moves its children's clocks.
pub(crate) const CLOCK_OFFSET_VARIABLE: &str = "ROAMGATE_CLOCK_OFFSET_FILE";

/// The clock of this process: the system's, or the lab's.
pub(crate) fn clock() -> Clock {
    match std::env::var_os(CLOCK_OFFSET_VARIABLE) {
        Some(path) => Clock::with_offset_file(path),
        None => Clock::system(),
    }
}

/// What goes into no component of its own.
const DEFAULT_COMPONENT: ComponentSpec =
    ComponentSpec { component: "roamgate", file: "roamgate.log", format: Format::Simple };

/// Runs the roles of a file until the process is asked to stop.
pub(crate) async fn run(arguments: ServeArgs) -> Result<(), Failure> {
    let config = config::load(&arguments.config)?;
    let clock = clock();
    let traces = telemetry::start(&service_name(&config));
    let logs = Arc::new(start_log(&config, &clock, traces.sink())?);
    traces.warn();
    share_losses(&logs);
    let drain = Drain::new();
    if arguments.end_with_stdin {
        runtime::signal::end_with_standard_input(&drain, DRAIN).map_err(|error| failed(&error))?;
    }
    let roles = config.roles().join(", ");
    let mut running = start_roles(config, &arguments, &clock, &logs, &drain).await?;
    info!(roles, "serving");
    let mut reload = runtime::signal::reload_signal().map_err(|error| failed(&error))?;
    loop {
        tokio::select! {
            stop = runtime::signal::wait_for_stop_signal() => {
                stop.map_err(|error| failed(&error))?;
                drain.begin(DRAIN);
            }
            () = reload.next() => reload_levels(&arguments.config, &logs),
            () = drain.started() => break,
            ended = running.join_next() => match ended {
                // A role that ends by itself takes the process with it: something restarts it whole.
                Some(Ok(Err(failure))) => {
                    drain.begin(DRAIN);
                    finish(&drain, running, traces, &logs).await;
                    return Err(failure);
                }
                Some(Err(error)) => return Err(failed(&error)),
                Some(Ok(Ok(()))) | None => drain.begin(DRAIN),
            },
        }
    }
    info!("stopping: no new requests, those under way are finished");
    finish(&drain, running, traces, &logs).await;
    Ok(())
}

type Running = JoinSet<Result<(), Failure>>;

/// Binds every role, and only then starts them all.
async fn start_roles(
    config: Config,
    arguments: &ServeArgs,
    clock: &Clock,
    logs: &Arc<LogHandle>,
    drain: &Drain,
) -> Result<Running, Failure> {
    let mut running = JoinSet::new();
    #[cfg(feature = "site")]
    let site_host = match &config.site {
        Some(section) => Some(SiteHost::bind(section, &config, arguments, clock, logs).await?),
        None => None,
    };
    #[cfg(not(feature = "site"))]
    let _ = (arguments, logs);
    #[cfg(feature = "gateway")]
    let gateway = match config.gateway {
        Some(section) => {
            Some(gateway::Gateway::bind(section, clock.clone()).map_err(|error| cannot_start(&error))?)
        }
        None => None,
    };
    #[cfg(feature = "connector")]
    let connection_point = match config.connection_point {
        Some(section) => Some(
            connector::ConnectionPoint::bind(&section, clock.clone())
                .map_err(|error| cannot_start(&error))?,
        ),
        None => None,
    };

    #[cfg(feature = "site")]
    if let Some(host) = site_host {
        host.start(&mut running, drain);
    }
    #[cfg(feature = "gateway")]
    if let Some(gateway) = gateway {
        let drain = drain.clone();
        running.spawn(async move { gateway.run(drain).await.map_err(|error| failed(&error)) });
    }
    #[cfg(feature = "connector")]
    if let Some(connection_point) = connection_point {
        let drain = drain.clone();
        running.spawn(async move {
            connection_point.run(drain).await;
            Ok(())
        });
    }
    Ok(running)
}

/// The site and its three listeners, in one process because one process owns the database.
#[cfg(feature = "site")]
struct SiteHost {
    site: site::Site,
    management_point: Option<management_point::Bound>,
    site_link: Option<console::BoundSiteLink>,
    operator_api: Option<console::BoundOperatorApi>,
    fetch: fetch::Config,
    clock: Clock,
    admin: Option<std::net::TcpListener>,
    admin_names: Vec<String>,
}

#[cfg(feature = "site")]
impl SiteHost {
    async fn bind(
        section: &config::SiteSection,
        config: &Config,
        arguments: &ServeArgs,
        clock: &Clock,
        logs: &Arc<LogHandle>,
    ) -> Result<Self, Failure> {
        let lab = arguments.lab_approve_everything;
        let files = site::SiteConfig { lab, ..site::SiteConfig::new(&section.database, &section.key_file) };
        let site = site::Site::open(files, clock.clone()).await.map_err(|error| cannot_start(&error))?;
        let management_point = match &config.management_point {
            Some(section) => {
                let options = management_point::Options { approve_everything: lab };
                let bound = management_point::ManagementPoint::bind(
                    section.clone(),
                    site.clone(),
                    clock.clone(),
                    options,
                );
                Some(bound.map_err(|error| cannot_start(&error))?)
            }
            None => None,
        };
        let site_link = match &config.site_link {
            Some(section) => {
                let bound = console::SiteLink::bind(section.clone(), site.clone(), clock.clone());
                Some(bound.await.map_err(|error| cannot_start(&error))?)
            }
            None => None,
        };
        let operator_api = match &config.operator_api {
            Some(section) => {
                let links = site_link.as_ref().map(console::BoundSiteLink::links).unwrap_or_default();
                let bound = console::OperatorApi::bind(
                    section.clone(),
                    site.clone(),
                    Arc::clone(logs),
                    clock.clone(),
                    links,
                );
                Some(bound.await.map_err(|error| cannot_start(&error))?)
            }
            None => None,
        };
        let admin = section.admin_listen.map(runtime::listen::bind).transpose();
        Ok(Self {
            admin: admin.map_err(|error| cannot_start(&error))?,
            admin_names: section.admin_names.clone(),
            site,
            management_point,
            site_link,
            operator_api,
            fetch: config.fetch.clone(),
            clock: clock.clone(),
        })
    }

    fn start(self, running: &mut Running, drain: &Drain) {
        let Self { site, management_point, site_link, operator_api, fetch, clock, admin, admin_names } = self;
        let mut listeners: JoinSet<std::io::Result<()>> = JoinSet::new();
        let watched = Arc::new(watch::SiteWatch::new(&site, management_point.as_ref(), drain, admin_names));
        if let Some(bound) = management_point {
            let serving = watched.serving();
            let run = bound.run(drain.clone());
            listeners.spawn(async move {
                let ended = run.await;
                drop(serving);
                ended
            });
        }
        let closed = tokio_util::sync::CancellationToken::new();
        let monitors = admin.map(|listener| {
            let end = closed.clone();
            tokio::spawn(async move { runtime::admin::serve(watched, listener, end.cancelled()).await })
        });
        if let Some(bound) = site_link {
            let drain = drain.clone();
            listeners.spawn(async move {
                bound.run(drain).await;
                Ok(())
            });
        }
        if let Some(bound) = operator_api {
            let drain = drain.clone();
            listeners.spawn(async move {
                bound.run(drain).await;
                Ok(())
            });
        }
        let fetching = fetch::run(site.clone(), fetch, clock, drain.clone());
        listeners.spawn(async move {
            fetching.await;
            Ok(())
        });
        let drain = drain.clone();
        running.spawn(async move {
            drain.token().run_until_cancelled(site.run_upkeep()).await;
            // The database closes last: every request that is still answered may need it.
            let mut outcome = Ok(());
            while let Some(ended) = listeners.join_next().await {
                if let Ok(Err(error)) = ended {
                    outcome = Err(failed(&error));
                }
            }
            closed.cancel();
            if let Some(monitors) = monitors {
                // A monitor's task that panicked has said so where it happened.
                let _ = monitors.await;
            }
            site.close().await;
            outcome
        });
    }
}

async fn finish(drain: &Drain, mut running: Running, traces: telemetry::Traces, logs: &LogHandle) {
    if let runtime::drain::Finished::CutOff(left) = drain.finish().await {
        warn!(left, "stopped with work under way: the deadline was over");
    }
    while running.join_next().await.is_some() {}
    traces.finish().await;
    logs.flush();
}

/// What this process is called in traces unless the environment says: after its role, where it has one.
fn service_name(config: &Config) -> String {
    let hosts = [
        #[cfg(feature = "site")]
        (config.site.is_some(), "site"),
        #[cfg(feature = "gateway")]
        (config.gateway.is_some(), "gateway"),
        #[cfg(feature = "connector")]
        (config.connection_point.is_some(), "connection-point"),
    ];
    let names: Vec<_> = hosts.into_iter().filter(|(there, _)| *there).map(|(_, name)| name).collect();
    match names[..] {
        [name] => format!("roamgate-{name}"),
        _ => "roamgate".to_owned(),
    }
}

/// Puts on the pages for monitors what the log has lost.
fn share_losses(logs: &Arc<LogHandle>) {
    let logs = Arc::downgrade(logs);
    runtime::metrics::share(move |page| {
        page.counter(
            "roamgate_log_lines_lost_total",
            "Log lines that were lost: they came faster than they could be written, or the disk was full.",
        )
        .value(logs.upgrade().map_or(0, |logs| logs.lost()));
    });
}

fn start_log(config: &Config, clock: &Clock, steps: Option<Arc<dyn StepSink>>) -> Result<LogHandle, Failure> {
    let section = &config.logs;
    let level = Level::try_from(section.level).map_err(|error| Failure::from_error(Exit::Usage, &error))?;
    let log = LogConfig {
        folder: section.directory.clone(),
        components: components(config),
        json: section.json,
        level,
        max_size: section.max_size.bytes(),
        steps,
        ..LogConfig::new(DEFAULT_COMPONENT, clock.clone())
    };
    let handle = runtime::telemetry::init(log).map_err(|error| Failure::from_error(Exit::Usage, &error))?;
    set_levels(section, &handle);
    Ok(handle)
}

/// Every component of the roles that the file starts: which file, in which format. The gateway's
/// own come first: a site host keeps the same component for what its gateways report.
fn components(config: &Config) -> Vec<ComponentSpec> {
    let mut all = Vec::new();
    #[cfg(feature = "gateway")]
    if config.gateway.is_some() {
        all.extend_from_slice(gateway::COMPONENTS);
    }
    #[cfg(feature = "connector")]
    if config.connection_point.is_some() {
        all.extend_from_slice(connector::COMPONENTS);
    }
    #[cfg(feature = "site")]
    if config.site.is_some() {
        let own = management_point::log::COMPONENTS.iter();
        for spec in own.chain(console::COMPONENTS).chain(fetch::COMPONENTS) {
            if !all.iter().any(|known: &ComponentSpec| known.component == spec.component) {
                all.push(*spec);
            }
        }
    }
    all
}

/// SIGHUP: levels are taken from the file again. Certificates are the gateway's own business.
fn reload_levels(path: &Path, logs: &LogHandle) {
    match runtime::config::load::<Config>(path) {
        Ok(config) => {
            if let Ok(level) = Level::try_from(config.logs.level) {
                for (component, _) in logs.levels() {
                    // A component of the list is always known.
                    let _ = logs.set_level(component, level);
                }
            }
            set_levels(&config.logs, logs);
            info!("log levels read again");
        }
        Err(error) => warn!(error = %Chain(&error), "configuration not read again: the old levels stay"),
    }
}

fn set_levels(section: &LogsSection, logs: &LogHandle) {
    for (component, level) in &section.levels {
        let set = Level::try_from(*level).map(|level| logs.set_level(component, level));
        if !matches!(set, Ok(Ok(()))) {
            warn!(component = component.as_str(), level, "no such log component or level");
        }
    }
}

fn cannot_start(error: &dyn std::error::Error) -> Failure {
    Failure::from_error(Exit::Refused, error)
        .help("`roamgate config check FILE` looks at the file and all that it names.")
}

fn failed(error: &dyn std::error::Error) -> Failure {
    Failure::from_error(Exit::Bug, error)
}
