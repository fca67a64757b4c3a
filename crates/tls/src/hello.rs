//! What the three opening frames of `comity/1` say. The order of events is in [`crate::frame`].

use std::fmt;
use std::str::FromStr;

pub(crate) use comity_record::MapWriter;
use comity_record::has_shortest_heads;
use comity_trust::Reason;
use minicbor::Decoder;

use crate::frame::ContentError;

/// The version this code speaks. A HELLO of another version is refused as malformed.
pub const VERSION: u8 = 1;

/// The longest service name. Long enough for `team-database-replica`, short enough for a log line.
pub const MAX_SERVICE: usize = 64;

/// The longest name that a peer may suggest for itself.
pub const MAX_CLAIMED_NAME: usize = 64;

/// Reserved and refused. Drafts stapled succession statements here; they travel in the leaf
/// certificate, which the other side sees before it decides. What two readers could take from two
/// places, they would one day take differently.
const RESERVED_KEY: u64 = 5;

/// What the dialer wants to speak after ACCEPT.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SubProtocol {
    /// The bytes of one service, unframed.
    Tunnel,
    /// Exchange of node records. Reserved for the mesh.
    Mesh,
    /// Redeem an invitation; a network's membership may follow ACCEPT ([`crate::network`]).
    Join,
    /// Durable messages. Reserved for links.
    Link,
    /// The live comparison of four words.
    Verify,
    /// Bundles and memberships of the networks that both are in ([`crate::network`]).
    Network,
}

/// The dialer's request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// What to speak.
    pub protocol: SubProtocol,
    /// Which service; `None` asks for the default one.
    pub service: Option<ServiceName>,
    /// Possession of an invitation.
    pub proof: Option<InvitationProof>,
    /// What the dialer suggests to be called. A claim, for the approval queue.
    pub claimed_name: Option<String>,
}

/// Possession of an invitation: a signature by the one-time key that the invitation's secret
/// seeds, over the message of [`comity_trust::invitation`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvitationProof {
    /// Which invitation.
    pub id: [u8; 16],
    /// Ed25519 signature.
    pub signature: [u8; 64],
}

/// The name of a service: 1 to 64 of `A-Z a-z 0-9 . _ -`, not starting with a dot or dash.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ServiceName(String);

/// A text that is not a service name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "a service name is 1 to {MAX_SERVICE} letters, digits, `.`, `_` or `-`, and begins with a letter or digit"
)]
pub struct ServiceNameError;

impl Hello {
    /// A request for `protocol` and nothing else.
    pub fn new(protocol: SubProtocol) -> Self {
        Self {
            protocol,
            service: None,
            proof: None,
            claimed_name: None,
        }
    }

    /// The deterministic CBOR of this request.
    pub fn encode(&self) -> Vec<u8> {
        let mut map = MapWriter::new();
        map.field(1, |e| e.u8(VERSION));
        map.field(2, |e| e.str(self.protocol.token()));
        if let Some(service) = &self.service {
            map.field(3, |e| e.str(service.as_str()));
        }
        if let Some(proof) = &self.proof {
            map.field(4, |e| e.array(2)?.bytes(&proof.id)?.bytes(&proof.signature));
        }
        if let Some(name) = &self.claimed_name {
            map.field(6, |e| e.str(name));
        }
        map.finish()
    }

    /// Reads a request.
    ///
    /// # Errors
    /// When the body is not deterministic CBOR, a value is over its limit, or the version is not
    /// [`VERSION`].
    pub fn decode(body: &[u8]) -> Result<Self, ContentError> {
        let mut version = None;
        let mut protocol = None;
        let mut hello = Self::new(SubProtocol::Tunnel);
        let unknown = read_map(body, |key, d| {
            match key {
                1 => version = Some(d.u8()?),
                2 => protocol = Some(d.str()?.parse().map_err(|()| ContentError::Value { key })?),
                3 => {
                    let name = d.str()?.parse().map_err(|_| ContentError::Value { key })?;
                    hello.service = Some(name);
                }
                4 => hello.proof = Some(decode_proof(d)?),
                RESERVED_KEY => return Err(ContentError::Value { key }),
                6 => hello.claimed_name = Some(decode_claimed_name(d)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if version.ok_or(ContentError::Missing { key: 1 })? != VERSION {
            return Err(ContentError::Value { key: 1 });
        }
        hello.protocol = protocol.ok_or(ContentError::Missing { key: 2 })?;
        if !unknown && hello.encode() != body {
            return Err(ContentError::NotDeterministic);
        }
        Ok(hello)
    }
}

fn decode_proof(d: &mut Decoder<'_>) -> Result<InvitationProof, ContentError> {
    if d.array()? != Some(2) {
        return Err(ContentError::Shape);
    }
    let id = d.bytes()?.try_into();
    let signature = d.bytes()?.try_into();
    match (id, signature) {
        (Ok(id), Ok(signature)) => Ok(InvitationProof { id, signature }),
        _ => Err(ContentError::Value { key: 4 }),
    }
}

fn decode_claimed_name(d: &mut Decoder<'_>) -> Result<String, ContentError> {
    let name = d.str()?;
    if name.is_empty() || name.len() > MAX_CLAIMED_NAME {
        return Err(ContentError::Value { key: 6 });
    }
    Ok(name.to_owned())
}

/// The acceptor's yes. It says nothing about the acceptor that the dialer has not verified.
pub fn encode_accept() -> Vec<u8> {
    let mut map = MapWriter::new();
    map.field(1, |e| e.u8(VERSION));
    map.finish()
}

/// Checks the acceptor's yes.
///
/// # Errors
/// When the body is malformed or of another version.
pub fn decode_accept(body: &[u8]) -> Result<(), ContentError> {
    let mut version = None;
    read_map(body, |key, d| {
        if key == 1 {
            version = Some(d.u8()?);
        }
        Ok(key == 1)
    })?;
    match version {
        Some(VERSION) => Ok(()),
        Some(_) => Err(ContentError::Value { key: 1 }),
        None => Err(ContentError::Missing { key: 1 }),
    }
}

/// The acceptor's no: the wire token of `reason`, which may be coarser than the reason.
pub fn encode_refuse(reason: Reason) -> Vec<u8> {
    let mut map = MapWriter::new();
    map.field(1, |e| e.str(reason.wire_token()));
    map.finish()
}

/// The reason in the acceptor's no. `None` when the token is one this version does not know.
///
/// # Errors
/// When the body is malformed.
pub fn decode_refuse(body: &[u8]) -> Result<Option<Reason>, ContentError> {
    let mut token = None;
    read_map(body, |key, d| {
        if key == 1 {
            token = Some(d.str()?.to_owned());
        }
        Ok(key == 1)
    })?;
    let token = token.ok_or(ContentError::Missing { key: 1 })?;
    Ok(token.parse().ok())
}

impl SubProtocol {
    /// The name on the wire.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Tunnel => "tunnel",
            Self::Mesh => "mesh",
            Self::Join => "join",
            Self::Link => "link",
            Self::Verify => "verify",
            Self::Network => "network",
        }
    }
}

impl FromStr for SubProtocol {
    type Err = ();

    fn from_str(token: &str) -> Result<Self, ()> {
        [
            Self::Tunnel,
            Self::Mesh,
            Self::Join,
            Self::Link,
            Self::Verify,
            Self::Network,
        ]
        .into_iter()
        .find(|p| p.token() == token)
        .ok_or(())
    }
}

impl ServiceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = ServiceNameError;

    fn from_str(name: &str) -> Result<Self, ServiceNameError> {
        let admissible = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        let first_fits = name
            .bytes()
            .next()
            .is_some_and(|c| c.is_ascii_alphanumeric());
        if first_fits && name.len() <= MAX_SERVICE && name.bytes().all(admissible) {
            Ok(Self(name.to_owned()))
        } else {
            Err(ServiceNameError)
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Walks a map with strictly ascending integer keys; `field` reads the values of keys it knows and
/// answers `false` for others, whose values are skipped. Returns whether any was skipped.
pub(crate) fn read_map<'b>(
    body: &'b [u8],
    mut field: impl FnMut(u64, &mut Decoder<'b>) -> Result<bool, ContentError>,
) -> Result<bool, ContentError> {
    let mut decoder = Decoder::new(body);
    let count = decoder.map()?.ok_or(ContentError::NotDeterministic)?;
    let mut previous = None;
    let mut unknown = false;
    for _ in 0..count {
        let key = decoder.u64()?;
        if previous.is_some_and(|p| p >= key) {
            return Err(ContentError::NotDeterministic);
        }
        previous = Some(key);
        if !field(key, &mut decoder)? {
            decoder.skip()?;
            unknown = true;
        }
    }
    if decoder.position() != body.len() || !has_shortest_heads(body) {
        return Err(ContentError::NotDeterministic);
    }
    Ok(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Hello {
        Hello {
            protocol: SubProtocol::Join,
            service: Some("db-1".parse().expect("a service name")),
            proof: Some(InvitationProof {
                id: [1; 16],
                signature: [2; 64],
            }),
            claimed_name: Some("laptop".to_owned()),
        }
    }

    #[test]
    fn hello_is_read_back() {
        for hello in [full(), Hello::new(SubProtocol::Tunnel)] {
            assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
        }
    }

    #[test]
    fn overlong_numbers_and_indefinite_lengths_are_refused_everywhere() {
        for body in [
            // The map, its key, its value.
            &[0xb8, 1, 1, 1][..],
            &[0xa1, 0x18, 1, 1],
            &[0xa1, 1, 0x18, 1],
            &[0xa1, 1, 0x19, 0, 1],
            &[0xa1, 1, 0x1b, 0, 0, 0, 0, 0, 0, 0, 1],
            &[0xbf, 1, 1, 0xff],
            // Inside a value that is skipped: in an array, as a length, as a simple value.
            &[0xa2, 1, 1, 9, 0x81, 0x18, 23],
            &[0xa2, 1, 1, 9, 0x58, 2, 0, 0],
            &[0xa2, 1, 1, 9, 0x9f, 0xff],
            &[0xa2, 1, 1, 9, 0xf8, 0x14],
        ] {
            assert!(decode_accept(body).is_err(), "{body:02x?}");
        }
        for body in [
            &[0xa1, 1, 1][..],
            &[0xa2, 1, 1, 9, 0x81, 0x18, 24],
            &[0xa2, 1, 1, 9, 0x19, 1, 0],
            &[0xa2, 1, 1, 9, 0x42, 0x18, 1],
            &[0xa2, 1, 1, 0x18, 99, 0xf9, 0, 0],
        ] {
            assert_eq!(decode_accept(body), Ok(()), "{body:02x?}");
        }
    }

    #[test]
    fn an_unknown_key_is_skipped() {
        let mut map = MapWriter::new();
        map.field(1, |e| e.u8(VERSION));
        map.field(2, |e| e.str("tunnel"));
        map.field(99, |e| e.array(1)?.str("later"));
        assert_eq!(
            Hello::decode(&map.finish()),
            Ok(Hello::new(SubProtocol::Tunnel))
        );
    }

    #[test]
    fn the_reserved_key_is_refused_whatever_it_holds() {
        for value in [&[0x81, 0x41, 0][..], &[0x80], &[0xf6]] {
            let mut body = Hello::new(SubProtocol::Tunnel).encode();
            body[0] += 1;
            body.push(5);
            body.extend_from_slice(value);
            assert_eq!(
                Hello::decode(&body),
                Err(ContentError::Value { key: RESERVED_KEY })
            );
        }
    }

    #[test]
    fn another_version_is_refused() {
        let mut map = MapWriter::new();
        map.field(1, |e| e.u8(VERSION + 1));
        map.field(2, |e| e.str("tunnel"));
        assert_eq!(
            Hello::decode(&map.finish()),
            Err(ContentError::Value { key: 1 })
        );
    }

    #[test]
    fn a_second_encoding_of_one_hello_is_refused() {
        // {1: 1, 2: "tunnel"} with the version as a two-byte integer.
        let body = [
            0xa2, 0x01, 0x18, 0x01, 0x02, 0x66, b't', b'u', b'n', b'n', b'e', b'l',
        ];
        assert_eq!(Hello::decode(&body), Err(ContentError::NotDeterministic));
        // Trailing bytes, repeated and descending keys.
        let mut trailing = Hello::new(SubProtocol::Mesh).encode();
        trailing.push(0);
        assert_eq!(
            Hello::decode(&trailing),
            Err(ContentError::NotDeterministic)
        );
        assert_eq!(
            Hello::decode(&[0xa2, 0x01, 0x01, 0x01, 0x01]),
            Err(ContentError::NotDeterministic)
        );
    }

    #[test]
    fn every_limit_holds_at_the_limit_and_not_beyond() {
        let at = Hello {
            service: Some("a".repeat(MAX_SERVICE).parse().expect("at the limit")),
            claimed_name: Some("n".repeat(MAX_CLAIMED_NAME)),
            ..full()
        };
        assert!(Hello::decode(&at.encode()).is_ok());
        assert!("a".repeat(MAX_SERVICE + 1).parse::<ServiceName>().is_err());
        let long_name = Hello {
            claimed_name: Some("n".repeat(MAX_CLAIMED_NAME + 1)),
            ..full()
        };
        assert_eq!(
            Hello::decode(&long_name.encode()),
            Err(ContentError::Value { key: 6 })
        );
    }

    #[test]
    fn service_names_stay_harmless() {
        for name in ["", ".hidden", "-flag", "a b", "a\nb", "é", "a/b", "a=b"] {
            assert_eq!(
                name.parse::<ServiceName>(),
                Err(ServiceNameError),
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_refusal_carries_its_wire_token() {
        let body = encode_refuse(Reason::Busy);
        assert_eq!(decode_refuse(&body), Ok(Some(Reason::Busy)));
        // Which services exist is nobody's business.
        let body = encode_refuse(Reason::NoSuchService);
        assert_eq!(decode_refuse(&body), Ok(Some(Reason::NotAuthorised)));
        let mut map = MapWriter::new();
        map.field(1, |e| e.str("of-a-later-version"));
        assert_eq!(decode_refuse(&map.finish()), Ok(None));
        assert_eq!(decode_accept(&encode_accept()), Ok(()));
    }

    #[test]
    fn hostile_lengths_do_not_allocate() {
        // An array that announces 2^32 items, a map of 2^64-1 fields.
        assert!(Hello::decode(&[0xa1, 0x04, 0x9a, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(
            Hello::decode(&[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).is_err()
        );
    }
}
