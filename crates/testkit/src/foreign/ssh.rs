//! OpenSSH: a server for the user who runs the tests, and a client that may go through a
//! ProxyCommand.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::{Finished, Listening, Program, run};

/// Root's sshd wants this empty folder, which Debian makes when it boots with systemd.
const PRIVILEGE_SEPARATION_FOLDER: &str = "/run/sshd";

/// The name under which the client knows the server's key, whatever address it comes by.
const HOST_ALIAS: &str = "comity-test";

/// An ssh server on loopback with keys of its own; it lets in the one user key made with it.
#[derive(Debug)]
pub struct SshServer {
    /// The server process and its address.
    pub listening: Listening,
    client: Program,
    user: String,
    folder: TempDir,
}

impl SshServer {
    /// Makes keys and starts `sshd`. `None` when `sshd`, `ssh` or `ssh-keygen` is missing.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Option<Self> {
        let server = Program::find("sshd")?;
        let client = Program::find("ssh")?;
        let keygen = Program::find("ssh-keygen")?;
        let folder = TempDir::new().expect("a folder");
        make_keys(&keygen, folder.path());
        // Only root needs it, and only root can make it.
        drop(fs::create_dir(PRIVILEGE_SEPARATION_FOLDER));
        let listening = Listening::start_on_free_port(
            |port| server_command(&server, folder.path(), port),
            "Server listening on",
        );
        Some(Self {
            listening,
            client,
            user: user(),
            folder,
        })
    }

    /// Runs `remote` over ssh and waits for its end. With a `proxy` command, the client talks to
    /// the server through its standard input and output.
    ///
    /// # Panics
    /// When the client does not end in time.
    pub fn ssh(&self, proxy: Option<&str>, remote: &str, input: &[u8]) -> Finished {
        let mut command = self.client.command();
        command.args(["-F", "none", "-p"]);
        command.arg(self.listening.address.port().to_string());
        command.arg("-i").arg(self.folder.path().join("user"));
        let known_hosts = self.folder.path().join("known_hosts");
        let known_hosts = format!("UserKnownHostsFile={}", known_hosts.display());
        let alias = format!("HostKeyAlias={HOST_ALIAS}");
        let proxy = proxy.map(|command| format!("ProxyCommand={command}"));
        for option in [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "StrictHostKeyChecking=yes",
            "UpdateHostKeys=no",
            "GlobalKnownHostsFile=none",
            &known_hosts,
            &alias,
        ]
        .into_iter()
        .chain(proxy.as_deref())
        {
            command.args(["-o", option]);
        }
        command.args(["-l", &self.user, "127.0.0.1", remote]);
        run(&mut command, input)
    }
}

fn make_keys(keygen: &Program, folder: &Path) {
    for name in ["host", "user"] {
        let mut command = keygen.command();
        command.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
        run(command.arg(folder.join(name)), b"").expect_success();
    }
    let host = fs::read_to_string(folder.join("host.pub")).expect("the public key");
    fs::write(folder.join("known_hosts"), format!("{HOST_ALIAS} {host}")).expect("written");
}

fn server_command(server: &Program, folder: &Path, port: u16) -> Command {
    let configuration = format!(
        "ListenAddress 127.0.0.1:{port}\n\
         HostKey {0}/host\n\
         AuthorizedKeysFile {0}/user.pub\n\
         StrictModes no\n\
         UsePAM no\n\
         PidFile none\n\
         PasswordAuthentication no\n\
         PermitRootLogin prohibit-password\n",
        folder.display()
    );
    let path = folder.join("sshd_config");
    fs::write(&path, configuration).expect("written");
    let mut command = server.command();
    command.args(["-D", "-e", "-f"]).arg(path);
    command
}

fn user() -> String {
    let finished = run(Command::new("id").arg("-un"), b"").expect_success();
    finished.out().trim().to_owned()
}
