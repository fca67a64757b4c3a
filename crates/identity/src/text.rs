//! Text forms of a 256-bit hash.
//!
//! The grouped form is base32 (RFC 4648 section 6, no padding): 52 characters in four groups of
//! 13, each followed by one check character (Luhn mod 32), so 56 characters, shown as eight groups
//! of seven. The check characters catch every single wrong character and nearly all swaps of
//! neighbours before a mistyped id is compared with anything.
//!
//! On input, case, dashes and white space do not matter, and the digits that base32 leaves out are
//! read as the letters they are mistaken for: `0` as `O`, `1` as `I`, `8` as `B`. 64 hexadecimal
//! digits are accepted wherever a grouped form is, also with a colon after each pair, and so is a
//! leading `SHA256:`. A colon anywhere else makes it something else: a `host:port` is never read as
//! an id.

use data_encoding::{BASE32_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use thiserror::Error;

/// Characters of one base32 group without its check character.
const GROUP: usize = 13;

/// Groups of a hash: 4 times 13 base32 characters hold 260 bits.
const GROUPS: usize = 4;

/// Input longer than any accepted spelling (eight groups, separators, prefix, hex with colons) is
/// refused before it is looked at.
const MAX_INPUT: usize = 160;

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Why a text is not a hash.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseHashError {
    /// Neither 56 base32 characters nor 64 hexadecimal digits.
    #[error("expected 8 groups of 7 characters or 64 hexadecimal digits, found {found} characters")]
    Length {
        /// Characters that count, without separators.
        found: usize,
    },
    /// A character that no accepted form contains.
    #[error("unexpected character {found:?}")]
    Character {
        /// The offending character.
        found: char,
    },
    /// A group's check character does not fit the group: something was mistyped in it.
    #[error("check character of groups {} and {} is wrong: something in them is mistyped", group * 2 - 1, group * 2)]
    CheckCharacter {
        /// Which pair of displayed groups, from 1 to 4.
        group: usize,
    },
    /// The unused last four bits are set; there is exactly one spelling of a hash.
    #[error("the last characters are not those of any id")]
    TrailingBits,
}

/// Eight groups of seven characters: the form people see.
pub fn to_groups(hash: &[u8; 32]) -> String {
    let plain = BASE32_NOPAD.encode(hash);
    let mut checked = String::with_capacity(64);
    for group in plain.as_bytes().chunks(GROUP) {
        for &byte in group {
            push_grouped(&mut checked, byte);
        }
        push_grouped(&mut checked, check_character(group));
    }
    checked
}

/// 64 lower-case hexadecimal digits.
pub fn to_hex(hash: &[u8; 32]) -> String {
    HEXLOWER.encode(hash)
}

/// Reads the grouped or the hexadecimal form.
///
/// # Errors
/// When the text is neither, or a check character does not fit.
pub fn parse_hash(text: &str) -> Result<[u8; 32], ParseHashError> {
    if text.len() > MAX_INPUT {
        return Err(ParseHashError::Length { found: text.len() });
    }
    let text = text.trim();
    let text = match text.get(..7) {
        Some(prefix) if prefix.eq_ignore_ascii_case("sha256:") => &text[7..],
        _ => text,
    };
    let significant = Significant::of(text)?;
    match significant.digits() {
        digits if digits.len() == 64 && digits.iter().all(u8::is_ascii_hexdigit) => {
            parse_hex(digits)
        }
        _ => parse_groups(&significant),
    }
}

/// The characters of a text that count, without separators. A file has a hundred thousand hashes,
/// so that this allocates nothing.
struct Significant {
    characters: [u8; MAX_INPUT],
    count: usize,
    /// The first character that is not in the grouped form.
    odd: Option<char>,
}

impl Significant {
    /// Takes separators out of at most [`MAX_INPUT`] bytes of text: dashes, white space, and colons
    /// between pairs of characters, as other tools print a SHA-256.
    fn of(text: &str) -> Result<Self, ParseHashError> {
        let mut significant = Self {
            characters: [0; MAX_INPUT],
            count: 0,
            odd: None,
        };
        let (mut colons, mut pairs, mut since_colon) = (false, true, 0);
        for c in text
            .chars()
            .filter(|c| !(c.is_ascii_whitespace() || *c == '-'))
        {
            if c == ':' {
                pairs &= since_colon == 2;
                (colons, since_colon) = (true, 0);
            } else {
                since_colon += 1;
                significant.push(c);
            }
        }
        if colons && !(pairs && since_colon == 2) {
            return Err(ParseHashError::Character { found: ':' });
        }
        Ok(significant)
    }

    fn push(&mut self, c: char) {
        if self.odd.is_none() && fold(c).is_none() {
            self.odd = Some(c);
        }
        // What is not ASCII is odd, whatever stands for it here.
        self.characters[self.count] = u8::try_from(c).unwrap_or_default();
        self.count += 1;
    }

    fn digits(&self) -> &[u8] {
        &self.characters[..self.count]
    }
}

fn parse_hex(digits: &[u8]) -> Result<[u8; 32], ParseHashError> {
    let mut hash = [0; 32];
    match HEXLOWER_PERMISSIVE.decode_mut(digits, &mut hash) {
        Ok(32) => Ok(hash),
        _ => Err(ParseHashError::Length {
            found: digits.len(),
        }),
    }
}

fn parse_groups(significant: &Significant) -> Result<[u8; 32], ParseHashError> {
    if let Some(found) = significant.odd {
        return Err(ParseHashError::Character { found });
    }
    let found = significant.count;
    if found != GROUPS * (GROUP + 1) {
        return Err(ParseHashError::Length { found });
    }
    let mut plain = [0; GROUPS * GROUP];
    let groups = significant.digits().chunks(GROUP + 1);
    for (index, (group, body)) in groups.zip(plain.chunks_mut(GROUP)).enumerate() {
        let (characters, check) = group.split_at(GROUP);
        for (folded, &byte) in body.iter_mut().zip(characters) {
            *folded = fold(char::from(byte)).unwrap_or(byte);
        }
        if check.first().and_then(|&c| fold(char::from(c))) != Some(check_character(body)) {
            return Err(ParseHashError::CheckCharacter { group: index + 1 });
        }
    }
    let mut hash = [0; 32];
    match BASE32_NOPAD.decode_mut(&plain, &mut hash) {
        Ok(32) => Ok(hash),
        _ => Err(ParseHashError::TrailingBits),
    }
}

/// Upper case, and the look-alikes that base32 leaves out.
fn fold(c: char) -> Option<u8> {
    match c.to_ascii_uppercase() {
        '0' => Some(b'O'),
        '1' => Some(b'I'),
        '8' => Some(b'B'),
        c @ ('A'..='Z' | '2'..='7') => u8::try_from(c).ok(),
        _ => None,
    }
}

fn push_grouped(text: &mut String, byte: u8) {
    if text.len() % 8 == 7 {
        text.push('-');
    }
    text.push(char::from(byte));
}

/// The Luhn mod N check character for N = 32: from the right, every second value is doubled, the
/// two base-32 digits of each product are added, and the check value brings the sum to a multiple
/// of 32.
fn check_character(group: &[u8]) -> u8 {
    let mut sum = 0;
    for (index, &byte) in group.iter().rev().enumerate() {
        let factor = if index % 2 == 0 { 2 } else { 1 };
        let addend = factor * alphabet_value(byte);
        sum += addend / 32 + addend % 32;
    }
    ALPHABET[(32 - sum % 32) % 32]
}

fn alphabet_value(byte: u8) -> usize {
    match byte {
        b'A'..=b'Z' => usize::from(byte - b'A'),
        _ => usize::from(byte - b'2') + 26,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: [u8; 32] = [
        0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee,
        0xff, 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd,
        0xee, 0xff,
    ];

    #[test]
    fn the_grouped_form_is_eight_groups_of_seven() {
        let text = to_groups(&HASH);
        let groups: Vec<&str> = text.split('-').collect();
        assert_eq!(groups.len(), 8);
        assert!(groups.iter().all(|g| g.len() == 7));
    }

    #[test]
    fn both_forms_are_read_back_in_any_case_and_spacing() {
        let grouped = to_groups(&HASH);
        let spaced = grouped.replace('-', " ").to_lowercase();
        let hex = to_hex(&HASH);
        let colons: Vec<&str> = hex
            .as_bytes()
            .chunks(2)
            .map(|c| std::str::from_utf8(c).expect("ascii"))
            .collect();
        for text in [
            &grouped,
            &spaced,
            &hex,
            &hex.to_uppercase(),
            &format!("SHA256:{grouped}"),
            &colons.join(":"),
        ] {
            assert_eq!(parse_hash(text), Ok(HASH), "{text}");
        }
    }

    #[test]
    fn a_colon_stands_between_pairs_or_makes_it_something_else() {
        let hex = to_hex(&HASH);
        let grouped = to_groups(&HASH).replace('-', "");
        for text in [
            // A host and a port.
            format!("{}:{}", &hex[..60], &hex[60..]),
            format!("{}:{}", &grouped[..52], &grouped[52..]),
            format!(":{hex}"),
            format!("{hex}:"),
            to_groups(&HASH).replace('-', ":"),
        ] {
            assert_eq!(
                parse_hash(&text),
                Err(ParseHashError::Character { found: ':' }),
                "{text}"
            );
        }
    }

    #[test]
    fn look_alikes_are_folded() {
        let text = to_groups(&HASH)
            .replace('O', "0")
            .replace('I', "1")
            .replace('B', "8");
        assert_eq!(parse_hash(&text), Ok(HASH));
    }

    #[test]
    fn every_single_wrong_character_is_caught() {
        let text = to_groups(&HASH);
        for position in (0..text.len()).filter(|p| p % 8 != 7) {
            for &replacement in ALPHABET {
                if text.as_bytes()[position] == replacement {
                    continue;
                }
                let mut wrong = text.clone().into_bytes();
                wrong[position] = replacement;
                let wrong = String::from_utf8(wrong).expect("ascii");
                assert!(parse_hash(&wrong).is_err(), "{wrong}");
            }
        }
    }

    #[test]
    fn one_hash_has_one_spelling() {
        // The last base32 character holds one bit of the hash and four unused ones.
        let mut body = BASE32_NOPAD.encode(&HASH).into_bytes();
        let last = body.len() - 1;
        body[last] = ALPHABET[alphabet_value(body[last]) | 1];
        let mut text = String::new();
        for group in body.chunks(GROUP) {
            text.extend(group.iter().map(|&b| char::from(b)));
            text.push(char::from(check_character(group)));
        }
        assert_eq!(parse_hash(&text), Err(ParseHashError::TrailingBits));
    }

    #[test]
    fn wrong_lengths_and_characters_are_named() {
        assert_eq!(parse_hash(""), Err(ParseHashError::Length { found: 0 }));
        assert_eq!(parse_hash("ABC"), Err(ParseHashError::Length { found: 3 }));
        assert_eq!(
            parse_hash("AB9"),
            Err(ParseHashError::Character { found: '9' })
        );
        assert_eq!(
            parse_hash("é"),
            Err(ParseHashError::Character { found: 'é' })
        );
        assert_eq!(
            parse_hash(&"A".repeat(1 << 20)),
            Err(ParseHashError::Length { found: 1 << 20 })
        );
    }

    #[test]
    fn the_longest_input_is_read_and_its_first_odd_character_is_named() {
        let padded = |length: usize| {
            let grouped = to_groups(&HASH);
            format!("{grouped}{}", "-".repeat(length - grouped.len()))
        };
        assert_eq!(parse_hash(&padded(MAX_INPUT)), Ok(HASH));
        assert_eq!(
            parse_hash(&padded(MAX_INPUT + 1)),
            Err(ParseHashError::Length {
                found: MAX_INPUT + 1
            })
        );
        let found = MAX_INPUT;
        assert_eq!(
            parse_hash(&"A".repeat(MAX_INPUT)),
            Err(ParseHashError::Length { found })
        );
        for (text, found) in [
            (format!("é9{}", "A".repeat(62)), 'é'),
            (format!("{}é", "a".repeat(63)), 'é'),
            (format!("{}\0", "A".repeat(55)), '\0'),
        ] {
            assert_eq!(parse_hash(&text), Err(ParseHashError::Character { found }));
        }
    }
}
