//! What a node does for its networks while it runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use comity_certs::{CertificateKind, describe};
use comity_identity::{NodeId, UnixTime};
use comity_record::{Bundle, Freshness, KeyState, Location};
use comity_store::NetworkRecord;
use comity_tls::network::{Farewell, FetchError, Fetched, Holding, fetch_bundle};
use comity_tls::{DialRequest, Dialer, Endpoint, Wish};
use comity_trust::{Expectation, Mode};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::follow::{Memory, Reach, Subscribed, pull, subscribe};
use super::places::places;

/// How often what runs out is looked at, and said at most.
const WARN_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Before its end, a membership is renewed by itself many times. When so little is left, nobody
/// renews it.
pub const MEMBERSHIP_WARNING: Duration = Duration::from_secs(14 * 24 * 3600);

/// How long a subscription may take to bring a renewed membership, where somebody waits for it.
const RENEWAL_PATIENCE: Duration = Duration::from_secs(10);

/// Starts what keeps this node in touch with its networks: a subscription to each network that it
/// is in, the question for bundles that are due, and warnings of what runs out. Networks that are
/// joined and left later are noticed. Dropping the set stops everything.
pub fn follow_networks(endpoint: &Endpoint) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(follow_all(endpoint.clone()));
    tasks.spawn(warn(endpoint.clone()));
    tasks
}

/// Follows each network that is known, from when it is known until it is forgotten.
async fn follow_all(endpoint: Endpoint) {
    let mut snapshots = endpoint.store().watch();
    let mut tasks = JoinSet::new();
    let mut running: HashMap<(NodeId, bool), AbortHandle> = HashMap::new();
    loop {
        snapshots.mark_unchanged();
        let wanted: HashMap<(NodeId, bool), String> = match records(&endpoint).await {
            Ok(records) => records
                .iter()
                .map(|r| ((r.network, !r.membership.is_empty()), r.label.clone()))
                .collect(),
            // Whatever runs goes on: the file may be readable again in a moment.
            Err(error) => {
                tracing::warn!(%error, "the networks cannot be read");
                running.keys().map(|key| (*key, String::new())).collect()
            }
        };
        running.retain(|key, task| {
            let stays = wanted.contains_key(key);
            if !stays {
                task.abort();
            }
            stays
        });
        for ((network, is_member), label) in wanted {
            running.entry((network, is_member)).or_insert_with(|| {
                let followed = Followed {
                    endpoint: endpoint.clone(),
                    network,
                };
                tasks.spawn(follow(followed, is_member, label))
            });
        }
        while tasks.try_join_next().is_some() {}
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}

/// Members subscribe as well: nobody else is let in for that.
async fn follow(followed: Followed, is_member: bool, label: String) {
    let subscribed = async {
        if is_member {
            subscribe(&label, &followed, &followed).await;
        }
    };
    tokio::join!(subscribed, pull(&label, &followed, &followed));
}

async fn records(endpoint: &Endpoint) -> Result<Vec<NetworkRecord>, String> {
    let endpoint = endpoint.clone();
    let listed = tokio::task::spawn_blocking(move || endpoint.networks().list());
    match listed.await {
        Ok(Ok(records)) => Ok(records),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// One network, over real connections and from the real store.
#[derive(Clone)]
struct Followed {
    endpoint: Endpoint,
    network: NodeId,
}

impl Followed {
    fn record(&self) -> Option<NetworkRecord> {
        self.endpoint.networks().find(&self.network).ok().flatten()
    }

    fn held(&self) -> Option<Holding> {
        let snapshot = self.endpoint.store().snapshot();
        let bundle = &snapshot.networks.get(&self.network)?.bundle;
        Some(Holding::new(
            self.network,
            bundle.charter().sequence(),
            bundle.sequence(),
            Arc::from(bundle.bytes()),
        ))
    }
}

impl Reach for Followed {
    async fn subscribe(&self, place: &Location) -> Subscribed {
        let Some(server) = place.node() else {
            return Subscribed::Lost("its id is not known".to_owned());
        };
        let mut request = DialRequest::new(Expectation::default(), Mode::Pin, Wish::Network);
        request.network = Some(self.network);
        let dialer = Dialer::new(self.endpoint.clone());
        let host = place.host();
        match dialer
            .dial_place((&host, place.port()), server, request)
            .await
        {
            Ok(connection) => {
                tracing::debug!(network = %self.network.short(), host = place.host(), "subscribed");
                match connection
                    .exchange_bundles(&self.endpoint, Some(self.network))
                    .await
                {
                    Ok(Farewell::Renewed) => Subscribed::Renewed,
                    Ok(Farewell::Closed) => Subscribed::Lost("it closed the connection".to_owned()),
                    Err(error) => Subscribed::Lost(error.to_string()),
                }
            }
            Err(error) => Subscribed::Lost(error.to_string()),
        }
    }

    async fn pull(&self, place: &Location) -> Result<(), String> {
        self.ask(place).await.map_err(|missed| missed.why)
    }
}

/// Why a place gave no bundle.
struct Missed {
    why: String,
    /// Whether it was there, and gives us none.
    refused: bool,
}

impl Followed {
    async fn ask(&self, place: &Location) -> Result<(), Missed> {
        let held = self.held();
        let fetched = fetch_bundle(&self.endpoint, place, held.as_ref()).await;
        let bytes = match fetched {
            Ok(Fetched::Bundle(bytes)) => bytes,
            Ok(Fetched::Unchanged) => held.map(|h| h.bundle().to_vec()).unwrap_or_default(),
            Err(error) => {
                let refused = matches!(
                    error,
                    FetchError::Status {
                        status: 403 | 404,
                        ..
                    }
                );
                let why = error.to_string();
                return Err(Missed { why, refused });
            }
        };
        let followed = self.clone();
        let taken = tokio::task::spawn_blocking(move || {
            followed.endpoint.take_bundle(&followed.network, &bytes)
        });
        let why = match taken.await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        let refused = false;
        Err(Missed { why, refused })
    }
}

impl Memory for Followed {
    fn places(&self) -> Vec<Location> {
        let ourselves = self.endpoint.credentials().node_id();
        self.record()
            .map_or_else(Vec::new, |record| places(&record, &ourselves))
    }

    fn due(&self) -> UnixTime {
        let snapshot = self.endpoint.store().snapshot();
        let refresh = snapshot
            .networks
            .get(&self.network)
            .map(|a| a.bundle.refresh());
        match (self.record(), refresh) {
            (Some(record), Some(refresh)) => record.refreshed + refresh,
            // Nothing is asked for what is not known.
            _ => self.now() + WARN_EVERY,
        }
    }

    fn now(&self) -> UnixTime {
        self.endpoint.clock().now()
    }
}

/// What became of a network that was asked about now.
#[derive(Debug)]
pub struct Refreshed {
    /// The sequence of the bundle before.
    pub before: u64,
    /// The sequence now.
    pub sequence: u64,
    /// Where the bundle, or the news that there is none, came from.
    pub from: Option<Location>,
    /// Whether a new membership came.
    pub renewed: bool,
    /// What was tried in vain, with the cause.
    pub failed: Vec<(Location, String)>,
    /// Whether one of these places was there, and has no bundle for us: we may have been removed.
    pub refused: bool,
}

/// Asks for the bundle of a network now and, if this node's membership wants renewal, for that.
/// Blocks no thread; takes at most a minute or so for each place.
///
/// # Errors
/// When the network is not known here, or what is known of it cannot be read.
pub async fn refresh_network(endpoint: &Endpoint, network: NodeId) -> Result<Refreshed, String> {
    let followed = Followed {
        endpoint: endpoint.clone(),
        network,
    };
    let sequence = || sequence_of(endpoint, &network).ok_or("it is not known here".to_owned());
    let before = sequence()?;
    let mut refreshed = Refreshed {
        before,
        sequence: before,
        from: None,
        renewed: false,
        failed: Vec::new(),
        refused: false,
    };
    // First: whoever has a new key is a member again only by a new membership.
    let record = followed.record().ok_or("it is not known here")?;
    if wants_renewal(&record, endpoint) {
        refreshed.renewed = renew(&followed, &mut refreshed.failed).await;
    }
    ask_all(&followed, &mut refreshed).await;
    // Only the newer bundle says that the key that issued our membership retires. When that one has
    // ended, we get no bundle as members, and a membership as somebody who is known.
    let record = followed.record().ok_or("it is not known here")?;
    let is_cut_off = refreshed.refused && !record.membership.is_empty();
    if !refreshed.renewed && (is_cut_off || wants_renewal(&record, endpoint)) {
        refreshed.renewed = renew(&followed, &mut Vec::new()).await;
        if refreshed.renewed && refreshed.from.is_none() {
            refreshed.refused = false;
            ask_all(&followed, &mut refreshed).await;
        }
    }
    refreshed.sequence = sequence()?;
    Ok(refreshed)
}

/// Asks for the bundle at one place after the other, until one has it.
async fn ask_all(followed: &Followed, refreshed: &mut Refreshed) {
    for place in followed.places() {
        match followed.ask(&place).await {
            Ok(()) => {
                refreshed.from = Some(place);
                return;
            }
            Err(missed) => {
                refreshed.refused |= missed.refused;
                refreshed.failed.push((place, missed.why));
            }
        }
    }
}

/// Subscribes until a new membership has come.
async fn renew(followed: &Followed, failed: &mut Vec<(Location, String)>) -> bool {
    let before = followed.record().map(|record| record.membership);
    let mut snapshots = followed.endpoint.store().watch();
    for place in followed.places().iter().filter(|p| p.node().is_some()) {
        let arrived = async {
            loop {
                drop(tokio::time::timeout(Duration::from_millis(50), snapshots.changed()).await);
                if followed.record().map(|record| record.membership) != before {
                    return;
                }
            }
        };
        tokio::select! {
            subscribed = followed.subscribe(place) => match subscribed {
                Subscribed::Renewed => return true,
                Subscribed::Lost(why) => failed.push((place.clone(), why)),
            },
            () = arrived => return true,
            () = sleep(RENEWAL_PATIENCE) => {
                let why = "it gave no new membership".to_owned();
                failed.push((place.clone(), why));
            }
        }
    }
    false
}

fn sequence_of(endpoint: &Endpoint, network: &NodeId) -> Option<u64> {
    let snapshot = endpoint.store().poll_changes();
    snapshot.networks.get(network).map(|a| a.bundle.sequence())
}

/// Whether our membership has less than a third of its life left, is for a key that we had before, or
/// by a key of the network that is no longer in use.
fn wants_renewal(record: &NetworkRecord, endpoint: &Endpoint) -> bool {
    if record.membership.is_empty() {
        return false;
    }
    let node = endpoint.credentials().node_id();
    let now = endpoint.clock().now();
    OwnMembership::of(record, &node).is_none_or(|ours| ours.wants_renewal(now))
}

/// Our membership of a network, by the cross-certificate for our key that is good for longest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnMembership {
    /// Its serial number in hexadecimal digits.
    pub serial: String,
    /// The roles that it attests.
    pub roles: Vec<String>,
    /// Its first second.
    pub not_before: UnixTime,
    /// Its last second.
    pub not_after: UnixTime,
    /// What the bundle that is held says of the key that issued it; `None` if it does not have that
    /// key.
    pub issuer: Option<KeyState>,
}

impl OwnMembership {
    /// What the home has for this key; `None` if there is nothing for it.
    pub fn of(record: &NetworkRecord, node: &NodeId) -> Option<Self> {
        let described = record
            .membership
            .iter()
            .filter_map(|der| describe(der).ok());
        let ours = described
            .filter(|d| d.kind == CertificateKind::Cross && d.key == node.key_hash())
            .max_by_key(|d| d.not_after)?;
        Some(Self {
            serial: ours.serial,
            roles: ours
                .metadata
                .map(|m| m.roles().to_vec())
                .unwrap_or_default(),
            not_before: ours.not_before,
            not_after: ours.not_after,
            issuer: ours
                .authority_key_identifier
                .and_then(|identifier| issuer_state(record, &identifier)),
        })
    }

    /// Whether less than a third of its life is left, or it is by a key that is not in use any more:
    /// it ends with that one.
    pub fn wants_renewal(&self, now: UnixTime) -> bool {
        let life = self.not_before.until(self.not_after);
        self.issuer != Some(KeyState::Active) || self.not_before + life / 3 * 2 <= now
    }

    /// When it ends, as far as is known: with the key that issued it at the latest.
    fn end(&self) -> Option<UnixTime> {
        match self.issuer? {
            KeyState::Next | KeyState::Active => Some(self.not_after),
            KeyState::Retiring { until } => Some(self.not_after.min(until)),
            KeyState::Revoked => None,
        }
    }
}

/// The state of the key of a network that certificates identify by this.
fn issuer_state(record: &NetworkRecord, identifier: &str) -> Option<KeyState> {
    let bundle = Bundle::parse_of(&record.network, &record.bundle).ok()?;
    let mut keys = bundle.charter().keys().iter();
    let issuer = keys.find(|key| {
        let described = describe(key.details().der()).ok();
        let known = described.and_then(|d| d.subject_key_identifier);
        known.as_deref() == Some(identifier)
    })?;
    Some(issuer.state)
}

/// Says what runs out, while there is time to do something about it.
async fn warn(endpoint: Endpoint) {
    loop {
        if let Ok(records) = records(&endpoint).await {
            let (node, now) = (endpoint.credentials().node_id(), endpoint.clock().now());
            for record in &records {
                for concern in concerns(record, &node, now) {
                    tracing::warn!(network = record.label, "{concern}");
                }
            }
        }
        sleep(WARN_EVERY).await;
    }
}

/// What a person should know about a network before it is too late.
pub fn concerns(record: &NetworkRecord, node: &NodeId, now: UnixTime) -> Vec<String> {
    let mut concerns = Vec::new();
    if let Some(since) = record.forked {
        concerns.push(format!(
            "frozen since {since}: two of its bundles contradict each other, so somebody else has a key of its authority; it admits nobody until you decide"
        ));
    }
    if let Ok(bundle) = Bundle::parse_of(&record.network, &record.bundle) {
        let expires = bundle.expires();
        match bundle.standing(now) {
            Freshness::Fresh => {}
            Freshness::PastHalf => concerns.push(format!(
                "its bundle is old and ends at {expires}: nobody has brought a newer one"
            )),
            Freshness::Expired => concerns.push(format!(
                "its bundle ended at {expires}: members who are not connected are not recognised any more"
            )),
            Freshness::NotYetValid => concerns.push(format!(
                "its bundle is from the future ({}): one of the clocks is wrong",
                bundle.issued()
            )),
        }
    }
    if record.membership.is_empty() {
        return concerns;
    }
    concerns.extend(match OwnMembership::of(record, node) {
        None => Some("our membership is for a key that we had before".to_owned()),
        Some(ours) => of_membership(&ours, now),
    });
    concerns
}

fn of_membership(ours: &OwnMembership, now: UnixTime) -> Option<String> {
    let end = ours.not_after;
    match (ours.end(), ours.issuer) {
        _ if end < now => Some(format!("our membership ended at {end}")),
        (None, _) => {
            Some("our membership does not count: its issuing key is not in use any more".to_owned())
        }
        (Some(end), Some(KeyState::Retiring { .. })) if end < now => Some(format!(
            "our membership does not count: its issuing key ended at {end}"
        )),
        (Some(end), Some(KeyState::Retiring { .. })) => Some(format!(
            "our membership's issuing key ends at {end}, and nobody has renewed our membership"
        )),
        (Some(end), _) if end < now + MEMBERSHIP_WARNING => Some(format!(
            "our membership ends at {end}, and nobody has renewed it"
        )),
        (Some(_), _) => None,
    }
}
