//! Invitations: everything a new node needs to find its inviter, know it for certain, and be known.
//!
//! 1. The inviter makes an invitation id and a 32-byte secret, and stores the public key that the
//!    secret seeds, never the secret itself: a copied store lets nobody in.
//! 2. The text travels over a channel that both sides trust, as letters or as a QR code.
//! 3. The joiner dials one of the addresses and accepts the inviter's id and no other.
//! 4. It signs the [`JoinStatement`] with the secret's key. The statement contains the exporter of
//!    this very TLS connection and both ids, so that it proves nothing anywhere else and to nobody
//!    else.
//! 5. The inviter verifies it with the stored public key, consumes the invitation durably, and
//!    only then accepts.
//!
//! The text is `COMITY-INVITE-` and base32 (RFC 4648, no padding) in capitals, which a QR code
//! holds in its denser alphanumeric form. On input, case, dashes and white space do not matter and
//! `0`, `1`, `8` are read as `O`, `I`, `B`. `docs/formats.md` has the bytes.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use comity_identity::{Algorithm, NodeId, UnixTime, VerifyError, verify};
use data_encoding::BASE32_NOPAD;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::name::{Name, NameError};

/// Most addresses in one invitation: the host's interfaces and a public name.
pub const MAX_ADDRESSES: usize = 8;

/// Longest name of a network in an invitation.
pub const MAX_NETWORK_BYTES: usize = 64;

/// Longest text that is looked at: eight of the longest addresses, in base32 with a dash or line
/// end here and there.
pub const MAX_TEXT_BYTES: usize = 8 * 1024;

/// What the text begins with.
pub const PREFIX: &str = "COMITY-INVITE-";

/// Without the id of a network.
const VERSION: u8 = 1;

/// With one.
const VERSION_WITH_NETWORK: u8 = 2;

/// The prefix without what input ignores.
const BARE_PREFIX: &[u8] = b"COMITYINVITE";

/// Four bytes of a hash: a mistyped text passes once in four thousand million.
const CHECK_BYTES: usize = 4;

/// Separates the check bytes from any other use of a hash.
const CHECK_DOMAIN: &[u8] = b"comity invitation check v1\0";

/// Separates the joiner's signature from any other by the same key.
const JOIN_DOMAIN: &[u8] = b"comity join v1\0";

/// The version and the length of the body.
const HEADER_BYTES: usize = 3;

/// An invitation, as the inviter makes it and the joiner reads it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invitation {
    /// Where the inviter can be dialled: 1 to [`MAX_ADDRESSES`] of `host:port`.
    pub addresses: Vec<Name>,
    /// Who the inviter is.
    pub inviter: NodeId,
    /// What the inviter calls the network that the joiner will be in.
    pub network: Option<String>,
    /// That network: the joiner takes the membership of this one and no other. Only beside a name.
    pub network_id: Option<NodeId>,
    /// Which invitation this is: random bytes.
    pub id: InvitationId,
    /// The seed of the one-time key.
    pub secret: InvitationSecret,
    /// From this second on it is refused.
    pub expires: UnixTime,
    /// What the inviter suggests to be called.
    pub label: Option<Name>,
}

/// Which invitation: 16 random bytes, not secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InvitationId(pub [u8; 16]);

impl fmt::Display for InvitationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for InvitationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The seed of an invitation's Ed25519 key. It prints nothing and wipes itself.
#[derive(Clone)]
pub struct InvitationSecret(Zeroizing<[u8; 32]>);

impl InvitationSecret {
    /// Takes 32 random bytes.
    pub fn new(seed: [u8; 32]) -> Self {
        Self(Zeroizing::new(seed))
    }

    /// The public key, which is all that the inviter stores.
    ///
    /// # Errors
    /// When the cryptographic library refuses.
    pub fn public_key(&self) -> Result<[u8; 32], InvitationError> {
        let pair = self.key_pair()?;
        pair.public_key()
            .as_ref()
            .try_into()
            .map_err(|_| InvitationError::Key)
    }

    /// Signs the joiner's statement.
    ///
    /// # Errors
    /// When the cryptographic library refuses.
    pub fn sign(&self, statement: &JoinStatement) -> Result<[u8; 64], InvitationError> {
        let signature = self
            .key_pair()?
            .try_sign(&statement.to_bytes())
            .map_err(|_| InvitationError::Key)?;
        signature
            .as_ref()
            .try_into()
            .map_err(|_| InvitationError::Key)
    }

    fn key_pair(&self) -> Result<Ed25519KeyPair, InvitationError> {
        Ed25519KeyPair::from_seed_unchecked(self.0.as_slice()).map_err(|_| InvitationError::Key)
    }
}

impl PartialEq for InvitationSecret {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(self.0.as_slice(), other.0.as_slice()).is_ok()
    }
}

impl Eq for InvitationSecret {}

impl fmt::Debug for InvitationSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InvitationSecret(..)")
    }
}

/// What a joiner signs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JoinStatement {
    /// 32 bytes exported from the TLS connection (RFC 8446 section 7.5).
    pub exporter: [u8; 32],
    /// Who joins.
    pub joiner: NodeId,
    /// Who invited.
    pub inviter: NodeId,
    /// By which invitation.
    pub invitation: InvitationId,
}

impl JoinStatement {
    /// The signed bytes: a domain string and fields of fixed length.
    pub fn to_bytes(&self) -> Vec<u8> {
        [
            JOIN_DOMAIN,
            &self.exporter,
            self.joiner.as_bytes(),
            self.inviter.as_bytes(),
            &self.invitation.0,
        ]
        .concat()
    }

    /// Verifies the joiner's signature with the stored public key.
    ///
    /// # Errors
    /// When it does not hold.
    pub fn verify(&self, public_key: &[u8; 32], signature: &[u8]) -> Result<(), VerifyError> {
        let spki = Algorithm::Ed25519.spki(public_key);
        verify(&spki, &self.to_bytes(), signature)
    }
}

/// Why an invitation is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvitationError {
    /// Does not begin as an invitation does.
    #[error("not an invitation: it would begin with {PREFIX}")]
    Prefix,
    /// Longer than any invitation.
    #[error("too long for an invitation ({found} characters)")]
    TooLong {
        /// How long it is.
        found: usize,
    },
    /// A character that is not in it.
    #[error("an invitation does not contain {found:?}")]
    Character {
        /// The character.
        found: char,
    },
    /// Made by another version.
    #[error("the invitation has version {found}, we read {VERSION} and {VERSION_WITH_NETWORK}")]
    Version {
        /// Its version.
        found: u8,
    },
    /// The end is missing, or something was added.
    #[error("the invitation has {found} of its {expected} characters: was all of it copied?")]
    Length {
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// The check does not fit.
    #[error("something in the invitation is mistyped")]
    Check,
    /// The content breaks the format.
    #[error("the invitation's {part} is not valid")]
    Content {
        /// Which part.
        part: &'static str,
    },
    /// No address, or too many.
    #[error("an invitation has 1 to {MAX_ADDRESSES} addresses, not {found}")]
    Addresses {
        /// How many there are.
        found: usize,
    },
    /// An address that is not a `host:port`.
    #[error("an invitation's address is refused: {0}")]
    Address(NameError),
    /// The one-time key cannot be used.
    #[error("the invitation's key cannot be used")]
    Key,
}

impl Invitation {
    /// The text to hand over. It contains the secret: whoever reads it can join.
    ///
    /// # Errors
    /// When there are no addresses or too many, the network's name is too long, or the id of a
    /// network has no name beside it.
    pub fn to_text(&self) -> Result<Zeroizing<String>, InvitationError> {
        let body = self.body()?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(body.len() + HEADER_BYTES + CHECK_BYTES));
        let length = u16::try_from(body.len()).map_err(|_| content("length"))?;
        bytes.push(match self.network_id {
            None => VERSION,
            Some(_) => VERSION_WITH_NETWORK,
        });
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&body);
        let check = check_of(&bytes);
        bytes.extend_from_slice(&check);
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + bytes.len() * 2));
        text.push_str(PREFIX);
        BASE32_NOPAD.encode_append(&bytes, &mut text);
        Ok(text)
    }

    /// Reads the text.
    ///
    /// # Errors
    /// When it is not an invitation, is cut off or mistyped, or is of another version. Whether it
    /// has expired is for the caller, who has a clock.
    pub fn parse(text: &str) -> Result<Self, InvitationError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(InvitationError::TooLong { found: text.len() });
        }
        let characters = fold(text)?;
        let digits = characters
            .strip_prefix(BARE_PREFIX)
            .ok_or(InvitationError::Prefix)?;
        check_length(digits)?;
        let bytes = Zeroizing::new(
            BASE32_NOPAD
                .decode(digits)
                .map_err(|_| InvitationError::Check)?,
        );
        let (checked, check) = bytes.split_at(bytes.len() - CHECK_BYTES);
        if check != check_of(checked) {
            return Err(InvitationError::Check);
        }
        Self::of_body(checked[0], &checked[HEADER_BYTES..])
    }

    /// Fixed fields first, then those with a length of their own.
    fn body(&self) -> Result<Zeroizing<Vec<u8>>, InvitationError> {
        check_addresses(self.addresses.len())?;
        let mut body = Zeroizing::new(Vec::with_capacity(256));
        body.extend_from_slice(&self.expires.as_secs().to_be_bytes());
        body.extend_from_slice(self.inviter.as_bytes());
        body.extend_from_slice(&self.id.0);
        body.extend_from_slice(self.secret.0.as_slice());
        if let Some(id) = &self.network_id {
            body.extend_from_slice(id.as_bytes());
        }
        let network = self.network.as_deref().unwrap_or_default();
        let nameless = self.network_id.is_some() || self.network.is_some();
        if network.len() > MAX_NETWORK_BYTES || (network.is_empty() && nameless) {
            return Err(content("network"));
        }
        push_text(&mut body, network, "network")?;
        let label = self.label.as_ref().map(Name::as_str).unwrap_or_default();
        push_text(&mut body, label, "label")?;
        for address in &self.addresses {
            if address.is_label() {
                return Err(content("address"));
            }
            push_text(&mut body, address.as_str(), "address")?;
        }
        Ok(body)
    }

    fn of_body(version: u8, body: &[u8]) -> Result<Self, InvitationError> {
        let mut reader = Reader { rest: body };
        let expires = UnixTime::from_secs(u64::from_be_bytes(reader.array("expiry")?));
        let inviter = NodeId::from_bytes(reader.array("inviter")?);
        let id = InvitationId(reader.array("id")?);
        let secret = InvitationSecret::new(reader.array("secret")?);
        let network_id = match version {
            VERSION_WITH_NETWORK => Some(NodeId::from_bytes(reader.array("network")?)),
            _ => None,
        };
        let network = Some(reader.text("network")?).filter(|text| !text.is_empty());
        if network_id.is_some() && network.is_none() {
            return Err(content("network"));
        }
        if network.is_some_and(|n| n.len() > MAX_NETWORK_BYTES || n.contains(char::is_control)) {
            return Err(content("network"));
        }
        let label = Some(reader.text("label")?).filter(|text| !text.is_empty());
        let label = label.map(Name::label).transpose();
        let mut addresses = Vec::new();
        while !reader.rest.is_empty() {
            check_addresses(addresses.len() + 1)?;
            let address = Name::parse(reader.text("address")?);
            let address = address.map_err(InvitationError::Address)?;
            if address.is_label() {
                return Err(content("address"));
            }
            addresses.push(address);
        }
        check_addresses(addresses.len())?;
        Ok(Self {
            addresses,
            inviter,
            network: network.map(str::to_owned),
            network_id,
            id,
            secret,
            expires,
            label: label.map_err(|_| content("label"))?,
        })
    }
}

/// Whether a text would be read as an invitation, by its first letters.
pub fn has_prefix(text: &str) -> bool {
    let significant = text
        .bytes()
        .filter(|b| !is_ignored(char::from(*b)))
        .map(|b| b.to_ascii_uppercase());
    significant
        .take(BARE_PREFIX.len())
        .eq(BARE_PREFIX.iter().copied())
}

fn is_ignored(c: char) -> bool {
    c == '-' || c.is_ascii_whitespace()
}

/// Capitals without separators, look-alikes replaced.
fn fold(text: &str) -> Result<Zeroizing<Vec<u8>>, InvitationError> {
    if !has_prefix(text) {
        return Err(InvitationError::Prefix);
    }
    let mut folded = Zeroizing::new(Vec::with_capacity(text.len()));
    for found in text.chars().filter(|c| !is_ignored(*c)) {
        folded.push(match found.to_ascii_uppercase() {
            '0' => b'O',
            '1' => b'I',
            '8' => b'B',
            c @ ('A'..='Z' | '2'..='7') => c as u8,
            _ => return Err(InvitationError::Character { found }),
        });
    }
    Ok(folded)
}

/// Compares the number of characters with the length in the header, so that a text that was cut
/// off is told from one that was mistyped.
fn check_length(digits: &[u8]) -> Result<(), InvitationError> {
    // Eight characters hold five bytes, the header among them.
    let header = digits
        .get(..8)
        .and_then(|head| BASE32_NOPAD.decode(head).ok())
        .ok_or(InvitationError::Length {
            expected: BASE32_NOPAD.encode_len(HEADER_BYTES + CHECK_BYTES),
            found: digits.len(),
        })?;
    if ![VERSION, VERSION_WITH_NETWORK].contains(&header[0]) {
        return Err(InvitationError::Version { found: header[0] });
    }
    let body = usize::from(u16::from_be_bytes([header[1], header[2]]));
    let expected = BASE32_NOPAD.encode_len(HEADER_BYTES + body + CHECK_BYTES);
    if digits.len() != expected {
        return Err(InvitationError::Length {
            expected,
            found: digits.len(),
        });
    }
    Ok(())
}

fn check_of(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let digest = digest(&SHA256, &[CHECK_DOMAIN, bytes].concat());
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&digest.as_ref()[..CHECK_BYTES]);
    check
}

fn check_addresses(found: usize) -> Result<(), InvitationError> {
    if (1..=MAX_ADDRESSES).contains(&found) {
        Ok(())
    } else {
        Err(InvitationError::Addresses { found })
    }
}

fn push_text(body: &mut Vec<u8>, text: &str, part: &'static str) -> Result<(), InvitationError> {
    let length = u16::try_from(text.len()).map_err(|_| content(part))?;
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(text.as_bytes());
    Ok(())
}

const fn content(part: &'static str) -> InvitationError {
    InvitationError::Content { part }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize, part: &'static str) -> Result<&'a [u8], InvitationError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(content(part))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, part: &'static str) -> Result<[u8; N], InvitationError> {
        self.take(N, part)?.try_into().map_err(|_| content(part))
    }

    fn text(&mut self, part: &'static str) -> Result<&'a str, InvitationError> {
        let length = u16::from_be_bytes(self.array(part)?);
        std::str::from_utf8(self.take(usize::from(length), part)?).map_err(|_| content(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invitation() -> Invitation {
        Invitation {
            addresses: vec![
                Name::parse("db1.example:7117").expect("name"),
                Name::parse("[2001:db8::1]:7117").expect("name"),
            ],
            inviter: NodeId::from_bytes([1; 32]),
            network: Some("corp".into()),
            network_id: Some(NodeId::from_bytes([5; 32])),
            id: InvitationId([2; 16]),
            secret: InvitationSecret::new([3; 32]),
            // 2026-03-01T00:00:00Z
            expires: UnixTime::from_secs(1_772_323_200),
            label: Some(Name::label("ops-db").expect("label")),
        }
    }

    fn text() -> String {
        invitation().to_text().expect("text").to_string()
    }

    #[test]
    fn an_invitation_reads_back_in_any_case_and_spacing() {
        let text = text();
        let spaced: String = text
            .as_bytes()
            .chunks(5)
            .map(|c| format!("{} \n-", String::from_utf8_lossy(c)))
            .collect();
        for text in [text.clone(), text.to_lowercase(), spaced] {
            assert_eq!(Invitation::parse(&text), Ok(invitation()));
        }
        let nameless = Invitation {
            network_id: None,
            ..invitation()
        };
        let bare = Invitation {
            network: None,
            label: None,
            ..nameless.clone()
        };
        for invitation in [nameless, bare] {
            let text = invitation.to_text().expect("text");
            assert_eq!(Invitation::parse(&text), Ok(invitation));
        }
    }

    #[test]
    fn the_id_of_a_network_has_a_name_beside_it() {
        let refused = Err(InvitationError::Content { part: "network" });
        for network in [None, Some(String::new())] {
            let invitation = Invitation {
                network,
                ..invitation()
            };
            assert_eq!(invitation.to_text().map(|_| ()), refused);
        }
        // The name cut out of a text of ours, with its length and a new check.
        let bytes = BASE32_NOPAD
            .decode(&text().as_bytes()[PREFIX.len()..])
            .expect("base32");
        let name = HEADER_BYTES + 8 + 32 + 16 + 32 + 32;
        let body = [
            &bytes[HEADER_BYTES..name],
            &[0, 0],
            &bytes[name + 6..bytes.len() - 4],
        ]
        .concat();
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        let mut nameless = [&[VERSION_WITH_NETWORK], length.as_slice(), &body].concat();
        nameless.extend_from_slice(&check_of(&nameless));
        let text = format!("{PREFIX}{}", BASE32_NOPAD.encode(&nameless));
        assert_eq!(Invitation::parse(&text).map(|_| ()), refused);
    }

    #[test]
    fn the_text_fits_the_alphanumeric_form_of_qr_codes() {
        let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-';
        assert!(text().bytes().all(allowed));
    }

    #[test]
    fn look_alikes_are_folded() {
        let (prefix, rest) = PREFIX.split_at(PREFIX.len());
        assert_eq!(rest, "");
        let digits = text()[PREFIX.len()..]
            .replace('O', "0")
            .replace('I', "1")
            .replace('B', "8");
        assert_eq!(
            Invitation::parse(&format!("{prefix}{digits}")),
            Ok(invitation())
        );
    }

    #[test]
    fn every_truncation_is_refused_and_named() {
        let text = text();
        for length in PREFIX.len()..text.len() {
            assert!(
                matches!(
                    Invitation::parse(&text[..length]),
                    Err(InvitationError::Length { .. })
                ),
                "{length}"
            );
        }
        assert!(matches!(
            Invitation::parse(&format!("{text}A")),
            Err(InvitationError::Length { .. })
        ));
    }

    #[test]
    fn every_single_wrong_character_is_caught() {
        let text = text();
        for position in PREFIX.len()..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[position] = if wrong[position] == b'A' { b'C' } else { b'A' };
            let wrong = String::from_utf8(wrong).expect("ascii");
            assert!(Invitation::parse(&wrong).is_err(), "{position}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_their_cause() {
        for (text, error) in [
            ("", InvitationError::Prefix),
            ("hello", InvitationError::Prefix),
            ("COMITY-INVITE-9", InvitationError::Character { found: '9' }),
            ("COMITY-INVITE-é", InvitationError::Character { found: 'é' }),
            (
                "COMITY-INVITE-AMAAAAAA",
                InvitationError::Version { found: 3 },
            ),
        ] {
            assert_eq!(Invitation::parse(text), Err(error), "{text}");
        }
        assert_eq!(
            Invitation::parse(&"A".repeat(MAX_TEXT_BYTES)),
            Err(InvitationError::Prefix)
        );
        assert_eq!(
            Invitation::parse(&"A".repeat(MAX_TEXT_BYTES + 1)),
            Err(InvitationError::TooLong {
                found: MAX_TEXT_BYTES + 1
            })
        );
    }

    #[test]
    fn addresses_and_network_are_limited() {
        let with = |count: usize| {
            let mut invitation = invitation();
            let address = Name::parse("db1.example:7117").expect("name");
            invitation.addresses = vec![address; count];
            invitation.to_text()
        };
        assert!(with(MAX_ADDRESSES).is_ok());
        for found in [0, MAX_ADDRESSES + 1] {
            assert_eq!(with(found), Err(InvitationError::Addresses { found }));
        }
        let named = |length: usize| Invitation {
            network: Some("n".repeat(length)),
            ..invitation()
        };
        assert!(named(MAX_NETWORK_BYTES).to_text().is_ok());
        assert!(named(MAX_NETWORK_BYTES + 1).to_text().is_err());
    }

    #[test]
    fn the_longest_invitation_fits_the_text_limit() {
        let host = format!(
            "{}.{}",
            format!("{}.", "a".repeat(62)).repeat(3),
            "b".repeat(63)
        );
        let address = Name::host_port(&host.replace("..", "."), 65535).expect("name");
        let invitation = Invitation {
            addresses: vec![address; MAX_ADDRESSES],
            network: Some("n".repeat(MAX_NETWORK_BYTES)),
            label: Some(Name::label(&"z".repeat(63)).expect("label")),
            ..invitation()
        };
        let text = invitation.to_text().expect("text");
        assert!(text.len() <= MAX_TEXT_BYTES, "{}", text.len());
        assert_eq!(Invitation::parse(&text), Ok(invitation));
    }

    #[test]
    fn debug_output_does_not_contain_the_secret() {
        let shown = format!("{:?}", invitation());
        assert!(shown.contains("InvitationSecret(..)"), "{shown}");
        assert!(!shown.contains("3, 3, 3"));
    }

    #[test]
    fn a_join_is_proven_by_the_invitation_on_this_connection_only() {
        let invitation = invitation();
        let statement = JoinStatement {
            exporter: [9; 32],
            joiner: NodeId::from_bytes([4; 32]),
            inviter: invitation.inviter,
            invitation: invitation.id,
        };
        let public_key = invitation.secret.public_key().expect("key");
        let signature = invitation.secret.sign(&statement).expect("signature");
        assert_eq!(statement.verify(&public_key, &signature), Ok(()));
        let others = [
            JoinStatement {
                exporter: [8; 32],
                ..statement
            },
            JoinStatement {
                joiner: NodeId::from_bytes([5; 32]),
                ..statement
            },
            JoinStatement {
                inviter: NodeId::from_bytes([5; 32]),
                ..statement
            },
            JoinStatement {
                invitation: InvitationId([5; 16]),
                ..statement
            },
        ];
        for other in others {
            assert!(other.verify(&public_key, &signature).is_err(), "{other:?}");
        }
        let stranger = InvitationSecret::new([7; 32]);
        let forged = stranger.sign(&statement).expect("signature");
        assert!(statement.verify(&public_key, &forged).is_err());
    }
}
