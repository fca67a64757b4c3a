//! The public halves of the invitations that were given out.
//!
//! An invitation carries the seed of a one-time Ed25519 key; this file keeps only the public key, so
//! whoever reads it cannot join. It also keeps what the inviter decided: label, services, roles and
//! networks.
//!
//! An invitation is good for one key: [`Invitations::consume`] binds it to the first node that uses
//! it, durably, before that node is told; if the answer is lost, the same node may try again until
//! the invitation expires. Every other node is refused. [`Invitations::settle`] closes the way back
//! for a node that was entered and then removed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use comity_identity::{NodeId, PeerId, UnixTime};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::audit::{AuditLog, Deed};
use crate::error::StoreError;
use crate::home::{Home, HomeFile};
use crate::ledger::Ledger;

/// Invitations in the file, with those that are used or expired. A person gives out a few; a
/// provisioning script that needs more at once has forgotten to let them expire.
pub const MAX_INVITATIONS: usize = 1024;

/// How long an expired invitation is still listed, so that "why was this refused" has an answer.
pub const KEPT_AFTER_EXPIRY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Services, roles and networks of one invitation, each.
pub const MAX_GRANTS: usize = 32;

/// Bytes of a label or of the name of a service, role or network.
pub const MAX_NAME: usize = 64;

/// The invitations of a home.
#[derive(Debug)]
pub struct Invitations {
    ledger: Ledger<Invitation>,
    audit: AuditLog,
}

/// Names an invitation. It is no secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct InvitationId(pub [u8; 16]);

/// The public key of an invitation's one-time Ed25519 key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvitationKey(pub [u8; 32]);

/// What the inviter keeps of an invitation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invitation {
    /// Names it.
    #[serde(with = "crate::as_text")]
    pub id: InvitationId,
    /// Verifies the joiner's proof.
    #[serde(with = "crate::as_text")]
    pub key: InvitationKey,
    /// What the inviter will call the joiner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The services that the joiner may use.
    #[serde(default)]
    pub services: Vec<String>,
    /// The roles that the joiner gets.
    #[serde(default)]
    pub roles: Vec<String>,
    /// The networks that the joiner is counted to.
    #[serde(default)]
    pub networks: Vec<String>,
    /// The network that the joiner becomes a member of, with the roles above: they then come by its
    /// membership, and not by its entry.
    #[serde(
        default,
        with = "crate::as_text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub network_id: Option<NodeId>,
    /// When it was made.
    #[serde(with = "crate::as_text")]
    pub created: UnixTime,
    /// From when on it is refused.
    #[serde(with = "crate::as_text")]
    pub expires: UnixTime,
    /// Who has used it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumed: Option<Consumption>,
}

/// Who has used an invitation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consumption {
    /// The node that it is bound to now.
    #[serde(with = "crate::as_text")]
    pub by: NodeId,
    /// When it was used first.
    #[serde(with = "crate::as_text")]
    pub at: UnixTime,
    /// That node was entered as a known peer since. What is taken from it afterwards, it does not
    /// get back by using the invitation once more.
    #[serde(default)]
    pub entered: bool,
}

/// The outcome of [`Invitations::consume`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Consumed {
    /// It was unused, and is now bound to this node.
    First(Invitation),
    /// The same node has used it before.
    Retry(Invitation),
    /// Reason `invite-invalid`.
    Refused(InviteRefusal),
}

/// Why an invitation is not good.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum InviteRefusal {
    /// It was never given out, or withdrawn, or has been expired for long.
    #[error("there is no such invitation")]
    Unknown,
    /// It came too late.
    #[error("the invitation expired at {at}")]
    Expired {
        /// When it expired.
        at: UnixTime,
    },
    /// Another node was faster.
    #[error("the invitation was used by {by} at {at}")]
    Used {
        /// Who has used it.
        by: NodeId,
        /// When.
        at: UnixTime,
    },
}

/// Why an invitation was not entered.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InviteError {
    /// It could not be made durable, or there are [`MAX_INVITATIONS`].
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is one with this id already.
    #[error("there is an invitation {0} already")]
    Duplicate(InvitationId),
    /// More services, roles or networks than [`MAX_GRANTS`].
    #[error("{found} {what} in one invitation, at most {MAX_GRANTS} are possible")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
    },
    /// A name that is empty, longer than [`MAX_NAME`], or not made of visible ASCII.
    #[error("{name:?} cannot be a name: 1 to {MAX_NAME} visible ASCII characters are possible")]
    Name {
        /// The name.
        name: String,
    },
}

impl Invitations {
    /// The invitations of `home`; changes are logged on behalf of `command`.
    pub fn new(home: &Home, command: &str) -> Self {
        Self {
            ledger: Ledger::new(home, HomeFile::Invitations),
            audit: AuditLog::new(home, command),
        }
    }

    /// Enters an unused invitation, durably: before it is shown to anybody. Those that expired
    /// more than [`KEPT_AFTER_EXPIRY`] ago are removed.
    ///
    /// # Errors
    /// When it exceeds a limit or repeats an id, when the file is full, or when it cannot be written.
    pub fn create(&self, invitation: Invitation, now: UnixTime) -> Result<(), InviteError> {
        invitation.check()?;
        let created = self.ledger.update(|lock, all| {
            all.retain(|i| now < i.expires + KEPT_AFTER_EXPIRY);
            if all.iter().any(|i| i.id == invitation.id) {
                return Ok(Err(InviteError::Duplicate(invitation.id)));
            }
            if all.len() >= MAX_INVITATIONS {
                return Err(StoreError::Full {
                    path: self.ledger.home().path(HomeFile::Invitations),
                    limit: MAX_INVITATIONS,
                });
            }
            self.audit.append(lock, &invitation.deed("invite", None))?;
            all.push(invitation);
            Ok(Ok(()))
        });
        created?
    }

    /// All invitations, oldest first, with used and expired ones.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn list(&self) -> Result<Vec<Invitation>, StoreError> {
        Ok(self.ledger.entries()?.to_vec())
    }

    /// One invitation, for verifying a proof against its key. Whether it is still good says
    /// [`Invitations::consume`].
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn find(&self, id: &InvitationId) -> Result<Option<Invitation>, StoreError> {
        Ok(self.ledger.entries()?.iter().find(|i| i.id == *id).cloned())
    }

    /// Removes an invitation, durably, and returns it. A peer that has used it stays known.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn withdraw(&self, id: &InvitationId) -> Result<Option<Invitation>, StoreError> {
        self.ledger.update(|lock, all| {
            let Some(index) = all.iter().position(|i| i.id == *id) else {
                return Ok(None);
            };
            let deed = all[index].deed("withdraw-invitation", None);
            self.audit.append(lock, &deed)?;
            Ok(Some(all.remove(index)))
        })
    }

    /// Uses an invitation on behalf of `node`, which has proved that it holds the invitation's
    /// key and its own. When this returns [`Consumed::First`], no other node can use it any more,
    /// whatever happens to the power.
    ///
    /// # Errors
    /// When that could not be made durable: then the joiner is refused, and may try again.
    pub fn consume(
        &self,
        id: &InvitationId,
        node: &NodeId,
        now: UnixTime,
    ) -> Result<Consumed, StoreError> {
        self.ledger.update(|lock, all| {
            let Some(invitation) = all.iter_mut().find(|i| i.id == *id) else {
                return Ok(Consumed::Refused(InviteRefusal::Unknown));
            };
            if now >= invitation.expires {
                let at = invitation.expires;
                return Ok(Consumed::Refused(InviteRefusal::Expired { at }));
            }
            match invitation.consumed {
                Some(Consumption { by, .. }) if by == *node => {
                    return Ok(Consumed::Retry(invitation.clone()));
                }
                Some(Consumption { by, at, .. }) => {
                    return Ok(Consumed::Refused(InviteRefusal::Used { by, at }));
                }
                None => {}
            }
            let deed = invitation.deed("use-invitation", Some(PeerId::Node(*node)));
            self.audit.append(lock, &deed)?;
            invitation.consumed = Some(Consumption {
                by: *node,
                at: now,
                entered: false,
            });
            Ok(Consumed::First(invitation.clone()))
        })
    }

    /// Remembers, durably, that `node` was entered as a known peer on the strength of the invitation
    /// that it used. Another node's use, and an invitation that was withdrawn, stay as they are.
    ///
    /// # Errors
    /// When the file cannot be read or written. The node is known all the same.
    pub fn settle(&self, id: &InvitationId, node: &NodeId) -> Result<(), StoreError> {
        self.ledger.update(|_, all| {
            let invitation = all.iter_mut().find(|i| i.id == *id);
            let consumed = invitation.and_then(|i| i.consumed.as_mut());
            if let Some(consumed) = consumed.filter(|c| c.by == *node) {
                consumed.entered = true;
            }
            Ok(())
        })
    }
}

impl Invitation {
    fn check(&self) -> Result<(), InviteError> {
        for (what, list) in [
            ("services", &self.services),
            ("roles", &self.roles),
            ("networks", &self.networks),
        ] {
            if list.len() > MAX_GRANTS {
                let found = list.len();
                return Err(InviteError::TooMany { what, found });
            }
        }
        let lists = [&self.services, &self.roles, &self.networks];
        for name in self.label.iter().chain(lists.into_iter().flatten()) {
            let visible = name.bytes().all(|b| b.is_ascii_graphic());
            if name.is_empty() || name.len() > MAX_NAME || !visible {
                return Err(InviteError::Name { name: name.clone() });
            }
        }
        Ok(())
    }

    fn deed(&self, action: &str, peer: Option<PeerId>) -> Deed {
        let label = self.label.as_deref().unwrap_or("no label");
        Deed {
            action: action.into(),
            peer,
            detail: format!("invitation {} ({label}), expires {}", self.id, self.expires),
        }
    }
}

macro_rules! hex_text {
    ($name:ident, $what:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl FromStr for $name {
            type Err = ParseHexError;

            fn from_str(text: &str) -> Result<Self, ParseHexError> {
                HEXLOWER
                    .decode(text.as_bytes())
                    .ok()
                    .and_then(|bytes| bytes.try_into().ok())
                    .map(Self)
                    .ok_or(ParseHexError { what: $what })
            }
        }
    };
}

hex_text!(
    InvitationId,
    "an invitation id of 32 lower-case hexadecimal digits"
);
hex_text!(
    InvitationKey,
    "an invitation key of 64 lower-case hexadecimal digits"
);

/// A text that is not an invitation's id or key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("expected {what}")]
pub struct ParseHexError {
    what: &'static str,
}
