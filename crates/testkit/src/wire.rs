//! Lines over a socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Error;

/// A blocking connection that speaks in lines.
#[derive(Debug)]
pub(crate) struct Wire {
    reader: BufReader<TcpStream>,
}

impl Wire {
    pub(crate) fn connect(address: SocketAddr) -> Result<Self, Error> {
        let doing = || Error::io(format!("connect to {address}"));
        let stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(doing())?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(doing())?;
        stream.set_nodelay(true).map_err(doing())?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    pub(crate) fn send(&mut self, octets: &[u8]) -> Result<(), Error> {
        self.reader.get_mut().write_all(octets).map_err(Error::io("write to the server"))
    }

    /// One line without its line end.
    pub(crate) fn line(&mut self) -> Result<Vec<u8>, Error> {
        let mut line = Vec::new();
        let length =
            self.reader.read_until(b'\n', &mut line).map_err(Error::io("read from the server"))?;
        if length == 0 {
            return Err(Error::Answer {
                expected: "a line".to_owned(),
                answer: "the connection closed".to_owned(),
            });
        }
        while matches!(line.last(), Some(b'\r' | b'\n')) {
            line.pop();
        }
        Ok(line)
    }

    /// Goes without a goodbye: the other end is told of a reset, and not of an end.
    pub(crate) fn cut(self) -> Result<(), Error> {
        rustix::net::sockopt::set_socket_linger(self.reader.get_ref(), Some(Duration::ZERO))
            .map_err(|error| Error::io("cut a connection")(error.into()))
    }

    pub(crate) fn exactly(&mut self, length: usize) -> Result<Vec<u8>, Error> {
        let mut octets = vec![0; length];
        self.reader.read_exact(&mut octets).map_err(Error::io("read a literal"))?;
        Ok(octets)
    }
}

/// A server that says nothing for so long has stopped; a loaded machine takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);
