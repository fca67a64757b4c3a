//! The vector files under `tests/vectors/home`: headers, a blank line, and the content of a file of
//! the home, as `docs/formats.md` describes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use comity_identity::UnixTime;

use super::support::TestHome;
use crate::audit::AuditLog;
use crate::home::{Home, HomeFile};
use crate::invitations::Invitations;
use crate::peers::PeerStore;
use crate::pending::{Knock, Pending};

#[test]
fn files_of_a_home_read_as_their_vectors_say() {
    let mut seen = BTreeMap::new();
    for vector in vectors() {
        let test = TestHome::new();
        let file = vector.header("file").to_owned();
        fs::write(test.path().join(&file), &vector.body).expect("a file");
        let outcome = match file.as_str() {
            "pending" => vector.check_pending(&test.home),
            "invitations" => vector.check_invitations(&test.home),
            "audit.log" => vector.check_audit_log(&test.home),
            "known_peers.present" | "known_peers.old" => {
                PeerStore::open(&test.home, "test").map(drop)
            }
            other => panic!("no such file: {other}"),
        };
        match outcome {
            Ok(()) => assert_eq!(vector.header("outcome"), "reads", "{}", vector.shown()),
            Err(error) => {
                assert_eq!(vector.header("outcome"), "refuse", "{}", vector.shown());
                let (why, said) = (vector.header("why"), error.to_string());
                assert!(said.contains(why), "{}: {said}", vector.shown());
            }
        }
        *seen.entry(file).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 5, "a vector of every file: {seen:?}");
}

#[test]
fn a_writer_makes_the_bytes_of_its_vectors() {
    let mut written = 0;
    for vector in vectors() {
        if vector.headers.get("writer").is_none_or(|w| w != "same") {
            continue;
        }
        let (old, new) = (TestHome::new(), TestHome::new());
        let file = vector.header("file");
        fs::write(old.path().join(file), &vector.body).expect("a file");
        match file {
            "pending" => copy_pending(&old.home, &new.home, vector.time("at")),
            _ => copy_invitations(&old.home, &new.home),
        }
        let copy = fs::read_to_string(new.path().join(file)).expect("a file");
        assert_eq!(copy, vector.body, "{}", vector.shown());
        written += 1;
    }
    assert_eq!(written, 2);
}

/// Lets the same strangers knock once more, elsewhere.
fn copy_pending(from: &Home, to: &Home, at: UnixTime) {
    let queue = Pending::new(to, "test");
    for request in Pending::new(from, "test").list(at).expect("the queue") {
        // What was escaped once is not escaped again.
        let label = request.claimed_label.as_ref().map(|_| "ops\n\u{202e}db");
        let knock = Knock {
            peer: request.peer,
            label,
            address: request.address,
            service: request.service.as_deref(),
        };
        queue.ask(&knock, request.first_seen).expect("asked");
    }
}

fn copy_invitations(from: &Home, to: &Home) {
    let kept = Invitations::new(to, "test");
    for invitation in Invitations::new(from, "test").list().expect("a list") {
        let created = invitation.created;
        kept.create(invitation, created).expect("created");
    }
}

struct Vector {
    path: PathBuf,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Vector {
    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.unwrap_or_else(|| panic!("{}: no {name}", self.shown()))
    }

    fn time(&self, name: &str) -> UnixTime {
        self.header(name).parse().expect("a time")
    }

    fn shown(&self) -> String {
        self.path.display().to_string()
    }

    fn check_pending(&self, home: &Home) -> Result<(), crate::StoreError> {
        let at = self
            .headers
            .get("at")
            .map_or(UnixTime::NEVER, |_| self.time("at"));
        let waiting = Pending::new(home, "test").list(at)?;
        let expected: Vec<_> = self.header("waiting").split(' ').collect();
        let expected = expected.iter().map(|id| id.parse().expect("an id"));
        assert!(
            waiting.iter().map(|r| r.peer).eq(expected),
            "{}",
            self.shown()
        );
        Ok(())
    }

    fn check_invitations(&self, home: &Home) -> Result<(), crate::StoreError> {
        let all = Invitations::new(home, "test").list()?;
        let ids: Vec<_> = all.iter().map(|i| i.id.to_string()).collect();
        assert_eq!(ids.join(" "), self.header("ids"), "{}", self.shown());
        let used: Vec<_> = all.iter().filter_map(|i| i.consumed).collect();
        let expected = self.headers.get("used-by");
        let expected: Vec<_> = expected
            .map(|id| id.parse().expect("an id"))
            .into_iter()
            .collect();
        assert!(used.iter().map(|c| c.by).eq(expected), "{}", self.shown());
        Ok(())
    }

    fn check_audit_log(&self, home: &Home) -> Result<(), crate::StoreError> {
        let tail = AuditLog::new(home, "test").tail(100)?;
        let actions: Vec<_> = tail.lines.iter().map(|l| l.action.as_str()).collect();
        assert_eq!(
            actions.join("|"),
            self.header("actions"),
            "{}",
            self.shown()
        );
        assert_eq!(
            tail.damaged.to_string(),
            self.header("damaged"),
            "{}",
            self.shown()
        );
        let path = home.path(HomeFile::AuditLog);
        assert_eq!(fs::read_to_string(path).expect("the log"), self.body);
        Ok(())
    }
}

fn vectors() -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/home");
    let files = fs::read_dir(folder).expect("the vectors");
    let mut paths: Vec<PathBuf> = files.map(|f| f.expect("a file").path()).collect();
    paths.sort();
    paths.into_iter().map(read).collect()
}

fn read(path: PathBuf) -> Vector {
    let text = fs::read_to_string(&path).expect("UTF-8");
    let (headers, body) = text.split_once("\n\n").expect("a blank line");
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").expect("name: value");
        (name.to_owned(), value.to_owned())
    };
    Vector {
        headers: headers.lines().map(header).collect(),
        body: body.to_owned(),
        path,
    }
}
