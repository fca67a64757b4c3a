//! `comity trust import|follow`: what peers say about their keys, and the question to a person.

use std::io::Read;
use std::path::Path;

use comity_agent::{Statement, read_named_file};
use comity_certs::PresentedChain;
use comity_identity::{NodeId, PeerId};
use comity_record::limits::MAX_STATEMENTS;
use comity_record::{KeyRevocation, Succession, SuccessionChain};
use comity_store::PeerStore;
use comity_trust::{
    Edit, Entry, Followed, KnownPeers, Pin, Reason, SuccessionFault, SuccessionPolicy, follow,
};
use serde_json::{Value, json};

use crate::Outcome;
use crate::args::rotation::{TrustFollow, TrustImport};
use crate::commands::connect::prepare;
use crate::commands::identity_roll::statements_json;
use crate::commands::inspect::{fetch, no_options};
use crate::commands::memory::{apply, compares, found_or_no, revoke_pin};
use crate::context::{Context, now};
use crate::messages::{fork_failure, statement_line, succession_fault};
use crate::shell::{Exit, Failure, Terminal};

/// Bytes of statements on standard input.
const MAX_INPUT: u64 = 4 << 20;

pub(crate) fn import(context: &Context, args: &TrustImport) -> Outcome {
    let statements = read_statements(&args.file)?;
    let confirmed = args
        .confirm
        .iter()
        .map(|text| full_id(text))
        .collect::<Result<Vec<_>, _>>()?;
    let home = context.open_home()?;
    let store = context.store(&home, "comity trust import")?;
    let mut taken: Vec<Taken> = Vec::new();
    for statement in &statements {
        taken.push(match statement {
            Statement::Succession(history) => {
                import_succession(&store, history, &confirmed, args.dry_run)
            }
            Statement::Revocation(revocation) => {
                import_revocation(&store, revocation, args.dry_run)
            }
        });
    }
    let refused = taken.iter().filter(|taken| taken.refused.is_some()).count();
    let text: Vec<&str> = taken.iter().map(|taken| taken.text.as_str()).collect();
    let value: Vec<&Value> = taken.iter().map(|taken| &taken.value).collect();
    context.shell.answer(text.join("\n\n"), &value);
    for failure in taken.iter().filter_map(|taken| taken.refused.as_ref()) {
        context.shell.fail_in_words(failure);
    }
    if args.dry_run {
        context.shell.say("nothing was changed");
    }
    Ok(match refused {
        0 => Exit::Yes,
        _ => Exit::No,
    })
}

/// What became of one statement from a file.
struct Taken {
    text: String,
    value: Value,
    refused: Option<Failure>,
}

fn import_succession(
    store: &PeerStore,
    history: &SuccessionChain,
    confirmed: &[NodeId],
    dry_run: bool,
) -> Taken {
    let statement = json!({
        "kind": "succession", "current": history.current().to_string(),
        "statements": statements_json(history),
    });
    let steps: Vec<String> = history.statements().iter().map(statement_line).collect();
    let head = format!(
        "succession to {}\n  {}",
        history.current(),
        steps.join("\n  ")
    );
    let done = match dry_run {
        true => decide(&store.snapshot().known, history, confirmed, None),
        false => take(store, history, confirmed, None),
    };
    let told = done.map(|done| match done {
        Done::Followed(followed) => (
            format!("followed by known_peers:{}", lines_text(&followed.lines)),
            json!(followed.lines),
        ),
        Done::Already => ("followed already".to_owned(), json!([])),
    });
    taken(head, statement, told)
}

fn import_revocation(store: &PeerStore, revocation: &KeyRevocation, dry_run: bool) -> Taken {
    let key = revocation.key();
    let head = format!(
        "revocation of {key}\n  {} {}, signed by {}",
        revocation.at(),
        revocation.reason().unwrap_or("without a reason"),
        match revocation.signer() == key.key_hash() {
            true => "the key itself".to_owned(),
            false => format!("another key, {}", revocation.signer()),
        }
    );
    let statement = json!({
        "kind": "revocation", "key": key.to_string(), "at": revocation.at().to_string(),
        "reason": revocation.reason(), "signer": revocation.signer().to_string(),
    });
    let known = &store.snapshot().known;
    if let Err(failure) = counts(known, revocation) {
        return taken(head, statement, Err(failure));
    }
    if let Some(line) = known.revocation_of_key(&key.key_hash()) {
        let text = format!("revoked already (known_peers:{line})");
        return taken(head, statement, Ok((text, json!([line]))));
    }
    let revoked = match dry_run {
        true => Ok(()),
        false => revoke_pin(store, &Pin::Node(key), "statement of revocation").map(drop),
    };
    let text = "refused from now on, for ever; its open connections close within a second";
    let told = revoked.map(|()| (text.to_owned(), json!([])));
    taken(head, statement, told)
}

/// A key may end itself. For another one to end it, the entry must say that it was committed to.
fn counts(known: &KnownPeers, revocation: &KeyRevocation) -> Result<(), Failure> {
    let key = revocation.key();
    let pins: Vec<(usize, &Entry)> = known.pins_of(PeerId::Node(key)).collect();
    let committed = |entry: &Entry| revocation.counts(entry.attributes.next);
    if revocation.counts(None) || pins.iter().any(|(_, entry)| committed(entry)) {
        return Ok(());
    }
    let failure = Failure::no(format!("the revocation of {key} does not count here"))
        .because(Reason::NotAuthorised);
    Err(match pins.iter().find_map(|(line, e)| Some((line, e.attributes.next?))) {
        Some((line, next)) => failure
            .detail(format!("signed by  {}", revocation.signer()))
            .detail(format!("committed  {next} (known_peers:{line})"))
            .hint("only the key itself, or the next key to which it committed, can end it"),
        None => failure
            .detail("it is signed by another key, and no entry here says that the key committed to that one (`next=`)")
            .hint(format!("if its operator confirms it: `comity trust revoke {key}`")),
    })
}

/// Adds to what a statement says what became of it: a text, and the lines that it concerns.
fn taken(head: String, mut value: Value, outcome: Result<(String, Value), Failure>) -> Taken {
    value["ok"] = json!(outcome.is_ok());
    match outcome {
        Ok((text, lines)) => {
            value["lines"] = lines;
            Taken {
                text: format!("{head}\n  {text}"),
                value,
                refused: None,
            }
        }
        Err(failure) => {
            value["reason"] = json!(failure.reason.map(Reason::token));
            value["message"] = json!(failure.message);
            Taken {
                text: format!("{head}\n  refused"),
                value,
                refused: Some(failure),
            }
        }
    }
}

pub(crate) fn follow_peer(context: &Context, args: &TrustFollow) -> Outcome {
    let confirmed = args.confirm.as_deref().map(full_id).transpose()?;
    let home = context.open_home()?;
    let store = context.store(&home, "comity trust follow")?;
    known_nodes(&store.snapshot().known, &args.peer)?;
    let history = match &args.file {
        Some(path) => history_in(path, &args.peer)?,
        None => history_of_peer(context, args)?,
    };
    let confirmed: Vec<NodeId> = confirmed.into_iter().collect();
    let done = take(&store, &history, &confirmed, Some(&args.peer))?;
    let current = history.current();
    let (text, lines) = match done {
        Done::Followed(followed) => (
            format!("{} has the key {current} now", args.peer),
            followed.lines,
        ),
        Done::Already => (
            format!("{} has the key {current} already", args.peer),
            Vec::new(),
        ),
    };
    let value = json!({
        "peer": args.peer, "key": current.to_string(), "followed": !lines.is_empty(),
        "lines": lines, "statements": statements_json(&history),
    });
    context.shell.answer(text, &value);
    Ok(Exit::Yes)
}

/// The lines of `peer` that a statement can be about, with their keys.
fn known_nodes(known: &KnownPeers, peer: &str) -> Result<Vec<(usize, NodeId)>, Failure> {
    let found = found_or_no(known, peer)?;
    let nodes: Vec<(usize, NodeId)> = found
        .iter()
        .filter_map(|(line, entry)| Some((*line, entry.node()?)))
        .collect();
    match nodes.is_empty() {
        true => Err(Failure::no(format!("`{peer}` has no key of a node here"))
            .detail(
                "only nodes sign statements of succession; another peer's key is replaced by hand",
            )
            .hint(format!("`comity trust replace {peer} ID`"))),
        false => Ok(nodes),
    }
}

/// What the peer staples to its certificate. It learns nothing of us, and nothing is remembered of
/// the dial: the statements prove themselves.
fn history_of_peer(context: &Context, args: &TrustFollow) -> Result<SuccessionChain, Failure> {
    let dialling = prepare(context, &no_options(args.addr.clone()))?;
    let chain = fetch(&dialling, &args.peer, args.addr.as_deref(), false)?;
    let presented = chain.peer_id();
    let history = stapled(&chain)?.ok_or_else(|| {
        Failure::no(format!("{} presents no statement of succession", args.peer))
            .detail(format!("presented  {presented}"))
            .because(Reason::Changed)
            .hint("a node that rolled its identity presents its statements once it was restarted")
    })?;
    match PeerId::Node(history.current()) == presented {
        true => Ok(history),
        false => Err(other_key(&history, presented)),
    }
}

fn other_key(history: &SuccessionChain, presented: PeerId) -> Failure {
    Failure::no("the statements that it presents are about another key")
        .detail(format!("presented  {presented}"))
        .detail(format!("statements {}", history.current()))
        .because(Reason::Changed)
}

/// The statements in a certificate; `None` if there are none.
pub(crate) fn stapled(chain: &PresentedChain) -> Result<Option<SuccessionChain>, Failure> {
    let Some(bytes) = &chain.leaf().succession else {
        return Ok(None);
    };
    SuccessionChain::parse(bytes).map(Some).map_err(|error| {
        Failure::no(format!(
            "the statements that it presents are not valid: {error}"
        ))
        .because(Reason::Malformed)
    })
}

fn history_in(path: &Path, peer: &str) -> Result<SuccessionChain, Failure> {
    let statements = read_statements(path)?;
    let mut histories = statements.into_iter().filter_map(|s| match s {
        Statement::Succession(history) => Some(history),
        Statement::Revocation(_) => None,
    });
    match (histories.next(), histories.next()) {
        (Some(history), None) => Ok(history),
        (None, _) => Err(Failure::no(format!(
            "there is no succession of `{peer}` in {}",
            path.display()
        ))),
        (Some(_), Some(_)) => Err(Failure::unable(format!(
            "{} has several successions",
            path.display()
        ))
        .hint("`comity trust import` takes all of them")),
    }
}

/// What became of the entries.
enum Done {
    Followed(Followed),
    /// They have the key of today.
    Already,
}

/// Lets the entries of a key follow, if policy or a person says so.
fn take(
    store: &PeerStore,
    history: &SuccessionChain,
    confirmed: &[NodeId],
    peer: Option<&str>,
) -> Result<Done, Failure> {
    let current = history.current();
    let known = store.snapshot();
    let decided = match decide(&known.known, history, confirmed, peer) {
        Err(failure) if failure.reason == Some(Reason::Forked) => {
            freeze(store, history)?;
            return Err(failure);
        }
        decided => decided?,
    };
    let Done::Followed(_) = decided else {
        return Ok(decided);
    };
    let mut followed = None;
    let detail = peer.unwrap_or("statements of succession");
    let peer_id = Some(PeerId::Node(current));
    // Once a person decided, the same decision holds under the lock.
    let policy = SuccessionPolicy::Accept(current);
    apply(store, peer_id, "succeed", detail, |known| {
        match follow(known, history, policy, now()) {
            Ok(Some(now_followed)) => {
                let edit = now_followed.edit.clone();
                followed = Some(now_followed);
                Ok(edit)
            }
            Ok(None) => Err(Failure::no("the entry was changed meanwhile")),
            Err(fault) => Err(fault_failure(&fault, history, peer)),
        }
    })?;
    Ok(followed.map_or(Done::Already, Done::Followed))
}

/// Whether the entries follow, by policy, by an id that was given, or by what a person answers.
fn decide(
    known: &KnownPeers,
    history: &SuccessionChain,
    confirmed: &[NodeId],
    peer: Option<&str>,
) -> Result<Done, Failure> {
    let current = history.current();
    // Whoever gives an id wants that key and no other, also where policy would follow.
    if peer.is_some() && !confirmed.is_empty() && !confirmed.contains(&current) {
        return Err(not_the_confirmed(confirmed, current));
    }
    let accept = SuccessionPolicy::Accept(current);
    let followed = match follow(known, history, SuccessionPolicy::Auto, now()) {
        Err(SuccessionFault::Undecided { .. }) if confirmed.contains(&current) => {
            follow(known, history, accept, now())
        }
        Err(SuccessionFault::Undecided { line, .. }) => {
            let whom = peer.map_or_else(|| name_in(known, line), str::to_owned);
            match ask_to_follow(&whom, history, &known_pins(known, history))? {
                true => follow(known, history, accept, now()),
                false => return Err(undecided(&whom, history)),
            }
        }
        decided => decided,
    };
    match followed {
        Ok(Some(followed)) => concerns(known, followed, history, peer),
        Ok(None) => nobody_follows(known, history, peer),
        Err(fault) => Err(fault_failure(&fault, history, peer)),
    }
}

/// Statements that are shown for one peer must not move another one.
fn concerns(
    known: &KnownPeers,
    followed: Followed,
    history: &SuccessionChain,
    peer: Option<&str>,
) -> Result<Done, Failure> {
    let Some(peer) = peer else {
        return Ok(Done::Followed(followed));
    };
    let lines: Vec<usize> = known_nodes(known, peer)?.iter().map(|(l, _)| *l).collect();
    match followed.lines.iter().any(|line| lines.contains(line)) {
        true => Ok(Done::Followed(followed)),
        false => nobody_follows(known, history, Some(peer)),
    }
}

fn nobody_follows(
    known: &KnownPeers,
    history: &SuccessionChain,
    peer: Option<&str>,
) -> Result<Done, Failure> {
    let current = history.current();
    let Some(peer) = peer else {
        return match known.pins_of(PeerId::Node(current)).next() {
            Some(_) => Ok(Done::Already),
            None => Err(
                Failure::no("nobody is known here by a key in these statements")
                    .because(Reason::Unknown),
            ),
        };
    };
    let nodes = known_nodes(known, peer)?;
    if nodes.iter().any(|(_, node)| *node == current) {
        return Ok(Done::Already);
    }
    let mut failure = Failure::no(format!("the statements say nothing of the key of {peer}"))
        .because(Reason::Changed);
    for (line, node) in &nodes {
        failure = failure.detail(format!("known      {node} (known_peers:{line})"));
    }
    failure = failure.detail(format!("statements {}", history_text(history)));
    Err(failure.hint(format!(
        "compare the new id with its operator, then run `comity trust replace {peer} {current}`"
    )))
}

/// How far back statements reach, because a peer that was away for longer cannot follow.
pub(crate) fn history_text(history: &SuccessionChain) -> String {
    let statements = history.statements();
    let oldest = statements[0].old();
    match statements.len() {
        n if n == MAX_STATEMENTS && statements[0].sequence() > 1 => format!(
            "the last {n} changes of its key, back to {oldest}: the one that is known here is older, and earlier statements are gone"
        ),
        1 => format!("one change of its key, from {oldest}"),
        n => format!("{n} changes of its key, back to {oldest}"),
    }
}

fn fault_failure(
    fault: &SuccessionFault,
    history: &SuccessionChain,
    peer: Option<&str>,
) -> Failure {
    match fault {
        SuccessionFault::Forked { lines, .. } => fork_failure(
            "two statements name different successors of one key",
            peer,
            lines,
        ),
        SuccessionFault::Undecided { .. } => undecided(peer.unwrap_or("the peer"), history),
        fault => Failure::no(format!(
            "the succession is refused: {}",
            succession_fault(fault)
        ))
        .because(fault.reason()),
    }
}

fn undecided(whom: &str, history: &SuccessionChain) -> Failure {
    let current = history.current();
    Failure::no(format!(
        "a person confirmed the key of {whom}, so a person decides about the next one"
    ))
    .detail(format!("new        {current}"))
    .detail(format!("           {}", current.words()))
    .because(Reason::Changed)
    .hint(format!(
        "if its operator confirms the change: --confirm {current}"
    ))
}

fn not_the_confirmed(confirmed: &[NodeId], current: NodeId) -> Failure {
    let mut failure =
        Failure::no("the statements lead to another key than the one that was confirmed")
            .detail(format!("new        {current}"));
    for id in confirmed {
        failure = failure.detail(format!("confirmed  {id}"));
    }
    failure.because(Reason::Changed).hint(
        "if the operator told you right, somebody else signed these statements: follow nobody",
    )
}

/// A fork is remembered, wherever it was seen.
fn freeze(store: &PeerStore, history: &SuccessionChain) -> Result<(), Failure> {
    let now = now();
    let find = |known: &KnownPeers| -> Option<Edit> {
        let fault = follow(known, history, SuccessionPolicy::Auto, now).err()?;
        fault.edit(now)
    };
    if find(&store.snapshot().known).is_none() {
        return Ok(());
    }
    apply(
        store,
        Some(PeerId::Node(history.current())),
        "forked",
        "statements of succession",
        |known| find(known).ok_or_else(|| Failure::no("the entry was changed meanwhile")),
    )
}

fn name_in(known: &KnownPeers, line: usize) -> String {
    let entry = known.entry(line);
    let name = entry.and_then(Entry::display_name);
    name.map_or_else(|| format!("known_peers:{line}"), ToString::to_string)
}

/// The pins that the statements are about.
fn known_pins(known: &KnownPeers, history: &SuccessionChain) -> Vec<(usize, NodeId)> {
    let old = history.statements().iter().map(Succession::old);
    old.flat_map(|key| {
        let pins = known.pins_of(PeerId::Node(key));
        pins.map(move |(line, _)| (line, key)).collect::<Vec<_>>()
    })
    .collect()
}

/// Shows both keys and asks. `false` where nobody can be asked, or says no.
pub(crate) fn ask_to_follow(
    whom: &str,
    history: &SuccessionChain,
    known: &[(usize, NodeId)],
) -> Result<bool, Failure> {
    let Some(mut terminal) = Terminal::open() else {
        return Ok(false);
    };
    let current = history.current();
    let lost = |error: std::io::Error| Failure::unable(format!("cannot ask: {error}"));
    terminal
        .show(question_text(whom, history, known))
        .map_err(lost)?;
    for _ in 0..3 {
        let answer = terminal
            .ask("Follow it? (yes / no / paste the new id or words)")
            .map_err(lost)?;
        match answer.to_lowercase().as_str() {
            "yes" => return Ok(true),
            "no" | "n" | "" => return Ok(false),
            _ => {}
        }
        match compares(&answer, current.key_hash()) {
            Ok((true, _)) => return Ok(true),
            Ok((false, _)) => {
                return Err(Failure::no(
                    "the pasted id is not the new key: somebody else may have signed for it",
                )
                .detail(format!("new        {current}"))
                .detail(format!("pasted     {answer}"))
                .because(Reason::Changed));
            }
            Err(_) => terminal
                .show("Please type yes or no, or paste the new id.")
                .map_err(lost)?,
        }
    }
    Ok(false)
}

fn question_text(whom: &str, history: &SuccessionChain, known: &[(usize, NodeId)]) -> String {
    let current = history.current();
    let mut lines = vec![format!(
        "{whom} has a new key. The one that a person confirmed signed for it:\n"
    )];
    for (line, key) in known {
        lines.push(format!("  old  {key}  (known_peers:{line})"));
        lines.push(format!("       {}", key.words()));
    }
    lines.push(format!("  new  {current}"));
    lines.push(format!("       {}\n", current.words()));
    let steps = history.statements().iter();
    lines.extend(steps.map(|step| format!("  {}", statement_line(step))));
    lines.push(
        "\nWhoever stole the old key and the next one could sign this. If you can, compare the new\nid with its operator before you answer.".to_owned(),
    );
    lines.join("\n")
}

fn lines_text(lines: &[usize]) -> String {
    let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    lines.join(",")
}

fn read_statements(path: &Path) -> Result<Vec<Statement>, Failure> {
    let shown = path.display();
    let text = match path.as_os_str() == "-" {
        true => read_standard_input(),
        false => read_named_file(path),
    };
    let text = text.map_err(|error| Failure::unable(format!("cannot read {shown}: {error}")))?;
    Statement::read(&text).map_err(|error| {
        Failure::of(format!("{shown} has no usable statements"), &error)
            .hint("`comity identity export` and `comity identity revoke` make such files")
    })
}

fn read_standard_input() -> std::io::Result<String> {
    let mut text = String::new();
    let read = std::io::stdin()
        .lock()
        .take(MAX_INPUT + 1)
        .read_to_string(&mut text)?;
    match read as u64 > MAX_INPUT {
        true => Err(std::io::Error::other("more than 4 MB")),
        false => Ok(text),
    }
}

/// A full id of a node, as `--confirm` takes it: a short one could be somebody else's.
fn full_id(text: &str) -> Result<NodeId, Failure> {
    match text.parse::<PeerId>() {
        Ok(PeerId::Node(id)) => Ok(id),
        Ok(PeerId::Key(_)) => Err(Failure::unable(format!(
            "--confirm {text}: that is a foreign key's; nodes alone have successors"
        ))),
        Err(error) => Err(Failure::unable(format!("--confirm {text}: {error}"))),
    }
}
