//! `comity ca inspect`: what a certificate, chain, request, bundle or statement says, in words.
//!
//! All of it is a stranger's: sizes are bounded before anything is read, text is escaped, and what
//! does not hold is said and never hidden by what does.

mod certificates;
pub(crate) mod statements;

use std::fmt::Display;

use comity_agent::armour::{self, ArmourError, Block, read_blocks};
use comity_certs::escape;
use comity_identity::UnixTime;
use comity_record::{Bundle, KeyRevocation, SuccessionChain};
use serde_json::{Value, json};

use super::read_bounded;
use crate::Outcome;
use crate::args::ca::CaInspect;
use crate::context::{Context, now};
use crate::shell::{Exit, Failure, chain};

/// Bytes of a file: a package with the largest bundle, and the system's roots, are a third of it.
const MAX_BYTES: u64 = 4 << 20;

/// Things in one file that are explained.
const MAX_SHOWN: usize = 32;

/// One thing that was found, in words and for programs.
pub(crate) struct Finding {
    title: String,
    facts: Vec<(&'static str, String)>,
    /// For programs.
    pub(crate) value: Value,
    holds: bool,
}

impl Finding {
    pub(crate) fn new(title: String) -> Self {
        Self {
            title,
            facts: Vec::new(),
            value: Value::Null,
            holds: true,
        }
    }

    fn refused(kind: &str, error: &dyn std::error::Error) -> Self {
        let cause = escape(&chain(error));
        let mut finding = Self::new(format!("{kind}, which does not hold"));
        finding.value = json!({ "kind": kind, "holds": false, "cause": cause });
        finding.fact("refused", cause);
        finding.holds = false;
        finding
    }

    pub(crate) fn fact(&mut self, name: &'static str, what: impl Display) {
        self.facts.push((name, what.to_string()));
    }

    pub(crate) fn text(&self) -> String {
        let mut lines = vec![self.title.clone()];
        lines.extend(
            self.facts
                .iter()
                .map(|(name, what)| format!("  {name:<18} {what}")),
        );
        lines.join("\n")
    }
}

pub(crate) fn inspect(context: &Context, args: &CaInspect) -> Outcome {
    let bytes = read_bounded(&args.file, MAX_BYTES)?;
    let now = now();
    let findings = explain(&bytes, now)
        .map_err(|failure| failure.detail(format!("in {}", args.file.display())))?;
    let holds = findings.iter().all(|finding| finding.holds);
    let texts: Vec<String> = findings.iter().map(Finding::text).collect();
    let values: Vec<&Value> = findings.iter().map(|finding| &finding.value).collect();
    context.shell.answer(
        texts.join("\n\n"),
        &json!({ "holds": holds, "found": values }),
    );
    Ok(if holds { Exit::Yes } else { Exit::No })
}

fn explain(bytes: &[u8], now: UnixTime) -> Result<Vec<Finding>, Failure> {
    let blocks = blocks(bytes)?;
    if blocks.len() > MAX_SHOWN {
        return Err(Failure::unable(format!(
            "it has {} PEM blocks, and {MAX_SHOWN} are explained",
            blocks.len()
        )));
    }
    let certificates: Vec<&[u8]> = blocks
        .iter()
        .filter(|block| block.label == armour::CERTIFICATE)
        .map(|block| block.content.as_slice())
        .collect();
    let mut findings = certificates::explain(&certificates, &bundled_keys(&blocks), now);
    for block in &blocks {
        findings.push(match block.label.as_str() {
            armour::CERTIFICATE => continue,
            armour::REQUEST | "NEW CERTIFICATE REQUEST" => statements::request(&block.content),
            armour::BUNDLE => statements::bundle(&block.content, now),
            armour::SUCCESSION => statements::succession(&block.content),
            armour::REVOCATION => statements::revocation(&block.content),
            label => unknown(label),
        });
    }
    Ok(findings)
}

/// The certificates of the authority's keys, if there is a bundle that holds.
fn bundled_keys(blocks: &[Block]) -> Vec<Vec<u8>> {
    let bundle = blocks.iter().find(|block| block.label == armour::BUNDLE);
    let bundle = bundle.and_then(|block| Bundle::parse(&block.content).ok());
    let keys = bundle.iter().flat_map(|bundle| bundle.charter().keys());
    keys.map(|key| key.details().der().to_vec()).collect()
}

/// PEM, or one thing in its binary form.
fn blocks(bytes: &[u8]) -> Result<Vec<Block>, Failure> {
    let label = match bytes.first() {
        Some(0x30) if statements::is_request(bytes) => armour::REQUEST,
        Some(0x30) => armour::CERTIFICATE,
        // An array of CBOR: signed objects are [payload, signature, …], a history is of those.
        Some(0x80..=0x9f) => binary_label(bytes),
        _ => return blocks_of_text(bytes),
    };
    Ok(vec![Block {
        label: label.to_owned(),
        content: bytes.to_vec(),
    }])
}

/// What a signed object of ours in its binary form is.
fn binary_label(bytes: &[u8]) -> &'static str {
    if SuccessionChain::parse(bytes).is_ok() {
        armour::SUCCESSION
    } else if KeyRevocation::parse(bytes).is_ok() {
        armour::REVOCATION
    } else {
        armour::BUNDLE
    }
}

fn blocks_of_text(bytes: &[u8]) -> Result<Vec<Block>, Failure> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Failure::unable("it is neither PEM nor DER, nor anything of Comity's"))?;
    read_blocks(text).map_err(|error| {
        let failure = Failure::unable(error);
        match error {
            ArmourError::PrivateKey { .. } => {
                failure.hint("only the certificate beside it is for others to see")
            }
            _ => failure,
        }
    })
}

fn unknown(label: &str) -> Finding {
    let label = escape(label);
    let mut finding = Finding::new(format!("a PEM block {label}, which is not explained here"));
    finding.value = json!({ "kind": "unknown", "label": label });
    finding
}
