//! The rules of the workspace that a compiler does not check. Each test lists every violation it
//! finds, so that one run is enough to mend them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Which crates of ours each crate may name. Everything points down; a crate that is missing here
/// has no place in the design yet.
const ARROWS: &[(&str, &[&str])] = &[
    ("identity", &[]),
    ("certs", &["identity"]),
    ("record", &["identity", "certs"]),
    ("trust", &["identity", "certs", "record"]),
    ("keys", &["identity"]),
    ("store", &["identity", "certs", "record", "trust"]),
    (
        "authority",
        &["identity", "certs", "record", "trust", "store", "keys"],
    ),
    (
        "tls",
        &["identity", "certs", "record", "trust", "store", "keys"],
    ),
    (
        "tunnel",
        &[
            "identity", "certs", "record", "trust", "store", "keys", "tls",
        ],
    ),
    (
        "agent",
        &[
            "identity",
            "certs",
            "record",
            "trust",
            "store",
            "keys",
            "authority",
            "tls",
            "tunnel",
        ],
    ),
    (
        "cli",
        &[
            "identity",
            "certs",
            "record",
            "trust",
            "store",
            "keys",
            "authority",
            "tls",
            "tunnel",
            "agent",
        ],
    ),
    (
        "testkit",
        &[
            "identity",
            "certs",
            "record",
            "trust",
            "store",
            "keys",
            "authority",
            "tls",
            "tunnel",
        ],
    ),
    ("differential", &["identity", "certs"]),
    ("xtask", &["identity", "certs"]),
];

/// Crates of one layer of which one needs the other for its tests alone.
const TEST_ARROWS: &[(&str, &str)] = &[
    // Bundles to store must be signed by somebody.
    ("store", "keys"),
];

/// Crates without clock, entropy, files and sockets.
const PURE: &[&str] = &["identity", "certs", "record", "trust"];

/// What the `clippy.toml` of a pure crate turns away at the least: the item, or its constructors.
const IMPURITIES: &[&str] = &[
    "std::time::SystemTime::now",
    "std::time::Instant::now",
    "std::fs::File",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "aws_lc_rs::rand::fill",
    "aws_lc_rs::rand::SystemRandom",
];

/// Crates that are never shipped: they may do what the tests need.
const DEVELOPMENT: &[&str] = &["testkit", "differential", "xtask"];

/// Parts of rustls that are only types and path validation, and speak no TLS.
const NOT_TLS: &[(&str, &[&str])] = &[
    ("certs", &["rustls-pki-types", "rustls-webpki"]),
    ("trust", &["rustls-pki-types"]),
];

/// Files outside `store` that touch the file system, in which way, and why they may.
const TOUCHES_FILES: &[(&str, &str, &str)] = &[
    (
        "crates/cli/src/shell.rs",
        "File::options",
        "opens the terminal to ask a person while standard input carries data",
    ),
    (
        "crates/agent/src/node.rs",
        "File::open",
        "reads what the operator named, such as anchors, and nothing of the home",
    ),
    (
        "crates/cli/src/commands/ca/issue.rs",
        "fs::create_dir",
        "makes the folder that the operator named for a set of files, which store writes",
    ),
    (
        "crates/cli/src/commands/socket_file.rs",
        "fs::remove_",
        "takes away the Unix socket that `--listen` made",
    ),
    (
        "crates/cli/src/commands/socket_file.rs",
        "fs::set_permissions",
        "makes that socket the user's own before anybody can connect",
    ),
];

/// Crates that may read files: `cli` reads those that people name on its command line.
const READS_FILES: &[&str] = &["cli"];

/// Ways to change the file system.
const WRITING: &[&str] = &[
    "fs::write",
    "fs::rename",
    "fs::remove_",
    "fs::create_dir",
    "fs::copy",
    "fs::hard_link",
    "fs::set_permissions",
    "fs::symlink",
    "File::create",
    "File::options",
    "OpenOptions",
    "DirBuilder",
];

/// Ways to look at it.
const READING: &[&str] = &[
    "fs::read",
    "File::open",
    "fs::metadata",
    "fs::symlink_metadata",
];

#[test]
fn dependencies_point_down() {
    let mut wrong = Vec::new();
    for package in &metadata().packages {
        let name = short(package);
        let Some(allowed) = allowed_arrows(name) else {
            wrong.push(format!("{name}: not in the table of arrows"));
            continue;
        };
        for dependency in &package.dependencies {
            let Some(target) = dependency.name.strip_prefix("comity-") else {
                continue;
            };
            let for_tests = dependency.kind == DependencyKind::Development
                && (target == "testkit" || TEST_ARROWS.contains(&(name, target)));
            if !for_tests && !allowed.contains(&target) {
                wrong.push(format!("{name} -> {target} ({})", dependency.kind));
            }
        }
    }
    none(wrong, "arrows that do not point down");
}

#[test]
fn the_table_of_arrows_has_no_cycle_and_no_stranger() {
    // Each row may only name rows above it; so there is no way round.
    for (position, (name, allowed)) in ARROWS.iter().enumerate() {
        for target in *allowed {
            assert!(
                ARROWS[..position].iter().any(|(above, _)| above == target),
                "{name} -> {target}"
            );
        }
    }
    let metadata = metadata();
    let there: BTreeSet<&str> = metadata.packages.iter().map(short).collect();
    for (name, _) in ARROWS {
        assert!(
            there.contains(name),
            "{name} is in the table and nowhere else"
        );
    }
}

#[test]
fn only_tls_names_rustls() {
    let mut wrong = Vec::new();
    for package in &metadata().packages {
        let name = short(package);
        if name == "tls" || DEVELOPMENT.contains(&name) {
            continue;
        }
        let excepted = row(NOT_TLS, name).unwrap_or_default();
        for dependency in &package.dependencies {
            if dependency.name.contains("rustls")
                && dependency.kind != DependencyKind::Development
                && !excepted.contains(&dependency.name.as_str())
            {
                wrong.push(format!("{name} -> {}", dependency.name));
            }
        }
    }
    none(wrong, "crates other than tls that name rustls");
}

#[test]
fn only_store_touches_files() {
    let mut wrong = Vec::new();
    for package in &metadata().packages {
        let name = short(package);
        if name == "store" || DEVELOPMENT.contains(&name) {
            continue;
        }
        let mut forbidden = WRITING.to_vec();
        if !READS_FILES.contains(&name) {
            forbidden.extend(READING);
        }
        for file in files_under(&folder(package).join("src"), "rs") {
            let path = relative(&file);
            if path.ends_with("/tests.rs") || path.contains("/src/tests/") {
                continue;
            }
            let text = read(&file);
            for (number, line) in code_of(&text) {
                for pattern in forbidden.iter().filter(|p| line.contains(**p)) {
                    let excepted = TOUCHES_FILES
                        .iter()
                        .any(|(file, way, _)| *file == path && way == pattern);
                    if !excepted {
                        wrong.push(format!("{path}:{number}: {pattern}"));
                    }
                }
            }
        }
    }
    none(wrong, "files touched outside store");
}

#[test]
fn exceptions_for_files_are_still_needed() {
    let mut wrong = Vec::new();
    for (path, way, reason) in TOUCHES_FILES {
        let text = fs::read_to_string(root().join(path)).unwrap_or_default();
        if !code_of(&text).any(|(_, line)| line.contains(way)) {
            wrong.push(format!("{path}: {way} ({reason})"));
        }
    }
    none(wrong, "exceptions that nothing needs any more");
}

#[test]
fn pure_crates_turn_away_clock_entropy_files_and_sockets() {
    let mut wrong = Vec::new();
    for name in PURE {
        let path = root().join("crates").join(name).join("clippy.toml");
        let Ok(text) = fs::read_to_string(&path) else {
            wrong.push(format!("{name}: no clippy.toml"));
            continue;
        };
        for impurity in IMPURITIES {
            if !text.contains(&format!("\"{impurity}")) {
                wrong.push(format!("{name}: clippy.toml lets {impurity} pass"));
            }
        }
        for line in text.lines().filter(|l| l.trim_start().starts_with('{')) {
            if !line.contains("reason") {
                wrong.push(format!("{name}: no reason in {line}"));
            }
        }
    }
    none(wrong, "impurities");
}

#[test]
fn every_crate_has_licence_description_and_the_lints_of_the_workspace() {
    let mut wrong = Vec::new();
    for package in &metadata().packages {
        let name = short(package);
        if package.license.as_deref() != Some("MIT OR Apache-2.0") {
            wrong.push(format!("{name}: licence {:?}", package.license));
        }
        if package.description.is_none() {
            wrong.push(format!("{name}: no description"));
        }
        if package.publish.as_ref().is_none_or(|p| !p.is_empty()) {
            wrong.push(format!("{name}: could be published by accident"));
        }
        let manifest = read(package.manifest_path.as_std_path());
        if !manifest.contains("[lints]\nworkspace = true") {
            wrong.push(format!("{name}: does not take the lints of the workspace"));
        }
    }
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        if !root().join(licence).is_file() {
            wrong.push(format!("{licence} is missing"));
        }
    }
    none(wrong, "manifests");
}

#[test]
fn nothing_unfinished_unsafe_or_local_is_left_in_the_tree() {
    // Put together here, so that this file does not find itself.
    let anywhere = [
        concat!("/wo", "rk/"),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
    ];
    let in_rust = [
        concat!("unsafe", " {"),
        concat!("unsafe", " fn"),
        concat!("unsafe", " impl"),
    ];
    let mut wrong = Vec::new();
    for file in all_files() {
        let Ok(text) = fs::read_to_string(&file) else {
            // Vectors and corpora may be bytes.
            continue;
        };
        let rust = file.extension().is_some_and(|e| e == "rs");
        for (number, line) in (1..).zip(text.lines()) {
            let mut found: Vec<&str> = anywhere.into_iter().filter(|p| line.contains(p)).collect();
            if rust {
                found.extend(in_rust.into_iter().filter(|p| line.contains(p)));
                if line.trim_start().starts_with(concat!("#[ign", "ore]")) {
                    found.push("ignored without a reason");
                }
            }
            for what in found {
                wrong.push(format!("{}:{number}: {what}", relative(&file)));
            }
        }
    }
    none(wrong, "leftovers");
}

#[test]
fn commands_in_the_documents_exist_and_can_be_run() {
    let mut wrong = Vec::new();
    for document in ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"] {
        let Ok(text) = fs::read_to_string(root().join(document)) else {
            continue;
        };
        for command in local_commands(&text) {
            let runs = fs::metadata(root().join(&command))
                .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
            if !runs {
                wrong.push(format!("{document}: {command}"));
            }
        }
    }
    none(wrong, "commands that cannot be run");
}

#[test]
fn commands_are_found_in_code_and_nowhere_else() {
    let text = "Run `./a.sh x`, not ./b.\n```\n$ FOO=1 ./c.sh --flag ./target/debug/d\n./e\n```\n";
    assert_eq!(local_commands(text), ["a.sh", "c.sh", "e"]);
}

#[test]
fn tests_inside_a_source_file_are_not_judged_as_code() {
    let text = "one\n#[cfg(test)]\nmod tests {\n    two\n}\n";
    assert_eq!(code_of(text).collect::<Vec<_>>(), [(1, "one")]);
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(["--offline".into(), "--locked".into()])
        .exec()
        .expect("cargo metadata")
}

/// The lines of a source file with their numbers, up to its tests and without comments.
fn code_of(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..)
        .zip(text.lines())
        .take_while(|(_, line)| *line != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// `./program` at the start of a command in code blocks and code spans. What lies under `target`
/// comes with the build.
fn local_commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let spans: Vec<&str> = if fenced {
            vec![line]
        } else {
            line.split('`').skip(1).step_by(2).collect()
        };
        for span in spans {
            let program = span
                .split_whitespace()
                .find(|word| *word != "$" && !word.contains('='));
            commands.extend(
                program
                    .and_then(|p| p.strip_prefix("./"))
                    .filter(|p| !p.starts_with("target/"))
                    .map(str::to_owned),
            );
        }
    }
    commands
}

/// Every file of the tree that belongs to the project.
fn all_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    walk(&root(), &mut |path| files.push(path));
    assert!(files.len() > 50, "the walk found {} files", files.len());
    files
}

fn files_under(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    walk(folder, &mut |path| {
        if path.extension().is_some_and(|e| e == extension) {
            files.push(path);
        }
    });
    files
}

fn walk(folder: &Path, visit: &mut dyn FnMut(PathBuf)) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().expect("a file type");
        // `.git` is a file in a linked worktree.
        if ["target", ".git", "Cargo.lock"].iter().any(|n| name == *n) {
            continue;
        }
        if kind.is_dir() {
            walk(&path, visit);
        } else if kind.is_file() {
            visit(path);
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("xtask is in the root").to_owned()
}

fn relative(path: &Path) -> String {
    let path = path.strip_prefix(root()).expect("inside the tree");
    path.display().to_string()
}

fn folder(package: &Package) -> &Path {
    let manifest = package.manifest_path.as_std_path();
    manifest.parent().expect("a manifest is in a folder")
}

/// The name in the design: the folder under `crates`.
fn short(package: &Package) -> &str {
    let folder = folder(package).file_name();
    folder.and_then(|n| n.to_str()).expect("a name")
}

fn allowed_arrows(name: &str) -> Option<&'static [&'static str]> {
    row(ARROWS, name)
}

fn row(
    table: &'static [(&'static str, &'static [&'static str])],
    name: &str,
) -> Option<&'static [&'static str]> {
    table.iter().find(|(n, _)| *n == name).map(|(_, row)| *row)
}

fn none(wrong: Vec<String>, what: &str) {
    assert!(wrong.is_empty(), "{what}:\n  {}", wrong.join("\n  "));
}
