//! Quotas that Cyrus is asked for.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use postbell_engine::{Certainty, Observation, Quota as Seen, What};
use postbell_testkit::cyrus::{OTHERS, Options};
use postbell_testkit::{ALICE, BOB, Quota, mail};

use super::{asked, known, large, told};
use crate::rig::{Rig, wait_until};

/// The looks at quotas, and what each saw.
fn looks(rig: &Rig) -> Vec<(Observation, Seen)> {
    let told = rig.kept.told().into_iter();
    let quota = told.filter_map(|seen| match seen.what.clone() {
        What::QuotaSeen(quota) => Some((seen, quota)),
        _ => None,
    });
    quota.collect()
}

fn limited() -> Options {
    let quota = Some(Quota { storage_kib: 1000, messages: 100 });
    Options { quota, ..Options::default() }
}

#[test]
fn r52_r53_quotas_are_looked_at_after_mail_came_and_went_and_our_sessions_are_not_told() {
    let Some((rig, cyrus)) = asked(limited()) else { return };
    let mut imap = cyrus.imap(ALICE).unwrap();
    imap.append("INBOX", "", &large(5_000)).unwrap();
    let looks = || {
        let all = looks(&rig).into_iter();
        all.map(|(seen, quota)| (seen.owner, seen.actor.user, quota)).collect::<Vec<_>>()
    };
    let is_so = |limit, used| {
        looks().last().is_some_and(|(owner, user, quota)| {
            assert_eq!(owner.as_deref(), Some(ALICE));
            assert_eq!(user.as_deref(), Some(ALICE));
            quota.messages_limit == Some(limit) && quota.messages_used == Some(used)
        })
    };
    wait_until(|| is_so(100, 1));
    let (_, _, quota) = looks().pop().unwrap();
    assert_eq!((quota.root.as_str(), quota.disk_limit_kib), ("INBOX", Some(1000)));
    let resources = imap.quota("INBOX").unwrap();
    let storage = resources.iter().find(|resource| resource.name == "STORAGE").unwrap();
    assert_eq!(quota.disk_used_kib, Some(storage.usage));
    // The limit is the one in force, and a mailbox that goes takes its mail along.
    cyrus.set_quota(ALICE, Quota { storage_kib: 1000, messages: 3 }).unwrap();
    imap.create("Box").unwrap();
    imap.append("Box", "", &mail::plain("two")).unwrap();
    wait_until(|| is_so(3, 2));
    imap.delete("Box").unwrap();
    wait_until(|| is_so(3, 1));
    imap.logout().unwrap();
    wait_until(|| told(&rig).contains(&format!("logout {ALICE}")));
    let sessions = told(&rig).into_iter().filter(|one| one.contains("log"));
    assert_eq!(sessions.collect::<Vec<_>>(), [format!("login {ALICE}"), format!("logout {ALICE}")]);
}

#[test]
fn a_look_after_several_acted_names_none_of_them() {
    let Some((mut rig, cyrus)) = asked(limited()) else { return };
    let mut alice = cyrus.imap(ALICE).unwrap();
    alice.create("Team").unwrap();
    alice.set_acl("Team", BOB, "lrswit").unwrap();
    let mut bob = cyrus.imap(BOB).unwrap();
    let (local, _) = ALICE.split_once('@').unwrap();
    let team = format!("{OTHERS}/{local}/Team");
    bob.append(&team, "", &mail::plain("one")).unwrap();
    wait_until(|| !looks(&rig).is_empty());
    let (seen, _) = looks(&rig).pop().unwrap();
    assert_eq!((seen.owner.as_deref(), seen.actor.user.as_deref()), (Some(ALICE), Some(BOB)));
    assert!(seen.actor.client.is_some() && seen.origin.pid.is_some());

    rig.stop_source();
    let before = looks(&rig).len();
    bob.append(&team, "", &mail::plain("two")).unwrap();
    alice.append("INBOX", "", &mail::plain("three")).unwrap();
    wait_until(|| rig.written().matches("\\\"MessageAppend").count() == 3);
    rig.start_source();
    wait_until(|| looks(&rig).len() == before + 2);
    for (seen, quota) in looks(&rig).split_off(before) {
        assert_eq!(quota.messages_used, Some(3));
        assert_eq!(seen.owner.as_deref(), Some(ALICE));
        assert_eq!((seen.actor.user, seen.actor.client, seen.origin.pid), (None, None, None));
        assert_eq!(seen.actor.service.as_deref(), Some("imap"));
    }
}

#[test]
fn a_quota_is_looked_at_after_what_was_only_found() {
    let Some((mut rig, cyrus)) = asked(limited()) else { return };
    let mut imap = cyrus.imap(ALICE).unwrap();
    known(&rig, &mut imap);
    wait_until(|| looks(&rig).last().is_some_and(|(_, quota)| quota.messages_used == Some(3)));
    rig.stop_source();
    rig.stop_notifyd();
    rig.lose(|| imap.append("INBOX", "", &mail::plain("four")).unwrap());
    rig.start_notifyd();
    rig.start_source();
    wait_until(|| looks(&rig).last().is_some_and(|(_, quota)| quota.messages_used == Some(4)));
    let (seen, _) = looks(&rig).pop().unwrap();
    assert_eq!((seen.certainty, seen.actor.user), (Certainty::Inferred, None));
}

/// A way to Cyrus on which each word takes a while.
fn slow(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let carry = |mut from: TcpStream, mut to: TcpStream, pause: Duration| {
        std::thread::spawn(move || {
            let mut octets = [0; 65_536];
            while let Ok(count @ 1..) = from.read(&mut octets) {
                std::thread::sleep(pause);
                if to.write_all(&octets[..count]).is_err() {
                    break;
                }
            }
        });
    };
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(to).unwrap();
            carry(client.try_clone().unwrap(), server.try_clone().unwrap(), SLOW);
            carry(server, client, Duration::ZERO);
        }
    });
    address
}

const SLOW: Duration = Duration::from_millis(150);

#[test]
fn what_happened_waits_for_no_look_at_a_quota_and_neither_does_who_stops() {
    let Some((mut rig, cyrus)) = asked(limited()) else { return };
    rig.stop_source();
    let mut imap = cyrus.imap(ALICE).unwrap();
    let names: Vec<_> = (0..40).map(|number| format!("Box{number}")).collect();
    for name in &names {
        imap.create(name).unwrap();
        imap.append(name, "", &mail::plain(name)).unwrap();
    }
    let direct = rig.options.master.as_ref().unwrap().address;
    rig.options.master.as_mut().unwrap().address = slow(direct);
    rig.start_source();
    let appended = || told(&rig).iter().filter(|one| one.contains(" appended ")).count();
    let begun = Instant::now();
    wait_until(|| appended() == names.len());
    // All looks take six seconds.
    let seen = looks(&rig).len();
    assert!(seen < names.len() / 2, "{seen} within {:?}", begun.elapsed());
    wait_until(|| !looks(&rig).is_empty());
    let begun = Instant::now();
    rig.stop_source();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let seen = looks(&rig).len();
    assert!(seen < names.len(), "{seen}");

    // What is left is remembered, and looked at by the next run.
    rig.options.master.as_mut().unwrap().address = direct;
    rig.start_source();
    wait_until(|| looks(&rig).len() >= names.len());
    wait_until(|| !rig.kept.keys().iter().any(|key| key.starts_with("quota-due/")));
    let (last, quota) = looks(&rig).pop().unwrap();
    assert_eq!(quota.messages_used, Some(40));
    assert_eq!((last.certainty, last.actor.user), (Certainty::Inferred, None));
}
