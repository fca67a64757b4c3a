//! The nearest correct spelling, for hints.

/// The candidate that `text` was probably meant to be: at most two single-character changes away,
/// and fewer than half of its length.
pub(crate) fn nearest<'a>(text: &str, candidates: &[&'a str]) -> Option<&'a str> {
    // Longer input is no misspelling of any word of ours, and would only cost time.
    if text.len() > 32 {
        return None;
    }
    candidates
        .iter()
        .map(|candidate| (distance(text, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 2 && distance * 2 < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance over bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_nonsense_finds_none() {
        let words = ["roles", "networks", "for"];
        assert_eq!(nearest("role", &words), Some("roles"));
        assert_eq!(nearest("netwroks", &words), Some("networks"));
        assert_eq!(nearest("fro", &words), None);
        assert_eq!(nearest("colour", &words), None);
        assert_eq!(nearest(&"r".repeat(33), &words), None);
    }
}
