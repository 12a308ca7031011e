//! What can be asked of a running node over HTTP beyond how it is: the verbs are clients of this.

use super::super::asks::Meetings;
use super::super::control::Part;
use super::super::decide::Wish;
use super::super::desk::{DeletesInfo, ParkedInfo, Whose};
use super::super::leftovers::Leftover;
use super::super::letters::DeadInfo;
use super::super::rules::{Trial, TrialInfo};
use super::{Answer, Served};
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::Json;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The routes of what changes something, and of what they are about.
pub(super) fn routes() -> Router<Served> {
    Router::new()
        .route("/api/v1/parked", get(parked))
        .route("/api/v1/parked/retry", post(retry_parked))
        .route("/api/v1/deletes", get(deletes))
        .route("/api/v1/deletes/confirm", post(confirm_deletes))
        .route("/api/v1/deletes/refuse", post(refuse_deletes))
        .route("/api/v1/asks", get(asks))
        .route("/api/v1/leftovers", get(leftovers))
        .route("/api/v1/conflicts/decide", post(decide))
        .route("/api/v1/rules/test", get(try_rule))
        .route("/api/v1/pause", post(pause))
        .route("/api/v1/resume", post(resume))
        .route("/api/v1/dead", get(dead))
        .route("/api/v1/dead/{id}/retry", post(retry_dead))
        .route("/api/v1/dead/{id}/discard", post(discard_dead))
}

async fn parked(State(served): State<Served>, Query(whose): Query<Whose>) -> Json<Vec<ParkedInfo>> {
    Json(served.view.parked(&whose))
}

async fn retry_parked(State(served): State<Served>, Query(whose): Query<Whose>) -> Json<Value> {
    Json(json!({"retried": served.view.retry_parked(&whose)}))
}

async fn deletes(State(served): State<Served>, Query(whose): Query<Whose>) -> Json<Vec<DeletesInfo>> {
    Json(served.view.deletes(&whose))
}

async fn confirm_deletes(State(served): State<Served>, Query(whose): Query<Whose>) -> Answer<Json<Value>> {
    Ok(Json(json!({"confirmed": served.view.judge_deletes(&whose, true).await?})))
}

async fn refuse_deletes(State(served): State<Served>, Query(whose): Query<Whose>) -> Answer<Json<Value>> {
    Ok(Json(json!({"refused": served.view.judge_deletes(&whose, false).await?})))
}

async fn asks(State(served): State<Served>) -> Answer<Json<BTreeMap<String, Meetings>>> {
    Ok(Json(served.view.asks().await?))
}

async fn leftovers(State(served): State<Served>) -> Answer<Json<Vec<Leftover>>> {
    Ok(Json(served.view.leftovers().await?))
}

async fn decide(State(served): State<Served>, Query(wish): Query<Wish>) -> Answer<Json<Value>> {
    served.view.decide(&wish).await?;
    Ok(Json(json!({"decided": wish.id})))
}

async fn try_rule(State(served): State<Served>, Query(trial): Query<Trial>) -> Answer<Json<TrialInfo>> {
    Ok(Json(served.view.try_rule(&trial).await?))
}

async fn pause(State(served): State<Served>, Query(part): Query<Part>) -> Answer<Json<Value>> {
    Ok(Json(json!({"paused": true, "changed": served.view.pause(&part).await?})))
}

async fn resume(State(served): State<Served>, Query(part): Query<Part>) -> Answer<Json<Value>> {
    Ok(Json(json!({"paused": false, "changed": served.view.resume(&part).await?})))
}

/// Of which dataset.
#[derive(Deserialize)]
pub(super) struct Of {
    pub(super) dataset: Option<String>,
}

async fn dead(State(served): State<Served>, Query(of): Query<Of>) -> Answer<Json<Vec<DeadInfo>>> {
    Ok(Json(served.view.dead(of.dataset.as_deref()).await?))
}

async fn retry_dead(State(served): State<Served>, Path(id): Path<String>) -> Answer<Json<Value>> {
    served.view.retry_dead(&id).await?;
    Ok(Json(json!({"asked": id})))
}

async fn discard_dead(State(served): State<Served>, Path(id): Path<String>) -> Answer<Json<Value>> {
    served.view.discard_dead(&id).await?;
    Ok(Json(json!({"discarded": id})))
}
