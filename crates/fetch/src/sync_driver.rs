//! Runs the discovery of users and devices that the site says is due.

use std::time::Duration;

use runtime::telemetry::{Chain, OneLine};
use runtime::{Clock, Drain};
use secrecy::SecretString;
use site::{
    Directory, DirectoryError as SiteDirectoryError, DueSync, FoundDevice, FoundUser, Site, SyncEnd,
    SyncError, SyncId, SyncSource, SyncState, Tenant, TenantError, TenantPart,
};
use tracing::{debug, error, info, warn};

use crate::config::Config;
use crate::directory::{Computer, DirectoryError, DirectorySource, Mark, Person, Session};
use crate::graph::{Device, Entry, GraphClient, GraphError, GraphSource, User};
use crate::log::{DIRECTORIES, TENANTS};
use crate::outbound::{Outbound, OutboundError};
use crate::sync_link::Links;
use crate::workers::Workers;

/// Time between two looks at the clock and at what is due.
const TICK: Duration = Duration::from_secs(2);
/// Longest run. A million users take some ten minutes.
const LONGEST: Duration = Duration::from_hours(1);

/// A run did not end well.
#[derive(Debug, thiserror::Error)]
enum RunError {
    /// The source is not there any more.
    #[error("the source was removed")]
    Removed,
    /// Nobody can sign in.
    #[error("no secret was given for the discovery app: set it with `roamgate tenant`")]
    NoSecret,
    /// The process stops.
    #[error("the process was stopped in the middle of it")]
    Stopped,
    /// It never ends.
    #[error("not finished within {} minutes", LONGEST.as_secs() / 60)]
    TooLong,
    /// The way out.
    #[error("no way out")]
    Outbound(#[from] OutboundError),
    /// The tenant's lists.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The site did not take what was found.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// The site did not tell what it knows of the tenant.
    #[error(transparent)]
    Tenant(#[from] TenantError),
    /// The site did not tell what it knows of the directory.
    #[error(transparent)]
    SiteDirectory(#[from] SiteDirectoryError),
    /// The site's database.
    #[error("what is known was not read")]
    Database(#[from] site::db::DbError),
}

impl RunError {
    /// When to try again, where the source or the occasion says so.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Stopped => Some(Duration::ZERO),
            Self::Graph(error) => error.retry_after(),
            _ => None,
        }
    }
}

/// What a run needs.
#[derive(Clone)]
struct Run {
    site: Site,
    config: Config,
    clock: Clock,
    drain: Drain,
}

pub(crate) async fn run(site: &Site, config: &Config, clock: &Clock, drain: &Drain) {
    let mut workers = Workers::new();
    let run = Run { site: site.clone(), config: config.clone(), clock: clock.clone(), drain: drain.clone() };
    while !drain.has_started() {
        match site.list_due_syncs().await {
            Ok(due) => {
                for due in due {
                    let run = run.clone();
                    workers.start(due.source, async move { run.discover(due).await });
                }
            }
            Err(error) => error!(component = TENANTS, error = %Chain(&error), "due discoveries not read"),
        }
        tokio::select! {
            () = drain.started() => {}
            () = tokio::time::sleep(TICK) => {}
            () = site.wanted_syncs().notified() => {}
            (source, ended) = workers.finished() => {
                if ended.is_none() {
                    error!(component = component(source), "discovery broke off");
                }
            }
        }
    }
    // They heard of it, too, and note that they were stopped.
    workers.finish().await;
}

fn component(source: SyncSource) -> &'static str {
    match source {
        SyncSource::Tenant(_) => TENANTS,
        SyncSource::Directory(_) => DIRECTORIES,
    }
}

impl Run {
    /// One run, from its beginning to its end or failure.
    async fn discover(self, due: DueSync) {
        let component = component(due.source);
        let sync = match self.site.begin_sync(due.source).await {
            Ok(sync) => sync,
            // Removed between two looks.
            Err(error) => {
                debug!(component, error = %Chain(&error), "discovery not begun");
                return;
            }
        };
        let ended = tokio::select! {
            ended = tokio::time::timeout(LONGEST, self.find(sync, due)) => ended.unwrap_or(Err(RunError::TooLong)),
            () = self.drain.started() => Err(RunError::Stopped),
        };
        let error = match ended {
            Ok((name, state)) => {
                let SyncState { users, devices, .. } = state;
                info!(component, source = %OneLine(&name), full = due.full, users, devices, "discovery done");
                return;
            }
            Err(error) => error,
        };
        let text = Chain(&error).to_string();
        warn!(component, error = %OneLine(&text), "discovery failed");
        match self.site.fail_sync(sync, &text, error.retry_after()).await {
            // An operator began another one meanwhile, or removed the source.
            Ok(()) | Err(SyncError::Superseded | SyncError::Unknown) => {}
            Err(error) => error!(component, error = %Chain(&error), "failed discovery not noted"),
        }
    }

    async fn find(&self, sync: SyncId, due: DueSync) -> Result<(String, SyncState), RunError> {
        let known = if due.full { None } else { self.site.delta_link(due.source).await? };
        match due.source {
            SyncSource::Tenant(id) => {
                let tenants = self.site.list_tenants().await?;
                let tenant =
                    tenants.into_iter().find(|tenant| tenant.tenant == id).ok_or(RunError::Removed)?;
                let state = self.find_in_tenant(sync, &tenant, known).await?;
                Ok((tenant.name, state))
            }
            SyncSource::Directory(id) => {
                let directories = self.site.list_directories().await?;
                let directory = directories.into_iter().find(|directory| directory.id == id);
                let directory = directory.ok_or(RunError::Removed)?;
                let state = self.find_in_directory(sync, &directory, known).await?;
                Ok((directory.name, state))
            }
        }
    }

    async fn find_in_tenant(
        &self,
        sync: SyncId,
        tenant: &Tenant,
        known: Option<String>,
    ) -> Result<SyncState, RunError> {
        let secret = self.site.tenant_secret(tenant.tenant).await?.ok_or(RunError::NoSecret)?;
        let source = GraphSource {
            authority: tenant.authority.clone(),
            graph_url: tenant.graph_url.clone(),
            app_id: tenant.discovery_app_id.clone(),
            secret: SecretString::from(secret.as_str()),
        };
        drop(secret);
        let outbound = Outbound::new(&self.clock, tenant.ca_pem.as_deref(), self.config.proxies)?;
        let mut graph = GraphClient::sign_in(outbound, source).await?;
        let mut links = known.as_deref().and_then(Links::parse).unwrap_or_default();
        // The link to users decides: without it everything is listed.
        let mut full = links.users.is_none();
        if full {
            links = Links::default();
        }
        let users = match self.users(sync, &mut graph, links.users.as_deref()).await {
            Err(RunError::Graph(GraphError::Resync)) => {
                info!(component = TENANTS, tenant = %OneLine(&tenant.name), "everything is listed anew");
                (full, links) = (true, Links::default());
                self.users(sync, &mut graph, None).await?
            }
            users => users?,
        };
        // Devices only serve the comparison with the directory: users go on without them.
        let since = links.devices.take();
        let devices = match self.devices(sync, &mut graph, since.as_deref()).await {
            Err(RunError::Graph(GraphError::Resync)) => self.devices(sync, &mut graph, None).await,
            devices => devices,
        };
        let (devices, missing) = match devices {
            Ok(link) => (link, None),
            Err(RunError::Graph(error @ GraphError::Consent { .. })) => (None, Some(error)),
            Err(error) => return Err(error),
        };
        let link = Links { users, devices }.text();
        let state = self.site.finish_sync(sync, SyncEnd { full, delta_link: link }).await?;
        if let Some(error) = missing {
            let text = Chain(&error).to_string();
            warn!(component = TENANTS, tenant = %OneLine(&tenant.name), error = %OneLine(&text), "devices not listed");
            self.site.note_tenant_failure(tenant.tenant, TenantPart::Users, &text).await?;
        }
        Ok(state)
    }

    async fn users(
        &self,
        sync: SyncId,
        graph: &mut GraphClient,
        since: Option<&str>,
    ) -> Result<Option<String>, RunError> {
        let mut list = graph.users(since)?;
        while let Some(page) = list.next().await? {
            self.site.put_users(sync, page.into_iter().map(tenant_user).collect()).await?;
        }
        Ok(list.delta_link().map(str::to_owned))
    }

    async fn devices(
        &self,
        sync: SyncId,
        graph: &mut GraphClient,
        since: Option<&str>,
    ) -> Result<Option<String>, RunError> {
        let mut list = graph.devices(since)?;
        while let Some(page) = list.next().await? {
            self.site.put_devices(sync, page.into_iter().filter_map(tenant_device).collect()).await?;
        }
        Ok(list.delta_link().map(str::to_owned))
    }

    async fn find_in_directory(
        &self,
        sync: SyncId,
        directory: &Directory,
        known: Option<String>,
    ) -> Result<SyncState, RunError> {
        let secret = self.site.directory_secret(directory.id).await?;
        let attributes = self.config.attributes.get(&directory.name).cloned().unwrap_or_default();
        let source = DirectorySource {
            url: directory.url.clone(),
            base: directory.base.clone(),
            filter: directory.filter.clone(),
            bind_dn: directory.bind_dn.clone(),
            secret: secret.map(|secret| SecretString::from(secret.as_str())),
            ca_pem: directory.ca_pem.clone(),
            start_tls: directory.start_tls,
            attributes,
        };
        let mut session = Session::open(source, &self.clock).await?;
        let mut since = known.as_deref().and_then(Mark::parse);
        match self.people(sync, directory, &mut session, since.as_ref()).await {
            Err(RunError::Directory(DirectoryError::Resync)) => {
                info!(component = DIRECTORIES, directory = %OneLine(&directory.name), "everything is searched anew");
                since = None;
                self.people(sync, directory, &mut session, None).await?;
            }
            people => people?,
        }
        let mut computers = session.computers(since.as_ref()).await?;
        while let Some(found) = computers.next().await? {
            self.site.put_devices(sync, found.into_iter().map(directory_device).collect()).await?;
        }
        // A delta that saw no change begins where this one did.
        let mark = session.mark().or_else(|| since.clone());
        session.close().await;
        let end = SyncEnd { full: since.is_none(), delta_link: mark.map(|mark| mark.text()) };
        Ok(self.site.finish_sync(sync, end).await?)
    }

    async fn people(
        &self,
        sync: SyncId,
        directory: &Directory,
        session: &mut Session,
        since: Option<&Mark>,
    ) -> Result<(), RunError> {
        let mut people = session.users(since).await?;
        while let Some(found) = people.next().await? {
            self.site.put_users(sync, found.into_iter().map(directory_user).collect()).await?;
        }
        let passed_over = people.passed_over();
        if passed_over > 0 {
            info!(
                component = DIRECTORIES,
                directory = %OneLine(&directory.name),
                passed_over,
                "users without a SID passed over"
            );
        }
        Ok(())
    }
}

fn tenant_user(entry: Entry<User>) -> FoundUser {
    match entry {
        Entry::Gone(id) => FoundUser { object_id: Some(id), removed: true, ..FoundUser::default() },
        Entry::Present(user) => FoundUser {
            object_id: Some(user.id),
            sid: user.on_premises_security_identifier,
            principal_name: user.user_principal_name.unwrap_or_default(),
            display_name: user.display_name.unwrap_or_default(),
            mail: user.mail.unwrap_or_default(),
            account: user.on_premises_sam_account_name.unwrap_or_default(),
            domain: user.on_premises_domain_name.unwrap_or_default(),
            distinguished_name: user.on_premises_distinguished_name.unwrap_or_default(),
            removed: false,
        },
    }
}

/// A removed device is named by its object id, which the site does not keep: the next full run takes
/// it away.
fn tenant_device(entry: Entry<Device>) -> Option<FoundDevice> {
    let Entry::Present(device) = entry else { return None };
    Some(FoundDevice {
        device_id: Some(device.device_id?),
        sid: device.on_premises_security_identifier,
        name: device.display_name.unwrap_or_default(),
        distinguished_name: String::new(),
        removed: false,
    })
}

fn directory_user(person: Person) -> FoundUser {
    FoundUser {
        object_id: None,
        sid: Some(person.sid),
        principal_name: person.principal_name,
        display_name: person.display_name,
        mail: person.mail,
        account: person.account,
        domain: person.domain,
        distinguished_name: person.distinguished_name,
        removed: false,
    }
}

fn directory_device(computer: Computer) -> FoundDevice {
    FoundDevice {
        device_id: None,
        sid: computer.sid,
        name: computer.name,
        distinguished_name: computer.distinguished_name,
        removed: false,
    }
}
