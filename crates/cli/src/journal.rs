//! `postbell journal`: whether it is what was written, and the key its checkpoints are signed with.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use postbell_hub::{PublicKey, SignedCheckpoints, SigningKey, TokenError};
use postbell_journal::{OpenError, Seq, Verified, Wrong};
use serde_json::{Value, json};

use crate::connection::ConnectionArgs;
use crate::ending::{Ending, Misuse};
use crate::out::{self, Out};

/// Look whether the journal is what was written.
#[derive(Args, Debug)]
pub(crate) struct JournalArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Verify(VerifyArgs),
    Key(KeyArgs),
}

/// Look through every record and the chain of hashes over them, also while the hub runs.
///
/// Nothing is changed. What is wrong is told with its file and records: *damaged*, where a checksum
/// does not fit; *missing*, where records are not there; *changed*, where checksums fit and hashes
/// don't. Who has the disk can make every hash right again: only signed checkpoints that were kept
/// elsewhere tell of that (journal.checkpoint_file in the configuration).
///
/// Exit codes: 0 as it was written, 1 damaged, 2 used wrongly, 3 could not look, 4 changed, 5
/// missing. Where there is more than one, changed goes before missing, and missing before damaged.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postbell journal verify
  postbell journal verify --data /var/lib/postbell --checkpoint /mnt/elsewhere/postbell.checkpoints
  postbell journal verify --checkpoint postbell.checkpoints --key \"$(cat postbell.key)\"")]
struct VerifyArgs {
    /// A file of signed checkpoints, each of which the journal must pass.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// The public key they are signed with, as `postbell journal key` printed it [default: that of the
    /// data folder].
    #[arg(long, value_name = "KEY", requires = "checkpoint")]
    key: Option<PublicKey>,
    /// Print what was found as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Print the public key with which signed checkpoints and streams are verified.
///
/// Keep it where you keep the checkpoints. The key itself is in the data folder, in signing.key.
#[derive(Args, Debug)]
struct KeyArgs {
    #[command(flatten)]
    place: PlaceArgs,
}

/// Which journal.
#[derive(Args, Debug)]
struct PlaceArgs {
    /// The hub's configuration, for its data folder [default: /etc/postbell/postbell.toml, where it
    /// exists].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The hub's data folder.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl PlaceArgs {
    fn data(&self) -> anyhow::Result<PathBuf> {
        let connection = ConnectionArgs::of(self.config.clone(), self.data.clone());
        Ok(connection.config()?.data)
    }
}

/// Runs the command.
pub(crate) fn run(args: &JournalArgs) -> anyhow::Result<Ending> {
    match &args.command {
        Command::Verify(args) => verify(args),
        Command::Key(args) => {
            out::print(key_in(&args.place.data()?)?)?;
            Ok(Ending::Done)
        }
    }
}

/// The key of a data folder that a hub has used before.
fn key_in(data: &Path) -> anyhow::Result<PublicKey> {
    match SigningKey::load(data) {
        Ok(key) => Ok(key.public().clone()),
        Err(TokenError::Io { path, source }) => Err(match source.kind() {
            ErrorKind::NotFound => anyhow!("{}: there is no key", path.display()),
            _ => unread(&path, source),
        }),
        Err(error) => Err(error.into()),
    }
}

/// Why something can't be looked at, and who could.
fn unread(path: &Path, error: std::io::Error) -> anyhow::Error {
    let path = path.display();
    match error.kind() {
        ErrorKind::PermissionDenied => {
            anyhow!("{path}: permission denied (run this as the hub's user)")
        }
        _ => anyhow::Error::from(error).context(path.to_string()),
    }
}

fn verify(args: &VerifyArgs) -> anyhow::Result<Ending> {
    let data = args.place.data()?;
    let journal = data.join("journal");
    match journal.metadata() {
        Ok(about) if about.is_dir() => {}
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(unread(&journal, error)),
        Ok(_) | Err(_) => return Err(anyhow!("{}: there is no journal", journal.display())),
    }
    let signed = match &args.checkpoint {
        Some(file) => Some(read_signed(file, args.key.as_ref(), &data)?),
        None => None,
    };
    let tips = signed.as_ref().map_or(&[][..], |signed| &signed.tips);
    let bar = ProgressBar::no_length().with_style(style());
    let found = postbell_journal::verify(&journal, tips, &mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let verdict = match found {
        Ok(found) => Verdict { found, signed },
        // The list of segments, or the mark: what is in them can't be looked at.
        Err(OpenError::Corrupt { file, seq, reason }) => {
            let seq = seq.unwrap_or_default();
            let kind = Wrong::Damaged;
            let finding = postbell_journal::Finding { kind, file, from: seq, to: seq, reason };
            let mut found = Verified::default();
            found.findings.push(finding);
            Verdict { found, signed }
        }
        Err(error) => return Err(error.into()),
    };
    if args.json {
        out::json(&verdict.json())?;
    } else {
        verdict.print()?;
    }
    Ok(verdict.ending())
}

fn read_signed(
    file: &Path,
    key: Option<&PublicKey>,
    data: &Path,
) -> anyhow::Result<SignedCheckpoints> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let key = match key {
        Some(key) => key.clone(),
        None => key_in(data)?,
    };
    let signed = SignedCheckpoints::parse(&text, &key);
    if signed.tips.is_empty() {
        let why = format!("{}: holds no checkpoint signed with {key}", file.display());
        return Err(Misuse(why).into());
    }
    Ok(signed)
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:30} {human_pos} of {human_len} records, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// What is told.
struct Verdict {
    found: Verified,
    signed: Option<SignedCheckpoints>,
}

impl Verdict {
    fn contradiction(&self) -> Option<Seq> {
        self.signed.as_ref().and_then(SignedCheckpoints::contradiction)
    }

    fn ending(&self) -> Ending {
        let contradicted = self.contradiction().map(|_| Wrong::Changed);
        match self.found.worst().max(contradicted) {
            None => Ending::Done,
            Some(Wrong::Damaged) => Ending::No,
            Some(Wrong::Changed) => Ending::Other(CHANGED),
            Some(Wrong::Missing) => Ending::Other(MISSING),
        }
    }

    fn print(&self) -> std::io::Result<()> {
        let mut out = Out::new();
        let found = &self.found;
        for finding in &found.findings {
            let red = anstyle::AnsiColor::Red.on_default().bold();
            out.line(format_args!(
                "{red}✗ {}{red:#} {}: {}: {}",
                word(finding.kind),
                finding.file.display(),
                records(finding.from, finding.to),
                finding.reason
            ))?;
        }
        if found.findings_left_out > 0 {
            out.line(format_args!("  and {} more", found.findings_left_out))?;
        }
        if let Some(seq) = self.contradiction() {
            let red = anstyle::AnsiColor::Red.on_default().bold();
            out.line(format_args!(
                "{red}✗ changed{red:#} two signed checkpoints of record {} differ",
                seq.0
            ))?;
        }
        if self.ending() == Ending::Done {
            let green = anstyle::AnsiColor::Green.on_default().bold();
            let what = match found.last < found.first {
                true => "there are no records".to_owned(),
                false => format!("{} as written", records(found.first, found.last)),
            };
            out.line(format_args!("{green}✓{green:#} {what}"))?;
        }
        for (from, to) in &found.lost {
            out.line(format_args!("  {}: lost, as was accepted", records(*from, *to)))?;
        }
        match (found.chained_from, found.tip) {
            (Some(from), Some(tip)) => out.line(format_args!(
                "  the chain of hashes covers {}; its end is {}",
                records(from, tip.seq),
                tip.link
            ))?,
            _ => out.line("  no record is in the chain of hashes yet")?,
        }
        let Some(signed) = &self.signed else { return out.flush() };
        let (met, gone) = (found.tips_met, found.tips_gone);
        let time = signed.last_time.as_deref().unwrap_or_default();
        out.line(format_args!("  signed checkpoints: {met} passed, the last there is of {time}"))?;
        if gone > 0 {
            out.line(format_args!("  {gone} more are of records no longer kept"))?;
        }
        for line in &signed.bad_lines {
            let yellow = anstyle::AnsiColor::Yellow.on_default().bold();
            out.line(format_args!(
                "{yellow}!{yellow:#} what ends in line {line} is no checkpoint signed with this key"
            ))?;
        }
        out.flush()
    }

    fn json(&self) -> Value {
        let found = &self.found;
        let findings = found.findings.iter().map(|finding| {
            json!({
                "kind": word(finding.kind),
                "file": finding.file.display().to_string(),
                "from": finding.from.0,
                "to": finding.to.0,
                "reason": finding.reason,
            })
        });
        json!({
            "first": found.first.0,
            "last": found.last.0,
            "chainedFrom": found.chained_from.map(|seq| seq.0),
            "tip": found.tip.map(|tip| json!({ "seq": tip.seq.0, "hash": tip.link.to_string() })),
            "lost": found.lost.iter().map(|(from, to)| [from.0, to.0]).collect::<Vec<_>>(),
            "findings": findings.collect::<Vec<_>>(),
            "findingsLeftOut": found.findings_left_out,
            "checkpointsPassed": self.signed.as_ref().map(|_| found.tips_met),
            "checkpointsNoLongerKept": self.signed.as_ref().map(|_| found.tips_gone),
            "checkpointsBadLines": self.signed.as_ref().map(|signed| &signed.bad_lines),
            "checkpointsContradict": self.contradiction().map(|seq| seq.0),
        })
    }
}

fn word(kind: Wrong) -> &'static str {
    match kind {
        Wrong::Damaged => "damaged",
        Wrong::Missing => "missing",
        Wrong::Changed => "changed",
    }
}

fn records(from: Seq, to: Seq) -> String {
    if from < to {
        return format!("records {} to {}", from.0, to.0);
    }
    format!("record {}", from.0)
}

const CHANGED: u8 = 4;
const MISSING: u8 = 5;
