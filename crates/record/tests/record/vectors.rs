//! The vectors for other implementations hold for this one. `docs/formats.md` explains them.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use comity_record::{
    Bundle, Charter, Follow, FollowError, KeyRevocation, KeyRole, KeyState, Succession,
    SuccessionChain, WithdrawnWhat,
};
use data_encoding::HEXLOWER;

pub(crate) type Header = BTreeMap<String, String>;

#[test]
fn succession_vectors_have_their_stated_outcome() {
    replay("succession", 31);
}

#[test]
fn bundle_vectors_have_their_stated_outcome() {
    replay("bundle", 45);
}

fn replay(folder: &str, count: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/vectors")
        .join(folder);
    let entries = fs::read_dir(folder).expect("the vectors");
    let files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    assert_eq!(files.len(), count);
    for file in files {
        let text = fs::read_to_string(&file).expect("a readable vector");
        let (header, body) = text.split_once("\n\n").expect("a header and a body");
        let mut stated: Header = header
            .lines()
            .map(|line| line.split_once(": ").expect("a header line"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let comment = stated.remove("comment");
        assert!(comment.is_some(), "{}: no comment", file.display());
        let objects: Vec<Vec<u8>> = body
            .lines()
            .map(|line| HEXLOWER.decode(line.as_bytes()).expect("hexadecimal"))
            .collect();
        let found = describe(&stated["kind"], &objects);
        assert_eq!(stated, found, "{}", file.display());
    }
}

/// What is read from the objects of one vector.
pub(crate) fn describe(kind: &str, objects: &[Vec<u8>]) -> Header {
    let mut header = match (kind, objects) {
        ("statement", [bytes]) => found(Succession::parse(bytes), |s| statement(&s)),
        ("chain", [bytes]) => found(SuccessionChain::parse(bytes), |c| chain(&c)),
        ("revocation", [bytes]) => found(KeyRevocation::parse(bytes), |r| revocation(&r)),
        ("bundle", [bytes]) => found(Bundle::parse(bytes), |b| bundle(&b)),
        ("following", [held, offered]) => following(held, offered),
        _ => panic!("a vector of kind {kind:?} with {} objects", objects.len()),
    };
    put(&mut header, "kind", kind);
    header
}

fn found<T, E: Error>(read: Result<T, E>, describe: impl Fn(T) -> Header) -> Header {
    let mut header = match &read {
        Ok(_) => Header::new(),
        Err(error) => one("why", &error.to_string()),
    };
    let outcome = match read {
        Ok(read) => {
            header = describe(read);
            "accept"
        }
        Err(_) => "refuse",
    };
    put(&mut header, "outcome", outcome);
    header
}

fn statement(statement: &Succession) -> Header {
    let mut header = one("old", &statement.old().to_hex());
    let text = |hash: Option<[u8; 32]>| hash.map(|h| HEXLOWER.encode(&h)).unwrap_or_default();
    put(&mut header, "new", &statement.new().to_hex());
    put(
        &mut header,
        "network",
        &text(statement.network().map(|n| *n.as_bytes())),
    );
    put(&mut header, "sequence", &statement.sequence().to_string());
    put(&mut header, "previous", &text(statement.previous()));
    put(&mut header, "issued", &statement.issued().to_string());
    put(
        &mut header,
        "overlap-end",
        &statement.overlap_end().to_string(),
    );
    put(
        &mut header,
        "next",
        &text(statement.next().map(|n| *n.as_bytes())),
    );
    put(
        &mut header,
        "reason",
        statement.reason().unwrap_or_default(),
    );
    put(&mut header, "digest", &HEXLOWER.encode(&statement.digest()));
    header
}

fn chain(chain: &SuccessionChain) -> Header {
    let digests = chain
        .statements()
        .iter()
        .map(|s| HEXLOWER.encode(&s.digest()));
    let digests: Vec<String> = digests.collect();
    let mut header = one("current", &chain.current().to_hex());
    put(&mut header, "digests", &digests.join(" "));
    header
}

fn revocation(revocation: &KeyRevocation) -> Header {
    let mut header = one("key", &revocation.key().to_hex());
    put(&mut header, "signer", &revocation.signer().to_hex());
    put(&mut header, "at", &revocation.at().to_string());
    put(
        &mut header,
        "reason",
        revocation.reason().unwrap_or_default(),
    );
    header
}

fn bundle(bundle: &Bundle) -> Header {
    let mut header = one("network", &bundle.network().to_hex());
    put(&mut header, "name", bundle.name());
    put(&mut header, "sequence", &bundle.sequence().to_string());
    put(&mut header, "issued", &bundle.issued().to_string());
    put(&mut header, "expires", &bundle.expires().to_string());
    put(
        &mut header,
        "refresh",
        &bundle.refresh().as_secs().to_string(),
    );
    let locations: Vec<String> = bundle.locations().iter().map(ToString::to_string).collect();
    put(&mut header, "locations", &locations.join(" "));
    let charters: Vec<String> = bundle.charters().iter().map(sequence_and_digest).collect();
    put(&mut header, "charters", &charters.join(" "));
    for key in bundle.charter().keys() {
        let role = match key.role {
            KeyRole::Root => "root",
            KeyRole::Issuing => "issuing",
        };
        let state = match key.state {
            KeyState::Next => "next".to_owned(),
            KeyState::Active => "active".to_owned(),
            KeyState::Retiring { until } => format!("retiring {until}"),
            KeyState::Revoked => "revoked".to_owned(),
        };
        put(
            &mut header,
            &format!("key-{}", key.key().to_hex()),
            &format!("{role} {state}"),
        );
    }
    let withdrawn: Vec<String> = bundle.withdrawn().iter().map(|w| what(&w.what)).collect();
    put(&mut header, "withdrawn", &withdrawn.join(" "));
    put(&mut header, "signer", &bundle.signer().to_hex());
    put(&mut header, "digest", &HEXLOWER.encode(&bundle.digest()));
    header
}

fn sequence_and_digest(charter: &Charter) -> String {
    format!(
        "{}:{}",
        charter.sequence(),
        HEXLOWER.encode(&charter.digest())
    )
}

fn what(what: &WithdrawnWhat) -> String {
    match what {
        WithdrawnWhat::Certificate { issuer, serial } => {
            format!("{}:{}", issuer.to_hex(), HEXLOWER.encode(serial))
        }
        WithdrawnWhat::Key(key) => key.to_hex(),
    }
}

/// Both are sound by themselves.
fn following(held: &[u8], offered: &[u8]) -> Header {
    let [held, offered] = [held, offered].map(|b| Bundle::parse(b).expect("a sound bundle"));
    let outcome = match Bundle::follow(&held, &offered) {
        Ok(Follow::Newer) => "newer",
        Ok(Follow::Same) => "same",
        Err(FollowError::WrongNetwork { .. }) => "wrong-network",
        Err(FollowError::Rollback { .. }) => "rollback",
        Err(FollowError::CharterRollback { .. }) => "charter-rollback",
        Err(FollowError::NotASuccessor { .. }) => "not-a-successor",
        Err(FollowError::Fork(_)) => "fork",
        Err(error) => panic!("{error}"),
    };
    one("outcome", outcome)
}

fn one(name: &str, value: &str) -> Header {
    let mut header = Header::new();
    put(&mut header, name, value);
    header
}

/// Empty values are left out of the vectors.
fn put(header: &mut Header, name: &str, value: &str) {
    if !value.is_empty() {
        header.insert(name.to_owned(), value.to_owned());
    }
}
