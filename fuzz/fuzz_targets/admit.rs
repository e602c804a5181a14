//! An event handed in, admitted, selected and sent on: what leaves is strict and stamped.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mail_event::ParameterName;
use mail_event::json;
use postbell_engine::{Policy, Selection, Stamp, Stores, admit};

fuzz_target!(|input: (u8, u32, &[u8])| {
    let (choice, parameters, bytes) = input;
    let open = choice & 1 != 0;
    let policy = Policy {
        body_structure: open,
        envelope: open,
        content_max_octets: open.then_some(64),
        ..Policy::default()
    };
    let Ok(admitted) = admit(&policy, "publish", &Stores::any(), bytes, None) else { return };
    let strict = admitted.rewritten.as_deref().unwrap_or(bytes);
    let parsed = json::from_slice(strict).expect("what is admitted can be read");
    assert!(parsed.repairs.is_empty(), "{:?}", parsed.repairs);
    let view = admitted.keys.view(strict);
    assert_eq!(view.name(), parsed.event.name().as_str());
    assert_eq!(view.user().as_deref(), parsed.event.user());
    let url = parsed.event.uri().as_imap();
    assert_eq!(view.mailbox().as_deref(), url.and_then(|url| url.mailbox()));

    let mut selection = Selection::default();
    if choice & 2 != 0 {
        let named = ParameterName::REGISTERED.into_iter().zip(0..);
        let wanted = named.filter(|(_, at)| parameters & (1 << at) != 0);
        selection.parameters = wanted.map(|(name, _)| name.to_string()).collect();
    }
    if choice & 4 != 0 {
        selection.tags = vec!["größe".to_owned()];
    }
    let Ok((_, projection)) = selection.compile(&policy) else { return };
    let stamp = Stamp { id: admitted.id, seq: 7, prev_seq: Some(6) };
    let mut out = Vec::new();
    projection.write(&mut out, strict, &view, &stamp);
    let delivered = json::from_slice(&out).expect("what is delivered can be read");
    assert!(delivered.repairs.is_empty(), "{:?}", delivered.repairs);
    assert_eq!(delivered.event.vendor("vnd.postbell.seq"), Some(7.into()));
    assert_eq!(delivered.event.name(), parsed.event.name());
    if !open {
        assert!(ParameterName::PRIVATE.iter().all(|one| !delivered.event.has(one)));
    }
});
