//! The node's tasks, all in one set: whatever was started is ended together.

use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;
use tokio::task::JoinSet;

/// A set of tasks that tasks of the set may add to.
#[derive(Clone, Default)]
pub(super) struct Tasks(Arc<Mutex<Option<JoinSet<()>>>>);

impl Tasks {
    /// An open set.
    pub(super) fn new() -> Self {
        Tasks(Arc::new(Mutex::new(Some(JoinSet::new()))))
    }

    /// Starts a task, unless the set is being ended.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(set) = self.0.lock().as_mut() {
            set.spawn(task);
        }
    }

    /// Ends all tasks where they wait, and returns when they are gone. What they were doing is found
    /// again in the log: there is no state to save.
    pub(super) async fn end(&self) {
        let set = self.0.lock().take();
        if let Some(mut set) = set {
            set.shutdown().await;
        }
    }
}
