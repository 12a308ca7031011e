//! How far the first copies of this node are, for those who wait for them. Counted since the process began:
//! a copy that went on from an earlier life begins at 0 here.

use super::View;
use super::board::{Report, State};
use crate::runtime::progress::FirstCopy;
use std::collections::BTreeMap;

/// Whose rows: a dataset, a platform and a collection.
pub type Place = (String, String, String);

impl View {
    /// The first copies under way.
    #[must_use]
    pub fn copies(&self) -> BTreeMap<Place, FirstCopy> {
        let mut copies: BTreeMap<Place, FirstCopy> = BTreeMap::new();
        for post in self.board.posts().into_iter().filter(|post| post.state() != State::Elsewhere) {
            let collections = self.config.dataset(&post.dataset).map(|dataset| &*dataset.collections);
            for (number, part) in post.progress.copying() {
                let Some(found) = collections.and_then(|all| all.get(usize::from(number))) else { continue };
                let place = (post.dataset.to_string(), post.platform.to_string(), found.name.clone());
                let whole = copies.entry(place).or_default();
                *whole = FirstCopy { rows: whole.rows + part.rows, expected: whole.expected.or(part.expected) };
            }
        }
        copies
    }

    pub(super) fn add_copies(&self, report: &mut Report) {
        for ((dataset, platform, collection), copy) in self.copies() {
            let told = report.datasets.entry(dataset).or_default().platforms.entry(platform).or_default();
            told.copying.insert(collection, copy);
        }
    }
}
