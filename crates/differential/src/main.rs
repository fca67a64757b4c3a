//! `cargo xtask differential`: the counts of many mutants, or one of them to look at.

use std::io::Write;
use std::process::ExitCode;

use comity_differential::{Corpus, compare, show};

const USAGE: &str = "usage: comity-differential MUTANTS SEED
       comity-differential show NUMBER SEED";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (text, code) = match answer(&arguments) {
        Ok((text, true)) => (text, ExitCode::SUCCESS),
        Ok((text, false)) => (text, ExitCode::FAILURE),
        Err(error) => (format!("differential: {error}"), ExitCode::from(2)),
    };
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => code,
        // A closed pipe is a normal end.
        Err(_) => code,
    }
}

/// The text, and whether all is well.
fn answer(arguments: &[&str]) -> Result<(String, bool), Box<dyn std::error::Error>> {
    let corpus = Corpus::read()?;
    match arguments {
        ["show", number, seed] => Ok((show(&corpus, seed.parse()?, number.parse()?)?, true)),
        [mutants, seed] => {
            let count = compare(&corpus, seed.parse()?, mutants.parse()?);
            Ok((count.to_string(), count.laxer.is_empty()))
        }
        _ => Err(USAGE.into()),
    }
}
