//! Object identifiers as the content bytes of their DER encoding.
//!
//! Certificates of others use arcs that do not fit 32 bits (UUIDs below 2.25), which the
//! object identifier type of the DER library refuses. Comparing bytes has no such limit.

use const_oid::ObjectIdentifier;

/// The private arc of Comity, provisional: a self-assigned one below `2.25`, because no private
/// enterprise number has been asked for yet. `docs/formats.md` lists what is below it.
pub const COMITY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.25.1869571449");

/// The extension with networks, roles and free pairs.
pub const METADATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.25.1869571449.1");

/// The extension of a native root that commits to the next identity key.
pub const NEXT_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.25.1869571449.2");

/// The extension of a native leaf with the succession statements of its identity key.
pub const SUCCESSION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.25.1869571449.3");

macro_rules! oids {
    ($($name:ident = $text:literal;)*) => {
        $(pub(crate) const $name: ObjectIdentifier = ObjectIdentifier::new_unwrap($text);)*
    };
}

oids! {
    COMMON_NAME = "2.5.4.3";
    SERIAL_NUMBER = "2.5.4.5";
    ORGANIZATION = "2.5.4.10";
    ORGANIZATIONAL_UNIT = "2.5.4.11";
    EMAIL_ADDRESS = "1.2.840.113549.1.9.1";

    EXTENSION_REQUEST = "1.2.840.113549.1.9.14";

    SUBJECT_KEY_IDENTIFIER = "2.5.29.14";
    KEY_USAGE = "2.5.29.15";
    SUBJECT_ALT_NAME = "2.5.29.17";
    BASIC_CONSTRAINTS = "2.5.29.19";
    NAME_CONSTRAINTS = "2.5.29.30";
    CRL_DISTRIBUTION_POINTS = "2.5.29.31";
    AUTHORITY_KEY_IDENTIFIER = "2.5.29.35";
    EXTENDED_KEY_USAGE = "2.5.29.37";

    ANY_USAGE = "2.5.29.37.0";
    SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
    CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";

    EC_PUBLIC_KEY = "1.2.840.10045.2.1";
    P256 = "1.2.840.10045.3.1.7";
    P384 = "1.3.132.0.34";
    RSA = "1.2.840.113549.1.1.1";
    ED25519 = "1.3.101.112";
    ECDSA_SHA256 = "1.2.840.10045.4.3.2";
}

/// `id-ce`, 2.5.29: the arc of the extensions of X.509 itself.
pub(crate) const ID_CE: [u8; 2] = [0x55, 0x1d];

/// Dotted decimal, or hexadecimal where an arc is too large; at most 80 characters.
pub(crate) fn display(oid: &[u8]) -> String {
    if let Ok(oid) = ObjectIdentifier::from_bytes(oid) {
        return oid.to_string().chars().take(80).collect();
    }
    let digits = oid.iter().take(39).map(|byte| format!("{byte:02x}"));
    format!("0x{}", digits.collect::<String>())
}
