//! Cyrus's own tool reads what would be written, and what was.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};

use anyhow::{Context as _, anyhow};

use super::facts::Found;
use super::{decide, render};

/// Reads a copy with ours in it; of the real files nothing changes.
///
/// # Errors
///
/// What Cyrus says; nothing was done then.
pub(super) fn before(found: &Found) -> anyhow::Result<()> {
    let room = tempfile::Builder::new()
        .prefix("postbell-trial-")
        .tempdir()
        .context("a folder for the trial")?;
    let write = |name: &str, text: &str| {
        let path = room.path().join(name);
        let named = || path.display().to_string();
        fs::write(&path, text).with_context(named)?;
        // Passwords may be in it.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).with_context(named)?;
        if let Some(account) = found.programs.account {
            chown(&path, Some(account.uid), Some(account.gid)).with_context(named)?;
        }
        anyhow::Ok(path)
    };
    fs::set_permissions(room.path(), fs::Permissions::from_mode(0o711))
        .with_context(|| room.path().display().to_string())?;
    let own = write("own.conf", &render::own_file(&found.facts))?;
    let main = write("imapd.conf", &render::with_line(&found.facts.text, found.facts.aside, &own))?;
    read(found, &main).context("a trial with a copy failed, so that nothing was changed")
}

/// Reads what was written.
///
/// # Errors
///
/// What Cyrus says, or which setting does not take effect.
pub(super) fn after(found: &Found) -> anyhow::Result<()> {
    read(found, &found.facts.main)
}

fn read(found: &Found, main: &std::path::Path) -> anyhow::Result<()> {
    let effective = found.programs.settings(main)?;
    for (key, wanted) in decide::settings(&found.facts) {
        let value = effective.get(key).map_or("", String::as_str);
        if !is_same(value, &wanted) {
            return Err(anyhow!("{}: {key} does not take effect: it is {value:?}", main.display()));
        }
    }
    Ok(())
}

/// Cyrus shows the words of a list in an order of its own.
fn is_same(one: &str, other: &str) -> bool {
    let words = |text: &str| {
        let mut words: Vec<String> = text.split_whitespace().map(str::to_ascii_lowercase).collect();
        words.sort_unstable();
        words
    };
    words(one) == words(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_may_be_shown_in_another_order() {
        assert!(is_same("access message", "message  Access"));
        assert!(!is_same("access", "message access"));
    }
}
