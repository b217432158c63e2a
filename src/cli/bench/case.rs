//! A case: workloads and response lengths, parsed from the flags or from the words of a `--case`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::BenchArgs;
use crate::bench::{Bench, LogNormal, Measurement, Workload};
use crate::cli::numbers::setting;
use crate::input::{Line, Lines};
use crate::usage::usage;

/// Workloads to measure at given response lengths.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The name in `--case`; `None` if the flags describe the only case.
    pub name: Option<String>,
    /// The workloads, in the order of measurement.
    pub workloads: Vec<Workload>,
    /// Response lengths.
    pub lengths: Lengths,
    /// True if matrix products are batch-invariant.
    pub batch_invariant: bool,
    /// File to write the lengths to.
    pub write_lengths: Option<PathBuf>,
}

/// Response lengths, as requested.
#[derive(Clone, Debug, PartialEq)]
pub enum Lengths {
    /// This many responses, with the lengths that the model produces.
    Sampled(usize),
    /// This many responses, each of this length in tokens.
    Equal(usize, usize),
    /// This many lengths sampled from a distribution.
    LogNormal(usize, LogNormal),
    /// A file with one length per line.
    File(PathBuf),
}

/// The result of a case.
#[derive(Debug, Serialize)]
pub struct CaseReport {
    /// The name of the case; `None` if it is the only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// True if matrix products were batch-invariant.
    pub batch_invariant: bool,
    /// Number of responses; `None` until the case starts.
    pub sequences: Option<usize>,
    /// Total number of tokens in the responses; `None` until the case starts.
    pub response_tokens: Option<usize>,
    /// Summary of the response lengths; `None` until the case starts.
    pub lengths: Option<Spread>,
    /// The measurements, one per finished workload.
    pub measurements: Vec<Measurement>,
    /// Workloads that were not started.
    pub not_run: Vec<String>,
    /// The error that ended the case, if any.
    pub error: Option<String>,
}

/// Smallest, mean and largest length in tokens.
#[derive(Debug, Serialize)]
pub struct Spread {
    least: usize,
    mean: f64,
    longest: usize,
}

/// Default number of responses.
pub const SEQUENCES: usize = 128;
/// Prefix of a log-normal `--lengths`.
const LOG_NORMAL: &str = "lognormal:";
/// Keys of a `--case`.
const KEYS: &str = "name, work, sequences, response-tokens, lengths, write-lengths, batch-invariant";

impl Case {
    /// Parses all cases from the flags.
    ///
    /// # Errors
    /// If a flag or a word is invalid, or two cases have the same name.
    pub fn all(args: &BenchArgs) -> Result<Vec<Self>> {
        if args.cases.is_empty() {
            return Ok(vec![Self::of(args)?]);
        }
        let cases = args.cases.iter().map(|words| Self::parse(args, words).with_context(|| format!("--case \"{words}\"")));
        let cases = cases.collect::<Result<Vec<Self>>>()?;
        for (number, case) in cases.iter().enumerate() {
            let first = cases.iter().position(|other| other.name == case.name);
            ensure!(
                first == Some(number),
                "two cases are named {}: give each case a different name",
                case.name.as_deref().unwrap_or_default()
            );
        }
        Ok(cases)
    }

    fn of(args: &BenchArgs) -> Result<Self> {
        Ok(Self {
            name: None,
            workloads: Workload::list(&args.work).map_err(anyhow::Error::msg)?,
            lengths: lengths(args.lengths.as_deref(), args.response_tokens, args.sequences)?,
            batch_invariant: args.compute.batch_invariant,
            write_lengths: args.write_lengths.clone(),
        })
    }

    /// Parses a `--case`, whose words override the flags.
    fn parse(args: &BenchArgs, words: &str) -> Result<Self> {
        let (mut name, mut work, mut batch_invariant, mut write_lengths) = (None, &*args.work, args.compute.batch_invariant, None);
        let (mut text, mut tokens, mut sequences) = (None, None, None);
        for word in words.split_whitespace() {
            let (key, value) =
                word.split_once('=').with_context(|| format!("\"{word}\" is not KEY=VALUE; expected one of the keys {KEYS}"))?;
            match key {
                "name" => name = Some(value.to_owned()),
                "work" => work = value,
                "sequences" => sequences = Some(number(key, value, "rollout.group_size")?),
                "response-tokens" => tokens = Some(number(key, value, "rollout.max_new_tokens")?),
                "lengths" => text = Some(value),
                "write-lengths" => write_lengths = Some(PathBuf::from(value)),
                "batch-invariant" => {
                    batch_invariant = value.parse().ok().with_context(|| format!("batch-invariant={value}: write true or false"))?;
                }
                _ => anyhow::bail!("unknown key \"{key}\"; expected one of {KEYS}"),
            }
        }
        ensure!(text.is_none() || tokens.is_none(), "lengths and response-tokens exclude each other: remove one of them");
        let has_lengths = text.is_some() || tokens.is_some();
        let text = text.or(args.lengths.as_deref().filter(|_| !has_lengths));
        let tokens = tokens.or(args.response_tokens.filter(|_| !has_lengths));
        Ok(Self {
            name: Some(name.context("the case has no name: add name=NAME")?),
            workloads: Workload::list(work).map_err(anyhow::Error::msg)?,
            lengths: lengths(text, tokens, sequences.or(args.sequences.filter(|_| !text.is_some_and(is_file))))?,
            batch_invariant,
            write_lengths,
        })
    }

    /// Returns the report of a case that has not started.
    pub fn report(&self) -> CaseReport {
        CaseReport {
            name: self.name.clone(),
            batch_invariant: self.batch_invariant,
            sequences: None,
            response_tokens: None,
            lengths: None,
            measurements: Vec::new(),
            not_run: self.workloads.iter().map(Workload::to_string).collect(),
            error: None,
        }
    }
}

impl CaseReport {
    /// Records the lengths that the case is measured with.
    pub fn start(&mut self, lengths: &[usize]) {
        self.sequences = Some(lengths.len());
        self.response_tokens = Some(lengths.iter().sum());
        self.lengths = Some(Spread::of(lengths));
    }
}

fn is_file(lengths: &str) -> bool {
    !lengths.starts_with(LOG_NORMAL)
}

/// Parses a number and checks it against the range of the setting `path`.
fn number<T: FromStr>(key: &str, value: &str, path: &'static str) -> Result<T> {
    setting(path)(value).map_err(|range| anyhow::anyhow!("{key}={value}: {range}"))
}

fn lengths(text: Option<&str>, tokens: Option<u32>, sequences: Option<usize>) -> Result<Lengths> {
    let count = sequences.unwrap_or(SEQUENCES);
    match (text, tokens) {
        (Some(text), _) if is_file(text) => {
            ensure!(
                sequences.is_none(),
                "a file of lengths has one line per response: remove --sequences, or write lognormal:MEAN:LONGEST"
            );
            Ok(Lengths::File(text.into()))
        }
        (Some(text), _) => {
            let distribution = text[LOG_NORMAL.len()..].parse().map_err(|error: String| anyhow::anyhow!("--lengths {text}: {error}"))?;
            Ok(Lengths::LogNormal(count, distribution))
        }
        (None, Some(tokens)) => Ok(Lengths::Equal(count, tokens as usize)),
        (None, None) => Ok(Lengths::Sampled(count)),
    }
}

impl Lengths {
    /// Returns the lengths in tokens, one per response.
    ///
    /// # Errors
    /// If sampling fails, or the file of lengths cannot be read or parsed.
    pub fn numbers(&self, bench: &Bench, end_tokens: &[u32]) -> Result<Vec<usize>> {
        match self {
            Self::Sampled(count) => bench.sampled_lengths(*count, end_tokens),
            Self::Equal(count, tokens) => Ok(vec![*tokens; *count]),
            Self::LogNormal(count, lengths) => Ok(lengths.sample(*count)),
            Self::File(path) => usage(read(path)),
        }
    }
}

fn read(path: &std::path::Path) -> Result<Vec<usize>> {
    let length = |line: Result<Line>| {
        let line = line?;
        let length: NonZeroUsize = line
            .text
            .parse()
            .ok()
            .with_context(|| format!("{}: expected a length (a whole number from 1), found \"{}\"", line.location, line.text))?;
        Ok(length.get())
    };
    let lengths: Vec<usize> = Lines::open(path)?.map(length).collect::<Result<_>>()?;
    ensure!(!lengths.is_empty(), "{} has no lengths: write one per line", path.display());
    Ok(lengths)
}

impl Spread {
    /// Summarizes lengths; zeros if there are none.
    pub fn of(lengths: &[usize]) -> Self {
        let mean = lengths.iter().sum::<usize>() as f64 / lengths.len().max(1) as f64;
        Self { least: lengths.iter().min().copied().unwrap_or(0), mean, longest: lengths.iter().max().copied().unwrap_or(0) }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn cases(words: &[&str]) -> Result<Vec<Case>> {
        Case::all(&Command::try_parse_from([&["bench"], words].concat())?.args)
    }

    #[test]
    fn case_all_lets_cases_override_flags() {
        let flags = ["--work", "rollout", "--sequences", "7", "--response-tokens", "9"];
        let plain = cases(&flags).unwrap();
        let expected = Case {
            name: None,
            workloads: vec![Workload::Rollout],
            lengths: Lengths::Equal(7, 9),
            batch_invariant: false,
            write_lengths: None,
        };
        assert_eq!(plain, std::slice::from_ref(&expected));
        let given = ["--case", "name=a", "--case", "name=b work=step,decode:3 lengths=lognormal:760:3072 batch-invariant=true"];
        let found = cases(&[&flags[..], &given].concat()).unwrap();
        let lengths = Lengths::LogNormal(7, "760:3072".parse().unwrap());
        assert_eq!(found[0], Case { name: Some("a".into()), ..expected });
        let workloads = vec![Workload::Step, Workload::Decode(3)];
        assert_eq!(found[1], Case { name: Some("b".into()), workloads, lengths, batch_invariant: true, write_lengths: None });
        let file = cases(&["--sequences", "7", "--case", "name=c lengths=a.txt write-lengths=b.txt"]).unwrap();
        assert_eq!((&file[0].lengths, &file[0].write_lengths), (&Lengths::File("a.txt".into()), &Some("b.txt".into())));
        assert_eq!(cases(&[]).unwrap()[0].lengths, Lengths::Sampled(SEQUENCES));
    }

    #[test]
    fn case_all_rejects_invalid_words() {
        let refused = |words: &[&str], expected: &str| {
            let error = format!("{:#}", cases(words).unwrap_err());
            assert!(error.contains(expected), "{words:?}: {error}");
        };
        refused(&["--case", "work=step"], "--case \"work=step\": the case has no name: add name=NAME");
        refused(&["--case", "name=a step"], "\"step\" is not KEY=VALUE; expected one of the keys name, work, sequences");
        refused(&["--case", "name=a steps=3"], "unknown key \"steps\"; expected one of name");
        refused(&["--case", "name=a sequences=0"], "sequences=0: it must be a whole number from 1");
        refused(&["--case", "name=a batch-invariant=yes"], "batch-invariant=yes: write true or false");
        refused(&["--case", "name=a work=sleep"], "unknown workload \"sleep\"");
        refused(&["--case", "name=a lengths=b response-tokens=3"], "lengths and response-tokens exclude each other");
        refused(&["--case", "name=a", "--case", "name=a"], "two cases are named a: give each case a different name");
        refused(&["--work", "sleep"], "unknown workload \"sleep\"; expected one of score");
        refused(&["--sequences", "3", "--lengths", "file"], "remove --sequences, or write lognormal:MEAN:LONGEST");
        refused(
            &["--lengths", "lognormal:3072:760"],
            "--lengths lognormal:3072:760: log-normal lengths of which 3% are capped at 760 cannot have",
        );
        refused(&["--lengths", "lognormal:760"], "write the mean and the longest length in tokens, as in lognormal:760:3072");
        refused(&["--lengths", "a", "--response-tokens", "3"], "cannot be used with");
        refused(&["--case", "name=a", "--profile", "b"], "cannot be used with");
    }

    #[test]
    fn read_parses_one_length_per_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lengths");
        let of = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(&path).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(of("3\n\n 5\n").unwrap(), [3, 5]);
        assert!(of("3\n0\n").unwrap_err().contains("line 2: expected a length (a whole number from 1), found \"0\""));
        assert!(of("\n").unwrap_err().contains("has no lengths: write one per line"));
    }
}
