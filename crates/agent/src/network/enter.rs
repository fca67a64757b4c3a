//! Entering what was verified: a membership that an invitation brought, one that was made for us, or
//! the bundle of another organisation.

use comity_identity::{NodeId, UnixTime};
use comity_record::{Bundle, Location, Withdrawn};
use comity_store::{NetworkError, NetworkRecord, NetworkStore, Updated};
use comity_tls::Endpoint;
use comity_tls::network::VerifiedGrant;
use comity_trust::Standing;

/// How often a taken label is tried with a number behind it: more networks than a home may know.
const LABEL_TRIES: usize = comity_store::MAX_NETWORKS + 1;

/// What a network is to this node now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entered {
    /// The network.
    pub network: NodeId,
    /// What it is called here.
    pub label: String,
    /// What its word counts for here.
    pub standing: Standing,
    /// Whether it was not known before.
    pub is_new: bool,
    /// What became of its bundle, where it was known before.
    pub updated: Option<Updated>,
}

/// How a network is entered.
#[derive(Clone, Debug, Default)]
pub struct Entry<'a> {
    /// What to call it, instead of its own name; for a network that is known already this renames it.
    pub label: Option<&'a str>,
    /// Whether its members are recognised here. What is recognised already stays so.
    pub recognise: bool,
    /// Where its bundle came from.
    pub source: Option<Location>,
    /// Words that stand for a network here already, in `networks=` or in a rule: what it calls itself
    /// is not taken for one of them.
    pub taken: Vec<String>,
}

/// Keeps a membership that was verified, and presents it from now on. The network is entered if it
/// is new here; a label that another network has gets a number behind it. Blocks.
///
/// # Errors
/// When the label that was asked for is none or taken, its bundle contradicts what is known, there
/// is no room, or the file cannot be written.
pub fn enter_membership(
    endpoint: &Endpoint,
    verified: &VerifiedGrant,
    entry: &Entry<'_>,
) -> Result<Entered, NetworkError> {
    let now = endpoint.clock().now();
    let known = endpoint.store().poll_changes();
    let mut entry = entry.clone();
    let name = verified.bundle().name();
    // A network names itself: it does not become what a word of ours has meant so far.
    let is_used = |word: &str| known.known.names_network(word);
    if entry.label.is_none() && is_used(name) {
        entry.taken = std::iter::once(name.to_owned())
            .chain((2..=LABEL_TRIES).map(|number| format!("{name}-{number}")))
            .filter(|word| is_used(word))
            .collect();
    }
    let entered = enter_bundle(endpoint.networks(), verified.bundle(), &entry, now)?;
    endpoint.store().poll_changes();
    endpoint.take_grant(verified)?;
    Ok(entered)
}

/// Enters the bundle of a network, or takes it for one that is known. Blocks.
///
/// # Errors
/// As [`enter_membership`].
pub fn enter_bundle(
    networks: &NetworkStore,
    bundle: &Bundle,
    entry: &Entry<'_>,
    now: UnixTime,
) -> Result<Entered, NetworkError> {
    let network = bundle.network();
    match networks.find(&network)? {
        Some(known) => take(networks, &known, bundle, entry, now),
        None => add(networks, bundle, entry, now),
    }
}

fn take(
    networks: &NetworkStore,
    known: &NetworkRecord,
    bundle: &Bundle,
    entry: &Entry<'_>,
    now: UnixTime,
) -> Result<Entered, NetworkError> {
    let network = known.network;
    let updated = networks.update_bundle(&network, bundle.bytes(), now);
    let updated = match updated {
        Ok(updated) => Some(updated),
        // It was true once, and what followed it is known. A membership beside it is none the worse.
        Err(NetworkError::Follow { error, .. }) if is_older(&error) => None,
        Err(error) => return Err(error),
    };
    if let Some(label) = entry.label {
        networks.relabel(&network, label)?;
    }
    let standing = match entry.recognise {
        true => Standing::Recognised,
        false => known.standing,
    };
    if standing != known.standing {
        networks.set_standing(&network, standing)?;
    }
    Ok(Entered {
        network,
        label: entry.label.unwrap_or(&known.label).to_owned(),
        standing,
        is_new: false,
        updated,
    })
}

fn is_older(error: &comity_record::FollowError) -> bool {
    use comity_record::FollowError::{CharterRollback, Rollback};
    matches!(error, Rollback { .. } | CharterRollback { .. })
}

fn add(
    networks: &NetworkStore,
    bundle: &Bundle,
    entry: &Entry<'_>,
    now: UnixTime,
) -> Result<Entered, NetworkError> {
    let mut taken = None;
    let own = labels(entry.label, bundle.name());
    for label in own.into_iter().filter(|label| !entry.taken.contains(label)) {
        let record = NetworkRecord {
            network: bundle.network(),
            label,
            standing: match entry.recognise {
                true => Standing::Recognised,
                false => Standing::Followed,
            },
            bundle: bundle.bytes().to_vec(),
            membership: Vec::new(),
            withdrawn: Withdrawn::new(),
            forked: None,
            rival: None,
            added: now,
            refreshed: now,
            source: entry.source.clone(),
        };
        let (label, standing) = (record.label.clone(), record.standing);
        match networks.add(record) {
            Ok(()) => {
                return Ok(Entered {
                    network: bundle.network(),
                    label,
                    standing,
                    is_new: true,
                    updated: None,
                });
            }
            Err(error @ NetworkError::LabelTaken { .. }) => taken = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(taken.unwrap_or(NetworkError::TooMany))
}

/// What a network may be called: what was asked for and nothing else, or its own name, with a number
/// where that is taken.
fn labels(wanted: Option<&str>, name: &str) -> Vec<String> {
    match wanted {
        Some(label) => vec![label.to_owned()],
        None => std::iter::once(name.to_owned())
            .chain((2..=LABEL_TRIES).map(|number| format!("{name}-{number}")))
            .collect(),
    }
}
