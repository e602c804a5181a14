//! A hub with TLS, asked by the command.

use std::time::{Duration, Instant};

use postbell_testkit::tls::{Authority, Day, FAR, Pair};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::hub::{Served, event};
use crate::run::{command, feed, run, transcript};

/// A hub with a certificate from an authority of its own.
struct Safe {
    served: Served,
    authority: Authority,
}

fn start(names: &[&str], ends: Day, more: &str, environment: &[(&str, &str)]) -> Safe {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority").unwrap();
    let pair = authority.server("hub", names, ends).unwrap();
    let tls = tls(&pair, more);
    Safe { served: Served::start_in(folder, &tls, environment), authority }
}

fn tls(pair: &Pair, more: &str) -> String {
    let (certificate, key) = (&pair.certificate, &pair.key);
    format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n{more}")
}

impl Safe {
    /// Runs a command, with the port's number and the folder's name out of the way.
    fn told(&self, arguments: &[&str]) -> String {
        let port = self.port();
        let given: Vec<_> = arguments.iter().map(|one| one.replace("PORT", &port)).collect();
        let given: Vec<_> = given.iter().map(String::as_str).collect();
        let told = transcript(arguments, &run(self.served.path(), &given));
        let folder = self.served.path().display().to_string();
        told.replace(&port, "PORT").replace(&folder, "FOLDER")
    }

    fn port(&self) -> String {
        self.served.url().rsplit_once(':').unwrap().1.to_owned()
    }
}

#[test]
fn r163_a_hub_with_tls_is_asked_over_it_and_a_bad_certificate_is_named() {
    let safe = start(&["localhost", "hub.example.org"], FAR, "", &[]);
    assert!(safe.served.url().starts_with("https://127.0.0.1:"), "{}", safe.served.url());
    let publish = ["publish", "--data", "data", "--ca", "authority.pem"];
    assert_eq!(feed(safe.served.path(), &publish, event(1).as_bytes()).code, 0);
    let other = tempfile::tempdir().unwrap();
    Authority::new(other.path(), "other").unwrap();
    std::fs::copy(other.path().join("other.pem"), safe.served.path().join("other.pem")).unwrap();
    std::fs::write(safe.served.path().join("nothing.pem"), "nothing").unwrap();
    let tail = |more: &[&str]| {
        let always = ["tail", "--since", "0", "--no-follow", "--token-file", "data/token"];
        safe.told(&[&always, more].concat())
    };
    let mut text = tail(&["--url", "https://localhost:PORT", "--ca", "authority.pem"]);
    text += &tail(&["--url", "https://localhost:PORT", "--ca", "other.pem"]);
    text += &tail(&["--url", "https://127.0.0.1:PORT", "--ca", "authority.pem"]);
    text += &tail(&["--url", "https://localhost:PORT", "--ca", "nothing.pem"]);
    text += &tail(&["--url", "https://localhost:PORT", "--ca", "missing.pem"]);
    // By its own files: the authority is not known to this machine, and is given.
    text += &tail(&["--data", "data", "--ca", "authority.pem"]);
    text += &tail(&["--config", "postbell.toml", "--ca", "authority.pem"]);
    insta::assert_snapshot!(text);
}

#[test]
fn what_speaks_no_tls_is_told_apart() {
    let served = Served::start();
    let url = served.url().replace("http://127.0.0.1", "https://localhost");
    let folder = tempfile::tempdir().unwrap();
    Authority::new(folder.path(), "authority").unwrap();
    let ca = folder.path().join("authority.pem").display().to_string();
    let told =
        run(served.path(), &["sources", "list", "--data", "data", "--url", &url, "--ca", &ca]);
    assert_eq!(told.code, 3, "{told:?}");
    assert!(told.err.contains("what answers there speaks no TLS (is it http://?)"), "{told:?}");
}

#[test]
fn the_machines_own_programs_need_no_tls_where_they_have_a_place() {
    let safe = start(&["localhost"], FAR, "local_listen = \"127.0.0.1:0\"\n", &[]);
    let listed = run(safe.served.path(), &["sources", "list", "--data", "data"]);
    assert_eq!(listed.code, 0, "{listed:?}");
}

#[test]
fn a_renewed_certificate_is_taken_on_sighup() {
    let mut safe = start(&["localhost"], FAR, "", &[]);
    let before = std::fs::read(safe.served.path().join("hub.pem")).unwrap();
    let other = safe.authority.server("hub", &["other.example.org"], FAR).unwrap();
    assert_ne!(std::fs::read(&other.certificate).unwrap(), before);
    kill_process(Pid::from_child(safe.served.process()), Signal::HUP).unwrap();
    let begun = Instant::now();
    let tail = ["tail", "--since", "0", "--no-follow", "--token-file", "data/token"];
    let at = ["--url", "https://localhost:PORT", "--ca", "authority.pem"];
    let arguments = [&tail[..], &at].concat();
    while !safe.told(&arguments).contains("is for other.example.org, and not for localhost") {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", safe.told(&arguments));
    }
    let (code, log) = safe.served.stop(Signal::TERM);
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("it was taken anew"), "{log}");
}

#[test]
fn doctor_tells_of_a_certificate_that_is_about_to_end_or_has() {
    let day = |days: i64| {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
        let date = jiff::tz::Offset::UTC.to_datetime(at).date();
        (i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    let told = |folder: &TempDir| {
        let told = run(folder.path(), &["doctor", "--config", "postbell.toml"]);
        told.out.lines().find(|line| line.contains("certificate")).unwrap().to_owned()
    };
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority").unwrap();
    let pair = authority.server("hub", &["localhost"], FAR).unwrap();
    let config = format!("data = {:?}\n{}", folder.path().join("data"), tls(&pair, ""));
    std::fs::write(folder.path().join("postbell.toml"), config).unwrap();
    for (ends, mark, says) in [
        (day(100), "✓", "for localhost until"),
        (day(14), "!", "it ends in 13 days"),
        (day(1), "!", "it ends in 0 days"),
        (day(-1), "✗", "it has ended"),
    ] {
        authority.server("hub", &["localhost"], ends).unwrap();
        let line = told(&folder);
        assert!(line.starts_with(mark) && line.contains(says), "{line}");
    }
    authority.server("hub", &[], FAR).unwrap();
    assert!(told(&folder).contains("for no name"), "{}", told(&folder));
    let other = authority.server("other", &["localhost"], FAR).unwrap();
    std::fs::copy(&other.key, &pair.key).unwrap();
    assert!(told(&folder).starts_with('✗'), "{}", told(&folder));
}

#[test]
fn r158_neither_a_token_nor_a_ticket_is_ever_logged() {
    let mut served =
        Served::start_in(tempfile::tempdir().unwrap(), "", &[("POSTBELL_LOG", "trace")]);
    let address = served.url().trim_start_matches("http://").parse().unwrap();
    let token = std::fs::read_to_string(served.path().join("data/token")).unwrap();
    let token = token.trim();
    let answer = postbell_testkit::http::post(address, "/v1/tickets", Some(token), "").unwrap();
    assert_eq!(answer.status, 201, "{}", answer.body);
    let answer: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let ticket = answer["ticket"].as_str().unwrap();
    for status in [200, 401] {
        let path = format!("/v1/events?follow=false&ticket={ticket}");
        assert_eq!(postbell_testkit::http::get(address, &path, None).unwrap().status, status);
    }
    let (_, log) = served.stop(Signal::TERM);
    assert!(log.contains("the hub is up"), "{log}");
    assert!(!log.contains(token) && !log.contains(ticket), "{log}");
}

#[test]
fn r163_a_hub_that_others_reach_does_not_start_without_tls() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("postbell.toml"), "listen = \"0.0.0.0:5423\"\n").unwrap();
    for arguments in
        [&["config", "check", "postbell.toml"][..], &["serve", "--config", "postbell.toml"]]
    {
        let told = command(folder.path(), arguments).output().unwrap();
        assert!(!told.status.success());
        let said = [told.stdout, told.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains("listen: \"0.0.0.0:5423\" is not a loopback address"), "{said}");
    }
}
