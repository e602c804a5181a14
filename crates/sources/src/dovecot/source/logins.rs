//! Who comes and goes.

use std::time::Instant;

use tracing::warn;

use super::{Source, now};
use crate::dovecot::connections::Connections;
use crate::dovecot::exporter::{Ending, Exported, Whence};
use crate::dovecot::record::Transaction;
use crate::dovecot::sessions::{Sessions, Sleepers};
use crate::dovecot::tell::{self, End};

impl Source<'_> {
    pub(super) fn logged_in(&mut self, line: &Transaction) {
        let Some(seen) = self.teller.logged_in(line) else {
            if !std::mem::replace(&mut self.has_warned_of_ports, true) {
                warn!("{NO_PORT}");
                self.health.set_error(&NO_PORT);
            }
            return;
        };
        let id = Sessions::id(line);
        let is_new = self.sessions.begin(line);
        self.pending.sessions.insert(id);
        if is_new {
            self.push(seen);
        }
    }

    /// The script was told that a session's process is done with it. It may hibernate; the exporter
    /// says so, and Dovecot may post that after the end itself.
    pub(super) fn said_to_end(
        &mut self,
        line: &Transaction,
        seconds: Option<u64>,
        ending: Option<&Ending>,
    ) {
        let id = Sessions::id(line);
        if ending.is_some_and(|ending| ending.is_hibernation) {
            return self.fell_asleep(id);
        }
        let said = tell::said(line, seconds, ending, self.sessions.has_slept(&id));
        if ending.is_some() && !said.is_graceful && line.service.as_deref() == Some("imap") {
            self.sessions.close(&id, said);
            self.pending.sessions.insert(id.clone());
            self.closing.push_back((Instant::now() + self.options.annotation_window, id));
        } else {
            self.logged_out(&id, End::Said(said));
        }
    }

    /// The exporter says that a session hibernates: where it was said to have ended, it hasn't.
    pub(super) fn heard_of_sleep(&mut self, exported: &Exported) {
        if let Exported::Hibernated { whence: Whence { session: Some(id), .. } } = exported
            && self.sessions.closing(id).is_some()
        {
            self.annotations.take_hibernation(id);
            self.fell_asleep(id.clone());
        }
    }

    fn fell_asleep(&mut self, id: String) {
        self.sessions.fall_asleep(&id);
        self.pending.sessions.insert(id);
        // Only one that is found once can be missed.
        self.has_new_sleepers = true;
    }

    /// Tells the ends that nobody called hibernation; gives when there are more.
    pub(super) fn close(&mut self) -> Option<Instant> {
        while let Some((due, _)) = self.closing.front() {
            if Instant::now() < *due {
                return Some(*due);
            }
            let (_, id) = self.closing.pop_front()?;
            if let Some(said) = self.sessions.closing(&id) {
                self.logged_out(&id, End::Said(said));
            }
        }
        None
    }

    pub(super) fn logged_out(&mut self, id: &str, end: End) {
        let Some(session) = self.sessions.end(id) else { return };
        let seen = self.teller.logged_out(&session, end);
        self.pending.sessions.insert(id.to_owned());
        self.push(seen);
    }

    /// Logs out who hibernated and went: nobody tells the script or the exporter of that.
    pub(super) fn look_at_sleepers(&mut self, which: Sleepers) {
        let begun = Instant::now();
        self.has_new_sleepers = false;
        if !self.sessions.any_asleep() {
            return;
        }
        let open = Connections::now();
        // However many connections there are, reading of them stays a small part of the work.
        self.new_sleepers_at = begun + begun.elapsed() * 10;
        let open = match open {
            Ok(open) => open,
            Err(error) => return self.health.set_error(&format!("hibernating sessions: {error}")),
        };
        for (id, is_over) in self.sessions.look(which, |server, client| open.has(server, client)) {
            if is_over {
                self.logged_out(&id, End::Vanished { at: now() });
            }
            self.pending.sessions.insert(id);
        }
    }
}

/// A Login must say which port was reached (R131).
const NO_PORT: &str = "no Login is told: Dovecot doesn't say which port was reached (its userdb needs override_fields with postbell_lport)";
