//! A real Apache Kafka for these tests, started by scripts/services.sh on free ports. It ends with the
//! test process. A server that does not start fails the test that wants it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// A running broker.
pub(crate) struct Server {
    port: u16,
    folder: tempfile::TempDir,
}

fn services() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services.sh")
}

/// A port that is free now, and so is the controller's, 10 000 above. Servers of one process search
/// from different ports on, because a port is taken only once Java runs.
fn free_port() -> u16 {
    static SERVERS: AtomicU16 = AtomicU16::new(0);
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let number = SERVERS.fetch_add(1, Ordering::Relaxed);
    let first = 20_000 + (std::process::id() % 200) as u16 * 40 + number * 20;
    (first..first + 10_000).find(|port| is_free(*port) && is_free(port + 10_000)).expect("no free port")
}

/// The server that tests share; none of them disturbs it.
pub(crate) fn shared() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

impl Server {
    /// Starts a broker of its own.
    #[expect(clippy::zombie_processes, reason = "the watcher outlives this process")]
    pub(crate) fn start() -> Self {
        let server = Server { port: free_port(), folder: tempfile::tempdir().unwrap() };
        let started = server.script("up").output().unwrap();
        assert!(started.status.success(), "Kafka did not start:\n{}", String::from_utf8_lossy(&started.stderr));
        // A static is never dropped: whoever outlives this process ends the server.
        let end = format!("tail --pid={} -f /dev/null; \"$0\" down kafka; rm -rf \"$1\"", std::process::id());
        let mut watch = Command::new("setsid");
        watch.args(["sh", "-c", &end]).arg(services()).arg(server.folder.path());
        watch.env("DRIFTLESS_SERVICES", server.folder.path()).env("DRIFTLESS_KAFKA_PORT", server.port.to_string());
        watch.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        server
    }

    /// `host:port`.
    pub(crate) fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn script(&self, verb: &str) -> Command {
        let mut command = Command::new(services());
        command.args([verb, "kafka"]).env("DRIFTLESS_SERVICES", self.folder.path());
        command.env("DRIFTLESS_KAFKA_PORT", self.port.to_string()).stdin(Stdio::null());
        command
    }

    fn pid(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("kafka/pid")).unwrap().trim().to_owned()
    }

    /// Kills the broker without warning, and starts it again with the data it had.
    #[expect(clippy::zombie_processes, reason = "the broker is ended through its pid file")]
    pub(crate) fn kill_and_start_again(&self) {
        let pid = self.pid();
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        let line: Vec<_> = line.split(|b| *b == 0).filter(|a| !a.is_empty()).map(String::from_utf8_lossy).collect();
        assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
        while Path::new("/proc").join(&pid).join("exe").read_link().is_ok() {
            std::thread::yield_now();
        }
        let log = std::fs::File::create(self.folder.path().join("kafka/log")).unwrap();
        let mut java = Command::new("setsid");
        java.args(line.iter().map(|a| &**a)).current_dir(self.folder.path().join("kafka"));
        java.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = java.spawn().unwrap();
        std::fs::write(self.folder.path().join("kafka/pid"), child.id().to_string()).unwrap();
    }
}

/// A running schema registry: Apicurio, by the interface all registries share.
pub(crate) struct Registry {
    port: u16,
    folder: tempfile::TempDir,
}

impl Registry {
    #[expect(clippy::zombie_processes, reason = "the watcher outlives this process")]
    pub(crate) fn start() -> Self {
        let registry = Registry { port: free_port(), folder: tempfile::tempdir().unwrap() };
        let started = registry.script("up").output().unwrap();
        assert!(started.status.success(), "no registry:\n{}", String::from_utf8_lossy(&started.stderr));
        let end = format!("tail --pid={} -f /dev/null; \"$0\" down registry; rm -rf \"$1\"", std::process::id());
        let mut watch = Command::new("setsid");
        watch.args(["sh", "-c", &end]).arg(services()).arg(registry.folder.path());
        watch
            .env("DRIFTLESS_SERVICES", registry.folder.path())
            .env("DRIFTLESS_REGISTRY_PORT", registry.port.to_string());
        watch.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        registry
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/apis/ccompat/v7", self.port)
    }

    fn script(&self, verb: &str) -> Command {
        let mut command = Command::new(services());
        command.args([verb, "registry"]).env("DRIFTLESS_SERVICES", self.folder.path());
        command.env("DRIFTLESS_REGISTRY_PORT", self.port.to_string()).stdin(Stdio::null());
        command
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.script("down").output());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The watcher would end it too, but only after all tests.
        drop(self.script("down").output());
    }
}
