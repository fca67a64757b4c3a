//! The files of a home, opened as a home's files are: content that the operator, another program
//! or a crash left there. They are read from a directory that lives as long as its thread.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use comity_identity::{NodeId, PeerId};
use comity_store::{
    AuditLog, Consumed, Deed, Health, Home, HomeFile, Invitations, NetworkStore, PeerStore, Pending,
};
use tempfile::TempDir;

use super::assert_printable;
use crate::certificates::TODAY;

/// Who writes, in the audit log.
const COMMAND: &str = "fuzz";

/// Who comes to the home.
const VISITOR: NodeId = NodeId::from_bytes([7; 32]);

/// `known_peers` as a file, which need not be UTF-8.
pub fn known_peers_file(data: &[u8]) {
    with_file(HomeFile::KnownPeers, data, |home| {
        match PeerStore::open(home, COMMAND) {
            Ok(store) => {
                let snapshot = store.snapshot();
                assert_eq!(snapshot.known.to_text().as_bytes(), data);
                assert!(matches!(snapshot.health, Health::Fresh));
            }
            Err(error) => assert_printable(&error),
        }
    });
}

/// The queue of an acceptor. What was read can be written again.
pub fn pending_file(data: &[u8]) {
    with_file(HomeFile::Pending, data, |home| {
        let pending = Pending::new(home, COMMAND);
        let waiting = match pending.list(TODAY) {
            Ok(waiting) => waiting,
            Err(error) => return assert_printable(&error),
        };
        let Some(first) = waiting.first() else { return };
        let removed = pending.remove(&first.peer).expect("it was read");
        assert_eq!(removed.map(|request| request.peer), Some(first.peer));
        let after = pending.list(TODAY).expect("our own writing");
        assert_eq!(after.len() + 1, waiting.len());
    });
}

/// The public halves of invitations. What was read can be used, once and by one node.
pub fn invitations_file(data: &[u8]) {
    with_file(HomeFile::Invitations, data, |home| {
        let invitations = Invitations::new(home, COMMAND);
        let all = match invitations.list() {
            Ok(all) => all,
            Err(error) => return assert_printable(&error),
        };
        let Some(first) = all.first() else { return };
        let consumed = invitations
            .consume(&first.id, &VISITOR, TODAY)
            .expect("it was read");
        let after = Invitations::new(home, COMMAND)
            .list()
            .expect("our own writing");
        assert_eq!(after.len(), all.len());
        match consumed {
            Consumed::First(_) => {
                assert!(first.consumed.is_none() && TODAY < first.expires);
                assert_eq!(after[0].consumed.map(|c| c.by), Some(VISITOR));
            }
            Consumed::Retry(_) => assert_eq!(first.consumed.map(|c| c.by), Some(VISITOR)),
            Consumed::Refused(_) => assert_eq!(after, all),
        }
    });
}

/// The authorities of a home. What was read has bundles that hold, and can be written again.
pub fn networks_file(data: &[u8]) {
    with_file(HomeFile::Networks, data, |home| {
        let store = NetworkStore::new(home, COMMAND);
        let all = match store.list() {
            Ok(all) => all,
            Err(error) => return assert_printable(&error),
        };
        let networks = store.networks().expect("it was read");
        assert_eq!(networks.iter().count(), all.len());
        for (record, authority) in all.iter().zip(networks.iter()) {
            assert_eq!(record.network, authority.id());
            assert_eq!(record.bundle, authority.bundle.bytes());
            assert_eq!(record.withdrawn, *authority.withdrawn);
        }
        let Some(first) = all.first() else { return };
        let free = |label: &String| all.iter().all(|record| record.label != *label);
        let label = (0..).map(|n| format!("label-{n}")).find(free);
        let label = label.expect("a label that nobody has");
        store.relabel(&first.network, &label).expect("it is free");
        let after = NetworkStore::new(home, COMMAND)
            .list()
            .expect("our own writing");
        assert_eq!(after.len(), all.len());
        assert_eq!(after[0].withdrawn, first.withdrawn);
    });
}

/// What an authority knows of itself.
pub fn authority_state(data: &[u8]) {
    if let Err(error) = comity_authority::check_state(data) {
        assert_printable(&error);
    }
}

/// The log of changes. Whatever it contains, a line that is appended is read back.
pub fn audit_log(data: &[u8]) {
    with_file(HomeFile::AuditLog, data, |home| {
        let log = AuditLog::new(home, COMMAND);
        let tail = log.tail(16).expect("damage is counted, not refused");
        assert!(tail.lines.len() + tail.damaged <= 16);
        let deed = Deed {
            action: "add".into(),
            peer: Some(PeerId::Node(VISITOR)),
            detail: "label\nand a line of its own".into(),
        };
        let lock = home.lock().expect("nobody else is here");
        log.append(&lock, &deed).expect("a writable home");
        let after = log.tail(16).expect("damage is counted, not refused");
        let last = after.lines.last().expect("the line that was appended");
        assert_eq!(
            (last.action.as_str(), last.command.as_str()),
            ("add", COMMAND)
        );
        assert_eq!(last.peer.as_deref(), Some(VISITOR.to_string().as_str()));
        assert_printable(&last.detail);
    });
}

/// Opens a home in which `file` has the given content.
fn with_file(file: HomeFile, content: &[u8], check: impl FnOnce(&Home)) {
    thread_local! {
        static HOME: (TempDir, Home) = fresh_home();
    }
    HOME.with(|(_, home)| {
        let path = home.path(file);
        fs::write(&path, content).expect("a writable directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("our own file");
        check(home);
        fs::remove_file(&path).expect("the file written above");
        // Where a file was, a missing one is an error.
        for marker in [HomeFile::KnownPeersPresent, HomeFile::NetworksPresent] {
            drop(fs::remove_file(home.path(marker)));
        }
    });
}

fn fresh_home() -> (TempDir, Home) {
    let folder = TempDir::new().expect("a temporary directory");
    let home = Home::create(&folder.path().join("home")).expect("a fresh home");
    (folder, home)
}
