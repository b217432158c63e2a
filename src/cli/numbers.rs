//! Value parsers for numeric flags, with the same ranges as settings. Errors name the flag (by clap) and its range.

use std::str::FromStr;

use toml::Value;

use crate::config::range::{Range, whole};
use crate::train::settings::table::{MAX_COUNT, ROWS};

/// Range of counts without a narrower limit.
pub const COUNT_FROM_1: Range = whole(1, MAX_COUNT);

/// Returns a parser of numbers within a range.
pub fn within<T: FromStr>(range: Range) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let value = match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), _) => Value::Integer(number),
            (_, Ok(number)) => Value::Float(number),
            _ => Value::String(text.to_owned()),
        };
        let refused = || format!("it must be {}", range.describe());
        range.check("it", &value).map_err(|_| refused())?;
        text.parse().map_err(|_| refused())
    }
}

/// Returns a parser of numbers within the range of a setting, given by its full name.
pub fn setting<T: FromStr>(path: &'static str) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    let row = ROWS.iter().find(|row| row.path == path);
    within(row.map_or(Range::Text, |row| row.range))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use crate::cli::Cli;

    #[test]
    fn within_errors_name_flag_and_range() {
        let check = |words: &[&str], expected: &str| {
            let error = Cli::command().try_get_matches_from([&["rlvr"], words].concat()).unwrap_err().to_string();
            assert!(error.contains(expected), "{words:?}: {error}");
        };
        check(&["train", "--steps", "-1"], "invalid value '-1' for '--steps <STEPS>': it must be a whole number from 1 to 1000000000");
        check(&["train", "--steps", "ten"], "it must be a whole number from 1 to 1000000000");
        check(&["train", "--seed", "18446744073709551615"], "it must be a whole number from 0 to 9223372036854775807");
        check(&["train", "--lora", "-8"], "'--lora <RANK>': it must be a whole number from 0 to 65536");
        check(&["train", "--label-noise", "nan"], "'--label-noise <SHARE>': it must be a number from 0 to 1");
        check(&["eval", "--model", "tiny", "--benchmarks", "tiny", "--samples", "0"], "it must be a whole number from 1 to 100000");
        check(&["eval", "--model", "tiny", "--benchmarks", "tiny", "--limit", "-5"], "it must be a whole number from 0 to 1000000000");
        check(&["sample", "--model", "tiny", "--prompt", "a", "-n", "0"], "it must be a whole number from 1 to 100000");
        for temperature in ["inf", "-1", "nan", "1e-9"] {
            let words = ["sample", "--model", "tiny", "--prompt", "a", &format!("--temperature={temperature}")];
            check(&words, "it must be 0, or a number from 0.001 to 1000");
        }
        check(&["sample", "--model", "tiny", "--prompt", "a", "--top-p", "0"], "it must be a number above 0 and at most 1");
        check(&["score", "--model", "tiny", "--input", "a", "--batch-tokens", "0"], "it must be a whole number from 1 to 1000000000");
        check(&["select", "--top", "0"], "it must be a whole number from 1 to 1000000000");
        check(&["bench", "--seconds", "inf"], "it must be a number from 0 to 1000000");
        check(&["bench", "--workers", "1000000"], "it must be a whole number from 0 to 1024");
        check(&["pretrain", "--out", "a", "--steps", "0"], "it must be a whole number from 1 to 1000000000");
        check(&["plan", "--gpu-memory", "nan"], "it must be a number above 0 and at most 1000000");
        check(&["study", "a", "--jobs", "0"], "it must be a whole number from 1 to 65535");
        check(
            &["init", "--like", "tiny", "--out", "a", "--max-shard-bytes", "0"],
            "it must be a whole number from 1 to 9223372036854775807",
        );
    }

    /// Also checks that every setting named by a flag exists.
    #[test]
    fn setting_accepts_default_values() {
        for command in [
            "bench",
            "train --steps 3 --seed 0 --lora 8 --label-noise 0.5 --label-seed 7",
            "sample --model tiny --prompt a",
            "score --model tiny --input a",
        ] {
            Cli::command().try_get_matches_from(std::iter::once("rlvr").chain(command.split(' '))).unwrap();
        }
    }
}
