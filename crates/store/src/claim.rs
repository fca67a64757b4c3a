//! Text that a stranger chose, made fit to be stored and shown.

/// Makes at most `limit` characters of `text` harmless: whatever is not printable ASCII becomes a
/// Rust escape such as `\n` or `\u{202e}`, so that it can neither begin a line, nor drive a terminal,
/// nor turn the direction of the text around it. Backslashes are doubled, so nobody can write
/// an escape that we did not make.
///
/// What is cut off is marked by `...`.
pub(crate) fn harmless(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    let mut characters = text.chars();
    for character in characters.by_ref().take(limit) {
        match character {
            '\\' => shown.push_str("\\\\"),
            ' '..='~' => shown.push(character),
            _ => shown.extend(character.escape_default()),
        }
    }
    if characters.next().is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_printable_ascii_is_escaped() {
        for (text, shown) in [
            ("ops-db", "ops-db"),
            ("a b#c@d\"e", "a b#c@d\"e"),
            ("a\nb\r\t\0", "a\\nb\\r\\t\\u{0}"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("gro\u{df}", "gro\\u{df}"),
            ("\u{202e}evil", "\\u{202e}evil"),
            ("\\n", "\\\\n"),
        ] {
            assert_eq!(harmless(text, 64), shown);
        }
    }

    #[test]
    fn the_limit_is_kept_and_what_exceeds_it_is_marked() {
        assert_eq!(harmless("abc", 3), "abc");
        assert_eq!(harmless("abcd", 3), "abc...");
        assert_eq!(
            harmless(&"\u{10ffff}".repeat(1 << 16), 64).len(),
            64 * 10 + 3
        );
    }
}
