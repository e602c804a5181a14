//! Why Dovecot and Cyrus tell one scenario otherwise: all of it, and nothing else may differ.
//!
//! Each line of the expectation files that one store alone tells is marked with the rule that
//! explains it ([`crate::shared`]). The list stands in docs/cyrus.md as well.

use std::collections::BTreeSet;
use std::fmt;

use crate::shared::{Marked, Store};

/// One reason for differences.
pub(crate) struct Rule {
    /// As it stands in marks.
    pub(crate) name: &'static str,
    makes: &'static [Difference],
    why: &'static str,
}

/// A name each; one that ends in `*` stands for all that begin so.
type Names = &'static [&'static str];

/// What a rule does to what is expected.
enum Difference {
    /// One store alone plays these.
    Play(Store, Names),
    /// One store alone tells these events.
    Event(Store, Names),
    /// Each tells these events of a step at another place among the others.
    Order(Names),
    /// One store alone says these parameters of these events.
    Parameter(Store, Names, Names),
    /// Both say these parameters of these events, and alike once this is done to both.
    Form(fn(&str) -> String, Names, Names),
    /// Both say these parameters of these events, and what only one of them can.
    Value(Names, Names),
}

/// The rule by which `store` alone plays this.
pub(crate) fn of_play(store: Store, play: &str) -> &'static str {
    first(|difference| match difference {
        Difference::Play(of, plays) => *of == store && among(plays, play),
        _ => false,
    })
}

/// The rule by which `store` alone tells such an event, or, where `is_elsewhere`, the other tells
/// it at another place of the step.
pub(crate) fn of_event(store: Store, event: &str, is_elsewhere: bool) -> &'static str {
    first(|difference| match difference {
        Difference::Event(of, events) => !is_elsewhere && *of == store && among(events, event),
        Difference::Order(events) => is_elsewhere && among(events, event),
        _ => false,
    })
}

/// The rule by which Dovecot and Cyrus, in this order, say a parameter of an event otherwise.
pub(crate) fn of_parameter(event: &str, parameter: &str, said: [Option<&str>; 2]) -> &'static str {
    let is_of = |parameters, events| among(parameters, parameter) && among(events, event);
    first(|difference| match (difference, said) {
        (Difference::Parameter(Store::Dovecot, parameters, events), [Some(_), None])
        | (Difference::Parameter(Store::Cyrus, parameters, events), [None, Some(_)])
        | (Difference::Value(parameters, events), [Some(_), Some(_)]) => is_of(parameters, events),
        (Difference::Form(made, parameters, events), [Some(one), Some(other)]) => {
            is_of(parameters, events) && made(one) == made(other)
        }
        _ => false,
    })
}

/// A place as both stores write it.
pub(crate) fn place(uri: &str) -> String {
    without_default_domain(&without_uidvalidity(uri))
}

fn first(makes: impl Fn(&Difference) -> bool) -> &'static str {
    RULES.iter().find(|rule| rule.makes.iter().any(&makes)).map_or(NONE, |rule| rule.name)
}

fn among(names: &[&str], name: &str) -> bool {
    names.iter().any(|one| match one.strip_suffix('*') {
        Some(begin) => name.starts_with(begin),
        None => *one == name,
    })
}

impl Rule {
    /// What it allows for nothing: names of its own that no mark needs, of all that are `marked` in
    /// a play.
    pub(crate) fn in_vain(&self, marked: &[(String, Marked<'_>)]) -> Vec<&'static str> {
        let vain = |names: Names, shows: &dyn Fn(&[&str], &str, &Marked<'_>) -> bool| {
            let mine = || marked.iter().filter(|(_, one)| one.mark.rule == self.name);
            let is_shown = |name: &str| mine().any(|(play, one)| shows(&[name], play, one));
            names.iter().copied().filter(|name| !is_shown(name)).collect::<Vec<_>>()
        };
        let is = |names: &[&str], of: Option<&str>| of.is_some_and(|of| among(names, of));
        let difference = |difference: &Difference| match difference {
            Difference::Play(_, plays) => vain(plays, &|name, play, _| among(name, play)),
            Difference::Event(_, events) | Difference::Order(events) => {
                vain(events, &|name, _, one| one.parameter.is_none() && is(name, one.event))
            }
            Difference::Parameter(_, parameters, events)
            | Difference::Form(_, parameters, events)
            | Difference::Value(parameters, events) => {
                let of = |name: &[&str], _: &str, one: &Marked<'_>| {
                    is(name, one.parameter) && is(events, one.event)
                };
                let on = |name: &[&str], _: &str, one: &Marked<'_>| {
                    is(name, one.event) && is(parameters, one.parameter)
                };
                [vain(parameters, &of), vain(events, &on)].concat()
            }
        };
        self.makes.iter().flat_map(difference).collect()
    }

    /// Its line in the table of docs/cyrus.md.
    pub(crate) fn line(&self, plays: &BTreeSet<&str>) -> String {
        let makes: Vec<_> = self.makes.iter().map(ToString::to_string).collect();
        let first = plays.first().map(|play| format!("[{play}]({FOLDER}/{play}.snap)"));
        let more = match plays.len() {
            0 | 1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let (makes, first) = (makes.join("; "), first.unwrap_or_default());
        format!("| `{}` | {makes} | {} | {first}{more} |\n", self.name, self.why)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alone = |store: &Store| match store {
            Store::Cyrus => "Cyrus alone",
            Store::Dovecot => "Dovecot alone",
        };
        let of = |parameters: Names, events: Names| {
            format!("`{}` of {}", parameters.join("`, `"), events.join(", ").replace('*', "all"))
        };
        match self {
            Self::Play(store, _) => write!(f, "the whole play: {}", alone(store)),
            Self::Event(store, events) => write!(f, "{}: {}", events.join(", "), alone(store)),
            Self::Order(events) => write!(f, "{}: at another place of a step", events.join(", ")),
            Self::Parameter(store, parameters, events) => {
                write!(f, "{}: {}", of(parameters, events), alone(store))
            }
            Self::Form(_, parameters, events) => {
                write!(f, "{}: written otherwise", of(parameters, events))
            }
            Self::Value(parameters, events) => {
                write!(f, "{}: says otherwise", of(parameters, events))
            }
        }
    }
}

fn in_any_order(flags: &str) -> String {
    let mut flags: Vec<_> = flags.split(',').collect();
    flags.sort_unstable();
    flags.join(",")
}

fn small(text: &str) -> String {
    text.to_ascii_lowercase()
}

fn without_default_domain(uri: &str) -> String {
    uri.replace("/shared/bob@example.org/", "/shared/bob/")
}

fn without_uidvalidity(uri: &str) -> String {
    uri.replace(";V", "")
}

/// Stands in a mark for the rule that is missing.
pub(crate) const NONE: &str = "?";
/// The expectation files, as docs/cyrus.md sees them.
const FOLDER: &str = "../crates/acceptance/tests/stores/expected";

const ALL: Names = &["*"];
const OF_FLAGS: Names = &["FlagsClear", "FlagsSet", "MessageRead", "MessageTrash"];
const OF_QUOTAS: Names = &["QuotaChange", "QuotaExceed", "QuotaWithin"];

/// In the order in which they are asked: the first that fits explains.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "rename-inbox",
        makes: &[Difference::Play(Store::Dovecot, &["mailboxes_rename_inbox"])],
        why: "Cyrus's imapd aborts when users rename their own INBOX.",
    },
    Rule {
        name: "children",
        makes: &[Difference::Play(Store::Dovecot, &["mailboxes_parent"])],
        why: "Cyrus doesn't let a mailbox be deleted that has others below it.",
    },
    Rule {
        name: "autoexpunge",
        makes: &[Difference::Play(Store::Dovecot, &["removal_spam"])],
        why: "Cyrus expires by its operator's program alone, not when a session ends.",
    },
    Rule {
        name: "hibernation",
        makes: &[Difference::Play(Store::Dovecot, &["sessions_hibernation"])],
        why: "Cyrus keeps a process for each session, also while its client idles.",
    },
    Rule {
        name: "http",
        makes: &[Difference::Play(Store::Cyrus, &["web_caldav", "web_jmap"])],
        why: "Dovecot serves neither JMAP nor CalDAV.",
    },
    Rule {
        name: "own",
        makes: &[
            Difference::Event(Store::Cyrus, &["vnd.cmu.AclChange", "vnd.cmu.MailboxModseq"]),
            Difference::Parameter(Store::Cyrus, &["vnd.cmu.*"], ALL),
        ],
        why: "What Cyrus says beyond the RFC is told under a name of Cyrus's.",
    },
    Rule {
        name: "refused",
        makes: &[Difference::Event(Store::Dovecot, &["QuotaExceed", "QuotaWithin"])],
        why: "Cyrus refuses for want of room without a word to anybody but the client, so nothing is within again after it either.",
    },
    Rule {
        name: "limits",
        makes: &[
            Difference::Event(Store::Dovecot, &["QuotaChange"]),
            Difference::Event(Store::Cyrus, &["QuotaExceed"]),
        ],
        why: "A limit that changed is seen at Cyrus with the next change of mail, and not with what is refused.",
    },
    Rule {
        name: "order",
        makes: &[Difference::Order(&["MessageTrash"])],
        why: "Of one STORE Cyrus tells `\\Deleted` before `\\Seen`.",
    },
    Rule {
        name: "process",
        makes: &[Difference::Parameter(Store::Dovecot, &["process"], ALL)],
        why: "Cyrus says the process's number and not what it is; `service` says it.",
    },
    Rule {
        name: "lmtp-address",
        makes: &[Difference::Parameter(
            Store::Dovecot,
            &["serverDomain", "serverPort"],
            &["MessageNew", "QuotaChange"],
        )],
        why: "Cyrus names no addresses of an LMTP session.",
    },
    Rule {
        name: "envelope",
        makes: &[Difference::Parameter(Store::Dovecot, &["envelope"], &["MessageNew"])],
        why: "Cyrus tells nobody the SMTP envelope.",
    },
    Rule {
        name: "login",
        makes: &[
            Difference::Parameter(Store::Dovecot, &["admin"], &["Login", "Logout"]),
            Difference::Parameter(Store::Dovecot, &["authMechanism"], &["Login"]),
        ],
        why: "Cyrus names the authorization identity alone, and doesn't say by which mechanism.",
    },
    Rule {
        name: "sessions",
        makes: &[Difference::Value(&["sessionId"], ALL)],
        why: "Sessions are numbered as they are told. Of one LMTP session Dovecot makes several, one for each delivery and recipient, and Cyrus none where all of it was refused.",
    },
    Rule {
        name: "expiry",
        makes: &[
            Difference::Parameter(Store::Dovecot, &["rawService"], &["MessageExpire"]),
            Difference::Value(&["expirePolicy", "service"], &["MessageExpire"]),
        ],
        why: "Dovecot expires by its admin's command; Cyrus by a program of its own, which `service` names and which stands for the policy.",
    },
    Rule {
        name: "flag-state",
        makes: &[Difference::Parameter(Store::Cyrus, &["messages", "modseq", "uidnext"], OF_FLAGS)],
        why: "Cyrus says with a change of flags how the mailbox stands. Dovecot doesn't, and isn't asked, which would cost each STORE.",
    },
    Rule {
        name: "several",
        makes: &[
            Difference::Parameter(
                Store::Cyrus,
                &["flagsOfSome"],
                &["FlagsSet", "MessageRead", "MessageTrash"],
            ),
            Difference::Value(&["uidset"], &["FlagsSet"]),
        ],
        why: "Cyrus names all messages of a STORE, also those that had the flag.",
    },
    Rule {
        name: "highest-modseq",
        makes: &[Difference::Parameter(
            Store::Cyrus,
            &["highestModseq"],
            &["MessageAppend", "MessageExpunge", "MessageTrash"],
        )],
        why: "Cyrus names the mailbox's where an event is of several messages.",
    },
    Rule {
        name: "copy-from",
        makes: &[Difference::Parameter(
            Store::Cyrus,
            &["copyFromMailboxID", "copyFromUidset"],
            &["MessageAppend"],
        )],
        why: "Dovecot doesn't say where a copy is from; of a move it is known.",
    },
    Rule {
        name: "together",
        makes: &[Difference::Value(&["messages", "uidnext"], &["MessageAppend"])],
        why: "Of messages appended together Dovecot says how the mailbox stands after all, Cyrus after each.",
    },
    Rule {
        name: "sizes",
        makes: &[
            Difference::Value(&["messageSize"], &["MessageAppend", "MessageNew"]),
            Difference::Value(&["diskUsed"], OF_QUOTAS),
        ],
        why: "Each adds header lines of its own, Cyrus not always of one length (`#`); sizes are held against FETCH and GETQUOTAROOT besides.",
    },
    Rule {
        name: "capitals",
        makes: &[Difference::Form(small, &["bodyStructure"], &["MessageAppend", "MessageNew"])],
        why: "Dovecot writes media types small, Cyrus in capitals.",
    },
    Rule {
        name: "flag-order",
        makes: &[Difference::Form(in_any_order, &["flagNames"], &["MessageAppend"])],
        why: "Flags have no order.",
    },
    Rule {
        name: "gone",
        makes: &[Difference::Form(without_uidvalidity, &["mailboxID", "uri"], &["MailboxDelete"])],
        why: "Of a mailbox that is gone Dovecot knows the UIDVALIDITY only where something was told of it by that name.",
    },
    Rule {
        name: "default-domain",
        makes: &[Difference::Form(
            without_default_domain,
            &["mailboxID", "uri"],
            &["MailboxCreate", "MailboxDelete"],
        )],
        why: "Of a shared mailbox's owner Cyrus leaves out the default domain.",
    },
    Rule {
        name: "rights",
        makes: &[Difference::Parameter(
            Store::Cyrus,
            &["pid"],
            &["MailboxCreate", "MailboxDelete"],
        )],
        why: "What Dovecot says of rights that changed has no process's number.",
    },
    Rule {
        name: "quota-root",
        makes: &[Difference::Value(&["quotaRoot"], OF_QUOTAS)],
        why: "Each names its quota roots its own way.",
    },
];

mod tests {
    use super::*;
    use crate::shared::Mark;

    #[test]
    fn a_rule_explains_its_own_and_nothing_else() {
        let form =
            |one, other| of_parameter("MessageNew", "bodyStructure", [Some(one), Some(other)]);
        assert_eq!(form("\"text\"", "\"TEXT\""), "capitals");
        assert_eq!(form("\"text\"", "\"HTML\""), NONE);
        assert_eq!(of_parameter("MessageRead", "messages", [None, Some("3")]), "flag-state");
        assert_eq!(of_parameter("MessageRead", "messages", [Some("3"), None]), NONE);
        assert_eq!(of_parameter("MessageRead", "messages", [Some("3"), Some("4")]), NONE);
        assert_eq!(of_event(Store::Dovecot, "QuotaWithin", false), "refused");
        assert_eq!(of_event(Store::Dovecot, "QuotaWithin", true), NONE);
        assert_eq!(of_event(Store::Cyrus, "QuotaWithin", false), NONE);
        assert_eq!(of_play(Store::Cyrus, "web_jmap"), "http");
        assert_eq!(of_play(Store::Dovecot, "web_jmap"), NONE);
    }

    #[test]
    fn what_no_mark_needs_is_in_vain() {
        let rule = RULES.iter().find(|rule| rule.name == "flag-state").unwrap();
        let mark = Mark { rule: rule.name.to_owned(), store: Store::Cyrus };
        let marked = [
            ("FlagsSet", "messages"),
            ("FlagsClear", "modseq"),
            ("MessageRead", "modseq"),
            ("MessageTrash", "messages"),
        ];
        let marked = marked.map(|(event, parameter)| {
            let one = Marked { mark: &mark, event: Some(event), parameter: Some(parameter) };
            ("a_play".to_owned(), one)
        });
        assert_eq!(rule.in_vain(&marked), ["uidnext"]);
        assert_eq!(rule.in_vain(&marked[1..]), ["uidnext", "FlagsSet"]);
    }

    #[test]
    fn a_name_stands_for_one_rule() {
        let names: BTreeSet<_> = RULES.iter().map(|rule| rule.name).collect();
        assert_eq!(names.len(), RULES.len());
    }
}
