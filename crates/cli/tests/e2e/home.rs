//! Homes of nodes, and the binary run in them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use comity_testkit::foreign::{Finished, Listening, Running, run};
use serde_json::Value;
use tempfile::TempDir;

/// The binary under test.
pub(crate) const COMITY: &str = env!("CARGO_BIN_EXE_comity");

/// A node's home in a folder of its own.
#[derive(Debug)]
pub(crate) struct Home {
    folder: TempDir,
}

impl Home {
    /// A home with an identity.
    pub(crate) fn new() -> Self {
        let home = Self::empty();
        home.yes(&["init"]);
        home
    }

    /// A home that nobody made yet.
    pub(crate) fn empty() -> Self {
        Self {
            folder: TempDir::new().expect("a folder"),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// A path beside the home, for a file of the test.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder around the home.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The full id.
    pub(crate) fn id(&self) -> String {
        self.yes(&["id"])
    }

    /// The root certificate, as other programs want it for a trust anchor.
    pub(crate) fn root(&self) -> PathBuf {
        self.path().join("identity/identity.crt")
    }

    pub(crate) fn known_peers(&self) -> String {
        fs::read_to_string(self.path().join("known_peers")).unwrap_or_default()
    }

    /// `comity ARGS` in this home, in an environment without surprises.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(COMITY);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder())
            .env("LC_ALL", "C.UTF-8")
            .env("COMITY_NO_TERMINAL", "1")
            .arg("--home")
            .arg(self.path())
            .args(args);
        command
    }

    /// Runs `comity ARGS` with nothing on standard input.
    pub(crate) fn run(&self, args: &[&str]) -> Finished {
        self.talk(args, b"")
    }

    /// Runs `comity ARGS` with this on standard input.
    pub(crate) fn talk(&self, args: &[&str], input: &[u8]) -> Finished {
        run(&mut self.command(args), input)
    }

    /// Runs what must succeed, and gives its answer.
    pub(crate) fn yes(&self, args: &[&str]) -> String {
        expect_exit(self.run(args), 0, args)
            .out()
            .trim_end()
            .to_owned()
    }

    /// Runs what must be answered with no, and gives what it says about that.
    pub(crate) fn no(&self, args: &[&str]) -> String {
        expect_exit(self.run(args), 1, args).err()
    }

    /// Runs what cannot be answered, and gives what it says about that.
    pub(crate) fn unable(&self, args: &[&str]) -> String {
        expect_exit(self.run(args), 2, args).err()
    }

    /// Runs what must succeed, and gives its answer for programs.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let answer = self.yes(&[args, &["--json"]].concat());
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{args:?}: {error}\n{answer}"))
    }

    /// `comity ARGS` that goes on running.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        Running::start(&mut self.command(args))
    }

    /// `comity serve ARGS` on a free port, once it listens.
    pub(crate) fn serve(&self, args: &[&str]) -> Listening {
        let args = [&["serve", "--listen", "127.0.0.1:0"], args].concat();
        Listening::start_on_its_own_port(&mut self.command(&args), b"", "listening on ")
    }

    /// `comity connect ARGS` on a local port, once it listens.
    pub(crate) fn connect_on_port(&self, args: &[&str]) -> Listening {
        let args = [&["connect", "--listen", "127.0.0.1:0"], args].concat();
        Listening::start_on_its_own_port(&mut self.command(&args), b"", "listening on ")
    }

    /// Runs a command line that a message of ours gave, as if it were pasted.
    pub(crate) fn paste(&self, line: &str) -> Finished {
        let line = line.replace("comity ", &format!("'{COMITY}' --home \"$PASTED_HOME\" "));
        let mut command = Command::new("sh");
        command
            .env("COMITY_NO_TERMINAL", "1")
            .env("PASTED_HOME", self.path())
            .args(["-c", &line]);
        run(&mut command, b"")
    }
}

/// Insists on an exit code, and shows everything that was said when it is another.
pub(crate) fn expect_exit(finished: Finished, code: i32, args: &[&str]) -> Finished {
    assert_eq!(
        finished.status.code(),
        Some(code),
        "comity {}\n{}{}",
        args.join(" "),
        finished.out(),
        finished.err()
    );
    finished
}

/// Insists that a text holds all of these.
pub(crate) fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

/// The command in backquotes behind `before` in a message.
pub(crate) fn quoted_command<'t>(text: &'t str, before: &str) -> &'t str {
    let at = text
        .find(before)
        .unwrap_or_else(|| panic!("no {before:?} in:\n{text}"));
    let quoted = text[at..].split('`').nth(1);
    quoted.unwrap_or_else(|| panic!("no command after {before:?} in:\n{text}"))
}

/// A node that serves and one that joined it: each knows the other as `server` and `client`.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) server: Home,
    pub(crate) client: Home,
    pub(crate) serving: Listening,
}

impl Pair {
    /// Serves `targets` and invites the client for `services`.
    pub(crate) fn new(targets: &[&str], services: &[&str]) -> Self {
        let (server, client) = (Home::new(), Home::new());
        let serving = server.serve(targets);
        let invitation = invite(&server, &serving, "client", services);
        client.yes(&["join", &invitation, "--as", "server"]);
        Self {
            server,
            client,
            serving,
        }
    }

    /// What `comity connect` gives for this input.
    pub(crate) fn connect(&self, peer: &str, input: &[u8]) -> Finished {
        self.client.talk(&["connect", peer], input)
    }
}

/// An invitation to a running server.
pub(crate) fn invite(server: &Home, serving: &Listening, label: &str, services: &[&str]) -> String {
    let address = serving.address.to_string();
    let mut args = vec!["invite", "--addr", &address, "--as", label];
    args.extend(services.iter().flat_map(|service| ["--for", service]));
    server.yes(&args)
}
