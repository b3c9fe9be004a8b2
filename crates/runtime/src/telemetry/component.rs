//! Components: what logs, where it goes, and how much of it.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;

/// A component and the file that its lines go to. Several may share a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComponentSpec {
    /// Name in the lines, such as `CCM_STS`.
    pub component: &'static str,
    /// File name in the log folder, such as `CCM_STS.log`.
    pub file: &'static str,
    /// How its lines are written.
    pub format: Format,
}

/// The two line formats of the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Clients and management points: `<![LOG[…]LOG]!><time="…" …>`.
    Ccm,
    /// Site server roles, gateway, connection point: `…~~  $$<COMPONENT><…><thread=…>`.
    Simple,
}

/// How much is logged; numbers as in the field. Without `debug` the connections' noise is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Level {
    /// 0: everything, `debug` included.
    Verbose,
    /// 1: `info` and above.
    #[default]
    Default,
    /// 2: warnings and errors.
    Warnings,
    /// 3: errors only.
    Errors,
}

/// No such level.
#[derive(Debug, thiserror::Error)]
#[error("{0} is no log level; use 0 (verbose), 1 (default), 2 (warnings and errors) or 3 (errors only)")]
pub struct UnknownLevel(u8);

impl TryFrom<u8> for Level {
    type Error = UnknownLevel;

    fn try_from(number: u8) -> Result<Self, UnknownLevel> {
        match number {
            0 => Ok(Self::Verbose),
            1 => Ok(Self::Default),
            2 => Ok(Self::Warnings),
            3 => Ok(Self::Errors),
            other => Err(UnknownLevel(other)),
        }
    }
}

impl From<Level> for u8 {
    fn from(level: Level) -> Self {
        match level {
            Level::Verbose => 0,
            Level::Default => 1,
            Level::Warnings => 2,
            Level::Errors => 3,
        }
    }
}

impl Level {
    /// Whether an event of `level` is written at this level of detail. `trace` never is.
    fn includes(self, level: tracing::Level) -> bool {
        let least = match self {
            Self::Verbose => tracing::Level::DEBUG,
            Self::Default => tracing::Level::INFO,
            Self::Warnings => tracing::Level::WARN,
            Self::Errors => tracing::Level::ERROR,
        };
        level <= least
    }
}

/// There is no such component in the table.
#[derive(Debug, thiserror::Error)]
#[error("there is no log component \"{0}\"")]
pub struct UnknownComponent(String);

/// The table, with the levels that can change while events look at them.
#[derive(Debug)]
pub(super) struct Components {
    /// Never empty: the first is the default.
    entries: Vec<Entry>,
    /// Whether any entry wants `debug`.
    verbose: AtomicBool,
}

#[derive(Debug)]
struct Entry {
    spec: ComponentSpec,
    level: AtomicU8,
}

/// Where a line goes: an entry of the table, under a name that may be another.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) spec: ComponentSpec,
    pub(super) name: Cow<'static, str>,
}

impl Components {
    pub(super) fn new(default: ComponentSpec, others: Vec<ComponentSpec>, level: Level) -> Self {
        let others = others.into_iter().filter(|spec| spec.component != default.component);
        let entry = |spec| Entry { spec, level: AtomicU8::new(level.into()) };
        let entries = std::iter::once(default).chain(others).map(entry).collect();
        Self { entries, verbose: AtomicBool::new(level == Level::Verbose) }
    }

    pub(super) fn default(&self) -> ComponentSpec {
        self.entries.first().expect("made with a default").spec
    }

    /// Where an event of `level` by `component` (`None`: the default) goes; `None` when it is not wanted.
    pub(super) fn route(&self, component: Option<&str>, level: tracing::Level) -> Option<Route> {
        let known = component.and_then(|name| self.entries.iter().find(|e| e.spec.component == name));
        let entry = known.or(self.entries.first())?;
        if !entry.level().includes(level) {
            return None;
        }
        let name = match component {
            Some(other) if known.is_none() => Cow::Owned(other.to_owned()),
            _ => Cow::Borrowed(entry.spec.component),
        };
        Some(Route { spec: entry.spec, name })
    }

    /// The entry of `component`, and whether an event of `level` is wanted there; `None`: it is not in the table.
    pub(super) fn known(&self, component: &str, level: tracing::Level) -> Option<(ComponentSpec, bool)> {
        let entry = self.entries.iter().find(|entry| entry.spec.component == component)?;
        Some((entry.spec, entry.level().includes(level)))
    }

    /// The most detailed level that any component wants. Never less than `info`, because spans of that level
    /// carry the request id of the warnings inside them.
    pub(super) fn most_detailed(&self) -> LevelFilter {
        if self.verbose.load(Ordering::Acquire) { LevelFilter::DEBUG } else { LevelFilter::INFO }
    }

    pub(super) fn set_level(&self, component: &str, level: Level) -> Result<(), UnknownComponent> {
        let entry = self
            .entries
            .iter()
            .find(|entry| entry.spec.component.eq_ignore_ascii_case(component))
            .ok_or_else(|| UnknownComponent(component.to_owned()))?;
        entry.level.store(level.into(), Ordering::Release);
        let verbose = self.entries.iter().any(|entry| entry.level() == Level::Verbose);
        self.verbose.store(verbose, Ordering::Release);
        Ok(())
    }

    pub(super) fn levels(&self) -> Vec<(&'static str, Level)> {
        self.entries.iter().map(|entry| (entry.spec.component, entry.level())).collect()
    }
}

impl Entry {
    fn level(&self) -> Level {
        Level::try_from(self.level.load(Ordering::Acquire)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: ComponentSpec =
        ComponentSpec { component: "CMGService", file: "CMGService.log", format: Format::Simple };
    const STS: ComponentSpec =
        ComponentSpec { component: "CCM_STS", file: "CCM_STS.log", format: Format::Ccm };

    fn components(level: Level) -> Components {
        Components::new(GATEWAY, vec![STS, GATEWAY], level)
    }

    fn routed(components: &Components, name: Option<&str>, level: tracing::Level) -> Option<String> {
        components.route(name, level).map(|route| format!("{} in {}", route.name, route.spec.file))
    }

    #[test]
    fn a_component_goes_to_its_file_and_an_unknown_one_to_the_default_under_its_own_name() {
        let table = components(Level::Default);
        let info = |name| routed(&table, name, tracing::Level::INFO).unwrap();
        assert_eq!(info(Some("CCM_STS")), "CCM_STS in CCM_STS.log");
        assert_eq!(info(None), "CMGService in CMGService.log");
        assert_eq!(info(Some("Other")), "Other in CMGService.log");
        assert_eq!(table.levels().len(), 2, "the default is not listed twice");
    }

    #[test]
    fn each_level_takes_its_own_and_what_is_graver() {
        use tracing::Level as T;
        for (level, taken) in [
            (Level::Verbose, &[T::DEBUG, T::INFO, T::WARN, T::ERROR][..]),
            (Level::Default, &[T::INFO, T::WARN, T::ERROR]),
            (Level::Warnings, &[T::WARN, T::ERROR]),
            (Level::Errors, &[T::ERROR]),
        ] {
            for event in [T::TRACE, T::DEBUG, T::INFO, T::WARN, T::ERROR] {
                let is_taken = routed(&components(level), None, event).is_some();
                assert_eq!(is_taken, taken.contains(&event), "{event} at {level:?}");
            }
        }
    }

    #[test]
    fn a_level_is_changed_for_one_component_only() {
        let table = components(Level::Errors);
        assert_eq!(table.most_detailed(), LevelFilter::INFO);
        table.set_level("ccm_sts", Level::Verbose).unwrap();
        assert_eq!(table.levels(), [("CMGService", Level::Errors), ("CCM_STS", Level::Verbose)]);
        assert_eq!(table.most_detailed(), LevelFilter::DEBUG);
        table.set_level("CCM_STS", Level::Warnings).unwrap();
        assert_eq!(table.most_detailed(), LevelFilter::INFO);
        assert!(table.set_level("nobody", Level::Verbose).is_err());
    }

    #[test]
    fn levels_are_numbers_in_files() {
        #[derive(Deserialize, Serialize)]
        struct Row {
            level: Level,
        }
        let row: Row = toml::from_str("level = 2").unwrap();
        assert_eq!(row.level, Level::Warnings);
        assert_eq!(toml::to_string(&row).unwrap(), "level = 2\n");
        assert!(toml::from_str::<Row>("level = 4").is_err());
    }
}
