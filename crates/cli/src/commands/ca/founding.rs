//! `comity ca init`: making an authority.

use std::time::Duration;

use comity_authority::{Authority, NewAuthority};
use comity_certs::is_label;
use comity_record::Location;
use comity_record::limits::MAX_LOCATIONS;
use comity_store::Home;
use serde_json::json;

use super::{authorities, authority_failure};
use crate::Outcome;
use crate::args::ca::CaInit;
use crate::context::{Context, now};
use crate::root_key::NewRoot;
use crate::shell::{Exit, Failure};

const YEAR: u64 = 365 * 24 * 60 * 60;

pub(crate) fn init(context: &Context, args: &CaInit) -> Outcome {
    let home = context.create_home()?;
    check_name(&home, &args.name)?;
    let locations = parse_locations(&args.locations)?;
    let root = NewRoot::make(&args.root, args.algorithm.into())?;
    let network = root.network();
    // Durable in its file before anything says that the authority exists.
    let root_file = root.keep(&home)?;
    let new = NewAuthority {
        algorithm: args.algorithm.into(),
        locations,
        root_lifetime: Duration::from_secs(u64::from(args.years) * YEAR),
        ..NewAuthority::named(&args.name)
    };
    Authority::create(&home, &new, &root.key, now(), "comity ca init").map_err(|error| {
        authority_failure(&error).detail(format!(
            "{} holds a root key that nothing uses yet",
            root_file.display()
        ))
    })?;
    context.shell.answer(
        network,
        &json!({
            "name": args.name, "network": network.to_string(), "hex": network.to_hex(),
            "words": network.words().to_string(), "root_key": root_file,
        }),
    );
    context
        .shell
        .say(format_args!("made the authority {}", args.name));
    root.say_where(context, &root_file);
    context.shell.say(format_args!(
        "its issuing key stays here; next: `comity ca issue {0} …`, or `comity ca certify {0} …`",
        args.name
    ));
    Ok(Exit::Yes)
}

fn check_name(home: &Home, name: &str) -> Result<(), Failure> {
    if !is_label(name) || name.contains('.') {
        return Err(
            Failure::unable(format!("`{name}` cannot be the name of an authority"))
                .hint("1 to 64 of a-z 0-9 - _, beginning with a letter or digit"),
        );
    }
    check_free(home, name)
}

/// Two authorities of one name in a home would be a mistake that nobody sees.
pub(crate) fn check_free(home: &Home, name: &str) -> Result<(), Failure> {
    let mut all = authorities(home)?.into_iter();
    match all.find(|known| known.is_called(name)) {
        Some(known) => Err(
            Failure::no(format!("there is an authority {name} here already"))
                .detail(format!("network id  {}", known.network))
                .hint(format!("comity ca show {name}")),
        ),
        None => Ok(()),
    }
}

pub(super) fn parse_locations(texts: &[String]) -> Result<Vec<Location>, Failure> {
    if texts.len() > MAX_LOCATIONS {
        return Err(Failure::unable(format!(
            "{} locations, and a bundle has room for {MAX_LOCATIONS}",
            texts.len()
        )));
    }
    let parse = |text: &String| {
        text.parse::<Location>()
            .map_err(|error| Failure::unable(format!("`{text}` is no location: {error}")))
    };
    texts.iter().map(parse).collect()
}
