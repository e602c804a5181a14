//! What is kept under names in the checkpoint, as JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Pair;
use crate::spool::Change;

/// What stands under keys that begin with `prefix`; what can't be read is passed over.
pub(crate) fn restore<T: DeserializeOwned>(prefix: &[u8], saved: &[Pair]) -> BTreeMap<String, T> {
    let read = |(key, value): &Pair| {
        let name = String::from_utf8(key.strip_prefix(prefix)?.to_vec()).ok()?;
        Some((name, serde_json::from_slice(value).ok()?))
    };
    saved.iter().filter_map(read).collect()
}

/// The entry of `name` as it is to be; removed where it is no more.
pub(crate) fn change(prefix: &[u8], name: &str, kept: Option<&impl Serialize>) -> Change {
    let value = kept.and_then(|kept| serde_json::to_vec(kept).ok());
    ([prefix, name.as_bytes()].concat(), value)
}
