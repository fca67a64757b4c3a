//! What an authority knows of itself: the file `state`.
//!
//! JSON, version 1. It is written before anything follows from it, so that it is what the next
//! process continues from: a bundle whose sequence is not [`State::sequence`] was not published yet,
//! and `unsettled` are withdrawals of which the ledger was not told yet.

use comity_identity::{KeyHash, NodeId, UnixTime};
use comity_record::limits::{MAX_CHARTERS, MAX_LOCATIONS, MAX_WITHDRAWALS};
use comity_record::{Bundle, Charter, Location, Withdrawal, WithdrawnWhat};
use comity_store::Serial;
use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};
use thiserror::Error;

const VERSION: u32 = 1;

/// Most keys of members whose end is planned; members that change their key at one time.
pub(crate) const MAX_SCHEDULED: usize = 10_000;

/// Withdrawals that come by themselves, as old keys end. What is left of [`MAX_WITHDRAWALS`] is for
/// those that a person asks for: members with many keys must not keep anybody from being removed.
pub(crate) const MAX_AUTOMATIC: usize = MAX_WITHDRAWALS - 1_000;

/// Most link certificates, one for each change of root that a charter history holds.
const MAX_LINKS: usize = 16;

/// Why a state is not understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct StateError(pub(crate) String);

/// Reads a state and says what is wrong with it: for looking at one without an authority around it.
///
/// # Errors
/// When it is not JSON of this form, exceeds a limit, or something in it does not hold.
pub fn check_state(bytes: &[u8]) -> Result<(), StateError> {
    State::parse(bytes).map(|_| ())
}

/// What an authority knows of itself.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct State {
    pub(crate) network: NodeId,
    pub(crate) name: String,
    pub(crate) locations: Vec<Location>,
    /// The charters from the founding one on; never empty.
    pub(crate) charters: Vec<Charter>,
    /// Certificates of new roots by old ones, in DER.
    pub(crate) links: Vec<Vec<u8>>,
    pub(crate) withdrawn: Vec<Gone>,
    /// Serials that are withdrawn, and why; the ledger may not say so.
    pub(crate) unsettled: Vec<(Serial, String)>,
    pub(crate) scheduled: Vec<Scheduled>,
    /// The sequence of the newest bundle, made or about to be made.
    pub(crate) sequence: u64,
    /// The newest bundle that was made.
    pub(crate) bundle: Option<Bundle>,
}

/// A withdrawal, and when nobody needs it any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Gone {
    pub(crate) what: Withdrawal,
    /// The end of the certificate; `None` for a key.
    pub(crate) ends: Option<UnixTime>,
    /// The key that had signed it, if this state had forgotten it and learned it from the home.
    pub(crate) by: Option<KeyHash>,
}

/// A member's key that ends because another one follows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scheduled {
    #[serde(with = "hex")]
    pub(crate) key: KeyHash,
    #[serde(with = "hex")]
    pub(crate) successor: KeyHash,
    /// The sequence of the statement; 0 where it is not known.
    #[serde(default)]
    pub(crate) sequence: u64,
    /// Its last second, not before the day on which this was noted.
    #[serde(with = "text")]
    pub(crate) at: UnixTime,
    /// Its certificates were withdrawn.
    pub(crate) done: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(with = "text")]
    network: NodeId,
    name: String,
    sequence: u64,
    locations: Vec<String>,
    charters: Vec<String>,
    links: Vec<String>,
    withdrawn: Vec<GoneText>,
    unsettled: Vec<String>,
    scheduled: Vec<Scheduled>,
    bundle: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GoneText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    #[serde(with = "text")]
    at: UnixTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ends: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
}

impl State {
    /// Reads a state; everything signed in it is verified again.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, StateError> {
        let file: File = serde_json::from_slice(bytes).map_err(|e| fault(&e.to_string()))?;
        if file.version != VERSION {
            return Err(fault(&format!("version {} is not known", file.version)));
        }
        for (what, found, limit) in [
            ("locations", file.locations.len(), MAX_LOCATIONS),
            ("charters", file.charters.len(), MAX_CHARTERS),
            ("links", file.links.len(), MAX_LINKS),
            ("withdrawals", file.withdrawn.len(), MAX_WITHDRAWALS),
            (
                "unsettled withdrawals",
                file.unsettled.len(),
                MAX_WITHDRAWALS,
            ),
            ("planned ends", file.scheduled.len(), MAX_SCHEDULED),
        ] {
            if found > limit {
                return Err(fault(&format!("{found} {what}, at most {limit}")));
            }
        }
        let state = Self {
            network: file.network,
            name: file.name,
            locations: all(&file.locations, |l| l.parse().ok(), "a location")?,
            charters: charters(&file.charters)?,
            links: all(&file.links, |l| BASE64.decode(l.as_bytes()).ok(), "a link")?,
            withdrawn: all(&file.withdrawn, GoneText::read, "a withdrawal")?,
            unsettled: all(&file.unsettled, |text| unsettled(text), "a serial number")?,
            scheduled: file.scheduled,
            sequence: file.sequence,
            bundle: file.bundle.as_deref().map(bundle).transpose()?,
        };
        state.check()?;
        Ok(state)
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, StateError> {
        let file = File {
            version: VERSION,
            network: self.network,
            name: self.name.clone(),
            sequence: self.sequence,
            locations: self.locations.iter().map(ToString::to_string).collect(),
            charters: self
                .charters
                .iter()
                .map(|c| BASE64.encode(c.bytes()))
                .collect(),
            links: self.links.iter().map(|l| BASE64.encode(l)).collect(),
            withdrawn: self.withdrawn.iter().map(GoneText::of).collect(),
            unsettled: self
                .unsettled
                .iter()
                .map(|(serial, reason)| format!("{} {reason}", HEXLOWER.encode(serial)))
                .collect(),
            scheduled: self.scheduled.clone(),
            bundle: self.bundle.as_ref().map(|b| BASE64.encode(b.bytes())),
        };
        let mut text = serde_json::to_vec_pretty(&file).map_err(|e| fault(&e.to_string()))?;
        text.push(b'\n');
        Ok(text)
    }

    /// The charter that counts.
    pub(crate) fn charter(&self) -> &Charter {
        self.charters.last().expect("checked when it was read")
    }

    /// The bundle, if it says what the state says.
    pub(crate) fn current_bundle(&self) -> Option<&Bundle> {
        let current = |b: &&Bundle| b.sequence() == self.sequence;
        self.bundle.as_ref().filter(current)
    }

    pub(crate) fn withdrew(&self, issuer: &KeyHash, serial: &[u8]) -> bool {
        self.withdrawn.iter().any(|gone| {
            matches!(&gone.what.what, WithdrawnWhat::Certificate { issuer: i, serial: s }
                if i == issuer && s == serial)
        })
    }

    pub(crate) fn withdrew_key(&self, key: &KeyHash) -> bool {
        let withdrawn = self.withdrawn.iter();
        withdrawn
            .clone()
            .any(|gone| gone.what.what == WithdrawnWhat::Key(*key))
    }

    fn check(&self) -> Result<(), StateError> {
        if !comity_certs::is_label(&self.name) {
            return Err(fault("the name cannot be a label"));
        }
        let mut before: Option<&Charter> = None;
        for charter in &self.charters {
            let follows = match before {
                None => charter.check_founding(),
                Some(before) => charter.check_follows(before),
            };
            follows.map_err(|e| fault(&e.to_string()))?;
            if charter.network() != self.network {
                return Err(fault("a charter of another network"));
            }
            before = Some(charter);
        }
        match &self.bundle {
            _ if before.is_none() => Err(fault("there is no charter")),
            Some(bundle) if bundle.network() != self.network => {
                Err(fault("a bundle of another network"))
            }
            Some(bundle) if bundle.sequence() > self.sequence => {
                Err(fault("the bundle is newer than the sequence"))
            }
            _ => Ok(()),
        }
    }
}

impl GoneText {
    fn of(gone: &Gone) -> Self {
        let (key, issuer, serial) = match &gone.what.what {
            WithdrawnWhat::Key(key) => (Some(key.to_hex()), None, None),
            WithdrawnWhat::Certificate { issuer, serial } => {
                (None, Some(issuer.to_hex()), Some(HEXLOWER.encode(serial)))
            }
        };
        Self {
            key,
            issuer,
            serial,
            at: gone.what.at,
            ends: gone.ends.map(|ends| ends.to_string()),
            by: gone.by.map(|by| by.to_hex()),
        }
    }

    fn read(&self) -> Option<Gone> {
        let hash = |text: &String| Some(KeyHash::from_bytes(array(text)?));
        let what = match (&self.key, &self.issuer, &self.serial) {
            (Some(key), None, None) => WithdrawnWhat::Key(hash(key)?),
            (None, Some(issuer), Some(serial)) => WithdrawnWhat::Certificate {
                issuer: hash(issuer)?,
                serial: HEXLOWER.decode(serial.as_bytes()).ok()?,
            },
            _ => return None,
        };
        let ends = match &self.ends {
            None => None,
            Some(text) => Some(text.parse().ok()?),
        };
        let by = match &self.by {
            None => None,
            Some(text) => Some(hash(text)?),
        };
        let what = Withdrawal { what, at: self.at };
        Some(Gone { what, ends, by })
    }
}

fn unsettled(text: &str) -> Option<(Serial, String)> {
    let (serial, reason) = text.split_once(' ')?;
    Some((array(serial)?, reason.to_owned()))
}

fn charters(texts: &[String]) -> Result<Vec<Charter>, StateError> {
    all(
        texts,
        |text| Charter::parse(&BASE64.decode(text.as_bytes()).ok()?).ok(),
        "a charter",
    )
}

fn bundle(text: &str) -> Result<Bundle, StateError> {
    let bytes = BASE64.decode(text.as_bytes());
    let bytes = bytes.map_err(|e| fault(&e.to_string()))?;
    Bundle::parse(&bytes).map_err(|e| fault(&e.to_string()))
}

fn all<T, R>(list: &[T], read: impl Fn(&T) -> Option<R>, what: &str) -> Result<Vec<R>, StateError> {
    list.iter()
        .enumerate()
        .map(|(index, item)| {
            read(item).ok_or_else(|| fault(&format!("number {} is not {what}", index + 1)))
        })
        .collect()
}

fn array<const N: usize>(text: &str) -> Option<[u8; N]> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// The parser quotes the file, control characters and all.
fn fault(text: &str) -> StateError {
    StateError(
        text.chars()
            .take(256)
            .flat_map(char::escape_default)
            .collect(),
    )
}

mod hex {
    //! A key's hash as hexadecimal digits.

    use comity_identity::KeyHash;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(key: &KeyHash, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&key.to_hex())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<KeyHash, D::Error> {
        let text = String::deserialize(from)?;
        super::array(&text)
            .map(KeyHash::from_bytes)
            .ok_or_else(|| de::Error::custom("expected 64 hexadecimal digits"))
    }
}

mod text {
    //! What has a text form.

    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr,
        T::Err: Display,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(from)?;
        text.parse().map_err(de::Error::custom)
    }
}
