//! Writing through the codec: batches are encoded and given to the log at once. Only a batch with a
//! payload that is too large for a message waits, for its chunks to be there first (claim-3), and what is
//! given behind it waits too, so that the order of a session holds.

use super::{Shared, base_of};
use crate::runtime::error::{Code, Error, Result};
use crate::topic::{Appending, Message, Partition, Raw, Session, Typed, blob};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::oneshot;

pub(super) struct CodedSession {
    inner: Arc<Inner>,
}

struct Inner {
    session: Arc<dyn Session<Raw>>,
    shared: Arc<Shared>,
    /// A batch could not be encoded or stored: later ones must not land without it (claim-2).
    dead: AtomicBool,
    /// Batches behind one whose chunks are on their way; `None` if there is none.
    waiting: Mutex<Option<VecDeque<Job>>>,
}

struct Job {
    at: Partition,
    messages: Vec<Message<Raw>>,
    answer: oneshot::Sender<Appending>,
}

impl CodedSession {
    pub(super) fn new(session: Arc<dyn Session<Raw>>, shared: Arc<Shared>) -> Self {
        let (dead, waiting) = (AtomicBool::new(false), Mutex::new(None));
        CodedSession { inner: Arc::new(Inner { session, shared, dead, waiting }) }
    }
}

impl Session<Typed> for CodedSession {
    fn append(&self, at: &Partition, messages: Vec<Message<Typed>>) -> Appending {
        if self.inner.dead.load(Ordering::Acquire) {
            return failing(behind_a_failure(at));
        }
        let encoded = self.inner.shared.encode(at, messages).and_then(|messages| {
            blob::check(&messages, self.inner.shared.limits).map(|()| messages).map_err(|e| e.at("partition", at))
        });
        match encoded {
            Ok(messages) => self.give(at, messages),
            Err(error) => {
                self.inner.dead.store(true, Ordering::Release);
                failing(error)
            }
        }
    }
}

impl CodedSession {
    fn give(&self, at: &Partition, messages: Vec<Message<Raw>>) -> Appending {
        let mut waiting = self.inner.waiting.lock();
        if waiting.is_none() && !self.inner.is_large(&messages) {
            return self.inner.session.append(at, messages);
        }
        let (answer, given) = oneshot::channel();
        let job = Job { at: at.clone(), messages, answer };
        match waiting.as_mut() {
            Some(jobs) => jobs.push_back(job),
            None => {
                *waiting = Some([job].into());
                let inner = self.inner.clone();
                #[expect(clippy::disallowed_methods, reason = "an append lands although nobody waits for it")]
                tokio::spawn(async move { inner.work_off().await });
            }
        }
        let at = at.clone();
        Box::pin(async move {
            match given.await {
                Ok(appending) => appending.await,
                Err(_) => Err(behind_a_failure(&at)),
            }
        })
    }
}

impl Inner {
    fn is_large(&self, messages: &[Message<Raw>]) -> bool {
        let inline = self.shared.limits.inline;
        messages.iter().any(|message| message.payload.as_ref().is_some_and(|payload| Bytes::len(payload) > inline))
    }

    /// Gives what waits to the log, in order.
    async fn work_off(&self) {
        loop {
            let job = {
                let mut waiting = self.waiting.lock();
                match waiting.as_mut().and_then(VecDeque::pop_front) {
                    Some(job) => job,
                    None => {
                        *waiting = None;
                        return;
                    }
                }
            };
            let Job { at, messages, answer } = job;
            let appending = match self.stored(&at, messages).await {
                Ok(messages) => self.session.append(&at, messages),
                Err(error) => {
                    self.dead.store(true, Ordering::Release);
                    failing(error)
                }
            };
            // Whoever does not wait does not want to know.
            let _ = answer.send(appending);
        }
    }

    async fn stored(&self, at: &Partition, messages: Vec<Message<Raw>>) -> Result<Vec<Message<Raw>>> {
        if self.dead.load(Ordering::Acquire) {
            return Err(behind_a_failure(at));
        }
        if !self.is_large(&messages) {
            return Ok(messages);
        }
        let id = self.shared.blob_id()?;
        blob::store(&self.session, base_of(&at.topic), at, messages, self.shared.limits, id).await
    }
}

fn failing(error: Error) -> Appending {
    Box::pin(async move { Err(error) })
}

fn behind_a_failure(at: &Partition) -> Error {
    let problem = "an earlier batch of this session could not be written, so later ones are not sent";
    Error::new(Code::AppendUnknown, problem).at("partition", at)
}
