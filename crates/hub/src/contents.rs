//! Messages read again in the stores, for those who were told that there is more of one than its
//! event carries.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::Arc;

use mail_event::MessageContent;
use postbell_engine::Shared;
use postbell_journal::ReadError;
use postbell_sources::{Place, SharedError, cyrus, dovecot, maildir};

use crate::config::{SourceConfig, SourceKind};
use crate::sources::{Wiring, chain, cyrus_options, dovecot_options, maildir_options};

/// Where messages may be; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Contents(Arc<(BTreeMap<String, SourceConfig>, Wiring)>);

/// Why a Maildir can't be read.
#[derive(Debug, thiserror::Error)]
enum MaildirError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Contents {
    /// The stores that the sources follow.
    pub(crate) fn new(configs: &BTreeMap<String, SourceConfig>, wiring: &Wiring) -> Self {
        Self(Arc::new((configs.clone(), wiring.clone())))
    }

    /// The content of a message of at most `max_octets`, from the first store that has it. Blocks.
    ///
    /// # Errors
    ///
    /// What kept one from being asked, where none of the others has it.
    pub(crate) fn fetch(
        &self,
        place: &Place<'_>,
        max_octets: u64,
    ) -> Result<Option<MessageContent>, String> {
        let (configs, _) = &*self.0;
        let mut trouble = None;
        for (name, config) in configs {
            match self.from(name, config, place, max_octets) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(error) => trouble = Some(format!("{name}: {}", chain(&*error))),
            }
        }
        trouble.map_or(Ok(None), Err)
    }

    /// The mailboxes of others that `user` may see and read at the moment, in all stores that can be
    /// asked. Blocks.
    ///
    /// # Errors
    ///
    /// What keeps one of them from saying it.
    pub(crate) fn shared(&self, user: &str) -> Result<Shared, SharedError> {
        let (configs, wiring) = &*self.0;
        let mut all = Shared::default();
        for (name, config) in configs {
            let told = match config.kind {
                SourceKind::Maildir => continue,
                SourceKind::Dovecot => dovecot_options(config, wiring, dovecot::Exporter::new())
                    .map_err(|error| SharedError::Away(chain(&*error)))
                    .and_then(|options| dovecot::shared(&options, user)),
                SourceKind::Cyrus => cyrus_options(config, wiring)
                    .map_err(|error| SharedError::Away(chain(&error)))
                    .and_then(|options| cyrus::shared(&options, user)),
            };
            all.join(told.map_err(|error| error.at(name))?);
        }
        Ok(all)
    }

    fn from(
        &self,
        name: &str,
        config: &SourceConfig,
        place: &Place<'_>,
        max_octets: u64,
    ) -> Result<Option<MessageContent>, Box<dyn Error + Send + Sync>> {
        let (_, wiring) = &*self.0;
        Ok(match config.kind {
            SourceKind::Maildir => {
                let options = maildir_options(config, wiring);
                let kept = |prefix: &[u8]| {
                    wiring.journal.checkpoint(name, prefix).map_err(MaildirError::from)
                };
                maildir::content(&options, place, max_octets, kept)?
            }
            SourceKind::Dovecot => {
                let options = dovecot_options(config, wiring, dovecot::Exporter::new())?;
                dovecot::content(&options, place, max_octets)?
            }
            SourceKind::Cyrus => {
                cyrus::content(&cyrus_options(config, wiring)?, place, max_octets)?
            }
        })
    }
}
