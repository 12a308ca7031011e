//! What capture needs at the server: publication, slot, and the memory of which server it was. Made
//! when allowed, compared otherwise; taken away again by `remove`.

use super::super::config::Checked;
use super::super::failure;
use super::super::position::{read_lsn, write_lsn};
use super::super::reader::changes::Tables;
use super::super::wire::connection::Connection;
use super::{Session, literal, quoted};
use crate::connectors::contract::Finding;
use crate::event::Position;
use crate::runtime::error::{Code, Error, Result};

/// Which log this is (read-6).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    /// The cluster's number.
    pub system: String,
    /// Which of its histories.
    pub timeline: String,
}

/// A slot as it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    /// Everything below may be gone.
    pub confirmed: u64,
}

/// The dataset's names and settings, for all that follows.
pub(crate) struct Setup<'a> {
    /// Settings of the platform.
    pub config: &'a Checked,
    /// The dataset.
    pub dataset: &'a str,
}

impl Setup<'_> {
    fn wrong(&self, code: Code, text: impl Into<String>) -> Error {
        Error::new(code, text).at("dataset", self.dataset).at("server", &self.config.host)
    }

    /// Sees to it that publication and slot are there and are the ones known; returns the slot.
    pub(crate) async fn capture(&self, session: &Session, tables: &Tables, identity: &Identity) -> Result<Slot> {
        let level = session.text("SHOW wal_level").await?;
        if level != "logical" {
            let text =
                format!("wal_level is {level}; set wal_level = logical in postgresql.conf and restart the server");
            return Err(self.wrong(Code::SourceSettings, text));
        }
        self.published(session, &tables.published()).await?;
        self.publication(session, tables).await?;
        let known = self.known(session).await?;
        if let Some((before, _)) = known.as_ref().filter(|(before, _)| before != identity) {
            let text = format!(
                "this is not the server the work began with: system {} timeline {}, it was system {} timeline {}; \
                 point the platform to the right server; if it is meant, stop the node, `driftless remove --dataset D --platform P`, start it again: the platform is compared anew",
                identity.system, identity.timeline, before.system, before.timeline
            );
            return Err(self.wrong(Code::SourceIdentity, text));
        }
        let name = self.config.slot_of(self.dataset);
        let slot = match (self.slot(session, &name).await?, &known) {
            (Some(slot), _) => slot,
            // A new slot would skip what was committed since the old one was lost.
            (None, Some(_)) => return Err(self.slot_gone(&name)),
            (None, None) => self.create_slot(session, &name).await?,
        };
        if known.is_none() {
            let statement = format!(
                "INSERT INTO {}.source (dataset, system, timeline, slot) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
                quoted(&self.config.ledger_schema)
            );
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                [&self.dataset, &identity.system, &identity.timeline, &name];
            session.execute(&statement, &values).await.map_err(failure::of)?;
        }
        self.remember(session, tables).await?;
        Ok(slot)
    }

    /// Whether a reader may begin behind `from` (read-6). Nothing is ever guessed over.
    pub(crate) async fn admits(&self, session: &Session, slot: &Slot, from: Position) -> Result<()> {
        let now = read_lsn(&session.text("SELECT pg_current_wal_insert_lsn()").await?)?;
        // A transaction read in part must come again as a whole.
        let needed = if from.ordinal == u64::MAX { from.commit } else { from.commit.saturating_sub(1) };
        if slot.confirmed > needed {
            let text = format!(
                "slot \"{}\" begins at {}, behind the last checkpoint {}: it was made anew, or somebody else has moved it, and what lies between is lost; stop the node, `driftless remove --dataset D --platform P`, start it again: the platform is compared anew",
                self.config.slot_of(self.dataset),
                write_lsn(slot.confirmed),
                write_lsn(from.commit)
            );
            return Err(self.wrong(Code::SourceIdentity, text));
        }
        if from.commit > now {
            let text = format!(
                "the server's log ends at {}, before the last checkpoint {}: it was restored from a copy, or a standby took over without everything; stop the node, `driftless remove --dataset D --platform P`, start it again: the platform is compared anew",
                write_lsn(now),
                write_lsn(from.commit)
            );
            return Err(self.wrong(Code::SourceIdentity, text));
        }
        Ok(())
    }

    async fn known(&self, session: &Session) -> Result<Option<(Identity, String)>> {
        let statement = format!(
            "SELECT system, timeline, slot FROM {}.source WHERE dataset = $1",
            quoted(&self.config.ledger_schema)
        );
        let row = session.query_opt(&statement, &[&self.dataset]).await.map_err(failure::of)?;
        Ok(row.map(|row| (Identity { system: row.get(0), timeline: row.get(1) }, row.get(2))))
    }

    async fn slot(&self, session: &Session, name: &str) -> Result<Option<Slot>> {
        let statement = "SELECT coalesce(plugin::text, ''), coalesce(database::text, ''), coalesce(wal_status, ''),
                         coalesce(confirmed_flush_lsn, '0/0')::text, database = current_database()
                         FROM pg_replication_slots WHERE slot_name = $1";
        let Some(row) = session.query_opt(statement, &[&name]).await.map_err(failure::of)? else { return Ok(None) };
        let (plugin, database, status): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        if plugin != "pgoutput" || row.get::<_, Option<bool>>(4) != Some(true) {
            let text = format!(
                "slot \"{name}\" exists for something else (plugin {plugin}, database {database}); choose another `slot`"
            );
            return Err(self.wrong(Code::SourceSettings, text));
        }
        if status == "lost" {
            return Err(self.slot_gone(name));
        }
        Ok(Some(Slot { confirmed: read_lsn(row.get(3))? }))
    }

    fn slot_gone(&self, name: &str) -> Error {
        let text = format!(
            "slot \"{name}\" is gone, or the server has removed log it needed (max_slot_wal_keep_size): what was committed since cannot be read; stop the node, `driftless remove --dataset D --platform P`, start it again: the platform is compared anew"
        );
        self.wrong(Code::SourceIdentity, text)
    }

    async fn create_slot(&self, session: &Session, name: &str) -> Result<Slot> {
        if !self.config.create {
            let text = format!(
                "slot \"{name}\" is missing and `create` is false; run SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')"
            );
            return Err(self.wrong(Code::SourceSettings, text));
        }
        let statement = format!("SELECT lsn FROM pg_create_logical_replication_slot({}, 'pgoutput')", literal(name));
        Ok(Slot { confirmed: read_lsn(&session.text(&statement).await?)? })
    }

    /// Makes or completes the publication: all tables of the dataset, the ledger and observed edits.
    async fn publication(&self, session: &Session, tables: &Tables) -> Result<()> {
        let name = self.config.publication_of(self.dataset);
        let mut wanted = tables.published();
        let shown = |list: &[(String, String)]| {
            list.iter().map(|(s, t)| format!("{}.{}", quoted(s), quoted(t))).collect::<Vec<_>>().join(", ")
        };
        let found = session
            .query_opt(
                "SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot FROM pg_publication WHERE pubname = $1",
                &[&name],
            )
            .await
            .map_err(failure::of)?;
        let create = format!(
            "CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)",
            quoted(&name),
            shown(&wanted)
        );
        let Some(found) = found else {
            if !self.config.create {
                return Err(self.wrong(
                    Code::SourceSettings,
                    format!("the publication is missing and `create` is false; run {create}"),
                ));
            }
            return session.batch_execute(&create).await.map_err(failure::of);
        };
        let partitioned = tables.list.iter().any(|c| c.table.kind == b'p');
        if !found.get::<_, bool>(0) || partitioned && !found.get::<_, bool>(1) {
            let text = format!(
                "publication \"{name}\" leaves changes out; run ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)",
                quoted(&name)
            );
            return Err(self.wrong(Code::SourceSettings, text));
        }
        let rows = session
            .query("SELECT schemaname::text, tablename::text FROM pg_publication_tables WHERE pubname = $1", &[&name])
            .await
            .map_err(failure::of)?;
        let there: Vec<(String, String)> = rows.iter().map(|r| (r.get(0), r.get(1))).collect();
        wanted.retain(|table| !there.contains(table));
        if !wanted.is_empty() {
            let add = format!("ALTER PUBLICATION {} ADD TABLE {}", quoted(&name), shown(&wanted));
            if !self.config.create {
                let text = format!("publication \"{name}\" lacks tables and `create` is false; run {add}");
                return Err(self.wrong(Code::SourceSettings, text));
            }
            session.batch_execute(&add).await.map_err(failure::of)?;
        }
        self.unfiltered(session, &name).await
    }

    /// Fails if a table that was published has been out of the publication since: its changes of that time
    /// are not in the log for us, and adding it again brings none of them back (read-6).
    pub(crate) async fn published(&self, session: &Session, wanted: &[(String, String)]) -> Result<()> {
        let name = self.config.publication_of(self.dataset);
        let statement = format!(
            "SELECT string_agg(p.relation, ', ') FROM {}.published p WHERE p.dataset = {} AND p.relation IN ({})
             AND NOT EXISTS (SELECT FROM ({}) m WHERE m.relation = p.relation AND m.membership = p.membership)",
            quoted(&self.config.ledger_schema),
            literal(self.dataset),
            named(wanted),
            memberships(&name)
        );
        let missing = session.text(&statement).await?;
        if missing.is_empty() {
            return Ok(());
        }
        let text = format!(
            "publication \"{name}\" has lost {missing} since the work began, or it was taken out and put back: what was \
             written there meanwhile cannot be read, even if it is put back; stop the node, `driftless remove --dataset D \
             --platform P`, start it again: the platform is compared anew"
        );
        Err(self.wrong(Code::SourceIdentity, text))
    }

    /// Takes note of what the publication has.
    async fn remember(&self, session: &Session, tables: &Tables) -> Result<()> {
        let (s, dataset, wanted) =
            (quoted(&self.config.ledger_schema), literal(self.dataset), named(&tables.published()));
        let statement = format!(
            "DELETE FROM {s}.published WHERE dataset = {dataset} AND relation NOT IN ({wanted});
             INSERT INTO {s}.published (dataset, relation, membership) SELECT {dataset}, m.relation, m.membership
             FROM ({}) m WHERE m.relation IN ({wanted}) ON CONFLICT DO NOTHING",
            memberships(&self.config.publication_of(self.dataset)),
        );
        session.batch_execute(&statement).await.map_err(failure::of)
    }

    /// A row filter of the publication would hide changes without a trace.
    async fn unfiltered(&self, session: &Session, name: &str) -> Result<()> {
        let statement = format!(
            "SELECT CASE WHEN current_setting('server_version_num')::int < 150000 THEN 0 ELSE
             (SELECT count(*) FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
              WHERE p.pubname = {} AND to_jsonb(r)->>'prqual' IS NOT NULL) END",
            literal(name)
        );
        if session.text(&statement).await? == "0" {
            return Ok(());
        }
        let text = format!(
            "publication \"{name}\" has row filters: changes would be missing; remove the filters, or give the dataset its own `publication`"
        );
        Err(self.wrong(Code::SourceSettings, text))
    }

    /// Takes away what was made for the dataset. Data stays; what cannot be removed is a finding.
    pub(crate) async fn remove(&self, session: &Session, collections: &[String]) -> Result<Vec<Finding>> {
        let s = quoted(&self.config.ledger_schema);
        let (slot, publication) = (self.config.slot_of(self.dataset), self.config.publication_of(self.dataset));
        let names: Vec<String> = collections.iter().map(|c| literal(c)).collect();
        let names = if names.is_empty() { "NULL".into() } else { names.join(", ") };
        let steps = [
            // The server ends the stream of a node that has just stopped a moment later.
            format!(
                "DO $$ BEGIN FOR i IN 1..100 LOOP
                   EXIT WHEN NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = {} AND active);
                   PERFORM pg_sleep(0.1); END LOOP; END $$",
                literal(&slot)
            ),
            format!("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {}", literal(&slot)),
            format!("DROP PUBLICATION IF EXISTS {}", quoted(&publication)),
            format!(
                "DO $$ BEGIN IF to_regclass({l}) IS NOT NULL THEN
                   DELETE FROM {s}.ledger WHERE collection IN ({names}); DELETE FROM {s}.observed WHERE collection IN ({names});
                   DELETE FROM {s}.parked WHERE collection IN ({names}); DELETE FROM {s}.source WHERE dataset = {d};
                   IF to_regclass({p}) IS NOT NULL THEN DELETE FROM {s}.published WHERE dataset = {d}; END IF;
                   IF NOT EXISTS (SELECT FROM {s}.ledger) AND NOT EXISTS (SELECT FROM {s}.source) THEN
                     DROP TABLE IF EXISTS {s}.published; DROP TABLE {s}.ledger, {s}.observed, {s}.parked, {s}.source; END IF; END IF; END $$",
                l = literal(&format!("{s}.ledger")),
                p = literal(&format!("{s}.published")),
                d = literal(self.dataset),
            ),
            // The marks of an exclusive destination, then the schema, if nothing is left in it.
            format!(
                "DO $$ BEGIN IF to_regclass({a}) IS NOT NULL THEN
                   DELETE FROM {s}.applied WHERE collection IN ({names});
                   IF NOT EXISTS (SELECT FROM {s}.applied) THEN DROP TABLE {s}.applied; END IF; END IF;
                 IF to_regnamespace({n}) IS NOT NULL
                   AND NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace({n})) THEN
                   DROP SCHEMA {s}; END IF; END $$",
                a = literal(&format!("{s}.applied")),
                n = literal(&s),
            ),
        ];
        let mut findings = Vec::new();
        for step in steps {
            if let Err(e) = session.batch_execute(&step).await {
                let reason = failure::reason(&e);
                let code = failure::of(e).code.as_str();
                findings.push(Finding {
                    code,
                    fatal: false,
                    text: format!("could not be removed: {reason}; the statement was: {step}"),
                });
            }
        }
        Ok(findings)
    }
}

/// Tables as `memberships` names them, for a list in a statement.
fn named(tables: &[(String, String)]) -> String {
    tables.iter().map(|(schema, table)| literal(&format!("{schema}.{table}"))).collect::<Vec<_>>().join(", ")
}

/// The tables of a publication, each with the number of its membership: another one if it was taken out
/// and put back. A publication of all tables, or of whole schemas, has none but its own.
fn memberships(publication: &str) -> String {
    format!(
        "SELECT t.schemaname || '.' || t.tablename AS relation, coalesce(r.oid, p.oid) AS membership
         FROM pg_publication_tables t JOIN pg_publication p ON p.pubname = t.pubname
         JOIN pg_namespace n ON n.nspname = t.schemaname
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
         LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid WHERE t.pubname = {}",
        literal(publication)
    )
}

/// Asks a replication connection whose log this is.
pub(crate) async fn identify(connection: &mut Connection) -> Result<Identity> {
    let rows = connection.query("IDENTIFY_SYSTEM").await?;
    let mut cells = rows.into_iter().next().unwrap_or_default().into_iter();
    match (cells.next().flatten(), cells.next().flatten()) {
        (Some(system), Some(timeline)) => Ok(Identity { system, timeline }),
        _ => Err(Error::new(Code::Unexpected, "the server does not say who it is")),
    }
}
