//! The forms in which `\\Seen` and `\\Deleted` are told, of what a real Cyrus says.

use mail_event::{Event, json};
use postbell_testkit::cyrus::{Form, Notified};
use postbell_testkit::{ALICE, mail};

use crate::hub::{Hub, wait_for};

#[test]
fn r62_r63_what_cyrus_says_of_flags_is_told_in_the_form_that_is_configured() {
    let room = tempfile::tempdir().unwrap();
    let mut hub = Hub::new(env!("CARGO_BIN_EXE_postbell")).unwrap();
    let Some(store) = Notified::start(&hub, room.path(), Form::Datagrams).unwrap() else { return };
    let mut imap = store.cyrus.imap(ALICE).unwrap();
    for (uid, (seen, deleted)) in (1..).zip(FORMS) {
        hub.kill();
        let policy = format!("\n[policy]\nseen_form = \"{seen}\"\ndeleted_form = \"{deleted}\"\n");
        store.configure(&hub, &policy).unwrap();
        hub.resume().unwrap();
        assert_eq!(imap.append("INBOX", "", &mail::plain(seen)).unwrap(), uid);
        imap.select("INBOX").unwrap();
        let uids = uid.to_string();
        imap.store(&uids, "+FLAGS", "\\Seen \\Deleted \\Flagged").unwrap();
        imap.store(&uids, "-FLAGS", "\\Seen \\Deleted \\Flagged").unwrap();
        // Fetched, it is read.
        imap.command(&format!("UID FETCH {uid} BODY[]")).unwrap();
        imap.store(&uids, "+FLAGS", "$Done").unwrap();
        let last = "FlagsSet $Done";
        wait_for("what was done to be told", || told(&hub, uid).iter().any(|one| one == last));
        let simple = |form, name: &str, flag| match form {
            "simple" => name.to_owned(),
            _ => format!("FlagsSet {flag}"),
        };
        let seen = simple(seen, "MessageRead", "\\Seen");
        let wanted = [
            &*simple(deleted, "MessageTrash", "\\Deleted"),
            &*seen,
            "FlagsSet \\Flagged",
            "FlagsClear \\Deleted \\Flagged \\Seen",
            &*seen,
            last,
        ];
        assert_eq!(told(&hub, uid), wanted);
    }
}

/// What is told of a message's flags, in order, with the names of flags in order.
fn told(hub: &Hub, uid: u32) -> Vec<String> {
    let answer = hub.get("/v1/events?since=0&follow=false&parameters=*").unwrap();
    let data = answer.body.lines().filter_map(|line| line.strip_prefix("data: "));
    let events = data.map(|data| json::from_slice(data.as_bytes()).unwrap().event);
    let of_flags = |event: &Event| {
        let is_it = event.uidset().is_some_and(|uids| uids.only() == Some(uid));
        let mut flags: Vec<_> = match event.flag_names() {
            Some(flags) => flags.iter().map(ToString::to_string).collect(),
            None => Vec::new(),
        };
        flags.sort();
        is_it.then(|| [&[event.name().as_str().to_owned()][..], &flags].concat().join(" "))
    };
    events.filter_map(|event| of_flags(&event)).collect()
}

const FORMS: [(&str, &str); 4] =
    [("simple", "simple"), ("flags", "simple"), ("simple", "flags"), ("flags", "flags")];
