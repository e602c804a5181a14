//! The terminal while it is ours: another screen, keys one by one, and everything given back.

use std::io::{self, Read as _, Write as _};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// What somebody asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Key {
    Quit,
    Hold,
    Sort,
    Slower,
    Faster,
    Look,
    /// The window has another size.
    Resized,
}

/// The terminal; given back when dropped.
pub(super) struct Screen {
    before: Termios,
    keys: mpsc::Receiver<Key>,
    resized: Signal,
    ended: Signal,
    is_plain: bool,
}

impl Screen {
    /// Takes it: another screen, no cursor, keys without Enter and unseen.
    pub(super) fn take() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut ours = before.clone();
        // Ctrl-C comes as a key, so that the screen is given back.
        ours.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        ours.special_codes[SpecialCodeIndex::VMIN] = 1;
        let resized = signal(SignalKind::window_change())?;
        let ended = signal(SignalKind::terminate())?;
        tcsetattr(io::stdin(), OptionalActions::Now, &ours)?;
        let (told, keys) = mpsc::channel(KEYS_MAX);
        std::thread::spawn(move || read_keys(&told));
        let choice = anstream::AutoStream::choice(&io::stdout());
        let is_plain = choice == anstream::ColorChoice::Never;
        let mut screen = Self { before, keys, resized, ended, is_plain };
        screen.write("\x1b[?1049h\x1b[?25l")?;
        Ok(screen)
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> (usize, usize) {
        let size = tcgetwinsize(io::stdout()).ok();
        let of = |number: u16, usual: usize| if number == 0 { usual } else { usize::from(number) };
        size.map_or(USUAL, |size| (of(size.ws_col, USUAL.0), of(size.ws_row, USUAL.1)))
    }

    /// Draws the lines over what was there.
    pub(super) fn show(&mut self, lines: &[String]) -> io::Result<()> {
        let mut text = String::from("\x1b[H");
        for (at, line) in lines.iter().enumerate() {
            if at > 0 {
                text.push_str("\r\n");
            }
            match self.is_plain {
                true => text.push_str(&anstream::adapter::strip_str(line).to_string()),
                false => text.push_str(line),
            }
            text.push_str("\x1b[K");
        }
        text.push_str("\x1b[J");
        self.write(&text)
    }

    /// Waits for the next key.
    pub(super) async fn key(&mut self) -> io::Result<Key> {
        tokio::select! {
            // No more keys: whoever sat there has gone.
            key = self.keys.recv() => Ok(key.unwrap_or(Key::Quit)),
            _ = self.resized.recv() => Ok(Key::Resized),
            _ = self.ended.recv() => Ok(Key::Quit),
        }
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Where the terminal has gone there is nothing to give back.
        drop(self.write("\x1b[?25h\x1b[?1049l"));
        drop(tcsetattr(io::stdin(), OptionalActions::Now, &self.before).map_err(io::Error::from));
    }
}

/// Reads keys until nobody wants them or there are no more.
fn read_keys(told: &mpsc::Sender<Key>) {
    let mut stdin = io::stdin().lock();
    let mut octet = [0];
    while matches!(stdin.read(&mut octet), Ok(1)) {
        let [octet] = octet;
        if let Some(key) = key_of(octet)
            && told.blocking_send(key).is_err()
        {
            return;
        }
    }
}

/// What a key means; most mean nothing.
fn key_of(octet: u8) -> Option<Key> {
    const CTRL_C: u8 = 3;
    const CTRL_D: u8 = 4;
    Some(match octet {
        b'q' | b'Q' | CTRL_C | CTRL_D => Key::Quit,
        b' ' => Key::Hold,
        b's' => Key::Sort,
        b'+' => Key::Faster,
        b'-' => Key::Slower,
        b'r' => Key::Look,
        _ => return None,
    })
}

/// Keys waiting; beyond, the one who types waits.
const KEYS_MAX: usize = 16;

/// A terminal that doesn't say how large it is.
const USUAL: (usize, usize) = (80, 24);
