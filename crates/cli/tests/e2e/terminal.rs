//! A person at a terminal: `script` of util-linux gives the command one.

use std::process::Command;

use comity_testkit::foreign::{Program, Running};

use crate::home::{COMITY, Home};

/// A shell command in which `comity` stands for the binary in this home, on a terminal of its own.
/// What is written to it is typed. `None` when `script` is missing.
pub(crate) fn at_terminal(home: &Home, line: &str) -> Option<Running> {
    let script = Program::find("script")?;
    let line = line.replace(
        "comity ",
        &format!("'{COMITY}' --home '{}' ", home.path().display()),
    );
    let mut command: Command = script.command();
    command
        .env_remove("COMITY_NO_TERMINAL")
        .env("SHELL", "/bin/sh")
        .env("HOME", home.folder())
        .env("NO_COLOR", "1")
        .args([
            "--quiet",
            "--return",
            "--flush",
            "--echo",
            "never",
            "--command",
            &line,
            "/dev/null",
        ]);
    Some(Running::start(&mut command))
}
