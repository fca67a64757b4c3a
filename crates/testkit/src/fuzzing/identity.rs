//! Text forms of hashes and times.

use comity_identity::text::{parse_hash, to_groups, to_hex};
use comity_identity::{
    Algorithm, KeyHash, NodeId, PeerId, UnixTime, VerifyError, Words, has_low_s, verify,
};

use super::{assert_printable, split, text};

/// Ids in every spelling. The first 32 bytes are also written as an id and read back.
pub fn hash_text(data: &[u8]) {
    if let Some(hash) = data.first_chunk::<32>() {
        assert_eq!(parse_hash(&to_groups(hash)), Ok(*hash));
        assert_eq!(parse_hash(&to_hex(hash)), Ok(*hash));
        read_back(PeerId::Node(NodeId::from_bytes(*hash)));
        read_back(PeerId::Key(KeyHash::from_bytes(*hash)));
    }
    let Some(text) = text(data) else { return };
    match text.parse::<PeerId>() {
        Ok(id) => read_back(id),
        Err(error) => assert_printable(&error),
    }
    if let Ok(hash) = parse_hash(text) {
        // One hash has one spelling, whatever people make of it.
        let significant = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).count();
        let typed = text.to_ascii_uppercase();
        let typed = significant(typed.trim_start().trim_start_matches("SHA256:"));
        assert!(typed == 56 || typed == 64, "{typed} characters");
        assert_eq!(parse_hash(&to_groups(&hash)), Ok(hash));
    }
}

fn read_back(id: PeerId) {
    assert_eq!(id.to_string().parse(), Ok(id));
}

/// The twelve words.
pub fn words(data: &[u8]) {
    let Some(text) = text(data) else { return };
    match text.parse::<Words>() {
        Ok(words) => assert_eq!(words.to_string().parse(), Ok(words)),
        Err(error) => assert_printable(&error),
    }
}

/// RFC 3339.
pub fn time(data: &[u8]) {
    let Some(text) = text(data) else { return };
    match text.parse::<UnixTime>() {
        Ok(time) => {
            assert!(time <= UnixTime::NEVER);
            assert_eq!(time.to_string().parse(), Ok(time));
        }
        Err(error) => assert_printable(&error),
    }
}

/// The longest DER `ECDSA-Sig-Value` for P-256.
const MAX_ECDSA: usize = 72;

/// A key, a message and a signature, as of [`super::join`]: one signature speaks for one message
/// and has one encoding.
pub fn signature(data: &[u8]) {
    let parts = split(data);
    let [spki, message, signature, ..] = parts.as_slice() else {
        return;
    };
    let low = has_low_s(signature);
    match verify(spki, message, signature) {
        Ok(()) => {
            let algorithm = Algorithm::of_spki(spki).expect("it was just used");
            let length_fits = match algorithm {
                Algorithm::EcdsaP256 => low && signature.len() <= MAX_ECDSA,
                Algorithm::Ed25519 => signature.len() == 64,
            };
            assert!(length_fits, "{} bytes, low s: {low}", signature.len());
            assert!(verify(spki, &[message, b".".as_slice()].concat(), signature).is_err());
            assert!(verify(spki, message, &[signature, [0].as_slice()].concat()).is_err());
        }
        Err(VerifyError::HighS) => assert!(!low),
        Err(error) => assert_printable(&error),
    }
}
