//! Settings, each with where it came from: flag, environment, file, default, in that order.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use comity_trust::{Direction, Mode};
use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

/// A value and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value in force.
    pub value: T,
    /// Who said so.
    pub source: Source,
}

/// Who set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A command-line flag.
    Flag(&'static str),
    /// An environment variable.
    Environment(&'static str),
    /// The configuration file.
    File {
        /// Its path.
        path: PathBuf,
        /// The line of the key, from 1.
        line: usize,
    },
    /// Nobody; the built-in default.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => f.write_str(name),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

impl<T> Setting<T> {
    /// A value with its origin.
    pub fn new(value: T, source: Source) -> Self {
        Self { value, source }
    }
}

/// Where `serve` listens unless told otherwise: every address, both families.
pub const DEFAULT_LISTEN: &str = "[::]:7117";

/// The configuration file, `config.toml` in the home. Every key is optional.
#[derive(Debug, Default)]
pub struct ConfigFile {
    path: PathBuf,
    text: String,
    keys: Keys,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    name: Option<Spanned<String>>,
    #[serde(default)]
    dial: DialKeys,
    #[serde(default)]
    serve: ServeKeys,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DialKeys {
    trust: Option<Spanned<String>>,
    ca: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServeKeys {
    listen: Option<Spanned<String>>,
    accept: Option<Spanned<String>>,
    names: Option<Spanned<Vec<String>>>,
    services: Option<Spanned<BTreeMap<String, String>>>,
    allow: Option<Spanned<BTreeMap<String, Vec<String>>>>,
}

/// The configuration file cannot be used.
#[derive(Debug, Error)]
#[error("{}:{line}: {message}", path.display())]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub message: String,
}

impl ConfigFile {
    /// Reads the text of a configuration file.
    ///
    /// # Errors
    /// When it is not TOML or has an unknown key; the error names the line.
    pub fn parse(path: PathBuf, text: String) -> Result<Self, ConfigError> {
        match toml::from_str(&text) {
            Ok(keys) => Ok(Self { path, text, keys }),
            Err(error) => Err(ConfigError {
                line: error.span().map_or(1, |span| line_of(&text, span.start)),
                path,
                message: error.message().to_owned(),
            }),
        }
    }

    /// Whether there was a file to read.
    pub fn is_read(&self) -> bool {
        !self.path.as_os_str().is_empty()
    }

    /// What this node suggests to be called.
    pub fn name(&self) -> Option<Setting<String>> {
        self.setting(self.keys.name.as_ref())
    }

    /// PEM file of additional CAs for dialling.
    pub fn dial_ca(&self) -> Option<Setting<PathBuf>> {
        self.setting(self.keys.dial.ca.as_ref())
    }

    /// Mode for dialling.
    ///
    /// # Errors
    /// When the file names no mode that fits.
    pub fn dial_mode(&self) -> Result<Option<Setting<Mode>>, ConfigError> {
        self.mode(self.keys.dial.trust.as_ref(), Direction::Dial)
    }

    /// Mode for accepting.
    ///
    /// # Errors
    /// When the file names no mode that fits.
    pub fn accept_mode(&self) -> Result<Option<Setting<Mode>>, ConfigError> {
        self.mode(self.keys.serve.accept.as_ref(), Direction::Accept)
    }

    /// Where to listen.
    pub fn listen(&self) -> Option<Setting<String>> {
        self.setting(self.keys.serve.listen.as_ref())
    }

    /// DNS names and addresses for the serving leaf.
    pub fn serve_names(&self) -> Option<Setting<Vec<String>>> {
        self.setting(self.keys.serve.names.as_ref())
    }

    /// Services by name.
    pub fn services(&self) -> Option<Setting<BTreeMap<String, String>>> {
        self.setting(self.keys.serve.services.as_ref())
    }

    /// Who may use which service.
    pub fn allow(&self) -> Option<Setting<BTreeMap<String, Vec<String>>>> {
        self.setting(self.keys.serve.allow.as_ref())
    }

    fn mode(
        &self,
        value: Option<&Spanned<String>>,
        direction: Direction,
    ) -> Result<Option<Setting<Mode>>, ConfigError> {
        let Some(setting) = self.setting(value) else {
            return Ok(None);
        };
        let parsed = setting.value.parse::<Mode>().map_err(|e| e.to_string());
        let fitting = parsed.and_then(|mode| match mode.valid_for(direction) {
            true => Ok(mode),
            false => Err(format!("mode `{mode}` does not exist in this direction")),
        });
        let line = value.map_or(1, |v| line_of(&self.text, v.span().start));
        match fitting {
            Ok(mode) => Ok(Some(Setting::new(mode, setting.source))),
            Err(message) => Err(ConfigError {
                path: self.path.clone(),
                line,
                message,
            }),
        }
    }

    fn setting<T: Clone>(&self, value: Option<&Spanned<T>>) -> Option<Setting<T>> {
        value.map(|spanned| {
            let source = Source::File {
                path: self.path.clone(),
                line: line_of(&self.text, spanned.span().start),
            };
            Setting::new(spanned.get_ref().clone(), source)
        })
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&b| b == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConfigFile, ConfigError> {
        ConfigFile::parse("config.toml".into(), text.to_owned())
    }

    #[test]
    fn a_setting_knows_its_line() {
        let file = parse("name = \"web1\"\n\n[serve]\nlisten = \"127.0.0.1:9\"\n").expect("valid");
        let listen = file.listen().expect("set");
        assert_eq!(listen.value, "127.0.0.1:9");
        assert_eq!(listen.source.to_string(), "config.toml:4");
        assert!(file.dial_ca().is_none());
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let error = parse("name = \"x\"\n[serve]\nlissen = \"a\"\n").expect_err("a typo");
        assert_eq!(error.line, 3);
        assert!(error.message.contains("lissen"), "{error}");
    }

    #[test]
    fn a_mode_of_the_other_direction_is_refused_with_its_line() {
        let file = parse("[dial]\ntrust = \"enroll\"\n").expect("valid TOML");
        assert_eq!(file.dial_mode().expect_err("accepting only").line, 2);
        let file = parse("[serve]\naccept = \"enroll\"\n").expect("valid TOML");
        let mode = file.accept_mode().expect("fits").expect("set");
        assert_eq!(mode.value, Mode::Enroll);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_stop(text in "(?s).{0,200}") {
            look_at(&text);
        }

        #[test]
        fn nearly_valid_text_is_read_or_refused_with_a_line_that_exists(
            parts in proptest::collection::vec(proptest::sample::select(PIECES), 0..30),
        ) {
            look_at(&parts.concat());
        }
    }

    const PIECES: &[&str] = &[
        "name",
        "listen",
        "trust",
        "accept",
        "services",
        "allow",
        "names",
        "ca",
        "[serve]",
        "[dial]",
        "[serve.allow]",
        "=",
        "\"pin\"",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\n",
        "'''",
        "#",
        "db",
        "1",
        "\u{7}",
    ];

    fn look_at(text: &str) {
        match parse(text) {
            Ok(file) => {
                // Either answer will do; both must come.
                drop(file.dial_mode());
                drop(file.accept_mode());
                drop((file.listen(), file.services(), file.allow(), file.name()));
            }
            Err(error) => assert!((1..=text.lines().count() + 1).contains(&error.line)),
        }
    }
}
