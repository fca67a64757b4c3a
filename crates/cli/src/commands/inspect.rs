//! `comity trust explain|scan|check`: looking without touching.

use std::time::Duration;

use comity_agent::{Planned, Planning, host_and_port, public_identity, read_named_file};
use comity_certs::{Form, PresentedChain};
use comity_identity::{KeyHash, PeerId};
use comity_store::{Health, Home, HomeFile, Invitations, PeerStore, Pending};
use comity_tls::{DialError, Dialer, Versions, Wish, expectation_at};
use comity_trust::{
    AllowRule, Direction, Expectation, Explanation, Invited, KnownPeers, Mode, Name, Networks,
    Outcome as RuleOutcome, Phase, Query, SuccessionPolicy, Verdict, What, authorise,
    explain as explain_query,
};
use serde_json::json;

use crate::Outcome;
use crate::args::{DialOptions, TrustCheck, TrustExplain, TrustScan};
use crate::commands::block_on;
use crate::commands::connect::{Dialling, plan_failure, prepare, subject};
use crate::context::{Context, check_mode, identity_failure, now, store_failure};
use crate::messages::{Subject, dial_failure, refusal_failure};
use crate::shell::{Exit, Failure, chain};

/// CAs that end within this time are named by `check`.
const SOON: Duration = Duration::from_secs(30 * 86_400);

pub(crate) fn scan(context: &Context, args: &TrustScan) -> Outcome {
    let dialling = prepare(context, &no_options(Some(args.addr.clone())))?;
    let chain = fetch(&dialling, &args.addr, Some(&args.addr), args.tls12)?;
    let leaf = chain.leaf();
    let names: Vec<String> = leaf.names.iter().map(ToString::to_string).collect();
    let kind = match chain.form() {
        Form::Native => "Comity node",
        Form::Foreign => "foreign peer",
    };
    let peer = chain.peer_id();
    let value = json!({
        "address": args.addr, "id": peer.to_string(), "words": peer.key_hash().words().to_string(),
        "hex": peer.key_hash().to_hex(), "kind": kind, "certificate": leaf.fingerprint.to_hex(),
        "not_before": leaf.not_before.to_string(), "not_after": leaf.not_after.to_string(),
        "names": names, "verified": false,
    });
    let text = format!(
        "{peer}\n  {}\n  a {kind}; certificate valid {} to {}{}",
        peer.key_hash().words(),
        leaf.not_before,
        leaf.not_after,
        if names.is_empty() {
            String::new()
        } else {
            format!("; claims {}", names.join(", "))
        },
    );
    context.shell.answer(text, &value);
    context
        .shell
        .say("this verifies nothing: compare the id with the peer's operator");
    Ok(Exit::Yes)
}

/// The chain that is presented at a peer's address. The dial expects an id that nobody has, so that
/// it ends in our callback: the peer learns nothing of us.
pub(crate) fn fetch(
    dialling: &Dialling,
    peer: &str,
    address: Option<&str>,
    tls12: bool,
) -> Result<PresentedChain, Failure> {
    let known = &dialling.dialer.endpoint().store().snapshot().known;
    let planning = Planning {
        address,
        versions: if tls12 {
            Versions::Tls12Too
        } else {
            Versions::Tls13
        },
        ..Planning::default()
    };
    let wish = Wish::Service(None);
    let mut planned =
        Planned::of(peer, known, Mode::Pin, wish, &planning).map_err(|e| plan_failure(&e))?;
    planned.route.request.expectation.id = Some(PeerId::Key(KeyHash::from_bytes([0; 32])));
    let subject = subject(peer, &planned);
    let dialer: &Dialer = &dialling.dialer;
    match block_on(async { planned.route.dial(dialer).await })? {
        Err(DialError::Refused { chain, .. }) => Ok(*chain),
        Err(error) => Err(dial_failure(&subject, &error)),
        Ok(_) => Err(Failure::unable("a key with the hash zero: this cannot be")),
    }
}

pub(crate) fn no_options(addr: Option<String>) -> DialOptions {
    DialOptions {
        trust: None,
        ca: None,
        label: None,
        addr,
        i_mean_it: true,
    }
}

pub(crate) fn explain(context: &Context, args: &TrustExplain) -> Outcome {
    let direction = match args.accept {
        Some(_) => Direction::Accept,
        None => Direction::Dial,
    };
    let mut options = no_options(None);
    options.trust = args.trust;
    options.ca = args.ca.clone();
    let dialling = prepare(context, &options)?;
    let mode = match (args.accept, args.trust, dialling.ask) {
        (Some(mode), ..) | (None, Some(mode), _) => mode,
        (None, None, true) => Mode::CaOrTofu,
        (None, None, false) => dialling.mode,
    };
    check_mode(mode, direction, true)?;
    let chain = evidence(&dialling, args, direction)?;
    let endpoint = dialling.dialer.endpoint();
    let known = &endpoint.store().snapshot().known;
    let expectation = match direction {
        Direction::Accept => Expectation::default(),
        Direction::Dial => expected_when_dialling(&args.peer, args.addr.as_deref(), known)?,
    };
    let explanation = explain_query(&Query {
        direction,
        mode,
        phase: Phase::Gate,
        chain: &chain,
        expectation: &expectation,
        known,
        system_roots: endpoint.roots(),
        own: &endpoint.credentials().own_keys(),
        networks: &Networks::empty(),
        succession: SuccessionPolicy::default(),
        invited: Invited::No,
        now: now(),
    });
    show(context, args, mode, direction, &explanation, &chain)
}

/// What `connect` would expect of whoever answers at the address that is dialled first.
fn expected_when_dialling(
    peer: &str,
    address: Option<&str>,
    known: &KnownPeers,
) -> Result<Expectation, Failure> {
    let target = comity_trust::resolve(peer, known).map_err(Failure::unable)?;
    let expectation = target.expectation();
    let given = address.and_then(|text| Name::parse(text).ok());
    let dialled = given.as_ref().or(target.addresses().first());
    let host_and_port = dialled.and_then(host_and_port);
    Ok(match host_and_port {
        Some((host, port)) => expectation_at(&expectation, &host, port),
        None => expectation,
    })
}

fn evidence(
    dialling: &Dialling,
    args: &TrustExplain,
    direction: Direction,
) -> Result<PresentedChain, Failure> {
    if let Some(path) = &args.cert {
        let text = read_named_file(path)
            .map_err(|error| Failure::unable(format!("cannot read {}: {error}", path.display())))?;
        let chain = certificates_of(&text)
            .and_then(|der| PresentedChain::parse(&der).map_err(|e| Failure::no(e.to_string())));
        return chain.map_err(|failure| failure.detail(format!("in {}", path.display())));
    }
    if direction == Direction::Accept {
        return Err(Failure::unable(
            "what a peer presents when it dials us is not known beforehand",
        )
        .hint("name a PEM file with its certificate and root: --cert FILE"));
    }
    fetch(dialling, &args.peer, args.addr.as_deref(), false)
}

fn certificates_of(text: &str) -> Result<Vec<Vec<u8>>, Failure> {
    comity_certs::certificates_in_pem(text)
        .map_err(|error| Failure::unable(format!("no certificates: {error}")))
}

fn show(
    context: &Context,
    args: &TrustExplain,
    mode: Mode,
    direction: Direction,
    explanation: &Explanation,
    chain: &PresentedChain,
) -> Outcome {
    let steps: Vec<String> = explanation
        .steps
        .iter()
        .map(|step| format!("  {:<13} {}", step.rule.token(), outcome_text(step.outcome)))
        .collect();
    let service = args
        .service
        .as_ref()
        .map(|service| match &explanation.verdict {
            Verdict::Accept(recognition) => authorise(service, &AllowRule::Granted, recognition),
            Verdict::Refuse(refusal) => Err(refusal.reason),
        });
    let (answer, reason) = match &explanation.verdict {
        Verdict::Accept(recognition) => (format!("accepted, by {}", recognition.how.token()), None),
        Verdict::Refuse(refusal) => (
            format!("refused: {}", refusal.reason.token()),
            Some(refusal.reason),
        ),
    };
    let mut lines = vec![format!(
        "{} when we {direction}, in mode {mode}: {answer}",
        args.peer
    )];
    lines.push(format!("  presents      {}", chain.peer_id()));
    lines.extend(steps);
    if let Some(service) = &service {
        let verdict = match service {
            Ok(()) => "yes".to_owned(),
            Err(reason) => format!("no ({})", reason.token()),
        };
        lines.push(format!(
            "  service       {}: {verdict}",
            args.service.as_deref().unwrap_or("")
        ));
    }
    let value = json!({
        "accepted": reason.is_none(),
        "reason": reason.map(|r| r.token()),
        "mode": mode.token(), "direction": direction.token(),
        "presented": chain.peer_id().to_string(),
        "label": explanation.verdict.recognition().and_then(|r| r.label.clone()),
        "service": service.as_ref().map(Result::is_ok),
        "steps": explanation.steps.iter().map(|step| json!({
            "rule": step.rule.token(), "outcome": outcome_text(step.outcome),
        })).collect::<Vec<_>>(),
    });
    context.shell.answer(lines.join("\n"), &value);
    if let (Verdict::Refuse(refusal), false) = (&explanation.verdict, context.shell.json) {
        let subject = Subject {
            typed: args.peer.clone(),
            address: None,
        };
        for line in refusal_failure(&subject, refusal, chain).details {
            if line != "no data was sent" {
                context.shell.say(format_args!("  {line}"));
            }
        }
    }
    let yes = reason.is_none() && service.is_none_or(|s| s.is_ok());
    Ok(if yes { Exit::Yes } else { Exit::No })
}

fn outcome_text(outcome: RuleOutcome) -> String {
    match outcome {
        RuleOutcome::Passed => "passed".to_owned(),
        RuleOutcome::DoesNotApply => "does not apply".to_owned(),
        RuleOutcome::Recognised { line: Some(line) } => format!("recognised (known_peers:{line})"),
        RuleOutcome::Recognised { line: None } => "recognised".to_owned(),
        RuleOutcome::Refused(reason) => format!("refused: {}", reason.token()),
        RuleOutcome::Failed(reason) => format!("no ({}), next rule", reason.token()),
    }
}

/// One thing that `check` found.
struct Finding {
    /// Whether it wants attention, or is good to know.
    wrong: bool,
    text: String,
    remedy: Option<String>,
}

pub(crate) fn check(context: &Context, args: &TrustCheck) -> Outcome {
    let home = context.open_home()?;
    let mut findings = Vec::new();
    if args.forget_missing {
        PeerStore::reinitialise(&home, "comity trust check").map_err(|e| store_failure(&e))?;
    }
    match PeerStore::open(&home, "comity trust check") {
        Ok(store) => check_store(&store, &mut findings),
        Err(error) => {
            let failure = store_failure(&error);
            findings.push(Finding {
                wrong: true,
                text: failure.message,
                remedy: failure.hints.into_iter().next(),
            });
        }
    }
    check_identity(&home, &mut findings);
    check_queues(&home, &mut findings);
    if let Err(failure) = context.config(&home) {
        findings.push(Finding {
            wrong: true,
            text: failure.message,
            remedy: None,
        });
    }
    let wrong = findings.iter().filter(|f| f.wrong).count();
    let value = json!({
        "ok": wrong == 0,
        "findings": findings.iter().map(|f| json!({
            "wrong": f.wrong, "text": f.text, "remedy": f.remedy,
        })).collect::<Vec<_>>(),
    });
    let mut lines: Vec<String> = findings
        .iter()
        .map(|finding| {
            let mark = if finding.wrong { "WRONG" } else { "note " };
            let remedy = finding
                .remedy
                .as_ref()
                .map(|r| format!("\n        {r}"))
                .unwrap_or_default();
            format!("{mark}   {}{remedy}", finding.text)
        })
        .collect();
    lines.push(match wrong {
        0 => "nothing is wrong".to_owned(),
        n => format!("{n} want attention"),
    });
    context.shell.answer(lines.join("\n"), &value);
    Ok(if wrong == 0 { Exit::Yes } else { Exit::No })
}

fn check_store(store: &PeerStore, findings: &mut Vec<Finding>) {
    let snapshot = store.snapshot();
    if !matches!(snapshot.health, Health::Fresh) {
        findings.push(Finding {
            wrong: true,
            text: "known_peers cannot be relied upon any more".to_owned(),
            remedy: None,
        });
    }
    let now = now();
    let mut unconfirmed = 0;
    for (line, entry) in snapshot.known.entries() {
        let name = entry
            .display_name()
            .map_or_else(|| entry.names.to_string(), Name::to_string);
        if entry.is_over(now) {
            findings.push(Finding {
                wrong: true,
                text: format!("the entry of {name} has ended (known_peers:{line})"),
                remedy: Some(format!("comity trust remove {name}")),
            });
        }
        match &entry.what {
            What::Ca(anchor) if anchor.not_after() < now + SOON => findings.push(Finding {
                wrong: true,
                text: format!(
                    "the CA {} ends {} (known_peers:{line})",
                    anchor.subject(),
                    anchor.not_after()
                ),
                remedy: Some(
                    "add its successor beside it: comity trust add … --ca FILE".to_owned(),
                ),
            }),
            What::Pin(_) if entry.attributes.confirmed.is_none() => unconfirmed += 1,
            _ => {}
        }
    }
    if unconfirmed > 0 {
        findings.push(Finding {
            wrong: false,
            text: format!("{unconfirmed} keys were never confirmed with their operators"),
            remedy: Some(
                "comity trust list shows them first; comity trust verify confirms".to_owned(),
            ),
        });
    }
}

fn check_identity(home: &Home, findings: &mut Vec<Finding>) {
    match public_identity(home) {
        Ok(_) => {}
        Err(error) => {
            let failure = identity_failure(&error);
            findings.push(Finding {
                wrong: true,
                text: failure.message,
                remedy: failure.hints.into_iter().next(),
            });
        }
    }
    if home.path(HomeFile::NextKey).exists() {
        findings.push(Finding {
            wrong: false,
            text: "the next identity key lies beside the present one: a thief of one has both"
                .to_owned(),
            remedy: Some(format!(
                "move {} to a safe place offline",
                home.path(HomeFile::NextKey).display()
            )),
        });
    }
}

fn check_queues(home: &Home, findings: &mut Vec<Finding>) {
    let waiting = Pending::new(home, "comity trust check").list(now());
    let invitations = Invitations::new(home, "comity trust check").list();
    match waiting {
        Ok(waiting) if !waiting.is_empty() => findings.push(Finding {
            wrong: false,
            text: format!("{} peers wait for approval", waiting.len()),
            remedy: Some("comity trust pending".to_owned()),
        }),
        Ok(_) => {}
        Err(error) => findings.push(Finding {
            wrong: true,
            text: chain(&error),
            remedy: None,
        }),
    }
    if let Err(error) = invitations {
        findings.push(Finding {
            wrong: true,
            text: chain(&error),
            remedy: None,
        });
    }
}
