//! The switches and properties of the field's set-up program, and what becomes of each here.

/// What becomes of a switch or property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A source of the download: a gateway, or a management point inside.
    ManagementPoint,
    /// The bulk registration token.
    Token,
    /// The gateway.
    Gateway,
    /// The site.
    SiteCode,
    /// Management points inside.
    Inside,
    /// The trusted root key in a file.
    RootKeyFile,
    /// The trusted root key itself.
    RootKey,
    /// Forget a trusted root key.
    ResetKey,
    /// Always on the internet.
    AlwaysInternet,
    /// A certificate of the PKI is meant to be there.
    UsePki,
    /// The bootstrap checks no revocation lists.
    NoCrlCheck,
    /// Which certificate.
    CertificateSelect,
    /// Where certificates are.
    CertificateStore,
    /// The first of several certificates.
    FirstCertificate,
    /// Whose certificates.
    CertificateIssuers,
    /// Whether the certificate must name the computer.
    CertificateNameCheck,
    /// The tenant.
    Tenant,
    /// The app that asks for tokens.
    ClientApp,
    /// What tokens are asked for.
    Resource,
    /// More words in one value.
    Command,
    /// Taken, and nothing follows from it here; why.
    Ignored(&'static str),
    /// Refused; what to do instead.
    Refused(&'static str),
}

use Meaning::{Ignored, Refused};

const NOTHING_TO_INSTALL: &str =
    "this client installs nothing, so there is nothing to download or to wait for";
const WINDOWS_LOGS: &str =
    "logging is set with --log-level; files are in the folder logs of the state folder";

/// Words that begin with a slash.
pub(super) const SWITCHES: &[(&str, Meaning)] = &[
    ("mp", Meaning::ManagementPoint),
    ("regtoken", Meaning::Token),
    ("nocrlcheck", Meaning::NoCrlCheck),
    ("usepkicert", Meaning::UsePki),
    ("source", Ignored(NOTHING_TO_INSTALL)),
    ("logon", Ignored(NOTHING_TO_INSTALL)),
    ("forceinstall", Ignored("use --force to set a device up anew")),
    ("upgradetolatest", Ignored(NOTHING_TO_INSTALL)),
    ("alwaysexcludeupgrade", Ignored(NOTHING_TO_INSTALL)),
    ("ignoreskipupgrade", Ignored(NOTHING_TO_INSTALL)),
    ("allowmetered", Ignored(NOTHING_TO_INSTALL)),
    ("noservice", Ignored("the service is started with `roamgate-client service`")),
    ("service", Ignored("the service is started with `roamgate-client service`")),
    ("retry", Ignored(NOTHING_TO_INSTALL)),
    ("downloadtimeout", Ignored(NOTHING_TO_INSTALL)),
    ("bitspriority", Ignored(NOTHING_TO_INSTALL)),
    ("skipprereq", Ignored(NOTHING_TO_INSTALL)),
    ("config", Ignored("there is no configuration file of the set-up program")),
    ("excludefeatures", Ignored(NOTHING_TO_INSTALL)),
    ("uninstall", Refused("use `roamgate-client uninstall`")),
    // Of msiexec, in lines copied from a management tool.
    ("i", Ignored(NOTHING_TO_INSTALL)),
    ("qn", Ignored(NOTHING_TO_INSTALL)),
    ("quiet", Ignored(NOTHING_TO_INSTALL)),
    ("norestart", Ignored(NOTHING_TO_INSTALL)),
    ("l", Ignored(WINDOWS_LOGS)),
];

/// Words with an equals sign.
pub(super) const PROPERTIES: &[(&str, Meaning)] = &[
    ("CCMHOSTNAME", Meaning::Gateway),
    ("SMSSITECODE", Meaning::SiteCode),
    ("SMSMP", Meaning::Inside),
    ("SMSMPLIST", Meaning::Inside),
    ("SMSROOTKEYPATH", Meaning::RootKeyFile),
    ("SMSPUBLICROOTKEY", Meaning::RootKey),
    ("RESETKEYINFORMATION", Meaning::ResetKey),
    ("CCMALWAYSINF", Meaning::AlwaysInternet),
    ("CCMSETUPCMD", Meaning::Command),
    ("AADTENANTID", Meaning::Tenant),
    ("AADCLIENTAPPID", Meaning::ClientApp),
    ("AADRESOURCEURI", Meaning::Resource),
    ("CCMHTTPPORT", Ignored("put the port into SMSMP=http://host:port")),
    ("CCMHTTPSPORT", Ignored("put the port into the address: host:port/CCM_Proxy_MutualAuth/…")),
    ("CCMHTTPSSTATE", Ignored("the scheme of the address decides")),
    ("CCMCERTSEL", Meaning::CertificateSelect),
    ("CCMCERTSTORE", Meaning::CertificateStore),
    ("CCMFIRSTCERT", Meaning::FirstCertificate),
    ("CCMCERTISSUERS", Meaning::CertificateIssuers),
    ("CCMCERTNAMECHECK", Meaning::CertificateNameCheck),
    ("SMSSIGNCERT", Ignored("the site signing certificate is checked under the site root")),
    ("PROVISIONTS", Ignored("there are no task sequences here")),
    ("FSP", Ignored("there is no fallback status point here")),
    ("DNSSUFFIX", Ignored("management points are named with their whole names")),
    ("CCMADMINS", Ignored("the state folder belongs to the account that runs the client")),
    ("NOTIFYONLY", Ignored("there is no remediation here")),
    ("CCMEVALINTERVAL", Ignored("there is no health check of that kind here")),
    ("CCMEVALHOUR", Ignored("there is no health check of that kind here")),
    ("CCMLOGLEVEL", Ignored(WINDOWS_LOGS)),
    ("CCMLOGMAXSIZE", Ignored(WINDOWS_LOGS)),
    ("CCMLOGMAXHISTORY", Ignored(WINDOWS_LOGS)),
    ("CCMENABLELOGGING", Ignored(WINDOWS_LOGS)),
    ("CCMDEBUGLOGGING", Ignored(WINDOWS_LOGS)),
    ("CCMINSTALLDIR", Ignored("the state folder is named with --state")),
    ("SMSCACHEDIR", Ignored("there is no content cache yet")),
    ("SMSCACHESIZE", Ignored("there is no content cache yet")),
    ("SMSCACHEFLAGS", Ignored("there is no content cache yet")),
    ("SMSCONFIGSOURCE", Ignored("the client's settings come from setup and from policy")),
];
