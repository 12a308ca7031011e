//! `driftless demo`: the main job on this machine, without any server. Plays the applications that own
//! the data in two SQLite files and a directory of JSON documents, shows what arrives where, makes a
//! real conflict and shows how it was decided, and in the end compares all three.

mod applications;

use super::args::Common;
use super::conflicts;
use super::exit::Exit;
use super::output::Output;
use super::{Program, runtime};
use crate::config::{Config, Surroundings, readiness};
use crate::node::inspect::ConflictInfo;
use crate::node::{Node, View};
use crate::runtime::clock::{Clock, SystemClock};
use crate::runtime::error::{Code, Error, Result};
use applications::{Application, Product, Table, write_both};
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The configuration, as it stands in the repository.
const DEMO: &str = include_str!("../../../configs/demo.yaml");
/// How long something may take to arrive, in milliseconds.
const ARRIVE_WITHIN_MS: u64 = 10_000;
/// Between looks, in milliseconds.
const LOOK_EVERY_MS: u64 = 2;

/// Show the main job on this machine.
#[derive(clap::Args, Debug)]
pub struct Demo {
    /// Work in this directory and leave everything there; it must be empty or missing
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

impl Demo {
    pub(super) fn run(&self, _: &Common, program: Program<'_>, output: &mut Output<'_>) -> Result<Exit> {
        let stage = Stage::make(self.keep.as_deref())?;
        let told = stage.configuration(program).and_then(|config| {
            runtime()?.block_on(async {
                let node = Node::start(Arc::new(config), program.policy, Arc::new(SystemClock)).await?;
                let mut story = Story { view: node.view(), stage: &stage, output, steps: Vec::new() };
                let told = story.tell().await;
                let steps = std::mem::take(&mut story.steps);
                node.stop().await;
                told.map(|end| (steps, end))
            })
        });
        let kept = self.keep.as_ref().map(|_| stage.root.display().to_string());
        let (steps, end) = match (told, self.keep.is_some()) {
            (told, true) => told?,
            (told, false) => {
                drop(std::fs::remove_dir_all(&stage.root));
                told?
            }
        };
        let text = match &kept {
            Some(root) => format!("{}\nEverything is left in {root}.\n", end.text),
            None => end.text,
        };
        output.answer(&json!({"same": end.same, "steps": steps, "conflict": end.conflict, "kept": kept}), &text);
        Ok(if end.same { Exit::Done } else { Exit::Failed })
    }
}

/// The directory the demo plays in.
struct Stage {
    root: PathBuf,
    shop: Table,
    warehouse: Table,
    catalogue: Application,
}

/// How the story ended.
struct End {
    same: bool,
    conflict: Option<ConflictInfo>,
    text: String,
}

/// The demo's configuration, with its paths below the stage.
struct Around {
    text: String,
}

impl Surroundings for Around {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn read(&self, _: &Path) -> io::Result<String> {
        Ok(self.text.clone())
    }
}

impl Stage {
    fn make(keep: Option<&Path>) -> Result<Stage> {
        let root = match keep {
            Some(root) => root.to_path_buf(),
            None => std::env::temp_dir().join(format!("driftless-demo-{:x}", SystemClock.fresh_id())),
        };
        let failed = |error| Error::new(Code::Unexpected, "the demo's directory cannot be made").caused_by(error);
        let used = root.read_dir().is_ok_and(|mut entries| entries.next().is_some());
        if used {
            let text = "the demo needs an empty directory; name another one with --keep, or empty this one";
            return Err(Error::new(Code::ConfigInvalid, text).at("directory", root.display()));
        }
        std::fs::create_dir_all(root.join("catalogue")).map_err(failed)?;
        let root = root.canonicalize().map_err(failed)?;
        let (shop, warehouse) = (Table::create(&root.join("shop.db"))?, Table::create(&root.join("warehouse.db"))?);
        Ok(Stage { catalogue: Application::documents(root.join("catalogue/products")), root, shop, warehouse })
    }

    fn configuration(&self, program: Program<'_>) -> Result<Config> {
        let root = self.root.display().to_string();
        let around = Around { text: DEMO.replace("${PWD}/demo-data", &root).replace("demo-data", &root) };
        let config = Config::load(&["demo.yaml".into()], program.connectors, program.policy, &around)?;
        readiness::check(&config)?;
        Ok(config)
    }
}

/// The story and what has been told of it.
struct Story<'a, 'o> {
    view: View,
    stage: &'a Stage,
    output: &'a mut Output<'o>,
    steps: Vec<Value>,
}

impl Story<'_, '_> {
    async fn tell(&mut self) -> Result<End> {
        let stage = self.stage;
        self.say("Two SQLite files, shop.db and warehouse.db, and a directory of JSON documents, catalogue/.");
        let products = [
            Product::new(1, "tea pot", "24.5", 10),
            Product::new(2, "cup", "6", 120),
            Product::new(3, "saucer", "3.25", 80),
        ];
        stage.shop.write(&products)?;
        self.arrived("The shop adds three products", "warehouse and catalogue", |all| {
            all.iter().all(|held| held.len() == products.len())
        })
        .await?;
        stage.warehouse.write(&[Product::new(2, "cup", "6", 96)])?;
        self.arrived("The warehouse sells 24 cups", "shop and catalogue", |all| stock(all, 2, 96)).await?;
        stage.catalogue.write(&Product::new(1, "tea pot, blue", "26", 10))?;
        self.arrived("Somebody edits catalogue/products/1.json", "both databases", |all| {
            all.iter().all(|held| held.iter().any(|p| p.id == 1 && p.name == "tea pot, blue"))
        })
        .await?;
        stage.shop.delete(3)?;
        self.arrived("The shop deletes the saucer", "warehouse and catalogue", |all| {
            all.iter().all(|held| held.iter().all(|p| p.id != 3))
        })
        .await?;
        let conflict = self.conflict().await?;
        self.compare(conflict)
    }

    /// Both databases commit a change of one product before either can hear of the other's.
    async fn conflict(&mut self) -> Result<Option<ConflictInfo>> {
        let stage = self.stage;
        let (ours, theirs) = (Product::new(2, "cup", "6", 90), Product::new(2, "cup, chipped", "4", 96));
        write_both((&stage.shop, &ours), (&stage.warehouse, &theirs))?;
        let what = "A conflict: the shop sells 6 cups while the warehouse marks them down, at the same moment";
        self.arrived(what, "all three, with one outcome", |all| {
            all.iter()
                .all(|held| *held == all[0] && held.iter().any(|p| p.id == 2 && p != &Product::new(2, "cup", "6", 96)))
        })
        .await?;
        let deadline_ms = SystemClock.now_ms() + ARRIVE_WITHIN_MS;
        loop {
            let found = self.view.conflicts(None).await?.pop();
            if found.is_some() || SystemClock.now_ms() > deadline_ms {
                let text = found.as_ref().map_or_else(|| "  no conflict was logged\n".into(), conflicts::told);
                self.say(text.trim_end());
                return Ok(found);
            }
            SystemClock.sleep_until(SystemClock.now_ms() + LOOK_EVERY_MS).await;
        }
    }

    fn compare(&mut self, conflict: Option<ConflictInfo>) -> Result<End> {
        let held = self.held()?;
        let same = held.iter().all(|h| *h == held[0]) && conflict.is_some();
        let mut text = String::new();
        for (name, products) in ["shop", "warehouse", "catalogue"].iter().zip(&held) {
            let shown: Vec<String> = products.iter().map(ToString::to_string).collect();
            text.push_str(&format!("{name:9} {}\n", shown.join("; ")));
        }
        text.push_str(match (same, conflict.is_some()) {
            (true, _) => "All three hold the same, and nothing was lost.\n",
            (false, true) => "They differ: this is a bug, please report it.\n",
            (false, false) => "No conflict was logged: this is a bug, please report it.\n",
        });
        Ok(End { same, conflict, text })
    }

    /// What each of the three holds now.
    fn held(&self) -> Result<[Vec<Product>; 3]> {
        let stage = self.stage;
        Ok([stage.shop.read()?, stage.warehouse.read()?, stage.catalogue.read()?])
    }

    /// Waits until a change has arrived, and tells how long it took.
    async fn arrived(&mut self, what: &str, at: &str, there: impl Fn(&[Vec<Product>; 3]) -> bool) -> Result<()> {
        let begun_ms = SystemClock.now_ms();
        while !there(&self.held()?) {
            let now_ms = SystemClock.now_ms();
            if now_ms > begun_ms + ARRIVE_WITHIN_MS {
                let report = self.view.report().await?;
                let troubles: Vec<_> = report.datasets.values().flat_map(|d| &d.troubles).collect();
                let text = format!("{what}: it did not arrive at {at} within {} s", ARRIVE_WITHIN_MS / 1000);
                return Err(Error::new(Code::Unexpected, text).at("troubles", json!(troubles)));
            }
            SystemClock.sleep_until(now_ms + LOOK_EVERY_MS).await;
        }
        let took_ms = SystemClock.now_ms() - begun_ms;
        self.say(&format!("{what}.\n  arrived at {at} after {took_ms} ms"));
        self.steps.push(json!({"what": what, "arrived_at": at, "after_ms": took_ms}));
        Ok(())
    }

    fn say(&mut self, text: &str) {
        self.output.say(text);
    }
}

fn stock(all: &[Vec<Product>; 3], id: i64, stock: i64) -> bool {
    all.iter().all(|held| held.iter().any(|p| p.id == id && p.stock == stock))
}
