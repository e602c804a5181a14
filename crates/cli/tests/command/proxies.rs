//! A proxy on this machine, of which the operator hears.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;

use crate::hub::Served;

/// Asks as a proxy does that hands a request on.
fn hand_on(served: &Served) {
    let mut stream = TcpStream::connect(served.url().trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = "GET /healthz HTTP/1.0\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
}

#[test]
fn r165_a_proxy_here_that_was_not_named_is_told_of_once_with_the_key_to_set() {
    for (more, times) in [("", 1), ("[http]\ntrusted_proxies = [\"127.0.0.1\"]\n", 0)] {
        let mut served = Served::start_in(tempfile::tempdir().unwrap(), more, &[]);
        for _ in 0..3 {
            hand_on(&served);
        }
        let (code, log) = served.stop(Signal::TERM);
        assert_eq!(code, Some(0), "{log}");
        let told: Vec<_> =
            log.lines().filter(|line| line.contains("http.trusted_proxies")).collect();
        assert_eq!(told.len(), times, "{log}");
        assert!(
            told.iter().all(|line| line.contains("WARN") && line.contains("127.0.0.1")),
            "{log}"
        );
    }
}
