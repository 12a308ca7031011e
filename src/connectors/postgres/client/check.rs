//! What `doctor` can know before anything runs: versions, settings, rights, replica identity.

use super::super::config::Checked;
use super::super::failure;
use super::super::reader::changes::no_identity;
use super::catalog::Table;
use super::{Session, literal};
use crate::connectors::contract::{Finding, Place};
use crate::runtime::clock::{Clock, SystemClock};
use crate::runtime::error::{Code, Error, Result};

/// An error as a finding that stops the work.
#[must_use]
pub(crate) fn of_error(error: &Error) -> Finding {
    let place: Vec<String> = error.at.iter().map(|(what, place)| format!("{what} {place}")).collect();
    let place = if place.is_empty() { String::new() } else { format!(" ({})", place.join(", ")) };
    Finding { code: error.code.as_str(), fatal: true, text: format!("{}{place}", error.doing) }
}

/// A table that is not there.
#[must_use]
pub(crate) fn missing(place: &Place) -> Finding {
    let text = format!(
        "collection {}: the table is not there, or the user may not see it; create it, or name it with on: {{ table: schema.name }}",
        place.name
    );
    Finding { code: Code::TableMissing.as_str(), fatal: true, text }
}

fn settings(fatal: bool, text: String) -> Finding {
    Finding { code: Code::SourceSettings.as_str(), fatal, text }
}

/// The server's version, settings and the user's rights.
pub(crate) async fn server(session: &Session) -> Result<Vec<Finding>> {
    let statement = "SELECT current_setting('server_version_num'), current_setting('wal_level'),
        current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots),
        current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_stat_replication),
        current_setting('track_commit_timestamp'), current_setting('max_slot_wal_keep_size'),
        (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user),
        (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
        current_setting('server_encoding'), has_database_privilege(current_database(), 'CREATE'), current_user::text, current_database()::text";
    let row = session.query_one(statement, &[]).await.map_err(failure::of)?;
    let text = |i: usize| row.get::<_, String>(i);
    let mut found = Vec::new();
    if text(0).parse().unwrap_or(0) < 140_000 {
        found.push(Finding {
            code: Code::ConfigUnsupported.as_str(),
            fatal: true,
            text: "the server is older than Postgres 14; upgrade it".into(),
        });
    }
    found.extend(log_settings(&row));
    let server_ms = session.text("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").await?;
    found.extend(clock(server_ms.parse().unwrap_or(0), SystemClock.now_ms()));
    let user = text(10);
    if row.get::<_, Option<bool>>(6) != Some(true) {
        let text = format!("user {user} may not replicate (needed to capture); run ALTER ROLE \"{user}\" REPLICATION");
        found.push(Finding { code: Code::SourceDenied.as_str(), fatal: true, text });
    }
    if row.get::<_, Option<bool>>(7) != Some(true)
        && session
            .batch_execute("SET session_replication_role = replica; RESET session_replication_role")
            .await
            .is_err()
    {
        let text = format!(
            "user {user} may not set session_replication_role: triggers and foreign keys act on applied rows; to change that run GRANT SET ON PARAMETER session_replication_role TO \"{user}\" (15 and later)"
        );
        found.push(Finding { code: Code::SourceDenied.as_str(), fatal: false, text });
    }
    if text(8) != "UTF8" {
        found.push(settings(true, format!("the database's encoding is {}; only UTF8 is supported", text(8))));
    }
    if !row.get::<_, bool>(9) {
        let text = format!(
            "user {user} may not create the ledger's schema and the publication; run GRANT CREATE ON DATABASE \"{}\" TO \"{user}\"",
            text(11)
        );
        found.push(Finding { code: Code::SourceDenied.as_str(), fatal: false, text });
    }
    Ok(found)
}

/// How far the server's clock may be away from this machine's before somebody is told.
const CLOCK_MAX_MS: u64 = 1_000;

/// Whether the server's clock tells another time than this machine's (value-3): last write wins by it.
#[must_use]
pub(crate) fn clock(server_ms: u64, now_ms: u64) -> Option<Finding> {
    let off_ms = server_ms.abs_diff(now_ms);
    let way = if server_ms > now_ms { "ahead of" } else { "behind" };
    let text = format!(
        "the server's clock is {off_ms} ms {way} this machine's: times of writes are wrong by as much, those of the future are \
         taken as now; set both by NTP"
    );
    (off_ms > CLOCK_MAX_MS).then_some(Finding { code: Code::ClockSuspect.as_str(), fatal: false, text })
}

/// The settings that capture depends on, from the row that `server` reads.
fn log_settings(row: &tokio_postgres::Row) -> Vec<Finding> {
    let text = |i: usize| row.get::<_, String>(i);
    let mut found = Vec::new();
    if text(1) != "logical" {
        found.push(settings(
            true,
            format!("wal_level is {}; set wal_level = logical and restart the server (needed to capture)", text(1)),
        ));
    }
    if row.get::<_, i64>(2) < 2 {
        found.push(settings(false, "fewer than 2 replication slots are free; raise max_replication_slots (a first copy takes one more for a moment)".into()));
    }
    if row.get::<_, i64>(3) < 2 {
        found.push(settings(false, "fewer than 2 senders are free; raise max_wal_senders".into()));
    }
    if text(4) != "on" {
        found.push(settings(false, "track_commit_timestamp is off: a first copy knows no times of rows, and bootstrap: latest-wins cannot compare them".into()));
    }
    if text(5) == "-1" {
        found.push(settings(false, "max_slot_wal_keep_size is unlimited: while driftless is away the server keeps its log until the disk is full; set a budget that fits the longest pause".into()));
    }
    found
}

/// A table's rights, identity and columns.
pub(crate) async fn table(session: &Session, table: &Table, config: &Checked) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    if table.identity == b'n' {
        found.push(of_error(&no_identity(&table.shown())));
    }
    let name = literal(&table.quoted());
    let rights = format!(
        "SELECT concat_ws(', ', VARIADIC ARRAY(SELECT r FROM unnest(ARRAY['SELECT','INSERT','UPDATE','DELETE']) r WHERE NOT has_table_privilege({name}, r)))"
    );
    let lacking = session.text(&rights).await?;
    if !lacking.is_empty() {
        let text = format!(
            "user {} lacks {lacking} on {}; run GRANT {lacking} ON {} TO \"{}\"",
            config.user,
            table.shown(),
            table.quoted(),
            config.user
        );
        found.push(Finding { code: Code::SourceDenied.as_str(), fatal: true, text });
    }
    let statement = format!(
        "SELECT string_agg(attname, ', ') FROM pg_attribute WHERE attrelid = {}::regclass AND attnum > 0 AND NOT attisdropped
         AND attnotnull AND NOT atthasdef AND attidentity = '' AND NOT attname = ANY(ARRAY[{}]::name[])",
        literal(&table.quoted()),
        table.schema.fields.iter().map(|f| literal(&f.name)).collect::<Vec<_>>().join(", ")
    );
    let unfilled = session.text(&statement).await?;
    if !unfilled.is_empty() {
        let text = format!(
            "{}: columns {unfilled} are NOT NULL, have no default and are not part of the dataset: rows of others cannot be inserted",
            table.shown()
        );
        found.push(Finding { code: Code::SchemaUnsupported.as_str(), fatal: false, text });
    }
    Ok(found)
}

/// A slot that is in danger.
pub(crate) async fn slot(session: &Session, name: &str) -> Result<Vec<Finding>> {
    let statement = format!("SELECT wal_status FROM pg_replication_slots WHERE slot_name = {}", literal(name));
    Ok(match session.text(&statement).await?.as_str() {
        "lost" => vec![Finding {
            code: Code::SourceIdentity.as_str(),
            fatal: true,
            text: format!(
                "slot \"{name}\" has lost log it needed; stop the node, `driftless remove --dataset D --platform P`, start it again: the platform is compared anew"
            ),
        }],
        "unreserved" => vec![settings(
            false,
            format!(
                "slot \"{name}\" is about to lose log it needs: let driftless catch up, or raise max_slot_wal_keep_size"
            ),
        )],
        _ => Vec::new(),
    })
}
