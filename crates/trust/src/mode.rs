//! Modes, directions and phases: what a decision is asked to allow.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::nearest::nearest;

/// Who opened the connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// We did.
    Dial,
    /// The peer did.
    Accept,
}

impl Direction {
    /// `dial` or `accept`.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Dial => "dial",
            Self::Accept => "accept",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

/// When a decision is made. The crate documentation says what differs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    /// In the verifier callback, before the peer has proved that it owns its key: nothing is
    /// recorded or granted, only what is certain to be refused is refused.
    Certificate,
    /// After the handshake, on live state: the decision that counts.
    Gate,
    /// Later, on a connection that passed the gate, after a change of the store or of time.
    Established,
}

/// What is recognised beyond what never is. The table in the crate documentation works out each
/// mode in both directions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// A CA path and nothing else.
    Ca,
    /// A pin and nothing else.
    Pin,
    /// A pin, or the first key ever seen under an unknown name, which becomes its pin.
    Tofu,
    /// Accepts everything, remembers the first key, and warns of what `tofu` would have refused.
    Record,
    /// Accepts everything, remembers nothing.
    Insecure,
    /// A pin; for names without one, a CA path.
    CaOrPin,
    /// A pin; for names without one, a CA path; else first use. The default when dialling.
    CaOrTofu,
    /// A pin; else a CA path; else as `record`.
    CaOrRecord,
    /// A pin and a CA path, both.
    CaAndPin,
    /// A CA path at first contact, the key of that contact ever after.
    CaThenPin,
    /// A pin or a listed CA; strangers wait for approval. Accepting only, and the default there.
    Enroll,
    /// A pin or a listed CA; strangers need an invitation. Accepting only.
    Invite,
}

/// A text that is no mode.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no such trust mode{}", .nearest.map(|n| format!(", did you mean {n:?}?")).unwrap_or_default())]
pub struct ParseModeError {
    /// The mode it resembles.
    pub nearest: Option<&'static str>,
}

/// The names that Tuweni and its users gave to these modes, and what they mean here. Tuweni's
/// `whitelist` also admits anything signed by a public CA, and is read as it is documented: an
/// allow list.
const ALIASES: [(&str, Mode); 8] = [
    ("whitelist", Mode::Pin),
    ("allowlist", Mode::Pin),
    ("tofa", Mode::Tofu),
    ("insecure-no-validation", Mode::Insecure),
    ("ca-or-whitelist", Mode::CaOrPin),
    ("ca-or-allowlist", Mode::CaOrPin),
    ("ca-or-tofa", Mode::CaOrTofu),
    ("none", Mode::Insecure),
];

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 12] = [
        Self::Ca,
        Self::Pin,
        Self::Tofu,
        Self::Record,
        Self::Insecure,
        Self::CaOrPin,
        Self::CaOrTofu,
        Self::CaOrRecord,
        Self::CaAndPin,
        Self::CaThenPin,
        Self::Enroll,
        Self::Invite,
    ];

    /// The name of the mode on the command line and in configuration.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Ca => "ca",
            Self::Pin => "pin",
            Self::Tofu => "tofu",
            Self::Record => "record",
            Self::Insecure => "insecure",
            Self::CaOrPin => "ca-or-pin",
            Self::CaOrTofu => "ca-or-tofu",
            Self::CaOrRecord => "ca-or-record",
            Self::CaAndPin => "ca-and-pin",
            Self::CaThenPin => "ca-then-pin",
            Self::Enroll => "enroll",
            Self::Invite => "invite",
        }
    }

    /// Whether the mode means anything in this direction. [`crate::decide`] refuses everybody when
    /// it does not.
    pub const fn valid_for(self, direction: Direction) -> bool {
        match direction {
            Direction::Accept => true,
            Direction::Dial => !matches!(self, Self::Enroll | Self::Invite),
        }
    }

    /// Whether configuration must say a second word before this mode is used, because it lets in
    /// keys that contradict what we know.
    pub const fn needs_second_word(self) -> bool {
        matches!(self, Self::Record | Self::Insecure | Self::CaOrRecord)
    }

    /// Whether a matching pin is enough.
    pub(crate) const fn pin_suffices(self) -> bool {
        !matches!(self, Self::Ca | Self::CaAndPin)
    }

    /// Whether a CA path can recognise somebody whose key is not pinned.
    pub(crate) const fn ca_suffices(self) -> bool {
        matches!(
            self,
            Self::Ca
                | Self::CaOrPin
                | Self::CaOrTofu
                | Self::CaOrRecord
                | Self::CaThenPin
                | Self::Enroll
                | Self::Invite
        )
    }

    /// Whether a cross-certificate recognises somebody whose key is not pinned. Modes that name
    /// certificate authorities mean those of the name, and `pin` means pins.
    pub(crate) const fn cross_suffices(self) -> bool {
        matches!(
            self,
            Self::Enroll
                | Self::Invite
                | Self::Tofu
                | Self::Record
                | Self::CaOrTofu
                | Self::CaOrPin
                | Self::CaOrRecord
        )
    }

    /// Whether an unknown key is accepted and remembered.
    pub(crate) const fn first_use(self) -> bool {
        matches!(
            self,
            Self::Tofu | Self::CaOrTofu | Self::Record | Self::CaOrRecord
        )
    }

    /// Whether contradictions become warnings.
    pub(crate) const fn records_only(self) -> bool {
        matches!(self, Self::Record | Self::CaOrRecord)
    }

    /// Whether a proven invitation recognises somebody.
    pub(crate) const fn honours_invitations(self) -> bool {
        matches!(self, Self::Enroll | Self::Invite)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

impl FromStr for Mode {
    type Err = ParseModeError;

    /// Case does not matter, and `_` is read as `-`: Tuweni documents lower case but parses upper.
    fn from_str(text: &str) -> Result<Self, ParseModeError> {
        let text = text.to_ascii_lowercase().replace('_', "-");
        let own = Self::ALL.iter().map(|mode| (mode.token(), *mode));
        own.chain(ALIASES)
            .find(|(token, _)| *token == text)
            .map(|(_, mode)| mode)
            .ok_or_else(|| ParseModeError {
                nearest: nearest(&text, &Self::ALL.map(Self::token)),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_back_from_their_tokens() {
        for mode in Mode::ALL {
            assert_eq!(mode.to_string().parse(), Ok(mode));
            assert_eq!(mode.token().to_uppercase().parse(), Ok(mode));
        }
    }

    #[test]
    fn tuweni_names_are_aliases() {
        for (text, mode) in [
            ("CA_OR_TOFU", Mode::CaOrTofu),
            ("WHITELIST", Mode::Pin),
            ("insecure-no-validation", Mode::Insecure),
        ] {
            assert_eq!(text.parse(), Ok(mode));
        }
    }

    #[test]
    fn a_misspelt_mode_gets_a_suggestion() {
        assert_eq!(
            "ca-or-tufu".parse::<Mode>(),
            Err(ParseModeError {
                nearest: Some("ca-or-tofu")
            })
        );
    }

    #[test]
    fn enroll_and_invite_are_for_accepting() {
        for mode in Mode::ALL {
            assert!(mode.valid_for(Direction::Accept));
            let accept_only = matches!(mode, Mode::Enroll | Mode::Invite);
            assert_eq!(mode.valid_for(Direction::Dial), !accept_only);
        }
    }
}
