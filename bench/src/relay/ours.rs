//! Roamgate itself: deployments with a role of the inner server, and devices that may ask it.

use std::path::Path;

use super::Plan;
use super::peer::{Inner, OURS, Peer};
use super::row::RowId;
use crate::lab::{
    Authority, Binaries, Deployment, DeploymentOptions, EnrolledDevice, KeyKind, LabError, counted_limits,
    has_limits,
};

/// All of Roamgate that is measured.
#[derive(Debug)]
pub(super) struct Ours {
    /// What nearly every row asks.
    pub(super) main: Side,
    /// Another one whose gateway shows an RSA certificate, for handshakes.
    pub(super) rsa: Option<Deployment>,
    /// Another one whose gateway counts every limit.
    pub(super) limited: Option<Side>,
    /// A device that the main one knows by a certificate of a trusted authority, and not by a token.
    pub(super) certified: Option<EnrolledDevice>,
}

/// A deployment and a device of it.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) peer: Peer,
    pub(super) device: EnrolledDevice,
    pub(super) deployment: Deployment,
}

/// What deployments are made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) plan: &'a Plan,
    pub(super) binaries: &'a Binaries,
    pub(super) authority: &'a Authority,
    pub(super) inner: &'a Inner,
}

impl Ours {
    /// Starts what the rows of the plan need.
    pub(super) fn start(site: Site<'_>, folder: &Path) -> Result<Self, LabError> {
        let Site { plan, authority, .. } = site;
        let wants = |row| plan.rows.contains(&row);
        let mut main = Side::start(site, &folder.join(OURS), &plan.gateway_lines)?;
        let certified = wants(RowId::Auth).then(|| main.certify(authority, folder)).transpose()?;
        let rsa = || site.deploy(&folder.join("roamgate-rsa"), KeyKind::Rsa, &plan.gateway_lines);
        let rsa = wants(RowId::Handshake).then(rsa).transpose()?;
        // With limits named on the command line everything is measured with those.
        let limited_side = || {
            let lines = format!("{}\n{}", plan.gateway_lines, counted_limits());
            Side::start(site, &folder.join("roamgate-limited"), &lines)
        };
        let limited = wants(RowId::Limits) && !has_limits(&plan.gateway_lines);
        Ok(Self { main, rsa, limited: limited.then(limited_side).transpose()?, certified })
    }

    /// An error when a role has ended.
    pub(super) fn check(&mut self) -> Result<(), crate::process::ProcessError> {
        let sides = std::iter::once(&mut self.main).chain(&mut self.limited);
        sides.map(|side| &mut side.deployment).chain(&mut self.rsa).try_for_each(Deployment::check)
    }
}

impl Site<'_> {
    fn deploy(&self, folder: &Path, key: KeyKind, gateway_lines: &str) -> Result<Deployment, LabError> {
        std::fs::create_dir_all(folder)
            .map_err(|source| LabError::File { path: folder.to_owned(), source })?;
        let options = DeploymentOptions {
            key,
            gateway_lines: gateway_lines.to_owned(),
            connector_lines: self.plan.connector_lines.clone(),
        };
        Deployment::start(self.binaries, folder, self.authority, &options)
    }
}

impl Side {
    /// Starts a deployment, publishes the inner server, and lets a device in.
    pub(super) fn start(site: Site<'_>, folder: &Path, gateway_lines: &str) -> Result<Self, LabError> {
        let mut deployment = site.deploy(folder, KeyKind::Ecdsa, gateway_lines)?;
        let device = deployment.enrol("bench-1")?;
        // Gateways publish no role that speaks plain HTTP inside: ours has TLS on that hop, too, as it must.
        deployment.operate(&["trust", "add", &site.authority.file.display().to_string()])?;
        let url = format!("https://localhost:{}", site.inner.tls.port());
        let role = deployment.add_role("inner", &url, "https")?;
        let peer = Peer {
            id: OURS,
            title: "Roamgate: gateway, tunnel, connection point; authentication on".to_owned(),
            address: deployment.address,
            rsa: None,
            asking: None,
            is_tls: true,
            prefix: format!("/CCM_Proxy_ServerAuth/{role}"),
            front: deployment.gateway_pid(),
            all: vec![deployment.gateway_pid(), deployment.connector_pid()],
            processes: Vec::new(),
        };
        Ok(Self { peer, device, deployment })
    }

    /// Makes a device that needs no token, because the site trusts who issued its certificate.
    fn certify(&mut self, authority: &Authority, folder: &Path) -> Result<EnrolledDevice, LabError> {
        // The authority has no revocation lists, and lives as long as the measurement.
        self.deployment.operate(&["settings", "set", "client_crl_check", "off"])?;
        self.deployment.settle()?;
        let (certificate, key) = authority.issue_device(folder, "certified")?;
        Ok(EnrolledDevice { certificate, key, token: String::new() })
    }
}
