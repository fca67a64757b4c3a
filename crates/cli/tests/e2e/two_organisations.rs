//! Two organisations that recognise each other without a third. `a-corp` is a node of Comity; `b-corp`
//! runs OpenSSL, and `comity ca` to make its certificates. They exchange files in a folder.
//!
//! OpenSSL enforces name constraints, so it is the second opinion on every chain here.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use comity_testkit::foreign::tls::{Clients, PemFiles, openssl_client, openssl_server};
use comity_testkit::foreign::{Finished, Listening, Program, Running, free_port, run};
use tempfile::TempDir;

use crate::backend;
use crate::home::{Home, assert_says, expect_exit};

/// From the news of a withdrawal to the end of the connection.
const AT_ONCE: Duration = Duration::from_secs(1);

/// OpenSSL judges by the letter of RFC 5280, and gives up at the first fault.
const STRICT: &str = "-x509_strict";

struct Organisations {
    a: Home,
    b: Home,
    /// Where each puts what the other should have.
    exchanged: TempDir,
    /// The id of B's authority, as its people tell it on the phone.
    b_id: String,
    address: String,
}

impl Organisations {
    /// Both, each certified by the other. `None` without openssl.
    fn new() -> Option<Self> {
        Program::find("openssl")?;
        let (a, b) = (Home::empty(), Home::empty());
        let address = format!("127.0.0.1:{}", free_port());
        with_root(&a, &["network", "create", "a-corp", "--addr", &address]);
        let root = file(&b.beside("b.key"));
        with_root(&b, &["ca", "init", "b-corp", "--root", &root]);
        let b_id = b.json(&["network", "show", "b-corp"])["id"].clone();
        let organisations = Self {
            a,
            b,
            exchanged: TempDir::new().expect("a folder"),
            b_id: b_id.as_str().expect("an id").to_owned(),
            address,
        };
        organisations.recognise_each_other();
        Some(organisations)
    }

    fn recognise_each_other(&self) {
        let certificate = self.b.yes(&["ca", "show", "b-corp", "--certificate"]);
        fs::write(self.path("b-root.pem"), certificate).expect("written");
        let (root, package) = (self.file("b-root.pem"), self.file("b-by-a.pem"));
        let mut args = vec!["ca", "certify", "a-corp", &root, "--role", "partner"];
        args.extend(["--as", "b", "--confirm", &self.b_id, "--out", &package]);
        self.a.yes(&args);
        self.b_certifies_a("a");
        let package = self.file("a-by-b.pem");
        self.a
            .yes(&["network", "import", &package, "--confirm", &self.b_id]);
    }

    /// B certifies the present key of A's node, and puts the package into the exchange.
    fn b_certifies_a(&self, label: &str) {
        let package = self.file("a-by-b.pem");
        // An earlier one may be there.
        drop(fs::remove_file(&package));
        expect_exit(
            self.try_to_certify_a(label, &package),
            0,
            &["ca", "certify"],
        );
    }

    fn try_to_certify_a(&self, label: &str, package: &str) -> Finished {
        let certificate = self.a.yes(&["id", "--certificate"]);
        fs::write(self.path("a.pem"), certificate).expect("written");
        let (node, id) = (self.file("a.pem"), self.a.id());
        let mut args = vec!["ca", "certify", "b-corp", &node, "--role", "partner"];
        args.extend(["--as", label, "--confirm", &id, "--out", package]);
        self.b.run(&args)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.exchanged.path().join(name)
    }

    fn file(&self, name: &str) -> String {
        file(&self.path(name))
    }

    /// A certificate of B's own name with a key that was made with it, and beside it A's certificate
    /// for B.
    fn leaf(&self, name: &str) -> PemFiles {
        let (out, root) = (self.b.beside(name), file(&self.b.beside("b.key")));
        let mut args = vec!["ca", "issue", "b-corp", "--template", "organisation"];
        let path = file(&out);
        args.extend(["--root", &root, "--out", &path]);
        with_root(&self.b, &args);
        PemFiles {
            chain: out.with_extension("crt"),
            issuers: Some(self.path("b-by-a.pem")),
            key: out.with_extension("key"),
        }
    }

    /// A's node, with a service for partners and one for its own developers.
    fn serve(&self) -> Listening {
        let target = format!("db={}", backend::echo());
        let mut args = vec!["serve", "--listen", &self.address, &target];
        args.extend(["--allow", "db=a-corp/partner", "--allow", "db=a-corp/dev"]);
        Listening::start_on_its_own_port(&mut self.a.command(&args), b"", "listening on ")
    }

    /// OpenSSL as B's client, which accepts nobody that B did not certify.
    fn dial(&self, server: SocketAddr, leaf: &PemFiles) -> Running {
        let root = self.path("b-root.pem");
        openssl_client(server, Some(leaf), Some(&root), &[STRICT]).expect("openssl is there")
    }

    /// OpenSSL as B's server, which accepts nobody that B did not certify and sends every line back
    /// reversed.
    fn b_serves(&self, leaf: &PemFiles) -> Listening {
        let root = self.path("b-root.pem");
        openssl_server(leaf, Clients::IssuedBy(&root), &["-rev", STRICT]).expect("openssl is there")
    }

    /// What A gets from whom it knows by B's id at this address.
    fn a_connects(&self, server: SocketAddr) -> Finished {
        let args = ["connect", &self.b_id, "--addr", &server.to_string()];
        self.a.talk(&args, b"olleh\n")
    }

    /// An invitation to A's network.
    fn member(&self, label: &str, role: &str) -> Home {
        let invite = ["network", "invite", "a-corp", "--role", role, "--as", label];
        let invitation = self.a.yes(&invite);
        let member = Home::empty();
        member.yes(&["network", "join", &invitation, "--as", "a"]);
        member
    }
}

fn file(path: &Path) -> String {
    path.display().to_string()
}

/// Runs what needs the passphrase of a root key.
fn with_root(home: &Home, args: &[&str]) -> String {
    let passphrase = home.beside("passphrase");
    fs::write(&passphrase, "correct horse\n").expect("written");
    let passphrase = file(&passphrase);
    home.yes(&[args, &["--root-passphrase-file", &passphrase]].concat())
}

/// Insists that a client reaches the service, and leaves it open.
fn carrying(client: Running) -> Running {
    client.wait_for("Verification: OK");
    client.write(b"there and back\n");
    client.wait_for("there and back");
    client
}

/// Insists that a client got nothing.
fn assert_got_nothing(client: Running) {
    client.write(b"let me in\n");
    let finished = client.finish();
    assert_eq!(finished.out(), "", "{}", finished.err());
}

fn assert_ends_at_once(client: Running, since: Instant) {
    client.finish();
    assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
}

fn assert_reversed(finished: Finished) {
    assert_eq!(finished.expect_success().out(), "hello\n");
}

#[test]
fn two_organisations_verify_each_other_both_ways() {
    let Some(organisations) = Organisations::new() else {
        return;
    };
    let leaf = organisations.leaf("server");
    let serving = organisations.serve();
    drop(carrying(organisations.dial(serving.address, &leaf)));
    let how = "how=\"cross-certificate\"";
    let accepted = serving.running.wait_for_line(how);
    assert_says(&accepted, &[&format!("id={}", organisations.b_id)]);
    let server = organisations.b_serves(&leaf);
    assert_reversed(organisations.a_connects(server.address));
    server.running.wait_for("Verification: OK");
    let known = organisations.a.known_peers();
    assert!(
        !known.contains(" both "),
        "a certificate writes no pin: {known}"
    );
}

#[test]
fn explain_tells_by_whose_word_a_partner_is_recognised() {
    let Some(organisations) = Organisations::new() else {
        return;
    };
    let server = organisations.b_serves(&organisations.leaf("server"));
    let explained = organisations
        .a
        .yes(&["trust", "explain", &server.address.to_string()]);
    assert_says(
        &explained,
        &[
            "accepted, by cross-certificate",
            "network a-corp",
            "roles partner",
        ],
    );
}

/// OpenSSL takes the first certificate that issued the one below it, and never goes back.
#[test]
fn whoever_names_its_authorities_is_shown_their_certificate_first() {
    let Some(organisations) = Organisations::new() else {
        return;
    };
    let leaf = organisations.leaf("server");
    let serving = organisations.serve();
    let own_root = organisations.a.beside("a-root.pem");
    let certificate = organisations
        .a
        .yes(&["ca", "show", "a-corp", "--certificate"]);
    fs::write(&own_root, certificate).expect("written");
    let b_root = organisations.path("b-root.pem");
    for root in [&own_root, &b_root] {
        let extra = [STRICT, "-requestCAfile", &file(root)];
        let client = openssl_client(serving.address, Some(&leaf), Some(root), &extra);
        drop(carrying(client.expect("openssl is there")));
        // A server names them by itself.
        let clients = Clients::IssuedBy(root);
        let server = openssl_server(&leaf, clients, &["-rev", STRICT]).expect("openssl is there");
        assert_reversed(organisations.a_connects(server.address));
    }
}

#[test]
fn a_server_moves_without_a_word() {
    let Some(organisations) = Organisations::new() else {
        return;
    };
    let leaf = organisations.leaf("server");
    let before = organisations.b_serves(&leaf);
    assert_reversed(organisations.a_connects(before.address));
    drop(before);
    // Another machine, with another key and another address.
    let after = organisations.b_serves(&organisations.leaf("other-server"));
    assert_reversed(organisations.a_connects(after.address));
}

#[test]
fn a_lost_leaf_key_is_cut_off_by_a_bundle_that_came_as_a_file() {
    let Some(organisations) = Organisations::new() else {
        return;
    };
    let (lost, other) = (organisations.leaf("lost"), organisations.leaf("other"));
    let serving = organisations.serve();
    let open = carrying(organisations.dial(serving.address, &lost));
    let unconcerned = carrying(organisations.dial(serving.address, &other));
    let (b, bundle) = (&organisations.b, organisations.file("b-bundle.pem"));
    let inspected = b.json(&["ca", "inspect", &file(&lost.chain)]);
    let key = inspected["found"][0]["key"].as_str().expect("a key");
    let key = format!("key:{key}");
    b.yes(&["ca", "withdraw", "b-corp", &key]);
    b.yes(&["ca", "bundle", "b-corp", "--out", &bundle]);
    organisations.a.yes(&["network", "import", &bundle]);
    assert_ends_at_once(open, Instant::now());
    serving.running.wait_for("reason=\"revoked\"");
    assert_got_nothing(organisations.dial(serving.address, &lost));
    let server = organisations.b_serves(&lost);
    let refused = expect_exit(organisations.a_connects(server.address), 1, &["connect"]);
    assert_says(&refused.err(), &["b-corp withdrew", "no data was sent"]);
    // Nobody else is concerned, and the next key is as good as the first was.
    drop(carrying(unconcerned));
    let next = organisations.leaf("next");
    drop(carrying(organisations.dial(serving.address, &next)));
}

#[test]
fn withdrawing_a_partner_cuts_it_off_at_once() {
    let Some(organisations) = Organisations::new() else {
        return;
    };
    let leaf = organisations.leaf("server");
    let serving = organisations.serve();
    let open = carrying(organisations.dial(serving.address, &leaf));
    organisations.a.yes(&["ca", "withdraw", "a-corp", "b"]);
    assert_ends_at_once(open, Instant::now());
    assert_got_nothing(organisations.dial(serving.address, &leaf));
    let refused = serving.running.wait_for_line(" refused ");
    assert_says(&refused, &["reason=\"revoked\""]);
    let server = organisations.b_serves(&leaf);
    let said = expect_exit(organisations.a_connects(server.address), 1, &["connect"]).err();
    assert_says(&said, &["a-corp withdrew", "no data was sent"]);
}

#[test]
fn an_identity_is_rolled_while_a_member_is_away_and_partners_certify_it_anew() {
    let Some(organisations) = Organisations::new() else {
        return;
    };
    let leaf = organisations.leaf("server");
    let serving = organisations.serve();
    let away = organisations.member("laptop", "dev");
    drop(serving);
    let (a, old) = (&organisations.a, organisations.a.id());
    let rolled = expect_exit(a.run(&["identity", "roll"]), 0, &["identity", "roll"]);
    assert_says(
        &rolled.err(),
        &[
            "network a-corp: our membership was issued for the new key",
            "network b-corp: its people have to certify the new key",
        ],
    );
    let serving = organisations.serve();
    let connect = ["connect", "a/db"];
    let said = away.talk(&connect, b"hello").expect_success().err();
    assert_says(
        &said,
        &["a has a new key, for which the old one signed", &a.id()],
    );
    let known = away.known_peers();
    assert_says(
        &known,
        &[&format!("successor={}", a.id()), &format!("a node {old}")],
    );
    // Also who knows its place by the id of then gets bundles there.
    assert_says(&away.yes(&["network", "refresh"]), &["new bundle"]);
    // Who joins now learns the present one.
    let newcomer = organisations.member("newcomer", "dev");
    newcomer.yes(&["network", "refresh"]);
    let place = format!("bundle#{}", a.id());
    assert_says(&newcomer.yes(&["network", "show", "a-corp"]), &[&place]);
    // B certified the old key. It refuses the new one until its people have certified that.
    let client = organisations.dial(serving.address, &leaf);
    client.wait_for("verify error:");
    assert_got_nothing(client);
    drop(serving);
    let said = a.yes(&["network", "refresh", "b-corp"]);
    assert_says(&said, &["comity network import FILE"]);
    let taken = organisations.try_to_certify_a("a", &organisations.file("none.pem"));
    let taken = expect_exit(taken, 1, &["ca", "certify"]).err();
    assert_says(&taken, &["a is the label of another member", "--as"]);
    organisations.b_certifies_a("a-2");
    a.yes(&["network", "import", &organisations.file("a-by-b.pem")]);
    let serving = organisations.serve();
    drop(carrying(organisations.dial(serving.address, &leaf)));
    assert_reversed(organisations.a_connects(organisations.b_serves(&leaf).address));
}

#[test]
fn a_root_is_rolled_while_a_member_is_away() {
    let Some(organisations) = Organisations::new() else {
        return;
    };
    let (a, leaf) = (&organisations.a, organisations.leaf("server"));
    let serving = organisations.serve();
    let open = carrying(organisations.dial(serving.address, &leaf));
    let away = organisations.member("laptop", "dev");
    let new_root = file(&a.beside("new-root.key"));
    with_root(a, &["ca", "roll-root", "a-corp", "--new-root", &new_root]);
    with_root(
        a,
        &["ca", "roll-issuing", "a-corp", "--root", &new_root, "--now"],
    );
    // Certified by a key that the member which was away has not heard of, below a root likewise.
    let newcomer = organisations.member("newcomer", "dev");
    let target = format!("echo={}", backend::echo());
    let elsewhere = newcomer.serve(&[&target, "--allow", "echo=a-corp/dev"]);
    let connect = ["connect", &format!("{}/echo", elsewhere.address)];
    expect_exit(away.talk(&connect, b"hello"), 1, &connect);
    assert_says(
        &away.yes(&["network", "refresh", "a-corp"]),
        &["new bundle"],
    );
    let answer = away.talk(&connect, b"hello").expect_success();
    assert_eq!(answer.out(), "hello");
    // The old keys count until their overlap ends: nobody was cut off.
    drop(carrying(open));
    drop(carrying(organisations.dial(serving.address, &leaf)));
    let shown = away.yes(&["network", "show", "a-corp"]);
    assert_says(
        &shown,
        &["root key", "retiring until", "active, certificate until"],
    );
}

#[test]
fn a_removed_member_is_cut_off_at_a_third_members_by_the_bundle_that_is_pushed() {
    let Some(organisations) = Organisations::new() else {
        return;
    };
    let serving = organisations.serve();
    let (removed, third) = (
        organisations.member("removed", "dev"),
        organisations.member("third", "dev"),
    );
    let target = format!("echo={}", backend::echo());
    let elsewhere = third.serve(&[&target, "--allow", "echo=a-corp/dev"]);
    let opened = |peer: &str| {
        let open = removed.start(&["connect", peer]);
        open.write(b"open\n");
        open.wait_for("open");
        open
    };
    let at_third = opened(&format!("{}/echo", elsewhere.address));
    let at_a = opened("a/db");
    organisations
        .a
        .yes(&["network", "remove", "a-corp", "removed"]);
    let since = Instant::now();
    at_a.wait_for("was cut off");
    assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
    at_third.wait_for("was cut off");
    assert!(since.elapsed() < AT_ONCE * 2, "{:?}", since.elapsed());
    elsewhere.running.wait_for("reason=\"revoked\"");
    drop(serving);
}

#[test]
fn an_organisation_that_a_person_pinned_by_its_id_is_certified_and_met_by_its_label() {
    let Some(organisations) = Organisations::new() else {
        return;
    };
    let a = &organisations.a;
    let leaf = organisations.leaf("server");
    let server = organisations.b_serves(&leaf);
    let address = server.address.to_string();
    a.yes(&["trust", "add", "b", &organisations.b_id, "--addr", &address]);
    assert_reversed(a.talk(&["connect", "b"], b"olleh\n"));
    // The pin says whose root it is, so nobody is asked; the words are those of the phone.
    let root = organisations.file("b-root.pem");
    let args = ["ca", "certify", "a-corp", &root, "--as", "b"];
    let certified = expect_exit(a.run(&args), 0, &args);
    let pinned = "its key is pinned here, and was confirmed";
    assert_says(&certified.err(), &[pinned, &organisations.b_id]);
    a.yes(&["trust", "remove", "b"]);
    let refused = a.no(&args);
    assert_says(&refused, &["is not confirmed", "nothing was signed"]);
}

/// An organisation whose CA is OpenSSL alone, and which A certified.
struct Rogue {
    folder: TempDir,
    /// A's certificate for its root.
    package: PathBuf,
}

impl Rogue {
    fn certified_by(organisations: &Organisations) -> Self {
        let folder = TempDir::new().expect("a folder");
        let root = folder.path().join("root.pem");
        let extensions = "[ca]\nbasicConstraints=critical,CA:TRUE\n\
             keyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n\
             [leaf]\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n\
             extendedKeyUsage=serverAuth,clientAuth\nsubjectKeyIdentifier=hash\n\
             authorityKeyIdentifier=keyid\n[req]\ndistinguished_name=dn\n[dn]\n";
        fs::write(folder.path().join("openssl.cnf"), extensions).expect("written");
        let package = folder.path().join("by-a.pem");
        let rogue = Self { folder, package };
        rogue.openssl(
            "req -x509 -config openssl.cnf -extensions ca -newkey ec \
             -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root.key -out root.pem -days 30 -subj",
            "/O=Rogue",
        );
        let (root, package) = (file(&root), file(&rogue.package));
        let inspected = organisations.a.json(&["ca", "inspect", &root]);
        let id = inspected["found"][0]["key"].as_str().expect("an id");
        let mut args = vec!["ca", "certify", "a-corp", &root, "--role", "partner"];
        args.extend(["--as", "rogue", "--confirm", id, "--out", &package]);
        organisations.a.yes(&args);
        rogue
    }

    /// A leaf of this name, signed by its root.
    fn leaf(&self, subject: &str) -> PemFiles {
        self.openssl(
            "req -new -config openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
             -nodes -keyout leaf.key -out leaf.csr -subj",
            subject,
        );
        self.openssl(
            "x509 -req -in leaf.csr -CA root.pem -CAkey root.key -days 20 -extfile openssl.cnf \
             -extensions leaf -out",
            "leaf.pem",
        );
        PemFiles {
            chain: self.folder.path().join("leaf.pem"),
            issuers: Some(self.package.clone()),
            key: self.folder.path().join("leaf.key"),
        }
    }

    /// What OpenSSL says of the last leaf, from this root.
    fn verified_from(&self, root: &Path) -> String {
        let mut command = Program::find("openssl").expect("it is there").command();
        command.args(["verify", STRICT, "-show_chain", "-CAfile"]);
        command.arg(root).arg("-untrusted").arg(&self.package);
        let finished = run(command.arg(self.folder.path().join("leaf.pem")), b"");
        finished.out() + &finished.err()
    }

    fn openssl(&self, args: &str, last: &str) {
        let mut command = Program::find("openssl").expect("it is there").command();
        command.current_dir(self.folder.path());
        run(command.args(args.split_whitespace()).arg(last), b"").expect_success();
    }
}

#[test]
fn a_partner_that_issues_for_other_names_is_refused_by_openssl_and_by_us() {
    let Some(organisations) = Organisations::new() else {
        return;
    };
    let a = &organisations.a;
    let rogue = Rogue::certified_by(&organisations);
    let own_root = rogue.folder.path().join("a-root.pem");
    let certificate = a.yes(&["ca", "show", "a-corp", "--certificate"]);
    fs::write(&own_root, certificate).expect("written");
    let serving = organisations.serve();
    let dial = |leaf: &PemFiles| openssl_client(serving.address, Some(leaf), None, &[]);
    // Under its own name it is a partner like any other.
    let honest = rogue.leaf("/O=Rogue");
    assert_says(&rogue.verified_from(&own_root), &["leaf.pem: OK"]);
    let client = dial(&honest).expect("openssl is there");
    client.write(b"there and back\n");
    client.wait_for("there and back");
    drop(client);
    let hex = |home: &Home, name: &str| {
        let shown = home.json(&["network", "show", name]);
        shown["hex"].as_str().expect("hex").to_owned()
    };
    let forged = [
        format!("/O=Comity Nodes/serialNumber={}", a.yes(&["id", "--hex"])),
        format!("/O=Comity Networks/serialNumber={}", hex(a, "a-corp")),
        format!("/O=Comity Networks/serialNumber={}", hex(a, "b-corp")),
        "/CN=localhost".to_owned(),
        "/O=Rogue Ltd".to_owned(),
    ];
    for subject in forged {
        let leaf = rogue.leaf(&subject);
        let said = rogue.verified_from(&own_root);
        assert_says(&said, &["error 47", "permitted subtree violation"]);
        let before = serving
            .running
            .said()
            .matches("reason=\"constraint\"")
            .count();
        assert_got_nothing(dial(&leaf).expect("openssl is there"));
        let refused = serving
            .running
            .said()
            .matches("reason=\"constraint\"")
            .count();
        assert_eq!(refused, before + 1, "{subject}\n{}", serving.running.said());
        let server = openssl_server(&leaf, Clients::Any, &["-rev"]).expect("openssl is there");
        let connect = ["connect", &server.address.to_string(), "--trust", "tofu"];
        let refused = expect_exit(a.talk(&connect, b"secret\n"), 1, &connect);
        assert_says(&refused.err(), &["no data was sent"]);
        assert!(!server.running.said().contains("secret"), "{subject}");
    }
}
