//! The files Dovecot reads.

use std::path::Path;

use super::{Extent, Format, MODULES, Notify, Options, Overquota, Ports, Quota};
use crate::account::Account;
use crate::{Error, Tree};

/// postbell's script, as it is handed out.
pub(super) const SCRIPT: &str = include_str!("../../../../integrations/dovecot/postbell.lua");

/// The line of a user in a file like `/etc/passwd`.
pub(super) fn user(name: &str, password: &str, quota: Option<Quota>) -> String {
    let quota = quota.map(|quota| format!("userdb_quota_rule={}", rule(quota)));
    format!("{name}:{{PLAIN}}{password}::::::{}\n", quota.unwrap_or_default())
}

/// The whole configuration.
pub(super) fn text(
    folder: &Path,
    tree: &Tree,
    ports: Ports,
    options: &Options,
) -> Result<String, Error> {
    let account = Account::current();
    let mut text = TEMPLATE.to_owned();
    if let Some(quota) = options.quota {
        text.push_str(&match options.extent {
            Extent::Plain => PLAIN_QUOTA.replace("@RULE@", &rule(quota)),
            Extent::Whole => WHOLE_QUOTA.replace("@RULE@", &rule(quota)),
        });
    }
    if options.overquota == Overquota::AtRecipient {
        text.push_str("lmtp_rcpt_check_quota = yes\n");
    }
    if options.hibernates {
        text.push_str(HIBERNATES);
    }
    if options.url_auth {
        text.push_str(URL_AUTH);
    }
    if options.extent == Extent::Whole {
        text.push_str(WHOLE);
    }
    if let Some(notify) = &options.notify {
        text.push_str(&notified(notify));
    }
    for (name, value) in [
        ("@LOCATION@", location(options.format, "~").to_owned()),
        ("@OTHERS@", location(options.format, "@FOLDER@/mail/%%u")),
        ("@MASTERS@", masters(options.extent).to_owned()),
        ("@SESSION@", session(options).to_owned()),
        ("@FOLDER@", folder.display().to_string()),
        ("@PROGRAMS@", tree.path("usr/lib/dovecot").display().to_string()),
        ("@MODULES@", tree.path(MODULES).display().to_string()),
        ("@LIBRARIES@", tree.library_path()?.to_string_lossy().into_owned()),
        ("@USER@", account.name()?),
        ("@GROUP@", account.group_name()?),
        ("@UID@", account.uid().to_string()),
        ("@GID@", account.gid().to_string()),
        ("@IMAP@", ports.imap.port().to_string()),
        ("@POP3@", ports.pop3.port().to_string()),
        ("@LMTP@", ports.lmtp.port().to_string()),
    ] {
        text = text.replace(name, &value);
    }
    Ok(text)
}

/// postbell's own configuration, filled in.
fn notified(notify: &Notify) -> String {
    let exporter = notify.exporter.as_deref().unwrap_or(NOBODY_LISTENS);
    let mut text = NOTIFY
        .replace("@SCRIPT@", "@FOLDER@/etc/postbell.lua")
        .replace("@SPOOL@", &notify.spool.display().to_string())
        .replace("@EXPORTER@", exporter);
    text.push_str("plugin {\n  postbell_demand = yes\n}\n");
    if let Some(octets) = notify.spool_max_octets {
        text.push_str(&format!("plugin {{\n  postbell_spool_max = {octets}\n}}\n"));
    }
    text
}

/// A quota as Dovecot writes it.
pub(super) fn rule(Quota { storage_kib, messages }: Quota) -> String {
    format!("*:storage={storage_kib}K:messages={messages}")
}

fn location(format: Format, home: &str) -> String {
    match format {
        Format::Maildir => format!("maildir:{home}/Maildir"),
        Format::Mdbox => format!("mdbox:{home}/mdbox"),
        Format::Sdbox => format!("sdbox:{home}/sdbox"),
    }
}

fn masters(extent: Extent) -> &'static str {
    match extent {
        Extent::Plain => "",
        Extent::Whole => MASTERS,
    }
}

/// What authentication tells the script.
fn session(options: &Options) -> &'static str {
    match options.notify {
        None => "",
        Some(_) => SESSION,
    }
}

const NOTIFY: &str = include_str!("../../../../integrations/dovecot/99-postbell.conf");

/// The port of the discard service, which hardly any machine has.
const NOBODY_LISTENS: &str = "http://127.0.0.1:9/";

const TEMPLATE: &str = r"# Made for one test.
base_dir = @FOLDER@/run
state_dir = @FOLDER@/run/state
log_path = @FOLDER@/log/dovecot.log
instance_name = postbell-test
libexec_dir = @PROGRAMS@
mail_plugin_dir = @MODULES@
login_plugin_dir = @MODULES@/login
import_environment = TZ LD_LIBRARY_PATH=@LIBRARIES@
default_internal_user = @USER@
default_internal_group = @GROUP@
default_login_user = @USER@
first_valid_uid = 1
first_valid_gid = 1
mail_access_groups =

protocols = imap pop3 lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
hostname = mail.example.org
postmaster_address = postmaster@example.org
auth_master_user_separator = *
mail_max_userip_connections = 100

mail_location = @LOCATION@
namespace inbox {
  inbox = yes
  separator = /
}
@MASTERS@
passdb {
  driver = passwd-file
  args = username_format=%u @FOLDER@/etc/passwd
}
userdb {
  driver = passwd-file
  args = username_format=%u @FOLDER@/etc/passwd
  default_fields = uid=@UID@ gid=@GID@ home=@FOLDER@/mail/%u
  @SESSION@
}

service anvil {
  chroot =
}
service imap-login {
  chroot =
  inet_listener imap {
    port = @IMAP@
  }
  inet_listener imaps {
    port = 0
  }
}
service pop3-login {
  chroot =
  inet_listener pop3 {
    port = @POP3@
  }
  inet_listener pop3s {
    port = 0
  }
}
service lmtp {
  inet_listener lmtp {
    port = @LMTP@
  }
}
service stats {
  chroot =
}
";

const SESSION: &str = "override_fields = postbell_rport=%{rport} postbell_lport=%{lport} \
    postbell_mech=%{mech} postbell_secured=%{secured}";

const MASTERS: &str = r"
passdb {
  driver = passwd-file
  args = @FOLDER@/etc/masters
  master = yes
  result_success = continue
}
";

const PLAIN_QUOTA: &str = r"
mail_plugins = quota
protocol imap {
  mail_plugins = $mail_plugins imap_quota
}
plugin {
  quota = maildir:User quota
  quota_grace = 0
  quota_rule = @RULE@
}
";

const HIBERNATES: &str = r"
imap_hibernate_timeout = 1s
service imap {
  unix_listener imap-master {
    user = @USER@
  }
}
";

const URL_AUTH: &str = r"
imap_urlauth_host = mail.example.org
mail_attribute_dict = file:%h/attributes
";

const WHOLE_QUOTA: &str = r"
plugin {
  quota = count:User quota
  quota_vsizes = yes
  quota_grace = 0
  quota_rule = @RULE@
}
";

const WHOLE: &str = r"
mail_plugins = quota acl
protocol imap {
  mail_plugins = $mail_plugins imap_quota imap_acl
}
protocol lmtp {
  mail_plugins = $mail_plugins sieve
}
lda_mailbox_autocreate = yes
namespace inbox {
  mailbox Trash {
    auto = create
    special_use = \Trash
  }
  mailbox Spam {
    autoexpunge = 1s
  }
}
namespace shared {
  type = shared
  separator = /
  prefix = shared/%%u/
  location = @OTHERS@
  subscriptions = no
  list = children
}
plugin {
  acl = vfile
  acl_shared_dict = file:@FOLDER@/mail/shared-mailboxes
  sieve = file:~/sieve;active=~/.dovecot.sieve
}
";
