//! The scenarios on Dovecot.

use postbell_acceptance::Bench;
use postbell_acceptance::scenario::{Deed, MailStore, Stage, plays};
use postbell_testkit::{
    ADMIN, Dovecot, Error, Format, Imap, Lmtp, MASTER, Notify, Options, Overquota, Pop3, Quota,
    password, private_file,
};
use tempfile::TempDir;

use crate::shared::Store;
use crate::{expected, hibernation};

/// A Dovecot with all that postbell uses of it.
#[derive(Debug)]
struct Whole {
    dovecot: Dovecot,
    // Kept for its removal.
    _spool: TempDir,
}

impl MailStore for Whole {
    fn name(&self) -> &'static str {
        "dovecot"
    }

    fn imap(&self, user: &str) -> Result<Imap, Error> {
        self.dovecot.imap(user)
    }

    fn imap_as_admin(&self, user: &str) -> Result<Imap, Error> {
        self.dovecot.imap_as(user, ADMIN)
    }

    fn pop3(&self, user: &str) -> Result<Pop3, Error> {
        self.dovecot.pop3(user)
    }

    fn lmtp(&self) -> Result<Lmtp, Error> {
        self.dovecot.lmtp()
    }

    fn operate(&self, deed: Deed<'_>) -> Result<(), Error> {
        match deed {
            Deed::Expire { user, mailbox } => {
                let query = ["expunge", "-u", user, "mailbox", mailbox, "ALL"];
                self.dovecot.doveadm(&query).map(drop)
            }
            Deed::Limit { user, storage_kib, messages } => {
                self.dovecot.set_quota(user, Quota { storage_kib, messages })
            }
            // Those that postbell asks are killed with it: they look the same.
            Deed::Kill { user } => {
                for pid in self.dovecot.processes_of(user)? {
                    self.dovecot.kill_process(pid)?;
                }
                Ok(())
            }
            Deed::Sieve { user, script } => self.dovecot.set_sieve(user, script),
        }
    }

    fn shared(&self, owner: &str, mailbox: &str) -> String {
        format!("shared/{owner}/{mailbox}")
    }

    fn ports(&self) -> Vec<(u16, &'static str)> {
        vec![
            (self.dovecot.imap_address().port(), "imap"),
            (self.dovecot.pop3_address().port(), "pop3"),
            (self.dovecot.lmtp_address().port(), "lmtp"),
        ]
    }

    fn log(&self) -> String {
        self.dovecot.log()
    }
}

/// Plays one scenario, with mail kept and refused as `wanted` says, and holds what is told against
/// its file.
fn play(
    wanted: Options,
    scenario: &str,
    acts: impl FnOnce(&mut Stage<'_>, &Dovecot) -> Result<(), Error>,
) -> Result<(), Error> {
    let spool = tempfile::tempdir().map_err(Error::io("make a temporary folder"))?;
    let folder = spool.path().join("spool");
    let (door, secret) = Bench::door()?;
    let notify = Notify {
        exporter: Some(format!("http://{}/v1/dovecot/mail/{secret}", door.address())),
        ..Notify::into_spool(&folder)
    };
    let quota = Some(Quota { storage_kib: 100_000, messages: 100_000 });
    let Options { format, overquota, hibernates, .. } = wanted;
    let options = Options { quota, format, overquota, hibernates, ..Options::whole(notify) };
    let Some(dovecot) = Dovecot::start_with(options)? else { return Ok(()) };
    let key = spool.path().join("master");
    private_file(&key, &password(MASTER))?;
    let source = SOURCE
        .replace("@SPOOL@", &folder.display().to_string())
        .replace("@IMAP@", &dovecot.imap_address().to_string())
        .replace("@MASTER@", MASTER)
        .replace("@PASSWORD@", &key.display().to_string());
    let mut bench = Bench::start_behind(door, &source)?;
    let store = Whole { dovecot, _spool: spool };
    let mut stage = Stage::new(&store, &mut bench)?;
    let outcome = acts(&mut stage, &store.dovecot);
    // What was told until it went wrong is what a person wants to see.
    let told = stage.finish()?;
    outcome.map_err(|error| Error::Answer { expected: error.to_string(), answer: told.clone() })?;
    expected::hold(Store::Dovecot, scenario, &told);
    Ok(())
}

macro_rules! played {
    ($($test:ident: $scenario:ident::$act:ident;)*) => {$(
        #[test]
        fn $test() -> Result<(), Error> {
            play(Options::default(), concat!(stringify!($scenario), "_", stringify!($act)), |stage, _| plays::$scenario::$act(stage))
        }
    )*};
}

played! {
    r38_r39_r110_deliveries_carry_their_own_envelope: delivery::deliveries;
    a_message_is_told_where_sieve_put_it: delivery::sorted;
    r27_r35_appends_copies_and_moves_are_told_each: messages::appends;
    r54_r59_r62_only_real_changes_of_flags_are_told: flags::stores;
    r60_r139_one_command_on_many_messages_is_one_event: flags::many;
    r35_r36_each_way_to_expunge_is_told_once: removal::expunges;
    r55_r56_pop3_reads_in_silence_and_removes_at_quit: removal::pop3;
    r31_r34_what_policy_takes_is_expired_by_name: removal::expiry;
    r31_r34_what_dovecot_clears_by_itself_is_expired_by_name: removal::spam;
    r81_r91_r92_the_tree_changes_with_parents_and_children_implied: mailboxes::tree;
    r86_a_deleted_mailbox_leaves_its_children: mailboxes::parent;
    r97_r99_only_real_changes_of_subscriptions_are_told: mailboxes::subscriptions;
    r46_r48_r49_r52_too_many_messages_are_refused_and_within_again_is_told_once: quota::messages;
    r47_r50_r106_r108_too_much_storage_is_told_in_units_of_1024_octets: quota::storage;
    r52_r53_limits_that_change_are_told_with_what_follows: quota::limits;
    r107_more_octets_than_the_limit_lets_in_are_told_with_what_is_used: quota::above;
    r79_r85_r150_access_comes_and_goes_and_names_actor_and_owner: sharing::access;
    r71_r74_r77_r78_each_login_has_one_logout: sessions::sessions;
    r102_r121_r124_r142_figures_are_the_servers_own: truth::figures;
}

/// Dovecot doesn't let INBOX be renamed in a Maildir.
#[test]
fn r90_r93_r94_renaming_inbox_leaves_an_inbox() -> Result<(), Error> {
    let wanted = Options { format: Format::Sdbox, ..Options::default() };
    play(wanted, "mailboxes_rename_inbox", |stage, _| plays::mailboxes::rename_inbox(stage))
}

#[test]
fn r46_a_full_mailbox_is_told_where_it_is_noticed_before_there_is_a_message() -> Result<(), Error> {
    let wanted = Options { overquota: Overquota::AtRecipient, ..Options::default() };
    play(wanted, "quota_recipient", |stage, _| plays::quota::recipient(stage))
}

/// A session that idles is handed to a process that holds many, and back; only its client ends it.
#[test]
fn r74_a_session_that_hibernates_has_one_logout_when_it_ends() -> Result<(), Error> {
    let wanted = Options { hibernates: true, ..Options::default() };
    play(wanted, "sessions_hibernation", hibernation::play)
}

const SOURCE: &str = r#"
[sources.mail]
kind = "dovecot"
spool = "@SPOOL@"
separator = "/"
annotation_window = "10s"
shared = ["shared/%u/"]
master_address = "@IMAP@"
master_user = "@MASTER@"
master_password_file = "@PASSWORD@"

[[sources.mail.expire]]
reason = "doveadm:cmd_expunge"
policy = "nightly"
"#;
