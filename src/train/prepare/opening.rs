//! The first lines of a run: its model, example, algorithm and folder, each in one line of the terminal.

use anyhow::Result;

use super::Prepared;
use super::messages::{answer, pluralized};
use crate::flow::Problem;
use crate::source;
use crate::train::plan::grouped;

/// The width that the lines fit, if names are not unusually long.
const COLUMNS: usize = 80;
/// The width of the names of lines, with the gap behind them.
const NAME_COLUMNS: usize = 11;
/// A dry run prints at most this many examples.
const MAX_EXAMPLES: usize = 5;

impl Prepared<'_> {
    /// Returns the opening: the model and its evaluation, the example, the algorithm and its main settings, and the folder and the device.
    ///
    /// # Errors
    /// If the model's files are malformed, or this machine lacks what `compute` requests.
    pub fn opening(&self) -> Result<[String; 4]> {
        let (name, example) = self.example();
        let lines = [("model", self.model()?), (name, example), ("algorithm", self.algorithm()), ("folder", self.place()?)];
        Ok(lines.map(|(name, text)| format!("{name:<NAME_COLUMNS$}{text}")))
    }

    /// Returns the first examples as read, each with its question and its answer in lines of their own.
    pub fn examples_as_read(&self) -> Vec<String> {
        let problems = self.problems.iter().take(MAX_EXAMPLES);
        let read = |problem: &Problem| {
            let unit = Some(&problem.unit).filter(|unit| !unit.is_empty()).map_or_else(String::new, |unit| format!(", unit: {unit}"));
            let tolerance = problem.tolerance.map_or_else(String::new, |tolerance| format!(", tolerance: {tolerance}"));
            let question = problem.question.trim_end();
            format!("question: {question}\nanswer: {}{unit}{tolerance}", answer(&self.settings, problem))
        };
        let more = self.problems.len().saturating_sub(MAX_EXAMPLES);
        let more = (more > 0).then(|| format!("and {} more", pluralized(more, "example")));
        problems.map(read).chain(more).collect()
    }

    fn model(&self) -> Result<String> {
        let Self { settings, sets, .. } = self;
        let size = match source::config(&settings.model)? {
            Some(config) => format!("{} parameters", grouped(config.parameter_count() as u64)),
            None => "not downloaded yet".to_owned(),
        };
        let names = sets.iter().map(|set| set.name.as_str()).collect::<Vec<_>>().join(", ");
        let evaluation = match (names.as_str(), settings.eval.every) {
            ("", _) => "no evaluation".to_owned(),
            (names, 0) => format!("evaluated on {names} before and after"),
            (names, every) => format!("evaluated on {names} every {}", pluralized(every as usize, "step")),
        };
        Ok(format!("{} ({size}), {evaluation}", settings.model))
    }

    /// Returns the name of the line and its text.
    fn example(&self) -> (&'static str, String) {
        let settings = &self.settings;
        match (&self.problems[..], &self.replay) {
            (_, Some(replay)) => ("replay", format!("{} of {}", pluralized(replay.len(), "recorded step"), settings.rollout.replay)),
            ([problem], _) => {
                let rest = format!(" -> {} ({})", answer(settings, problem), problem.id);
                let room = COLUMNS.saturating_sub(NAME_COLUMNS + rest.chars().count());
                ("example", format!("{}{rest}", excerpt(&problem.question, room.max(20))))
            }
            (several, _) => ("examples", format!("{} of {}", several.len(), settings.example)),
        }
    }

    fn algorithm(&self) -> String {
        let settings = &self.settings;
        let lora = &settings.lora;
        let adapters =
            if lora.is_on() { format!(" with LoRA (rank {}, alpha {})", lora.rank, lora.effective_alpha()) } else { String::new() };
        format!(
            "{}{adapters}, {} x {} responses, learning rate {}, {}",
            settings.algo,
            pluralized(settings.rollout.groups, "group"),
            settings.rollout.group_size,
            settings.optim.lr,
            pluralized(settings.train.steps as usize, "step"),
        )
    }

    fn place(&self) -> Result<String> {
        let compute = source::compute(&self.settings.compute, &self.settings.model)?;
        Ok(format!("{}, on {}", self.root.display(), compute.describe()))
    }
}

/// Returns the beginning of a text, as one line of at most `columns` characters.
fn excerpt(text: &str, columns: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= columns { line } else { line.chars().take(columns - 3).chain("...".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::super::{RunRequest, prepare};
    use super::*;
    use crate::config;

    fn check(settings: &[&str], expected: [&str; 4]) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("run");
        let layers = settings.iter().map(|one| config::parse_override(one).unwrap()).collect();
        let opening = prepare(RunRequest::new(layers, Some(root.clone()))).unwrap().opening().unwrap();
        let opening = opening.map(|line| line.replace(root.to_str().unwrap(), "ROOT"));
        assert_eq!(opening, expected);
    }

    #[test]
    fn opening_has_model_example_algorithm_and_folder() {
        check(
            &["compute.device=cpu"],
            [
                "model      tiny (227,392 parameters), evaluated on tiny every 15 steps",
                "example    Compute 334+556. -> 890 (tiny/addition/334+556)",
                "algorithm  grpo, 8 groups x 8 responses, learning rate 0.0001, 300 steps",
                "folder     ROOT, on the CPU, f32, plain kernels",
            ],
        );
        check(
            &["example=tiny/train/20", "eval.benchmarks=", "lora.rank=4", "rollout.groups=1", "train.steps=1", "compute.device=cpu"],
            [
                "model      tiny (227,392 parameters), no evaluation",
                "examples   20 of tiny/train/20",
                "algorithm  grpo with LoRA (rank 4, alpha 8), 1 group x 8 responses, learning rate 0.0001, 1 step",
                "folder     ROOT, on the CPU, f32, plain kernels",
            ],
        );
    }

    #[test]
    fn excerpt_is_one_short_line() {
        assert_eq!(excerpt("Two\n  lines", 20), "Two lines");
        assert_eq!(excerpt("A question that is long", 12), "A questio...");
    }
}
