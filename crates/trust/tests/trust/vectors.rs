//! The vector files under `tests/vectors/`: headers, a blank line, and the text that they describe.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use comity_identity::NodeId;
use comity_trust::invitation::{Invitation, InvitationId, InvitationSecret, JoinStatement};
use comity_trust::{KnownPeers, Name};
use data_encoding::HEXLOWER;

struct Vector {
    path: PathBuf,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Vector {
    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.unwrap_or_else(|| panic!("{}: no {name}", self.path.display()))
    }

    fn bytes<const N: usize>(&self, name: &str) -> [u8; N] {
        let bytes = HEXLOWER.decode(self.header(name).as_bytes()).expect("hex");
        bytes.try_into().expect("length")
    }
}

fn vectors(folder: &str) -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/vectors")
        .join(folder);
    let files = std::fs::read_dir(&folder).expect("folder");
    let mut paths: Vec<PathBuf> = files.map(|f| f.expect("file").path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths.into_iter().map(read).collect()
}

fn read(path: PathBuf) -> Vector {
    let text = std::fs::read_to_string(&path).expect("UTF-8");
    let (headers, body) = text.split_once("\n\n").expect("a blank line");
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").expect("name: value");
        (name.to_owned(), value.to_owned())
    };
    Vector {
        path,
        headers: headers.lines().map(header).collect(),
        body: body.to_owned(),
    }
}

#[test]
fn known_peers_files_read_as_their_vectors_say() {
    for vector in vectors("known-peers") {
        let shown = match KnownPeers::parse(&vector.body) {
            Ok(known) => {
                assert_eq!(known.to_text(), vector.body);
                format!("{} entries", known.entries().count())
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, vector.header("outcome"), "{}", vector.path.display());
    }
}

#[test]
fn invitations_read_as_their_vectors_say() {
    for vector in vectors("invitation") {
        match Invitation::parse(&vector.body) {
            Ok(invitation) => check_invitation(&vector, &invitation),
            Err(error) => assert_eq!(
                error.to_string(),
                vector.header("outcome"),
                "{}",
                vector.path.display()
            ),
        }
    }
}

fn check_invitation(vector: &Vector, invitation: &Invitation) {
    assert_eq!(
        vector.header("outcome"),
        "reads",
        "{}",
        vector.path.display()
    );
    let addresses = vector.header("addresses").split(' ');
    let optional = |name| vector.headers.get(name).cloned();
    let expected = Invitation {
        addresses: addresses.map(|a| Name::parse(a).expect("name")).collect(),
        inviter: NodeId::from_bytes(vector.bytes("inviter")),
        network: optional("network"),
        network_id: optional("network-id").map(|_| NodeId::from_bytes(vector.bytes("network-id"))),
        id: InvitationId(vector.bytes("id")),
        secret: InvitationSecret::new(vector.bytes("secret")),
        expires: vector.header("expires").parse().expect("time"),
        label: optional("label").map(|label| Name::label(&label).expect("label")),
    };
    assert_eq!(*invitation, expected);
    assert_eq!(
        invitation.to_text().expect("text").as_str(),
        vector.body.trim_end()
    );
    let statement = JoinStatement {
        exporter: vector.bytes("exporter"),
        joiner: NodeId::from_bytes(vector.bytes("joiner")),
        inviter: invitation.inviter,
        invitation: invitation.id,
    };
    let public_key = invitation.secret.public_key().expect("key");
    assert_eq!(public_key, vector.bytes("public-key"));
    let signature = invitation.secret.sign(&statement).expect("signature");
    assert_eq!(HEXLOWER.encode(&signature), vector.header("signature"));
}
