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

/// Insertions, deletions, substitutions and swaps of neighbours, over bytes.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let substituted = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = substituted.min(row[j - 1] + 1).min(last[j] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_nonsense_finds_none() {
        let words = ["roles", "networks", "for"];
        assert_eq!(nearest("role", &words), Some("roles"));
        assert_eq!(nearest("netwroks", &words), Some("networks"));
        assert_eq!(nearest("fro", &words), Some("for"));
        assert_eq!(nearest("fr", &words), Some("for"));
        assert_eq!(nearest("xyr", &words), None);
        assert_eq!(nearest("colour", &words), None);
        assert_eq!(nearest(&"r".repeat(33), &words), None);
    }
}
