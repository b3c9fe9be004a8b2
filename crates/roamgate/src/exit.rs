//! How a command ends: documented exit codes, and errors that say cause and next step.

use std::fmt;

pub(crate) use client::cli::Exit;

/// Why a command failed, for the person at the terminal.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// What happened, with its causes.
    pub(crate) message: String,
    /// What to do next; empty when the message says it all.
    pub(crate) help: String,
}

impl Failure {
    /// A failure without a next step.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), help: String::new() }
    }

    /// A failure made of an error and all its causes.
    pub(crate) fn from_error(exit: Exit, error: &dyn std::error::Error) -> Self {
        Self::new(exit, chain(error))
    }

    /// The same, with a next step.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl miette::Diagnostic for Failure {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(format!("roamgate::{}", self.exit.word())))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        (!self.help.is_empty()).then(|| Box::new(&self.help) as Box<dyn fmt::Display>)
    }
}

/// Errors are shown without breaking lines: request ids, addresses and commands stay whole to be
/// copied and searched for, and a terminal wraps by itself.
pub(crate) fn keep_lines_whole() {
    // Only a second call fails, and it would set the same.
    let _ =
        miette::set_hook(Box::new(|_| Box::new(miette::MietteHandlerOpts::new().wrap_lines(false).build())));
}

/// An error and its causes in one line, each told once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
