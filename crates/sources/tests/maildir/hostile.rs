//! What a user, or somebody in a user's name, may put into a Maildir.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::process::Command;

use postbell_engine::What;
use postbell_sources::State;
use postbell_sources::maildir::Options;

use crate::rig::{Rig, maildir, options};

#[test]
fn hostile_things_are_passed_over_and_nothing_else_is_lost() {
    let temporary = tempfile::tempdir().unwrap();
    let outside = maildir(&temporary.path().join("outside"));
    fs::write(outside.join("cur/1.secret.h:2,S"), "secret").unwrap();
    let root = maildir(&temporary.path().join("alice"));
    let rig = Rig::start(Options { body_structure: true, ..options(&root) });

    let cur = root.join("cur");
    fs::write(cur.join("a\nb:2,S"), "x").unwrap();
    fs::write(cur.join(OsStr::from_bytes(b"\xff\xfe:2,S")), "x").unwrap();
    symlink(outside.join("cur/1.secret.h:2,S"), cur.join("2.link.h:2,S")).unwrap();
    symlink("/nowhere", cur.join("3.dangling.h:2,S")).unwrap();
    fs::create_dir(cur.join("4.folder.h:2,S")).unwrap();
    assert!(Command::new("mkfifo").arg(cur.join("5.fifo.h:2,S")).status().unwrap().success());
    symlink(&outside, root.join(".Outside")).unwrap();
    symlink(&root, root.join(".Loop")).unwrap();
    for odd in [&b".odd\nname"[..], b".bad\xff", b"..", b".a..b", b".INBOX"] {
        let path = root.join(OsStr::from_bytes(odd));
        if odd != b".." {
            maildir(&path);
        }
    }
    fs::write(root.join(".file"), "x").unwrap();
    maildir(&root.join(".Sub"));
    fs::remove_dir(root.join(".Sub/new")).unwrap();
    symlink(outside.join("cur"), root.join(".Sub/new")).unwrap();
    maildir(&root.join(".Good"));
    fs::write(root.join("subscriptions"), b"V\t2\n\n\xff\n").unwrap();
    fs::write(root.join("maildirsize"), b"\xff\0\n-\n").unwrap();
    fs::write(cur.join("6.huge.h,S=1,W=99999999999999999999:2,S"), "\n").unwrap();
    fs::write(root.join("new/7.good.h"), "fine").unwrap();
    let told = rig.hear(0, 5);
    assert!(told.contains(&"new INBOX 2 () messages=2 uidnext=3".to_owned()), "{told:?}");
    assert!(told.contains(&"create Good".to_owned()), "{told:?}");
    let all = told.join(" ");
    for unwanted in ["Outside", "Loop", "secret", "odd", "bad", "a//b"] {
        assert!(!all.contains(unwanted), "{told:?}");
    }
    let skipped = rig.health.snapshot().skipped;
    assert!(skipped >= 9, "{skipped}");

    let before = rig.kept.count();
    fs::write(root.join("new/8.good.h"), "fine").unwrap();
    assert_eq!(rig.hear(before, 1), ["new INBOX 3 () messages=3 uidnext=4"]);
    assert_eq!(rig.health.snapshot().skipped, skipped, "each is counted once");
}

#[test]
fn two_folders_with_one_mailboxs_name_are_one_mailbox() {
    let temporary = tempfile::tempdir().unwrap();
    let root = maildir(&temporary.path().join("alice"));
    let mut rig = Rig::start(options(&root));
    let (utf7, utf8) = (root.join(".Entw&APw-rfe"), root.join(".Entwürfe"));
    let deliver = |folder: &std::path::Path, name: &str| {
        fs::write(folder.join("tmp").join(name), "x").unwrap();
        fs::rename(folder.join("tmp").join(name), folder.join("new").join(name)).unwrap();
    };
    // The first that comes stays, also over a restart, whatever comes beside it.
    maildir(&utf8);
    assert_eq!(rig.hear(0, 1), ["create Entwürfe"]);
    maildir(&utf7);
    deliver(&utf7, "1.a.h");
    deliver(&utf8, "2.a.h");
    assert_eq!(rig.hear(1, 1), ["new Entwürfe 1 () messages=1 uidnext=2"]);
    let skipped = || rig.health.snapshot().skipped;
    assert_eq!(skipped(), 1);
    rig.stop();
    deliver(&utf8, "3.a.h");
    rig.resume();
    assert_eq!(rig.hear_out(2), ["new Entwürfe 2 () messages=2 uidnext=3"]);
    assert_eq!((rig.health.snapshot().skipped, rig.health.snapshot().mailboxes), (1, 2));
    // The other has its name when the first is gone, and is another mailbox.
    fs::rename(&utf8, temporary.path().join("away")).unwrap();
    let told = rig.hear(3, 3);
    assert_eq!(told[..2], ["delete Entwürfe", "create Entwürfe"], "{told:?}");
    assert_eq!(told[2..], ["new Entwürfe 1 () messages=1 uidnext=2"], "{told:?}");
    let validities: Vec<_> =
        rig.kept.told().iter().filter_map(|told| validity(&told.what)).collect();
    assert!(validities.len() == 2 && validities[0] != validities[1], "{validities:?}");
    // A folder that only gets the other spelling of its name stays the mailbox it is.
    fs::rename(&utf7, &utf8).unwrap();
    deliver(&utf8, "4.a.h");
    assert_eq!(rig.hear(6, 1), ["new Entwürfe 2 () messages=2 uidnext=3"]);
}

/// The UIDVALIDITY of a mailbox that was created.
fn validity(what: &What) -> Option<u32> {
    match what {
        What::MailboxCreated(mailbox) => mailbox.uid_validity,
        _ => None,
    }
}

#[test]
fn a_users_link_to_somebody_elses_mail_is_not_followed() {
    let temporary = tempfile::tempdir().unwrap();
    let bob = maildir(&temporary.path().join("bob/Maildir"));
    let alice = temporary.path().join("alice");
    fs::create_dir(&alice).unwrap();
    symlink(&bob, alice.join("Maildir")).unwrap();
    symlink(temporary.path().join("bob"), temporary.path().join("carol")).unwrap();
    let root = temporary.path().join("%u/Maildir");
    let rig = Rig::start(Options { user: None, ..options(&root) });
    assert_eq!(rig.health.snapshot().users, 1);
    fs::write(bob.join("new/1.a.h"), "x").unwrap();
    assert_eq!(rig.hear(0, 1).len(), 1);
    assert_eq!(rig.kept.told()[0].owner.as_deref(), Some("bob"));
}

#[test]
fn a_user_whose_maildir_can_not_be_opened_is_counted_and_named() {
    let temporary = tempfile::tempdir().unwrap();
    maildir(&temporary.path().join("bob/Maildir"));
    // Even to root a file is no folder; a folder closed to this user is told the same way.
    fs::create_dir(temporary.path().join("ann")).unwrap();
    fs::write(temporary.path().join("ann/Maildir"), "").unwrap();
    fs::create_dir(temporary.path().join("new-here")).unwrap();
    let rig = Rig::start(Options { user: None, ..options(&temporary.path().join("%u/Maildir")) });
    let health = rig.health.snapshot();
    assert_eq!((health.users, health.skipped), (1, 1));
    let error = health.last_error.unwrap();
    assert!(error.contains("ann/Maildir: "), "{error}");
}

#[test]
fn a_maildir_that_goes_is_named_until_it_is_back() {
    let temporary = tempfile::tempdir().unwrap();
    let (ann, bob) = (temporary.path().join("ann"), temporary.path().join("bob"));
    maildir(&ann.join("Maildir"));
    maildir(&bob.join("Maildir"));
    let rig = Rig::start(Options { user: None, ..options(&temporary.path().join("%u/Maildir")) });
    let detail = || rig.health.snapshot().detail;
    assert_eq!(detail(), "");
    let away = temporary.path().join(".away");
    fs::rename(&bob, &away).unwrap();
    let gone = "a Maildir that was there is gone: bob";
    crate::rig::wait_until("it to be missed", || detail() == gone);
    fs::rename(&away, &bob).unwrap();
    crate::rig::wait_until("it to be back", || detail().is_empty());
    assert!(rig.hear_out(0).is_empty());
}

#[test]
fn a_root_that_is_not_there_is_said_to_be_so_and_its_users_are_kept_in_mind() {
    let temporary = tempfile::tempdir().unwrap();
    let (mail, away) = (temporary.path().join("mail"), temporary.path().join("away"));
    maildir(&mail.join("ann/Maildir"));
    let scan_interval = std::time::Duration::from_millis(50);
    let root = mail.join("%u/Maildir");
    let rig = Rig::start(Options { user: None, scan_interval, ..options(&root) });
    fs::rename(&mail, &away).unwrap();
    let wanted = format!("there is no folder {}", mail.display());
    crate::rig::wait_until("the root to be missed", || rig.health.snapshot().detail == wanted);
    let health = rig.health.snapshot();
    assert_eq!((health.state, health.users), (State::Waiting, 0));
    assert_eq!(health.last_error.as_deref(), Some(wanted.as_str()));
    fs::rename(&away, &mail).unwrap();
    crate::rig::wait_until("the root to be back", || {
        let health = rig.health.snapshot();
        health.users == 1 && health.detail.is_empty()
    });
    assert!(rig.hear_out(0).is_empty());
}

#[test]
fn a_folder_whose_name_is_no_users_is_left_aside_and_counted() {
    let temporary = tempfile::tempdir().unwrap();
    maildir(&temporary.path().join("bob/Maildir"));
    for odd in [&b"b\nad"[..], b"bad\xff"] {
        maildir(&temporary.path().join(OsStr::from_bytes(odd)).join("Maildir"));
    }
    fs::create_dir(temporary.path().join(".hidden")).unwrap();
    let rig = Rig::start(Options { user: None, ..options(&temporary.path().join("%u/Maildir")) });
    let health = rig.health.snapshot();
    assert_eq!((health.users, health.skipped), (1, 2));
}

#[test]
fn users_and_folders_that_vanish_are_no_error_and_those_that_return_are_known() {
    let temporary = tempfile::tempdir().unwrap();
    let pattern = temporary.path().join("%u/Maildir");
    let rig = Rig::start(Options { user: None, ..options(&pattern) });
    assert_eq!(rig.health.snapshot().users, 0);
    let root = maildir(&temporary.path().join("dora/Maildir"));
    crate::rig::wait_until("the user", || rig.health.snapshot().users == 1);
    fs::write(root.join("new/1.a.h"), "x").unwrap();
    assert_eq!(rig.hear(0, 1), ["new INBOX 1 () messages=1 uidnext=2"]);

    // No user's name begins so.
    let away = temporary.path().join(".away");
    fs::rename(temporary.path().join("dora"), &away).unwrap();
    crate::rig::wait_until("the user to leave", || rig.health.snapshot().users == 0);
    assert!(rig.hear_out(1).is_empty(), "a disk not mounted is no deletion");
    fs::remove_file(away.join("Maildir/new/1.a.h")).unwrap();
    fs::rename(&away, temporary.path().join("dora")).unwrap();
    assert_eq!(rig.hear(1, 1), ["expunge INBOX 1 messages=0"]);
}

#[test]
fn files_that_vanish_while_they_are_read_are_no_error() {
    let temporary = tempfile::tempdir().unwrap();
    let root = maildir(temporary.path());
    let mut rig = Rig::start(Options { body_structure: true, ..options(&root) });
    for number in 0..2_000 {
        let path = root.join(format!("new/{number}.a.h"));
        fs::write(&path, "Subject: x\n\nx\n").unwrap();
        let onward = root.join(format!("cur/{number}.a.h:2,S"));
        match number % 3 {
            0 => fs::remove_file(&path).unwrap(),
            1 => fs::rename(&path, &onward).unwrap(),
            _ => {}
        }
    }
    crate::rig::wait_until("all of them", || rig.health.snapshot().messages == 1_333);
    rig.hear_out(0);
    rig.stop();
    assert_eq!(rig.health.snapshot().last_error, None);
    let (there, told) = (rig.health.snapshot().messages, rig.kept.told());
    assert_eq!(there, 1_333);
    let came = told.iter().filter(|told| matches!(told.what, What::Delivered { .. }));
    let gone: u64 = told
        .iter()
        .filter_map(|told| match &told.what {
            What::Expunged { uids, .. } => Some(uids.len()),
            _ => None,
        })
        .sum();
    assert_eq!(came.count() as u64 - gone, there, "all came through new, and each is told");
}
