//! Text blocks (RFC 7468) as people mail them: several in one file, with words between them.
//!
//! Mail programs wrap lines and add spaces, so only the characters of base64 count inside a block.
//! What is in a block proves itself or is refused; its armour carries no trust.

use std::fmt::Write;

use data_encoding::BASE64;
use thiserror::Error;

/// The label of a certificate.
pub const CERTIFICATE: &str = "CERTIFICATE";
/// The label of a certificate request (PKCS#10).
pub const REQUEST: &str = "CERTIFICATE REQUEST";
/// The label of an authority's bundle.
pub const BUNDLE: &str = "COMITY BUNDLE";
/// The label of an identity's succession statements.
pub const SUCCESSION: &str = "COMITY SUCCESSION";
/// The label of the statement that an identity's key is stolen.
pub const REVOCATION: &str = "COMITY REVOCATION";

/// Blocks in one text: a file of the system's roots has some 150.
pub const MAX_BLOCKS: usize = 1024;

/// Bytes of a line of base64.
const WIDTH: usize = 64;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// One block of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What it says it is: upper-case letters, digits and spaces.
    pub label: String,
    /// What is in it.
    pub content: Vec<u8>,
}

/// Why the blocks of a text cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ArmourError {
    /// It has no block.
    #[error("there is no PEM block in it")]
    None,
    /// More than [`MAX_BLOCKS`].
    #[error("it has more than {MAX_BLOCKS} PEM blocks")]
    TooMany,
    /// A block without an end of its own label, or with a label that is none.
    #[error("the PEM block that begins in line {line} does not end, or not as it began")]
    Unfinished {
        /// Where it begins, from 1.
        line: usize,
    },
    /// What is between beginning and end is not base64.
    #[error("the PEM block that begins in line {line} is not base64")]
    Base64 {
        /// Where it begins, from 1.
        line: usize,
    },
    /// A private key. It is not decoded.
    #[error("the PEM block that begins in line {line} is a private key, which nobody should see")]
    PrivateKey {
        /// Where it begins, from 1.
        line: usize,
    },
}

/// Reads all blocks of a text, in their order. Text between them is skipped.
///
/// # Errors
/// When there is none, there are too many, one is damaged, or one is a private key.
pub fn read_blocks(text: &str) -> Result<Vec<Block>, ArmourError> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        let Some(label) = label_of(line, BEGIN) else {
            continue;
        };
        if blocks.len() == MAX_BLOCKS {
            return Err(ArmourError::TooMany);
        }
        if !is_label(label) {
            return Err(ArmourError::Unfinished { line: number });
        }
        if label.ends_with("KEY") && !label.ends_with("PUBLIC KEY") {
            return Err(ArmourError::PrivateKey { line: number });
        }
        let mut base64 = String::new();
        loop {
            let unfinished = ArmourError::Unfinished { line: number };
            let (line, _) = lines.next().ok_or(unfinished)?;
            match label_of(line, END) {
                Some(end) if end == label => break,
                _ if line.trim().starts_with(DASHES) => return Err(unfinished),
                _ => base64.extend(line.split_whitespace()),
            }
        }
        let content = BASE64.decode(base64.as_bytes());
        let content = content.map_err(|_| ArmourError::Base64 { line: number })?;
        let label = label.to_owned();
        blocks.push(Block { label, content });
    }
    match blocks.is_empty() {
        true => Err(ArmourError::None),
        false => Ok(blocks),
    }
}

/// Writes one block.
pub fn write_block(label: &str, content: &[u8]) -> String {
    let base64 = BASE64.encode(content);
    let mut text = format!("{BEGIN}{label}{DASHES}\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(WIDTH));
        writeln!(text, "{line}").expect("a string takes everything");
        rest = after;
    }
    writeln!(text, "{END}{label}{DASHES}").expect("a string takes everything");
    text
}

fn label_of<'t>(line: &'t str, boundary: &str) -> Option<&'t str> {
    line.trim().strip_prefix(boundary)?.strip_suffix(DASHES)
}

fn is_label(label: &str) -> bool {
    let of_label = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ';
    (1..=64).contains(&label.len()) && label.bytes().all(of_label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(label: &str, content: &[u8]) -> Block {
        Block {
            label: label.to_owned(),
            content: content.to_vec(),
        }
    }

    #[test]
    fn blocks_survive_a_mail_program() {
        let text = write_block(BUNDLE, &[7; 100]);
        let mailed = format!(
            "Dear all,\r\n\r\n{}\r\nyours\r\n",
            text.lines()
                .map(|line| format!("  {line} \r\n"))
                .collect::<String>()
        );
        assert_eq!(read_blocks(&mailed), Ok(vec![block(BUNDLE, &[7; 100])]));
    }

    #[test]
    fn several_blocks_keep_their_order() {
        let text = [
            write_block(CERTIFICATE, b"one"),
            write_block(CERTIFICATE, b"two"),
            write_block(BUNDLE, b"three"),
        ]
        .concat();
        let blocks = read_blocks(&text).expect("three blocks");
        let contents: Vec<&[u8]> = blocks.iter().map(|b| b.content.as_slice()).collect();
        assert_eq!(contents, [&b"one"[..], b"two", b"three"]);
    }

    #[test]
    fn a_private_key_is_not_even_decoded() {
        for label in ["PRIVATE KEY", "EC PRIVATE KEY", "COMITY SEALED KEY"] {
            let text = format!("-----BEGIN {label}-----\n!\n-----END {label}-----\n");
            let refused = Err(ArmourError::PrivateKey { line: 1 });
            assert_eq!(read_blocks(&text), refused, "{label}");
        }
    }

    #[test]
    fn damaged_blocks_are_refused_with_their_line() {
        let check = |text: &str, error| assert_eq!(read_blocks(text), Err(error), "{text}");
        check("nothing", ArmourError::None);
        check(
            "x\n-----BEGIN A-----\nAAAA\n",
            ArmourError::Unfinished { line: 2 },
        );
        check(
            "-----BEGIN A-----\nAAAA\n-----END B-----\n",
            ArmourError::Unfinished { line: 1 },
        );
        check(
            "-----BEGIN A-----\n-----BEGIN A-----\n-----END A-----\n",
            ArmourError::Unfinished { line: 1 },
        );
        check(
            "-----BEGIN a-----\n-----END a-----\n",
            ArmourError::Unfinished { line: 1 },
        );
        check(
            "-----BEGIN A-----\nAAA\n-----END A-----\n",
            ArmourError::Base64 { line: 1 },
        );
        check(
            "-----BEGIN A-----\nA AA%\n-----END A-----\n",
            ArmourError::Base64 { line: 1 },
        );
    }

    #[test]
    fn as_many_blocks_as_allowed_and_no_more() {
        let text = write_block("A", b"").repeat(MAX_BLOCKS);
        assert_eq!(read_blocks(&text).expect("blocks").len(), MAX_BLOCKS);
        let more = text + &write_block("A", b"");
        assert_eq!(read_blocks(&more), Err(ArmourError::TooMany));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(content: Vec<u8>) {
            let text = write_block(SUCCESSION, &content);
            prop_assert!(text.lines().all(|line| line.len() <= WIDTH));
            prop_assert_eq!(read_blocks(&text), Ok(vec![block(SUCCESSION, &content)]));
        }

        #[test]
        fn no_text_makes_it_stop(text: String) {
            drop(read_blocks(&text));
        }
    }
}
