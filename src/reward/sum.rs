//! Parses and computes weighted sums of rewards, such as `outcome + 0.5*format - 0.1*length(64, 80)`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, ensure};

use super::{Batch, Needs, Reward, RewardSettings, by_name, length, usages};

/// The weighted sum of rewards that a run uses.
pub struct Rewards {
    parts: Vec<Part>,
}

struct Part {
    name: &'static str,
    weight: f64,
    needs: Needs,
    reward: Box<dyn Reward>,
}

/// The reward of one response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RewardBreakdown {
    /// The weighted sum.
    pub total: f32,
    /// Each reward by name, without its weight.
    pub parts: BTreeMap<String, f32>,
}

impl Rewards {
    /// Creates the rewards in `settings`, for responses of at most `max_new_tokens` tokens.
    ///
    /// # Errors
    /// If `reward.name` is not a valid sum, a name is unknown (the message lists the known ones) or repeated, a parameter is out of range,
    /// or the `command` reward lacks its program.
    pub fn new(settings: &RewardSettings, max_new_tokens: usize) -> Result<Self> {
        let terms = parse(&settings.name).with_context(|| format!("reward.name is \"{}\"", settings.name))?;
        let mut parts = Vec::new();
        for Term { weight, name, parameters } in terms {
            let known = by_name(&name)?;
            let usage = known.usage();
            ensure!(parameters.len() == known.parameters.len(), "{name} has {} parameters: write it as {usage}", parameters.len());
            ensure!(
                parts.iter().all(|part: &Part| part.name != known.name),
                "reward.name has {name} twice: write it once, with one weight"
            );
            let reward = (known.make)(&parameters, settings)?;
            parts.push(Part { name: known.name, weight, needs: known.needs, reward });
        }
        if settings.overlong_buffer > 0 {
            let reward = length::overlong(settings.overlong_buffer, max_new_tokens)?;
            parts.push(Part { name: "overlong", weight: 1.0, needs: Needs::NOTHING, reward });
        }
        Ok(Self { parts })
    }

    /// True if the sum is the reward `outcome` with weight 1: each response has 1 if it is correct, and 0 otherwise.
    pub fn is_outcome_alone(&self) -> bool {
        matches!(&self.parts[..], [part] if part.name == "outcome" && part.weight == 1.0)
    }

    /// Returns the number of rewards in the sum.
    pub fn count(&self) -> usize {
        self.parts.len()
    }

    /// True if a reward needs a label for each example.
    pub fn needs_label(&self) -> bool {
        self.parts.iter().any(|part| part.needs.label)
    }

    /// True if a reward needs the policy's probabilities.
    pub fn needs_scorer(&self) -> bool {
        self.parts.iter().any(|part| part.needs.scorer)
    }

    /// True if a reward needs the user's program.
    pub fn needs_program(&self) -> bool {
        self.parts.iter().any(|part| part.needs.program)
    }

    /// True if a reward looks for the answer in a box.
    pub fn reads_boxes(&self) -> bool {
        self.parts.iter().any(|part| part.needs.boxes)
    }

    /// Computes the rewards of a step's responses, in order.
    ///
    /// # Errors
    /// If a reward fails, or is not a finite number.
    pub fn of_batch(&self, batch: &Batch) -> Result<Vec<RewardBreakdown>> {
        let mut breakdowns = vec![RewardBreakdown::default(); batch.responses.len()];
        let mut totals = vec![0.0f64; batch.responses.len()];
        for part in &self.parts {
            let rewards = part.reward.of_batch(batch).with_context(|| format!("the reward {} failed", part.name))?;
            for ((reward, breakdown), total) in rewards.into_iter().zip(&mut breakdowns).zip(&mut totals) {
                ensure!(
                    reward.is_finite(),
                    "the reward {} is {reward}; it must be a finite number: check the model's weights, or the program that computes it",
                    part.name
                );
                *total += part.weight * f64::from(reward);
                breakdown.parts.insert(part.name.to_owned(), reward);
            }
        }
        breakdowns.iter_mut().zip(totals).for_each(|(breakdown, total)| breakdown.total = total as f32);
        Ok(breakdowns)
    }
}

/// One term of a sum.
#[derive(Debug, PartialEq)]
struct Term {
    /// The weight, including its sign.
    weight: f64,
    name: String,
    parameters: Vec<f64>,
}

/// Parses `[+|-] [number *] name [(number, ...)]`, followed by more terms that each start with a sign.
fn parse(text: &str) -> Result<Vec<Term>> {
    let mut reader = Reader { rest: text.trim() };
    ensure!(!reader.rest.is_empty(), "it is empty; expected one of {}", usages());
    let mut terms = Vec::new();
    while !reader.rest.is_empty() {
        let sign = if reader.take("-") { -1.0 } else { 1.0 };
        if sign > 0.0 && !reader.take("+") && !terms.is_empty() {
            return Err(reader.expected("+ or -"));
        }
        let weight = match reader.number()? {
            Some(_) if !reader.take("*") => return Err(reader.expected("* and a reward")),
            weight => sign * weight.unwrap_or(1.0),
        };
        let name = reader.name()?;
        terms.push(Term { weight, name, parameters: reader.parameters()? });
    }
    Ok(terms)
}

/// The unparsed rest of a text, without leading spaces.
struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    /// Consumes `sign` if the text starts with it. Returns true if so.
    fn take(&mut self, sign: &str) -> bool {
        let after = self.rest.strip_prefix(sign);
        self.rest = after.map_or(self.rest, str::trim_start);
        after.is_some()
    }

    /// Parses a number with an optional minus sign. `None` if the text does not start with a number.
    fn number(&mut self) -> Result<Option<f64>> {
        let body = self.rest.strip_prefix('-').unwrap_or(self.rest);
        if !body.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return Ok(None);
        }
        let mut end = body.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(body.len());
        if let Some(exponent) = body[end..].strip_prefix(['e', 'E']) {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            let count = digits.bytes().take_while(u8::is_ascii_digit).count();
            end = if count > 0 { body.len() - digits.len() + count } else { end };
        }
        let (number, rest) = self.rest.split_at(self.rest.len() - body.len() + end);
        let value: f64 = number.parse().map_err(|_| anyhow!("\"{number}\" is not a number"))?;
        ensure!(value.is_finite(), "{number} is not a finite number");
        self.rest = rest.trim_start();
        Ok(Some(value))
    }

    fn name(&mut self) -> Result<String> {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() {
            return Err(self.expected("a reward"));
        }
        self.rest = rest.trim_start();
        Ok(name.to_owned())
    }

    fn parameters(&mut self) -> Result<Vec<f64>> {
        let mut parameters = Vec::new();
        if !self.take("(") {
            return Ok(parameters);
        }
        loop {
            match self.number()? {
                Some(number) => parameters.push(number),
                None => return Err(self.expected("a number")),
            }
            if self.take(")") {
                return Ok(parameters);
            }
            if !self.take(",") {
                return Err(self.expected(", or )"));
            }
        }
    }

    fn expected(&self, what: &str) -> anyhow::Error {
        let position = if self.rest.is_empty() { "at the end".to_owned() } else { format!("at \"{}\"", self.rest) };
        anyhow!("expected {what} {position}, as in \"outcome + 0.5*format - 0.1*length(64, 80)\"; the rewards are {}", usages())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, group, rewarded};
    use super::*;

    fn rewards(name: &str) -> Result<Rewards> {
        Rewards::new(&RewardSettings { name: name.into(), ..RewardSettings::default() }, 100)
    }

    #[test]
    fn parse_reads_weighted_sums() {
        let check = |text: &str, expected: &[(f64, &str, &[f64])]| {
            let expected: Vec<Term> = expected
                .iter()
                .map(|(weight, name, parameters)| Term { weight: *weight, name: (*name).into(), parameters: parameters.to_vec() })
                .collect();
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        };
        check("outcome", &[(1.0, "outcome", &[])]);
        check(" outcome+0.5*format ", &[(1.0, "outcome", &[]), (0.5, "format", &[])]);
        check("outcome - 0.1*length(64,80)", &[(1.0, "outcome", &[]), (-0.1, "length", &[64.0, 80.0])]);
        check("- 2 * random( .5 )", &[(-2.0, "random", &[0.5])]);
        check("1e-3*format-length(-1, 2e+2)", &[(1e-3, "format", &[]), (-1.0, "length", &[-1.0, 200.0])]);
    }

    #[test]
    fn rewards_new_reports_invalid_sums() {
        let check = |text: &str, expected: &str| {
            let message = format!("{:#}", rewards(text).err().expect(text));
            assert!(message.contains(expected), "{text}: {message}");
        };
        check("", "it is empty; expected one of outcome, format");
        check("gold", "unknown reward \"gold\"; expected one of outcome, format, inverse, random(p), length(low, high)");
        check("outcome format", "expected + or - at \"format\"");
        check("outcome +", "expected a reward at the end");
        check("outcome + * format", "expected a reward at \"* format\"");
        check("0.5 format", "expected * and a reward at \"format\"");
        check("random(0.5", "expected , or ) at the end");
        check("random()", "expected a number at \")\"");
        check("1.2.3*format", "\"1.2.3\" is not a number");
        check("1e999*format", "1e999 is not a finite number");
        check("random", "random has 0 parameters: write it as random(p)");
        check("outcome(1)", "outcome has 1 parameters: write it as outcome");
        check("random(1.5)", "random(1.5)");
        check("length(80, 64)", "length(80, 64)");
        check("format + outcome + format", "reward.name has format twice");
        check("command", "reward.command is empty");
    }

    #[test]
    fn rewards_of_batch_keeps_the_parts() {
        check("outcome + 0.5*format - 0.25*length(4, 24)", "7", &[r"\boxed{7}", r"\boxed{8}", "7"], &[1.4375, 0.4375, 0.0]);
        let rewards = rewards("outcome + 0*format").unwrap();
        let found = rewarded(&rewards, &group("7", &[r"\boxed{8}"]), 1, None);
        assert_eq!(found[0].total, 0.0);
        assert_eq!(found[0].parts, BTreeMap::from([("format".to_owned(), 1.0), ("outcome".to_owned(), 0.0)]));
    }

    #[test]
    fn rewards_need_the_inputs_of_all_parts() {
        let check = |name: &str, expected: (bool, bool)| {
            let rewards = rewards(name).unwrap();
            assert_eq!((rewards.needs_label(), rewards.needs_scorer()), expected, "{name}");
        };
        check("outcome", (true, false));
        check("format + probability", (true, true));
        check("format + majority + think - length(1, 2) + random(0.5) + none", (false, false));
        check("format + brier", (true, false));
    }
}
