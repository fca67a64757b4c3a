//! Keys that follow one another, in words.

use comity_certs::PresentedChain;
use comity_identity::{NodeId, PeerId, UnixTime};
use comity_record::{Succession, SuccessionChain};
use comity_trust::{Reason, SuccessionFault};

use super::Subject;
use crate::commands::statements::history_text;
use crate::shell::Failure;

/// Whether the old key named a successor, and why that does not suffice.
pub(super) fn offered(chain: &PresentedChain, fault: Option<&SuccessionFault>) -> Vec<String> {
    let stapled = chain.leaf().succession.as_deref();
    let history = stapled.and_then(|bytes| SuccessionChain::parse(bytes).ok());
    match (fault, history) {
        (Some(fault), Some(history)) => {
            let steps = history.statements().iter();
            let mut lines: Vec<String> = steps.map(statement_line).collect();
            lines.push(succession_fault(fault));
            lines
        }
        (Some(fault), None) => vec![succession_fault(fault)],
        (None, Some(history)) => vec![
            format!("it presents {}", history_text(&history)),
            "none of these keys is the one that is known here".to_owned(),
        ],
        (None, None) => vec![
            "the old key offered no successor; either its operator changed the key, or somebody sits in between".to_owned(),
        ],
    }
}

/// The command for the legitimate case.
pub(super) fn if_confirmed(
    subject: &Subject,
    presented: PeerId,
    fault: Option<&SuccessionFault>,
) -> String {
    let typed = &subject.typed;
    let command = match fault {
        Some(SuccessionFault::Undecided { successor, .. }) => {
            format!("comity trust follow {typed} --confirm {successor}")
        }
        _ => format!("comity trust replace {typed} {presented}"),
    };
    format!("if its operator confirms the change, run `{command}`")
}

/// One statement on one line: `change 2, 2026-03-02T09:14:07Z, routine: MFZWI3D… to QK5T2HX…`.
pub(crate) fn statement_line(statement: &Succession) -> String {
    let reason = statement
        .reason()
        .map_or_else(String::new, |reason| format!(", {reason}"));
    let network = statement.network();
    let network = network.map_or_else(String::new, |n| {
        format!(", in the network {} only", n.short())
    });
    format!(
        "change {}, {}{reason}{network}: {}… to {}…, both accepted until {}",
        statement.sequence(),
        statement.issued(),
        statement.old().short(),
        statement.new().short(),
        statement.overlap_end(),
    )
}

/// Why statements of succession are not followed, for people.
pub(crate) fn succession_fault(fault: &SuccessionFault) -> String {
    match fault {
        SuccessionFault::Undecided { line, .. } => format!(
            "a valid statement of the old key says so; but a person confirmed that key (known_peers:{line}), so a person decides"
        ),
        SuccessionFault::Commitment { line, committed } => format!(
            "the old key had committed to another one (known_peers:{line}): {committed}; whoever signed this has the old key alone, as a thief has"
        ),
        SuccessionFault::Replayed { line, known, found } => format!(
            "the statement is number {found}, and number {known} was followed already (known_peers:{line}): somebody plays an old one again"
        ),
        SuccessionFault::Revoked { line } => format!(
            "a key on the way to it is revoked (known_peers:{line}), and a revoked key has no successor"
        ),
        SuccessionFault::Network { network } => format!(
            "the statement is for the network {network} only, and does not count for known_peers"
        ),
        SuccessionFault::FromTheFuture { issued } => {
            format!("the statement is dated {issued}, which is yet to come: compare both clocks")
        }
        SuccessionFault::Forked { key, .. } => {
            format!("two statements name different successors of {key}")
        }
        other => other.to_string(),
    }
}

pub(super) fn superseded(
    whom: &str,
    presented: PeerId,
    line: usize,
    successor: NodeId,
    not_after: UnixTime,
) -> Failure {
    Failure::no(format!(
        "refused {whom}: its key was replaced by a successor"
    ))
    .detail(format!("presented  {presented} (known_peers:{line})"))
    .detail(format!("successor  {successor}"))
    .detail(format!("both were accepted until {not_after}"))
    .hint("if it is the peer, it still runs with its old key: restart its `comity serve`")
    .hint("if it is not, somebody has its old key: `comity trust revoke` ends that key for ever")
}

/// Nobody can say which of two successors is the owner's; a person has to ask.
pub(crate) fn fork_failure(text: &str, peer: Option<&str>, lines: &[usize]) -> Failure {
    let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    let peer = peer.unwrap_or("LABEL");
    Failure::no(text)
        .detail(format!("frozen     known_peers:{}", lines.join(", ")))
        .detail("somebody else has the old key, or its owner restored a backup: all of these keys are refused until a person decides")
        .hint(format!("ask its operator, not over this connection, for the id of today; then `comity trust replace {peer} ID`"))
        .hint(format!("or forget all of them: `comity trust remove {peer}`"))
        .because(Reason::Forked)
}
