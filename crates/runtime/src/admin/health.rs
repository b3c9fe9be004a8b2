//! Whether a role can do its work, check by check.

use std::fmt::Write as _;

use crate::telemetry::json_string;

/// One thing that a role needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    name: &'static str,
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// It is there; a note for people, or nothing.
    Ok(String),
    /// It is not.
    Failed { cause: String, next: &'static str },
}

impl Check {
    /// It is there.
    pub fn ok(name: &'static str) -> Self {
        Self::noted(name, "")
    }

    /// It is there, with a note such as its age.
    pub fn noted(name: &'static str, note: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok(note.into()) }
    }

    /// It is not there: why, and what to do next. Neither may hold what only operators may know.
    pub fn failed(name: &'static str, cause: impl Into<String>, next: &'static str) -> Self {
        Self { name, outcome: Outcome::Failed { cause: cause.into(), next } }
    }

    /// [`Check::ok`], or [`Check::failed`] where `problem` is so.
    pub fn unless(problem: bool, name: &'static str, cause: &'static str, next: &'static str) -> Self {
        if problem { Self::failed(name, cause, next) } else { Self::ok(name) }
    }

    /// What it looks at.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it is there.
    pub const fn is_ok(&self) -> bool {
        matches!(self.outcome, Outcome::Ok(_))
    }
}

/// The answer to "are you ready".
#[derive(Debug, Clone)]
pub struct Report {
    checks: Vec<Check>,
}

impl Report {
    /// Of these checks.
    pub const fn new(checks: Vec<Check>) -> Self {
        Self { checks }
    }

    /// Whether none failed.
    pub fn is_ready(&self) -> bool {
        self.checks.iter().all(Check::is_ok)
    }

    /// A line a check, after one that says it all.
    pub fn text(&self) -> String {
        let mut text = String::from(if self.is_ready() { "ready\n" } else { "not ready\n" });
        for Check { name, outcome } in &self.checks {
            // Writing to a string cannot fail.
            let _ = match outcome {
                Outcome::Ok(note) if note.is_empty() => writeln!(text, "{name}: ok"),
                Outcome::Ok(note) => writeln!(text, "{name}: ok ({note})"),
                Outcome::Failed { cause, next } => writeln!(text, "{name}: failed: {cause}; {next}"),
            };
        }
        text
    }

    /// The same for programs.
    pub fn json(&self) -> String {
        let mut text = format!("{{\"ready\":{},\"checks\":[", self.is_ready());
        for (index, Check { name, outcome }) in self.checks.iter().enumerate() {
            text.push_str(if index == 0 { "{\"name\":" } else { ",{\"name\":" });
            json_string(&mut text, name);
            let members = match outcome {
                Outcome::Ok(note) if note.is_empty() => vec![],
                Outcome::Ok(note) => vec![("note", note.as_str())],
                Outcome::Failed { cause, next } => vec![("cause", cause.as_str()), ("next", next)],
            };
            text.push_str(if matches!(outcome, Outcome::Ok(_)) { ",\"ok\":true" } else { ",\"ok\":false" });
            for (name, value) in members {
                let _ = write!(text, ",\"{name}\":");
                json_string(&mut text, value);
            }
            text.push('}');
        }
        text.push_str("]}\n");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::new(vec![
            Check::ok("drain"),
            Check::noted("snapshot", "version 5, 12 s old"),
            Check::failed(
                "tunnel",
                "no connection point is \"connected\"",
                "look at the connection point's log",
            ),
        ])
    }

    #[test]
    fn each_check_has_a_line_with_its_cause_and_the_next_step() {
        assert!(!report().is_ready());
        assert_eq!(
            report().text(),
            "not ready\ndrain: ok\nsnapshot: ok (version 5, 12 s old)\n\
             tunnel: failed: no connection point is \"connected\"; look at the connection point's log\n"
        );
        assert_eq!(Report::new(vec![Check::ok("drain")]).text(), "ready\ndrain: ok\n");
    }

    #[test]
    fn programs_get_the_same_as_json() {
        assert_eq!(
            report().json(),
            "{\"ready\":false,\"checks\":[{\"name\":\"drain\",\"ok\":true},\
             {\"name\":\"snapshot\",\"ok\":true,\"note\":\"version 5, 12 s old\"},\
             {\"name\":\"tunnel\",\"ok\":false,\"cause\":\"no connection point is \\\"connected\\\"\",\
             \"next\":\"look at the connection point's log\"}]}\n"
        );
    }

    #[test]
    fn a_problem_makes_a_check_fail() {
        assert!(!Check::unless(true, "drain", "stopping", "wait").is_ok());
        assert_eq!(Check::unless(false, "drain", "stopping", "wait"), Check::ok("drain"));
    }
}
