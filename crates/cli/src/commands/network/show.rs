//! `comity network list|show`.

use std::collections::BTreeSet;

use comity_agent::network::{OwnMembership, concerns};
use comity_agent::public_identity;
use comity_identity::{NodeId, UnixTime};
use comity_record::{Bundle, KeyRole, KeyState};
use comity_store::{Home, NetworkRecord, NetworkStore};
use serde_json::{Value, json};

use super::join::{days_text, membership_text};
use super::{is_ours, named};
use crate::Outcome;
use crate::args::network::NetworkShow;
use crate::context::{Context, now, store_failure};
use crate::shell::{Exit, Failure};

pub(super) fn list(context: &Context) -> Outcome {
    let home = context.open_home()?;
    let networks = NetworkStore::new(&home, "comity network list");
    let records = networks.list().map_err(|error| store_failure(&error))?;
    let shown = records
        .into_iter()
        .map(|record| Shown::of(&home, record))
        .collect::<Result<Vec<Shown>, Failure>>()?;
    if shown.is_empty() && !context.shell.json {
        context
            .shell
            .say("no networks: `comity network create NAME` founds one, `comity join` joins one");
        return Ok(Exit::Yes);
    }
    let values: Vec<Value> = shown.iter().map(Shown::json).collect();
    let lines: Vec<String> = shown.iter().map(Shown::summary).collect();
    context.shell.answer(lines.join("\n"), &values);
    Ok(Exit::Yes)
}

pub(super) fn show(context: &Context, args: &NetworkShow) -> Outcome {
    let home = context.open_home()?;
    let networks = NetworkStore::new(&home, "comity network show");
    let shown = Shown::of(&home, named(&networks, &args.name)?)?;
    context
        .shell
        .answer(shown.lines().join("\n"), &shown.json());
    if shown.record.forked.is_some() {
        let id = shown.record.network;
        context.shell.tell(format_args!(
            "two bundles of one sequence contradict each other: somebody else has a key of its authority.\n\
             Ask its people which digest is right. Then take that bundle, from a file of theirs:\n  \
             comity network import FILE --confirm {id}"
        ));
    }
    Ok(Exit::Yes)
}

/// A network, with what is derived from its record.
struct Shown {
    record: NetworkRecord,
    bundle: Bundle,
    ours: Option<OwnMembership>,
    is_ours: bool,
    concerns: Vec<String>,
    now: UnixTime,
}

impl Shown {
    fn of(home: &Home, record: NetworkRecord) -> Result<Self, Failure> {
        let bundle = Bundle::parse_of(&record.network, &record.bundle)
            .map_err(|error| Failure::of(format!("the bundle of {}", record.label), &error))?;
        // A home that only follows others may have no identity.
        let node = public_identity(home).map(|public| public.id).ok();
        let nobody = NodeId::from_bytes([0; 32]);
        let now = now();
        Ok(Self {
            ours: node.and_then(|node| OwnMembership::of(&record, &node)),
            is_ours: is_ours(home, &record.network)?,
            concerns: concerns(&record, &node.unwrap_or(nobody), now),
            bundle,
            record,
            now,
        })
    }

    fn standing(&self) -> &'static str {
        match self.is_ours {
            true => "its authority is here",
            false => match self.record.standing.token() {
                "recognised" => "its members are recognised",
                _ => "followed: what it withdraws counts, its members are not recognised",
            },
        }
    }

    /// How many certificates and keys it ever withdrew, as far as we know.
    fn withdrawn(&self) -> usize {
        let before = self.record.withdrawn.iter().map(|(_, entry)| entry.what);
        let now = self
            .bundle
            .withdrawn()
            .iter()
            .map(|entry| entry.what.clone());
        before.chain(now).collect::<BTreeSet<_>>().len()
    }

    fn summary(&self) -> String {
        let mut lines = vec![
            format!("{}  {}", self.record.label, self.record.network),
            format!("  {}", self.standing()),
        ];
        if let Some(ours) = &self.ours {
            lines.push(format!("  {}", membership_text(ours, self.now)));
        }
        lines.extend(self.concerns.iter().map(|concern| format!("  ! {concern}")));
        lines.join("\n")
    }

    fn lines(&self) -> Vec<String> {
        let (record, bundle) = (&self.record, &self.bundle);
        let mut lines = vec![
            record.label.clone(),
            format!("  id          {}", record.network),
            format!("              {}", record.network.words()),
        ];
        if bundle.name() != record.label {
            lines.push(format!("  calls itself {}", bundle.name()));
        }
        lines.push(format!("  standing    {}", self.standing()));
        lines.push(format!(
            "  we          {}",
            match &self.ours {
                Some(ours) => membership_text(ours, self.now),
                None => "are no member".to_owned(),
            }
        ));
        lines.push(format!(
            "  bundle      sequence {}, made {}, good until {} ({})",
            bundle.sequence(),
            bundle.issued(),
            bundle.expires(),
            days_text(self.now, bundle.expires())
        ));
        lines.push(format!(
            "              last shown to us {}",
            record.refreshed
        ));
        lines.push(format!(
            "  digest      {}",
            NodeId::from_bytes(bundle.digest()).to_hex()
        ));
        lines.push(format!("  withdrawn   {}", self.withdrawn()));
        for key in bundle.charter().keys() {
            let role = match key.role {
                KeyRole::Root => "root key   ",
                KeyRole::Issuing => "issuing key",
            };
            lines.push(format!(
                "  {role} {}  {}, certificate until {} ({})",
                key.key().short(),
                state_text(key.state),
                key.details().not_after(),
                days_text(self.now, key.details().not_after())
            ));
        }
        lines.extend(
            bundle
                .locations()
                .iter()
                .map(|place| format!("  location    {place}")),
        );
        lines.extend(
            record
                .source
                .iter()
                .map(|place| format!("  came from   {place}")),
        );
        lines.extend(self.concerns.iter().map(|concern| format!("  ! {concern}")));
        lines
    }

    fn json(&self) -> Value {
        let (record, bundle) = (&self.record, &self.bundle);
        let keys: Vec<Value> = bundle
            .charter()
            .keys()
            .iter()
            .map(|key| {
                json!({
                    "key": key.key().to_string(),
                    "role": match key.role { KeyRole::Root => "root", KeyRole::Issuing => "issuing" },
                    "state": state_text(key.state),
                    "not_after": key.details().not_after().to_string(),
                })
            })
            .collect();
        let locations: Vec<String> = bundle.locations().iter().map(ToString::to_string).collect();
        let membership = self.ours.as_ref().map(|ours| {
            json!({
                "serial": ours.serial, "roles": ours.roles,
                "not_after": ours.not_after.to_string(),
                "days_left": self.now.until(ours.not_after).as_secs() / 86_400,
            })
        });
        json!({
            "id": record.network.to_string(), "hex": record.network.to_hex(),
            "label": record.label, "name": bundle.name(),
            "standing": record.standing.token(), "authority_here": self.is_ours,
            "membership": membership, "concerns": self.concerns,
            "forked": record.forked.map(|at| at.to_string()),
            "bundle": {
                "sequence": bundle.sequence(), "issued": bundle.issued().to_string(),
                "expires": bundle.expires().to_string(),
                "refreshed": record.refreshed.to_string(),
                "digest": NodeId::from_bytes(bundle.digest()).to_hex(),
                "withdrawn": self.withdrawn(),
                "locations": locations,
            },
            "keys": keys,
        })
    }
}

fn state_text(state: KeyState) -> String {
    match state {
        KeyState::Next => "next".to_owned(),
        KeyState::Active => "active".to_owned(),
        KeyState::Retiring { until } => format!("retiring until {until}"),
        KeyState::Revoked => "revoked".to_owned(),
    }
}
