use clap::Args;
#[derive(Debug, Args)]
pub struct BenchArgs {}
pub fn run(_: BenchArgs) -> anyhow::Result<()> {
    Ok(())
}
