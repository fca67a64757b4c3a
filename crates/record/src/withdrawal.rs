//! What an authority withdrew: certificates by issuer and serial number, keys by their hash.
//!
//! Never by the hash of a certificate: whoever has an ECDSA certificate can make another one of it
//! with another hash and the same content.

use std::collections::BTreeMap;

use comity_identity::{KeyHash, UnixTime};
use minicbor::Decoder;

use crate::bundle::Bundle;
use crate::cbor::{self, FormatError, VecEncoder, Written};
use crate::charter::KeyState;
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

/// What one authority withdrew in the bundles before the one that is held, by the key that signed
/// them.
///
/// It only grows: an older or shorter list takes nothing back. But the word of a key goes with the
/// key. What a thief withdrew counts until a charter revokes the stolen key, and what that key
/// withdrew while it was honest is in every bundle that the authority signs with another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Withdrawn {
    said: BTreeMap<KeyHash, BTreeMap<WithdrawnWhat, UnixTime>>,
}

impl Withdrawn {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what `signer` withdrew; of two for one thing the earlier time is kept.
    ///
    /// # Errors
    /// When there would be more than [`MAX_REMEMBERED_WITHDRAWALS`] by this signer: a stolen key fills
    /// its own room and nobody else's. Those before that are added: to know one is never wrong.
    pub fn extend<'a>(
        &mut self,
        signer: KeyHash,
        withdrawals: impl IntoIterator<Item = &'a Withdrawal>,
    ) -> Result<(), FormatError> {
        for Withdrawal { what, at } in withdrawals {
            let said = self.said.entry(signer).or_default();
            if let Some(known) = said.get_mut(what) {
                *known = (*known).min(*at);
                continue;
            }
            cbor::within("withdrawals", said.len() + 1, MAX_REMEMBERED_WITHDRAWALS)?;
            said.insert(what.clone(), *at);
        }
        Ok(())
    }

    /// What is remembered once `offered` takes the place of `held`, which it follows: all of this, and
    /// what only `held` says, but nothing by keys that are revoked now or not there any more.
    ///
    /// # Errors
    /// When that would be too much. Then `held` must stay: otherwise whoever has an issuing key could
    /// take a withdrawal back by withdrawing a hundred thousand things that do not exist. Once a
    /// charter revokes that key there is room again.
    pub fn succeeded(&self, held: &Bundle, offered: &Bundle) -> Result<Self, FormatError> {
        let is_good = |key: &KeyHash| {
            let state = offered.key_state(key);
            state.is_some_and(|state| state != KeyState::Revoked)
        };
        let mut kept = self.clone();
        kept.said.retain(|signer, _| is_good(signer));
        let signer = held.signer();
        if is_good(&signer) {
            let repeats =
                |w: &&Withdrawal| signer == offered.signer() && offered.withdraws(&w.what);
            let only_held = held.withdrawn().iter().filter(|w| !repeats(w));
            kept.extend(signer, only_held)?;
        }
        Ok(kept)
    }

    /// Whether a certificate does not count any more, or any for its key.
    pub fn contains(&self, issuer: &KeyHash, serial: &[u8], key: &KeyHash) -> bool {
        let certificate = WithdrawnWhat::Certificate {
            issuer: *issuer,
            serial: serial.to_vec(),
        };
        let key = WithdrawnWhat::Key(*key);
        let mut said = self.said.values();
        said.any(|said| said.contains_key(&certificate) || said.contains_key(&key))
    }

    /// Who signed, and what, in the order of signers and [`WithdrawnWhat`].
    pub fn iter(&self) -> impl Iterator<Item = (KeyHash, Withdrawal)> {
        self.said.iter().flat_map(|(signer, said)| {
            said.iter().map(|(what, at)| {
                let (what, at) = (what.clone(), *at);
                (*signer, Withdrawal { what, at })
            })
        })
    }

    /// What one signer withdrew, in order.
    pub fn by(&self, signer: &KeyHash) -> impl Iterator<Item = Withdrawal> {
        let said = self.said.get(signer).into_iter().flatten();
        said.map(|(what, at)| {
            let (what, at) = (what.clone(), *at);
            Withdrawal { what, at }
        })
    }

    /// How many there are; what two signers withdrew counts twice.
    pub fn len(&self) -> usize {
        self.said.values().map(BTreeMap::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
