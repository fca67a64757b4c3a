//! `comity config show`, `comity completions`, `comity man`.

use std::fmt::Display;

use clap::CommandFactory;
use comity_agent::{ConfigFile, DEFAULT_LISTEN, Setting, Source};
use comity_store::{Home, HomeFile, StoreError};
use comity_trust::Mode;
use serde_json::{Value, json};

use crate::Outcome;
use crate::args::{Cli, Completions, Man};
use crate::context::{Context, environment, mode_setting, store_failure};
use crate::shell::{Exit, Failure};

pub(crate) fn show(context: &Context) -> Outcome {
    let (config, file) = match Home::open(&context.home.value) {
        Ok(home) => (context.config(&home)?, home.path(HomeFile::Config)),
        // Settings can be asked for before there is a home.
        Err(StoreError::NoHome { .. }) => (
            ConfigFile::default(),
            context.home.value.join(HomeFile::Config.name()),
        ),
        Err(error) => return Err(store_failure(&error)),
    };
    let variable = |name| environment(name).map(|v| (v, name));
    let mode = |name, from_file, default| -> Result<Setting<Mode>, Failure> {
        match variable(name) {
            Some((text, name)) => {
                let mode = text
                    .parse()
                    .map_err(|error| Failure::unable(format!("{name}={text}: {error}")))?;
                Ok(Setting::new(mode, Source::Environment(name)))
            }
            None => mode_setting(None, from_file, "", default),
        }
    };
    let listen = match variable("COMITY_LISTEN") {
        Some((value, name)) => Setting::new(value, Source::Environment(name)),
        None => config
            .listen()
            .unwrap_or(Setting::new(DEFAULT_LISTEN.to_owned(), Source::Default)),
    };
    let home = Setting::new(
        context.home.value.display().to_string(),
        context.home.source.clone(),
    );
    let mut rows = vec![
        row("home", &home),
        (
            "config file".to_owned(),
            file.display().to_string(),
            if config.is_read() {
                "read"
            } else {
                "not there"
            }
            .to_owned(),
        ),
        row(
            "dial.trust",
            &mode("COMITY_TRUST", config.dial_mode(), Mode::CaOrTofu)?,
        ),
        row(
            "serve.accept",
            &mode("COMITY_ACCEPT", config.accept_mode(), Mode::Enroll)?,
        ),
        row("serve.listen", &listen),
    ];
    let list =
        |setting: Setting<Vec<String>>| Setting::new(setting.value.join(", "), setting.source);
    let path = |setting: Setting<std::path::PathBuf>| {
        Setting::new(setting.value.display().to_string(), setting.source)
    };
    rows.extend(config.name().map(|s| row("name", &s)));
    rows.extend(config.dial_ca().map(|s| row("dial.ca", &path(s))));
    rows.extend(config.serve_names().map(|s| row("serve.names", &list(s))));
    for (name, setting) in [
        ("serve.services", config.services().map(entries)),
        ("serve.allow", config.allow().map(lists)),
    ] {
        rows.extend(setting.map(|s| row(name, &s)));
    }
    let value: Vec<Value> = rows
        .iter()
        .map(|(name, value, source)| json!({ "name": name, "value": value, "source": source }))
        .collect();
    let widths = [0, 1].map(|i| {
        let width = |(name, value, _): &(String, String, String)| [name.len(), value.len()][i];
        rows.iter().map(width).max().unwrap_or(0)
    });
    let lines: Vec<String> = rows
        .iter()
        .map(|(name, value, source)| {
            format!("{name:<0$}  {value:<1$}  {source}", widths[0], widths[1])
        })
        .collect();
    context.shell.answer(lines.join("\n"), &value);
    Ok(Exit::Yes)
}

fn entries(setting: Setting<std::collections::BTreeMap<String, String>>) -> Setting<String> {
    let parts: Vec<String> = setting
        .value
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    Setting::new(parts.join(" "), setting.source)
}

fn lists(setting: Setting<std::collections::BTreeMap<String, Vec<String>>>) -> Setting<String> {
    let parts: Vec<String> = setting
        .value
        .iter()
        .map(|(k, v)| format!("{k}={}", v.join(",")))
        .collect();
    Setting::new(parts.join(" "), setting.source)
}

fn row<T: Display>(name: &str, setting: &Setting<T>) -> (String, String, String) {
    (
        name.to_owned(),
        setting.value.to_string(),
        setting.source.to_string(),
    )
}

pub(crate) fn completions(context: &Context, args: &Completions) -> Outcome {
    // The generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "comity", &mut script);
    context
        .shell
        .print(String::from_utf8_lossy(&script).trim_end());
    Ok(Exit::Yes)
}

pub(crate) fn man(context: &Context, args: &Man) -> Outcome {
    let command = Cli::command();
    match &args.folder {
        Some(folder) => {
            clap_mangen::generate_to(command, folder).map_err(|error| {
                Failure::unable(format!("cannot write into {}: {error}", folder.display()))
            })?;
            context
                .shell
                .say(format_args!("wrote manual pages into {}", folder.display()));
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command)
                .render(&mut page)
                .map_err(Failure::unable)?;
            context.shell.print(String::from_utf8_lossy(&page));
        }
    }
    Ok(Exit::Yes)
}
