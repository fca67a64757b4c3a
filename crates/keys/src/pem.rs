//! The armour around every form of a key: one PEM block (RFC 7468), read strictly.

use der::pem::{self, LineEnding};
use zeroize::Zeroizing;

use crate::error::KeyError;
use crate::{pbes2, sealed};

/// The largest text that is looked at. A sealed P-256 key takes 400 bytes; the rest is room for
/// text before the block, which other tools write.
pub const MAX_TEXT_BYTES: usize = 16 * 1024;

/// PKCS#8 in the clear.
pub(crate) const PLAIN_LABEL: &str = "PRIVATE KEY";

/// A decoded PEM block.
pub(crate) struct Block {
    pub(crate) form: Form,
    pub(crate) bytes: Zeroizing<Vec<u8>>,
}

/// What the label promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    Plain,
    Sealed,
    Pbes2,
}

/// Whether reading this key will ask for a passphrase: it is sealed, or encrypted with PBES2.
///
/// Looks at the label only; a text that is no key at all answers no.
pub fn needs_passphrase(text: &str) -> bool {
    matches!(form(text), Ok(Form::Sealed | Form::Pbes2))
}

/// What kind of key the text says it holds.
pub(crate) fn form(text: &str) -> Result<Form, KeyError> {
    let text = text.trim_end();
    if text.len() > MAX_TEXT_BYTES {
        return Err(KeyError::TooLarge {
            found: text.len(),
            limit: MAX_TEXT_BYTES,
        });
    }
    match pem::decode_label(text.as_bytes()).map_err(|_| KeyError::NotPem)? {
        PLAIN_LABEL => Ok(Form::Plain),
        sealed::LABEL => Ok(Form::Sealed),
        pbes2::LABEL => Ok(Form::Pbes2),
        other => Err(KeyError::OtherBlock {
            label: other.chars().take(32).collect(),
            expected: PLAIN_LABEL,
        }),
    }
}

/// Takes the armour off. A second block, or anything else after the first, is refused: which of
/// two keys a file means must not be a guess.
pub(crate) fn decode(text: &str) -> Result<Block, KeyError> {
    let form = form(text)?;
    // Base64 never grows when it is decoded, so this is room enough, and one allocation leaves no
    // copies behind.
    let mut bytes = Zeroizing::new(vec![0; text.len()]);
    let length = pem::decode(text.trim_end().as_bytes(), &mut bytes)
        .map_err(|_| KeyError::NotPem)?
        .1
        .len();
    bytes.truncate(length);
    Ok(Block { form, bytes })
}

/// Puts the armour on, with a line feed at the end.
pub(crate) fn encode(label: &str, der: &[u8]) -> Result<Zeroizing<String>, KeyError> {
    let failed = |_| KeyError::Provider {
        what: "encode the key as PEM",
    };
    let length = pem::encoded_len(label, LineEnding::LF, der).map_err(failed)?;
    let mut text = Zeroizing::new(String::with_capacity(length));
    let mut buffer = Zeroizing::new(vec![0; length]);
    text.push_str(pem::encode(label, LineEnding::LF, der, &mut buffer).map_err(failed)?);
    Ok(text)
}
