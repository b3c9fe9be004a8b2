//! `/settings`: what all hosts of the site share.

use axum::Json;
use axum::extract::{Extension, State};
use serde::Deserialize;
use serde_json::{Value, json};
use site::{SettingError, SettingView};

use super::authenticate::Caller;
use super::error::{ApiError, Code};
use super::extract::{JsonBody, Name};
use super::{Api, time};

/// Body of `PUT settings/{name}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewValue {
    value: Written,
}

/// A value as people write it in JSON.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Number(u64),
}

/// `GET settings`.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let settings = api.site.list_settings().await?;
    Ok(Json(settings.iter().map(view).collect()))
}

/// `PUT settings/{name}`.
pub(super) async fn set(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Name(name): Name,
    JsonBody(new): JsonBody<NewValue>,
) -> Result<Json<Value>, ApiError> {
    let value = match new.value {
        Written::Text(text) => text,
        Written::Number(number) => number.to_string(),
    };
    api.site.set_setting(&caller.by(), &name, &value).await?;
    let settings = api.site.list_settings().await?;
    let setting = settings.iter().find(|setting| setting.name == name).ok_or(SettingError::Unknown(name))?;
    Ok(Json(view(setting)))
}

fn view(setting: &SettingView) -> Value {
    json!({
        "name": setting.name,
        "value": setting.value,
        "default": setting.default,
        "takes": setting.form,
        "unit": unit(&setting.form),
        "description": setting.doc,
        "weakens": setting.weakens,
        "changed_at": setting.changed_at.map(time),
        "changed_by": setting.changed_by,
    })
}

/// The unit of a number (`60 to 86400 seconds`); words have none.
fn unit(form: &str) -> Option<&str> {
    form.rsplit_once(' ').map(|(_, unit)| unit).filter(|_| form.starts_with(|c: char| c.is_ascii_digit()))
}

impl From<SettingError> for ApiError {
    fn from(error: SettingError) -> Self {
        match error {
            SettingError::Unknown(_) => Self::told(Code::NotFound, &error, "Check the spelling."),
            SettingError::Value { .. } => {
                Self::told(Code::Invalid, &error, "Write one of these values, without the unit.")
            }
            SettingError::Database(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_unit_and_words_none() {
        assert_eq!(unit("60 to 86400 seconds"), Some("seconds"));
        assert_eq!(unit("on or off"), None);
    }
}
