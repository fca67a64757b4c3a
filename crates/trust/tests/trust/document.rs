//! The file as a document: what is refused and where, what is kept, and what an edit changes.

use comity_identity::{NodeId, UnixTime};
use comity_trust::{
    AllowRule, AllowRuleError, Attributes, Cause, Confirmed, Edit, EditError, Entry, KnownPeers,
    MAX_ATTRIBUTES, MAX_FILE_BYTES, MAX_LINE_BYTES, MAX_LINES, MAX_NAMES, MAX_VALUE_BYTES,
    MAX_VALUES, Name, NameError, NameItem, Names, NamesError, Networks, Origin, ParseError,
    Pattern, Pin, Side, Succeeded, Target, What, resolve,
};

use crate::world::{Ca, name};

fn id(number: u8) -> NodeId {
    NodeId::from_bytes([number; 32])
}

fn parse(lines: &str) -> Result<KnownPeers, ParseError> {
    KnownPeers::parse(&format!("comity-known-peers v1\n{lines}"))
}

fn refused(line: &str) -> ParseError {
    match parse(line) {
        Ok(_) => panic!("accepted: {line}"),
        Err(error) => error,
    }
}

fn pin_entry(names: &str, number: u8) -> Entry {
    Entry::new(
        Side::Dial,
        Names::one(name(names)),
        What::Pin(Pin::Node(id(number))),
    )
}

fn full_entry() -> Entry {
    let items = ["ops-db", "db1.example:5432", "büro"].map(|n| NameItem::Exact(name(n)));
    let names = Names::new(items.into()).expect("names");
    Entry {
        attributes: Attributes {
            addr: vec![name("192.0.2.1:7117"), name("[2001:db8::1]:7117")],
            services: vec!["pg".into(), "a,b c%".into()],
            roles: vec!["reader".into()],
            networks: vec!["corp".into()],
            next: Some(id(9).key_hash()),
            seq: Some(7),
            origin: Some(Origin::Invite),
            added: Some(UnixTime::from_secs(1_772_442_847)),
            confirmed: Some(Confirmed {
                at: UnixTime::from_secs(1_772_442_848),
                how: "words".into(),
            }),
            not_after: Some(UnixTime::from_secs(1_800_000_000)),
            successor: Some(id(8)),
            forked: Some(UnixTime::from_secs(1_790_000_000)),
            state: None,
            extra: vec![("x-note".into(), "Ärger & co = #1 @home".into())],
        },
        ..Entry::new(Side::Both, names, What::Pin(Pin::Node(id(1))))
    }
}

#[test]
fn every_attribute_reads_back() {
    let known = KnownPeers::empty()
        .with(Edit::Add(Box::new(full_entry())))
        .expect("added");
    let again = KnownPeers::parse(&known.to_text()).expect("parsed");
    assert_eq!(again.entry(2), Some(&full_entry()));
    let grouped = id(1).to_string();
    assert!(known.to_text().contains(&format!(" node {grouped} ")));
    assert!(known.to_text().is_ascii());
}

#[test]
fn hexadecimal_is_read_and_groups_are_written() {
    let known = parse(&format!("dial a node {}\n", id(1).to_hex())).expect("parsed");
    assert_eq!(known.entry(2).and_then(Entry::pin), Some(&Pin::Node(id(1))));
    let confirmed = Confirmed {
        at: UnixTime::from_secs(0),
        how: String::new(),
    };
    let edited = known
        .with(Edit::Confirm { line: 2, confirmed })
        .expect("edited");
    assert_eq!(
        edited.to_text(),
        format!(
            "comity-known-peers v1\ndial a node {} confirmed=1970-01-01T00:00:00Z\n",
            id(1)
        )
    );
}

#[test]
fn comments_blank_lines_and_line_ends_are_kept() {
    for text in [
        format!(
            "comity-known-peers v1\n# für dich ☃\n\n \t\ndial a node {}\n  # end",
            id(1)
        ),
        format!(
            "comity-known-peers v1\r\n# c\r\n\r\ndial a node {}\r\n",
            id(1)
        ),
        format!("comity-known-peers v1 \n\tdial\ta  node\t{} \t", id(1)),
        "comity-known-peers v1".to_owned(),
    ] {
        assert_eq!(KnownPeers::parse(&text).expect("parsed").to_text(), text);
    }
}

#[test]
fn a_file_begins_with_its_header() {
    for (text, hint) in [
        ("", None),
        ("\n", None),
        ("# comity-known-peers v1\n", None),
        (
            "comity-known-peers v2\n",
            Some("the file was written by another version of comity"),
        ),
        (
            "\u{feff}comity-known-peers v1\n",
            Some("remove the byte order mark"),
        ),
    ] {
        let error = KnownPeers::parse(text).expect_err("no header");
        assert_eq!(error.cause, Cause::Header);
        assert_eq!(error.hint.as_deref(), hint);
    }
}

#[test]
fn refusals_name_line_column_cause_and_the_nearest_spelling() {
    let id = id(1);
    for (line, column, message, hint) in [
        (
            format!("dail a node {id}"),
            1,
            "expected dial, accept or both, found \"dail\"",
            Some("dial"),
        ),
        (
            format!("@revoke both a node {id}"),
            1,
            "unknown marker \"@revoke\"",
            Some("@revoked"),
        ),
        (
            format!("dial a nod {id}"),
            8,
            "expected node, key or cert, found \"nod\"",
            Some("node"),
        ),
        ("dial".to_owned(), 5, "the line ends before its names", None),
        (
            "dial a".to_owned(),
            7,
            "the line ends before its kind",
            None,
        ),
        (
            "dial a node".to_owned(),
            12,
            "the line ends before its value",
            None,
        ),
        (
            format!("dial a node {id} role=x"),
            77,
            "unknown attribute \"role\"",
            Some("roles"),
        ),
        (
            format!("dial a node {id} X-a=x"),
            77,
            "unknown attribute \"X-a\"",
            None,
        ),
        (
            format!("dial a node {id} x-=x"),
            77,
            "unknown attribute \"x-\"",
            None,
        ),
        (
            format!("dial a node {id} reader"),
            77,
            "expected attribute=value, found \"reader\"",
            None,
        ),
        (
            format!("dial a node {id} seq=1 seq=1"),
            83,
            "the attribute \"seq\" is there twice",
            None,
        ),
        (
            format!("dial a node {id} x-a=1 x-a=2"),
            83,
            "the attribute \"x-a\" is there twice",
            None,
        ),
        (
            format!("dial a node {id} seq=01"),
            81,
            "the value of seq is not a number",
            None,
        ),
        (
            format!("dial a node {id} seq=18446744073709551616"),
            81,
            "the value of seq is not a number",
            None,
        ),
        (
            format!("dial a node {id} for="),
            81,
            "the value of for is empty",
            None,
        ),
        (
            format!("dial a node {id} for=a,,b"),
            83,
            "the value of for is empty",
            None,
        ),
        (
            format!("dial a node {id} for=a%0Ab"),
            82,
            "a percent sign that escapes nothing allowed",
            None,
        ),
        (
            format!("dial a node {id} origin=hnd"),
            84,
            "the value of origin is no origin we know",
            Some("hand"),
        ),
        (
            format!("dial a node {id} successor=ops"),
            87,
            "expected 8 groups of 7 characters or 64 hexadecimal digits, found 3 characters",
            None,
        ),
        (
            format!("dial a node {id} forked=yes"),
            84,
            "the value of forked is not a time such as 2026-03-02T09:14:07Z",
            None,
        ),
        (
            format!("dial a node {id} state=active"),
            77,
            "the attribute state is for lines of the kind ca",
            None,
        ),
        (
            format!("dial a key {id} seq=1 forked=2026-03-02T09:14:07Z"),
            82,
            "the attribute forked is for lines of the kind node",
            None,
        ),
        (
            format!("@revoked dial a cert {id} successor={id}"),
            86,
            "the attribute successor is for lines of the kind node",
            None,
        ),
        (
            "@ca-verified dial a state=next".to_owned(),
            21,
            "the attribute state is for lines of the kind ca",
            None,
        ),
        (
            format!("dial a node {id} state=nxt"),
            83,
            "the value of state is no state we know",
            Some("next"),
        ),
        (
            format!("dial a node {id} addr=label"),
            82,
            "the value of addr is not a list of host:port",
            None,
        ),
        (
            format!("dial a,b.example node {id}"),
            8,
            "b.example has no port, write b.example:7117",
            None,
        ),
        (
            format!("dial a,!b,%zz node {id}"),
            11,
            "a percent sign that escapes nothing allowed",
            None,
        ),
        (
            format!("dial büro node {id}"),
            7,
            "unexpected character 'ü'",
            None,
        ),
        (
            format!("dial a\u{7f} node {id}"),
            7,
            "unexpected character '\\u{7f}'",
            None,
        ),
        (
            format!("dial a ca {id}"),
            8,
            "a line marked @ca has the kind ca, and no other line has it",
            None,
        ),
        (
            format!("@ca dial a node {id}"),
            12,
            "a line marked @ca has the kind ca, and no other line has it",
            None,
        ),
        (
            "@ca dial * ca AAA=".to_owned(),
            15,
            "not a certificate of an authority",
            None,
        ),
        (
            "@ca dial * ca ***".to_owned(),
            15,
            "the certificate is not base64 of DER",
            None,
        ),
        (
            "@ca-verified accept a.example:1".to_owned(),
            14,
            "@ca-verified is for the side dial and exact names",
            None,
        ),
        (
            "@ca-verified dial *.example:1".to_owned(),
            14,
            "@ca-verified is for the side dial and exact names",
            None,
        ),
    ] {
        let error = refused(&format!("# first\n{line}\n"));
        assert_eq!((error.line, error.column), (3, column), "{line}");
        assert!(
            error.cause.to_string().starts_with(message),
            "{line}: {error}"
        );
        if let Some(word) = hint {
            assert_eq!(
                error.hint,
                Some(format!("did you mean {word:?}?")),
                "{line}"
            );
        }
    }
    assert_eq!(
        refused("dial ü node x").hint.as_deref(),
        Some("write it as %C3%BC")
    );
}

#[test]
fn a_mistyped_id_refuses_the_line() {
    let mut text = id(1).to_string();
    let wrong = if text.starts_with('A') { "B" } else { "A" };
    text.replace_range(0..1, wrong);
    let error = refused(&format!("dial a node {text}"));
    assert!(matches!(error.cause, Cause::Hash(_)));
    assert_eq!(error.column, 13);
}

#[test]
fn limits_hold_at_the_limit_and_not_one_past_it() {
    let id = id(1);
    let line = |length: usize| {
        let start = format!("dial a node {id} x-a=");
        format!("{start}{}", "y".repeat(length - start.len()))
    };
    assert!(parse(&line(MAX_LINE_BYTES)).is_ok());
    assert_eq!(
        refused(&line(MAX_LINE_BYTES + 1)).cause,
        Cause::LineTooLong {
            found: MAX_LINE_BYTES + 1
        }
    );
    let names = |count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("n{n}")).collect();
        format!("dial {} node {id}", names.join(","))
    };
    assert!(parse(&names(MAX_NAMES)).is_ok());
    assert_eq!(
        refused(&names(MAX_NAMES + 1)).cause,
        Cause::Names(NamesError::TooMany {
            found: MAX_NAMES + 1
        })
    );
    let attributes = |count: usize| {
        let attributes: String = (0..count).map(|n| format!(" x-{n}=1")).collect();
        format!("dial a node {id}{attributes}")
    };
    assert!(parse(&attributes(MAX_ATTRIBUTES)).is_ok());
    assert_eq!(
        refused(&attributes(MAX_ATTRIBUTES + 1)).cause,
        Cause::TooManyAttributes
    );
    let values = |count: usize| format!("dial a node {id} for={}", vec!["s"; count].join(","));
    assert!(parse(&values(MAX_VALUES)).is_ok());
    assert!(parse(&values(MAX_VALUES + 1)).is_err());
    let value = |length: usize| format!("dial a node {id} for={}", "s".repeat(length));
    assert!(parse(&value(MAX_VALUE_BYTES)).is_ok());
    assert!(parse(&value(MAX_VALUE_BYTES + 1)).is_err());
}

#[test]
fn larger_files_than_64_mib_are_refused_before_they_are_read() {
    // One long comment per line: cheap to read, so that the size alone decides.
    let header = "comity-known-peers v1\n";
    let line = format!("#{}\n", "c".repeat(64 * 1024 - 3));
    let mut text = String::with_capacity(MAX_FILE_BYTES + 1);
    text.push_str(header);
    while text.len() + line.len() <= MAX_FILE_BYTES {
        text.push_str(&line);
    }
    text.extend(std::iter::repeat_n('\n', MAX_FILE_BYTES - text.len()));
    let known = KnownPeers::parse(&text).expect("at the limit");
    assert_eq!(
        known.with(Edit::Add(Box::new(pin_entry("a", 1)))),
        Err(EditError::FileTooLarge)
    );
    text.push('\n');
    let error = KnownPeers::parse(&text).expect_err("one past it");
    assert_eq!(
        error.cause,
        Cause::FileTooLarge {
            found: MAX_FILE_BYTES + 1
        }
    );
}

#[test]
fn more_than_a_million_lines_are_refused() {
    let text = |lines: usize| format!("comity-known-peers v1{}", "\n".repeat(lines));
    let known = KnownPeers::parse(&text(MAX_LINES)).expect("at the limit");
    assert_eq!(known.line_count(), MAX_LINES);
    let edited = known.with(Edit::Add(Box::new(pin_entry("a", 1))));
    assert_eq!(edited, Err(EditError::TooManyLines));
    let error = KnownPeers::parse(&text(MAX_LINES + 1)).expect_err("one past it");
    assert_eq!(
        (error.line, error.cause),
        (MAX_LINES + 1, Cause::TooManyLines)
    );
}

#[test]
fn an_authority_stands_on_its_line_and_reads_back() {
    let ca = Ca::new("corp");
    let line = ca.line(
        "both",
        "*.corp.example,db.example,!x.example",
        "networks=corp",
    );
    let known = parse(&format!("{line}\n")).expect("parsed");
    let entry = known.entry(2).expect("entry").clone();
    assert_eq!(entry.anchor().expect("anchor").der(), ca.anchor.der());
    let copy = KnownPeers::empty()
        .with(Edit::Add(Box::new(entry)))
        .expect("added");
    assert_eq!(copy.to_text(), format!("comity-known-peers v1\n{line}\n"));
}

#[test]
fn an_authority_line_can_be_revoked_by_its_marker() {
    let ca = Ca::new("corp");
    let line = ca
        .line("dial", "*", "networks=corp")
        .replace("@ca", "@revoked");
    let known = parse(&line).expect("parsed");
    assert_eq!(known.revocation_of_key(&ca.anchor.key()), Some(2));
    // Its certificate stays on the line when the line is written anew.
    let confirmed = Confirmed {
        at: UnixTime::from_secs(0),
        how: String::new(),
    };
    let edited = known
        .with(Edit::Confirm { line: 2, confirmed })
        .expect("edited");
    let expected = format!("{line} confirmed=1970-01-01T00:00:00Z");
    assert_eq!(edited.to_text().lines().nth(1), Some(expected.as_str()));
    let entry = edited.entry(2).expect("entry");
    let anchor = entry.revoked_authority.as_ref().expect("certificate");
    assert_eq!(anchor.der(), ca.anchor.der());
}

#[test]
fn edits_leave_other_lines_byte_identical() {
    let (a, b, c) = (id(1), id(2), id(3));
    let text = format!(
        "comity-known-peers v1\r\n# one\r\ndial  a  node {a}\r\n\r\ndial b node {}\r\n# two\r\n",
        b.to_hex()
    );
    let known = KnownPeers::parse(&text).expect("parsed");
    let added = known
        .with(Edit::Add(Box::new(pin_entry("c", 3))))
        .expect("added");
    assert_eq!(added.to_text(), format!("{text}dial c node {c}\r\n"));
    let removed = added
        .with(Edit::Remove { lines: vec![3] })
        .expect("removed");
    assert_eq!(
        removed.to_text(),
        text.replace(&format!("dial  a  node {a}\r\n"), "") + &format!("dial c node {c}\r\n")
    );
    assert!(!removed.has_pin_named(&name("a")));
    let entry = Box::new(pin_entry("d", 4));
    let replaced = known
        .with(Edit::Replace { line: 3, entry })
        .expect("replaced");
    assert_eq!(
        replaced.to_text(),
        text.replace(
            &format!("dial  a  node {a}"),
            &format!("dial d node {}", id(4))
        )
    );
}

#[test]
fn what_a_rotation_says_of_a_line_survives_its_revocation() {
    let ca = Ca::new("corp").line("both", "*", "not-after=2026-05-01T00:00:00Z state=retiring");
    let pin = format!(
        "both ops node {} not-after=2026-05-01T00:00:00Z successor={} forked=2026-04-01T00:00:00Z",
        id(1),
        id(2)
    );
    for line in [&ca, &pin] {
        let read = parse(line).expect("read").entry(2).cloned().expect("entry");
        let revoked = match line.strip_prefix("@ca") {
            Some(rest) => format!("@revoked{rest}"),
            None => format!("@revoked {line}"),
        };
        let known = parse(&revoked).expect("read");
        let entry = known.entry(2).expect("entry");
        assert!(matches!(entry.what, What::Revoked(_)));
        assert_eq!(entry.attributes, read.attributes);
    }
}

/// Old keys with three lines of names, and what a succession makes of them.
fn succession() -> (KnownPeers, Edit) {
    let entry = |names, number| pin_entry(names, number);
    let known = parse(&format!(
        "# kept\ndial a node {0}\n# between\ndial b node {0}\ndial c node {1}",
        id(1),
        id(5)
    ))
    .expect("read");
    let succeeded = |line, names| {
        let mut old = entry(names, 1);
        old.attributes.successor = Some(id(2));
        old.attributes.not_after = Some(UnixTime::from_secs(1_800_000_000));
        let mut middle = entry(names, 2);
        middle.attributes.successor = Some(id(3));
        Succeeded {
            line,
            old,
            new: vec![middle, entry(names, 3)],
            dropped: Vec::new(),
        }
    };
    let lines = vec![succeeded(3, "a"), succeeded(5, "b")];
    (known, Edit::Succeed { lines })
}

#[test]
fn a_succession_writes_below_each_line_and_leaves_the_others() {
    let (known, edit) = succession();
    let after = known.with(edit).expect("succeeded");
    let text = after.to_text();
    let mut words = text.lines().map(|line| {
        let word = line.split(' ').nth(1).unwrap_or_default();
        (word, line.contains("successor="))
    });
    let expected = [
        ("v1", false),
        ("kept", false),
        ("a", true),
        ("a", true),
        ("a", false),
        ("between", false),
        ("b", true),
        ("b", true),
        ("b", false),
        ("c", false),
    ];
    assert!(words.by_ref().eq(expected), "{text}");
    assert!(text.ends_with(&format!("dial c node {}", id(5))), "{text}");
    assert_eq!(KnownPeers::parse(&text).as_ref(), Ok(&after));
}

#[test]
fn a_succession_drops_lines_wherever_they_stand_and_none_that_it_changes() {
    let (known, edit) = succession();
    let Edit::Succeed { mut lines } = edit else {
        panic!("a succession");
    };
    lines[0].dropped = vec![6, 3, 5];
    let after = known.with(Edit::Succeed {
        lines: lines.clone(),
    });
    let after = after.expect("succeeded").to_text();
    assert!(!after.contains("dial c"), "{after}");
    assert_eq!(after.lines().filter(|l| l.starts_with("dial a")).count(), 3);
    assert_eq!(after.lines().filter(|l| l.starts_with("dial b")).count(), 3);
    for line in [2, 7] {
        lines[0].dropped = vec![line];
        let edit = Edit::Succeed {
            lines: lines.clone(),
        };
        assert_eq!(known.with(edit), Err(EditError::NoEntry { line }));
    }
}

#[test]
fn a_succession_adds_no_key_that_is_there_already() {
    let (known, edit) = succession();
    let known = known
        .with(Edit::AddKey(Box::new(pin_entry("a", 3))))
        .expect("added");
    let after = known.with(edit).expect("succeeded");
    let same = after
        .entries()
        .filter(|(_, entry)| **entry == pin_entry("a", 3));
    assert_eq!(same.count(), 1);
}

#[test]
fn a_succession_at_the_end_of_a_file_without_a_line_end_gains_one() {
    let known = parse(&format!("dial a node {}", id(1))).expect("read");
    let lines = vec![Succeeded {
        line: 2,
        old: pin_entry("a", 1),
        new: vec![pin_entry("a", 2)],
        dropped: Vec::new(),
    }];
    let after = known.with(Edit::Succeed { lines }).expect("succeeded");
    let expected = format!(
        "comity-known-peers v1\ndial a node {}\ndial a node {}\n",
        id(1),
        id(2)
    );
    assert_eq!(after.to_text(), expected);
}

#[test]
fn a_succession_of_another_key_than_the_one_on_the_line_is_refused() {
    let (known, edit) = succession();
    let Edit::Succeed { mut lines } = edit else {
        panic!("a succession");
    };
    for line in [6, 4, 99] {
        lines[1].line = line;
        let edit = Edit::Succeed {
            lines: lines.clone(),
        };
        assert_eq!(known.with(edit), Err(EditError::NoEntry { line }));
    }
}

#[test]
fn freezing_marks_every_line_and_keeps_the_first_time() {
    let known = parse(&format!(
        "dial a node {0} forked=2026-03-02T09:14:07Z\ndial b node {0}\ndial c node {0}\n",
        id(1)
    ))
    .expect("read");
    let at = UnixTime::from_secs(1_800_000_000);
    let frozen = known
        .with(Edit::Freeze {
            lines: vec![2, 3],
            at,
        })
        .expect("frozen");
    let forked: Vec<_> = frozen.entries().map(|(_, e)| e.attributes.forked).collect();
    let first = "2026-03-02T09:14:07Z".parse().ok();
    assert_eq!(forked, [first, Some(at), None]);
    let missing = Edit::Freeze { lines: vec![9], at };
    assert_eq!(known.with(missing), Err(EditError::NoEntry { line: 9 }));
}

#[test]
fn a_last_line_without_an_end_gains_one_when_something_follows() {
    let text = format!("comity-known-peers v1\ndial a node {}", id(1));
    let known = KnownPeers::parse(&text).expect("parsed");
    let added = known
        .with(Edit::Add(Box::new(pin_entry("b", 2))))
        .expect("added");
    assert_eq!(added.to_text(), format!("{text}\ndial b node {}\n", id(2)));
    assert_eq!(added.entries().count(), 2);
    let entry = Box::new(pin_entry("c", 3));
    let replaced = known
        .with(Edit::Replace { line: 2, entry })
        .expect("replaced");
    assert!(!replaced.to_text().ends_with('\n'));
}

#[test]
fn edits_of_lines_that_are_no_entries_are_refused() {
    let known = parse(&format!("# comment\ndial a node {}\n", id(1))).expect("parsed");
    for line in [0, 1, 2, 4, usize::MAX] {
        let refused = Err(EditError::NoEntry { line });
        let entry = Box::new(pin_entry("b", 2));
        assert_eq!(
            known.with(Edit::Remove {
                lines: vec![3, line]
            }),
            refused
        );
        assert_eq!(known.with(Edit::Replace { line, entry }), refused);
    }
}

#[test]
fn a_name_never_takes_away_somebody_elses_entry() {
    let known = parse(&format!(
        "dial ops,db.example:1 node {}\naccept laptop node {}\n",
        id(1),
        id(2)
    ))
    .expect("parsed");
    let taken = |text: &str, line| {
        let name = name(text);
        Err(EditError::NameTaken { name, line })
    };
    let add = |names: &str| known.with(Edit::Add(Box::new(pin_entry(names, 9))));
    assert_eq!(add("ops"), taken("ops", 2));
    assert_eq!(add("db.example:1"), taken("db.example:1", 2));
    // A label is one peer in both directions; a host:port is not.
    assert_eq!(add("laptop"), taken("laptop", 3));
    let accepting = Entry {
        side: Side::Accept,
        ..pin_entry("db.example:1", 9)
    };
    assert!(known.with(Edit::Add(Box::new(accepting))).is_ok());
    let entry = Box::new(pin_entry("laptop", 1));
    assert_eq!(
        known.with(Edit::Replace { line: 2, entry }),
        taken("laptop", 3)
    );
    // Replacing the key of a name is what Replace is for, and AddKey says so outright.
    let entry = Box::new(pin_entry("ops", 9));
    assert!(
        known
            .with(Edit::Replace {
                line: 2,
                entry: entry.clone()
            })
            .is_ok()
    );
    let both = known.with(Edit::AddKey(entry)).expect("added");
    assert_eq!(both.pins_named(&name("ops"), None).len(), 2);
}

#[test]
fn adding_the_same_again_is_refused() {
    let known = KnownPeers::empty()
        .with(Edit::Add(Box::new(pin_entry("a", 1))))
        .expect("added");
    for edit in [
        Edit::Add(Box::new(pin_entry("a", 1))),
        Edit::AddKey(Box::new(pin_entry("a", 1))),
    ] {
        assert_eq!(known.with(edit), Err(EditError::AlreadyThere { line: 2 }));
    }
    let memory = Entry::new(
        Side::Dial,
        Names::one(name("a.example:1")),
        What::CaVerified,
    );
    let known = known
        .with(Edit::Add(Box::new(memory.clone())))
        .expect("added");
    let again = known.with(Edit::Add(Box::new(memory)));
    assert_eq!(again, Err(EditError::AlreadyThere { line: 3 }));
}

#[test]
fn what_would_be_read_back_as_something_else_is_not_written() {
    let attributes = |change: &dyn Fn(&mut Attributes)| {
        let mut entry = pin_entry("a", 1);
        change(&mut entry.attributes);
        KnownPeers::empty().with(Edit::Add(Box::new(entry)))
    };
    let confirmed = |how: &str| Confirmed {
        at: UnixTime::from_secs(0),
        how: how.into(),
    };
    for result in [
        attributes(&|a| a.services = vec!["a\nb".into()]),
        attributes(&|a| a.services = vec![String::new()]),
        attributes(&|a| a.roles = vec!["r".repeat(MAX_VALUE_BYTES + 1)]),
        attributes(&|a| a.networks = vec!["n".into(); MAX_VALUES + 1]),
        attributes(&|a| a.extra = vec![("note".into(), "x".into())]),
        attributes(&|a| a.extra = vec![("x-a b".into(), "x".into())]),
        attributes(&|a| a.extra = vec![("x-a".into(), "\u{85}".into())]),
        attributes(&|a| a.extra = vec![("x-a".into(), "y".repeat(MAX_LINE_BYTES))]),
        attributes(&|a| a.addr = vec![name("label")]),
        attributes(&|a| a.confirmed = Some(confirmed("two words"))),
        attributes(&|a| a.confirmed = Some(confirmed("UPPER"))),
    ] {
        assert!(
            matches!(result, Err(EditError::Unrepresentable { .. })),
            "{result:?}"
        );
    }
}

#[test]
fn hostile_names_never_make_a_second_line_or_another_entry() {
    // T24. The names that Tuweni wrote unescaped into its line file.
    let long = "x".repeat(64 * 1024);
    let forged = format!("a\n@revoked both a node {}", id(1));
    for text in [
        "a b",
        "a\nb",
        "a\r\nb",
        "a#b",
        "#a",
        "@ca",
        "@revoked",
        "a\0b",
        "a\u{202e}b",
        "😀",
        "a,b",
        "a=b",
        "a%0Ab",
        "%61",
        "*",
        "!a",
        "a\tb",
        "a\u{2028}b",
        "a\u{85}b",
        &forged,
        &long,
    ] {
        assert!(Name::parse(text).is_err(), "{text:?}");
    }
    for text in ["أهلا", "büro", "名前", "a-b_c9"] {
        let label = name(text);
        let known = KnownPeers::empty()
            .with(Edit::Add(Box::new(pin_entry(text, 1))))
            .expect("added");
        let again = KnownPeers::parse(&known.to_text()).expect("parsed");
        assert_eq!(again.line_count(), 2);
        assert!(known.to_text().is_ascii());
        assert_eq!(again.pins_named(&label, None).len(), 1);
    }
    assert_eq!(
        Name::parse("a\nb"),
        Err(NameError::Character { found: '\n' })
    );
}

#[test]
fn patterns_match_and_exclude_by_line() {
    let known = parse(&format!(
        "dial *.example:7117,!secret.example:7117 node {}\ndial db.example:7117 node {}\n",
        id(1),
        id(2)
    ))
    .expect("parsed");
    let lines = |text: &str| -> Vec<usize> {
        let pins = known.pins_named(&name(text), None);
        pins.iter().map(|(line, _)| *line).collect()
    };
    assert_eq!(lines("db.example:7117"), [2, 3]);
    assert_eq!(lines("web.example:7117"), [2]);
    assert_eq!(lines("secret.example:7117"), [0; 0]);
    assert_eq!(lines("web.example:22"), [0; 0]);
}

#[test]
fn a_label_beside_a_pattern_is_as_taken_as_any_other() {
    let known = parse(&format!(
        "both laptop,*.corp.example:* node {} addr=db.corp.example:7117\n",
        id(1)
    ))
    .expect("parsed");
    let laptop = name("laptop");
    assert!(known.has_pin_named(&laptop));
    assert_eq!(known.pins_named(&laptop, None).len(), 1, "once");
    assert!(matches!(
        resolve("laptop", &known),
        Ok(Target::Known { .. })
    ));
    let taken = Err(EditError::NameTaken {
        name: laptop,
        line: 2,
    });
    assert_eq!(
        known.with(Edit::Add(Box::new(pin_entry("laptop", 2)))),
        taken
    );
    // The rule that names a network of this name does not let the peer in by mistake, nor the
    // reverse.
    let both = parse(&format!(
        "both corp,*.corp.example:* node {}\nboth x node {} networks=corp\n",
        id(1),
        id(2)
    ))
    .expect("parsed");
    assert!(matches!(
        AllowRule::parse("corp", &both, &Networks::empty()),
        Err(AllowRuleError::Ambiguous(_))
    ));
}

#[test]
fn an_exact_name_that_its_own_line_excludes_matches_nothing_and_stays_taken() {
    let known = parse(&format!("dial laptop,!lap* node {}\n", id(1))).expect("parsed");
    assert!(known.pins_named(&name("laptop"), None).is_empty());
    assert!(known.has_pin_named(&name("laptop")));
}

#[test]
fn a_pattern_for_hosts_without_port_is_refused_where_it_could_match_no_peer() {
    for (names, column, pattern) in [
        ("*.corp.example", 6, "*.corp.example"),
        ("db?.example", 6, "db?.example"),
        ("[2001:db8::*]", 6, "[2001:db8::*]"),
        // A negation that excludes nobody lets in whom it means.
        ("*.example:*,!secret.example", 18, "!secret.example"),
    ] {
        let error = refused(&format!("dial {names} node {}", id(1)));
        let message = format!("{pattern} has no port and matches no peer, write {pattern}:*");
        assert_eq!((error.column, error.cause.to_string()), (column, message));
    }
    let error = refused(&format!("dial spiffe://corp/* node {}", id(1)));
    let found = NamesError::PatternCharacter { found: '/' };
    assert_eq!(error.cause, Cause::Names(found));
    for names in [
        "lap*",
        "*",
        "*:*",
        "*.corp.example:*",
        "db?.example:22",
        "[2001:db8::*]:*",
    ] {
        assert!(
            parse(&format!("dial {names} node {}", id(1))).is_ok(),
            "{names}"
        );
    }
    // The same holds for entries that a program adds; a revocation's names are for people.
    let items = vec![NameItem::Pattern(
        Pattern::parse("*.example").expect("pattern"),
    )];
    let entry = |what| Entry::new(Side::Dial, Names::new(items.clone()).expect("names"), what);
    let add = |what| KnownPeers::empty().with(Edit::Add(Box::new(entry(what))));
    assert!(matches!(
        add(What::Pin(Pin::Node(id(1)))),
        Err(EditError::Unrepresentable { cause: Some(_) })
    ));
    assert!(add(What::Revoked(Pin::Node(id(1)))).is_ok());
}
