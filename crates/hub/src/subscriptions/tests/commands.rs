//! Commands of the configuration, with real programs.

use super::*;

/// A shell that tells `file` each mailbox it is run for, and fails for `B`.
fn picky(file: &Path) -> BTreeMap<String, CommandConfig> {
    let script = r#"echo "$POSTBELL_MAILBOX" >> "$0"; [ "$POSTBELL_MAILBOX" != B ]"#;
    let run = ["sh", "-c", script, file.to_str().unwrap()].map(str::to_owned).into();
    let command = CommandConfig { run, jobs: 2, ..CommandConfig::default() };
    BTreeMap::from([("index".to_owned(), command)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_fails_is_tried_again_and_kept_as_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("told");
    let bench = Bench::open_running(folder.path(), &picky(&file)).await;
    for mailbox in ["B", "A", "B"] {
        bench.append(mailbox);
    }
    let shown = bench.wait_until("index", |shown| shown.lag == 0).await;
    assert_eq!((shown.cursor, shown.dead_letters, shown.attempts), (3, 2, 7));
    let told = std::fs::read_to_string(&file).unwrap();
    assert_eq!(told.matches('B').count(), 6, "three attempts each");
    assert_eq!(told.matches('A').count(), 1);
    let letters = bench.subscriptions.dead_letters(&bench.admin, "index", 9).unwrap().unwrap();
    let letters: Vec<_> = letters.iter().map(|one| (one.seq, one.attempts, &*one.reason)).collect();
    assert_eq!(letters, [(3, 3, "sh ended with status 1"), (1, 3, "sh ended with status 1")]);
    assert!(bench.subscriptions.list(&bench.admin).iter().any(|shown| shown.name == "index"));
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_can_t_be_started_is_told_with_why() {
    let folder = tempfile::tempdir().unwrap();
    let run = vec!["/nonexistent/program".to_owned()];
    let command = CommandConfig { run, ..CommandConfig::default() };
    let commands = BTreeMap::from([("index".to_owned(), command)]);
    let bench = Bench::open_running(folder.path(), &commands).await;
    bench.append("A");
    let shown = bench.wait_until("index", |shown| shown.last_error.is_some()).await;
    let told = "/nonexistent/program: No such file or directory";
    assert!(shown.last_error.as_deref().unwrap().starts_with(told), "{shown:?}");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_begins_with_what_happens_then_and_goes_on_where_it_stood() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("told");
    let bench = Bench::open(folder.path()).await;
    bench.append("before");
    bench.close().await;
    let bench = Bench::open_running(folder.path(), &picky(&file)).await;
    assert_eq!(bench.shown("index").cursor, 1);
    bench.append("then");
    bench.wait_until("index", |shown| shown.lag == 0).await;
    bench.close().await;
    let bench = Bench::open(folder.path()).await;
    bench.append("meanwhile");
    bench.close().await;
    let bench = Bench::open_running(folder.path(), &picky(&file)).await;
    bench.wait_until("index", |shown| shown.lag == 0).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "then\nmeanwhile\n");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_configuration_made_is_changed_there_alone() {
    let folder = tempfile::tempdir().unwrap();
    let commands = picky(&folder.path().join("told"));
    let bench = Bench::open_running(folder.path(), &commands).await;
    let (subscriptions, admin) = (&bench.subscriptions, &bench.admin);
    let refused = [
        subscriptions.pause(admin, "index").await.unwrap_err(),
        subscriptions.resume(admin, "index").await.unwrap_err(),
        subscriptions.replay(admin, "index", Begin::Seq(0)).await.unwrap_err(),
        subscriptions.rotate(admin, "index", Rotation::default()).await.unwrap_err(),
        subscriptions.remove(admin, "index").await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!(
            error.to_string(),
            "\"index\" is made by the hub's configuration ([commands.index]), and changed there"
        );
    }
    let other = subscriptions.create(wanted("index", "http://127.0.0.1:1/"), admin).await;
    assert_eq!(other.unwrap_err().to_string(), "a subscription called \"index\" exists already");
    bench.close().await;
}
