//! TLS programs of others: OpenSSL, GnuTLS, stunnel and curl, as servers and as clients.
//!
//! Each helper takes `extra` arguments for what a test is about and returns `None` when the program
//! is missing. A client without `trust` accepts any server, so that a test can look at what the
//! server does.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use data_encoding::BASE64;

use super::{Finished, Listening, Program, Running, run};

/// A certificate chain and its key as PEM files, for programs that take paths.
#[derive(Clone, Debug)]
pub struct PemFiles {
    /// The whole chain, leaf first.
    pub chain: PathBuf,
    /// The chain without the leaf, when it has more than one certificate: OpenSSL takes it apart.
    pub issuers: Option<PathBuf>,
    /// The private key, PKCS#8.
    pub key: PathBuf,
}

impl PemFiles {
    /// Writes `NAME.pem`, `NAME.key` and, where there are issuers, `NAME.issuers.pem`.
    ///
    /// # Panics
    /// When the folder cannot be written or the chain is empty.
    pub fn write(folder: &Path, name: &str, chain: &[Vec<u8>], pkcs8: &[u8]) -> Self {
        let issuers = chain.get(1..).expect("a leaf");
        let key = folder.join(format!("{name}.key"));
        fs::write(&key, pem("PRIVATE KEY", pkcs8)).expect("written");
        Self {
            chain: write_certificates(&folder.join(format!("{name}.pem")), chain),
            issuers: (!issuers.is_empty())
                .then(|| write_certificates(&folder.join(format!("{name}.issuers.pem")), issuers)),
            key,
        }
    }
}

/// Writes certificates to one PEM file, such as a list of trust anchors, and gives its path back.
///
/// # Panics
/// When the file cannot be written.
pub fn write_certificates(path: &Path, certificates: &[Vec<u8>]) -> PathBuf {
    let blocks: String = certificates
        .iter()
        .map(|der| pem("CERTIFICATE", der))
        .collect();
    fs::write(path, blocks).expect("written");
    path.to_owned()
}

/// What a foreign server demands of its clients.
#[derive(Clone, Copy, Debug)]
pub enum Clients<'a> {
    /// No certificate is asked for.
    Anonymous,
    /// Some certificate, whoever signed it.
    Any,
    /// A certificate with a path to one of the anchors in this file.
    IssuedBy(&'a Path),
}

/// `openssl s_server`. What it receives it prints; what is written to it, it sends, and a line
/// that begins with `Q` ends it. With `-rev` in `extra` it sends every line back reversed, with
/// `-www` it answers HTTP.
pub fn openssl_server(
    credentials: &PemFiles,
    clients: Clients<'_>,
    extra: &[&str],
) -> Option<Listening> {
    let mut command = Program::find("openssl")?.command();
    command.args(["s_server", "-accept", "127.0.0.1:0"]);
    openssl_credentials(&mut command, credentials);
    match clients {
        Clients::Anonymous => {}
        // Without -verify_return_error it reports what is wrong and goes on.
        Clients::Any => {
            command.args(["-Verify", "5"]);
        }
        Clients::IssuedBy(anchors) => {
            command.args(["-Verify", "5", "-verify_return_error", "-CAfile"]);
            command.arg(anchors);
        }
    }
    command.args(extra);
    Some(Listening::start_on_its_own_port(
        &mut command,
        b"",
        "ACCEPT ",
    ))
}

/// `openssl s_client`. It stays when its input ends, and prints `CONNECTION ESTABLISHED`, protocol,
/// suite and peer on standard error, and on standard output only what it received.
pub fn openssl_client(
    server: SocketAddr,
    credentials: Option<&PemFiles>,
    trust: Option<&Path>,
    extra: &[&str],
) -> Option<Running> {
    let mut command = Program::find("openssl")?.command();
    command.args(["s_client", "-brief", "-ign_eof", "-connect"]);
    command.arg(server.to_string());
    if let Some(credentials) = credentials {
        openssl_credentials(&mut command, credentials);
    }
    if let Some(anchors) = trust {
        command
            .args(["-verify_return_error", "-CAfile"])
            .arg(anchors);
    }
    Some(Running::start(command.args(extra)))
}

fn openssl_credentials(command: &mut Command, credentials: &PemFiles) {
    command.arg("-cert").arg(&credentials.chain);
    command.arg("-key").arg(&credentials.key);
    // -cert takes the first certificate of a file and no more.
    if let Some(issuers) = &credentials.issuers {
        command.arg("-cert_chain").arg(issuers);
    }
}

/// `gnutls-serv`, which sends every line back; `--http` in `extra` makes it a web server. It
/// knows no listening address: it is on all of them.
pub fn gnutls_server(
    credentials: &PemFiles,
    clients: Clients<'_>,
    extra: &[&str],
) -> Option<Listening> {
    let program = Program::find("gnutls-serv")?;
    let command = |port: u16| {
        let mut command = program.command();
        command.arg(format!("--port={port}"));
        if !extra.contains(&"--http") {
            command.arg("--echo");
        }
        gnutls_credentials(&mut command, credentials);
        match clients {
            Clients::Anonymous => command.arg("--disable-client-cert"),
            Clients::Any => command.arg("--require-client-cert"),
            Clients::IssuedBy(anchors) => command
                .args(["--require-client-cert", "--verify-client-cert"])
                .arg(joined("--x509cafile=", anchors)),
        };
        command.args(extra);
        command
    };
    Some(Listening::start_on_free_port(command, "IPv4 0.0.0.0 port"))
}

/// `gnutls-cli`. It prints `Handshake was completed`, and after `Simple Client Mode:` what it
/// receives. It ends when its input does.
pub fn gnutls_client(
    server: SocketAddr,
    credentials: Option<&PemFiles>,
    trust: Option<&Path>,
    extra: &[&str],
) -> Option<Running> {
    let mut command = Program::find("gnutls-cli")?.command();
    command.arg(format!("--port={}", server.port()));
    if let Some(credentials) = credentials {
        gnutls_credentials(&mut command, credentials);
    }
    match trust {
        Some(anchors) => command.arg(joined("--x509cafile=", anchors)),
        None => command.arg("--insecure"),
    };
    command.args(extra).arg(server.ip().to_string());
    Some(Running::start(&mut command))
}

fn gnutls_credentials(command: &mut Command, credentials: &PemFiles) {
    command.arg(joined("--x509certfile=", &credentials.chain));
    command.arg(joined("--x509keyfile=", &credentials.key));
}

/// `stunnel` that takes TLS off: TLS in, plain TCP to `backend`. `extra` are lines of its
/// configuration.
pub fn stunnel_server(
    backend: SocketAddr,
    credentials: &PemFiles,
    clients: Clients<'_>,
    extra: &[&str],
) -> Option<Listening> {
    let mut lines = vec![format!("connect = {backend}")];
    lines.extend(stunnel_credentials(credentials));
    match clients {
        Clients::Anonymous => {}
        Clients::Any => lines.extend(["requireCert = yes".into()]),
        Clients::IssuedBy(anchors) => lines.extend(stunnel_trust(anchors)),
    }
    stunnel(lines, extra)
}

/// `stunnel` that puts TLS on: plain TCP in, TLS to `server`. `extra` are lines of its
/// configuration, such as `checkHost = NAME`.
pub fn stunnel_client(
    server: SocketAddr,
    credentials: Option<&PemFiles>,
    trust: Option<&Path>,
    extra: &[&str],
) -> Option<Listening> {
    let mut lines = vec!["client = yes".into(), format!("connect = {server}")];
    lines.extend(credentials.into_iter().flat_map(stunnel_credentials));
    lines.extend(trust.into_iter().flat_map(stunnel_trust));
    stunnel(lines, extra)
}

fn stunnel_credentials(credentials: &PemFiles) -> [String; 2] {
    [
        format!("cert = {}", credentials.chain.display()),
        format!("key = {}", credentials.key.display()),
    ]
}

fn stunnel_trust(anchors: &Path) -> [String; 2] {
    [
        format!("CAfile = {}", anchors.display()),
        "verifyChain = yes".into(),
    ]
}

fn stunnel(lines: Vec<String>, extra: &[&str]) -> Option<Listening> {
    let mut command = Program::find("stunnel4")?.command();
    let mut configuration = String::from(
        "foreground = yes\npid =\ndebug = info\nsyslog = no\n[tunnel]\naccept = 127.0.0.1:0\n",
    );
    for line in lines
        .iter()
        .map(String::as_str)
        .chain(extra.iter().copied())
    {
        configuration.push_str(line);
        configuration.push('\n');
    }
    // It reads its configuration from a descriptor, so there is no file to clean up.
    Some(Listening::start_on_its_own_port(
        command.args(["-fd", "0"]),
        configuration.as_bytes(),
        " bound to ",
    ))
}

/// `curl`, until it has its answer. It reads no configuration and uses no proxy.
pub fn curl(
    url: &str,
    credentials: Option<&PemFiles>,
    trust: Option<&Path>,
    extra: &[&str],
) -> Option<Finished> {
    let mut command = Program::find("curl")?.command();
    command.args(["-q", "--silent", "--show-error", "--noproxy", "*"]);
    if let Some(credentials) = credentials {
        command.arg("--cert").arg(&credentials.chain);
        command.arg("--key").arg(&credentials.key);
    }
    match trust {
        Some(anchors) => command.arg("--cacert").arg(anchors),
        None => command.arg("--insecure"),
    };
    Some(run(command.args(extra).arg(url), b""))
}

fn joined(option: &str, path: &Path) -> String {
    format!("{option}{}", path.display())
}

fn pem(label: &str, der: &[u8]) -> String {
    let base64 = BASE64.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in base64.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
