//! Making sure that a key is the one that somebody told: by its full id, never by a bare yes.

use std::fmt::Display;

use comity_identity::{KeyHash, ParseHashError, Words};

use crate::shell::{Failure, Terminal};

/// How often the id may be pasted again after something that is none.
const ATTEMPTS: usize = 3;

/// What has to be confirmed.
pub(crate) struct Question<'a> {
    /// Whose id it is, as in `the id of {whom}`.
    pub(crate) whom: &'a str,
    /// The key that was found.
    pub(crate) key: KeyHash,
    /// What is shown before the question: everything that a person has to know.
    pub(crate) shown: &'a dyn Display,
}

/// Returns only if the full id was given with --confirm, or is typed or pasted at the terminal.
pub(crate) fn confirm(question: &Question<'_>, given: Option<&str>) -> Result<(), Failure> {
    if let Some(text) = given {
        return match compare(text, question.key) {
            Answer::Same => Ok(()),
            Answer::Differs => Err(differs(question, text)),
            Answer::NoId(cause) => Err(Failure::unable(format!("`{text}` {cause}"))),
        };
    }
    let Some(mut terminal) = Terminal::open() else {
        return Err(
            Failure::no(format!("the id of {} is not confirmed", question.whom))
                .hint("give the full id, as its owner told you, with --confirm ID"),
        );
    };
    let lost = |error: std::io::Error| Failure::unable(format!("cannot ask: {error}"));
    terminal.show(question.shown).map_err(lost)?;
    for _ in 0..ATTEMPTS {
        let asked = format!(
            "Paste the full id of {}, as its owner told you (nothing to stop):",
            question.whom
        );
        let text = terminal.ask(asked).map_err(lost)?;
        if text.is_empty() {
            break;
        }
        match compare(&text, question.key) {
            Answer::Same => return Ok(()),
            Answer::Differs => return Err(differs(question, &text)),
            Answer::NoId(cause) => terminal.show(format_args!("That {cause}.")).map_err(lost)?,
        }
    }
    Err(Failure::no(format!(
        "the id of {} was not confirmed",
        question.whom
    )))
}

enum Answer {
    Same,
    Differs,
    NoId(String),
}

fn compare(text: &str, key: KeyHash) -> Answer {
    let bare = text.trim();
    let bare = ["node:", "key:"]
        .iter()
        .find_map(|prefix| bare.strip_prefix(prefix))
        .unwrap_or(bare);
    if bare.parse::<Words>().is_ok() {
        return Answer::NoId(
            "is twelve words, which are for comparing; the full id is needed".into(),
        );
    }
    match bare.parse::<KeyHash>() {
        Ok(typed) if typed == key => Answer::Same,
        Ok(_) => Answer::Differs,
        Err(error @ (ParseHashError::CheckCharacter { .. } | ParseHashError::TrailingBits)) => {
            Answer::NoId(format!("is no id: {error}"))
        }
        Err(_) => Answer::NoId("is no full id".into()),
    }
}

fn differs(question: &Question<'_>, text: &str) -> Failure {
    Failure::no(format!("that is not the id of {}", question.whom))
        .detail(format!("found  {}", question.key))
        .detail(format!("       {}", question.key.words()))
        .detail(format!("given  {text}"))
        .hint("if you were told right, this is another key: ask where it comes from")
}
