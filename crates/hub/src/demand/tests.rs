use std::fs;
use std::path::Path;

use postbell_engine::Selection;
use postbell_sources::dovecot::tell_demand;

use super::*;
use crate::pretend::PretendJournal;

pub(crate) fn store() -> Store {
    Store::new("mail.example.org", None).unwrap()
}

/// A long time, so that nothing ends by itself.
const LONG: Duration = Duration::from_secs(3600);

fn demands(
    record: Record,
    linger: Duration,
    journal: &Arc<PretendJournal>,
    spool: &Path,
) -> Demands {
    let terms = Terms {
        record,
        linger,
        confirm: LONG,
        patience: LONG,
        look_every: Duration::from_millis(20),
        policy: Policy::default(),
        store: store(),
        spools: vec![("dovecot".to_owned(), spool.to_owned())],
    };
    Demands::new(terms, Arc::clone(journal) as _)
}

pub(crate) fn wanting(events: &[&str]) -> Demand {
    let events = events.iter().map(|&event| event.to_owned()).collect();
    let selection = Selection { events, ..Selection::default() };
    let (filter, projection) = selection.compile(&Policy::default()).unwrap();
    Demand::of(&filter, &projection)
}

/// Only what is wanted counts, and nobody is waited for.
pub(crate) fn demands_at_once(journal: &Arc<PretendJournal>) -> Demands {
    let terms = Terms {
        record: Record::Wanted,
        linger: Duration::ZERO,
        confirm: Duration::ZERO,
        patience: LONG,
        look_every: LONG,
        policy: Policy::default(),
        store: store(),
        spools: Vec::new(),
    };
    Demands::new(terms, Arc::clone(journal) as _)
}

/// The events written down in a spool.
fn written(spool: &Path) -> Vec<String> {
    let text = fs::read_to_string(spool.join("demand")).unwrap();
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines[1..lines.len() - 1].to_vec()
}

/// Waits for something that happens by itself.
pub(crate) async fn until(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it didn't come to be");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn recorded(journal: &PretendJournal) -> Vec<String> {
    let all = journal.bodies().into_iter().map(|body| {
        let event: serde_json::Value = serde_json::from_str(&body).unwrap();
        let told = event["vnd.postbell.recorded"].as_array().cloned().unwrap_or_default();
        let names: Vec<_> = told.iter().map(|name| name.as_str().unwrap()).collect();
        format!("{} {}", event["event"].as_str().unwrap(), names.join(" "))
    });
    all.collect()
}

#[tokio::test]
async fn r24_whoever_joins_is_told_when_what_they_want_is_in_force() {
    let spool = tempfile::tempdir().unwrap();
    let journal = Arc::new(PretendJournal::default());
    let demands = demands(Record::Wanted, Duration::ZERO, &journal, spool.path());
    let _kept = demands.count(wanting(&["MessageNew"]));
    demands.begin().await;
    until(|| written(spool.path()) == ["MessageNew"]).await;
    assert!(!demands.now().wants_flags());
    let held = demands.hold(wanting(&["flags"])).await;
    // Without waiting: it is so before it is answered.
    let wanted = ["MessageNew", "MessageRead", "MessageTrash", "FlagsSet", "FlagsClear"];
    assert_eq!(written(spool.path()), wanted);
    assert!(demands.now().wants_flags());
    drop(held);
    until(|| written(spool.path()) == ["MessageNew"]).await;
    until(|| !demands.now().wants_flags()).await;
    let told = recorded(&journal);
    assert_eq!(
        told,
        [
            "vnd.postbell.Recording MessageNew",
            "vnd.postbell.Recording MessageNew MessageRead MessageTrash FlagsSet FlagsClear",
            "vnd.postbell.Recording MessageNew",
        ]
    );
}

#[tokio::test]
async fn r24_whoever_comes_back_soon_finds_that_nothing_was_let_go() {
    let spool = tempfile::tempdir().unwrap();
    let journal = Arc::new(PretendJournal::default());
    let demands = demands(Record::Wanted, LONG, &journal, spool.path());
    demands.begin().await;
    drop(demands.hold(wanting(&["quota"])).await);
    // After a start everything counts as wanted for a while, too.
    assert_eq!(demands.now(), Demand::everything().under(&Policy::default()));
    assert_eq!(recorded(&journal), [""; 0]);
    let quota = demands.counts().into_iter().find(|(event, _)| *event == "QuotaChange");
    assert_eq!(quota, Some(("QuotaChange", 2)));
}

#[tokio::test]
async fn where_everything_is_recorded_nothing_anybody_wants_changes_that() {
    let spool = tempfile::tempdir().unwrap();
    let journal = Arc::new(PretendJournal::default());
    let demands = demands(Record::Everything, Duration::ZERO, &journal, spool.path());
    demands.begin().await;
    drop(demands.hold(wanting(&["quota"])).await);
    until(|| demands.counts().iter().all(|(_, count)| *count == 0)).await;
    assert_eq!(written(spool.path()).len(), 19);
    assert_eq!(demands.now(), Demand::everything().under(&Policy::default()));
    assert!(journal.bodies().is_empty());
}

fn gaps(journal: &PretendJournal) -> usize {
    recorded(journal).iter().filter(|one| one.contains("Gap")).count()
}

#[tokio::test]
async fn r24_whoever_joins_waits_until_publishers_have_confirmed() {
    let spool = tempfile::tempdir().unwrap();
    let journal = Arc::new(PretendJournal::default());
    let demands = demands(Record::Wanted, Duration::ZERO, &journal, spool.path());
    demands.begin().await;
    until(|| demands.now() == Demand::nothing()).await;
    let mut publisher = demands.publisher();
    let first = publisher.next().await;
    assert_eq!(first.demand, Demand::nothing());
    publisher.confirm(first.number);
    let joining = tokio::spawn({
        let demands = demands.clone();
        async move { demands.hold(wanting(&["Login"])).await }
    });
    let next = publisher.next().await;
    assert!(next.demand.covers(&wanting(&["Login"])) && !joining.is_finished());
    publisher.confirm(next.number);
    let _login = joining.await.unwrap();
    assert_eq!(gaps(&journal), 0);
    drop(publisher);
    let _quota = demands.hold(wanting(&["quota"])).await;
    assert_eq!(gaps(&journal), 0, "who is gone is not waited for");
    // One that was waited for in vain is not again, and a gap is told each time.
    let late = demands.publisher();
    demands.0.publishers.give_up(u64::MAX);
    let _mailbox = demands.hold(wanting(&["mailbox"])).await;
    let _flags = demands.hold(wanting(&["flags"])).await;
    assert_eq!(gaps(&journal), 2);
    // It is once it confirms, whatever that is.
    late.confirm(1);
    let joining = tokio::spawn({
        let demands = demands.clone();
        async move { demands.hold(wanting(&["message"])).await }
    });
    until(|| demands.now().covers(&wanting(&["message"]))).await;
    assert!(!joining.is_finished());
    late.confirm(u64::MAX);
    let _message = joining.await.unwrap();
    assert_eq!(gaps(&journal), 2);
}

#[tokio::test]
async fn r24_a_publisher_that_does_not_confirm_is_told_of_as_a_gap() {
    let journal = Arc::new(PretendJournal::default());
    let demands = demands_at_once(&journal);
    demands.begin().await;
    until(|| demands.now() == Demand::nothing()).await;
    let _silent = demands.publisher();
    let _login = demands.hold(wanting(&["Login"])).await;
    assert_eq!(gaps(&journal), 1, "{:?}", recorded(&journal));
}

#[tokio::test]
async fn what_is_recorded_is_told_once_over_a_restart() {
    let spool = tempfile::tempdir().unwrap();
    let journal = Arc::new(PretendJournal::default());
    let first = demands(Record::Wanted, Duration::ZERO, &journal, spool.path());
    let kept = first.count(wanting(&["Login"]));
    first.begin().await;
    until(|| written(spool.path()) == ["Login"]).await;
    let told = recorded(&journal);
    assert_eq!(told, ["vnd.postbell.Recording Login"]);
    drop(first);
    drop(kept);
    let again = demands(Record::Everything, Duration::ZERO, &journal, spool.path());
    again.begin().await;
    let told = recorded(&journal);
    assert_eq!(told.len(), 2);
    assert!(told[1].contains("MessageRead") && told[1].ends_with("vendor"), "{told:?}");
}

#[tokio::test]
async fn a_spool_that_is_not_there_keeps_nobody_waiting_and_is_no_gap() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(PretendJournal::default());
    let spool = folder.path().join("none");
    let demands = demands(Record::Wanted, Duration::ZERO, &journal, &spool);
    demands.begin().await;
    until(|| demands.now() == Demand::nothing()).await;
    let _held = demands.hold(wanting(&["Login"])).await;
    assert!(recorded(&journal).iter().all(|one| one.contains("Recording")));
    fs::create_dir(&spool).unwrap();
    let told = || fs::read_to_string(spool.join("demand")).unwrap_or_default();
    until(|| told().contains("Login")).await;
    fs::remove_file(spool.join("demand")).unwrap();
    until(|| told().contains("Login")).await;
}

/// What is wanted, where nothing of it is waited for longer than a moment.
async fn impatient(journal: &Arc<PretendJournal>, spool: &Path) -> Demands {
    let terms = Terms {
        record: Record::Wanted,
        linger: Duration::ZERO,
        confirm: LONG,
        patience: Duration::from_millis(20),
        look_every: LONG,
        policy: Policy::default(),
        store: store(),
        spools: vec![("dovecot".to_owned(), spool.to_owned())],
    };
    let demands = Demands::new(terms, Arc::clone(journal) as _);
    demands.begin().await;
    until(|| demands.now() == Demand::nothing()).await;
    demands
}

#[tokio::test]
async fn r24_a_spool_that_hangs_keeps_nobody_waiting_and_is_told_of_as_a_gap() {
    let spool = tempfile::tempdir().unwrap();
    let journal = Arc::new(PretendJournal::default());
    let demands = impatient(&journal, spool.path()).await;
    let before = gaps(&journal);
    demands.0.spools.hang();
    let _login = demands.hold(wanting(&["Login"])).await;
    assert_eq!(gaps(&journal), before + 1, "{:?}", recorded(&journal));
    let body = journal.bodies().into_iter().rfind(|body| body.contains("gapReason")).unwrap();
    assert!(body.contains("demand: not written in time"), "{body}");
    assert!(demands.now().covers(&wanting(&["Login"])), "all others tell of it");
}

#[tokio::test]
async fn r24_a_journal_that_hangs_keeps_nobody_waiting_and_has_no_more_than_one_of_ours() {
    let spool = tempfile::tempdir().unwrap();
    let journal = Arc::new(PretendJournal::default());
    let demands = impatient(&journal, spool.path()).await;
    let before = recorded(&journal).len();
    journal.hang();
    let login = demands.hold(wanting(&["Login"])).await;
    let _logout = demands.hold(wanting(&["Logout"])).await;
    assert!(demands.now().covers(&wanting(&["Login", "Logout"])));
    drop(login);
    assert_eq!((recorded(&journal).len(), journal.hanging()), (before, 1));
    // Once it goes on, it says how things stand, and what nobody wants is let go.
    journal.go_on();
    demands.0.left.notify_one();
    until(|| recorded(&journal).last().is_some_and(|last| last.ends_with("Recording Logout")))
        .await;
    until(|| demands.now() == wanting(&["Logout"])).await;
}

#[tokio::test]
async fn r24_what_the_journal_refuses_is_told_later_and_nothing_is_let_go_before() {
    let spool = tempfile::tempdir().unwrap();
    let journal = Arc::new(PretendJournal::default());
    let demands = impatient(&journal, spool.path()).await;
    demands.0.spools.hang();
    journal.refuse([crate::pretend::full()]);
    let login = demands.hold(wanting(&["Login"])).await;
    assert!(demands.now().covers(&wanting(&["Login"])));
    let is_told = |what: &str| recorded(&journal).iter().any(|one| one.contains(what));
    assert!(!is_told("Recording Login"), "it was refused");
    demands.0.left.notify_one();
    until(|| is_told("Gap") && is_told("Recording Login")).await;
    journal.refuse([crate::pretend::full()]);
    drop(login);
    until(|| journal.refusals() == 0).await;
    assert!(demands.now().covers(&wanting(&["Login"])), "the journal says that it is recorded");
    demands.0.left.notify_one();
    until(|| demands.now() == Demand::nothing()).await;
}

#[tokio::test]
async fn r24_each_who_joins_while_a_publisher_is_behind_is_told_of_a_gap() {
    let journal = Arc::new(PretendJournal::default());
    let demands = demands_at_once(&journal);
    demands.begin().await;
    until(|| demands.now() == Demand::nothing()).await;
    let silent = demands.publisher();
    let first = demands.hold(wanting(&["Login"])).await;
    assert_eq!(gaps(&journal), 1);
    let _second = demands.hold(wanting(&["Login"])).await;
    assert_eq!(gaps(&journal), 2, "the first gap stands before the second joined");
    // One that joins now goes by what is wanted now.
    let _new = demands.publisher();
    silent.confirm(demands.0.told.borrow().number);
    let _third = demands.hold(wanting(&["Login"])).await;
    drop(first);
    demands.0.left.notify_one();
    let _fourth = demands.hold(wanting(&["Login"])).await;
    assert_eq!(gaps(&journal), 2, "nobody is behind");
}

#[tokio::test]
async fn r24_those_who_join_while_others_are_waited_for_share_the_gap() {
    let journal = Arc::new(PretendJournal::default());
    let demands = demands_at_once(&journal);
    demands.begin().await;
    until(|| demands.now() == Demand::nothing()).await;
    let _silent = demands.publisher();
    let _first = demands.hold(wanting(&["Login"])).await;
    assert_eq!(gaps(&journal), 1);
    let changing = demands.0.changing.lock().await;
    let joining: Vec<_> = (0..20)
        .map(|_| {
            let demands = demands.clone();
            tokio::spawn(async move { demands.hold(wanting(&["Login"])).await })
        })
        .collect();
    let joined = || demands.counts().contains(&("Login", 21));
    until(joined).await;
    drop(changing);
    for one in joining {
        drop(one.await.unwrap());
    }
    assert_eq!(gaps(&journal), 2, "{:?}", recorded(&journal));
}

#[tokio::test]
async fn r24_each_who_joins_while_a_spool_hangs_is_told_of_a_gap() {
    let spool = tempfile::tempdir().unwrap();
    let journal = Arc::new(PretendJournal::default());
    let demands = impatient(&journal, spool.path()).await;
    let before = gaps(&journal);
    demands.0.spools.hang();
    let _first = demands.hold(wanting(&["Login"])).await;
    let _second = demands.hold(wanting(&["Login"])).await;
    assert_eq!(gaps(&journal), before + 2, "{:?}", recorded(&journal));
}

#[tokio::test]
async fn r24_a_hub_that_ends_lets_go_of_nothing() {
    let spool = tempfile::tempdir().unwrap();
    let journal = Arc::new(PretendJournal::default());
    let demands = demands(Record::Wanted, Duration::ZERO, &journal, spool.path());
    demands.begin().await;
    let held = demands.hold(wanting(&["Login"])).await;
    until(|| written(spool.path()) == ["Login"]).await;
    demands.keep_all();
    drop(held);
    demands.0.let_go(Instant::now());
    assert_eq!(demands.0.wanted(), Demand::nothing());
    demands.0.apply(For::Others).await;
    assert_eq!(demands.now(), wanting(&["Login"]));
    assert_eq!(written(spool.path()), ["Login"]);
}

/// A spool in which nothing new can be written: its name would be too long.
fn narrow() -> (tempfile::TempDir, PathBuf) {
    const PATH_OCTETS_MAX: usize = 4095;
    let folder = tempfile::tempdir().unwrap();
    let mut spool = folder.path().to_owned();
    let is_left = |spool: &Path| PATH_OCTETS_MAX - "/demand".len() - spool.as_os_str().len();
    while is_left(&spool) > 1 {
        // The last is as long as it may be, and none leaves room for but a slash.
        let left = is_left(&spool) - 1;
        let length = if left > 200 { left.min(400) / 2 } else { left };
        spool.push("n".repeat(length));
    }
    fs::create_dir_all(&spool).unwrap();
    (folder, spool)
}

#[tokio::test]
async fn where_nothing_can_be_written_and_everything_counts_as_wanted_there_is_no_gap() {
    let (_folder, spool) = narrow();
    let journal = Arc::new(PretendJournal::default());
    fs::write(spool.join("demand"), "postbell-demand 1\nend\n").unwrap();
    let demands = demands(Record::Wanted, Duration::ZERO, &journal, &spool);
    demands.begin().await;
    until(|| demands.now() == Demand::nothing()).await;
    let _held = demands.hold(wanting(&["Login"])).await;
    assert_eq!(fs::read(spool.join("demand")).unwrap(), b"");
    let Some(Reached::Trouble(why)) = demands.spool("dovecot") else { panic!("it is told") };
    assert!(why.ends_with("; the script leaves nothing out"), "{why}");
    assert_eq!(gaps(&journal), 0, "{:?}", recorded(&journal));
}

#[tokio::test]
async fn r24_a_spool_of_which_nobody_can_say_what_is_there_is_told_of_as_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("round");
    std::os::unix::fs::symlink(&spool, &spool).unwrap();
    let journal = Arc::new(PretendJournal::default());
    let demands = demands(Record::Wanted, Duration::ZERO, &journal, &spool);
    demands.begin().await;
    until(|| demands.now() == Demand::nothing()).await;
    let before = gaps(&journal);
    let _held = demands.hold(wanting(&["Login"])).await;
    assert_eq!(gaps(&journal), before + 1, "{:?}", recorded(&journal));
    let Some(Reached::Trouble(why)) = demands.spool("dovecot") else { panic!("it is told") };
    assert!(why.ends_with("; the script may go by what was wanted before"), "{why}");
}

#[tokio::test]
async fn what_a_hub_that_was_killed_began_to_write_is_taken_away() {
    let spool = tempfile::tempdir().unwrap();
    tell_demand(spool.path(), Demand::nothing()).unwrap();
    fs::write(spool.path().join("demand.0123456789abcdef"), "postbell-").unwrap();
    let journal = Arc::new(PretendJournal::default());
    demands(Record::Wanted, Duration::ZERO, &journal, spool.path()).begin().await;
    assert_eq!(fs::read_dir(spool.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn r24_nothing_is_let_go_of_before_the_journal_has_it_that_it_is_not_recorded() {
    let spool = tempfile::tempdir().unwrap();
    let journal = Arc::new(PretendJournal::default());
    let demands = impatient(&journal, spool.path()).await;
    let login = demands.hold(wanting(&["Login"])).await;
    journal.hang();
    drop(login);
    until(|| journal.hanging() == 1).await;
    // It is waited for until it is late, and then nothing has changed.
    until(|| demands.0.journalled.is_late()).await;
    drop(demands.0.changing.lock().await);
    assert_eq!(demands.now(), wanting(&["Login"]), "it may refuse it yet");
    journal.refuse([crate::pretend::full()]);
    journal.go_on();
    assert!(!recorded(&journal).last().unwrap().ends_with("Recording "));
    demands.0.left.notify_one();
    until(|| demands.now() == Demand::nothing()).await;
    assert_eq!(recorded(&journal).last().unwrap(), "vnd.postbell.Recording ");
}

#[tokio::test]
async fn what_was_recorded_before_and_can_not_be_read_is_told_anew() {
    let spool = tempfile::tempdir().unwrap();
    let journal = Arc::new(PretendJournal::default());
    journal.be_unreadable();
    let demands = demands(Record::Everything, Duration::ZERO, &journal, spool.path());
    demands.begin().await;
    let told = recorded(&journal);
    assert!(told.len() == 1 && told[0].contains("Recording"), "{told:?}");
}
