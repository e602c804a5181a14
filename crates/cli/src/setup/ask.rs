//! Whether it is to be done now.

use std::io::{IsTerminal as _, Write as _};

use super::HowArgs;
use super::told::{Report, State};
use crate::ending::note;

/// Whether it is: neither where it is only to be said, nor where the operator doesn't agree, which
/// the report then says.
pub(super) fn is_wanted(how: &HowArgs, report: &mut Report) -> anyhow::Result<bool> {
    if how.dry_run {
        return Ok(false);
    }
    let is_wanted = how.yes || agreed(report, how.json)?;
    if !is_wanted {
        report.state = State::Unwanted;
    }
    Ok(is_wanted)
}

/// Shows the plan and asks. Nobody there to be asked has not agreed.
fn agreed(report: &mut Report, json: bool) -> anyhow::Result<bool> {
    let stdin = std::io::stdin();
    if json || !stdin.is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(false);
    }
    report.show_plan()?;
    let mut stderr = anstream::stderr();
    write!(stderr, "Do this? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    stdin.read_line(&mut answer)?;
    let agreed = is_yes(&answer);
    if !agreed {
        note("nothing was done");
    }
    Ok(agreed)
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_yes_agrees() {
        assert!(["y\n", " Yes \n", "YES"].into_iter().all(is_yes));
        assert!(!["", "\n", "n", "yep", "sure"].into_iter().any(is_yes));
    }
}
