//! What is known of a store that answers as the tests say.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use postbell_engine::{Scope, Stores};
use postbell_journal::{Batch, Bounds, Entry, Journal as _, Options, RecordId, SqliteJournal};

use super::remembered::Said;
use super::*;
use crate::state::StateDb;

const TIMES: Times = Times::STANDARD;

const BOUNDS: Bounds = Bounds { first: Seq(1), last: Seq(9) };

fn shared(mailboxes: &[&str]) -> Shared {
    let mut shared = Shared::default();
    mailboxes.iter().for_each(|mailbox| shared.add("ann", mailbox, "lr"));
    shared
}

fn said(mailboxes: &[&str]) -> Said {
    Said::from((shared(mailboxes), Lost::default()))
}

fn bob() -> Principal {
    Principal::user(Scope::ALL, "bob", Stores::own("h").unwrap())
}

/// A journal that is looked through, and who reads what by it.
struct Desk {
    journal: Arc<SqliteJournal>,
    sharing: Sharing,
    _stop: watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

impl Desk {
    fn open(ask: impl Fn(&str) -> Result<Shared, SharedError> + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = Arc::new(StateDb::open(&folder.path().join("hub.db")).unwrap());
        let remembered = Remembered::new(state, HashMap::new());
        let journal = Arc::new(SqliteJournal::open(folder.path(), Options::default()).unwrap());
        let sharing = Sharing::new(ask, Feed::new(Arc::clone(&journal) as _), remembered, TIMES);
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(sharing.clone().watch(stopping));
        Self { journal, sharing, _stop: stop, _folder: folder }
    }

    fn inner(&self) -> &Arc<Inner> {
        self.sharing.0.as_ref().unwrap()
    }

    /// Journals an event, and waits until it was looked at.
    async fn happens(&self, name: &str, uri: &str, rest: &str) -> u64 {
        let json = format!(
            r#"{{"event":"{name}","uri":"{uri}","timestamp":"2026-08-20T13:34:14+02:00"{rest}}}"#
        );
        let head = Keys::find(json.as_bytes()).unwrap().to_head();
        let number = self.journal.bounds().last.0 + 1;
        let entry = Entry { id: RecordId(number.into()), head, body: json.into() };
        let (tell, told) = mpsc::sync_channel(1);
        let done = Box::new(move |result| tell.send(result).unwrap_or_default());
        self.journal.append(Batch { entries: vec![entry], checkpoint: None }, done);
        told.recv().unwrap().unwrap();
        self.inner().looked.subscribe().wait_for(|looked| *looked >= number).await.unwrap();
        number
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r162_what_changes_rights_is_doubted_at_once_and_nothing_else_is() {
    let desk = Desk::open(|_| {
        let mut shared = shared(&["Plans"]);
        shared.add(None, "team", "lr");
        Ok(shared)
    });
    let reads = desk.sharing.of(&bob());
    let user = desk.inner().users().named("bob").unwrap();
    let affected = r#","vnd.postbell.affectedUser":"bob""#;
    for (name, uri, rest, wanted) in [
        ("vnd.cmu.AclChange", "imap://ann@h/Plans", "", true),
        ("MailboxCreate", "imap://ann@h/Plans", "", true),
        ("MailboxRename", "imap://ann@h/Plans", "", true),
        ("MailboxDelete", "imap://ann@h/Plans", "", false),
        ("vnd.cmu.AclChange", "imap://ann@h/Other", "", false),
        ("MailboxCreate", "imap://ann@h/Other", "", false),
        ("vnd.cmu.AclChange", "imap://eve@h/Plans", "", false),
        ("MailboxDelete", "imap://bob@h/shared/ann/Plans", affected, true),
        ("MailboxCreate", "imap://bob@h/shared/ann/New", affected, true),
        ("MailboxCreate", "imap://eve@h/shared/ann/New", affected, false),
        ("MailboxCreate", "imap://bob@h/New", "", false),
        ("vnd.cmu.AclChange", "imap://h/team", "", true),
        ("vnd.cmu.AclChange", "imap://h/other", "", false),
        ("MailboxCreate", "imap://h/other", "", true),
        ("vnd.cmu.AclChange", "imap://ann@h/team", "", false),
    ] {
        assert!(reads.begin().await.has("ann", "Plans"));
        let before = user.known.borrow().changes;
        desk.happens(name, uri, rest).await;
        assert_eq!(user.known.borrow().changes > before, wanted, "{name} {uri}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r162_rights_that_change_while_the_store_is_asked_are_asked_anew_before_anything_is_seen() {
    let (asked, told) = mpsc::channel();
    let (let_go, goes) = mpsc::channel::<Vec<&str>>();
    let goes = Mutex::new(goes);
    let desk = Desk::open(move |_| {
        asked.send(()).unwrap();
        let answer = goes.lock().unwrap().recv();
        Ok(shared(&answer.map_err(|error| SharedError::Away(error.to_string()))?))
    });
    let told = Mutex::new(told);
    let asked = || told.lock().unwrap().recv_timeout(Duration::from_secs(60)).unwrap();
    let reads = desk.sharing.of(&bob());
    asked();
    // What it will answer is from before this: nobody is known to read it.
    let other = desk.happens("vnd.cmu.AclChange", "imap://ann@h/Other", "").await;
    let last = desk.happens("vnd.cmu.AclChange", "imap://ann@h/Plans", "").await;
    assert_eq!(last, other + 1);
    let waiting = {
        let reads = reads.clone();
        tokio::spawn(async move { reads.up_to(last).await })
    };
    let_go.send(vec!["Plans", "New"]).unwrap();
    asked();
    assert!(!waiting.is_finished(), "nothing counts until it was asked once more");
    let_go.send(vec!["New"]).unwrap();
    let seen = waiting.await.unwrap();
    assert!(seen.has("ann", "New") && !seen.has("ann", "Plans"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r162_what_changes_of_mailboxes_that_are_not_in_the_answer_asks_nobody_anew() {
    let count = Arc::new(AtomicUsize::new(0));
    let (asked, told) = mpsc::channel();
    let (let_go, goes) = mpsc::channel::<()>();
    let (goes, counted) = (Mutex::new(goes), Arc::clone(&count));
    let desk = Desk::open(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        asked.send(()).unwrap();
        goes.lock().unwrap().recv().map_err(|error| SharedError::Away(error.to_string()))?;
        Ok(shared(&["Plans"]))
    });
    let reads = desk.sharing.of(&bob());
    told.recv_timeout(Duration::from_secs(60)).unwrap();
    let last = desk.happens("MailboxCreate", "imap://ann@h/Other", "").await;
    let_go.send(()).unwrap();
    assert!(reads.up_to(last).await.has("ann", "Plans"));
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r162_before_a_delivery_the_store_is_asked_where_its_answer_is_old() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let desk = Desk::open(move |_| match counted.fetch_add(1, Ordering::SeqCst) {
        0 => Ok(shared(&["Plans", "Old"])),
        _ => Ok(shared(&["Plans"])),
    });
    let reads = desk.sharing.of(&bob());
    let user = desk.inner().users().named("bob").unwrap();
    for _ in 0..3 {
        assert!(reads.settled(0).await.unwrap().shared.has("ann", "Old"));
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
    user.age(TIMES.life + Duration::from_secs(1));
    // What only may turn out to be readable needs no answer.
    assert!(reads.candidates(0).await.now().has("ann", "Old"));
    let settled = reads.settled(0).await.unwrap();
    assert!(settled.shared.has("ann", "Plans") && !settled.shared.has("ann", "Old"));
    assert_eq!(count.load(Ordering::SeqCst), 2);
    let doubted = reads.doubted(&settled);
    desk.happens("vnd.cmu.AclChange", "imap://ann@h/Plans", "").await;
    doubted.await;
}

#[test]
fn r162_an_answer_from_before_a_change_counts_for_nothing() {
    let user = User::new("bob", None, TIMES);
    for times in [1, 2, 4] {
        let begun = user.begin();
        user.doubt();
        let again = user.conclude(begun, Ok(shared(&["Plans"])), BOUNDS);
        assert_eq!(again, Again::After(AGAIN_AFTER * times), "it isn't asked without a pause");
        assert!(user.known.borrow().is_pending && !user.known.borrow().counts());
    }
    let begun = user.begin();
    assert_eq!(
        user.conclude(begun, Ok(shared(&["Plans"])), BOUNDS),
        Again::Within(TIMES.life_at_rest)
    );
    assert!(user.known.borrow().counts() && user.has(Some("ann"), "Plans"));
    // A change may also come between the answer and its being known.
    user.suspect(Some("ann"), "Plans");
    assert!(!user.known.borrow().counts());
}

#[test]
fn r162_where_the_store_can_not_be_asked_what_was_known_counts_a_while_and_after_a_change_not_at_all()
 {
    let user = User::new("bob", None, TIMES);
    let away = || Err(SharedError::Away("away".to_owned()));
    let concluded = |answer| user.conclude(user.begin(), answer, BOUNDS);
    let counts = || user.known.borrow().counts();
    concluded(Ok(shared(&["Plans"])));
    assert_eq!(concluded(away()), Again::Within(TIMES.retry));
    assert!(counts());
    user.age(TIMES.life_max + Duration::from_secs(1));
    concluded(away());
    assert!(!counts());
    concluded(Ok(shared(&["Plans"])));
    user.doubt();
    concluded(away());
    assert_eq!((counts(), user.known.borrow().is_pending), (false, false));
    assert!(
        user.has(Some("ann"), "Plans"),
        "what may turn out to be readable is led to all the same"
    );
}

#[test]
fn r162_what_the_store_said_before_is_held_while_it_can_not_be_asked() {
    let away = || Err(SharedError::Away("away".to_owned()));
    let user = User::new("bob", None, TIMES);
    let patience = user.known.borrow().patience();
    assert!(TIMES.patience < patience && patience <= TIMES.patience_at_first, "{patience:?}");
    user.conclude(user.begin(), away(), BOUNDS);
    let said = User::new("bob", Some(said(&["Plans"])), TIMES);
    said.conclude(said.begin(), away(), BOUNDS);
    for (user, has) in [(user, false), (said, true)] {
        let known = user.known.borrow();
        assert!(!known.is_pending && !known.counts(), "nobody waits, and nothing is told");
        assert_eq!((known.shared.has("ann", "Plans"), known.patience()), (has, TIMES.patience));
    }
}

#[test]
fn r162_who_is_not_let_in_any_more_is_waited_for_and_who_never_had_anything_is_not() {
    let not_let_in = || Err(SharedError::NotLetIn("no".to_owned()));
    let user = User::new("bob", None, TIMES);
    user.conclude(user.begin(), not_let_in(), BOUNDS);
    assert!(user.known.borrow().counts() && user.known.borrow().shared.is_empty());
    let user = User::new("bob", Some(said(&["Plans"])), TIMES);
    user.conclude(user.begin(), not_let_in(), BOUNDS);
    assert!(!user.known.borrow().counts() && user.has(Some("ann"), "Plans"));
}

#[test]
fn r162_who_changes_rights_all_the_time_has_others_wait_once() {
    let user = User::new("bob", Some(said(&[])), TIMES);
    let patience = || user.known.borrow().patience();
    std::thread::sleep(Duration::from_millis(20));
    for _ in 0..3 {
        let begun = user.begin();
        user.doubt();
        user.conclude(begun, Ok(shared(&["Plans"])), BOUNDS);
        assert!(patience() <= TIMES.patience - Duration::from_millis(20), "{:?}", patience());
    }
    user.conclude(user.begin(), Ok(shared(&["Plans"])), BOUNDS);
    assert_eq!(patience(), TIMES.patience);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r162_what_an_owner_adds_is_looked_for_before_more_of_theirs_is_passed_over() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let desk = Desk::open(move |_| match counted.fetch_add(1, Ordering::SeqCst) {
        0 => Ok(shared(&["Plans"])),
        _ => Ok(shared(&["Plans", "Plans/Q1"])),
    });
    let reads = desk.sharing.of(&bob());
    assert!(!reads.begin().await.has("ann", "Plans/Q1"));
    let last = desk.happens("MailboxCreate", "imap://ann@h/Plans/Q1", "").await;
    // What is known goes on counting: a delivery waits for nothing.
    assert!(reads.settled(last).await.unwrap().shared.has("ann", "Plans"));
    assert_eq!(count.load(Ordering::SeqCst), 1);
    // However long ago that was: nobody has waited for it.
    let user = desk.inner().users().named("bob").unwrap();
    user.age(TIMES.life / 2);
    assert!(reads.whole(last).await.unwrap().shared.has("ann", "Plans/Q1"));
    assert_eq!(count.load(Ordering::SeqCst), 2);
    desk.happens("MailboxCreate", "imap://ann@h/Plans/Q2", "").await;
    user.age(TIMES.life / 2);
    let patience = user.known.borrow().patience();
    assert_eq!(patience, TIMES.patience, "and rights that change are waited for as ever");
}
