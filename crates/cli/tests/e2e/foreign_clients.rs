//! Programs that are not ours dial `comity serve`: OpenSSL, GnuTLS, curl, stunnel.

use comity_testkit::certificates::{Credential, Foreign};
use comity_testkit::foreign::tls::{PemFiles, curl, gnutls_client, openssl_client, stunnel_client};
use comity_testkit::foreign::{Listening, Running};
use tempfile::TempDir;

use crate::authorities::{century, expired, files, id_of};
use crate::backend::{self, Recorder, converse};
use crate::home::{Home, assert_says};

/// A server that knows one foreign client by its key, and whose certificate has loopback's names.
struct Stage {
    server: Home,
    serving: Listening,
    folder: TempDir,
    known: PemFiles,
}

impl Stage {
    fn new(target: &str) -> Self {
        Self::knowing(&client().self_signed(), target)
    }

    fn knowing(known: &Credential, target: &str) -> Self {
        let (server, folder) = (Home::new(), TempDir::new().expect("a folder"));
        server.yes(&[
            "trust",
            "add",
            "robot",
            &id_of(known),
            "--side",
            "accept",
            "--for",
            "default",
        ]);
        let serving = server.serve(&[target, "--name", "localhost", "--name", "127.0.0.1"]);
        let known = files(&folder, "known", known);
        Self {
            server,
            serving,
            folder,
            known,
        }
    }

    /// The same name as the known client, and another key.
    fn stranger(&self) -> PemFiles {
        files(&self.folder, "stranger", &client().self_signed())
    }
}

/// A client certificate that is valid for a century.
fn client() -> Foreign {
    century(Foreign::client("robot"))
}

/// Waits for the end of a client that was refused, and insists that it got nothing.
fn assert_got_nothing(client: Running) {
    let finished = client.finish();
    assert!(!finished.out().contains("secret"), "{}", finished.out());
}

#[test]
fn openssl_verifies_our_chain_and_is_recognised_by_its_key() {
    let stage = Stage::new(&backend::echo().to_string());
    let root = stage.server.root();
    let extra = ["-tls1_3", "-verify_hostname", "localhost"];
    let Some(client) = openssl_client(
        stage.serving.address,
        Some(&stage.known),
        Some(&root),
        &extra,
    ) else {
        return;
    };
    client.wait_for("Verification: OK");
    client.write(b"there and back\n");
    client.wait_for("there and back\n");
    stage.serving.running.wait_for("peer=robot");
}

#[test]
fn openssl_sees_that_another_name_or_another_root_is_not_ours() {
    let stage = Stage::new(&backend::greeter("secret").to_string());
    let other = Home::new();
    for (root, name) in [
        (stage.server.root(), "db.example"),
        (other.root(), "localhost"),
    ] {
        let extra = ["-verify_hostname", name];
        let Some(client) = openssl_client(
            stage.serving.address,
            Some(&stage.known),
            Some(&root),
            &extra,
        ) else {
            return;
        };
        client.wait_for("verif");
        assert_got_nothing(client);
    }
}

#[test]
fn a_claimed_label_is_never_taken_bare_so_that_no_rule_for_it_applies() {
    let (server, folder) = (Home::new(), TempDir::new().expect("a folder"));
    let target = backend::greeter("secret\n").to_string();
    let serving = server.serve(&[&target, "--allow", "default=laptop"]);
    serving
        .running
        .wait_for("--allow default=label:laptop: nobody has this label yet");
    let stranger = century(Foreign::client("laptop")).self_signed();
    let stranger = files(&folder, "stranger", &stranger);
    let dial = || openssl_client(serving.address, Some(&stranger), None, &[]);
    let Some(client) = dial() else { return };
    assert_got_nothing(client);
    let waiting = &server.json(&["trust", "pending"])[0];
    assert_eq!(waiting["claimed_label"], "laptop");
    let id = waiting["id"].as_str().expect("an id");
    let approved = server.json(&["trust", "approve", id]);
    let short = id.trim_start_matches("key:")[..7].to_lowercase();
    assert_eq!(approved["label"], format!("laptop-{short}"));
    assert_got_nothing(dial().expect("openssl"));
    serving.running.wait_for("not-authorised");
}

#[test]
fn an_openssl_client_with_another_key_waits_for_approval_and_then_gets_in() {
    let stage = Stage::new(&backend::greeter("secret\n").to_string());
    let stranger = stage.stranger();
    let dial = || openssl_client(stage.serving.address, Some(&stranger), None, &[]);
    let Some(client) = dial() else { return };
    assert_got_nothing(client);
    let waiting = stage.server.json(&["trust", "pending"]);
    assert_eq!(
        waiting[0]["claimed_label"], "robot",
        "a claim, which is not believed"
    );
    let id = waiting[0]["id"].as_str().expect("an id");
    assert!(id.starts_with("key:"), "{id}");
    stage
        .server
        .yes(&["trust", "approve", id, "--as", "second", "--for", "default"]);
    dial().expect("openssl is there").wait_for("secret");
}

#[test]
fn clients_without_a_certificate_reach_nothing() {
    let recorder = Recorder::new();
    let stage = Stage::new(&recorder.address.to_string());
    let Some(client) = openssl_client(stage.serving.address, None, None, &[]) else {
        return;
    };
    client.write(b"let me in\n");
    client.wait_for("certificate required");
    drop(client);
    if let Some(client) = gnutls_client(stage.serving.address, None, None, &[]) {
        client.write(b"let me in\n");
        client.wait_for("Certificate is required");
    }
    recorder.assert_untouched();
    assert_eq!(
        stage.server.json(&["trust", "pending"]),
        serde_json::json!([])
    );
}

#[test]
fn a_pinned_client_certificate_that_expired_is_accepted_with_a_warning_and_no_other() {
    let credential = expired(Foreign::client("robot")).self_signed();
    let stage = Stage::knowing(&credential, &backend::greeter("secret\n").to_string());
    let Some(client) = openssl_client(stage.serving.address, Some(&stage.known), None, &[]) else {
        return;
    };
    client.wait_for("secret");
    stage.serving.running.wait_for("accepted with a warning");
    let other = files(
        &stage.folder,
        "other",
        &expired(Foreign::client("robot")).self_signed(),
    );
    assert_got_nothing(
        openssl_client(stage.serving.address, Some(&other), None, &[]).expect("there"),
    );
}

#[test]
fn a_revoked_foreign_key_gets_nothing() {
    let stage = Stage::new(&backend::greeter("secret\n").to_string());
    stage.server.yes(&["trust", "revoke", "robot"]);
    let Some(client) = openssl_client(stage.serving.address, Some(&stage.known), None, &[]) else {
        return;
    };
    assert_got_nothing(client);
    stage.serving.running.wait_for("reason=\"revoked\"");
}

#[test]
fn tls_1_2_is_spoken_only_when_the_operator_says_so() {
    let stage = Stage::new(&backend::greeter("secret\n").to_string());
    let dial =
        |server: &Listening| openssl_client(server.address, Some(&stage.known), None, &["-tls1_2"]);
    let Some(client) = dial(&stage.serving) else {
        return;
    };
    client.wait_for("protocol version");
    assert_got_nothing(client);
    let old = stage
        .server
        .serve(&[&backend::greeter("for the old\n").to_string(), "--tls12"]);
    dial(&old)
        .expect("openssl is there")
        .wait_for("for the old");
}

#[test]
fn gnutls_verifies_our_chain_and_is_recognised_by_its_key() {
    let stage = Stage::new(&backend::echo().to_string());
    let root = stage.server.root();
    let Some(client) = gnutls_client(stage.serving.address, Some(&stage.known), Some(&root), &[])
    else {
        return;
    };
    client.wait_for("The certificate is trusted");
    client.wait_for("Handshake was completed");
    client.write(b"there and back\n");
    client.wait_for("there and back\n");
}

#[test]
fn a_gnutls_client_with_another_key_or_another_root_gets_nothing() {
    let stage = Stage::new(&backend::greeter("secret").to_string());
    let stranger = stage.stranger();
    let Some(client) = gnutls_client(stage.serving.address, Some(&stranger), None, &[]) else {
        return;
    };
    assert_got_nothing(client);
    let other = Home::new();
    let client = gnutls_client(
        stage.serving.address,
        Some(&stage.known),
        Some(&other.root()),
        &[],
    );
    let client = client.expect("gnutls-cli is there");
    client.wait_for("NOT trusted");
    assert_got_nothing(client);
}

#[test]
fn curl_reaches_a_web_service_with_its_certificate() {
    let stage = Stage::new(&backend::web().to_string());
    let (root, port) = (stage.server.root(), stage.serving.address.port());
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("https://{host}:{port}/");
        let Some(finished) = curl(&url, Some(&stage.known), Some(&root), &[]) else {
            return;
        };
        assert_eq!(
            finished.expect_success().out(),
            "hello from the backend\n",
            "{host}"
        );
    }
    let url = format!("https://localhost:{port}/");
    let none = curl(&url, None, Some(&root), &[]).expect("curl is there");
    assert!(!none.status.success());
    assert_eq!(none.out(), "");
}

#[test]
fn curl_is_told_why_it_is_refused() {
    let recorder = Recorder::new();
    let stage = Stage::new(&recorder.address.to_string());
    let url = format!("https://localhost:{}/", stage.serving.address.port());
    let root = stage.server.root();
    let stranger = stage.stranger();
    let Some(finished) = curl(&url, Some(&stranger), Some(&root), &["--include"]) else {
        return;
    };
    assert_says(
        &finished.expect_success().out(),
        &[
            "HTTP/1.1 403 Forbidden",
            "Comity-Reason: pending",
            "refused: pending",
        ],
    );
    recorder.assert_untouched();
}

#[test]
fn curl_is_told_that_a_service_is_not_for_it() {
    let stage = Stage::new(&backend::web().to_string());
    let known = stage.server.known_peers().replace(" for=default", "");
    std::fs::write(stage.server.path().join("known_peers"), known).expect("written");
    let serving = stage
        .server
        .serve(&[&backend::web().to_string(), "--name", "localhost"]);
    let url = format!("https://localhost:{}/", serving.address.port());
    let root = stage.server.root();
    let extra = ["--http1.1", "--include"];
    let Some(finished) = curl(&url, Some(&stage.known), Some(&root), &extra) else {
        return;
    };
    assert_says(
        &finished.expect_success().out(),
        &["403 Forbidden", "Comity-Reason: not-authorised"],
    );
}

#[test]
fn stunnel_puts_tls_on_for_programs_that_have_none() {
    let stage = Stage::new(&backend::echo().to_string());
    let root = stage.server.root();
    let tunnel = |credentials: &PemFiles, root: &std::path::Path| {
        let extra = ["checkHost = localhost"];
        stunnel_client(stage.serving.address, Some(credentials), Some(root), &extra)
    };
    let Some(good) = tunnel(&stage.known, &root) else {
        return;
    };
    assert_eq!(converse(good.address, "through stunnel"), "through stunnel");
    // Another key is refused by us, another root by stunnel.
    let other = Home::new();
    for (credentials, root) in [(&stage.stranger(), &root), (&stage.known, &other.root())] {
        let bad = tunnel(credentials, root).expect("stunnel is there");
        assert_eq!(converse(bad.address, "through stunnel"), "");
    }
}
