//! `comity trust check`: what is wrong with the home, and what ends when.

use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use comity_agent::{history, public_identity};
use comity_certs::Anchor;
use comity_identity::{NodeId, UnixTime};
use comity_record::{KeyRole, KeyState};
use comity_store::{
    AuthorityFiles, Health, Home, HomeFile, Invitations, NetworkRecord, PeerStore, Pending,
};
use comity_trust::{Ending, Expiry, KnownPeers, Name, OwnMembership, Severity, expiries};
use serde_json::{Value, json};

use crate::Outcome;
use crate::args::TrustCheck;
use crate::commands::ca::authorities;
use crate::context::{Context, identity_failure, now, store_failure};
use crate::shell::{Exit, Failure, chain};

const DAY: u64 = 86_400;

/// One thing that was found.
struct Finding {
    /// Whether it wants attention, or is good to know.
    wrong: bool,
    text: String,
    remedy: Option<String>,
}

/// Something that ends.
struct Row {
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
    expiries: Vec<Row>,
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
    fn ends(&mut self, expiry: Row, remedy: impl FnOnce() -> String, now: UnixTime) {
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

impl Row {
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
            check_known_peers(&store, &mut report);
            check_networks(&home, &store, now, &mut report);
        }
        Err(error) => report.failed(store_failure(&error)),
    }
    check_authorities(&home, &mut report);
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

fn expiry_json(expiry: &Row, now: UnixTime) -> Value {
    json!({
        "kind": expiry.kind, "name": expiry.name, "ends": expiry.ends.to_string(),
        "days_left": days_left(expiry.ends, now), "attention": expiry.wanted,
        "note": expiry.note, "line": expiry.line,
    })
}

fn table(expiries: &[Row], now: UnixTime) -> String {
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

fn check_known_peers(store: &PeerStore, report: &mut Report) {
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
    let mut memberships = Vec::new();
    for record in &records {
        if let Some(since) = record.forked {
            report.wrong(
                format!("two bundles of the network {} contradict each other, since {since}: it recognises nobody new", record.label),
                Some(format!("ask its people for the right one, then comity network import FILE --confirm {}", record.network)),
            );
        }
        let Some(node) = node.filter(|_| !record.membership.is_empty()) else {
            continue;
        };
        match own_membership(record, node) {
            Some(membership) => memberships.push(membership),
            None => report.wrong(
                format!(
                    "our membership of {} is for an older key of ours",
                    record.label
                ),
                Some(format!("comity network refresh {}", record.label)),
            ),
        }
    }
    let snapshot = store.snapshot();
    for expiry in expiries(&snapshot.known, &snapshot.networks, &memberships, now) {
        if let Some((row, remedy)) = row(&snapshot.known, &expiry, &own) {
            report.ends(row, || remedy, now);
        }
    }
}

/// Authorities that cannot be used, and those whose ledger is gone.
fn check_authorities(home: &Home, report: &mut Report) {
    let all = match authorities(home) {
        Ok(all) => all,
        Err(failure) => return report.failed(failure),
    };
    for known in all {
        match known.opened {
            Err(failure) => report.failed(*failure),
            Ok(authority) => {
                if let Err(error) = authority.files().issued().open() {
                    report.failed(store_failure(&error));
                }
            }
        }
    }
}

/// The certificate for our own key. After a change of our key there is none until it is renewed.
fn own_membership(record: &NetworkRecord, node: NodeId) -> Option<OwnMembership> {
    let certificates = record.membership.iter();
    let certificates = certificates.filter_map(|der| Anchor::from_der(der).ok());
    let ours = certificates.filter(|c| c.key() == node.key_hash());
    let longest = ours.max_by_key(Anchor::not_after)?;
    Some(OwnMembership {
        network: record.network,
        not_before: longest.not_before(),
        not_after: longest.not_after(),
    })
}

/// How something that ends is shown, and what to do about it. The keys of other people's authorities are
/// their affair.
fn row(known: &KnownPeers, expiry: &Expiry, own: &[NodeId]) -> Option<(Row, String)> {
    let of = |kind, name: String, note: String, line| Row {
        kind,
        name,
        ends: expiry.at,
        note,
        wanted: expiry.severity > Severity::Notice,
        line,
    };
    let names = |line: &usize| known.entry(*line).map(|entry| entry.names.to_string());
    let named = |line: &usize, name: &Option<Name>| {
        let name = name.as_ref().map(ToString::to_string);
        name.or_else(|| names(line)).unwrap_or_default()
    };
    Some(match &expiry.what {
        Ending::Ca {
            line,
            subject,
            state,
        } => {
            let names = names(line).unwrap_or_default();
            let remedy = match expiry.severity {
                Severity::Over => format!("comity trust remove '{names}'"),
                _ => format!("comity trust rotate '{names}' --ca FILE"),
            };
            (
                of("CA", names, format!("{state}: {subject}"), Some(*line)),
                remedy,
            )
        }
        Ending::Entry { line, name } => {
            let name = named(line, name);
            let remedy = format!("comity trust remove {name}");
            (of("entry", name, String::new(), Some(*line)), remedy)
        }
        Ending::Overlap {
            line,
            name,
            successor,
        } => {
            let note = format!("followed by {}…", successor.short());
            (
                of("old key", named(line, name), note, Some(*line)),
                String::new(),
            )
        }
        Ending::Bundle { network, label, .. } => {
            let remedy = match own.contains(network) {
                true => format!("comity ca refresh {label}"),
                false => format!("comity network refresh {label}"),
            };
            (of("bundle", label.clone(), String::new(), None), remedy)
        }
        Ending::AuthorityKey {
            network,
            label,
            key,
            role,
            state,
        } if own.contains(network) => {
            let (kind, remedy) = match role {
                KeyRole::Root => (
                    "root key",
                    format!("comity ca roll-root {label} --new-root FILE"),
                ),
                KeyRole::Issuing => ("issuing key", format!("comity ca roll-issuing {label}")),
            };
            let note = format!("{}: key:{}…", state_text(*state), key.short());
            (of(kind, label.clone(), note, None), remedy)
        }
        Ending::Membership { label, .. } => {
            let remedy = format!("comity network refresh {label}");
            (of("membership", label.clone(), String::new(), None), remedy)
        }
        _ => return None,
    })
}

const fn state_text(state: KeyState) -> &'static str {
    match state {
        KeyState::Next => "next",
        KeyState::Active => "active",
        KeyState::Retiring { .. } => "retiring",
        KeyState::Revoked => "revoked",
    }
}

fn check_identity(home: &Home, now: UnixTime, report: &mut Report) {
    if let Err(error) = public_identity(home) {
        return report.failed(identity_failure(&error));
    }
    match history(home) {
        Ok(Some(history)) if now <= history.last().overlap_end() => {
            let last = history.last();
            report.expiries.push(Row {
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
