//! `comity network import`: what another authority made, from a file.

use std::io::Read;
use std::path::Path;

use comity_agent::network::{Entered, Entry, enter_bundle, enter_membership};
use comity_agent::{Package, PackageError, read_named_file};
use comity_identity::{NodeId, UnixTime};
use comity_record::Bundle;
use comity_store::{NetworkError, NetworkRecord, NetworkStore, Updated};
use comity_tls::network::{Grant, GrantError, VerifiedGrant};
use comity_tls::{Endpoint, LeafProfile};
use comity_trust::{Reason, Standing};
use serde_json::json;

use super::join::{roles_text, tell_other_name};
use super::network_failure;
use crate::Outcome;
use crate::args::network::NetworkImport;
use crate::context::{Context, now, store_failure};
use crate::shell::{Exit, Failure, Terminal, chain};

/// What changes of this command are logged under.
const COMMAND: &str = "comity network import";

/// Bytes read from standard input: as many as from a file.
const MAX_INPUT: u64 = 4 << 20;

pub(super) fn import(context: &Context, args: &NetworkImport) -> Outcome {
    let package = read(&args.file)?;
    let home = context.open_home()?;
    let networks = NetworkStore::new(&home, COMMAND);
    let network = package.bundle.network();
    let known = networks.find(&network).map_err(|e| store_failure(&e))?;
    // Before anything is asked or kept: a package for somebody else is of no use here.
    let (endpoint, verified) = match package.certificates.is_empty() {
        true => (None, None),
        false => {
            let node = context.node(&home, LeafProfile::default(), COMMAND)?;
            let verified = verify(&package, &node.endpoint)?;
            (Some(node.endpoint), Some(verified))
        }
    };
    let import = Import {
        context,
        args,
        bundle: &package.bundle,
        known,
        verified,
        now: now(),
    };
    import.tell();
    import.confirm()?;
    let before = import.known.as_ref().map(|record| record.standing);
    let entered = match (&endpoint, &import.verified) {
        (Some(endpoint), Some(verified)) => import.keep_membership(endpoint, verified),
        _ => import.keep_bundle(&networks),
    };
    let entered = entered.map_err(|error| network_failure(&error))?;
    import.answer(&entered, before)
}

fn read(path: &Path) -> Result<Package, Failure> {
    let text = match path.as_os_str() == "-" {
        true => read_standard_input(),
        false => read_named_file(path),
    };
    let name = path.display();
    let text = text.map_err(|error| Failure::unable(format!("cannot read {name}: {error}")))?;
    Package::parse(&text).map_err(|error| {
        let failure = Failure::unable(format!("{name} is refused: {}", chain(&error)));
        match error {
            PackageError::Bundle(_) => failure.because(Reason::Malformed),
            _ => failure
                .hint("`comity ca certify` makes such a file, and `comity network export`")
                .hint(format!("what is in it: `comity ca inspect {name}`")),
        }
    })
}

fn read_standard_input() -> std::io::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(MAX_INPUT)
        .read_to_string(&mut text)?;
    Ok(text)
}

/// The membership in a package, if it is ours and holds.
fn verify(package: &Package, endpoint: &Endpoint) -> Result<VerifiedGrant, Failure> {
    let network = package.bundle.network();
    let grant = Grant {
        network,
        membership: package.certificates.clone(),
        bundle: package.bundle.bytes().to_vec(),
    };
    let credentials = endpoint.credentials();
    VerifiedGrant::verify(grant, &network, credentials, now()).map_err(|error| {
        let failure = Failure::no(format!("the package is refused: {}", chain(&error)));
        match error {
            GrantError::WrongKey | GrantError::Path(_) => failure
                .detail(format!("we are {}", credentials.node_id()))
                .hint("whoever made it needs our certificate: `comity id --certificate`"),
            GrantError::NotFresh { .. } => failure.hint("ask for a new one; or compare the clocks"),
            GrantError::Withdrawn => failure.because(Reason::Revoked),
            _ => failure,
        }
    })
}

/// One import, once everything is read and verified.
struct Import<'a> {
    context: &'a Context,
    args: &'a NetworkImport,
    bundle: &'a Bundle,
    known: Option<NetworkRecord>,
    verified: Option<VerifiedGrant>,
    now: UnixTime,
}

impl Import<'_> {
    /// Says what it is, and what it changes.
    fn tell(&self) {
        let shell = self.context.shell;
        let (bundle, id) = (self.bundle, self.bundle.network());
        shell.say(format_args!(
            "the network {} says of itself:",
            bundle.name()
        ));
        shell.say(format_args!("  id        {id}"));
        shell.say(format_args!("            {}", id.words()));
        shell.say(format_args!(
            "  bundle    sequence {}, made {}, good until {}",
            bundle.sequence(),
            bundle.issued(),
            bundle.expires()
        ));
        shell.say(format_args!(
            "  digest    {}",
            NodeId::from_bytes(bundle.digest()).to_hex()
        ));
        if let Some(verified) = &self.verified {
            let cross = &verified.path().cross;
            let roles = cross.metadata.as_ref().map(|m| m.roles().to_vec());
            shell.say(format_args!(
                "it certifies us until {}, with the roles: {}",
                cross.not_after,
                roles_text(&roles.unwrap_or_default())
            ));
        }
        if bundle.expires() < self.now {
            shell.warn("this bundle is over: it recognises nobody, and what it withdraws counts");
        }
    }

    /// A network that is new here is taken by the id that its people told us, never by the one in
    /// the file; and so is the right one of two bundles.
    fn confirm(&self) -> Result<(), Failure> {
        let id = self.bundle.network();
        if let Some(confirmed) = &self.args.confirm {
            let confirmed: NodeId = confirmed.parse().map_err(|error| {
                Failure::unable(format!("--confirm {confirmed}: {error}"))
                    .hint("the full id is needed: a short one could be another network's")
            })?;
            return match confirmed == id {
                true => Ok(()),
                false => Err(Failure::no(
                    "this is another network than the one that was confirmed",
                )
                .detail(format!("confirmed  {confirmed}"))
                .detail(format!("in file    {id}"))
                .because(Reason::WrongNetwork)),
            };
        }
        let why = match &self.known {
            Some(record) if record.forked.is_some() => {
                "two bundles of this network contradict each other, and this would be the one that counts"
            }
            Some(_) => return Ok(()),
            None => "this network is new here",
        };
        let refused = || {
            Failure::no(why)
                .detail(format!("its id     {id}"))
                .hint("compare the id with what its people tell you, on another way than this file came")
                .hint(format!(
                    "then: `comity network import {} --confirm {id}`",
                    self.args.file.display()
                ))
                .because(Reason::Unknown)
        };
        let Some(mut terminal) = Terminal::open() else {
            return Err(refused());
        };
        let lost = |error: std::io::Error| Failure::unable(format!("cannot ask: {error}"));
        terminal.show(format_args!("{why}.")).map_err(lost)?;
        let typed = terminal
            .ask("Its full id, as its people told you (nothing gives up):")
            .map_err(lost)?;
        match typed.parse::<NodeId>() {
            Ok(typed) if typed == id => Ok(()),
            Ok(_) => Err(refused().detail("that is another id")),
            Err(_) => Err(refused()),
        }
    }

    fn entry(&self) -> Entry<'_> {
        Entry {
            label: self.args.label.as_deref(),
            recognise: self.args.recognise,
            source: None,
            taken: Vec::new(),
        }
    }

    fn keep_membership(
        &self,
        endpoint: &Endpoint,
        verified: &VerifiedGrant,
    ) -> Result<Entered, NetworkError> {
        self.settle(endpoint.networks())?;
        enter_membership(endpoint, verified, &self.entry())
    }

    fn keep_bundle(&self, networks: &NetworkStore) -> Result<Entered, NetworkError> {
        self.settle(networks)?;
        enter_bundle(networks, self.bundle, &self.entry(), self.now)
    }

    /// Decides between two bundles, where that is to be decided: it was confirmed.
    fn settle(&self, networks: &NetworkStore) -> Result<(), NetworkError> {
        match self.known.as_ref().and_then(|record| record.forked) {
            Some(_) => networks.settle(&self.bundle.network(), self.bundle.bytes(), self.now),
            None => Ok(()),
        }
    }

    fn answer(&self, entered: &Entered, before: Option<Standing>) -> Outcome {
        let label = &entered.label;
        let is_older = !entered.is_new && entered.updated.is_none();
        if is_older && self.verified.is_none() {
            return Err(Failure::no(format!(
                "nothing was taken: a newer bundle of {label} is held than sequence {}",
                self.bundle.sequence()
            )));
        }
        let what = match (entered.is_new, entered.updated) {
            (true, _) => "entered",
            (false, Some(Updated::Newer)) => "updated",
            (false, _) => "unchanged",
        };
        self.context.shell.answer(
            format_args!("{what} {label}"),
            &json!({
                "network": entered.network.to_string(), "label": label, "name": self.bundle.name(),
                "outcome": what, "standing": entered.standing.token(),
                "member": self.verified.is_some(), "sequence": self.bundle.sequence(),
            }),
        );
        if entered.is_new {
            tell_other_name(self.context, label, self.bundle.name());
        }
        self.tell_standing(entered, before);
        Ok(Exit::Yes)
    }

    fn tell_standing(&self, entered: &Entered, before: Option<Standing>) {
        let (shell, label) = (self.context.shell, &entered.label);
        if before == Some(entered.standing) {
            return;
        }
        match entered.standing {
            Standing::Recognised => shell.say(format_args!(
                "whom it certifies is recognised here now; `comity serve --allow NAME={label}/ROLE` opens a service to them"
            )),
            Standing::Followed => shell.say(format_args!(
                "what it withdraws counts here now; its members are not recognised (--recognise)"
            )),
        }
        if self.verified.is_some() {
            shell.say("what it certified is presented to whom we meet from now on");
        }
    }
}
