//! A journal that was changed says so, and where; one that was damaged, cut short or torn is not
//! taken for one that was changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postbell_journal::contract::{append, checkpoint_at, entry};
use postbell_journal::{
    Entry, Journal as _, Link, Options, Retention, Seq, SqliteJournal, Tip, Verified, Wrong,
    accept_loss, verify,
};
use rusqlite::{Connection, params};
use sha2::{Digest as _, Sha256};

const RECORDS: u64 = 900;

fn options() -> Options {
    Options {
        segment_octets: 6 * 1024,
        housekeeping: Duration::from_millis(1),
        ..Options::default()
    }
}

/// Appends records in blocks of 45, and notes the tip after every block.
fn fill(folder: &Path, options: Options) -> Vec<Tip> {
    let journal = SqliteJournal::open(folder, options).unwrap();
    let mut tips = Vec::new();
    let begin = journal.bounds().last.0 + 1;
    for first in (begin..begin + RECORDS).step_by(45) {
        let entries = (first..first + 45).map(|number| entry(number.into())).collect();
        append(&journal, entries, Some(checkpoint_at(first + 45))).unwrap();
        tips.push(journal.tip().unwrap());
    }
    journal.close();
    tips
}

fn journal() -> (tempfile::TempDir, Vec<Tip>) {
    let folder = tempfile::tempdir().unwrap();
    let tips = fill(folder.path(), options());
    assert!(segments(folder.path()).len() > 2);
    (folder, tips)
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "db"))
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("segment-"))
        .collect();
    paths.sort();
    paths
}

fn look(folder: &Path, tips: &[Tip]) -> Verified {
    verify(folder, tips, &mut |done, all| assert!(done <= all)).unwrap()
}

/// The first finding, as kind, file and records.
fn first(verified: &Verified) -> (Wrong, String, u64, u64) {
    let finding = verified.findings.first().unwrap_or_else(|| panic!("{verified:?}"));
    let file = finding.file.file_name().unwrap().to_str().unwrap().to_owned();
    (finding.kind, file, finding.from.0, finding.to.0)
}

/// Someone who knows the format, and has a segment's file.
struct Forger {
    connection: Connection,
    name: String,
}

/// A row of `blocks`.
#[derive(Clone, Debug)]
struct Row {
    first: u64,
    count: u32,
    number: u64,
    written_ms: u64,
    raw_octets: u32,
    ids: Vec<u8>,
    content: Vec<u8>,
    chain: Vec<u8>,
}

impl Forger {
    fn at(path: &Path) -> Self {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        Self { connection: Connection::open(path).unwrap(), name }
    }

    fn rows(&self) -> Vec<Row> {
        let sql = "SELECT first, count, number, written_ms, raw_octets, ids, content, chain
            FROM blocks ORDER BY first";
        let mut statement = self.connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| {
            Ok(Row {
                first: row.get(0)?,
                count: row.get(1)?,
                number: row.get(2)?,
                written_ms: row.get(3)?,
                raw_octets: row.get(4)?,
                ids: row.get(5)?,
                content: row.get(6)?,
                chain: row.get(7)?,
            })
        });
        rows.unwrap().map(Result::unwrap).collect()
    }

    /// Writes a row with both checksums made right.
    fn put(&self, row: &Row) {
        let content_crc = crc32fast::hash(&row.content);
        let mut crc = crc32fast::Hasher::new();
        crc.update(&row.first.to_le_bytes());
        crc.update(&row.count.to_le_bytes());
        crc.update(&row.number.to_le_bytes());
        crc.update(&row.written_ms.to_le_bytes());
        crc.update(&row.raw_octets.to_le_bytes());
        crc.update(&content_crc.to_le_bytes());
        crc.update(&row.ids);
        let sql = "UPDATE blocks SET written_ms = ?2, raw_octets = ?3, content_crc = ?4,
            row_crc = ?5, ids = ?6, content = ?7, chain = ?8 WHERE first = ?1";
        let fields = params![
            row.first,
            row.written_ms,
            row.raw_octets,
            content_crc,
            crc.finalize(),
            row.ids,
            row.content,
            row.chain,
        ];
        assert_eq!(self.connection.execute(sql, fields).unwrap(), 1);
    }

    /// The header's link.
    fn begins_after(&self) -> Vec<u8> {
        let sql = "SELECT chain FROM segment";
        self.connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

impl Row {
    /// Changes one word in the bodies, to another as long.
    fn reword(&mut self, from: &str, to: &str) {
        assert_eq!(from.len(), to.len());
        let mut raw = zstd::bulk::decompress(&self.content, self.raw_octets as usize).unwrap();
        let at = raw.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
        raw[at..at + to.len()].copy_from_slice(to.as_bytes());
        self.content = zstd::bulk::compress(&raw, 1).unwrap();
    }

    /// Makes the link right, after the link `before`.
    fn link_after(&mut self, before: &[u8]) {
        let hash = Sha256::new()
            .chain_update(b"postbell block\0")
            .chain_update(&before[..32])
            .chain_update(self.first.to_le_bytes())
            .chain_update(self.count.to_le_bytes())
            .chain_update(self.number.to_le_bytes())
            .chain_update(self.written_ms.to_le_bytes())
            .chain_update(self.raw_octets.to_le_bytes())
            .chain_update(&self.ids)
            .chain_update(&self.content)
            .finalize();
        self.chain = hash.to_vec();
        let crc = crc32fast::hash(&self.chain);
        self.chain.extend(crc.to_le_bytes());
    }
}

/// Changes a word in the first block of the second segment and makes everything after it right,
/// through all segments, as far as `is_enough` says.
fn rewrite(folder: &Path, mut is_enough: impl FnMut(&Row) -> bool) {
    let mut before = Vec::new();
    for (place, path) in segments(folder).iter().enumerate().skip(1) {
        let forger = Forger::at(path);
        if place == 1 {
            before = forger.begins_after();
        } else {
            forger.connection.execute("UPDATE segment SET chain = ?1", [&before]).unwrap();
        }
        for (index, mut row) in forger.rows().into_iter().enumerate() {
            if is_enough(&row) {
                return;
            }
            if place == 1 && index == 0 {
                row.reword("Number", "NUMBER");
            }
            row.link_after(&before);
            forger.put(&row);
            before = row.chain;
        }
    }
}

#[test]
fn a_journal_as_it_was_written_is_found_whole() {
    let (folder, tips) = journal();
    let mut told = Vec::new();
    let verified = verify(folder.path(), &tips, &mut |done, all| told.push((done, all))).unwrap();
    assert_eq!(verified.findings, []);
    assert_eq!((verified.first, verified.last), (Seq(1), Seq(RECORDS)));
    assert_eq!(verified.chained_from, Some(Seq(1)));
    assert_eq!(verified.tip.as_ref(), tips.last());
    assert_eq!((verified.tips_met, verified.tips_gone), (tips.len(), 0));
    assert_eq!(told.last(), Some(&(RECORDS, RECORDS)));
}

#[test]
fn the_chain_goes_on_after_a_restart() {
    let (folder, mut tips) = journal();
    let journal = SqliteJournal::open(folder.path(), options()).unwrap();
    assert_eq!(journal.tip().as_ref(), tips.last());
    journal.close();
    tips.extend(fill(folder.path(), options()));
    let verified = look(folder.path(), &tips);
    assert_eq!(verified.findings, []);
    assert_eq!(verified.tips_met, tips.len());
}

#[test]
fn a_changed_record_with_its_checksums_made_right_is_found_and_named() {
    let (folder, _) = journal();
    let forger = Forger::at(&segments(folder.path())[1]);
    let mut row = forger.rows()[1].clone();
    row.reword("Number", "NUMBER");
    forger.put(&row);
    drop(forger.connection);
    let verified = look(folder.path(), &[]);
    let last = row.first + u64::from(row.count) - 1;
    assert_eq!(first(&verified), (Wrong::Changed, forger.name, row.first, last));
    assert_eq!(verified.findings.len(), 1, "{verified:?}");
    // The journal itself can't tell.
    let journal = SqliteJournal::open(folder.path(), options()).unwrap();
    assert!(journal.read(Seq(row.first), 1).is_ok());
}

/// RFC 5423, section 7: an attacker could "modify the "user" and "messageContent" parameters in
/// MessageNew notifications to create false audit log entries".
fn audited(from: &str, to: &str) {
    let folder = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(folder.path(), Options::default()).unwrap();
    for number in 1..=3 {
        let body = format!(
            "{{\"event\":\"MessageNew\",\"uri\":\"imap://jo@h/INBOX;UIDVALIDITY=1/;UID={number}\",\
             \"timestamp\":\"2026-11-28T20:00:00Z\",\"user\":\"jo\",\"messageContent\":\"I agree\"}}"
        );
        let entry = Entry { body: body.into(), ..entry(number) };
        append(&journal, vec![entry], None).unwrap();
    }
    let tip = journal.tip().unwrap();
    journal.close();
    assert_eq!(look(folder.path(), &[tip]).findings, []);
    // In the file, with its checksums made right again.
    let forger = Forger::at(&segments(folder.path())[0]);
    let mut rows = forger.rows();
    rows[1].reword(from, to);
    forger.put(&rows[1]);
    let (kind, file, first_seq, last_seq) = first(&look(folder.path(), &[]));
    assert_eq!((kind, file.as_str()), (Wrong::Changed, forger.name.as_str()));
    assert_eq!((first_seq, last_seq), (2, 2));
    // And with every hash made right again: the journal alone can't tell, what was noted can.
    let mut before = rows[0].chain.clone();
    for row in &mut rows[1..] {
        row.link_after(&before);
        forger.put(row);
        before.clone_from(&row.chain);
    }
    assert_eq!(look(folder.path(), &[]).findings, []);
    assert_eq!(look(folder.path(), &[tip]).worst(), Some(Wrong::Changed));
}

#[test]
fn r159_r160_a_user_changed_in_the_stored_journal_is_found_and_named() {
    audited("\"user\":\"jo\"", "\"user\":\"al\"");
}

#[test]
fn r159_r160_a_message_content_changed_in_the_stored_journal_is_found_and_named() {
    audited("I agree", "I don't");
}

#[test]
fn r160_records_in_another_order_are_found() {
    let (folder, _) = journal();
    let forger = Forger::at(&segments(folder.path())[1]);
    let (mut one, mut two) = (forger.rows()[0].clone(), forger.rows()[1].clone());
    std::mem::swap(&mut one.content, &mut two.content);
    std::mem::swap(&mut one.ids, &mut two.ids);
    std::mem::swap(&mut one.raw_octets, &mut two.raw_octets);
    forger.put(&one);
    forger.put(&two);
    drop(forger.connection);
    let (kind, file, from, _) = first(&look(folder.path(), &[]));
    assert_eq!((kind, file, from), (Wrong::Changed, forger.name, one.first));
}

#[test]
fn a_record_whose_checksum_does_not_fit_is_damaged_and_not_changed() {
    let (folder, _) = journal();
    let forger = Forger::at(&segments(folder.path())[1]);
    let row = forger.rows()[0].clone();
    let sql = "UPDATE blocks SET content = ?2 WHERE first = ?1";
    forger.connection.execute(sql, params![row.first, b"rot".as_slice()]).unwrap();
    drop(forger.connection);
    let verified = look(folder.path(), &[]);
    let last = row.first + u64::from(row.count) - 1;
    assert_eq!(first(&verified), (Wrong::Damaged, forger.name, row.first, last));
    assert_eq!(verified.worst(), Some(Wrong::Damaged), "{verified:?}");
    assert_eq!(verified.findings.len(), 1, "{verified:?}");
}

#[test]
fn a_changed_record_with_its_own_hash_made_right_breaks_the_next() {
    let (folder, _) = journal();
    let mut rows = 0;
    rewrite(folder.path(), |_| {
        rows += 1;
        rows > 1
    });
    let forger = Forger::at(&segments(folder.path())[1]);
    let broken = forger.rows()[1].first;
    let (kind, file, from, _) = first(&look(folder.path(), &[]));
    assert_eq!((kind, file, from), (Wrong::Changed, forger.name, broken));
}

#[test]
fn whoever_rewrites_the_whole_chain_is_found_out_by_a_tip_noted_elsewhere() {
    let (folder, tips) = journal();
    rewrite(folder.path(), |_| false);
    assert_eq!(look(folder.path(), &[]).findings, [], "nothing inside tells");
    let verified = look(folder.path(), &tips[tips.len() - 1..]);
    assert_eq!(verified.worst(), Some(Wrong::Changed));
    let verified = look(folder.path(), &tips);
    let begin = Forger::at(&segments(folder.path())[1]).rows()[0].first;
    assert_eq!(first(&verified).2, begin, "the first tip after the change names it");
}

#[test]
fn a_segment_put_in_the_place_of_another_does_not_fit_the_chain() {
    let (folder, _) = journal();
    let forger = Forger::at(&segments(folder.path())[1]);
    let mut before = Link([7; 32]).0.to_vec();
    before.extend(crc32fast::hash(&before).to_le_bytes());
    forger.connection.execute("UPDATE segment SET chain = ?1", [&before]).unwrap();
    let begin = forger.rows()[0].first;
    for mut row in forger.rows() {
        row.link_after(&before);
        forger.put(&row);
        before = row.chain;
    }
    drop(forger.connection);
    let (kind, file, from, _) = first(&look(folder.path(), &[]));
    assert_eq!((kind, file, from), (Wrong::Changed, forger.name, begin));
}

#[test]
fn taking_the_hashes_away_is_found_out_by_a_tip_noted_elsewhere() {
    let (folder, tips) = journal();
    for path in segments(folder.path()) {
        let forger = Forger::at(&path);
        forger.connection.pragma_update(None, "user_version", 1).unwrap();
    }
    let verified = look(folder.path(), &[]);
    assert_eq!((verified.chained_from, verified.findings.len()), (None, 0));
    assert_eq!(look(folder.path(), &tips).worst(), Some(Wrong::Changed));
}

#[test]
fn records_taken_out_of_the_middle_are_missing() {
    let (folder, _) = journal();
    let forger = Forger::at(&segments(folder.path())[1]);
    let row = forger.rows()[1].clone();
    forger.connection.execute("DELETE FROM blocks WHERE first = ?1", [row.first]).unwrap();
    drop(forger.connection);
    let last = row.first + u64::from(row.count) - 1;
    let verified = look(folder.path(), &[]);
    assert_eq!(first(&verified), (Wrong::Missing, forger.name, row.first, last));
}

#[test]
fn an_end_cut_off_is_missing_also_with_the_mark_made_right() {
    let (folder, tips) = journal();
    let paths = segments(folder.path());
    let forger = Forger::at(paths.last().unwrap());
    let row = forger.rows().pop().unwrap();
    forger.connection.execute("DELETE FROM blocks WHERE first = ?1", [row.first]).unwrap();
    drop(forger.connection);
    let verified = look(folder.path(), &[]);
    assert_eq!(first(&verified), (Wrong::Missing, forger.name.clone(), row.first, RECORDS));
    let mark = folder.path().join("acknowledged");
    let mut octets = std::fs::read(&mark).unwrap();
    octets[8..16].copy_from_slice(&(row.first - 1).to_le_bytes());
    let crc = crc32fast::hash(&octets[..24]);
    octets[24..].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&mark, octets).unwrap();
    assert_eq!(look(folder.path(), &[]).findings, [], "nothing inside tells");
    let verified = look(folder.path(), &tips);
    assert_eq!(first(&verified), (Wrong::Missing, forger.name, row.first, RECORDS));
}

#[test]
fn a_segment_taken_away_is_missing() {
    let (folder, _) = journal();
    let path = segments(folder.path())[1].clone();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(first(&look(folder.path(), &[])).0, Wrong::Missing);
}

#[test]
fn the_only_segment_taken_away_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(folder.path(), Options::default()).unwrap();
    append(&journal, vec![entry(1)], None).unwrap();
    journal.close();
    let path = segments(folder.path()).pop().unwrap();
    std::fs::remove_file(&path).unwrap();
    let found = look(folder.path(), &[]).findings;
    let found: Vec<_> = found.iter().map(|one| (one.kind, one.file.clone())).collect();
    assert_eq!(found, [(Wrong::Missing, path)]);
}

#[test]
fn what_retention_leaves_is_verified_from_its_anchor_on() {
    let folder = tempfile::tempdir().unwrap();
    let retention = Retention { age: None, octets: Some(40 * 1024) };
    let tips = fill(folder.path(), Options { retention, ..options() });
    let verified = look(folder.path(), &tips);
    assert!(verified.first > Seq(1), "{verified:?}");
    assert_eq!(verified.chained_from, Some(verified.first));
    assert_eq!(verified.findings, []);
    assert!(verified.tips_gone > 0 && verified.tips_met > 0, "{verified:?}");
    assert_eq!(verified.tips_met + verified.tips_gone, tips.len());
    let earlier = tips.iter().filter(|tip| tip.seq < verified.first).count();
    // The anchor is the link of what was dropped last.
    assert_eq!(verified.tips_gone, earlier - 1);
}

#[test]
fn an_accepted_loss_is_told_and_is_no_finding() {
    let (folder, tips) = journal();
    let path = segments(folder.path())[1].clone();
    std::fs::remove_file(&path).unwrap();
    accept_loss(folder.path()).unwrap();
    fill(folder.path(), options());
    let verified = look(folder.path(), &tips);
    assert_eq!(verified.findings, []);
    assert_eq!(verified.lost.len(), 1);
    assert!(verified.tips_gone > 0 && verified.tips_met > 0, "{verified:?}");
}

#[test]
fn a_running_journal_is_verified_beside_it_and_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(folder.path(), options()).unwrap();
    let mut tips = Vec::new();
    std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let place = folder.path();
        let looking = scope.spawn(move || {
            let mut last = Seq(0);
            let mut turns = 0;
            while stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected)
                || turns < 3
            {
                let verified = look(place, &[]);
                assert_eq!(verified.findings, []);
                assert!(verified.last >= last);
                last = verified.last;
                turns += 1;
            }
        });
        for number in 1..=RECORDS {
            append(&journal, vec![entry(number.into())], None).unwrap();
            tips.extend(journal.tip());
        }
        drop(stop);
        looking.join().unwrap();
    });
    // While it looks, nobody else may write: no segment is full now, and no housekeeping due.
    journal.close();
    let quiet = Options { housekeeping: Duration::from_secs(3600), ..Options::default() };
    let journal = SqliteJournal::open(folder.path(), quiet).unwrap();
    append(&journal, vec![entry(u128::from(RECORDS) + 1)], None).unwrap();
    tips.extend(journal.tip());
    let files = contents(folder.path());
    assert!(files.keys().any(|path| path.to_str().unwrap().ends_with("-wal")), "it is running");
    let verified = look(folder.path(), &tips);
    assert_eq!((verified.findings.len(), verified.tips_met), (0, tips.len()));
    assert_eq!(contents(folder.path()), files, "nothing is written");
}

/// Every file but the index of a log, in which a reader notes that it reads.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths
        .filter(|path| !path.to_str().unwrap().ends_with("-shm"))
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

#[test]
fn a_torn_tail_that_nobody_was_told_of_is_no_finding() {
    let folder = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(folder.path(), Options::default()).unwrap();
    append(&journal, (1..100).map(entry).collect(), None).unwrap();
    let mark = std::fs::read(folder.path().join("acknowledged")).unwrap();
    append(&journal, (100..200).map(entry).collect(), None).unwrap();
    let log = folder.path().join("segment-0000000001.db-wal");
    let octets = std::fs::read(&log).unwrap();
    let copy = tempfile::tempdir().unwrap();
    for (path, octets) in contents(folder.path()) {
        std::fs::write(copy.path().join(path.file_name().unwrap()), octets).unwrap();
    }
    std::fs::write(copy.path().join("acknowledged"), mark).unwrap();
    let log = copy.path().join(log.file_name().unwrap());
    std::fs::write(&log, &octets[..octets.len() - 1000]).unwrap();
    let verified = look(copy.path(), &[]);
    assert_eq!((verified.findings.len(), verified.last), (0, Seq(99)), "{verified:?}");
}

#[test]
fn a_journal_of_format_1_has_its_chain_begun_at_the_first_new_block() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/journal-v1");
    for entry in std::fs::read_dir(fixture).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let verified = look(folder.path(), &[]);
    assert_eq!((verified.chained_from, verified.findings.len()), (None, 0), "{verified:?}");
    let journal = SqliteJournal::open(folder.path(), Options::default()).unwrap();
    assert_eq!(journal.tip(), None);
    append(&journal, vec![entry(304)], None).unwrap();
    let tip = journal.tip();
    journal.close();
    let verified = look(folder.path(), &[]);
    assert_eq!((verified.chained_from, verified.tip), (Some(Seq(304)), tip));
    assert_eq!(verified.findings, []);
}
