//! `comity ca issue`: certificates for programs that are not Comity.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use comity_agent::armour::{CERTIFICATE, write_block};
use comity_authority::{Authority, IssuedLeaf, LeafOrder, P2PFL_FILES, Subject};
use comity_certs::{Csr, Purpose, escape, read_csr};
use comity_identity::UnixTime;
use comity_store::Exported;
use serde_json::json;

use super::inspect::statements::{hex, request_names};
use super::{authority_failure, must_be_new, open, open_root, write_new};
use crate::Outcome;
use crate::args::ca::{CaIssue, PurposeArg, Template};
use crate::context::{Context, now};
use crate::remaining::until;
use crate::shell::{Exit, Failure};

/// Bytes of a request's file; a request is much smaller.
const MAX_REQUEST_FILE: u64 = 256 << 10;

/// The most characters of a common name.
const MAX_COMMON_NAME: usize = 64;

pub(crate) fn issue(context: &Context, args: &CaIssue) -> Outcome {
    check_template(args)?;
    let home = context.open_home()?;
    let mut authority = open(&home, &args.name, "comity ca issue")?;
    let request = args.csr.as_deref().map(read_request).transpose()?;
    let order = order(args, request.as_ref(), &authority)?;
    if let Some(request) = &request {
        say_request(context, request, &order);
    }
    match args.template {
        Template::P2pfl => issue_p2pfl(context, &mut authority, &order, &args.out),
        Template::Leaf | Template::Organisation => {
            issue_leaf(context, args, &mut authority, &order)
        }
    }
}

fn check_template(args: &CaIssue) -> Result<(), Failure> {
    match args.template {
        Template::Leaf | Template::P2pfl if args.by_root => Err(Failure::unable(
            "only `--template organisation` is signed by the root: a leaf of the issuing key can be \
             replaced without it",
        )),
        Template::P2pfl if args.csr.is_some() => Err(Failure::unable(
            "P2PFL wants two keys, and a request has one",
        )
        .hint("leave out --csr: the keys are made here, into the folder of --out")),
        Template::P2pfl if args.purpose != PurposeArg::Both => Err(Failure::unable(
            "P2PFL wants a server and a client certificate; leave out --purpose",
        )),
        Template::Organisation if args.subject.is_some() => Err(Failure::unable(
            "an organisation's leaf has the name of its root; leave out --subject",
        )),
        _ => Ok(()),
    }
}

fn read_request(path: &Path) -> Result<Csr, Failure> {
    let bytes = super::read_bounded(path, MAX_REQUEST_FILE)?;
    read_csr(&bytes).map_err(|error| {
        Failure::no(format!(
            "the request in {} is refused: {error}",
            path.display()
        ))
    })
}

/// What is signed. Of a request only the key counts, and its names where the operator gives none.
fn order(
    args: &CaIssue,
    request: Option<&Csr>,
    authority: &Authority,
) -> Result<LeafOrder, Failure> {
    let own_names = args.dns.is_empty() && args.ip.is_empty() && args.uri.is_empty();
    let mut order = LeafOrder::named("");
    match request {
        Some(request) if own_names => order = order.for_request(request),
        Some(request) => order.spki = Some(request.spki.clone()),
        None => {}
    }
    if !own_names {
        order.dns.clone_from(&args.dns);
        order.ips.clone_from(&args.ip);
        order.uris.clone_from(&args.uri);
    }
    order.purposes = match args.purpose {
        PurposeArg::Serve => vec![Purpose::Serve],
        PurposeArg::Dial => vec![Purpose::Dial],
        PurposeArg::Both => vec![Purpose::Serve, Purpose::Dial],
    };
    order.roles.clone_from(&args.roles);
    order.lifetime = args.valid;
    let name = match &args.subject {
        Some(name) => name.clone(),
        None => default_name(&order, &args.out),
    };
    order.label = match args.template {
        Template::Organisation => authority.name().to_owned(),
        Template::Leaf | Template::P2pfl => name.clone(),
    };
    order.subject = Subject::CommonName(name);
    Ok(order)
}

/// The first name that fits, or that of the file: a leaf without any subject looks like a mistake.
fn default_name(order: &LeafOrder, out: &Path) -> String {
    let fits = |name: &&String| name.chars().count() <= MAX_COMMON_NAME;
    let ip = order.ips.first().map(ToString::to_string);
    let file = out
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    order
        .dns
        .iter()
        .chain(ip.iter())
        .chain(file.iter())
        .find(fits)
        .cloned()
        .unwrap_or_else(|| "leaf".to_owned())
}

fn say_request(context: &Context, request: &Csr, order: &LeafOrder) {
    let asked = request_names(request);
    let taken = order.dns == request.dns && order.ips == request.ips && order.uris == request.uris;
    let list = match asked.is_empty() {
        true => "no names".to_owned(),
        false => asked.join(", "),
    };
    context.shell.say(match taken {
        true => format!("the request asks for {list}; they are signed"),
        false => format!("the request asks for {list}; the names given here are signed instead"),
    });
}

fn issue_leaf(
    context: &Context,
    args: &CaIssue,
    authority: &mut Authority,
    order: &LeafOrder,
) -> Outcome {
    let (certificate, key) = (beside(&args.out, "crt"), beside(&args.out, "key"));
    must_be_new(&certificate)?;
    if order.spki.is_none() {
        must_be_new(&key)?;
    }
    let now = now();
    let leaf = match args.template {
        Template::Organisation => {
            let root = open_root(authority, &args.root)?;
            authority.issue_organisation_leaf(Arc::new(root.key), order, now)
        }
        Template::Leaf | Template::P2pfl => authority.issue(order, now),
    };
    let leaf = leaf.map_err(|error| authority_failure(&error))?;
    let chain: String = leaf
        .chain
        .iter()
        .map(|der| write_block(CERTIFICATE, der))
        .collect();
    let written = write_leaf(&leaf, &chain, &certificate, &key);
    written.map_err(|failure| {
        failure.detail(format!(
            "certificate {} was signed and is lost: withdraw it",
            hex(&leaf.serial)
        ))
    })?;
    tell_leaf(context, args, &leaf, order, &certificate, &key, now);
    Ok(Exit::Yes)
}

/// The key first: a certificate without its key is of no use to anybody.
fn write_leaf(
    leaf: &IssuedLeaf,
    chain: &str,
    certificate: &Path,
    key: &Path,
) -> Result<(), Failure> {
    if let Some(secret) = &leaf.key {
        write_new(key, secret, Exported::Secret)?;
    }
    write_new(certificate, chain.as_bytes(), Exported::Public)
}

fn tell_leaf(
    context: &Context,
    args: &CaIssue,
    leaf: &IssuedLeaf,
    order: &LeafOrder,
    certificate: &Path,
    key: &Path,
    now: UnixTime,
) {
    let mut text = format!("{}", certificate.display());
    if leaf.key.is_some() {
        text.push_str(&format!("\n{}", key.display()));
    }
    let value = json!({
        "serial": hex(&leaf.serial), "certificate": certificate,
        "key": leaf.key.as_ref().map(|_| key), "not_after": leaf.not_after.to_string(),
        "dns": order.dns, "ips": order.ips, "uris": order.uris, "roles": order.roles,
    });
    context.shell.answer(text, &value);
    context.shell.say(format_args!(
        "signed certificate {} for {}, valid until {}",
        hex(&leaf.serial),
        names(order),
        until(leaf.not_after, now)
    ));
    context.shell.say(format_args!(
        "whoever checks it needs the root: `comity ca show {} --certificate`",
        args.name
    ));
}

fn names(order: &LeafOrder) -> String {
    let dns = order.dns.iter().cloned();
    let ips = order.ips.iter().map(ToString::to_string);
    let names: Vec<String> = dns.chain(ips).chain(order.uris.iter().cloned()).collect();
    match names.is_empty() {
        true => format!("{}, without names to check", escape(&order.label)),
        false => names.join(", "),
    }
}

/// `PATH.crt`: what is in PATH stays, dots included.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

fn issue_p2pfl(
    context: &Context,
    authority: &mut Authority,
    order: &LeafOrder,
    folder: &Path,
) -> Outcome {
    must_be_new(folder)?;
    let files = authority.issue_p2pfl_pair(order, now());
    let files = files.map_err(|error| authority_failure(&error))?;
    std::fs::create_dir(folder).map_err(|error| {
        Failure::unable(format!(
            "cannot make the folder {}: {error}",
            folder.display()
        ))
        .detail("two certificates were signed and are lost: withdraw them")
        .hint(format!("comity ca issued {}", authority.network()))
    })?;
    let mut written = Vec::new();
    for file in &files {
        let path = folder.join(file.name);
        let exported = match file.secret {
            true => Exported::Secret,
            false => Exported::Public,
        };
        write_new(&path, &file.content, exported)?;
        written.push(path);
    }
    let paths: Vec<String> = written
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    context.shell.answer(
        paths.join("\n"),
        &json!({ "folder": folder, "files": P2PFL_FILES }),
    );
    context.shell.say(format_args!(
        "signed a server and a client certificate for {}; P2PFL finds them with Settings.ssl, \
         CA_CRT to CLIENT_KEY",
        names(order)
    ));
    Ok(Exit::Yes)
}
