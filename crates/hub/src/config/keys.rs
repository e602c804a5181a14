//! Every configuration key and the reason for its default: one table, from which the printed
//! configuration, `docs/config.md` and the check for unknown keys are made.

use super::SourceKind;

/// One key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Its whole path; `*` stands for a name the operator chose.
    pub(crate) path: &'static str,
    /// A value to try, as TOML, for the message about a bad one.
    pub(crate) example: &'static str,
    /// Why it is there and why its default is what it is.
    pub(crate) reason: &'static str,
}

/// Shorthand for the table below.
const fn key(path: &'static str, example: &'static str, reason: &'static str) -> Key {
    Key { path, example, reason }
}

/// A table of keys and what it is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    /// Its path; empty for the top.
    pub(crate) path: &'static str,
    /// What it is about.
    pub(crate) about: &'static str,
    /// Its keys, in the order they are printed.
    pub(crate) keys: &'static [Key],
    /// The kinds of source it is for, where it isn't for all.
    pub(crate) kinds: &'static [SourceKind],
}

/// All keys, in the order they are printed.
pub(crate) const SECTIONS: &[Section] = &[
    Section {
        path: "",
        about: "Where the hub keeps its things and where it listens.",
        keys: &[
            key(
                "data",
                "\"/var/lib/postbell\"",
                "The folder for the journal, the subscriptions and the token. One hub per folder.",
            ),
            key(
                "listen",
                "\"127.0.0.1:5423\"",
                "Address and port of the HTTP API. Loopback only, unless [tls] names a certificate: a token sent in clear over a network is everybody's.",
            ),
        ],
        kinds: &[],
    },
    Section {
        path: "store",
        about: "How the mail store is named in the URI of every event.",
        keys: &[
            key(
                "store.host",
                "\"mail.example.org\"",
                "The host your IMAP clients use. Subscribers compare it, so decide once.",
            ),
            key("store.port", "143", "Its port; 0 writes none, which means IMAP's own (143)."),
            key(
                "store.fqdn",
                "\"mail1.example.org\"",
                "What serverFQDN says of events from this machine; empty takes the machine's own name, if that has a domain.",
            ),
        ],
        kinds: &[],
    },
    Section {
        path: "policy",
        about: "The ceiling: what may be made of what a source sees, and what may leave.",
        keys: &[
            key(
                "policy.seen_form",
                "\"simple\"",
                "What a set \\Seen becomes: \"simple\" (MessageRead) or \"flags\" (FlagsSet). Never both, so that nobody counts twice.",
            ),
            key(
                "policy.deleted_form",
                "\"simple\"",
                "What a set \\Deleted becomes: \"simple\" (MessageTrash) or \"flags\" (FlagsSet).",
            ),
            key(
                "policy.content_max_octets",
                "\"64KiB\"",
                "The largest message whose content may be had, in its event or by a link; \"never\" by default, because content is private.",
            ),
            key(
                "policy.content_inline_octets",
                "\"2KiB\"",
                "Content up to this size goes into its event, and in the place of larger content a link; the RFC's own example.",
            ),
            key(
                "policy.content_link_lifetime",
                "\"24h\"",
                "How long such a link is good: a day outlives a device that was switched off for the night.",
            ),
            key(
                "policy.content_reference",
                "\"urlauth\"",
                "What a user of the store gets to larger content: a \"link\" of the hub's, or a \"urlauth\" URL that the store makes for them (RFC 4467), where there is a master_user and the store can; else a link (docs/content.md).",
            ),
            key(
                "policy.body_structure",
                "false",
                "Whether bodyStructure may be made and leave; it tells file names and languages, so not by default.",
            ),
            key(
                "policy.envelope",
                "false",
                "Whether the SMTP envelope may leave; it tells who writes to whom, so not by default.",
            ),
            key(
                "policy.groups_off",
                "[\"flags\"]",
                "Groups of events that aren't made and not let in, for a store on which nobody needs them: \"message\", \"flags\", \"quota\", \"access\", \"mailbox\", \"subscription\", \"vendor\". Gaps are told all the same.",
            ),
            key(
                "policy.record",
                "\"wanted\"",
                "What of the rest is recorded: \"everything\", so that the journal is whole and can be replayed from anywhere, or only what is \"wanted\" by a subscription, a command or a stream, which spares the mail server and the disk the rest (docs/demand.md).",
            ),
            key(
                "policy.record_linger",
                "\"1m\"",
                "How long what somebody wanted is recorded still when they have gone, and everything after a start: time for a stream to come back without a gap.",
            ),
        ],
        kinds: &[],
    },
    Section {
        path: "policy.service",
        about: "What leaves for tokens of the role \"service\", out of what [policy] lets be made. Whoever runs the hub has no such ceiling.",
        keys: &[
            key(
                "policy.service.content_max_octets",
                "\"16KiB\"",
                "The largest messageContent that leaves for them; never more than policy.content_max_octets lets be made. \"never\" for none.",
            ),
            key(
                "policy.service.body_structure",
                "true",
                "Whether bodyStructure leaves for them, where policy.body_structure lets it be made.",
            ),
            key(
                "policy.service.envelope",
                "true",
                "Whether the envelope leaves for them, where policy.envelope lets it.",
            ),
            key(
                "policy.service.raw",
                "false",
                "Whether vnd.postbell.raw leaves for them: what a Cyrus said, whole. It may tell of others' mailboxes, so not by default.",
            ),
            key(
                "policy.service.event_max_octets",
                "\"64KiB\"",
                "The largest event, as JSON. Of a larger one the largest parameters stay here and are named, but never what the binding demands.",
            ),
            key(
                "policy.service.subscriptions",
                "100",
                "How many subscriptions one token may have, so that nobody takes everybody's.",
            ),
            key(
                "policy.service.streams",
                "32",
                "How many streams one token may follow at once, within http.max_streams.",
            ),
            key(
                "policy.service.events_per_minute",
                "600",
                "How many events a minute may leave to one of their subscriptions, or down one stream, evenly spread; what is more waits in the journal. \"unlimited\" by default.",
            ),
        ],
        kinds: &[],
    },
    Section {
        path: "policy.user",
        about: "What leaves for tokens of the role \"user\", likewise.",
        keys: &[
            key(
                "policy.user.content_max_octets",
                "\"16KiB\"",
                "The largest messageContent that leaves for them; never more than policy.content_max_octets lets be made. \"never\" for none.",
            ),
            key(
                "policy.user.body_structure",
                "true",
                "Whether bodyStructure leaves for them, where policy.body_structure lets it be made.",
            ),
            key(
                "policy.user.envelope",
                "true",
                "Whether the envelope leaves for them, where policy.envelope lets it.",
            ),
            key(
                "policy.user.raw",
                "false",
                "Whether vnd.postbell.raw leaves for them: what a Cyrus said, whole. It may tell of others' mailboxes, so not by default.",
            ),
            key(
                "policy.user.event_max_octets",
                "\"64KiB\"",
                "The largest event, as JSON. Of a larger one the largest parameters stay here and are named, but never what the binding demands.",
            ),
            key(
                "policy.user.subscriptions",
                "100",
                "How many subscriptions one user may have, so that nobody takes everybody's.",
            ),
            key(
                "policy.user.streams",
                "32",
                "How many streams one user may follow at once, within http.max_streams.",
            ),
            key(
                "policy.user.events_per_minute",
                "600",
                "How many events a minute may leave to one of their subscriptions, or down one stream, evenly spread; what is more waits in the journal. \"unlimited\" by default.",
            ),
        ],
        kinds: &[],
    },
    Section {
        path: "sources.*",
        about: "One table per source; the name is yours and stays, because its checkpoint hangs on it.",
        keys: &[key(
            "sources.*.kind",
            "\"maildir\"",
            "What watches it: \"maildir\", \"dovecot\" or \"cyrus\".",
        )],
        kinds: &[],
    },
    Section {
        path: "sources.*",
        about: "A Maildir: kind = \"maildir\".",
        keys: &[
            key(
                "sources.*.root",
                "\"/var/mail/%u/Maildir\"",
                "The Maildir, or a pattern in which %u stands for each user's name.",
            ),
            key(
                "sources.*.user",
                "\"john\"",
                "The owner where the root has no %u; empty takes the name from %u.",
            ),
            key(
                "sources.*.scan_interval",
                "\"60s\"",
                "How often everything is looked at anew beside inotify: the longest that a missed notice can go unseen.",
            ),
            key(
                "sources.*.quota_storage",
                "\"1GiB\"",
                "Each user's storage limit, for the quota events of a store that keeps no maildirsize; \"never\" sets none.",
            ),
            key(
                "sources.*.quota_messages",
                "10000",
                "Each user's limit on the number of messages, likewise; 0 sets none.",
            ),
        ],
        kinds: &[SourceKind::Maildir],
    },
    Section {
        path: "sources.*",
        about: "A Dovecot: kind = \"dovecot\". `postbell setup dovecot` writes what Dovecot needs to know.",
        keys: &[
            key(
                "sources.*.spool",
                "\"/var/spool/postbell/dovecot\"",
                "The folder Dovecot's processes write down in what they do: its setting postbell_spool.",
            ),
            key(
                "sources.*.separator",
                "\"/\"",
                "What stands between the levels of a mailbox's name in Dovecot: the separator of its namespaces.",
            ),
            key(
                "sources.*.shared",
                "[\"shared/%u/\"]",
                "Prefixes of other users' mailboxes, %u standing for the owner, so that the owner's URI is told and not the reader's.",
            ),
            key(
                "sources.*.expire",
                "[{ reason = \"doveadm:cmd_expunge\", mailbox = \"Trash\", policy = \"trash-30d\" }]",
                "Which expunges are your policy and not a user's wish, by Dovecot's reason code, and what the policy is called; user and mailbox are optional. Autoexpunge is known without.",
            ),
            key(
                "sources.*.annotation_window",
                "\"250ms\"",
                "How long a happening waits for what Dovecot's exporter says of it; nothing waits while the exporter is silent.",
            ),
            key(
                "sources.*.master_separator",
                "\"*\"",
                "What stands between user and master user in a login: Dovecot's auth_master_user_separator.",
            ),
        ],
        kinds: &[SourceKind::Dovecot],
    },
    Section {
        path: "sources.*",
        about: "A Cyrus: kind = \"cyrus\". `postbell notifyd` runs beside the hub and takes what Cyrus says; both read these keys.",
        keys: &[
            key(
                "sources.*.notify_spool",
                "\"/var/spool/postbell/cyrus\"",
                "The folder `postbell notifyd` writes to and the hub reads.",
            ),
            key(
                "sources.*.notify_socket",
                "\"/run/postbell/cyrus/notify\"",
                "The socket for datagrams, where systemd hands none over: Cyrus's setting notifysocket. Empty for none.",
            ),
            key(
                "sources.*.notify_stream",
                "\"/run/postbell/cyrus/stream\"",
                "The same for notifysocket: dlist:PATH, by which larger events come; empty for none.",
            ),
            key(
                "sources.*.notify_users",
                "[\"cyrus\"]",
                "Users that may send besides notifyd's own and root, by name or number.",
            ),
            key(
                "sources.*.notify_raw",
                "false",
                "Whether each event keeps what Cyrus said, for `postbell tail --raw`; it makes the journal larger and is private, so not by default.",
            ),
            key(
                "sources.*.unixhierarchysep",
                "true",
                "As in imapd.conf: mailbox names have / between their levels, else a dot.",
            ),
            key(
                "sources.*.altnamespace",
                "true",
                "As in imapd.conf: a user's mailboxes stand beside INBOX, else below it.",
            ),
            key(
                "sources.*.virtdomains",
                "\"userid\"",
                "As in imapd.conf: \"off\", \"userid\" or \"on\"; whether an admin's mailbox names end in a domain.",
            ),
            key(
                "sources.*.userprefix",
                "\"Other Users\"",
                "As in imapd.conf: below what users see others' mailboxes, with altnamespace.",
            ),
            key(
                "sources.*.sharedprefix",
                "\"Shared Folders\"",
                "As in imapd.conf: below what users see shared mailboxes, with altnamespace.",
            ),
        ],
        kinds: &[SourceKind::Cyrus],
    },
    Section {
        path: "sources.*",
        about: "Whom a Dovecot or a Cyrus is asked by over IMAP; nobody asks until this is set.",
        keys: &[
            key(
                "sources.*.master_user",
                "\"postbell\"",
                "A user who may act as any other, to ask for sizes, quotas and what was missed: a master user of Dovecot's, one of Cyrus's proxyservers. Empty asks for nothing.",
            ),
            key(
                "sources.*.master_password_file",
                "\"/etc/postbell/master\"",
                "The file with its password, which only the hub's user may read.",
            ),
            key(
                "sources.*.master_address",
                "\"127.0.0.1:143\"",
                "Where IMAP is spoken on this machine.",
            ),
        ],
        kinds: &[SourceKind::Dovecot, SourceKind::Cyrus],
    },
    Section {
        path: "publish",
        about: "The Unix stream through which programs on this machine hand events in.",
        keys: &[
            key(
                "publish.socket",
                "\"publish.sock\"",
                "Its path, relative to the data folder; empty for none.",
            ),
            key(
                "publish.allowed_uids",
                "[1000]",
                "User ids that may connect besides the hub's own and root, and hand in events of the hub's own store (store.host).",
            ),
            key(
                "publish.uid_stores",
                "[{ uid = 1000, stores = [\"mail.example.org\"] }]",
                "Of which stores some of them hand in events instead, by host; \"*\" for any. The hub's own user and root speak for any.",
            ),
        ],
        kinds: &[],
    },
    Section {
        path: "journal",
        about: "The numbered, durable queue.",
        keys: &[
            key(
                "journal.checkpoint_file",
                "\"/mnt/elsewhere/postbell.checkpoints\"",
                "The file to which it is added, signed, where the journal stands: best where whoever has its disk can't reach. Empty: none.",
            ),
            key(
                "journal.checkpoint_interval",
                "\"10m\"",
                "How often: what was changed since the last one is not found out by it.",
            ),
            key(
                "journal.retention_age",
                "\"30d\"",
                "How long records are kept: a month outlives a subscriber's long holiday. \"never\" drops none for age.",
            ),
            key(
                "journal.retention_size",
                "\"10GiB\"",
                "How much is kept before the oldest segment goes, whatever its age. \"never\" drops none for size.",
            ),
            key(
                "journal.segment_size",
                "\"64MiB\"",
                "Size of one file: retention drops whole ones, so this is its grain.",
            ),
            key(
                "journal.window_records",
                "65536",
                "Among how many of the latest records a repeat is recognised.",
            ),
        ],
        kinds: &[],
    },
    Section {
        path: "tls",
        about: "TLS on `listen`, so that it may be an address others reach: docs/tls.md.",
        keys: &[
            key(
                "tls.certificate",
                "\"/etc/postbell/tls/chain.pem\"",
                "PEM file of the hub's certificate, followed by those that lead to its authority. Taken anew when it changes. Empty for no TLS.",
            ),
            key(
                "tls.key",
                "\"/etc/postbell/tls/key.pem\"",
                "PEM file of its key, without a password. Refused where everybody may read it.",
            ),
            key(
                "tls.client_ca",
                "\"/etc/postbell/tls/clients.pem\"",
                "PEM file of the authorities whose certificates clients may show in a token's place (postbell tokens add --certificate). Taken anew when it changes. Empty for none.",
            ),
            key(
                "tls.authorities",
                "\"/etc/postbell/tls/authorities.pem\"",
                "PEM file of authorities that certificates of webhooks' receivers and of traces.endpoint may be from beside the public ones, whether or not there is TLS on listen. Read at the start. Empty for none; oidc.ca and login.ca are their own.",
            ),
            key(
                "tls.local_listen",
                "\"127.0.0.1:5424\"",
                "A loopback address where this machine's programs are served without TLS beside that: the command, Dovecot's exporter. Empty for none.",
            ),
        ],
        kinds: &[],
    },
    Section {
        path: "login",
        about: "Users' passwords for short-lived tokens of theirs, checked by the store itself: docs/access.md.",
        keys: &[
            key(
                "login.imap",
                "\"127.0.0.1:143\"",
                "Where the store speaks IMAP: on this machine, or elsewhere with TLS from the first octet (993). Empty for no logins.",
            ),
            key(
                "login.host",
                "\"mail.example.org\"",
                "Whom the store's certificate must be for; empty for no TLS, on this machine only.",
            ),
            key(
                "login.ca",
                "\"/etc/ssl/certs/ca-certificates.crt\"",
                "PEM file of the authorities that certificate may be from.",
            ),
            key("login.lifetime", "\"1h\"", "How long such a token lives."),
        ],
        kinds: &[],
    },
    Section {
        path: "oidc",
        about: "JWTs of one OpenID Connect issuer, taken in the place of the hub's own tokens: docs/access.md.",
        keys: &[
            key(
                "oidc.issuer",
                "\"https://id.example.org/realms/mail\"",
                "Who issues them, letter for letter as their claim iss has it; https, or http on this machine. Empty for none.",
            ),
            key(
                "oidc.audience",
                "\"postbell\"",
                "What their claim aud must name, so that a token for something else opens nothing here.",
            ),
            key(
                "oidc.algorithms",
                "[\"RS256\"]",
                "How they may be signed: \"RS256\", \"PS256\", \"ES256\", \"EdDSA\". Pinned here, because a token may say what it likes.",
            ),
            key(
                "oidc.authorized_parties",
                "[\"webmail\"]",
                "To which programs they may have been given (azp, or client_id); none for any.",
            ),
            key(
                "oidc.jwks_file",
                "\"/etc/postbell/jwks.json\"",
                "A file with the issuer's keys, for a hub without a network; empty asks the issuer.",
            ),
            key(
                "oidc.ca",
                "\"/etc/ssl/certs/ca-certificates.crt\"",
                "PEM file of the authorities the issuer's certificate may be from; empty takes Mozilla's.",
            ),
            key(
                "oidc.lifetime_max",
                "\"1h\"",
                "How long one lets in at most after it was issued (iat), whatever it says itself: so long does one go on that its issuer takes back.",
            ),
            key(
                "oidc.user_claim",
                "\"preferred_username\"",
                "Which claim is the user's name in the store. sub by default, because it alone is never another's; \"email\" counts only where it is verified.",
            ),
            key(
                "oidc.roles_claim",
                "\"groups\"",
                "Which claim tells roles: a name, or a JSON Pointer such as \"/realm_access/roles\".",
            ),
            key(
                "oidc.roles",
                "[{ value = \"postbell-admin\", role = \"admin\" }]",
                "What values of it stand for, the first that fits: role, scope and stores as for a token. Who has none of them is a user who sees their own.",
            ),
        ],
        kinds: &[],
    },
    Section {
        path: "access",
        about: "What users may have beside what is their own: docs/access.md.",
        keys: &[key(
            "access.shared_mailboxes",
            "true",
            "Whether users' streams and subscriptions show the events of others' mailboxes where the store's ACL gives them l and r. It asks the store for each user who follows a stream, twice a minute, and who subscribes, every ten, so not by default; needs a source with a master_user.",
        )],
        kinds: &[],
    },
    Section {
        path: "http",
        about: "Limits of the HTTP API, each against one way of wearing it out.",
        keys: &[
            key(
                "http.public_url",
                "\"https://postbell.example.org\"",
                "Where subscribers reach this API, for links in events; empty takes the address listened on. A link opens by itself, so http:// is for this machine alone.",
            ),
            key("http.max_body", "\"16MiB\"", "The largest request body; some 25 000 events."),
            key(
                "http.max_connections",
                "1024",
                "Connections held at once; one more waits until another ends.",
            ),
            key("http.max_streams", "512", "Streams followed at once; one more is answered 503."),
            key(
                "http.header_timeout",
                "\"10s\"",
                "How long a client may take to send its request's head, and for the TLS handshake before it.",
            ),
            key(
                "http.body_timeout",
                "\"60s\"",
                "How long a client may take to send its request's body.",
            ),
            key(
                "http.stall_timeout",
                "\"5m\"",
                "How long a client may take nothing of what is sent to it before it is cut off. A stream holds little memory for it, and does hold one of the places.",
            ),
            key(
                "http.allowed_origins",
                "[\"https://app.example.org\"]",
                "Origins whose pages may ask from a browser (CORS), each with its scheme; none by default. A page that comes from the hub's own address needs no entry.",
            ),
            key(
                "http.trusted_proxies",
                "[\"127.0.0.1\", \"10.0.0.0/8\"]",
                "Proxies, by address or network, whose X-Forwarded-For says whom a request is from, for the bounds on logins and wrong tokens and for the log: docs/proxy.md. None by default.",
            ),
        ],
        kinds: &[],
    },
    Section {
        path: "webhooks",
        about: "Deliveries to webhooks.",
        keys: &[
            key(
                "webhooks.reach",
                "\"public\"",
                "Where a webhook's URL may lead: \"public\" (outside this network), \"loopback\" (also this machine) or \"anywhere\". Not loopback and not private networks by default, lest a subscription be a door into them.",
            ),
            key("webhooks.timeout", "\"15s\"", "How long a receiver may take to answer."),
            key(
                "webhooks.lanes",
                "16",
                "Mailboxes delivered side by side per subscription; within a mailbox always one at a time.",
            ),
            key(
                "webhooks.verify",
                "true",
                "Whether a receiver on another machine has to agree before the first delivery; by default, lest events be sent to who never asked for them, in quantities of a subscriber's choosing.",
            ),
            key(
                "webhooks.batch_events",
                "500",
                "Events that a subscription may have in one request, from 2 to 1000.",
            ),
            key(
                "webhooks.batch_octets",
                "\"1MiB\"",
                "Octets of such a request that it may ask for, from \"1KiB\" to \"8MiB\": so much memory times webhooks.lanes may each subscription take.",
            ),
        ],
        kinds: &[],
    },
    Section {
        path: "webhooks.client_certificates.*",
        about: "A certificate that webhooks' receivers may be shown where they ask who is there, one table each; a subscription names it (clientCertificate). Taken anew when its files change. See webhook.md.",
        keys: &[
            key(
                "webhooks.client_certificates.*.certificate",
                "\"/etc/postbell/partner.pem\"",
                "The PEM file with the certificate, and with those that lead to its authority.",
            ),
            key(
                "webhooks.client_certificates.*.key",
                "\"/etc/postbell/partner.key\"",
                "The PEM file with its key, which only its owner may read.",
            ),
            key(
                "webhooks.client_certificates.*.services",
                "[\"crm\"]",
                "Tokens of services, by name, whose subscriptions may name it; whoever runs the hub may, and users never.",
            ),
        ],
        kinds: &[],
    },
    Section {
        path: "commands.*",
        about: "A program that is run for each event, one table each; the name is yours and stays, because its cursor hangs on it. See command.md.",
        keys: &[
            key(
                "commands.*.run",
                "[\"/usr/local/bin/index-mail\", \"--quiet\"]",
                "The program and its arguments, one text each. No shell is asked, so nothing in them is expanded, and nothing of an event comes to them.",
            ),
            key(
                "commands.*.events",
                "[\"MessageNew\", \"flags\"]",
                "Events and groups of events it is run for; empty for all.",
            ),
            key(
                "commands.*.users",
                "[\"john\"]",
                "Users, as owner or as who acted; empty for all.",
            ),
            key(
                "commands.*.mailboxes",
                "[\"INBOX\", \"lists/%\"]",
                "Mailboxes, with the wildcards of IMAP's LIST; empty for all.",
            ),
            key(
                "commands.*.where",
                "\"messageSize > 1000000\"",
                "A condition on the event's parameters, as subscriptions have it; empty for none.",
            ),
            key(
                "commands.*.parameters",
                "[\"flagNames\"]",
                "Parameters it gets; empty for all that policy lets out, but the private ones.",
            ),
            key(
                "commands.*.parameters_of",
                "{ MessageNew = [\"messageSize\"], flags = [\"flagNames\"] }",
                "The same by event or group of events: of these such a list stands in the place of `parameters`, and an event's own name goes before its group.",
            ),
            key("commands.*.tags", "[\"index\"]", "Texts put on each event it gets."),
            key(
                "commands.*.timeout",
                "\"60s\"",
                "How long a run may take before it is ended with all it started, and counts as failed.",
            ),
            key(
                "commands.*.jobs",
                "4",
                "Runs that go side by side; those of one mailbox never do. One by default: not every program bears company.",
            ),
        ],
        kinds: &[],
    },
    Section {
        path: "log",
        about: "What is told to the operator. No message, address of a correspondent, token or key is ever logged; users, mailboxes and files are named where something is wrong with them, subscriptions of users by their ids.",
        keys: &[
            key(
                "log.level",
                "\"info\"",
                "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"; above debug nothing is logged once per event.",
            ),
            key("log.format", "\"text\"", "\"text\" for people, \"json\" for programs."),
        ],
        kinds: &[],
    },
    Section {
        path: "traces",
        about: "The way of events through the hub, told to OpenTelemetry's collector: docs/tracing.md. Never a user, a mailbox, a URI or anything else that is private.",
        keys: &[
            key(
                "traces.endpoint",
                "\"http://127.0.0.1:4318/v1/traces\"",
                "Where a collector takes OTLP over HTTP: https, or http on this machine. Empty for no traces, which is the default, and then nothing is made or sent.",
            ),
            key(
                "traces.headers_file",
                "\"/etc/postbell/collector\"",
                "A file of headers it wants to see, a \"name: value\" on each line, which only the hub's user may read; empty for none.",
            ),
            key(
                "traces.share",
                "0.01",
                "The share of what is handed in that is traced, from 0.0 to 1.0; all by default. A trace begun by a publisher is told if the publisher tells it, whatever this says.",
            ),
            key("traces.service_name", "\"postbell\"", "What this hub is called in traces."),
        ],
        kinds: &[],
    },
];

/// The key that `path` names, names of sources included.
pub(crate) fn find(path: &str) -> Option<&'static Key> {
    SECTIONS.iter().flat_map(|section| section.keys).find(|key| same(key.path, path))
}

/// The kinds of source a key is for; none where it is for all.
pub(crate) fn kinds(path: &str) -> &'static [SourceKind] {
    let fits = |section: &&Section| section.keys.iter().any(|key| same(key.path, path));
    SECTIONS.iter().find(fits).map_or(&[], |section| section.kinds)
}

/// Whether `pattern` (with `*` for a chosen name) is `path`.
fn same(pattern: &str, path: &str) -> bool {
    let mut pattern = pattern.split('.');
    let mut path = path.split('.');
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return false,
        }
    }
}

/// The known key nearest to the unknown `path`, if one is near enough to be meant.
pub(crate) fn nearest(path: &str) -> Option<String> {
    let given: Vec<&str> = path.split('.').collect();
    SECTIONS
        .iter()
        .flat_map(|section| {
            section.keys.iter().map(|key| key.path).chain(std::iter::once(section.path))
        })
        .filter(|known| !known.is_empty())
        .map(|known| {
            let mut parts: Vec<&str> = known.split('.').collect();
            let mut is_within = true;
            for (part, given) in parts.iter_mut().zip(&given) {
                match *part {
                    // A name of the operator's own, but only in the section that has such.
                    "*" if is_within => *part = given,
                    part => is_within &= part == *given,
                }
            }
            parts.join(".")
        })
        .map(|known| (distance(&known, path), known))
        .min()
        .filter(|(distance, _)| *distance <= NEAR)
        .map(|(_, known)| known)
}

/// How many letters may be wrong for a suggestion to help rather than puzzle.
const NEAR: usize = 4;

/// Levenshtein's distance, in letters.
pub(crate) fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, r) in right.iter().enumerate() {
            let swap = row.get(j).copied().unwrap_or(0) + usize::from(l != *r);
            let drop = row.get(j + 1).copied().unwrap_or(0) + 1;
            let add = next.last().copied().unwrap_or(0) + 1;
            next.push(swap.min(drop).min(add));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}
