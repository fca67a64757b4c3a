//! Messages quote what was typed, and scrollback and logs keep messages: an invitation in one would
//! let in whoever reads it.

use comity_trust::invitation::has_prefix;

/// What an invitation begins with, without the dashes that its reader ignores.
const BARE_PREFIX: &str = "COMITYINVITE";

/// Letters and digits behind the prefix. The shortest invitation holds an id, a secret and a node
/// id, 80 bytes, which are 128 of them; half would do to redeem nothing.
const TELLING: usize = 64;

/// Stands for an invitation.
const HIDDEN: &str = "COMITY-INVITE-…";

/// Whether a word of the command line looks like an invitation, perhaps a mistyped one.
pub(crate) fn looks_like_invitation(word: &str) -> bool {
    // Shorter ones are names that somebody chose.
    has_prefix(word) && word.len() >= TELLING
}

/// The text without the invitations in it, in any spelling that `comity join` takes.
pub(crate) fn without_invitations(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        match invitation_length(rest) {
            Some(length) => {
                clean.push_str(HIDDEN);
                rest = &rest[length..];
            }
            None => {
                clean.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    clean
}

/// How many bytes of invitation the text begins with.
fn invitation_length(text: &str) -> Option<usize> {
    let ignored = |c: char| c == '-' || c.is_ascii_whitespace();
    if text.starts_with(ignored) {
        return None;
    }
    let mut prefix = BARE_PREFIX.chars();
    let (mut telling, mut end) = (0, 0);
    for (at, c) in text.char_indices().filter(|(_, c)| !ignored(*c)) {
        match prefix.next() {
            Some(expected) if c.eq_ignore_ascii_case(&expected) => {}
            Some(_) => return None,
            None if c.is_ascii_alphanumeric() => telling += 1,
            None => break,
        }
        end = at + c.len_utf8();
    }
    (telling >= TELLING).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invitations_are_hidden_in_every_spelling() {
        let body = "MFZWI3DB".repeat(16);
        for invitation in [
            format!("COMITY-INVITE-{body}"),
            format!("comity-invite-{}", body.to_lowercase()),
            format!("ComityInvite{body}"),
            format!("COMITY-INVITE-{}\n  {}", &body[..60], &body[60..]),
            format!("COMITY-INVITE-{}-{}", &body[..60], &body[60..]),
            format!("COMITY-INVITE-{}", &body[..TELLING]),
        ] {
            let said = without_invitations(&format!("`{invitation}`: é no"));
            assert_eq!(said, "`COMITY-INVITE-…`: é no", "{invitation}");
            assert!(looks_like_invitation(&invitation));
        }
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        let short = format!("COMITY-INVITE-{}", "A".repeat(TELLING - 1));
        for text in [
            "",
            "`comity invite --for db --as laptop` lets a machine in",
            "on the other machine: comity join COMITY-INVITE-…",
            "comity invite",
            &short,
        ] {
            assert_eq!(without_invitations(text), text);
        }
        assert!(!looks_like_invitation("comity-invite-laptop"));
    }
}
