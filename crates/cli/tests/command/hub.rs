//! Commands that ask a hub, against `postbell serve`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::run::{Ended, command, feed, run, transcript};

/// `postbell serve` on a temporary folder; killed when dropped.
pub(crate) struct Served {
    folder: TempDir,
    process: Child,
    said: String,
    log: Log,
}

/// What a process logs, read as it comes: who isn't read stands still once a pipe is full.
struct Log {
    text: Arc<Mutex<String>>,
    thread: JoinHandle<()>,
}

impl Log {
    fn of(process: &mut Child) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let (lines, kept) = (BufReader::new(process.stderr.take().unwrap()).lines(), text.clone());
        let thread = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *kept.lock().unwrap() += &(line + "\n");
            }
        });
        Self { text, thread }
    }
}

impl Served {
    pub(crate) fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), "", &[])
    }

    /// The same with more in its configuration and its environment.
    pub(crate) fn start_in(folder: TempDir, more: &str, environment: &[(&str, &str)]) -> Self {
        let data = folder.path().join("data");
        let config = format!(
            "data = {data:?}\nlisten = \"127.0.0.1:0\"\n[webhooks]\nreach = \"loopback\"\n{more}"
        );
        std::fs::write(folder.path().join("postbell.toml"), config).unwrap();
        let (mut process, said) = serve(folder.path(), environment);
        let log = Log::of(&mut process);
        Self { folder, process, said, log }
    }

    pub(crate) fn process(&self) -> &Child {
        &self.process
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn url(&self) -> &str {
        self.said.split(' ').find(|word| word.starts_with("http")).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        run(self.path(), &[arguments, &["--data", "data"]].concat())
    }

    pub(crate) fn publish(&self, events: &str) -> Ended {
        feed(self.path(), &["publish", "--data", "data"], events.as_bytes())
    }

    /// Asks it to stop and gives its exit code and what it logged.
    pub(crate) fn stop(&mut self, signal: Signal) -> (Option<i32>, String) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
        let code = self.process.wait().unwrap().code();
        let begun = Instant::now();
        while !self.log.thread.is_finished() {
            assert!(begun.elapsed() < PATIENCE, "somebody else has its log");
            std::thread::sleep(Duration::from_millis(5));
        }
        (code, self.log())
    }

    /// What it logged until now.
    fn log(&self) -> String {
        self.log.text.lock().unwrap().clone()
    }

    pub(crate) fn resume(&mut self) {
        (self.process, self.said) = serve(self.folder.path(), &[]);
        self.log = Log::of(&mut self.process);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Starts it and waits for its line.
fn serve(folder: &Path, environment: &[(&str, &str)]) -> (Child, String) {
    let mut process = command(folder, &["serve", "--config", "postbell.toml"])
        .envs(environment.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains("listens on http"), "{said}");
    (process, said)
}

/// Generous, because a loaded machine is no defect.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Whether somebody follows the hub's stream.
pub(crate) fn following(served: &Served) -> bool {
    let address = served.url().trim_start_matches("http://").parse().unwrap();
    let token = std::fs::read_to_string(served.path().join("data/token")).unwrap();
    let answer = postbell_testkit::http::get(address, "/v1/status", Some(token.trim())).unwrap();
    let status: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    status["streams"].as_u64().is_some_and(|streams| streams > 0)
}

pub(crate) fn event(uid: u32) -> String {
    format!(
        "{{\"event\":\"MessageNew\",\"uri\":\"imap://john@mail.example.org/INBOX;UIDVALIDITY=1/;UID={uid}\",\"timestamp\":\"2026-11-25T09:30:{:02}+01:00\",\"messageSize\":976}}\n",
        uid % 60
    )
}

#[test]
fn what_is_published_is_shown_by_tail() {
    let served = Served::start();
    let mut events = event(6);
    events.push_str("{\"event\":\"MessageExpunge\",\"uri\":\"imap://h/A\",\"timestamp\":\"2026-11-25T09:30:00+01:00\"}\nnonsense\n");
    events.push_str(&event(7));
    events.push_str("{\"event\":\"MailboxRename\",\"uri\":\"imap://a@h/B;UIDVALIDITY=2\",\"mailboxID\":\"imap://a@h/B;UIDVALIDITY=2\",\"oldMailboxID\":\"imap://a@h/A;UIDVALIDITY=2\",\"timestamp\":\"2026-11-25T08:30:00Z\"}\n");
    std::fs::write(served.path().join("events.ndjson"), &events).unwrap();
    let mut text = String::new();
    for arguments in [
        &["publish", "events.ndjson"][..],
        &["publish", "--json", "events.ndjson"],
        &["tail", "--since", "0", "--no-follow"],
        &["tail", "--since", "0", "--limit", "1"],
        &["tail", "--since", "1", "--no-follow", "--event", "mailbox"],
        &["tail", "--since", "0", "--no-follow", "--user", "nobody"],
        &["tail", "--since", "0", "--event", "MessageGnu"],
        &["tail", "--since", "99"],
        &["sources", "show", "nowhere"],
        &["sources", "list"],
        &["subscriptions", "list"],
        &["subscriptions", "show", "phone"],
    ] {
        text.push_str(&transcript(arguments, &served.run(arguments)));
        text.push('\n');
    }
    insta::assert_snapshot!(text);
    let json = served.run(&["tail", "--since", "0", "--no-follow", "--json"]);
    let lines: Vec<serde_json::Value> =
        json.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[2]["vnd.postbell.prevSeq"], 2);
}

#[test]
fn the_token_is_never_shown_and_another_is_refused() {
    let mut served = Served::start();
    let token = std::fs::read_to_string(served.path().join("data/token")).unwrap();
    let output = command(served.path(), &["tail", "--data", "data"])
        .env("POSTBELL_TOKEN", "another-token-of-the-right-length")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let refused = ": the hub does not accept the token from POSTBELL_TOKEN\n";
    assert_eq!(said, format!("postbell: {}{refused}", served.url()));
    assert_eq!(output.status.code(), Some(3));
    assert!(served.said.contains("data/token"), "{}", served.said);
    assert!(!served.said.contains(token.trim()));
    let (_, log) = served.stop(Signal::TERM);
    assert!(!log.contains(token.trim()), "{log}");
}

#[test]
fn a_signal_stops_it_in_order_and_sighup_does_not() {
    let mut served = Served::start();
    kill_process(Pid::from_child(&served.process), Signal::HUP).unwrap();
    let begun = Instant::now();
    while !served.log().contains("SIGHUP") {
        assert!(begun.elapsed() < PATIENCE, "{}", served.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(served.run(&["sources", "list"]).code, 0);
    let (code, log) = served.stop(Signal::INT);
    assert_eq!(code, Some(0), "{log}");
    assert!(!served.path().join("data/address").exists());
}

#[test]
fn a_second_hub_on_the_folder_says_who_holds_it() {
    let served = Served::start();
    let ended = run(served.path(), &["serve", "--config", "postbell.toml"]);
    assert_eq!(ended.code, 3);
    let holder = format!("held by process {}", served.process.id());
    assert!(ended.err.contains(&holder), "{ended:?}");
    assert!(ended.err.ends_with("(stop it, or use another data folder)\n"), "{ended:?}");
}

#[test]
fn a_damaged_journal_is_refused_with_what_to_do() {
    let mut served = Served::start();
    assert_eq!(served.publish(&event(1)).code, 0);
    served.stop(Signal::TERM);
    std::fs::write(served.path().join("data/journal/acknowledged"), "junk").unwrap();
    let ended = run(served.path(), &["serve", "--config", "postbell.toml"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
    assert!(ended.err.contains("restore it from a backup; docs/journal.md"), "{ended:?}");
    let ill = served.run(&["doctor"]);
    assert!(ill.out.contains("✗ journal") && ill.out.contains("not a whole mark"), "{}", ill.out);
    assert!(!ill.out.contains("start it"), "{}", ill.out);
    let refused = served.run(&["doctor", "--accept-loss"]);
    assert!(refused.code == 2 && refused.err.contains("--yes"), "{refused:?}");
    let accepted = served.run(&["doctor", "--accept-loss", "--yes"]);
    assert_eq!(accepted.code, 0, "{accepted:?}");
    served.resume();
    assert_eq!(served.run(&["tail", "--since", "0", "--no-follow"]).out.lines().count(), 1);
}

#[test]
fn what_only_a_backup_mends_is_not_said_to_be_acceptable() {
    use std::os::unix::fs::FileExt as _;
    let mut served = Served::start();
    assert_eq!(served.publish(&event(1)).code, 0);
    served.stop(Signal::TERM);
    let path = served.path().join("data/journal/state.db");
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    // Every page but the first, which says what it is.
    for at in (4096..length).step_by(4096) {
        file.write_all_at(&[0xff; 64], at).unwrap();
    }
    let refused = run(served.path(), &["serve", "--config", "postbell.toml"]);
    let accepting = served.run(&["doctor", "--accept-loss", "--yes"]);
    for ended in [&refused, &accepting] {
        assert_eq!(ended.code, 3, "{ended:?}");
        let told = ended.err.lines().find(|line| line.contains("state.db: ")).unwrap();
        assert!(told.contains("restore the whole folder from a backup"), "{told}");
        assert!(!ended.err.contains("goes on without one"), "{ended:?}");
        assert!(!ended.err.contains("***"), "{ended:?}");
    }
    assert_eq!(refused.err.lines().count(), 1, "{refused:?}");
    let ill = served.run(&["doctor"]);
    assert!(ill.out.contains("restore the whole folder from a backup"), "{}", ill.out);
}

#[test]
fn doctor_finds_the_keys_with_which_no_hub_starts() {
    let mut served = Served::start();
    served.stop(Signal::TERM);
    let data = served.path().join("data");
    let whole = served.run(&["doctor"]);
    assert!(!whole.out.contains("keys") && !whole.out.contains("holds no"), "{}", whole.out);
    for (name, said) in [
        ("token", "✗ token "),
        ("signing.key", "holds no signing key (restore it from a backup"),
        ("content.key", "holds no key of links to content (restore it from a backup"),
    ] {
        let kept = std::fs::read(data.join(name)).unwrap();
        std::fs::write(data.join(name), if name == "token" { "" } else { "garbage" }).unwrap();
        let ill = served.run(&["doctor"]);
        assert!(ill.out.contains(said), "{}", ill.out);
        let refused = run(served.path(), &["serve", "--config", "postbell.toml"]);
        assert!(refused.code == 3 && refused.err.contains("holds no "), "{refused:?}");
        std::fs::write(data.join(name), kept).unwrap();
    }
}

#[test]
fn missing_subscriptions_are_told_and_a_damaged_file_of_them_is_named() {
    let mut served = Served::start();
    assert_eq!(served.publish(&event(1)).code, 0);
    served.stop(Signal::TERM);
    let db = served.path().join("data/hub.db");
    std::fs::write(&db, "SQLite format 3\0junk").unwrap();
    let ill = served.run(&["doctor"]);
    assert!(
        ill.out.contains("hub.db: ") && ill.out.contains("make the subscriptions anew"),
        "{}",
        ill.out
    );
    assert!(!ill.out.contains("start it"), "{}", ill.out);
    for file in std::fs::read_dir(served.path().join("data")).unwrap() {
        let path = file.unwrap().path();
        if path.to_string_lossy().contains("hub.db") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let ill = served.run(&["doctor"]);
    assert!(ill.out.contains("✗ subscriptions"), "{}", ill.out);
    served.resume();
    let ill = served.run(&["doctor"]);
    assert!(ill.out.contains("! subscriptions") && ill.code == 0, "{}", ill.out);
    let (code, log) = served.stop(Signal::TERM);
    assert_eq!((code, log.matches("hub.db").count()), (Some(0), 1), "{log}");
    served.resume();
    assert!(!served.run(&["doctor"]).out.contains("! subscriptions"));
}

#[test]
fn a_missing_journal_is_told_and_subscriptions_go_on_with_what_comes() {
    let mut served = Served::start();
    for uid in 1..=3 {
        assert_eq!(served.publish(&event(uid)).code, 0);
    }
    served.stop(Signal::TERM);
    // One that is made when there are three records.
    let config = served.path().join("postbell.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let run = "run = [\"sh\", \"-c\", \"cat >>seen\"]";
    std::fs::write(&config, format!("{text}[commands.note]\n{run}\n")).unwrap();
    served.resume();
    assert!(!served.run(&["doctor"]).out.contains("journal was missing"));
    served.stop(Signal::TERM);
    let journal = served.path().join("data/journal");
    std::fs::remove_dir_all(&journal).unwrap();
    let ill = served.run(&["doctor"]);
    assert!(ill.out.contains("✗ records") && ill.out.contains("no journal"), "{}", ill.out);
    assert!(!journal.exists());
    served.resume();
    assert_eq!(served.publish(&event(4)).code, 0);
    let ill = served.run(&["doctor"]);
    assert!(ill.out.contains("! records") && ill.out.contains("begun at 1 again"), "{}", ill.out);
    let begun = Instant::now();
    while !std::fs::read_to_string(served.path().join("seen")).is_ok_and(|seen| !seen.is_empty()) {
        assert!(begun.elapsed() < PATIENCE, "{}", served.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let (code, log) = served.stop(Signal::TERM);
    assert_eq!((code, log.matches("numbers begin at 1 again").count()), (Some(0), 1), "{log}");
    served.resume();
    assert!(!served.run(&["doctor"]).out.contains("journal was missing"));
}

#[test]
fn a_damaged_record_ends_tail_and_is_told_once() {
    let mut served = Served::start();
    served.stop(Signal::TERM);
    let config = served.path().join("postbell.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}[journal]\nsegment_size = \"1MiB\"\n")).unwrap();
    served.resume();
    // More than a segment of what can't be compressed, so that the first is sealed: a sealed one is
    // looked at when it is read, and not at a start.
    let mut state = 1_u64;
    for uid in 1..=40 {
        let noise: String = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'!' + u8::try_from((state >> 33) % 90).unwrap()).to_string()
        })
        .take(60_000)
        .collect();
        let noise = noise.replace(['"', '\\'], "x");
        let event = event(uid).replace("}\n", &format!(",\"vnd.example.noise\":\"{noise}\"}}\n"));
        assert_eq!(served.publish(&event).code, 0);
    }
    served.stop(Signal::TERM);
    spoil(&served.path().join("data/journal/segment-0000000001.db"));
    served.resume();
    for arguments in [&["--since", "0", "--no-follow"][..], &["--since", "0", "--json"]] {
        let ended = served.run(&[&["tail"], arguments].concat());
        assert_eq!(ended.code, 3, "{}", ended.err);
        assert!(ended.err.contains("segment-0000000001.db: record 1: "), "{}", ended.err);
    }
    let lines = ndjson(&served, "/v1/events?since=0");
    let problem: serde_json::Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!(problem["type"], "urn:postbell:problem:unreadable", "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("segment-0000000001.db: record 1: "), "{problem}");
    assert_eq!(problem.get("event"), None, "{problem}");
    let ill = served.run(&["doctor"]);
    assert!(ill.out.contains("✗ records") && ill.code == 1, "{}", ill.out);
    assert!(ill.out.contains("--accept-loss"), "{}", ill.out);
    let held = served.run(&["doctor", "--accept-loss", "--yes"]);
    assert!(held.code == 3 && held.err.contains("held by process"), "{held:?}");
    let (_, log) = served.stop(Signal::TERM);
    assert_eq!(log.matches("ERROR").count(), 1, "{log}");
    let accepted = served.run(&["doctor", "--accept-loss", "--yes"]);
    assert!(accepted.code == 0 && accepted.out.starts_with("lost: record"), "{accepted:?}");
    served.resume();
    let told = served.run(&["tail", "--since", "0", "--no-follow"]);
    assert!(told.code == 0 && told.out.contains("vnd.postbell.Gap"), "{told:?}");
}

/// The lines of a stream as NDJSON, up to its end.
fn ndjson(served: &Served, path: &str) -> Vec<String> {
    let address = served.url().trim_start_matches("http://");
    let token = std::fs::read_to_string(served.path().join("data/token")).unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // Of HTTP/1.0, so that the body comes without chunks.
    let request = format!(
        "GET {path} HTTP/1.0\r\nAuthorization: Bearer {}\r\nAccept: application/x-ndjson\r\n\r\n",
        token.trim()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    lines.skip_while(|line| !line.is_empty()).skip(1).collect()
}

/// Changes an octet in some pages of a segment that hold what its first blocks go on with.
fn spoil(segment: &Path) {
    use std::os::unix::fs::FileExt as _;
    const PAGE: usize = 4096;
    let octets = std::fs::read(segment).unwrap();
    // A block's content begins with zstd's number.
    let at = octets.windows(4).position(|four| four == [0x28, 0xb5, 0x2f, 0xfd]).unwrap();
    let file = std::fs::File::options().write(true).open(segment).unwrap();
    for page in at / PAGE + 1..at / PAGE + 10 {
        let at = page * PAGE + PAGE / 2;
        file.write_all_at(&[octets[at] ^ 0xff], u64::try_from(at).unwrap()).unwrap();
    }
}

#[test]
fn tail_goes_on_over_a_restart_and_misses_nothing() {
    let mut served = Served::start();
    assert_eq!(served.publish(&event(1)).code, 0);
    let mut tail = command(served.path(), &["tail", "--data", "data", "--limit", "2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(tail.stdout.take().unwrap());
    let mut line = String::new();
    // It follows as soon as the hub counts a stream.
    let begun = Instant::now();
    while !following(&served) {
        assert!(begun.elapsed() < PATIENCE, "nobody follows");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(served.publish(&event(2)).code, 0);
    told.read_line(&mut line).unwrap();
    assert!(line.contains("uid 2"), "{line}");
    served.stop(Signal::TERM);
    served.resume();
    assert_eq!(served.publish(&event(3)).code, 0);
    line.clear();
    told.read_line(&mut line).unwrap();
    assert!(line.contains("uid 3"), "{line}");
    let ended = tail.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(0), "{said}");
    assert!(said.contains("the hub is back; going on after #2"), "{said}");
}

#[test]
fn publish_finds_a_hub_that_comes_back_at_another_address() {
    let mut served = Served::start();
    let mut publish = command(served.path(), &["publish", "--data", "data"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The first batch goes when it is full, the one event after it at the end.
    let events: String = (1..=2001).map(event).collect();
    let mut stdin = publish.stdin.take().unwrap();
    stdin.write_all(events.as_bytes()).unwrap();
    let begun = Instant::now();
    let first = ["tail", "--since", "0", "--limit", "1", "--no-follow"];
    while served.run(&first).out.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "nothing was published");
        std::thread::sleep(Duration::from_millis(20));
    }
    served.stop(Signal::TERM);
    drop(stdin);
    served.resume();
    let ended = publish.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(0), "{said}");
    assert!(said.ends_with("stdin: 2001 accepted\n"), "{said}");
}

#[test]
fn tail_ends_when_nobody_reads_it() {
    let served = Served::start();
    let mut tail = command(served.path(), &["tail", "--data", "data"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(tail.stdout.take());
    let ended = tail.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr), (Some(0), Vec::new()));
}

#[test]
fn a_subscription_is_added_looked_at_and_removed() {
    let served = Served::start();
    let secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    std::fs::write(served.path().join("secret"), format!("{secret}\n")).unwrap();
    let added = served.run(&[
        "subscriptions",
        "add",
        "phone",
        "--to",
        "http://127.0.0.1:1/hook",
        "--event",
        "message",
        "--mailbox",
        "INBOX",
        "--tag",
        "vip",
        "--begin",
        "1",
        "--secret-file",
        "secret",
    ]);
    assert_eq!(added.code, 0, "{added:?}");
    assert!(added.out.contains(secret), "{added:?}");
    let shown = served.run(&["subscriptions", "show", "phone"]);
    assert!(!shown.out.contains("whsec_") && shown.out.contains("INBOX"), "{shown:?}");
    let again = served.run(&["subscriptions", "add", "phone", "--to", "http://127.0.0.1:1/hook"]);
    assert_eq!(again.code, 1, "{again:?}");
    let to = "http://127.0.0.1:1/other";
    let replaced =
        served.run(&["subscriptions", "add", "phone", "--to", to, "--expires", "1h", "--replace"]);
    assert!(replaced.out.contains(to) && replaced.out.contains("expires"), "{replaced:?}");
    assert!(!replaced.out.contains("whsec_"), "the secret stays: {replaced:?}");
    let renewed = served.run(&["subscriptions", "renew", "phone", "--never"]);
    assert!(renewed.code == 0 && !renewed.out.contains("expires"), "{renewed:?}");
    assert_eq!(served.run(&["subscriptions", "renew", "phone"]).code, 2);
    let bad = served.run(&["subscriptions", "add", "x", "--to", "ftp://h", "--event", "message"]);
    assert_eq!((bad.code, bad.err.lines().count()), (2, 1), "{bad:?}");
    let bad = served.run(&[
        "subscriptions",
        "add",
        "x",
        "--to",
        "http://127.0.0.1:1/",
        "--event",
        "MessageGnu",
    ]);
    assert!(bad.code == 2 && bad.err.contains("MessageGnu"), "{bad:?}");
    let paused = served.run(&["subscriptions", "pause", "phone"]);
    assert!(paused.out.contains("paused"), "{paused:?}");
    assert!(served.run(&["doctor"]).out.contains("! subscription phone"));
    let resumed = served.run(&["subscriptions", "resume", "phone", "--json"]);
    let resumed: serde_json::Value = serde_json::from_str(&resumed.out).unwrap();
    assert_eq!(resumed["state"], "active");
    assert!(served.run(&["subscriptions", "list"]).out.contains("phone"));
    let letters = served.run(&["subscriptions", "dead-letters", "phone"]);
    assert_eq!((letters.code, letters.out.as_str()), (0, ""), "{letters:?}");
    let redriven = served.run(&["subscriptions", "redrive", "phone", "--all"]);
    assert!(redriven.code == 0 && redriven.out.contains("redriving   0"), "{redriven:?}");
    let missing = served.run(&["subscriptions", "redrive", "phone", "--seq", "7"]);
    assert!(missing.code == 2 && missing.err.contains("no dead letter 7"), "{missing:?}");
    assert_eq!(served.run(&["subscriptions", "redrive", "phone"]).code, 2);
    assert_eq!(served.run(&["subscriptions", "remove", "phone"]).code, 2);
    assert_eq!(served.run(&["subscriptions", "remove", "phone", "--yes"]).code, 0);
    assert_eq!(served.run(&["subscriptions", "show", "phone"]).code, 1);
}

#[test]
fn subscriptions_of_users_are_listed_with_whose_they_are_and_meant_by_their_ids() {
    let served = Served::start();
    let address = served.url().trim_start_matches("http://").parse().unwrap();
    let made = served.run(&["tokens", "add", "john", "--role", "user", "--user", "john"]);
    assert_eq!(made.code, 0, "{}", made.err);
    let token = made.out.split_whitespace().find(|word| word.starts_with("postbell_")).unwrap();
    let body = r#"{"name":"phone","sink":{"kind":"webhook","url":"http://127.0.0.1:9/"}}"#;
    let answer =
        postbell_testkit::http::post(address, "/v1/subscriptions", Some(token), body).unwrap();
    let answer: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let id = answer["id"].as_str().unwrap();
    let listed = served.run(&["subscriptions", "list"]);
    let heads: Vec<_> = listed.out.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(heads, ["NAME", "OWNER", "ID", "STATE", "LAG", "DEAD", "TO"]);
    assert!(listed.out.contains("john") && listed.out.contains(id), "{}", listed.out);
    let removed = served.run(&["subscriptions", "remove", "phone", "--yes"]);
    assert_ne!(removed.code, 0, "{}", removed.out);
    let removed = served.run(&["subscriptions", "remove", id, "--yes"]);
    assert_eq!(removed.code, 0, "{}", removed.err);
}

#[test]
fn the_doctor_asks_a_hub_elsewhere_what_its_token_is_for_and_looks_at_nothing_here() {
    let served = Served::start();
    let elsewhere = tempfile::tempdir().unwrap();
    let told = |scope: &str| {
        let add = ["tokens", "add", scope, "--role", "service", "--scope", scope];
        let made = served.run(&add);
        let said = format!("{} {}", made.out, made.err);
        let token = said.split_whitespace().find(|word| word.starts_with("postbell_")).unwrap();
        let file = elsewhere.path().join(scope);
        std::fs::write(&file, token).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        run(elsewhere.path(), &["doctor", "--url", served.url(), "--token-file", scope])
    };
    let reads = told("read");
    assert_eq!(reads.code, 1, "{reads:?}");
    assert!(reads.out.contains("→ this needs a token with the scope monitor"), "{}", reads.out);
    let monitors = told("monitor");
    assert_eq!(monitors.code, 0, "{monitors:?}");
    assert!(monitors.out.contains("not looked at"), "{}", monitors.out);
    for here in ["data folder", "token  ", "journal", "clock", "inotify"] {
        assert!(!monitors.out.contains(here), "{here}: {}", monitors.out);
    }
}

#[test]
fn the_doctor_finds_a_hub_well_and_says_what_is_wrong_without_one() {
    let mut served = Served::start();
    let well = served.run(&["doctor"]);
    assert_eq!(well.code, 0, "{}", well.out);
    let json: serde_json::Value =
        serde_json::from_str(&served.run(&["doctor", "--json"]).out).unwrap();
    assert!(json["checks"].as_array().unwrap().len() > 8, "{json}");
    served.stop(Signal::TERM);
    let ill = served.run(&["doctor"]);
    assert_eq!(ill.code, 1);
    assert!(ill.out.contains("✗ journal"), "{}", ill.out);
    assert!(ill.out.contains("→ start it: postbell serve"), "{}", ill.out);
}
