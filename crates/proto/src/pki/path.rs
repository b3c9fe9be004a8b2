//! Finding paths from a leaf to a trusted root, by names and signatures.
//!
//! The searching is ours, because whoever shows a certificate chooses what is searched: seven
//! certificates of one name make thousands of paths by name. Here nothing is followed that was not
//! signed by the key above it, and signatures are counted.

use super::certificate::Certificate;
use super::soundness::{Place, Stage, check_strength};
use crate::limits;
use crate::pki::Distrust;

/// What a search draws from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'s> {
    /// Where paths may end.
    pub(super) roots: &'s [Certificate],
    /// Intermediates of the trust list.
    pub(super) intermediates: &'s [Certificate],
    /// Whatever was shown after the leaf.
    pub(super) shown: &'s [Certificate],
    /// Longest path, leaf and root counted.
    pub(super) longest: usize,
}

/// A complete path: leaf first, root last, each signed by the key of the next.
pub(super) type Path<'s> = [&'s Certificate];

/// One search.
pub(super) struct Search<'s, J> {
    field: Field<'s>,
    judge: J,
    signatures: usize,
    paths: usize,
    /// Why the paths that were complete are not trusted: the one that came furthest.
    refusal: Option<(Stage, Distrust)>,
    /// Why there is no complete path, found this far from the leaf.
    end: Option<(usize, Distrust)>,
}

impl<'s, J, T> Search<'s, J>
where
    J: FnMut(&Path<'s>) -> Result<T, (Stage, Distrust)>,
{
    /// A search in which `judge` says of each complete path whether it is trusted, or how far it
    /// came and why it is not.
    pub(super) fn new(field: Field<'s>, judge: J) -> Self {
        Self {
            field,
            judge,
            signatures: limits::PATH_SIGNATURES,
            paths: limits::PATHS,
            refusal: None,
            end: None,
        }
    }

    /// The first path that is trusted; otherwise the cause.
    pub(super) fn run(mut self, leaf: &'s Certificate) -> Result<T, Distrust> {
        if let Some(trusted) = self.extend(&mut vec![leaf]) {
            return Ok(trusted);
        }
        let refusal = self.refusal.map(|(_, distrust)| distrust);
        let cause = refusal.or(self.end.map(|(_, distrust)| distrust));
        Err(cause.unwrap_or_else(|| unknown_issuer(leaf, false)))
    }

    fn extend(&mut self, path: &mut Vec<&'s Certificate>) -> Option<T> {
        let depth = path.len();
        let head = *path.last()?;
        let field = self.field;
        let mut named = false;
        let mut followed = false;
        for root in field.roots.iter().filter(|root| root.subject() == head.issuer()) {
            named = true;
            if !self.is_signed(path, head, root, Place::Root) {
                continue;
            }
            followed = true;
            path.push(root);
            let judged = self.judge(path);
            path.pop();
            if judged.is_some() {
                return judged;
            }
        }
        for next in field.shown.iter().chain(field.intermediates) {
            if next.subject() != head.issuer() || is_in(path, next) {
                continue;
            }
            named = true;
            if !self.is_signed(path, head, next, Place::Intermediate) {
                continue;
            }
            followed = true;
            // The root still has to fit in.
            if depth + 2 > field.longest {
                self.note_end(depth, too_long(path, field.longest));
                continue;
            }
            path.push(next);
            let found = self.extend(path);
            path.pop();
            if found.is_some() {
                return found;
            }
        }
        if !followed {
            self.note_end(depth, unknown_issuer(head, named));
        }
        None
    }

    /// Whether `head` was signed by the key of `issuer`, as far as the budget goes. Weak keys and
    /// signatures are not verified at all, and named as the cause.
    fn is_signed(&mut self, path: &Path<'s>, head: &Certificate, issuer: &Certificate, place: Place) -> bool {
        let head_place = if path.len() == 1 { Place::Leaf } else { Place::Intermediate };
        let strong = check_strength(head, head_place).and_then(|()| check_strength(issuer, place));
        if let Err(weak) = strong {
            self.note_end(path.len() + 1, weak);
            return false;
        }
        if self.signatures == 0 {
            self.note_end(limits::PATH_CERTIFICATES + 1, too_many(path));
            return false;
        }
        self.signatures -= 1;
        head.is_signed_by(issuer)
    }

    fn judge(&mut self, path: &Path<'s>) -> Option<T> {
        if self.paths == 0 {
            self.note_end(limits::PATH_CERTIFICATES + 1, too_many(path));
            return None;
        }
        self.paths -= 1;
        match (self.judge)(path) {
            Ok(trusted) => Some(trusted),
            Err((stage, distrust)) => {
                if self.refusal.as_ref().is_none_or(|(furthest, _)| stage > *furthest) {
                    self.refusal = Some((stage, distrust));
                }
                None
            }
        }
    }

    fn note_end(&mut self, depth: usize, distrust: Distrust) {
        if self.end.as_ref().is_none_or(|(deepest, _)| depth > *deepest) {
            self.end = Some((depth, distrust));
        }
    }
}

/// RFC 4158, section 5.2: the same name and key twice is a loop.
fn is_in(path: &Path<'_>, next: &Certificate) -> bool {
    path.iter().any(|seen| seen.subject() == next.subject() && seen.key() == next.key())
}

fn unknown_issuer(at: &Certificate, namesake: bool) -> Distrust {
    let issuer = at.issuer_name();
    Distrust::UnknownIssuer {
        subject: at.name(),
        issuer: if namesake {
            format!("{issuer} (with another key than the one that is known)")
        } else {
            issuer
        },
    }
}

fn too_long(path: &Path<'_>, longest: usize) -> Distrust {
    let subject = path.first().map_or_else(String::new, |leaf| leaf.name());
    Distrust::Invalid { subject, detail: format!("it has more than {longest} certificates up to a root") }
}

fn too_many(path: &Path<'_>) -> Distrust {
    let subject = path.first().map_or_else(String::new, |leaf| leaf.name());
    Distrust::Invalid { subject, detail: "it allows too many paths to look at all of them".to_owned() }
}
