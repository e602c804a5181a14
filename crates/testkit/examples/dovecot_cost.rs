//! What postbell's script costs a Dovecot: the same commands to one with it and to one without.
//!
//! `scripts/dovecot-cost [ROUNDS [ONLY]]` runs it. Five servers stand beside each other, and each command
//! goes to one after the other, so that whatever the machine does meets all of them. One has the
//! plugins that call a script, and an empty one: less than that no script of ours can cost. On one of
//! those with ours nobody wants flags.

#![expect(clippy::print_stdout, reason = "it prints a table")]

mod cost;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use cost::{Awake, Open, Plan, Table};
use postbell_testkit::{ALICE, Dovecot, Error, Format, Notify, Options};

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let rounds = cost::number(arguments.next(), ROUNDS);
    let only = arguments.next();
    let awake = Awake::begin()?;
    let exporter = listen()?;
    for format in [Format::Maildir, Format::Sdbox] {
        let folder = tempfile::tempdir().map_err(Error::io("make a folder"))?;
        open_up(folder.path())?;
        let away = Notify::into_spool(folder.path().join("away"));
        let heard = Notify {
            exporter: Some(exporter.clone()),
            ..Notify::into_spool(folder.path().join("heard"))
        };
        let unwanted = Notify::into_spool(folder.path().join("unwanted"));
        let empty = Notify::into_spool(folder.path().join("empty"));
        let mut servers = Vec::new();
        for (notify, script) in [
            (None, None),
            (Some(empty), Some(EMPTY.to_owned())),
            (Some(away), None),
            (Some(heard), None),
            (Some(unwanted), None),
        ] {
            let options = Options { format, notify, script, ..Options::default() };
            let Some(dovecot) = Dovecot::start_with(options)? else { return Ok(()) };
            servers.push(dovecot);
        }
        want_no_flags(&folder.path().join("unwanted"))?;
        let mut open = Vec::new();
        for dovecot in &servers {
            let login = Box::new(|| dovecot.imap(ALICE));
            open.push(Open { imap: dovecot.imap(ALICE)?, lmtp: dovecot.lmtp()?, login });
        }
        let names = ["bare", "plugins", "script", "script + exporter", "script, no flags"];
        let mut table = Table::new(&names, Plan { rounds, in_a_row: 1, only: only.as_deref() });
        table.measure(&mut open, ALICE)?;
        table.print(&format!("{format:?}"));
    }
    drop(awake);
    Ok(())
}

/// Somebody who hears the exporter, and thanks it.
fn listen() -> Result<String, Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::io("listen"))?;
    let address = listener.local_addr().map_err(Error::io("listen"))?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || thank(stream));
        }
    });
    Ok(format!("http://{address}/v1/dovecot/cost/secret"))
}

fn thank(stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(digits) = lower.strip_prefix("content-length:") {
            length = digits.trim().parse().ok()?;
        } else if line.trim().is_empty() {
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            reader.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()?;
        }
    }
}

/// What the hub writes down where messages are wanted, and nothing else.
fn want_no_flags(spool: &Path) -> Result<(), Error> {
    let text = "postbell-demand 1\nMessageAppend\nMessageNew\nvendor\nend\n";
    std::fs::write(spool.join("demand"), text).map_err(Error::io("say what is wanted"))
}

fn open_up(folder: &Path) -> Result<(), Error> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder, mode).map_err(Error::io("open up a folder"))
}

/// A script that is called when a transaction begins and when it ends, and for nothing that nobody
/// wants where nobody wants flags. It does nothing.
const EMPTY: &str = "
function mail_user_created() return 0 end
function dovecot_lua_notify_begin_txn() end
function dovecot_lua_notify_event_message_new() end
function dovecot_lua_notify_end_txn() end
";

const ROUNDS: usize = 1000;
