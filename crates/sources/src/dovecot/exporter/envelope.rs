//! The SMTP envelope, put together again from what Dovecot took apart.

use std::fmt::Write as _;

use mail_event::Envelope;

use super::decode::Fields;

/// The envelope of one delivery: its sender, and its one recipient (R110). Nothing where Dovecot
/// says nothing of it.
///
/// Dovecot exports the parameters it knows, decoded and each under a name of its own: AUTH, BODY,
/// ENVID, RET and SIZE of the sender, NOTIFY and ORCPT of the recipient.
pub(super) fn envelope(fields: &Fields<'_>) -> Option<Envelope> {
    // As the client wrote it, where that can be had.
    let from = fields.text("mail_from_raw").or_else(|| fields.text("mail_from"))?;
    let to = fields.text("rcpt_to").filter(|to| !to.is_empty())?;
    let mut sender = format!("MAIL FROM:<{}>", bare(from));
    if let Some(auth) = fields.text("mail_param_auth") {
        let auth = if auth.is_empty() { "<>".to_owned() } else { xtext(auth) };
        add(&mut sender, "AUTH", &auth);
    }
    if let Some(body) = fields.text("mail_param_body") {
        add(&mut sender, "BODY", body);
    }
    if let Some(id) = fields.text("mail_param_envid") {
        add(&mut sender, "ENVID", &xtext(id));
    }
    if let Some(ret) = fields.text("mail_param_ret") {
        add(&mut sender, "RET", ret);
    }
    if let Some(octets) = fields.number("mail_param_size") {
        add(&mut sender, "SIZE", &octets.to_string());
    }
    let mut recipient = format!("RCPT TO:<{}>", bare(to));
    if let Some(notify) = fields.text("rcpt_param_notify") {
        add(&mut recipient, "NOTIFY", notify);
    }
    let original = fields.text("rcpt_param_orcpt_type").zip(fields.text("rcpt_param_orcpt"));
    if let Some((kind, address)) = original {
        add(&mut recipient, "ORCPT", &format!("{kind};{}", xtext(address)));
    }
    // What a client sent may hold no line end, and what would smuggle in a line is no envelope.
    let is_one_line = |line: &String| !line.contains(char::is_control);
    if !is_one_line(&sender) || !is_one_line(&recipient) {
        return None;
    }
    Envelope::new(&sender, [recipient.as_str()]).ok()
}

fn add(line: &mut String, name: &str, value: &str) {
    line.push(' ');
    line.push_str(name);
    line.push('=');
    line.push_str(value);
}

/// An address without the brackets Dovecot may or may not write.
fn bare(address: &str) -> &str {
    address.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(address)
}

/// `xtext` of RFC 3461, section 4.
fn xtext(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'!'..=b'~' if octet != b'+' && octet != b'=' => out.push(char::from(octet)),
            // Writing to a String never fails.
            _ => drop(write!(out, "+{octet:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(fields: &str) -> Option<String> {
        let fields = serde_json::from_str(fields).unwrap();
        envelope(&Fields::parse(&fields)).map(|envelope| envelope.as_str().to_owned())
    }

    #[test]
    fn r110_the_lines_are_those_the_client_sent_with_their_parameters() {
        let fields = r#"{"mail_from_raw":"ann@x.test","mail_from":"ann@x.test","mail_param_body":"8BITMIME",
            "mail_param_size":976,"mail_param_ret":"HDRS","mail_param_envid":"a+b c","mail_param_auth":"",
            "rcpt_to":"alice@example.org","rcpt_param_notify":"SUCCESS,FAILURE",
            "rcpt_param_orcpt_type":"rfc822","rcpt_param_orcpt":"al=ice@example.org"}"#;
        let sender =
            "MAIL FROM:<ann@x.test> AUTH=<> BODY=8BITMIME ENVID=a+2Bb+20c RET=HDRS SIZE=976\r\n";
        let recipient = "RCPT TO:<alice@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;al+3Dice@example.org\r\n";
        assert_eq!(told(fields), Some(format!("{sender}{recipient}")));
    }

    #[test]
    fn r110_the_null_sender_is_a_sender() {
        for from in ["", "<>"] {
            let fields = format!(r#"{{"mail_from":"{from}","rcpt_to":"alice"}}"#);
            assert_eq!(told(&fields).as_deref(), Some("MAIL FROM:<>\r\nRCPT TO:<alice>\r\n"));
        }
    }

    #[test]
    fn r110_no_line_is_smuggled_in_and_no_envelope_is_made_up() {
        assert_eq!(told(r#"{"mail_from":"a@x>\r\nRCPT TO:<eve","rcpt_to":"b"}"#), None);
        assert_eq!(told(r#"{"mail_from":"a@x"}"#), None);
        assert_eq!(told(r#"{"rcpt_to":"b"}"#), None);
    }
}
