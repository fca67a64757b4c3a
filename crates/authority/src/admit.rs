//! Admitting members: cross-certificates for their root or identity keys.

use std::time::Duration;

use comity_certs::{
    Anchor, CLOCK_TOLERANCE, CrossRequest, Metadata, is_label, mint_cross, read_root,
};
use comity_identity::{Fingerprint, KeyHash, NodeId, UnixTime};
use comity_record::{KeyState, Succession, SuccessionChain};
use comity_store::{IssuedCertificate, IssuedSession, IssuedState, PeerStore, Reservation, Serial};

use crate::authority::{Authority, Issuer};
use crate::error::AuthorityError;
use crate::members::MEMBER;
use crate::state::Scheduled;
use crate::{BACKDATED, MEMBER_LIFETIME};

/// From when on a membership is renewed: two thirds of its life, as leaves are.
const RENEWED_AT: (u64, u64) = (2, 3);

/// What a member gets.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Admission {
    /// What the member is called; the first 16 digits of its id by default.
    pub label: Option<String>,
    /// The roles that the authority attests.
    pub roles: Vec<String>,
    /// Anything else that it attests.
    pub pairs: Vec<(String, String)>,
    /// How long: [`MEMBER_LIFETIME`] by default, at most until the issuer's end.
    pub lifetime: Option<Duration>,
}

/// A membership as it is handed out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The cross-certificate, then the certificate of the key that issued it, in DER.
    pub membership: Vec<Vec<u8>>,
    /// The newest bundle.
    pub bundle: Vec<u8>,
    /// The cross-certificate's serial number.
    pub serial: Serial,
    /// Its last second.
    pub not_after: UnixTime,
}

impl Authority {
    /// Admits the holder of a root certificate, a node's own or another organisation's. Whoever has
    /// the same membership already, with time left, gets that one again.
    ///
    /// # Errors
    /// When it is no self-signed root, its key was withdrawn, the label is another member's, the
    /// issuing key may not attest this or ends before, or something cannot be written.
    pub fn certify(
        &mut self,
        root: &[u8],
        admission: &Admission,
        now: UnixTime,
    ) -> Result<Grant, AuthorityError> {
        self.reload()?;
        let holder = Holder::of(root)?;
        let label = match &admission.label {
            Some(label) => label.clone(),
            None => holder.key.to_hex()[..16].to_owned(),
        };
        if !is_label(&label) {
            return Err(AuthorityError::Label(label.escape_default().to_string()));
        }
        let networks = vec![self.state.name.clone()];
        let attested = Metadata::new(networks, admission.roles.clone(), admission.pairs.clone())?;
        let wanted = Wanted {
            label,
            attested,
            lifetime: admission.lifetime,
        };
        self.admit(root, &holder, &wanted, None, now)
    }

    /// Renews the membership of a root's holder if it wants renewal: two thirds of it are over, or
    /// its issuing key is no longer in use. One that is not among `presented`, as after it was lost on
    /// its way, is given again as it is. Whoever is no member, and proves by `succession` that its key
    /// follows a member's, gets that one's membership; the old key's ends with the overlap of the
    /// statement.
    ///
    /// # Errors
    /// [`AuthorityError::NotFound`] for a stranger, [`AuthorityError::Withdrawn`] for a key that was
    /// withdrawn, [`AuthorityError::Forked`] if the member has another successor; or as
    /// [`Authority::certify`].
    pub fn renew(
        &mut self,
        root: &[u8],
        succession: Option<&SuccessionChain>,
        presented: &[Fingerprint],
        now: UnixTime,
    ) -> Result<Option<Grant>, AuthorityError> {
        self.reload()?;
        let holder = Holder::of(root)?;
        let session = self.files.issued().open()?;
        let held = self.memberships(&session, &holder.key, now)?;
        drop(session);
        if let Some(good) = held.iter().rfind(|held| self.still_good(held, now)) {
            return match presented.contains(&Fingerprint::of_certificate(&good.der)) {
                true => Ok(None),
                false => self.grant(good).map(Some),
            };
        }
        if let Some(held) = held.last() {
            let wanted = Wanted::again(held)?;
            return self
                .admit(root, &holder, &wanted, Some(held), now)
                .map(Some);
        }
        match succession {
            Some(chain) => self.follow(root, &holder, chain, now).map(Some),
            None => Err(AuthorityError::NotFound(format!(
                "a membership of {}",
                holder.key.short()
            ))),
        }
    }

    /// Gives the membership of a member to the key that follows it.
    fn follow(
        &mut self,
        root: &[u8],
        holder: &Holder,
        chain: &SuccessionChain,
        now: UnixTime,
    ) -> Result<Grant, AuthorityError> {
        let claimed = NodeId::from_bytes(*holder.key.as_bytes());
        if chain.current() != claimed {
            return Err(AuthorityError::NoSuccessor(claimed));
        }
        let Some((held, steps)) = self.steps(chain, now)? else {
            return Err(AuthorityError::NoSuccessor(claimed));
        };
        self.check_steps(steps, now)?;
        check_successor(&held, &steps[0])?;
        self.schedule(steps, now)?;
        let wanted = Wanted::again(&held)?;
        self.admit(root, holder, &wanted, Some(&held), now)
    }

    /// The membership of the latest key in a history that has one, and the statements that lead from
    /// that key to the present one.
    fn steps<'c>(
        &self,
        chain: &'c SuccessionChain,
        now: UnixTime,
    ) -> Result<Option<(IssuedCertificate, &'c [Succession])>, AuthorityError> {
        let session = self.files.issued().open()?;
        let here = |network: NodeId| network == self.state.network;
        for (place, statement) in chain.statements().iter().enumerate().rev() {
            if !statement.network().is_none_or(here) {
                break;
            }
            let old = statement.old().key_hash();
            if let Some(held) = self.memberships(&session, &old, now)?.pop() {
                return Ok(Some((held, &chain.statements()[place..])));
            }
        }
        Ok(None)
    }

    /// What a pin checks before it follows, too: the dates, that no older statement is played again,
    /// and that no key on the way was revoked in this home, or withdrawn from whoever was removed.
    fn check_steps(&self, steps: &[Succession], now: UnixTime) -> Result<(), AuthorityError> {
        let latest = steps.iter().map(Succession::issued).max();
        if let Some(issued) = latest.filter(|issued| *issued > now + CLOCK_TOLERANCE) {
            return Err(AuthorityError::FromTheFuture { issued });
        }
        let (old, found) = (steps[0].old().key_hash(), steps[0].sequence());
        if let Some(known) = self.state.before(&old).map(|before| before.sequence)
            && found <= known
        {
            return Err(AuthorityError::Replayed { known, found });
        }
        let store = PeerStore::open(self.home(), "authority")?;
        let known = &store.snapshot().known;
        let session = self.files.issued().open()?;
        for key in std::iter::once(old).chain(steps.iter().map(|step| step.new().key_hash())) {
            if let Some(line) = known.revocation_of_key(&key) {
                return Err(AuthorityError::Revoked { key, line });
            }
            if key != old && (self.state.withdrew_key(&key) || self.has_lost(&session, &key)?) {
                return Err(AuthorityError::Withdrawn(key));
            }
        }
        Ok(())
    }

    /// Whether a key had a membership that was withdrawn.
    fn has_lost(&self, session: &IssuedSession, key: &KeyHash) -> Result<bool, AuthorityError> {
        let all = session.by_key(key)?;
        Ok(all.iter().any(|held| {
            held.about.template == MEMBER
                && (matches!(held.state, IssuedState::Withdrawn { .. })
                    || self.state.withdrew(&held.about.issuer, &held.serial))
        }))
    }

    /// Notes when the old keys end, before the new one gets anything.
    fn schedule(&mut self, steps: &[Succession], now: UnixTime) -> Result<(), AuthorityError> {
        self.note(|state| {
            for (place, step) in steps.iter().enumerate() {
                let (key, successor) = (step.old().key_hash(), step.new().key_hash());
                match state.scheduled.iter().find(|s| s.key == key) {
                    Some(known) if known.successor == successor => continue,
                    Some(known) => {
                        return Err(AuthorityError::Forked {
                            old: step.old(),
                            known: known.successor,
                            claimed: step.new(),
                        });
                    }
                    None => {}
                }
                // Later steps were taken while the member was away: nothing was given for them.
                if place == 0 {
                    state.check_overlap(key, now)?;
                }
                state.check_pace(key, now)?;
                let entry = Scheduled {
                    key,
                    successor,
                    sequence: step.sequence(),
                    // A date that the member chose must not make this look long ago.
                    at: step.overlap_end().max(now),
                    done: false,
                };
                state.plan(entry, now)?;
            }
            Ok(())
        })
    }

    /// Issues a membership. One that goes on from another (`basis`) does so only while that one
    /// counts: the lock keeps anybody from being removed meanwhile.
    fn admit(
        &mut self,
        root: &[u8],
        holder: &Holder,
        wanted: &Wanted,
        basis: Option<&IssuedCertificate>,
        now: UnixTime,
    ) -> Result<Grant, AuthorityError> {
        let home = self.home().clone();
        let _lock = home.lock()?;
        self.reload()?;
        if self.state.withdrew_key(&holder.key) {
            return Err(AuthorityError::Withdrawn(holder.key));
        }
        let issuer = self.issuer()?;
        let session = self.files.issued().open()?;
        if let Some(basis) = basis {
            let held = session.by_serial(&basis.serial)?;
            if !held.is_some_and(|held| self.counts(&held, now)) {
                return Err(AuthorityError::Withdrawn(basis.about.key));
            }
        }
        self.check_label_free(&session, &wanted.label, &holder.key, now)?;
        let attested = wanted.attested.to_der()?;
        let held = self.memberships(&session, &holder.key, now)?;
        let same = |held: &&IssuedCertificate| {
            held.about.attested == attested
                && held.about.label == wanted.label
                && self.still_good(held, now)
        };
        if let Some(held) = held.iter().rfind(same) {
            return self.grant(held);
        }
        let about = Reservation {
            template: MEMBER.to_owned(),
            key: holder.key,
            issuer: issuer.certificate.key(),
            label: wanted.label.clone(),
            not_before: not_before(&issuer, now),
            not_after: end(wanted.lifetime, MEMBER_LIFETIME, &issuer, now)?,
            attested,
            next: holder.next,
        };
        let made = sign_reserved(&session, about, |serial, about| {
            let request = CrossRequest {
                root,
                serial,
                not_before: about.not_before,
                not_after: about.not_after,
                metadata: &wanted.attested,
            };
            mint_cross(issuer.certificate.der(), &*issuer.signer, &request)
        })?;
        self.grant(&made)
    }

    /// The memberships of a key that count, the newest at the end, see [`age`].
    pub(crate) fn memberships(
        &self,
        session: &IssuedSession,
        key: &KeyHash,
        now: UnixTime,
    ) -> Result<Vec<IssuedCertificate>, AuthorityError> {
        let mut found = session.by_key(key)?;
        found.retain(|c| c.about.template == MEMBER && self.is_signed(c) && self.counts(c, now));
        found.sort_by_key(age);
        Ok(found)
    }

    /// Whether a certificate counts: neither the ledger nor the state has withdrawn it.
    pub(crate) fn counts(&self, certificate: &IssuedCertificate, now: UnixTime) -> bool {
        certificate.counts(now)
            && !self.state.withdrew_key(&certificate.about.key)
            && !self
                .state
                .withdrew(&certificate.about.issuer, &certificate.serial)
    }

    fn is_signed(&self, certificate: &IssuedCertificate) -> bool {
        !certificate.der.is_empty()
    }

    /// Whether a membership need not be renewed yet.
    fn still_good(&self, held: &IssuedCertificate, now: UnixTime) -> bool {
        let issuer = self.charter().key(&held.about.issuer);
        let life = held.about.not_before.until(held.about.not_after).as_secs();
        let renewed = Duration::from_secs(life / RENEWED_AT.1 * RENEWED_AT.0);
        issuer.is_some_and(|key| key.state == KeyState::Active)
            // A clock that was ahead for a moment leaves memberships that nobody can use yet.
            && held.about.not_before <= now
            && now < held.about.not_before + renewed
    }

    fn check_label_free(
        &self,
        session: &IssuedSession,
        label: &str,
        key: &KeyHash,
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        let its_own = self.state.linked(*key);
        let taken = session.by_label(label)?.into_iter().find(|c| {
            c.about.template == MEMBER
                && !its_own.contains(&c.about.key)
                && self.is_signed(c)
                && self.counts(c, now)
        });
        match taken {
            None => Ok(()),
            Some(other) => Err(AuthorityError::LabelTaken {
                label: label.to_owned(),
                key: other.about.key,
            }),
        }
    }

    fn grant(&self, held: &IssuedCertificate) -> Result<Grant, AuthorityError> {
        let issuer = self.charter().key(&held.about.issuer);
        let issuer = issuer.ok_or(AuthorityError::UnknownKey(held.about.issuer))?;
        let bundle = self.state.bundle.as_ref();
        Ok(Grant {
            membership: vec![held.der.clone(), issuer.details().der().to_vec()],
            bundle: bundle.map(|b| b.bytes().to_vec()).unwrap_or_default(),
            serial: held.serial,
            not_after: held.about.not_after,
        })
    }
}

/// What tells the newer of two memberships: it ends later, or began later where both end with their
/// issuer; and within a second, what was added to it.
pub(crate) fn age(membership: &IssuedCertificate) -> (UnixTime, UnixTime, usize) {
    let about = &membership.about;
    (about.not_after, about.not_before, about.attested.len())
}

/// Whose root it is.
struct Holder {
    key: KeyHash,
    next: Option<KeyHash>,
}

impl Holder {
    fn of(root: &[u8]) -> Result<Self, AuthorityError> {
        let anchor = Anchor::from_der(root).map_err(|error| AuthorityError::NotARoot {
            cause: error.to_string(),
        })?;
        // A foreign root commits to nothing.
        let next = read_root(root).ok().and_then(|(_, next)| next);
        let key = anchor.key();
        Ok(Self { key, next })
    }
}

/// What a membership says.
struct Wanted {
    label: String,
    attested: Metadata,
    lifetime: Option<Duration>,
}

impl Wanted {
    /// The same as before.
    fn again(held: &IssuedCertificate) -> Result<Self, AuthorityError> {
        Ok(Self {
            label: held.about.label.clone(),
            attested: Metadata::from_der(&held.about.attested)?,
            lifetime: None,
        })
    }
}

/// Whoever stole a key cannot name a successor that its owner did not commit to.
fn check_successor(held: &IssuedCertificate, statement: &Succession) -> Result<(), AuthorityError> {
    let claimed = statement.new();
    match held.about.next {
        Some(known) if known != claimed.key_hash() => Err(AuthorityError::Forked {
            old: statement.old(),
            known,
            claimed,
        }),
        _ => Ok(()),
    }
}

/// Reserves a serial number, signs, and records, in this order.
pub(crate) fn sign_reserved(
    session: &IssuedSession,
    about: Reservation,
    sign: impl FnOnce(Serial, &Reservation) -> Result<Vec<u8>, comity_certs::MintError>,
) -> Result<IssuedCertificate, AuthorityError> {
    let serial = session.reserve(&about)?;
    let der = sign(serial, &about)?;
    session.record(&serial, &der)?;
    Ok(IssuedCertificate {
        serial,
        about,
        state: comity_store::IssuedState::Issued,
        der,
    })
}

/// A little before now, and not before the issuer.
pub(crate) fn not_before(issuer: &Issuer, now: UnixTime) -> UnixTime {
    (now - BACKDATED).max(issuer.certificate.not_before())
}

/// The end of what is made now: what was asked, or the default as far as the issuer goes.
pub(crate) fn end(
    asked: Option<Duration>,
    default: Duration,
    issuer: &Issuer,
    now: UnixTime,
) -> Result<UnixTime, AuthorityError> {
    let end = issuer.certificate.not_after();
    match asked {
        None => Ok((now + default).min(end)),
        Some(lifetime) if now + lifetime > end => Err(AuthorityError::PastIssuer {
            asked: now + lifetime,
            end,
        }),
        Some(lifetime) => Ok(now + lifetime),
    }
}
