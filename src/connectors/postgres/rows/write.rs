//! Carries out a plan on locked rows, in one transaction: a handful of statements for the whole
//! batch. If one of them does not do exactly what was planned, the batch is undone and done again row
//! by row, so that one bad row costs only itself.

use super::super::client::catalog::Table;
use super::super::failure;
use super::super::position::write_lsn;
use super::super::reader::PREFIX;
use super::super::reader::changes::Collection;
use super::ledger;
use super::sql::Sent;
use super::views::Views;
use super::{Statements, key_values, read_rows, sent};
use crate::connectors::contract::{Act, Locked, Planned, Seen, Written};
use crate::event::{Canonical, Fp, Key, Position, Row, SchemaId, Value};
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use futures_util::future::{join, try_join4};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Statement, Transaction};

/// Keys under lock.
pub(crate) struct Batch<'a> {
    pub(super) transaction: Transaction<'a>,
    pub(super) statements: Arc<Statements>,
    pub(super) collection: Collection,
    pub(super) seen: Vec<Seen>,
    pub(super) index: HashMap<Key, usize>,
    pub(super) places: HashMap<usize, (String, u32)>,
    pub(super) position: Position,
    pub(super) replica: bool,
    /// All columns of the rows seen, where the schema has had several versions (read-10).
    pub(super) rows: HashMap<usize, Row>,
    pub(super) views: Option<Arc<Views>>,
}

type Parameter<'a> = &'a (dyn ToSql + Sync);
/// What one attempt found.
type Attempt = Result<Fit, tokio_postgres::Error>;

/// Whether every statement did exactly what was planned.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Fit {
    Exact,
    /// A row was not as locked.
    Moved,
    /// The server stores the row in another form than the dataset has it.
    Bent,
}

/// The planned versions that change something, by what they do to the table.
#[derive(Default)]
struct Work<'p> {
    insert: Vec<&'p Planned>,
    update: Vec<&'p Planned>,
    delete: Vec<&'p Planned>,
    /// Ledger rows; all of the above, and those whose content is right already.
    ledger: Vec<&'p Planned>,
}

impl<'p> Work<'p> {
    fn add(&mut self, planned: &'p Planned, present: bool) {
        self.ledger.push(planned);
        match (planned.act, present, planned.version.after.is_none()) {
            (Act::Adopt, ..) | (_, false, true) => {}
            (_, true, true) => self.delete.push(planned),
            (_, true, false) => self.update.push(planned),
            (_, false, false) => self.insert.push(planned),
        }
    }

    /// The same, with all present rows removed first: a way through unique constraints (sink-6).
    fn anew(&self) -> Work<'p> {
        Work {
            insert: self.update.iter().chain(&self.insert).copied().collect(),
            update: Vec::new(),
            delete: self.delete.iter().chain(&self.update).copied().collect(),
            ledger: self.ledger.clone(),
        }
    }
}

#[async_trait]
impl Locked for Batch<'_> {
    fn seen(&self, index: usize) -> Seen {
        self.seen.get(index).cloned().unwrap_or(Seen::Busy)
    }

    fn seen_as(&self, index: usize, schema: SchemaId) -> Fp {
        match (&self.views, self.seen.get(index)) {
            (Some(views), _) => views.fp(self.rows.get(&index), schema),
            (None, Some(Seen::Row { fp, .. })) => *fp,
            (None, _) => Fp::ABSENT,
        }
    }

    fn has_lost(&self, schema: SchemaId) -> bool {
        self.views.as_ref().is_some_and(|views| views.has_lost(schema))
    }

    fn position(&self) -> Position {
        self.position
    }

    async fn write(self: Box<Self>, plan: &[Planned]) -> Result<Vec<Written>> {
        let changing = |p: &Planned| !matches!(p.act, Act::Skip | Act::Defer);
        if !plan.iter().any(changing) {
            // Sink-1: a replay writes nothing, not even an empty transaction.
            return Ok(vec![Written::Done; plan.len()]);
        }
        let mut answers = vec![Written::Done; plan.len()];
        let mut work = Work::default();
        for (planned, answer) in plan.iter().zip(&mut answers) {
            match planned.act {
                Act::Write | Act::Adopt => match self.present(planned) {
                    Some(present) => work.add(planned, present),
                    None => *answer = Written::Dirty,
                },
                Act::Skip | Act::Defer | Act::Dirty | Act::Observe => {}
            }
        }
        // Together on their way; the server takes them one after the other.
        let (begun, attempt) = join(self.begin(), self.attempt(&work)).await;
        begun?;
        if !self.at_once(&work, attempt).await? {
            for (planned, answer) in plan.iter().zip(&mut answers) {
                if matches!(planned.act, Act::Write | Act::Adopt) && *answer == Written::Done {
                    *answer = self.alone(planned).await?;
                }
            }
        }
        self.aside(plan, &answers).await?;
        self.transaction.commit().await.map_err(failure::of)?;
        Ok(answers)
    }
}

impl Batch<'_> {
    /// Whether a row stood there under lock; `None` if it is not locked.
    fn present(&self, planned: &Planned) -> Option<bool> {
        match self.seen.get(*self.index.get(&planned.version.key)?)? {
            Seen::Busy | Seen::Unreadable(_) => None,
            Seen::Row { fp, .. } => Some(*fp != Fp::ABSENT),
        }
    }

    async fn begin(&self) -> Result<()> {
        // An ordinary role meets violated constraints at their statement, not at the commit (sink-5).
        let constraints = if self.replica { "" } else { "SET CONSTRAINTS ALL IMMEDIATE;" };
        let statement =
            format!("{constraints} SELECT pg_logical_emit_message(true, '{PREFIX}', 'sink'); SAVEPOINT batch");
        self.transaction.batch_execute(&statement).await.map_err(failure::of)
    }

    /// The whole batch, once tried; false if it was undone.
    async fn at_once(&self, work: &Work<'_>, attempt: Attempt) -> Result<bool> {
        if self.settled(attempt, "batch")? == Written::Done {
            return Ok(true);
        }
        let attempt = self.undo("batch").await.and(Ok(self.attempt(&work.anew()).await))?;
        if self.settled(attempt, "batch")? == Written::Done {
            return Ok(true);
        }
        self.undo("batch").await?;
        Ok(false)
    }

    /// One version by itself.
    async fn alone(&self, planned: &Planned) -> Result<Written> {
        let mut work = Work::default();
        work.add(planned, self.present(planned).unwrap_or(false));
        self.transaction.batch_execute("SAVEPOINT row").await.map_err(failure::of)?;
        let attempt = self.attempt(&work).await;
        let verdict = self.settled(attempt, "row")?;
        if verdict != Written::Done {
            self.undo("row").await?;
        }
        self.transaction.batch_execute("RELEASE SAVEPOINT row").await.map_err(failure::of)?;
        Ok(verdict)
    }

    async fn undo(&self, savepoint: &str) -> Result<()> {
        self.transaction.batch_execute(&format!("ROLLBACK TO SAVEPOINT {savepoint}")).await.map_err(failure::of)
    }

    /// Ledger first, then deletions, updates, insertions (sink-6).
    async fn attempt(&self, work: &Work<'_>) -> Attempt {
        if work.ledger.is_empty() {
            return Ok(Fit::Exact);
        }
        let s = &self.statements;
        // On their way together; what does not fit undoes them all.
        let (ledger, deleted, updated, inserted) = try_join4(
            self.write_ledger(&work.ledger),
            self.remove_rows(&work.delete),
            self.write_rows(&s.update, &work.update, true),
            self.write_rows(&s.insert, &work.insert, false),
        )
        .await?;
        let wanted = [&work.ledger, &work.delete, &work.update, &work.insert].map(|planned| count(planned));
        if [ledger, deleted, updated, inserted] != wanted {
            return Ok(Fit::Moved);
        }
        if !s.check {
            return Ok(Fit::Exact);
        }
        let written: Vec<&Planned> = work.update.iter().chain(&work.insert).copied().collect();
        self.read_back(&written).await
    }

    /// What an attempt means for its versions; an error that is not about the rows is passed on.
    fn settled(&self, attempt: Attempt, what: &str) -> Result<Written> {
        let error = match attempt {
            Ok(Fit::Exact) => return Ok(Written::Done),
            Ok(Fit::Moved) => return Ok(Written::Dirty),
            Ok(Fit::Bent) => {
                return Ok(Written::Refused(
                    "the server would store a value in another form than the dataset has it".into(),
                ));
            }
            Err(error) => error,
        };
        let reason = failure::reason(&error);
        // A value that could not be encoded never reached the server.
        if error.as_db_error().is_none() && !error.is_closed() && reason.contains("serializing") {
            return Ok(Written::Refused(reason));
        }
        let state = error.code().map(|c| c.code().to_owned()).unwrap_or_default();
        match failure::code(&state).0 {
            // The lock of a concurrent insert: nothing was changed, the row is not as locked.
            _ if state == "55P03" => Ok(Written::Dirty),
            Code::ConstraintViolated | Code::ValueRefused => Ok(Written::Refused(reason)),
            _ => Err(failure::of(error).at("step", what)),
        }
    }

    async fn write_ledger(&self, planned: &[&Planned]) -> Result<u64, tokio_postgres::Error> {
        let versions: Vec<&Canonical> = planned.iter().map(|p| &*p.version).collect();
        let partition = |v: &&Canonical| ledger::partition(&v.key.0, self.collection.partitions);
        let partitions: Vec<i32> = versions.iter().map(partition).collect();
        let keys: Vec<&[u8]> = versions.iter().map(|v| v.key.0.as_ref()).collect();
        let seqs: Vec<i64> = versions.iter().map(|v| v.seq.cast_signed()).collect();
        let vvs: Vec<Vec<u8>> = versions.iter().map(|v| ledger::write_vv(&v.vv)).collect();
        let fps: Vec<&[u8]> = planned.iter().map(|p| &p.fp.0[..]).collect();
        let times: Vec<i64> = versions.iter().map(|v| v.ts.0.cast_signed()).collect();
        let tombs: Vec<bool> = versions.iter().map(|v| v.tomb).collect();
        let given = |id: SchemaId| self.views.as_ref().and_then(|views| Some(views.of(id).ok()?.given)).unwrap_or(id);
        let schemas: Vec<i64> = versions.iter().map(|v| i64::from(given(v.schema).0)).collect();
        let name = &self.collection.ledger_name;
        let parameters: [Parameter<'_>; 9] = [name, &partitions, &keys, &seqs, &vvs, &fps, &times, &tombs, &schemas];
        self.transaction.execute(&self.statements.ledger_write, &parameters).await
    }

    /// Places and parts of locked rows.
    fn placed(&self, planned: &[&Planned]) -> (Vec<&str>, Vec<u32>) {
        let place = |p: &&Planned| self.index.get(&p.version.key).and_then(|i| self.places.get(i));
        // A row without a place is not found, which is what it is: not as locked.
        planned.iter().map(|p| place(p).map_or(("(0,0)", 0), |(place, part)| (place.as_str(), *part))).unzip()
    }

    async fn write_rows(
        &self,
        statement: &Statement,
        planned: &[&Planned],
        locked: bool,
    ) -> Result<u64, tokio_postgres::Error> {
        if planned.is_empty() {
            return Ok(0);
        }
        let Some(views) = &self.views else {
            let column = |i: usize| planned.iter().map(|p| field(p, i)).collect();
            return self.write_as(&self.collection.table, column, statement, planned, locked).await;
        };
        let mut by: BTreeMap<SchemaId, Vec<&Planned>> = BTreeMap::new();
        planned.iter().for_each(|p| by.entry(p.version.schema).or_default().push(p));
        let mut done = 0;
        for (schema, planned) in by {
            // What `norm` was asked about is known.
            let Ok(view) = views.of(schema) else { continue };
            let column = |i: usize| planned.iter().map(|p| view.field(&p.version, i)).collect();
            let statement = views.statement(&self.transaction, schema, locked).await?;
            done += self.write_as(&view.table, column, &statement, &planned, locked).await?;
        }
        Ok(done)
    }

    async fn write_as<'p>(
        &self,
        table: &Table,
        column: impl Fn(usize) -> Vec<&'p Value>,
        statement: &Statement,
        planned: &[&Planned],
        locked: bool,
    ) -> Result<u64, tokio_postgres::Error> {
        let sent = |(i, c)| Sent::new(c, column(i).into_iter());
        let sent: Vec<Sent<'_>> = table.field_columns().enumerate().map(sent).collect();
        let (places, parts) = self.placed(planned);
        let mut parameters: Vec<Parameter<'_>> = if locked { vec![&places, &parts] } else { Vec::new() };
        parameters.extend(sent.iter().map(|s| s as Parameter<'_>));
        self.transaction.execute(statement, &parameters).await
    }

    async fn remove_rows(&self, planned: &[&Planned]) -> Result<u64, tokio_postgres::Error> {
        if planned.is_empty() {
            return Ok(0);
        }
        let (places, parts) = self.placed(planned);
        self.transaction.execute(&self.statements.delete, &[&places, &parts]).await
    }

    /// Compares what was written with what was meant, where only the server knows its text form.
    async fn read_back(&self, planned: &[&Planned]) -> Attempt {
        let keys: Vec<Key> = planned.iter().map(|p| p.version.key.clone()).collect();
        let Ok(values) = key_values(&self.collection, &keys) else { return Ok(Fit::Bent) };
        let sent = sent(&self.collection, &values);
        let parameters: Vec<Parameter<'_>> = sent.iter().map(|s| s as Parameter<'_>).collect();
        let answer = self.transaction.query(&self.statements.read, &parameters).await?;
        let Ok(rows) = read_rows(&self.collection, &answer) else { return Ok(Fit::Bent) };
        let schema = &self.collection.table.schema;
        let fp = |row: &Row, p: &Planned| match &self.views {
            Some(views) => views.fp(Some(row), p.version.schema),
            None => Fp::of_row(schema, row),
        };
        let same = |(i, p): (usize, &&Planned)| matches!(rows.get(&i), Some(Ok(row)) if fp(row, p) == p.fp);
        Ok(if planned.iter().enumerate().all(same) { Fit::Exact } else { Fit::Bent })
    }

    /// Remembers versions that wait (sink-4), shows unlogged edits to the reader (sink-8), and
    /// forgets what waited and is done.
    async fn aside(&self, plan: &[Planned], answers: &[Written]) -> Result<()> {
        let of = |act: Act| plan.iter().filter(move |p| p.act == act).collect::<Vec<_>>();
        let name = &self.collection.ledger_name;
        let parked = of(Act::Dirty);
        if !parked.is_empty() {
            let keys: Vec<&[u8]> = parked.iter().map(|p| p.version.key.0.as_ref()).collect();
            let seqs: Vec<i64> = parked.iter().map(|p| p.version.seq.cast_signed()).collect();
            let seen = |p: &&Planned| self.index.get(&p.version.key).and_then(|i| self.seen.get(*i));
            let fp = |p: &&Planned| match seen(p) {
                Some(Seen::Row { fp, .. }) => fp.0.to_vec(),
                _ => Fp::ABSENT.0.to_vec(),
            };
            let fps: Vec<Vec<u8>> = parked.iter().map(fp).collect();
            let position = write_lsn(self.position.commit);
            let parameters: [Parameter<'_>; 5] = [name, &keys, &seqs, &fps, &position];
            self.transaction.execute(&self.statements.park, &parameters).await.map_err(failure::of)?;
        }
        self.observe(&of(Act::Observe)).await?;
        let done = |(p, a): &(&Planned, &Written)| matches!(p.act, Act::Write | Act::Adopt) && **a == Written::Done;
        let done: Vec<&[u8]> = plan.iter().zip(answers).filter(done).map(|(p, _)| p.version.key.0.as_ref()).collect();
        if !done.is_empty() {
            self.transaction.execute(&self.statements.unpark, &[name, &done]).await.map_err(failure::of)?;
        }
        Ok(())
    }

    /// The row passes through `observed` and is taken out again: the log is where it is read.
    async fn observe(&self, planned: &[&Planned]) -> Result<()> {
        if planned.is_empty() {
            return Ok(());
        }
        let keys: Vec<Key> = planned.iter().map(|p| p.version.key.clone()).collect();
        if keys.iter().any(|k| !self.index.contains_key(k)) {
            return Err(Error::new(Code::Unexpected, "a key is to be observed without its lock"));
        }
        let bytes: Vec<&[u8]> = keys.iter().map(|k| k.0.as_ref()).collect();
        let values = key_values(&self.collection, &keys)?;
        let sent = sent(&self.collection, &values);
        let name = &self.collection.ledger_name;
        let mut parameters: Vec<Parameter<'_>> = vec![name, &bytes];
        parameters.extend(sent.iter().map(|s| s as Parameter<'_>));
        self.transaction.execute(&self.statements.observe, &parameters).await.map_err(failure::of)?;
        self.transaction.execute(&self.statements.observed_gone, &[name, &bytes]).await.map_err(failure::of)?;
        Ok(())
    }
}

/// A field of a version's content.
fn field(planned: &Planned, index: usize) -> &Value {
    planned.version.after.as_ref().and_then(|row| row.get(index)).unwrap_or(&Value::Null)
}

fn count(planned: &[&Planned]) -> u64 {
    planned.len() as u64
}
