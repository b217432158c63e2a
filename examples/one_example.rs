//! The library in one page: loads the embedded base, samples eight answers to a question, and scores them.
//!
//! Run with `cargo run --release --example one_example`.

use std::sync::Arc;

use anyhow::Result;
use rlvr::draw::Purpose;
use rlvr::flow::Problem;
use rlvr::interrupt::Interrupt;
use rlvr::kernels::Filter;
use rlvr::lanes::Lanes;
use rlvr::rollout::limits::EngineSettings;
use rlvr::rollout::{Engine, Request, SamplingSettings};
use rlvr::verify::{self, Settings};

fn main() -> Result<()> {
    let model = rlvr::tiny::embedded::load()?;
    let (question, answer) = ("What is 334+556?".to_owned(), "890".to_owned());
    let problem = Arc::new(Problem { id: "sum".into(), question, answer, ..Problem::default() });
    let prompt = model.text.prompt(problem, "")?;

    let engine = Engine {
        decoder: &model.decoder,
        lanes: &Lanes::new(1)?,
        settings: &EngineSettings::default(),
        end_tokens: &model.end_tokens,
        vocabulary: model.text.vocabulary(),
        interrupt: &Interrupt::default(),
    };
    let request = |sample| Request { ids: prompt.ids.clone(), max_new: 80, purpose: Purpose::Sampling, step: 0, prompt: 0, sample };
    let sampling = SamplingSettings { temperature: 0.6, filter: Filter::default(), records_kept: false, seed: 0 };
    for completion in engine.generate(&(0..8).map(request).collect::<Vec<_>>(), &sampling, &|_| ())? {
        let text = model.text.decode(&completion.ids)?;
        let verdict = verify::verify(&prompt.problem.answer, &text, &Settings::default());
        let logprob: f32 = completion.logprobs.iter().sum();
        println!("{} {logprob:8.2}{text}", if verdict.correct { "right" } else { "wrong" });
    }
    Ok(())
}
