//! `comity init` and `comity id`.

use comity_agent::{PublicIdentity, initialise, public_identity};
use comity_identity::{Algorithm, PeerId};
use comity_store::{Home, HomeFile};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::json;

use crate::Outcome;
use crate::args::{Id, Init};
use crate::context::{Context, identity_failure, store_failure};
use crate::shell::{Exit, Failure};

pub(crate) fn init(context: &Context, args: &Init) -> Outcome {
    let home = context.create_home()?;
    let existing = home
        .identity()
        .map_err(|error| crate::context::store_failure(&error))?;
    let passphrase = match existing {
        None if args.seal => Some(context.new_passphrase()?),
        _ => None,
    };
    let passphrase = passphrase.as_ref().map(|p| p.as_str());
    let done = initialise(&home, args.algorithm.into(), passphrase)
        .map_err(|error| identity_failure(&error))?;
    let id = done.identity.id;
    let value = json!({
        "id": id.to_string(), "hex": id.to_hex(), "created": done.created,
        "home": home.root(), "next": done.identity.next.map(|n| n.to_string()),
    });
    context.shell.answer(id, &value);
    if done.created {
        context.shell.say(format_args!(
            "made an identity in {}",
            home.root().display()
        ));
        tell_next_key(context, &home);
    } else {
        context.shell.say(format_args!(
            "{} had an identity already; nothing was changed",
            home.root().display()
        ));
    }
    Ok(Exit::Yes)
}

/// The home, with an identity that is made if there is none, as `comity init` makes it.
pub(crate) fn home_with_identity(context: &Context) -> Result<Home, Failure> {
    let home = context.create_home()?;
    let done = initialise(&home, Algorithm::EcdsaP256, None).map_err(|e| identity_failure(&e))?;
    if done.created {
        context.shell.say(format_args!(
            "made an identity in {}: {}",
            home.root().display(),
            done.identity.id
        ));
        tell_next_key(context, &home);
    }
    Ok(home)
}

fn tell_next_key(context: &Context, home: &Home) {
    let next_key = home.path(HomeFile::NextKey);
    context.shell.say(format_args!(
        "{} belongs offline: move it to a safe place; it is needed only to replace a stolen key",
        next_key.display()
    ));
}

pub(crate) fn id(context: &Context, args: &Id) -> Outcome {
    if args.certificate {
        return certificate(context);
    }
    let peer = match &args.id {
        Some(text) => text
            .parse::<PeerId>()
            .map_err(|error| Failure::unable(format!("`{text}` is no id: {error}")))?,
        None => PeerId::Node(own(context)?.id),
    };
    let hash = peer.key_hash();
    if args.qr && !context.shell.json {
        context.shell.print(qr(&peer.to_string())?);
        return Ok(Exit::Yes);
    }
    let text = match () {
        () if args.words => hash.words().to_string(),
        () if args.hex => hash.to_hex(),
        () => peer.to_string(),
    };
    let value = json!({
        "id": peer.to_string(), "hex": hash.to_hex(), "words": hash.words().to_string(),
    });
    context.shell.answer(text, &value);
    Ok(Exit::Yes)
}

/// Our root certificate, once it is known to be one.
fn certificate(context: &Context) -> Outcome {
    let home = context.open_home()?;
    let id = public_identity(&home)
        .map_err(|error| identity_failure(&error))?
        .id;
    let files = home.identity().map_err(|error| store_failure(&error))?;
    let files = files.ok_or_else(|| Failure::unable("the identity is gone"))?;
    let text = String::from_utf8_lossy(&files.certificate);
    let value = json!({ "id": id.to_string(), "certificate": text });
    context.shell.answer(text.trim_end(), &value);
    Ok(Exit::Yes)
}

fn own(context: &Context) -> Result<PublicIdentity, Failure> {
    let home = context.open_home()?;
    public_identity(&home).map_err(|error| identity_failure(&error))
}

/// A QR code in half blocks, with the light border that cameras need. Colours are the wrong way
/// round on a dark terminal, which every reader takes.
pub(crate) fn qr(text: &str) -> Result<String, Failure> {
    let code =
        QrCode::new(text).map_err(|error| Failure::unable(format!("no QR code: {error}")))?;
    Ok(code.render::<Dense1x2>().quiet_zone(true).build())
}
