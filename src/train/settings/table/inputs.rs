//! The rows of model, example, device and prompt.

use super::SEED;
use crate::config::range::{Range, Row, row};
use crate::kernels::DeviceChoice;
use crate::train::settings::algorithm;

const DEVICE: Range = Range::Parsed { syntax: "`auto`, `cpu`, `cuda` or `cuda:N`", parse: |text| text.parse::<DeviceChoice>().map(drop) };
const DATE: Range = Range::Parsed {
    syntax: "`YYYY-MM-DD`, or empty for today",
    parse: |text| if text.is_empty() { Ok(()) } else { crate::text::check_date(text).map_err(|error| format!("{error:#}")) },
};

#[rustfmt::skip] // a row is two lines
pub(super) const ROWS: &[Row] = &[
    row("model", Range::Text, "`tiny` (the embedded model), a folder in Hugging Face format, or a hub name.")
        .because("The embedded model needs no download and learns within minutes on a CPU; the paper's main runs train Qwen2.5-Math-1.5B."),
    row("reference", Range::Text, "The reference model of the KL term, given like `model`; empty uses the initial policy.")
        .because("As published: the reference is the initial policy."),
    row("example", Range::Text, "The training examples: `pi1`, `pi1,pi13`, `pi1..pi16`, `dsr-sub`, a problem of the embedded model, or a file.")
        .because("π1 is the paper's main example. The demonstration uses an addition problem that the embedded model cannot solve by a shortcut."),
    row("algo", Range::OneOf(&algorithm::NAMES), "The algorithm: a preset of the settings below.")
        .because("GRPO is the paper's main algorithm."),
    row("seed", SEED, "The seed of all randomness in training.")
        .because("A fixed seed makes a run repeatable; the number 0 has no special meaning."),
    row("compute.device", DEVICE, "The device; `auto` uses a GPU if there is one, except for the embedded model, which stays on the CPU.")
        .because("A CPU is too slow for real models, and the embedded model is too small to keep a GPU busy."),
    row("compute.kernels", Range::OneOf(&["auto", "stock", "plain", "fused"]), "The kernels: this program's own (`plain` on the CPU, `fused` on a GPU), or candle's `stock` operations. `auto` is `plain` on the CPU, `fused` on confirmed GPUs and with `batch_invariant`, and `stock` on other GPUs.")
        .because("The fused kernels need the least time and memory by design, but are used on a GPU only after a check has confirmed them there."),
    row("compute.dtype", Range::OneOf(&["auto", "f32", "bf16"]), "The dtype of weights and activations; `auto` is f32 on the CPU and bf16 on a GPU.")
        .because("As published on a GPU: bf16 with f32 masters. Few CPUs have fast bf16 products."),
    row("compute.batch_invariant", Range::Boolean, "Make sums on a GPU independent of the batch, so that sampler and trainer agree bit for bit. On the CPU they always do.")
        .because("A fixed order of sums costs speed on a GPU; without it, sampler and trainer differ by rounding."),
    row("prompt.instruction", Range::Text, "Appended to the question in training. Evaluation uses the bare question.")
        .because("The paper's suffix (published code). The embedded model was pre-trained on bare questions."),
    row("prompt.append", Range::OneOf(&["unasked", "always"]), "`unasked` appends the instruction only to questions that request no answer format themselves; `always` appends it to all.")
        .because("A second instruction could contradict the one in the question."),
    row("prompt.chat_template", Range::Text, "A file with a chat template to use instead of the checkpoint's; empty uses the checkpoint's.")
        .because("A model was trained with its own template."),
    row("prompt.date", DATE, "The date that chat templates show as today's. If a template shows the date, the run records its start date here.")
        .because("A template that shows a date expects today's; recording it keeps the run repeatable."),
];
