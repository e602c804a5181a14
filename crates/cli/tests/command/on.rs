//! `postbell on`: a command for each event, against `postbell serve`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::hub::{PATIENCE, Served, event, following};
use crate::run::{command, run, transcript};

/// What has been written to `file`, once that is `count` lines.
fn lines(folder: &Path, file: &str, count: usize) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
        if text.lines().count() >= count {
            return text.lines().map(str::to_owned).collect();
        }
        assert!(begun.elapsed() < PATIENCE, "{file}: {text}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn start(folder: &Path, arguments: &[&str]) -> Child {
    let mut command = command(folder, arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_command_runs_for_each_event_and_how_it_ended_is_told() {
    let served = Served::start();
    assert_eq!(served.publish(&[event(6), event(7)].concat()).code, 0);
    let mut text = String::new();
    let on = ["on", "MessageNew", "--data", "data", "--since", "0", "--no-follow"];
    for rest in [
        &["--", "sh", "-c", "cat >> told; echo \"$POSTBELL_OWNER $POSTBELL_MAILBOX\""][..],
        &["--", "sh", "-c", "test \"$POSTBELL_VND_POSTBELL_SEQ\" = 2"],
        &["--stop", "--", "sh", "-c", "exit 3"],
        &["--timeout", "1s", "-n", "1", "--", "sleep", "60"],
        &["--", "./nowhere"],
        &["--user", "nobody", "--", "false"],
    ] {
        let arguments = [&on[..], rest].concat();
        text.push_str(&transcript(&arguments, &run(served.path(), &arguments)));
        text.push('\n');
    }
    for arguments in [
        &["on", "MessageNew", "--data", "data"][..],
        &["on", "--data", "data", "--", "true"],
        &["on", "MessageGnu", "--data", "data", "--", "true"],
        &["on", "MessageNew", "--data", "data", "--timeout", "0s", "--", "true"],
    ] {
        text.push_str(&transcript(arguments, &run(served.path(), arguments)));
        text.push('\n');
    }
    insta::assert_snapshot!(text);
    let told = lines(served.path(), "told", 2);
    assert!(told[0].contains(";UID=6") && told[1].contains(";UID=7") && told.len() == 2);
}

#[test]
fn what_is_done_is_kept_and_the_rest_follows_over_restarts_of_both() {
    let mut served = Served::start();
    let script = "cat >> told";
    let on = ["on", "message", "--data", "data", "--keep", "done", "--", "sh", "-c", script];
    let mut process = start(served.path(), &on);
    let begun = Instant::now();
    while !following(&served) {
        assert!(begun.elapsed() < PATIENCE, "nobody follows");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(served.publish(&event(1)).code, 0);
    lines(served.path(), "told", 1);
    served.stop(Signal::TERM);
    served.resume();
    assert_eq!(served.publish(&event(2)).code, 0);
    lines(served.path(), "told", 2);
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(served.publish(&event(3)).code, 0);
    let process = start(served.path(), &on);
    // What a kill left open is done once more, and nothing is left out.
    let begun = Instant::now();
    let kept = || fs::read_to_string(served.path().join("done")).unwrap_or_default();
    while kept() != "3\n" {
        assert!(begun.elapsed() < PATIENCE, "{}", kept());
        std::thread::sleep(Duration::from_millis(20));
    }
    let told = lines(served.path(), "told", 3);
    let mut uids: Vec<_> = told.iter().filter_map(|line| line.split(";UID=").nth(1)).collect();
    uids.dedup_by_key(|rest| rest.chars().next());
    assert_eq!(uids.len(), 3, "{told:?}");
    kill_process(Pid::from_child(&process), Signal::INT).unwrap();
    let ended = process.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
}

#[test]
fn a_stop_waits_for_what_is_under_way() {
    let served = Served::start();
    assert_eq!(served.publish(&[event(1), event(2)].concat()).code, 0);
    let script = "touch begun; while [ ! -e go ]; do sleep 0.02; done; echo >> told";
    let arguments = ["on", "message", "--data", "data", "--since", "0", "--", "sh", "-c", script];
    let mut process = start(served.path(), &arguments);
    let begun = Instant::now();
    while !served.path().join("begun").exists() {
        assert!(begun.elapsed() < PATIENCE, "it never begins");
        std::thread::sleep(Duration::from_millis(20));
    }
    kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
    // Once it has heard of that: else the next may have begun.
    let said = BufReader::new(process.stderr.take().unwrap()).lines();
    let waits = |line: String| line.contains("waiting for what is under way");
    assert!(said.map(Result::unwrap).any(waits), "it has ended");
    fs::write(served.path().join("go"), "").unwrap();
    let ended = process.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(lines(served.path(), "told", 1).len(), 1);
}
