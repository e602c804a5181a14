//! Delivery agents and mbsync write Maildirs as their packages do.

use std::path::Path;

use postbell_testkit::{ALICE, Agent, Dovecot, Error, Mbsync, Tmpfs, mail};

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn maildrop_delivers_into_new() -> Result<(), Error> {
    let Some(agent) = Agent::maildrop()? else { return Ok(()) };
    agent.deliver(&mail::with_bare_lf(&mail::plain("dropped")))?;
    assert_eq!(files(&agent.maildir().join("new")), 1);
    Ok(())
}

#[test]
fn procmail_delivers_into_new() -> Result<(), Error> {
    let Some(agent) = Agent::procmail()? else { return Ok(()) };
    agent.deliver(&mail::with_bare_lf(&mail::plain("processed")))?;
    assert_eq!(files(&agent.maildir().join("new")), 1);
    Ok(())
}

#[test]
fn mbsync_mirrors_an_account() -> Result<(), Error> {
    let Some(dovecot) = Dovecot::start()? else { return Ok(()) };
    let Some(mbsync) = Mbsync::prepare(&dovecot, ALICE)? else { return Ok(()) };
    let mut imap = dovecot.imap(ALICE)?;
    imap.append("INBOX", "\\Seen \\Flagged", &mail::plain("read"))?;
    imap.create("Lists/Rust")?;
    imap.append("Lists/Rust", "", &mail::plain("unread"))?;
    mbsync.run()?;
    assert_eq!(files(&mbsync.maildir().join("cur")), 1);
    assert_eq!(files(&mbsync.maildir().join(".Lists.Rust/new")), 1);
    Ok(())
}

#[test]
fn a_small_file_system_can_be_filled_and_emptied() -> Result<(), Error> {
    let Some(tmpfs) = Tmpfs::mount(256 * 1024)? else { return Ok(()) };
    let other = tmpfs.path().join("other");
    let ballast = tmpfs.fill()?;
    assert!(std::fs::write(&other, b"one octet more").is_err());
    std::fs::remove_file(ballast).unwrap();
    std::fs::write(&other, b"one octet more").unwrap();
    Ok(())
}
