//! Who would be cut off, before anything is done: for the dry runs of commands.
//!
//! Of peers that a listed CA recognises nothing is remembered but the names that were dialled, and
//! of members nothing at all: what can be said is which lines, names and networks depend on a key,
//! and who has another line to go on with.

use comity_certs::Anchor;
use comity_identity::{KeyHash, NodeId, UnixTime};

use crate::entry::{Attributes, Entry, Pin, What};
use crate::grants::EVERYTHING;
use crate::known_peers::KnownPeers;
use crate::name::{Name, canonical_host};
use crate::networks::Networks;

/// What an edit would cut off.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Affected {
    /// Lines that would recognise nobody any more: pins of the key, CAs with it.
    pub lines: Vec<usize>,
    /// Labels and addresses that no other line recognises then.
    pub names: Vec<Name>,
    /// Names that a CA once vouched for, which the authority may be the one to vouch for: they never
    /// fall back to an unknown key.
    pub dialled: Vec<Name>,
    /// Networks and roles that no other listed CA may attest then.
    pub attested: Vec<String>,
    /// Networks here whose authority has the key: its members are recognised no more.
    pub networks: Vec<NodeId>,
}

/// What the revocation of a key would cut off (`@revoked`), whether it is a peer's, a listed CA's or
/// an authority's.
pub fn affected_by_revocation(
    known: &KnownPeers,
    networks: &Networks,
    key: KeyHash,
    now: UnixTime,
) -> Affected {
    let has_key = |entry: &Entry| match &entry.what {
        What::Pin(Pin::Node(id)) => id.key_hash() == key,
        What::Pin(Pin::Key(pinned)) => *pinned == key,
        What::Ca(anchor) => anchor.key() == key,
        What::Pin(Pin::Cert(_)) | What::Revoked(_) | What::CaVerified => false,
    };
    let mut affected = affected_by_losing(known, has_key, now);
    let concerned = networks
        .iter()
        .filter(|authority| authority.bundle.key(&key).is_some());
    affected.networks = concerned.map(|authority| authority.id()).collect();
    affected
}

/// What the end of a listed CA would cut off: its removal, or the last second of its retirement. Other
/// lines with the same scope, as during a rotation, go on.
pub fn affected_by_ca_end(known: &KnownPeers, anchor: &Anchor, now: UnixTime) -> Affected {
    let is_it = |entry: &Entry| {
        let listed = entry.anchor();
        listed.is_some_and(|listed| listed.fingerprint() == anchor.fingerprint())
    };
    affected_by_losing(known, is_it, now)
}

fn affected_by_losing(
    known: &KnownPeers,
    is_lost: impl Fn(&Entry) -> bool,
    now: UnixTime,
) -> Affected {
    let counts = |entry: &Entry| {
        let revoked = match &entry.what {
            What::Pin(Pin::Cert(fingerprint)) => known.revocation_of_certificate(fingerprint),
            What::Pin(Pin::Node(id)) => known.revocation_of_key(&id.key_hash()),
            What::Pin(Pin::Key(key)) => known.revocation_of_key(key),
            What::Ca(anchor) => known.revocation_of_anchor(anchor),
            What::Revoked(_) | What::CaVerified => return false,
        };
        revoked.is_none() && !entry.is_over(now) && entry.attributes.forked.is_none()
    };
    let counting = || known.entries().filter(|(_, entry)| counts(entry));
    let lost = || counting().filter(|(_, entry)| is_lost(entry));
    let kept: Vec<&Entry> = counting()
        .map(|(_, entry)| entry)
        .filter(|entry| !is_lost(entry))
        .collect();
    let mut affected = Affected {
        lines: lost().map(|(line, _)| line).collect(),
        ..Affected::default()
    };
    for (_, entry) in lost() {
        match entry.pin() {
            Some(_) => affected.add_pin(entry, &kept),
            None => affected.add_ca(known, entry, &kept),
        }
    }
    affected.names.dedup();
    affected.dialled.dedup();
    affected.attested.dedup();
    affected
}

impl Affected {
    /// Whether nothing and nobody is cut off.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    fn add_pin(&mut self, entry: &Entry, kept: &[&Entry]) {
        let has_other = |name: &Name| {
            let mut pins = kept.iter().filter(|other| other.pin().is_some());
            pins.any(|other| other.names.matches(name) && other.side.overlaps(entry.side))
        };
        let names = entry.names.exact().filter(|name| !has_other(name));
        self.names.extend(names.cloned());
    }

    fn add_ca(&mut self, known: &KnownPeers, entry: &Entry, kept: &[&Entry]) {
        let other_cas = || kept.iter().filter(|other| other.anchor().is_some());
        let covered = |entry: &Entry, name: &Name| match name.host() {
            Some(host) => {
                let host = canonical_host(host);
                host.is_ok_and(|host| entry.names.cover_host(&host, name.port()))
            }
            None => false,
        };
        let verified = known
            .entries()
            .filter(|(_, memory)| matches!(memory.what, What::CaVerified))
            .flat_map(|(_, memory)| memory.names.exact());
        let dialled = verified
            .filter(|name| covered(entry, name) && !other_cas().any(|other| covered(other, name)));
        self.dialled.extend(dialled.cloned());
        let lists: [fn(&Attributes) -> &[String]; 2] = [|a| &a.networks, |a| &a.roles];
        for list in lists {
            let kept_words = || other_cas().flat_map(|other| list(&other.attributes));
            let lost = list(&entry.attributes).iter().filter(|word| {
                let mut kept_words = kept_words();
                !kept_words.any(|known| known == *word || known == EVERYTHING)
            });
            self.attested.extend(lost.cloned());
        }
    }
}
