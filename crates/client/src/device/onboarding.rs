//! Which app asks for tokens to what, and where: from setup, from the device's join, or from a gateway.

use proto::entra::AuthInfo;
use proto::id::Guid;

use super::{Device, EntraFailure};
use crate::credential::entra::{self, Onboarding};
use crate::credential::revocation::CrlCheck;
use crate::log::{field, line};

/// Gateways that are asked about a tenant.
const GATEWAYS: usize = 3;

impl Device {
    /// The device's tenant, as setup or the join state name it.
    pub(super) fn tenant(&self) -> Option<Guid> {
        let known = self.state.credentials.onboarding.as_ref().map(|known| known.tenant);
        self.state.proof.tenant.or_else(|| self.join.as_ref().and_then(|join| join.tenant)).or(known)
    }

    /// Which app asks for what and where: from setup, or from a gateway.
    pub(super) async fn onboarding(&mut self) -> Result<Onboarding, EntraFailure> {
        let tenant = self.tenant().ok_or(EntraFailure::NoTenant)?;
        let proof = &self.state.proof;
        if let (Some(client_app_id), Some(resource)) = (&proof.client_app_id, &proof.resource) {
            let authority = proof.authority.clone().or_else(|| self.joined_authority());
            let onboarding = Onboarding {
                tenant,
                client_app_id: client_app_id.clone(),
                resource: resource.clone(),
                authority: authority.unwrap_or_else(|| entra::public_authority(tenant)),
            };
            self.state.credentials.onboarding = Some(onboarding.clone());
            return Ok(onboarding);
        }
        if let Some(known) = self.state.credentials.onboarding.as_ref().filter(|known| known.tenant == tenant)
        {
            return Ok(known.clone());
        }
        if proof.use_pki_certificate {
            return Err(EntraFailure::UsePkiCertificate);
        }
        let mut onboarding = self.ask_about_tenant(tenant).await?;
        // A gateway is believed about names, and not about where this device proves its key: what setup
        // or the device itself knows comes first.
        if let Some(authority) = self.state.proof.authority.clone().or_else(|| self.joined_authority()) {
            if entra::host_of(&authority) != entra::host_of(&onboarding.authority) {
                line!(
                    warn,
                    ADALOperationProvider,
                    gateway = onboarding.authority,
                    device = authority,
                    "the gateway names another authority than this device knows; the device's counts"
                );
            }
            onboarding.authority = authority;
        }
        self.state.credentials.onboarding = Some(onboarding.clone());
        self.keep();
        Ok(onboarding)
    }

    /// The authority of the device's own join state.
    fn joined_authority(&self) -> Option<String> {
        let url = self.join.as_ref()?.token_url.as_ref()?;
        let authority =
            url.strip_suffix("/oauth2/token").or_else(|| url.strip_suffix("/oauth2/v2.0/token"))?;
        entra::host_of(authority).is_ok().then(|| authority.to_owned())
    }

    /// `AADAuthInfo`: what a gateway says about a tenant.
    async fn ask_about_tenant(&mut self, tenant: Guid) -> Result<Onboarding, EntraFailure> {
        let path = format!("/CCM_Proxy_ServerAuth/AADAuthInfo?TenantID={tenant}");
        let mut last = None;
        for gateway in self.gateways().into_iter().take(GATEWAYS) {
            let authority = gateway.authority();
            let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "443"));
            field!(info, ccmsetup, "Getting AAD info from CMG '{authority}'");
            field!(
                info,
                ccmsetup,
                "SMS CCM 5.0: Host={host}, Path={path}, Port={port}, Protocol=https, CcmTokenAuth=0, Flags=0x1304, Options=0xe0"
            );
            self.tell_judges();
            let answer = self.transport.open_page(&gateway, &path, None, &*self.store).await;
            let (status, body) = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    line!(warn, ccmsetup, error = %runtime::telemetry::Chain(&error), "the gateway did not answer about the tenant");
                    last = Some(error);
                    continue;
                }
            };
            field!(info, ccmsetup, "Created connection on port {port}");
            if self.revocation_check() != CrlCheck::Off {
                field!(info, ccmsetup, "Enabled SSL revocation check.");
            }
            let info = serde_json::from_slice::<AuthInfo>(&body).ok().filter(|info| info.tenant == tenant);
            match info {
                Some(info) if status == 200 => {
                    return Ok(Onboarding {
                        tenant,
                        client_app_id: info.client_app_id,
                        resource: info.resource,
                        authority: info.authority,
                    });
                }
                _ => {
                    field!(
                        error,
                        ccmsetup,
                        "Failed to get AAD info for tenant '{tenant}' from CMG '{authority}'. StatusCode={status}"
                    );
                    return Err(EntraFailure::UnknownTenant(tenant));
                }
            }
        }
        Err(last.map_or(EntraFailure::UnknownTenant(tenant), |error| EntraFailure::Gateway(Box::new(error))))
    }
}
