//! `/policies`: what devices are assigned. Adding one is for labs and tests so far.

use axum::Json;
use axum::extract::{Extension, State};
use http::StatusCode;
use proto::id::Guid;
use proto::text::write::XmlWriter;
use runtime::id::fill;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use site::{NewPolicy, Policy, PolicyError, PolicyProtection, UserRef, UserTarget, flags};

use super::authenticate::Caller;
use super::error::{ApiError, Code};
use super::extract::JsonBody;
use super::{Api, time};

/// CIM types of properties.
const STRING: u8 = 8;
const BOOLEAN: u8 = 11;
const UINT32: u8 = 19;
/// Properties of one instance at most.
const PROPERTIES: usize = 256;

/// Body of `POST policies`. Class and properties stand in `settings`, or beside the rest.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct New {
    id: Option<Guid>,
    /// For people; counts as the category where there is none.
    name: Option<String>,
    category: Option<String>,
    #[serde(default)]
    flags: Vec<Flag>,
    settings: Option<Instance>,
    class: Option<String>,
    properties: Option<Map<String, Value>>,
    /// Aimed at this collection, by id; at all devices where nobody is named.
    collection: Option<String>,
    /// Aimed at users in place of devices.
    users: Option<Users>,
}

/// All users of a tenant, or one of them.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Users {
    tenant: Guid,
    user: Option<Guid>,
}

/// The instance that a policy makes on the device.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Instance {
    class: String,
    #[serde(default)]
    properties: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Flag {
    Compressed,
    Secret,
}

/// `GET policies`.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let policies = api.site.list_policies().await?;
    Ok(Json(policies.iter().map(view).collect()))
}

/// `POST policies`: a policy for devices or users, or a new version of one.
pub(super) async fn add(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<New>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let protection = match new.flags.as_slice() {
        [] => PolicyProtection::Public,
        [Flag::Compressed] => PolicyProtection::Compressed,
        [Flag::Secret] => PolicyProtection::Secret,
        _ => return Err(invalid("a policy is compressed or secret, not both")),
    };
    let instance = new.settings.or_else(|| {
        new.class.map(|class| Instance { class, properties: new.properties.unwrap_or_default() })
    });
    let rules = rules(&instance.ok_or_else(|| invalid("the policy names no class"))?)?;
    let policy = NewPolicy {
        id: new.id,
        category: new.category.or(new.name).unwrap_or_default(),
        protection,
        rules,
        collection: new.collection,
    };
    let aim = new.users.map(|users| match users.user {
        Some(user) => UserTarget::User(UserRef { tenant: users.tenant, user }),
        None => UserTarget::Tenant(users.tenant),
    });
    let policy = match aim {
        Some(target) => api.site.add_user_policy(&caller.by(), policy, target).await?,
        None => api.site.add_policy(&caller.by(), policy).await?,
    };
    Ok((StatusCode::CREATED, Json(view(&policy))))
}

/// The rule that makes the instance (protocol reference 6.3).
fn rules(instance: &Instance) -> Result<String, ApiError> {
    if !is_identifier(&instance.class) || !instance.properties.keys().all(|name| is_identifier(name)) {
        return Err(invalid(
            "names of classes and properties are letters, digits and _, at most 255 of them",
        ));
    }
    if instance.properties.len() > PROPERTIES {
        return Err(invalid("the policy has more properties than any class"));
    }
    let mut random = [0; 16];
    fill(&mut random);
    let mut xml = XmlWriter::new();
    xml.start("PolicyRule").attribute("PolicyRuleID", format_args!("{{{}}}", Guid::from_random(random)));
    xml.start("Condition").start("Expression");
    xml.attribute("ExpressionLanguage", "WQL").attribute("ExpressionType", "until-true").end().end();
    xml.start("PolicyAction").attribute("PolicyActionType", "WMI-XML");
    xml.start("instance").attribute("class", &instance.class);
    for (name, value) in &instance.properties {
        let (kind, text) = property(value).ok_or_else(|| {
            invalid(&format!("property {name} is no text, no truth value and no number below 2^32"))
        })?;
        xml.start("property").attribute("name", name).attribute("type", kind);
        xml.start("value").cdata(&text).end().end();
    }
    Ok(xml.finish())
}

fn property(value: &Value) -> Option<(u8, String)> {
    match value {
        Value::String(text) => Some((STRING, text.clone())),
        Value::Bool(value) => Some((BOOLEAN, if *value { "TRUE" } else { "FALSE" }.to_owned())),
        Value::Number(number) => {
            u32::try_from(number.as_u64()?).ok().map(|number| (UINT32, number.to_string()))
        }
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn is_identifier(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.len() <= 255 && name.chars().all(word)
}

fn view(policy: &Policy) -> Value {
    let named = [
        (flags::COMPRESSED, "compressed"),
        (flags::SECRET, "secret"),
        (flags::REQUIRES_AUTH, "requires-identity"),
    ];
    let set = named.iter().filter(|(bit, _)| policy.flags & bit != 0).map(|(_, name)| *name);
    json!({
        "id": policy.id,
        "name": policy.category,
        "version": policy.version,
        "flags": set.collect::<Vec<_>>(),
        "hash": policy.hash,
        "created_at": time(policy.created_at),
    })
}

fn invalid(message: &str) -> ApiError {
    ApiError::new(Code::Invalid, message, "Correct the policy.")
}

impl From<PolicyError> for ApiError {
    fn from(error: PolicyError) -> Self {
        match error {
            PolicyError::Name(_) | PolicyError::TooLarge | PolicyError::Xml => {
                Self::told(Code::Invalid, &error, "Correct the policy.")
            }
            PolicyError::UnknownCollection(_) => Self::told(Code::NotFound, &error, "Check the spelling."),
            PolicyError::UsersAndDevices => {
                Self::told(Code::Invalid, &error, "Name a collection, or users; not both.")
            }
            PolicyError::NotALab => Self::told(Code::Refused, &error, "Add the policy as a new one."),
            PolicyError::Database(error) => error.into(),
            PolicyError::Seal(_) | PolicyError::Sign(_) => Self::failed(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(class: &str, properties: Value) -> Instance {
        let Value::Object(properties) = properties else { panic!("an object") };
        Instance { class: class.into(), properties }
    }

    #[test]
    fn properties_become_typed_values_that_cannot_leave_their_place() {
        let xml = rules(&instance("Roamgate_Lab", json!({"a": "x]]>y", "b": true, "c": 7}))).unwrap();
        assert!(xml.contains("<instance class=\"Roamgate_Lab\">"), "{xml}");
        assert!(
            xml.contains("<property name=\"b\" type=\"11\"><value><![CDATA[TRUE]]></value></property>"),
            "{xml}"
        );
        assert!(
            xml.contains("<property name=\"c\" type=\"19\"><value><![CDATA[7]]></value></property>"),
            "{xml}"
        );
        assert!(xml.contains("x]]]]><![CDATA[>y"), "{xml}");
    }

    #[test]
    fn names_that_are_no_identifiers_and_values_without_a_type_are_refused() {
        assert!(rules(&instance("a\"b", json!({}))).is_err());
        assert!(rules(&instance("", json!({}))).is_err());
        for value in [json!(null), json!([1]), json!(-1), json!(1.5), json!(1_u64 << 32)] {
            assert!(rules(&instance("A", json!({"p": value}))).is_err());
        }
    }
}
