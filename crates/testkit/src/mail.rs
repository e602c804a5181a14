//! Messages to put into stores.

/// A plain message with CRLF line ends; `marker` ends up in the subject and the body.
#[must_use]
pub fn plain(marker: &str) -> Vec<u8> {
    format!(
        "From: Sender <sender@example.net>\r\n\
         To: Alice <alice@example.org>\r\n\
         Subject: {marker}\r\n\
         Date: Tue, 1 Sep 2026 08:15:00 +0200\r\n\
         Message-ID: <{marker}@example.net>\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: 8bit\r\n\
         \r\n\
         Good morning, this is {marker}.\r\n\
         Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.\r\n"
    )
    .into_bytes()
}

/// A message of two parts inside a third, one of them attached; CRLF line ends.
#[must_use]
pub fn with_attachment(marker: &str) -> Vec<u8> {
    format!(
        "From: Sender <sender@example.net>\r\n\
         To: Alice <alice@example.org>\r\n\
         Subject: {marker}\r\n\
         Date: Tue, 1 Sep 2026 08:16:00 +0200\r\n\
         Message-ID: <{marker}@example.net>\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=\"outer\"\r\n\
         \r\n\
         This is for readers without MIME.\r\n\
         --outer\r\n\
         Content-Type: multipart/alternative; boundary=\"inner\"\r\n\
         \r\n\
         --inner\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\
         \r\n\
         {marker} in plain words.\r\n\
         --inner\r\n\
         Content-Type: text/html; charset=us-ascii\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\
         \r\n\
         <p>{marker} =3D in colour.</p>\r\n\
         --inner--\r\n\
         --outer\r\n\
         Content-Type: application/octet-stream; name=\"notes.bin\"\r\n\
         Content-Disposition: attachment; filename=\"notes.bin\"\r\n\
         Content-Transfer-Encoding: base64\r\n\
         \r\n\
         AAECAwQFBgcICQ==\r\n\
         --outer--\r\n"
    )
    .into_bytes()
}

/// A message that encloses another whole one; CRLF line ends.
#[must_use]
pub fn forwarded(marker: &str) -> Vec<u8> {
    let mut message = format!(
        "From: \"Sender, the Second\" <sender@example.net>\r\n\
         To: Alice <alice@example.org>, bob@example.org\r\n\
         Subject: =?utf-8?q?{marker}_=E2=9C=89?=\r\n\
         Date: Tue, 1 Sep 2026 08:17:00 +0200\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: message/rfc822\r\n\
         \r\n"
    )
    .into_bytes();
    message.extend(plain(marker));
    message
}

/// The same message with bare LF line ends, as delivery agents store it.
#[must_use]
pub fn with_bare_lf(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len());
    let mut octets = message.iter().copied().peekable();
    while let Some(octet) = octets.next() {
        if octet != b'\r' || octets.peek() != Some(&b'\n') {
            out.push(octet);
        }
    }
    out
}
