//! Refusals and failures in words: whom, why, on what evidence, and what can be done.

mod membership;
mod succession;

use comity_certs::PresentedChain;
use comity_identity::PeerId;
use comity_tls::DialError;
use comity_trust::{Evidence, KnownPin, Pin, Reason, Refusal, Warning};

use crate::shell::{Failure, chain};

pub(crate) use membership::{evidence_text, serial_text};
pub(crate) use succession::{fork_failure, statement_line, succession_fault};

/// The text under every refusal of ours, because it is the first question people ask.
const NO_DATA: &str = "no data was sent";

/// Whom a message speaks of, and how the user named them.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// What the user typed, without the service.
    pub(crate) typed: String,
    /// Where it was dialled, if somewhere.
    pub(crate) address: Option<String>,
}

impl Subject {
    fn display(&self) -> String {
        match &self.address {
            Some(address) if *address != self.typed => format!("{} ({address})", self.typed),
            _ => self.typed.clone(),
        }
    }
}

/// A dial that came to nothing.
pub(crate) fn dial_failure(subject: &Subject, error: &DialError) -> Failure {
    let whom = subject.display();
    match error {
        DialError::Refused { refusal, chain } => refusal_failure(subject, refusal, chain),
        DialError::RefusedByPeer(reason) => refused_by_peer(&whom, *reason),
        DialError::BadChain(cause) => Failure::no(format!(
            "refused {whom}: its certificate is unusable: {cause}"
        ))
        .detail(NO_DATA)
        .because(Reason::Malformed),
        DialError::Alert(alert) => alert_failure(&whom, &format!("{alert:?}")),
        DialError::NotComity => Failure::unable(format!("{whom} is not a Comity node"))
            .hint("programs that are not Comity have no named services; leave out the /SERVICE"),
        DialError::Closed => {
            Failure::unable(format!("{whom} closed the connection without an answer"))
                .hint("it may be busy, or have refused our certificate without saying so")
        }
        DialError::Unreachable { .. } => Failure::unable(chain(error))
            .hint("is `comity serve` running there, and the port open?"),
        DialError::Store(_) => Failure::unable(format!("refused {whom}: {}", chain(error)))
            .detail(NO_DATA)
            .because(Reason::StoreError),
        _ => Failure::unable(format!("{whom}: {}", chain(error))),
    }
}

fn alert_failure(whom: &str, alert: &str) -> Failure {
    let failure = Failure::no(format!("{whom} ended the TLS handshake (alert {alert})"));
    match alert {
        "NoApplicationProtocol" => {
            failure.hint("it does not know `comity/1`; try `--alpn none`, or the protocol it speaks")
        }
        "ProtocolVersion" | "HandshakeFailure" => {
            failure.hint("it may have no TLS 1.3; `--tls12` allows TLS 1.2")
        }
        _ => failure.hint("it probably does not accept our certificate; its operator can add our id, see `comity id`"),
    }
}

fn refused_by_peer(whom: &str, reason: Option<Reason>) -> Failure {
    let Some(reason) = reason else {
        return Failure::no(format!(
            "{whom} refused us, for a reason this version does not know"
        ));
    };
    let failure = |text: &str| {
        Failure::no(format!("{whom} refused us: {text} ({})", reason.token())).because(reason)
    };
    match reason {
        Reason::Pending => failure("we are not known there yet, and now wait for approval")
            .hint("give its operator our id; there: `comity trust approve ID --for SERVICE`"),
        Reason::Unknown => failure("we are not known there")
            .hint("ask its operator for an invitation, or give them our id"),
        Reason::NotAuthorised => failure("no such service, or not for us").hint(
            "check the service's name, or ask the operator to grant it with `--for` or `--allow`",
        ),
        Reason::InviteInvalid => {
            failure("the invitation is used, expired, withdrawn or wrong").hint("ask for a new one")
        }
        Reason::Busy => {
            failure("it is busy, or the service behind it is down").hint("try again later")
        }
        Reason::SelfPeer => failure("that is ourselves"),
        Reason::Superseded => failure(
            "our key was replaced by its successor, and the overlap is over",
        )
        .hint("this process runs with the old key: start it again after `comity identity roll`"),
        Reason::Expired | Reason::NotYetValid => {
            failure("our certificate's time does not fit its clock").hint("compare both clocks")
        }
        _ => failure("see the token"),
    }
}

/// A peer that we refused.
pub(crate) fn refusal_failure(
    subject: &Subject,
    refusal: &Refusal,
    chain: &PresentedChain,
) -> Failure {
    let whom = subject.display();
    let presented = refusal.presented;
    let failure = |text: &str| Failure::no(format!("refused {whom}: {text}"));
    let failure = match &refusal.evidence {
        Evidence::Changed { known, expected: Some(expected), .. } if known.is_empty() => {
            another_than(failure, *expected, presented)
        }
        Evidence::Unknown { expected: Some(expected), .. } => {
            another_than(failure, *expected, presented)
        }
        Evidence::Changed { known, succession, .. } => {
            let mut failure = changed(&whom, known, presented);
            for line in succession::offered(chain, succession.as_ref()) {
                failure = failure.detail(line);
            }
            failure.hint(succession::if_confirmed(subject, presented, succession.as_ref()))
        }
        Evidence::Superseded { line, successor, not_after } => {
            succession::superseded(&whom, presented, *line, *successor, *not_after)
        }
        Evidence::Forked { lines, since } => {
            let since = since.map_or_else(String::new, |since| format!(", since {since}"));
            let text = format!("refused {whom}: two keys claim to follow one that is known{since}");
            fork_failure(&text, Some(&subject.typed), lines).detail(format!("presented  {presented}"))
        }
        Evidence::Succession(fault) => {
            failure("a statement that its key follows a known one does not count")
                .detail(format!("presented  {presented}"))
                .detail(succession_fault(fault))
        }
        Evidence::Revoked { line } => failure("a key it presents is revoked")
            .detail(format!("presented  {presented}"))
            .detail(format!("revoked    known_peers:{line}"))
            .hint("a revocation is permanent; only removing the line by hand undoes it"),
        Evidence::Withdrawn { .. }
        | Evidence::Authority { .. }
        | Evidence::OtherMember { .. }
        | Evidence::Cross(_)
        | Evidence::Network { .. } => membership::failure(&whom, refusal),
        Evidence::Unknown { ca, .. } => {
            let failure = failure("its key is not known here").detail(key_lines(presented));
            // Nodes are their own authorities: that no CA vouches for one is no news.
            let failure = match (ca, presented) {
                (Some(ca), PeerId::Key(_)) => failure.detail(format!("no CA vouches for it: {ca}")),
                _ => failure,
            };
            failure
                .hint(format!("compare the id with its operator, then run `comity trust add {} {presented}`", subject.typed))
                .hint("or accept the first key without comparing: `--trust tofu`")
        }
        Evidence::Expired { not_after } => failure(&format!("its certificate expired at {not_after}"))
            .hint("its operator has to renew it; compare both clocks"),
        Evidence::NotYetValid { not_before } => {
            failure(&format!("its certificate is not valid before {not_before}"))
                .hint("compare both clocks")
        }
        Evidence::EntryExpired { line, not_after } => {
            failure(&format!("the entry in known_peers:{line} ended at {not_after}"))
        }
        Evidence::Downgrade { line, .. } => {
            failure("a CA used to vouch for this name, and now an unknown key answers")
                .detail(format!("presented  {presented}"))
                .detail(format!("remembered known_peers:{line}"))
                .hint("if its operator confirms that it no longer has a CA's certificate, pin the key: `comity trust add`")
        }
        Evidence::NameMismatch { expected } => {
            let names: Vec<String> = chain.leaf().names.iter().map(ToString::to_string).collect();
            failure("its certificate is for another name")
                .detail(format!("dialled    {}", expected.as_deref().unwrap_or("(no name)")))
                .detail(format!("names      {}", names.join(", ")))
        }
        Evidence::Ca(error) => failure(&format!("no CA vouches for it: {error}"))
            .detail(format!("presented  {presented}")),
        Evidence::Scope { line } => failure("its CA is not listed for this name, network or role")
            .detail(format!("listed     known_peers:{line}")),
        Evidence::Purpose => failure("its certificate is for the other direction"),
        Evidence::Mode { mode, direction } => Failure::unable(format!(
            "mode `{mode}` does not exist when we {direction}"
        )),
        _ => failure(refusal.reason.token()),
    };
    failure.detail(NO_DATA).because(refusal.reason)
}

/// Who answers an invitation has another key than the one that made it; nothing if it is refused for
/// another reason. To replace or follow anything would not help: the invitation names a key.
pub(crate) fn not_the_inviter(inviter: PeerId, refusal: &Refusal) -> Option<Failure> {
    let other = matches!(
        refusal.evidence,
        Evidence::Changed { .. }
            | Evidence::Unknown {
                expected: Some(_),
                ..
            }
            | Evidence::Superseded { .. }
    );
    other.then(|| {
        Failure::no("refused the inviter: its key is not the one that made the invitation")
            .detail(format!("invited by {inviter}"))
            .detail(format!("presented  {}", refusal.presented))
            .detail(NO_DATA)
            .hint("the inviter's key changed since then, or somebody else has its address: ask for a new invitation")
            .because(refusal.reason)
    })
}

/// Whoever names an id wants that peer and no other: there is nothing to add or replace.
fn another_than(failure: impl Fn(&str) -> Failure, expected: PeerId, presented: PeerId) -> Failure {
    failure("its key is not the one that was asked for")
        .detail(format!("expected   {expected}"))
        .detail(format!("presented  {presented}"))
        .hint("somebody else has this address now, or sits in between")
}

fn changed(whom: &str, known: &[KnownPin], presented: PeerId) -> Failure {
    let mut failure = Failure::no(format!("refused {whom}: its key is not the one we know"));
    for pin in known {
        failure = failure.detail(known_line(pin));
        failure = failure.detail(format!("           {}", words_of_pin(&pin.pin)));
    }
    failure
        .detail(format!("presented  {presented}"))
        .detail(format!("           {}", presented.key_hash().words()))
}

/// `known  MFZWI3D-…  first seen 2026-03-02T09:14:07Z, never confirmed (known_peers:12)`.
fn known_line(known: &KnownPin) -> String {
    let since = known.added.map_or_else(
        || "no date".to_owned(),
        |added| format!("first seen {added}"),
    );
    let confirmed = match &known.confirmed {
        Some(confirmed) if confirmed.how.is_empty() => format!("confirmed {}", confirmed.at),
        Some(confirmed) => format!("confirmed {} ({})", confirmed.at, confirmed.how),
        None => "never confirmed".to_owned(),
    };
    format!(
        "known      {}  {since}, {confirmed} (known_peers:{})",
        pin_text(&known.pin),
        known.line
    )
}

pub(crate) fn pin_text(pin: &Pin) -> String {
    match pin {
        Pin::Node(id) => id.to_string(),
        Pin::Key(hash) => format!("key:{hash}"),
        Pin::Cert(hash) => format!("cert:{hash}"),
    }
}

fn words_of_pin(pin: &Pin) -> String {
    match pin {
        Pin::Node(id) => id.words().to_string(),
        Pin::Key(hash) => hash.words().to_string(),
        Pin::Cert(hash) => hash.words().to_string(),
    }
}

/// An id on two lines: groups and words.
pub(crate) fn key_lines(peer: PeerId) -> String {
    format!(
        "presented  {peer}\n             {}",
        peer.key_hash().words()
    )
}

/// A warning about an accepted peer.
pub(crate) fn warning_text(whom: &str, warning: &Warning) -> String {
    match warning {
        Warning::Insecure => format!("{whom}: accepted without any check (mode insecure)"),
        Warning::WouldRefuse(refusal) => format!(
            "{whom}: accepted, but tofu would refuse it: {}",
            refusal.reason.token()
        ),
        Warning::Expired { not_after } => {
            format!("{whom}: its pinned certificate expired at {not_after}; the key still fits")
        }
        Warning::NotYetValid { not_before } => format!(
            "{whom}: its pinned certificate is not valid before {not_before}; the key still fits"
        ),
        Warning::KnownElsewhere { line, name } => match name {
            Some(name) => format!("{whom}: the same key is known as {name} (known_peers:{line})"),
            None => format!("{whom}: the same key is known elsewhere (known_peers:{line})"),
        },
        Warning::CaRefused(refusal) => format!(
            "{whom}: first use, although no CA we know vouches for its certificate ({})",
            refusal.reason.token()
        ),
        other => format!("{whom}: {other:?}"),
    }
}
