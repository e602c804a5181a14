//! Whatever becomes of the spool, mail goes on.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use postbell_testkit::account::Account;
use postbell_testkit::{ALICE, Error, Extent, Notify, Options, Tmpfs, mail};

use crate::spool::Bench;

/// What a person does in a minute; each of it must succeed.
fn work(bench: &Bench) -> Result<(), Error> {
    let mut imap = bench.dovecot.imap(ALICE)?;
    imap.select("INBOX")?;
    let uid = imap.append("INBOX", "", &mail::plain("one"))?;
    imap.store(&uid.to_string(), "+FLAGS", "\\Seen")?;
    bench.dovecot.lmtp()?.deliver("sender@example.net", ALICE, &mail::plain("two"))?;
    imap.logout()
}

/// What the script logged, once it is so much: Dovecot writes its log in a process of its own.
fn complaints(bench: &Bench, least: usize) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let log = bench.dovecot.whole_log();
        let lines = log.lines().filter(|line| line.contains("postbell: "));
        let complaints: Vec<_> = lines.map(str::to_owned).collect();
        if complaints.len() >= least || begun.elapsed() > PATIENCE {
            return complaints;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Generous, because a loaded machine is no defect.
const PATIENCE: Duration = Duration::from_secs(60);

fn plain(notify: Notify) -> Options {
    Options { notify: Some(notify), extent: Extent::Plain, ..Options::default() }
}

#[test]
fn a_missing_folder_is_one_complaint_of_a_session() -> Result<(), Error> {
    let Some(bench) = Bench::start(plain)? else { return Ok(()) };
    std::fs::remove_dir_all(bench.spool()).unwrap();
    work(&bench)?;
    let complaints = complaints(&bench, 2);
    // The IMAP session's and the delivery's.
    assert_eq!(complaints.len(), 2, "{complaints:#?}");
    assert!(complaints[0].contains("No such file or directory"), "{complaints:#?}");
    Ok(())
}

#[test]
fn what_could_not_be_written_is_missing_from_the_sequence() -> Result<(), Error> {
    let Some(bench) = Bench::start(plain)? else { return Ok(()) };
    let mut imap = bench.dovecot.imap(ALICE)?;
    imap.select("INBOX")?;
    imap.append("INBOX", "", &mail::plain("one"))?;
    let shut = bench.folder.path().join("shut");
    std::fs::rename(bench.spool(), &shut).unwrap();
    imap.append("INBOX", "", &mail::plain("two"))?;
    imap.store("1:2", "+FLAGS", "\\Seen")?;
    std::fs::rename(&shut, bench.spool()).unwrap();
    imap.append("INBOX", "", &mail::plain("three"))?;
    let lines = bench.lines();
    let seqs: Vec<u64> = lines.iter().map(|line| number(line, "seq")).collect();
    let last = *seqs.last().unwrap();
    assert!(seqs.len() >= 2, "{lines:#?}");
    assert_eq!(seqs[seqs.len() - 2], last - 3, "{lines:#?}");
    assert_eq!(complaints(&bench, 1).len(), 1);
    Ok(())
}

#[test]
fn a_file_that_cannot_be_written_to_stops_no_mail() -> Result<(), Error> {
    let Some(bench) = Bench::start(plain)? else { return Ok(()) };
    // A folder in its place: no account, not even root's, may write to that.
    std::fs::create_dir(bench.file()).unwrap();
    work(&bench)?;
    let complaints = complaints(&bench, 2);
    assert_eq!(complaints.len(), 2, "{complaints:#?}");
    assert!(complaints[0].contains("Is a directory"), "{complaints:#?}");
    Ok(())
}

#[test]
fn a_spool_that_nobody_fetches_grows_no_further() -> Result<(), Error> {
    let options = |notify| plain(Notify { spool_max_octets: Some(1000), ..notify });
    let Some(bench) = Bench::start(options)? else { return Ok(()) };
    let mut imap = bench.dovecot.imap(ALICE)?;
    for _ in 0..20 {
        imap.append("INBOX", "", &mail::plain("one"))?;
    }
    let size = std::fs::metadata(bench.file()).unwrap().len();
    assert!((1000..2000).contains(&size), "{size}");
    let complaints = complaints(&bench, 1);
    assert_eq!(complaints.len(), 1, "{complaints:#?}");
    assert!(complaints[0].contains("the spool is full"), "{complaints:#?}");
    Ok(())
}

#[test]
fn a_full_disk_stops_no_mail_and_spoils_no_later_line() -> Result<(), Error> {
    let Some(disk) = Tmpfs::mount(64 * 1024)? else { return Ok(()) };
    let options = |notify| plain(Notify { spool: disk.path().join("spool"), ..notify });
    let Some(bench) = Bench::start(options)? else { return Ok(()) };
    let file = disk.path().join("spool").join(bench.file().file_name().unwrap());
    let mut imap = bench.dovecot.imap(ALICE)?;
    imap.append("INBOX", "", &mail::plain("one"))?;
    let ballast = disk.fill()?;
    // The last page of the file has room for some lines, and for a part of one.
    for _ in 0..20 {
        imap.append("INBOX", "", &mail::plain("two"))?;
    }
    work(&bench)?;
    let complaints = complaints(&bench, 1);
    assert!(complaints[0].contains("No space left on device"), "{complaints:#?}");
    std::fs::remove_file(ballast).unwrap();
    imap.append("INBOX", "$After", &mail::plain("three"))?;
    let text = std::fs::read_to_string(&file).unwrap();
    let last = text.lines().last().unwrap();
    assert!(last.contains("$After") && last.starts_with("{\"v\":1"), "{text}");
    // Of all others at most one was cut, on a line of its own; an empty one says nothing.
    let cut = text.lines().filter(|line| !line.is_empty() && !line.ends_with('}')).count();
    assert!(cut <= 1, "{text}");
    Ok(())
}

#[test]
fn a_script_without_its_setting_lets_everybody_in() -> Result<(), Error> {
    let Some(mut bench) = Bench::start(plain)? else { return Ok(()) };
    bench.dovecot.stop();
    let path = bench.dovecot.configuration();
    let text = std::fs::read_to_string(&path).unwrap();
    let spool = bench.spool().display().to_string();
    std::fs::write(&path, text.replace(&format!("postbell_spool = {spool}"), "")).unwrap();
    bench.dovecot.start_again()?;
    work(&bench)?;
    assert!(complaints(&bench, 1)[0].contains("postbell_spool is missing"));
    Ok(())
}

#[test]
fn only_the_mail_account_may_read_what_it_wrote() -> Result<(), Error> {
    let Some(bench) = Bench::start(plain)? else { return Ok(()) };
    drop(bench.dovecot.imap(ALICE)?);
    let mode = std::fs::metadata(bench.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    Ok(())
}

#[test]
fn a_file_moved_away_is_begun_anew() -> Result<(), Error> {
    let Some(bench) = Bench::start(plain)? else { return Ok(()) };
    let mut imap = bench.dovecot.imap(ALICE)?;
    let before = bench.lines().len();
    std::fs::rename(bench.file(), aside(&bench.file())).unwrap();
    imap.append("INBOX", "", &mail::plain("one"))?;
    let (old, new) = (std::fs::read_to_string(aside(&bench.file())).unwrap(), bench.lines());
    assert_eq!(old.lines().count(), before);
    let seqs: Vec<u64> = new.iter().map(|line| number(line, "seq")).collect();
    assert_eq!(seqs.first().copied(), Some(before as u64 + 1), "{new:#?}");
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(bench.file()).unwrap());
    assert_eq!(uid, Account::current().uid());
    Ok(())
}

fn aside(file: &Path) -> std::path::PathBuf {
    file.with_extension("ndjson.1")
}

fn number(line: &str, name: &str) -> u64 {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    value[name].as_u64().unwrap()
}
