//! Makes the records of small runs for tests.

use std::collections::BTreeMap;
use std::path::Path;

use crate::eval::Score;
use crate::eval::statistics::wilson;
use crate::report::RunRecord;
use crate::train::history::Evaluation;
use crate::train::{RunFolder, RunSettings};

/// Writes the folder of a run of the demonstration with changed settings, the lines of `metrics.jsonl`, and evaluations as `(step, number
/// of right answers out of ten in tiny-greedy)`. Then reads it.
pub fn record(root: &Path, change: impl Fn(&mut RunSettings), metrics: &str, evaluations: &[(u64, usize)]) -> RunRecord {
    let mut settings = RunSettings::demonstration();
    change(&mut settings);
    let folder = RunFolder::create(root, &settings).unwrap();
    std::fs::write(folder.metrics(), metrics).unwrap();
    for (step, right) in evaluations {
        let score = Score { problems: 10, samples: 1, accuracy: wilson(*right, 10), boxed: 0.5, ..Score::default() };
        let scores = BTreeMap::from([("tiny-greedy".to_owned(), score)]);
        let evaluation = Evaluation { step: *step, scores, problems: BTreeMap::new() };
        evaluation.record(&folder, &[]).unwrap();
        let lines: String = (0..10)
            .map(|number| {
                let correct = number < *right;
                format!(
                    "{{\"id\":\"p{number}\",\"sample\":0,\"gold\":\"1\",\"response\":\"\",\"extracted\":null,\"correct\":{correct},\
                     \"correct_with_fallback\":{correct},\"tokens\":1,\"finish\":\"stop\"}}\n"
                )
            })
            .collect();
        std::fs::write(folder.eval(*step).join("tiny-greedy.jsonl"), lines).unwrap();
    }
    drop(folder);
    RunRecord::read(root).unwrap()
}
