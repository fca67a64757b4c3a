//! What an authority withdrew: certificates by issuer and serial number, keys by their hash.
//!
//! Never by the hash of a certificate: whoever has an ECDSA certificate can make another one of it
//! with another hash and the same content.

use std::collections::BTreeMap;

use comity_identity::{KeyHash, UnixTime};
use minicbor::Decoder;

use crate::cbor::{self, FormatError, VecEncoder, Written};
use crate::envelope::read_time;
use crate::limits::{MAX_REMEMBERED_WITHDRAWALS, MAX_SERIAL};

/// One entry of a bundle's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// What does not count any more.
    pub what: WithdrawnWhat,
    /// Since when, as the authority says. It counts at once, whatever that time.
    pub at: UnixTime,
}

/// What was withdrawn, in the order in which it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WithdrawnWhat {
    /// One certificate.
    Certificate {
        /// Hash of the key that issued it.
        issuer: KeyHash,
        /// The content bytes of its serial number: 1 to [`MAX_SERIAL`].
        serial: Vec<u8>,
    },
    /// Every certificate for this key.
    Key(KeyHash),
}

/// Everything that one authority ever withdrew. It only grows: an older or shorter list takes
/// nothing back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Withdrawn {
    certificates: BTreeMap<KeyHash, BTreeMap<Vec<u8>, UnixTime>>,
    keys: BTreeMap<KeyHash, UnixTime>,
    count: usize,
}

impl Withdrawn {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds entries; of two for one thing the earlier time is kept.
    ///
    /// # Errors
    /// When there would be more than [`MAX_REMEMBERED_WITHDRAWALS`]. Those before that are added: to
    /// know a withdrawal is never wrong.
    pub fn extend<'a>(
        &mut self,
        withdrawals: impl IntoIterator<Item = &'a Withdrawal>,
    ) -> Result<(), FormatError> {
        for withdrawal in withdrawals {
            self.insert(withdrawal)?;
        }
        Ok(())
    }

    /// Whether a certificate does not count any more, or any for its key.
    pub fn contains(&self, issuer: &KeyHash, serial: &[u8], key: &KeyHash) -> bool {
        self.keys.contains_key(key)
            || self
                .certificates
                .get(issuer)
                .is_some_and(|serials| serials.contains_key(serial))
    }

    /// The entries in the order of their kind, issuer and serial.
    pub fn iter(&self) -> impl Iterator<Item = Withdrawal> {
        let certificates = self.certificates.iter().flat_map(|(issuer, serials)| {
            serials.iter().map(|(serial, at)| Withdrawal {
                what: WithdrawnWhat::Certificate {
                    issuer: *issuer,
                    serial: serial.clone(),
                },
                at: *at,
            })
        });
        let keys = self.keys.iter().map(|(key, at)| Withdrawal {
            what: WithdrawnWhat::Key(*key),
            at: *at,
        });
        certificates.chain(keys)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn insert(&mut self, withdrawal: &Withdrawal) -> Result<(), FormatError> {
        let known = match &withdrawal.what {
            WithdrawnWhat::Key(key) => self.keys.get_mut(key),
            WithdrawnWhat::Certificate { issuer, serial } => self
                .certificates
                .get_mut(issuer)
                .and_then(|serials| serials.get_mut(serial)),
        };
        if let Some(at) = known {
            *at = withdrawal.at.min(*at);
            return Ok(());
        }
        cbor::within("withdrawals", self.count + 1, MAX_REMEMBERED_WITHDRAWALS)?;
        self.count += 1;
        match &withdrawal.what {
            WithdrawnWhat::Key(key) => {
                self.keys.insert(*key, withdrawal.at);
            }
            WithdrawnWhat::Certificate { issuer, serial } => {
                let serials = self.certificates.entry(*issuer).or_default();
                serials.insert(serial.clone(), withdrawal.at);
            }
        }
        Ok(())
    }
}

/// `[0, issuer, serial, at]` or `[1, key, at]`
pub(crate) fn write<'e>(e: &'e mut VecEncoder, withdrawal: &Withdrawal) -> Written<'e> {
    match &withdrawal.what {
        WithdrawnWhat::Certificate { issuer, serial } => {
            e.array(4)?.u8(0)?.bytes(issuer.as_bytes())?.bytes(serial)?;
        }
        WithdrawnWhat::Key(key) => {
            e.array(3)?.u8(1)?.bytes(key.as_bytes())?;
        }
    }
    e.u64(withdrawal.at.as_secs())
}

/// Reads one entry of the list in the field `field`.
pub(crate) fn read(d: &mut Decoder<'_>, field: u64) -> Result<Withdrawal, FormatError> {
    let fault = FormatError::Value { key: field };
    let length = d.array()?.ok_or(FormatError::NotDeterministic)?;
    let what = match (d.u8()?, length) {
        (0, 4) => {
            let issuer = KeyHash::from_bytes(cbor::hash(d, field)?);
            let serial = d.bytes()?.to_vec();
            if !(1..=MAX_SERIAL).contains(&serial.len()) {
                return Err(fault);
            }
            WithdrawnWhat::Certificate { issuer, serial }
        }
        (1, 3) => WithdrawnWhat::Key(KeyHash::from_bytes(cbor::hash(d, field)?)),
        _ => return Err(fault),
    };
    let at = read_time(d, field)?;
    Ok(Withdrawal { what, at })
}
