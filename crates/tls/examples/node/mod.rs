//! A node for the examples, made anew in a temporary home. A real program keeps its identity key:
//! `comity init` makes a home with one.

use std::error::Error;
use std::sync::Arc;
use std::time::SystemTime;

use comity_certs::{RootRequest, mint_root};
use comity_identity::{Algorithm, PeerId, UnixTime};
use comity_keys::SoftwareKey;
use comity_store::{Change, Deed, Home, UpdateError};
use comity_tls::{Credentials, Endpoint, LeafProfile};
use comity_trust::{Edit, Entry, Name, Names, Pin, Side, What};
use tempfile::TempDir;

/// What an example may fail with.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// A node with a fresh identity, and the folder that holds its home.
pub(crate) fn node() -> Outcome<(Endpoint, TempDir)> {
    let folder = tempfile::tempdir()?;
    let home = Home::create(&folder.path().join("home"))?;
    let now = UnixTime::from(SystemTime::now());
    let key = SoftwareKey::generate(Algorithm::EcdsaP256)?;
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(|error| error.to_string())?;
    let request = RootRequest {
        next: None,
        serial,
        not_before: now,
    };
    let root = mint_root(&key, &request)?;
    let credentials = Credentials::new(Arc::new(key), root, LeafProfile::default(), now)?;
    Ok((Endpoint::open(&home, credentials, "example")?, folder))
}

/// Remembers `peer` under `label`, in both directions. Blocks.
#[allow(dead_code, reason = "not every example needs it")]
pub(crate) fn remember(endpoint: &Endpoint, label: &str, peer: PeerId) -> Outcome {
    let names = Names::one(Name::label(label)?);
    let entry = Entry::new(Side::Both, names, What::Pin(Pin::from(peer)));
    endpoint.store().update(|_| {
        Ok::<_, UpdateError>(Change {
            edit: Edit::Add(Box::new(entry.clone())),
            deed: Deed {
                action: "add".to_owned(),
                peer: Some(peer),
                detail: label.to_owned(),
            },
        })
    })?;
    Ok(())
}

/// The id by which others know this node.
#[allow(dead_code, reason = "not every example needs it")]
pub(crate) fn id(endpoint: &Endpoint) -> PeerId {
    PeerId::Node(endpoint.credentials().node_id())
}
