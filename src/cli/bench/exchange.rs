//! `rlvr bench exchange`: how fast the processes of a run exchange data.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::bench::exchange::{self, Exchange};
use crate::cli::arguments::JsonArgs;
use crate::cli::numbers::within;
use crate::config::range::whole;
use crate::dist;
use crate::dist::launch::Gpus;
use crate::metrics::table;

#[derive(Debug, Args)]
pub struct ExchangeArgs {
    /// Megabytes of f32 numbers to exchange
    #[arg(long, value_name = "MB", default_value_t = 100, allow_negative_numbers = true, value_parser = within::<usize>(whole(1, 100_000)))]
    mb: usize,
    #[command(flatten)]
    json: JsonArgs,
}

pub fn run(args: ExchangeArgs) -> Result<()> {
    let world = dist::launch::join(Gpus::Own)?;
    world.ensure_equal(&[("version", crate::version::short()), ("--mb", args.mb.to_string())])?;
    // Data in the memory of the hosts.
    let members = world.describe("cpu")?;
    message!("{members}");
    if world.size() == 1 {
        message!("a single process exchanges nothing; start several, as in mpirun -n 2 rlvr bench exchange");
    }
    let measured = exchange::measure(&world, args.mb * 250_000)?;
    let document = || Ok(json!({"ranks": world.size(), "members": members, "exchange": measured}));
    args.json.print(document, || print_table(&measured))
}

fn print_table(measured: &Exchange) {
    let row =
        |name: &str, seconds: f64| vec![name.to_owned(), format!("{seconds:.4}"), format!("{:.2}", measured.bytes as f64 / seconds / 1e9)];
    let times = [("broadcast", measured.broadcast_s), ("pair exchange", measured.pair_s), ("sum", Some(measured.sum_s))];
    let rows: Vec<_> = times.into_iter().filter_map(|(name, seconds)| Some(row(name, seconds?))).collect();
    print_result!("{}", table(&["exchange", "seconds", "GB/s"], &rows));
    print_result!("sha256 of the sums: {}", measured.sha256);
}
