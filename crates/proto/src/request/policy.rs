//! Policy assignments: what a device shall fetch (sections 6.1 and 6.2).

use crate::id::{ClientId, Guid};
use crate::limits;
use crate::request::condition::Condition;
use crate::request::policy_query::{PolicyId, PolicyQuery};
use crate::request::{BodyError, expect_root, parse_root, words};
use crate::text::field::{FieldError, Fields as _, at_most};
use crate::text::write::XmlWriter;
use crate::text::xml::Element;

const REQUEST_ROOT: &str = "RequestAssignments";
const REPLY_ROOT: &str = "ReplyAssignments";
/// `SchemaVersion` of both documents [observed].
const SCHEMA_VERSION: &str = "1.00";
/// Stands for the management point in a policy location; the client puts its own in its place.
const MP_PLACEHOLDER: &str = "<mp>";

words! {
    /// Everything, or what changed since the cookie [sdk-meta].
    AssignmentsRequestType {
        /// Everything [observed].
        Always = "Always",
        /// Changes since `ServerCookie`.
        OnUpdate = "OnUpdate",
    }
}

words! {
    /// Whose policy.
    ResourceType {
        /// The device's.
        Machine = "Machine",
        /// A user's.
        User = "User",
    }
}

words! {
    /// What a reply holds [sdk-meta].
    AssignmentsReplyType {
        /// All assignments: others end.
        Full = "Full",
        /// Changes.
        Delta = "Delta",
    }
}

/// The device, by its own word; only the id counts, and it must equal the header's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Client id.
    pub client_id: ClientId,
    /// Full name.
    pub fqdn: String,
    /// Short name.
    pub netbios_name: String,
    /// Security identifier; empty outside a domain [observed].
    pub sid: String,
}

/// A user, in user requests [sdk-meta].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Security identifier.
    pub sid: String,
    /// `DOMAIN\name`.
    pub nt4_name: String,
    /// Security identifiers of groups.
    pub groups: Vec<String>,
}

/// `RequestAssignments`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestAssignments {
    /// `ACK` [observed: false].
    pub acknowledge: bool,
    /// Everything or changes.
    pub request_type: AssignmentsRequestType,
    /// Who asks.
    pub machine: Machine,
    /// For which user.
    pub user: Option<User>,
    /// `SMS:` and a site code; public clients write a fixed one, so nothing depends on it.
    pub policy_source: String,
    /// Device or user.
    pub resource: ResourceType,
    /// The cookie of the last reply.
    pub server_cookie: Option<String>,
    /// `CRC` or nothing [sdk-meta].
    pub validation: Option<String>,
}

impl RequestAssignments {
    /// Reads a request.
    pub fn parse(xml: &str) -> Result<Self, BodyError> {
        Self::from_element(&parse_root(xml, REQUEST_ROOT)?)
    }

    pub(crate) fn from_element(root: &Element<'_>) -> Result<Self, BodyError> {
        expect_root(root, REQUEST_ROOT)?;
        let identification = root.required_child("Identification")?;
        let machine = identification.required_child("Machine")?;
        Ok(Self {
            acknowledge: root.attribute("ACK").is_some_and(|ack| ack.eq_ignore_ascii_case("true")),
            request_type: root.parsed_attribute("RequestType")?,
            machine: Machine {
                client_id: machine.parsed_text("ClientID")?,
                fqdn: machine.text_or_empty("FQDN")?,
                netbios_name: machine.text_or_empty("NetBIOSName")?,
                sid: machine.text_or_empty("SID")?,
            },
            user: identification
                .child("User")
                .filter(|user| !user.children().is_empty())
                .map(user)
                .transpose()?,
            policy_source: root.text_or_empty("PolicySource")?,
            resource: root.required_child("Resource")?.parsed_attribute("ResourceType")?,
            server_cookie: root.given_text("ServerCookie")?.map(str::to_owned),
            validation: root.given_attribute("ValidationRequested")?.map(str::to_owned),
        })
    }

    /// Writes the request.
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(REQUEST_ROOT)
            .attribute("SchemaVersion", SCHEMA_VERSION)
            .attribute("ACK", self.acknowledge)
            .attribute("RequestType", self.request_type)
            .optional_attribute("ValidationRequested", self.validation.as_ref())
            .start("Identification")
            .start("Machine")
            .leaf("ClientID", self.machine.client_id)
            .leaf("FQDN", &self.machine.fqdn)
            .leaf("NetBIOSName", &self.machine.netbios_name)
            .leaf("SID", &self.machine.sid)
            .end()
            .start("User");
        if let Some(user) = &self.user {
            xml.leaf("SID", &user.sid).leaf("NT4UserName", &user.nt4_name).start("UserGroups");
            for group in &user.groups {
                xml.leaf("SID", group);
            }
            xml.end();
        }
        xml.end()
            .end()
            .leaf("PolicySource", &self.policy_source)
            .start("Resource")
            .attribute("ResourceType", self.resource)
            .end()
            .leaf("ServerCookie", self.server_cookie.as_deref().unwrap_or_default());
        xml.finish()
    }
}

fn user(element: &Element<'_>) -> Result<User, FieldError> {
    let groups = element.child("UserGroups").map_or(&[][..], Element::children);
    let groups =
        groups.iter().map(|group| crate::text::field::short("SID", group.text().trim()).map(str::to_owned));
    Ok(User {
        sid: element.text_or_empty("SID")?,
        nt4_name: element.text_or_empty("NT4UserName")?,
        groups: at_most("user groups", limits::POLICY_ENTRIES, groups.collect::<Result<_, _>>()?)?,
    })
}

/// `PolicyFlags`, a set of bits [sdk-meta, clients]. Unknown bits are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PolicyFlags(pub u32);

impl PolicyFlags {
    /// The body carries a task sequence.
    pub const TASK_SEQUENCE: Self = Self(1);
    /// The body is given to an identified client only.
    pub const REQUIRES_AUTH: Self = Self(2);
    /// The body is encrypted to the client.
    pub const SECRET: Self = Self(4);
    /// Not over the internet.
    pub const INTRANET_ONLY: Self = Self(8);
    /// The client keeps the body as a whole.
    pub const PERSIST_WHOLE_POLICY: Self = Self(16);
    /// May be fetched on demand.
    pub const AUTHORIZED_DYNAMIC_DOWNLOAD: Self = Self(32);
    /// The body is a `PolicyXML` wrapper.
    pub const COMPRESSED: Self = Self(64);

    /// Whether all bits of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Where a body lies and what it must hash to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyLocation {
    /// `SHA256:` and hex, of the body as the client gets it [observed]. The SDK does not check it.
    pub hash: Option<String>,
    /// The same again [observed].
    pub hash_ex: Option<String>,
    /// `http(s)://<mp>/…/.sms_pol?…`, the placeholder included.
    pub url: String,
}

impl PolicyLocation {
    /// The location of a policy at `SMS_MP`, with the hash in it as observed.
    pub fn new(scheme: &str, query: &PolicyQuery) -> Self {
        let hash = match &query.edition {
            super::policy_query::PolicyEdition::Sha256(hash) => {
                Some(format!("SHA256:{}", crate::id::Thumbprint::from_bytes(*hash)))
            }
            super::policy_query::PolicyEdition::Version(_) => None,
        };
        let url = format!("{scheme}://{MP_PLACEHOLDER}/SMS_MP/.sms_pol?{query}");
        Self { hash: hash.clone(), hash_ex: hash, url }
    }

    /// The path and query at the management point, such as `/SMS_MP/.sms_pol?…`: what a client
    /// puts behind the address of its management point. `None` when the placeholder is missing.
    pub fn target(&self) -> Option<&str> {
        let (scheme, rest) = self.url.split_once("://")?;
        let known = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
        rest.strip_prefix(MP_PLACEHOLDER).filter(|target| known && target.starts_with('/'))
    }
}

/// A policy that is assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedPolicy {
    /// Its id; the body has the same.
    pub id: PolicyId,
    /// Its version, such as `1.00`.
    pub version: String,
    /// Device or user.
    pub policy_type: ResourceType,
    /// Such as `ClientAgentConfig`; may be missing [clients].
    pub category: Option<String>,
    /// How the body comes.
    pub flags: PolicyFlags,
    /// 25 in all samples [observed].
    pub priority: Option<u32>,
    /// Where the body lies.
    pub location: PolicyLocation,
}

/// One assignment, of one policy in all samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyAssignment {
    /// The assignment's own id.
    pub id: Guid,
    /// What to do in a delta reply; its words are not known [sdk-meta].
    pub action: Option<String>,
    /// When it applies.
    pub condition: Option<Condition>,
    /// What is assigned.
    pub policies: Vec<AssignedPolicy>,
}

/// `ReplyAssignments`. The client writes back `ServerCookie` when it next asks for changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyAssignments {
    /// All or changes.
    pub reply_type: AssignmentsReplyType,
    /// Whom it is for.
    pub client_id: ClientId,
    /// `SMS:` and the site code.
    pub policy_source: String,
    /// Device or user.
    pub resource: ResourceType,
    /// The server's time, see [`crate::time::Timestamp::cookie`].
    pub server_cookie: String,
    /// The assignments.
    pub assignments: Vec<PolicyAssignment>,
}

impl ReplyAssignments {
    /// Reads a reply.
    pub fn parse(xml: &str) -> Result<Self, BodyError> {
        let root = parse_root(xml, REPLY_ROOT)?;
        let machine = root.required_child("Identification")?.required_child("Machine")?;
        let assignments =
            root.children_named("PolicyAssignment").map(assignment).collect::<Result<_, _>>()?;
        Ok(Self {
            reply_type: root.parsed_attribute("ReplyType")?,
            client_id: machine.parsed_text("ClientID")?,
            policy_source: root.text_or_empty("PolicySource")?,
            resource: root.required_child("Resource")?.parsed_attribute("ResourceType")?,
            server_cookie: root.text_or_empty("ServerCookie")?,
            assignments: at_most("policy assignments", limits::POLICY_ENTRIES, assignments)?,
        })
    }

    /// Writes the reply. `PolicyLocation` is the first child of `Policy` and its text is
    /// CDATA: one client finds it by the literal `<![CDATA[http` [clients].
    pub fn to_xml(&self) -> String {
        let mut xml = XmlWriter::new();
        xml.start(REPLY_ROOT)
            .attribute("SchemaVersion", SCHEMA_VERSION)
            .attribute("ReplyType", self.reply_type)
            .start("Identification")
            .start("Machine")
            .leaf("ClientID", self.client_id)
            .empty("FQDN")
            .empty("NetBIOSName")
            .empty("SID")
            .end()
            .empty("User")
            .end()
            .leaf("PolicySource", &self.policy_source)
            .start("Resource")
            .attribute("ResourceType", self.resource)
            .end()
            .leaf("ServerCookie", &self.server_cookie);
        for assignment in &self.assignments {
            assignment.write(&mut xml);
        }
        xml.finish()
    }
}

impl PolicyAssignment {
    fn write(&self, xml: &mut XmlWriter) {
        xml.start("PolicyAssignment")
            .attribute("PolicyAssignmentID", format_args!("{{{}}}", self.id))
            .optional_attribute("Action", self.action.as_ref());
        if let Some(condition) = &self.condition {
            condition.write(xml);
        }
        for policy in &self.policies {
            xml.start("Policy")
                .attribute("PolicyID", &policy.id)
                .attribute("PolicyVersion", &policy.version)
                .attribute("PolicyType", policy.policy_type)
                .optional_attribute("PolicyCategory", policy.category.as_ref())
                .attribute("PolicyFlags", policy.flags.0)
                .optional_attribute("PolicyPriority", policy.priority)
                .start("PolicyLocation")
                .optional_attribute("PolicyHash", policy.location.hash.as_ref())
                .optional_attribute("PolicyHashEx", policy.location.hash_ex.as_ref())
                .cdata(&policy.location.url)
                .end()
                .end();
        }
        xml.end();
    }
}

fn assignment(element: &Element<'_>) -> Result<PolicyAssignment, FieldError> {
    let policies = element.children_named("Policy").map(assigned_policy).collect::<Result<_, _>>()?;
    Ok(PolicyAssignment {
        id: element.parsed_attribute("PolicyAssignmentID")?,
        action: element.given_attribute("Action")?.map(str::to_owned),
        condition: Condition::of(element)?,
        policies: at_most("policies", limits::POLICY_ENTRIES, policies)?,
    })
}

fn assigned_policy(element: &Element<'_>) -> Result<AssignedPolicy, FieldError> {
    let location = element.required_child("PolicyLocation")?;
    Ok(AssignedPolicy {
        id: element.parsed_attribute("PolicyID")?,
        version: element.required_attribute("PolicyVersion")?.to_owned(),
        policy_type: element.parsed_attribute("PolicyType")?,
        category: element.given_attribute("PolicyCategory")?.map(str::to_owned),
        flags: PolicyFlags(element.parsed_given_attribute("PolicyFlags")?.unwrap_or_default()),
        priority: element.parsed_given_attribute("PolicyPriority")?,
        location: PolicyLocation {
            hash: location.given_attribute("PolicyHash")?.map(str::to_owned),
            hash_ex: location.given_attribute("PolicyHashEx")?.map(str::to_owned),
            url: element.required_text("PolicyLocation")?.to_owned(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::policy_query::PolicyEdition;

    const CLIENT: &str = "GUID:C806EBF9-8740-441E-AE7B-8B360ADCAECB";

    fn reply() -> ReplyAssignments {
        let query = PolicyQuery { id: PolicyId::Guid(Guid::nil()), edition: PolicyEdition::Sha256([7; 32]) };
        ReplyAssignments {
            reply_type: AssignmentsReplyType::Full,
            client_id: CLIENT.parse().unwrap(),
            policy_source: "SMS:RG1".to_owned(),
            resource: ResourceType::Machine,
            server_cookie: "2026-01-31 11:16:00.526".to_owned(),
            assignments: vec![PolicyAssignment {
                id: Guid::from_bytes([3; 16]),
                action: None,
                condition: Some(Condition::always()),
                policies: vec![AssignedPolicy {
                    id: query.id.clone(),
                    version: "1.00".to_owned(),
                    policy_type: ResourceType::Machine,
                    category: None,
                    flags: PolicyFlags::SECRET.with(PolicyFlags::REQUIRES_AUTH),
                    priority: Some(25),
                    location: PolicyLocation::new("http", &query),
                }],
            }],
        }
    }

    #[test]
    fn a_reply_is_written_as_clients_search_it() {
        let xml = reply().to_xml();
        let location = "PolicyFlags=\"6\" PolicyPriority=\"25\"><PolicyLocation PolicyHash=\"SHA256:0707";
        assert!(
            xml.contains(location) && xml.contains("><![CDATA[http://<mp>/SMS_MP/.sms_pol?{0000"),
            "{xml}"
        );
        let read = ReplyAssignments::parse(&xml).unwrap();
        assert_eq!(read, reply());
        let policy = &read.assignments[0].policies[0];
        assert!(policy.flags.has(PolicyFlags::SECRET) && !policy.flags.has(PolicyFlags::COMPRESSED));
        assert!(policy.location.target().unwrap().starts_with("/SMS_MP/.sms_pol?{00000000-"));
    }

    #[test]
    fn a_location_that_names_another_host_has_no_target() {
        for url in [
            "http://evil.example/x",
            "ftp://<mp>/x",
            "<mp>/x",
            "http://<mp>.evil.example/x",
            "http://<mp>@evil/x",
        ] {
            let location = PolicyLocation { hash: None, hash_ex: None, url: url.to_owned() };
            assert_eq!(location.target(), None, "{url}");
        }
    }

    #[test]
    fn requests_for_devices_and_users_come_back() {
        let mut request = RequestAssignments {
            acknowledge: false,
            request_type: AssignmentsRequestType::OnUpdate,
            machine: Machine {
                client_id: CLIENT.parse().unwrap(),
                fqdn: "pc1.example.org".to_owned(),
                netbios_name: "PC1".to_owned(),
                sid: String::new(),
            },
            user: None,
            policy_source: "SMS:RG1".to_owned(),
            resource: ResourceType::Machine,
            server_cookie: Some("2026-01-31 11:16:00.526".to_owned()),
            validation: None,
        };
        assert_eq!(RequestAssignments::parse(&request.to_xml()), Ok(request.clone()));
        request.resource = ResourceType::User;
        request.user =
            Some(User { sid: "S-1".to_owned(), nt4_name: "D\\u".to_owned(), groups: vec!["S-2".to_owned()] });
        request.validation = Some("CRC".to_owned());
        assert_eq!(RequestAssignments::parse(&request.to_xml()), Ok(request));
    }
}
