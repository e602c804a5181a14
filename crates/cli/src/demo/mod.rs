//! Everything at once on this machine.

use crate::ending::Ending;

/// How the demo runs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// End by itself after the scripted morning, with a summary.
    #[arg(long)]
    once: bool,
}

/// Runs the demo.
pub(crate) fn run(args: DemoArgs) -> anyhow::Result<Ending> {
    anyhow::bail!("demo: not there yet (once: {})", args.once)
}
