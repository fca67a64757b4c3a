//! Recognition and grants as one pure function, and the memory it reads.
//!
//! ```
//! use comity_trust::{KnownPeers, Target, resolve};
//!
//! let known = KnownPeers::parse(
//!     "comity-known-peers v1\n\
//!      dial ops-db node AEAQCAI-BAEAQC7-AIBAEAQ-CAIBAEZ-AQCAIBA-EAQCAIT-BAEAQCA-IBAEAQA \
//!      addr=db1.example:7117\n",
//! )?;
//! let target = resolve("ops-db", &known)?;
//! assert!(matches!(target, Target::Known { .. }));
//! assert_eq!(target.addresses()[0].as_str(), "db1.example:7117");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`decide`] takes evidence (what a peer presented), an expectation, a mode, memory
//! ([`KnownPeers`]) and the time, and returns a [`Verdict`]. The verifier callback, the gate, the
//! watch over live connections and `comity trust explain` all ask it. It never learns how the
//! evidence arrived. There is no clock, file, socket or entropy in this crate; `clippy.toml` turns
//! them away.
//!
//! # Precedence
//!
//! The first rule that speaks decides; whoever reaches the end is refused.
//!
//! 1. *Limits and format*: a [`comity_certs::PresentedChain`] exists only within them.
//! 2. *Not ourselves*: neither our identity key nor one of our leaf keys.
//! 3. *Not revoked*: no presented key or certificate, no key on a path to a CA, and nothing that a
//!    revoked CA issued, if its certificate is listed, whatever other CA vouches for it. Nor a foreign
//!    chain whose leaf or cross-certificate was withdrawn by whose key issued it.
//! 4. *Expected id*: if the caller names one, that and no other, in every mode.
//! 5. *Pin*: of the dialled name (when dialling) or of the key itself (when accepting, where a name
//!    is only the peer's word), or of a key from which verified statements lead to this one.
//! 6. *Invitation*, when accepting: a proven one.
//! 7. *Cross-certificate* of an authority that we recognise.
//! 8. *CA* inside its scope: `@ca` lines and, when dialling, the system's roots.
//! 9. *No downgrade*: a name that a CA once vouched for never falls back to an unknown key.
//! 10. *First use*.
//!
//! # Networks
//!
//! An authority recognises a peer by a certificate for its root key, below which everything carries
//! that root's name. So the peer is the certified key, [`comity_identity::PeerId::Node`], whether it
//! is a node or an organisation with leaves of its own; and a pin `node` and an expected id mean that
//! key. This counts in the modes `enroll`, `invite`, `tofu`, `record`, `ca-or-tofu`, `ca-or-pin` and
//! `ca-or-record`, where neither a pin nor an invitation speaks. In the other modes nothing proves
//! whose a foreign chain is, and it remains known by the key in its leaf.
//!
//! - *Dialling a name* that is not pinned meets some member: any of them could answer at that address.
//!   It is recognised, the answer says who it is, and nothing is remembered. A name that is pinned or
//!   that a CA vouched for still refuses everybody else, members included. Whoever wants members of
//!   one network only says so ([`Expectation::network`]).
//! - *An expired bundle, or one that contradicts another*, recognises nobody who comes; who is
//!   connected stays, and pins go on without the network. A withdrawal never expires. Neither a member
//!   that was withdrawn nor one of whose authority we know too little is met for the first time.
//! - *Grants*: whatever recognised the peer, every cross-certificate that counts now grants its network,
//!   by label and by id, with its roles. Nothing else grants a network that has an authority here.
//!
//! # Successions
//!
//! A peer whose key is not pinned, and which says that it had one that is, staples the statements to
//! its leaf. They are read only then; what strangers and pinned peers staple costs nothing, and what
//! cannot be read is refused only when it is about somebody we know, because ignoring it lets nobody
//! in. [`SuccessionPolicy`] and [`follow`] say the rest. What is followed at the gate is written
//! there ([`Edit::Succeed`]), and a contradiction too ([`Edit::Freeze`]); a live connection follows
//! nothing.
//!
//! # Modes
//!
//! Each cell says how the peer is recognised or why it is refused. *known*: its key is pinned for
//! the name. *other*: another key is. *CA*: nothing is pinned and a CA vouches for it inside its
//! scope. *stranger*: nothing speaks for it. *was CA*: as stranger, and the name was recognised by
//! a CA before. Being ourselves or revoked is refused in all of them, and so is an expired leaf of
//! a node.
//!
//! When dialling a name:
//!
//! | mode           | known    | known, CA | other     | other, CA | CA                | stranger    | was CA    |
//! |----------------|----------|-----------|-----------|-----------|-------------------|-------------|-----------|
//! | `ca`           | unknown  | ca †      | changed   | changed   | ca †              | unknown     | downgrade |
//! | `pin`          | pin      | pin       | changed   | changed   | unknown           | unknown     | downgrade |
//! | `tofu`         | pin      | pin       | changed   | changed   | first use ‡       | first use ‡ | downgrade |
//! | `record`       | pin      | pin       | record ⚠  | record ⚠  | record ‡          | record ‡    | record ⚠  |
//! | `insecure`     | insecure | insecure  | insecure  | insecure  | insecure          | insecure    | insecure  |
//! | `ca-or-pin`    | pin      | pin       | changed   | changed   | ca †              | unknown     | downgrade |
//! | `ca-or-tofu`   | pin      | pin       | changed   | changed   | ca †              | first use ‡ | downgrade |
//! | `ca-or-record` | pin      | pin       | record ⚠  | record ⚠  | ca †              | record ‡    | record ⚠  |
//! | `ca-and-pin`   | unknown  | pin       | changed   | changed   | unknown           | unknown     | unknown   |
//! | `ca-then-pin`  | pin      | pin       | changed   | changed   | ca ‡              | unknown     | downgrade |
//!
//! † the gate records that a CA vouched for the name (`@ca-verified`), never a pin. ‡ the gate
//! records a pin. ⚠ accepted with the refusal of `tofu` as a warning; nothing is recorded.
//!
//! When accepting (*other* and *was CA* do not exist, because the key is the identity; *proven*:
//! a stranger with a proven invitation; *listed CA*: a CA whose line says names, networks or roles
//! and all that it says fit the leaf):
//!
//! | mode           | known    | known, listed CA | listed CA   | stranger    | proven      |
//! |----------------|----------|------------------|-------------|-------------|-------------|
//! | `ca`           | unknown  | ca               | ca          | unknown     | unknown     |
//! | `pin`          | pin      | pin              | unknown     | unknown     | unknown     |
//! | `tofu`         | pin      | pin              | first use ‡ | first use ‡ | first use ‡ |
//! | `record`       | pin      | pin              | record ‡    | record ‡    | record ‡    |
//! | `insecure`     | insecure | insecure         | insecure    | insecure    | insecure    |
//! | `ca-or-pin`    | pin      | pin              | ca          | unknown     | unknown     |
//! | `ca-or-tofu`   | pin      | pin              | ca          | first use ‡ | first use ‡ |
//! | `ca-or-record` | pin      | pin              | ca          | record ‡    | record ‡    |
//! | `ca-and-pin`   | unknown  | pin              | unknown     | unknown     | unknown     |
//! | `ca-then-pin`  | pin      | pin              | ca ‡        | unknown     | unknown     |
//! | `enroll`       | pin      | pin              | ca          | pending     | invite ‡    |
//! | `invite`       | pin      | pin              | ca          | unknown     | invite ‡    |
//!
//! A member of a recognised network that is not pinned and proves no invitation is accepted
//! (*cross-certificate*) wherever the tables have *CA*, *listed CA* or *stranger* and the mode is one
//! of those named above; nothing is recorded.
//!
//! A proven invitation comes before a CA: the gate records what the inviter chose. One that is not
//! valid is refused as such, unless something else recognises the peer.
//!
//! Where a CA is asked and fails for a reason of its own (its time, its scope, the name), modes
//! without first use refuse for that reason instead of `unknown`.
//!
//! # Time
//!
//! The leaf of a node is enforced in every mode, with 48 hours of tolerance both ways. CA paths are
//! judged to the second. A single self-signed foreign certificate that is pinned may be outside its
//! dates, with a warning: its owner has nobody to renew it. Any other foreign certificate may not.
//!
//! # Phases
//!
//! - [`Phase::Certificate`], in the verifier callback, before the peer has proved anything. When
//!   dialling, everything that would be refused is refused, before our own certificate leaves;
//!   first use passes provisionally. When accepting, every chain that could be read passes. Nothing
//!   is recorded or granted.
//! - [`Phase::Gate`], after the handshake, under the store's lock: the decision that counts, with
//!   what to record.
//! - [`Phase::Established`], after a change of the store or of time. In the modes that record a
//!   key, the entry must still be there: its removal ends the connection.
//!
//! # Grants
//!
//! Recognition says who it is; [`Grants`] say what it may do: local entries of its key (`for=`,
//! `roles=`, `networks=`), and the metadata in its leaf as far as a listed CA above it is scoped for
//! it. What the peer says of itself is never among them, and system roots attest nothing but a
//! name. [`authorise`] applies a service's rule. First use, `record` and `insecure` grant nothing.

mod authority;
mod decide;
mod edit;
mod entry;
mod escape;
mod expiry;
mod grants;
mod impact;
pub mod invitation;
mod known_peers;
mod line;
mod membership;
mod mode;
mod name;
mod nearest;
mod networks;
mod pattern;
mod reason;
mod succession;
mod target;
mod verdict;

pub use decide::{decide, explain, free_label};
pub use edit::{Edit, EditError, Succeeded};
pub use entry::{
    Attributes, CaState, Confirmed, Entry, Origin, ParseCaStateError, ParseOriginError, Pin, Side,
    What,
};
pub use expiry::{Ending, Expiry, OwnMembership, Severity, WARN_BEFORE, expiries};
pub use grants::{AllowRule, AllowRuleError, Grants, authorise};
pub use impact::{Affected, affected_by_ca_end, affected_by_revocation};
pub use known_peers::{HEADER, KnownPeers, MAX_FILE_BYTES, MAX_LINES, ParseError};
pub use line::{Cause, MAX_ATTRIBUTES, MAX_LINE_BYTES, MAX_VALUE_BYTES, MAX_VALUES};
pub use membership::Membership;
pub use mode::{Direction, Mode, ParseModeError, Phase};
pub use name::{MAX_LABEL_CHARS, Name, NameError};
pub use networks::{Authority, AuthorityDoubt, Networks, Standing};
pub use pattern::{MAX_NAMES, MAX_PATTERN_BYTES, NameItem, Names, NamesError, Pattern};
pub use reason::{ParseReasonError, Reason};
pub use succession::{Followed, MAX_LINEAGE, ROLL_PAUSE, SUPERSEDED_KEPT, SuccessionFault, follow};
pub use target::{DEFAULT_PORT, Target, TargetError, resolve};
pub use verdict::{
    Evidence, Expectation, Explanation, How, Invited, Invitee, KnownPin, Outcome, Query,
    Recognition, Refusal, Rule, Step, StepDetail, SuccessionPolicy, Verdict, Warning,
};
