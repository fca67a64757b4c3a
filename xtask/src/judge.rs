//! `cargo xtask judge federation DIR`: our verdict on every case of a folder of certificate chains.
//!
//! A folder has `cases.json`, a list of objects with `id`, `purpose` (`client` or `server`) and
//! `profile`, the expected verdict; `cases/ID/` with `root`, `leaf` and, where something else was
//! presented, `inter` (`.pem`, or `.der` and `inter0.der` and so on); and `nodes/NAME/root-ca.pem`
//! with the roots that are registered. Whatever else there is does not matter. A case whose files or
//! entry cannot be read is unjudged, which always differs.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use comity_certs::federation::{NodeName, check_registered, read_root, verify_peer, verify_server};
use comity_certs::{Anchor, PresentedChain, Purpose, Rollover, certificates_in_pem};
use comity_identity::{KeyHash, UnixTime};
use serde_json::Value;

use crate::complain;

/// 2026-12-01T00:00:00Z, for which the cases are made.
const CORPUS_TIME: u64 = 1_796_083_200;

/// Kinds of folder.
#[derive(Subcommand)]
pub(crate) enum Corpus {
    /// Chains in the profile of the Swaptacular networks.
    Federation {
        /// The folder.
        dir: PathBuf,
        /// The time to judge at, in seconds since 1970.
        #[arg(long, default_value_t = CORPUS_TIME)]
        at: u64,
        /// Accept certificates by which one key certifies its successor: what `policy` stands for.
        #[arg(long)]
        rollover: bool,
    },
}

/// Prints a line for each case and a summary.
pub(crate) fn run(corpus: &Corpus) -> ExitCode {
    let Corpus::Federation { dir, at, rollover } = corpus;
    let settings = Settings {
        now: UnixTime::from_secs(*at),
        rollover: match rollover {
            true => Rollover::Accepted,
            false => Rollover::Refused,
        },
    };
    let judged = match judge(dir, &settings) {
        Ok(judged) => judged,
        Err(error) => {
            complain(&error);
            return ExitCode::from(2);
        }
    };
    let report = Report(&judged).to_string();
    // A closed pipe is a normal end.
    let _closed = std::io::stdout().write_all(report.as_bytes()).is_err();
    match judged.iter().all(Judged::is_as_expected) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

struct Settings {
    now: UnixTime,
    rollover: Rollover,
}

/// A case of `cases.json`.
struct Case {
    id: String,
    /// Or what is wrong with the entry: it counts as a difference, and the others are judged.
    purpose: Result<Purpose, String>,
    expected: Expected,
}

/// The verdict that a case expects.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Accept,
    AcceptLenient,
    Reject,
    /// A local choice, which the setting for rollover is.
    Policy,
    /// The list does not say.
    Nothing,
    /// The list says something that is no verdict.
    Unclear,
}

/// A case with our verdict.
struct Judged {
    id: String,
    expected: Expected,
    rollover: Rollover,
    verdict: Verdict,
}

enum Verdict {
    /// For whom the chain was accepted.
    Accepted(String),
    /// Why the chain was refused.
    Refused(String),
    /// Why there is no verdict. It never is the expected one: a case that is not there is not a
    /// chain that was refused.
    Unjudged(String),
}

impl Judged {
    fn is_as_expected(&self) -> bool {
        let accepted = match self.verdict {
            Verdict::Accepted(_) => true,
            Verdict::Refused(_) => false,
            Verdict::Unjudged(_) => return false,
        };
        match self.expected {
            Expected::Accept | Expected::AcceptLenient => accepted,
            Expected::Reject => !accepted,
            Expected::Policy => accepted == (self.rollover == Rollover::Accepted),
            Expected::Nothing => true,
            Expected::Unclear => false,
        }
    }
}

/// What is wrong with a folder, as a sentence.
type Unusable = String;

/// Every case of the folder, in the order of its list.
fn judge(dir: &Path, settings: &Settings) -> Result<Vec<Judged>, Unusable> {
    let cases = read_cases(&dir.join("cases.json"))?;
    let nodes = read_nodes(&dir.join("nodes"))?;
    let judged = |case: Case| Judged {
        verdict: judge_case(&dir.join("cases").join(&case.id), &case, &nodes, settings),
        id: case.id,
        expected: case.expected,
        rollover: settings.rollover,
    };
    Ok(cases.into_iter().map(judged).collect())
}

fn judge_case(
    folder: &Path,
    case: &Case,
    nodes: &[(NodeName, KeyHash)],
    settings: &Settings,
) -> Verdict {
    let purpose = match &case.purpose {
        Ok(purpose) => *purpose,
        Err(what) => return Verdict::Unjudged(what.clone()),
    };
    let files = match Files::read(folder) {
        Ok(files) => files,
        Err(what) => return Verdict::Unjudged(what),
    };
    match judge_files(&files, purpose, nodes, settings) {
        Ok(whom) => Verdict::Accepted(whom),
        Err(reason) => Verdict::Refused(reason),
    }
}

/// The certificates of a case, which may be anything.
struct Files {
    root: Vec<u8>,
    /// What is presented, leaf first.
    chain: Vec<Vec<u8>>,
}

impl Files {
    fn read(folder: &Path) -> Result<Self, String> {
        let root = one(certificates(folder, "root")?, "root")?;
        let mut chain = vec![one(certificates(folder, "leaf")?, "leaf")?];
        chain.extend(intermediates(folder)?);
        Ok(Self { root, chain })
    }
}

/// `Ok` says for whom the chain was accepted, `Err` why it was not.
fn judge_files(
    files: &Files,
    purpose: Purpose,
    nodes: &[(NodeName, KeyHash)],
    settings: &Settings,
) -> Result<String, String> {
    let chain = PresentedChain::parse(&files.chain).map_err(|error| error.to_string())?;
    let anchor = Anchor::from_der(&files.root).map_err(|error| format!("the root: {error}"))?;
    let Settings { now, rollover } = *settings;
    let (name, root) = match purpose {
        Purpose::Dial => verify_peer(&chain, [&anchor], purpose, rollover, now)
            .map(|peer| (peer.name, peer.root)),
        Purpose::Serve => verify_server(&chain, [&anchor], purpose, rollover, now)
            .map(|server| (server.name, server.root)),
    }
    .map_err(|error| error.to_string())?;
    let registered = nodes.iter().map(|(name, key)| (name, *key));
    check_registered(&name, root, registered).map_err(|error| error.to_string())?;
    Ok(format!("{}, {}", name.id(), name.kind().unit()))
}

fn read_cases(file: &Path) -> Result<Vec<Case>, Unusable> {
    let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let list: Value =
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?;
    let list = list
        .as_array()
        .ok_or_else(|| format!("{}: it is not a list of cases", file.display()))?;
    let case = |(index, value)| {
        read_case(value).map_err(|what| format!("{}: case {}: {what}", file.display(), index + 1))
    };
    list.iter().enumerate().map(case).collect()
}

fn read_case(value: &Value) -> Result<Case, String> {
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    let id = text("id").ok_or("it has no id")?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if id.is_empty() || id.starts_with('.') || !id.chars().all(is_plain) {
        return Err(format!("the id {id:?} is not the name of a folder"));
    }
    let purpose = match text("purpose") {
        Some("client") => Ok(Purpose::Dial),
        Some("server") => Ok(Purpose::Serve),
        other => Err(format!(
            "the purpose {other:?} is neither client nor server"
        )),
    };
    let expected = match (text("profile"), &purpose) {
        (Some("accept"), Ok(_)) => Expected::Accept,
        (Some("accept-lenient"), Ok(_)) => Expected::AcceptLenient,
        (Some("reject"), Ok(_)) => Expected::Reject,
        (Some("policy"), Ok(_)) => Expected::Policy,
        (None, Ok(_)) => Expected::Nothing,
        _ => Expected::Unclear,
    };
    Ok(Case {
        id: id.to_owned(),
        purpose,
        expected,
    })
}

/// The registered nodes; none without the folder. A folder without a root is none; everything else
/// that cannot be read is an error, because a node that is left out refuses nothing.
fn read_nodes(folder: &Path) -> Result<Vec<(NodeName, KeyHash)>, Unusable> {
    let unreadable = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(folder, error)),
    };
    let mut nodes = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(folder, error))?.path();
        if !entry.is_dir() {
            continue;
        }
        let file = entry.join("root-ca.pem");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(unreadable(&file, error)),
        };
        let node = certificates_in_pem(&text)
            .map_err(|error| error.to_string())
            .and_then(|found| one(found, "root"))
            .and_then(|root| read_root(&root).map_err(|error| error.to_string()));
        nodes.push(node.map_err(|error| format!("{}: {error}", file.display()))?);
    }
    Ok(nodes)
}

/// All certificates of `NAME.pem`, or the one of `NAME.der`; an error where there is neither.
fn certificates(folder: &Path, name: &str) -> Result<Vec<Vec<u8>>, String> {
    let pem = folder.join(name).with_extension("pem");
    if pem.exists() {
        let text = fs::read_to_string(&pem).map_err(|e| format!("{}: {e}", pem.display()))?;
        return certificates_in_pem(&text).map_err(|e| format!("{}: {e}", pem.display()));
    }
    let der = folder.join(name).with_extension("der");
    match fs::read(&der) {
        Ok(der) => Ok(vec![der]),
        Err(error) => Err(format!("{} or .pem: {error}", der.display())),
    }
}

/// `inter.pem` has them all; otherwise each is in a file of its own: `inter.der`, if there is only
/// one, or `inter0.der` and so on. Where both kinds are there, all have to be counted once: `inter.pem`
/// repeats the others, `inter.der` does not.
fn intermediates(folder: &Path) -> Result<Vec<Vec<u8>>, String> {
    let exists = |name: &str| {
        let file = folder.join(name);
        file.with_extension("pem").exists() || file.with_extension("der").exists()
    };
    if folder.join("inter.pem").exists() {
        return certificates(folder, "inter");
    }
    let numbered = (0..).map(|number| format!("inter{number}"));
    let mut found = Vec::new();
    if exists("inter") {
        found.extend(certificates(folder, "inter")?);
    }
    for name in numbered.take_while(|name| exists(name)) {
        found.extend(certificates(folder, &name)?);
    }
    Ok(found)
}

fn one(mut certificates: Vec<Vec<u8>>, what: &str) -> Result<Vec<u8>, String> {
    match (certificates.pop(), certificates.len()) {
        (Some(certificate), 0) => Ok(certificate),
        _ => Err(format!("the {what} is not exactly one certificate")),
    }
}

/// A line for each case, and the sums.
struct Report<'a>(&'a [Judged]);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|judged| judged.id.len()).max();
        for judged in self.0 {
            let (verdict, reason) = match &judged.verdict {
                Verdict::Accepted(whom) => ("accept", whom),
                Verdict::Refused(reason) => ("reject", reason),
                Verdict::Unjudged(reason) => ("unjudged", reason),
            };
            let agreement = match judged.is_as_expected() {
                true => "ok",
                false => "DIFFERS",
            };
            writeln!(
                f,
                "{:width$}  {verdict:8}  {:14}  {agreement:7}  {reason}",
                judged.id,
                judged.expected,
                width = width.unwrap_or_default(),
            )?;
        }
        let count = |which: fn(&Judged) -> bool| self.0.iter().filter(|j| which(j)).count();
        write!(
            f,
            "{} cases: {} accepted, {} refused",
            self.0.len(),
            count(|j| matches!(j.verdict, Verdict::Accepted(_))),
            count(|j| matches!(j.verdict, Verdict::Refused(_))),
        )?;
        match count(|j| matches!(j.verdict, Verdict::Unjudged(_))) {
            0 => {}
            unjudged => write!(f, ", {unjudged} unjudged")?,
        }
        writeln!(
            f,
            "; {} as expected, {} differ",
            count(Judged::is_as_expected),
            count(|j| !j.is_as_expected()),
        )
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Accept => "accept",
            Self::AcceptLenient => "accept-lenient",
            Self::Reject => "reject",
            Self::Policy => "policy",
            Self::Nothing => "-",
            Self::Unclear => "?",
        })
    }
}
