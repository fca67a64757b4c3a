//! Keeping the authorities of this home alive: bundles that are made anew, withdrawals whose day has
//! come, and this node's own membership.

use std::time::Duration;

use comity_authority::{Authority, AuthorityError};
use comity_identity::{Fingerprint, NodeId};
use comity_record::SuccessionChain;
use comity_store::{AuthorityFiles, Home};
use comity_tls::Endpoint;
use comity_tls::network::VerifiedGrant;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::issuer::handed_out;
use super::places::name_ourselves;

/// How often the authorities are looked at. A bundle is made every day, and a withdrawal that was
/// planned weeks before may be some minutes late.
const LOOK: Duration = Duration::from_secs(600);

/// A failure that repeats is said this often.
const SAY_EVERY: Duration = Duration::from_secs(24 * 3600);

/// What changes of this task are logged under.
const COMMAND: &str = "comity serve";

/// Starts the task that makes bundles and planned withdrawals of all authorities of `home` in time.
/// Authorities that are made or removed later are noticed. Dropping the set stops it.
pub fn keep_authorities(home: &Home, endpoint: &Endpoint) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(keep(home.clone(), endpoint.clone()));
    tasks
}

async fn keep(home: Home, endpoint: Endpoint) {
    let mut said: Option<Instant> = None;
    loop {
        let faults = {
            let (home, endpoint) = (home.clone(), endpoint.clone());
            tokio::task::spawn_blocking(move || look_after(&home, &endpoint)).await
        };
        let faults = faults.unwrap_or_else(|error| vec![error.to_string()]);
        if !faults.is_empty() && said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            said = Some(Instant::now());
            for fault in faults {
                tracing::error!("{fault}");
            }
        }
        sleep(LOOK).await;
    }
}

/// Does for each authority what is due, and says what could not be done.
fn look_after(home: &Home, endpoint: &Endpoint) -> Vec<String> {
    let all = match AuthorityFiles::list(home) {
        Ok(all) => all,
        Err(error) => return vec![error.to_string()],
    };
    let faults = all.into_iter().filter_map(|network| {
        let done =
            refresh(home, endpoint, &network).and_then(|()| renew_own(home, endpoint, network));
        let error = done.err()?;
        Some(format!(
            "the authority of network {}: {error}",
            network.short()
        ))
    });
    let faults = faults.collect();
    // What was published counts here at once.
    endpoint.store().poll_changes();
    faults
}

fn refresh(home: &Home, endpoint: &Endpoint, network: &NodeId) -> Result<(), String> {
    let now = endpoint.clock().now();
    let text = |error: AuthorityError| error.to_string();
    let mut authority = Authority::open(home, *network, COMMAND).map_err(text)?;
    if let Some(history) = history(home)? {
        name_ourselves(&mut authority, &history, now).map_err(text)?;
    }
    if let Some(bundle) = authority.refresh(now).map_err(text)? {
        let (network, sequence) = (authority.name(), bundle.sequence());
        tracing::info!(network, sequence, "published a bundle");
    }
    Ok(())
}

/// Renews this node's own membership of a network whose authority is here, if it wants renewal: also
/// after its identity has changed.
///
/// # Errors
/// In words, when it wants renewal and cannot get it.
pub fn renew_own(home: &Home, endpoint: &Endpoint, network: NodeId) -> Result<(), String> {
    let record = endpoint.networks().find(&network);
    let record = record.map_err(|error| error.to_string())?;
    // An authority need not have its own node among its members.
    let held = record.map(|record| record.membership).unwrap_or_default();
    if held.is_empty() {
        return Ok(());
    }
    let held: Vec<Fingerprint> = held
        .iter()
        .map(|der| Fingerprint::of_certificate(der))
        .collect();
    let succession = history(home)?;
    let (credentials, now) = (endpoint.credentials(), endpoint.clock().now());
    let mut authority =
        Authority::open(home, network, COMMAND).map_err(|error| error.to_string())?;
    match authority.renew(credentials.root(), succession.as_ref(), &held, now) {
        Ok(None) => Ok(()),
        Ok(Some(grant)) => {
            let grant = handed_out(&network, grant);
            let verified = VerifiedGrant::verify(grant, &network, credentials, now);
            let verified = verified.map_err(|error| error.to_string())?;
            endpoint
                .take_grant(&verified)
                .map_err(|error| error.to_string())
        }
        // It was removed on purpose.
        Err(AuthorityError::NotFound(_) | AuthorityError::Withdrawn(_)) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// How this node's identity came to be the present one, if it is not the first.
fn history(home: &Home) -> Result<Option<SuccessionChain>, String> {
    let identity = home.identity().map_err(|error| error.to_string())?;
    let staple = identity.and_then(|files| files.succession);
    Ok(staple.and_then(|bytes| SuccessionChain::parse(&bytes).ok()))
}
