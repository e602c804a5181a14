//! What Dovecot's and Cyrus's events of one scenario carry, held against each other.
//!
//! Each has its own ways, and a file of its own besides. All in which they differ is in
//! [`DIFFERENCES`], with the reason; nothing else may, and none of it may be there in vain.

use std::collections::{BTreeMap, BTreeSet};

/// One difference of parameters.
struct Difference {
    parameter: &'static str,
    /// The events it is made of; all, where there are none.
    events: &'static [&'static str],
    how: How,
    why: &'static str,
}

#[derive(Clone, Copy)]
enum How {
    /// Dovecot's events alone have it.
    DovecotAlone,
    /// Cyrus's events alone have it.
    CyrusAlone,
    /// Both have it, and what it says is alike once this is done to both.
    Alike(fn(&str) -> String),
    /// Both have it, and it says what only one of them can.
    OfItsOwn,
}

/// An event as a scenario's file has it.
struct Told {
    /// Its name and place.
    head: String,
    parameters: BTreeMap<String, String>,
}

/// Holds the parameters of what Cyrus told against what Dovecot tells. Gives the differences that
/// were made, by their place in [`DIFFERENCES`].
///
/// Which events are told of each step is held elsewhere.
pub(crate) fn agree(scenario: &str, dovecot: &str, cyrus: &str) -> BTreeSet<usize> {
    let mut made = BTreeSet::new();
    let others = steps(cyrus);
    for ((step, events), (same_step, told)) in steps(dovecot).into_iter().zip(&others) {
        assert_eq!(step, *same_step, "the steps of {scenario}");
        let mut rest: Vec<&Told> = told.iter().collect();
        for one in &events {
            // Of several at one place it is the one of the same messages.
            let uids = |told: &Told| told.parameters.get("uidset").cloned();
            let same = |told: &&Told| place(&told.head) == place(&one.head);
            let at = rest.iter().position(|told| same(told) && uids(told) == uids(one));
            let Some(at) = at.or_else(|| rest.iter().position(same)) else { continue };
            let other = rest.remove(at);
            let named = other.parameters.keys().filter(|name| !name.starts_with("vnd.cmu."));
            let names: BTreeSet<&String> = one.parameters.keys().chain(named).collect();
            for name in names {
                let both = (one.parameters.get(name), other.parameters.get(name));
                if both.0 == both.1 {
                    continue;
                }
                let event = one.head.split(' ').next().unwrap_or_default();
                let difference = DIFFERENCES.iter().position(|difference| {
                    difference.parameter == name
                        && (difference.events.is_empty() || difference.events.contains(&event))
                        && difference.how.makes(both)
                });
                let difference = difference.unwrap_or_else(|| {
                    panic!(
                        "{scenario}, {step}: {name} of {}: Dovecot {:?}, Cyrus {:?}",
                        one.head, both.0, both.1
                    )
                });
                made.insert(difference);
            }
        }
    }
    made
}

impl How {
    fn makes(self, both: (Option<&String>, Option<&String>)) -> bool {
        match (self, both) {
            (Self::DovecotAlone, (Some(_), None)) | (Self::CyrusAlone, (None, Some(_))) => true,
            (Self::Alike(made), (Some(one), Some(other))) => made(one) == made(other),
            (Self::OfItsOwn, (Some(_), Some(_))) => true,
            _ => false,
        }
    }
}

/// The list as docs/cyrus.md has it.
fn page() -> String {
    let line = |difference: &Difference| {
        let events = match difference.events {
            [] => "all".to_owned(),
            events => events.join(", "),
        };
        let how = match difference.how {
            How::DovecotAlone => "Dovecot alone",
            How::CyrusAlone => "Cyrus alone",
            How::Alike(_) => "written otherwise",
            How::OfItsOwn => "says otherwise",
        };
        format!("| `{}` | {events} | {how} | {} |\n", difference.parameter, difference.why)
    };
    DIFFERENCES.iter().map(line).collect()
}

/// Not every store knows the UIDVALIDITY of what is gone; and shared mailboxes stand below their
/// owner, who is named with the domain or, where it is the default one, without.
fn place(text: &str) -> String {
    text.replace(";V", "").replace("/shared/bob@example.org/", "/shared/bob/")
}

/// Each step with the events told of it, but for those that are Cyrus's own.
fn steps(text: &str) -> Vec<(&str, Vec<Told>)> {
    let mut steps: Vec<(&str, Vec<String>)> = Vec::new();
    for line in text.lines() {
        if let Some(step) = line.strip_prefix("> ") {
            steps.push((step, Vec::new()));
        } else if let Some((_, blocks)) = steps.last_mut() {
            match (line.strip_prefix(' '), blocks.last_mut()) {
                (Some(more), Some(block)) => block.push_str(&format!(" {}", more.trim_start())),
                _ => blocks.push(line.to_owned()),
            }
        }
    }
    let read = |(step, blocks): (_, Vec<String>)| {
        (
            step,
            blocks
                .iter()
                .filter(|block| !block.starts_with("vnd."))
                .map(|block| told(block))
                .collect(),
        )
    };
    steps.into_iter().map(read).collect()
}

fn told(block: &str) -> Told {
    let mut told = Told { head: String::new(), parameters: BTreeMap::new() };
    let mut last: Option<String> = None;
    for word in block.split(' ') {
        let named = word.split_once('=').filter(|(name, _)| {
            name.starts_with(|letter: char| letter.is_ascii_alphabetic())
                && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '.')
        });
        match (named, &last) {
            (Some((name, value)), _) => {
                told.parameters.insert(name.to_owned(), value.to_owned());
                last = Some(name.to_owned());
            }
            (None, Some(name)) => {
                if let Some(value) = told.parameters.get_mut(name) {
                    value.push(' ');
                    value.push_str(word);
                }
            }
            (None, None) => {
                told.head.push_str(if told.head.is_empty() { "" } else { " " });
                told.head.push_str(word);
            }
        }
    }
    told
}

fn in_any_order(flags: &str) -> String {
    let mut flags: Vec<_> = flags.split(',').collect();
    flags.sort_unstable();
    flags.join(",")
}

fn small(text: &str) -> String {
    text.to_ascii_lowercase()
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        parameter: "process",
        events: &[],
        how: How::DovecotAlone,
        why: "Cyrus says the process's number and not what it is; `service` says it.",
    },
    Difference {
        parameter: "serverDomain",
        events: &["MessageNew", "QuotaChange"],
        how: How::DovecotAlone,
        why: "Cyrus names no addresses of an LMTP session.",
    },
    Difference {
        parameter: "serverPort",
        events: &["MessageNew", "QuotaChange"],
        how: How::DovecotAlone,
        why: "Cyrus names no addresses of an LMTP session.",
    },
    Difference {
        parameter: "envelope",
        events: &["MessageNew"],
        how: How::DovecotAlone,
        why: "Cyrus tells nobody the SMTP envelope.",
    },
    Difference {
        parameter: "authMechanism",
        events: &["Login"],
        how: How::DovecotAlone,
        why: "Cyrus doesn't say by which mechanism.",
    },
    Difference {
        parameter: "admin",
        events: &["Login", "Logout"],
        how: How::DovecotAlone,
        why: "Cyrus names the authorization identity alone.",
    },
    Difference {
        parameter: "rawService",
        events: &["MessageExpire"],
        how: How::DovecotAlone,
        why: "Dovecot expires by its admin's command, Cyrus by a program of its own, which `service` names.",
    },
    Difference {
        parameter: "service",
        events: &["MessageExpire"],
        how: How::OfItsOwn,
        why: "Dovecot expires by its admin's command, Cyrus by a program of its own, which `service` names.",
    },
    Difference {
        parameter: "expirePolicy",
        events: &["MessageExpire"],
        how: How::OfItsOwn,
        why: "Cyrus doesn't say which policy; the program stands for it.",
    },
    Difference {
        parameter: "messages",
        events: &["FlagsSet", "FlagsClear", "MessageRead", "MessageTrash"],
        how: How::CyrusAlone,
        why: "Dovecot isn't asked how a mailbox stands for a change of flags, which would cost each STORE.",
    },
    Difference {
        parameter: "uidnext",
        events: &["FlagsSet", "FlagsClear", "MessageRead", "MessageTrash"],
        how: How::CyrusAlone,
        why: "Dovecot isn't asked how a mailbox stands for a change of flags, which would cost each STORE.",
    },
    Difference {
        parameter: "modseq",
        events: &["FlagsSet", "FlagsClear", "MessageRead", "MessageTrash"],
        how: How::CyrusAlone,
        why: "Dovecot doesn't say it of a change of flags.",
    },
    Difference {
        parameter: "highestModseq",
        events: &["MessageAppend", "MessageExpunge", "MessageTrash"],
        how: How::CyrusAlone,
        why: "Cyrus names the mailbox's where an event is of several messages.",
    },
    Difference {
        parameter: "flagsOfSome",
        events: &["FlagsSet", "MessageRead", "MessageTrash"],
        how: How::CyrusAlone,
        why: "Cyrus names all messages of a STORE, also those that had the flag.",
    },
    Difference {
        parameter: "uidset",
        events: &["FlagsSet"],
        how: How::OfItsOwn,
        why: "Cyrus names all messages of a STORE, also those that had the flag.",
    },
    Difference {
        parameter: "copyFromMailboxID",
        events: &["MessageAppend"],
        how: How::CyrusAlone,
        why: "Dovecot doesn't say where a copy is from; of a move it is known.",
    },
    Difference {
        parameter: "copyFromUidset",
        events: &["MessageAppend"],
        how: How::CyrusAlone,
        why: "Dovecot doesn't say where a copy is from; of a move it is known.",
    },
    Difference {
        parameter: "messages",
        events: &["MessageAppend"],
        how: How::OfItsOwn,
        why: "Of messages appended together Dovecot says how the mailbox stands after all, Cyrus after each.",
    },
    Difference {
        parameter: "uidnext",
        events: &["MessageAppend"],
        how: How::OfItsOwn,
        why: "Of messages appended together Dovecot says how the mailbox stands after all, Cyrus after each.",
    },
    Difference {
        parameter: "messageSize",
        events: &["MessageAppend", "MessageNew"],
        how: How::OfItsOwn,
        why: "Each adds header lines of its own; sizes are held against FETCH elsewhere.",
    },
    Difference {
        parameter: "bodyStructure",
        events: &["MessageAppend", "MessageNew"],
        how: How::Alike(small),
        why: "Dovecot writes media types small, Cyrus in capitals.",
    },
    Difference {
        parameter: "BODY",
        events: &["MessageNew"],
        how: How::DovecotAlone,
        why: "A part of `envelope`.",
    },
    Difference {
        parameter: "flagNames",
        events: &["MessageAppend"],
        how: How::Alike(in_any_order),
        why: "Flags have no order.",
    },
    Difference {
        parameter: "mailboxID",
        events: &["MailboxDelete"],
        how: How::Alike(place),
        why: "Dovecot doesn't know the UIDVALIDITY of a mailbox that is gone.",
    },
    Difference {
        parameter: "mailboxID",
        events: &["MailboxCreate", "MailboxDelete"],
        how: How::Alike(place),
        why: "Of a shared mailbox's owner Cyrus leaves out the default domain.",
    },
    Difference {
        parameter: "pid",
        events: &["MailboxCreate", "MailboxDelete"],
        how: How::CyrusAlone,
        why: "What Dovecot says of rights that changed has no process's number.",
    },
    Difference {
        parameter: "serverFQDN",
        events: &[],
        how: How::OfItsOwn,
        why: "The two servers of the tests have names of their own.",
    },
    Difference {
        parameter: "sessionId",
        events: &[],
        how: How::OfItsOwn,
        why: "Sessions are counted as they are told, and of an LMTP session for two Dovecot makes one for each.",
    },
    Difference {
        parameter: "quotaRoot",
        events: &["QuotaChange", "QuotaExceed", "QuotaWithin"],
        how: How::OfItsOwn,
        why: "Each names its quota roots its own way.",
    },
    Difference {
        parameter: "diskUsed",
        events: &["QuotaChange", "QuotaExceed", "QuotaWithin"],
        how: How::OfItsOwn,
        why: "Each adds header lines of its own; sizes are held against FETCH elsewhere.",
    },
];

#[test]
fn what_is_expected_of_both_differs_as_is_explained_and_in_nothing_else() {
    let folder = format!("{}/tests/stores/expected", env!("CARGO_MANIFEST_DIR"));
    let mut made = BTreeSet::new();
    for entry in std::fs::read_dir(format!("{folder}/cyrus")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let read = |path: String| std::fs::read_to_string(path).unwrap();
        let (dovecot, cyrus) =
            (read(format!("{folder}/{name}")), read(format!("{folder}/cyrus/{name}")));
        made.extend(agree(&name, &dovecot, &cyrus));
    }
    for (at, difference) in DIFFERENCES.iter().enumerate() {
        assert!(
            made.contains(&at),
            "{} {}: nothing shows it",
            difference.parameter,
            difference.why
        );
    }
    let page = page();
    let cyrus = format!("{}/../../docs/cyrus.md", env!("CARGO_MANIFEST_DIR"));
    let cyrus = std::fs::read_to_string(cyrus).unwrap();
    assert!(cyrus.contains(&page), "docs/cyrus.md should have\n{page}");
}
