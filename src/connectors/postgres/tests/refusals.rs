//! Each thing that can be wrong at the server: a code and a sentence that says what to do.

use super::super::client::platform;
use super::server::*;
use crate::connectors::contract::*;
use crate::event::*;
use crate::runtime::clock::{Clock, SystemClock};
use crate::runtime::error::Code;
use serde_json::json;

const TABLE: &str = "CREATE TABLE item (id int PRIMARY KEY, v text)";

fn is(error: &crate::runtime::error::Error, code: Code, words: &str) {
    assert_eq!(error.code, code, "{error:?}");
    assert!(format!("{error:?}").contains(words), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_work_by_every_method_and_a_wrong_password_is_refused() {
    let db = Db::new(TABLE).await;
    let roles = "SET password_encryption = 'scram-sha-256'; CREATE ROLE scram LOGIN SUPERUSER PASSWORD 'geheim';
                 CREATE ROLE plain LOGIN SUPERUSER PASSWORD 'geheim';
                 SET password_encryption = 'md5'; CREATE ROLE md5 LOGIN SUPERUSER PASSWORD 'geheim'";
    db.run(roles).await;
    let root = format!("{}/root.crt", db.server.folder);
    for user in ["scram", "md5", "plain"] {
        for (mode, host) in [
            ("disable", "127.0.0.1"),
            ("prefer", "127.0.0.1"),
            ("require", "127.0.0.1"),
            ("verify-ca", "127.0.0.1"),
            ("verify-full", "localhost"),
        ] {
            let mut settings = db.settings.clone();
            settings["host"] = host.into();
            settings["user"] = user.into();
            settings["password"] = "geheim".into();
            settings["sslmode"] = mode.into();
            settings["sslrootcert"] = if mode.starts_with("verify") { root.clone().into() } else { json!(null) };
            let config = super::super::config::Checked::parse(settings.clone(), "here").unwrap();
            let mut connection = super::super::wire::connection::Connection::open(&config).await.unwrap();
            let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
            let answer = connection.query(encrypted).await.unwrap();
            assert_eq!(answer[0][0].as_deref(), Some(if mode == "disable" { "f" } else { "t" }), "{user} {mode}");
            let session = session(settings.clone()).await;
            assert_eq!(session.text(encrypted).await.unwrap(), if mode == "disable" { "f" } else { "t" });
            settings["password"] = "falsch".into();
            let config = super::super::config::Checked::parse(settings, "here").unwrap();
            is(
                &refused(super::super::wire::connection::Connection::open(&config).await),
                Code::SourceDenied,
                "password",
            );
            let error = refused(super::super::client::Session::open(&config).await);
            is(&error, Code::SourceDenied, "password");
            is(&error, Code::SourceDenied, &format!("server {host}:{}; user {user}", db.server.port));
        }
    }
    // A name the certificate is not for, an authority that is not known.
    let mut settings = db.settings.clone();
    settings["host"] = "127.0.0.1".into();
    settings["sslmode"] = "verify-full".into();
    settings["sslrootcert"] = root.into();
    let config = super::super::config::Checked::parse(settings.clone(), "here").unwrap();
    is(&refused(super::super::wire::connection::Connection::open(&config).await), Code::SourceDenied, "not trusted");
    settings["host"] = "localhost".into();
    settings["sslrootcert"] = json!(null);
    let config = super::super::config::Checked::parse(settings, "here").unwrap();
    is(&refused(super::super::wire::connection::Connection::open(&config).await), Code::SourceDenied, "not trusted");
    is(&refused(super::super::client::Session::open(&config).await), Code::SourceDenied, "encrypted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_tried_again() {
    let settings = json!({"host": "127.0.0.1", "port": 1, "user": "nobody"});
    let connector = platform::open(settings, "here").unwrap();
    let error = refused(connector.schema(&Db::place("item")).await);
    is(
        &error,
        Code::SourceUnreachable,
        "is it running, and may this machine reach it?; server 127.0.0.1:1; user nobody",
    );
    assert!(matches!(error.remedy(), crate::runtime::error::Remedy::Retry { .. }));
    let findings = connector.check(None).await.unwrap();
    assert!(findings[0].code == "source_unreachable" && findings[0].text.contains("127.0.0.1:1"), "{findings:?}");
}

/// read-7
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_cannot_be_captured_are_refused_with_the_remedy() {
    let db = Db::new("CREATE TABLE item (id int); CREATE TABLE silent (id int PRIMARY KEY); ALTER TABLE silent REPLICA IDENTITY NOTHING; CREATE TABLE floating (id float8 PRIMARY KEY)").await;
    is(&refused(db.connector().open(&db.scope(&["item"])).await), Code::TableWithoutKey, "primary key");
    is(&refused(db.connector().open(&db.scope(&["nothing"])).await), Code::TableMissing, "create it");
    is(&refused(db.connector().open(&db.scope(&["floating"])).await), Code::SchemaUnsupported, "key");
    let platform = db.open(&["silent"]).await;
    is(&refused(platform.position().await), Code::SourceSettings, "REPLICA IDENTITY DEFAULT");
    assert!(
        db.connector()
            .check(Some(&db.scope(&["silent"])))
            .await
            .unwrap()
            .iter()
            .any(|f| f.text.contains("REPLICA IDENTITY DEFAULT"))
    );
    assert_eq!(db.connector().schema(&Db::place("nothing")).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_logical_log_is_refused() {
    let server = Box::leak(Box::new(Server::start("wal_level = replica")));
    let connector = platform::open(server.settings("postgres"), "here").unwrap();
    session(server.settings("postgres"))
        .await
        .batch_execute("CREATE TABLE public.item (id int PRIMARY KEY)")
        .await
        .unwrap();
    let scope = Scope { dataset: "d".into(), collections: vec![Db::place("item")] };
    let platform = log(connector.open(&scope).await.unwrap());
    is(&refused(platform.position().await), Code::SourceSettings, "wal_level = logical");
    assert!(connector.check(None).await.unwrap().iter().any(|f| f.fatal && f.text.contains("wal_level = logical")));
    // It can still be written to.
    platform.rows().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_rights_is_told_which() {
    let db = Db::new(TABLE).await;
    let role = format!("poor_{}", db.dataset);
    db.run(&format!("CREATE ROLE {role} LOGIN")).await;
    let mut settings = db.settings.clone();
    settings["user"] = role.into();
    let connector = platform::open(settings, "here").unwrap();
    is(&refused(connector.open(&db.scope(&["item"])).await), Code::SourceDenied, "right");
    let findings = connector.check(Some(&db.scope(&["item"]))).await.unwrap();
    for words in ["REPLICATION", "GRANT SELECT", "GRANT CREATE ON DATABASE", "session_replication_role"] {
        assert!(findings.iter().any(|f| f.text.contains(words)), "{words}: {findings:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_in_use_is_tried_again() {
    let db = Db::new(TABLE).await;
    let (platform, reader) = db.reading(&["item"]).await;
    let from = platform.position().await.unwrap();
    is(&refused(platform.reader(from).await), Code::StoreBusy, "in use");
    drop(reader);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_gone_or_was_made_anew_stops_the_reader() {
    let db = Db::new(TABLE).await;
    let platform = db.open(&["item"]).await;
    let from = platform.position().await.unwrap();
    let name = format!("driftless_{}", db.dataset);
    db.run(&format!("SELECT pg_drop_replication_slot('{name}'); INSERT INTO item VALUES (1, 'lost')")).await;
    is(&refused(platform.reader(from).await), Code::SourceIdentity, "gone");
    db.run(&format!("SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')")).await;
    is(&refused(platform.reader(from).await), Code::SourceIdentity, "made anew");
    // A later place is admitted, a place the log does not reach is not.
    let later = platform.position().await.unwrap();
    platform.reader(later).await.unwrap();
    is(&refused(platform.reader(Position::end_of(later.commit + (1 << 40))).await), Code::SourceIdentity, "restored");
    is(&refused(platform.reader(Position::START).await), Code::SourceIdentity, "begins at");
    db.run("UPDATE driftless.source SET system = '1'").await;
    is(&refused(platform.reader(later).await), Code::SourceIdentity, "not the server");
    db.run(&format!("SELECT pg_drop_replication_slot('{name}'); DELETE FROM driftless.source")).await;
    db.run(&format!("SELECT pg_create_logical_replication_slot('{name}', 'test_decoding')")).await;
    is(&refused(platform.reader(later).await), Code::SourceSettings, "something else");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_leaves_something_out_is_refused_or_completed() {
    let db = Db::new("CREATE TABLE item (id int PRIMARY KEY, v text); CREATE TABLE more (id int PRIMARY KEY)").await;
    let publication = format!("driftless_{}", db.dataset);
    let mut settings = db.settings.clone();
    settings["create"] = false.into();
    let connector = platform::open(settings, "here").unwrap();
    let strict = log(connector.open(&db.scope(&["item", "more"])).await.unwrap());
    is(&refused(strict.position().await), Code::SourceSettings, "CREATE PUBLICATION");
    db.run(&format!("CREATE PUBLICATION {publication} FOR TABLE item")).await;
    is(&refused(strict.position().await), Code::SourceSettings, "ADD TABLE \"public\".\"more\"");
    let lenient = db.open(&["item", "more"]).await;
    let mut reader = lenient.reader(lenient.position().await.unwrap()).await.unwrap();
    db.run("INSERT INTO more VALUES (1)").await;
    read(&mut *reader, 1).await;
    drop(reader);
    db.run(&format!("ALTER PUBLICATION {publication} SET (publish = 'insert')")).await;
    is(&refused(lenient.position().await), Code::SourceSettings, "leaves changes out");
    let all = "insert, update, delete, truncate";
    db.run(&format!("ALTER PUBLICATION {publication} SET (publish = '{all}')")).await;
    lenient.position().await.unwrap();
    // A filter hides changes: it is found when the work begins, and one that is set later means the same
    // as a table that was taken out.
    let own = "driftless.ledger, driftless.observed";
    db.run(&format!("ALTER PUBLICATION {publication} SET TABLE item WHERE (id > 5), more, {own}")).await;
    is(&refused(lenient.position().await), Code::SourceIdentity, "public.item");
    let db = Db::new(TABLE).await;
    let platform = db.open(&["item"]).await;
    let filtered = format!("CREATE PUBLICATION driftless_{} FOR TABLE item WHERE (id > 5), {own}", db.dataset);
    db.run(&filtered).await;
    is(&refused(platform.position().await), Code::SourceSettings, "row filters");
}

/// read-6: what was written while a table was out of the publication is in no log, so putting it back
/// must not look as if nothing had happened.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_taken_out_of_the_publication_stops_the_reader_and_putting_it_back_hides_nothing() {
    let db = Db::new("CREATE TABLE item (id int PRIMARY KEY, v text); CREATE TABLE more (id int PRIMARY KEY)").await;
    let publication = format!("driftless_{}", db.dataset);
    let (platform, mut reader) = db.reading(&["item", "more"]).await;
    db.run("INSERT INTO more VALUES (1)").await;
    read(&mut *reader, 1).await;
    db.run(&format!("ALTER PUBLICATION {publication} DROP TABLE more; INSERT INTO more VALUES (2)")).await;
    let error = read_error(&mut *reader).await;
    is(&error, Code::SourceIdentity, "public.more");
    is(&error, Code::SourceIdentity, "driftless remove --dataset D --platform P");
    is(&error, Code::SourceIdentity, &format!("dataset {}", db.dataset));
    drop(reader);
    is(&refused(platform.position().await), Code::SourceIdentity, "public.more");
    db.run(&format!("ALTER PUBLICATION {publication} ADD TABLE more; INSERT INTO more VALUES (3)")).await;
    is(&refused(platform.position().await), Code::SourceIdentity, "public.more");
    // The remedy: everything is made anew, and copied and compared again.
    let removing = async { while !db.connector().remove(&db.scope(&["item", "more"])).await.unwrap().is_empty() {} };
    tokio::time::timeout(LONG, removing).await.unwrap();
    let anew = db.open(&["item", "more"]).await;
    anew.position().await.unwrap();
    assert_eq!(copy(&mut *anew.snapshot(1, None).await.unwrap()).await.len(), 3);
    // A table that joins the dataset later is nothing lost.
    db.run("CREATE TABLE third (id int PRIMARY KEY)").await;
    db.open(&["item", "more", "third"]).await.position().await.unwrap();
    // One that left it may leave the publication too.
    db.open(&["item", "more"]).await.position().await.unwrap();
    db.run(&format!("ALTER PUBLICATION {publication} DROP TABLE third")).await;
    db.open(&["item", "more"]).await.position().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_carried_over_stops_the_reader_behind_all_before_it() {
    for (statement, code) in [
        (
            "ALTER TABLE item DROP CONSTRAINT item_pkey, ADD PRIMARY KEY (id, v); INSERT INTO item VALUES (2, 'b')",
            Code::SchemaUnsupported,
        ),
        (
            "ALTER TABLE item DROP id, ADD other int NOT NULL DEFAULT 1, ADD PRIMARY KEY (other); INSERT INTO item VALUES ('b', 2)",
            Code::SchemaUnsupported,
        ),
        ("ALTER TABLE item REPLICA IDENTITY NOTHING; INSERT INTO item VALUES (2, 'b')", Code::SourceSettings),
    ] {
        let db = Db::new(TABLE).await;
        let (_, mut reader) = db.reading(&["item"]).await;
        db.run("INSERT INTO item VALUES (1, 'a')").await;
        db.run(statement).await;
        // Never silently, and not before what was fine.
        let mut seen = 0;
        let reading = async {
            loop {
                match reader.next(BatchLimit::default()).await {
                    Ok(batch) => seen += batch.transactions.len(),
                    Err(error) => break error,
                }
            }
        };
        let error = tokio::time::timeout(LONG, reading).await.expect("it was carried over in silence");
        assert_eq!(seen, 1, "{statement}");
        is(&error, code, "position");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_the_table_cannot_hold_is_refused() {
    let db = Db::new(TABLE).await;
    let mut scope = db.scope(&["item"]);
    let mut schema = db.schema("item").await;
    schema.fields.push(Field { name: "more".into(), ty: Type::Text, nullable: false });
    scope.collections[0].schema = Some(schema.clone().into());
    is(&refused(db.connector().open(&scope).await), Code::SchemaUnsupported, "no column \"more\"");
    schema.fields.pop();
    schema.fields[1].ty = Type::Uuid;
    scope.collections[0].schema = Some(schema.into());
    is(&refused(db.connector().open(&scope).await), Code::SchemaUnsupported, "is of type text");
}

/// What a reader says of everything up to an error, and the error.
async fn until_error(reader: &mut dyn Reader) -> (usize, crate::runtime::error::Error) {
    let mut seen = 0;
    let reading = async {
        loop {
            match reader.next(BatchLimit::default()).await {
                Ok(batch) => seen += batch.transactions.len(),
                Err(error) => break error,
            }
        }
    };
    let error = tokio::time::timeout(LONG, reading).await.expect("it was carried over in silence");
    (seen, error)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_over_a_columns_limit_is_refused_alone() {
    let db = Db::new("CREATE TABLE item (id int PRIMARY KEY, v varchar(3), n numeric(4, 2), s smallint)").await;
    let platform = db.open(&["item"]).await;
    let schema = db.schema("item").await;
    let mut rows = platform.rows().await.unwrap();
    let whole =
        |v: &str, n: &str, s| vec![Value::Int(1), Value::text(v), Value::Decimal(n.parse().unwrap()), Value::Int(s)];
    for (row, words) in [
        (whole("four", "1", 1), "too long"),
        (whole("abc", "123.4", 1), "\"n\" (numeric)"),
        (whole("abc", "1.234", 1), "\"n\" (numeric)"),
        (whole("abc", "1", 40_000), "too large"),
    ] {
        let error = refused(rows.norm(0, &super::sink::version(&schema, 1, &row, false)));
        is(&error, Code::ValueRefused, words);
        assert_eq!(error.remedy(), crate::runtime::error::Remedy::Park);
    }
    let fits = super::sink::version(&schema, 1, &whole("abc", "12.34", 4), false);
    assert_eq!(super::sink::apply(&mut *rows, vec![fits], Act::Write).await, [Written::Done]);
}

/// value-3
#[test]
fn a_clock_ten_minutes_off_is_a_finding_either_way() {
    let now = 1_700_000_000_000;
    let told = |server| super::super::client::check::clock(server, now).map(|f| (f.code, f.fatal, f.text));
    let (code, fatal, text) = told(now + 600_000).unwrap();
    assert!(code == "clock_suspect" && !fatal && text.contains("600000 ms ahead of") && text.contains("NTP"), "{text}");
    assert!(told(now - 600_000).unwrap().2.contains("600000 ms behind"));
    assert_eq!(told(now + 900), None);
}

/// value-3
#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_clock_is_ten_minutes_off_is_told_by_doctor_and_read_as_it_says() {
    for (off_s, words) in [(600, "ahead of"), (-600, "behind")] {
        let server = Server::start_with_clock(off_s);
        let connector = platform::open(server.settings("postgres"), "here").unwrap();
        let findings = connector.check(None).await.unwrap();
        let told = findings.iter().find(|f| f.code == "clock_suspect").unwrap_or_else(|| panic!("{findings:?}"));
        assert!(!told.fatal && told.text.contains(words) && told.text.contains("NTP"), "{told:?}");
        let sql = session(server.settings("postgres")).await;
        sql.batch_execute("CREATE TABLE public.item (id int PRIMARY KEY, v text)").await.unwrap();
        let scope = Scope { dataset: "d".into(), collections: vec![Db::place("item")] };
        let platform = log(connector.open(&scope).await.unwrap());
        let mut reader = platform.reader(platform.position().await.unwrap()).await.unwrap();
        sql.batch_execute("INSERT INTO public.item VALUES (1, 'a')").await.unwrap();
        let (found, _) = read_until(&mut *reader, |t| !t.is_empty()).await;
        let now_ms = SystemClock.now_ms();
        let stamped_ms = found[0].time_ms;
        assert!(stamped_ms.abs_diff(now_ms.saturating_add_signed(off_s * 1000)) < 60_000, "{stamped_ms} at {now_ms}");
        // What the dataset makes of it: a time of the future is taken as now, and every write comes after
        // the version it changes, so an hour that is wrong loses no edit.
        let before = Hlc::from_ms(now_ms + 200);
        let minted = crate::event::version::write_time(before, stamped_ms, now_ms);
        assert!(minted > before && minted <= Hlc::from_ms(now_ms + 500), "{minted:?}");
    }
}

/// sink-1: what the server has no room for is not written by halves, and is written whole when there is room.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_disk_is_full_is_told_and_keeps_nothing_of_the_batch() {
    let db = Db::on(Box::leak(Box::new(Server::start_with_small_disk())), TABLE).await;
    let platform = db.open(&["item"]).await;
    let schema = db.schema("item").await;
    let many = || -> Vec<Canonical> {
        let row = |id: u64| vec![Value::Int(id.cast_signed()), Value::text(&"x".repeat(1_000))];
        (1..=500).map(|id| super::sink::version(&schema, id, &row(id), false)).collect()
    };
    let full = format!("{}/full", db.server.folder);
    let held = "SELECT (SELECT count(*) FROM public.item) || ' ' || (SELECT count(*) FROM driftless.ledger)";
    let mut rows = platform.rows().await.unwrap();
    std::fs::write(&full, "").unwrap();
    let error = super::sink::try_apply(&mut *rows, many(), Act::Write).await.unwrap_err();
    is(&error, Code::DiskFull, "make room there");
    is(&error, Code::DiskFull, "53100");
    assert_eq!(error.remedy(), crate::runtime::error::Remedy::Halt);
    assert_eq!(db.sql.text(held).await.unwrap(), "0 0");
    std::fs::remove_file(&full).unwrap();
    let mut rows = platform.rows().await.unwrap();
    assert_eq!(super::sink::apply(&mut *rows, many(), Act::Write).await, vec![Written::Done; 500]);
    assert_eq!(db.sql.text(held).await.unwrap(), "500 500");
}

/// read-3
#[tokio::test(flavor = "multi_thread")]
async fn a_spool_without_room_stops_the_reader_and_the_transaction_is_read_whole_later() {
    let db = Db::new(TABLE).await;
    let mut settings = db.settings.clone();
    settings["spool-bytes"] = 10_000.into();
    settings["spool-dir"] = "/proc/driftless-has-no-room".into();
    let open = async |settings| {
        let connector = platform::open(settings, "here").unwrap();
        log(connector.open(&db.scope(&["item"])).await.unwrap())
    };
    let full = open(settings.clone()).await;
    let from = full.position().await.unwrap();
    let mut reader = full.reader(from).await.unwrap();
    db.run("INSERT INTO item VALUES (0, 'before')").await;
    db.run("INSERT INTO item SELECT i, repeat('x', 100) FROM generate_series(1, 500) i").await;
    let (seen, error) = until_error(&mut *reader).await;
    assert_eq!(seen, 1, "what was whole came first");
    is(&error, Code::DiskFull, "make room, or set spool-dir");
    drop(reader);
    settings["spool-dir"] = std::env::temp_dir().display().to_string().into();
    let again = open(settings).await;
    let opening = async {
        loop {
            match again.reader(from).await {
                Ok(reader) => return reader,
                Err(error) => assert_eq!(error.code, Code::StoreBusy, "{error:?}"),
            }
        }
    };
    let mut reader = tokio::time::timeout(LONG, opening).await.unwrap();
    assert_eq!(read(&mut *reader, 501).await.len(), 501);
}

#[tokio::test(flavor = "multi_thread")]
async fn remove_takes_away_what_was_made_and_nothing_else() {
    let db = Db::new("CREATE TABLE item (id int PRIMARY KEY, v text); INSERT INTO item VALUES (1, 'a')").await;
    let (_, reader) = db.reading(&["item"]).await;
    // A slot in use cannot be dropped: that is told.
    let findings = db.connector().remove(&db.scope(&["item"])).await.unwrap();
    assert!(findings.iter().any(|f| f.code == "store_busy"), "{findings:?}");
    drop(reader);
    let slots = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'driftless_{}'", db.dataset);
    let removing = async {
        while db.sql.text(&slots).await.unwrap() != "0" {
            db.connector().remove(&db.scope(&["item"])).await.unwrap();
        }
    };
    tokio::time::timeout(LONG, removing).await.unwrap();
    assert_eq!(db.connector().remove(&db.scope(&["item"])).await.unwrap(), []);
    let left = "SELECT (SELECT count(*) FROM pg_publication) || ' ' || (SELECT count(*) FROM pg_namespace WHERE nspname = 'driftless') || ' ' || (SELECT count(*) FROM public.item)";
    assert_eq!(db.sql.text(left).await.unwrap(), "0 0 1");
}
