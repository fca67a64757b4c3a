//! Certificates and keys as text, for files that other software reads.

use comity_keys::{KeyError, LeafKey};
use pem_rfc7468::LineEnding;
use zeroize::Zeroizing;

/// Certificates in the order given, one block each.
pub(crate) fn certificates(list: &[Vec<u8>]) -> Vec<u8> {
    let block = |der: &Vec<u8>| {
        pem_rfc7468::encode_string("CERTIFICATE", LineEnding::LF, der)
            .expect("a certificate of ours fits into memory")
    };
    list.iter().map(block).collect::<String>().into_bytes()
}

/// A leaf's key in the clear: other software reads nothing else without a person beside it.
pub(crate) fn key(key: &LeafKey) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let key = comity_keys::SoftwareKey::from_pkcs8_der(key.pkcs8_der())?;
    Ok(Zeroizing::new(key.encode_plain()?.as_bytes().to_vec()))
}
