//! What driftless keeps beside the files: markers, rights, and that nothing of it stays.

use super::*;

/// agent-7
#[tokio::test]
async fn a_lost_marker_stops_everything_that_could_be_taken_for_deletion() {
    let p = Prepared::new().await;
    p.replace("a.json", &document("a", 1));
    std::fs::remove_file(p.file(".driftless/marker")).unwrap();
    assert_eq!(p.store.present().await.unwrap_err().code, Code::MarkerMissing);
    assert_eq!(p.store.read(AT, &key("b"), None).await.unwrap_err().code, Code::MarkerMissing);
    assert_eq!(p.store.list(0, None, 5).await.unwrap_err().code, Code::MarkerMissing);
    assert_eq!(p.store.fence(0, 0, 9).await.unwrap_err().code, Code::MarkerMissing);
    let connector = connector(p.dir.path());
    assert_eq!(connector.open(&scope()).await.err().unwrap().code, Code::MarkerMissing);
    assert!(connector.check(None).await.unwrap().iter().any(|f| f.fatal && f.code == "marker_missing"));
    let empty = tempfile::tempdir().unwrap();
    let elsewhere = super::connector(empty.path());
    assert_eq!(elsewhere.reopen(&scope()).await.err().unwrap().code, Code::MarkerMissing);
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_check_leaves_nothing_behind_and_finds_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(connector(dir.path()).check(Some(&scope())).await.unwrap(), vec![]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let missing = connector(&dir.path().join("nowhere")).check(None).await.unwrap();
    assert!(missing[0].fatal && missing[0].code == "source_unreachable", "{missing:?}");
    let mut nameless = scope();
    nameless.collections[0].schema = None;
    assert_eq!(connector(dir.path()).check(Some(&nameless)).await.unwrap()[0].code, "schema_unsupported");
    // A file system that cannot exchange two files is refused; this machine has one such at most in /proc.
    let proc = connector(Path::new("/proc")).check(None).await.unwrap();
    assert!(proc[0].fatal, "{proc:?}");
}

/// verb-9
#[tokio::test]
async fn removal_leaves_the_records_and_any_edit_that_is_nowhere_else() {
    let p = Prepared::new().await;
    p.store.cas(AT, &key("a"), Some(&row("a", 1)), &intent(1, None)).await.unwrap();
    let token = p.token("a").await;
    p.replace("a.json", &document("a", 7));
    let root = p.dir.path().to_owned();
    p.store.at_each_step(move |step| {
        (step == Step::Unexpected).then(|| replace(&root, "a.json", &document("a", 8)));
        Ok(())
    });
    p.store.cas(AT, &key("a"), Some(&row("a", 2)), &intent(2, token)).await.unwrap();
    let connector = connector(p.dir.path());
    let left = connector.remove(&scope()).await.unwrap();
    assert!(left.len() == 1 && left[0].text.contains("a.json"), "{left:?}");
    assert!(everything(p.dir.path()).contains(&document("a", 7)));
    let heir = another(p.dir.path());
    let aside = heir.displaced(AT).await.unwrap();
    if aside.is_empty() {
        pass_ms(250).await;
    }
    for displaced in heir.displaced(AT).await.unwrap() {
        heir.settle(AT, &displaced).await.unwrap();
    }
    assert_eq!(connector.remove(&scope()).await.unwrap(), vec![]);
    let names: Vec<_> = std::fs::read_dir(p.dir.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(names, ["a.json"]);
}

#[tokio::test]
async fn the_rights_of_a_replaced_file_stay() {
    use std::os::unix::fs::PermissionsExt;
    let p = Prepared::new().await;
    p.replace("a.json", &document("a", 1));
    std::fs::set_permissions(p.file("a.json"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let token = p.token("a").await;
    p.store.cas(AT, &key("a"), Some(&row("a", 2)), &intent(1, token)).await.unwrap();
    assert_eq!(std::fs::metadata(p.file("a.json")).unwrap().permissions().mode() & 0o777, 0o640);
}
