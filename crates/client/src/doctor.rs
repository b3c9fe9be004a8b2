//! `roamgate-client doctor`: what the device can prove about itself, what is wrong with it, and what to do.
//!
//! Looks at the device alone: nothing is sent. Each line has state, cause, fix, and what happens next.

use std::fmt::{self, Write as _};

use proto::combination::Join;
use proto::time::Timestamp;
use serde::Serialize;

use crate::credential::entra::JoinKey;
use crate::credential::pki;
use crate::credential::preference::Trigger;
use crate::credential::state::CertificateRefusal;
use crate::device::Device;
use crate::join::Finding;
use crate::platform;
use crate::state::State;
use crate::token::Freshness;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What: `join state`, `workplace-join key`, `certificate`, `self-prove token`, `clock`, `gateway certificate`.
    pub what: &'static str,
    /// Whether a person should do something.
    pub problem: bool,
    /// How it stands.
    pub state: String,
    /// Why.
    pub cause: String,
    /// What to do.
    pub fix: String,
    /// What happens without that.
    pub next: String,
}

/// Everything that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// `workgroup`, `domain`, `entra` or `hybrid`; none where the system does not say.
    pub join: Option<&'static str>,
    /// What was looked at.
    pub checks: Vec<Check>,
}

impl Diagnosis {
    /// Looks at a device. Nothing is sent and nothing is changed but the memory of what was seen.
    pub fn of(device: &mut Device) -> Self {
        device.read_join();
        device.read_certificate(Trigger::RegistrationRefresh);
        let now = device.now();
        let state = device.state();
        let mut checks = vec![join_state(state)];
        checks.extend(join_key(state, now));
        checks.push(certificate(state, now));
        checks.push(self_prove(state, now));
        checks.extend(clock(state));
        checks.extend(servers(state));
        Self { join: state.credentials.join.map(Join::as_str), checks }
    }

    /// Whether anything wants a person.
    pub fn has_problems(&self) -> bool {
        self.checks.iter().any(|check| check.problem)
    }
}

fn join_state(state: &State) -> Check {
    let proof = &state.proof;
    let status = platform::join_status(proof.join_status.as_deref());
    let (finding, detail) = match (&status, state.credentials.finding) {
        (Err(error), _) => {
            return Check {
                what: "join state",
                problem: true,
                state: "not known".to_owned(),
                cause: runtime::telemetry::Chain(error).to_string(),
                fix: "Name a file with the output of `dsregcmd /status`: --join-status FILE.".to_owned(),
                next: Finding::NotJoined.next_step().to_owned(),
            };
        }
        (Ok(_), None) => {
            return Check {
                what: "join state",
                problem: false,
                state: "this system is joined to nothing that it could tell about".to_owned(),
                cause: "no --workplace-join and no --join-status was named".to_owned(),
                fix: "Nothing, if the device is to use a certificate or a site token.".to_owned(),
                next: Finding::NotJoined.next_step().to_owned(),
            };
        }
        (Ok(status), Some(finding)) => (finding, status.as_ref()),
    };
    let mut cause = finding.cause().to_owned();
    if let Some(status) = detail {
        let facts = [
            ("tenant", status.tenant_name.clone()),
            ("domain", status.domain_name.clone()),
            ("device", status.device.map(|device| device.to_string())),
            ("error phase", status.error_phase.clone()),
            ("client error", status.client_error.clone()),
            ("server error", status.server_error.clone()),
            ("server message", status.server_message.clone()),
            (
                "authentication",
                status.authentication.clone().filter(|text| !text.eq_ignore_ascii_case("SUCCESS")),
            ),
            (
                "key test",
                status.key_test.clone().filter(|text| !text.to_ascii_uppercase().starts_with("PASS")),
            ),
        ];
        for (name, value) in facts {
            if let Some(value) = value {
                let _ = write!(cause, "; {name}: {value}");
            }
        }
    }
    Check {
        what: "join state",
        problem: finding.is_problem(),
        state: finding.state().to_owned(),
        cause,
        fix: finding.fix().to_owned(),
        next: finding.next_step().to_owned(),
    }
}

fn join_key(state: &State, now: Timestamp) -> Option<Check> {
    let folder = state.proof.workplace_join.as_ref()?;
    let found = platform::certificates(folder, None)
        .map_err(|error| runtime::telemetry::Chain(&error).to_string())
        .and_then(|store| JoinKey::find(&store, now).map_err(|error| error.to_string()));
    Some(match found {
        Ok(key) => Check {
            what: "workplace-join key",
            problem: false,
            state: format!("proves device {}", key.device()),
            cause: format!("certificate and key lie in {}", folder.display()),
            fix: "Nothing.".to_owned(),
            next: "The device gets a device token with it.".to_owned(),
        },
        Err(cause) => Check {
            what: "workplace-join key",
            problem: true,
            state: "not usable; no token request leaves the device".to_owned(),
            cause,
            fix: Finding::NoWorkplaceCertificate.fix().to_owned(),
            next: Finding::NoWorkplaceCertificate.next_step().to_owned(),
        },
    })
}

fn certificate(state: &State, now: Timestamp) -> Check {
    let credentials = &state.credentials;
    let next =
        "It is looked for again at each registration refresh; until then the next method carries the device.";
    let what = "certificate";
    let Some(folder) = &state.proof.certificate_store else {
        return Check {
            what,
            problem: false,
            state: "none is used".to_owned(),
            cause: "no certificate store was named".to_owned(),
            fix: "Nothing, or name one with --certificate-store FOLDER.".to_owned(),
            next: next.to_owned(),
        };
    };
    let stored = platform::certificates(folder, state.proof.certificate_password_file.as_deref());
    let chosen = stored.map_err(|error| runtime::telemetry::Chain(&error).to_string()).and_then(|store| {
        pki::choose(&store, &state.proof.selection, &state.setup.name, now).map_err(|error| error.to_string())
    });
    match chosen {
        Err(cause) => Check {
            what,
            problem: true,
            state: format!("none in {} can be used", folder.display()),
            cause,
            fix: "Put a certificate for client authentication there that names this computer, with its key (mode 0600); or change \
                  CCMCERTSEL, CCMCERTISSUERS, CCMFIRSTCERT."
                .to_owned(),
            next: next.to_owned(),
        },
        Ok(chosen) => {
            let refused =
                credentials.certificate_refused.as_ref().filter(|refused| refused.thumbprint == chosen.thumbprint);
            let fix = refused.and_then(CertificateRefusal::code).map_or("Nothing.", |reason| reason.row().fix);
            Check {
                what,
                problem: refused.is_some(),
                state: format!("{} of {}, until {}", chosen.subject, chosen.issuer, chosen.not_after),
                cause: refused.map_or_else(
                    || format!("selected from {}", chosen.source),
                    |refused| format!("{} at {}", refused.text, refused.at),
                ),
                fix: fix.to_owned(),
                next: if refused.is_some() { next } else { "The device proves itself by it." }.to_owned(),
            }
        }
    }
}

fn self_prove(state: &State, now: Timestamp) -> Check {
    let what = "self-prove token";
    match &state.self_prove {
        None => Check {
            what,
            problem: state.registration.is_some(),
            state: "none".to_owned(),
            cause: if state.registration.is_some() {
                "the registration was not confirmed yet".to_owned()
            } else {
                "the device is not registered".to_owned()
            },
            fix: "`roamgate-client register`".to_owned(),
            next: "The service confirms by itself where it reaches the site.".to_owned(),
        },
        Some(token) if token.judge(now) == Freshness::Expired => Check {
            what,
            problem: true,
            state: format!("ended at {}", token.expires),
            cause: "the device was away from its site for longer than the token lives".to_owned(),
            fix: "Nothing within the recovery window: the registered key brings the device back. After it `roamgate device readmit`, \
                  or a new bulk registration token: `roamgate-client register --regtoken-file FILE`."
                .to_owned(),
            next: "The client asks the token service with the ended token and confirms by its key.".to_owned(),
        },
        Some(token) => Check {
            what,
            problem: false,
            state: format!("good until {}", token.expires),
            cause: format!("received at {}", token.received),
            fix: "Nothing.".to_owned(),
            next: format!("It is renewed from {} on.", token.renew_from),
        },
    }
}

fn clock(state: &State) -> Option<Check> {
    let text = clock_text(state.credentials.clock_offset)?;
    Some(Check {
        what: "clock",
        problem: true,
        state: text,
        cause: "the site's signed answers tell another time than this device".to_owned(),
        fix: "Set the clock, and let the system keep it by NTP.".to_owned(),
        next: "The client uses the site's time.".to_owned(),
    })
}

/// "this device's clock is 9 minutes slow"; `None`: it is right.
pub fn clock_text(offset_micros: i64) -> Option<String> {
    let seconds = offset_micros.unsigned_abs() / 1_000_000;
    if seconds == 0 {
        return None;
    }
    let (number, unit) = match seconds {
        0..120 => (seconds, "seconds"),
        120..7200 => (seconds / 60, "minutes"),
        7200..172_800 => (seconds / 3600, "hours"),
        _ => (seconds / 86_400, "days"),
    };
    let way = if offset_micros > 0 { "slow" } else { "fast" };
    Some(format!("this device's clock is {number} {unit} {way}"))
}

fn servers(state: &State) -> Vec<Check> {
    let check = |warning: &crate::credential::revocation::Warning| {
        Check {
        what: "gateway certificate",
        problem: true,
        state: format!("nobody knows whether the certificate of {} was revoked", warning.host),
        cause: format!("{} (since {})", warning.text, warning.since),
        fix: "Publish the issuer's revocation list where this device reaches it by http://, or switch the check off for the site's \
              systems: it is the client setting CheckServerCrl."
            .to_owned(),
        next: "The connection goes on, because the setting is soft; the site is told.".to_owned(),
    }
    };
    state.credentials.unchecked_servers.iter().map(check).collect()
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Joined to: {}", self.join.unwrap_or("not known"))?;
        for check in &self.checks {
            let mark = if check.problem { "PROBLEM" } else { "ok" };
            writeln!(f, "\n{} [{mark}]", check.what)?;
            for (name, value) in
                [("state", &check.state), ("cause", &check.cause), ("fix", &check.fix), ("next", &check.next)]
            {
                writeln!(f, "  {name:<6}{value}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_is_told_in_words() {
        assert_eq!(clock_text(0), None);
        for (minutes, expected) in [
            (9, "this device's clock is 9 minutes slow"),
            (-9, "this device's clock is 9 minutes fast"),
            (60 * 5, "this device's clock is 5 hours slow"),
            (-60 * 24 * 40, "this device's clock is 40 days fast"),
        ] {
            assert_eq!(clock_text(minutes * 60_000_000).as_deref(), Some(expected));
        }
    }
}
