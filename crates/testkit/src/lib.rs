//! For tests only: launchers of real mail software and the clients that drive it.
//!
//! `scripts/fetch-servers` unpacks Debian's packages beside the build; nothing is installed. A
//! test asks for what it needs and goes on without where that can't be had:
//!
//! ```no_run
//! use postbell_testkit::{ALICE, Dovecot};
//!
//! # fn main() -> Result<(), postbell_testkit::Error> {
//! let Some(dovecot) = Dovecot::start()? else { return Ok(()) };
//! dovecot.lmtp()?.deliver("sender@example.net", ALICE, b"Subject: hello\r\n\r\nHello.\r\n")?;
//! let mut imap = dovecot.imap(ALICE)?;
//! assert_eq!(imap.status("INBOX")?.messages, 1);
//! # Ok(())
//! # }
//! ```
//!
//! Where `CI` is set, going without is a failure.

pub mod account;
pub mod cyrus;
mod delivery;
mod dovecot;
mod error;
pub mod http;
mod hub;
mod imap;
pub mod issuer;
mod items;
mod lmtp;
mod logged;
pub mod mail;
mod mbsync;
mod notifyd;
mod opened;
mod pop3;
mod ports;
mod private;
mod process;
mod receiver;
mod server;
pub mod tls;
mod tmpfs;
mod wire;

pub use delivery::Agent;
pub use dovecot::{
    ADMIN, ALICE, BOB, CAROL, Dovecot, Extent, Format, MASTER, Notify, Options, Overquota, Quota,
    password,
};
pub use error::Error;
pub use hub::Hub;
pub use imap::{Answer, Fetched, Imap, Mailbox, Resource, Status};
pub use lmtp::Lmtp;
pub use logged::Logged;
pub use mbsync::Mbsync;
pub use notifyd::{EndedBy, Notifyd};
pub use opened::Opened;
pub use pop3::Pop3;
pub use ports::{Nobody, free_address};
pub use private::private_file;
pub use receiver::{Receiver, Taken};
pub use server::{Server, Tree};
pub use tmpfs::Tmpfs;
