//! `comity ca`: being an authority.

mod certify;
pub(crate) mod founding;
mod inspect;
mod issue;
mod keys;
mod ledger;
mod showing;

use std::io::Read;
use std::path::Path;

use comity_authority::{Authority, AuthorityError};
use comity_identity::NodeId;
use comity_keys::KeyError;
use comity_store::{Exported, Home, LedgerError, NetworkStore, StoreError, export};
use serde_json::{Value, json};

use crate::Outcome;
use crate::args::ca::{Ca, CaCommand, RootKey};
use crate::context::{Context, store_failure};
use crate::root_key::{self, OpenRoot};
use crate::shell::{Exit, Failure, chain};

pub(crate) fn run(context: &Context, args: Ca) -> Outcome {
    match args.command {
        CaCommand::Init(args) => founding::init(context, &args),
        CaCommand::List(_) => showing::list(context),
        CaCommand::Show(args) => showing::show(context, &args),
        CaCommand::Issued(args) => ledger::issued(context, &args),
        CaCommand::Issue(args) => issue::issue(context, &args),
        CaCommand::Certify(args) => certify::certify(context, &args),
        CaCommand::Delegate(args) => keys::delegate(context, &args),
        CaCommand::RollIssuing(args) => keys::roll_issuing(context, &args),
        CaCommand::RollRoot(args) => keys::roll_root(context, &args),
        CaCommand::RevokeKey(args) => keys::revoke_key(context, &args),
        CaCommand::Withdraw(args) => ledger::withdraw(context, &args),
        CaCommand::Refresh(args) => showing::refresh(context, &args),
        CaCommand::Bundle(args) => showing::bundle(context, &args),
        CaCommand::Inspect(args) => inspect::inspect(context, &args),
    }
}

/// An authority of this home, by its names.
pub(crate) struct Named {
    pub(crate) network: NodeId,
    /// What this home calls it; another word if two have one name.
    pub(crate) label: String,
    /// The authority, or why it cannot be used: one that is damaged keeps nobody from the others.
    pub(crate) opened: Result<Authority, Box<Failure>>,
}

impl Named {
    pub(crate) fn is_called(&self, text: &str) -> bool {
        let name = self.opened.as_ref().map(Authority::name);
        self.label == text || name.is_ok_and(|name| name == text)
    }
}

/// The authorities of a home.
pub(crate) fn authorities(home: &Home) -> Result<Vec<Named>, Failure> {
    let networks = NetworkStore::new(home, "comity ca")
        .networks()
        .map_err(|error| store_failure(&error))?;
    let ids = Authority::list(home).map_err(|error| authority_failure(&error))?;
    let named = ids.into_iter().map(|network| {
        let label = networks.get(&network).map(|known| known.label.clone());
        let opened = Authority::open(home, network, "comity ca");
        let label = label.unwrap_or_else(|| match &opened {
            Ok(authority) => authority.name().to_owned(),
            Err(_) => network.to_string(),
        });
        let opened = opened.map_err(|error| {
            let failure = authority_failure(&error);
            Box::new(Failure {
                message: format!("the authority {label}: {}", failure.message),
                ..failure
            })
        });
        Named {
            network,
            label,
            opened,
        }
    });
    Ok(named.collect())
}

/// Opens an authority of this home by its name, the label it has here, or its full network id.
pub(crate) fn open(home: &Home, text: &str, command: &str) -> Result<Authority, Failure> {
    let network = match text.parse::<NodeId>() {
        Ok(network) => network,
        Err(_) => resolve(home, text)?,
    };
    Authority::open(home, network, command).map_err(|error| {
        let failure = authority_failure(&error);
        Failure {
            message: format!("the authority {text}: {}", failure.message),
            ..failure
        }
    })
}

fn resolve(home: &Home, text: &str) -> Result<NodeId, Failure> {
    let all = authorities(home)?;
    // A label is this home's own word, and means one authority only.
    if let Some(known) = all.iter().find(|known| known.label == text) {
        return Ok(known.network);
    }
    let meant: Vec<&Named> = all.iter().filter(|known| known.is_called(text)).collect();
    match meant.as_slice() {
        [one] => Ok(one.network),
        [] => {
            let failure = Failure::no(format!("there is no authority `{text}` in this home"));
            Err(match all.is_empty() {
                true => failure.hint(format!("`comity ca init {text}` makes one")),
                false => {
                    let names: Vec<&str> = all.iter().map(|known| known.label.as_str()).collect();
                    failure.hint(format!("there are: {}", names.join(", ")))
                }
            })
        }
        several => {
            let mut failure =
                Failure::unable(format!("{} authorities are called {text}", several.len()));
            for known in several {
                failure = failure.detail(format!("{}  {}", known.network, known.label));
            }
            Err(failure.hint("name it by its full network id"))
        }
    }
}

/// An authority that did not do what it was asked, with the remedy there is.
pub(crate) fn authority_failure(error: &AuthorityError) -> Failure {
    match error {
        AuthorityError::Store(error) | AuthorityError::Ledger(LedgerError::Store(error)) => {
            store_failure(error)
        }
        AuthorityError::Unfinished { network, cause } => Failure {
            message: chain(error),
            ..authority_failure(cause)
        }
        .hint(format!("`comity ca refresh {network}` completes it")),
        AuthorityError::Key(KeyError::WrongPassphrase) => Failure::no("the passphrase is wrong"),
        AuthorityError::LabelTaken { label, .. } => Failure::no(chain(error)).hint(format!(
            "give it another with --as; if its key was replaced, withdraw {label} when the new one is in use"
        )),
        AuthorityError::Withdrawn(_)
        | AuthorityError::NotFound(_)
        | AuthorityError::UnknownKey(_)
        | AuthorityError::NotOurRoot(_)
        | AuthorityError::KeyState { .. } => Failure::no(chain(error)),
        AuthorityError::NoIssuingKey => Failure::unable(error)
            .hint("sign with the root (--by-root), or go to the machine that has the issuing key"),
        AuthorityError::OldCopy { .. } => {
            Failure::unable(error).hint("restore a newer copy of the home's folder `authorities`")
        }
        error => Failure::unable(chain(error)),
    }
}

/// Hands a text out: into a new file, or on standard output.
pub(crate) fn write_out(
    context: &Context,
    file: Option<&Path>,
    text: &str,
    mut value: Value,
) -> Outcome {
    match file {
        Some(path) => {
            write_new(path, text.as_bytes(), Exported::Public)?;
            value["file"] = json!(path);
            context.shell.answer(path.display(), &value);
        }
        None => {
            value["text"] = json!(text);
            context.shell.answer(text.trim_end(), &value);
        }
    }
    Ok(Exit::Yes)
}

/// Asked before anything is signed, so that no certificate is in the ledger and nowhere else.
pub(crate) fn must_be_new(path: &Path) -> Result<(), Failure> {
    if path.symlink_metadata().is_ok() {
        return Err(
            Failure::unable(format!("{} is there already", path.display()))
                .hint("nothing is overwritten: name another place with --out, or move it away"),
        );
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    match folder {
        Some(folder) if !folder.is_dir() => Err(Failure::unable(format!(
            "there is no folder {}",
            folder.display()
        ))
        .hint("make it, or name another place with --out")),
        _ => Ok(()),
    }
}

/// Writes a file that must not exist.
pub(crate) fn write_new(path: &Path, content: &[u8], exported: Exported) -> Result<(), Failure> {
    export(path, content, exported, false).map_err(|error| match &error {
        StoreError::Exists { .. } => {
            Failure::unable(format!("{} is there already", path.display()))
                .hint("nothing is overwritten: name another file, or move it away")
        }
        error => store_failure(error),
    })
}

/// Opens the root key that is in use.
pub(crate) fn open_root(authority: &Authority, args: &RootKey) -> Result<OpenRoot, Failure> {
    root_key::open(authority.files().home(), args, &authority.root().key())
}

/// Reads a file that somebody else may have made; `-` is standard input.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin()
            .lock()
            .take(limit + 1)
            .read_to_end(&mut bytes),
        false => {
            std::fs::File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        }
    };
    read.map_err(|error| Failure::unable(format!("cannot read {}: {error}", path.display())))?;
    match bytes.len() as u64 > limit {
        true => Err(Failure::unable(format!(
            "{} is larger than {limit} bytes",
            path.display()
        ))),
        false => Ok(bytes),
    }
}
