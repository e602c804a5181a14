//! A webhook receiver that keeps what it is sent.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::Error;

/// Listens on loopback until the test ends, and answers 204 unless told otherwise.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
}

/// A delivery that was answered with success.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Taken {
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`.
    pub timestamp: String,
    /// `webhook-signature`.
    pub signature: String,
    /// `content-type`.
    pub content_type: String,
    /// The body, as it came.
    pub body: String,
}

#[derive(Debug, Default)]
struct Kept {
    taken: Vec<Taken>,
    refuse_after: Option<usize>,
}

impl Receiver {
    /// Starts listening.
    ///
    /// # Errors
    /// [`Error::Io`] where no port is to be had.
    pub fn start() -> Result<Self, Error> {
        let doing = || Error::io("listen for webhooks");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(doing())?;
        let address = listener.local_addr().map_err(doing())?;
        let kept = Arc::new(Mutex::new(Kept::default()));
        let keep = Arc::clone(&kept);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let keep = Arc::clone(&keep);
                thread::spawn(move || serve(stream, &keep));
            }
        });
        Ok(Self { address, kept })
    }

    /// Refuses one delivery with 503 after `count` were taken.
    pub fn refuse_one_after(&self, count: usize) {
        lock(&self.kept).refuse_after = Some(count);
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Everything taken so far, in the order it was taken.
    #[must_use]
    pub fn taken(&self) -> Vec<Taken> {
        lock(&self.kept).taken.clone()
    }
}

/// Answers requests on one connection until the hub ends it, or is killed.
fn serve(stream: TcpStream, keep: &Mutex<Kept>) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let delivery = read(&mut reader)?;
        let mut kept = lock(keep);
        let refused = kept.refuse_after.is_some_and(|count| kept.taken.len() >= count);
        if refused {
            kept.refuse_after = None;
        } else {
            kept.taken.push(delivery);
        }
        drop(kept);
        let status = if refused { "503 Service Unavailable" } else { "204 No Content" };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        writer.write_all(answer.as_bytes()).ok()?;
    }
}

/// One request; nothing where the connection ends.
fn read(reader: &mut BufReader<TcpStream>) -> Option<Taken> {
    let mut delivery = Taken {
        id: String::new(),
        timestamp: String::new(),
        signature: String::new(),
        content_type: String::new(),
        body: String::new(),
    };
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(": ") else { continue };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "content-type" => value.clone_into(&mut delivery.content_type),
            "webhook-id" => value.clone_into(&mut delivery.id),
            "webhook-signature" => value.clone_into(&mut delivery.signature),
            "webhook-timestamp" => value.clone_into(&mut delivery.timestamp),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    delivery.body = String::from_utf8_lossy(&body).into_owned();
    Some(delivery)
}

/// A thread that died while holding the lock left whole deliveries behind.
fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
