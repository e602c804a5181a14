//! Each thing that can be done to mail leaves exactly its lines.

use std::thread::sleep;
use std::time::Duration;

use postbell_testkit::{ADMIN, ALICE, BOB, CAROL, Error, Format, Options, Quota, mail};

use crate::spool::{Bench, assert_told};

#[test]
fn messages_come_change_and_go_in_one_line_each_time() -> Result<(), Error> {
    let Some(mut bench) = Bench::start(Options::whole)? else { return Ok(()) };
    let one = mail::plain("one");
    let mut imap = bench.step("login", 1, |dovecot| dovecot.imap(ALICE))?;
    imap.create("Work")?;
    bench.step("CREATE Work", 1, |_| Ok(()))?;
    bench.step("APPEND", 1, |_| imap.append("INBOX", "\\Seen $Forwarded", &one))?;
    bench.step("MULTIAPPEND: the second has flags of its own", 1, |_| {
        imap.append_many("INBOX", &[("\\Seen", &one), ("", &one), ("\\Seen", &one)])
    })?;
    bench.step("SELECT", 0, |_| imap.select("INBOX"))?;
    bench.step("FETCH BODY[]", 1, |_| imap.command("UID FETCH 3 BODY[]"))?;
    bench.step("FETCH BODY[] again", 0, |_| imap.command("UID FETCH 3 BODY[]"))?;
    bench.step("STORE 1:4 +FLAGS", 1, |_| imap.store("1:4", "+FLAGS", "\\Flagged $Work"))?;
    bench.step("the same again", 0, |_| imap.store("1:4", "+FLAGS", "\\Flagged $Work"))?;
    bench.step("STORE 1 FLAGS: some go, some come", 1, |_| {
        imap.store("1", "FLAGS", "\\Flagged \\Answered $Other")
    })?;
    bench.step("STORE 1:4 FLAGS (): each loses its own", 1, |_| imap.store("1:4", "FLAGS", ""))?;
    bench.step("COPY 1,3 Work", 1, |_| imap.copy("1,3", "Work"))?;
    bench.step("MOVE 3:4 Work", 2, |_| imap.move_to("3:4", "Work"))?;
    bench.step("STORE 1:2 +FLAGS (\\Deleted \\Seen)", 1, |_| {
        imap.store("1:2", "+FLAGS", "\\Deleted \\Seen")
    })?;
    bench.step("UID EXPUNGE 1", 1, |_| imap.expunge_uids("1"))?;
    bench.step("EXPUNGE", 1, |_| imap.expunge())?;
    bench.step("EXPUNGE of nothing", 0, |_| imap.expunge())?;
    imap.append("INBOX", "\\Deleted", &one)?;
    bench.step("APPEND (\\Deleted)", 1, |_| Ok(()))?;
    bench.step("CLOSE", 1, |_| imap.close())?;
    bench.step("logout", 2, |_| imap.logout())?;
    assert_told("messages", &bench.finish());
    Ok(())
}

#[test]
fn flags_of_four_hundred_messages_are_one_short_line() -> Result<(), Error> {
    let Some(mut bench) = Bench::start(Options::whole)? else { return Ok(()) };
    let one = mail::plain("one");
    let mut imap = bench.dovecot.imap(ALICE)?;
    let many: Vec<(&str, &[u8])> = vec![("", &one); 400];
    imap.append_many("INBOX", &many)?;
    imap.select("INBOX")?;
    bench.step("login, APPEND of 400", 2, |_| Ok(()))?;
    bench.step("STORE 1:400", 1, |_| imap.store("1:400", "+FLAGS", "\\Seen"))?;
    bench.step("STORE of every second", 1, |_| {
        let uids: Vec<String> = (1..=400).step_by(2).map(|uid| uid.to_string()).collect();
        imap.store(&uids.join(","), "+FLAGS", "\\Flagged")
    })?;
    bench.step("STORE 1:400 FLAGS ($Done)", 1, |_| imap.store("1:400", "FLAGS", "$Done"))?;
    let longest = bench.lines().iter().map(String::len).max().unwrap();
    assert!(longest < 4000, "{longest}");
    assert_told("four_hundred", &bench.finish());
    Ok(())
}

fn mailboxes(format: Format) -> Result<Option<String>, Error> {
    let options = |notify| Options { format, ..Options::whole(notify) };
    let Some(mut bench) = Bench::start(options)? else { return Ok(None) };
    let mut imap = bench.step("login", 1, |dovecot| dovecot.imap(ALICE))?;
    bench.step("CREATE a/b/c", 1, |_| imap.create("a/b/c"))?;
    bench.step("CREATE a/b/c again", 0, |_| Ok(imap.create("a/b/c").unwrap_err()))?;
    bench.step("CREATE Größe/邮件", 1, |_| imap.create("Gr&APYA3w-e/&kK5O9g-"))?;
    bench.step("CREATE with quotes", 1, |_| imap.create("say \"hello\" \\ bye"))?;
    bench.step("APPEND a/b/c", 1, |_| imap.append("a/b/c", "", &mail::plain("one")))?;
    bench.step("RENAME a/b/c new/place", 1, |_| imap.rename("a/b/c", "new/place"))?;
    bench.step("RENAME new x: its child with it", 1, |_| imap.rename("new", "x"))?;
    bench.step("CREATE x", 1, |_| imap.create("x"))?;
    bench.step("RENAME x y: both messages and children", 1, |_| imap.rename("x", "y"))?;
    bench.step("DELETE y: its child stays", 1, |_| imap.delete("y"))?;
    bench.step("DELETE y/place with a message in it", 2, |_| imap.delete("y/place"))?;
    bench.step("SUBSCRIBE Größe/邮件", 1, |_| imap.subscribe("Gr&APYA3w-e/&kK5O9g-"))?;
    bench.step("UNSUBSCRIBE Größe/邮件", 1, |_| imap.unsubscribe("Gr&APYA3w-e/&kK5O9g-"))?;
    bench.step("SUBSCRIBE of none", 0, |_| Ok(imap.subscribe("none").unwrap_err()))?;
    if format == Format::Maildir {
        bench.step("RENAME INBOX isn't to be had", 0, |_| {
            Ok(imap.rename("INBOX", "old").unwrap_err())
        })?;
    } else {
        bench.step("APPEND INBOX, lazily made", 2, |_| {
            imap.append("INBOX", "", &mail::plain("two"))
        })?;
        bench.step("RENAME INBOX old", 1, |_| imap.rename("INBOX", "old"))?;
        bench.step("SELECT INBOX", 1, |_| imap.select("INBOX"))?;
    }
    Ok(Some(bench.finish()))
}

#[test]
fn mailboxes_come_change_their_names_and_go() -> Result<(), Error> {
    let Some(told) = mailboxes(Format::Maildir)? else { return Ok(()) };
    assert_told("mailboxes", &told);
    Ok(())
}

#[test]
fn mailboxes_of_dovecots_own_formats_do_so_too() -> Result<(), Error> {
    let Some(told) = mailboxes(Format::Mdbox)? else { return Ok(()) };
    assert_told("mailboxes_mdbox", &told);
    let Some(told) = mailboxes(Format::Sdbox)? else { return Ok(()) };
    assert_told("mailboxes_sdbox", &told);
    Ok(())
}

#[test]
fn in_a_shared_mailbox_the_user_is_who_acts() -> Result<(), Error> {
    let Some(mut bench) = Bench::start(Options::whole)? else { return Ok(()) };
    let mut alice = bench.dovecot.imap(ALICE)?;
    alice.create("team")?;
    bench.step("login of Alice, CREATE team", 2, |_| Ok(()))?;
    bench.step("SETACL", 0, |_| alice.set_acl("team", BOB, "lrwstipekxa"))?;
    let mut bob = bench.step("login of Bob", 1, |dovecot| dovecot.imap(BOB))?;
    let team = format!("shared/{ALICE}/team");
    bench.step("Bob's APPEND", 1, |_| bob.append(&team, "\\Flagged", &mail::plain("one")))?;
    bob.select(&team)?;
    bench.step("Bob's STORE", 1, |_| bob.store("1", "+FLAGS", "\\Seen \\Deleted"))?;
    bench.step("Bob's EXPUNGE", 1, |_| bob.expunge())?;
    bench.step("Bob's CREATE, before he has rights on it", 1, |_| {
        bob.create(&format!("{team}/sub"))
    })?;
    bench.step("DELETEACL", 0, |_| alice.delete_acl("team", BOB))?;
    bench.step("Bob's logout", 2, |_| bob.logout())?;
    assert_told("shared", &bench.finish());
    Ok(())
}

#[test]
fn deliveries_name_what_they_were_given() -> Result<(), Error> {
    let quota = Some(Quota { storage_kib: 1000, messages: 2 });
    let options = |notify| Options { quota, ..Options::whole(notify) };
    let Some(mut bench) = Bench::start(options)? else { return Ok(()) };
    let both = [&*format!("<{ALICE}>"), &*format!("<{BOB}>")];
    bench.dovecot.set_sieve(
        ALICE,
        "require [\"fileinto\", \"imap4flags\"];\n\
         if header :contains \"Subject\" \"special\" {\n\
           fileinto :flags \"\\\\Flagged $Special\" \"lists/special\";\n\
         }\n",
    )?;
    let send = |bench: &mut Bench, title: &str, count, subject| {
        bench.step(title, count, |dovecot| {
            let from = "<sender@example.net> BODY=8BITMIME";
            dovecot.lmtp()?.transact(from, &both, &mail::plain(subject))
        })
    };
    send(&mut bench, "LMTP to two; each session ends with a line of its own", 6, "one")?;
    send(&mut bench, "Alice's script files it and makes the mailbox", 5, "special")?;
    let answers = send(&mut bench, "LMTP over quota", 0, "three")?;
    assert!(answers.iter().all(|answer| answer.starts_with("552 ")), "{answers:?}");
    let mut carol = bench.dovecot.imap(CAROL)?;
    carol.append("INBOX", "", &mail::plain("one"))?;
    carol.append("INBOX", "", &mail::plain("two"))?;
    bench.step("Carol's login and two messages", 3, |_| Ok(()))?;
    bench.step("APPEND over quota", 0, |_| {
        let refusal = carol.append("INBOX", "", &mail::plain("three")).unwrap_err();
        assert!(refusal.to_string().contains("[OVERQUOTA]"), "{refusal}");
        Ok(())
    })?;
    assert_told("deliveries", &bench.finish());
    Ok(())
}

#[test]
fn sessions_begin_and_end() -> Result<(), Error> {
    let Some(mut bench) = Bench::start(Options::whole)? else { return Ok(()) };
    bench.dovecot.lmtp()?.deliver("sender@example.net", ALICE, &mail::plain("one"))?;
    bench.step("LMTP, INBOX made for it", 3, |_| Ok(()))?;
    let imap = bench.step("IMAP login", 1, |dovecot| dovecot.imap(ALICE))?;
    bench.step("dropped connection", 2, |_| {
        drop(imap);
        Ok(())
    })?;
    let imap = bench.step("login of an administrator", 1, |it| it.imap_as(ALICE, ADMIN))?;
    bench.step("logout", 2, |_| imap.logout())?;
    let imap = bench.step("IMAP login", 1, |dovecot| dovecot.imap(ALICE))?;
    bench.step("killed process", 0, |dovecot| {
        dovecot.processes("imap").into_iter().try_for_each(|pid| dovecot.kill_process(pid))
    })?;
    drop(imap);
    bench
        .step("refused login", 0, |dovecot| Ok(dovecot.imap("mallory@example.org").unwrap_err()))?;
    let mut pop3 = bench.step("POP3 login", 1, |dovecot| dovecot.pop3(ALICE))?;
    bench.step("RETR", 0, |_| pop3.retrieve(1))?;
    bench.step("DELE, RSET", 0, |_| {
        pop3.delete(1)?;
        pop3.reset()
    })?;
    bench.step("QUIT", 2, |_| pop3.quit())?;
    let mut pop3 = bench.step("POP3 login", 1, |dovecot| dovecot.pop3(ALICE))?;
    bench.step("DELE, QUIT", 3, |_| {
        pop3.delete(1)?;
        pop3.quit()
    })?;
    assert_told("sessions", &bench.finish());
    Ok(())
}

#[test]
fn the_server_itself_acts_too() -> Result<(), Error> {
    let Some(mut bench) = Bench::start(Options::whole)? else { return Ok(()) };
    let mut imap = bench.dovecot.imap(ALICE)?;
    imap.create("Spam")?;
    imap.append("Spam", "", &mail::plain("one"))?;
    imap.append("INBOX", "", &mail::plain("two"))?;
    bench.step("login, CREATE Spam, two messages", 4, |_| Ok(()))?;
    sleep(Duration::from_secs(2));
    bench.step("logout, with autoexpunge in Spam", 3, |_| imap.logout())?;
    bench.step("doveadm expunge", 2, |dovecot| {
        dovecot.doveadm(&["expunge", "-u", ALICE, "mailbox", "INBOX", "all"])
    })?;
    bench.step("doveadm mailbox create", 2, |dovecot| {
        dovecot.doveadm(&["mailbox", "create", "-u", ALICE, "made/by/hand"])
    })?;
    bench.step("doveadm fetch", 0, |it| it.doveadm(&["fetch", "-u", ALICE, "uid", "all"]))?;
    assert_told("server", &bench.finish());
    Ok(())
}

#[test]
fn how_a_mailbox_stands_is_what_the_server_says_afterwards() -> Result<(), Error> {
    for format in [Format::Maildir, Format::Mdbox, Format::Sdbox] {
        let options = |notify| Options { format, ..Options::whole(notify) };
        let Some(bench) = Bench::start(options)? else { return Ok(()) };
        let one = mail::plain("one");
        let mut imap = bench.dovecot.imap(ALICE)?;
        imap.create("Other")?;
        imap.append("INBOX", "\\Seen $Work", &one)?;
        imap.append_many("INBOX", &[("", &one), ("\\Flagged $New", &one), ("", &one)])?;
        assert_stands(&bench, format, "INBOX")?;
        imap.select("INBOX")?;
        imap.copy("1,3", "Other")?;
        assert_stands(&bench, format, "Other")?;
        imap.move_to("2", "Other")?;
        assert_stands(&bench, format, "Other")?;
        assert_stands(&bench, format, "INBOX")?;
        imap.store("3", "+FLAGS", "\\Deleted")?;
        imap.expunge()?;
        assert_stands(&bench, format, "INBOX")?;
        bench.dovecot.lmtp()?.deliver("sender@example.net", ALICE, &one)?;
        assert_stands(&bench, format, "INBOX")?;
    }
    Ok(())
}

/// Compares the last that was told of a mailbox with what a session of its own is told.
fn assert_stands(bench: &Bench, format: Format, mailbox: &str) -> Result<(), Error> {
    let lines = bench.lines();
    let told = lines.iter().rev().find_map(|line| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value["status"].get(mailbox).cloned()
    });
    let told = told.unwrap();
    let items = "MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ";
    for (item, expected) in bench.dovecot.imap(ALICE)?.status_items(mailbox, items)? {
        let name = match item.as_str() {
            "UIDVALIDITY" => "val",
            "HIGHESTMODSEQ" => "modseq",
            other => &other.to_ascii_lowercase(),
        };
        assert_eq!(told[name], expected, "{format:?} {mailbox} {item}: {lines:#?}");
    }
    Ok(())
}
