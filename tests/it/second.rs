//! The embedded log belongs to one process: a second node on it is refused, in words that say what to do,
//! and the first one does not notice.

use super::process::{Process, program, typed};
use super::world::World;

#[test]
fn a_second_node_on_an_embedded_log_is_refused_with_what_to_do() {
    let world = World::new("");
    let node = Process::start(&world);
    let path = world.folder.path().join("driftless.yaml");
    let second = program().args(["run", "--config"]).arg(path).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(3), "{said}");
    assert!(said.contains("log_locked") && said.contains("another process"), "{said}");
    assert!(said.contains("Kafka"), "where two nodes are possible: {said}");
    assert!(second.stdout.is_empty(), "it never said that it runs");
    assert_eq!(typed(&world, "status").0, 0, "the first one goes on");
    drop(node);
}
