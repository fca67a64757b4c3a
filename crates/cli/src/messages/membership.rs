//! Networks and their authorities, in words: why a membership does not count.

use std::fmt::Write;

use comity_certs::Issued;
use comity_trust::{AuthorityDoubt, Evidence, Refusal};

use super::succession::succession_fault;
use crate::shell::Failure;

/// A peer that is refused for what an authority says, or does not say.
pub(super) fn failure(whom: &str, refusal: &Refusal) -> Failure {
    let presented = refusal.presented;
    let failure = |text: &str| {
        Failure::no(format!("refused {whom}: {text}")).detail(format!("presented  {presented}"))
    };
    match &refusal.evidence {
        Evidence::Withdrawn {
            network,
            label,
            certificate,
        } => failure(&format!("the network {label} withdrew its certificate"))
            .detail(format!("network    {network}"))
            .detail(format!("withdrawn  {}", issued_text(certificate)))
            .hint(format!(
                "a withdrawal is permanent; the authority of {label} can let it in anew, with another certificate"
            )),
        Evidence::Authority {
            network,
            label,
            doubt,
        } => {
            let failure = failure(&format!("what the network {label} says of it does not count now"))
                .detail(format!("network    {network}"))
                .detail(doubt_text(doubt));
            match doubt_hint(label, doubt) {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        }
        Evidence::OtherMember { network, certified } => {
            failure("the membership that it shows is another node's")
                .detail(format!("network    {network}"))
                .detail(format!("certified  {certified}"))
                .hint("after a change of its key, its membership has to be renewed: there `comity network refresh`")
        }
        Evidence::Cross(error) => failure("the membership that it shows does not hold")
            .detail(error.to_string())
            .hint("`comity ca inspect` explains its certificates"),
        Evidence::Network { network } => failure("it is not in the network that was asked for")
            .detail(format!("network    {network}")),
        _ => failure(refusal.reason.token()),
    }
}

/// Why something does not count, on one line: what `explain` shows beside a rule.
pub(crate) fn evidence_text(evidence: &Evidence) -> Option<String> {
    Some(match evidence {
        Evidence::Withdrawn {
            label, certificate, ..
        } => format!("{label} withdrew {}", issued_text(certificate)),
        Evidence::Authority { label, doubt, .. } => format!("{label}: {}", doubt_text(doubt)),
        Evidence::OtherMember { certified, .. } => {
            format!("the certificate is for another key: {certified}")
        }
        Evidence::Cross(error) => error.to_string(),
        Evidence::Ca(error) => error.to_string(),
        Evidence::Network { network } => format!("it is not in the network {network}"),
        Evidence::Succession(fault)
        | Evidence::Changed {
            succession: Some(fault),
            ..
        } => succession_fault(fault),
        Evidence::Superseded {
            successor,
            not_after,
            ..
        } => format!("followed by {successor}; both were accepted until {not_after}"),
        Evidence::Forked { lines, .. } => {
            let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
            format!("frozen: known_peers:{}", lines.join(","))
        }
        _ => return None,
    })
}

/// `serial 5f02…, issued by key:MFZWI3D-…`.
fn issued_text(certificate: &Issued) -> String {
    format!(
        "serial {}, issued by key:{}",
        serial_text(&certificate.serial),
        certificate.issuer_key
    )
}

/// The content of a serial number, as `comity ca issued` shows it.
pub(crate) fn serial_text(serial: &[u8]) -> String {
    let mut text = String::new();
    for byte in serial {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}

fn doubt_text(doubt: &AuthorityDoubt) -> String {
    match doubt {
        AuthorityDoubt::BundleExpired { expires } => format!(
            "its bundle expired at {expires}: nobody new is recognised by it; pins and open connections go on"
        ),
        AuthorityDoubt::BundleNotYetValid { issued } => {
            format!("its bundle is dated {issued}, which is yet to come: compare the clocks")
        }
        AuthorityDoubt::Forked { since } => format!(
            "two of its bundles contradict each other, since {since}: somebody else may have its key"
        ),
        AuthorityDoubt::KeyUnknown { key } => {
            format!("key:{key} issued it, which is none of its keys: the bundle here may be old")
        }
        AuthorityDoubt::KeyRevoked { key } => format!("key:{key} issued it, and is revoked"),
        AuthorityDoubt::KeyRetired { key, until } => {
            format!("key:{key} issued it, and counted until {until}")
        }
        AuthorityDoubt::KeyLimited { key } => {
            format!("key:{key} issued it, and may not say that any more")
        }
        other => format!("{other:?}"),
    }
}

fn doubt_hint(label: &str, doubt: &AuthorityDoubt) -> Option<String> {
    match doubt {
        AuthorityDoubt::BundleExpired { .. } | AuthorityDoubt::KeyUnknown { .. } => Some(format!(
            "fetch its newest bundle: `comity network refresh {label}`"
        )),
        AuthorityDoubt::KeyRevoked { .. } | AuthorityDoubt::KeyRetired { .. } => Some(
            "its operator has to renew the membership: there `comity network refresh`".to_owned(),
        ),
        AuthorityDoubt::Forked { .. } => Some(format!(
            "ask the people of {label} for the right bundle: `comity network import FILE --confirm ID`"
        )),
        _ => None,
    }
}
