//! `comity trust check`: what is wrong with the home, and what ends when.

use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use comity_agent::{history, public_identity};
use comity_certs::Anchor;
use comity_identity::{NodeId, UnixTime};
use comity_record::{AuthorityKey, Bundle, Freshness, KeyRole, KeyState};
use comity_store::{
    AuthorityFiles, Health, Home, HomeFile, Invitations, NetworkRecord, PeerStore, Pending,
};
use comity_trust::{CaState, Entry, Name, What};
use serde_json::{Value, json};

use crate::Outcome;
use crate::args::TrustCheck;
use crate::commands::rotate;
use crate::context::{Context, identity_failure, now, store_failure};
use crate::shell::{Exit, Failure, chain};

/// What ends within this time wants attention, where nothing renews it by itself: people are asked
/// to exchange certificates, which takes weeks.
const SOON: Duration = Duration::from_secs(30 * DAY);

const DAY: u64 = 86_400;

/// One thing that was found.
struct Finding {
    /// Whether it wants attention, or is good to know.
    wrong: bool,
    text: String,
    remedy: Option<String>,
}

/// Something that ends.
struct Expiry {
    kind: &'static str,
    name: String,
    ends: UnixTime,
    note: String,
    /// Whether a person should do something about it now.
    wanted: bool,
    /// The line of `known_peers` that says so.
    line: Option<usize>,
}

/// What `check` gathers.
#[derive(Default)]
struct Report {
    findings: Vec<Finding>,
    expiries: Vec<Expiry>,
}

impl Report {
    fn wrong(&mut self, text: String, remedy: Option<String>) {
        self.findings.push(Finding {
            wrong: true,
            text,
            remedy,
        });
    }

    fn note(&mut self, text: String, remedy: Option<String>) {
        self.findings.push(Finding {
            wrong: false,
            text,
            remedy,
        });
    }

    /// Something that ends, and what to do about it if that is soon.
    fn ends(&mut self, expiry: Expiry, remedy: impl FnOnce() -> String, now: UnixTime) {
        if expiry.wanted {
            self.wrong(expiry.sentence(now), Some(remedy()));
        }
        self.expiries.push(expiry);
    }

    fn failed(&mut self, failure: Failure) {
        let remedy = failure.hints.into_iter().next();
        self.wrong(failure.message, remedy);
    }
}

impl Expiry {
    /// `the CA of *.corp.example ends 2026-04-01T00:00:00Z (known_peers:3)`.
    fn sentence(&self, now: UnixTime) -> String {
        let (kind, name) = (self.kind, &self.name);
        let line = self.line;
        let line = line.map_or_else(String::new, |line| format!(" (known_peers:{line})"));
        match self.ends < now {
            true => format!("the {kind} of {name} has ended{line}"),
            false => format!("the {kind} of {name} ends {}{line}", self.ends),
        }
    }
}

pub(crate) fn check(context: &Context, args: &TrustCheck) -> Outcome {
    let home = context.open_home()?;
    let now = now();
    let mut report = Report::default();
    if args.forget_missing {
        PeerStore::reinitialise(&home, "comity trust check").map_err(|e| store_failure(&e))?;
    }
    match PeerStore::open(&home, "comity trust check") {
        Ok(store) => {
            check_known_peers(&store, now, &mut report);
            check_networks(&home, &store, now, &mut report);
        }
        Err(error) => report.failed(store_failure(&error)),
    }
    check_identity(&home, now, &mut report);
    check_queues(&home, now, &mut report);
    if let Err(failure) = context.config(&home) {
        report.failed(failure);
    }
    Ok(show(context, report, now))
}

fn show(context: &Context, mut report: Report, now: UnixTime) -> Exit {
    // Worst first: what wants attention, and of these what ends first.
    report.expiries.sort_by_key(|e| (!e.wanted, e.ends));
    report.findings.sort_by_key(|f| !f.wrong);
    let wrong = report.findings.iter().filter(|f| f.wrong).count();
    let value = json!({
        "ok": wrong == 0,
        "findings": report.findings.iter().map(|f| json!({
            "wrong": f.wrong, "text": f.text, "remedy": f.remedy,
        })).collect::<Vec<_>>(),
        "expiries": report.expiries.iter().map(|e| expiry_json(e, now)).collect::<Vec<_>>(),
    });
    let mut lines: Vec<String> = report.findings.iter().map(finding_text).collect();
    if !report.expiries.is_empty() {
        lines.push(table(&report.expiries, now));
    }
    lines.push(match wrong {
        0 => "nothing is wrong".to_owned(),
        1 => "1 thing wants attention".to_owned(),
        n => format!("{n} things want attention"),
    });
    context.shell.answer(lines.join("\n"), &value);
    match wrong {
        0 => Exit::Yes,
        _ => Exit::No,
    }
}

fn finding_text(finding: &Finding) -> String {
    let mark = if finding.wrong { "WRONG" } else { "note " };
    let remedy = finding.remedy.as_ref();
    let remedy = remedy.map_or_else(String::new, |r| format!("\n        {r}"));
    format!("{mark}   {}{remedy}", finding.text)
}

fn expiry_json(expiry: &Expiry, now: UnixTime) -> Value {
    json!({
        "kind": expiry.kind, "name": expiry.name, "ends": expiry.ends.to_string(),
        "days_left": days_left(expiry.ends, now), "attention": expiry.wanted,
        "note": expiry.note, "line": expiry.line,
    })
}

fn table(expiries: &[Expiry], now: UnixTime) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["", "ENDS", "LEFT", "WHAT", "NAME", "NOTE"]);
    for expiry in expiries {
        table.add_row([
            if expiry.wanted { "SOON" } else { "" }.to_owned(),
            expiry.ends.to_string(),
            left_text(expiry.ends, now),
            expiry.kind.to_owned(),
            expiry.name.clone(),
            expiry.note.clone(),
        ]);
    }
    let text = table.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

/// Whole days until then; negative for what is over.
fn days_left(ends: UnixTime, now: UnixTime) -> i64 {
    let days = |duration: Duration| i64::try_from(duration.as_secs() / DAY).unwrap_or(i64::MAX);
    match ends < now {
        true => -1 - days(ends.until(now)),
        false => days(now.until(ends)),
    }
}

fn left_text(ends: UnixTime, now: UnixTime) -> String {
    match days_left(ends, now) {
        days if days < 0 => "over".to_owned(),
        0 => format!("{} h", now.until(ends).as_secs() / 3600),
        days => format!("{days} d"),
    }
}

fn check_known_peers(store: &PeerStore, now: UnixTime, report: &mut Report) {
    let snapshot = store.snapshot();
    if !matches!(snapshot.health, Health::Fresh) {
        report.wrong(
            "known_peers cannot be relied upon any more".to_owned(),
            None,
        );
    }
    let mut unconfirmed = 0;
    for (line, entry) in snapshot.known.entries() {
        let name = entry.display_name();
        let name = name.map_or_else(|| entry.names.to_string(), Name::to_string);
        if let Some(since) = entry.attributes.forked {
            report.wrong(
                format!("two keys claim to follow the one of {name}, since {since}: it is frozen (known_peers:{line})"),
                Some(format!("ask its operator for the id of today, then comity trust replace {name} ID")),
            );
        }
        let remove = || format!("comity trust remove {name}");
        match &entry.what {
            What::Ca(anchor) => {
                let names = &entry.names;
                let rotate = || match anchor.not_after() < now {
                    true => format!("comity trust remove '{names}'"),
                    false => format!("comity trust rotate '{names}' --ca FILE"),
                };
                report.ends(ca_expiry(line, entry, anchor, now), rotate, now);
            }
            _ => {
                if let Some(expiry) = entry_expiry(line, entry, &name, now) {
                    report.ends(expiry, remove, now);
                }
            }
        }
        let overtaken = entry.attributes.successor.is_some();
        if entry.pin().is_some() && entry.attributes.confirmed.is_none() && !overtaken {
            unconfirmed += 1;
        }
    }
    if unconfirmed > 0 {
        report.note(
            format!("{unconfirmed} keys were never confirmed with their operators"),
            Some("comity trust list shows them first; comity trust verify confirms".to_owned()),
        );
    }
}

/// A CA ends with its certificate or with its line, whichever comes first.
fn ca_expiry(line: usize, entry: &Entry, anchor: &Anchor, now: UnixTime) -> Expiry {
    let retired = entry
        .attributes
        .not_after
        .filter(|end| *end < anchor.not_after());
    let ends = retired.unwrap_or_else(|| anchor.not_after());
    let state = rotate::state(entry);
    // The end of one that retires is what somebody decided.
    let planned = state == CaState::Retiring && ends >= now;
    Expiry {
        kind: "CA",
        name: entry.names.to_string(),
        ends,
        wanted: ends < now + SOON && !planned,
        note: format!("{state}: {}", anchor.subject()),
        line: Some(line),
    }
}

/// An entry with an end. That of a key with a successor is expected.
fn entry_expiry(line: usize, entry: &Entry, name: &str, now: UnixTime) -> Option<Expiry> {
    let ends = entry.attributes.not_after?;
    let successor = entry.attributes.successor;
    Some(Expiry {
        kind: if successor.is_some() {
            "old key"
        } else {
            "entry"
        },
        name: name.to_owned(),
        ends,
        wanted: successor.is_none() && ends < now + SOON,
        note: successor.map_or_else(String::new, |key| format!("followed by {}…", key.short())),
        line: Some(line),
    })
}

fn check_networks(home: &Home, store: &PeerStore, now: UnixTime, report: &mut Report) {
    let records = match store.networks().list() {
        Ok(records) => records,
        Err(error) => return report.failed(store_failure(&error)),
    };
    let own = AuthorityFiles::list(home).unwrap_or_else(|error| {
        report.failed(store_failure(&error));
        Vec::new()
    });
    let node = public_identity(home).ok().map(|public| public.id);
    for record in &records {
        if let Some(since) = record.forked {
            report.wrong(
                format!("two bundles of the network {} contradict each other, since {since}: it recognises nobody new", record.label),
                Some(format!("ask its people for the right one, then comity network import FILE --confirm {}", record.network)),
            );
        }
        let snapshot = store.snapshot();
        if let Some(authority) = snapshot.networks.get(&record.network) {
            let ours = own.contains(&record.network);
            check_bundle(record, &authority.bundle, ours, now, report);
        }
        check_membership(record, node, now, report);
    }
}

fn check_bundle(
    record: &NetworkRecord,
    bundle: &Bundle,
    ours: bool,
    now: UnixTime,
    report: &mut Report,
) {
    let label = &record.label;
    let stale = !matches!(bundle.standing(now), Freshness::Fresh);
    let bundle_ends = Expiry {
        kind: "bundle",
        name: label.clone(),
        ends: bundle.expires(),
        wanted: stale,
        note: format!("number {}, from {}", bundle.sequence(), bundle.issued()),
        line: None,
    };
    let refresh = || match ours {
        true => format!("comity ca refresh {label}"),
        false => format!("comity network refresh {label}"),
    };
    report.ends(bundle_ends, refresh, now);
    if !ours {
        return;
    }
    let counting = |key: &&AuthorityKey| key.state != KeyState::Revoked;
    for key in bundle.charter().keys().iter().filter(counting) {
        let roll = || match key.role {
            KeyRole::Root => format!("comity ca roll-root {label} --new-root FILE"),
            KeyRole::Issuing => format!("comity ca roll-issuing {label}"),
        };
        report.ends(key_expiry(label, key, now), roll, now);
    }
}

fn key_expiry(label: &str, key: &AuthorityKey, now: UnixTime) -> Expiry {
    let certificate = key.certificate.not_after();
    let (ends, state) = match key.state {
        KeyState::Retiring { until } => (until.min(certificate), "retiring"),
        KeyState::Next => (certificate, "next"),
        KeyState::Active => (certificate, "active"),
        KeyState::Revoked => (certificate, "revoked"),
    };
    Expiry {
        kind: match key.role {
            KeyRole::Root => "root key",
            KeyRole::Issuing => "issuing key",
        },
        name: label.to_owned(),
        ends,
        // The end of one that retires is what somebody decided.
        wanted: ends < now + SOON && state != "retiring",
        note: format!("{state}: key:{}…", key.key().short()),
        line: None,
    }
}

/// What the first certificate for our own key says. After a change of our key it is of no use until it
/// is renewed.
fn check_membership(
    record: &NetworkRecord,
    node: Option<NodeId>,
    now: UnixTime,
    report: &mut Report,
) {
    let Some(node) = node.filter(|_| !record.membership.is_empty()) else {
        return;
    };
    let label = &record.label;
    let certificates = record.membership.iter();
    let certificates = certificates.filter_map(|der| Anchor::from_der(der).ok());
    let ours = certificates.filter(|c| c.key() == node.key_hash());
    match ours.map(|c| c.not_after()).max() {
        Some(ends) => {
            let expiry = Expiry {
                kind: "membership",
                name: label.clone(),
                ends,
                wanted: ends < now + SOON,
                note: String::new(),
                line: None,
            };
            report.ends(expiry, || format!("comity network refresh {label}"), now);
        }
        None => report.wrong(
            format!("our membership of {label} is for an older key of ours"),
            Some(format!("comity network refresh {label}")),
        ),
    }
}

fn check_identity(home: &Home, now: UnixTime, report: &mut Report) {
    if let Err(error) = public_identity(home) {
        return report.failed(identity_failure(&error));
    }
    match history(home) {
        Ok(Some(history)) if now <= history.last().overlap_end() => {
            let last = history.last();
            report.expiries.push(Expiry {
                kind: "our old key",
                name: format!("{}…", last.old().short()),
                ends: last.overlap_end(),
                wanted: false,
                note: "peers that follow accept it until then".to_owned(),
                line: None,
            });
        }
        Ok(_) => {}
        Err(error) => report.wrong(chain(&error), None),
    }
    if home.path(HomeFile::NextKey).exists() {
        report.note(
            "the next identity key lies beside the present one: a thief of one has both".to_owned(),
            Some(format!(
                "move {} to a safe place offline",
                home.path(HomeFile::NextKey).display()
            )),
        );
    }
}

fn check_queues(home: &Home, now: UnixTime, report: &mut Report) {
    let waiting = Pending::new(home, "comity trust check").list(now);
    let invitations = Invitations::new(home, "comity trust check").list();
    match waiting {
        Ok(waiting) if !waiting.is_empty() => report.note(
            format!("{} peers wait for approval", waiting.len()),
            Some("comity trust pending".to_owned()),
        ),
        Ok(_) => {}
        Err(error) => report.wrong(chain(&error), None),
    }
    if let Err(error) = invitations {
        report.wrong(chain(&error), None);
    }
}
