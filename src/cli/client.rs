//! Asks the running node, over HTTP.

use super::runtime;
use crate::config::{Config, LogPlace};
use crate::node::log::Opened;
use crate::runtime::clock::{Clock, SystemClock};
use crate::runtime::error::{Code, Error, Result};
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How long the node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Asks the node that runs this configuration.
///
/// # Errors
/// If it does not run, or cannot answer.
pub fn ask<T: DeserializeOwned>(config: &Config, path: &str) -> Result<T> {
    runtime()?.block_on(get(config, path))
}

/// Asks the node that runs this configuration to do something.
///
/// # Errors
/// If it does not run, or refuses.
pub fn tell<T: DeserializeOwned>(config: &Config, path: &str) -> Result<T> {
    runtime()?.block_on(send(config, Method::POST, path))
}

async fn get<T: DeserializeOwned>(config: &Config, path: &str) -> Result<T> {
    send(config, Method::GET, path).await
}

async fn send<T: DeserializeOwned>(config: &Config, method: Method, path: &str) -> Result<T> {
    // A node that listens everywhere listens here too.
    let ip = if config.http.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { config.http.ip() };
    let address = SocketAddr::new(ip, config.http.port());
    let unreachable = |error: reqwest::Error| {
        let text = "no node answers here; start one with `driftless run`, or name its configuration with --config";
        Error::new(Code::NodeUnreachable, text).at("address", address).caused_by(error)
    };
    let client = reqwest::Client::builder().timeout(ANSWER_WITHIN).no_proxy().build().map_err(unreachable)?;
    let answer = client.request(method, format!("http://{address}{path}")).send().await.map_err(unreachable)?;
    let status = answer.status();
    let body = answer.bytes().await.map_err(unreachable)?;
    if !status.is_success() {
        return Err(refusal(&body));
    }
    serde_json::from_slice(&body).map_err(|error| {
        let text = "what answers here is no node of this version";
        Error::new(Code::NodeUnreachable, text).at("address", address).caused_by(error)
    })
}

/// A node's own error, or that it could not answer.
fn refusal(body: &[u8]) -> Error {
    let told: Value = serde_json::from_slice(body).unwrap_or_default();
    let code = told["error"]["code"].as_str().and_then(|name| Code::ALL.iter().find(|code| code.as_str() == name));
    match (code, told["error"]["text"].as_str()) {
        (Some(&code), Some(text)) => {
            Error::new(code, text.strip_prefix(code.as_str()).map_or(text, |rest| rest.trim_start_matches(": ")))
        }
        _ => {
            let text = String::from_utf8_lossy(body).into_owned();
            Error::new(Code::NodeUnreachable, format!("the node could not answer: {text}"))
        }
    }
}

/// Looks into the log: asks the node that has it open, or opens it. Nothing is made that is not there.
///
/// # Errors
/// As the log or the node has them.
pub fn look<T, F>(config: &Config, path: &str, own: impl FnOnce(Opened, Arc<dyn Clock>) -> F) -> Result<T>
where
    T: DeserializeOwned + Default,
    F: Future<Output = Result<T>>,
{
    if let LogPlace::Embedded { path } = &config.log.place
        && !path.exists()
    {
        return Ok(T::default());
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    runtime()?.block_on(async {
        match Opened::open(&config.log, clock.clone()).await {
            Ok(log) => own(log, clock).await,
            Err(error) if error.code == Code::LogLocked => get(config, path).await,
            Err(error) => Err(error),
        }
    })
}
