//! One page, several writers: each its own part, between markers.

use std::path::{Path, PathBuf};

/// A part could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SectionError {
    /// The page cannot be read or written.
    #[error("cannot write {path}")]
    Io {
        /// The page.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// One of a part's markers is missing, or they stand the wrong way round.
    #[error("{path} has a broken pair of markers for {name}")]
    Markers {
        /// The page.
        path: PathBuf,
        /// The part.
        name: String,
    },
}

/// Puts `text` between the markers of part `name`; at the end of the page, with new ones, where it has none.
/// Everything else of the page stays as it is.
pub(crate) fn write_section(page: &Path, name: &str, text: &str) -> Result<(), SectionError> {
    let io = |source| SectionError::Io { path: page.to_owned(), source };
    let old = match std::fs::read_to_string(page) {
        Ok(old) => old,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(io(error)),
    };
    let new = with_section(&old, name, text)
        .ok_or_else(|| SectionError::Markers { path: page.to_owned(), name: name.to_owned() })?;
    std::fs::write(page, new).map_err(io)
}

fn with_section(page: &str, name: &str, text: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name}:begin -->"), format!("<!-- {name}:end -->"));
    let part = format!("{begin}\n{}\n{end}", text.trim_end());
    match (page.split_once(&begin), page.split_once(&end)) {
        (None, None) if page.is_empty() => Some(part + "\n"),
        (None, None) => Some(format!("{}\n\n{part}\n", page.trim_end())),
        (Some((before, rest)), Some(_)) => {
            let (_, after) = rest.split_once(&end)?;
            Some(format!("{before}{part}{after}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_replaced_and_the_rest_stays() {
        let page = "# P\n<!-- relay:begin -->\nold\n<!-- relay:end -->\nby hand\n";
        let new = with_section(page, "relay", "new\n\n").unwrap();
        assert_eq!(new, "# P\n<!-- relay:begin -->\nnew\n<!-- relay:end -->\nby hand\n");
        assert_eq!(with_section(&new, "relay", "new").unwrap(), new, "the same again changes nothing");
        let both = with_section(page, "site", "s").unwrap();
        assert!(both.ends_with("by hand\n\n<!-- site:begin -->\ns\n<!-- site:end -->\n"), "{both}");
    }

    #[test]
    fn broken_markers_are_not_guessed_at() {
        for page in ["<!-- a:begin -->", "<!-- a:end -->", "<!-- a:end --> <!-- a:begin -->"] {
            assert_eq!(with_section(page, "a", "x"), None, "{page}");
        }
    }
}
