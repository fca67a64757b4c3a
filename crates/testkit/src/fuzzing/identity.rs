//! Text forms of hashes and times.

use comity_identity::text::{parse_hash, to_groups, to_hex};
use comity_identity::{KeyHash, NodeId, PeerId, UnixTime, Words};

use super::{assert_printable, text};

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
