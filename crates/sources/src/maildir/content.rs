//! One message read again, for whoever was told that there is more than its event carries.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use mail_event::MessageContent;

use super::Options;
use super::folder::{Folder, Kind};
use super::known::{self, key, message_key};
use super::layout::FileName;
use super::listing::Places;
use super::message::{self, Wanted};
use super::source::{open_below, prefix};
use crate::Place;

/// The content of one message, where it is still there and has at most `max_octets`: the octets
/// that its event would have carried.
///
/// `kept` fetches the pairs of the source's checkpoint whose keys begin as given: it alone knows
/// which file has which UID.
///
/// # Errors
///
/// Those of `kept`, and of the system where the file can't be read.
pub fn content<E: From<io::Error>>(
    options: &Options,
    place: &Place<'_>,
    max_octets: u64,
    kept: impl Fn(&[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, E>,
) -> Result<Option<MessageContent>, E> {
    let is_pattern = options.root.contains("%u");
    if !is_pattern && options.user.as_deref() != Some(place.owner) {
        return Ok(None);
    }
    let prefix = prefix(place.owner);
    let mailboxes = kept(&key(&prefix, "b"))?;
    let mailboxes = mailboxes.iter().filter_map(|(key, value)| known::mailbox(&prefix, key, value));
    let is_meant = |(name, mailbox): &(String, known::Mailbox)| {
        name == place.mailbox && mailbox.uid_validity == place.uid_validity
    };
    let Some((_, mailbox)) = mailboxes.into_iter().find(is_meant) else { return Ok(None) };
    let messages = kept(&message_key(&prefix, mailbox.id, place.uid))?;
    let Some(unique) = messages.first().and_then(|(_, value)| known::unique(place.uid, value))
    else {
        return Ok(None);
    };
    let read = || -> io::Result<Option<MessageContent>> {
        let top = match is_pattern {
            true => open_below(&options.root, place.owner)?,
            false => Folder::open(Path::new(&options.root))?,
        };
        let folder = top.sub(if mailbox.folder.is_empty() { "." } else { &mailbox.folder })?;
        let places = Places::open(&folder)?;
        // Its flags, and with them its name, may change between the two steps.
        for _ in 0..TRIES {
            let Some((folder, name)) = find(&places, &unique)? else { return Ok(None) };
            let mut file = match folder.file(&name) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let octets = file.metadata()?.len();
            let wanted = Wanted { body_structure: false, content_max_octets: Some(max_octets) };
            return Ok(message::read(&mut file, octets, None, wanted)?.content);
        }
        Ok(None)
    };
    match read() {
        Ok(content) => Ok(content),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The file whose name begins so, and the folder it is in.
fn find<'p>(places: &'p Places, unique: &str) -> io::Result<Option<(&'p Folder, OsString)>> {
    for folder in places.new.iter().chain([&places.cur]) {
        let mut found = None;
        folder.each(|name, kind| {
            let is_it = kind == Kind::File
                && name.to_str().and_then(FileName::parse).is_some_and(|it| it.unique == unique);
            if is_it {
                found = Some(name.to_owned());
            }
        })?;
        if let Some(name) = found {
            return Ok(Some((folder, name)));
        }
    }
    Ok(None)
}

/// How often a file is looked for whose name changes as it is opened.
const TRIES: usize = 3;
