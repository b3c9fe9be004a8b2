//! Why a request was refused: one table of stable codes.
//!
//! Every refusal carries its code in the header [`HEADER`]; `roamgate explain` and
//! `docs/errors.md` read the same rows. A code never changes its meaning and is never
//! reused. Thousands name the hop: 1 gateway, 2 connection point, 3 management point,
//! 4 token service, 5 site, 6 client, 7 operator.

use std::fmt;
use std::str::FromStr;

use crate::status;

/// Header that names the reason of a refusal, on every refused answer.
pub const HEADER: &str = "roamgate-reason";
/// Header that names the request, on every answer.
pub const REQUEST_ID_HEADER: &str = "roamgate-request-id";

/// Who refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hop {
    /// The internet-facing front.
    Gateway,
    /// The role that keeps the channel to the gateway.
    ConnectionPoint,
    /// The role that answers devices.
    ManagementPoint,
    /// `CCM_STS`.
    TokenService,
    /// Database, keys, operations.
    Site,
    /// The device itself.
    Client,
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gateway => "gateway",
            Self::ConnectionPoint => "connection point",
            Self::ManagementPoint => "management point",
            Self::TokenService => "token service (CCM_STS)",
            Self::Site => "site",
            Self::Client => "client",
        })
    }
}

/// What the client should do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Ask again later; nothing is wrong with the request.
    Retry,
    /// Get a new token and ask again.
    Renew,
    /// Register (again).
    Register,
    /// Wait until an operator or a rule has approved the device.
    WaitForApproval,
    /// Stop: asking again cannot help until a person has acted.
    Stop,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Retry => "retry",
            Self::Renew => "renew",
            Self::Register => "register",
            Self::WaitForApproval => "wait-for-approval",
            Self::Stop => "stop",
        })
    }
}

/// One row of the table.
#[derive(Debug)]
pub struct Row {
    /// The number in `RG-1203`.
    pub number: u16,
    /// Who refuses with it.
    pub hop: Hop,
    /// HTTP status of the refusal. 200 is the empty answer by which a signed message is refused.
    pub status: u16,
    /// HTTP/1.1 reason phrase in the field's spelling; `None`: the standard phrase.
    pub phrase: Option<&'static str>,
    /// What the client should do.
    pub action: Action,
    /// What happened, in one sentence.
    pub cause: &'static str,
    /// What a person does about it, in one or two sentences.
    pub fix: &'static str,
}

macro_rules! reasons {
    ($($name:ident = $number:literal, $hop:ident, $status:literal, $phrase:expr, $action:ident,
        $cause:literal, $fix:literal;)+) => {
        /// A stable reason code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $( #[doc = $cause] $name, )+ }

        impl Reason {
            /// Every reason, in the order of the codes.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The row of the table.
            pub const fn row(self) -> &'static Row {
                match self { $(Self::$name => &Row {
                    number: $number, hop: Hop::$hop, status: $status, phrase: $phrase,
                    action: Action::$action, cause: $cause, fix: $fix,
                },)+ }
            }
        }
    };
}

const TOKEN: Option<&str> = Some(status::INVALID_TOKEN);
const CERTIFICATE: Option<&str> = Some(status::INVALID_CLIENT_CERTIFICATE);

reasons! {
    // --- gateway ---
    UnknownPath = 1001, Gateway, 404, None, Stop,
        "The path is not one that a role published at this gateway.",
        "Compare the address with `roamgate role list`; a device learns its address from CCMHOSTNAME or from the site.";
    MethodNotAllowed = 1002, Gateway, 405, None, Stop,
        "The endpoint does not answer this method.",
        "Client messages use CCM_POST, everything else GET. A proxy in between may have changed the method.";
    BodyTooLarge = 1003, Gateway, 413, None, Stop,
        "The request body is larger than its endpoint takes.",
        "Split the report, or raise the limit of the endpoint if the message is legitimate.";
    TargetTooLong = 1004, Gateway, 414, None, Stop,
        "The request target is longer than any real one.",
        "Nothing of ours sends such a target; look at the client that does.";
    MalformedRequest = 1005, Gateway, 400, None, Stop,
        "The request is not well-formed HTTP, or it can be read in two ways.",
        "Look at the client or the proxy that sent it; the request id finds it in CMGService.log.";
    RoleInHttpMode = 1006, Gateway, 403, None, Stop,
        "The management point is in plain HTTP mode, and such a one takes nothing from gateways.",
        "Switch it to enhanced HTTP: `roamgate role set ROLE --mode ehttp --internal-url https://HOST:PORT`. Nothing is to be done on the clients.";
    LengthRequired = 1007, Gateway, 411, None, Stop,
        "The request does not state how long its body is.",
        "Clients of the protocol always do. If a proxy in between re-sends bodies in chunks, let it stop, or set `chunked_bodies` in [gateway.limits].";
    HeadTooLarge = 1008, Gateway, 431, None, Stop,
        "The request line and headers have more bytes or lines than the gateway takes.",
        "Look at the client or the proxy that sent it; `head_bytes` and `head_lines` in [gateway.limits] are the bounds.";
    RequestTooSlow = 1009, Gateway, 408, None, Retry,
        "The request did not arrive in the time that it has.",
        "The client asks again by itself. If it goes on, look at the device's line.";
    NoSnapshot = 1101, Gateway, 503, None, Retry,
        "The gateway has not yet received what the site publishes.",
        "Check that a connection point is running and reaches this gateway (`roamgate gateway show`).";
    NoTunnel = 1102, Gateway, 503, None, Retry,
        "No connection point is connected to this gateway.",
        "Start the connection point, or check that it reaches the gateway's port (`roamgate connection-point list`).";
    TunnelLost = 1103, Gateway, 502, None, Retry,
        "The channel to the connection point broke while the request was on its way.",
        "The client asks again by itself. If it goes on, look at SMS_Cloud_ProxyConnector.log.";
    TunnelTimeout = 1104, Gateway, 504, None, Retry,
        "The connection point took the request and did not answer in time.",
        "Check the management point behind it; SMS_Cloud_ProxyConnector.log has the request id.";
    Overloaded = 1105, Gateway, 503, None, Retry,
        "The gateway has as many requests under way as it takes.",
        "Clients return by themselves. Add a gateway, or raise the limit if the host has room.";
    Draining = 1106, Gateway, 503, None, Retry,
        "The gateway is shutting down and takes no new requests.",
        "Clients return by themselves once it or another gateway is back.";
    SourceTooFast = 1107, Gateway, 429, None, Retry,
        "The address that the request comes from, or its bulk registration token, has used up what one may ask for or hold at once.",
        "Clients return by themselves. If many devices share the address or the token, raise the limit in [gateway.limits]; the log names the one that was met.";
    DeviceTooFast = 1108, Gateway, 429, None, Retry,
        "The device has used up what one device may ask for or hold at once.",
        "The client returns by itself. If it goes on, look at what the device does; the limits of a device are in [gateway.limits].";
    NoToken = 1201, Gateway, 401, TOKEN, Renew,
        "The request needs a token and carried none.",
        "The client must ask CCM_STS first; a device without any identity needs a bulk registration token or a certificate.";
    TokenNotAccepted = 1202, Gateway, 401, TOKEN, Renew,
        "The token, or the key that it is bound to, was not accepted.",
        "`roamgate trace` with the request id shows the exact cause to the operator; the client is told no more because it has proved nothing.";
    TokenExpired = 1203, Gateway, 401, TOKEN, Renew,
        "The token has expired.",
        "A client renews by itself. An expired bulk registration token: make a new one with `roamgate bulk-token new`.";
    TokenNotYetValid = 1204, Gateway, 401, TOKEN, Retry,
        "The token is not valid yet.",
        "Compare the clocks of site and gateway.";
    TokenWrongEndpoint = 1205, Gateway, 403, TOKEN, Stop,
        "A token of this class does not open this endpoint.",
        "A bulk or self-prove token opens CCM_STS only; everything else takes the CCM token that CCM_STS gives.";
    BulkTokenBlocked = 1206, Gateway, 403, TOKEN, Stop,
        "The bulk registration token was blocked by an operator.",
        "Make a new token, or lift the block with `roamgate bulk-token unblock ID`.";
    DeviceBlocked = 1207, Gateway, 403, TOKEN, Stop,
        "The device was blocked by an operator.",
        "If it should come back: `roamgate device unblock ID`. The audit trail says who blocked it.";
    TenantDisabled = 1208, Gateway, 403, TOKEN, Stop,
        "Authentication by the token's tenant is switched off at this site.",
        "If it should count again: `roamgate tenant enable TENANT`. The audit trail says who switched it off.";
    TenantKeysTooOld = 1209, Gateway, 401, TOKEN, Retry,
        "The signing keys of the token's tenant could not be fetched for more than a day, so they no longer count.",
        "`roamgate tenant list` shows what the last attempts met; the site fetches again by itself.";
    NoClientCertificate = 1301, Gateway, 401, CERTIFICATE, Stop,
        "The MutualAuth door needs a client certificate that the site trusts, or a token, and got neither.",
        "Give the device a bulk registration token or a certificate; a self-signed certificate alone proves nothing here.";
    TokenKeyMissing = 1302, Gateway, 401, TOKEN, Stop,
        "The token is bound to a key, and the connection did not show that key's certificate.",
        "The client must present its own certificate in the TLS handshake. A proxy that ends TLS in between makes that impossible.";
    CertificateUnknownIssuer = 1311, Gateway, 401, CERTIFICATE, Stop,
        "The client certificate was issued by an authority that leads to no root that the site trusts.",
        "`roamgate trace` with the request id names the issuer. Add the root and every intermediate: `roamgate trust add FILE`.";
    CertificateExpired = 1312, Gateway, 401, CERTIFICATE, Renew,
        "The client certificate, or an authority of its chain, has expired.",
        "Renew it. Meanwhile the device goes on by its self-prove token or its registered key; a bulk registration token on the installed client helps, too.";
    CertificateNotYetValid = 1313, Gateway, 401, CERTIFICATE, Retry,
        "The client certificate is not valid yet.",
        "Compare the clocks of the authority and of this gateway's host.";
    CertificateRevoked = 1314, Gateway, 401, CERTIFICATE, Stop,
        "The client certificate, or an authority of its chain, was revoked by its issuer.",
        "`roamgate trace` with the request id says by which list and when. A device that should come back needs a new certificate.";
    RevocationUnknown = 1315, Gateway, 401, CERTIFICATE, Retry,
        "The revocation list of an issuer in the chain is missing or out of date, so nobody knows whether the certificate still holds.",
        "`roamgate trust list` shows which list and what the last fetch met. Publish the list where the site reaches it, or upload it: `roamgate trust crl FILE`.";
    CertificateUsage = 1316, Gateway, 401, CERTIFICATE, Stop,
        "The certificate may not be used by a client: it is for something else, or an authority's.",
        "Issue one with the usage client authentication (1.3.6.1.5.5.7.3.2).";
    CertificateWeak = 1317, Gateway, 401, CERTIFICATE, Stop,
        "A key or signature of the client certificate's chain is too weak.",
        "Issue it with RSA 2048 bits or P-256 at least, signed with SHA-256 or better.";
    CertificateInvalid = 1318, Gateway, 401, CERTIFICATE, Stop,
        "The client certificate's chain is not valid.",
        "`roamgate trust check --certificate FILE` says what is wrong with it.";
    LinkRefused = 1401, Gateway, 403, None, Stop,
        "A program asked for a tunnel without the certificate of a connection point of this site.",
        "Use the bundle that `roamgate connection-point add` wrote for this very host.";

    // --- connection point ---
    NotPublished = 2001, ConnectionPoint, 404, Some("CMGConnector_NotFound"), Stop,
        "The gateway passed a request that no role published; the connection point did not forward it.",
        "Gateway and connection point hold different snapshots, or the gateway is not to be trusted: compare versions in `roamgate gateway show`.";
    RoleUnreachable = 2101, ConnectionPoint, 502, Some("CMGConnector_BadGateway"), Retry,
        "The connection point could not reach the management point.",
        "Check the internal URL (`roamgate role list`), the management point and the network between them.";
    RoleTimeout = 2102, ConnectionPoint, 504, Some("CMGConnector_GatewayTimeout"), Retry,
        "The management point took the request and did not answer in time.",
        "Look at the load of the management point and its database.";
    RoleAnswerMalformed = 2103, ConnectionPoint, 502, Some("CMGConnector_BadGateway"), Retry,
        "What answered at the management point's address does not speak proper HTTP.",
        "Check that the internal URL leads to a management point.";

    // --- management point ---
    NotAMessage = 3001, ManagementPoint, 400, None, Stop,
        "The body is not a message of the client protocol.",
        "The log names the place where reading stopped; look at the client or a proxy that changed the body.";
    UnknownMessageEndpoint = 3002, ManagementPoint, 404, None, Stop,
        "The message names an endpoint that this management point does not serve.",
        "See `docs/endpoints.md` for what is served.";
    BodyOfAnotherEndpoint = 3003, ManagementPoint, 400, None, Stop,
        "The message's body does not belong to the endpoint that it is addressed to.",
        "Look at the client: a body under another endpoint's name is either a fault or an attack.";
    NotServed = 3004, ManagementPoint, 404, None, Stop,
        "This part of the protocol is known and not served.",
        "See `docs/endpoints.md` for what is served.";
    UnknownQuery = 3005, ManagementPoint, 404, None, Stop,
        "The query names nothing that this management point has.",
        "Look at the spelling; policy ids are those of the device's own assignments.";
    MessageRefused = 3101, ManagementPoint, 200, None, Register,
        "The message's signature was not accepted.",
        "`roamgate trace` with the request id shows whether the device is unknown, the key is another, or the bytes were changed.";
    MessageTooOld = 3102, ManagementPoint, 200, None, Retry,
        "The message was signed too long ago, or in the future.",
        "Compare the device's clock with the site's.";
    MessageRepeated = 3103, ManagementPoint, 200, None, Stop,
        "A message with this id was taken before; this one changed nothing.",
        "Nothing is to be done for a lost answer; repeated reports of this kind point to somebody who replays traffic.";
    WrongDevice = 3104, ManagementPoint, 200, None, Stop,
        "Token, certificate and message do not name the same device.",
        "Nobody does this by accident: see the audit trail.";
    NotApproved = 3105, ManagementPoint, 200, None, WaitForApproval,
        "The device is registered and not approved.",
        "Approve it with `roamgate device approve ID`, or let a rule do so.";
    Blocked = 3106, ManagementPoint, 200, None, Stop,
        "The device was blocked by an operator.",
        "If it should come back: `roamgate device unblock ID`. The audit trail says who blocked it.";
    SignatureRequired = 3107, ManagementPoint, 200, None, Stop,
        "The device signs its requests, or the site demands it, and this request is not signed.",
        "If the device was replaced by another client, delete its record and register it anew; else somebody uses its token.";
    ClockSkewed = 3108, ManagementPoint, 200, None, Retry,
        "The device's clock is off by more than the site tolerates.",
        "Set the device's clock. Our own client corrects itself by the site's time and tries again.";
    MethodNotForMode = 3109, ManagementPoint, 403, None, Stop,
        "This management point's mode does not take clients that prove themselves in this way, from there.",
        "`roamgate role show ROLE` prints which method goes with which mode; enhanced HTTP takes all of them.";
    CertificateOfAnother = 3110, ManagementPoint, 200, None, Stop,
        "The message is one device's, and the client certificate of the connection is another's.",
        "One of the two was copied: look at both devices in the audit trail, and block the one that should not be.";
    IdentityRequired = 3201, ManagementPoint, 403, None, Stop,
        "This policy is for one device only, and the request did not prove which device asks.",
        "The client must send its signed identity headers.";
    NotYourPolicy = 3202, ManagementPoint, 403, None, Stop,
        "The policy is not assigned to the device that asks for it.",
        "Check the assignment; a device must ask only for what its own assignments name.";
    UserPolicyNotForMethod = 3203, ManagementPoint, 403, None, Stop,
        "Policy for a user needs that user's Entra token; a device with a certificate or a site token has no user.",
        "Join the device to an onboarded tenant. With certificates and site tokens, policy for the device is all there is.";
    InsideTokenNotAccepted = 3301, ManagementPoint, 401, None, Renew,
        "The management point did not accept the token, or the proof of its key.",
        "`roamgate trace` with the request id shows the exact cause to the operator.";
    InsideTokenExpired = 3302, ManagementPoint, 401, None, Renew,
        "The token has expired.",
        "The client asks CCM_STS for a new one by itself.";
    InsideTokenWrongEndpoint = 3303, ManagementPoint, 403, None, Stop,
        "A token of this class does not open this endpoint.",
        "Before registration a token opens registration and locations only.";
    InsideCertificateRequired = 3310, ManagementPoint, 403, Some("Client certificate required"), Stop,
        "This management point demands a client certificate, and none was shown.",
        "From a gateway it is the connection point's own: name one in its configuration (`client_certificate`, `client_key`).";
    InsideCertificateUnknownIssuer = 3311, ManagementPoint, 403, None, Stop,
        "The client certificate was issued by an authority that leads to no root that the site trusts.",
        "`roamgate trace` with the request id names the issuer. Add the root and every intermediate: `roamgate trust add FILE`.";
    InsideCertificateExpired = 3312, ManagementPoint, 403, None, Renew,
        "The client certificate, or an authority of its chain, has expired.",
        "Renew it. The device goes on by its registered key until then.";
    InsideCertificateNotYetValid = 3313, ManagementPoint, 403, None, Retry,
        "The client certificate is not valid yet.",
        "Compare the clocks of the authority and of the site host.";
    InsideCertificateRevoked = 3314, ManagementPoint, 403, None, Stop,
        "The client certificate, or an authority of its chain, was revoked by its issuer.",
        "`roamgate trace` with the request id says by which list and when.";
    InsideRevocationUnknown = 3315, ManagementPoint, 403, None, Retry,
        "The revocation list of an issuer in the chain is missing or out of date.",
        "`roamgate trust list` shows which list and what the last fetch met.";
    InsideCertificateUsage = 3316, ManagementPoint, 403, None, Stop,
        "The certificate may not be used by a client: it is for something else, or an authority's.",
        "Issue one with the usage client authentication (1.3.6.1.5.5.7.3.2).";
    InsideCertificateWeak = 3317, ManagementPoint, 403, None, Stop,
        "A key or signature of the client certificate's chain is too weak.",
        "Issue it with RSA 2048 bits or P-256 at least, signed with SHA-256 or better.";
    InsideCertificateInvalid = 3318, ManagementPoint, 403, None, Stop,
        "The client certificate's chain, or the proof of its key, is not valid.",
        "`roamgate trust check --certificate FILE` says what is wrong with the chain.";
    RegistrationMalformed = 3401, ManagementPoint, 400, None, Stop,
        "The registration lacks something, or a value in it is out of bounds.",
        "The log names the value; names are at most 255 characters without control characters.";
    RegistrationNotProved = 3402, ManagementPoint, 200, None, Stop,
        "The registration is not signed by the key that it registers.",
        "Look at the client: it must sign the Data element exactly as it sends it.";
    WeakKey = 3403, ManagementPoint, 200, None, Stop,
        "The client's key is weaker than RSA with 2048 bits.",
        "Make a new key of 2048 bits or more.";
    RegistrationTooFast = 3404, ManagementPoint, 429, None, Retry,
        "More new devices came with this bulk registration token, tenant, certificate authority, certificate or user, or from this address, than may at once.",
        "Nothing: the device comes again when it was told to. For a larger roll-out raise registration_burst or registration_rate.";

    // --- token service ---
    StsTokenMissing = 4001, TokenService, 401, None, Stop,
        "The token service was asked without an identity.",
        "Send a bulk registration token or a self-prove token in the Authorization header.";
    StsTokenNotAccepted = 4002, TokenService, 401, None, Stop,
        "The token service did not accept the token, or the proof of its key.",
        "`roamgate trace` with the request id shows the exact cause to the operator.";
    StsTokenExpired = 4003, TokenService, 401, None, Register,
        "The token that was to be exchanged has expired.",
        "A bulk registration token: make a new one. A self-prove token: the device comes back by a signed confirmation within the recovery window.";
    StsBulkTokenBlocked = 4004, TokenService, 403, None, Stop,
        "The bulk registration token was blocked by an operator.",
        "Make a new token, or lift the block with `roamgate bulk-token unblock ID`.";
    StsDeviceBlocked = 4005, TokenService, 403, None, Stop,
        "The device was blocked by an operator.",
        "If it should come back: `roamgate device unblock ID`. The audit trail says who blocked it.";
    StsUnknownDevice = 4006, TokenService, 403, None, Register,
        "The token names a device that the site does not know.",
        "The record was deleted, or the site was restored from a backup: the device must register again.";

    StsUserNotDiscovered = 4007, TokenService, 403, Some("Un-authorized request"), Retry,
        "The Entra user is not completely discovered: one of the two discoveries does not know the user.",
        "`roamgate user show USER` says which discovery misses what; `roamgate tenant list` says whether both run.";
    StsTenantDisabled = 4008, TokenService, 403, None, Stop,
        "Authentication by the token's tenant is switched off at this site.",
        "If it should count again: `roamgate tenant enable TENANT`.";
    StsNotADevice = 4009, TokenService, 403, None, Stop,
        "The Entra token speaks for an app and not for a device or a user.",
        "A device gets its token against proof of its workplace-join key; an app's own token registers nothing.";
    StsOtherEntraDevice = 4010, TokenService, 403, None, Stop,
        "The Entra token speaks for another device than the one that this key is registered for.",
        "If the device was joined anew, delete its old record or let it register again; if not, its token was copied.";
    StsTenantKeysTooOld = 4011, TokenService, 401, None, Retry,
        "The signing keys of the token's tenant could not be fetched for more than a day, so they no longer count.",
        "`roamgate tenant list` shows what the last attempts met; the site fetches again by itself.";

    // --- site ---
    BulkTokenUsedUp = 5001, Site, 200, None, Stop,
        "The bulk registration token has been used by as many devices as it allows.",
        "Make a new token, with more uses if that is wanted.";
    BulkTokenUnknown = 5002, Site, 200, None, Stop,
        "The site has no bulk registration token with this id.",
        "The token was made by another site, or the site was restored from an older backup: make a new one.";
    HardwareBlocked = 5003, Site, 200, None, Stop,
        "A blocked device came back under another name or key.",
        "If it should come back, unblock the old record first: `roamgate device unblock ID`.";
    RecoveryWindowOver = 5004, Site, 200, None, Stop,
        "The device was away for longer than its recovery window, so its key alone does not prove it any more.",
        "`roamgate device readmit DEVICE` lets it come back once more; `roamgate device list --stranded` shows who else waits.";
    CloneSuspected = 5005, Site, 200, None, WaitForApproval,
        "Two devices use the same key, or claim the same hardware, at the same time: both are held.",
        "`roamgate device show DEVICE` shows both sides; give the copy an identity of its own, then `roamgate device settle DEVICE`.";
    Busy = 5101, Site, 503, None, Retry,
        "The site has more work waiting than it takes, in all or from this device, address or bulk registration token.",
        "Clients return by themselves. If it lasts, look in ClientAuth.log for what is full, and at the disk of the site host.";
    InternalError = 5102, Site, 500, None, Retry,
        "Something failed inside; the request changed nothing.",
        "The log of the role has the whole cause under this request id. Please report it.";
}

impl Reason {
    /// Whether a log line or counter should treat it as a failure of ours, not of the caller.
    pub const fn is_server_fault(self) -> bool {
        self.row().status >= 500
    }

    /// The reason with this number.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.row().number == number)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RG-{:04}", self.row().number)
    }
}

/// A text that is no reason code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such reason code")]
pub struct UnknownReason;

impl FromStr for Reason {
    type Err = UnknownReason;

    /// Reads `RG-1203`, in any case.
    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        let (prefix, number) = text.split_at_checked(3).ok_or(UnknownReason)?;
        if !prefix.eq_ignore_ascii_case("RG-") || number.len() != 4 {
            return Err(UnknownReason);
        }
        number.parse().ok().and_then(Self::from_number).ok_or(UnknownReason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_ordered_and_read_back() {
        assert!(Reason::ALL.is_sorted_by_key(|reason| reason.row().number));
        for reason in Reason::ALL {
            assert_eq!(reason.to_string().parse(), Ok(*reason));
        }
        assert!("RG-9999".parse::<Reason>().is_err());
    }

    #[test]
    fn the_thousands_name_the_hop() {
        for reason in Reason::ALL {
            let row = reason.row();
            let expected = match row.number / 1000 {
                1 => Hop::Gateway,
                2 => Hop::ConnectionPoint,
                3 => Hop::ManagementPoint,
                4 => Hop::TokenService,
                5 => Hop::Site,
                _ => Hop::Client,
            };
            assert_eq!(row.hop, expected, "{reason}");
        }
    }

    #[test]
    fn every_row_says_cause_and_fix_as_sentences() {
        for reason in Reason::ALL {
            let row = reason.row();
            assert!(row.cause.ends_with('.') && row.fix.ends_with('.'), "{reason}");
        }
    }
}
