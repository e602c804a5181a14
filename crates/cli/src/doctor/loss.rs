//! `postbell doctor --accept-loss`: going on without what can't be read any more.

use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::MetadataExt as _;

use anyhow::Context as _;
use postbell_hub::Config;

use crate::ending::{Ending, Misuse, note};
use crate::out::print;

/// Says what it will do, asks, does it and says what is lost.
pub(super) fn accept(config: &Config, yes: bool) -> anyhow::Result<Ending> {
    let folder = config.data.join("journal");
    let shown = folder.display();
    let owner = folder.metadata().with_context(|| shown.to_string())?.uid();
    // Files of another owner would keep the hub from its own journal.
    if owner != rustix::process::geteuid().as_raw() {
        let why = format!("{shown}: belongs to the user {owner}: run this as that user");
        return Err(Misuse(why).into());
    }
    note(&format!("{shown}: {WHAT_IT_MEANS}"));
    if !yes && !confirmed()? {
        note("nothing was changed");
        return Ok(Ending::No);
    }
    let loss = postbell_journal::accept_loss(&folder);
    let loss = loss.map_err(|error| crate::serve::advised(error.into()))?;
    if loss.records.is_empty() && loss.set_aside.is_empty() {
        print("nothing is lost, and nothing was set aside")?;
        return Ok(Ending::Done);
    }
    for (first, last) in &loss.records {
        print(match first == last {
            true => format!("lost: record {}", first.0),
            false => format!("lost: records {} to {}", first.0, last.0),
        })?;
    }
    for path in &loss.set_aside {
        print(format!("set aside: {}", path.display()))?;
    }
    note("start the hub: subscribers are told of the gap");
    Ok(Ending::Done)
}

fn confirmed() -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Misuse("--yes is needed where nobody can be asked".to_owned()).into());
    }
    let mut stderr = anstream::stderr();
    write!(stderr, "is a copy of the folder kept, and the loss accepted? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

const WHAT_IT_MEANS: &str = "files that can't be read are set aside, and the records in them \
count as lost: no number is given again, subscribers are told of a gap, and sources look again \
from what they last stored. There is no way back but a copy of the folder";
