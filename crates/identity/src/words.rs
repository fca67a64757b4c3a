//! Words for comparison by people: on the phone, or from one screen to another.
//!
//! Twelve words hold 132 bits of a hash, enough against somebody who searches for a key with a
//! similar one; they are for comparing and never identify anything by themselves. Four words hold
//! 44 bits and are only for the live comparison, where a commitment made beforehand leaves an
//! attacker a single try. The list is the English one of BIP-39, whose words differ in
//! their first four letters.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use bip39::Language;
use thiserror::Error;

/// Separates the words of a hash from any other use of the same hash.
const DOMAIN: &[u8] = b"comity words v1\0";

/// Words of the comparison form: 12 times 11 bits.
const COUNT: usize = 12;

/// The 12-word form of a hash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Words([u16; COUNT]);

/// Why a text is not a 12-word form.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseWordsError {
    /// Not twelve words.
    #[error("expected 12 words, found {found}")]
    Count {
        /// How many words there are.
        found: usize,
    },
    /// A word that is not on the list.
    #[error("{word:?} is not on the word list{}", .nearest.map(|w| format!(", did you mean {w:?}?")).unwrap_or_default())]
    Unknown {
        /// The word as typed, at most 32 characters of it.
        word: String,
        /// The word on the list with the same first four letters.
        nearest: Option<&'static str>,
    },
}

impl Words {
    pub(crate) fn of_hash(hash: &[u8; 32]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(DOMAIN);
        context.update(hash);
        let digest = context.finish();
        let mut indices = [0; COUNT];
        for (place, index) in indices.iter_mut().zip(eleven_bit_groups(digest.as_ref())) {
            *place = index;
        }
        Self(indices)
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = Language::English.word_list();
        for (position, &index) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            f.write_str(list[usize::from(index)])?;
        }
        Ok(())
    }
}

impl FromStr for Words {
    type Err = ParseWordsError;

    fn from_str(text: &str) -> Result<Self, ParseWordsError> {
        let words: Vec<&str> = text
            .split(|c: char| c.is_whitespace() || c == '-' || c == ',')
            .filter(|w| !w.is_empty())
            .take(COUNT + 1)
            .collect();
        if words.len() != COUNT {
            return Err(ParseWordsError::Count { found: words.len() });
        }
        let mut indices = [0; COUNT];
        for (place, word) in indices.iter_mut().zip(words) {
            *place = index_of(word)?;
        }
        Ok(Self(indices))
    }
}

fn index_of(word: &str) -> Result<u16, ParseWordsError> {
    let lower: String = word.chars().take(32).collect::<String>().to_lowercase();
    let list = Language::English.word_list();
    if let Ok(index) = list.binary_search(&lower.as_str()) {
        return Ok(u16::try_from(index).expect("the list has 2048 words"));
    }
    let nearest = lower
        .get(..4)
        .and_then(|start| list.iter().find(|w| w.starts_with(start)).copied());
    Err(ParseWordsError::Unknown {
        word: lower,
        nearest,
    })
}

/// Four words (44 bits) of secret material that both sides derived, for the live comparison.
pub fn four_words(material: &[u8; 32]) -> [&'static str; 4] {
    let list = Language::English.word_list();
    let mut words = [""; 4];
    for (place, index) in words.iter_mut().zip(eleven_bit_groups(material)) {
        *place = list[usize::from(index)];
    }
    words
}

fn eleven_bit_groups(bytes: &[u8]) -> impl Iterator<Item = u16> {
    (0..bytes.len() * 8 / 11).map(move |group| {
        (group * 11..group * 11 + 11).fold(0, |value, bit| {
            value << 1 | u16::from(bytes[bit / 8] >> (7 - bit % 8) & 1)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back_in_any_case_and_spacing() {
        let words = Words::of_hash(&[7; 32]);
        let text = words.to_string();
        assert_eq!(text.split(' ').count(), 12);
        assert_eq!(text.parse::<Words>(), Ok(words.clone()));
        assert_eq!(
            text.to_uppercase().replace(' ', " - ").parse::<Words>(),
            Ok(words)
        );
    }

    #[test]
    fn a_misspelt_word_gets_a_suggestion() {
        let error =
            "abandom ability able about above absent absorb abstract absurd abuse access accident"
                .parse::<Words>();
        assert_eq!(
            error,
            Err(ParseWordsError::Unknown {
                word: "abandom".into(),
                nearest: Some("abandon")
            })
        );
    }

    #[test]
    fn a_wrong_count_is_named() {
        assert_eq!(
            "able".parse::<Words>(),
            Err(ParseWordsError::Count { found: 1 })
        );
        assert_eq!(
            "able ".repeat(13).parse::<Words>(),
            Err(ParseWordsError::Count { found: 13 })
        );
    }

    #[test]
    fn eleven_bits_are_taken_from_the_left() {
        let groups: Vec<u16> =
            eleven_bit_groups(&[0b1000_0000, 0b0010_0000, 0b0000_0001, 0]).collect();
        assert_eq!(groups, [0b100_0000_0001, 0b000_0000_0000]);
    }
}
