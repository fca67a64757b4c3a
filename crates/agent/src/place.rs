//! Where the home is: the folder that holds a node's identity and memory.

use std::path::{Path, PathBuf};

use etcetera::{BaseStrategy, choose_base_strategy};
use thiserror::Error;

use crate::settings::{Setting, Source};

/// What the place depends on, so that tests can say it.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// `COMITY_HOME`.
    pub comity_home: Option<PathBuf>,
    /// `STATE_DIRECTORY`, which systemd sets for a unit with `StateDirectory=`.
    pub state_directory: Option<PathBuf>,
    /// `INVOCATION_ID`, which systemd sets for every unit.
    pub under_systemd: bool,
    /// Whether we run as root.
    pub root: bool,
    /// The state directory of the user, by the XDG rules.
    pub user_state: Option<PathBuf>,
}

/// No home could be named.
#[derive(Debug, Error)]
#[error("no home directory is known; name one with --home or COMITY_HOME")]
pub struct NoHome;

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        let path = |name| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        Self {
            comity_home: path("COMITY_HOME"),
            state_directory: path("STATE_DIRECTORY"),
            under_systemd: path("INVOCATION_ID").is_some(),
            root: nix::unistd::Uid::effective().is_root(),
            user_state: choose_base_strategy()
                .ok()
                .and_then(|base| base.state_dir()),
        }
    }

    /// The home: `flag`, else `COMITY_HOME`, else systemd's state directory, else
    /// `/var/lib/comity` for a system service, else `comity` in the user's XDG state directory.
    ///
    /// # Errors
    /// When none of these is known.
    pub fn home(&self, flag: Option<&Path>) -> Result<Setting<PathBuf>, NoHome> {
        if let Some(path) = flag {
            return Ok(Setting::new(path.to_owned(), Source::Flag("--home")));
        }
        if let Some(path) = &self.comity_home {
            return Ok(Setting::new(
                path.clone(),
                Source::Environment("COMITY_HOME"),
            ));
        }
        // With several entries the variable is colon-separated: the first is ours.
        let first = |path: &PathBuf| {
            let text = path.to_string_lossy();
            text.split(':').next().map(PathBuf::from)
        };
        if let Some(path) = self.state_directory.as_ref().and_then(first) {
            return Ok(Setting::new(path, Source::Environment("STATE_DIRECTORY")));
        }
        if self.root && self.under_systemd {
            return Ok(Setting::new("/var/lib/comity".into(), Source::Default));
        }
        match &self.user_state {
            Some(state) => Ok(Setting::new(state.join("comity"), Source::Default)),
            None => Err(NoHome),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_wins() {
        let mut around = Surroundings {
            comity_home: Some("/env".into()),
            state_directory: Some("/unit:/other".into()),
            under_systemd: true,
            root: true,
            user_state: Some("/user/state".into()),
        };
        let home = |around: &Surroundings, flag: Option<&str>| {
            around.home(flag.map(Path::new)).expect("a home").value
        };
        assert_eq!(home(&around, Some("/flag")), Path::new("/flag"));
        assert_eq!(home(&around, None), Path::new("/env"));
        around.comity_home = None;
        assert_eq!(home(&around, None), Path::new("/unit"));
        around.state_directory = None;
        assert_eq!(home(&around, None), Path::new("/var/lib/comity"));
        around.root = false;
        assert_eq!(home(&around, None), Path::new("/user/state/comity"));
        around.user_state = None;
        assert!(around.home(None).is_err());
    }
}
