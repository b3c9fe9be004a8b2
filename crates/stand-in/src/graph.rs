//! Lists of users and devices, whole and by what changed.
//!
//! A page's link carries all that it needs: since which version, up to which, how far, which
//! properties. So nothing is kept between pages.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, LOCATION, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::config::{DeviceSeed, UserSeed};
use crate::form::{Form, encode};
use crate::register::{Change, Register};
use crate::state::{Shared, Tenant};

/// Largest page that may be asked for.
const LARGEST_PAGE: usize = 999;
/// Properties of a user when none are asked for; the on-premises ones are not among them.
const USER_DEFAULTS: &str = "id,displayName,mail,userPrincipalName";
/// Properties of a device when none are asked for.
const DEVICE_DEFAULTS: &str = "id,deviceId,displayName,trustType,accountEnabled";

/// Where in a list a link leads.
#[derive(Serialize, Deserialize)]
struct Place {
    /// Changes after this version of the register; 0 is everything.
    since: u64,
    /// Changes up to this version, so that a list does not move while it is paged.
    until: u64,
    /// Entries that were given already.
    offset: usize,
    /// Properties, separated by commas.
    select: String,
    /// Entries on a page.
    page: usize,
}

/// Something with properties.
trait Listed: Sized {
    const NAME: &'static str;
    const DEFAULTS: &'static str;
    fn register(tenant: &Tenant) -> &Register<Self>;
    fn properties(&self) -> Value;
}

impl Listed for UserSeed {
    const NAME: &'static str = "users";
    const DEFAULTS: &'static str = USER_DEFAULTS;

    fn register(tenant: &Tenant) -> &Register<Self> {
        &tenant.users
    }

    fn properties(&self) -> Value {
        let nickname = self.upn.split('@').next().unwrap_or_default();
        json!({
            "id": self.id,
            "displayName": self.name,
            "mail": self.upn,
            "mailNickname": nickname,
            "userPrincipalName": self.upn,
            "accountEnabled": true,
            "onPremisesSecurityIdentifier": self.sid,
            "onPremisesDomainName": self.domain,
            "onPremisesSamAccountName": self.account,
            "onPremisesDistinguishedName": self.distinguished_name,
            "onPremisesSyncEnabled": self.sid.is_some(),
        })
    }
}

impl Listed for DeviceSeed {
    const NAME: &'static str = "devices";
    const DEFAULTS: &'static str = DEVICE_DEFAULTS;

    fn register(tenant: &Tenant) -> &Register<Self> {
        &tenant.devices
    }

    fn properties(&self) -> Value {
        json!({
            "id": self.object,
            "deviceId": self.id,
            "displayName": self.name,
            "trustType": self.trust,
            "accountEnabled": self.enabled,
            "onPremisesSecurityIdentifier": self.sid,
            "operatingSystem": "Windows",
        })
    }
}

/// `GET /v1.0/users`.
pub(crate) async fn users(shared: State<Arc<Shared>>, headers: HeaderMap, query: RawQuery) -> Response {
    list::<UserSeed>(&shared.0, &headers, query.0.as_deref(), false)
}

/// `GET /v1.0/users/delta`.
pub(crate) async fn users_delta(shared: State<Arc<Shared>>, headers: HeaderMap, query: RawQuery) -> Response {
    list::<UserSeed>(&shared.0, &headers, query.0.as_deref(), true)
}

/// `GET /v1.0/devices`.
pub(crate) async fn devices(shared: State<Arc<Shared>>, headers: HeaderMap, query: RawQuery) -> Response {
    list::<DeviceSeed>(&shared.0, &headers, query.0.as_deref(), false)
}

/// `GET /v1.0/devices/delta`.
pub(crate) async fn devices_delta(
    shared: State<Arc<Shared>>,
    headers: HeaderMap,
    query: RawQuery,
) -> Response {
    list::<DeviceSeed>(&shared.0, &headers, query.0.as_deref(), true)
}

fn list<T: Listed>(shared: &Shared, headers: &HeaderMap, query: Option<&str>, delta: bool) -> Response {
    let now = shared.now();
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let form = Form::parse(query.unwrap_or_default());
    let path = format!("{}/v1.0/{}{}", shared.base, T::NAME, if delta { "/delta" } else { "" });
    let answer = shared.find_tenant(|tenant| {
        tenant.graph_tokens.get(bearer, now)?;
        Some(answer::<T>(tenant, &path, &form, headers, delta))
    });
    answer.unwrap_or_else(|| {
        refusal(StatusCode::UNAUTHORIZED, "InvalidAuthenticationToken", "The access token is not valid.")
    })
}

fn answer<T: Listed>(
    tenant: &mut Tenant,
    path: &str,
    form: &Form,
    headers: &HeaderMap,
    delta: bool,
) -> Response {
    let (left, wait) = &mut tenant.mood.throttled;
    if *left > 0 {
        *left -= 1;
        let refusal = refusal(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", "Too many requests.");
        return ([(RETRY_AFTER, wait.to_string())], refusal).into_response();
    }
    if tenant.mood.without_consent {
        let text = "Insufficient privileges to complete the operation.";
        return refusal(StatusCode::FORBIDDEN, "Authorization_RequestDenied", text);
    }
    let token = form.get("$deltatoken");
    if token.is_some() && std::mem::take(&mut tenant.mood.resync) {
        let text = "The state of the synchronisation is not known any more; begin anew.";
        let refusal = refusal(StatusCode::GONE, "resyncRequired", text);
        return ([(LOCATION, path.to_owned())], refusal).into_response();
    }
    let register = T::register(tenant);
    let place = match token.or_else(|| form.get("$skiptoken")) {
        Some(link) => match Place::read(link) {
            Some(place) if delta || token.is_none() => place,
            _ => {
                return refusal(
                    StatusCode::BAD_REQUEST,
                    "Request_BadRequest",
                    "The link is not one of mine.",
                );
            }
        },
        None => Place::first::<T>(form, headers, tenant.config.page_size, register.version()),
    };
    Json(place.page::<T>(register, path, delta)).into_response()
}

impl Place {
    fn first<T: Listed>(form: &Form, headers: &HeaderMap, usual: usize, version: u64) -> Self {
        let number = |text: &str| text.trim().parse().ok();
        let preferred = || {
            let prefer = headers.get("prefer")?.to_str().ok()?;
            number(prefer.split(',').find_map(|part| part.trim().strip_prefix("odata.maxpagesize="))?)
        };
        let page: Option<usize> = form.get("$top").and_then(number).or_else(preferred);
        Self {
            since: 0,
            until: version,
            offset: 0,
            select: form.get("$select").unwrap_or(T::DEFAULTS).to_owned(),
            page: page.unwrap_or(usual).clamp(1, LARGEST_PAGE),
        }
    }

    fn page<T: Listed>(mut self, register: &Register<T>, path: &str, delta: bool) -> Value {
        // A link that was given at the end of a list leads to what came since.
        if self.until <= self.since {
            self.until = register.version();
        }
        let changes = register.changes(self.since, self.until);
        let values = changes.iter().skip(self.offset).take(self.page);
        let values: Vec<_> = values.filter_map(|change| self.entry(change, delta)).collect();
        self.offset += self.page;
        let mut page = json!({ "@odata.context": format!("{path}/$metadata"), "value": values });
        if self.offset < changes.len() {
            page["@odata.nextLink"] = json!(format!("{path}?%24skiptoken={}", self.write()));
        } else if delta {
            let next = Self { since: self.until, until: 0, offset: 0, ..self };
            page["@odata.deltaLink"] = json!(format!("{path}?%24deltatoken={}", next.write()));
        }
        page
    }

    fn entry<T: Listed>(&self, change: &Change<'_, T>, delta: bool) -> Option<Value> {
        match change {
            Change::Present(value) => {
                let mut all = value.properties();
                let names = self.select.split(',').map(str::trim).filter(|name| *name != "id");
                let selected: Map<String, Value> = names
                    .chain(["id"])
                    .filter_map(|name| Some((name.to_owned(), all.get_mut(name)?.take())))
                    // A property that was never set is left out of changes.
                    .filter(|(_, value)| !(delta && value.is_null()))
                    .collect();
                Some(Value::Object(selected))
            }
            Change::Gone(id) if delta => Some(json!({ "id": id, "@removed": { "reason": "changed" } })),
            Change::Gone(_) => None,
        }
    }

    fn write(&self) -> String {
        encode(&URL_SAFE_NO_PAD.encode(json!(self).to_string()))
    }

    fn read(link: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(link).ok()?;
        let place: Self = serde_json::from_slice(&bytes).ok()?;
        (1..=LARGEST_PAGE).contains(&place.page).then_some(place)
    }
}

fn refusal(status: StatusCode, code: &str, text: &str) -> Response {
    let mut id = [0; 16];
    runtime::id::fill(&mut id);
    let id = proto::id::Guid::from_random(id);
    let body = json!({ "error": {
        "code": code,
        "message": text,
        "innerError": { "request-id": id, "client-request-id": id },
    } });
    (status, Json(body)).into_response()
}
