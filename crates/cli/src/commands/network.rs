//! `comity network`: networks that this node founded, is in, or follows.

mod found;
mod import;
pub(crate) mod join;
mod show;

use comity_agent::armour::{BUNDLE, write_block};
use comity_agent::network::{Refreshed, refresh_network, renew_own};
use comity_identity::NodeId;
use comity_store::{
    AuthorityFiles, Exported, Home, NetworkError, NetworkRecord, NetworkStore, export as write_file,
};
use comity_tls::LeafProfile;
use comity_trust::Reason;
use serde_json::json;

use crate::Outcome;
use crate::args::network::{Network, NetworkCommand, NetworkExport, NetworkLeave, NetworkRefresh};
use crate::commands::{block_on, invite};
use crate::context::{Context, store_failure};
use crate::shell::{Exit, Failure, chain};

pub(crate) fn network(context: &Context, args: Network) -> Outcome {
    match args.command {
        NetworkCommand::Create(args) => found::create(context, &args),
        NetworkCommand::List(_) => show::list(context),
        NetworkCommand::Show(args) => show::show(context, &args),
        NetworkCommand::Invite(args) => found::invite(context, &args),
        NetworkCommand::Join(args) => invite::join(context, &args),
        NetworkCommand::Members(args) => found::members(context, &args),
        NetworkCommand::Remove(args) => found::remove(context, &args),
        NetworkCommand::Leave(args) => leave(context, &args),
        NetworkCommand::Refresh(args) => refresh(context, &args),
        NetworkCommand::Import(args) => import::import(context, &args),
        NetworkCommand::Export(args) => export(context, &args),
    }
}

fn leave(context: &Context, args: &NetworkLeave) -> Outcome {
    let home = context.open_home()?;
    let networks = NetworkStore::new(&home, "comity network leave");
    let record = named(&networks, &args.name)?;
    let (network, label) = (record.network, &record.label);
    if is_ours(&home, &network)? {
        return Err(Failure::no(format!(
            "the authority of {label} is in this home: its members would stay, and nobody could remove them"
        ))
        .hint(format!("`comity network members {label}` shows who is in it")));
    }
    let left = networks.remove(&network).map_err(|e| network_failure(&e))?;
    context.shell.answer(
        format_args!("left {label}"),
        &json!({ "left": network.to_string(), "label": label }),
    );
    if !left.membership.is_empty() {
        context
            .shell
            .say("our membership is forgotten here; only the network itself can withdraw it");
    }
    context.shell.say(
        "its members are strangers now, unless they are pinned; `comity serve` closes their connections",
    );
    Ok(Exit::Yes)
}

fn export(context: &Context, args: &NetworkExport) -> Outcome {
    let home = context.open_home()?;
    let networks = NetworkStore::new(&home, "comity network export");
    let record = named(&networks, &args.name)?;
    let text = write_block(BUNDLE, &record.bundle);
    let id = record.network;
    match &args.out {
        None => context.shell.answer(
            text.trim_end(),
            &json!({ "network": id.to_string(), "bundle": text }),
        ),
        Some(path) => {
            write_file(path, text.as_bytes(), Exported::Public, false)
                .map_err(|error| store_failure(&error))?;
            context.shell.answer(
                path.display(),
                &json!({ "network": id.to_string(), "out": path }),
            );
        }
    }
    context.shell.say(format_args!(
        "elsewhere: `comity network import FILE --confirm {id}`, with the id told by you and not taken from the file"
    ));
    Ok(Exit::Yes)
}

fn refresh(context: &Context, args: &NetworkRefresh) -> Outcome {
    let home = context.open_home()?;
    let node = context.node(&home, LeafProfile::default(), "comity network refresh")?;
    let networks = node.endpoint.networks();
    let records = match &args.name {
        Some(name) => vec![named(networks, name)?],
        None => networks.list().map_err(|error| store_failure(&error))?,
    };
    if records.is_empty() {
        context.shell.say("no networks");
    }
    let (mut lines, mut values, mut stale) = (Vec::new(), Vec::new(), Vec::new());
    for record in &records {
        let own = is_ours(&home, &record.network)?;
        let refreshed = match own {
            true => refresh_own(&home, &node.endpoint, record).map_err(|failure| Failure {
                message: format!("{}: {}", record.label, failure.message),
                ..failure
            }),
            false => block_on(refresh_network(&node.endpoint, record.network))?
                .map_err(|error| Failure::unable(format!("{}: {error}", record.label))),
        };
        let line = refreshed.and_then(|refreshed| {
            values.push(refreshed_json(record, &refreshed));
            outcome(record, &refreshed, own)
        });
        match line {
            Ok(line) => lines.push(line),
            Err(failure) => stale.push(failure),
        }
    }
    match stale.pop() {
        // The others were refreshed nevertheless.
        Some(failure) => {
            lines.iter().for_each(|line| context.shell.say(line));
            stale
                .iter()
                .for_each(|other| context.shell.fail_in_words(other));
            Err(failure)
        }
        None => {
            context.shell.answer(lines.join("\n"), &values);
            Ok(Exit::Yes)
        }
    }
}

/// The bundle of an authority of this home is made, not fetched.
fn refresh_own(
    home: &Home,
    endpoint: &comity_tls::Endpoint,
    record: &NetworkRecord,
) -> Result<Refreshed, Failure> {
    let mut authority = found::open(home, &record.network, "comity network refresh")?;
    let sequence = |authority: &comity_authority::Authority| {
        authority
            .bundle()
            .map_or(0, comity_record::Bundle::sequence)
    };
    let before = sequence(&authority);
    authority
        .refresh(endpoint.clock().now())
        .map_err(|error| found::authority_failure(&error))?;
    renew_own(home, endpoint, record.network).map_err(Failure::unable)?;
    Ok(Refreshed {
        before,
        sequence: sequence(&authority),
        from: None,
        renewed: endpoint
            .networks()
            .find(&record.network)
            .map_err(|error| store_failure(&error))?
            .is_some_and(|after| after.membership != record.membership),
        failed: Vec::new(),
        refused: false,
    })
}

fn outcome(record: &NetworkRecord, refreshed: &Refreshed, own: bool) -> Result<String, Failure> {
    let label = &record.label;
    let sequence = refreshed.sequence;
    let bundle = match (sequence > refreshed.before, &refreshed.from) {
        (true, _) => format!("new bundle, sequence {sequence}"),
        (false, Some(_)) => format!("nothing new, sequence {sequence}"),
        (false, None) if refreshed.failed.is_empty() && own => {
            format!("nothing new, sequence {sequence}")
        }
        // Not a failure: it came as a file, and the next one will.
        (false, None) if refreshed.failed.is_empty() => {
            format!(
                "names no place where it can be asked; `comity network import FILE` takes a newer bundle than {sequence}"
            )
        }
        (false, None) => {
            let failure = Failure::unable(format!("{label}: its bundle cannot be had anywhere"));
            let failure = refreshed
                .failed
                .iter()
                .fold(failure, |failure, (place, why)| {
                    failure.detail(format!("{}:{}: {why}", place.host(), place.port()))
                });
            if refreshed.refused {
                return Err(
                    failure.hint("the network may have removed this node: ask whoever invited it")
                );
            }
            return Err(failure.hint(
                "is `comity serve` running at one of these places? or take a file: `comity network import FILE`",
            ));
        }
    };
    Ok(match refreshed.renewed {
        true => format!("{label}: {bundle}; membership renewed"),
        false => format!("{label}: {bundle}"),
    })
}

fn refreshed_json(record: &NetworkRecord, refreshed: &Refreshed) -> serde_json::Value {
    let failed = refreshed.failed.iter();
    let failed: Vec<_> = failed
        .map(|(place, why)| json!({ "location": place.to_string(), "cause": why }))
        .collect();
    json!({
        "network": record.network.to_string(), "label": record.label,
        "before": refreshed.before, "sequence": refreshed.sequence,
        "from": refreshed.from.as_ref().map(ToString::to_string),
        "renewed": refreshed.renewed, "failed": failed,
    })
}

/// The network that is called so here, or has this full id.
fn named(networks: &NetworkStore, name: &str) -> Result<NetworkRecord, Failure> {
    let records = networks.list().map_err(|error| store_failure(&error))?;
    let id = name.parse::<NodeId>().ok();
    let found = records
        .into_iter()
        .find(|record| record.label == name || Some(record.network) == id);
    found.ok_or_else(|| {
        Failure::no(format!("no network is called `{name}` here"))
            .hint("`comity network list` shows those that are known")
            .because(Reason::Unknown)
    })
}

/// Whether the network's authority is in this home.
fn is_ours(home: &Home, network: &NodeId) -> Result<bool, Failure> {
    let all = AuthorityFiles::list(home).map_err(|error| store_failure(&error))?;
    Ok(all.contains(network))
}

/// Why the networks were not changed, and what can be done.
pub(crate) fn network_failure(error: &NetworkError) -> Failure {
    match error {
        NetworkError::Store(error) => store_failure(error),
        NetworkError::Frozen { network, .. } => Failure::no(chain(error))
            .detail("somebody else has a key of its authority; nobody is admitted until you decide")
            .hint(format!(
                "ask its people which bundle is right, and take that: `comity network import FILE --confirm {network}`"
            ))
            .hint(format!("what is held now: `comity network show {network}`"))
            .because(Reason::Forked),
        NetworkError::Follow { .. } => Failure::no(chain(error)),
        NetworkError::Bundle { .. } => Failure::no(chain(error)).because(Reason::Malformed),
        NetworkError::LabelTaken { .. } => {
            Failure::no(chain(error)).hint("choose another label with --as")
        }
        NetworkError::Label(_) => Failure::unable(chain(error))
            .hint("a label has lower-case letters, digits, `-`, `_` and `.`, and begins with a letter or digit"),
        NetworkError::Unknown(_) => Failure::no(chain(error)).because(Reason::Unknown),
        _ => Failure::unable(chain(error)),
    }
}
