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
    let significant: Vec<char> = text
        .chars()
        .filter(|c| !(c.is_ascii_whitespace() || *c == '-'))
        .collect();
    let significant = without_colons(&significant)?;
    if significant.len() == 64 && significant.iter().all(char::is_ascii_hexdigit) {
        return parse_hex(&significant);
    }
    parse_groups(&significant)
}

/// Takes colons between pairs of characters out, as other tools print a SHA-256.
fn without_colons(characters: &[char]) -> Result<Vec<char>, ParseHashError> {
    let pairs: Vec<&[char]> = characters.split(|c| *c == ':').collect();
    match pairs.len() == 1 || pairs.iter().all(|pair| pair.len() == 2) {
        true => Ok(pairs.concat()),
        false => Err(ParseHashError::Character { found: ':' }),
    }
}

fn parse_hex(digits: &[char]) -> Result<[u8; 32], ParseHashError> {
    let digits: String = digits.iter().collect();
    HEXLOWER_PERMISSIVE
        .decode(digits.as_bytes())
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(ParseHashError::Length {
            found: digits.len(),
        })
}

fn parse_groups(characters: &[char]) -> Result<[u8; 32], ParseHashError> {
    let folded = characters
        .iter()
        .map(|&c| fold(c).ok_or(ParseHashError::Character { found: c }))
        .collect::<Result<Vec<u8>, _>>()?;
    if folded.len() != GROUPS * (GROUP + 1) {
        return Err(ParseHashError::Length {
            found: folded.len(),
        });
    }
    let mut plain = Vec::with_capacity(GROUPS * GROUP);
    for (index, group) in folded.chunks(GROUP + 1).enumerate() {
        let (body, check) = group.split_at(GROUP);
        if check != [check_character(body)] {
            return Err(ParseHashError::CheckCharacter { group: index + 1 });
        }
        plain.extend_from_slice(body);
    }
    BASE32_NOPAD
        .decode(&plain)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(ParseHashError::TrailingBits)
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
        let mut characters: Vec<char> = Vec::new();
        for group in body.chunks(GROUP) {
            characters.extend(group.iter().map(|&b| char::from(b)));
            characters.push(char::from(check_character(group)));
        }
        assert_eq!(parse_groups(&characters), Err(ParseHashError::TrailingBits));
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
}
