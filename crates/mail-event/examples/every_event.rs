//! Builds one event of each kind, as a mail store would, and prints them as JSON.
//!
//!     cargo run -p mail-event --example every_event

use std::error::Error;
use std::io::{self, Write as _};

use mail_event::{
    Builder, Envelope, Event, EventName, Flags, ImapUrl, MessageContent, Modseq, OtherName,
    Timestamp, UidSet, json,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    for builder in builders()? {
        // Whatever is mandatory and missing, or given and forbidden, is named here.
        let event = builder.build()?;
        writeln!(out, "{}", json::to_string(&event))?;
    }
    Ok(())
}

fn builders() -> Result<Vec<Builder>, Box<dyn Error>> {
    use EventName as E;
    // The owner of the mailbox is the user of the URL; the name is UTF-8, encoded when written.
    let server = ImapUrl::server("imap.example.org", None)?.with_user("john@example.org");
    let inbox = server.clone().with_mailbox("INBOX", Some(1_411_487_714));
    let drafts = inbox.clone().with_mailbox("Entwürfe", Some(7));
    let older = inbox.clone().with_mailbox("Older", Some(7));
    let host = ImapUrl::server("imap.example.org", None)?;
    let time: Timestamp = "2026-08-20T13:34:14.966+02:00".parse()?;
    let begin = |name: E, at: &ImapUrl| Event::builder(name, at.clone().into(), time);
    // What happened over IMAP: who did it, and from where.
    let by_imap = |builder: Builder| {
        builder.user("john@example.org").client([192, 0, 2, 7].into(), Some(50_000)).service("imap")
    };

    Ok(vec![
        begin(E::MessageNew, &inbox.clone().with_uid(6))
            .mailbox_id(inbox.clone().into())
            .envelope(Envelope::new(
                "MAIL FROM:<a@example.net> SIZE=976",
                ["RCPT TO:<john@example.org>"],
            )?)
            .message_size(976)
            .messages(6)
            .uidnext(7)
            .service("lmtp"),
        by_imap(begin(E::MessageAppend, &inbox.clone().with_uid(7)))
            .flag_names(Flags::parse(r"\Seen $Forwarded")?)
            .message_content(MessageContent::new(*b"Subject: a draft\r\n\r\n")),
        begin(E::MessageExpire, &inbox)
            .uidset(UidSet::from_uids([1, 2, 3]))
            .vendor(OtherName::new("vnd.example.policy")?, "90 days"),
        by_imap(begin(E::MessageExpunge, &inbox)).uidset(UidSet::from_uids([9, 5, 4])).messages(3),
        begin(E::QuotaExceed, &server).user("john@example.org").disk_quota(1_024).disk_used(1_024),
        begin(E::QuotaWithin, &server).user("john@example.org").disk_quota(1_024).disk_used(900),
        begin(E::QuotaChange, &server).user("john@example.org").max_messages(10_000),
        by_imap(begin(E::MessageRead, &inbox))
            .uidset(UidSet::single(6))
            .modseq(Modseq::new(20).ok_or("0 is no MODSEQ")?),
        by_imap(begin(E::MessageTrash, &inbox)).uidset(UidSet::single(6)),
        by_imap(begin(E::FlagsSet, &inbox))
            .uidset(UidSet::from_uids(3..=9))
            .flag_names(Flags::parse(r"\Flagged $Junk")?),
        by_imap(begin(E::FlagsClear, &inbox))
            .uidset(UidSet::single(3))
            .flag_names(Flags::parse(r"\Seen")?),
        by_imap(begin(E::Login, &host)).server_domain("imap.example.org").server_port(993),
        by_imap(begin(E::Logout, &host)).server_domain("imap.example.org").server_port(993),
        by_imap(begin(E::MailboxCreate, &drafts)).mailbox_id(drafts.clone().into()),
        by_imap(begin(E::MailboxDelete, &drafts)).mailbox_id(drafts.clone().into()),
        by_imap(begin(E::MailboxRename, &older))
            .mailbox_id(older.clone().into())
            .old_mailbox_id(drafts.clone().into()),
        by_imap(begin(E::MailboxSubscribe, &older)).mailbox_id(older.clone().into()),
        // An administrator acted for the user.
        by_imap(begin(E::MailboxUnSubscribe, &older)).mailbox_id(older.into()).admin("root"),
        // Outside the registry, under your own name.
        begin("vnd.example.Snooze".parse()?, &inbox)
            .uidset(UidSet::single(6))
            .vendor(OtherName::new("vnd.example.until")?, "2026-08-21T08:00:00+02:00"),
    ])
}
