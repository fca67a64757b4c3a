//! `comity identity roll|export|revoke`: this node's key changes, or ends.

use std::path::Path;

use comity_agent::{
    HistoryFault, RollError, RollPlan, RollRequest, Rolled, Statement, history, is_authority_of,
    plan_roll, read_key_file, read_named_file, reissue_membership, revoke as revoke_key,
    revoke_by_next_key, roll as roll_key,
};
use comity_identity::{NodeId, UnixTime};
use comity_keys::{KeyError, NoPassphrase};
use comity_record::limits::MAX_OVERLAP;
use comity_record::{Bundle, SuccessionChain, limits::MAX_STATEMENTS};
use comity_store::{Exported, Home, NetworkRecord, NetworkStore, export as export_file};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::Outcome;
use crate::args::identity::{
    Identity, IdentityCommand, IdentityExport, IdentityRevoke, IdentityRoll,
};
use crate::context::{Context, identity_failure, now, store_failure};
use crate::shell::{Exit, Failure, chain, no_terminal};

pub(crate) fn identity(context: &Context, args: &Identity) -> Outcome {
    match &args.command {
        IdentityCommand::Roll(args) => roll(context, args),
        IdentityCommand::Export(args) => export(context, args),
        IdentityCommand::Revoke(args) => revoke(context, args),
    }
}

fn roll(context: &Context, args: &IdentityRoll) -> Outcome {
    if args.overlap > MAX_OVERLAP {
        return Err(Failure::unable("the overlap is longer than 90 days").hint(
            "a peer that is away for longer catches up all the same; only the old key ends",
        ));
    }
    let home = context.open_home()?;
    let now = now();
    let plan = plan_roll(&home, now).map_err(|error| roll_failure(&error))?;
    let memberships = memberships(&home)?;
    if args.dry_run {
        show_plan(context, args, &plan, &memberships, now);
        return Ok(Exit::Yes);
    }
    let next_key = args.next_key.as_deref().map(key_file).transpose()?;
    let request = RollRequest {
        next_key: next_key.as_ref().map(|text| text.as_str()),
        overlap: args.overlap,
        reason: &args.reason,
    };
    let mut next_passphrase = || next_passphrase(context, args.next_passphrase_file.as_deref());
    let rolled = roll_key(
        &home,
        &request,
        &mut || context.passphrase(),
        &mut next_passphrase,
        now,
    );
    match rolled {
        Ok(rolled) => show_rolled(context, args, &plan, &rolled, &memberships),
        Err(RollError::AlreadyRolled { current }) => show_already(context, current),
        Err(error) => return Err(roll_failure(&error)),
    }
    reissue(context, &home, &memberships, now);
    Ok(Exit::Yes)
}

/// Our memberships by authorities of this home. The identity has changed already: what fails here is
/// done by `comity serve`, or by hand.
fn reissue(context: &Context, home: &Home, memberships: &[Membership], now: UnixTime) {
    for Membership { label, network, .. } in memberships.iter().filter(|m| m.own) {
        match reissue_membership(home, *network, "comity identity roll", now) {
            Ok(true) => context
                .shell
                .say(format_args!("network {label}: our membership was issued for the new key")),
            Ok(false) => {}
            Err(error) => context.shell.warn(format_args!(
                "network {label}: our membership is not renewed yet: {}; `comity serve` tries again",
                chain(&error)
            )),
        }
    }
}

fn show_plan(
    context: &Context,
    args: &IdentityRoll,
    plan: &RollPlan,
    memberships: &[Membership],
    now: UnixTime,
) {
    let new = plan.new.map(|new| new.to_string());
    let end = now + args.overlap;
    let mut lines = vec![
        "nothing was changed; `comity identity roll` would do this:".to_owned(),
        format!("  old id     {}", plan.old),
        format!(
            "  new id     {}",
            new.as_deref()
                .unwrap_or("that of the key you name with --next-key")
        ),
        format!("  change     {}", sequence_text(plan.sequence)),
        format!("  overlap    peers that follow accept the old key until {end}"),
        format!("  next key   {}", next_key_text(args, plan)),
    ];
    if let Some(last) = &plan.overlapping {
        lines.push(format!(
            "  note       the key changed on {} already, and the one before counts until {}",
            last.issued(),
            last.overlap_end()
        ));
    }
    lines.push("who is affected:".to_owned());
    lines.extend(who_is_affected(plan.new, memberships));
    let value = json!({
        "dry_run": true, "old": plan.old.to_string(), "new": new, "sequence": plan.sequence,
        "overlap_end": end.to_string(),
        "next_key_in_home": plan.next_key,
        "networks": memberships.iter().map(Membership::json).collect::<Vec<_>>(),
    });
    context.shell.answer(lines.join("\n"), &value);
}

fn next_key_text(args: &IdentityRoll, plan: &RollPlan) -> String {
    match (&args.next_key, &plan.next_key) {
        (Some(path), _) | (None, Some(path)) => path.display().to_string(),
        (None, None) => "not in this home: name its file with --next-key".to_owned(),
    }
}

/// Who pins us is not known here, so each kind of peer is told of.
fn who_is_affected(new: Option<NodeId>, memberships: &[Membership]) -> Vec<String> {
    let new = new.map_or_else(|| "NEW-ID".to_owned(), |new| new.to_string());
    let mut lines = vec![
        "  this node  a running `comity serve` or `comity connect --listen` goes on with the old key until it is restarted".to_owned(),
    ];
    lines.extend(
        memberships
            .iter()
            .map(|m| format!("  network    {}", m.text())),
    );
    lines.push(
        "  peers      that know us by an invitation or by first use follow by themselves, also those that are away".to_owned(),
    );
    lines.push(format!(
        "             where a person confirmed our id, we are refused until somebody there runs\n             `comity trust follow OUR-LABEL --confirm {new}`"
    ));
    lines.push(
        "             where our id stands elsewhere (`--allow NAME=ID`, scripts), the new one has to be entered".to_owned(),
    );
    lines
}

fn show_rolled(
    context: &Context,
    args: &IdentityRoll,
    plan: &RollPlan,
    rolled: &Rolled,
    memberships: &[Membership],
) {
    let statement = &rolled.statement;
    let value = json!({
        "old": statement.old().to_string(), "new": statement.new().to_string(),
        "sequence": statement.sequence(), "overlap_end": statement.overlap_end().to_string(),
        "reason": statement.reason(), "next_key": rolled.next_key,
        "statements": rolled.history.statements().len(),
        "networks": memberships.iter().map(Membership::json).collect::<Vec<_>>(),
    });
    context.shell.answer(statement.new(), &value);
    let shell = context.shell;
    shell.say(format_args!(
        "{} is followed by {} ({})",
        statement.old(),
        statement.new(),
        sequence_text(statement.sequence())
    ));
    shell.say(format_args!(
        "peers that follow accept the old key until {}",
        statement.overlap_end()
    ));
    shell.say("restart `comity serve` and `comity connect --listen` of this node: they go on with the old key");
    if let Some(path) = args.next_key.as_ref() {
        shell.say(format_args!(
            "{} is a copy of this node's identity now",
            path.display()
        ));
    }
    shell.say(format_args!(
        "{} belongs offline: move it to a safe place; it is the key after this one",
        rolled.next_key.display()
    ));
    for membership in memberships.iter().filter(|m| !m.own) {
        shell.say(format_args!("network {}", membership.text()));
    }
    if plan.overlapping.is_some() {
        shell.say("the key changed twice within one overlap: peers take both steps at once");
    }
    if rolled.history.statements().len() == MAX_STATEMENTS {
        shell.say(format_args!(
            "peers that were away for more than {MAX_STATEMENTS} changes cannot follow any more"
        ));
    }
    shell.say(format_args!(
        "where a person confirmed the old key: `comity trust follow LABEL --confirm {}`",
        statement.new()
    ));
}

/// A second run after one that was interrupted: the step is taken, and is not taken twice.
fn show_already(context: &Context, current: NodeId) {
    let value = json!({ "new": current.to_string(), "already": true });
    context.shell.answer(current, &value);
    context.shell.say(
        "this key is the identity already; nothing was changed. Restart what still runs with the old one",
    );
}

fn sequence_text(sequence: u64) -> String {
    match sequence {
        1 => "the first change of this node's key".to_owned(),
        n => format!("change {n} of this node's key"),
    }
}

/// A network that this node is in.
struct Membership {
    label: String,
    network: NodeId,
    /// Whether the authority is in this home.
    own: bool,
    /// Whether a place is known where its nodes can be asked.
    asked: bool,
}

impl Membership {
    fn text(&self) -> String {
        let label = &self.label;
        match (self.own, self.asked) {
            (true, _) => format!(
                "{label}: its authority is here; our membership is issued anew for the new key"
            ),
            (false, false) => format!(
                "{label}: its people have to certify the new key: send them what `comity id --certificate` prints, and `comity network import` what they make"
            ),
            (false, true) => format!(
                "{label}: its issuing node renews our membership when it next sees us: `comity network refresh {label}`"
            ),
        }
    }

    fn json(&self) -> Value {
        json!({ "label": self.label, "network": self.network.to_string(), "own": self.own })
    }
}

fn has_locations(record: &NetworkRecord) -> bool {
    let bundle = Bundle::parse_of(&record.network, &record.bundle);
    bundle.is_ok_and(|bundle| !bundle.locations().is_empty())
}

fn memberships(home: &Home) -> Result<Vec<Membership>, Failure> {
    let own =
        |network: &NodeId| is_authority_of(home, network).map_err(|error| store_failure(&error));
    let networks = NetworkStore::new(home, "comity identity roll").list();
    let networks = networks.map_err(|error| store_failure(&error))?;
    let joined = networks.into_iter().filter(|n| !n.membership.is_empty());
    joined
        .map(|record| {
            Ok(Membership {
                own: own(&record.network)?,
                asked: record.source.is_some() || has_locations(&record),
                label: record.label,
                network: record.network,
            })
        })
        .collect()
}

fn export(context: &Context, args: &IdentityExport) -> Outcome {
    let home = context.open_home()?;
    let history = history(&home).map_err(|error| roll_failure(&error))?;
    let history = history.ok_or_else(|| {
        Failure::no("this node's key never changed: there are no statements")
            .hint("`comity id` shows the id; `comity identity roll` changes the key")
    })?;
    let value = json!({
        "current": history.current().to_string(),
        "statements": statements_json(&history),
        "out": args.out,
    });
    let count = match history.statements().len() {
        1 => "1 statement".to_owned(),
        n => format!("{n} statements"),
    };
    write_out(
        context,
        args.out.as_deref(),
        &Statement::Succession(history),
        value,
    )?;
    context.shell.say(format_args!(
        "{count}; elsewhere: `comity trust import FILE`"
    ));
    Ok(Exit::Yes)
}

/// What statements say, for programs.
pub(crate) fn statements_json(history: &SuccessionChain) -> Vec<Value> {
    let statements = history.statements().iter();
    statements
        .map(|s| {
            json!({
                "sequence": s.sequence(), "old": s.old().to_string(), "new": s.new().to_string(),
                "issued": s.issued().to_string(), "overlap_end": s.overlap_end().to_string(),
                "reason": s.reason(), "network": s.network().map(|n| n.to_string()),
            })
        })
        .collect()
}

fn revoke(context: &Context, args: &IdentityRevoke) -> Outcome {
    let home = context.open_home()?;
    let reason = Some(args.reason.as_str());
    let revocation = match &args.by_next_key {
        None => revoke_key(&home, reason, &mut || context.passphrase(), now()),
        Some(path) => {
            let text = key_file(path)?;
            let mut ask = || next_passphrase(context, args.next_passphrase_file.as_deref());
            revoke_by_next_key(&home, &text, reason, &mut ask, now())
        }
    };
    let revocation = revocation.map_err(|error| roll_failure(&error))?;
    let value = json!({
        "key": revocation.key().to_string(), "at": revocation.at().to_string(),
        "reason": revocation.reason(), "by_next_key": args.by_next_key.is_some(),
        "out": args.out,
    });
    let key = revocation.key();
    write_out(
        context,
        args.out.as_deref(),
        &Statement::Revocation(revocation),
        value,
    )?;
    context.shell.say(format_args!(
        "whoever runs `comity trust import` on this refuses {key} for ever; nothing was changed here"
    ));
    if args.by_next_key.is_some() {
        context.shell.say(
            "it counts where the next key is known (`next=` in known_peers), as it is by an invitation or first use",
        );
    }
    Ok(Exit::Yes)
}

/// Prints a statement, or writes it into the file that was named.
fn write_out(
    context: &Context,
    out: Option<&Path>,
    statement: &Statement,
    mut value: Value,
) -> Result<(), Failure> {
    let text = statement.encode();
    match out {
        None => {
            value["pem"] = json!(text);
            context.shell.answer(text.trim_end(), &value);
        }
        Some(path) => {
            export_file(path, text.as_bytes(), Exported::Public, false)
                .map_err(|error| store_failure(&error))?;
            context
                .shell
                .answer(format_args!("wrote {}", path.display()), &value);
        }
    }
    Ok(())
}

fn key_file(path: &Path) -> Result<Zeroizing<String>, Failure> {
    read_key_file(path)
        .map_err(|error| Failure::unable(format!("cannot read {}: {error}", path.display())))
}

/// The passphrase of a next key that lay elsewhere: from its file, or typed.
fn next_passphrase(
    context: &Context,
    file: Option<&Path>,
) -> Result<Zeroizing<String>, NoPassphrase> {
    let no = |cause: String| NoPassphrase { cause };
    if let Some(path) = file {
        let text = read_named_file(path).map(Zeroizing::new);
        let text = text.map_err(|error| no(format!("{}: {error}", path.display())))?;
        return Ok(Zeroizing::new(
            text.lines().next().unwrap_or_default().to_owned(),
        ));
    }
    if no_terminal() {
        return context.passphrase().map_err(|_| {
            no(
                "there is no terminal to ask at; --next-passphrase-file names a file with it"
                    .to_owned(),
            )
        });
    }
    rpassword::prompt_password("passphrase of the next key: ")
        .map(Zeroizing::new)
        .map_err(|error| {
            no(format!(
                "{error}; --next-passphrase-file names a file with it"
            ))
        })
}

fn roll_failure(error: &RollError) -> Failure {
    match error {
        RollError::Identity(error) => identity_failure(error),
        RollError::Store(error) => store_failure(error),
        RollError::NoNextKey { path } => Failure::unable("the next key is not in this home")
            .detail(format!("it was made at {}", path.display()))
            .hint("if it was moved away, say where it is: `comity identity roll --next-key FILE`"),
        RollError::NextKey(KeyError::WrongPassphrase) => {
            Failure::no("the passphrase of the next key is wrong")
                .hint("where it has another than the identity: --next-passphrase-file FILE")
        }
        RollError::NotCommitted { committed, found } => {
            Failure::no("this is not the next key of this node: no peer would follow")
                .detail(format!("committed  {committed}"))
                .detail(format!("given      {found}"))
                .hint("look for the file that `comity init`, or the last `comity identity roll`, told to move away")
        }
        RollError::History { cause: HistoryFault::AnotherNode { .. }, .. } => {
            Failure::unable(chain(error))
                .hint("the folder `identity` was put together from two: restore it from one backup")
        }
        RollError::Clock { .. } => Failure::unable(chain(error))
            .hint("set the clock of this machine: `timedatectl` shows what it goes by"),
        RollError::Interfered => Failure::unable(chain(error)).hint("look at `comity id`, and try again"),
        _ => Failure::unable(chain(error)),
    }
}
