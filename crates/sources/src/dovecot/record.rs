//! A line of the spool: one transaction, as our script in Dovecot wrote it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use jiff::tz::Offset;
use mail_event::{Flag, Flags, Timestamp, UidSet};
use serde::Deserialize;

use crate::reconcile::BoxStatus;

/// What one Dovecot process did in one go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Transaction {
    /// One run of the script in one process: 32 hexadecimal digits.
    pub(super) run: String,
    /// Its number within the run, contiguous from 1.
    pub(super) seq: u64,
    /// The process.
    pub(super) pid: u32,
    /// When it was written down; 1970 in a [`Act::Bye`], which has no time.
    pub(super) at: Timestamp,
    /// Who acted; empty in a [`Act::Bye`].
    pub(super) user: String,
    /// The system's user the process ran as; the file's name says the same.
    pub(super) uid: Option<u32>,
    /// `imap`, `pop3`, `lmtp`…
    pub(super) service: Option<String>,
    /// Dovecot's name for the session.
    pub(super) session: Option<String>,
    /// From where the client came; port 0 where only the address is known.
    pub(super) client: Option<SocketAddr>,
    /// The address it reached.
    pub(super) server_ip: Option<IpAddr>,
    /// The port it reached.
    pub(super) server_port: Option<u16>,
    /// Who logged in, where it isn't the user.
    pub(super) auth: Option<String>,
    /// The SASL mechanism.
    pub(super) mech: Option<String>,
    /// How the connection was secured, in Dovecot's words.
    pub(super) secured: Option<String>,
    /// The command, where the script knew it.
    pub(super) command: Option<String>,
    /// What happened, in order.
    pub(super) acts: Vec<Act>,
    /// How the mailboxes stood afterwards, by name.
    pub(super) status: BTreeMap<String, BoxStatus>,
}

impl Transaction {
    /// Who and where, without what happened: for what is told of it later.
    pub(super) fn head(&self) -> Self {
        let Self { run, seq, pid, at, user, uid, service, session, .. } = self;
        let Self { client, server_ip, server_port, auth, mech, secured, command, .. } = self;
        Self {
            run: run.clone(),
            seq: *seq,
            pid: *pid,
            at: *at,
            user: user.clone(),
            uid: *uid,
            service: service.clone(),
            session: session.clone(),
            client: *client,
            server_ip: *server_ip,
            server_port: *server_port,
            auth: auth.clone(),
            mech: mech.clone(),
            secured: secured.clone(),
            command: command.clone(),
            acts: Vec::new(),
            status: BTreeMap::new(),
        }
    }

    /// What the client reached; port 0 where only the address is known.
    pub(super) fn server(&self) -> Option<SocketAddr> {
        self.server_ip.map(|ip| SocketAddr::new(ip, self.server_port.unwrap_or(0)))
    }

    /// How a mailbox stood afterwards, as far as it is said.
    pub(super) fn stands(&self, mailbox: &str) -> BoxStatus {
        self.status.get(mailbox).copied().unwrap_or_default()
    }
}

/// One thing that happened. Mailboxes are named as Dovecot's users see them, with the namespace's
/// separator.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Act {
    /// Messages came in.
    Added {
        /// By a delivery agent.
        delivered: bool,
        /// Where.
        mailbox: String,
        /// Its UIDVALIDITY.
        val: Option<u32>,
        /// Which.
        uids: UidSet,
        /// What they came with.
        flags: Flags,
    },
    /// Messages went.
    Expunged {
        /// Where.
        mailbox: String,
        /// Its UIDVALIDITY.
        val: Option<u32>,
        /// Which.
        uids: UidSet,
    },
    /// Messages got flags.
    Set {
        /// Where.
        mailbox: String,
        /// Its UIDVALIDITY.
        val: Option<u32>,
        /// Which.
        uids: UidSet,
        /// Those they hadn't before.
        flags: Flags,
    },
    /// Messages lost flags.
    Cleared {
        /// Where.
        mailbox: String,
        /// Its UIDVALIDITY.
        val: Option<u32>,
        /// Which.
        uids: UidSet,
        /// Those they had before.
        flags: Flags,
    },
    /// A mailbox came to be.
    Created {
        /// Its name.
        mailbox: String,
        /// Its UIDVALIDITY.
        val: Option<u32>,
    },
    /// A mailbox went.
    Deleted {
        /// Its name.
        mailbox: String,
        /// Its UIDVALIDITY.
        val: Option<u32>,
    },
    /// A mailbox got another name, its children with it.
    Renamed {
        /// Its name now.
        mailbox: String,
        /// Its UIDVALIDITY.
        val: Option<u32>,
        /// Its name before.
        old: String,
    },
    /// The subscription list gained a name.
    Subscribed {
        /// The name.
        mailbox: String,
    },
    /// The subscription list lost a name.
    Unsubscribed {
        /// The name.
        mailbox: String,
    },
    /// The session began.
    LoggedIn,
    /// The session ended.
    LoggedOut {
        /// How long it lasted, in seconds.
        secs: Option<u64>,
    },
    /// The run ended as it should: nothing comes after.
    Bye,
}

impl Transaction {
    /// Whether the run ends here.
    pub(super) fn is_bye(&self) -> bool {
        self.acts.contains(&Act::Bye)
    }
}

impl Act {
    /// The mailbox concerned.
    pub(super) fn mailbox(&self) -> Option<&str> {
        match self {
            Self::Added { mailbox, .. }
            | Self::Expunged { mailbox, .. }
            | Self::Set { mailbox, .. }
            | Self::Cleared { mailbox, .. }
            | Self::Created { mailbox, .. }
            | Self::Deleted { mailbox, .. }
            | Self::Renamed { mailbox, .. }
            | Self::Subscribed { mailbox }
            | Self::Unsubscribed { mailbox } => Some(mailbox),
            Self::LoggedIn | Self::LoggedOut { .. } | Self::Bye => None,
        }
    }

    /// The mailbox's UIDVALIDITY, where it is said.
    pub(super) fn val(&self) -> Option<u32> {
        match self {
            Self::Added { val, .. }
            | Self::Expunged { val, .. }
            | Self::Set { val, .. }
            | Self::Cleared { val, .. }
            | Self::Created { val, .. }
            | Self::Deleted { val, .. }
            | Self::Renamed { val, .. } => *val,
            Self::Subscribed { .. }
            | Self::Unsubscribed { .. }
            | Self::LoggedIn
            | Self::LoggedOut { .. }
            | Self::Bye => None,
        }
    }
}

/// Reads a line; its end may be there or not.
pub(super) fn parse(line: &[u8]) -> Result<Transaction, RecordError> {
    if line.len() > LINE_OCTETS_MAX {
        return Err(RecordError::TooLong);
    }
    // The version first, so that a later one is called by its name.
    let Version { v } = serde_json::from_slice(line)?;
    if v != VERSION {
        return Err(RecordError::Version(v));
    }
    let raw: RawLine = serde_json::from_slice(line)?;
    if raw.run.len() != 32 || !raw.run.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(RecordError::Run);
    }
    if raw.seq == 0 {
        return Err(RecordError::Seq);
    }
    if raw.events.len() > ACTS_MAX || raw.status.len() > ACTS_MAX {
        return Err(RecordError::TooMany);
    }
    let acts: Vec<_> = raw.events.into_iter().map(act).collect::<Result<_, _>>()?;
    let is_bye = !acts.is_empty() && acts.iter().all(|act| *act == Act::Bye);
    let seconds = match raw.time {
        Some(seconds) => seconds,
        None if is_bye => 0,
        None => return Err(RecordError::Missing("time")),
    };
    let user = match kept(raw.user)? {
        Some(user) => user,
        None if is_bye => String::new(),
        None => return Err(RecordError::Missing("user")),
    };
    let instant = jiff::Timestamp::from_second(seconds).map_err(|_| RecordError::Time(seconds))?;
    let client: Option<IpAddr> = raw.rip.and_then(|ip| ip.parse().ok());
    let status = raw.status.into_iter().map(|(name, status)| {
        let RawStatus { val, messages, uidnext, modseq } = status;
        let (val, uidnext) = (val.filter(|val| *val != 0), uidnext.filter(|uid| *uid != 0));
        Ok((mailbox(Some(name))?, BoxStatus { val, messages, uidnext, modseq }))
    });
    Ok(Transaction {
        status: status.collect::<Result<_, RecordError>>()?,
        run: raw.run.to_ascii_lowercase(),
        seq: raw.seq,
        pid: raw.pid,
        at: Timestamp::new(instant, Offset::UTC),
        user,
        uid: raw.uid,
        service: kept(raw.service)?,
        session: kept(raw.session)?,
        client: client.map(|ip| SocketAddr::new(ip, raw.rport.unwrap_or(0))),
        server_ip: raw.lip.and_then(|ip| ip.parse().ok()),
        server_port: raw.lport.filter(|port| *port != 0),
        auth: kept(raw.auth)?,
        mech: kept(raw.mech)?,
        secured: kept(raw.secured)?,
        command: kept(raw.cmd)?,
        acts,
    })
}

/// Why a line can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    /// No JSON, or not in the shape agreed on.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Written by a script of another age.
    #[error("a record of version {0}, where {VERSION} is known")]
    Version(u64),
    /// `run` is not what the script makes.
    #[error("\"run\" is not 32 hexadecimal digits")]
    Run,
    /// Numbers begin with 1.
    #[error("\"seq\" is 0")]
    Seq,
    /// A member that must be there isn't.
    #[error("\"{0}\" is missing")]
    Missing(&'static str),
    /// An `e` nobody has heard of.
    #[error("{0:?} is no happening known here")]
    Act(String),
    /// No instant.
    #[error("\"time\" is {0}")]
    Time(i64),
    /// `uids` is no UID set, or one larger than any mailbox.
    #[error("\"uids\": {0}")]
    Uids(String),
    /// A flag is none.
    #[error("\"flags\": {0}")]
    Flags(#[from] mail_event::InvalidFlag),
    /// A text no event has room for.
    #[error("a text of more than {TEXT_OCTETS_MAX} octets")]
    TextTooLong,
    /// The whole line.
    #[error("a line of more than {LINE_OCTETS_MAX} octets")]
    TooLong,
    /// More happenings than one line may hold.
    #[error("more than {ACTS_MAX} happenings")]
    TooMany,
}

#[derive(Deserialize)]
struct Version {
    v: u64,
}

#[derive(Deserialize)]
struct RawLine {
    run: String,
    seq: u64,
    #[serde(default)]
    pid: u32,
    time: Option<i64>,
    user: Option<String>,
    uid: Option<u32>,
    service: Option<String>,
    session: Option<String>,
    rip: Option<String>,
    rport: Option<u16>,
    lip: Option<String>,
    lport: Option<u16>,
    auth: Option<String>,
    mech: Option<String>,
    secured: Option<String>,
    cmd: Option<String>,
    #[serde(default)]
    events: Vec<RawAct>,
    #[serde(default)]
    status: BTreeMap<String, RawStatus>,
}

#[derive(Deserialize)]
struct RawAct {
    e: String,
    #[serde(rename = "box")]
    mailbox: Option<String>,
    old: Option<String>,
    val: Option<u32>,
    uids: Option<String>,
    #[serde(default)]
    flags: Vec<String>,
    secs: Option<u64>,
}

#[derive(Deserialize)]
struct RawStatus {
    val: Option<u32>,
    messages: Option<u64>,
    uidnext: Option<u32>,
    modseq: Option<u64>,
}

fn act(raw: RawAct) -> Result<Act, RecordError> {
    let RawAct { e, mailbox: name, old, val, uids: texts, flags: names, secs } = raw;
    let val = val.filter(|val| *val != 0);
    let uids = || uids(texts);
    Ok(match e.as_str() {
        "new" | "append" => Act::Added {
            delivered: e == "new",
            mailbox: mailbox(name)?,
            val,
            uids: uids()?,
            flags: flags(names)?,
        },
        "expunge" => Act::Expunged { mailbox: mailbox(name)?, val, uids: uids()? },
        "set" => Act::Set { mailbox: mailbox(name)?, val, uids: uids()?, flags: flags(names)? },
        "clear" => {
            Act::Cleared { mailbox: mailbox(name)?, val, uids: uids()?, flags: flags(names)? }
        }
        "create" => Act::Created { mailbox: mailbox(name)?, val },
        "delete" => Act::Deleted { mailbox: mailbox(name)?, val },
        "rename" => {
            let old = kept(old)?.ok_or(RecordError::Missing("old"))?;
            Act::Renamed { mailbox: mailbox(name)?, val, old }
        }
        "sub" => Act::Subscribed { mailbox: mailbox(name)? },
        "unsub" => Act::Unsubscribed { mailbox: mailbox(name)? },
        "login" => Act::LoggedIn,
        "logout" => Act::LoggedOut { secs },
        "bye" => Act::Bye,
        _ => return Err(RecordError::Act(e.chars().take(32).collect())),
    })
}

fn mailbox(name: Option<String>) -> Result<String, RecordError> {
    kept(name)?.ok_or(RecordError::Missing("box"))
}

/// A text as it is kept: none where it is empty.
fn kept(text: Option<String>) -> Result<Option<String>, RecordError> {
    match text.filter(|text| !text.is_empty()) {
        Some(text) if text.len() > TEXT_OCTETS_MAX => Err(RecordError::TextTooLong),
        other => Ok(other),
    }
}

fn uids(text: Option<String>) -> Result<UidSet, RecordError> {
    let text = text.ok_or(RecordError::Missing("uids"))?;
    let (set, _) =
        UidSet::parse_lenient(&text).map_err(|error| RecordError::Uids(error.to_string()))?;
    if set.len() > UIDS_MAX {
        return Err(RecordError::Uids(format!("more than {UIDS_MAX}")));
    }
    Ok(set)
}

fn flags(names: Vec<String>) -> Result<Flags, RecordError> {
    if names.len() > mail_event::limits::FLAGS_MAX {
        return Err(mail_event::InvalidFlag::TooMany.into());
    }
    // \Recent is the session's affair, not the message's (R61).
    let names = names.iter().filter(|name| !name.eq_ignore_ascii_case(r"\Recent"));
    Ok(names.map(|name| name.parse::<Flag>()).collect::<Result<_, _>>()?)
}

/// The one form there is.
const VERSION: u64 = 1;

/// The longest line, with its end: the script divides what is longer.
pub(super) const LINE_OCTETS_MAX: usize = 1 << 20;

/// Happenings, and mailboxes told of, in one line. A line has room for no more.
const ACTS_MAX: usize = 65_536;

/// The longest name of a user, a mailbox and the like: no event has room for more.
const TEXT_OCTETS_MAX: usize = mail_event::limits::TEXT_OCTETS_MAX;

/// Messages in one happening. Each that came in makes an event, so that twelve letters could
/// otherwise ask for 2³² of them.
const UIDS_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RUN: &str = "0123456789abcdef0123456789abcdef";

    fn line(rest: &str) -> String {
        format!(
            r#"{{"v":1,"run":"{RUN}","seq":3,"pid":7,"time":1795573548,"user":"alice",{rest}}}"#
        )
    }

    fn acts(events: &str) -> Result<Vec<Act>, RecordError> {
        parse(line(&format!(r#""events":[{events}]"#)).as_bytes()).map(|found| found.acts)
    }

    #[test]
    fn a_line_is_read_whole() {
        let text = line(
            r#""uid":21000,"service":"imap","session":"iOg/AAAB","rip":"127.0.0.1","rport":52046,
            "lip":"::1","lport":21143,"auth":"master","mech":"PLAIN","secured":"secured","cmd":"APPEND",
            "events":[{"e":"append","box":"Entwürfe/ä","val":5,"uids":"7:9,11","flags":["\\seen","$Forwarded","\\Recent"]}],
            "status":{"Entwürfe/ä":{"val":5,"messages":2,"uidnext":12,"modseq":9}}"#,
        );
        let found = parse(format!("{text}\n").as_bytes()).unwrap();
        assert_eq!((found.run.as_str(), found.seq, found.pid), (RUN, 3, 7));
        assert_eq!(found.at.to_string(), "2026-11-25T02:25:48+00:00");
        assert_eq!((found.user.as_str(), found.uid), ("alice", Some(21000)));
        assert_eq!(found.client.unwrap().to_string(), "127.0.0.1:52046");
        assert_eq!(found.server_ip.unwrap().to_string(), "::1");
        assert_eq!((found.server_port, found.auth.as_deref()), (Some(21143), Some("master")));
        let added = Act::Added {
            delivered: false,
            mailbox: "Entwürfe/ä".to_owned(),
            val: Some(5),
            uids: "7:9,11".parse().unwrap(),
            flags: Flags::parse(r"\Seen $Forwarded").unwrap(),
        };
        assert_eq!(found.acts, [added]);
        let status =
            BoxStatus { val: Some(5), messages: Some(2), uidnext: Some(12), modseq: Some(9) };
        assert_eq!(found.status["Entwürfe/ä"], status);
        assert!(!found.is_bye());
    }

    #[test]
    fn absent_means_unknown() {
        let found = parse(line(r#""events":[{"e":"login"}]"#).as_bytes()).unwrap();
        assert_eq!((found.uid, found.client, found.server_ip), (None, None, None));
        assert_eq!((found.service, found.session, found.auth), (None, None, None));
        assert_eq!(found.acts, [Act::LoggedIn]);
    }

    #[test]
    fn a_bye_needs_neither_time_nor_user() {
        let text = format!(r#"{{"v":1,"run":"{RUN}","seq":9,"pid":7,"events":[{{"e":"bye"}}]}}"#);
        assert!(parse(text.as_bytes()).unwrap().is_bye());
        let text = text.replace("bye", "login");
        assert!(matches!(parse(text.as_bytes()), Err(RecordError::Missing("time"))));
    }

    #[test]
    fn what_the_script_never_writes_is_refused() {
        assert!(matches!(acts(r#"{"e":"snooze"}"#), Err(RecordError::Act(_))));
        assert!(matches!(acts(r#"{"e":"delete"}"#), Err(RecordError::Missing("box"))));
        assert!(matches!(acts(r#"{"e":"rename","box":"a"}"#), Err(RecordError::Missing("old"))));
        for uids in ["", "0", "x", "1:4294967295"] {
            let text = format!(r#"{{"e":"expunge","box":"a","uids":"{uids}"}}"#);
            assert!(matches!(acts(&text), Err(RecordError::Uids(_))), "{uids}");
        }
        let text = line(r#""events":[]"#);
        for (from, to) in [("\"v\":1", "\"v\":2"), (RUN, "0123"), ("\"seq\":3", "\"seq\":0")] {
            assert!(parse(text.replace(from, to).as_bytes()).is_err(), "{to}");
        }
        let long = line(&format!(r#""service":"{}""#, "x".repeat(5_000)));
        assert!(matches!(parse(long.as_bytes()), Err(RecordError::TextTooLong)));
        assert!(matches!(parse(&vec![b' '; 2 << 20]), Err(RecordError::TooLong)));
    }

    #[test]
    fn r61_recent_is_no_flag_here() {
        let found = acts(r#"{"e":"set","box":"a","uids":"1","flags":["\\RECENT","x"]}"#).unwrap();
        let [Act::Set { flags, .. }] = &found[..] else { panic!("one act") };
        assert_eq!(*flags, Flags::parse("x").unwrap());
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(parse(&octets));
        }

        #[test]
        fn a_line_cut_anywhere_is_refused(at in 1_usize..160) {
            let text = line(r#""events":[{"e":"append","box":"a","uids":"1"}]"#);
            prop_assume!(at < text.len());
            prop_assert!(parse(&text.as_bytes()[..at]).is_err());
        }
    }
}
