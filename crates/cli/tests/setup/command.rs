//! How a command ended, and what it left.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How a command ended and what it said.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) said: String,
}

/// `postbell` with nobody there to be asked.
pub(crate) fn postbell(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postbell"));
    command.args(arguments).env_remove("CLICOLOR_FORCE").stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Ended { code: output.status.code(), said: String::from_utf8(said).unwrap() }
}

/// Text, mode and owner of each file.
pub(crate) type Files = BTreeMap<PathBuf, (String, u32, u32)>;

/// Every file below these folders.
pub(crate) fn files<'f>(folders: impl IntoIterator<Item = &'f Path>) -> Files {
    let mut files = Files::new();
    folders.into_iter().for_each(|folder| gather(folder, &mut files));
    files
}

fn gather(folder: &Path, files: &mut Files) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            gather(&entry.path(), files);
        } else if meta.is_file() {
            let text = String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned();
            files.insert(entry.path(), (text, meta.mode(), meta.uid()));
        }
    }
}

/// What is read where no other is named.
pub(crate) const MACHINE_CONFIG: &str = "/etc/postbell/postbell.toml";
