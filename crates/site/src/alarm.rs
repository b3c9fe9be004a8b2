//! Alarms: configuration that weakens security, named as such (R71).

use serde::Serialize;

use crate::Site;
use crate::db::DbError;

/// One thing that an operator should know of, for as long as it lasts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alarm {
    /// What it is about: `setting`, `approval-rule`, `lab`.
    pub kind: &'static str,
    /// Which setting or rule.
    pub object: String,
    /// What it means, in one sentence.
    pub text: String,
}

impl Site {
    /// Everything that an operator has set and that weakens security.
    pub async fn list_alarms(&self) -> Result<Vec<Alarm>, DbError> {
        let settings = self.list_settings().await?;
        let weak_settings =
            settings.iter().filter(|setting| setting.weakens && setting.value != setting.default);
        let mut alarms: Vec<_> = weak_settings
            .map(|setting| Alarm {
                kind: "setting",
                object: setting.name.to_owned(),
                text: format!(
                    "{} is {:?} instead of {:?}: {}.",
                    setting.name, setting.value, setting.default, setting.doc
                ),
            })
            .collect();
        let rules = self.approval_rules();
        alarms.extend(rules.iter().filter(|rule| rule.is_weak()).map(|rule| Alarm {
            kind: "approval-rule",
            object: format!("{} {}", rule.kind(), rule.argument()),
            text:
                "This rule approves every device that reaches a management point, from anywhere.".to_owned(),
        }));
        if self.is_lab() {
            alarms.push(Alarm {
                kind: "lab",
                object: self.facts().code.to_string(),
                text: "This site is a lab: it approves devices on the lab's word.".to_owned(),
            });
        }
        Ok(alarms)
    }
}
