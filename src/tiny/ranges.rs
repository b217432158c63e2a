//! The table of pre-training settings: one row per setting, with its range and description. The optimizer's rows are in `optim`.

use super::pretrain::PretrainSettings;
use crate::config::range::{Range, Row, above, between, row, whole};
use crate::config::{Renamed, Settings};
use crate::optim;

const SHARE: Range = between(0.0, 1.0);
const WIDTH: Range = whole(1, 65_536);

impl Settings for PretrainSettings {
    fn rows() -> Vec<Row> {
        [ROWS, &optim::ROWS, MIXTURE].concat()
    }

    fn renamed() -> &'static [Renamed] {
        RENAMED
    }
}

/// Renamed settings, for old files such as the `pretrain.toml` of the embedded base model.
pub const RENAMED: &[Renamed] = &[Renamed::Setting { old: "lanes", new: "workers" }];

#[rustfmt::skip] // a row is two lines
const ROWS: &[Row] = &[
    row("seed", whole(0, i64::MAX), "The seed of the initial weights and the corpus.")
        .because("The shipped model is that of seed 0."),
    row("steps", whole(1, 1_000_000_000), "Number of optimizer steps.").in_unit("steps")
        .because("Enough for the careful style to be mostly right; takes minutes on two cores."),
    row("batch", whole(1, 1_000_000), "Documents per step.").in_unit("documents")
        .because("Chosen together with the learning rate. Not tuned separately."),
    row("careful_phase", SHARE, "The share of steps, at the start, that train mostly on careful documents.")
        .because("Trials without this phase left the careful style mostly wrong."),
    row("careful_share", SHARE, "The share of careful documents in that phase.")
        .because("High, so that the model learns to work step by step first; the rest keeps the other styles known."),
    row("prompt_weight", SHARE, "Loss weight of a prompt token; a response token has weight 1.")
        .because("The model must understand questions but rarely write them."),
    row("tokens_per_document", above(0.0), "The loss of a batch is its weighted sum over tokens, divided by `batch` times this number.").in_unit("tokens")
        .because("A constant, because a mean over tokens would give careful documents, which are long, less weight each."),
    row("workers", whole(1, 1024), "Worker threads, each with its own micro-batch. The number fixes the order of sums.").in_unit("threads")
        .because("The number of the shipped model, which another number does not reproduce bit for bit."),
    row("shape.hidden", WIDTH, "Width of the residual stream.")
        .because("A small model: training shows its effect within minutes on a CPU."),
    row("shape.layers", whole(1, 1024), "Number of transformer blocks.").in_unit("blocks")
        .because("See `shape.hidden`."),
    row("shape.heads", WIDTH, "Query heads; must divide the width.").in_unit("heads")
        .because("Heads of width 16; see `shape.hidden`."),
    row("shape.key_value_heads", WIDTH, "Key/value heads; must divide the number of query heads.").in_unit("heads")
        .because("Grouped-query attention, as in the real models."),
    row("shape.feed_forward", whole(1, 1_048_576), "Width of the gated feed-forward layer.")
        .because("Three times the width, a common ratio for gated layers."),
];

#[rustfmt::skip] // a row is two lines
const MIXTURE: &[Row] = &[
    row("mixture.careful_right", SHARE, "The share of careful answers that are correct; the others have one wrong digit.")
        .because("A base model that works step by step is mostly right."),
    row("mixture.bold", SHARE, "The share of unboxed answers set in bold.")
        .because("Unboxed answers should not all look alike."),
    row("mixture.repeats", SHARE, "The share of responses that repeat their answer endlessly.")
        .because("Base models often do not stop; training has to fix it."),
    row("mixture.next_question", SHARE, "The share of responses that continue with an invented question and its answer.")
        .because("As `mixture.repeats`."),
    row("mixture.most_sentences", whole(1, 1000), "Maximum number of filler sentences in a rambling response.").in_unit("sentences")
        .because("Long enough that some responses are cut off."),
    row("mixture.subjects.*.careful", SHARE, "By subject: the share of answers with all steps written out.")
        .because("Low and different by subject: the model can work step by step but rarely does."),
    row("mixture.subjects.*.sketch", SHARE, "By subject: the share of answers that state only the arithmetic and a result.")
        .because("The most frequent style, as in base models that skip steps."),
    row("mixture.subjects.*.ramble", SHARE, "By subject: the share of answers with filler text and a random number. The rest, after these three styles, are guesses.")
        .because("A minority that training has to remove."),
    row("mixture.subjects.*.sketch_right", SHARE, "By subject: the share of sketches with the correct result; the others have a random number.")
        .because("High where one look suffices, low where the arithmetic needs steps."),
    row("mixture.subjects.*.boxed", SHARE, "By subject: the share of boxed answers.")
        .because("A minority, so that the format alone brings a part of the gain."),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn rows_has_one_row_for_each_setting() {
        let (table, rows) = (toml::Table::try_from(PretrainSettings::default()).unwrap(), PretrainSettings::rows());
        for (path, _) in config::flatten(&table) {
            assert_eq!(rows.iter().filter(|row| row.matches(&path)).count(), 1, "add one row to src/tiny/ranges.rs for {path}");
        }
        for row in &rows {
            assert!(config::flatten(&table).iter().any(|(path, _)| row.matches(path)), "{} belongs to no setting", row.path);
        }
        PretrainSettings::default().check().unwrap();
    }
}
