//! The README, run as it is printed.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use comity_testkit::foreign::{Program, Running, free_port, run};
use tempfile::TempDir;

use crate::backend;
use crate::home::{COMITY, assert_says};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");

/// The first shell block below a heading.
fn block(heading: &str) -> String {
    let readme = fs::read_to_string(README).expect("the README");
    let below = readme.split_once(&format!("## {heading}\n"));
    let (_, below) = below.unwrap_or_else(|| panic!("no section {heading:?}"));
    let section = below.split("\n## ").next().expect("a section");
    let (_, block) = section.split_once("```sh\n").expect("a shell block");
    block.split_once("```").expect("its end").0.to_owned()
}

/// Several machines on this one. A line `# on NAME` in a block says where the next ones are typed.
struct Machines {
    folder: TempDir,
    /// What stands in the block, and what it is here.
    places: Vec<(&'static str, SocketAddr)>,
    /// What was left running, by its machine.
    running: Vec<Running>,
}

impl Machines {
    fn new(places: Vec<(&'static str, SocketAddr)>) -> Self {
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("passphrase"), "correct horse\n").expect("a file");
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).expect("a folder");
        std::os::unix::fs::symlink(COMITY, bin.join("comity")).expect("a link");
        Self {
            folder,
            places,
            running: Vec::new(),
        }
    }

    /// Runs a block line by line, and gives what each line answered.
    fn run(&mut self, block: &str) -> HashMap<String, String> {
        let mut answers = HashMap::new();
        let mut machine = String::new();
        // Commands that are too long for one line of text.
        let block = block.replace("\\\n", " ").replace("|\n", "| ");
        for line in block.lines().filter(|line| !line.trim().is_empty()) {
            if let Some(place) = line.strip_prefix("# on ") {
                machine = place.split(',').next().expect("a name").trim().to_owned();
                continue;
            }
            let typed = line.split("  #").next().expect("a command").trim();
            match typed.strip_suffix('&') {
                Some(server) => {
                    // Without the shell's job, this test would not know when it is ready.
                    let server = format!("exec {server}");
                    let running = Running::start(&mut self.shell(&machine, &server));
                    running.wait_for(match typed.starts_with("openssl ") {
                        true => "ACCEPT",
                        false => "listening on ",
                    });
                    self.running.push(running);
                }
                None => {
                    let finished = run(&mut self.shell(&machine, typed), b"");
                    assert!(
                        finished.status.success(),
                        "{typed}\n{}{}",
                        finished.out(),
                        finished.err()
                    );
                    answers.insert(typed.to_owned(), finished.out());
                }
            }
        }
        answers
    }

    /// A shell on one of the machines.
    fn shell(&self, machine: &str, line: &str) -> Command {
        let folder = self.folder.path();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut line = line.to_owned();
        for (printed, here) in &self.places {
            let here = match printed.contains(':') {
                true => here.to_string(),
                false => here.port().to_string(),
            };
            line = line.replace(printed, &here);
        }
        let mut command = Command::new("sh");
        command
            .current_dir(folder)
            .env_clear()
            .env("PATH", format!("{}:{path}", folder.join("bin").display()))
            .env("HOME", folder)
            .env("COMITY_HOME", home_of(folder, machine))
            .env("COMITY_LISTEN", self.listens(machine))
            .env("COMITY_NO_TERMINAL", "1")
            .env("COMITY_ROOT_PASSPHRASE_FILE", folder.join("passphrase"))
            .args(["-c", &line]);
        command
    }

    /// Where a machine serves: at the place of its name, or anywhere.
    fn listens(&self, machine: &str) -> String {
        let named = self.places.iter().find(|(printed, _)| {
            printed
                .split_once(':')
                .is_some_and(|(host, _)| host == machine)
        });
        named.map_or_else(|| "127.0.0.1:0".to_owned(), |(_, here)| here.to_string())
    }
}

fn home_of(folder: &Path, machine: &str) -> std::path::PathBuf {
    folder.join(format!("home-{}", machine.replace([' ', '/'], "-")))
}

/// A free port in which no port of the blocks would be found and replaced.
fn free() -> SocketAddr {
    loop {
        let port = free_port();
        if !["8080", "7443"]
            .iter()
            .any(|p| port.to_string().contains(p))
        {
            return SocketAddr::from(([127, 0, 0, 1], port));
        }
    }
}

#[test]
fn a_network_in_three_commands() {
    let places = vec![
        ("hub.example:7117", free()),
        ("web.example:7117", free()),
        ("8080", backend::web()),
    ];
    let mut machines = Machines::new(places);
    let answers = machines.run(&block("A network in three commands"));
    let connected = answers
        .iter()
        .find(|(typed, _)| typed.contains("comity connect"));
    let (_, page) = connected.expect("the block connects");
    assert_says(page, &["200 OK", "hello from the backend"]);
    let removed = answers.get("comity network remove acme laptop");
    assert_eq!(removed.map(String::as_str), Some("removed laptop\n"));
}

#[test]
fn two_organisations() {
    if Program::find("openssl").is_none() {
        return;
    }
    let of_openssl = free();
    let places = vec![
        ("a.example:7117", free()),
        ("8080", backend::web()),
        ("b.example:7443", of_openssl),
        ("7443", of_openssl),
    ];
    let mut machines = Machines::new(places);
    let answers = machines.run(&block("Two organisations"));
    let answer = |part: &str| {
        let found = answers.iter().find(|(typed, _)| typed.contains(part));
        found.unwrap_or_else(|| panic!("no {part:?}")).1.clone()
    };
    assert_says(&answer("s_client"), &["200 OK", "hello from the backend"]);
    assert_says(&answer("comity connect"), &["HTTP/1.0 200 ok", "s_server"]);
    assert_says(&answer("import b-bundle.pem"), &["updated b-corp"]);
    // Both deeds took effect: no leaf of theirs gets anything any more.
    let again = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -quiet -connect a.example:7117 \
                 -cert b-server.crt -key b-server.key -cert_chain b-by-a.pem";
    let refused = run(&mut machines.shell("b.example", again), b"");
    assert_eq!(refused.out(), "", "{}", refused.err());
    machines.running[0].wait_for("reason=\"revoked\"");
}
