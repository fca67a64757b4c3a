//! How the tool speaks: standard output is the answer, standard error the conversation.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::process::ExitCode;

use comity_trust::Reason;
use nix::sys::termios::{FlushArg, tcflush};
use serde::Serialize;

use crate::redact::without_invitations;

/// The outcome of a command, as a process tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// Done, or yes.
    Yes,
    /// The answer is no: refused, unknown, changed.
    No,
    /// Could not answer.
    Unable,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Yes => Self::SUCCESS,
            Exit::No => Self::from(1),
            Exit::Unable => Self::from(2),
        }
    }
}

/// A failure as people read it: what we were doing and the cause, evidence below it, then what can
/// be done about it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    /// Lines of evidence, printed indented.
    pub(crate) details: Vec<String>,
    /// Remedies that can be pasted.
    pub(crate) hints: Vec<String>,
    pub(crate) reason: Option<Reason>,
    /// Whether standard output carries something else: the failure for programs goes to standard
    /// error then.
    pub(crate) after_data: bool,
}

impl Failure {
    pub(crate) fn unable(message: impl Display) -> Self {
        Self {
            exit: Exit::Unable,
            message: message.to_string(),
            details: Vec::new(),
            hints: Vec::new(),
            reason: None,
            after_data: false,
        }
    }

    pub(crate) fn no(message: impl Display) -> Self {
        Self {
            exit: Exit::No,
            ..Self::unable(message)
        }
    }

    pub(crate) fn detail(mut self, line: impl Display) -> Self {
        self.details.push(line.to_string());
        self
    }

    pub(crate) fn hint(mut self, line: impl Display) -> Self {
        self.hints.push(line.to_string());
        self
    }

    pub(crate) fn because(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
        self
    }

    /// The error and all its causes on one line, each said once.
    pub(crate) fn of(doing: impl Display, error: &dyn std::error::Error) -> Self {
        Self::unable(format!("{doing}: {}", chain(error)))
    }
}

/// An error and its sources, joined; a source that its parent already quotes is left out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Where answers and conversation go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shell {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
}

#[derive(Serialize)]
struct JsonFailure<'a> {
    ok: bool,
    reason: Option<&'a str>,
    message: &'a str,
    details: &'a [String],
    hints: &'a [String],
}

impl Shell {
    /// Prints the answer, for people or, with `--json`, for programs.
    pub(crate) fn answer(self, text: impl Display, value: &impl Serialize) {
        self.answer_or(text, value, |failure| failure);
    }

    /// As [`Self::answer`]; when it cannot be written, `lost` adds what the reader has missed.
    pub(crate) fn answer_or(
        self,
        text: impl Display,
        value: &impl Serialize,
        lost: impl FnOnce(Failure) -> Failure,
    ) {
        let text = match self.json {
            true => serde_json::to_string_pretty(value).unwrap_or_default(),
            false => text.to_string(),
        };
        write_answer(self, &format!("{text}\n"), lost);
    }

    /// Prints the first answer of a command that goes on: one line, for programs too, which read
    /// until its end.
    pub(crate) fn announce(self, text: impl Display, value: &impl Serialize) {
        let text = match self.json {
            true => serde_json::to_string(value).unwrap_or_default(),
            false => text.to_string(),
        };
        self.print(text);
    }

    /// Prints one line on standard output.
    pub(crate) fn print(self, text: impl Display) {
        write_answer(self, &format!("{text}\n"), |failure| failure);
    }

    /// Says something on standard error, unless told to be quiet.
    pub(crate) fn say(self, text: impl Display) {
        if !self.quiet {
            self.tell(text);
        }
    }

    /// Says on standard error what a person must see, however quiet the command was told to be.
    pub(crate) fn tell(self, text: impl Display) {
        self.to_stderr(format_args!("{text}"));
    }

    pub(crate) fn warn(self, text: impl Display) {
        let style = anstyle::AnsiColor::Yellow.on_default().bold();
        self.to_stderr(format_args!("comity: {style}warning{style:#}: {text}"));
    }

    /// Says what failed: in words on standard error and, with `--json`, as the command's answer.
    pub(crate) fn fail(self, failure: &Failure) {
        self.fail_in_words(failure);
        if self.json {
            let value = JsonFailure {
                ok: false,
                reason: failure.reason.map(Reason::token),
                message: &failure.message,
                details: &failure.details,
                hints: &failure.hints,
            };
            let text = serde_json::to_string_pretty(&value).unwrap_or_default();
            let text = without_invitations(&text);
            match failure.after_data {
                true => self.tell(text),
                false => self.print(text),
            }
        }
    }

    /// Says what failed on standard error alone: standard output has its answer already.
    pub(crate) fn fail_in_words(self, failure: &Failure) {
        let style = anstyle::AnsiColor::Red.on_default().bold();
        self.to_stderr(format_args!(
            "comity: {style}error{style:#}: {}",
            one_line(&failure.message)
        ));
        for line in &failure.details {
            self.to_stderr(format_args!("  {}", one_line(line)));
        }
        let style = anstyle::AnsiColor::Cyan.on_default().bold();
        for line in &failure.hints {
            let line = one_line(line);
            self.to_stderr(format_args!("comity: {style}hint{style:#}: {line}"));
        }
    }

    fn to_stderr(self, text: std::fmt::Arguments<'_>) {
        let text = without_invitations(&text.to_string());
        // Nobody is left to tell that standard error is closed.
        drop(writeln!(anstream::stderr(), "{text}"));
    }
}

/// Controls as they are typed in a program: what somebody gave as a name must not look like a line of
/// ours, or move the cursor.
fn one_line(text: &str) -> String {
    let escaped = text.chars().map(|c| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    });
    escaped.collect()
}

/// Writes an answer. Whoever closed the pipe wants no more of it, and the command ends as it would
/// have, a refusal as a refusal. An answer that got lost in any other way was not given, and the
/// process says so and ends.
fn write_answer(shell: Shell, text: &str, lost: impl FnOnce(Failure) -> Failure) {
    let mut output = anstream::stdout();
    let written = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
    let Err(error) = written else { return };
    if error.kind() == io::ErrorKind::BrokenPipe {
        return;
    }
    let failure = Failure::unable(format!("the answer cannot be written: {error}"));
    shell.fail_in_words(&lost(failure));
    std::process::exit(2);
}

/// Whether `COMITY_NO_TERMINAL` says that nobody can be asked, for scripts that run in a terminal
/// before which nobody sits.
pub(crate) fn no_terminal() -> bool {
    let said = std::env::var_os("COMITY_NO_TERMINAL").unwrap_or_default();
    !means_no(&said.to_string_lossy())
}

/// The ways to switch a variable off, as for those that are flags as well.
fn means_no(value: &str) -> bool {
    const NO: [&str; 7] = ["", "0", "n", "no", "f", "false", "off"];
    NO.contains(&value.to_lowercase().as_str())
}

/// The person at the terminal, even while standard input and output carry data.
#[derive(Debug)]
pub(crate) struct Terminal {
    reader: BufReader<File>,
    writer: File,
}

impl Terminal {
    /// `None` when the process has no terminal.
    pub(crate) fn open() -> Option<Self> {
        if no_terminal() {
            return None;
        }
        let open = || File::options().read(true).write(true).open("/dev/tty");
        let reader = open().ok().filter(IsTerminal::is_terminal)?;
        Some(Self {
            reader: BufReader::new(reader),
            writer: open().ok()?,
        })
    }

    /// Shows text and a question, and answers the line that was typed.
    pub(crate) fn ask(&mut self, question: impl Display) -> io::Result<String> {
        self.forget_typed()?;
        write!(self.writer, "{question} ")?;
        self.writer.flush()?;
        let mut line = String::new();
        // A line that never ends is somebody else's input.
        io::Read::take(&mut self.reader, 4096).read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Drops what was typed before the question: it answers something else.
    fn forget_typed(&mut self) -> io::Result<()> {
        self.reader.consume(self.reader.buffer().len());
        Ok(tcflush(&self.writer, FlushArg::TCIFLUSH)?)
    }

    /// Shows a line.
    pub(crate) fn show(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self.writer, "{text}")
    }
}
