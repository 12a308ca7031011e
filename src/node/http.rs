//! The node over HTTP: metrics, health and status. Health comes from what the loops have done, not
//! from their being there. It listens where it is told to, by default on this machine only, and asks
//! nobody who he is.

mod commands;

use super::board::{State, Work};
use super::inspect;
use super::{Report, View};
use crate::runtime::error::{Code, Error, Kind, Result};
use crate::runtime::telemetry::Exporter;
use axum::extract::{Query, State as Shared};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// What the handlers work with.
#[derive(Clone)]
pub(super) struct Served {
    pub(super) view: View,
    exporter: Exporter,
}

/// A listener that is bound.
pub struct Server {
    listener: TcpListener,
    served: Served,
}

impl Server {
    /// Binds the address.
    ///
    /// # Errors
    /// If it is taken or not this machine's.
    pub async fn bind(address: SocketAddr, view: View, exporter: Exporter) -> Result<Server> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            let text = "the HTTP listener cannot use its address; stop who has it, or set `http: { listen: … }`";
            Error::new(Code::ListenFailed, text).at("address", address).caused_by(error)
        })?;
        Ok(Server { listener, served: Served { view, exporter } })
    }

    /// Where it listens; the port may have been chosen by the system.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Answers for ever.
    pub async fn serve(self) {
        let router = axum::Router::new()
            .route("/metrics", get(metrics))
            .route("/health/live", get(live))
            .route("/health/ready", get(ready))
            .route("/api/v1/status", get(status))
            .route("/api/v1/topics", get(topics))
            .route("/api/v1/conflicts", get(conflicts))
            .merge(commands::routes())
            .with_state(self.served);
        if let Err(error) = axum::serve(self.listener, router).await {
            tracing::error!(target: crate::runtime::telemetry::ERROR, %error, "the HTTP listener ended");
        }
    }
}

/// An error as an answer.
pub(super) struct Failed(Error);

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed(error)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let told = json!({"error": {"code": self.0.code.as_str(), "text": self.0.to_string()}});
        let asked_wrong = self.0.kind() == Kind::Config;
        let status = if asked_wrong { StatusCode::BAD_REQUEST } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(told)).into_response()
    }
}

pub(super) type Answer<T> = std::result::Result<T, Failed>;

async fn metrics(Shared(served): Shared<Served>) -> Answer<impl IntoResponse> {
    // Lag is a gauge, so it is brought up to date when it is asked for.
    served.view.report().await?;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4")], served.exporter.render()))
}

/// The process turns, and its log answers.
async fn live(Shared(served): Shared<Served>) -> Answer<Json<serde_json::Value>> {
    served.view.log.raw.topics().await?;
    Ok(Json(json!({"live": true})))
}

/// Everything that is configured runs.
async fn ready(Shared(served): Shared<Served>) -> Answer<Response> {
    let storage = served.view.log.raw.topics().await.is_ok();
    let report = served.view.report().await?;
    let posts = served.view.board.posts();
    let service = posts.iter().filter(|post| post.work == Work::Prepare).all(|post| post.state() == State::Done);
    let of = |work: fn(Work) -> bool| report.datasets.values().flat_map(|d| &d.troubles).all(|t| !work(t.work));
    let connectors = of(|work| !matches!(work, Work::Prepare | Work::Resolve));
    let moving = report.datasets.values().all(|dataset| dataset.stalled == 0);
    let findings: Vec<&String> = report.datasets.values().flat_map(|dataset| &dataset.findings).collect();
    let ready = storage && service && connectors && moving && report.healthy;
    let told = json!({"ready": ready, "service": service, "connectors": connectors, "storage": storage,
                      "network": true, "moving": moving, "findings": findings});
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(told)).into_response())
}

async fn status(Shared(served): Shared<Served>) -> Answer<Json<Report>> {
    Ok(Json(served.view.report().await?))
}

async fn topics(Shared(served): Shared<Served>) -> Answer<Json<Vec<inspect::TopicInfo>>> {
    Ok(Json(inspect::list_topics(&served.view.log).await?))
}

/// What may be asked of conflicts.
#[derive(Deserialize)]
struct Asked {
    dataset: Option<String>,
}

async fn conflicts(
    Shared(served): Shared<Served>,
    Query(asked): Query<Asked>,
) -> Answer<Json<Vec<inspect::ConflictInfo>>> {
    Ok(Json(served.view.conflicts(asked.dataset.as_deref()).await?))
}
