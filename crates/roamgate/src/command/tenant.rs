//! `roamgate tenant`, `roamgate directory`, `roamgate user`.

use proto::id::Guid;
use serde_json::{Value, json};

use super::{element, offline};
use crate::api::Api;
use crate::cli::{DirectoryCommand, TenantCommand, UserCommand};
use crate::exit::{Exit, Failure};
use crate::output::{self, Column, Format};

const COLUMNS: &[Column] = &[
    ("Tenant", "tenant_id"),
    ("Name", "name"),
    ("Enabled", "enabled"),
    ("Keys", "keys"),
    ("Fetched", "keys_fetched_at"),
    ("Discovery", "discovery"),
    ("Users", "users"),
    ("Devices", "devices"),
    ("Problem", "problem"),
];

const FIELDS: &[Column] = &[
    ("Tenant", "tenant_id"),
    ("Name", "name"),
    ("Enabled", "enabled"),
    ("Authority", "authority"),
    ("Issuers", "issuers"),
    ("Audiences", "audiences"),
    ("Resource", "resource"),
    ("Client app", "client_app_id"),
    ("Keys", "keys"),
    ("Fetched", "keys_fetched_at"),
    ("They count until", "keys_until"),
    ("Discovery", "discovery"),
    ("Last full", "full_at"),
    ("Last delta", "delta_at"),
    ("Users", "users"),
    ("Devices", "devices"),
    ("Secret ends", "secret_expires"),
    ("Problem", "problem"),
    ("Still off", "still_off"),
];

pub(crate) async fn run(command: TenantCommand, api: &Api, format: Format) -> Result<(), Failure> {
    match command {
        TenantCommand::Add(arguments) => {
            let secret = arguments.secret_file.as_deref().map(offline::read_secret).transpose()?;
            let ca = arguments.tenant_ca_file.as_deref().map(offline::read_text).transpose()?;
            let body = json!({
                "tenant_id": arguments.tenant_id,
                "name": arguments.name,
                "authority": arguments.authority,
                "issuers": arguments.issuer,
                "resource": arguments.resource,
                "audiences": arguments.audience,
                "client_app_id": arguments.client_app_id,
                "discovery_app_id": arguments.discovery_app_id,
                "secret": secret,
                "secret_expires": arguments.secret_expires,
                "graph_url": arguments.graph_url,
                "ca_pem": ca,
            });
            output::record(format, &api.post("tenants", &body).await?, FIELDS);
        }
        TenantCommand::List => {
            let empty = "No tenants. Onboard one with `roamgate tenant add`.";
            output::list(format, &api.get("tenants").await?, COLUMNS, empty);
        }
        TenantCommand::Show { tenant } => {
            output::record(format, &api.get(&path(&tenant)).await?, FIELDS);
        }
        TenantCommand::Verify { tenant } => {
            let answer = api.post(&format!("{}/verify", path(&tenant)), &json!({})).await?;
            output::record(format, &answer, FIELDS);
            end(&answer)?;
        }
        TenantCommand::Sync { tenant, full } => {
            let answer = api.post(&format!("{}/sync", path(&tenant)), &json!({"full": full})).await?;
            output::record(format, &answer, FIELDS);
            end(&answer)?;
        }
        TenantCommand::Disable { tenant } => act(api, &tenant, "disable", format).await?,
        TenantCommand::Enable { tenant } => act(api, &tenant, "enable", format).await?,
        TenantCommand::Remove { tenant } => {
            let gone = api.delete(&path(&tenant)).await?;
            output::record(
                format,
                &gone,
                &[("Tenant", "tenant_id"), ("Name", "name"), ("Removed", "removed")],
            );
        }
    }
    Ok(())
}

async fn act(api: &Api, tenant: &str, verb: &str, format: Format) -> Result<(), Failure> {
    let record = api.post(&format!("{}/{verb}", path(tenant)), &json!({})).await?;
    output::record(format, &record, &[("Tenant", "tenant_id"), ("Name", "name"), ("Enabled", "enabled")]);
    Ok(())
}

/// A run that met a problem ends so, when what is known has been printed.
fn end(answer: &Value) -> Result<(), Failure> {
    match answer["problem"].as_str() {
        Some(problem) => Err(Failure::new(Exit::Problems, problem)),
        None => Ok(()),
    }
}

/// A GUID in any spelling, or the tenant's name.
fn path(tenant: &str) -> String {
    let name = tenant.parse::<Guid>().map_or_else(|_| tenant.to_owned(), |id| id.to_string());
    format!("tenants/{}", element(&name))
}

const DIRECTORY: &[Column] = &[
    ("Name", "name"),
    ("Address", "url"),
    ("Base", "base"),
    ("Last full", "full_at"),
    ("Last delta", "delta_at"),
    ("Users", "users"),
    ("Computers", "computers"),
    ("Problem", "problem"),
];

pub(crate) async fn run_directory(
    command: DirectoryCommand,
    api: &Api,
    format: Format,
) -> Result<(), Failure> {
    match command {
        DirectoryCommand::Add(arguments) => {
            let secret = arguments.secret_file.as_deref().map(offline::read_secret).transpose()?;
            let ca = arguments.directory_ca_file.as_deref().map(offline::read_text).transpose()?;
            let body = json!({
                "name": arguments.name,
                "url": arguments.url,
                "base": arguments.base,
                "bind_dn": arguments.bind_dn,
                "secret": secret,
                "start_tls": arguments.start_tls,
                "ca_pem": ca,
                "filter": arguments.filter,
            });
            output::record(format, &api.post("directories", &body).await?, DIRECTORY);
        }
        DirectoryCommand::List => {
            let empty = "No directories. Hybrid users need one: `roamgate directory add`.";
            output::list(format, &api.get("directories").await?, DIRECTORY, empty);
        }
        DirectoryCommand::Sync { directory, full } => {
            let path = format!("directories/{}/sync", element(&directory));
            let answer = api.post(&path, &json!({"full": full})).await?;
            output::record(format, &answer, DIRECTORY);
            end(&answer)?;
        }
        DirectoryCommand::Remove { directory } => {
            let gone = api.delete(&format!("directories/{}", element(&directory))).await?;
            output::record(format, &gone, &[("Name", "name"), ("Removed", "removed")]);
        }
        DirectoryCommand::Unsynced => {
            let rows = api.get("directories/unsynced-units").await?;
            output::list(
                format,
                &rows,
                &[
                    ("Organisational unit", "unit"),
                    ("Computers", "computers"),
                    ("Missing in the tenants", "missing"),
                    ("What to do", "fix"),
                ],
                "No unit of a known directory (`roamgate directory list`) has computers that every tenant lacks.",
            );
        }
    }
    Ok(())
}

const USER: &[Column] = &[
    ("Name", "name"),
    ("Object id", "object_id"),
    ("SID", "sid"),
    ("Known to Entra", "in_tenant"),
    ("Known to the directory", "in_directory"),
    ("Missing", "missing"),
];

pub(crate) async fn run_user(command: UserCommand, api: &Api, format: Format) -> Result<(), Failure> {
    match command {
        UserCommand::List { incomplete } => {
            let query = if incomplete { "?incomplete=true" } else { "" };
            let rows: Value = api.get(&format!("users{query}")).await?;
            output::list(format, &rows, USER, "No users. `roamgate tenant sync` discovers them.");
        }
        UserCommand::Show { user } => {
            output::record(format, &api.get(&format!("users/{}", element(&user))).await?, USER);
        }
    }
    Ok(())
}
