//! Programs that are not ours, as counterparts: finding them, running them with a deadline, and
//! waiting until they are ready.
//!
//! - A program that is missing skips the test visibly, unless `COMITY_REQUIRE=all`: then it panics.
//! - Everything started here is ended by its own process id when its [`Running`] is dropped.
//! - Every wait has a deadline; running into one panics with all that the program said.
//! - The calls block. An asynchronous test that serves its counterpart from the same thread would
//!   wait for itself: use the multi-threaded runtime, or `spawn_blocking`.
//! - Foreign programs look at the real clock. Certificates for them are valid far beyond the fixed
//!   day of the other tests.
//! - A TLS 1.3 client has finished its handshake before the server looks at its certificate: that
//!   it was refused shows only when it reads. Judge a refusal by data that does not arrive.

pub mod ssh;
pub mod tls;

use std::env;
use std::ffi::OsStr;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a counterpart may take for anything. Generous, because a loaded machine with two cores
/// is slow; nobody waits this long unless something is broken.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How often something is looked at that has no event of its own: an exit, a port that opens.
const TICK: Duration = Duration::from_millis(5);

/// Each try takes a port the system just called free; five in a row taken by others is no accident.
const PORT_TRIES: u32 = 5;

/// Servers live here on Debian, which is not in every user's `PATH`.
const SERVER_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// A program of this machine.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
}

impl Program {
    /// Looks for a program. `None` says so on standard output, and the test should return.
    ///
    /// # Panics
    /// When it is missing and `COMITY_REQUIRE=all`.
    pub fn find(name: &str) -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let required = env::var_os("COMITY_REQUIRE").is_some_and(|value| value == "all");
        Self::find_among(name, &path, required)
    }

    fn find_among(name: &str, path: &OsStr, required: bool) -> Option<Self> {
        let found = search(name, path);
        if found.is_none() {
            assert!(
                !required,
                "{name} is missing; ./scripts/setup.sh installs it"
            );
            say_skipped(name);
        }
        found.map(|path| Self { path })
    }

    /// A command that runs it, with messages in English.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.env("LC_ALL", "C");
        command
    }
}

fn search(name: &str, path: &OsStr) -> Option<PathBuf> {
    env::split_paths(path)
        .chain(SERVER_FOLDERS.map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| {
            file.metadata()
                .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        })
}

#[expect(
    clippy::print_stdout,
    reason = "a test that did not run says so in its output"
)]
fn say_skipped(name: &str) {
    println!("skipped: {name} is missing; ./scripts/setup.sh installs it");
}

/// Runs a command to its end: input in, everything it said out.
///
/// # Panics
/// When it does not start, or does not end within [`PATIENCE`].
pub fn run(command: &mut Command, input: &[u8]) -> Finished {
    let mut running = Running::start(command);
    running.write(input);
    running.close_input();
    running.finish()
}

/// A program that ended, and what it said.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

impl Finished {
    /// Standard output as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Passes on what exited with zero.
    ///
    /// # Panics
    /// With everything the program said, when it did not.
    pub fn expect_success(self) -> Self {
        assert!(
            self.status.success(),
            "{}\n{}{}",
            self.status,
            self.out(),
            self.err()
        );
        self
    }
}

/// A program that runs. Dropping it kills the process, by its own id, and waits for its end.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    /// Written by a thread of its own: a program that does not read cannot block the test.
    input: Option<Sender<Vec<u8>>>,
    transcript: Arc<Transcript>,
}

/// What a program said so far.
#[derive(Debug, Default)]
struct Transcript {
    said: Mutex<Said>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// Of the two streams, how many are at their end.
    ended: u8,
}

/// Where a wait for an output can lead.
#[derive(Debug, PartialEq, Eq)]
enum Waited<T> {
    Found(T),
    Ended,
    TimedOut,
}

impl Running {
    /// Starts a command with its three standard streams in our hands.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let transcript = Arc::new(Transcript::default());
        let stdout = child.stdout.take().expect("a pipe");
        let stderr = child.stderr.take().expect("a pipe");
        listen(stdout, &transcript, |said| &mut said.stdout);
        listen(stderr, &transcript, |said| &mut said.stderr);
        let input = feed(child.stdin.take().expect("a pipe"));
        Self {
            name,
            child,
            input: Some(input),
            transcript,
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its standard input, without waiting until it reads. A program that has gone takes
    /// nothing: what it said tells why.
    pub fn write(&self, bytes: &[u8]) {
        if let Some(input) = &self.input {
            // The thread behind it ends when the program stopped reading.
            drop(input.send(bytes.to_vec()));
        }
    }

    /// Ends its standard input, after everything written so far.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Everything it said so far: standard output, then standard error.
    pub fn said(&self) -> String {
        let said = self.transcript.lock();
        let both = [said.stdout.as_slice(), &said.stderr].concat();
        String::from_utf8_lossy(&both).into_owned()
    }

    /// Waits until one of its streams holds `text`.
    ///
    /// # Panics
    /// When the program ends without, or [`PATIENCE`] does.
    pub fn wait_for(&self, text: &str) {
        let found = self.transcript.wait(|said| {
            [&said.stdout, &said.stderr]
                .into_iter()
                .any(|s| contains(s, text.as_bytes()))
                .then_some(())
        });
        self.expect(found, text);
    }

    /// Waits for a whole line that holds `text`, and gives it.
    ///
    /// # Panics
    /// When the program ends without, or [`PATIENCE`] does.
    pub fn wait_for_line(&self, text: &str) -> String {
        let found = self.transcript.wait(|said| said.line(text));
        self.expect(found, text)
    }

    /// Waits until something listens at `address`.
    ///
    /// # Panics
    /// When the program ends, or [`PATIENCE`] does.
    pub fn wait_until_connects(&mut self, address: SocketAddr) {
        let connected = poll(|| {
            if TcpStream::connect_timeout(&address, PATIENCE).is_ok() {
                return Some(true);
            }
            (!self.is_running()).then_some(false)
        });
        let waited = match connected {
            Some(true) => Waited::Found(()),
            Some(false) => Waited::Ended,
            None => Waited::TimedOut,
        };
        self.expect(waited, &format!("connection to {address}"));
    }

    /// Waits until it ends by itself, and for all its output.
    ///
    /// # Panics
    /// When it has not ended within [`PATIENCE`].
    pub fn finish(mut self) -> Finished {
        self.close_input();
        let status = poll(|| self.child.try_wait().expect("our own child"));
        let Some(status) = status else {
            panic!("{} does not end; it said:\n{}", self.name, self.said());
        };
        // A process of its own that outlives it may still hold the streams.
        let closed = self.transcript.wait(|_| None::<()>);
        assert_eq!(closed, Waited::Ended, "{}: streams stay open", self.name);
        let mut said = self.transcript.lock();
        Finished {
            status,
            stdout: std::mem::take(&mut said.stdout),
            stderr: std::mem::take(&mut said.stderr),
        }
    }

    fn expect<T>(&self, waited: Waited<T>, what: &str) -> T {
        match waited {
            Waited::Found(found) => found,
            Waited::Ended => panic!("{} ended without {what:?}:\n{}", self.name, self.said()),
            Waited::TimedOut => panic!("{} is late with {what:?}:\n{}", self.name, self.said()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Neither fails unless the process is gone already, which is what we want.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A counterpart that listens.
#[derive(Debug)]
pub struct Listening {
    /// The process.
    pub running: Running,
    /// Where it listens, on loopback.
    pub address: SocketAddr,
}

impl Listening {
    /// Starts a server that cannot choose a port itself: on a free one, and on another when
    /// somebody else was quicker. It is ready when it prints a line that holds `ready`.
    ///
    /// # Panics
    /// When it ends or stays silent for any other reason than a port in use.
    pub fn start_on_free_port(mut command: impl FnMut(u16) -> Command, ready: &str) -> Self {
        for _ in 0..PORT_TRIES {
            let port = free_port();
            let running = Running::start(&mut command(port));
            let waited = running.transcript.wait(|said| {
                let taken = said.line("in use").map(|_| false);
                taken.or_else(|| said.line(ready).map(|_| true))
            });
            if matches!(waited, Waited::Found(false)) {
                continue;
            }
            running.expect(waited, ready);
            let address = (Ipv4Addr::LOCALHOST, port).into();
            return Self { running, address };
        }
        panic!("{PORT_TRIES} free ports in a row were taken by others");
    }

    /// Starts a server that was told port 0 and prints the one it got: at the end of the line that
    /// holds `ready`, after the last space, as `address:port`.
    ///
    /// # Panics
    /// When it ends or stays silent, or prints something else.
    pub fn start_on_its_own_port(command: &mut Command, input: &[u8], ready: &str) -> Self {
        let mut running = Running::start(command);
        if !input.is_empty() {
            running.write(input);
            running.close_input();
        }
        let line = running.wait_for_line(ready);
        let address = line.rsplit(' ').next().and_then(|word| word.parse().ok());
        let address = address.unwrap_or_else(|| panic!("no address in {line:?}"));
        Self { running, address }
    }
}

/// A port that was free a moment ago. Somebody else may take it before it is used.
///
/// # Panics
/// When loopback has no port left.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("bound").port()
}

impl Said {
    /// The first whole line of either stream that holds `text`.
    fn line(&self, text: &str) -> Option<String> {
        [&self.stdout, &self.stderr].into_iter().find_map(|stream| {
            stream
                .split_inclusive(|&b| b == b'\n')
                .filter(|line| line.ends_with(b"\n"))
                .find(|line| contains(line, text.as_bytes()))
                .map(|line| String::from_utf8_lossy(line).trim_end().to_owned())
        })
    }
}

impl Transcript {
    fn lock(&self) -> MutexGuard<'_, Said> {
        // A reader that panicked leaves valid bytes behind.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks again whenever the program says something.
    fn wait<T>(&self, mut look: impl FnMut(&Said) -> Option<T>) -> Waited<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut said = self.lock();
        loop {
            if let Some(found) = look(&said) {
                return Waited::Found(found);
            }
            if said.ended == 2 {
                return Waited::Ended;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Waited::TimedOut;
            }
            let waited = self.changed.wait_timeout(said, left);
            said = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Copies a stream into the transcript until its end.
fn listen(
    mut stream: impl Read + Send + 'static,
    transcript: &Arc<Transcript>,
    place: fn(&mut Said) -> &mut Vec<u8>,
) {
    let transcript = Arc::clone(transcript);
    thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        loop {
            let length = match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            place(&mut transcript.lock()).extend_from_slice(&buffer[..length]);
            transcript.changed.notify_all();
        }
        transcript.lock().ended += 1;
        transcript.changed.notify_all();
    });
}

/// Writes what is sent until the sender is dropped, then closes the stream.
fn feed(mut stream: ChildStdin) -> Sender<Vec<u8>> {
    let (sender, receiver) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || {
        for bytes in receiver {
            if stream.write_all(&bytes).is_err() {
                break;
            }
        }
    });
    sender
}

/// Asks until there is an answer, at most [`PATIENCE`]. For what sends no event.
fn poll<T>(mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::park_timeout(TICK);
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    text.is_empty() || bytes.windows(text.len()).any(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_none() {
        assert!(Program::find_among("no-such-program", OsStr::new("/bin"), false).is_none());
        // A folder, and a file that cannot be run, are no programs.
        assert!(Program::find_among("init.d", OsStr::new("/etc"), false).is_none());
        assert!(Program::find_among("passwd", OsStr::new("/etc"), false).is_none());
    }

    #[test]
    #[should_panic(expected = "no-such-program is missing")]
    fn a_missing_program_fails_the_test_when_all_are_required() {
        Program::find_among("no-such-program", OsStr::new("/bin"), true);
    }

    #[test]
    fn programs_are_found_in_the_path_first() {
        let program = Program::find_among("sh", OsStr::new("/nowhere:/bin"), true);
        assert_eq!(program.map(|p| p.path), Some(PathBuf::from("/bin/sh")));
    }

    #[test]
    fn a_line_counts_once_it_is_whole() {
        let mut said = Said::default();
        said.stderr
            .extend_from_slice(b"first\nready on 127.0.0.1:12");
        assert_eq!(said.line("ready"), None);
        said.stderr.extend_from_slice(b"34\r\nlast");
        assert_eq!(
            said.line("ready").as_deref(),
            Some("ready on 127.0.0.1:1234")
        );
    }
}
