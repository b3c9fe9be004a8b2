//! What the lab shows while it works: a step with a mark and its time, a line each.

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

/// Prints the steps of the lab on standard error, so that standard output stays free.
#[derive(Debug)]
pub(crate) struct Show {
    started: Instant,
    terminal: bool,
}

impl Show {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), terminal: std::io::stderr().is_terminal() }
    }

    /// A heading.
    pub(crate) fn heading(&self, text: &str) {
        self.print(&format!("\n{}", self.bold(text)));
    }

    /// A step begins; shown at once, so that nobody looks at a silent screen.
    pub(crate) fn begin<'a>(&'a self, text: &'a str) -> Step<'a> {
        if self.terminal {
            let _ = write!(std::io::stderr().lock(), "  … {text}\r");
        }
        Step { show: self, text, began: Instant::now() }
    }

    /// A remark.
    pub(crate) fn note(&self, text: &str) {
        for line in text.lines() {
            self.print(&format!("        {line}"));
        }
    }

    /// Seconds since the lab began.
    pub(crate) fn elapsed(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn print(&self, line: &str) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        let _ = writeln!(std::io::stderr().lock(), "{clear}{line}");
    }

    fn bold(&self, text: &str) -> String {
        if self.terminal { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A step under way.
#[derive(Debug)]
#[must_use]
pub(crate) struct Step<'a> {
    show: &'a Show,
    text: &'a str,
    began: Instant,
}

impl Step<'_> {
    /// It worked.
    pub(crate) fn done(self) {
        self.end("");
    }

    /// It worked, and this came of it.
    pub(crate) fn done_with(self, result: &str) {
        self.end(result);
    }

    fn end(self, result: &str) {
        let seconds = self.began.elapsed().as_secs_f64();
        let arrow = if result.is_empty() { "" } else { " → " };
        self.show.print(&format!("  ✓ {}{arrow}{result}  ({seconds:.2} s)", self.text));
    }
}
