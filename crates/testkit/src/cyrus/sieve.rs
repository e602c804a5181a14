//! Just enough ManageSieve (RFC 5804) to have a script sort a user's new mail.

use std::net::SocketAddr;

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::Error;
use crate::wire::Wire;

/// Makes `script` the one that sorts.
pub(super) fn activate(
    address: SocketAddr,
    user: &str,
    password: &str,
    script: &str,
) -> Result<(), Error> {
    let mut wire = Wire::connect(address)?;
    answer(&mut wire, "the greeting")?;
    let response = BASE64_STANDARD.encode(format!("\0{user}\0{password}"));
    for command in [
        format!("AUTHENTICATE \"PLAIN\" \"{response}\""),
        format!("PUTSCRIPT \"sorts\" {{{}+}}\r\n{script}", script.len()),
        "SETACTIVE \"sorts\"".to_owned(),
        "LOGOUT".to_owned(),
    ] {
        wire.send(format!("{command}\r\n").as_bytes())?;
        answer(&mut wire, &command)?;
    }
    Ok(())
}

fn answer(wire: &mut Wire, command: &str) -> Result<(), Error> {
    loop {
        let line = String::from_utf8_lossy(&wire.line()?).into_owned();
        if line.starts_with("OK") {
            return Ok(());
        }
        if line.starts_with("NO") || line.starts_with("BYE") {
            return Err(Error::Refused { command: command.to_owned(), answer: line });
        }
    }
}
