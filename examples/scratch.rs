use rlvr::data::tiny as data;
use rlvr::draw::Purpose;
use rlvr::lanes::Lanes;
use rlvr::model::folder::{self, WeightDtype};
use rlvr::rollout::engine::EngineSettings;
use rlvr::rollout::*;
use rlvr::tiny::pretrain::*;
use rlvr::tiny::*;
use std::collections::BTreeMap;
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let out = &args[1];
    let settings: PretrainSettings = if args.len() > 2 { toml::from_str(&args[2..].join("\n"))? } else { Default::default() };
    let steps = settings.steps;
    let t = std::time::Instant::now();
    let mut p = Pretraining::new(settings)?;
    println!("tokenizer {:.1}s, {} parameters", t.elapsed().as_secs_f64(), p.decoder().config.parameters());
    let t = std::time::Instant::now();
    let mut mean = 0.0;
    for s in 1..=steps {
        mean += p.step()?;
        if s % 200 == 0 {
            println!("{s} loss {:.4} {:.1}s", mean / 200.0, t.elapsed().as_secs_f64());
            mean = 0.0;
        }
    }
    std::fs::create_dir_all(out)?;
    std::fs::write(format!("{out}/config.json"), serde_json::to_string_pretty(&p.decoder().config.source)?)?;
    for (n, f) in tokenizer::files(p.tokenizer())? {
        std::fs::write(format!("{out}/{n}"), f)?;
    }
    std::fs::write(format!("{out}/model.safetensors"), folder::to_bytes(&p.decoder().weights, &p.decoder().config, WeightDtype::Bf16)?)?;
    let problems = data::problems(data::Split::Validation, 1000, 0)?;
    let lanes = Lanes::new(2)?;
    let es = EngineSettings::default();
    let end = p.tokenizer().token_to_id("<|endoftext|>").unwrap();
    for (name, temp, force) in [("greedy", 0.0, ""), ("0.6", 0.6, ""), ("1.0", 1.0, ""), ("careful", 0.0, " Step by step,")] {
        let t = std::time::Instant::now();
        let reqs: Vec<Request> = problems
            .iter()
            .enumerate()
            .map(|(i, q)| Request {
                ids: p.tokenizer().encode(corpus::prompt(&q.question) + force, false).unwrap().get_ids().to_vec().into(),
                max_new: 80,
                purpose: Purpose::Evaluation,
                step: 0,
                prompt: i as u32,
                sample: 0,
            })
            .collect();
        let eng = Engine { decoder: p.decoder(), lanes: &lanes, settings: &es, end_tokens: &[end], vocabulary: 10000 };
        let outs = eng.generate(&reqs, &SamplingSettings { temperature: temp, filter: Default::default(), seed: 1 }, &|_| ())?;
        let mut by: BTreeMap<String, (u32, u32)> = BTreeMap::new();
        let mut ways: BTreeMap<String, u32> = BTreeMap::new();
        let (mut ok, mut boxed, mut any, mut toks) = (0, 0, 0, 0);
        for (q, o) in problems.iter().zip(&outs) {
            toks += o.ids.len();
            let text = p.tokenizer().decode(&o.ids, true).unwrap();
            let full = format!("{force}{text}");
            let v = rlvr::verify::verify(&q.answer, &full, &rlvr::verify::Settings::default());
            *ways.entry(format!("{:?}", ways::classify(&full))).or_default() += 1;
            let e = by.entry(q.subject.clone()).or_default();
            e.1 += 1;
            if v.correct {
                e.0 += 1;
                ok += 1;
            }
            if v.extracted.is_some() {
                boxed += 1;
            }
            let v =
                rlvr::verify::verify(&q.answer, &full, &rlvr::verify::Settings { mode: rlvr::verify::Mode::Eval, ..Default::default() });
            if v.correct {
                any += 1;
            }
        }
        println!(
            "{name}: ok {ok} fallback {any} boxed {boxed} {ways:?} tokens {toks} {:.2}s {:?}",
            t.elapsed().as_secs_f64(),
            by.iter().map(|(k, v)| format!("{k} {}", v.0)).collect::<Vec<_>>()
        );
    }
    Ok(())
}
