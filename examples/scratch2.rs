use rlvr::checkpoint::Model;
use rlvr::data::benchmark::Decoding;
use rlvr::data::tiny as data;
use rlvr::eval::*;
use rlvr::lanes::Lanes;
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let model = Model::from_folder("x", args[1].as_ref())?;
    let lanes = Lanes::new(2)?;
    let problems: Vec<_> = data::problems(data::Split::Validation, 1000, 0)?.into_iter().map(std::sync::Arc::new).collect();
    let set = EvalSet { name: "v".into(), problems, decodings: vec![Decoding::GREEDY], classify: None };
    let s = EvalSettings { max_new: 80, ..Default::default() };
    let e = Evaluator { model: &model, lanes: &lanes, engine: &Default::default(), settings: &s };
    for p in e.evaluate(&[set], &|| ())? {
        println!("{:?}", p.score);
        for a in p.answers.iter().take(40) {
            println!("{} [{}] {} {:?}", a.id, a.gold, a.correct, a.response);
        }
    }
    Ok(())
}
