//! The literal log lines of the field that belong to the ways of proving oneself, looked for in what a
//! story's processes have logged: each must stand there, with the values of the run in its places.

use std::collections::BTreeMap;
use std::path::Path;

use proto::id::Guid;

use crate::support::{Lab, bytes_of, files_below};

/// What the story knows of its run.
pub(crate) struct Facts<'s> {
    pub(crate) lab: &'s Lab,
    /// Client ids of its devices.
    pub(crate) devices: Vec<String>,
    /// The tenant, the app that devices ask with, one of its devices, and the user that signed in.
    pub(crate) tenant: String,
    pub(crate) client_app: String,
    pub(crate) entra_device: String,
    pub(crate) user: String,
    /// A user whom one discovery does not know: object id and SID.
    pub(crate) hybrid: (String, String),
}

/// A line: the file that it stands in, and its text with `{holes}`.
type Line = (&'static str, &'static str);

/// Lines that belong here.
const LINES: &[Line] = &[
    ("ccmsetup.log", "Getting AAD info from CMG '{gateway}'"),
    (
        "ccmsetup.log",
        "SMS CCM 5.0: Host={host}, Path=/CCM_Proxy_ServerAuth/AADAuthInfo?TenantID={tenant}, Port={port}, Protocol=https, CcmTokenAuth=0, Flags=0x1304, Options=0xe0",
    ),
    ("ccmsetup.log", "Created connection on port {port}"),
    ("ccmsetup.log", "Enabled SSL revocation check."),
    (
        "ccmsetup.log",
        "Getting AAD (device) token with: ClientId = {app}, ResourceUrl = https://ConfigMgrService, AccountId = {endpoint}",
    ),
    ("ccmsetup.log", "WAM token request failed. Status 5, Details '{text}'"),
    ("ccmsetup.log", "Failed to get AAD token.."),
    ("ccmsetup.log", "Unknown error (Error: {hex}; Source: Unknown)"),
    ("ccmsetup.log", "Failed to get AAD token for 'S-1-5-18' from WAM API. Error 0x{hex}"),
    ("ccmsetup.log", "Falling back to get user '{account}' token for system..."),
    (
        "ccmsetup.log",
        "Getting AAD (user) token with: ClientId = {app}, ResourceUrl = https://ConfigMgrService, AccountId = {text}",
    ),
    ("ccmsetup.log", "Retrieved AAD token for AAD user '{user}'"),
    ("ccmsetup.log", "Getting CCM Token from STS server '{gateway}/CCM_Proxy_MutualAuth/{role}'"),
    ("ccmsetup.log", "Getting CCM Token from https://{gateway}/CCM_Proxy_ServerAuth/{role}/CCM_STS"),
    ("ccmsetup.log", "Cached encrypted token for 'S-1-5-18'. Will expire at '{moment}'"),
    ("ccmsetup.log", "Found a valid online MP 'https://{gateway}/CCM_Proxy_MutualAuth/{role}'"),
    ("ccmsetup.log", "CCMSETUP bootstrap from Internet: 1"),
    ("ClientIDManagerStartup.log", "[RegTask] - Starting registration, attempt 1."),
    (
        "ClientIDManagerStartup.log",
        "[RegTask] - Client is not registered. Sending registration request for GUID:{guid} ...",
    ),
    ("ClientIDManagerStartup.log", "Registering client using AAD auth."),
    (
        "ClientIDManagerStartup.log",
        "[RegTask] - Client is registered. Server assigned ClientID is {device}. Approval status 3",
    ),
    (
        "ClientIDManagerStartup.log",
        "Getting CCM Token from STS server '{gateway}/CCM_Proxy_MutualAuth/{role}'",
    ),
    (
        "ClientIDManagerStartup.log",
        "Getting CCM Token from https://{gateway}/CCM_Proxy_ServerAuth/{role}/CCM_STS",
    ),
    ("ClientIDManagerStartup.log", "Cached encrypted token for 'S-1-5-18'. Will expire at '{moment}'"),
    ("ClientIDManagerStartup.log", "Getting CCM Token from STS server '{mp}'"),
    ("ClientIDManagerStartup.log", "Getting CCM Token from https://{mp}/CCM_STS"),
    (
        "ADALOperationProvider.log",
        "Getting AAD (user) token with: ClientId = {app}, ResourceUrl = https://ConfigMgrService, AccountId = {text}",
    ),
    ("ADALOperationProvider.log", "Retrieved AAD token for AAD user '{user}'"),
    ("ADALOperationProvider.log", "Failed to get AAD token.."),
    ("ADALOperationProvider.log", "Failed to get AAD token for 'S-1-5-18' from WAM API. Error 0x{hex}"),
    (
        "MP_RegistrationManager.log",
        "Registering device using AAD auth: DeviceId='{entra}', TenantId='{tenant}'",
    ),
    ("MP_RegistrationManager.log", "Processing Registration request from Client '{device}'"),
    ("CCM_STS.log", "ProcessRequest - Start"),
    ("CCM_STS.log", "Incoming request URL: https://{mp}/CCM_STS"),
    (
        "CCM_STS.log",
        "Validated AAD token. TokenType: Device TenantId: {tenant} UserId: 00000000-0000-0000-0000-000000000000 DeviceId: {entra} OnPrem_UserSid:  OnPrem_DeviceSid: ",
    ),
    (
        "CCM_STS.log",
        "Validated AAD token. TokenType: UDA TenantId: {tenant} UserId: {user} DeviceId: {guid} OnPrem_UserSid: {text} OnPrem_DeviceSid: ",
    ),
    ("CCM_STS.log", "TokenType is Device"),
    ("CCM_STS.log", "TokenType is UDA"),
    (
        "CCM_STS.log",
        "Created SCCM token, token type: UDA, hierarchyId: {hierarchy}, userId: {user}, deviceId: {device}",
    ),
    (
        "CCM_STS.log",
        "Created SCCM token, token type: Device, hierarchyId: {hierarchy}, userId: 00000000-0000-0000-0000-000000000000, deviceId: {device}",
    ),
    ("CCM_STS.log", "Issued token"),
    ("CCM_STS.log", "Return token to client"),
    ("CCM_STS.log", "AAD user with ID {hybrid} and SID {sid} is not completely discovered"),
    (
        "CCM_STS.log",
        "Return code: 401, Description: PreAuth token validation failed, System.IdentityModel.Tokens.SecurityTokenExpiredException: IDX10223: Lifetime validation failed. The token is expired. ValidTo: '{moment}' Current time: '{moment}'.",
    ),
    (
        "CMGService.log",
        "RequestUri: /CCM_PROXY_SERVERAUTH/{role}/CCM_STS  RequestCount: {number}  RequestSize: {number} Bytes  ResponseCount: {number}  ResponseSize: {number} Bytes  AverageElapsedTime: {number} ms",
    ),
    (
        "SMS_Cloud_ProxyConnector.log",
        "Switched to internal URL. Replaced 'https://{gateway}/CCM_Proxy_ServerAuth/{role}/CCM_STS' in   'https://{gateway}/CCM_Proxy_ServerAuth/{role}/CCM_STS' with 'https://{mp}/CCM_STS' and got 'https://{mp}/CCM_STS",
    ),
    (
        "SMS_Cloud_ProxyConnector.log",
        "MessageID: {guid} RequestURI: https://{mp}/CCM_STS EndpointName: CCM_STS ResponseHeader: HTTP/1.1 200 OK ~~ ResponseBodySize: {number} ElapsedTime: {number} ms",
    ),
    (
        "SMS_Cloud_ProxyConnector.log",
        "MessageID: {guid} RequestURI: https://{mp}/{text} EndpointName: {text} ResponseHeader: HTTP/1.1 403 CMGConnector_Clientcertificaterequired~~ ResponseBodySize: {number} ElapsedTime: {number} ms",
    ),
    ("SMS_Cloud_ProxyConnector.log", "Forwarding proxy message {guid} to URL: https://{mp}/{text}"),
    (
        "SMS_Cloud_ProxyConnector.log",
        "Received response https://{mp}/{text} for message {guid}: HTTP/1.1 403 CMGConnector_Clientcertificaterequired",
    ),
    ("SMS_Cloud_ProxyConnector.log", "Filtered cert count with digital signature: 4"),
    ("SMS_Cloud_ProxyConnector.log", "Not allowed cert: {stranger}"),
    ("SMS_Cloud_ProxyConnector.log", "No private key cert: {keyless}"),
    ("SMS_Cloud_ProxyConnector.log", "Filtered cert count with allowed root CA: 3"),
    ("SMS_Cloud_ProxyConnector.log", "Filtered cert count with private key: 2"),
    ("SMS_Cloud_ProxyConnector.log", "Not client auth cert: {server}"),
    ("SMS_Cloud_ProxyConnector.log", "Filtered cert count with client auth: {number}"),
    ("SMS_Cloud_ProxyConnector.log", "Chain build failed cert: {hex}"),
    ("SMS_Cloud_ProxyConnector.log", "Chain 0 status: {word}"),
    ("SMS_Cloud_ProxyConnector.log", "missing role certificate. reload in next cycle"),
    ("SMS_Cloud_ProxyConnector.log", "Maintaining connections..."),
    (
        "SMS_Cloud_ProxyConnector.log",
        "ReportTrafficData - state message to send: ~~<ProxyTrafficStateDetails ServerName=\"{text}\" StartTime=\"{text}\" EndTime=\"{text}\" MaxConcurrentRequests=\"{number}\">  <EndPoints>~~{text}  </EndPoints>~~</ProxyTrafficStateDetails>",
    ),
    (
        "CcmMessaging.log",
        "Sending remote sync message '{braced}' to host '{gateway}/CCM_Proxy_MutualAuth/{role}' endpoint 'MP_PolicyManager'. Flags 0x280, sender account {account}",
    ),
    ("CcmMessaging.log", "CCM Token for 'S-1-5-18' ({moment}) is already expired or close to expire"),
    ("CcmMessaging.log", "Getting CCM Token from https://{gateway}/CCM_Proxy_ServerAuth/{role}/CCM_STS"),
    ("CcmMessaging.log", "Cached encrypted token for '{account}'. Will expire at '{moment}'"),
    (
        "CcmMessaging.log",
        "ccmhttp: Host={host}, Path=/CCM_Proxy_ServerAuth/{role}/ccm_system_tokenauth/request, Port={port}, Protocol=https, CcmTokenAuth=1, Flags=0x4200, Options=0x1e0",
    ),
    (
        "CcmMessaging.log",
        "Target URL scheme is HTTPS: https://{gateway}/CCM_Proxy_ServerAuth/{role}/ccm_system_tokenauth/request",
    ),
    ("CcmMessaging.log", "Appending CCM Token to the header."),
    ("CcmMessaging.log", "Message '{braced}' got reply message '{braced}' to endpoint '{text}'"),
    (
        "CcmMessaging.log",
        "[CCMHTTP] ERROR: URL={text}, Port={number}, Options={number}, Code={number}, Text={text}",
    ),
    (
        "CcmMessaging.log",
        "[CCMHTTP] ERROR INFO: StatusCode=401 StatusText=CMGService_Invalid_Client_Certificate",
    ),
    (
        "CcmMessaging.log",
        "[CCMHTTP] ERROR INFO: StatusCode=403 StatusText=CMGConnector_Clientcertificaterequired",
    ),
    ("CcmMessaging.log", "[CCMHTTP] ERROR INFO: StatusCode=401 StatusText=CMGService_Invalid_Token"),
    ("CcmMessaging.log", "[CCMHTTP] ERROR INFO: StatusCode=403 StatusText=CMGConnector_Forbidden"),
    ("CcmMessaging.log", "[CCMHTTP] ERROR INFO: StatusCode=403 StatusText=CMGConnector_Un-authorizedrequest"),
    ("CcmMessaging.log", "{verb} https://{gateway}/{text} failed with 0x{hex}."),
    ("LocationServices.log", "Successfully queued event on HTTP/HTTPS failure for server '{gateway}'."),
    (
        "ClientLocation.log",
        "Rotating internet management point, new management point [{number}] is: https://{gateway}/CCM_Proxy_MutualAuth/{role} (0) with capabilities: <Capabilities SchemaVersion =\"1.0\"><Property Name=\"SSL\" Version=\"1\" /></Capabilities>",
    ),
];

/// Lines of the same files that do not belong here, and why.
const NOT_HERE: &[Line] = &[
    (
        "ccmsetup: Host=…, Path=…/ccm_system_tokenauth/request, … Flags=0x4100",
        "set-up downloads nothing: there is no client package",
    ),
    (
        "Sending location request to …, Received message '<SiteInfoReply …'",
        "the same: what set-up asks of a site is asked by messaging",
    ),
    (
        "Checking the URL '…/CCM_Client/ccmsetup.cab', Searching for DP locations from MP(s)..., The location '…'",
        "content, a later milestone",
    ),
    (
        "Installing version … of the client with product code …, Running installation package",
        "nothing is installed by a package",
    ),
    (
        "AADJoinStatusTask: Client hasn't been registered yet.",
        "there is no task of the join state beside the registration",
    ),
    (
        "RegEndPoint: Received notification for site assignment change …",
        "the site is given at set-up and does not change",
    ),
    (
        "IWebAuthenticationCoreManagerStatics4 not available. Falling back to user token.",
        "an interface of Windows' token broker; the device's own reason stands in the line before",
    ),
    ("CcmGetAADTokenFromWAM( … ), HRESULT=800703f0", "the same"),
    ("Return token to client, token type: UDA, …", "the text of 2019; that of today is looked for"),
    ("ProcessRequest - Exception: System.IO.FileLoadException: …", "a broken installation of .NET"),
    (
        "Web exception for message …: System.Net.WebException: …",
        "an exception of .NET; the lines before and after it are looked for",
    ),
    (
        "Chain 1 status: OfflineRevocation",
        "the connection point does not ask for revocation of its own certificate: the role judges it",
    ),
    (
        "Post to … failed with 0x87d00231 (no management point at all)",
        "a device without any address ends before it sends",
    ),
    ("Text=CCM_E_NO_CLIENT_PKI_CERT", "a device without a certificate has its self-signed one"),
    ("Raising event: instance of CCM_CcmHttp_Status", "an event class of Windows management"),
];

/// Looks for each line and prints it with the values that were found; fails with those that are missing.
pub(crate) fn check(facts: &Facts<'_>) {
    let logs = read_logs(facts.lab.folder.path());
    let mut missing = Vec::new();
    for (file, pattern) in LINES {
        let lines = logs.get(*file).map(Vec::as_slice).unwrap_or_default();
        let mut near = None;
        let found = lines.iter().find(|line| match holes(pattern, line) {
            Some(values) if values.iter().all(|(name, value)| facts.holds(name, value)) => true,
            Some(_) => {
                near.get_or_insert((*line).clone());
                false
            }
            None => false,
        });
        match found {
            Some(line) => println!("{file}: {line}"),
            None => missing.push(format!("{file}: {pattern}\n    nearest: {near:?}")),
        }
    }
    println!("{} lines of the field found, {} missing", LINES.len() - missing.len(), missing.len());
    for (line, why) in NOT_HERE {
        println!("not here: {line}: {why}");
    }
    assert!(missing.is_empty(), "not logged:\n{}", missing.join("\n"));
}

impl Facts<'_> {
    /// Whether a value is the run's.
    fn holds(&self, hole: &str, value: &str) -> bool {
        let gateway = self.lab.text("gateway.host");
        let (host, port) = gateway.rsplit_once(':').expect("host and port");
        let number = || !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        match hole {
            "gateway" => value == gateway,
            "host" => value == host,
            "port" => value == port,
            "role" => value == self.lab.text("roles.0.role_id"),
            "mp" => format!("https://{value}") == self.lab.text("roles.0.internal_url"),
            "hierarchy" => value.eq_ignore_ascii_case(self.lab.text("site_id")),
            "tenant" => value == self.tenant,
            "app" => value == self.client_app,
            "entra" => value == self.entra_device,
            "user" => value == self.user,
            "hybrid" => value == self.hybrid.0,
            "sid" => value == self.hybrid.1,
            "device" => self.devices.iter().any(|device| device == value),
            "endpoint" => value.starts_with("https://") && value.contains(&self.tenant),
            "guid" => value.parse::<Guid>().is_ok(),
            "braced" => value
                .strip_prefix('{')
                .and_then(|v| v.strip_suffix('}'))
                .is_some_and(|v| v.parse::<Guid>().is_ok()),
            "account" => value == "<none>" || value.starts_with("S-1-"),
            "moment" => is_moment(value),
            "number" => number(),
            "hex" => !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "word" => !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphabetic()),
            "verb" => matches!(value, "Post to" | "Get from"),
            "stranger" => value.contains("cp1.stranger.example"),
            "keyless" => value.contains("cp1-keyless.contoso.example"),
            "server" => value.contains("localhost"),
            "text" => !value.contains('\n'),
            other => panic!("a hole {other:?} without a rule"),
        }
    }
}

/// `11/22/2026 01:55:01`, in this or the next year of the run.
fn is_moment(value: &str) -> bool {
    let parts: Vec<_> = value.split(['/', ' ', ':']).collect();
    let [month, day, year, hour, minute, second] = parts.as_slice() else { return false };
    let within =
        |text: &str, bound: u32| text.len() == 2 && text.parse::<u32>().is_ok_and(|number| number <= bound);
    within(month, 12)
        && within(day, 31)
        && within(hour, 23)
        && within(minute, 59)
        && within(second, 59)
        && year.len() == 4
}

/// Messages of all logs below a folder, by file name; of a rotated file, too.
fn read_logs(folder: &Path) -> BTreeMap<String, Vec<String>> {
    let mut logs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in files_below(folder) {
        let name =
            path.file_name().map(|name| name.to_string_lossy().replace(".lo_", ".log")).unwrap_or_default();
        if path.extension().is_none_or(|end| end != "log" && end != "lo_") {
            continue;
        }
        let text = String::from_utf8_lossy(&bytes_of(&path)).into_owned();
        let of_file = logs.entry(name).or_default();
        of_file.extend(text.lines().map(|line| message(line).to_owned()));
    }
    logs
}

/// The message of a line, in either form of the field's logs.
fn message(line: &str) -> &str {
    if let Some((text, _)) = line.strip_prefix("<![LOG[").and_then(|rest| rest.split_once("]LOG]!>")) {
        return text;
    }
    let text = line.split_once("  $$<").map_or(line, |(text, _)| text);
    text.trim_end_matches('~')
}

/// The values in a pattern's holes, if the whole line is of its form.
fn holes<'t>(pattern: &'static str, line: &'t str) -> Option<Vec<(&'static str, &'t str)>> {
    let Some((literal, rest)) = pattern.split_once('{') else {
        return (pattern.trim_end_matches('~') == line).then(Vec::new);
    };
    let (name, rest) = rest.split_once('}').expect("a hole has an end");
    let line = line.strip_prefix(literal)?;
    let next = rest.split('{').next().unwrap_or_default();
    if rest.is_empty() {
        return Some(vec![(name, line)]);
    }
    // The shortest value with which the rest fits.
    line.match_indices(next).find_map(|(at, _)| {
        let mut found = vec![(name, &line[..at])];
        found.extend(holes(rest, &line[at..])?);
        Some(found)
    })
}
