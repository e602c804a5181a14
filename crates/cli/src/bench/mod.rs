//! What this machine does, against a raw probe in the same run.

use crate::ending::Ending;

/// How the bench runs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// Print the rows as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the bench.
pub(crate) fn run(args: BenchArgs) -> anyhow::Result<Ending> {
    anyhow::bail!("bench: not there yet (json: {})", args.json)
}
