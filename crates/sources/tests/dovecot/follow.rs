//! Lines as they come, and what may befall their files.

use std::time::Duration;

use postbell_sources::State;

use crate::rig::{Rig, annotation, append, line, line_of, subscribe, wait_until};

const LOGIN: &str = r#"{"e":"login"}"#;
const LOGOUT: &str = r#"{"e":"logout","secs":3}"#;
/// The source's `CHUNK_OCTETS`.
const READ_AT_ONCE: usize = 256 << 10;
const BYE: &str = r#"{"e":"bye"}"#;

#[test]
fn a_line_is_told_as_soon_as_it_is_whole() {
    let rig = Rig::started();
    let text = line('a', 1, &append(7));
    let (begin, end) = text.split_at(40);
    rig.write(begin);
    assert!(rig.hear_out().is_empty());
    rig.write(end);
    assert_eq!(rig.hear(1), ["alice appended INBOX 7"]);
    rig.write(&(line('a', 2, &append(8)) + &line('a', 3, &append(9))));
    assert_eq!(rig.hear(3)[1..], ["alice appended INBOX 8", "alice appended INBOX 9"]);
    // They are counted once they are taken.
    wait_until(|| rig.health.snapshot().observations == 3);
}

#[test]
fn a_spool_that_is_not_there_is_waited_for() {
    let mut rig = Rig::new();
    std::fs::remove_dir(&rig.options.spool).unwrap();
    rig.start();
    wait_until(|| rig.health.snapshot().state == State::Waiting);
    let detail = rig.health.snapshot().detail;
    assert!(detail.contains("spool") && detail.contains("postbell setup dovecot"), "{detail}");
    std::fs::create_dir(&rig.options.spool).unwrap();
    rig.write(&line('a', 1, &append(7)));
    assert_eq!(rig.hear(1), ["alice appended INBOX 7"]);
    assert_eq!(rig.health.snapshot().state, State::Running);
}

#[test]
fn what_was_told_is_not_told_again_after_a_restart() {
    let mut rig = Rig::started();
    rig.write(&line('a', 1, &append(7)));
    rig.hear(1);
    rig.stop();
    rig.write(&line('a', 2, &append(8)));
    rig.start();
    assert_eq!(rig.hear(2), ["alice appended INBOX 7", "alice appended INBOX 8"]);
}

#[test]
fn a_damaged_line_is_a_gap_and_the_rest_goes_on() {
    let rig = Rig::started();
    rig.write("{\"v\":1,\"run\":\"zzz\"}\n");
    rig.write(&line('a', 1, &append(7)));
    // One died within its line, and the next wrote on.
    rig.write(line('b', 1, &append(1)).split_at(50).0);
    rig.write(&line('a', 2, &append(8)));
    rig.write(&"x".repeat(3 << 20));
    rig.write(&("\n".to_owned() + &line('a', 3, &append(9))));
    let told = rig.hear(6);
    assert_eq!(told.len(), 6, "{told:#?}");
    let missed: Vec<_> = told.iter().filter(|text| text.contains("missed: a line of")).collect();
    assert_eq!(missed.len(), 3, "{told:#?}");
    assert_eq!(rig.health.snapshot().gaps, 3);
    assert!(told.last().unwrap().ends_with("INBOX 9"), "{told:#?}");
}

#[test]
fn a_number_left_out_is_a_gap() {
    let rig = Rig::started();
    rig.write(&(line('a', 1, &append(7)) + &line('a', 4, &append(8))));
    let told = rig.hear(3);
    assert!(told[1].starts_with("alice missed: transactions 2 to 3 of"), "{told:#?}");
    assert!(told[2].ends_with("INBOX 8"));
}

#[test]
fn lines_of_one_run_in_two_files_are_told_in_order() {
    let mut rig = Rig::new();
    // The script had opened the file before it was put aside, and wrote after the new one's begin.
    rig.write(&line('a', 2, &append(8)));
    rig.write_to(".1", &line('a', 1, &append(7)));
    rig.start();
    assert_eq!(rig.hear(2), ["alice appended INBOX 7", "alice appended INBOX 8"]);
}

#[test]
fn a_file_written_over_or_taken_away_is_told_of() {
    let rig = Rig::started();
    rig.write(&(line('a', 1, &append(7)) + &line('a', 2, &append(8))));
    rig.hear(2);
    std::fs::write(rig.path(""), line('b', 1, &append(9))).unwrap();
    let told = rig.hear(4);
    assert!(told.iter().any(|text| text.contains("was cut from")), "{told:#?}");
    assert!(told.iter().any(|text| text.ends_with("INBOX 9")), "{told:#?}");
    std::fs::remove_file(rig.path("")).unwrap();
    let told = rig.hear(5);
    assert!(told[4].contains("was taken away"), "{told:#?}");
    assert!(!rig.kept.keys().iter().any(|key| key.starts_with("spool/")));
}

#[test]
fn a_large_file_is_put_aside_and_read_on() {
    let rig = Rig::started();
    let name = "x".repeat(4_000);
    let mut text = String::new();
    for seq in 1..=2_200 {
        text += &line('a', seq, &subscribe(&name));
    }
    rig.write(&text);
    assert_eq!(rig.hear(2_200).len(), 2_200);
    wait_until(|| rig.path(".1").exists() && !rig.path("").exists());
    rig.write(&line('a', 2_201, &append(7)));
    rig.write_to(".1", &line('b', 1, &append(8)));
    assert_eq!(rig.hear(2_202).len(), 2_202);
    assert!(rig.kept.largest().0 <= 1_000);
}

#[test]
fn a_file_put_aside_is_removed_when_it_is_done_with() {
    let rig = Rig::started();
    rig.write_to(".1", &line('a', 1, &append(7)));
    rig.write(&line('a', 2, &append(8)));
    rig.hear(2);
    let old = std::time::SystemTime::now() - Duration::from_secs(61);
    std::fs::File::options().append(true).open(rig.path(".1")).unwrap().set_modified(old).unwrap();
    wait_until(|| !rig.path(".1").exists());
    assert!(rig.path("").exists());
    assert_eq!(rig.hear_out().len(), 2);
    // What is remembered of it goes after the file.
    wait_until(|| rig.kept.keys().iter().filter(|key| key.starts_with("spool/")).count() == 1);
}

#[test]
fn files_that_are_none_of_the_scripts_are_refused() {
    let rig = Rig::started();
    let other = rig.options.spool.join(format!("{}.ndjson", rig.uid + 1));
    std::fs::write(other, line('a', 1, &append(7))).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", rig.path(".7")).unwrap();
    std::fs::write(rig.options.spool.join("notes"), "x\n").unwrap();
    rig.write(&line('b', 1, &append(8)));
    assert_eq!(rig.hear(1), ["alice appended INBOX 8"]);
    wait_until(|| rig.health.snapshot().skipped == 2);
    wait_until(|| rig.health.snapshot().last_error.is_some());
    assert_eq!(rig.hear_out().len(), 1);
}

#[test]
fn r74_each_login_has_one_logout_whatever_happens() {
    let mut rig = Rig::started();
    rig.write(&(line('a', 1, LOGIN) + &line('b', 1, LOGIN)));
    rig.hear(2);
    rig.stop();
    rig.start();
    // One that began before postbell was there is nobody's Logout.
    let rest = [line('a', 2, LOGOUT), line('a', 3, BYE), line('c', 1, LOGOUT), line('c', 2, BYE)];
    rig.write(&rest.concat());
    let told = rig.hear(3);
    assert_eq!(told, ["login alice", "login alice", "logout alice sessionDuration=3"]);
    let keys = rig.kept.keys();
    assert!(keys.contains(&"session/sb".to_owned()) && !keys.contains(&"session/sa".to_owned()));
    assert!(!keys.iter().any(|key| key.starts_with("run/a")), "{keys:?}");
}

#[test]
fn r77_a_process_that_dies_is_logged_out() {
    let rig = Rig::started();
    // Something alive that looks like one of Dovecot's.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("imap");
    std::fs::copy("/bin/sleep", &program).unwrap();
    let mut process = std::process::Command::new(&program).arg("60").spawn().unwrap();
    let ours = std::process::id().to_string();
    let of = |text: String| text.replace(&ours, &process.id().to_string());
    rig.write(&of(line('a', 1, LOGIN)));
    assert_eq!(rig.hear(1), ["login alice"]);
    process.kill().unwrap();
    process.wait().unwrap();
    let told = rig.hear(3);
    assert!(told[1].starts_with("logout alice") && told[1].contains("disconnect=\"abort\""));
    assert!(told[2].contains("died; its last transaction may be missing"), "{told:#?}");
    assert_eq!(rig.hear_out().len(), 3);
}

#[test]
fn a_line_waits_for_what_the_exporter_says_but_not_for_long() {
    let mut rig = Rig::patient();
    rig.write(&line('a', 1, &append(7)));
    assert!(rig.options.exporter.take(&annotation('a', 1, &["imap:cmd_append"])).is_ok());
    assert_eq!(rig.hear(1), ["alice appended INBOX 7"]);
    let expunge = r#"{"e":"expunge","box":"INBOX","val":5,"uids":"7"}"#;
    rig.write(&line('a', 2, expunge));
    rig.options.exporter.take(&annotation('a', 2, &["storage:autoexpunge"])).unwrap();
    assert_eq!(rig.hear(2)[1], "alice expired INBOX 7 by autoexpunge");
    // The next is lost on the way.
    rig.stop();
    rig.options.annotation_window = Duration::from_millis(100);
    rig.start();
    rig.write(&line('a', 3, expunge));
    assert_eq!(rig.hear(3)[2], "alice expunged INBOX 7");
}

#[test]
fn a_move_is_linked_when_both_halves_are_there() {
    let rig = Rig::patient();
    rig.options.exporter.take(&annotation('a', 1, &["imap:cmd_move"])).unwrap();
    rig.options.exporter.take(&annotation('a', 2, &["imap:cmd_move"])).unwrap();
    rig.write(&line('a', 1, r#"{"e":"append","box":"B","val":6,"uids":"11:12","flags":[]}"#));
    std::thread::sleep(Duration::from_millis(20));
    rig.write(&line('a', 2, r#"{"e":"expunge","box":"A","val":5,"uids":"3,9"}"#));
    let wanted = ["alice appended B 11 from A 3", "alice appended B 12 from A 9"];
    assert_eq!(rig.hear(3)[..2], wanted);
    assert_eq!(rig.hear(3)[2], "alice expunged A 3,9 to B 11:12");
}

#[test]
fn a_deletion_without_the_exporter_tells_no_expunges() {
    let mut rig = Rig::new();
    // Nobody knows yet that the exporter is away, so that this much is waited.
    rig.options.annotation_window = Duration::from_secs(10);
    rig.start();
    rig.write(&line('a', 1, r#"{"e":"expunge","box":"A","val":5,"uids":"1:3"}"#));
    std::thread::sleep(Duration::from_millis(20));
    rig.write(&line('a', 2, r#"{"e":"delete","box":"A"}"#));
    assert_eq!(rig.hear(1), ["alice deleted A Some(5)"]);
}

/// The deletion is there, but beyond what is read of the file at once.
#[test]
fn r86_a_deletion_in_a_backlog_tells_no_expunges() {
    let mut rig = Rig::new();
    let expunge = line('a', 1, r#"{"e":"expunge","box":"A","val":5,"uids":"1:3"}"#);
    let (mut text, mut seq) = (String::new(), 1);
    while text.len() + expunge.len() < READ_AT_ONCE {
        let bare = line('b', seq, &subscribe("")).len();
        let left = READ_AT_ONCE - text.len() - expunge.len() - bare;
        // None is left over that would be too short for a line.
        let name = if left > 2_000 { 500 } else { left };
        text.push_str(&line('b', seq, &subscribe(&"x".repeat(name))));
        seq += 1;
    }
    rig.write(&(text + &expunge + &line('a', 2, r#"{"e":"delete","box":"A"}"#)));
    rig.start();
    let told = rig.hear(usize::try_from(seq).unwrap());
    let others: Vec<_> = told.iter().filter(|text| !text.contains("Subscribed")).collect();
    assert_eq!(others, ["alice deleted A Some(5)"]);
}

#[test]
fn r82_a_mailbox_made_without_a_uidvalidity_is_not_lost_in_silence() {
    let rig = Rig::started();
    rig.write(&line('a', 1, r#"{"e":"create","box":"A"}"#));
    let wanted = "alice missed: it was made, and nobody says with which UIDVALIDITY";
    assert_eq!(rig.hear(1), [wanted]);
}

#[test]
fn a_line_of_many_messages_goes_in_several_batches() {
    let rig = Rig::started();
    let many = r#"{"e":"append","box":"INBOX","val":5,"uids":"1:2500","flags":[]}"#;
    rig.write(&line_of("bob", "imap", 'a', 1, many));
    let told = rig.hear(2_500);
    assert_eq!((told.len(), told.last().unwrap().as_str()), (2_500, "bob appended INBOX 2500"));
    assert!(rig.kept.largest().0 <= 1_000);
}
