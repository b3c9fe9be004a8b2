//! What a person is told when a command fails: what, why, which code, what to do next.

use std::fmt;
use std::process::ExitCode;

use super::exit::Exit;
use crate::device::{EntraFailure, RequestError, UserTokenError};
use crate::failure::CallError;
use crate::local_settings::LocalSettingsError;
use crate::location::Rule;
use crate::policy::{PolicyError, UserPolicyError};
use crate::setup::{PlanError, SetupError};
use crate::state::StateError;
use crate::trust::Disbelief;
use miette::Diagnostic;
use proto::reason::{Action, Reason};

/// Problems are shown without breaking lines: request ids, addresses and commands stay whole to
/// be copied and searched for, and a terminal wraps by itself.
pub(crate) fn keep_lines_whole() {
    // Only a second call fails, and it would set the same.
    let _ =
        miette::set_hook(Box::new(|_| Box::new(miette::MietteHandlerOpts::new().wrap_lines(false).build())));
}

/// A failure as it is shown.
#[derive(Debug)]
pub(crate) struct Problem {
    exit: Exit,
    code: String,
    help: Option<String>,
    error: Box<dyn std::error::Error + Send + Sync>,
}

impl Problem {
    pub(crate) fn new(
        exit: Exit,
        code: &str,
        help: Option<&str>,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self { exit, code: code.to_owned(), help: help.map(str::to_owned), error: Box::new(error) }
    }

    /// Shows it on standard error.
    pub(crate) fn report(self) -> ExitCode {
        let exit = self.exit;
        eprintln!("{:?}", miette::Report::new(self));
        exit.into()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Problem {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl Diagnostic for Problem {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }
}

impl From<PlanError> for Problem {
    fn from(error: PlanError) -> Self {
        let help = match &error {
            PlanError::NoGateway => Some(
                "The gateway's address stands in the line that `roamgate bulk-token new` prints, and in \
                 `roamgate-client status` of any device that works.",
            ),
            PlanError::NoToken => Some(
                "An operator makes one with `roamgate bulk-token new`. Inside no token is needed: name a \
                 management point with SMSMP=… or --inside.",
            ),
            PlanError::NoRoot => Some(
                "`roamgate site show` prints the fingerprint, too. Over plain HTTP nothing else tells the site \
                 from an impostor.",
            ),
            PlanError::Token(_) => {
                Some("Copy the token whole, as one line, or read it from a file with --regtoken-file.")
            }
            PlanError::File { .. } | PlanError::CertificateStore { .. } => {
                Some("Check the path; a relative one counts from the current folder.")
            }
            PlanError::Pin(_) => Some(
                "Take sha256:… from the line that `roamgate bulk-token new` prints, or the file that \
                 `roamgate key export site-root` writes.",
            ),
            PlanError::Line(_) => Some("`roamgate-client setup --help` shows the words that are taken."),
            _ => None,
        };
        Self::new(Exit::Usage, "setup::usage", help, error)
    }
}

impl From<StateError> for Problem {
    fn from(error: StateError) -> Self {
        let (exit, code, help) = match &error {
            StateError::NotSetUp(_) => (
                Exit::NotFound,
                "state::not-set-up",
                Some("Set the device up with `roamgate-client setup`, or name its folder with --state."),
            ),
            StateError::Busy(_) => {
                (Exit::Conflict, "state::busy", Some("Wait a moment, or stop the service, and try again."))
            }
            StateError::Newer(_) => (Exit::Conflict, "state::newer", None),
            StateError::Damaged { .. } => (
                Exit::Conflict,
                "state::damaged",
                Some("Set the device up anew: `roamgate-client uninstall`, then `setup`."),
            ),
            StateError::Folder(_) | StateError::File(_) | StateError::Io { .. } => (
                Exit::Conflict,
                "state::folder",
                Some(
                    "The folder and its files must belong to the account that runs the client; name another with --state.",
                ),
            ),
        };
        Self::new(exit, code, help, error)
    }
}

impl From<SetupError> for Problem {
    fn from(error: SetupError) -> Self {
        match &error {
            SetupError::SetUpAlready(_) => Self::new(
                Exit::Conflict,
                "setup::set-up-already",
                Some(
                    "`roamgate-client register` confirms it; --force sets it up anew under the same key; `uninstall` removes it.",
                ),
                error,
            ),
            SetupError::Register(told) | SetupError::Confirm(told) => {
                let advice = Advice::of(told);
                advice.problem(error)
            }
            SetupError::Heartbeat(told) => Advice { exit: Exit::Partly, ..Advice::of(told) }.problem(error),
            SetupError::Policy(policy) => {
                Advice { exit: Exit::Partly, ..Advice::of_policy(policy) }.problem(error)
            }
            SetupError::State(_) => Self::new(Exit::Conflict, "state::folder", None, error),
            SetupError::Identity(_) | SetupError::Device(_) => {
                Self::new(Exit::Bug, "setup::device", None, error)
            }
        }
    }
}

impl From<LocalSettingsError> for Problem {
    fn from(error: LocalSettingsError) -> Self {
        let (exit, help) = match &error {
            LocalSettingsError::Unknown(_)
            | LocalSettingsError::Value(_)
            | LocalSettingsError::Gateway(_) => {
                (Exit::Usage, "Such as CMGFQDNs=gw.example.org DisAllowCMG=0; NAME= takes a setting back.")
            }
            LocalSettingsError::Read { .. }
            | LocalSettingsError::Content { .. }
            | LocalSettingsError::Write(_) => {
                (Exit::Conflict, "The settings are settings.json in the state folder: one JSON object.")
            }
        };
        Self::new(exit, "settings::unusable", Some(help), error)
    }
}

impl From<PolicyError> for Problem {
    fn from(error: PolicyError) -> Self {
        Advice::of_policy(&error).problem(error)
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        Advice::of(&error).problem(error)
    }
}

impl From<EntraFailure> for Problem {
    fn from(error: EntraFailure) -> Self {
        let (exit, help) = match &error {
            EntraFailure::UnknownTenant(_) => (
                Exit::Refused,
                "An operator onboards the tenant with `roamgate tenant add`, or switches it on with `roamgate tenant enable`.",
            ),
            EntraFailure::Source(source) if source.is_transient() => {
                (Exit::Unreachable, "Check that this device reaches the tenant's authority.")
            }
            EntraFailure::Gateway(_) => (Exit::Unreachable, "Check that this device reaches a gateway."),
            _ => (Exit::Refused, "`roamgate-client doctor` shows the join state, its cause and what to do."),
        };
        Self::new(exit, "entra::no-token", Some(help), error)
    }
}

impl From<UserPolicyError> for Problem {
    fn from(error: UserPolicyError) -> Self {
        let advice = match &error {
            UserPolicyError::Policy(PolicyError::Request(told))
            | UserPolicyError::Token(UserTokenError::Site(told)) => Advice::of_user(told),
            UserPolicyError::Policy(policy) => Advice::of_policy(policy),
            UserPolicyError::Token(_) => Advice::plain(
                Exit::Refused,
                "entra::no-token",
                Some("Sign the user in: `roamgate-client sign-in`."),
            ),
        };
        advice.problem(error)
    }
}

/// Code, exit code and next step of a failed request.
struct Advice {
    exit: Exit,
    code: String,
    help: Option<String>,
}

impl Advice {
    fn problem(self, error: impl std::error::Error + Send + Sync + 'static) -> Problem {
        Problem { exit: self.exit, code: self.code, help: self.help, error: Box::new(error) }
    }

    fn of_policy(error: &PolicyError) -> Self {
        match error {
            PolicyError::Request(told) => Self::of(told),
            PolicyError::State(_) => Self::plain(Exit::Conflict, "state::folder", None),
            _ => Self::plain(
                Exit::Refused,
                "policy::not-believed",
                Some(
                    "The policy in force stays. Somebody between this device and its site changes what it says, or answers in its place.",
                ),
            ),
        }
    }

    /// Of a request for a user. What the site says of the user is a refusal, also where the service asks
    /// again later by itself: a person who waits at the terminal has to do something about it.
    fn of_user(error: &RequestError) -> Self {
        let refused = match error.call() {
            Some(CallError::Refused { refusal, .. }) => {
                refusal.reason.is_some_and(|reason| reason.row().status < 500)
            }
            _ => false,
        };
        let advice = Self::of(error);
        if refused { Self { exit: Exit::Refused, ..advice } } else { advice }
    }

    fn plain(exit: Exit, code: &str, help: Option<&str>) -> Self {
        Self { exit, code: code.to_owned(), help: help.map(str::to_owned) }
    }

    fn of(error: &RequestError) -> Self {
        match error {
            RequestError::NotRegistered => Self::plain(
                Exit::NotFound,
                "registration::none",
                Some("Register it with `roamgate-client register`, over the internet with --regtoken-file."),
            ),
            RequestError::NotApproved => Self::reason(Reason::NotApproved, Exit::Refused),
            RequestError::NoProof => Self::plain(
                Exit::Refused,
                "token::none",
                Some(
                    "Bring the device inside once, or give it a new bulk registration token: `roamgate-client register --regtoken-file FILE`.",
                ),
            ),
            RequestError::PlainOnly => Self::plain(
                Exit::Unreachable,
                "location::plain-only",
                Some(
                    "Name the management point's HTTPS address with --inside, or switch it to enhanced HTTP: `roamgate role set ROLE --mode ehttp`.",
                ),
            ),
            RequestError::NoIdentity(_) => Self::plain(
                Exit::Refused,
                "identity::none",
                Some(
                    "`roamgate-client doctor` shows each way with its cause and fix. With a bulk registration token none of them is needed.",
                ),
            ),
            RequestError::State(_) => Self::plain(Exit::Conflict, "state::folder", None),
            RequestError::NoWay { rule: Rule::GatewayForbidden, .. } => Self::plain(
                Exit::Refused,
                "location::gateway-forbidden",
                Some(
                    "An operator allows it with the client setting EnableCloudGateway: `roamgate client-settings` shows who forbids it. This device hears of it at its next policy poll, or with `roamgate-client sync`.",
                ),
            ),
            RequestError::NoWay { rule: Rule::GatewayForbiddenHere, .. } => Self::plain(
                Exit::Refused,
                "location::gateway-forbidden-here",
                Some(
                    "An administrator of this device set DisAllowCMG: `roamgate-client settings DisAllowCMG=`.",
                ),
            ),
            other => match other.call() {
                Some(call) => Self::of_call(call, other),
                None if matches!(other, RequestError::NoWay { .. }) => Self::plain(
                    Exit::Unreachable,
                    "location::no-way",
                    Some(
                        "`roamgate-client status` shows which addresses the device knows; `setup --force` names others.",
                    ),
                ),
                None => Self::plain(Exit::Refused, "reply::unreadable", None),
            },
        }
    }

    fn of_call(call: &CallError, error: &RequestError) -> Self {
        let hresult = error.hresult().to_string();
        match call {
            CallError::Refused { refusal, .. } => {
                let exit = match refusal.reason.map(|reason| reason.row().action) {
                    Some(Action::Retry) => Exit::Unreachable,
                    None if refusal.status >= 500 => Exit::Unreachable,
                    _ => Exit::Refused,
                };
                let mut advice = match refusal.reason {
                    Some(reason) => Self::reason(reason, exit),
                    None => Self::plain(
                        exit,
                        &hresult,
                        Some(
                            "Something between the device and its site refused the request; it gave no reason of ours.",
                        ),
                    ),
                };
                if let Some(id) = refusal.request_id {
                    let help = advice.help.take().unwrap_or_default();
                    advice.help = Some(format!("{help} The request id is {id}.").trim().to_owned());
                }
                advice
            }
            CallError::Tls { fault, .. } => {
                let mut help = String::new();
                let cause = fault.cause();
                help.push_str(&cause.chars().take(1).flat_map(char::to_uppercase).collect::<String>());
                help.push_str(cause.get(1..).unwrap_or_default());
                help.push_str(". ");
                help.push_str(fault.fix());
                Self { exit: Exit::Unreachable, code: hresult, help: Some(help) }
            }
            CallError::TimedOut { .. } => Self::plain(
                Exit::TimedOut,
                &hresult,
                Some("Check the network, and a firewall that drops instead of refusing."),
            ),
            CallError::NotBelieved { source, .. } => {
                Self::plain(Exit::Refused, &hresult, Some(disbelief(source)))
            }
            CallError::NameNotResolved { .. } => Self::plain(
                Exit::Unreachable,
                &hresult,
                Some("Check the spelling of the address and the device's DNS."),
            ),
            CallError::CannotConnect { .. } | CallError::Broken { .. } | CallError::TooLarge { .. } => {
                Self::plain(
                    Exit::Unreachable,
                    &hresult,
                    Some(
                        "Check that the gateway or management point runs and that this network leads there.",
                    ),
                )
            }
        }
    }

    fn reason(reason: Reason, exit: Exit) -> Self {
        Self { exit, code: reason.to_string(), help: Some(reason.row().fix.to_owned()) }
    }
}

fn disbelief(error: &Disbelief) -> &'static str {
    match error {
        Disbelief::OtherRoot(_) => {
            "Either the address leads to another site, or --site-root names another one; compare with `roamgate site show`."
        }
        Disbelief::NoPin => {
            "Name the site with --site-root sha256:…, as `roamgate bulk-token new` prints it."
        }
        Disbelief::Unsigned
        | Disbelief::UnknownKey
        | Disbelief::Signature(_)
        | Disbelief::Certificate(_)
        | Disbelief::RootMissing => {
            "What answers there is not the site, or something in between changes its answers; a device believes only what its site signed."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Refusal, TlsFault};
    use crate::location::Rule;

    #[test]
    fn every_failure_has_an_exit_code_a_code_and_a_next_step() {
        let refused = |reason| {
            let refusal = Refusal {
                status: 401,
                phrase: "x".into(),
                reason,
                request_id: None,
                signed: false,
                retry_after: None,
            };
            RequestError::Call(CallError::Refused { address: "gw".into(), refusal })
        };
        let no_way = RequestError::NoWay { rule: Rule::NoGatewayKnown, source: None };
        let not_believed = CallError::NotBelieved { address: "mp".into(), source: Disbelief::Unsigned };
        for (error, exit, code) in [
            (refused(Some(Reason::BulkTokenBlocked)), Exit::Refused, "RG-1206"),
            (refused(Some(Reason::NoTunnel)), Exit::Unreachable, "RG-1102"),
            (refused(None), Exit::Refused, "0x87d0027e"),
            (no_way, Exit::Unreachable, "location::no-way"),
            (RequestError::Call(not_believed), Exit::Refused, "0x87d00231"),
            (RequestError::NoProof, Exit::Refused, "token::none"),
            (RequestError::NotApproved, Exit::Refused, "RG-3105"),
        ] {
            let problem = Problem::from(error);
            assert_eq!((problem.exit, problem.code.as_str()), (exit, code), "{problem}");
            assert!(problem.help.as_ref().is_some_and(|help| help.len() > 20), "{problem}");
        }
        assert_eq!(TlsFault::InvalidCa.flag(), "WINHTTP_CALLBACK_STATUS_FLAG_INVALID_CA");
    }

    #[test]
    fn a_user_whom_the_site_does_not_know_is_refused_and_a_gateway_without_tunnel_is_not() {
        for (reason, exit) in
            [(Reason::StsUserNotDiscovered, Exit::Refused), (Reason::NoTunnel, Exit::Unreachable)]
        {
            let refusal = Refusal {
                status: reason.row().status,
                phrase: "x".into(),
                reason: Some(reason),
                request_id: None,
                signed: false,
                retry_after: None,
            };
            let told = RequestError::Call(CallError::Refused { address: "gw".into(), refusal });
            let problem = Problem::from(UserPolicyError::Token(UserTokenError::Site(told)));
            assert_eq!(problem.exit, exit, "{reason}");
        }
    }

    #[test]
    fn a_missing_gateway_is_a_mistake_of_usage() {
        let problem = Problem::from(PlanError::NoGateway);
        assert_eq!(problem.exit as u8, 2);
        assert_eq!(problem.to_string(), "no gateway named: add /mp:https://… or CCMHOSTNAME=…");
    }
}
