//! `cargo xtask judge federation`: the corpus has the verdicts it expects, and a folder that cannot
//! be judged is told from one that differs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/federation")
}

fn judge(dir: &Path, options: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["judge", "federation"])
        .arg(dir)
        .args(options)
        .output()
        .expect("the program that was built for this test");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

fn line<'t>(report: &'t str, id: &str) -> Vec<&'t str> {
    let line = report.lines().find(|line| line.starts_with(id));
    let line = line.unwrap_or_else(|| panic!("{id} is not in:\n{report}"));
    line.split_whitespace().collect()
}

/// A folder with one case of the corpus under another list.
fn folder(list: &str) -> TempDir {
    let dir = TempDir::new().expect("a folder");
    let case = dir.path().join("cases/g01-client-ca-to-aa");
    fs::create_dir_all(&case).expect("a folder");
    for file in ["root.pem", "inter.pem", "leaf.pem"] {
        let from = corpus().join("cases/g01-client-ca-to-aa").join(file);
        fs::copy(from, case.join(file)).expect("a file of the corpus");
    }
    fs::write(dir.path().join("cases.json"), list).expect("a file");
    dir
}

const GOOD: &str = r#"{"id": "g01-client-ca-to-aa", "purpose": "client", "profile": "accept"}"#;

#[test]
fn every_case_of_the_corpus_has_the_verdict_of_its_profile() {
    let (code, report, errors) = judge(&corpus(), &[]);
    assert_eq!(code, Some(0), "{report}{errors}");
    assert!(
        report.ends_with("38 cases: 7 accepted, 31 refused; 38 as expected, 0 differ\n"),
        "{report}"
    );
    for id in ["g16-selfissued-rollover", "g17-root-rekey-old-with-new"] {
        assert_eq!(line(&report, id)[1..4], ["reject", "policy", "ok"]);
    }
}

#[test]
fn with_rollover_the_two_cases_of_policy_are_accepted_and_nothing_else_changes() {
    let (code, report, errors) = judge(&corpus(), &["--rollover"]);
    assert_eq!(code, Some(0), "{report}{errors}");
    assert!(
        report.ends_with("38 cases: 9 accepted, 29 refused; 38 as expected, 0 differ\n"),
        "{report}"
    );
    for id in ["g16-selfissued-rollover", "g17-root-rekey-old-with-new"] {
        assert_eq!(line(&report, id)[1..4], ["accept", "policy", "ok"]);
    }
}

#[test]
fn a_verdict_that_differs_makes_the_exit_status_one() {
    let dir = folder(&format!("[{}]", GOOD.replace("accept", "reject")));
    let (code, report, _) = judge(dir.path(), &[]);
    assert_eq!(code, Some(1));
    assert_eq!(
        line(&report, "g01")[1..4],
        ["accept", "reject", "DIFFERS"],
        "{report}"
    );
}

#[test]
fn another_time_gives_another_verdict() {
    let dir = folder(&format!("[{GOOD}]"));
    // 2029, when the leaf has expired.
    let (code, report, _) = judge(dir.path(), &["--at", "1861920000"]);
    assert_eq!(code, Some(1));
    assert!(report.contains("expired at 2027-11-20"), "{report}");
}

#[test]
fn further_fields_files_and_folders_and_a_missing_registry_do_not_matter() {
    let list = GOOD.replace('{', r#"{"n_inter": 1, "since": ["a", 2],"#);
    let dir = folder(&format!("[{list}]"));
    fs::write(dir.path().join("results.tsv"), "anything").expect("a file");
    fs::create_dir(dir.path().join("cases/unlisted")).expect("a folder");
    let (code, report, errors) = judge(dir.path(), &[]);
    assert_eq!(code, Some(0), "{report}{errors}");
    assert!(report.ends_with("1 cases: 1 accepted, 0 refused; 1 as expected, 0 differ\n"));
}

#[test]
fn certificates_may_be_der_and_a_case_without_expectation_is_only_judged() {
    let dir = folder(r#"[{"id": "g01-client-ca-to-aa", "purpose": "client"}]"#);
    let case = dir.path().join("cases/g01-client-ca-to-aa");
    for name in ["root", "inter", "leaf"] {
        let text = fs::read_to_string(case.join(name).with_extension("pem")).expect("a file");
        let found = comity_certs::certificates_in_pem(&text).expect("certificates");
        let to = match name {
            "inter" => case.join("inter0.der"),
            name => case.join(name).with_extension("der"),
        };
        fs::write(to, &found[0]).expect("a file");
        fs::remove_file(case.join(name).with_extension("pem")).expect("a file");
    }
    let (code, report, _) = judge(dir.path(), &[]);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(line(&report, "g01")[1..4], ["accept", "-", "ok"]);
}

#[test]
fn another_registered_key_under_the_same_name_refuses() {
    let dir = folder(&format!("[{}]", GOOD.replace("accept", "reject")));
    // The node is registered under the key of another certificate with its name: its own leaf's.
    let node = dir.path().join("nodes/other");
    fs::create_dir_all(&node).expect("a folder");
    let leaf = corpus().join("cases/g02-server-ca/leaf.pem");
    fs::copy(leaf, node.join("root-ca.pem")).expect("a file of the corpus");
    let (code, report, _) = judge(dir.path(), &[]);
    assert_eq!(code, Some(0), "{report}");
    assert!(
        report.contains("another root key is registered"),
        "{report}"
    );
}

#[test]
fn a_case_without_its_files_differs_whatever_is_expected() {
    for profile in ["accept", "accept-lenient", "reject", "policy"] {
        let list = format!(r#"[{{"id": "absent", "purpose": "client", "profile": "{profile}"}}]"#);
        let (code, report, _) = judge(folder(&list).path(), &[]);
        assert_eq!(code, Some(1), "{report}");
        assert_eq!(
            line(&report, "absent")[1..4],
            ["unjudged", profile, "DIFFERS"]
        );
        assert!(report.contains("No such file"), "{report}");
        let sums = "1 cases: 0 accepted, 0 refused, 1 unjudged; 0 as expected, 1 differ\n";
        assert!(report.ends_with(sums), "{report}");
    }
    let (code, report, _) = judge(
        folder(r#"[{"id": "absent", "purpose": "client"}]"#).path(),
        &[],
    );
    assert_eq!(code, Some(1), "{report}");
}

#[test]
fn a_case_whose_intermediates_cannot_be_read_is_not_judged_without_them() {
    let dir = folder(&format!("[{}]", GOOD.replace("accept", "reject")));
    let inter = dir.path().join("cases/g01-client-ca-to-aa/inter.pem");
    fs::remove_file(&inter).expect("a file");
    fs::create_dir(&inter).expect("a folder in its place");
    let (code, report, _) = judge(dir.path(), &[]);
    assert_eq!(code, Some(1), "{report}");
    assert_eq!(line(&report, "g01")[1..3], ["unjudged", "reject"]);
}

#[test]
fn one_intermediate_may_stand_beside_numbered_ones() {
    let dir = folder(&format!("[{GOOD}]"));
    let case = dir.path().join("cases/g01-client-ca-to-aa");
    let der = |file: &Path| {
        let text = fs::read_to_string(file).expect("a file");
        let found = comity_certs::certificates_in_pem(&text).expect("certificates");
        found[0].clone()
    };
    let junk = der(&corpus().join("nodes/ca2/root-ca.pem"));
    let needed = der(&case.join("inter.pem"));
    fs::remove_file(case.join("inter.pem")).expect("a file");
    fs::write(case.join("inter.der"), &junk).expect("a file");
    fs::write(case.join("inter0.der"), &needed).expect("a file");
    let (code, report, _) = judge(dir.path(), &[]);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(line(&report, "g01")[1..4], ["accept", "accept", "ok"]);
}

#[test]
fn a_registry_that_cannot_be_read_is_an_error_and_not_an_empty_one() {
    let dir = folder(&format!("[{GOOD}]"));
    fs::write(dir.path().join("nodes"), "a file").expect("a file");
    let (code, _, errors) = judge(dir.path(), &[]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("nodes"), "{errors}");
    let dir = folder(&format!("[{GOOD}]"));
    fs::create_dir_all(dir.path().join("nodes/broken/root-ca.pem")).expect("a folder");
    let (code, _, errors) = judge(dir.path(), &[]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("nodes/broken/root-ca.pem"), "{errors}");
}

#[test]
fn a_folder_that_cannot_be_judged_says_why_and_exits_with_two() {
    for (list, said) in [
        ("{}", "not a list"),
        ("[1]", "case 1: it has no id"),
        ("nothing", "cases.json"),
        (
            r#"[{"id": "../x", "purpose": "client"}]"#,
            "not the name of a folder",
        ),
    ] {
        let (code, report, errors) = judge(folder(list).path(), &[]);
        assert_eq!((code, report.as_str()), (Some(2), ""), "{list}");
        assert!(errors.contains(said), "{list}: {errors}");
    }
    let empty = TempDir::new().expect("a folder");
    let (code, _, errors) = judge(empty.path(), &[]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("cases.json"), "{errors}");
}

#[test]
fn an_entry_that_is_not_understood_differs_and_the_others_are_judged() {
    for entry in [
        r#"{"id": "x", "purpose": "both", "profile": "reject"}"#,
        r#"{"id": "x", "profile": "reject"}"#,
        r#"{"id": "x", "purpose": "client", "profile": "perhaps"}"#,
    ] {
        let dir = folder(&format!("[{entry}, {GOOD}]"));
        let (code, report, errors) = judge(dir.path(), &[]);
        assert_eq!(code, Some(1), "{errors}");
        assert_eq!(line(&report, "x")[2..4], ["?", "DIFFERS"], "{report}");
        assert_eq!(line(&report, "g01")[1..4], ["accept", "accept", "ok"]);
    }
}

#[test]
fn a_registered_root_that_cannot_be_read_is_an_error_and_not_left_out() {
    let dir = folder(&format!("[{GOOD}]"));
    let node = dir.path().join("nodes/broken");
    fs::create_dir_all(&node).expect("a folder");
    fs::write(node.join("root-ca.pem"), "no certificate").expect("a file");
    let (code, _, errors) = judge(dir.path(), &[]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("nodes/broken/root-ca.pem"), "{errors}");
}
