//! The closed table of reasons for which anything is refused.

use std::fmt;
use std::str::FromStr;

use comity_certs::ChainError;
use thiserror::Error;

/// A reason string that is not in the table.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no such reason")]
pub struct ParseReasonError;

macro_rules! reasons {
    ($($(#[$meta:meta])* $variant:ident = $token:literal, on the wire $wire:literal;)*) => {
        /// Why something was refused. The token is the same in logs, JSON, gRPC, HTTP and metrics.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$meta])* $variant,)*
        }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable token for our own side: logs, JSON, metrics.
            pub const fn token(self) -> &'static str {
                match self {
                    $(Self::$variant => $token,)*
                }
            }

            /// What the refused peer is told. It is coarser than [`Reason::token`] where the exact
            /// reason would tell a stranger what we remember, which services exist or how we are.
            pub const fn wire_token(self) -> &'static str {
                match self {
                    $(Self::$variant => $wire,)*
                }
            }
        }
    };
}

reasons! {
    /// A message or certificate that breaks its format.
    Malformed = "malformed", on the wire "malformed";
    /// Well formed, but larger or more than we look at.
    Limit = "limit", on the wire "limit";
    /// The peer is ourselves, or reflects our own certificate.
    SelfPeer = "self", on the wire "self";
    /// A key in the presented chain or in the verified path is revoked.
    Revoked = "revoked", on the wire "unknown";
    /// Nothing we know or trust names this key.
    Unknown = "unknown", on the wire "unknown";
    /// Unknown, and waiting for the operator's approval.
    Pending = "pending", on the wire "pending";
    /// We know another key for this name.
    Changed = "changed", on the wire "unknown";
    /// A certificate, authority or entry whose time is over.
    Expired = "expired", on the wire "expired";
    /// A certificate whose time has not come.
    NotYetValid = "not-yet-valid", on the wire "not-yet-valid";
    /// A valid certificate for another name than the one dialled.
    NameMismatch = "name-mismatch", on the wire "unknown";
    /// A name that used to have a CA-verified certificate now shows an unknown key.
    Downgrade = "downgrade", on the wire "unknown";
    /// No role that the authority is listed for.
    WrongRole = "wrong-role", on the wire "not-authorised";
    /// No network that the authority is listed for.
    WrongNetwork = "wrong-network", on the wire "not-authorised";
    /// The authority vouches for a name outside of what it is listed for.
    OutOfScope = "out-of-scope", on the wire "unknown";
    /// A constraint inside the path (name constraints, path length, usage) is broken.
    Constraint = "constraint", on the wire "unknown";
    /// The key was replaced by its successor.
    Superseded = "superseded", on the wire "superseded";
    /// Two contradicting statements with one sequence.
    Forked = "forked", on the wire "unknown";
    /// Recognised, but not for what it asks.
    NotAuthorised = "not-authorised", on the wire "not-authorised";
    /// There is no service of that name.
    NoSuchService = "no-such-service", on the wire "not-authorised";
    /// The invitation is unknown, used, expired or not proven.
    InviteInvalid = "invite-invalid", on the wire "invite-invalid";
    /// A budget is used up; trying later may help.
    Busy = "busy", on the wire "busy";
    /// What we remember cannot be read or written, so nothing new is accepted.
    StoreError = "store-error", on the wire "busy";
}

/// What a chain that cannot be read is refused for, before anything is decided.
impl From<&ChainError> for Reason {
    fn from(error: &ChainError) -> Self {
        if error.is_limit() {
            Self::Limit
        } else {
            Self::Malformed
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

impl FromStr for Reason {
    type Err = ParseReasonError;

    fn from_str(text: &str) -> Result<Self, ParseReasonError> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.token() == text)
            .ok_or(ParseReasonError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_back_and_distinct() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.token().parse(), Ok(*reason));
            assert_eq!(reason.to_string(), reason.token());
            assert!(
                Reason::ALL[..index]
                    .iter()
                    .all(|r| r.token() != reason.token())
            );
        }
        assert_eq!("nonsense".parse::<Reason>(), Err(ParseReasonError));
    }

    #[test]
    fn every_wire_token_is_itself_a_reason() {
        for reason in Reason::ALL {
            assert!(
                reason.wire_token().parse::<Reason>().is_ok(),
                "{reason} is sent as something no peer can read"
            );
        }
    }

    #[test]
    fn strangers_do_not_learn_what_we_remember() {
        for reason in [Reason::Revoked, Reason::Changed, Reason::Downgrade] {
            assert_eq!(reason.wire_token(), Reason::Unknown.wire_token());
        }
        assert_eq!(
            Reason::NoSuchService.wire_token(),
            Reason::NotAuthorised.wire_token()
        );
    }
}
